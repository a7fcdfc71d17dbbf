//! A disk that takes its time to sync: nobody who writes waits for it, and nothing counts as synced before it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::server::{Program, Server};
use crate::common::wait_until;

const EVERYSEC: &[&str] =
    &["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"];
/// Longer than any hiccup of the machine that runs the test, shorter than any of the syncs below.
const HICCUP: Duration = Duration::from_millis(250);

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
    // Replaced at once, so that nobody reads half of it.
    let (new, path) = (server.folder().join("slow-sync.new"), server.folder().join("slow-sync"));
    fs::write(&new, milliseconds.to_string()).expect("written");
    fs::rename(new, path).expect("renamed");
}

/// Writes without a pause, and knows the longest that a reply took.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(usize, Duration)>,
}

impl Writer {
    fn start(port: u16) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(port).expect("connected");
            let (mut count, mut longest) = (0, Duration::ZERO);
            while !flag.load(Relaxed) {
                let began = Instant::now();
                client.ok(&format!("SET key:{count} {count}"));
                longest = longest.max(began.elapsed());
                count += 1;
            }
            (count, longest)
        });
        Writer { stop, thread }
    }

    fn stop(self) -> (usize, Duration) {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("it ran")
    }
}

#[test]
fn nobody_waits_for_a_sync_of_every_second() {
    let server = start(EVERYSEC);
    set_delay(&server, 600);
    let writer = Writer::start(server.port);
    std::thread::sleep(Duration::from_millis(3500));
    let (count, longest) = writer.stop();
    assert!(longest < HICCUP, "{longest:?}");
    assert_eq!(server.info("aof_delayed_fsync"), "0");
    // What was held back is written when the sync has ended.
    set_delay(&server, 0);
    wait_until("all is written", || server.info("aof_buffer_length") == "0");
    let mut server = server;
    server.kill();
    server.restart();
    assert_eq!(server.call("DBSIZE").integer(), count as i64);
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
    for round in 0..2 {
        set_delay(&server, 300);
        let writer = Writer::start(server.port);
        server.client().ok("BGREWRITEAOF");
        wait_until("the rewrite ends", || server.info("aof_rewrite_in_progress") == "0");
        assert_eq!(server.info("aof_last_bgrewrite_status"), "ok");
        let (count, longest) = writer.stop();
        assert!(longest < HICCUP, "round {round}: {longest:?}");
        set_delay(&server, 0);
        wait_until("all is written", || server.info("aof_buffer_length") == "0");
        let size = server.call("DBSIZE").integer();
        assert!(size >= count as i64);
        server.kill();
        server.restart();
        assert_eq!(server.call("DBSIZE").integer(), size);
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
