//! Replies as Valkey 9.1.2 gives them, and the guarantee of a whole walk.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::commands::testing::TestData;
use crate::keyspace::Entry;
use crate::keyspace::entry::Collection;
use crate::types::Limits;
use crate::types::hash::Hash;

#[test]
fn options_and_errors() {
    let mut data = TestData::new();
    data.check(
        r#"
        scan 0 => ["0", []]
        set k v => OK
        scan 0 => ["0", ["k"]]
        scan 0 match x* => ["0", []]
        scan 0 match k* count 5 type STRING => ["0", ["k"]]
        scan 0 type set => ["0", []]
        scan 0 type foo => (error) ERR unknown type name 'foo'
        scan x => (error) ERR invalid cursor
        scan -1 x => (error) ERR invalid cursor
        scan 0 count 0 => (error) ERR syntax error
        scan 0 count -5 => (error) ERR syntax error
        scan 0 count x => (error) ERR value is not an integer or out of range
        scan 0 count => (error) ERR syntax error
        scan 0 foo => (error) ERR syntax error
        scan 0 novalues => (error) ERR NOVALUES option can only be used in HSCAN
        scan 0 noscores => (error) ERR NOSCORES option can only be used in ZSCAN
        hscan nothing 0 foo => ["0", []]
        hscan nothing x => (error) ERR invalid cursor
        sscan nothing 0 type set => ["0", []]
        hscan k 0 => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        sscan k 0 => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        zscan k 0 => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        sadd s 1 2 x => (integer) 3
        sscan s 0 match ? count 1 => ["0", ["1", "2", "x"]]
        sscan s 0 match x => ["0", ["x"]]
        sscan s 0 type set => (error) ERR syntax error
        sscan s 0 novalues => (error) ERR NOVALUES option can only be used in HSCAN
        zadd z 0.1 a 3 b => (integer) 2
        zscan z 0 => ["0", ["a", "0.1", "b", "3"]]
        zscan z 0 match b => ["0", ["b", "3"]]
        zscan z 0 noscores => ["0", ["a", "b"]]
        zscan z 0 novalues => (error) ERR NOVALUES option can only be used in HSCAN
        "#,
    );
    assert!(data.effects().iter().all(|effect| !effect.contains("scan")));
}

#[test]
fn hashes() {
    let mut data = TestData::new();
    let mut hash = Hash::new();
    hash.set(b"f", b"v", &Limits::default());
    hash.set(b"g", b"1", &Limits::default());
    hash.set_expiry(b"g", Some(data.now_ms as i64 + 1), &Limits::default());
    data.keyspace.insert_loaded(0, Entry::collection(b"h", Collection::Hash(hash), None));
    let seen = data.run("hscan h 0");
    assert!(seen == r#"["0", ["f", "v", "g", "1"]]"# || seen == r#"["0", ["g", "1", "f", "v"]]"#, "{seen}");
    data.now_ms += 1;
    data.check(
        r#"
        hscan h 0 => ["0", ["f", "v"]]
        hscan h 0 novalues => ["0", ["f"]]
        hscan h 0 match x => ["0", []]
        hscan h 0 noscores => (error) ERR NOSCORES option can only be used in ZSCAN
        "#,
    );
}

#[test]
fn expired_keys_are_not_seen_and_noted() {
    let mut data = TestData::new();
    data.run("set k v px 1");
    data.now_ms += 1;
    data.check("scan 0 => [\"0\", []]");
    assert_eq!(data.keyspace.take_expired_seen(), [(0, b"k".to_vec())]);
}

fn parts(reply: &str) -> (String, Vec<String>) {
    let mut words = reply.split('"').skip(1).step_by(2).map(str::to_owned);
    (words.next().expect("a cursor"), words.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// What is there all the time is seen, however the rest comes and goes between the steps.
    #[test]
    fn walks_are_complete(stays in 1usize..2000, comes in 0usize..2000, count in 1usize..100, in_set: bool) {
        let mut data = TestData::new();
        let (add, walk) = if in_set { ("sadd s", "sscan s") } else { ("mset", "scan") };
        let value = if in_set { "" } else { " v" };
        let line = |prefix: &str, range: std::ops::Range<usize>| {
            range.fold(add.to_owned(), |line, number| format!("{line} {prefix}{number}{value}"))
        };
        data.run(&line("stays", 0..stays));
        let mut seen = BTreeSet::new();
        let mut cursor = "0".to_owned();
        let mut steps = 0;
        loop {
            let (next, found) = parts(&data.run(&format!("{walk} {cursor} count {count}")));
            seen.extend(found.into_iter().filter(|name| name.starts_with("stays")));
            cursor = next;
            if cursor == "0" {
                break;
            }
            if steps < 2 && comes > 0 {
                data.run(&line(if steps == 0 { "a" } else { "b" }, 0..comes));
            }
            steps += 1;
            prop_assert!(steps < 10_000, "the walk does not end");
        }
        prop_assert_eq!(seen.len(), stays);
    }
}
