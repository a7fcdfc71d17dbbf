//! Replication between ours and real servers, in both directions, and the files of each read by the other.

use std::fs;
use std::path::Path;

use crate::common::dataset::{self, assert_looks_same, assert_same};
use crate::common::load::{Load, lost};
use crate::common::proxy::Proxy;
use crate::common::server::{Program, Server};
use crate::common::wait_until;

/// A dataset by full sync, writes by the stream, a cut link, and more writes.
/// `valkey`: both are of Valkey 9's kind, which knows fields that expire and makes digests in one way.
fn follow(primary: &Program, replica: &Program, valkey: bool) {
    let same = if valkey { assert_same } else { assert_looks_same };
    for diskless in ["yes", "no"] {
        let primary = Server::start_program(primary, &["--repl-diskless-sync", diskless]);
        let mut client = primary.client();
        dataset::fill(&mut client, valkey);
        let proxy = Proxy::to(primary.port);
        let replica = Server::start_program(replica, &["--replicaof", &format!("127.0.0.1 {}", proxy.port)]);
        replica.wait_for_link();
        replica.wait_for_offset_of(&primary);
        same(&primary, &replica);
        every_kind_of_effect(&primary, valkey);
        replica.wait_for_offset_of(&primary);
        same(&primary, &replica);
        proxy.block();
        client.ok("SELECT 6");
        client.ok("RPUSH cut a b c");
        proxy.unblock();
        wait_until("the sync goes on", || primary.info_number("sync_partial_ok") == 1);
        replica.wait_for_offset_of(&primary);
        same(&primary, &replica);
        assert_eq!(primary.info_number("sync_full"), 1);
        client.ok("INCR waited");
        assert_eq!(client.call("WAIT 1 20000").integer(), 1);
        // It takes over with everything.
        replica.client().ok("REPLICAOF NO ONE");
        same(&primary, &replica);
        replica.client().ok("SET own 1");
    }
}

/// Commands that are sent to replicas in another form than they were called in.
fn every_kind_of_effect(primary: &Server, valkey: bool) {
    let mut client = primary.client();
    for words in [
        "SETEX relative 1000 v",
        "SET with:options v EX 500 GET",
        "PEXPIRE string:1 5000000",
        "EXPIREAT string:2 1",
        "GETEX string:3 EX 100",
        "GETEX forever PERSIST",
        "INCRBYFLOAT float 1.1",
        "HINCRBYFLOAT hash:3 float 2.5",
        "SPOP set:3",
        "SPOP set:700 50",
        "SPOP integers:3 10",
        "RPOPLPUSH list:3 list:new",
        "LMOVE list:700 list:new LEFT RIGHT",
        "LMPOP 1 list:700 LEFT COUNT 5",
        "ZPOPMIN sorted:700 7",
        "ZMPOP 1 sorted:700 MAX COUNT 3",
        "BLPOP list:700 1",
        "BZPOPMIN sorted:700 1",
        "BLMOVE list:700 list:new LEFT LEFT 1",
        "SORT list:700 ALPHA LIMIT 0 10 STORE sorted:list",
        "ZRANGESTORE sorted:stored sorted:700 0 20",
        "SUNIONSTORE set:union set:3 set:700",
        "XADD stream:3 MAXLEN ~ 2 * field value",
        "XADD stream:700 MAXLEN ~ 600 LIMIT 50 * field value",
        "XADD stream:new 5-* field value",
        "XTRIM stream:700 MINID ~ 250",
        "XTRIM stream:700 MAXLEN = 400",
        "XDEL stream:700 500-2 501-0",
        "XREADGROUP GROUP readers two COUNT 5 STREAMS stream:700 >",
        "XREADGROUP GROUP readers three NOACK COUNT 5 STREAMS stream:700 >",
        "XREADGROUP GROUP readers one STREAMS stream:700 0",
        "XACK stream:700 readers 3-0 4-1",
        "XCLAIM stream:700 readers two 0 330-0 331-1",
        "XCLAIM stream:700 readers four 0 600-0 601-1 FORCE LASTID 610",
        "XAUTOCLAIM stream:700 readers two 0 0 COUNT 3",
        "XGROUP CREATE stream:700 more 300 ENTRIESREAD 7",
        "XGROUP SETID stream:3 idlers 2",
        "XGROUP DELCONSUMER stream:3 readers one",
        "XGROUP CREATECONSUMER stream:3 readers five",
        "XGROUP DESTROY stream:3 idlers",
        "XSETID stream:new 9 ENTRIESADDED 12 MAXDELETEDID 3-3",
        "RENAME string:4 string:renamed",
        "COPY hash:700 hash:copy",
        "MOVE string:5 7",
        "SWAPDB 3 9",
        "DEL string:6",
        "UNLINK string:7",
        "EVAL redis.call('set','s1',1);redis.call('incr','s1');return{redis.call('spop','set:700')} 0",
        "MULTI",
        "SET t1 1",
        "SPOP set:700",
        "EXEC",
        "FLUSHDB",
    ] {
        if words == "FLUSHDB" {
            client.ok("SELECT 0");
            client.ok("SELECT 3");
        }
        client.ok(words);
        if words == "FLUSHDB" {
            client.ok("SELECT 0");
        }
    }
    client.call_args(&["FUNCTION", "LOAD", "#!lua name=lib\nserver.register_function('f', function(keys) return server.call('INCR', keys[1]) end)"]);
    client.ok("SET expires:soon 1 PX 30");
    let mut waiting = primary.client();
    waiting.send(&["BLPOP", "awaited", "0"]).expect("sent");
    wait_until("it waits", || client.info("blocked_clients") == "1");
    client.ok("RPUSH awaited x y");
    waiting.read().expect("a reply");
    if valkey {
        client.ok("HSETEX expiring EX 5000 FIELDS 2 d 4 e 5");
        client.ok("HEXPIRE expiring 700 FIELDS 1 c");
        client.ok("HPEXPIRE expiring 20 FIELDS 1 a");
        client.ok("HGETEX expiring PERSIST FIELDS 1 b");
        wait_until("the field expires", || client.call("HEXISTS expiring a").integer() == 0);
    }
    wait_until("the key expires", || client.call("EXISTS expires:soon").integer() == 0);
}

#[test]
fn ours_follows_valkey() {
    if let Some(valkey) = Program::valkey() {
        follow(&valkey, &Program::ours(), true);
    }
}

#[test]
fn valkey_follows_ours() {
    if let Some(valkey) = Program::valkey() {
        follow(&Program::ours(), &valkey, true);
    }
}

#[test]
fn ours_follows_redis() {
    if let Some(redis) = Program::redis() {
        follow(&redis, &Program::ours(), false);
    }
}

#[test]
fn redis_follows_ours() {
    if let Some(redis) = Program::redis() {
        follow(&Program::ours(), &redis, false);
    }
}

/// The role goes from one make to the other and back while clients write.
#[test]
fn the_role_goes_to_valkey_and_back_without_a_loss() {
    let Some(valkey) = Program::valkey() else { return };
    let ours = Server::start(&[]);
    let option = format!("127.0.0.1 {}", ours.port);
    let theirs = Server::start_program(&valkey, &["--replicaof", &option]);
    theirs.wait_for_link();
    let load = Load::start(3, &[ours.port, theirs.port]);
    for (from, to) in [(&ours, &theirs), (&theirs, &ours), (&ours, &theirs)] {
        load.wait_for_more(100);
        from.client().ok(&format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 20000", to.port));
        wait_until("the role has moved", || to.info("role") == "master" && from.info("role") == "slave");
        from.wait_for_link();
        wait_until("the failover is over", || from.info("master_failover_state") == "no-failover");
    }
    load.wait_for_more(100);
    let acknowledged = load.stop();
    ours.wait_for_offset_of(&theirs);
    assert_same(&theirs, &ours);
    assert_eq!(lost(&mut ours.client(), &acknowledged), Vec::<String>::new());
    let full = ours.info_number("sync_full") + theirs.info_number("sync_full");
    assert_eq!(full, 1, "the one of the beginning");
}

/// The files of one server are those of another.
fn load_files(writer: &Program, reader: &Program) {
    for options in [&["--appendonly", "yes", "--appendfsync", "always"][..], &["--save", "3600 1"]] {
        let mut written = Server::start_program(writer, options);
        let mut client = written.client();
        dataset::fill(&mut client, true);
        // An RDB file and a base that are not empty, with more commands behind them.
        let (call, running) = match options[0] {
            "--save" => ("BGSAVE", "rdb_bgsave_in_progress"),
            _ => ("BGREWRITEAOF", "aof_rewrite_in_progress"),
        };
        client.ok(call);
        wait_until("it is written", || client.info(running) == "0");
        every_kind_of_effect(&written, true);
        if options[0] == "--save" {
            client.ok("SAVE");
        }
        written.kill();
        let copy = tempfile::tempdir().expect("a folder");
        copy_files(written.folder(), copy.path());
        written.restart();
        let read = Server::start_in(copy, reader, options);
        assert_same(&written, &read);
    }
}

pub fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("made");
            copy_files(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

#[test]
fn valkey_loads_our_files() {
    if let Some(valkey) = Program::valkey() {
        load_files(&Program::ours(), &valkey);
    }
}

#[test]
fn ours_loads_valkeys_files() {
    if let Some(valkey) = Program::valkey() {
        load_files(&valkey, &Program::ours());
    }
}
