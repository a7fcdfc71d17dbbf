//! Restarts: what a disk keeps, and that replicas go on where they were.

use crate::common::dataset::{self, assert_same};
use crate::common::load::{Load, lost};
use crate::common::proxy::Proxy;
use crate::common::server::{Program, Server};
use crate::common::wait_until;

const ALWAYS: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

#[test]
fn a_primary_that_restarts_from_its_aof_continues_its_replicas() {
    let mut primary = Server::start(ALWAYS);
    let mut client = primary.client();
    dataset::fill(&mut client, true);
    let replicas = [Server::replica_of(primary.port, ALWAYS), Server::replica_of(primary.port, &[])];
    client.ok("SELECT 2");
    client.ok("MULTI");
    client.ok("SET k 1");
    client.ok("INCR k");
    client.ok("EXEC");
    for replica in &replicas {
        replica.wait_for_offset_of(&primary);
    }
    let replid = client.info("master_replid");
    let offset: i64 = client.info("master_repl_offset").parse().expect("an offset");
    for round in 1..=2 {
        primary.kill();
        primary.restart();
        for replica in &replicas {
            replica.wait_for_offset_of(&primary);
            assert_same(&primary, replica);
        }
        let mut client = primary.client();
        assert_eq!(client.info("sync_full"), "0", "round {round}");
        assert_eq!(client.info("sync_partial_ok"), "2", "round {round}");
        let known = [client.info("master_replid"), client.info("master_replid2")];
        assert!(round > 1 || known.contains(&replid), "{known:?}");
        assert!(client.info("master_repl_offset").parse::<i64>().expect("an offset") >= offset);
        client.ok(&format!("SET after:{round} 1"));
        for replica in &replicas {
            replica.wait_for_offset_of(&primary);
            assert_same(&primary, replica);
        }
    }
}

#[test]
fn a_replica_that_restarts_from_its_aof_goes_on() {
    let primary = Server::start(&[]);
    let mut client = primary.client();
    dataset::fill(&mut client, true);
    let mut replica = Server::replica_of(primary.port, ALWAYS);
    client.ok("SET before 1");
    replica.wait_for_offset_of(&primary);
    // Only then its files hold what the full sync brought.
    wait_until("the rewrite ends", || replica.info("aof_rewrite_in_progress") == "0");
    for round in 1..=2 {
        replica.kill();
        client.ok(&format!("SET meanwhile:{round} 1"));
        replica.restart();
        replica.wait_for_offset_of(&primary);
        assert_same(&primary, &replica);
        assert_eq!(primary.info_number("sync_full"), 1, "round {round}");
        assert_eq!(primary.info_number("sync_partial_ok"), round);
    }
}

#[test]
fn a_clean_shutdown_with_an_rdb_file_continues_replicas() {
    let mut primary = Server::start(&["--save", "3600 1"]);
    let mut client = primary.client();
    dataset::fill(&mut client, true);
    let replica = Server::replica_of(primary.port, &[]);
    client.ok("SET last 1");
    replica.wait_for_offset_of(&primary);
    client.send(&["SHUTDOWN"]).expect("sent");
    assert!(primary.wait_for_exit().success());
    primary.restart();
    replica.wait_for_offset_of(&primary);
    assert_same(&primary, &replica);
    assert_eq!(primary.info("sync_full"), "0");
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let mut server = Server::start(ALWAYS);
    for _ in 0..3 {
        let load = Load::start(4, &[server.port]);
        load.wait_for_more(100);
        server.kill();
        let acknowledged = load.stop();
        server.restart();
        let lost = lost(&mut server.client(), &acknowledged);
        assert!(lost.is_empty(), "{} of {}: {lost:?}", lost.len(), acknowledged.len());
    }
}

#[test]
fn a_rewrite_under_load_loses_nothing_either() {
    let mut server = Server::start(ALWAYS);
    let mut client = server.client();
    dataset::fill(&mut client, true);
    let load = Load::start(3, &[server.port]);
    for _ in 0..3 {
        load.wait_for_more(50);
        client.ok("BGREWRITEAOF");
        load.wait_for_more(50);
        wait_until("the rewrite ends", || client.info("aof_rewrite_in_progress") == "0");
        assert_eq!(client.info("aof_last_bgrewrite_status"), "ok");
    }
    server.kill();
    let acknowledged = load.stop();
    server.restart();
    assert!(lost(&mut server.client(), &acknowledged).is_empty());
    assert_eq!(server.call("SELECT 9").text(), "OK");
}

/// Roles that were changed at runtime are kept where the configuration file is rewritten.
#[test]
fn promotion_and_restart_keep_replicas_by_partial_sync() {
    let primary = Server::start(ALWAYS);
    let mut heir = Server::replica_of(primary.port, ALWAYS);
    let below = Server::replica_of(heir.port, &[]);
    primary.client().ok("SET k 1");
    below.wait_for_offset_of(&primary);
    heir.client().ok("REPLICAOF NO ONE");
    heir.client().ok("SET k 2");
    below.wait_for_offset_of(&heir);
    heir.kill();
    heir.restart_with(ALWAYS);
    assert_eq!(heir.info("role"), "master");
    below.wait_for_offset_of(&heir);
    assert_same(&heir, &below);
    assert_eq!(heir.info("sync_full"), "0");
    assert_eq!(below.call("GET k").text(), "2");
}

/// A key whose time to live was taken away after the last rewrite is still there, however late the restart comes.
#[test]
fn what_a_base_says_of_expiry_is_not_the_last_word() {
    let mut server = Server::start(ALWAYS);
    let mut client = server.client();
    client.ok("SET kept v PX 400");
    client.ok("SET lost v PX 400");
    client.ok("BGREWRITEAOF");
    wait_until("the rewrite ends", || server.info("aof_rewrite_in_progress") == "0");
    client.ok("PERSIST kept");
    server.kill();
    std::thread::sleep(std::time::Duration::from_millis(500));
    server.restart();
    assert_eq!(server.call("GET kept").text(), "v");
    assert!(server.call("GET lost").is_nil());
}

/// Keys that expired while a primary was down are left out when it loads its file: its replicas are told.
#[test]
fn what_expired_meanwhile_is_deleted_on_replicas() {
    let mut primary = Server::start(&["--save", "3600 1"]);
    let replica = Server::replica_of(primary.port, &[]);
    let mut client = primary.client();
    client.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    for number in 0..100 {
        client.ok(&format!("SELECT {}", number % 4));
        client.ok(&format!("SET short:{number} v PX 10"));
    }
    client.ok("SET long v");
    replica.wait_for_offset_of(&primary);
    // The connection ends with the server.
    let _ = client.try_call(&["SHUTDOWN"]);
    primary.wait_for_exit();
    primary.restart();
    replica.wait_for_offset_of(&primary);
    assert_same(&primary, &replica);
    assert_eq!((primary.info_number("sync_full"), primary.info_number("sync_partial_ok")), (0, 1));
    assert_eq!(primary.info_number("rdb_last_load_keys_expired"), 100);
}

/// What has left the memory is still in the AOF: a replica that comes back late goes on from there, before and after a
/// restart of the primary, and across files.
#[test]
fn the_aof_serves_what_the_backlog_has_lost() {
    let mut primary = Server::start(&["--appendonly", "yes", "--repl-backlog-size", "16kb"]);
    let proxy = Proxy::to(primary.port);
    let replica = Server::replica_of(proxy.port, &[]);
    let large = "x".repeat(10_000);
    for round in 1..=3 {
        replica.wait_for_offset_of(&primary);
        proxy.block();
        wait_until("the primary notices", || primary.info_number("connected_slaves") == 0);
        let mut client = primary.client();
        for number in 0..100 {
            client.ok(&format!("SET round:{round}:{number} {large}"));
        }
        assert!(client.info("repl_backlog_histlen").parse::<u64>().expect("bytes") < 200_000);
        match round {
            2 => {
                primary.kill();
                primary.restart();
            }
            // What the replica lacks ends in another file than it begins in.
            3 => {
                primary.client().ok("CONFIG SET rdb-key-save-delay 100000");
                primary.client().ok("BGREWRITEAOF");
                primary.client().ok(&format!("SET late {large}"));
            }
            _ => {}
        }
        proxy.unblock();
        replica.wait_for_link();
        replica.wait_for_offset_of(&primary);
        assert_same(&primary, &replica);
        let count = |field: &str| primary.info_number(field);
        let expected = [(1, 1), (0, 1), (0, 2)][round - 1];
        assert_eq!((count("sync_full"), count("sync_partial_ok")), expected, "round {round}");
    }
}

/// Sentinel makes a replica of a primary that comes back: if it had written nothing that others lack, and nothing since, it
/// goes on where they are, although it came back as a primary under a name of its own.
#[test]
fn a_primary_that_comes_back_too_late_goes_on_as_a_replica() {
    let mut primary = Server::start(&["--appendonly", "yes"]);
    let replica = Server::replica_of(primary.port, &[]);
    dataset::fill(&mut primary.client(), true);
    replica.wait_for_offset_of(&primary);
    primary.kill();
    replica.client().ok("REPLICAOF NO ONE");
    replica.client().ok("SET since 1");
    primary.restart();
    assert_eq!(primary.info("role"), "master");
    // What Sentinels say to each other through it is nothing that anybody lacks.
    primary.client().ok("PUBLISH __sentinel__:hello anything");
    primary.client().ok(&format!("REPLICAOF 127.0.0.1 {}", replica.port));
    primary.wait_for_link();
    primary.wait_for_offset_of(&replica);
    assert_same(&replica, &primary);
    assert_eq!((replica.info_number("sync_full"), replica.info_number("sync_partial_ok")), (0, 1));
    // One that has written is told everything anew.
    primary.client().ok("REPLICAOF NO ONE");
    primary.client().ok("SET own 1");
    primary.client().ok(&format!("REPLICAOF 127.0.0.1 {}", replica.port));
    wait_until("a full sync", || replica.info_number("sync_full") == 1);
    primary.wait_for_link();
    primary.wait_for_offset_of(&replica);
    assert_same(&replica, &primary);
}

/// CONFIG REWRITE writes the role as it is, however it came about, and a later failover is compared with what was written.
#[test]
fn the_configuration_is_written_with_the_present_role() {
    let mut servers: Vec<Server> = (0..2)
        .map(|_| {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("server.conf");
            std::fs::write(&path, "appendonly yes\n").expect("written");
            Server::start_in(folder, &Program::ours(), &[path.to_str().expect("text")])
        })
        .collect();
    let address = |server: &Server| format!("127.0.0.1 {}", server.port);
    let written = |server: &Server| {
        server.client().ok("CONFIG REWRITE");
        let text = std::fs::read_to_string(server.folder().join("server.conf")).expect("a file");
        let lines = text.lines().filter_map(|line| line.strip_prefix("replicaof "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let hand_over = |servers: &[Server], from: usize| {
        servers[1 - from].wait_for_link();
        servers[1 - from].wait_for_offset_of(&servers[from]);
        servers[from].client().ok("FAILOVER");
        wait_until("it is done", || {
            servers[from].info("master_failover_state") == "no-failover"
                && servers[from].info("role") == "slave"
        });
        servers[from].wait_for_link();
    };
    let (first, second) = (address(&servers[0]), address(&servers[1]));
    servers[1].client().ok(&format!("REPLICAOF {first}"));
    assert_eq!(written(&servers[1]), std::slice::from_ref(&first));
    assert!(written(&servers[0]).is_empty());
    hand_over(&servers, 0);
    assert_eq!(written(&servers[0]), std::slice::from_ref(&second));
    assert!(written(&servers[1]).is_empty());
    // Back again, without writing it: the files say the opposite now, and the failover counts.
    hand_over(&servers, 1);
    for server in &mut servers {
        server.kill();
        server.restart();
    }
    assert_eq!((servers[0].info("role"), servers[1].info("role")), ("master".into(), "slave".into()));
    servers[1].wait_for_link();
    // Who edits the file after it was written decides.
    assert_eq!(written(&servers[1]), [first]);
    servers[1].kill();
    std::fs::write(servers[1].folder().join("server.conf"), "appendonly yes\n").expect("written");
    servers[1].restart();
    assert_eq!(servers[1].info("role"), "master");
    servers[1].client().ok("REPLICAOF NO ONE");
    assert!(written(&servers[1]).is_empty());
}
