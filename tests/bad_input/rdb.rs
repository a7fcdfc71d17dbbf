//! RDB files with bytes that were flipped, cut or put in, written by ours and by real servers in all their encodings: the
//! reader returns a dataset or an error. The checksum is not looked at, which would catch everything before it
//! gets interesting.

use std::panic::{AssertUnwindSafe, catch_unwind};

use understudy::keyspace::Settings;
use understudy::rdb::{self, LoadOptions};

use crate::common::dataset;
use crate::common::server::{Program, Server};

fn load(mut bytes: &[u8]) -> Result<u64, rdb::RdbError> {
    let options = LoadOptions {
        databases: 16,
        settings: Settings::default(),
        now_ms: 1_000_000,
        drop_expired: false,
        checksum: false,
    };
    rdb::load(&mut bytes, &options, &mut |_, _| Ok(())).map(|loaded| {
        // What was loaded can also be used: walked through and written again.
        let functions = Default::default();
        let contents =
            rdb::Contents { keyspace: Some(&loaded.keyspace), functions: &functions, scripts: &[] };
        let options = rdb::SaveOptions { compression: true, checksum: true, aux: &[], now_ms: 1_000_000 };
        let mut written = Vec::new();
        rdb::save(contents, &options, &mut written, &mut |_| Ok(())).expect("into memory");
        loaded.keys
    })
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
    for number in 5..200 {
        client.ok(&format!("DEL string:{number}"));
    }
    client.ok("DEL long");
    client.ok("SAVE");
    std::fs::read(server.folder().join("dump.rdb")).expect("a file")
}

fn break_in_many_ways(sound: &[u8], seed: u64) {
    assert!(load(sound).expect("a sound file") > 10);
    let mut random = fastrand::Rng::with_seed(seed);
    for number in 0..400 {
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
        // An error is as good as a dataset.
        let result = catch_unwind(AssertUnwindSafe(|| load(&broken).is_ok()));
        assert!(result.is_ok(), "seed {seed}, file {number}: the reader panicked");
    }
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
