//! Files that are cut off, flipped or missing when the server starts: it says what is wrong and ends, or goes on as it
//! was told to, and never changes what it could not read.

use std::fs;
use std::path::{Path, PathBuf};

use super::{assert_kept, with_data};
use crate::common::server::{Program, Server, run_to_end};

const AOF: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// A folder with what a server left, and the server's options.
fn leave(options: &[&str], save: bool) -> tempfile::TempDir {
    let mut server = with_data(options);
    if save {
        server.client().ok("SAVE");
    }
    server.kill();
    let copy = tempfile::tempdir().expect("a folder");
    copy_all(server.folder(), copy.path());
    copy
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            fs::create_dir_all(&target).expect("made");
            copy_all(&entry.path(), &target);
        } else if entry.file_name() != "log" {
            fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

fn find(folder: &Path, ending: &str) -> PathBuf {
    let entries = fs::read_dir(folder.join("appendonlydir")).expect("a folder");
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    paths.find(|path| path.to_string_lossy().ends_with(ending)).unwrap_or_else(|| panic!("no {ending}"))
}

/// Writes a broken file and starts: it must end with status 1, say `expected`, and leave the file alone.
fn refused(folder: &Path, path: &Path, broken: &[u8], options: &[&str], expected: &[&str]) {
    fs::write(path, broken).expect("written");
    let (status, log) = run_to_end(folder, options);
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(expected.iter().any(|text| log.contains(text)), "{expected:?}:\n{log}");
    assert!(!log.contains("panicked at"), "{log}");
    assert_eq!(fs::read(path).expect("still there"), broken, "a file that could not be read was changed");
    fs::remove_file(folder.join("log")).expect("a log");
}

#[test]
fn a_broken_rdb_file() {
    let folder = leave(&[], true);
    let path = folder.path().join("dump.rdb");
    let sound = fs::read(&path).expect("a file");
    let fatal = &["Fatal error loading the DB", "RDB"];
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..12 {
        let mut broken = sound.clone();
        let place = random.usize(..broken.len());
        broken[place] ^= 1 << random.u8(..8);
        refused(folder.path(), &path, &broken, &[], fatal);
    }
    for length in [1, 8, 9, sound.len() / 2, sound.len() - 9, sound.len() - 1] {
        refused(folder.path(), &path, &sound[..length], &[], fatal);
    }
    refused(folder.path(), &path, &[0xff; 5000], &[], fatal);
    refused(folder.path(), &path, b"REDIS9999\xff", &[], fatal);
    fs::write(&path, &sound).expect("written");
    assert_kept(&Server::start_in(folder, &Program::ours(), &[]));
}

#[test]
fn a_broken_aof() {
    let folder = leave(AOF, false);
    let path = find(folder.path(), ".incr.aof");
    let sound = fs::read(&path).expect("a file");
    let bad = &["Bad file format reading the append only file", "Unknown command"];
    // In the middle, where no end of the power can have broken it.
    let at = |text: &[u8]| sound.windows(text.len()).position(|window| window == text).expect("it is there");
    let mut flipped = sound.clone();
    flipped[at(b"RPUSH") - 4] = b'x';
    refused(folder.path(), &path, &flipped, AOF, bad);
    let mut garbage = sound.clone();
    garbage.splice(at(b"RPUSH")..at(b"RPUSH") + 5, *b"NOSUC");
    refused(folder.path(), &path, &garbage, AOF, bad);
    let mut lie = sound.clone();
    lie.splice(at(b"*3\r\n$3\r\nSET")..at(b"*3\r\n$3\r\nSET") + 4, *b"*99999999999\r\n");
    refused(folder.path(), &path, &lie, AOF, bad);
    // The base too.
    fs::write(&path, &sound).expect("written");
    let base = find(folder.path(), ".base.rdb");
    let sound_base = fs::read(&base).expect("a file");
    let mut broken = sound_base.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 0x10;
    refused(folder.path(), &base, &broken, AOF, &["Fatal error loading the DB"]);
    fs::write(&base, &sound_base).expect("written");
    assert_kept(&Server::start_in(folder, &Program::ours(), AOF));
}

#[test]
fn a_torn_end_is_cut_off_only_if_that_is_allowed() {
    let folder = leave(AOF, false);
    let path = find(folder.path(), ".incr.aof");
    let mut torn = fs::read(&path).expect("a file");
    let mut half = torn.clone();
    torn.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$4\r\nkept\r\n$7\r\nchan");
    let strict = [AOF, &["--aof-load-truncated", "no"]].concat();
    refused(folder.path(), &path, &torn, &strict, &["Unexpected end of file reading the append only file"]);
    // The same with a transaction that was not finished.
    half.extend_from_slice(b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$4\r\nkept\r\n$7\r\nchanged\r\n");
    refused(folder.path(), &path, &half, &strict, &["Unexpected end of file reading the append only file"]);
    for broken in [torn, half] {
        fs::write(&path, broken).expect("written");
        let copy = tempfile::tempdir().expect("a folder");
        copy_all(folder.path(), copy.path());
        let mut server = Server::start_in(copy, &Program::ours(), AOF);
        assert_kept(&server);
        server.client().ok("SET after 1");
        server.kill();
        server.restart();
        assert_kept(&server);
        assert_eq!(server.call("GET after").text(), "1");
    }
}

#[test]
fn a_broken_manifest() {
    let folder = leave(AOF, false);
    let path = find(folder.path(), ".manifest");
    let sound = fs::read(&path).expect("a file");
    let said = &["manifest", "Fatal error loading the DB"];
    for broken in [
        &b""[..],
        b"garbage",
        b"file a seq 1 type b\nfile ../../etc/passwd seq 1 type i\n",
        b"file appendonly.aof.1.incr.aof seq x type i\n",
        b"file appendonly.aof.1.incr.aof seq 1 type z\n",
        b"file appendonly.aof.1.incr.aof seq 2 type i\nfile appendonly.aof.1.incr.aof seq 1 type i\n",
        b"file \"unbalanced seq 1 type i\n",
        &[0xff; 300],
    ] {
        refused(folder.path(), &path, broken, AOF, said);
    }
    fs::write(&path, &sound).expect("written");
    // A file that it names is gone.
    let incr = find(folder.path(), ".incr.aof");
    let kept = fs::read(&incr).expect("a file");
    fs::remove_file(&incr).expect("removed");
    let (status, log) = run_to_end(folder.path(), AOF);
    assert_eq!(status.code(), Some(1), "{log}");
    fs::write(&incr, kept).expect("written");
    assert_kept(&Server::start_in(folder, &Program::ours(), AOF));
}

/// The state file only says where histories are: without it, or with a broken one, the data is all there.
#[test]
fn a_broken_state_file_costs_no_data() {
    let folder = leave(AOF, false);
    let known = ["aof", "rdb", "manifest"];
    let entries = fs::read_dir(folder.path().join("appendonlydir")).expect("a folder");
    let paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    let ending = |path: &Path| path.extension().unwrap_or_default().to_string_lossy().into_owned();
    let state = paths.iter().find(|path| !known.contains(&&*ending(path))).expect("a state file");
    let sound = fs::read(state).expect("a file");
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    for broken in
        [Vec::new(), b"garbage".to_vec(), vec![0xff; 4096], sound[..sound.len() - 1].to_vec(), flipped]
    {
        fs::write(state, broken).expect("written");
        let copy = tempfile::tempdir().expect("a folder");
        copy_all(folder.path(), copy.path());
        let mut server = Server::start_in(copy, &Program::ours(), AOF);
        assert_kept(&server);
        server.client().ok("SET after 1");
        server.kill();
        server.restart();
        assert_eq!(server.call("GET after").text(), "1");
        assert_kept(&server);
    }
}
