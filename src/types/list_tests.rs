//! Lists against a plain vector, and the moments at which their form changes.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Push(End, Vec<Vec<u8>>),
    Pop(End),
    Set(usize, Vec<u8>),
    Insert(usize, Vec<u8>),
    RemoveMatching(Vec<u8>, usize, Direction),
    RemoveRange(usize, usize),
    Trim(usize, usize),
    Keep,
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0i64..6).prop_map(|number| number.to_string().into_bytes()),
        2 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        4 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (0usize..3000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        1 => (4000usize..9000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let end = || prop_oneof![Just(End::Front), Just(End::Back)];
    let direction = || prop_oneof![Just(Direction::Forward), Just(Direction::Backward)];
    prop_oneof![
        8 => (end(), proptest::collection::vec(value(), 1..12)).prop_map(|(end, values)| Step::Push(end, values)),
        3 => end().prop_map(Step::Pop),
        3 => (any::<prop::sample::Index>(), value()).prop_map(|(index, value)| Step::Set(index.index(1000), value)),
        4 => (any::<prop::sample::Index>(), value()).prop_map(|(index, value)| Step::Insert(index.index(1000), value)),
        2 => (value(), 0usize..4, direction()).prop_map(|(value, count, direction)| Step::RemoveMatching(value, count, direction)),
        1 => (any::<prop::sample::Index>(), 0usize..30).prop_map(|(start, count)| Step::RemoveRange(start.index(1000), count)),
        1 => (0usize..4, 100usize..400).prop_map(|(start, count)| Step::Trim(start, count)),
        1 => Just(Step::Keep),
    ]
}

fn model_remove(model: &mut Vec<Vec<u8>>, value: &[u8], count: usize, direction: Direction) -> usize {
    let mut indexes: Vec<usize> = (0..model.len()).filter(|&index| model[index] == value).collect();
    if direction == Direction::Forward {
        indexes.reverse();
    }
    let skip = if count == 0 { 0 } else { indexes.len().saturating_sub(count) };
    let mut chosen = indexes.split_off(skip);
    chosen.sort_unstable();
    for index in chosen.iter().rev() {
        model.remove(*index);
    }
    chosen.len()
}

fn check(list: &List, model: &[Vec<u8>], limits: &Limits) {
    assert_eq!(list.len(), model.len());
    let texts: Vec<_> = list.iter().map(|element| element.to_vec()).collect();
    assert_eq!(texts, model);
    for index in [0, 1, model.len() / 3, model.len().saturating_sub(1), model.len()] {
        assert_eq!(list.get(index).map(|element| element.to_vec()).as_ref(), model.get(index));
        let forward: Vec<_> =
            list.iter_from(index, Direction::Forward).map(|element| element.to_vec()).collect();
        assert_eq!(forward, model.get(index..).unwrap_or_default());
        let mut backward: Vec<_> =
            list.iter_from(index, Direction::Backward).map(|element| element.to_vec()).collect();
        backward.reverse();
        assert_eq!(backward, model.get(..=index).unwrap_or_default());
    }
    if let View::Large(tree) = list.0.view() {
        let (mut nodes, _) = tree.cursor(0);
        while let Some(node) = nodes.entry() {
            assert!(node.weight() > 0);
            assert!(node.is_plain() || node.0.count() == 1 || node.0.count() <= node_limit(limits).1);
            nodes.forward();
        }
    }
}

fn apply(list: &mut List, model: &mut Vec<Vec<u8>>, step: Step, limits: &Limits) {
    let len = model.len();
    match step {
        Step::Push(end, values) => {
            list.push(end, &values, limits);
            for value in values {
                model.insert(if end == End::Front { 0 } else { model.len() }, value);
            }
        }
        Step::Pop(end) => {
            let expected = match end {
                End::Front => (len > 0).then(|| model.remove(0)),
                End::Back => model.pop(),
            };
            assert_eq!(list.pop(end, limits).map(OwnedElement::into_vec), expected);
        }
        Step::Set(index, value) => {
            let index = index % (len + 1);
            assert_eq!(list.set(index, &value, limits), index < len);
            if index < len {
                model[index] = value;
            }
        }
        Step::Insert(index, value) => {
            let index = index % (len + 2);
            assert_eq!(list.insert(index, &value, limits), index <= len);
            if index <= len {
                model.insert(index, value);
            }
        }
        Step::RemoveMatching(value, count, direction) => {
            let removed = list.remove_matching(&value, count, direction, limits);
            assert_eq!(removed, model_remove(model, &value, count, direction));
        }
        Step::RemoveRange(start, count) => {
            let start = start % (len + 2);
            list.remove_range(start, count, limits);
            model.drain(start.min(len)..(start + count).min(len));
        }
        Step::Trim(start, count) => {
            list.trim(start, count, limits);
            *model = model.iter().skip(start).take(count).cloned().collect();
        }
        Step::Keep => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_a_vector(
        steps in proptest::collection::vec(step(), 1..150),
        size in prop_oneof![Just(-2), Just(-1), Just(3), Just(16), Just(0)],
        threshold in prop_oneof![3 => Just(0usize), 1 => Just(10usize)],
    ) {
        let limits = Limits { list_max_listpack_size: size, quicklist_packed_threshold: threshold, ..Limits::default() };
        let (mut list, mut model) = (List::new(), Vec::new());
        let mut kept = Vec::new();
        for step in steps {
            if matches!(step, Step::Keep) {
                kept.push((list.clone(), model.clone()));
            }
            apply(&mut list, &mut model, step, &limits);
            prop_assert_eq!(list.len(), model.len());
        }
        kept.push((list, model));
        for (list, model) in kept {
            check(&list, &model, &limits);
        }
    }
}

#[test]
fn becomes_large_beyond_the_limit_and_small_again_at_half_of_it() {
    let limits = Limits { list_max_listpack_size: 4, ..Limits::default() };
    let mut list = List::new();
    for number in 0..4 {
        list.push_back(number.to_string().as_bytes(), &limits);
    }
    assert_eq!(list.encoding(), "listpack");
    list.push_back(b"4", &limits);
    assert_eq!((list.encoding(), list.node_count()), ("quicklist", 2));
    list.pop_back(&limits);
    list.pop_back(&limits);
    assert_eq!(list.encoding(), "quicklist");
    list.pop_back(&limits);
    assert_eq!((list.encoding(), list.len()), ("listpack", 2));
}

#[test]
fn sizes_in_bytes_count_as_in_a_listpack() {
    let limits = Limits::default();
    let mut list = List::new();
    list.push_back(&[b'x'; 8185], &limits);
    assert_eq!(list.encoding(), "listpack");
    let mut list = List::new();
    list.push_back(&[b'x'; 8186], &limits);
    assert_eq!(list.encoding(), "quicklist");
    let mut list = List::new();
    list.push(End::Back, &[&[b'x'; 4096][..], &[b'y'; 4096]], &limits);
    assert_eq!(list.encoding(), "quicklist");
    list.set(0, b"short", &limits);
    list.remove_range(1, 1, &limits);
    assert_eq!(list.encoding(), "listpack");
}

#[test]
fn one_word_wide() {
    assert_eq!(size_of::<Option<List>>(), 8);
}
