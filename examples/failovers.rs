//! Many FAILOVERs in a row under a load: how long no write is acknowledged, how slow read-only scripts get, and whether
//! every acknowledged write is on every node afterwards. Run it by `scripts/failovers`.
//!
//! It knows the servers only as programs that speak RESP, so it measures a Valkey just as well. With `--proxies` the nodes
//! reach each other through links that are delayed and cut at random moments of a failover.
#![allow(clippy::print_stdout, reason = "its purpose is to show")]

#[path = "../tests/common/client.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod client;
#[path = "../tests/common/proxy.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod proxy;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::{Client, Reply};
use proxy::Proxy;

pub const PATIENCE: Duration = Duration::from_secs(20);
const WRITERS: usize = 8;
const READERS: usize = 2;
/// Between two writes of one writer, so that thousands of failovers do not fill the memory.
const PAUSE: Duration = Duration::from_millis(1);
const SCRIPT: &str =
    "local sum = 0 for i = 1, 200 do sum = sum + #(redis.call('GET', KEYS[1]) or '') end return sum";

struct Options {
    binary: PathBuf,
    count: usize,
    seed: u64,
    proxies: bool,
}

fn options() -> Option<Options> {
    let mut options = Options { binary: PathBuf::new(), count: 200, seed: 1, proxies: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--count" => options.count = args.next()?.parse().ok()?,
            "--seed" => options.seed = args.next()?.parse().ok()?,
            "--proxies" => options.proxies = true,
            _ => options.binary = arg.into(),
        }
    }
    options.binary.is_file().then_some(options)
}

/// A generator that repeats from its seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

struct Node {
    port: u16,
    /// Where the other nodes reach it.
    link: Proxy,
    process: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(binary: &Path, folder: &Path, proxies: bool, primary: Option<u16>) -> Node {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let link = Proxy::to(port);
    let folder = folder.join(port.to_string());
    std::fs::create_dir_all(&folder).expect("a folder");
    let log = File::create(folder.join("log")).expect("a log");
    let mut command = Command::new(binary);
    command.args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--enable-debug-command",
        "yes",
    ]);
    command.args(["--repl-diskless-sync-delay", "0", "--repl-backlog-size", "64mb", "--dir"]).arg(&folder);
    if proxies {
        command.args(["--replica-announce-port", &link.port.to_string()]);
    }
    if let Some(primary) = primary {
        command.args(["--replicaof", "127.0.0.1", &primary.to_string()]);
    }
    command.stdin(Stdio::null()).stderr(log.try_clone().expect("a second handle")).stdout(log);
    Node { port, link, process: command.spawn().expect("the server starts") }
}

fn info(port: u16, field: &str) -> String {
    Client::connect(port).ok().and_then(|mut client| client.try_info(field)).unwrap_or_default()
}

/// Waits until the condition holds. `false`: in vain.
fn holds(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

struct Load {
    ports: Vec<u16>,
    ended: AtomicBool,
    began: Instant,
    acknowledged: Vec<AtomicUsize>,
    /// Moments of acknowledgements, of all writers, in microseconds.
    writes_us: Mutex<Vec<u64>>,
    /// How long read-only scripts took.
    scripts_us: Mutex<Vec<u64>>,
    errors: Mutex<Vec<String>>,
}

impl Load {
    fn write(&self, writer: usize) {
        let (mut node, mut connection) = (0, None);
        let mut number = 0;
        while !self.ended.load(SeqCst) {
            let client = match &mut connection {
                Some(client) => client,
                None => match Client::connect(self.ports[node]) {
                    Ok(client) => connection.insert(client),
                    Err(_) => {
                        node = (node + 1) % self.ports.len();
                        continue;
                    }
                },
            };
            let key = format!("w:{writer}:{number}");
            match client.try_call(&["SET", &key, &key]) {
                Ok(reply) if !reply.is_error() => {
                    let now_us = self.began.elapsed().as_micros() as u64;
                    self.writes_us.lock().expect("no panic").push(now_us);
                    number += 1;
                    self.acknowledged[writer].store(number, SeqCst);
                    std::thread::sleep(PAUSE);
                }
                outcome => {
                    if let Ok(reply) = outcome {
                        let text = reply.text();
                        if !["READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED"]
                            .iter()
                            .any(|code| text.starts_with(code))
                        {
                            self.errors.lock().expect("no panic").push(text);
                        }
                    }
                    connection = None;
                    node = (node + 1) % self.ports.len();
                }
            }
        }
    }

    fn read(&self, reader: usize) {
        let connect = |port: &u16| Client::connect(*port).expect("a node");
        let mut clients: Vec<Client> = self.ports.iter().map(connect).collect();
        let mut turn = reader;
        while !self.ended.load(SeqCst) {
            turn += 1;
            let node = turn % clients.len();
            let began = Instant::now();
            match clients[node].try_call(&["EVAL_RO", SCRIPT, "1", "w:0:0"]) {
                Ok(reply) if !reply.is_error() => {
                    self.scripts_us.lock().expect("no panic").push(began.elapsed().as_micros() as u64);
                }
                Ok(reply) => self.errors.lock().expect("no panic").push(reply.text()),
                Err(_) => clients[node] = connect(&self.ports[node]),
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn percentile(sorted: &[u64], percent: f64) -> f64 {
    let index = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(index.clamp(1, sorted.len().max(1)) - 1).map_or(f64::NAN, |us| *us as f64 / 1000.0)
}

/// The longest time without an acknowledged write that touches the span.
fn outage_us(writes_us: &[u64], from_us: u64, to_us: u64) -> u64 {
    let gaps = writes_us.windows(2).filter(|pair| pair[1] >= from_us && pair[0] <= to_us);
    gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

struct Trio {
    nodes: Vec<Node>,
    proxies: bool,
}

impl Trio {
    fn address(&self, node: usize) -> u16 {
        if self.proxies { self.nodes[node].link.port } else { self.nodes[node].port }
    }

    fn primary(&self) -> Option<usize> {
        let primaries: Vec<usize> =
            (0..self.nodes.len()).filter(|node| info(self.nodes[*node].port, "role") == "master").collect();
        (primaries.len() == 1).then(|| primaries[0])
    }

    /// One primary, which is not failing over, and all others follow it. Those that follow another are told to.
    fn settle(&self) -> Option<usize> {
        let mut primary = None;
        holds(|| {
            primary = self.primary();
            let Some(primary) = primary else { return false };
            let address = self.address(primary);
            if info(self.nodes[primary].port, "master_failover_state") != "no-failover" {
                return false;
            }
            (0..self.nodes.len()).filter(|node| *node != primary).all(|node| {
                let port = self.nodes[node].port;
                if info(port, "master_port") != address.to_string() {
                    if info(port, "master_failover_state") == "no-failover"
                        && let Ok(mut client) = Client::connect(port)
                    {
                        let _ = client.try_call(&["REPLICAOF", "127.0.0.1", &address.to_string()]);
                    }
                    return false;
                }
                info(port, "master_link_status") == "up"
            }) && info(self.nodes[primary].port, "connected_slaves") == "2"
        })
        .then_some(primary)
        .flatten()
    }
}

struct Measured {
    outages_us: Vec<u64>,
    done: usize,
    given_up: usize,
}

fn run(options: &Options, trio: &Trio, load: &Load) -> Option<Measured> {
    let mut random = Random(options.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut measured = Measured { outages_us: Vec::new(), done: 0, given_up: 0 };
    for round in 0..options.count {
        let primary = trio.settle()?;
        let target = (primary + 1 + random.below(2) as usize) % 3;
        std::thread::sleep(Duration::from_millis(20));
        if options.proxies {
            for node in &trio.nodes {
                node.link.delay_us(if random.below(3) == 0 { random.below(5_000) } else { 0 });
            }
        }
        let from_us = load.began.elapsed().as_micros() as u64;
        let port = trio.address(target).to_string();
        let mut client = Client::connect(trio.nodes[primary].port).ok()?;
        let reply = client.try_call(&["FAILOVER", "TO", "127.0.0.1", &port, "TIMEOUT", "3000"]).ok()?;
        if reply.is_error() {
            // A link that was cut a moment ago.
            measured.given_up += 1;
            continue;
        }
        if options.proxies && random.below(2) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(15_000)));
            trio.nodes[random.below(3) as usize].link.cut();
        }
        if !holds(|| info(trio.nodes[primary].port, "master_failover_state") == "no-failover") {
            return None;
        }
        let taken = info(trio.nodes[primary].port, "role") == "slave";
        if taken {
            measured.done += 1
        } else {
            measured.given_up += 1
        }
        // The writers have to be through before the gap can be seen.
        std::thread::sleep(Duration::from_millis(20));
        let to_us = load.began.elapsed().as_micros() as u64;
        let writes_us = load.writes_us.lock().expect("no panic");
        let recent = &writes_us[writes_us.len().saturating_sub(200_000)..];
        let mut recent = recent.to_vec();
        drop(writes_us);
        recent.sort_unstable();
        if taken {
            measured.outages_us.push(outage_us(&recent, from_us, to_us));
        }
        if (round + 1) % 100 == 0 {
            println!("  {} failovers, {} given up", measured.done, measured.given_up);
        }
    }
    trio.nodes.iter().for_each(|node| node.link.delay_us(0));
    Some(measured)
}

/// Acknowledged writes that a node does not hold.
fn lost(port: u16, load: &Load) -> usize {
    let mut client = Client::connect(port).expect("a node");
    let mut lost = 0;
    for (writer, count) in load.acknowledged.iter().enumerate() {
        let numbers: Vec<usize> = (0..count.load(SeqCst)).collect();
        for numbers in numbers.chunks(1000) {
            let keys: Vec<String> = numbers.iter().map(|number| format!("w:{writer}:{number}")).collect();
            let request: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
            let reply = client.call_args(&request);
            let values = reply.items().iter().zip(&keys);
            lost += values.filter(|(value, key)| **value != Reply::Bulk(key.as_bytes().to_vec())).count();
        }
    }
    lost
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("usage: failovers SERVER [--count N] [--seed N] [--proxies]");
        return ExitCode::from(2);
    };
    println!("{}: {} failovers, seed {}", options.binary.display(), options.count, options.seed);
    let folder = std::env::temp_dir().join(format!("failovers-{}", std::process::id()));
    let primary = start(&options.binary, &folder, options.proxies, None);
    holds(|| Client::connect(primary.port).is_ok());
    let address = if options.proxies { primary.link.port } else { primary.port };
    let mut nodes = vec![primary];
    nodes.extend((0..2).map(|_| start(&options.binary, &folder, options.proxies, Some(address))));
    let trio = Trio { nodes, proxies: options.proxies };
    if trio.settle().is_none() {
        eprintln!("the servers do not start; logs: {}", folder.display());
        return ExitCode::FAILURE;
    }
    let load = Arc::new(Load {
        ports: trio.nodes.iter().map(|node| node.port).collect(),
        ended: AtomicBool::new(false),
        began: Instant::now(),
        acknowledged: (0..WRITERS).map(|_| AtomicUsize::new(0)).collect(),
        writes_us: Mutex::default(),
        scripts_us: Mutex::default(),
        errors: Mutex::default(),
    });
    let writers = (0..WRITERS).map(|writer| {
        let load = load.clone();
        std::thread::spawn(move || load.write(writer))
    });
    let readers = (0..READERS).map(|reader| {
        let load = load.clone();
        std::thread::spawn(move || load.read(reader))
    });
    let threads: Vec<_> = writers.chain(readers).collect();
    std::thread::sleep(Duration::from_millis(300));
    let measured = run(&options, &trio, &load);
    load.ended.store(true, SeqCst);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let good = report(&trio, &load, measured);
    if good {
        std::fs::remove_dir_all(&folder).ok();
        return ExitCode::SUCCESS;
    }
    eprintln!("FAILED; logs: {}", folder.display());
    ExitCode::FAILURE
}

fn report(trio: &Trio, load: &Load, measured: Option<Measured>) -> bool {
    let errors = load.errors.lock().expect("no panic").clone();
    if !errors.is_empty() {
        println!("{} unexpected errors, such as: {}", errors.len(), errors[0]);
    }
    let (Some(mut measured), Some(primary)) = (measured, trio.settle()) else {
        println!("the servers do not agree who is primary");
        return false;
    };
    let end: u64 = info(trio.nodes[primary].port, "master_repl_offset").parse().unwrap_or(0);
    let there =
        |node: &Node| info(node.port, "master_repl_offset").parse().is_ok_and(|offset: u64| offset >= end);
    let caught_up = holds(|| trio.nodes.iter().all(there));
    let lost: usize = trio.nodes.iter().map(|node| lost(node.port, load)).sum();
    let written: usize = load.acknowledged.iter().map(|count| count.load(SeqCst)).sum();
    measured.outages_us.sort_unstable();
    let mut scripts_us = load.scripts_us.lock().expect("no panic").clone();
    scripts_us.sort_unstable();
    let full: u64 =
        trio.nodes.iter().filter_map(|node| info(node.port, "sync_full").parse::<u64>().ok()).sum();
    println!("{} failovers, {} given up, {full} full resyncs", measured.done, measured.given_up);
    println!("{written} writes acknowledged, {lost} lost (on three nodes)");
    let row = |name: &str, sorted: &[u64]| {
        println!(
            "{name}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            percentile(sorted, 50.0),
            percentile(sorted, 99.0),
            percentile(sorted, 100.0)
        );
    };
    row("no write acknowledged for", &measured.outages_us);
    row(&format!("{} read-only scripts", scripts_us.len()), &scripts_us);
    errors.is_empty() && caught_up && lost == 0 && measured.done > 0
}
