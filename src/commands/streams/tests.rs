//! Replies, effects and events of stream commands. What they answer in general is compared with Valkey elsewhere.

use crate::commands::testing::TestData;

#[test]
fn adding() {
    let mut data = TestData::new();
    data.check(
        r#"
        xadd s nomkstream * a 1 => (nil)
        xadd s * a 1 => "1700000000000-0"
        xadd s * a 2 => "1700000000000-1"
        xadd s 1700000000000-* a 3 => "1700000000000-2"
        xadd s 1700000000001 a 4 => "1700000000001-0"
        xadd s 5 a 4 => (error) ERR The ID specified in XADD is equal or smaller than the target stream top item
        xadd s * a => (error) ERR wrong number of arguments for 'xadd' command
        xlen s => (integer) 4
        type s => stream
        object encoding s => "stream"
    "#,
    );
    assert_eq!(data.events(), ["new s", "xadd s", "xadd s", "xadd s", "xadd s"]);
    assert_eq!(
        data.effects(),
        [
            "xadd s 1700000000000-0 a 1",
            "xadd s 1700000000000-1 a 2",
            "xadd s 1700000000000-2 a 3",
            "xadd s 1700000000001 a 4"
        ]
    );
}

#[test]
fn trims_are_told_exactly() {
    let mut data = TestData::new();
    data.keyspace.set_settings(crate::keyspace::Settings {
        limits: crate::types::Limits { stream_node_max_entries: 10, ..Default::default() },
        ..*data.keyspace.settings()
    });
    for number in 1..=35 {
        data.run(&format!("xadd s {number} n {number}"));
    }
    data.effects();
    data.events();
    data.check(
        r#"
        xtrim s maxlen ~ 22 => (integer) 10
        xadd s maxlen ~ 12 limit 5 100 n n => "100-0"
        xadd s minid ~ 25 101 n n => "101-0"
        xtrim s maxlen ~ 100 => (integer) 0
        xtrim s minid 23 => (integer) 2
    "#,
    );
    assert_eq!(
        data.effects(),
        [
            "xtrim s maxlen = 25",
            "xadd s maxlen = 26 limit 5 100 n n",
            "xadd s minid = 21-0 101 n n",
            "xtrim s minid 23"
        ]
    );
    assert_eq!(data.events(), ["xtrim s", "xadd s", "xadd s", "xtrim s", "xtrim s"]);
}

#[test]
fn a_group_reads() {
    let mut data = TestData::new();
    for number in 1..=3 {
        data.run(&format!("xadd s {number} n {number}"));
    }
    data.run("xgroup create s g 0");
    data.effects();
    data.events();
    data.check(
        r#"
        xreadgroup group g one count 1 streams s > => [["s", [["1-0", ["n", "1"]]]]]
        xreadgroup group g two noack count 1 streams s > => [["s", [["2-0", ["n", "2"]]]]]
        xreadgroup group g one streams s 0 => [["s", [["1-0", ["n", "1"]]]]]
        xclaim s g two 0 1 => [["1-0", ["n", "1"]]]
        xpending s g => [(integer) 1, "1-0", "1-0", [["two", "1"]]]
        xpending s g - + 10 => [["1-0", "two", (integer) 0, (integer) 3]]
        xack s g 1 2 => (integer) 1
        xreadgroup group g one block 0 streams s > => [["s", [["3-0", ["n", "3"]]]]]
        xreadgroup group g one block 0 streams s > => (blocked)
        xread block 9223372036854775807 streams s $ => (error) ERR timeout is out of range
        xread block -1 streams s $ => (error) ERR timeout is negative
        xreadgroup group g one streams s > => (nil)
        xdel s 3 => (integer) 1
        xautoclaim s g two 0 0 => ["0-0", [], ["3-0"]]
        xgroup delconsumer s g two => (integer) 0
        xgroup destroy s g => (integer) 1
        xreadgroup group g one streams s > => (error) NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option
    "#,
    );
    let told = |id: u8, consumer: &str, count: u8, last: u8| {
        format!(
            "XCLAIM s g {consumer} 0 {id} TIME 1700000000000 RETRYCOUNT {count} FORCE JUSTID LASTID {last}-0"
        )
    };
    let claim = |id: u8, consumer: &str| {
        told(id, consumer, 1, id).replace(&format!(" 0 {id} "), &format!(" 0 {id}-0 "))
    };
    assert_eq!(
        data.effects(),
        [
            claim(1, "one"),
            "XGROUP SETID s g 1-0 ENTRIESREAD 1".to_owned(),
            "XGROUP CREATECONSUMER s g two".to_owned(),
            "XGROUP SETID s g 2-0 ENTRIESREAD 2".to_owned(),
            told(1, "two", 3, 2),
            "xack s g 1 2".to_owned(),
            claim(3, "one"),
            "XGROUP SETID s g 3-0 ENTRIESREAD 3".to_owned(),
            "xdel s 3".to_owned(),
            claim(3, "one"),
            "xgroup delconsumer s g two".to_owned(),
            "xgroup destroy s g".to_owned(),
        ]
    );
    assert_eq!(
        data.events(),
        [
            "xgroup-createconsumer s",
            "xgroup-createconsumer s",
            "xdel s",
            "xgroup-delconsumer s",
            "xgroup-destroy s"
        ]
    );
}

#[test]
fn reading_what_is_new() {
    let mut data = TestData::new();
    data.check(
        r#"
        xread streams s 0 => (nil)
        xread block 0 streams s $ => (blocked)
        xadd s 1 a 1 => "1-0"
        xadd s 2 a 2 => "2-0"
        xread streams s + => [["s", [["2-0", ["a", "2"]]]]]
        xread count 1 streams s t 0 0 => [["s", [["1-0", ["a", "1"]]]]]
        xread streams s 2 => (nil)
        xread streams s > => (error) ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.
        xread streams s t 0 => (error) ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.
    "#,
    );
}
