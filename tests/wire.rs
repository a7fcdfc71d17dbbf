//! A live server spoken to over its socket by an unmodified client library.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Client, Connection, ErrorKind, Value};

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
    Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(folder)
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .expect("the server starts")
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
