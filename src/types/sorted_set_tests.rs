//! Sorted sets against a plain sorted vector, and the moments at which their form changes.

use super::*;
use proptest::prelude::*;

type Model = Vec<(f64, Vec<u8>)>;

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0i64..150).prop_map(|number| number.to_string().into_bytes()),
        (0u8..150).prop_map(|number| format!("a member with a long prefix:{number}").into_bytes()),
        proptest::collection::vec(0u8..3, 0..4),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-5i32..5).prop_map(f64::from),
        2 => -100.0f64..100.0,
        1 => any::<i64>().prop_map(|number| number as f64),
        1 => prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-0.0), Just(0.0), Just(1e300), Just(9.3e18)],
    ]
}

fn place(model: &Model, score: f64, member: &[u8]) -> usize {
    model.partition_point(|(other, name)| {
        compare_scores(*other, score).then_with(|| name[..].cmp(member)).is_lt()
    })
}

fn model_insert(model: &mut Model, member: &[u8], score: f64) -> Inserted {
    let old = model.iter().position(|(_, name)| name == member);
    if let Some(index) = old {
        if model[index].0 == score {
            return Inserted::Unchanged;
        }
        model.remove(index);
    }
    let index = place(model, score, member);
    model.insert(index, (score, member.to_vec()));
    if old.is_some() { Inserted::Updated } else { Inserted::Added }
}

fn pairs(iter: Iter<'_>) -> Model {
    iter.map(|(member, score)| (score, member.to_vec())).collect()
}

/// The small form knows no minus zero, so the two zeros count as one.
fn same(a: &[(f64, Vec<u8>)], b: &[(f64, Vec<u8>)]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
}

fn check(set: &SortedSet, model: &Model, bounds: &[(f64, f64)]) {
    assert_eq!(set.len(), model.len());
    assert!(same(&pairs(set.iter()), model));
    for rank in [0, 1, model.len() / 2, model.len().saturating_sub(1), model.len()] {
        assert!(same(&pairs(set.iter_from(rank, Direction::Forward)), model.get(rank..).unwrap_or_default()));
        let mut backward = pairs(set.iter_from(rank, Direction::Backward));
        backward.reverse();
        assert!(same(&backward, model.get(..=rank).unwrap_or_default()));
    }
    for (rank, (score, member)) in model.iter().enumerate() {
        assert_eq!(set.rank(member), Some((rank, *score)));
        assert_eq!(set.reverse_rank(member), Some((model.len() - 1 - rank, *score)));
    }
    for &(min, max) in bounds {
        for (min_in, max_in) in [(true, true), (true, false), (false, true), (false, false)] {
            let bound = |score, inclusive| match inclusive {
                true => ScoreBound::Inclusive(score),
                false => ScoreBound::Exclusive(score),
            };
            let range = ScoreRange { min: bound(min, min_in), max: bound(max, max_in) };
            let inside = |score: f64| {
                (if min_in { score >= min } else { score > min })
                    && (if max_in { score <= max } else { score < max })
            };
            let expected: Vec<usize> = (0..model.len()).filter(|&rank| inside(model[rank].0)).collect();
            let ranks = set.ranks_by_score(&range);
            assert!(ranks.clone().eq(expected), "{range:?}: {ranks:?}");
            assert!(model.iter().all(|(score, _)| range.contains(*score) == inside(*score)));
        }
    }
    let (mut cursor, mut seen) = (0, std::collections::BTreeMap::new());
    loop {
        cursor = set.scan(cursor, 3, |member, score| {
            seen.insert(member.to_vec(), score);
        });
        if cursor == 0 {
            break;
        }
    }
    let expected: std::collections::BTreeMap<_, _> =
        model.iter().map(|(score, member)| (member.clone(), *score)).collect();
    assert_eq!(seen, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_a_sorted_vector(
        steps in proptest::collection::vec((member(), score(), 0u8..14, 0usize..200), 1..500),
        most in prop_oneof![Just(0usize), Just(20), Just(1000)],
        bounds in proptest::collection::vec((score(), score()), 8),
    ) {
        let limits = Limits { zset_max_listpack_entries: most, ..Limits::default() };
        let (mut set, mut model) = (SortedSet::new(), Model::new());
        let mut kept = Vec::new();
        for (member, score, action, rank) in steps {
            match action {
                0..8 => prop_assert_eq!(set.insert(&member, score, &limits), model_insert(&mut model, &member, score)),
                8..10 => {
                    let index = model.iter().position(|(_, name)| *name == member);
                    prop_assert_eq!(set.remove(&member), index.map(|index| model.remove(index).0));
                }
                10 => {
                    let expected = (!model.is_empty()).then(|| model.remove(0));
                    prop_assert_eq!(set.pop_min().map(|(member, score)| (score, member.into_vec())), expected);
                }
                11 => prop_assert_eq!(set.pop_max().map(|(member, score)| (score, member.into_vec())), model.pop()),
                12 => {
                    let ranks = rank.min(model.len())..(rank + 3).min(model.len());
                    set.remove_ranks(rank..rank + 3);
                    model.drain(ranks);
                }
                _ => kept.push((set.clone(), model.clone())),
            }
            prop_assert_eq!(set.len(), model.len());
        }
        kept.push((set, model));
        for (set, model) in kept {
            check(&set, &model, &bounds);
        }
    }

    #[test]
    fn ranges_by_bytes(
        members in proptest::collection::btree_set(member(), 0..200),
        bounds in proptest::collection::vec((member(), member()), 8),
        most in prop_oneof![Just(0usize), Just(1000)],
    ) {
        let limits = Limits { zset_max_listpack_entries: most, ..Limits::default() };
        let mut set = SortedSet::new();
        for member in &members {
            set.insert(member, 0.0, &limits);
        }
        let members: Vec<_> = members.into_iter().collect();
        let all = LexRange { min: LexBound::Minimum, max: LexBound::Maximum };
        prop_assert_eq!(set.ranks_by_lex(&all), 0..members.len());
        for (min, max) in &bounds {
            let ranks = set.ranks_by_lex(&LexRange { min: LexBound::Inclusive(min), max: LexBound::Exclusive(max) });
            prop_assert!(ranks.eq((0..members.len()).filter(|&rank| members[rank] >= *min && members[rank] < *max)));
            let ranks = set.ranks_by_lex(&LexRange { min: LexBound::Exclusive(min), max: LexBound::Inclusive(max) });
            prop_assert!(ranks.eq((0..members.len()).filter(|&rank| members[rank] > *min && members[rank] <= *max)));
            let ranks = set.ranks_by_lex(&LexRange { min: LexBound::Maximum, max: LexBound::Inclusive(max) });
            prop_assert!(ranks.is_empty());
        }
    }
}

#[test]
fn forms_change_at_the_limits() {
    let limits = Limits::default();
    let mut set = SortedSet::new();
    for number in 0..128 {
        set.insert(number.to_string().as_bytes(), 1.5, &limits);
    }
    assert_eq!(set.encoding(), "listpack");
    let kept = set.clone();
    set.insert(b"128", 1.5, &limits);
    assert_eq!((set.encoding(), set.len(), kept.len()), ("skiplist", 129, 128));
    set.remove(b"128");
    assert_eq!(set.encoding(), "skiplist");
    set.shrink(65, &limits);
    assert_eq!(set.encoding(), "skiplist");
    set.shrink(3, &limits);
    assert_eq!(set.encoding(), "listpack");
    assert!(same(&pairs(set.iter()), &pairs(kept.iter())));
    set.insert(&[b'x'; 65], 1.0, &limits);
    assert_eq!(set.encoding(), "skiplist");
    assert_eq!(SortedSet::with_expected(129, 1, &limits).encoding(), "skiplist");
    assert_eq!(size_of::<Option<SortedSet>>(), 8);
}

#[test]
fn a_score_that_is_not_a_number_changes_nothing() {
    let limits = Limits::default();
    let mut set = SortedSet::new();
    assert_eq!(set.insert(b"member", f64::NAN, &limits), Inserted::Unchanged);
    assert!(set.is_empty());
}

#[test]
fn many_members_keep_their_ranks() {
    let limits = Limits::default();
    let mut set = SortedSet::new();
    let count = 20_000usize;
    for number in 0..count {
        let number = number * 7919 % count;
        set.insert(format!("member:{number:06}").as_bytes(), (number / 100) as f64, &limits);
    }
    for number in (0..count).step_by(97) {
        let member = format!("member:{number:06}");
        assert_eq!(set.rank(member.as_bytes()), Some((number, (number / 100) as f64)));
        assert_eq!(set.get(number).map(|(element, _)| element.to_vec()), Some(member.into_bytes()));
    }
}
