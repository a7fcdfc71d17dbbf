//! Commands of every family against a real Valkey 9.1, in lockstep: the same random calls to both, over RESP2 and RESP3, and
//! the same replies, byte for byte, but where Valkey leaves the order open or a clock has moved on.
//!
//! A seed makes a run that repeats exactly: `SEED=17 cargo test --test commands_differential`.
//! `HISTORY=1` shows all calls of a failing seed, not only the last ones about the same keys.
//! `DIFFERENTIAL_SECONDS=600` looks longer than the few seconds of a normal run.

#[path = "../common/mod.rs"]
mod common;

mod compare;
mod generate;

use std::time::{Duration, Instant};

use common::client::{Client, Reply};
use common::server::{Program, Server};
use generate::Generator;

/// Calls of a seed.
const STEPS: usize = 300;

/// Limits of the small forms; small ones, so that few elements change the form.
const LIMITS: &[&[&str]] = &[
    &[],
    &["hash-max-listpack-entries 4", "zset-max-listpack-entries 4", "set-max-listpack-entries 4"],
    &[
        "list-max-listpack-size 4",
        "stream-node-max-bytes 60",
        "set-max-intset-entries 3",
        "set-max-listpack-entries 3",
        "hash-max-listpack-value 5",
    ],
    &[
        "zset-max-listpack-value 5",
        "set-max-listpack-value 5",
        "list-compress-depth 1",
        "stream-node-max-entries 2",
    ],
    &[
        "hll-sparse-max-bytes 40",
        "list-max-listpack-size -1",
        "zset-max-listpack-entries 0",
        "hash-max-listpack-entries 0",
    ],
];

const DEFAULTS: &[&str] = &[
    "hash-max-listpack-entries 512",
    "hash-max-listpack-value 64",
    "zset-max-listpack-entries 128",
    "zset-max-listpack-value 64",
    "set-max-listpack-entries 128",
    "set-max-listpack-value 64",
    "set-max-intset-entries 512",
    "list-max-listpack-size -2",
    "list-compress-depth 0",
    "hll-sparse-max-bytes 3000",
    "stream-node-max-entries 100",
    "stream-node-max-bytes 4096",
];

/// Both servers, each with one connection that has not seen an earlier seed.
struct Pair {
    ours: Client,
    theirs: Client,
}

impl Pair {
    fn both(&mut self, words: &[Vec<u8>]) -> (Reply, Reply) {
        let send = |client: &mut Client| client.send(words).expect("sent");
        send(&mut self.ours);
        send(&mut self.theirs);
        let shown = || words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
        let read = |client: &mut Client, name: &str| {
            client.read().unwrap_or_else(|error| panic!("{name} does not answer {}: {error}", shown()))
        };
        (read(&mut self.ours, "ours"), read(&mut self.theirs, "theirs"))
    }

    fn words(&mut self, words: &str) -> (Reply, Reply) {
        self.both(&words.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    /// The first key whose value is not the same in both.
    fn difference(&mut self) -> Option<String> {
        for database in 0..16 {
            self.words(&format!("SELECT {database}"));
            for key in self.words("KEYS *").0.items() {
                let Reply::Bulk(key) = key else { continue };
                let mut ask = |words: &[&str], after: &[&str]| {
                    let words = words.iter().map(|word| word.as_bytes().to_vec());
                    let after = after.iter().map(|word| word.as_bytes().to_vec());
                    self.both(&words.chain([key.clone()]).chain(after).collect::<Vec<_>>())
                };
                let (one, other) = ask(&["DEBUG", "DIGEST-VALUE"], &[]);
                if one != other {
                    let values = [ask(&["GET"], &[]), ask(&["ZRANGE"], &["0", "-1", "WITHSCORES"])];
                    return Some(format!("{} in {database} at the end: {values:?}", key.escape_ascii()));
                }
            }
        }
        None
    }
}

/// Runs one seed; an error says what differs, and what was called before.
fn run(ours: &Server, theirs: &Server, seed: u64) -> Result<(), String> {
    let mut pair = Pair { ours: ours.client(), theirs: theirs.client() };
    pair.words("FLUSHALL");
    // What has expired goes when a command finds it, not by chance.
    pair.words("DEBUG SET-ACTIVE-EXPIRE 0");
    let mut generator = Generator::new(seed);
    for setting in DEFAULTS.iter().chain(LIMITS[seed as usize / 2 % LIMITS.len()]) {
        pair.words(&format!("CONFIG SET {setting}"));
    }
    let protocol = if seed.is_multiple_of(2) { 2 } else { 3 };
    pair.words(&format!("HELLO {protocol}"));
    let mut history: Vec<String> = Vec::new();
    let explain = |history: &[String], what: String| {
        let keys: Vec<&str> =
            history.last().map_or("", String::as_str).split(' ').filter(|word| word.len() < 4).collect();
        let about = |line: &&String| keys.iter().any(|key| line.split(' ').any(|word| word == *key));
        let is_exec = keys.is_empty() || std::env::var_os("HISTORY").is_some();
        let related: Vec<&String> = history.iter().filter(|line| is_exec || about(line)).collect();
        let shown = if std::env::var_os("HISTORY").is_some() { usize::MAX } else { 12 };
        let last = &related[related.len().saturating_sub(shown)..];
        let lines: Vec<String> = last.iter().map(|line| format!("    {line}")).collect();
        format!("SEED={seed} over RESP{protocol}: {what}\n  before:\n{}", lines.join("\n"))
    };
    for _ in 0..STEPS {
        let call = generator.next_call();
        let line = call.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
        history.push(line.clone());
        let (one, other) = pair.both(&call);
        if !compare::same(&mut generator.queued, &call, &one, &other) {
            let (one, other) = differing(one, other);
            return Err(explain(&history, format!("{line}\n  ours   {one:?}\n  theirs {other:?}")));
        }
        if call.len() > 1
            && !call[0].starts_with(b"EVAL")
            && generator.queued.is_none()
            && generator.random.u8(..4) == 0
        {
            let (one, other) = pair.both(&[b"OBJECT".to_vec(), b"ENCODING".to_vec(), call[1].clone()]);
            if !compare::same_encoding(&call[1], &one, &other) {
                return Err(explain(&history, format!("encoding: ours {one:?}, theirs {other:?}")));
            }
        }
    }
    pair.words("DISCARD");
    let (one, other) = pair.words("DEBUG DIGEST");
    if one != other {
        return Err(explain(
            &history,
            pair.difference().unwrap_or_else(|| "the databases differ".to_owned()),
        ));
    }
    exchange(&mut pair).map_err(|what| explain(&history, what))
}

/// Each takes over the other's values, as DUMP gives them away, and has what it had.
fn exchange(pair: &mut Pair) -> Result<(), String> {
    let Reply::Array(keys) = pair.theirs.call("KEYS *") else { return Err("no keys".to_owned()) };
    for key in keys {
        let Reply::Bulk(key) = key else { return Err("a key that is none".to_owned()) };
        let (one, other) = pair.both(&[b"DUMP".to_vec(), key.clone()]);
        let (Reply::Bulk(one), Reply::Bulk(other)) = (one, other) else { continue };
        let shown = key.escape_ascii().to_string();
        for (client, payload) in [(&mut pair.ours, other), (&mut pair.theirs, one)] {
            let restored = client.call_args(&[&b"RESTORE"[..], &key, b"0", &payload, b"REPLACE"]);
            if restored.is_error() {
                return Err(format!("RESTORE {shown}: {restored:?} of {}", payload.escape_ascii()));
            }
        }
    }
    let (one, other) = pair.words("DEBUG DIGEST");
    if one == other {
        return Ok(());
    }
    let difference = pair.difference().unwrap_or_else(|| "the databases differ".to_owned());
    Err(format!("exchanged, {difference}"))
}

/// The parts in which two replies differ, if they are long arrays of the same length.
fn differing(one: Reply, other: Reply) -> (Reply, Reply) {
    let (Reply::Array(ours), Reply::Array(theirs)) = (&one, &other) else { return (one, other) };
    if ours.len() != theirs.len() {
        return (one, other);
    }
    let pairs = ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs);
    let (ours, theirs) = pairs.map(|(ours, theirs)| (ours.clone(), theirs.clone())).unzip();
    (Reply::Array(ours), Reply::Array(theirs))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn replies_are_valkeys() {
    let Some(valkey) = Program::valkey() else { return };
    let ours = Server::start(&[]);
    let theirs = Server::start_program(&valkey, &[]);
    if let Some(seed) = number("SEED") {
        return run(&ours, &theirs, seed).unwrap_or_else(|what| panic!("{what}"));
    }
    let limit = Duration::from_secs(number("DIFFERENTIAL_SECONDS").unwrap_or(4));
    let began = Instant::now();
    // The first failure of each command is shown.
    let mut failures: Vec<(String, String)> = Vec::new();
    for seed in 0.. {
        if began.elapsed() > limit {
            assert!(seed > 4, "only {seed} seeds in {limit:?}");
            break;
        }
        let Err(what) = run(&ours, &theirs, seed) else { continue };
        let name = what.split(' ').nth(3).unwrap_or_default().to_lowercase();
        if !failures.iter().any(|(other, _)| *other == name) {
            failures.push((name, what));
        }
    }
    let shown: Vec<&str> = failures.iter().map(|(_, what)| what.as_str()).collect();
    assert!(shown.is_empty(), "replies differ\n\n{}", shown.join("\n\n"));
}

/// The same calls, and what they become in the stream: a Valkey that follows ours, and ours that follows a Valkey, have the
/// same dataset as their primaries after each seed.
#[test]
fn replicas_of_either_make_have_the_same() {
    let Some(valkey) = Program::valkey() else { return };
    let mut ours = Server::start(&["--appendonly", "yes"]);
    let theirs = Server::start_program(&valkey, &[]);
    let follow = |program: &Program, primary: &Server| {
        let replica =
            Server::start_program(program, &["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
        replica.wait_for_link();
        replica
    };
    let (of_ours, of_theirs) = (follow(&valkey, &ours), follow(&Program::ours(), &theirs));
    let limit = Duration::from_secs(number("DIFFERENTIAL_SECONDS").unwrap_or(3));
    let began = Instant::now();
    let first = number("SEED").unwrap_or(0);
    for seed in first.. {
        if began.elapsed() > limit || seed > first && number("SEED").is_some() {
            assert!(seed > first, "no seed in {limit:?}");
            break;
        }
        // What the form of a value does to it, it is to do on replicas too.
        for replica in [&of_ours, &of_theirs] {
            let mut client = replica.client();
            for setting in DEFAULTS.iter().chain(LIMITS[seed as usize / 2 % LIMITS.len()]) {
                client.ok(&format!("CONFIG SET {setting}"));
            }
        }
        run(&ours, &theirs, seed).unwrap_or_else(|what| panic!("{what}"));
        for (primary, replica) in [(&ours, &of_ours), (&theirs, &of_theirs)] {
            replica.wait_for_offset_of(primary);
            let mut pair = Pair { ours: primary.client(), theirs: replica.client() };
            let (one, other) = pair.words("DEBUG DIGEST");
            assert!(one == other, "SEED={seed}: a replica differs: {:?}", pair.difference());
            assert_eq!(primary.info_number("sync_full"), 1, "SEED={seed}: a replica was lost");
        }
    }
    // And what they become in the AOF, with the limits that the server has again when it comes back.
    run(&ours, &theirs, 0).unwrap_or_else(|what| panic!("{what}"));
    let digest = ours.call("DEBUG DIGEST");
    ours.kill();
    ours.restart();
    assert_eq!(ours.call("DEBUG DIGEST"), digest, "the AOF holds another dataset");
}
