//! Full and partial syncs, chains, and what keeps histories together.

use std::time::{Duration, Instant};

use crate::common::dataset::{self, assert_same};
use crate::common::proxy::Proxy;
use crate::common::server::Server;
use crate::common::{wait_for, wait_until};

/// Counts of syncs that a primary has served: full, partial, partial refused.
fn syncs(server: &Server) -> (i64, i64, i64) {
    (
        server.info_number("sync_full"),
        server.info_number("sync_partial_ok"),
        server.info_number("sync_partial_err"),
    )
}

#[test]
fn a_full_sync_brings_everything() {
    for diskless in ["yes", "no"] {
        let primary = Server::start(&["--repl-diskless-sync", diskless]);
        let mut client = primary.client();
        dataset::fill(&mut client, true);
        client.call_args(&[
            "FUNCTION",
            "LOAD",
            "#!lua name=lib\nserver.register_function{function_name='answer', callback=function() return 42 end, flags={'no-writes'}}",
        ]);
        let sha = client.call_args(&["SCRIPT", "LOAD", "return redis.call('get', 'string:7')"]).text();
        let replica = Server::replica_of(primary.port, &[]);
        // And what is written while it follows.
        client.ok("SELECT 5");
        client.ok("SET late 1 EX 1000");
        client.ok("SPOP set:700 3");
        client.ok("LPUSH list a b c");
        replica.wait_for_offset_of(&primary);
        assert_same(&primary, &replica);
        let mut reader = replica.client();
        assert_eq!(reader.call("FCALL_RO answer 0").integer(), 42);
        assert_eq!(reader.call(&format!("EVALSHA_RO {sha} 0")).text(), "value:7");
        assert_eq!(syncs(&primary), (1, 0, 0));
    }
}

#[test]
fn a_full_sync_replaces_what_the_replica_had() {
    let primary = Server::start(&[]);
    let replica = Server::start(&[]);
    let mut client = replica.client();
    client.ok("SET mine 1");
    client.call_args(&["FUNCTION", "LOAD", "#!lua name=mine\nserver.register_function('f', function() end)"]);
    primary.client().ok("SET theirs 1");
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
    replica.wait_for_link();
    assert_eq!(client.call("KEYS *").items().len(), 1);
    assert_eq!(client.call("GET theirs").text(), "1");
    assert!(client.call("FUNCTION LIST").items().is_empty());
}

/// Not after a second, as a connection that was refused is.
#[test]
fn a_full_sync_that_breaks_off_is_tried_again_at_once() {
    const TIMES: u32 = 12;
    let primary = Server::start(&["--rdb-key-save-delay", "2000", "--rdbcompression", "no"]);
    let mut client = primary.client();
    client.ok("DEBUG POPULATE 3000 key 2000");
    let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    let mut watcher = replica.client();
    let began = Instant::now();
    for _ in 0..TIMES {
        wait_until("the snapshot comes", || {
            watcher.info("master_sync_in_progress") == "1" && watcher.info("master_sync_read_bytes") != "0"
        });
        client.ok("CLIENT KILL TYPE replica");
        wait_until("it breaks off", || watcher.info("master_sync_in_progress") == "0");
    }
    assert!(began.elapsed() < Duration::from_secs(TIMES.into()), "{:?}", began.elapsed());
    assert!(replica.log().contains("Internal error in RDB"));
    client.ok("CONFIG SET rdb-key-save-delay 0");
    client.ok("CLIENT KILL TYPE replica");
    replica.wait_for_link();
    replica.wait_for_offset_of(&primary);
    assert_same(&primary, &replica);
}

#[test]
fn a_cut_link_is_continued() {
    let primary = Server::start(&[]);
    let proxy = Proxy::to(primary.port);
    let replica = Server::replica_of(proxy.port, &[]);
    let mut client = primary.client();
    for round in 1..=3 {
        proxy.block();
        // While nobody listens, and inside of a transaction, so that the stream does not end at a command by chance.
        client.ok("MULTI");
        for number in 0..50 {
            client.ok(&format!("SET round:{round}:{number} {number}"));
        }
        client.ok("EXEC");
        client.ok("SELECT 4");
        client.ok(&format!("INCR other:{round}"));
        client.ok("SELECT 0");
        proxy.unblock();
        wait_until("the sync goes on", || primary.info_number("sync_partial_ok") == round);
        replica.wait_for_offset_of(&primary);
        assert_same(&primary, &replica);
        assert_eq!(primary.info_number("sync_full"), 1);
    }
    // Cut at whatever byte it is at.
    for number in 0..2_000 {
        client.ok(&format!("RPUSH list {number}"));
        if number % 200 == 100 {
            proxy.cut();
        }
    }
    replica.wait_for_offset_of(&primary);
    assert_same(&primary, &replica);
    assert_eq!(primary.info_number("sync_full"), 1);
}

#[test]
fn what_the_backlog_lacks_costs_a_full_sync() {
    let primary = Server::start(&["--repl-backlog-size", "16kb"]);
    let proxy = Proxy::to(primary.port);
    let replica = Server::replica_of(proxy.port, &[]);
    let mut client = primary.client();
    proxy.block();
    let large = "x".repeat(10_000);
    for number in 0..10 {
        client.ok(&format!("SET large:{number} {large}"));
    }
    wait_until("the primary notices", || primary.info_number("connected_slaves") == 0);
    proxy.unblock();
    wait_until("a full sync", || primary.info_number("sync_full") == 2);
    replica.wait_for_offset_of(&primary);
    assert_same(&primary, &replica);
    assert_eq!(syncs(&primary), (2, 0, 1));
}

#[test]
fn a_chain_has_one_stream() {
    let primary = Server::start(&[]);
    let middle = Server::replica_of(primary.port, &[]);
    let last = Server::replica_of(middle.port, &[]);
    let mut client = primary.client();
    dataset::fill(&mut client, true);
    last.wait_for_offset_of(&primary);
    assert_same(&primary, &last);
    assert_eq!(last.info("master_replid"), primary.info("master_replid"));
    // A write to the middle is refused, so the stream of the chain is the primary's alone.
    assert!(middle.call("SET x 1").text().starts_with("READONLY"));
    // The last goes on at the primary directly, at the very same offset.
    last.client().ok(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
    last.wait_for_link();
    wait_until("the sync goes on", || primary.info_number("sync_partial_ok") == 1);
    assert_eq!(primary.info_number("sync_full"), 1);
    client.ok("INCR after");
    last.wait_for_offset_of(&primary);
    assert_same(&primary, &last);
}

#[test]
fn a_promoted_replica_keeps_the_history_and_its_replicas() {
    let primary = Server::start(&[]);
    let heir = Server::replica_of(primary.port, &[]);
    let below = Server::replica_of(heir.port, &[]);
    let beside = Server::replica_of(primary.port, &[]);
    let mut client = primary.client();
    for number in 0..100 {
        client.ok(&format!("SET k:{number} v"));
    }
    for replica in [&heir, &below, &beside] {
        replica.wait_for_offset_of(&primary);
    }
    let replid = primary.info("master_replid");
    let mut new = heir.client();
    let before = new.info("master_repl_offset");
    new.ok("REPLICAOF NO ONE");
    assert_eq!(new.info("role"), "master");
    assert_eq!(new.info("master_replid2"), replid);
    assert_ne!(new.info("master_replid"), replid);
    let second: i64 = new.info("second_repl_offset").parse().expect("an offset");
    assert!(second > before.parse::<i64>().expect("an offset"));
    new.ok("SET of:the:new 1");
    // Those below it go on by themselves, the sibling when it is told to.
    below.wait_for_offset_of(&heir);
    assert_same(&heir, &below);
    beside.client().ok(&format!("REPLICAOF 127.0.0.1 {}", heir.port));
    beside.wait_for_offset_of(&heir);
    assert_same(&heir, &beside);
    assert_eq!(heir.info_number("sync_full"), 1, "the one of the beginning");
    // The old primary has written nothing since, so it goes on as well.
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", heir.port));
    primary.wait_for_offset_of(&heir);
    assert_same(&heir, &primary);
    assert_eq!(heir.info_number("sync_full"), 1);
    assert_eq!(primary.info("master_replid"), heir.info("master_replid"));
}

#[test]
fn a_history_that_went_elsewhere_costs_a_full_sync() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &[]);
    let mut client = primary.client();
    client.ok("SET common 1");
    replica.wait_for_offset_of(&primary);
    replica.client().ok("REPLICAOF NO ONE");
    // Both write on from the same point.
    client.ok("SET only:old 1");
    replica.client().ok("SET only:new 1");
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", replica.port));
    primary.wait_for_offset_of(&replica);
    assert_same(&replica, &primary);
    assert!(client.call("GET only:old").is_nil());
    assert_eq!(replica.info_number("sync_full"), 1);
}

#[test]
fn replicas_that_come_together_share_a_sync_and_both_have_everything() {
    let primary = Server::start(&["--repl-diskless-sync-delay", "1"]);
    let mut client = primary.client();
    client.ok("DEBUG POPULATE 2000 k 1000");
    let option = format!("127.0.0.1 {}", primary.port);
    let replicas: Vec<Server> = (0..3).map(|_| Server::start(&["--replicaof", &option])).collect();
    // Written before, during and after the transfer.
    for number in 0..500 {
        client.ok(&format!("SET during:{number} {number}"));
    }
    for replica in &replicas {
        replica.wait_for_offset_of(&primary);
        assert_same(&primary, replica);
    }
    assert_eq!(primary.info_number("sync_full"), 3);
}

#[test]
fn a_primary_in_trouble_lets_its_replicas_expire_nothing() {
    let primary = Server::start(&[]);
    let proxy = Proxy::to(primary.port);
    let replica = Server::replica_of(proxy.port, &[]);
    let mut client = primary.client();
    // It finds out late enough for the link to be cut by then.
    client.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    client.ok("SET short 1 PX 100");
    client.ok("SET kept 1");
    replica.wait_for_offset_of(&primary);
    proxy.block();
    client.ok("DEBUG SET-ACTIVE-EXPIRE 1");
    let mut reader = replica.client();
    wait_until("the time passes", || reader.call("GET short").is_nil());
    // Clients do not see it any more, but it is there until the primary says that it is not.
    assert_eq!(reader.call("DBSIZE").integer(), 2);
    assert_eq!(reader.call("TTL short").integer(), -2);
    assert_eq!(reader.call("EXISTS short").integer(), 0);
    proxy.unblock();
    wait_until("its deletion arrives", || reader.call("DBSIZE").integer() == 1);
    assert_same(&primary, &replica);
}

#[test]
fn a_second_replicaof_takes_the_place_of_the_first() {
    let primaries = [Server::start(&[]), Server::start(&[])];
    for (number, primary) in primaries.iter().enumerate() {
        primary.client().ok(&format!("SET name {number}"));
        primary.client().ok("DEBUG POPULATE 5000 k 200");
    }
    let replica = Server::start(&[]);
    let mut client = replica.client();
    // Before the first sync can be over.
    for _ in 0..3 {
        for primary in &primaries {
            client.ok(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
        }
    }
    replica.wait_for_link();
    let name = wait_for("the name", || {
        let reply = client.call("GET name");
        (!reply.is_error() && !reply.is_nil()).then(|| reply.text())
    });
    assert_eq!(name, "1");
    assert_same(&primaries[1], &replica);
    let already = client.ok(&format!("REPLICAOF 127.0.0.1 {}", primaries[1].port));
    assert_eq!(already.text(), "OK Already connected to specified master");
}
