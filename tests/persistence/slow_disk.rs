//! A disk that takes its time to sync: nobody who writes waits for it, and nothing counts as synced before it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::server::{Program, Server};
use crate::common::wait_until;

const EVERYSEC: &[&str] =
    &["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"];
/// A server whose syncs take as long as [`set_delay`] says.
fn start(options: &[&str]) -> Server {
    let folder = tempfile::tempdir().expect("a folder");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/persistence/slow_disk.c");
    let library = folder.path().join("slow_disk.so");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(compiled.expect("the compiler that builds Lua").success());
    let wrapper = folder.path().join("server");
    let (library, ours) = (library.display(), Program::ours());
    let script = format!("#!/bin/sh\nLD_PRELOAD={library} exec {} \"$@\"\n", ours.path().display());
    fs::write(&wrapper, script).expect("written");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("runnable");
    Server::start_in(folder, &ours.through(wrapper), options)
}

fn set_delay(server: &Server, milliseconds: u32) {
    replace(server, "slow-sync", &milliseconds.to_string());
}

/// At once, so that nobody reads half of it.
fn replace(server: &Server, name: &str, text: &str) {
    let (new, path) = (server.folder().join("new"), server.folder().join(name));
    fs::write(&new, text).expect("written");
    fs::rename(new, path).expect("renamed");
}

/// Syncs that do not end before they are told to: whoever is answered meanwhile has not waited for them.
struct Held<'a> {
    server: &'a Server,
    released: u64,
}

impl Held<'_> {
    /// From now on, for a process that has not been held yet.
    fn begin(server: &Server) -> Held<'_> {
        for name in ["syncs-begun", "syncs-released"] {
            // Of an earlier process.
            let _ = fs::remove_file(server.folder().join(name));
        }
        replace(server, "slow-sync", "hold");
        Held { server, released: 0 }
    }

    /// Does a sync wait?
    fn one_waits(&self) -> bool {
        let begun = fs::metadata(self.server.folder().join("syncs-begun"));
        begun.is_ok_and(|begun| begun.len() > self.released)
    }

    fn release_one(&mut self) {
        self.released += 1;
        replace(self.server, "syncs-released", &self.released.to_string());
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        set_delay(self.server, 0);
    }
}

/// As many new keys as there are numbers.
fn write(client: &mut Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        client.ok(&format!("SET key:{number} {number}"));
    }
}

#[test]
fn nobody_waits_for_a_sync_of_every_second() {
    let mut server = start(EVERYSEC);
    let mut client = server.client();
    let held = Held::begin(&server);
    write(&mut client, 0..1);
    wait_until("a sync is going on", || held.one_waits());
    write(&mut client, 1..500);
    assert!(held.one_waits() && held.released == 0);
    drop(held);
    // What was held back is written when the sync has ended.
    wait_until("all is written", || server.info("aof_buffer_length") == "0");
    server.kill();
    server.restart();
    assert_eq!(server.call("DBSIZE").integer(), 500);
}

/// After two seconds it is written all the same, and counted. Nothing of it is acknowledged as synced.
#[test]
fn what_waits_for_too_long_is_written_without_being_synced() {
    let mut server = start(EVERYSEC);
    let mut client = server.client();
    client.ok("SET before 1");
    assert_eq!(client.call("WAITAOF 1 0 5000").items()[0].integer(), 1);
    set_delay(&server, 8000);
    client.ok("SET first 1");
    wait_until("a sync is going on", || server.info("aof_pending_bio_fsync") == "1");
    let began = Instant::now();
    client.ok("SET second 1");
    wait_until("it is written", || server.info("aof_delayed_fsync") == "1");
    assert!(began.elapsed() > Duration::from_millis(1500), "{:?}", began.elapsed());
    assert_eq!(client.call("WAITAOF 1 0 100").items()[0].integer(), 0);
    assert_eq!(server.info("aof_buffer_length"), "0");
    set_delay(&server, 0);
    server.kill();
    server.restart();
    assert_eq!(server.call("EXISTS before first second").integer(), 3);
}

#[test]
fn nobody_waits_for_the_syncs_of_a_rewrite() {
    let mut server = start(EVERYSEC);
    let mut count = 0;
    for round in 0..2 {
        let mut client = server.client();
        let mut held = Held::begin(&server);
        client.ok("BGREWRITEAOF");
        while server.info("aof_rewrite_in_progress") == "1" {
            if held.one_waits() {
                write(&mut client, count..count + 20);
                count += 20;
                held.release_one();
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(server.info("aof_last_bgrewrite_status"), "ok");
        // The old file, its end, the new base, manifest and state, and their folder.
        assert!(held.released >= 8, "round {round}: {}", held.released);
        drop(held);
        wait_until("all is written", || server.info("aof_buffer_length") == "0");
        assert_eq!(server.call("DBSIZE").integer(), count as i64);
        server.kill();
        server.restart();
        assert_eq!(server.call("DBSIZE").integer(), count as i64);
    }
}

/// What waits in memory is written and synced before an end, and before what is to be loaded again.
#[test]
fn an_end_and_a_reload_wait_for_everything() {
    let mut server = start(EVERYSEC);
    let mut client = server.client();
    for (round, end) in ["DEBUG LOADAOF", "SHUTDOWN"].into_iter().enumerate() {
        set_delay(&server, 1000);
        client.ok(&format!("SET first:{round} 1"));
        wait_until("a sync is going on", || server.info("aof_pending_bio_fsync") == "1");
        client.ok(&format!("SET second:{round} 1"));
        if end == "SHUTDOWN" {
            client.send(&[end]).expect("sent");
            server.wait_for_exit();
            set_delay(&server, 0);
            server.restart();
        } else {
            client.ok(end);
        }
        let present = server.call(&format!("EXISTS first:{round} second:{round}")).integer();
        assert_eq!(present, 2, "{end}");
    }
}

/// A replica that needs what is in memory only gets it from there.
#[test]
fn a_replica_reads_what_is_not_written_yet() {
    let primary = start(&[EVERYSEC, &["--repl-backlog-size", "16384"]].concat());
    let replica = Server::replica_of(primary.port, &[]);
    set_delay(&primary, 1500);
    let mut client = primary.client();
    client.ok("SET first 1");
    wait_until("a sync is going on", || primary.info("aof_pending_bio_fsync") == "1");
    let before = primary.info("sync_full");
    replica.client().ok("CLIENT KILL TYPE master");
    let value = "v".repeat(4000);
    for number in 0..40 {
        client.ok(&format!("SET key:{number} {value}"));
    }
    replica.wait_for_offset_of(&primary);
    assert_eq!(primary.info("sync_full"), before);
}
