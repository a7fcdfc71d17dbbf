//! Random units of commands on a dataset without a server, rolled back at a random point.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use proptest::prelude::*;
use understudy::command::{CommandTable, Handler};
use understudy::commands::FAMILIES;
use understudy::keyspace::{
    Digest, EventClasses, KeyExpiry, Keyspace, Reader, Settings, ValueRef, WatchFlag, WriteState, WriteTxn,
};
use understudy::protocol::Protocol;
use understudy::rdb::dump;

use crate::generate::Generator;

const DATABASES: usize = 3;
const START_MS: u64 = 1_700_000_000_000;

/// A dataset, what stands beside it, and clients that watch and wait.
struct World {
    keyspace: Keyspace,
    state: WriteState,
    table: CommandTable<Infallible>,
    generator: Generator,
    random: fastrand::Rng,
    database: usize,
    now_ms: u64,
    flags: Vec<WatchFlag>,
}

/// All of it that anybody could see.
#[derive(Debug, PartialEq)]
struct Picture {
    digest: String,
    /// By database and key: the value with its form, and when it expires.
    entries: BTreeMap<(usize, Vec<u8>), (String, &'static str, Option<u64>)>,
    expiring: Vec<usize>,
    /// By database, key and field.
    field_expiries: BTreeMap<(usize, Vec<u8>, Vec<u8>), i64>,
    flags: Vec<bool>,
    queues: Vec<Vec<u64>>,
    ready: bool,
    counters: [u64; 3],
    is_silent: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let events = EventClasses::ALL.and(EventClasses::NEW).and(EventClasses::KEYEVENT);
        let mut state = WriteState::default();
        state.effects.set_recording(true);
        state.tracking = true;
        let mut world = World {
            keyspace: Keyspace::new(DATABASES, Settings { events, ..Settings::default() }),
            state,
            table: CommandTable::new(FAMILIES, &[]),
            generator: Generator::new(seed),
            random: fastrand::Rng::with_seed(seed),
            database: 0,
            now_ms: START_MS,
            flags: Vec::new(),
        };
        let keys = keys();
        for (client, key) in keys.iter().enumerate() {
            let database = client % DATABASES;
            let flag = WatchFlag::default();
            world.state.watchers.add(&flag, database, key, false);
            world.flags.push(flag);
            world.state.waited.wait(client as u64, database, key);
            world.state.waited.wait(1000 + client as u64, (database + 1) % DATABASES, key);
        }
        world
    }

    /// Runs a random call, if it is one of the data commands. Time goes on now and then.
    fn random_call(&mut self) -> Vec<Vec<u8>> {
        match self.random.u8(..40) {
            0 => self.database = self.random.usize(..DATABASES),
            1..6 => self.now_ms += self.random.u64(..3000),
            _ => {}
        }
        let words = |text: &str| text.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        let key = String::from_utf8_lossy(&self.generator_key()).into_owned();
        let call = match self.random.u8(..60) {
            0 => words("FLUSHALL"),
            1 => words("FLUSHDB"),
            2 => words("SWAPDB 0 1"),
            3 => words("SWAPDB 1 2"),
            // What expires within the test.
            4..8 => words(&format!("PEXPIRE {key} {}", self.random.u16(1..5000))),
            8 => words(&format!("PSETEX {key} {} v", self.random.u16(1..5000))),
            9 => words(&format!("HPEXPIRE {key} {} FIELDS 2 f1 f2", self.random.u16(1..5000))),
            10 => words(&format!("SPOP {key} 2")),
            11 => words(&format!("MOVE {key} 1")),
            12 => words(&format!("COPY {key} copy DB 2 REPLACE")),
            // Large enough to be dropped elsewhere.
            13 => {
                let mut call = words(&format!("SADD {key}"));
                call.extend((0..200).map(|member: u32| member.to_string().into_bytes()));
                call
            }
            _ => self.generator.next_call(),
        };
        self.call(&call);
        call
    }

    fn generator_key(&mut self) -> Vec<u8> {
        let keys = keys();
        keys[self.random.usize(..keys.len())].clone()
    }

    fn call(&mut self, call: &[Vec<u8>]) {
        let args: Vec<&[u8]> = call.iter().map(Vec::as_slice).collect();
        let Some(mut entry) = self.table.find(args[0]) else { return };
        if matches!(entry.handler, Handler::Container) {
            let Some(sub) = args.get(1).and_then(|word| self.table.subcommand(entry, word)) else { return };
            entry = sub;
        }
        if !entry.arity_fits(args.len()) {
            return;
        }
        let handler = entry.handler;
        if let Handler::Read(function) = handler {
            let reader = Reader {
                keyspace: &self.keyspace,
                database: self.database,
                now_ms: self.now_ms,
                protocol: Protocol::Resp2,
                expiry: KeyExpiry::Delete,
                touch: true,
                counters: None,
            };
            drop(function(&reader, &args));
            return;
        }
        let mut transaction = WriteTxn::new(&mut self.keyspace, &mut self.state, self.database, self.now_ms);
        transaction.protocol = Protocol::Resp2;
        // Errors leave what was done before them.
        let _ = transaction.call(&args, |transaction| match handler {
            Handler::Write(function) => function(transaction, &args).map(drop),
            Handler::Blocking(function) => function(transaction, &args).map(drop),
            _ => Ok(()),
        });
    }

    /// Ends a unit as its owner does. `false`: something would be published.
    fn publish(&mut self) -> bool {
        let is_silent = self.state.effects.is_empty();
        let aftermath = self.state.finish(&self.keyspace);
        self.state.effects.clear();
        drop(self.state.garbage.take());
        is_silent
            && aftermath.events.is_empty()
            && aftermath.messages.is_empty()
            && aftermath.touched.is_empty()
    }

    /// Nobody is waited for and no flag is raised, as when the woken have been served.
    fn settle(&mut self) {
        self.publish();
        self.state.waited.take_ready();
        for flag in &self.flags {
            flag.store(false, Relaxed);
        }
    }

    fn picture(&self, is_silent: bool) -> Picture {
        let mut entries = BTreeMap::new();
        let mut field_expiries = BTreeMap::new();
        for (database, contents) in self.keyspace.databases().iter().enumerate() {
            for entry in contents.entries().iter() {
                let id = (database, entry.key().to_vec());
                // Also what the digest leaves out: the clock of the digest is one at which no field has expired.
                let mut digest = Digest::of_value(entry, 0).hex();
                if let ValueRef::Stream(_) = entry.value() {
                    // It leaves out the groups of streams.
                    digest += &dump(entry).escape_ascii().to_string();
                }
                entries.insert(id, (digest, entry.encoding(), entry.expire_at_ms()));
                if let ValueRef::Hash(hash) = entry.value() {
                    for field in hash.iter() {
                        if let Some(at_ms) = field.expire_at_ms {
                            let id = (database, entry.key().to_vec(), field.name.to_vec());
                            field_expiries.insert(id, at_ms);
                        }
                    }
                }
            }
        }
        let queues = keys()
            .iter()
            .flat_map(|key| (0..DATABASES).map(|database| self.state.waited.queue(database, key)))
            .collect();
        Picture {
            digest: Digest::of_keyspace(&self.keyspace, 0).hex(),
            entries,
            expiring: self.keyspace.databases().iter().map(|database| database.expiring()).collect(),
            field_expiries,
            flags: self.flags.iter().map(|flag| flag.load(Relaxed)).collect(),
            queues,
            ready: self.state.waited.has_ready(),
            counters: [self.state.changes, self.state.expired_keys, self.state.expired_fields],
            is_silent,
        }
    }

    /// The index of expiries finds all that is due, and nothing else.
    fn index_is_right(&mut self) -> Result<(), TestCaseError> {
        // Between the times that random calls use.
        let late_ms = self.now_ms + 700_000_000;
        let before = self.picture(true);
        let mut transaction = WriteTxn::new(&mut self.keyspace, &mut self.state, 0, late_ms);
        transaction.expire_due(usize::MAX);
        transaction.expire_fields_due(usize::MAX);
        self.publish();
        let after = self.picture(true);
        let is_due = |at_ms: u64| at_ms < late_ms - 1000;
        for (id, (_, _, expiry)) in &before.entries {
            let due = expiry.is_some_and(is_due);
            let fields_due = before
                .field_expiries
                .iter()
                .any(|((database, key, _), at)| (*database, key) == (id.0, &id.1) && is_due(*at as u64));
            prop_assert!(!due || !after.entries.contains_key(id), "{id:?} was due at {expiry:?}");
            prop_assert!(due || fields_due || after.entries.contains_key(id), "{id:?} was not due");
        }
        for (id, at_ms) in &after.field_expiries {
            prop_assert!(!is_due(*at_ms as u64), "{id:?} was due at {at_ms}");
        }
        Ok(())
    }
}

/// The keys that random calls use.
fn keys() -> Vec<Vec<u8>> {
    let kinds = ["a", "s", "l", "h", "t", "z", "b", "y", "o", "u"];
    kinds.iter().flat_map(|kind| (1..=3).map(move |number| format!("{kind}{number}").into_bytes())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_rolled_back_unit_never_ran(seed: u64, before in 0usize..150, unit in 1usize..80, pause_ms in 0u64..4000) {
        let mut world = World::new(seed);
        for _ in 0..before {
            world.random_call();
            world.publish();
        }
        world.settle();
        world.now_ms += pause_ms;
        let (database, now_ms) = (world.database, world.now_ms);
        let expected = world.picture(true);
        world.state.begin_journal();
        let calls: Vec<String> = (0..unit).map(|_| show(&world.random_call())).collect();
        let rolled_back = world.state.rollback(&mut world.keyspace);
        prop_assert!(rolled_back);
        (world.database, world.now_ms) = (database, now_ms);
        let is_silent = world.publish();
        let found = world.picture(is_silent);
        prop_assert_eq!(&found, &expected, "after {:#?}", calls);
        world.index_is_right()?;
    }
}

fn show(call: &[Vec<u8>]) -> String {
    call.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

/// The test would notice: each part of the picture changes when something is done and stays done.
#[test]
fn the_picture_shows_what_happens() {
    let mut world = World::new(1);
    let nothing = world.picture(true);
    for (call, differs) in [
        ("SET a1 v", true),
        ("GET a1", false),
        ("FLUSHALL", true),
        ("HSET h1 f1 v", true),
        ("XGROUP CREATE a2 c1 0 MKSTREAM", true),
        ("XGROUP CREATECONSUMER a2 c1 C1", true),
    ] {
        let before = world.picture(true);
        let words: Vec<Vec<u8>> = call.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        world.call(&words);
        let is_silent = world.publish();
        assert_eq!(is_silent, !differs, "{call}");
        assert_eq!(world.picture(is_silent) != before, differs, "{call}");
    }
    assert_ne!(world.picture(true).flags, nothing.flags);
    assert!(world.picture(true).ready);
    let flag: &Arc<AtomicBool> = &world.flags[0];
    assert!(flag.load(Relaxed), "the key a1 of database 0 is watched");
}
