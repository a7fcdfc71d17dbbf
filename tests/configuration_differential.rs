//! The configuration against a real Valkey 9.1: the same replies to CONFIG SET and the same errors for the
//! same command lines, byte for byte.

mod common;

use std::ffi::OsString;
use std::process::{Command, Stdio};

use common::server::{Program, Server};
use understudy::server::command_line::Task;
use understudy::server::config::{Accept, Access, Config, DIRECTIVES, Flags, ProtectedAction};

/// Values that reach every rule of every kind.
const VALUES: &[&str] = &[
    "",
    "x",
    "gArb@ge/",
    "0",
    "1",
    "-1",
    "007",
    "10",
    "100",
    "101",
    "1000",
    "65536",
    "1mb",
    "1GB",
    "5k",
    "1%",
    "0%",
    "101%",
    "-99999999999",
    "9999999999",
    "9223372036854775807",
    "9223372036854775808",
    "yes",
    "No",
    "1 2",
    "1 2 3",
    "10 2 20 30",
    "1  2",
    " 1 2",
    "1.5 99.99",
    "normal 1 2 3",
    "slave 1mb 1k 5 pubsub 1 1 1",
    "nosave force",
    "default now",
    "AKE",
    "Kg$n",
    "local",
    "relative",
    "debug",
    "logfmt",
    "json",
    "everysec",
    "allkeys-lru",
    "127.0.0.1",
    "::1",
    "a.b-c",
    "{port}x",
    "a{{b",
];

/// What cannot be compared: it would move or close the real server, it depends on the machine, or it is
/// documented to differ.
const NOT_COMPARED: &[&str] = &[
    "port",
    "bind",
    "tls-port",
    "dir",
    "maxclients",
    "requirepass",
    "locale-collate",
    "io-threads",
    "oom-score-adj",
    "oom-score-adj-values",
    "appendonly",
    "cluster-blacklist-ttl",
    // Ours take the values that they have.
    "rdma-port",
    "rdma-bind",
    // Without effect, so ours may be set at runtime.
    "rdma-rx-size",
    "rdma-completion-vector",
    "mptcp",
    "repl-mptcp",
    "hash-seed",
    "cluster-databases",
    // These close the connection of the test.
    "maxmemory-clients",
    "client-output-buffer-limit",
    "watchdog-period",
];

fn reply(value: Result<(), Vec<u8>>) -> String {
    value.map_or_else(|text| String::from_utf8_lossy(&text).into_owned(), |()| "OK".to_owned())
}

#[test]
fn config_set_replies_are_equal() {
    let Some(valkey) = Program::valkey() else { return };
    let server = Server::start_program(&valkey, &["--enable-protected-configs", "yes"]);
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).expect("an address");
    let mut connection = client.get_connection().expect("it answers");
    let mut differences = Vec::new();
    let mut compared = 0;
    for directive in DIRECTIVES {
        let known: Vec<(String, String)> =
            redis::cmd("CONFIG").arg("GET").arg(directive.name).query(&mut connection).expect("an answer");
        let Some((_, original)) = known.into_iter().next() else { continue };
        // A Valkey built without TLS aborts when these are turned on.
        let is_tls = directive.name.starts_with("tls-");
        if is_tls || NOT_COMPARED.contains(&directive.name) || directive.flags.contains(Flags::HIDDEN) {
            continue;
        }
        for value in VALUES {
            let mut config = Config { enable_protected_configs: ProtectedAction::Yes, ..Config::default() };
            let access = Access { is_local: true, is_loading: false };
            let ours = config.set_many(&[(directive.name.as_bytes(), value.as_bytes())], access);
            let ours = reply(ours.map(|_| ()).map_err(|error| error.0.into_owned()));
            let theirs: Result<(), redis::RedisError> =
                redis::cmd("CONFIG").arg("SET").arg(directive.name).arg(value).query(&mut connection);
            let theirs = match &theirs {
                Ok(()) => "OK".to_owned(),
                Err(error) => format!("{} {}", error.code().unwrap_or("?"), error.detail().unwrap_or("?")),
            };
            let read: Vec<(String, String)> = redis::cmd("CONFIG")
                .arg("GET")
                .arg(directive.name)
                .query(&mut connection)
                .expect(directive.name);
            let our_read = String::from_utf8_lossy(&directive.get(&config)).into_owned();
            let their_read = read.into_iter().next().map(|(_, value)| value).unwrap_or_default();
            let same_value = theirs != "OK" || our_read == their_read;
            compared += 1;
            if ours != theirs || !same_value {
                differences.push(format!(
                    "{} {value:?}: ours {ours} -> {our_read}, theirs {theirs} -> {their_read}",
                    directive.name
                ));
            }
            let _: Result<(), _> =
                redis::cmd("CONFIG").arg("SET").arg(directive.name).arg(&original).query(&mut connection);
        }
    }
    assert!(compared > 5000, "only {compared} were compared");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

const COMMAND_LINES: &[&[&str]] = &[
    &["--port", "6379", "6380"],
    &["--port"],
    &["--port", "abc"],
    &["--port", "\"1"],
    &["--port \"1"],
    &["--foo"],
    &["--foo", "bar"],
    &["--foo.bar"],
    &["--user"],
    &["--user", "foo", "--user", "foo"],
    &["--replicaof", "a", "99999"],
    &["--replicaof", "a"],
    &["--unixsocketperm", "999"],
    &["--unixsocketperm", "1000"],
    &["--logfile", "/nowhere/at/all"],
    &["--dir", "/nowhere/at/all"],
    &["--dir", "/dev/null"],
    &["--shutdown-on-sigterm"],
    &["--shutdown-on-sigterm", "save nosave"],
    &["--shutdown-on-sigterm", "save", "nosave"],
    &["--maxmemory-clients", "200%"],
    &["--maxmemory"],
    &["--maxmemory", "700xb"],
    &["--save", "1"],
    &["--save", "--port", "x"],
    &["--bind", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17"],
    &["--client-output-buffer-limit", "normal", "1", "2"],
    &["--appendfilename", ""],
    &["--appenddirname", "a/b"],
    &["--hz", "1", "--loglevel", "loud"],
    &["--test-memory-of-mine", "1"],
    &["/dev/null", "loglevel", "loud"],
    &["--hz", "--port", "x"],
];

#[test]
fn command_line_errors_are_equal() {
    let Some(valkey) = Program::valkey() else { return };
    let mut differences = Vec::new();
    for line in COMMAND_LINES {
        let output = Command::new(valkey.path()).args(*line).stdin(Stdio::null()).output().expect("ran");
        let theirs = String::from_utf8_lossy(&output.stderr).into_owned();
        let arguments: Vec<OsString> = line.iter().map(OsString::from).collect();
        let Task::Serve(arguments) = Task::parse(&arguments) else { panic!("{line:?} starts no server") };
        let ours =
            arguments.load(&mut Accept).map(|_| String::new()).unwrap_or_else(|error| error.to_string());
        if ours.trim() != theirs.trim() || output.status.code() != Some(1) {
            differences.push(format!("{line:?}: ours {ours}\ntheirs {theirs}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
