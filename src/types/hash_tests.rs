//! Hashes against a plain tree map, and the moments at which their form changes.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0u8..60).prop_map(|number| format!("field:{number}").into_bytes()),
        (0u8..60).prop_map(|number| number.to_string().into_bytes()),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i32>().prop_map(|number| number.to_string().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

fn check(hash: &Hash, model: &Model) {
    let fields: Vec<_> = hash.iter().collect();
    assert_eq!((fields.len(), hash.len()), (model.len(), model.len()));
    for field in &fields {
        let (value, expire_at_ms) = &model[&field.name.to_vec()];
        assert_eq!((&field.value.to_vec(), field.expire_at_ms), (value, *expire_at_ms));
        assert_eq!(hash.get_field(&field.name.to_vec()), Some(*field));
    }
    let expiring: Vec<i64> = model.values().filter_map(|(_, moment)| *moment).collect();
    assert_eq!(hash.next_expiry_ms(), expiring.iter().min().copied());
    assert_eq!(hash.expiring_len(), expiring.len());
    let due = hash.expired(500, usize::MAX);
    assert_eq!(due.len(), expiring.iter().filter(|moment| **moment <= 500).count());
    assert!(due.is_sorted_by_key(|field| field.expire_at_ms));
    assert_eq!(hash.expired(500, 2), due[..due.len().min(2)]);
    let (mut cursor, mut seen) = (0, BTreeMap::new());
    loop {
        cursor = hash.scan(cursor, 3, |field| {
            seen.insert(field.name.to_vec(), (field.value.to_vec(), field.expire_at_ms));
        });
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(&seen, model);
    let random = hash.random(&mut fastrand::Rng::with_seed(3)).map(|field| field.name.to_vec());
    assert_eq!(random.is_some(), !model.is_empty());
    assert!(random.is_none_or(|name| model.contains_key(&name)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_a_tree_map(
        steps in proptest::collection::vec((name(), value(), proptest::option::of(0i64..1000), 0u8..10), 1..400),
        most in prop_oneof![Just(0usize), Just(20), Just(512)],
        with_expiry: bool,
    ) {
        let limits = Limits { hash_max_listpack_entries: most, ..Limits::default() };
        let (mut hash, mut model) = (Hash::new(), Model::new());
        let mut kept = Vec::new();
        for (name, value, moment, action) in steps {
            match action {
                0..4 => {
                    prop_assert_eq!(hash.set(&name, &value, &limits), !model.contains_key(&name));
                    model.insert(name, (value, None));
                }
                4 => {
                    let old = model.get(&name).and_then(|old| old.1);
                    prop_assert_eq!(hash.set_keeping_expiry(&name, &value, &limits), !model.contains_key(&name));
                    model.insert(name, (value, old));
                }
                5..7 if with_expiry => {
                    prop_assert_eq!(hash.set_expiry(&name, moment, &limits), model.contains_key(&name));
                    if let Some(old) = model.get_mut(&name) {
                        old.1 = moment;
                    }
                }
                7..9 => prop_assert_eq!(hash.remove(&name), model.remove(&name).is_some()),
                _ => kept.push((hash.clone(), model.clone())),
            }
        }
        kept.push((hash, model));
        for (hash, model) in kept {
            check(&hash, &model);
        }
    }
}

#[test]
fn forms_change_at_the_limits() {
    let limits = Limits::default();
    let mut hash = Hash::new();
    for number in 0..512 {
        hash.set(number.to_string().as_bytes(), b"value", &limits);
    }
    assert_eq!(hash.encoding(), "listpack");
    hash.set(b"512", b"value", &limits);
    assert_eq!(hash.encoding(), "hashtable");
    let mut hash = Hash::new();
    hash.set(b"field", &[b'x'; 64], &limits);
    assert_eq!(hash.encoding(), "listpack");
    hash.set(b"field", &[b'x'; 65], &limits);
    assert_eq!(hash.encoding(), "hashtable");
    let mut hash = Hash::new();
    hash.prepare(&[b"field".as_slice(), &[b'x'; 65]], &limits);
    assert_eq!(hash.encoding(), "hashtable");
}

#[test]
fn a_field_that_expires_makes_a_hash_appear_large_for_good() {
    let limits = Limits::default();
    let mut hash = Hash::new();
    hash.set(b"field", b"value", &limits);
    assert!(hash.set_expiry(b"field", Some(1), &limits));
    assert_eq!((hash.encoding(), hash.0.is_large()), ("hashtable", false));
    assert!(hash.set_expiry(b"field", None, &limits));
    assert_eq!(hash.encoding(), "hashtable");
    assert_eq!(size_of::<Option<Hash>>(), 8);
}
