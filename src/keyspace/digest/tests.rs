//! Digests as Valkey 9.1.2 gives them.

use super::Digest;
use crate::keyspace::entry::Collection;
use crate::keyspace::{Entry, Keyspace, Settings};
use crate::types::hash::Hash;
use crate::types::list::End;
use crate::types::{Limits, List, Set, SortedSet};

fn list(key: &[u8], elements: &[&str], limits: &Limits) -> Entry {
    let mut list = List::new();
    list.push(End::Back, elements, limits);
    Entry::collection(key, Collection::List(list), None)
}

fn set(key: &[u8], members: &[&str], limits: &Limits) -> Entry {
    let mut set = Set::new(members[0].as_bytes(), members.len(), limits);
    members.iter().for_each(|member| assert!(set.insert(member.as_bytes(), limits)));
    Entry::collection(key, Collection::Set(set), None)
}

fn sorted_set(key: &[u8], members: &[(&str, f64)], limits: &Limits) -> Entry {
    let mut set = SortedSet::new();
    for (member, score) in members {
        set.insert(member.as_bytes(), *score, limits);
    }
    Entry::collection(key, Collection::SortedSet(set), None)
}

fn hash(key: &[u8], fields: &[(&str, &str)], limits: &Limits) -> Entry {
    let mut hash = Hash::new();
    for (field, value) in fields {
        hash.set(field.as_bytes(), value.as_bytes(), limits);
    }
    Entry::collection(key, Collection::Hash(hash), None)
}

/// Limits under which everything is in its small form, or in its large one.
fn both_forms() -> [Limits; 2] {
    let large = Limits {
        hash_max_listpack_entries: 0,
        zset_max_listpack_entries: 0,
        set_max_intset_entries: 0,
        set_max_listpack_entries: 0,
        list_max_listpack_size: 1,
        ..Limits::default()
    };
    [Limits::default(), large]
}

#[test]
fn values() {
    for limits in both_forms() {
        let check = |entry: Entry, expected: &str| assert_eq!(Digest::of_value(&entry, 0).hex(), expected);
        check(list(b"l", &["1", "2", "3", "10"], &limits), "ecd13ccab9ed88614bae61d7c0d10f2564aa4966");
        check(set(b"s", &["c", "a", "b"], &limits), "593c2414786d75446e97f4ea5d4b731f3313da72");
        check(
            sorted_set(b"z", &[("a", 3.0), ("b", 2.0), ("c", 1.0)], &limits),
            "0a9e1e18807a78cae8862066e5c90684d29b0f93",
        );
        check(hash(b"h_1", &[("f", "5")], &limits), "9b84ee0cc38125f486a7795bc0391c57b662f64e");
        check(hash(b"h", &[("a", "1"), ("b", "2")], &limits), "6c8f22b3bf510fdcfd6122dd0f908a80e88243bf");
        check(Entry::string(b"str", b"x", None), "e1c099d36d86ec50b7f83540e7e59065055be33d");
        check(Entry::string(b"other", b"x", Some(1)), "0745672cb1bf060476eedeb8a28f5ffe1ff5a2be");
    }
}

#[test]
fn the_whole_dataset() {
    assert_eq!(Digest::of_keyspace(&Keyspace::new(16, Settings::default()), 0).hex(), "0".repeat(40));
    for limits in both_forms() {
        let mut keyspace = Keyspace::new(16, Settings::default());
        for (database, entry) in [
            (0, Entry::string(b"n", b"17", None)),
            (0, Entry::string(b"text", b"hello", None)),
            (0, Entry::string(b"", b"empty", None)),
            (0, Entry::string(b"dying", b"x", Some(1_900_000_000_000))),
            (0, set(b"s", &["a", "b", "3"], &limits)),
            (0, sorted_set(b"z", &[("a", 1.0), ("b", 0.1), ("3", f64::NEG_INFINITY), ("d", 1e20)], &limits)),
            (3, Entry::string(b"n", b"17", None)),
        ] {
            keyspace.insert_loaded(database, entry);
        }
        assert_eq!(Digest::of_keyspace(&keyspace, 0).hex(), "70caec551f6f1467a9ca431e5207e951dc1ab119");
    }
}
