//! Commands at random, from a seed: every command that writes, in forms that succeed mostly and on few keys, so that they
//! meet.
//!
//! Commands are templates; a word in braces is filled in anew each time, with one word or several.

use std::collections::{BTreeSet, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use sha1::{Digest, Sha1};

use super::client::{Client, Reply};

/// What all servers of a test understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Redis 7.0, which reads no values that newer servers dump.
    Redis7,
    Valkey9,
}

const EVERYWHERE: &[&str] = &[
    // Strings
    "SET {string} {value}",
    "SET {string} {integer}",
    "SET {string} {value} PX {ms} GET",
    "SET {string} {value} KEEPTTL",
    "SET {string} {value} NX EXAT {at-seconds}",
    "SETNX {string} {value}",
    "SETEX {string} 100000 {value}",
    "PSETEX {string} {ms} {value}",
    "MSET {string} {value} {string} {value} {string} {integer}",
    "MSETNX {string} {value} {string} {value}",
    "GETSET {string} {value}",
    "GETDEL {string}",
    "GETEX {string} PX {ms}",
    "GETEX {string} PERSIST",
    "APPEND {string} {value}",
    "SETRANGE {string} {offset} {value}",
    "INCR {counter}",
    "DECR {counter}",
    "INCRBY {counter} {integer}",
    "DECRBY {counter} {integer}",
    "INCRBYFLOAT {counter} {float}",
    "SET {counter} {small}",
    // Bits
    "SETBIT {bits} {offset} 1",
    "SETBIT {bits} {offset} 0",
    "BITOP AND {bits} {bits} {string}",
    "BITOP OR {bits} {bits} {bits}",
    "BITOP XOR {bits} {bits} {bits} {string}",
    "BITOP NOT {bits} {bits}",
    "BITFIELD {bits} SET u8 #{digit} {byte} INCRBY i5 {offset} {small}",
    "BITFIELD {bits} OVERFLOW SAT INCRBY i16 {offset} {integer} OVERFLOW FAIL INCRBY u4 #{digit} 5",
    // HyperLogLog
    "PFADD {hll} {members}",
    "PFADD {hll} {members}",
    "PFMERGE {hll} {hll} {hll}",
    "PFCOUNT {hll}",
    // Lists
    "RPUSH {list} {members}",
    "LPUSH {list} {members}",
    "RPUSH {list} {members}",
    "RPUSHX {list} {value}",
    "LPUSHX {list} {value}",
    "LINSERT {list} BEFORE {member} {value}",
    "LSET {list} {index} {value}",
    "LREM {list} {small} {member}",
    "LTRIM {list} 0 {digit}",
    "LTRIM {list} 1 -2",
    "LPOP {list}",
    "RPOP {list} {digit}",
    "LMPOP 2 {list} {list} LEFT COUNT 3",
    "RPOPLPUSH {list} {list}",
    "LMOVE {list} {list} LEFT RIGHT",
    "BLPOP {list} {list} 0.01",
    "BRPOP {list} 0.01",
    "BRPOPLPUSH {list} {list} 0.01",
    "BLMOVE {list} {list} RIGHT LEFT 0.01",
    "BLMPOP 0.01 2 {list} {list} RIGHT COUNT 2",
    "SORT {list} ALPHA LIMIT 0 {digit} STORE {list}",
    "SORT {set} ALPHA DESC STORE {list}",
    // Sets
    "SADD {set} {members}",
    "SADD {set} {members}",
    "SADD {set} {integer} {integer} {integer}",
    "SREM {set} {members}",
    "SPOP {set}",
    "SPOP {set} {digit}",
    "SMOVE {set} {set} {member}",
    "SINTERSTORE {set} {set} {set}",
    "SUNIONSTORE {set} {set} {set}",
    "SDIFFSTORE {set} {set} {set}",
    // Hashes
    "HSET {hash} {pairs}",
    "HSET {hash} {pairs}",
    "HMSET {hash} {pairs}",
    "HSETNX {hash} {member} {value}",
    "HDEL {hash} {members}",
    "HINCRBY {hash} number {integer}",
    "HINCRBYFLOAT {hash} float {float}",
    // Sorted sets
    "ZADD {sorted} {scored}",
    "ZADD {sorted} {scored}",
    "ZADD {sorted} NX CH {scored}",
    "ZADD {sorted} XX GT {scored}",
    "ZADD {sorted} LT CH {scored}",
    "ZADD {sorted} INCR {float} {member}",
    "ZADD {sorted} inf {member} -inf {member}",
    "ZINCRBY {sorted} {float} {member}",
    "ZREM {sorted} {members}",
    "ZPOPMIN {sorted} {digit}",
    "ZPOPMAX {sorted}",
    "ZMPOP 2 {sorted} {sorted} MIN COUNT 2",
    "BZPOPMIN {sorted} 0.01",
    "BZPOPMAX {sorted} {sorted} 0.01",
    "BZMPOP 0.01 1 {sorted} MAX COUNT 2",
    "ZREMRANGEBYRANK {sorted} 0 {digit}",
    "ZREMRANGEBYSCORE {sorted} {float} (5",
    // By name of members only where all scores are equal: elsewhere the outcome is a matter of chance on Valkey, whose
    // lists have random levels.
    "ZADD names:{few} 0 {member} 0 {member} 0 {member}",
    "ZREMRANGEBYLEX names:{few} [m1 (m2",
    "ZRANGESTORE {sorted} {sorted} {digit} 20",
    "ZRANGESTORE {sorted} {sorted} -inf {float} BYSCORE LIMIT 0 10",
    "ZRANGESTORE {sorted} names:{few} + [m15 BYLEX REV",
    "ZUNIONSTORE {sorted} 2 {sorted} {sorted} WEIGHTS 2 {float} AGGREGATE MAX",
    "ZINTERSTORE {sorted} 2 {sorted} {set}",
    "ZDIFFSTORE {sorted} 2 {sorted} {sorted}",
    // Streams
    "XADD {stream} {next}-0 {pairs}",
    "XADD {stream} {next}-0 field value",
    "XADD {stream} {next}-0 field value",
    "XADD {stream} {next}-* {pairs}",
    "XADD {stream} MAXLEN ~ 150 {next}-0 {pairs}",
    "XADD {stream} NOMKSTREAM MINID = {stream-id} {next}-0 {pairs}",
    "XADD clock:{few} MAXLEN ~ 150 * {pairs}",
    "XTRIM {stream} MAXLEN ~ 30 LIMIT 20",
    "XTRIM {stream} MAXLEN 20",
    "XTRIM {stream} MINID {stream-id}",
    "XDEL {stream} {stream-id} {stream-id}",
    "XSETID {stream} {next}-777777 ENTRIESADDED 100000 MAXDELETEDID 5-5",
    "XGROUP CREATE {stream} {group} 0 MKSTREAM ENTRIESREAD {digit}",
    "XGROUP CREATE {stream} {group} $",
    "XGROUP SETID {stream} {group} {stream-id}",
    "XGROUP SETID {stream} {group} 0",
    "XGROUP CREATECONSUMER {stream} {group} {consumer}",
    "XGROUP DELCONSUMER {stream} {group} {consumer}",
    "XGROUP DESTROY {stream} {group}",
    "XREADGROUP GROUP {group} {consumer} COUNT {digit} STREAMS {stream} >",
    "XREADGROUP GROUP {group} {consumer} COUNT 3 NOACK STREAMS {stream} >",
    "XREADGROUP GROUP {group} {consumer} COUNT 5 BLOCK 1 STREAMS {stream} {stream} > >",
    "XREADGROUP GROUP {group} {consumer} STREAMS {stream} 0",
    "XACK {stream} {group} {stream-id} {stream-id} {stream-id}",
    "XCLAIM {stream} {group} {consumer} 0 {stream-id} {stream-id} RETRYCOUNT 3",
    "XCLAIM {stream} {group} {consumer} 0 {stream-id} FORCE JUSTID LASTID {stream-id}",
    "XAUTOCLAIM {stream} {group} {consumer} 0 0 COUNT 4",
    // Keys
    "DEL {key} {key}",
    "UNLINK {key}",
    "EXPIRE {key} 100000",
    "PEXPIRE {key} {ms}",
    "EXPIRE {key} 100 NX",
    "EXPIREAT {key} {at-seconds} GT",
    "PEXPIREAT {key} {at-ms}",
    "PEXPIREAT {string} 1",
    "PERSIST {key}",
    "RENAME {string} {string}",
    "RENAME {list} {list}",
    "RENAMENX {hash} {hash}",
    "COPY {key} copy REPLACE",
    "COPY {sorted} {sorted} DB {database}",
    "MOVE {key} {database}",
    "SWAPDB {database} {database}",
    "SELECT {database}",
    "FLUSHDB",
    // Scripts and functions
    "EVAL {script} 3 {string} {set} {list} {member}",
    "EVALSHA {sha} 3 {string} {set} {list} {member}",
    "SCRIPT LOAD {script}",
    "FUNCTION LOAD REPLACE {library}",
    "FUNCTION LOAD REPLACE {library}",
    "FUNCTION DELETE library{few}",
    "FCALL function{few} 1 {counter}",
    "FCALL function{few} 1 {list}",
    "PUBLISH channel {value}",
];

const NEWER: &[&str] = &[
    "SET {string} {value} IFEQ {value}",
    "DELIFEQ {string} {value}",
    "MSETEX 2 {string} {value} {string} {integer} PX {ms}",
    "MSETEX 1 {string} {value} NX",
    "HPEXPIRE {hash} {ms} FIELDS 2 {member} {member}",
    "HEXPIRE {hash} 1000 NX FIELDS 1 {member}",
    "HEXPIREAT {hash} {at-seconds} FIELDS 1 {member}",
    "HPEXPIREAT {hash} {at-ms} FIELDS 1 {member}",
    "HPERSIST {hash} FIELDS 1 {member}",
    "HSETEX {hash} PX {ms} FIELDS 2 {member} {value} {member} {value}",
    "HSETEX {hash} FXX KEEPTTL FIELDS 1 {member} {value}",
    "HGETEX {hash} PX {ms} FIELDS 1 {member}",
    "HGETEX {hash} PERSIST FIELDS 1 {member}",
    "HGETDEL {hash} FIELDS 2 {member} {member}",
];

const SCRIPTS: &[&str] = &[
    "redis.call('APPEND', KEYS[1], ARGV[1]) redis.call('SADD', KEYS[2], ARGV[1]) return redis.call('SPOP', KEYS[2])",
    "for i = 1, 5 do redis.call('RPUSH', KEYS[3], i) end return redis.call('LTRIM', KEYS[3], 0, 40)",
    "redis.call('SET', KEYS[1], ARGV[1], 'PX', 100000) return redis.pcall('INCR', KEYS[1])",
    "redis.call('SADD', KEYS[2], 'by script') return redis.call('INCR', KEYS[2])",
    "return redis.call('GET', KEYS[1])",
];

/// Something to do.
#[derive(Debug)]
enum Step {
    Call(Vec<Vec<u8>>),
    /// DUMP of one key, RESTORE as another.
    Restore {
        from: Vec<u8>,
        to: Vec<u8>,
    },
    /// All functions dumped and restored.
    RestoreFunctions,
}

pub struct Commands {
    random: fastrand::Rng,
    dialect: Dialect,
    queued: VecDeque<Step>,
    /// The last id given to an entry of a stream.
    latest: i64,
    /// What was answered with something else than an error, at least once.
    succeeded: BTreeSet<&'static str>,
}

impl Commands {
    pub fn new(seed: u64, dialect: Dialect) -> Commands {
        Commands {
            random: fastrand::Rng::with_seed(seed),
            dialect,
            queued: VecDeque::new(),
            latest: 0,
            succeeded: BTreeSet::new(),
        }
    }

    /// Runs some on one connection, which may change its database.
    pub fn run(&mut self, client: &mut Client, count: usize) {
        for _ in 0..count {
            let (template, step) = self.next();
            let succeeded = match &step {
                Step::Call(words) => {
                    let reply = client.call_args(words);
                    assert!(!is_unknown(&reply), "{template}: {reply:?}");
                    !reply.is_error() && !reply.is_nil()
                }
                Step::Restore { from, to } => match client.call_args(&[b"DUMP", from.as_slice()]) {
                    Reply::Bulk(value) => {
                        let call: [&[u8]; 5] = [b"RESTORE", to, b"0", &value, b"REPLACE"];
                        let reply = client.call_args(&call);
                        assert!(!reply.is_error(), "RESTORE: {reply:?}");
                        true
                    }
                    _ => false,
                },
                Step::RestoreFunctions => {
                    let Reply::Bulk(all) = client.ok("FUNCTION DUMP") else { panic!("no dump") };
                    client.ok("FUNCTION FLUSH");
                    let reply = client.call_args(&[b"FUNCTION", &b"RESTORE"[..], &all]);
                    assert!(!reply.is_error(), "FUNCTION RESTORE: {reply:?}");
                    true
                }
            };
            if succeeded {
                self.succeeded.insert(template);
            }
        }
        while !self.queued.is_empty() {
            self.run(client, 1);
        }
    }

    /// Templates that never did anything.
    pub fn without_success(&self) -> Vec<&'static str> {
        self.templates().filter(|template| !self.succeeded.contains(template)).collect()
    }

    fn templates(&self) -> impl Iterator<Item = &'static str> + use<> {
        let newer = if self.dialect == Dialect::Valkey9 { NEWER } else { &[] };
        EVERYWHERE.iter().chain(newer).copied()
    }

    fn next(&mut self) -> (&'static str, Step) {
        if let Some(step) = self.queued.pop_front() {
            return ("in a transaction", step);
        }
        match self.random.u32(0..40) {
            0 => {
                for _ in 0..self.random.usize(1..6) {
                    let (_, step) = self.call();
                    self.queued.push_back(step);
                }
                self.queued.push_back(Step::Call(vec![b"EXEC".to_vec()]));
                ("MULTI", Step::Call(vec![b"MULTI".to_vec()]))
            }
            // Redis 7.0 replicas and files take no values of newer versions.
            1 if self.dialect == Dialect::Valkey9 => {
                let (from, to) = (self.key(), b"restored".to_vec());
                ("RESTORE", Step::Restore { from, to })
            }
            2 if self.dialect == Dialect::Valkey9 && self.random.u32(0..5) == 0 => {
                ("FUNCTION RESTORE", Step::RestoreFunctions)
            }
            _ => self.call(),
        }
    }

    fn call(&mut self) -> (&'static str, Step) {
        let templates: Vec<_> = self.templates().collect();
        loop {
            let template = templates[self.random.usize(0..templates.len())];
            // What takes all away comes seldom.
            if template.starts_with("FLUSH") && self.random.u32(0..4) > 0 {
                continue;
            }
            let mut words = Vec::new();
            for word in template.split(' ') {
                self.fill(word, &mut words);
            }
            return (template, Step::Call(words));
        }
    }

    fn fill(&mut self, word: &'static str, words: &mut Vec<Vec<u8>>) {
        let Some(open) = word.find('{') else { return words.push(word.as_bytes().to_vec()) };
        let (name, after) = word[open + 1..].split_once('}').expect("a closed brace");
        let before = &word[..open];
        let many = |random: &mut fastrand::Rng| match random.u32(0..25) {
            0 => random.usize(130..300),
            _ => random.usize(1..6),
        };
        match name {
            "members" => (0..many(&mut self.random)).for_each(|_| words.push(self.member())),
            "pairs" => (0..many(&mut self.random)).for_each(|_| words.extend([self.member(), self.value()])),
            "scored" => {
                (0..many(&mut self.random)).for_each(|_| words.extend([self.float(), self.member()]));
            }
            _ => words.push([before.as_bytes(), &self.one(name), after.as_bytes()].concat()),
        }
    }

    fn one(&mut self, name: &str) -> Vec<u8> {
        let now_ms = now_ms();
        let random = &mut self.random;
        let number = match name {
            "key" => return self.key(),
            "member" => return self.member(),
            "value" => return self.value(),
            "float" => return self.float(),
            "script" => return SCRIPTS[random.usize(0..SCRIPTS.len())].into(),
            "sha" => return sha(SCRIPTS[random.usize(0..SCRIPTS.len())]).into(),
            "library" => return library(random.u32(0..3), random.u32(0..100)).into(),
            "group" => return format!("group{}", random.u32(0..3)).into(),
            "consumer" => return format!("consumer{}", random.u32(0..3)).into(),
            "next" => {
                self.latest += 1;
                self.latest
            }
            "stream-id" => return format!("{}-0", (self.latest - random.i64(0..40)).max(1)).into(),
            "stream" => return format!("stream:{}", random.u32(0..2)).into(),
            "integer" => random.i64(-1_000_000..1_000_000_000_000),
            "small" => random.i64(-3..10),
            "index" => random.i64(-4..4),
            "digit" => random.i64(0..10),
            "few" => random.i64(0..3),
            "byte" => random.i64(0..256),
            "offset" => random.i64(0..300),
            "database" => random.i64(0..3),
            // Some pass while the test runs.
            "ms" => wait_ms(random),
            "at-ms" => now_ms as i64 + wait_ms(random),
            "at-seconds" => now_ms as i64 / 1000 + random.i64(0..100_000),
            kind => return format!("{kind}:{}", random.u32(0..5)).into(),
        };
        number.to_string().into()
    }

    fn key(&mut self) -> Vec<u8> {
        const KINDS: &[&str] =
            &["string", "counter", "bits", "hll", "list", "set", "hash", "sorted", "stream"];
        let kind = KINDS[self.random.usize(0..KINDS.len())];
        self.one(kind)
    }

    fn member(&mut self) -> Vec<u8> {
        match self.random.u32(0..4) {
            0 => self.random.u32(0..30).to_string().into(),
            1 => format!("m{}", self.random.u32(0..300)).into(),
            _ => format!("m{}", self.random.u32(0..8)).into(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        match random.u32(0..12) {
            0 => (0..random.usize(0..30)).map(|_| random.u8(..)).collect(),
            1 => vec![random.u8(..); random.usize(60..9000)],
            2 => random.i32(-10..1000).to_string().into(),
            _ => format!("value{}", random.u32(0..4)).into(),
        }
    }

    fn float(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        match random.u32(0..6) {
            0 => "1e17".into(),
            1 => format!("{}", random.f64() * 1e-5).into(),
            2 => format!("{:.3}", random.f64() * 1e6).into(),
            _ => format!("{}", f64::from(random.i32(-40..80)) / 4.0).into(),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a test is beside the server and has no clock of its")]
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_millis() as u64
}

fn wait_ms(random: &mut fastrand::Rng) -> i64 {
    if random.u32(0..3) == 0 { random.i64(1..300) } else { random.i64(100_000..10_000_000) }
}

fn sha(script: &str) -> String {
    Sha1::digest(script.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn library(number: u32, version: u32) -> String {
    format!(
        "#!lua name=library{number}
         redis.register_function('function{number}', function(keys)
           return redis.call('INCRBY', keys[1], {version})
         end)"
    )
}

/// The test would not test what it says.
fn is_unknown(reply: &Reply) -> bool {
    let wrong = ["ERR unknown", "ERR syntax error", "ERR wrong number of arguments"];
    reply.is_error() && wrong.iter().any(|text| reply.text().starts_with(text))
}
