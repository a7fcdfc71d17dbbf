//! The demo: a primary, two replicas, a load, a coordinated failover, a kill, and checks that nothing got lost.
//!
//! Run it by `scripts/demo`. It knows the server only as a program that speaks RESP, so it would run against a Valkey
//! just as well, and it needs nothing but the standard library.
#![allow(clippy::print_stdout, reason = "its purpose is to show")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Error>;

const WRITERS: usize = 4;
const READERS_PER_NODE: usize = 2;
const NAMES: [&str; 3] = ["ada", "bea", "cid"];

/// `post` writes three keys as one unit. `standings` reads them, and fails if it ever sees half of a post.
const LIBRARY: &str = "#!lua name=demo
server.register_function('post', function(keys, args)
  if server.call('SADD', keys[1], args[1]) == 0 then return 'again' end
  server.call('ZINCRBY', keys[2], args[2], args[3])
  server.call('HINCRBY', keys[3], args[3], 1)
  return 'posted'
end)
server.register_function{function_name = 'standings', flags = {'no-writes'}, callback = function(keys)
  local posts, sum = server.call('SCARD', keys[1]), 0
  local totals = server.call('HGETALL', keys[3])
  for i = 2, #totals, 2 do sum = sum + totals[i] end
  if sum ~= posts then return server.error_reply('TORN ' .. sum .. ' counted of ' .. posts) end
  for _ = 1, 20 do server.call('ZRANGE', keys[2], 0, 9, 'REV', 'WITHSCORES') end
  return posts
end}";
const KEYS: [&str; 3] = ["demo:posts", "demo:board", "demo:totals"];

// ---- A small client ----

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Integer(i64),
    Nil,
    Array(Vec<Value>),
}

impl Value {
    fn text(&self) -> &str {
        match self {
            Value::Text(text) => text,
            _ => "",
        }
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> Result<Client> {
        let stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(2))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Client(BufReader::new(stream)))
    }

    /// An error reply is an error of kind `Other` that holds its text; all other kinds are the connection's.
    fn call(&mut self, words: &[&str]) -> Result<Value> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(request.as_bytes())?;
        self.reply()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        line.ends_with("\r\n")
            .then(|| line.trim_end().to_owned())
            .ok_or_else(|| Error::new(ErrorKind::UnexpectedEof, "the connection was closed"))
    }

    fn reply(&mut self) -> Result<Value> {
        let line = self.line()?;
        let rest = line.get(1..).unwrap_or("");
        let number = || rest.parse::<i64>().map_err(|_| Error::new(ErrorKind::InvalidData, line.clone()));
        match line.as_bytes().first() {
            Some(b'+') => Ok(Value::Text(rest.to_owned())),
            Some(b'-') => Err(Error::other(rest.to_owned())),
            Some(b':') => Ok(Value::Integer(number()?)),
            Some(b'$') => match usize::try_from(number()?) {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.0.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Ok(Value::Text(String::from_utf8_lossy(&bytes).into_owned()))
                }
                Err(_) => Ok(Value::Nil),
            },
            Some(b'*') => match usize::try_from(number()?) {
                Ok(length) => (0..length).map(|_| self.reply()).collect::<Result<_>>().map(Value::Array),
                Err(_) => Ok(Value::Nil),
            },
            _ => Err(Error::new(ErrorKind::InvalidData, format!("not a reply: {line}"))),
        }
    }

    fn info(&mut self, section: &str) -> Result<HashMap<String, String>> {
        let text = self.call(&["INFO", section])?;
        let pairs = text.text().lines().filter_map(|line| line.split_once(':'));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

// ---- Nodes ----

struct Node {
    name: &'static str,
    port: u16,
    folder: PathBuf,
    process: Child,
}

fn start(binary: &Path, port: u16, folder: &Path, replica_of: Option<u16>) -> Result<Child> {
    std::fs::create_dir_all(folder)?;
    let mut command = Command::new(binary);
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "local"]);
    command.args(["--repl-diskless-sync-delay", "0", "--dir"]).arg(folder);
    if let Some(primary) = replica_of {
        command.args(["--replicaof", "127.0.0.1", &primary.to_string()]);
    }
    command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log).spawn()
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Asks until the answer is there; fails with `what` when the time is over.
fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(Error::new(ErrorKind::TimedOut, format!("waited {limit:?} in vain: {what}")));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn replication(port: u16) -> Option<HashMap<String, String>> {
    Client::connect(port).ok()?.info("replication").ok()
}

fn field<'a>(info: &'a HashMap<String, String>, name: &str) -> &'a str {
    info.get(name).map_or("", String::as_str)
}

fn is_linked_replica(port: u16) -> Option<()> {
    let info = replication(port)?;
    (field(&info, "role") == "slave" && field(&info, "master_link_status") == "up").then_some(())
}

// ---- Load ----

/// What the threads of the load share.
struct Load {
    ports: [u16; 3],
    started: Instant,
    /// The node that takes writes, as far as is known.
    primary: AtomicUsize,
    stop: AtomicBool,
    acknowledged: Mutex<Vec<String>>,
    /// Refused or cut off, and tried again.
    retried: AtomicU64,
    /// When the last write was acknowledged, and the longest time without one since it was reset; microseconds.
    last_write_us: AtomicU64,
    write_gap_us: AtomicU64,
    scripts: AtomicU64,
    slowest_script_us: AtomicU64,
    torn: AtomicU64,
    script_errors: Mutex<Vec<String>>,
}

impl Load {
    fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn note_write(&self, id: String) {
        let now = self.now_us();
        let last = self.last_write_us.swap(now, SeqCst);
        self.write_gap_us.fetch_max(now.saturating_sub(last), SeqCst);
        self.acknowledged.lock().expect("no writer panics").push(id);
    }

    fn written(&self) -> Vec<String> {
        self.acknowledged.lock().expect("no writer panics").clone()
    }

    fn find_primary(&self) {
        for (index, port) in self.ports.iter().enumerate() {
            if replication(*port).is_some_and(|info| field(&info, "role") == "master") {
                self.primary.store(index, SeqCst);
            }
        }
    }

    /// Posts again and again, each post until it is acknowledged. `post` does nothing the second time.
    fn write(&self, writer: usize) {
        let mut connection: Option<(usize, Client)> = None;
        for number in 0.. {
            let id = format!("{writer}:{number}");
            let points = (number % 7 + 1).to_string();
            let player = format!("player:{}", number % 100);
            loop {
                if self.stop.load(SeqCst) {
                    return;
                }
                let primary = self.primary.load(SeqCst);
                if connection.as_ref().is_none_or(|(index, _)| *index != primary) {
                    connection = Client::connect(self.ports[primary]).ok().map(|client| (primary, client));
                }
                let posted = connection.as_mut().map(|(_, client)| {
                    client.call(&["FCALL", "post", "3", KEYS[0], KEYS[1], KEYS[2], &id, &points, &player])
                });
                if let Some(Ok(_)) = posted {
                    break self.note_write(id);
                }
                self.retried.fetch_add(1, SeqCst);
                connection = None;
                thread::sleep(Duration::from_millis(5));
                self.find_primary();
            }
        }
    }

    /// Runs the read-only function on one node, whatever its role, while the node is up.
    fn read(&self, node: usize) {
        let mut connection = None;
        while !self.stop.load(SeqCst) {
            let Some(client) = connection.as_mut() else {
                connection = Client::connect(self.ports[node]).ok();
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            let began = Instant::now();
            match client.call(&["FCALL_RO", "standings", "3", KEYS[0], KEYS[1], KEYS[2]]) {
                Ok(_) => {
                    self.scripts.fetch_add(1, SeqCst);
                    self.slowest_script_us.fetch_max(began.elapsed().as_micros() as u64, SeqCst);
                }
                Err(error) if error.kind() == ErrorKind::Other => self.note_script_error(&error.to_string()),
                Err(_) => connection = None,
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn note_script_error(&self, text: &str) {
        if text.starts_with("TORN") {
            self.torn.fetch_add(1, SeqCst);
        } else if !text.starts_with("LOADING") {
            let mut errors = self.script_errors.lock().expect("no reader panics");
            if errors.len() < 10 {
                errors.push(text.to_owned());
            }
        }
        thread::sleep(Duration::from_millis(5));
    }

    fn begin(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let spawn = |work: fn(&Load, usize), argument| {
            let load = self.clone();
            thread::spawn(move || work(&load, argument))
        };
        let writers = (0..WRITERS).map(|writer| spawn(Load::write, writer));
        let readers = (0..READERS_PER_NODE).flat_map(|_| [1, 2]).map(|node| spawn(Load::read, node));
        writers.chain(readers).collect()
    }

    /// Forgets the longest pause and the slowest script so far.
    fn reset_worst(&self) {
        self.write_gap_us.store(0, SeqCst);
        self.slowest_script_us.store(0, SeqCst);
    }

    /// (longest time without a write, slowest script) since the reset, the running pause included.
    fn worst_ms(&self) -> (f64, f64) {
        let running = self.now_us().saturating_sub(self.last_write_us.load(SeqCst));
        let gap = self.write_gap_us.load(SeqCst).max(running);
        (gap as f64 / 1e3, self.slowest_script_us.load(SeqCst) as f64 / 1e3)
    }
}

/// Writes that `port` does not have.
fn lost(port: u16, written: &[String]) -> Result<usize> {
    let mut client = Client::connect(port)?;
    let mut lost = 0;
    for ids in written.chunks(1000) {
        let mut words = vec!["SMISMEMBER", KEYS[0]];
        words.extend(ids.iter().map(String::as_str));
        let Value::Array(found) = client.call(&words)? else {
            return Err(Error::new(ErrorKind::InvalidData, "SMISMEMBER answers an array"));
        };
        lost += found.iter().filter(|found| **found != Value::Integer(1)).count();
    }
    Ok(lost)
}

// ---- Telling ----

/// Prints the state of things twice a second while the load runs.
fn show_progress(load: &Arc<Load>) -> JoinHandle<()> {
    let load = load.clone();
    thread::spawn(move || {
        let (mut writes_before, mut scripts_before) = (0, 0);
        while !load.stop.load(SeqCst) {
            thread::sleep(Duration::from_millis(500));
            let writes = load.acknowledged.lock().expect("no writer panics").len() as u64;
            let scripts = load.scripts.load(SeqCst);
            let nodes: Vec<String> =
                NAMES.iter().zip(load.ports).map(|(name, port)| describe(name, port)).collect();
            println!(
                "  {:5.1} s  {:6} posts/s  {:5} read-only scripts/s   {}",
                load.started.elapsed().as_secs_f64(),
                (writes - writes_before) * 2,
                (scripts - scripts_before) * 2,
                nodes.join("  ")
            );
            (writes_before, scripts_before) = (writes, scripts);
        }
    })
}

fn describe(name: &str, port: u16) -> String {
    let Some(info) = replication(port) else { return format!("{name}: down") };
    let role = if field(&info, "role") == "master" { "primary" } else { "replica" };
    let offset = match role {
        "primary" => field(&info, "master_repl_offset"),
        _ => field(&info, "slave_repl_offset"),
    };
    format!("{name}: {role} @{offset}")
}

#[derive(Default)]
struct Checks {
    failed: usize,
}

impl Checks {
    fn check(&mut self, holds: bool, what: &str) {
        self.failed += usize::from(!holds);
        println!("  {}  {what}", if holds { "ok    " } else { "FAILED" });
    }
}

fn heading(text: &str) {
    println!("\n{text}");
}

// ---- The play ----

fn play(binary: &Path, folder: &Path, nodes: &mut Vec<Node>) -> Result<usize> {
    heading(
        "Act 1: a primary and two replicas, each with an AOF that is synced before a write is acknowledged",
    );
    let ports = [free_port()?, free_port()?, free_port()?];
    for (index, name) in NAMES.into_iter().enumerate() {
        let folder = folder.join(name);
        let process = start(binary, ports[index], &folder, (index > 0).then_some(ports[0]))?;
        println!("  {name} listens on port {}, its files are in {}", ports[index], folder.display());
        nodes.push(Node { name, port: ports[index], folder, process });
        wait_for("a node that answers", Duration::from_secs(20), || {
            Client::connect(ports[index]).ok()?.call(&["PING"]).ok()
        })?;
    }
    let limit = Duration::from_secs(30);
    for port in &ports[1..] {
        wait_for("a replica with its data", limit, || is_linked_replica(*port))?;
    }
    Client::connect(ports[0])?.call(&["FUNCTION", "LOAD", LIBRARY])?;
    println!("  loaded a function library on {}: `post` writes three keys, `standings` reads them", NAMES[0]);
    for port in &ports[1..] {
        wait_for("the library on a replica", limit, || {
            let list = Client::connect(*port).ok()?.call(&["FUNCTION", "LIST"]).ok()?;
            (list != Value::Array(Vec::new())).then_some(())
        })?;
    }

    let load = Arc::new(Load {
        ports,
        started: Instant::now(),
        primary: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        acknowledged: Mutex::default(),
        retried: AtomicU64::new(0),
        last_write_us: AtomicU64::new(0),
        write_gap_us: AtomicU64::new(0),
        scripts: AtomicU64::new(0),
        slowest_script_us: AtomicU64::new(0),
        torn: AtomicU64::new(0),
        script_errors: Mutex::default(),
    });
    heading(
        "Act 2: posts to the primary, read-only scripts on the replicas (offsets of the stream after the @)",
    );
    let threads = load.begin();
    let progress = show_progress(&load);
    let played = failover_and_kill(binary, &load, nodes);
    load.stop.store(true, SeqCst);
    for thread in threads.into_iter().chain([progress]) {
        thread.join().map_err(|_| Error::new(ErrorKind::InvalidData, "a thread of the load panicked"))?;
    }
    let measured = played?;
    report(&load, &measured)
}

/// What was seen while the load ran.
struct Measured {
    failover_ms: f64,
    failover_gap_ms: f64,
    failover_script_ms: f64,
    lost_by_failover: usize,
    written_by_failover: usize,
    restart_ms: f64,
    partial_resyncs: u64,
    full_resyncs: u64,
}

fn failover_and_kill(binary: &Path, load: &Load, nodes: &mut [Node]) -> Result<Measured> {
    let limit = Duration::from_secs(30);
    let [old, new, sibling] = load.ports;
    thread::sleep(Duration::from_secs(3));

    heading(&format!("Act 3: {} hands over to {} in the middle of it", NAMES[0], NAMES[1]));
    load.reset_worst();
    let began = Instant::now();
    Client::connect(old)?.call(&["FAILOVER", "TO", "127.0.0.1", &new.to_string(), "TIMEOUT", "10000"])?;
    wait_for("the new primary", limit, || (field(&replication(new)?, "role") == "master").then_some(()))?;
    let failover_ms = began.elapsed().as_secs_f64() * 1e3;
    wait_for("the old primary as a replica", limit, || is_linked_replica(old))?;
    wait_for("the sibling's link", limit, || is_linked_replica(sibling))?;
    thread::sleep(Duration::from_secs(1));
    let (failover_gap_ms, failover_script_ms) = load.worst_ms();
    let written = load.written();
    let lost_by_failover = lost(new, &written)?;
    thread::sleep(Duration::from_secs(2));

    heading(&format!("Act 4: SIGKILL for {}, which starts again from its AOF", NAMES[1]));
    nodes[1].process.kill()?;
    nodes[1].process.wait()?;
    let killed = Instant::now();
    nodes[1].process = start(binary, new, &nodes[1].folder, None)?;
    wait_for("the killed primary", limit, || {
        let mut client = Client::connect(new).ok()?;
        client.call(&["EXISTS", KEYS[0]]).ok()
    })?;
    let restart_ms = killed.elapsed().as_secs_f64() * 1e3;
    for port in [old, sibling] {
        wait_for("a replica's link after the kill", limit, || is_linked_replica(port))?;
    }
    thread::sleep(Duration::from_secs(2));
    let stats = Client::connect(new)?.info("stats")?;
    let count = |name| field(&stats, name).parse().unwrap_or(0);
    Ok(Measured {
        failover_ms,
        failover_gap_ms,
        failover_script_ms,
        lost_by_failover,
        written_by_failover: written.len(),
        restart_ms,
        partial_resyncs: count("sync_partial_ok"),
        full_resyncs: count("sync_full"),
    })
}

fn report(load: &Load, measured: &Measured) -> Result<usize> {
    let limit = Duration::from_secs(30);
    let [old, new, sibling] = load.ports;
    heading("Act 5: the load has ended; what is there?");
    let offset_of = |port| replication(port).map(|info| field(&info, "master_repl_offset").to_owned());
    let together = wait_for("equal offsets", limit, || {
        let offset = offset_of(new)?;
        (offset_of(old)? == offset && offset_of(sibling)? == offset).then_some(offset)
    });
    let mut digests = Vec::new();
    for port in load.ports {
        digests.push(Client::connect(port)?.call(&["DEBUG", "DIGEST"])?.text().to_owned());
    }
    let written = load.written();
    let mut lost_at_end = 0;
    for port in load.ports {
        lost_at_end = lost(port, &written)?.max(lost_at_end);
    }
    let torn = load.torn.load(SeqCst);
    let errors = load.script_errors.lock().expect("no reader panics").clone();

    println!("  posts acknowledged           {}", written.len());
    println!("  calls refused and repeated   {}", load.retried.load(SeqCst));
    println!("  read-only scripts run        {}", load.scripts.load(SeqCst));
    println!("  failover took                {:.0} ms", measured.failover_ms);
    println!("  longest time without a write {:.0} ms, around the failover", measured.failover_gap_ms);
    println!("  slowest read-only script     {:.1} ms, around the failover", measured.failover_script_ms);
    println!("  restart from the AOF         {:.0} ms", measured.restart_ms);
    println!(
        "  replicas after the restart   {} partial, {} full resyncs",
        measured.partial_resyncs, measured.full_resyncs
    );
    println!("  digests                      {}", digests.join(" "));
    println!();
    let mut checks = Checks::default();
    checks.check(!written.is_empty() && load.scripts.load(SeqCst) > 0, "there was a load");
    checks.check(
        measured.lost_by_failover == 0,
        &format!(
            "{} of {} acknowledged posts lost by the failover",
            measured.lost_by_failover, measured.written_by_failover
        ),
    );
    checks.check(
        lost_at_end == 0,
        &format!("{lost_at_end} of {} lost by the kill, on any node", written.len()),
    );
    checks.check(torn == 0, &format!("{torn} read-only scripts saw half of a post"));
    checks.check(
        errors.is_empty(),
        &format!("{} read-only scripts refused {}", errors.len(), errors.join("; ")),
    );
    match together {
        Ok(offset) => checks.check(true, &format!("all nodes are at offset {offset}")),
        Err(error) => checks.check(false, &error.to_string()),
    }
    let equal =
        digests.iter().all(|digest| *digest == digests[0] && digest.bytes().any(|digit| digit != b'0'));
    checks.check(equal, "the digests of the three nodes are equal, and not those of nothing");
    Ok(checks.failed)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let keep = arguments.iter().any(|argument| argument == "--keep");
    let named: Vec<&String> = arguments.iter().filter(|argument| *argument != "--keep").collect();
    let [binary] = named[..] else {
        println!("usage: demo [--keep] SERVER-BINARY   (scripts/demo builds both and calls this)");
        return ExitCode::from(2);
    };
    let folder = std::env::temp_dir().join(format!("understudy-demo-{}", std::process::id()));
    let mut nodes = Vec::new();
    let failed = play(Path::new(binary), &folder, &mut nodes);
    let ok = matches!(failed, Ok(0));
    match &failed {
        Ok(0) => heading("All checks hold."),
        Ok(failed) => heading(&format!("{failed} checks FAILED. The logs are in {}", folder.display())),
        Err(error) => heading(&format!("The demo FAILED: {error}. The logs are in {}", folder.display())),
    }
    if keep {
        heading("The nodes go on running:");
        for node in &nodes {
            println!("  {}  valkey-cli -p {}   (process {})", node.name, node.port, node.process.id());
        }
        println!(
            "  to end them: kill {}",
            nodes.iter().map(|node| node.process.id().to_string()).collect::<Vec<_>>().join(" ")
        );
        println!("  files: {}", folder.display());
    } else {
        for node in &mut nodes {
            // It may have ended by itself; then there is nothing to kill.
            let _ = node.process.kill();
            let _ = node.process.wait();
        }
        if ok {
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
