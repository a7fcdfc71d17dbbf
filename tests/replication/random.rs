//! Servers of three makes replicate from each other, and load each other's files, after commands at random of every
//! family.
//!
//! Needs real servers: `VALKEY_SERVER=… REDIS_SERVER=… cargo test --test replication -- --ignored random`. `SEED=n` in the
//! environment repeats what a failure says.

use std::collections::BTreeSet;

use super::interoperation::copy_files;
use crate::common::dataset::{assert_looks_same, assert_same, functions};
use crate::common::proxy::Proxy;
use crate::common::random::{Commands, Dialect};
use crate::common::server::{Program, Server};
use crate::common::wait_until;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Make {
    Ours,
    Valkey,
    Redis,
}

use Make::{Ours, Redis, Valkey};

impl Make {
    fn program(self) -> Option<Program> {
        match self {
            Ours => Some(Program::ours()),
            Valkey => Program::valkey(),
            Redis => Program::redis(),
        }
    }
}

fn dialect(makes: &[Make]) -> Dialect {
    if makes.contains(&Redis) { Dialect::Redis7 } else { Dialect::Valkey9 }
}

fn assert_equal(one: (Make, &Server), other: (Make, &Server)) {
    // The digest of Redis 7.0 is another one.
    let same = if [one.0, other.0].contains(&Redis) { assert_looks_same } else { assert_same };
    same(one.1, other.1);
    assert_eq!(functions(&mut one.1.client()), functions(&mut other.1.client()));
}

/// That of the environment, or the given ones; each is said before it is used, for the case that it fails.
fn seeds(given: std::ops::Range<u64>) -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => given.collect(),
    }
}

/// A primary, its replica, and a replica of that: full syncs, streams, a cut link, a promotion in the middle.
fn chain(makes: [Make; 3], seed: u64) {
    let [first, second, third] = makes;
    let programs = makes.map(Make::program);
    let [Some(one), Some(two), Some(three)] = &programs else { return };
    eprintln!("{first:?} -> {second:?} -> {third:?}, SEED={seed}");
    let mut commands = Commands::new(seed, dialect(&makes));
    let diskless = if seed.is_multiple_of(2) { "yes" } else { "no" };
    let options = ["--repl-diskless-sync", diskless];
    let primary = Server::start_program(one, &options);
    let mut client = primary.client();
    commands.run(&mut client, 500);
    let proxy = Proxy::to(primary.port);
    let follow = |port: u16| format!("127.0.0.1 {port}");
    let replica = Server::start_program(two, &[&options[..], &["--replicaof", &follow(proxy.port)]].concat());
    // The sync goes on beside the stream.
    commands.run(&mut client, 100);
    replica.wait_for_link();
    let chained = Server::start_program(three, &["--replicaof", &follow(replica.port)]);
    commands.run(&mut client, 500);
    chained.wait_for_link();
    proxy.block();
    commands.run(&mut client, 50);
    proxy.unblock();
    wait_until("the sync goes on", || primary.info_number("sync_partial_ok") == 1);
    commands.run(&mut client, 300);
    replica.wait_for_offset_of(&primary);
    chained.wait_for_offset_of(&primary);
    assert_equal((first, &primary), (second, &replica));
    assert_equal((second, &replica), (third, &chained));
    replica.client().ok("REPLICAOF NO ONE");
    commands.run(&mut replica.client(), 200);
    chained.wait_for_offset_of(&replica);
    assert_equal((second, &replica), (third, &chained));
    assert_eq!(replica.info_number("sync_full"), 1, "the chained replica went on at the promotion");
}

/// What one wrote as RDB file and as AOF, read by the other.
fn files(writer: Make, reader: Make, seed: u64) {
    let (Some(writing), Some(reading)) = (writer.program(), reader.program()) else { return };
    eprintln!("{writer:?} writes, {reader:?} reads, SEED={seed}");
    for (options, save, running) in [
        (&["--appendonly", "yes", "--appendfsync", "always"][..], "BGREWRITEAOF", "aof_rewrite_in_progress"),
        (&["--appendonly", "yes", "--aof-use-rdb-preamble", "no"], "BGREWRITEAOF", "aof_rewrite_in_progress"),
        (&["--save", "3600 1"], "BGSAVE", "rdb_bgsave_in_progress"),
    ] {
        let mut commands = Commands::new(seed, dialect(&[writer, reader]));
        let mut written = Server::start_program(&writing, options);
        let mut client = written.client();
        commands.run(&mut client, 900);
        client.ok(save);
        commands.run(&mut client, 200);
        wait_until("it is written", || client.info(running) == "0");
        if save == "BGSAVE" {
            client.ok("SAVE");
        } else if !options.contains(&"always") {
            client.ok("CONFIG SET appendfsync always");
            commands.run(&mut client, 10);
        }
        written.kill();
        let copy = tempfile::tempdir().expect("a folder");
        copy_files(written.folder(), copy.path());
        written.restart();
        let read = Server::start_in(copy, &reading, options);
        assert_equal((writer, &written), (reader, &read));
    }
}

macro_rules! chains {
    ($($name:ident: $first:ident $second:ident $third:ident;)*) => {$(
        #[test]
        #[ignore = "needs real servers: see above"]
        fn $name() {
            for seed in seeds(1..3) {
                chain([$first, $second, $third], seed);
            }
        }
    )*};
}

// Valkey 9 writes snapshots that Redis 7.0 cannot read.
chains! {
    ours_ours_ours: Ours Ours Ours;
    ours_ours_valkey: Ours Ours Valkey;
    ours_ours_redis: Ours Ours Redis;
    ours_valkey_ours: Ours Valkey Ours;
    ours_valkey_valkey: Ours Valkey Valkey;
    ours_redis_ours: Ours Redis Ours;
    ours_redis_redis: Ours Redis Redis;
    ours_redis_valkey: Ours Redis Valkey;
    valkey_ours_ours: Valkey Ours Ours;
    valkey_ours_valkey: Valkey Ours Valkey;
    valkey_ours_redis: Valkey Ours Redis;
    valkey_valkey_ours: Valkey Valkey Ours;
    redis_ours_ours: Redis Ours Ours;
    redis_ours_valkey: Redis Ours Valkey;
    redis_ours_redis: Redis Ours Redis;
    redis_redis_ours: Redis Redis Ours;
    redis_valkey_ours: Redis Valkey Ours;
}

macro_rules! files {
    ($($name:ident: $writer:ident $reader:ident;)*) => {$(
        #[test]
        #[ignore = "needs real servers: see above"]
        fn $name() {
            for seed in seeds(11..13) {
                files($writer, $reader, seed);
            }
        }
    )*};
}

files! {
    ours_reads_ours: Ours Ours;
    valkey_reads_ours: Ours Valkey;
    redis_reads_ours: Ours Redis;
    ours_reads_valkeys: Valkey Ours;
    ours_reads_redis: Redis Ours;
}

/// The commands above are all that write, and do something.
#[test]
fn every_command_that_writes_is_tried() {
    // Those of clusters; MIGRATE needs a second server; RESTORE-ASKING is RESTORE; PFDEBUG is for tests.
    let left_out =
        ["cluster|flushslot", "migrate", "restore-asking", "pfdebug", "flushall", "function|flush"];
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut commands = Commands::new(1, Dialect::Valkey9);
    commands.run(&mut client, 6000);
    assert_eq!(commands.without_success(), Vec::<&str>::new());
    let calls = client.ok("INFO commandstats").text();
    let called: BTreeSet<&str> = calls
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    let all = client.ok("COMMAND LIST FILTERBY ACLCAT write");
    let writing = all.items().iter().map(crate::common::client::Reply::text);
    let missing: Vec<String> = writing
        .filter(|name| !called.contains(name.as_str()) && !left_out.contains(&name.as_str()))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}
