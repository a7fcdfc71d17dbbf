//! The AOF beyond crashes: turned on and off, rewritten in either format, read from old layouts, by real servers too.

use std::fs;
use std::path::Path;

use super::ALWAYS;
use crate::common::client::Client;
use crate::common::dataset::{self, assert_same};
use crate::common::server::{Program, Server};
use crate::common::wait_until;

fn rewrite(client: &mut Client) {
    client.ok("BGREWRITEAOF");
    await_rewrite(client);
}

fn await_rewrite(client: &mut Client) {
    wait_until("the rewrite ends", || {
        client.info("aof_rewrite_in_progress") == "0" && client.info("aof_rewrite_scheduled") == "0"
    });
    assert_eq!(client.info("aof_last_bgrewrite_status"), "ok");
}

fn manifest(folder: &Path) -> String {
    fs::read_to_string(folder.join("appendonlydir/appendonly.aof.manifest")).unwrap_or_default()
}

#[test]
fn a_rewrite_without_an_aof_leaves_a_base_that_a_start_with_one_loads() {
    let mut server = Server::start(&[]);
    let mut client = server.client();
    dataset::fill(&mut client, true);
    rewrite(&mut client);
    assert_eq!(manifest(server.folder()), "file appendonly.aof.1.base.rdb seq 1 type b\n");
    let digest = client.call("DEBUG DIGEST").text();
    client.ok("SET not:kept 1");
    rewrite(&mut client);
    assert_eq!(manifest(server.folder()), "file appendonly.aof.2.base.rdb seq 2 type b\n");
    client.ok("DEL not:kept");
    rewrite(&mut client);
    client.ok("SET not:kept 1");
    server.kill();
    server.restart_with(ALWAYS);
    assert_eq!(server.call("DEBUG DIGEST").text(), digest);
    server.client().ok("SET kept 1");
    server.kill();
    server.restart();
    assert_eq!(server.call("GET kept").text(), "1");
}

/// Until the new base is whole the files on the disk are those of before, whatever happens.
#[test]
fn turning_the_aof_on_changes_nothing_on_the_disk_before_it_is_whole() {
    let mut server = Server::start(ALWAYS);
    let mut client = server.client();
    client.ok("SET of before");
    client.ok("CONFIG SET appendonly no");
    let before = manifest(server.folder());
    client.ok("SET of neither");
    client.ok("CONFIG SET rdb-key-save-delay 10000000");
    client.ok("CONFIG SET appendonly yes");
    client.ok("SET of meanwhile");
    assert_eq!(client.info("aof_rewrite_in_progress"), "1");
    assert_eq!(manifest(server.folder()), before);
    server.kill();
    server.restart();
    assert_eq!(server.call("GET of").text(), "before");
    // The same again, to its end.
    let mut client = server.client();
    client.ok("CONFIG SET appendonly no");
    client.ok("SET of now");
    client.ok("CONFIG SET appendonly yes");
    client.ok("SET behind 1");
    await_rewrite(&mut client);
    client.ok("SET behind:too 1");
    server.kill();
    server.restart();
    let mut client = server.client();
    assert_eq!(client.call("GET of").text(), "now");
    assert_eq!(client.call("MGET behind behind:too").items().len(), 2);
    assert_eq!(client.call("GET behind:too").text(), "1");
}

#[test]
fn turning_it_off_ends_a_rewrite_and_on_again_begins_another() {
    let server = Server::start(ALWAYS);
    let mut client = server.client();
    client.ok("MSET a 1 b 2 c 3");
    client.ok("CONFIG SET rdb-key-save-delay 10000000");
    client.ok("BGREWRITEAOF");
    client.ok("CONFIG SET appendonly no");
    wait_until("the rewrite is given up", || client.info("aof_rewrite_in_progress") == "0");
    assert!(server.log().contains("Killing running AOF rewrite child"));
    client.ok("CONFIG SET rdb-key-save-delay 0");
    client.ok("CONFIG SET appendonly yes");
    await_rewrite(&mut client);
    assert_eq!(manifest(server.folder()).lines().count(), 2);
}

#[test]
fn a_base_of_commands_is_the_same_dataset() {
    let options = [ALWAYS, &["--aof-use-rdb-preamble", "no"]].concat();
    let mut server = Server::start(&options);
    let mut client = server.client();
    dataset::fill(&mut client, true);
    client.call_args(&[
        "FUNCTION",
        "LOAD",
        "#!lua name=kept\nserver.register_function('kept', function() return 1 end)",
    ]);
    let script = client.call_args(&["SCRIPT", "LOAD", "return 'kept'"]).text();
    rewrite(&mut client);
    assert!(manifest(server.folder()).contains(".base.aof"));
    let digest = client.call("DEBUG DIGEST").text();
    server.kill();
    server.restart();
    let mut client = server.client();
    assert_eq!(client.call("DEBUG DIGEST").text(), digest);
    assert_eq!(client.call("FCALL kept 0").integer(), 1);
    assert_eq!(client.call(&format!("EVALSHA {script} 0")).text(), "kept");
}

/// A real Valkey loads both formats.
#[test]
fn a_real_server_loads_what_was_written() {
    let Some(valkey) = Program::valkey() else { return };
    for preamble in ["yes", "no"] {
        let annotated = ["--aof-use-rdb-preamble", preamble, "--aof-timestamp-enabled", "yes"];
        let options = [ALWAYS, &annotated].concat();
        let mut server = Server::start(&options);
        let mut client = server.client();
        dataset::fill(&mut client, true);
        rewrite(&mut client);
        client.ok("SET after 1");
        let digest = client.call("DEBUG DIGEST").text();
        server.kill();
        let copy = tempfile::tempdir().expect("a folder");
        fs::create_dir(copy.path().join("appendonlydir")).expect("made");
        for entry in fs::read_dir(server.folder().join("appendonlydir")).expect("a folder") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), copy.path().join("appendonlydir").join(entry.file_name()))
                .expect("copied");
        }
        let real = Server::start_in(copy, &valkey, &["--appendonly", "yes"]);
        assert_eq!(real.call("DEBUG DIGEST").text(), digest, "preamble {preamble}");
    }
}

#[test]
fn annotations_are_written_and_do_not_move_the_stream() {
    let options = [ALWAYS, &["--aof-timestamp-enabled", "yes"]].concat();
    let mut primary = Server::start(&options);
    let replica = Server::replica_of(primary.port, &options);
    for number in 0..3 {
        primary.client().ok(&format!("SET k:{number} {number}"));
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    replica.wait_for_offset_of(&primary);
    let text = fs::read(primary.folder().join("appendonlydir/appendonly.aof.1.incr.aof")).expect("a file");
    let count = text.windows(4).filter(|window| *window == b"#TS:").count();
    assert!(count >= 3, "{}", String::from_utf8_lossy(&text));
    primary.kill();
    primary.restart();
    replica.wait_for_offset_of(&primary);
    assert_same(&primary, &replica);
    assert_eq!(primary.info("sync_full"), "0");
    // The annotations are no part of what was counted: writing goes on behind them.
    primary.client().ok("SET last 1");
    primary.kill();
    primary.restart();
    assert_eq!(primary.call("GET last").text(), "1");
}

fn old_aof(folder: &Path) {
    fs::write(folder.join("appendonly.aof"), b"*3\r\n$3\r\nSET\r\n$3\r\nold\r\n$1\r\n1\r\n")
        .expect("written");
}

#[test]
fn an_old_single_file_becomes_the_base_also_if_that_was_interrupted() {
    let folder = tempfile::tempdir().expect("a folder");
    old_aof(folder.path());
    let mut server = Server::start_in(folder, &Program::ours(), ALWAYS);
    assert_eq!(server.call("GET old").text(), "1");
    assert!(server.log().contains("Successfully migrated an old-style AOF file"));
    server.client().ok("SET new 1");
    server.kill();
    server.restart();
    assert_eq!(server.call("GET old").text() + &server.call("GET new").text(), "11");

    let folder = tempfile::tempdir().expect("a folder");
    old_aof(folder.path());
    fs::create_dir(folder.path().join("appendonlydir")).expect("made");
    let text = "file appendonly.aof seq 1 type b\n";
    fs::write(folder.path().join("appendonlydir/appendonly.aof.manifest"), text).expect("written");
    let server = Server::start_in(folder, &Program::ours(), ALWAYS);
    assert_eq!(server.call("GET old").text(), "1");
}

#[test]
fn debug_loadaof_answers_others_loading_and_leaves_the_stream_alone() {
    let primary = Server::start(&[ALWAYS, &["--aof-use-rdb-preamble", "no"]].concat());
    let replica = Server::replica_of(primary.port, &[]);
    let mut client = primary.client();
    dataset::fill(&mut client, true);
    let digest = client.call("DEBUG DIGEST").text();
    client.ok("DEBUG LOADAOF");
    assert_eq!(client.call("DEBUG DIGEST").text(), digest);
    client.ok("SET after 1");
    replica.wait_for_offset_of(&primary);
    assert_same(&primary, &replica);
    assert_eq!(primary.info("sync_full"), "1");
}
