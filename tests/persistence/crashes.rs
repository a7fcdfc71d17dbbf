//! Processes that end at any moment, and files that are broken at any place.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ALWAYS;
use crate::common::dataset;
use crate::common::load::{Load, lost};
use crate::common::server::{Program, Server};

const EVERYSEC: &[&str] = &["--appendonly", "yes", "--appendfsync", "everysec"];

/// Kills a server under load at random moments, some of them within a rewrite; it must come up with all it promised, or else
/// with all but the last that it did not come to write.
fn kill_at_random(options: &[&str], rounds: usize, loses_nothing: bool) {
    let mut server = Server::start(options);
    dataset::fill(&mut server.client(), true);
    for round in 0..rounds {
        let load = Load::start(4, &[server.port]);
        load.wait_for_more(50);
        if round % 2 == 1 {
            server.client().ok("CONFIG SET rdb-key-save-delay 200");
            server.client().ok("BGREWRITEAOF");
        }
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..60_000)));
        server.kill();
        let acknowledged = load.stop();
        server.restart();
        let lost = lost(&mut server.client(), &acknowledged);
        assert!(
            lost.is_empty() || (!loses_nothing && are_the_last(&lost, &acknowledged)),
            "round {round}: {} of {}: {lost:?}",
            lost.len(),
            acknowledged.len()
        );
    }
    // What a killed rewrite left does not stand in the way of the next.
    server.client().ok("BGREWRITEAOF");
    crate::common::wait_until("the rewrite ends", || server.info("aof_rewrite_in_progress") == "0");
    assert_eq!(server.info("aof_last_bgrewrite_status"), "ok");
}

#[test]
fn always_keeps_what_was_acknowledged_whenever_the_process_ends() {
    kill_at_random(ALWAYS, 6, true);
}

/// The bytes are with the system before the reply leaves, but for those that wait for a sync to end.
#[test]
fn everysec_loses_only_the_last_with_the_process() {
    kill_at_random(EVERYSEC, 6, false);
}

/// Each of the lost keys was written after all that its writer wrote and is kept.
fn are_the_last(lost: &[String], acknowledged: &[String]) -> bool {
    let writer_of = |key: &str| key.rsplit_once(':').map(|(writer, _)| writer.to_owned());
    let mut begun = std::collections::HashSet::new();
    acknowledged.iter().all(|key| {
        if lost.contains(key) {
            begun.insert(writer_of(key));
        }
        lost.contains(key) || !begun.contains(&writer_of(key))
    })
}

#[test]
fn bases_of_commands_survive_too() {
    kill_at_random(
        &[ALWAYS, &["--aof-use-rdb-preamble", "no", "--aof-timestamp-enabled", "yes"]].concat(),
        4,
        true,
    );
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_all(&entry.path(), &target);
        } else if entry.file_name() != "log" {
            fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// The files of a server that has ended, with a whole dataset in base and incr file.
fn leave(options: &[&str]) -> tempfile::TempDir {
    let mut server = Server::start(options);
    let mut client = server.client();
    dataset::fill(&mut client, true);
    client.ok("BGREWRITEAOF");
    crate::common::wait_until("the rewrite ends", || client.info("aof_rewrite_in_progress") == "0");
    for number in 0..100 {
        client.ok(&format!("SET after:{number} {number}"));
    }
    client.ok("MULTI");
    client.ok("INCR counted");
    client.ok("INCR counted");
    client.ok("EXEC");
    server.kill();
    let copy = tempfile::tempdir().expect("a folder");
    copy_all(server.folder(), copy.path());
    copy
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("appendonlydir")).expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// Starts on a copy in which one file was changed: it is up, or it has ended and says why. A panic fails either way.
fn try_broken(folder: &Path, file: &Path, content: &[u8]) -> Option<Server> {
    let copy = tempfile::tempdir().expect("a folder");
    copy_all(folder, copy.path());
    let path = copy.path().join(file.strip_prefix(folder).expect("within"));
    fs::write(&path, content).expect("written");
    match Server::try_start_in(copy, &Program::ours(), ALWAYS) {
        Ok(server) => Some(server),
        Err((_copy, status, log)) => {
            assert_eq!(status.code(), Some(1), "{log}");
            assert!(log.contains("Fatal error loading the DB"), "{log}");
            assert!(!log.contains("panicked at"), "{log}");
            assert_eq!(fs::read(&path).expect("still there"), content, "a file that was refused was changed");
            None
        }
    }
}

#[test]
fn any_flipped_bit_is_refused_or_read_over() {
    let folder = leave(ALWAYS);
    for file in files_of(folder.path()) {
        let sound = fs::read(&file).expect("a file");
        let is_base = file.to_string_lossy().ends_with(".base.rdb");
        for _ in 0..12 {
            let mut broken = sound.clone();
            let place = fastrand::usize(..broken.len());
            broken[place] ^= 1 << fastrand::u8(..8);
            let started = try_broken(folder.path(), &file, &broken);
            assert!(
                !is_base || started.is_none(),
                "a base with a wrong checksum was loaded, flipped at {place}"
            );
        }
    }
}

/// Of a torn incr file everything up to the last whole command or transaction is there.
#[test]
fn any_torn_end_leaves_a_prefix() {
    let folder = leave(ALWAYS);
    let files = files_of(folder.path());
    let incr = files.iter().find(|file| file.to_string_lossy().ends_with(".incr.aof")).expect("an incr file");
    let sound = fs::read(incr).expect("a file");
    for _ in 0..12 {
        let length = fastrand::usize(..sound.len());
        let mut server = try_broken(folder.path(), incr, &sound[..length]).expect("it starts");
        let mut client = server.client();
        let present = |client: &mut crate::common::client::Client, number: usize| {
            client.call(&format!("EXISTS after:{number}")).integer() == 1
        };
        let kept = (0..100).take_while(|number| present(&mut client, *number)).count();
        assert!((kept..100).all(|number| !present(&mut client, number)), "a hole, cut at {length}");
        let counted = client.call("GET counted");
        assert!(counted.is_nil() || counted.text() == "2", "half a transaction, cut at {length}");
        client.ok("SET later 1");
        server.kill();
        server.restart();
        assert_eq!(server.call("GET later").text(), "1");
    }
}
