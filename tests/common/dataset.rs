//! A dataset of every kind of value, and the comparison of whole datasets by what clients can see.

use std::collections::BTreeMap;

use super::client::{Client, Reply};
use super::server::Server;
use super::wait_within;

/// Writes every type in both its small and its large form, in several databases, with and without a time to live.
/// `field_expiry`: hashes whose fields expire, which only Valkey 9 knows.
pub fn fill(client: &mut Client, field_expiry: bool) {
    for database in [0, 3, 9] {
        client.ok(&format!("SELECT {database}"));
        for number in 0..200 {
            client.ok(&format!("SET string:{number} value:{number}"));
        }
        client.ok("SET integer 12345678901");
        client.call_args(&[&b"SET"[..], b"bytes\r\n\0key", &[0, 255, 13, 10, 128]]);
        client.call_args(&[&b"SET"[..], b"long", &vec![b'x'; 100_000]]);
        client.ok("SET forever 1 PX 100000000");
        client.ok("SET float 3.0");
        client.ok("INCRBYFLOAT float 0.25");
        for size in [3, 700] {
            for start in (0..size).step_by(100) {
                let mut calls = [
                    vec!["RPUSH".to_owned(), format!("list:{size}")],
                    vec!["SADD".to_owned(), format!("set:{size}")],
                    vec!["SADD".to_owned(), format!("integers:{size}")],
                    vec!["HSET".to_owned(), format!("hash:{size}")],
                    vec!["ZADD".to_owned(), format!("sorted:{size}")],
                ];
                for number in start..(start + 100).min(size) {
                    calls[0].push(format!("element:{number}"));
                    calls[1].push(format!("member:{number}"));
                    calls[2].push((number * 1_000_003).to_string());
                    calls[3].extend([format!("field:{number}"), format!("value:{number}")]);
                    calls[4].extend([format!("{}", f64::from(number) / 7.0), format!("member:{number}")]);
                }
                for call in calls {
                    let reply = client.call_args(&call);
                    assert!(!reply.is_error(), "{reply:?}");
                }
            }
        }
        for size in [3, 700] {
            for number in 1..=size {
                client.ok(&format!(
                    "XADD stream:{size} {number}-{} field value:{number} other {number}",
                    number % 3
                ));
            }
            client.ok(&format!("XDEL stream:{size} 2-2 600-0"));
            client.ok(&format!("XGROUP CREATE stream:{size} readers 0"));
            client.ok(&format!("XGROUP CREATE stream:{size} idlers $"));
            client.ok(&format!("XREADGROUP GROUP readers one COUNT 40 STREAMS stream:{size} >"));
            client.ok(&format!("XGROUP CREATECONSUMER stream:{size} readers sleeper"));
        }
        client.ok("XGROUP CREATE stream:empty readers $ MKSTREAM");
        client.ok("ZADD extremes -inf a inf b 0 c -0.0 d 1e300 e 5e-324 f");
        client.ok("PEXPIRE set:700 200000000");
        if field_expiry {
            client.ok("HSET expiring a 1 b 2 c 3");
            client.ok("HPEXPIRE expiring 300000000 FIELDS 1 b");
        }
    }
    client.ok("SELECT 0");
}

/// What clients can see of a dataset: by database and key, the type, the time at which it expires, and the value.
pub type Seen = BTreeMap<(usize, Vec<u8>), (String, i64, Reply)>;

/// Reads everything, by RESP2. Leaves the connection at database 0.
pub fn read(client: &mut Client) -> Seen {
    let mut seen = Seen::new();
    for database in 0..16 {
        client.ok(&format!("SELECT {database}"));
        let Reply::Array(keys) = client.ok("KEYS *") else { panic!("no keys") };
        for key in keys {
            let Reply::Bulk(key) = key else { panic!("no key") };
            let mut ask = |words: &[&[u8]]| client.call_args(words);
            let kind = ask(&[b"TYPE", &key]).text();
            let expires = ask(&[b"PEXPIRETIME", &key]).integer();
            let value = match kind.as_str() {
                "string" => ask(&[b"GET", &key]),
                "list" => ask(&[b"LRANGE", &key, b"0", b"-1"]),
                "set" => ask(&[b"SMEMBERS", &key]).sorted(),
                "zset" => numbers(ask(&[b"ZRANGE", &key, b"0", b"-1", b"WITHSCORES"])),
                "hash" => {
                    let all = ask(&[b"HGETALL", &key]);
                    let fields = all.items().chunks(2).map(|pair| {
                        let Reply::Bulk(field) = &pair[0] else { panic!("no field") };
                        // Unknown to servers without fields that expire.
                        let expires = ask(&[b"HPEXPIRETIME", &key, b"FIELDS", b"1", field]);
                        let expires = if expires.is_error() { -1 } else { expires.items()[0].integer() };
                        Reply::Array([pair, &[Reply::Line(expires.to_string().into_bytes())]].concat())
                    });
                    Reply::Array(fields.collect()).sorted()
                }
                "stream" => stream(&key, &mut ask),
                // Expired or deleted since KEYS.
                "none" => continue,
                other => panic!("a key of type {other}"),
            };
            seen.insert((database, key), (kind, expires, value));
        }
    }
    client.ok("SELECT 0");
    seen
}

/// The libraries of functions, with their code.
pub fn functions(client: &mut Client) -> Reply {
    client.ok("FUNCTION LIST WITHCODE").sorted()
}

/// The entries of a stream, and of its groups what every server tells replicas.
fn stream(key: &[u8], ask: &mut impl FnMut(&[&[u8]]) -> Reply) -> Reply {
    let mut parts = vec![ask(&[b"XRANGE", key, b"-", b"+"])];
    for group in ask(&[b"XINFO", b"GROUPS", key]).items() {
        // Not how many entries it has read, nor how many consumers there are: one that got nothing so far is not told.
        let [_, name_reply, _, _, _, pending, _, last, ..] = group.items() else { panic!("no group") };
        let Reply::Bulk(name) = name_reply else { panic!("no name") };
        parts.push(Reply::Array(vec![name_reply.clone(), pending.clone(), last.clone()]));
        parts.push(ask(&[b"XPENDING", key, name]));
        for pending in ask(&[b"XPENDING", key, name, b"-", b"+", b"1000"]).items() {
            let [id, owner, _idle, count] = pending.items() else { panic!("no pending entry") };
            parts.push(Reply::Array(vec![id.clone(), owner.clone(), count.clone()]));
        }
    }
    Reply::Array(parts)
}

/// Scores in one spelling: servers differ in how many digits they write.
fn numbers(reply: Reply) -> Reply {
    let mut items = reply.items().to_vec();
    for score in items.iter_mut().skip(1).step_by(2) {
        let number: f64 = score.text().parse().expect("a score");
        *score = Reply::Bulk(format!("{number:e}").into_bytes());
    }
    Reply::Array(items)
}

/// Panics unless both hold the same, by everything that clients can see and by Valkey's digest. What one writes may
/// still be on its way to the other.
pub fn assert_same(one: &Server, other: &Server) {
    assert_looks_same(one, other);
    // Seldom, what a client cannot see any more is still there.
    let digest = |server: &Server| server.call("DEBUG DIGEST").text();
    if wait_within(super::PATIENCE, || (digest(one) == digest(other)).then_some(())).is_some() {
        return;
    }
    let (mut one, mut other) = (one.client(), other.client());
    let value = |client: &mut Client, database: usize, key: &[u8]| {
        client.ok(&format!("SELECT {database}"));
        client.call_args(&[&b"DEBUG"[..], b"DIGEST-VALUE", key])
    };
    let seen = read(&mut one);
    let keys = seen
        .keys()
        .filter(|(database, key)| value(&mut one, *database, key) != value(&mut other, *database, key));
    let keys: Vec<_> = keys.map(|(database, key)| (database, key.escape_ascii().to_string())).collect();
    panic!("equal to clients, but not by digest: {keys:?}");
}

/// Panics unless clients see the same in both: for servers whose digests are made in another way.
pub fn assert_looks_same(one: &Server, other: &Server) {
    let (mut one, mut other) = (one.client(), other.client());
    let (mut left, mut right) = (read(&mut one), read(&mut other));
    wait_within(super::PATIENCE, || {
        if left != right {
            (left, right) = (read(&mut one), read(&mut other));
        }
        (left == right).then_some(())
    });
    let differing: Vec<_> = left
        .iter()
        .filter(|(key, value)| right.get(*key) != Some(*value))
        .map(|(key, value)| (key, value, right.get(key)))
        .take(5)
        .collect();
    assert!(differing.is_empty(), "the datasets differ: {differing:?}");
    assert_eq!(left.len(), right.len(), "one has keys that the other has not");
}
