//! MIGRATE, to ours and to real servers.

use std::time::{Duration, Instant};

use super::signal;
use crate::common::client::Client;
use crate::common::dataset;
use crate::common::server::{Program, Server};
use crate::common::wait_until;

fn migrate(client: &mut Client, target: &Server, rest: &str) -> String {
    client.call(&format!("MIGRATE 127.0.0.1 {} {rest}", target.port)).text()
}

#[test]
fn every_type_arrives_at_every_server() {
    let programs = [Some(Program::ours()), Program::valkey(), Program::redis()];
    for program in programs.into_iter().flatten() {
        let (source, target) = (Server::start(&[]), Server::start_program(&program, &[]));
        let mut client = source.client();
        dataset::fill(&mut client, false);
        if program.path() != Program::ours().path() {
            // Payloads of streams may be of a version that older servers refuse.
            for key in client.call("KEYS stream:*").items() {
                client.call_args(&["DEL", &key.text()]);
            }
        }
        let keys: Vec<String> = client.call("KEYS *").items().iter().map(|key| key.text()).collect();
        for key in &keys {
            let words = ["MIGRATE", "127.0.0.1", &target.port.to_string(), key, "0", "5000"];
            assert_eq!(client.call_args(&words).text(), "OK", "{key}");
        }
        assert_eq!(client.call("DBSIZE").integer(), 0);
        let arrived = target.client().call("DBSIZE").integer();
        assert_eq!(arrived, keys.len() as i64);
    }
}

#[test]
fn options_and_refusals() {
    let (source, target) = (Server::start(&[]), Server::start(&[]));
    target.client().ok("CONFIG SET requirepass secret");
    let mut client = source.client();
    client.ok("MSET a 1 b 2");
    assert_eq!(migrate(&mut client, &target, "nothing 0 1000"), "NOKEY");
    let refused = migrate(&mut client, &target, "a 0 1000");
    assert!(refused.starts_with("ERR Target instance replied with error: NOAUTH"), "{refused}");
    let refused = migrate(&mut client, &target, "a 0 1000 AUTH wrong");
    assert!(refused.starts_with("ERR Target instance replied with error: WRONGPASS"), "{refused}");
    assert_eq!(migrate(&mut client, &target, "a 0 1000 COPY AUTH secret"), "OK");
    assert_eq!(client.call("GET a").text(), "1");
    assert_eq!(source.info("migrate_cached_sockets"), "1");
    let busy = migrate(&mut client, &target, "a 0 1000 AUTH2 default secret");
    assert_eq!(busy, "ERR Target instance replied with error: BUSYKEY Target key name already exists.");
    let words = format!("MIGRATE 127.0.0.1 {} ", target.port);
    let mut all: Vec<&str> = words.split_whitespace().collect();
    all.extend(["", "3", "1000", "REPLACE", "AUTH", "secret", "KEYS", "a", "b", "c"]);
    assert_eq!(client.call_args(&all).text(), "OK");
    assert_eq!(client.call("DBSIZE").integer(), 0);
    let mut there = target.client();
    there.ok("AUTH secret");
    there.ok("SELECT 3");
    assert_eq!(there.call("MGET a b").items().len(), 2);
    client.ok("SET a 1");
    assert_eq!(migrate(&mut client, &target, "a x 1000"), "ERR value is not an integer or out of range");
    assert_eq!(migrate(&mut client, &target, "a 0 1000 NO"), "ERR syntax error");
    let key = "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string";
    assert_eq!(migrate(&mut client, &target, "a 0 1000 KEYS a"), key);
    assert_eq!(
        client.call("MIGRATE 127.0.0.1 1 a 0 200").text(),
        "IOERR error or timeout writing to target instance"
    );
    // In a transaction, where nobody can wait.
    client.ok("MULTI");
    client.ok("SET t 1");
    client.ok(&format!("MIGRATE 127.0.0.1 {} t 0 1000 AUTH secret", target.port));
    client.ok("EXISTS t");
    assert_eq!(client.call("EXEC").items()[2].integer(), 0);
}

/// While the target does not answer, others are served, and what they write meanwhile goes with the key.
#[test]
fn nobody_else_waits_and_no_write_is_lost() {
    let (source, target) = (Server::start(&[]), Server::start(&[]));
    let replica = Server::replica_of(source.port, &[]);
    let mut client = source.client();
    client.ok("RPUSH list a");
    client.ok("SET deleted 1");
    signal(&target, "STOP");
    let request =
        ["MIGRATE", "127.0.0.1", &target.port.to_string(), "", "0", "20000", "KEYS", "list", "deleted"];
    client.send(&request).expect("sent");
    let mut other = source.client();
    wait_until("it is under way", || other.info("blocked_clients") == "1");
    let began = Instant::now();
    other.ok("RPUSH list b");
    other.ok("DEL deleted");
    assert!(began.elapsed() < Duration::from_secs(10), "a client waited for the target");
    signal(&target, "CONT");
    assert_eq!(client.read().expect("a reply").text(), "OK");
    assert_eq!(other.call("EXISTS list").integer(), 0);
    let mut there = target.client();
    assert_eq!(there.call("LRANGE list 0 -1").items().len(), 2);
    assert_eq!(there.call("EXISTS deleted").integer(), 0);
    replica.wait_for_offset_of(&source);
    assert_eq!(replica.call("DBSIZE").integer(), 0);
}

#[test]
fn a_target_that_takes_too_long_is_given_up() {
    let (source, target) = (Server::start(&[]), Server::start(&[]));
    let mut client = source.client();
    client.ok("SET k 1");
    signal(&target, "STOP");
    assert_eq!(migrate(&mut client, &target, "k 0 200"), "IOERR error or timeout reading to target instance");
    assert_eq!(client.call("GET k").text(), "1");
    signal(&target, "CONT");
}
