//! Replies, effects and events as Valkey 9.1.2 gives them.

use crate::commands::testing::TestData;
use crate::keyspace::{AccessPolicy, Settings};

const WRONG_INDEX: &str = "(error) ERR DB index is out of range";

#[test]
fn asking() {
    let mut data = TestData::new();
    data.check(
        r#"
        mset one 1 two 2 three 3 => OK
        exists one one nothing two => (integer) 3
        touch one nothing => (integer) 1
        type one => string
        type nothing => none
        sadd s a => (integer) 1
        type s => set
        zadd z 1 a => (integer) 1
        type z => zset
        keys t?o => ["two"]
        keys nothing => []
        dbsize => (integer) 5
        del one two three s nothing => (integer) 4
        randomkey => "z"
        keys * => ["z"]
        unlink z z => (integer) 1
        randomkey => (nil)
        dbsize => (integer) 0
        "#,
    );
    assert_eq!(data.effects()[3..], ["del one two three s nothing", "unlink z z"]);
    assert!(data.events().ends_with(&["del s".to_owned(), "del z".to_owned()]));
}

#[test]
fn expired_keys_are_gone() {
    let mut data = TestData::new();
    data.run("mset a 1 b 1");
    data.run("pexpire a 1");
    data.now_ms += 1;
    data.check(
        r#"
        keys * => ["b"]
        exists a => (integer) 0
        randomkey => "b"
        rename a c => (error) ERR no such key
        "#,
    );
    data.effects();
    data.check("del b => (integer) 1");
    data.check("del b => (integer) 0");
    assert_eq!(data.effects(), ["del b"]);
}

#[test]
fn object() {
    let mut data = TestData::new();
    data.check(
        r#"
        set n 5 => OK
        object encoding n => "int"
        object ENCODING nothing => (nil)
        object refcount n => (integer) 1
        object refcount nothing => (nil)
        object idletime n => (integer) 0
        object freq nothing => (nil)
        object encoding => (error) ERR wrong number of arguments for 'object|encoding' command
        "#,
    );
    data.now_ms += 12_345;
    data.check("object idletime n => (integer) 12");
    data.check("type n => string");
    data.check("object idletime n => (integer) 12");
    data.check("get n => \"5\"");
    data.check("object idletime n => (integer) 0");
    assert_eq!(
        data.run("object freq n"),
        "(error) ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
         switching between policies at runtime LRU and LFU data will take some time to adjust."
    );
    let access = AccessPolicy::Lfu { log_factor: 10, decay_minutes: 1 };
    data.keyspace.set_settings(Settings { access, ..*data.keyspace.settings() });
    data.check("set m 5 => OK");
    data.check("object freq m => (integer) 5");
    assert_eq!(
        data.run("object idletime m"),
        "(error) ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
         policies at runtime LRU and LFU data will take some time to adjust."
    );
    assert!(
        data.run("object help")
            .starts_with("[OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:, ")
    );
}

#[test]
fn renaming() {
    let mut data = TestData::new();
    data.check(
        r#"
        rename nothing x => (error) ERR no such key
        set a 1 ex 10 => OK
        rename a a => OK
        renamenx a a => (integer) 0
        set b 2 => OK
        renamenx a b => (integer) 0
        rename a b => OK
        get b => "1"
        ttl b => (integer) 10
        exists a => (integer) 0
        renamenx b c => (integer) 1
        "#,
    );
    assert_eq!(data.effects()[2..], ["rename a b", "renamenx b c"]);
    assert_eq!(
        data.events()[5..],
        ["new b", "rename_from a", "rename_to b", "new c", "rename_from b", "rename_to c"].map(str::to_owned)
    );
}

#[test]
fn moving_and_copying() {
    let mut data = TestData::new();
    data.check(
        r#"
        move a 0 => (error) ERR source and destination objects are the same
        move a 99 => (error) ERR DB index is out of range
        move a -1 => (error) ERR DB index is out of range
        move a 99999999999 => (error) ERR value is out of range, value must between -2147483648 and 2147483647
        move a x => (error) ERR value is not an integer or out of range
        move a 1 => (integer) 0
        set a 1 ex 10 => OK
        move a 1 => (integer) 1
        exists a => (integer) 0
        set a 2 => OK
        move a 1 => (integer) 0
        copy a a => (error) ERR source and destination objects are the same
        copy nothing b => (integer) 0
        copy a b => (integer) 1
        copy a b => (integer) 0
        set a 3 => OK
        copy a b replace => (integer) 1
        get b => "3"
        copy a a db 1 => (integer) 0
        copy a a db 1 replace => (integer) 1
        copy a d db 99 => (error) ERR DB index is out of range
        copy a d db x => (error) ERR value is not an integer or out of range
        copy a d db => (error) ERR syntax error
        copy a d foo => (error) ERR syntax error
        "#,
    );
    assert_eq!(
        data.effects()[1..],
        ["move a 1", "set a 2", "copy a b", "set a 3", "copy a b replace", "copy a a db 1 replace"]
    );
    let events = data.events();
    assert_eq!(events[3..6], ["1:new a", "move_from a", "1:move_to a"]);
    assert_eq!(events[events.len() - 4..], ["new b", "copy_to b", "1:new a", "1:copy_to a"]);
    data.database = 1;
    data.check("get a => \"3\"");
    data.check("ttl a => (integer) -1");
}

#[test]
fn whole_databases() {
    let mut data = TestData::new();
    data.check(
        r#"
        set a 1 => OK
        swapdb 0 1 => OK
        dbsize => (integer) 0
        swapdb 0 0 => OK
        swapdb 0 99 => (error) ERR DB index is out of range
        swapdb x 1 => (error) ERR invalid first DB index
        swapdb 1 99999999999 => (error) ERR invalid second DB index
        flushdb foo => (error) ERR syntax error
        flushdb sync async => (error) ERR syntax error
        flushdb => OK
        "#,
    );
    data.database = 1;
    data.check("dbsize => (integer) 1");
    assert_eq!(data.run("swapdb 0 -1"), WRONG_INDEX);
    data.check("flushdb ASYNC => OK");
    data.check("dbsize => (integer) 0");
    data.check("flushall SYNC => OK");
    assert_eq!(
        data.effects(),
        ["set a 1", "swapdb 0 1", "swapdb 0 0", "flushdb", "1:flushdb ASYNC", "1:flushall SYNC"]
    );
}

#[test]
fn large_values_are_dropped_elsewhere() {
    let mut data = TestData::new();
    let members: String = (0..100).map(|number| format!(" member:{number}")).collect();
    data.run(&format!("sadd large{members}"));
    data.run("sadd small a b c");
    data.run("del small");
    assert!(data.state.garbage.is_empty());
    data.run("del large");
    assert_eq!(data.state.garbage.take().len(), 1);
    data.run(&format!("sadd large{members}"));
    data.run("set large v");
    assert_eq!(data.state.garbage.take().len(), 1);
    data.run("set other v");
    data.run("flushall");
    assert_eq!(data.state.garbage.take().len(), 2);
    assert!(data.state.garbage.is_empty());
}
