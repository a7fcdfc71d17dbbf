//! Fields that expire.

use super::super::testing::TestData;
use crate::keyspace::KeyExpiry;
use crate::keyspace::WriteTxn;

/// The moment at which the clock of the tests stands, in Unix milliseconds.
const NOW_MS: u64 = 1_700_000_000_000;

#[track_caller]
fn check_in(mut data: TestData, line: &str, reply: &str, effects: &[&str], events: &[&str]) {
    data.effects();
    data.events();
    assert_eq!(data.run(line), reply, "{line}");
    assert_eq!(data.effects(), effects, "{line}");
    assert_eq!(data.events(), events, "{line}");
}

/// Runs a line on a fresh hash `a: 1, b: 2`, and compares its reply, its effects and its events.
#[track_caller]
fn check(line: &str, reply: &str, effects: &[&str], events: &[&str]) {
    let mut data = TestData::new();
    data.run("hset h a 1 b 2");
    check_in(data, line, reply, effects, events);
}

/// A hash of which the time of `a` has passed, and which has `k` beside it.
fn with_expired() -> TestData {
    let mut data = TestData::new();
    data.run("hset h a 1 k 9");
    data.run("hpexpire h 5 fields 1 a");
    data.now_ms += 10;
    data
}

/// As [`check`], on the hash of [`with_expired`].
#[track_caller]
fn check_expired(line: &str, reply: &str, effects: &[&str], events: &[&str]) {
    check_in(with_expired(), line, reply, effects, events);
}

#[test]
fn sets_moments() {
    let told = "HPEXPIREAT h 1700000100000 fields 2 a x";
    check("hexpire h 100 fields 2 a x", "[(integer) 1, (integer) -2]", &[told], &["hexpire h"]);
    check("hpexpire h 100000 fields 2 a x", "[(integer) 1, (integer) -2]", &[told], &["hexpire h"]);
    check("hexpireat h 1700000100 fields 2 a x", "[(integer) 1, (integer) -2]", &[told], &["hexpire h"]);
    let line = "hpexpireat h 1700000100000 NX fields 1 a";
    check(line, "[(integer) 1]", &[line], &["hexpire h"]);
    let both = "[(integer) 2, (integer) 2]";
    check("hexpire h 0 fields 2 a x", "[(integer) 2, (integer) -2]", &["HDEL h a"], &["hexpired h"]);
    check("hexpire h 0 fields 2 a b", both, &["HDEL h a b"], &["hexpired h", "del h"]);
    check("hexpireat none 1 fields 2 a b", "[(integer) -2, (integer) -2]", &[], &[]);
    check("hexpire h 100 xx fields 1 a", "[(integer) 0]", &[], &[]);
    check("hexpire h 0 gt fields 1 a", "[(integer) 0]", &[], &[]);
    check("hpersist h fields 2 a x", "[(integer) -1, (integer) -2]", &[], &[]);
}

#[test]
fn conditions() {
    let mut data = TestData::new();
    data.check(
        r#"
        hset h a 1 b 2 c 3 => (integer) 3
        hexpire h 100 fields 2 a zz => [(integer) 1, (integer) -2]
        hexpire h 100 nx fields 2 a b => [(integer) 0, (integer) 1]
        hexpire h 200 gt fields 2 a c => [(integer) 1, (integer) 0]
        hexpire h 200 gt xx fields 2 a c => [(integer) 0, (integer) 0]
        hexpire h 100 lt fields 2 a c => [(integer) 1, (integer) 1]
        hexpire h 100 lt lt fields 2 a c => [(integer) 0, (integer) 0]
        hexpire h 100 nx xx fields 2 a b => (error) ERR NX and XX, GT or LT options at the same time are not compatible
        hexpire h 100 gt lt fields 2 a b => (error) ERR GT and LT options at the same time are not compatible
        hexpire h 100 foo fields 2 a c => (error) ERR Unsupported option foo
        hexpire h x fields 2 a c => (error) ERR value is not an integer or out of range
        hexpire h -1 fields 2 a c => (error) ERR invalid expire time in 'hexpire' command
        hexpire h 9223372036854775807 fields 1 b => (error) ERR invalid expire time in 'hexpire' command
        hpexpire h 9223372036854775807 fields 1 b => (error) ERR invalid expire time in 'hpexpire' command
        hpexpireat h 9223372036854775807 fields 1 b => [(integer) 1]
        hpexpiretime h fields 1 b => [(integer) 9223372036854775807]
        hexpiretime h fields 1 b => [(integer) 9223372036854776]
        hexpire h 100 b c d => (error) ERR numfields should be greater than 0 and match the provided number of fields
        hexpire h 100 fields 2 b => (error) ERR numfields should be greater than 0 and match the provided number of fields
        hexpire h 100 fields -1 b => (error) ERR numfields should be greater than 0 and match the provided number of fields
        httl h fields 3 a b zz => [(integer) 100, (integer) 9223370336854776, (integer) -2]
        hpttl h fields 1 a => [(integer) 100000]
        hpersist h fields 3 a b zz => [(integer) 1, (integer) 1, (integer) -2]
        hpersist h fields 1 b x => (error) ERR numfields should be greater than 0 and match the provided number of fields
        hpersist h foo 1 b => (error) ERR syntax error
        httl h fields 1 b x => (error) ERR syntax error
        httl h foo 1 b => (error) ERR syntax error
        httl h fields x b => (error) ERR value is not an integer or out of range
        httl none fields 2 a b => [(integer) -2, (integer) -2]
        "#,
    );
}

#[test]
fn expired_fields_are_not_seen() {
    let mut data = with_expired();
    data.check(
        r#"
        hlen h => (integer) 2
        hgetall h => {"k" => "9"}
        hkeys h => ["k"]
        hvals h => ["9"]
        hget h a => (nil)
        hmget h a k => [(nil), "9"]
        hexists h a => (integer) 0
        hstrlen h a => (integer) 0
        hrandfield h 5 => ["k"]
        hrandfield h -2 => ["k", "k"]
        hrandfield h => "k"
        httl h fields 1 a => [(integer) -2]
        "#,
    );
    check_expired("hdel h a", "(integer) 0", &[], &[]);
    check_expired("hexpire h 100 fields 1 a", "[(integer) -2]", &[], &[]);
    check_expired("hpersist h fields 1 a", "[(integer) -2]", &[], &[]);
    check_expired("hgetex h ex 100 fields 1 a", "[(nil)]", &[], &[]);
    check_expired("hgetdel h fields 1 a", "[(nil)]", &[], &[]);
    check_expired("hsetex h fxx fields 1 a 5", "(integer) 0", &[], &[]);
}

#[test]
fn expired_fields_are_overwritten_as_if_they_were_gone() {
    let events = &["hexpired h", "hset h"];
    check_expired("hset h a 2", "(integer) 1", &["hset h a 2"], events);
    check_expired("hsetnx h a 2", "(integer) 1", &["HSET h a 2"], events);
    check_expired("hincrby h a 2", "(integer) 2", &["HSET h a 2"], &["hexpired h", "hincrby h"]);
    check_expired("hincrby h k 2", "(integer) 11", &["HSET h k 11"], &["hincrby h"]);
    check_expired("hincrbyfloat h a 2", "\"2\"", &["HSET h a 2"], &["hexpired h", "hincrbyfloat h"]);
    let told = &["HDEL h a", "HSETEX h KEEPTTL fields 1 a 5"];
    check_expired("HSETEX h KEEPTTL fields 1 a 5", "(integer) 1", told, events);
    check_expired("HSETEX h FNX fields 1 a 5", "(integer) 1", &["HSETEX h fields 1 a 5"], events);
    check_expired(
        "hsetex h px 0 fields 1 a 5",
        "(integer) 1",
        &["HDEL h a"],
        &["hset h", "hexpire h", "hexpired h"],
    );
}

/// The stream decides when a field is gone; while it is applied all fields are there.
#[test]
fn the_stream_sees_all_fields() {
    let mut data = with_expired();
    data.expiry = KeyExpiry::Ignore;
    data.check(
        r#"
        hget h a => "1"
        hsetex h keepttl fields 1 a 2 => (integer) 1
        hpexpiretime h fields 1 a => [(integer) 1700000000005]
        hpexpireat h 1 fields 1 a => [(integer) 1]
        hdel h a => (integer) 1
        "#,
    );
    data.expiry = KeyExpiry::Hide;
    data.check("hpexpireat h 1 fields 1 k => [(integer) 1]\n hget h k => (nil)\n hlen h => (integer) 1");
}

#[test]
fn sets_with_moments() {
    let at = NOW_MS + 100_000;
    let set = &["hset h", "hexpire h"];
    let told = format!("HSETEX h PXAT {at} FIELDS 1 n 5");
    for options in ["EX 100", "PX 100000 FNX", "XX EXAT 1700000100", "EX 1 EX 100"] {
        check(&format!("HSETEX h {options} FIELDS 1 n 5"), "(integer) 1", &[&told], set);
    }
    check(&told, "(integer) 1", &[&told], set);
    check("HSETEX h FNX FIELDS 1 n 5", "(integer) 1", &["HSETEX h FIELDS 1 n 5"], &["hset h"]);
    let kept = "hsetex h KEEPTTL FIELDS 1 n 5";
    check(kept, "(integer) 1", &[kept], &["hset h"]);
    let expired = &["hset h", "hexpire h", "hexpired h"];
    check("hsetex h pxat 1 fields 2 a 5 z 1", "(integer) 1", &["HDEL h a"], expired);
    check("hsetex h pxat 1 fields 1 z 1", "(integer) 1", &[], expired);
    let gone = &["hset h", "hexpire h", "hexpired h", "del h"];
    check("hsetex h pxat 1 fields 2 a 5 b 1", "(integer) 1", &["HDEL h a b"], gone);
    let never = &["new n", "hset n", "hexpire n", "hexpired n", "del n"];
    check("hsetex n pxat 1 fields 1 a 5", "(integer) 1", &[], never);
    let mut data = TestData::new();
    data.check(
        r#"
        hsetex h fields 1 f v => (integer) 1
        hsetex h nx fields 1 f v => (integer) 0
        hsetex h2 xx fields 1 f v => (integer) 0
        hsetex h2 xx ex x fields 1 f v => (integer) 0
        hsetex h2 fxx ex -1 fields 1 f v => (error) ERR invalid expire time in 'hsetex' command
        hsetex h2 fxx fields 1 f v => (integer) 0
        hsetex h fnx fields 2 n v f v => (integer) 0
        hsetex h xx nx fields 1 f v => (error) ERR syntax error
        hsetex h fxx fnx fields 1 f v => (error) ERR syntax error
        hsetex h ex 10 keepttl fields 1 f v => (error) ERR syntax error
        hsetex h keepttl ex 10 fields 1 f v => (error) ERR syntax error
        hsetex h ex 10 px 10 fields 1 f v => (error) ERR syntax error
        hsetex h ex fields 1 f v => (error) ERR syntax error
        hsetex h persist fields 1 f v => (error) ERR syntax error
        hsetex h ex x fields 1 f v => (error) ERR value is not an integer or out of range
        hsetex h fields 2 f v => (error) ERR numfields should be greater than 0 and match the provided number of fields
        hsetex h fields 9223372036854775807 f v => (error) ERR numfields should be greater than 0 and match the provided number of fields
        hsetex h x 1 f v => (error) ERR numfields should be greater than 0 and match the provided number of fields
        hgetall h => {"f" => "v"}
        "#,
    );
}

#[test]
fn gets_on_the_way() {
    let at = NOW_MS + 100_000;
    let got = "[\"1\", (nil)]";
    let told = format!("HPEXPIREAT h {at} FIELDS 1 a");
    check("hgetex h ex 100 fields 2 a zz", got, &[&told], &["hexpire h"]);
    check("hgetex h pxat 1 fields 2 a a", got, &["HDEL h a"], &["hexpired h"]);
    check("hgetex h ex 0 fields 2 a b", "[\"1\", \"2\"]", &["HDEL h a b"], &["hexpired h", "del h"]);
    check("hgetex h fields 2 a zz", got, &[], &[]);
    check("hgetex h persist fields 2 a zz", got, &[], &[]);
    check("hgetdel h fields 2 a z", got, &["hgetdel h fields 2 a z"], &["hdel h"]);
    let deleted = &["hdel h", "del h"];
    check("hgetdel h fields 2 a b", "[\"1\", \"2\"]", &["hgetdel h fields 2 a b"], deleted);
    check("hgetdel h fields 1 z", "[(nil)]", &[], &[]);
    let mut data = TestData::new();
    data.run("hset h a 1 b 2");
    data.run("hexpire h 10 fields 1 a");
    let told = &["HPERSIST h FIELDS 1 a"];
    check_in(data, "hgetex h PERSIST fields 2 b a", "[\"2\", \"1\"]", told, &["hpersist h"]);
    let mut data = TestData::new();
    data.check(
        r#"
        hgetex none fields 2 a b => [(nil), (nil)]
        hgetex none pxat 1 fields 2 a b => [(nil), (nil)]
        hgetex none ex a fields 1 a => (error) ERR value is not an integer or out of range
        hgetex h persist ex 1 fields 1 a => (error) ERR syntax error
        hgetex h ex 1 persist fields 1 a => (error) ERR syntax error
        hgetex h keepttl fields 1 a => (error) ERR syntax error
        hgetex h fields 0 a => (error) ERR numfields should be greater than 0 and match the provided number of fields
        hgetex h a b c => (error) ERR numfields should be greater than 0 and match the provided number of fields
        set s x => OK
        hgetex s ex x fields 1 a => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        hgetdel h foo 2 a => (error) ERR syntax error
        hgetdel s fields 2 a => (error) ERR numfields should be greater than 0 and match the provided number of fields
        hgetdel none fields 2 a a => [(nil), (nil)]
        "#,
    );
}

/// Deletes what is due, as the server does by itself, and returns the names of the events.
fn expire_fields(data: &mut TestData) -> Vec<&'static str> {
    let mut transaction = WriteTxn::new(&mut data.keyspace, &mut data.state, 0, data.now_ms);
    transaction.expire_fields_due(100);
    data.state.finish(&data.keyspace).events.iter().map(|event| event.name).collect()
}

#[test]
fn fields_are_deleted_when_their_time_has_passed() {
    let mut data = TestData::new();
    data.check("hset h a 1 b 2 c 3 => (integer) 3");
    data.check("hpexpire h 1000 fields 1 a => [(integer) 1]");
    data.check("hsetex h px 5000 fields 1 b 2 => (integer) 1");
    data.check("hgetex h px 9000 fields 1 c => [\"3\"]");
    data.effects();
    data.now_ms += 2_000;
    expire_fields(&mut data);
    assert_eq!(data.effects(), ["HDEL h a"]);
    data.now_ms += 4_000;
    expire_fields(&mut data);
    assert_eq!(data.effects(), ["HDEL h b"]);
    data.now_ms += 4_000;
    assert_eq!(expire_fields(&mut data), ["hexpired", "del"]);
    assert_eq!(data.effects(), ["HDEL h c"]);
    assert_eq!(data.state.expired_fields, 3);
    data.check("exists h => (integer) 0");
}

#[test]
fn fields_whose_time_was_moved_or_that_moved_with_their_hash_expire_once() {
    let mut data = TestData::new();
    data.check("hset h a 1 b 2 => (integer) 2");
    data.check("hpexpire h 1000 fields 1 a => [(integer) 1]");
    data.check("hpexpire h 3000 fields 1 a => [(integer) 1]");
    data.check("rename h other => OK");
    data.check("copy other copied => (integer) 1");
    data.effects();
    data.now_ms += 2_000;
    expire_fields(&mut data);
    assert_eq!(data.effects(), Vec::<String>::new());
    data.now_ms += 2_000;
    expire_fields(&mut data);
    expire_fields(&mut data);
    let mut effects = data.effects();
    effects.sort();
    assert_eq!(effects, ["HDEL copied a", "HDEL other a"]);
}
