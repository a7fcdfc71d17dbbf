//! SHUTDOWN and the signals: what is waited for, what is saved, and what happens if that fails.

use std::fs;

use super::{ALWAYS, signal};
use crate::common::client::Client;
use crate::common::server::Server;
use crate::common::wait_until;

/// A primary with a replica that is stopped and lacks a write.
fn with_lagging_replica(options: &[&str]) -> (Server, Server) {
    let primary = Server::start(options);
    let replica = Server::replica_of(primary.port, &[]);
    primary.client().ok("SET k 1");
    replica.wait_for_offset_of(&primary);
    signal(&replica, "STOP");
    primary.client().ok("INCR k");
    (primary, replica)
}

fn is_waiting(client: &mut Client) -> bool {
    client.try_info("shutdown_in_milliseconds").is_some()
}

#[test]
fn replicas_are_waited_for() {
    for by_signal in [false, true] {
        let (mut primary, replica) = with_lagging_replica(&["--shutdown-timeout", "300"]);
        let mut client = primary.client();
        if by_signal {
            signal(&primary, "TERM");
        } else {
            client.send(&["SHUTDOWN"]).expect("sent");
        }
        let mut other = primary.client();
        wait_until("it waits", || is_waiting(&mut other));
        assert_eq!(other.call("GET k").text(), "2");
        signal(&replica, "CONT");
        assert!(primary.wait_for_exit().success());
        wait_until("it has arrived", || replica.call("GET k").text() == "2");
        let log = primary.log();
        assert!(
            log.contains("1 of 1 replicas are in sync when shutting down.") && !log.contains("Lagging"),
            "{log}"
        );
    }
}

#[test]
fn not_for_longer_than_the_timeout_and_not_with_now() {
    let (mut primary, replica) = with_lagging_replica(&["--shutdown-timeout", "1"]);
    primary.client().send(&["SHUTDOWN"]).expect("sent");
    assert!(primary.wait_for_exit().success());
    assert!(primary.log().contains("0 of 1 replicas are in sync when shutting down."));
    signal(&replica, "CONT");
    let (mut primary, replica) = with_lagging_replica(&["--shutdown-timeout", "300"]);
    primary.client().send(&["SHUTDOWN", "NOW"]).expect("sent");
    assert!(primary.wait_for_exit().success());
    assert!(primary.log().contains("Lagging replica"));
    signal(&replica, "CONT");
}

#[test]
fn abort_lets_everybody_go_on() {
    let (primary, replica) = with_lagging_replica(&["--shutdown-timeout", "300"]);
    let mut askers = [primary.client(), primary.client()];
    for asker in &mut askers {
        asker.send(&["SHUTDOWN"]).expect("sent");
    }
    let mut other = primary.client();
    wait_until("both wait", || is_waiting(&mut other) && other.info("blocked_clients") == "2");
    let mut writer = primary.client();
    writer.send(&["SET", "written", "later"]).expect("sent");
    assert_eq!(other.call("SHUTDOWN ABORT").text(), "OK");
    for asker in &mut askers {
        assert_eq!(asker.read().expect("a reply").text(), "ERR Errors trying to SHUTDOWN. Check logs.");
        assert_eq!(asker.call("PING").text(), "PONG");
    }
    assert_eq!(writer.read().expect("a reply").text(), "OK");
    assert_eq!(other.call("SHUTDOWN ABORT").text(), "ERR No shutdown in progress.");
    assert!(!is_waiting(&mut other));
    signal(&replica, "CONT");
    replica.wait_for_offset_of(&primary);
}

#[test]
fn an_end_that_could_not_save_is_none_unless_forced() {
    let mut server = Server::start(&["--save", "900 1"]);
    let mut client = server.client();
    client.ok("SET k 1");
    fs::create_dir(server.folder().join("dump.rdb")).expect("in the way");
    assert_eq!(client.call("SHUTDOWN").text(), "ERR Errors trying to SHUTDOWN. Check logs.");
    signal(&server, "TERM");
    wait_until("it tries", || server.log().matches("Error trying to save the DB, can't exit.").count() == 2);
    client.ok("CONFIG SET stop-writes-on-bgsave-error no");
    client.ok("SET k 2");
    client.send(&["SHUTDOWN", "SAVE", "FORCE"]).expect("sent");
    assert!(server.wait_for_exit().success());
    assert!(server.log().contains("Error trying to save the DB. Exit anyway."));
}

#[test]
fn the_first_base_of_an_aof_is_waited_for() {
    let mut server = Server::start(&[]);
    let mut client = server.client();
    client.ok("MSET a 1 b 2");
    client.ok("CONFIG SET rdb-key-save-delay 10000000");
    client.ok("CONFIG SET appendonly yes");
    assert_eq!(client.call("SHUTDOWN").text(), "ERR Errors trying to SHUTDOWN. Check logs.");
    assert!(server.log().contains("Writing initial AOF, can't exit."));
    client.ok("CONFIG SET shutdown-on-sigterm force");
    signal(&server, "TERM");
    assert!(server.wait_for_exit().success());
    let names =
        fs::read_dir(server.folder()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with("temp-")));
}

#[test]
fn signals_follow_their_directives() {
    let file = |server: &Server| server.folder().join("dump.rdb").exists();
    let mut server = Server::start(&["--shutdown-on-sigterm", "save"]);
    server.client().ok("SET k 1");
    signal(&server, "TERM");
    assert!(server.wait_for_exit().success());
    assert!(file(&server));
    let mut server = Server::start(&["--save", "900 1", "--shutdown-on-sigint", "nosave"]);
    server.client().ok("SET k 1");
    signal(&server, "INT");
    assert!(server.wait_for_exit().success());
    assert!(!file(&server));
    // A second time: now.
    let mut server = Server::start(&["--save", "900 1"]);
    let mut client = server.client();
    client.ok("MSET a 1 b 2");
    client.ok("CONFIG SET rdb-key-save-delay 10000000");
    signal(&server, "INT");
    wait_until("it saves", || server.log().contains("Saving the final RDB snapshot before exiting."));
    signal(&server, "INT");
    assert_eq!(server.wait_for_exit().code(), Some(1));
    assert!(!file(&server));
}

#[test]
fn a_server_that_is_loading_can_be_ended() {
    let mut server = Server::start(ALWAYS);
    let mut client = server.client();
    client.ok("DEBUG POPULATE 5000");
    client.ok("BGREWRITEAOF");
    wait_until("the rewrite ends", || client.info("aof_rewrite_in_progress") == "0");
    for by_signal in [true, false] {
        server.kill();
        server.restart_loading(&[ALWAYS, &["--key-load-delay", "100000"]].concat());
        if by_signal {
            signal(&server, "TERM");
        } else {
            server.client().send(&["SHUTDOWN"]).expect("sent");
        }
        assert!(server.wait_for_exit().success(), "{}", server.log());
        server.restart_with(ALWAYS);
        assert_eq!(server.call("DBSIZE").integer(), 5000);
    }
}

#[test]
fn what_shutdown_does_not_take() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for words in ["SHUTDOWN SAVE NOSAVE", "SHUTDOWN ABORT NOW", "SHUTDOWN PLEASE"] {
        assert_eq!(client.call(words).text(), "ERR syntax error", "{words}");
    }
    assert_eq!(
        client.call("SHUTDOWN FAILOVER").text(),
        "ERR SHUTDOWN FAILOVER is only supported in cluster mode."
    );
}
