//! Lists, without a server.

use super::super::testing::TestData;

/// A dataset with the list `l` of these elements, nothing noted yet.
fn with_list(elements: &str) -> TestData {
    let mut data = TestData::new();
    data.run(&format!("rpush l {elements}"));
    data.effects();
    data.events();
    data
}

/// Runs a line on a fresh list `a b c a`, and compares its reply, its effects and its events.
#[track_caller]
fn check(line: &str, reply: &str, effects: &[&str], events: &[&str]) {
    let mut data = with_list("a b c a");
    assert_eq!(data.run(line), reply, "{line}");
    assert_eq!(data.effects(), effects, "{line}");
    assert_eq!(data.events(), events, "{line}");
}

#[test]
fn pushes() {
    check("lpush l x y", "(integer) 6", &["lpush l x y"], &["lpush l"]);
    check("rpushx l x", "(integer) 5", &["rpushx l x"], &["rpush l"]);
    check("lpushx none x", "(integer) 0", &[], &[]);
    check("rpush new x", "(integer) 1", &["rpush new x"], &["new new", "rpush new"]);
    with_list("a").check("lpush l b c => (integer) 3\n lrange l 0 -1 => [\"c\", \"b\", \"a\"]");
}

#[test]
fn pops() {
    check("lpop l", "\"a\"", &["lpop l"], &["lpop l"]);
    check("rpop l 2", "[\"a\", \"c\"]", &["rpop l 2"], &["rpop l"]);
    check("lpop l 9", "[\"a\", \"b\", \"c\", \"a\"]", &["lpop l 9"], &["lpop l", "del l"]);
    check("lpop l 0", "[]", &[], &[]);
    check("lpop none", "(nil)", &[], &[]);
    check("lpop none 0", "(nil)", &[], &[]);
    let positive = "(error) ERR value is out of range, must be positive";
    check("lpop l -1", positive, &[], &[]);
    check("lpop l x", positive, &[], &[]);
    check("rpop l 1 2", "(error) ERR wrong number of arguments for 'rpop' command", &[], &[]);
}

#[test]
fn looks() {
    with_list("a b 12 a").check(
        r#"
        llen l => (integer) 4
        lindex l 2 => "12"
        lindex l -1 => "a"
        lindex l 4 => (nil)
        lindex l -5 => (nil)
        lindex l -9223372036854775808 => (nil)
        lindex l x => (error) ERR value is not an integer or out of range
        lindex none x => (nil)
        lrange l -100 100 => ["a", "b", "12", "a"]
        lrange l 1 2 => ["b", "12"]
        lrange l 3 2 => []
        lrange l -9223372036854775808 9223372036854775807 => ["a", "b", "12", "a"]
        lpos l a => (integer) 0
        lpos l a rank -1 => (integer) 3
        lpos l a rank 2 => (integer) 3
        lpos l a rank 3 => (nil)
        lpos l a count 0 => [(integer) 0, (integer) 3]
        lpos l a rank -1 count 0 => [(integer) 3, (integer) 0]
        lpos l a count 1 => [(integer) 0]
        lpos l a count 0 maxlen 3 => [(integer) 0]
        lpos l 12 => (integer) 2
        lpos l nope => (nil)
        lpos l nope count 2 => []
        lpos none a count 2 => []
        lpos l a rank => (error) ERR syntax error
        lpos l a count -1 => (error) ERR COUNT can't be negative
        lpos l a maxlen -1 => (error) ERR MAXLEN can't be negative
        lpos l a rank 0 => (error) ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list
        lpos l a rank -9223372036854775808 => (error) ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
        "#,
    );
}

#[test]
fn changes() {
    check("lset l -1 z", "OK", &["lset l -1 z"], &["lset l"]);
    check("lset l 4 z", "(error) ERR index out of range", &[], &[]);
    check("lset none x z", "(error) ERR no such key", &[], &[]);
    check("lset l x z", "(error) ERR value is not an integer or out of range", &[], &[]);
    check("ltrim l 1 2", "OK", &["ltrim l 1 2"], &["ltrim l"]);
    check("ltrim l 0 -1", "OK", &[], &["ltrim l"]);
    check("ltrim l 5 9", "OK", &["ltrim l 5 9"], &["ltrim l", "del l"]);
    check("lrem l 0 a", "(integer) 2", &["lrem l 0 a"], &["lrem l"]);
    check("lrem l 0 nope", "(integer) 0", &[], &[]);
    check("linsert l before b x", "(integer) 5", &["linsert l before b x"], &["linsert l"]);
    check("linsert l after nope x", "(integer) -1", &[], &[]);
    check("linsert none after nope x", "(integer) 0", &[], &[]);
    check("linsert none beside nope x", "(error) ERR syntax error", &[], &[]);
    with_list("a b a c a").check(
        r#"
        lrem l -2 a => (integer) 2
        linsert l after b x => (integer) 4
        linsert l before a 7 => (integer) 5
        lrange l 0 -1 => ["7", "a", "b", "x", "c"]
        "#,
    );
}

#[test]
fn moves() {
    check("lmove l m left right", "\"a\"", &["lmove l m left right"], &["new m", "rpush m", "lpop l"]);
    check("rpoplpush l l", "\"a\"", &["rpoplpush l l"], &["lpush l", "rpop l"]);
    check("lmove none m left right", "(nil)", &[], &[]);
    check("lmove l m left up", "(error) ERR syntax error", &[], &[]);
    with_list("a").check("rpoplpush l l => \"a\"\n lrange l 0 -1 => [\"a\"]");
    with_list("a").check("lmove l m left left => \"a\"\n llen l => (integer) 0\n llen m => (integer) 1");
    let mut data = with_list("a");
    data.run("set s x");
    data.effects();
    let wrong = "(error) WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(data.run("lmove l s left left"), wrong);
    assert_eq!(data.run("llen l"), "(integer) 1", "nothing was taken");
    assert_eq!(data.effects(), [""; 0]);
}

#[test]
fn one_of_several_lists() {
    check("lmpop 2 none l left", "[\"l\", [\"a\"]]", &["LPOP l 1"], &["lpop l"]);
    check("lmpop 1 l right count 2", "[\"l\", [\"a\", \"c\"]]", &["RPOP l 2"], &["rpop l"]);
    let all = "[\"l\", [\"a\", \"b\", \"c\", \"a\"]]";
    check("blmpop 0 1 l left count 9", all, &["LPOP l 4"], &["lpop l", "del l"]);
    check("lmpop 1 none left", "(nil)", &[], &[]);
    with_list("a").check(
        r#"
        lmpop 0 l left => (error) ERR numkeys should be greater than 0
        lmpop x l left => (error) ERR numkeys should be greater than 0
        lmpop 9223372036854775807 l left => (error) ERR syntax error
        lmpop 2 l left => (error) ERR syntax error
        lmpop 1 l up => (error) ERR syntax error
        lmpop 1 l left count 0 => (error) ERR count should be greater than 0
        lmpop 1 l left count => (error) ERR syntax error
        lmpop 1 l left count 1 count 1 => (error) ERR syntax error
        blmpop -1 1 l left => (error) ERR timeout is negative
        "#,
    );
}

#[test]
fn waiting_calls_are_told_as_calls_that_do_not_wait() {
    check("blpop none l 0", "[\"l\", \"a\"]", &["LPOP l"], &["lpop l"]);
    check("brpop l 0.1", "[\"l\", \"a\"]", &["RPOP l"], &["rpop l"]);
    let events = &["new m", "lpush m", "rpop l"];
    check("blmove l m RIGHT LEFT 0", "\"a\"", &["LMOVE l m RIGHT LEFT"], events);
    check("brpoplpush l m 0", "\"a\"", &["RPOPLPUSH l m"], events);
    for line in
        ["blpop x y 0", "brpop x 1", "blmove x l left left 0", "brpoplpush x l 0", "blmpop 0 1 x left"]
    {
        check(line, "(blocked)", &[], &[]);
    }
    check("blpop l abc", "(error) ERR timeout is not a float or out of range", &[], &[]);
    check("blpop l -1", "(error) ERR timeout is negative", &[], &[]);
    check("blpop x 0x1", "(blocked)", &[], &[]);
    for timeout in ["0x7FFFFFFFFFFFFF", "1e400", "inf"] {
        check(&format!("blpop l {timeout}"), "(error) ERR timeout is out of range", &[], &[]);
    }
}
