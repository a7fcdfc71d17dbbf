//! Replies, effects and events as Valkey 9.1.2 gives them.

use crate::commands::testing::TestData;
use crate::keyspace::{Settings, WriteTxn};

#[test]
fn setting() {
    let mut data = TestData::new();
    data.check(
        r#"
        expire nothing 10 => (integer) 0
        expire nothing x => (error) ERR value is not an integer or out of range
        set c 1 => OK
        expire c 10 => (integer) 1
        ttl c => (integer) 10
        pexpire c 1500 => (integer) 1
        pttl c => (integer) 1500
        ttl c => (integer) 2
        expireat c 1700000100 => (integer) 1
        expiretime c => (integer) 1700000100
        PExpireAt c 1700000100499 => (integer) 1
        expiretime c => (integer) 1700000100
        pexpiretime c => (integer) 1700000100499
        persist c => (integer) 1
        persist c => (integer) 0
        persist nothing => (integer) 0
        ttl c => (integer) -1
        pttl nothing => (integer) -2
        expiretime c => (integer) -1
        pexpiretime nothing => (integer) -2
        expire c 9223372036854775807 => (error) ERR invalid expire time in 'expire' command
        expire c -9223372036854775807 => (error) ERR invalid expire time in 'expire' command
        pexpire c 9223372036854775807 => (error) ERR invalid expire time in 'pexpire' command
        expireat c 9223372036854775807 => (error) ERR invalid expire time in 'expireat' command
        pexpireat c 9223372036854775807 => (integer) 1
        pexpiretime c => (integer) 9223372036854775807
        expire c 10 foo => (error) ERR Unsupported option foo
        "#,
    );
    assert_eq!(
        data.effects(),
        [
            "set c 1",
            "PEXPIREAT c 1700000010000",
            "PEXPIREAT c 1700000001500",
            "PEXPIREAT c 1700000100000",
            "PExpireAt c 1700000100499",
            "persist c",
            "pexpireat c 9223372036854775807"
        ]
    );
    let events = data.events();
    assert_eq!(events[..3], ["new c", "set c", "expire c"]);
    assert!(events.contains(&"persist c".to_owned()));
}

#[test]
fn conditions() {
    let mut data = TestData::new();
    data.check(
        r#"
        set c 1 => OK
        expire c 10 xx => (integer) 0
        expire c 10 gt => (integer) 0
        expire c 10 lt => (integer) 1
        persist c => (integer) 1
        expire c 10 NX => (integer) 1
        expire c 10 nx => (integer) 0
        expire c 10 gt => (integer) 0
        expire c 20 gt => (integer) 1
        expire c 20 lt => (integer) 0
        expire c 10 lt xx => (integer) 1
        expire c 30 xx gt => (integer) 1
        expire c 10 lt gt => (error) ERR GT and LT options at the same time are not compatible
        expire c 10 nx gt => (error) ERR NX and XX, GT or LT options at the same time are not compatible
        expire c 10 nx xx => (error) ERR NX and XX, GT or LT options at the same time are not compatible
        "#,
    );
    assert_eq!(
        data.effects()[1..],
        [
            "PEXPIREAT c 1700000010000 lt",
            "persist c",
            "PEXPIREAT c 1700000010000 NX",
            "PEXPIREAT c 1700000020000 gt",
            "PEXPIREAT c 1700000010000 lt xx",
            "PEXPIREAT c 1700000030000 xx gt"
        ]
    );
}

#[test]
fn a_moment_in_the_past_deletes() {
    let mut data = TestData::new();
    data.check(
        r#"
        mset a 1 b 1 c 1 d 1 => OK
        expire a -1 => (integer) 1
        expireat b 1 => (integer) 1
        pexpireat c 1 nx => (integer) 1
        pexpire d 0 => (integer) 1
        dbsize => (integer) 0
        "#,
    );
    assert_eq!(data.effects()[1..], ["UNLINK a", "UNLINK b", "UNLINK c", "UNLINK d"]);
    assert!(data.events().ends_with(&["expired c".to_owned(), "expired d".to_owned()]));
    let mut settings: Settings = *data.keyspace.settings();
    settings.lazy_free.expire = false;
    data.keyspace.set_settings(settings);
    data.check("set a 1 => OK");
    data.check("expire a 0 => (integer) 1");
    assert_eq!(data.effects(), ["set a 1", "DEL a"]);
}

#[test]
fn time_passes() {
    let mut data = TestData::new();
    data.run("set k v px 1000");
    data.now_ms += 999;
    data.check("ttl k => (integer) 0");
    data.now_ms += 1;
    data.check("ttl k => (integer) -2");
    data.effects();
    data.check("persist k => (integer) 0");
    assert_eq!(data.effects(), ["UNLINK k"]);
}

#[test]
fn a_key_expires_once_however_often_its_time_was_moved() {
    let mut data = TestData::new();
    data.check("set k v px 3000 => OK");
    data.check("pexpire k 2000 => (integer) 1");
    data.check("pexpire k 1000 => (integer) 1");
    data.effects();
    data.now_ms += 10_000;
    let mut transaction = WriteTxn::new(&mut data.keyspace, &mut data.state, 0, data.now_ms);
    transaction.expire_due(100);
    assert_eq!(data.effects(), ["UNLINK k"]);
    assert_eq!(data.state.expired_keys, 1);
}
