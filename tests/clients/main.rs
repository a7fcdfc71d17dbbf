//! Clients and tools that people have, unmodified, against a live server. The redis crate is in `tests/wire.rs`.
//!
//! They are ignored where nobody asked for them, since the Python packages may not be installed; CI asks.

#[path = "../common/mod.rs"]
mod common;

use std::process::{Command, Output};

use common::server::Server;

const NEEDS: &str = "needs the Python packages redis, valkey and valkey-glide, and redis-tools";

fn succeeded(output: Output) -> String {
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{NEEDS}:\n{said}\n{failed}");
    said.into_owned()
}

fn run_python(script: &str, package: &str) {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &[]);
    let script = format!("{}/tests/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    let ports = [primary.port.to_string(), replica.port.to_string()];
    let output = Command::new("python3").arg(script).arg(package).args(ports).output().expect(NEEDS);
    assert!(succeeded(output).ends_with("all of it holds\n"));
}

#[test]
#[ignore = "needs the Python package redis"]
fn redis_py() {
    run_python("redis_py.py", "redis");
}

#[test]
#[ignore = "needs the Python package valkey"]
fn valkey_py() {
    run_python("redis_py.py", "valkey");
}

#[test]
#[ignore = "needs the Python package valkey-glide"]
fn valkey_glide() {
    run_python("glide_client.py", "glide");
}

#[test]
#[ignore = "needs redis-tools"]
fn redis_cli() {
    let server = Server::start(&[]);
    let port = server.port.to_string();
    let cli = |words: &[&str]| {
        let output = Command::new("redis-cli").args(["-p", &port]).args(words).output().expect(NEEDS);
        succeeded(output)
    };
    assert_eq!(cli(&["set", "key", "value"]), "OK\n");
    assert_eq!(cli(&["-3", "hset", "hash", "field", "1"]), "1\n");
    assert_eq!(cli(&["eval", "return {KEYS[1], ARGV[1]}", "1", "key", "argument"]), "key\nargument\n");
    let script = server.folder().join("script.lua");
    std::fs::write(&script, "return redis.call('GET', KEYS[1])").unwrap();
    assert_eq!(cli(&["--eval", script.to_str().unwrap(), "key"]), "value\n");
    assert_eq!(cli(&["--scan", "--pattern", "k*"]), "key\n");
    assert!(cli(&["--bigkeys"]).contains("Biggest string found"));
    assert!(cli(&["--memkeys"]).contains("Biggest"));
    assert!(cli(&["info", "server"]).contains("redis_version:"));
    let saved = server.folder().join("taken.rdb");
    cli(&["--rdb", saved.to_str().unwrap()]);
    assert_eq!(std::fs::read(saved).unwrap().get(..5), Some(&b"REDIS"[..]));
    cli(&["shutdown", "nosave"]);
}

/// All that redis-benchmark does by itself; it stops at the first error.
#[test]
#[ignore = "needs redis-tools"]
fn redis_benchmark() {
    let server = Server::start(&[]);
    let port = server.port.to_string();
    for more in [&["-c", "20"][..], &["-P", "16", "-r", "1000"], &["--threads", "2", "-3"]] {
        let arguments = ["-p", &port, "-n", "2000", "-q", "-e"];
        let output = Command::new("redis-benchmark").args(arguments).args(more).output().expect(NEEDS);
        let said = succeeded(output);
        assert!(said.contains("GET: ") && said.contains("LRANGE_600"), "{said}");
        assert!(!said.contains("rror"), "{said}");
    }
}
