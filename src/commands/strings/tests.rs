//! Replies, effects and events as Valkey 9.1.2 gives them.

use proptest::prelude::*;

use super::byte_range;
use crate::commands::testing::TestData;
use crate::keyspace::{KeyExpiry, Settings};

const NOT_AN_INTEGER: &str = "(error) ERR value is not an integer or out of range";

#[test]
fn reading() {
    let mut data = TestData::new();
    data.check(
        r#"
        get nothing => (nil)
        strlen nothing => (integer) 0
        mset c hello n 1234 => OK
        get c => "hello"
        get n => "1234"
        strlen n => (integer) 4
        sadd s a => (integer) 1
        get s => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        strlen s => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        mget c s nothing n => ["hello", (nil), (nil), "1234"]
        getrange c 0 -100 => "h"
        getrange c -1 -2 => ""
        getrange c -2 -1 => "lo"
        getrange c 5 10 => ""
        getrange c -100 2 => "hel"
        getrange c 1 9223372036854775807 => "ello"
        getrange n 1 2 => "23"
        getrange nothing 0 1 => ""
        getrange s 0 1 => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        getrange nothing a b => (error) ERR value is not an integer or out of range
        substr c 1 2 => "el"
        "#,
    );
    assert_eq!(data.effects(), ["mset c hello n 1234", "sadd s a"]);
}

#[test]
fn set_on_conditions() {
    let mut data = TestData::new();
    data.check(
        r#"
        set k v xx => (nil)
        set k v nx => OK
        set k w nx => (nil)
        set k w nx get => "v"
        set k w xx get => "v"
        set k v ifeq x => (nil)
        set nothing v ifeq x => (nil)
        set nothing v ifeq x get => (nil)
        set k x ifeq w => OK
        set k y ifeq x get => "x"
        set k z ifeq zz get => "y"
        set n 10 => OK
        set n 11 ifeq 10 => OK
        set new v get => (nil)
        set k v nx xx => (error) ERR syntax error
        set k v ifeq v nx => (error) ERR syntax error
        set k v nx ifeq v => (error) ERR syntax error
        set k v ifeq => (error) ERR syntax error
        set k v persist => (error) ERR syntax error
        set k v nx nx => (nil)
        sadd s a => (integer) 1
        set s v get => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        set s v nx get => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        set s v ifeq a => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        set s v nx => (nil)
        set s v => OK
        "#,
    );
    assert_eq!(
        data.effects(),
        [
            "set k v nx",
            "set k w xx",
            "set k x ifeq w",
            "set k y ifeq x",
            "set n 10",
            "set n 11 ifeq 10",
            "set new v",
            "sadd s a",
            "set s v"
        ]
    );
}

#[test]
fn set_with_expiry() {
    let mut data = TestData::new();
    data.check(
        r#"
        set k v ex 100 => OK
        ttl k => (integer) 100
        set k v2 keepttl => OK
        ttl k => (integer) 100
        set k v3 => OK
        ttl k => (integer) -1
        set k v4 get px 1500 => "v3"
        pttl k => (integer) 1500
        set k v5 get pxat 1700000000777 => "v4"
        set k v6 exat 1700000001 => OK
        pexpiretime k => (integer) 1700000001000
        set k v7 ex 10 ex 20 => OK
        ttl k => (integer) 20
        set k v keepttl keepttl get => "v7"
        set k v ex 10 px 10 => (error) ERR syntax error
        set k v keepttl ex 1 => (error) ERR syntax error
        set k v ex 1 keepttl => (error) ERR syntax error
        set k v ex => (error) ERR syntax error
        set k v ex 0 => (error) ERR invalid expire time in 'set' command
        set k v px -1 => (error) ERR invalid expire time in 'set' command
        set k v ex 9223372036854775807 => (error) ERR invalid expire time in 'set' command
        set k v px 9223372036854775807 => (error) ERR invalid expire time in 'set' command
        set k v ex x => (error) ERR value is not an integer or out of range
        set k v8 get pxat 1 => "v"
        get k => (nil)
        set k v pxat 1 => OK
        exists k => (integer) 0
        setex e 10 v => OK
        psetex e 10 v => OK
        setex e 0 v => (error) ERR invalid expire time in 'setex' command
        psetex e -1 v => (error) ERR invalid expire time in 'psetex' command
        setex e x v => (error) ERR value is not an integer or out of range
        "#,
    );
    assert_eq!(
        data.effects(),
        [
            "SET k v PXAT 1700000100000",
            "set k v2 keepttl",
            "set k v3",
            "SET k v4 PXAT 1700000001500",
            "set k v5 get pxat 1700000000777",
            "SET k v6 PXAT 1700000001000",
            "SET k v7 PXAT 1700000020000",
            "set k v keepttl keepttl",
            "UNLINK k",
            "SET e v PXAT 1700000010000",
            "SET e v PXAT 1700000000010",
        ]
    );
    let events = data.events();
    assert_eq!(events[..3], ["new k", "set k", "expire k"]);
    assert!(events.contains(&"expired k".to_owned()));
}

#[test]
fn an_expired_key_is_told_before_it_is_overwritten() {
    let mut data = TestData::new();
    data.run("set k v px 1");
    data.now_ms += 1;
    data.effects();
    data.events();
    data.check("set k w => OK");
    assert_eq!(data.effects(), ["UNLINK k", "set k w"]);
    assert_eq!(data.events(), ["expired k", "new k", "set k"]);
}

#[test]
fn replicas_take_times_as_they_are() {
    let mut data = TestData::new();
    data.expiry = KeyExpiry::Ignore;
    data.check("set k v pxat 1 => OK");
    data.check("pexpireat k 2 => (integer) 1");
    data.check("get k => \"v\"");
    data.expiry = KeyExpiry::Delete;
    data.check("get k => (nil)");
}

#[test]
fn set_and_answer() {
    let mut data = TestData::new();
    data.check(
        r#"
        setnx a 1 => (integer) 1
        setnx a 2 => (integer) 0
        getset a 3 => "1"
        getset b x => (nil)
        sadd s a => (integer) 1
        getset s a => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        getdel b => "x"
        getdel b => (nil)
        getdel s => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        delifeq a 4 => (integer) 0
        delifeq a 3 => (integer) 1
        delifeq a 3 => (integer) 0
        delifeq s a => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
    assert_eq!(data.effects(), ["setnx a 1", "SET a 3", "SET b x", "sadd s a", "DEL b", "DEL a"]);
    assert!(data.events().ends_with(&["del b".to_owned(), "del a".to_owned()]));
}

#[test]
fn getex() {
    let mut data = TestData::new();
    data.check(
        r#"
        set f 1 => OK
        getex f => "1"
        getex f ex 100 => "1"
        getex f persist => "1"
        getex f persist persist => "1"
        getex f pxat 1700000000999 => "1"
        getex f ex 100 ex 200 => "1"
        ttl f => (integer) 200
        getex f ex 1 px 1 => (error) ERR syntax error
        getex f persist ex 1 => (error) ERR syntax error
        getex f ex 1 persist => (error) ERR syntax error
        getex f keepttl => (error) ERR syntax error
        getex f nx => (error) ERR syntax error
        getex f ex => (error) ERR syntax error
        getex f px 0 => (error) ERR invalid expire time in 'getex' command
        getex nothing ex 0 => (error) ERR invalid expire time in 'getex' command
        getex nothing ex 1 => (nil)
        getex f exat 1 => "1"
        getex f => (nil)
        sadd s a => (integer) 1
        getex s ex 10 => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
    assert_eq!(
        data.effects(),
        [
            "set f 1",
            "PEXPIREAT f 1700000100000",
            "PERSIST f",
            "PEXPIREAT f 1700000000999",
            "PEXPIREAT f 1700000200000",
            "UNLINK f",
            "sadd s a"
        ]
    );
}

#[test]
fn several_keys() {
    let mut data = TestData::new();
    data.check(
        r#"
        mset a 1 b 2 a 3 => OK
        mget a b => ["3", "2"]
        mset a 1 b => (error) ERR wrong number of arguments for 'mset' command
        msetnx b 1 c 1 => (integer) 0
        msetnx c 1 d 1 => (integer) 1
        msetnx c 1 d => (error) ERR wrong number of arguments for 'msetnx' command
        msetex 1 a b => (integer) 1
        msetex 2 a b x d nx => (integer) 0
        msetex 2 x b y d nx ex 10 => (integer) 1
        msetex 2 x b z d xx => (integer) 0
        msetex 1 x w keepttl => (integer) 1
        ttl x => (integer) 10
        msetex 1 ex ex ex 1 ex 2 xx => (integer) 0
        msetex 1 ex ex ex 1 ex 2 nx => (integer) 1
        ttl ex => (integer) 2
        msetex 1 a b pxat 1700000000001 => (integer) 1
        msetex 0 a b => (error) ERR invalid numkeys value or out of range
        msetex x a b => (error) ERR invalid numkeys value or out of range
        msetex -1 a b => (error) ERR invalid numkeys value or out of range
        msetex 99999999999 a b => (error) ERR invalid numkeys value or out of range
        msetex 2 a b => (error) ERR syntax error
        msetex 1 a b c => (error) ERR syntax error
        msetex 1 a b nx xx => (error) ERR syntax error
        msetex 1 a b ex 10 px 10 => (error) ERR syntax error
        msetex 1 a b ex => (error) ERR syntax error
        msetex 1 a b get => (error) ERR syntax error
        msetex 1 a b ifeq b => (error) ERR syntax error
        msetex 1 a b ex 0 => (error) ERR invalid expire time in 'msetex' command
        msetex 1 a b ex foo => (error) ERR value is not an integer or out of range
        "#,
    );
    assert_eq!(
        data.effects()[2..],
        [
            "msetex 1 a b",
            "msetex 2 x b y d nx PXAT 1700000010000",
            "msetex 1 x w keepttl",
            "msetex 1 ex ex ex 1 PXAT 1700000002000 nx",
            "msetex 1 a b pxat 1700000000001"
        ]
    );
}

#[test]
fn editing() {
    let mut data = TestData::new();
    data.check(
        r#"
        append a foo => (integer) 3
        append a "" => (integer) 3
        append a bar => (integer) 6
        object encoding a => "raw"
        set n 12 => OK
        append n 3 => (integer) 3
        incr n => (integer) 124
        object encoding n => "int"
        setrange c 6 x => (integer) 7
        get c => "\x00\x00\x00\x00\x00\x00x"
        setrange c 0 ab => (integer) 7
        setrange c 3 "" => (integer) 7
        setrange nothing 5 "" => (integer) 0
        exists nothing => (integer) 0
        setrange c -1 x => (error) ERR offset is out of range
        setrange c x a => (error) ERR value is not an integer or out of range
        setrange c 536870911 xx => (error) ERR string exceeds maximum allowed size (proto-max-bulk-len)
        setrange c 9223372036854775807 xx => (error) ERR string exceeds maximum allowed size (proto-max-bulk-len)
        sadd s a => (integer) 1
        append s a => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        setrange s 0 a => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        setrange s 0 "" => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
    data.keyspace.set_settings(Settings { max_string_length: 8, ..*data.keyspace.settings() });
    data.check("append a xyz => (error) ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    data.check("append a xy => (integer) 8");
}

#[test]
fn counting() {
    let mut data = TestData::new();
    data.check(
        r#"
        incr n => (integer) 1
        decr n => (integer) 0
        incrby n 41 => (integer) 41
        decrby n -1 => (integer) 42
        set big 9223372036854775807 => OK
        incr big => (error) ERR increment or decrement would overflow
        decrby big -9223372036854775808 => (error) ERR decrement would overflow
        incrby big -9223372036854775808 => (integer) -1
        set t " 1" => OK
        incr t => (error) ERR value is not an integer or out of range
        incrby n x => (error) ERR value is not an integer or out of range
        set n 42 ex 10 => OK
        incr n => (integer) 43
        ttl n => (integer) 10
        sadd s a => (integer) 1
        incr s => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        incrbyfloat s 1 => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        incrbyfloat f 1.5 => "1.5"
        incrbyfloat f 1.5e1 => "16.5"
        incrbyfloat n 0.5 => "43.5"
        ttl n => (integer) 10
        incrbyfloat n x => (error) ERR value is not a valid float
        incrbyfloat t 1 => (error) ERR value is not a valid float
        incrbyfloat f inf => (error) ERR increment would produce NaN or Infinity
        "#,
    );
    let effects = data.effects();
    assert_eq!(effects[..4], ["incr n", "decr n", "incrby n 41", "decrby n -1"]);
    assert_eq!(
        effects[effects.len() - 3..],
        ["SET f 1.5 KEEPTTL", "SET f 16.5 KEEPTTL", "SET n 43.5 KEEPTTL"]
    );
    assert!(data.events().ends_with(&["incrbyfloat n".to_owned()]));
    assert_eq!(data.run("incrby n 1"), NOT_AN_INTEGER);
}

#[test]
fn longest_common_subsequence() {
    let mut data = TestData::new();
    data.check(
        r#"
        mset a ohmytext b mynewtext n 5 => OK
        lcs a b => "mytext"
        lcs a b len => (integer) 6
        lcs a b idx => {"matches" => [[[(integer) 4, (integer) 7], [(integer) 5, (integer) 8]], [[(integer) 2, (integer) 3], [(integer) 0, (integer) 1]]], "len" => (integer) 6}
        lcs a b idx minmatchlen 4 withmatchlen => {"matches" => [[[(integer) 4, (integer) 7], [(integer) 5, (integer) 8], (integer) 4]], "len" => (integer) 6}
        lcs a b idx minmatchlen -1 => {"matches" => [[[(integer) 4, (integer) 7], [(integer) 5, (integer) 8]], [[(integer) 2, (integer) 3], [(integer) 0, (integer) 1]]], "len" => (integer) 6}
        lcs a nothing => ""
        lcs a nothing idx => {"matches" => [], "len" => (integer) 0}
        lcs n n => "5"
        lcs a b len idx => (error) ERR If you want both the length and indexes, please just use IDX.
        lcs a b minmatchlen => (error) ERR syntax error
        lcs a b minmatchlen x => (error) ERR value is not an integer or out of range
        lcs a b foo => (error) ERR syntax error
        sadd s a => (integer) 1
        lcs a s foo => (error) ERR The specified keys must contain string values
        "#,
    );
    data.keyspace.set_settings(Settings { max_string_length: 100, ..*data.keyspace.settings() });
    data.check(
        "lcs a b => (error) ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
    );
}

proptest! {
    /// The subsequence is one of both strings, as long as a plain recursion says, and its stretches spell it.
    #[test]
    fn subsequences_are_common_and_longest(a in "[abc]{0,9}", b in "[abc]{0,9}") {
        let mut data = TestData::new();
        data.run_args(&[b"mset", b"a", a.as_bytes(), b"b", b.as_bytes()]);
        let common = data.run("lcs a b").trim_matches('"').to_owned();
        let is_within = |text: &str| {
            let mut rest = text.chars();
            common.chars().all(|wanted| rest.any(|found| found == wanted))
        };
        prop_assert!(is_within(&a) && is_within(&b));
        fn longest(a: &[u8], b: &[u8]) -> usize {
            match (a, b) {
                ([x, a @ ..], [y, b @ ..]) if x == y => 1 + longest(a, b),
                ([_, rest_a @ ..], [_, rest_b @ ..]) => longest(rest_a, b).max(longest(a, rest_b)),
                _ => 0,
            }
        }
        prop_assert_eq!(common.len(), longest(a.as_bytes(), b.as_bytes()));
    }

    #[test]
    fn byte_ranges_stay_inside(start: i64, end: i64, small_start in -9i64..9, small_end in -9i64..9, length in 0usize..9) {
        for (start, end) in [(start, end), (small_start, small_end)] {
            let range = byte_range(start, end, length);
            prop_assert!(range.start <= range.end && range.end <= length);
        }
    }
}
