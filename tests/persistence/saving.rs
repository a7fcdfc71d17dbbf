//! RDB files by hand and by themselves: cancelled, scheduled, failed.

use std::fs;

use crate::common::server::Server;
use crate::common::wait_until;

const SLOW: &str = "CONFIG SET rdb-key-save-delay 10000000";

#[test]
fn a_failed_save_stops_writes_until_one_succeeds() {
    let server = Server::start(&["--save", "900 1"]);
    let mut client = server.client();
    client.ok("SET k 1");
    fs::create_dir(server.folder().join("dump.rdb")).expect("in the way");
    // Those who wait for a save are told; nobody else hears of it.
    assert!(client.call("SAVE").is_error());
    assert!(client.call("SHUTDOWN SAVE").is_error());
    assert_eq!(client.info("rdb_last_bgsave_status"), "ok");
    client.ok("PING");
    client.ok("SET k 1");
    client.ok("BGSAVE");
    wait_until("it fails", || client.info("rdb_last_bgsave_status") == "err");
    let refused = client.call("SET k 2").text();
    assert!(
        refused.starts_with(
            "MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist"
        ),
        "{refused}"
    );
    assert!(refused.ends_with("Please check the Valkey logs for details about the RDB error."), "{refused}");
    assert_eq!(client.call("PING").text(), refused);
    assert_eq!(client.call("GET k").text(), "1");
    client.ok("CONFIG SET stop-writes-on-bgsave-error no");
    client.ok("PING");
    client.ok("SET k 2");
    client.ok("CONFIG SET stop-writes-on-bgsave-error yes");
    assert!(client.call("SET k 3").is_error());
    fs::remove_dir(server.folder().join("dump.rdb")).expect("out of the way");
    client.ok("SAVE");
    client.ok("SET k 3");
}

#[test]
fn bgsave_is_cancelled_and_scheduled() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.ok("MSET a 1 b 2");
    let idle = client.call("BGSAVE CANCEL").text();
    assert_eq!(idle, "ERR Background saving is currently not in progress or scheduled");
    client.ok(SLOW);
    client.ok("BGSAVE");
    assert_eq!(client.call("BGSAVE CANCEL").text(), "Background saving cancelled");
    // Another can begin at once.
    client.ok("BGSAVE");
    assert_eq!(client.call("BGSAVE CANCEL").text(), "Background saving cancelled");
    wait_until("it ends", || client.info("rdb_bgsave_in_progress") == "0");
    assert_eq!(client.info("rdb_last_bgsave_status"), "ok");
    assert!(!server.folder().join("dump.rdb").exists());
    // Behind a rewrite.
    client.ok("BGREWRITEAOF");
    assert!(client.call("BGSAVE").text().starts_with("ERR Another child process is active (AOF?)"));
    assert_eq!(client.call("BGSAVE SCHEDULE").text(), "Background saving scheduled");
    assert_eq!(client.call("BGSAVE CANCEL").text(), "Scheduled background saving cancelled");
    assert_eq!(client.call("BGSAVE SCHEDULE").text(), "Background saving scheduled");
    client.ok("CONFIG SET rdb-key-save-delay 0");
    wait_until("it is saved", || server.folder().join("dump.rdb").exists());
    wait_until("it ends", || client.info("rdb_bgsave_in_progress") == "0");
    // Within a transaction nothing begins.
    client.ok("MULTI");
    client.ok("BGSAVE");
    client.ok("BGREWRITEAOF");
    let replies = client.call("EXEC");
    assert_eq!(replies.items()[0].text(), "Background saving scheduled");
    assert_eq!(replies.items()[1].text(), "Background append only file rewriting scheduled");
}

#[test]
fn flushall_ends_what_is_being_saved_and_empties_what_was() {
    let mut server = Server::start(&["--save", "900 1"]);
    let mut client = server.client();
    client.ok("MSET a 1 b 2");
    client.ok("SAVE");
    client.ok(SLOW);
    client.ok("BGSAVE");
    client.ok("FLUSHALL");
    wait_until("it is given up", || client.info("rdb_bgsave_in_progress") == "0");
    server.kill();
    server.restart();
    assert_eq!(server.call("DBSIZE").integer(), 0);
}

/// A SAVE beside a BGSAVE that is just being given up does not write into the same file.
#[test]
fn files_in_the_making_are_kept_apart() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.ok("MSET a 1 b 2");
    client.ok(SLOW);
    client.ok("BGSAVE");
    assert_eq!(client.call("SAVE").text(), "ERR Background save already in progress");
    client.ok("BGSAVE CANCEL");
    client.ok("CONFIG SET rdb-key-save-delay 0");
    client.ok("SAVE");
    let names =
        fs::read_dir(server.folder()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with("temp-")));
}

#[test]
fn the_rdb_file_says_how_it_was_written() {
    let server = Server::start(&["--rdbchecksum", "no", "--rdbcompression", "no"]);
    let mut client = server.client();
    client.call_args(&["SET", "k", &"a".repeat(1000)]);
    client.ok("SAVE");
    let plain = fs::read(server.folder().join("dump.rdb")).expect("a file");
    assert!(plain.windows(1000).any(|window| window.iter().all(|byte| *byte == b'a')));
    assert_eq!(plain[plain.len() - 8..], [0; 8]);
    client.ok("CONFIG SET rdbcompression yes");
    client.ok("SAVE");
    assert!(fs::read(server.folder().join("dump.rdb")).expect("a file").len() < plain.len() - 900);
    client.ok("DEBUG RELOAD");
    assert_eq!(client.call("STRLEN k").integer(), 1000);
}
