//! Hashes, without a server.

use super::super::testing::TestData;
use crate::protocol::Protocol;

/// Runs a line on a fresh hash `a: 1, b: x`, and compares its reply, its effects and its events.
#[track_caller]
fn check(line: &str, reply: &str, effects: &[&str], events: &[&str]) {
    let mut data = TestData::new();
    data.run("hset h a 1 b x");
    data.effects();
    data.events();
    assert_eq!(data.run(line), reply, "{line}");
    assert_eq!(data.effects(), effects, "{line}");
    assert_eq!(data.events(), events, "{line}");
}

#[test]
fn sets() {
    check("hset h a 2 c 3", "(integer) 1", &["hset h a 2 c 3"], &["hset h"]);
    check("hset new a 1", "(integer) 1", &["hset new a 1"], &["new new", "hset new"]);
    check("hmset h a 1", "OK", &["hmset h a 1"], &["hset h"]);
    check("hset h a 1 b", "(error) ERR wrong number of arguments for 'hset' command", &[], &[]);
    check("hmset h a 1 b", "(error) ERR wrong number of arguments for 'hmset' command", &[], &[]);
    check("hsetnx h a 2", "(integer) 0", &[], &[]);
    check("hsetnx h c 2", "(integer) 1", &["hsetnx h c 2"], &["hset h"]);
    check("hdel h a a nope", "(integer) 1", &["hdel h a a nope"], &["hdel h"]);
    check("hdel h a b", "(integer) 2", &["hdel h a b"], &["hdel h", "del h"]);
    check("hdel h nope", "(integer) 0", &[], &[]);
}

#[test]
fn gets() {
    let mut data = TestData::new();
    data.run("hset h a 12 b text");
    data.check(
        r#"
        hget h a => "12"
        hget h c => (nil)
        hget none c => (nil)
        hmget h a c b => ["12", (nil), "text"]
        hmget none a => [(nil)]
        hgetall h => {"a" => "12", "b" => "text"}
        hgetall none => {}
        hkeys h => ["a", "b"]
        hvals h => ["12", "text"]
        hlen h => (integer) 2
        hexists h a => (integer) 1
        hexists h c => (integer) 0
        hstrlen h a => (integer) 2
        hstrlen h b => (integer) 4
        hstrlen h c => (integer) 0
        set s x => OK
        hget s a => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        hset s a 1 => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
}

#[test]
fn counts() {
    check("hincrby h a 5", "(integer) 6", &["hincrby h a 5"], &["hincrby h"]);
    check("hincrby h c -5", "(integer) -5", &["hincrby h c -5"], &["hincrby h"]);
    check("hincrby h b 1", "(error) ERR hash value is not an integer", &[], &[]);
    check("hincrby new b x", "(error) ERR value is not an integer or out of range", &[], &[]);
    check("hincrbyfloat h a 0.5", "\"1.5\"", &["HSET h a 1.5"], &["hincrbyfloat h"]);
    check("hincrbyfloat h c 3.0e3", "\"3000\"", &["HSET h c 3000"], &["hincrbyfloat h"]);
    check("hincrbyfloat h b 1", "(error) ERR hash value is not a float", &[], &[]);
    check("hincrbyfloat h a x", "(error) ERR value is not a valid float", &[], &[]);
    check("hincrbyfloat h a inf", "(error) ERR value is NaN or Infinity", &[], &[]);
    let mut data = TestData::new();
    data.check(
        r#"
        hset h a 9223372036854775807 f 3000 => (integer) 2
        hincrby h a 1 => (error) ERR increment or decrement would overflow
        hincrbyfloat h f 0.1 => "3000.10000000000000009"
        hset h f 1e4932 => (integer) 0
        hincrbyfloat h f 1e4932 => (error) ERR increment would produce NaN or Infinity
        "#,
    );
}

#[test]
fn numbers_keep_their_expiry_and_are_told_with_it() {
    let mut data = TestData::new();
    data.check("hset h a 1 b 2 => (integer) 2\n hpexpireat h 1800000000000 fields 1 a => [(integer) 1]");
    data.effects();
    data.check(
        r#"
        hincrby h a 1 => (integer) 2
        hincrby h b 1 => (integer) 3
        hincrbyfloat h a 1 => "3"
        hincrbyfloat h b 1 => "4"
        hsetnx h c 1 => (integer) 1
        hpexpiretime h fields 3 a b c => [(integer) 1800000000000, (integer) -1, (integer) -1]
        hset h a 1 => (integer) 0
        hpexpiretime h fields 1 a => [(integer) -1]
        "#,
    );
    let expected = [
        "HSETEX h PXAT 1800000000000 FIELDS 1 a 2",
        "HSET h b 3",
        "HSETEX h PXAT 1800000000000 FIELDS 1 a 3",
        "HSET h b 4",
        "HSET h c 1",
        "hset h a 1",
    ];
    assert_eq!(data.effects(), expected);
}

#[test]
fn chooses() {
    let mut data = TestData::new();
    data.run("hset h a 1");
    data.check(
        r#"
        hrandfield h => "a"
        hrandfield none => (nil)
        hrandfield h 5 => ["a"]
        hrandfield h 0 => []
        hrandfield h -3 => ["a", "a", "a"]
        hrandfield h -2 withvalues => ["a", "1", "a", "1"]
        hrandfield none 5 withvalues => []
        hrandfield h 1 what => (error) ERR syntax error
        hrandfield h x what => (error) ERR value is not an integer or out of range
        hrandfield h 5000000000000000000 withvalues => (error) ERR value is out of range
        hrandfield h -4611686018427387904 withvalues => (error) ERR value is out of range
        hrandfield h -9223372036854775808 => (error) ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
        "#,
    );
    data.protocol = Protocol::Resp3;
    data.check("hrandfield h 2 withvalues => [[\"a\", \"1\"]]");
}

/// Different fields, whichever way they are drawn, from a small and a large hash.
#[test]
fn chosen_fields_are_different() {
    for size in [30, 2000] {
        let mut data = TestData::new();
        for field in 0..size {
            data.run(&format!("hset h f{field} v{field}"));
        }
        for count in [2, size / 4, size / 2, size - 1, size, size + 5] {
            let reply = data.run(&format!("hrandfield h {count}"));
            let mut names: Vec<&str> = reply.trim_matches(['[', ']']).split(", ").collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count.min(size));
        }
    }
}
