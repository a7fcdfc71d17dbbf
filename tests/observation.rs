//! What the server tells of itself, over its socket: MONITOR, COMMANDLOG, LATENCY, INFO's figures, DUMP and RESTORE.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Server {
    process: Child,
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let process = Command::new(env!("CARGO_BIN_EXE_understudy"))
            .args(["--port", "0", "--save", "", "--enable-debug-command", "yes", "--unixsocket"])
            .arg(folder.path().join("socket"))
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Server { process, folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        // While the dataset is loaded, of which there is none here, most calls are refused.
        while server.connect().ask("DBSIZE").starts_with('-') {
            assert!(Instant::now() < deadline, "the server does not get ready");
        }
        server
    }

    fn connect(&self) -> Connection {
        let path = self.folder.path().join("socket");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
                    return Connection(BufReader::new(stream));
                }
                Err(error) if Instant::now() > deadline => panic!("the server does not answer: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Connection(BufReader<UnixStream>);

impl Connection {
    fn send(&mut self, line: &str) {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.send_words(&words);
    }

    fn send_words(&mut self, words: &[&[u8]]) {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&request).expect("sent");
    }

    /// A reply as words: arrays and maps flat, errors with their `-`.
    fn read(&mut self) -> Vec<String> {
        self.read_bytes().into_iter().map(|word| String::from_utf8_lossy(&word).into_owned()).collect()
    }

    fn read_bytes(&mut self) -> Vec<Vec<u8>> {
        let line = self.read_line();
        let number = || line[1..].parse::<i64>().expect("a number");
        match &line[..1] {
            "*" => (0..number()).flat_map(|_| self.read_bytes()).collect(),
            "$" if number() < 0 => vec![b"nil".to_vec()],
            "$" => {
                let mut bytes = vec![0; number() as usize + 2];
                std::io::Read::read_exact(&mut self.0, &mut bytes).expect("a whole reply");
                bytes.truncate(bytes.len() - 2);
                vec![bytes]
            }
            "-" => vec![line.into_bytes()],
            _ => vec![line.as_bytes()[1..].to_vec()],
        }
    }

    fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.read().join(" ")
    }
}

/// The value of a field of INFO.
fn field(info: &str, name: &str) -> String {
    let line = info.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap_or("");
    line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
}

#[test]
fn monitor_shows_calls_in_order_and_no_secrets() {
    let server = Server::start();
    let (mut monitor, mut client) = (server.connect(), server.connect());
    assert_eq!(monitor.ask("MONITOR"), "OK");
    client.send_words(&[b"SET", b"a", b"b \"\x01"]);
    client.read();
    for line in [
        "CONFIG GET port",
        "SELECT 3",
        "MULTI",
        "GET a",
        "EXEC",
        "AUTH secret",
        "HELLO 2 AUTH default secret",
        "BLPOP nothing 0.01",
        "UNKNOWN a",
    ] {
        client.ask(line);
    }
    client.send_words(&[b"EVAL", b"redis.call('set', KEYS[1], 1) return 1", b"1", b"k"]);
    client.read();
    let expected = [
        r#"0 "SET" "a" "b \"\x01""#,
        r#"3 "SELECT" "3""#,
        r#"3 "MULTI""#,
        r#"3 "GET" "a""#,
        r#"3 "EXEC""#,
        r#"3 "AUTH" "(redacted)""#,
        r#"3 "HELLO" "2" "AUTH" "(redacted)" "(redacted)""#,
        r#"3 "BLPOP" "nothing" "0.01""#,
        r#"3 "EVAL" "redis.call('set', KEYS[1], 1) return 1" "1" "k""#,
        r#"lua "set" "k" "1""#,
    ];
    for wanted in expected {
        let line = monitor.read_line();
        let (head, call) = line.split_once("] ").expect("a line of MONITOR");
        let (moment, place) = head.split_once(" [").expect("a line of MONITOR");
        let (seconds, micros) = moment[1..].split_once('.').expect("a moment");
        assert!(seconds.len() >= 10 && micros.len() == 6, "{line}");
        let (database, who) = place.split_once(' ').expect("a database");
        let shown = if who == "lua" { "lua" } else { database };
        assert_eq!(format!("{shown} {call}"), wanted, "{line}");
    }
    assert!(client.ask("CLIENT LIST").contains("flags=OU"), "a monitor has the flag O");
    assert_eq!(monitor.ask("RESET"), "RESET");
    client.ask("GET a");
    assert_eq!(monitor.ask("PING"), "PONG", "after RESET nothing is shown");
}

#[test]
fn calls_that_stand_out_are_logged() {
    let server = Server::start();
    let mut client = server.connect();
    let large = "v".repeat(200);
    for line in [
        "CONFIG SET commandlog-request-larger-than 100 commandlog-reply-larger-than 100",
        "CONFIG SET commandlog-execution-slower-than -1",
        "CLIENT SETNAME me",
        &format!("SET k {large}"),
        "GET k",
    ] {
        assert!(!client.ask(line).starts_with('-'), "{line}");
    }
    assert_eq!(client.ask("COMMANDLOG LEN slow"), "0");
    let requests = client.ask("COMMANDLOG GET 1 large-request");
    assert!(requests.contains(" 228 SET k vvv") && requests.ends_with(" me"), "{requests}");
    assert!(requests.contains("... (72 more bytes)"), "{requests}");
    let replies = client.ask("COMMANDLOG GET -1 large-reply");
    assert!(replies.contains(" 208 GET k "), "{replies}");
    client.ask("CONFIG SET commandlog-execution-slower-than 0");
    client.ask("SLOWLOG RESET");
    client.ask("CONFIG SET requirepass  ");
    client.ask("CONFIG SET primaryauth secret");
    let slow = client.ask("SLOWLOG GET -1");
    assert!(slow.contains("CONFIG SET primaryauth (redacted)") && !slow.contains("secret"), "{slow}");
    let mut waiting = server.connect();
    waiting.send("BLPOP list 0");
    while !client.ask("INFO clients").contains("blocked_clients:1") {}
    assert!(!client.ask("SLOWLOG GET -1").contains("BLPOP"), "not before it is served");
    client.ask("LPUSH list x");
    waiting.read();
    assert!(client.ask("SLOWLOG GET -1").contains("BLPOP list 0"));
}

#[test]
fn latency_is_measured() {
    let server = Server::start();
    let mut client = server.connect();
    assert!(client.ask("LATENCY DOCTOR").contains("is off"));
    client.ask("CONFIG SET latency-monitor-threshold 20");
    client.ask("DEBUG SLEEP 0.05");
    client.ask("PING");
    client.send("LATENCY LATEST");
    let latest = client.read();
    let number = |index: usize| latest[index].parse::<u64>().expect("a number");
    assert_eq!((latest[0].as_str(), latest.len()), ("command", 6));
    assert!((50..5000).contains(&number(2)) && number(3) == number(2) && number(5) == 1, "{latest:?}");
    assert!(client.ask("LATENCY GRAPH command").starts_with("command - high "));
    assert!(client.ask("LATENCY DOCTOR").contains("1. command: 1 latency spikes"));
    assert_eq!(client.ask("LATENCY RESET nothing command"), "1");
    assert_eq!(client.ask("LATENCY LATEST"), "");
    let histogram = client.ask("LATENCY HISTOGRAM debug nothing");
    assert!(histogram.starts_with("debug calls 1 histogram_usec "), "{histogram}");
    let stats = client.ask("INFO latencystats");
    assert!(stats.contains("latency_percentiles_usec_debug:p50="), "{stats}");
    client.ask("CONFIG RESETSTAT");
    assert_eq!(client.ask("LATENCY HISTOGRAM debug"), "");
    client.ask("CONFIG SET latency-tracking no");
    client.ask("ECHO a");
    assert_eq!(client.ask("LATENCY HISTOGRAM echo"), "");
}

#[test]
fn info_shows_rates() {
    let server = Server::start();
    let mut client = server.connect();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        for _ in 0..200 {
            client.ask("PING");
        }
        let info = client.ask("INFO stats");
        let rate = |name: &str| field(&info, name).parse::<f64>().unwrap_or(0.0);
        if rate("instantaneous_ops_per_sec") > 0.0 && rate("instantaneous_input_kbps") > 0.0 {
            break;
        }
        assert!(Instant::now() < deadline, "no rate was seen: {info}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_dumped_value_is_restored() {
    let server = Server::start();
    let mut client = server.connect();
    client.ask("RPUSH list a b c");
    client.send("DUMP list");
    let payload = client.read_bytes().remove(0);
    client.send_words(&[b"RESTORE", b"copy", b"100000", &payload]);
    assert_eq!(client.read(), ["OK"]);
    assert_eq!(client.ask("LRANGE copy 0 -1"), "a b c");
    assert!(client.ask("PTTL copy").parse::<u64>().is_ok_and(|ttl| (90_000..=100_000).contains(&ttl)));
    client.send_words(&[b"RESTORE", b"copy", b"0", &payload]);
    assert_eq!(client.read(), ["-BUSYKEY Target key name already exists."]);
    let mut broken = payload.clone();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    client.send_words(&[b"RESTORE", b"copy", b"0", &broken, b"REPLACE"]);
    assert_eq!(client.read(), ["-ERR DUMP payload version or checksum are wrong"]);
    assert_eq!(client.ask("DUMP nothing"), "nil");
}

#[test]
fn debug_changes_what_it_says() {
    let server = Server::start();
    let mut client = server.connect();
    let replid = |client: &mut Connection| field(&client.ask("INFO replication"), "master_replid");
    let before = replid(&mut client);
    assert_eq!(client.ask("DEBUG CHANGE-REPL-ID"), "OK");
    let after = replid(&mut client);
    assert!(before.len() == 40 && after.len() == 40 && before != after, "{before} {after}");
    assert_eq!(client.ask("DEBUG STRINGMATCH-LEN 1000 a*a"), "1");
    assert_eq!(client.ask("DEBUG STRINGMATCH-LEN 1000 b*"), "0");
    client.ask("RPUSH list a");
    assert_eq!(
        client.ask("DEBUG QUICKLIST-PACKED-THRESHOLD 4gb"),
        "-ERR argument must be a memory value bigger than 1 and smaller than 4gb"
    );
    assert_eq!(client.ask("DEBUG QUICKLIST-PACKED-THRESHOLD 1b"), "OK");
    client.ask("RPUSH packed aa bb");
    assert_eq!(client.ask("LRANGE packed 0 -1"), "aa bb");
    assert!(client.ask("DEBUG HTSTATS 0").contains("number of elements: 2"));
    assert!(client.ask("DEBUG RELOAD NOFLUSH").starts_with("-ERR Error trying to load the RDB dump"));
    client.ask("DEL packed");
    assert_eq!(client.ask("DEBUG RELOAD NOSAVE NOFLUSH MERGE"), "OK");
    assert_eq!(client.ask("LRANGE packed 0 -1"), "aa bb");
    assert!(
        client.ask("DEBUG RELOAD NOTHING").contains("only supports the MERGE, NOFLUSH and NOSAVE options")
    );
}

#[test]
fn debug_ends_the_process() {
    for (how, signal) in [("SEGFAULT", 11), ("PANIC", 6)] {
        let mut server = Server::start();
        server.connect().send(&format!("DEBUG {how}"));
        let status = server.process.wait().expect("ended");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal), "{how}");
    }
}
