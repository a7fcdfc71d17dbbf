//! Sets against a plain tree set, and the moments at which their form changes.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (-20i64..200).prop_map(|number| number.to_string().into_bytes()),
        1 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
        1 => (0u8..100).prop_map(|number| format!("member:{number}").into_bytes()),
    ]
}

fn texts(set: &Set) -> BTreeSet<Vec<u8>> {
    let all: Vec<_> = set.iter().map(|element| element.to_vec()).collect();
    assert_eq!(all.len(), set.len());
    all.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_a_tree_set(
        steps in proptest::collection::vec((member(), 0u8..10), 1..400),
        most in prop_oneof![Just(0usize), Just(8), Just(128)],
    ) {
        let limits = Limits { set_max_intset_entries: most, set_max_listpack_entries: most, ..Limits::default() };
        let mut random = fastrand::Rng::with_seed(1);
        let mut set = Set::new(&steps[0].0, 0, &limits);
        let mut model = BTreeSet::new();
        let mut kept = Vec::new();
        for (member, action) in steps {
            match action {
                0..6 => prop_assert_eq!(set.insert(&member, &limits), model.insert(member.clone())),
                6..8 => prop_assert_eq!(set.remove(&member), model.remove(&member)),
                8 => {
                    let popped = set.pop_random(&mut random).map(OwnedElement::into_vec);
                    prop_assert_eq!(popped.is_some(), !model.is_empty());
                    prop_assert!(popped.is_none_or(|popped| model.remove(&popped)));
                }
                _ => kept.push((set.clone(), model.clone())),
            }
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.contains(&member), model.contains(&member));
        }
        kept.push((set, model));
        for (set, model) in kept {
            prop_assert_eq!(&texts(&set), &model);
            let (mut cursor, mut seen) = (0, BTreeSet::new());
            loop {
                cursor = set.scan(cursor, 3, |element| { seen.insert(element.to_vec()); });
                if cursor == 0 { break; }
            }
            prop_assert_eq!(seen, model);
        }
    }
}

fn integers_up_to(len: usize, limits: &Limits) -> Set {
    let mut set = Set::new(b"0", 0, limits);
    for integer in 0..len {
        set.insert(integer.to_string().as_bytes(), limits);
    }
    set
}

#[test]
fn forms_change_at_the_limits() {
    let limits = Limits::default();
    assert_eq!(integers_up_to(512, &limits).encoding(), "intset");
    assert_eq!(integers_up_to(513, &limits).encoding(), "hashtable");
    let mut set = integers_up_to(127, &limits);
    set.insert(b"x", &limits);
    assert_eq!((set.encoding(), set.len()), ("listpack", 128));
    set.insert(b"y", &limits);
    assert_eq!((set.encoding(), set.len()), ("hashtable", 129));
    let mut set = integers_up_to(128, &limits);
    set.insert(b"x", &limits);
    assert_eq!(set.encoding(), "hashtable");
    let mut set = integers_up_to(3, &limits);
    set.insert(&[b'x'; 65], &limits);
    assert_eq!(set.encoding(), "hashtable");
    assert_eq!(Set::new(b"x", 0, &limits).encoding(), "listpack");
    assert_eq!(Set::new(b"x", 129, &limits).encoding(), "hashtable");
    assert_eq!(Set::new(b"1", 513, &limits).encoding(), "hashtable");
    assert_eq!(size_of::<Option<Set>>(), 8);
}
