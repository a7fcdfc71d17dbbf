//! RDB files with bytes that were flipped, cut or put in, written by ours and by real servers in all their encodings: the
//! reader returns a dataset or an error. The checksum is not looked at, which would catch everything before it
//! gets interesting.

use std::panic::{AssertUnwindSafe, catch_unwind};

use understudy::keyspace::Settings;
use understudy::rdb::{self, LoadOptions};

use crate::common::dataset;
use crate::common::server::{Program, Server};

/// Broken files made of each sound one: `RDB_FILES`, or few enough for a normal run.
fn files() -> usize {
    std::env::var("RDB_FILES").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

fn load(mut bytes: &[u8]) -> Result<rdb::Loaded, rdb::RdbError> {
    let options = LoadOptions {
        databases: 16,
        settings: Settings::default(),
        now_ms: 1_000_000,
        drop_expired: false,
        checksum: false,
    };
    rdb::load(&mut bytes, &options, &mut |_, _| Ok(()))
}

/// What was loaded can also be used: walked through, written and read again. `false`: it was refused.
fn load_and_use(bytes: &[u8]) -> bool {
    let Ok(loaded) = load(bytes) else { return false };
    let functions = Default::default();
    let contents =
        rdb::Contents { keyspace: Some(loaded.keyspace.snapshot()), functions: &functions, scripts: &[] };
    let options =
        rdb::SaveOptions { compression: true, checksum: true, aux: &[], now_ms: 1_000_000, access: true };
    let mut written = Vec::new();
    rdb::save(contents, &options, &mut written, &mut |_| Ok(())).expect("into memory");
    let again = load(&written).expect("what was written can be read");
    assert_eq!(again.keyspace.len(), loaded.keyspace.len());
    true
}

/// The file of a server with values of all kinds, in the forms that `settings` leave them in.
fn file(program: &Program, settings: &[&str], field_expiry: bool) -> Vec<u8> {
    let server = Server::start_program(program, settings);
    let mut client = server.client();
    dataset::fill(&mut client, field_expiry);
    // One database is enough, and the large values are what real forms are for.
    for database in [3, 9] {
        client.ok(&format!("SELECT {database}"));
        client.ok("FLUSHDB");
    }
    client.ok("SELECT 0");
    for number in 20..200 {
        client.ok(&format!("DEL string:{number}"));
    }
    client.ok("DEL long");
    client.ok("SAVE");
    std::fs::read(server.folder().join("dump.rdb")).expect("a file")
}

fn break_in_many_ways(sound: &[u8], seed: u64) {
    assert!(load(sound).expect("a sound file").keys > 10);
    assert!(load_and_use(sound));
    let mut refused = 0;
    let mut random = fastrand::Rng::with_seed(seed);
    let files = files();
    for number in 0..files {
        let mut broken = sound.to_vec();
        for _ in 0..random.usize(1..4) {
            let place = random.usize(..broken.len());
            match random.u8(..6) {
                0 => broken.truncate(place.max(10)),
                1 => broken[place] = 0xff,
                2 => broken[place] = random.u8(..),
                3 => broken.insert(place, random.u8(..)),
                4 => drop(broken.remove(place)),
                _ => broken[place] ^= 1 << random.u8(..8),
            }
        }
        let result = catch_unwind(AssertUnwindSafe(|| load_and_use(&broken)));
        refused += usize::from(!result.unwrap_or_else(|_| panic!("seed {seed}, file {number}: it panicked")));
    }
    // Most, but not all: otherwise nothing was looked at.
    assert!((files / 8..files).contains(&refused), "{refused} of {files} were refused");
}

#[test]
fn of_ours() {
    break_in_many_ways(&file(&Program::ours(), &[], true), 1);
}

#[test]
fn of_valkey() {
    let Some(valkey) = Program::valkey() else { return };
    break_in_many_ways(&file(&valkey, &[], true), 2);
    let large =
        ["--hash-max-listpack-entries", "0", "--list-max-listpack-size", "16", "--rdbcompression", "no"];
    break_in_many_ways(&file(&valkey, &large, true), 3);
    let packed = [
        "--hash-max-listpack-entries",
        "1000",
        "--zset-max-listpack-entries",
        "1000",
        "--set-max-listpack-entries",
        "1000",
    ];
    break_in_many_ways(&file(&valkey, &[&packed[..], &["--rdbcompression", "no"]].concat(), false), 4);
}

#[test]
fn of_redis() {
    let Some(redis) = Program::redis() else { return };
    break_in_many_ways(&file(&redis, &["--rdbcompression", "no"], false), 5);
}
