//! Sound samples with bytes that were flipped, cut, put in or doubled, for every reader of `inputs`: clear errors, no panic, and
//! what is read after all is used. `MUTATIONS` says how many of each sample; one seed replays exactly.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::common::client::Reply;
use crate::inputs::{self, Reader};
use crate::with_data;

fn count() -> usize {
    std::env::var("MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// One to four changes.
fn mutate(sample: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..random.usize(1..=4) {
        if bytes.is_empty() {
            bytes.push(random.u8(..));
            continue;
        }
        let at = random.usize(..bytes.len());
        match random.u8(..7) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes[at] = random.u8(..),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.u8(..)),
            4 => drop(bytes.remove(at)),
            5 => {
                let end = (at + random.usize(1..20)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            // A digit of a length.
            _ => {
                if let Some(digit) = bytes[at..].iter().position(u8::is_ascii_digit) {
                    bytes[at + digit] = b"0123456789-"[random.usize(..11)];
                }
            }
        }
    }
    bytes
}

/// The samples are sound, and of the broken ones some are refused and none does harm.
fn check(name: &str, reader: Reader, samples: &[&[u8]]) {
    let mut refused = 0;
    for (index, sample) in samples.iter().enumerate() {
        assert!(reader(sample), "{name}: sample {index} is sound");
        for seed in 0..count() as u64 {
            let broken = mutate(sample, &mut fastrand::Rng::with_seed(seed));
            match catch_unwind(AssertUnwindSafe(|| reader(&broken))) {
                Ok(read) => refused += usize::from(!read),
                Err(_) => {
                    panic!("{name}: sample {index}, seed {seed}: {:?}", broken.escape_ascii().to_string())
                }
            }
        }
    }
    assert!(refused > 0, "{name}: everything is read");
}

const MANIFEST: &[u8] = b"file appendonly.aof.2.base.rdb seq 2 type b\nfile \"a b.aof\" seq 1 type h\n\
    file appendonly.aof.3.incr.aof seq 3 type i\nfile appendonly.aof.4.incr.aof seq 4 type i\n";
const INCR: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n#TS:1700000000\r\n*1\r\n$5\r\nMULTI\r\n\
    *3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n*1\r\n$4\r\nEXEC\r\n*1\r\n$4\r\nPING\r\n";

#[test]
fn files_of_the_aof() {
    check("manifest", inputs::manifest, &[MANIFEST]);
    check("incr file", inputs::incr_file, &[INCR]);
    let state = understudy::stream::aof::StreamState {
        replid: vec![b'a'; 40],
        replid2: vec![b'0'; 40],
        second_offset: Some(12),
        incrs: vec![understudy::stream::aof::IncrStart { sequence: 300, offset: 1 << 40 }],
    };
    check("stream state", inputs::stream_state, &[&state.encode().expect("encoded")]);
    // No configured primary, the role of a replica, a history: as bincode lays them out.
    let role = [&[0, 1, 1, b'b', 251, 0xEB, 0x18, 40][..], &[b'7'; 40]].concat();
    check("role file", inputs::role_file, &[&role, &[0, 0, 0]]);
}

#[test]
fn configurations_and_rules() {
    let file = b"# a comment\nport 7000\nsave 900 1 300 10\nmaxmemory 100mb\nrename-command FLUSHALL \"\"\n\
        client-output-buffer-limit replica 256mb 64mb 60\nuser alice on >secret ~k* +@read\nreplicaof 10.0.0.1 6379\n";
    check("configuration", inputs::configuration, &[file]);
    let rules: &[&[u8]] = &[
        b"on >secret ~key:* %R~read:* %W~write:* &news.* +@all -@dangerous +config|get",
        b"off nopass resetchannels allkeys +get -set (~a* +@write) (%RW~b +del)",
    ];
    check("ACL rules", inputs::acl_rules, rules);
    check("glob", inputs::glob_pattern, &[b"h?[a-c]l*\\*o\nhealth*o", b"*a*a*a*a*b\naaaaaaaaab"]);
}

#[test]
fn scripts_and_what_they_decode() {
    let samples: &[&[u8]] = &[
        b"local t = {} for i = 1, 10 do t[i] = i * 2 end return cjson.encode({a = t, b = 'text'})",
        b"#!lua flags=no-writes\nreturn string.format('%5.2f %s', 1.5, table.concat({1, 2, 3}, ','))",
        b"return cmsgpack.unpack(cmsgpack.pack({1, {a = true}, 'x', -1.5}))",
    ];
    check("script", inputs::script, samples);
}

#[test]
fn requests_and_a_primary() {
    check("requests", inputs::requests, &[INCR.split_at(23).0, b"SET \"a b\" 'c'\r\nPING\r\n"]);
    let id = "b".repeat(40);
    let full = format!("+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC {id} 100\r\n$5\r\nREDIS");
    let marked = format!(
        "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC {id} 7\r\n$EOF:{id}\r\nREDIS{id}*1\r\n$4\r\nPING\r\n"
    );
    let part = format!("+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+CONTINUE {id}\r\n*1\r\n$4\r\nPING\r\n");
    check("primary", inputs::primary, &[full.as_bytes(), marked.as_bytes(), part.as_bytes()]);
}

/// Payloads of all types, as a server dumps them.
#[test]
fn payloads() {
    let server = with_data(&[]);
    let mut client = server.client();
    for words in [
        "XADD stream * f v",
        "XGROUP CREATE stream g 0",
        "XREADGROUP GROUP g c STREAMS stream >",
        "HEXPIRE hash 1000 FIELDS 1 f",
        "PFADD log a b c",
        "SADD numbers 1 2 3",
    ] {
        client.call(words);
    }
    for key in ["kept", "list", "hash", "sorted", "set", "stream", "log", "numbers"] {
        let Reply::Bulk(payload) = client.call(&format!("DUMP {key}")) else { panic!("{key} is there") };
        // Without its end, which the reader puts behind it again.
        check(key, inputs::restore, &[&payload[..payload.len() - 10]]);
        // On the server a broken end is found out before anything else.
        for seed in 0..20 {
            let broken = mutate(&payload, &mut fastrand::Rng::with_seed(seed));
            let reply = client.call_args(&[&b"RESTORE"[..], b"new", b"0", &broken, b"REPLACE"]);
            assert!(broken == payload || reply.is_error(), "{key}, seed {seed}");
        }
    }
    crate::assert_kept(&server);
}
