//! A live server spoken to over its socket by an unmodified client library.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Client, Connection, ErrorKind, Value};

#[path = "wire/acl.rs"]
mod acl;

/// A server with a unix socket in a folder of its own.
struct Server {
    process: Child,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(options: &[&str]) -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        Server { process: spawn(folder.path(), options), folder }
    }

    fn connect(&self) -> Connection {
        let url = format!("unix://{}", self.folder.path().join("socket").display());
        let client = Client::open(url).expect("a valid address");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let connected = client.get_connection().and_then(|mut connection| {
                redis::cmd("PING").query::<String>(&mut connection)?;
                Ok(connection)
            });
            match connected {
                Ok(connection) => return connection,
                Err(error) if Instant::now() > deadline => panic!("the server does not answer: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Kills the process as a power failure would, and starts it again on the same files.
    fn crash_and_restart(&mut self, options: &[&str]) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
        self.process = spawn(self.folder.path(), options);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &Path, options: &[&str]) -> Child {
    let socket = folder.join("socket");
    // A configuration file comes before the options.
    let (file, options) = match options {
        [file, rest @ ..] if !file.starts_with('-') => (Some(file), rest),
        all => (None, all),
    };
    Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(file)
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(folder)
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .expect("the server starts")
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn commands_transactions_and_scripts() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let ok: String = redis::cmd("SET").arg("a").arg(1).query(&mut connection).expect("set");
    assert_eq!(ok, "OK");
    let both: (i64, Option<String>) = redis::pipe()
        .atomic()
        .cmd("INCR")
        .arg("a")
        .cmd("GET")
        .arg("nothing")
        .query(&mut connection)
        .expect("a transaction");
    assert_eq!(both, (2, None));
    let script = "redis.call('rpush', KEYS[1], ARGV[1], ARGV[2]) return redis.call('lrange', KEYS[1], 0, -1)";
    let list: Vec<String> = redis::cmd("EVAL")
        .arg(script)
        .arg(1)
        .arg("l")
        .arg("x")
        .arg("y")
        .query(&mut connection)
        .expect("a script");
    assert_eq!(list, ["x", "y"]);
    let error =
        redis::cmd("EVAL_RO").arg(script).arg(1).arg("l").arg("x").arg("y").query::<Value>(&mut connection);
    assert!(error.expect_err("refused").to_string().contains("Write commands are not allowed"));
}

#[test]
fn a_slow_read_only_script_blocks_nobody_and_can_be_killed() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let mut other = server.connect();
    let slow = std::thread::spawn(move || {
        redis::cmd("EVAL_RO").arg("while true do pcall(error) end").arg(0).query::<Value>(&mut connection)
    });
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    for number in 0..20 {
        redis::cmd("SET").arg("k").arg(number).exec(&mut other).expect("a write beside the script");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "twenty writes waited for the script");
    redis::cmd("SCRIPT").arg("KILL").exec(&mut other).expect("killed");
    let error = slow.join().expect("the client's thread").expect_err("the script was killed");
    assert!(error.to_string().contains("killed"), "{error}");
}

#[test]
fn a_killed_write_script_leaves_nothing_behind() {
    let server = Server::start(&["--busy-reply-threshold", "50"]);
    let mut connection = server.connect();
    let mut other = server.connect();
    redis::cmd("SET").arg("k").arg("before").exec(&mut other).expect("set");
    let script = "redis.call('set', 'k', 'after') redis.call('sadd', 's', 'm') while true do end";
    let slow =
        std::thread::spawn(move || redis::cmd("EVAL").arg(script).arg(0).query::<Value>(&mut connection));
    std::thread::sleep(Duration::from_millis(300));
    let busy = redis::cmd("GET").arg("k").query::<Value>(&mut other).expect_err("the server is busy");
    assert_eq!(busy.code(), Some("BUSY"), "{busy}");
    let unkillable = redis::cmd("SCRIPT").arg("KILL").query::<Value>(&mut other).expect_err("it has written");
    assert_eq!(unkillable.code(), Some("UNKILLABLE"), "{unkillable}");
    redis::cmd("SCRIPT").arg("KILL").arg("ROLLBACK").exec(&mut other).expect("killed");
    assert!(slow.join().expect("the client's thread").is_err());
    let value: String = redis::cmd("GET").arg("k").query(&mut other).expect("get");
    assert_eq!(value, "before");
    let exists: i64 = redis::cmd("EXISTS").arg("s").query(&mut other).expect("exists");
    assert_eq!(exists, 0);
}

#[test]
fn the_aof_brings_scripts_effects_and_functions_back() {
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut server = Server::start(&options);
    let mut connection = server.connect();
    let library = "#!lua name=lib\nredis.register_function('bump', function(keys) return redis.call('incr', keys[1]) end)";
    redis::cmd("FUNCTION").arg("LOAD").arg(library).exec(&mut connection).expect("loaded");
    for expected in 1..=3 {
        let value: i64 =
            redis::cmd("FCALL").arg("bump").arg(1).arg("n").query(&mut connection).expect("called");
        assert_eq!(value, expected);
    }
    drop(connection);
    server.crash_and_restart(&options);
    let mut connection = server.connect();
    let value: i64 = redis::cmd("FCALL").arg("bump").arg(1).arg("n").query(&mut connection).expect("called");
    assert_eq!(value, 4);
}

#[test]
fn garbage_ends_its_connection_only() {
    use std::io::{Read, Write};
    let server = Server::start(&[]);
    let mut connection = server.connect();
    for garbage in [
        &b"*3\r\n$x\r\n"[..],
        b"*-5\r\n!\r\n",
        b"*1\r\n$99999999999\r\n",
        b"\x00\xff\xfe\r\n",
        b"*2\r\n+a\r\n",
    ] {
        let mut socket =
            std::os::unix::net::UnixStream::connect(server.folder.path().join("socket")).expect("connects");
        socket.write_all(garbage).expect("sent");
        socket.shutdown(std::net::Shutdown::Write).expect("ended");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("read to the end");
        assert!(answer.starts_with(b"-ERR"), "{}", answer.escape_ascii());
    }
    let pong: String = redis::cmd("PING").query(&mut connection).expect("the server is up");
    assert_eq!(pong, "PONG");
    let error =
        redis::cmd("EVAL").arg("this is no Lua").arg(0).query::<Value>(&mut connection).expect_err("refused");
    assert_ne!(error.kind(), ErrorKind::Io, "{error}");
}

#[test]
fn a_client_that_leaves_frees_its_slow_script() {
    let server = Server::start(&[]);
    let mut other = server.connect();
    let socket = server.folder.path().join("socket");
    let mut leaving = std::os::unix::net::UnixStream::connect(socket).expect("connected");
    let script = "while true do end";
    let request = format!("*3\r\n$7\r\nEVAL_RO\r\n${}\r\n{script}\r\n$1\r\n0\r\n", script.len());
    std::io::Write::write_all(&mut leaving, request.as_bytes()).expect("sent");
    let runs = |other: &mut redis::Connection| {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(other).expect("clients");
        clients.contains("cmd=eval_ro")
    };
    wait_until("the script runs", || runs(&mut other));
    drop(leaving);
    wait_until("the client is gone", || !runs(&mut other));
    wait_until("the script is gone", || {
        let killed = redis::cmd("SCRIPT").arg("KILL").query::<Value>(&mut other);
        killed.is_err_and(|error| error.code() == Some("NOTBUSY"))
    });
}

#[test]
fn many_slow_scripts_take_turns() {
    let server = Server::start(&["--read-only-script-threads", "1"]);
    let mut other = server.connect();
    let endless: Vec<_> = (0..5)
        .map(|_| {
            let mut connection = server.connect();
            std::thread::spawn(move || {
                redis::cmd("EVAL_RO").arg("while true do end").arg(0).query::<Value>(&mut connection)
            })
        })
        .collect();
    // Behind five that never end, one that takes a while gets its turns.
    let sum: i64 = redis::cmd("EVAL_RO")
        .arg("local sum = 0 for i = 1, 5e6 do sum = sum + 1 end return sum")
        .arg(0)
        .query(&mut other)
        .expect("summed");
    assert_eq!(sum, 5_000_000);
    for _ in 0..5 {
        redis::cmd("SCRIPT").arg("KILL").exec(&mut other).expect("killed");
    }
    for script in endless {
        assert!(script.join().expect("the client's thread").is_err());
    }
}

#[test]
fn a_script_that_wrote_in_a_transaction_cannot_be_undone_alone() {
    let server = Server::start(&["--busy-reply-threshold", "50"]);
    let mut other = server.connect();
    let mut connection = server.connect();
    let slow = std::thread::spawn(move || {
        redis::pipe()
            .atomic()
            .cmd("SET")
            .arg("before")
            .arg(1)
            .cmd("EVAL")
            .arg("redis.call('set', 'in', '1') for i = 1, 3e8 do end return 1")
            .arg(0)
            .query::<Value>(&mut connection)
    });
    wait_until("the server is busy", || redis::cmd("GET").arg("k").query::<Value>(&mut other).is_err());
    for kill in [&["KILL"][..], &["KILL", "ROLLBACK"]] {
        let refused = redis::cmd("SCRIPT").arg(kill).query::<Value>(&mut other).expect_err("it has written");
        assert_eq!(refused.code(), Some("UNKILLABLE"), "{refused}");
    }
    slow.join().expect("the client's thread").expect("the transaction ended by itself");
    let both: i64 = redis::cmd("EXISTS").arg("before").arg("in").query(&mut other).expect("exists");
    assert_eq!(both, 2);
}

#[test]
fn a_script_that_holds_the_dataset_too_long_is_undone() {
    let server = Server::start(&["--busy-script-rollback-after", "300"]);
    let mut connection = server.connect();
    redis::cmd("SET").arg("k").arg("before").exec(&mut connection).expect("set");
    let script = "redis.call('flushall') redis.call('set', 'k', 'after') while true do pcall(error) end";
    let error = redis::cmd("EVAL").arg(script).arg(0).query::<Value>(&mut connection).expect_err("undone");
    assert!(error.to_string().contains("killed"), "{error}");
    let value: String = redis::cmd("GET").arg("k").query(&mut connection).expect("get");
    assert_eq!(value, "before");
}

#[test]
fn nothing_waits_for_a_write_script_that_is_suspended_on_its_thread() {
    let server = Server::start(&["--busy-reply-threshold", "200"]);
    let (mut other, mut watching) = (server.connect(), server.connect());
    let (mut connection, mut blocked) = (server.connect(), server.connect());
    redis::cmd("WATCH").arg("k").exec(&mut watching).expect("watched");
    let script = "redis.call('set', 'x', '1') while true do end";
    let slow =
        std::thread::spawn(move || redis::cmd("EVAL").arg(script).arg(0).query::<Value>(&mut connection));
    wait_until("the server is busy", || redis::cmd("GET").arg("k").query::<Value>(&mut other).is_err());
    // Each of these needs the dataset, or something that stands beside it.
    for command in [&["INFO"][..], &["DBSIZE"], &["WAIT", "0", "0"], &["DEBUG", "DIGEST"], &["ROLE"]] {
        let busy = redis::cmd(command[0]).arg(&command[1..]).query::<Value>(&mut other);
        assert!(busy.is_err_and(|error| error.code() == Some("BUSY")), "{command:?}");
    }
    redis::cmd("UNWATCH").exec(&mut watching).expect("unwatched beside the script");
    redis::cmd("WATCH").arg("k").arg("x").exec(&mut watching).expect("watched beside the script");
    drop(watching);
    let stats: Value =
        redis::cmd("FUNCTION").arg("STATS").query(&mut other).expect("functions beside the script");
    drop(stats);
    redis::cmd("SCRIPT").arg("KILL").arg("ROLLBACK").exec(&mut other).expect("killed");
    assert!(slow.join().expect("the client's thread").is_err());
    let pong: String = redis::cmd("PING").query(&mut blocked).expect("the server serves everyone again");
    assert_eq!(pong, "PONG");
}

#[test]
fn runs_of_scripts_and_functions_are_counted() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let library = "#!lua name=lib\nredis.register_function('bump', function(keys) return redis.call('incr', keys[1]) end)";
    redis::cmd("FUNCTION").arg("LOAD").arg(library).exec(&mut connection).expect("loaded");
    for _ in 0..3 {
        redis::cmd("FCALL").arg("bump").arg(1).arg("n").exec(&mut connection).expect("called");
    }
    let script = "for i = 1, 10 do redis.call('get', KEYS[1]) end return redis.error_reply('MY error')";
    redis::cmd("EVAL")
        .arg(script)
        .arg(1)
        .arg("n")
        .query::<Value>(&mut connection)
        .expect_err("its own error");
    let slow = "for i = 1, 1e7 do end return 1";
    redis::cmd("EVAL_RO").arg(slow).arg(0).exec(&mut connection).expect("computed");
    let info: String = redis::cmd("INFO").arg("scriptstats").query(&mut connection).expect("info");
    let line = |start: &str| info.lines().find(|line| line.starts_with(start)).expect(start).to_owned();
    assert!(line("function_lib.bump:").contains("calls=3,failed=0"), "{info}");
    assert!(line("function_lib.bump:").contains("commands=3,writes=3"), "{info}");
    let scripts: Vec<&str> = info.lines().filter(|line| line.starts_with("script_")).collect();
    assert_eq!(scripts.len(), 2, "{info}");
    assert!(
        scripts.iter().any(|line| line.contains("calls=1,failed=1") && line.contains("commands=10")),
        "{info}"
    );
    let slices = |line: &str| -> u64 {
        let (_, rest) = line.split_once("slices=").expect("slices");
        rest.split(',').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    assert!(scripts.iter().any(|line| slices(line) > 1), "{info}");
    // The time of a script holds that of what it calls.
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).expect("info");
    assert!(stats.contains("cmdstat_get:calls=10"), "{stats}");
    redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut connection).expect("reset");
    let info: String = redis::cmd("INFO").arg("scriptstats").query(&mut connection).expect("info");
    assert_eq!(info.trim(), "# Scriptstats");
}
