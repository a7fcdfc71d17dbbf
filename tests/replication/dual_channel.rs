//! Full syncs on two connections: ours with ours, and with Valkey 9.1 in both directions, under a load of writes.

use crate::common::dataset::{self, assert_same};
use crate::common::load::Load;
use crate::common::proxy::Proxy;
use crate::common::server::{Program, Server};
use crate::common::wait_until;

const DUAL: &[&str] = &["--dual-channel-replication-enabled", "yes"];

/// The snapshot comes on its own while writes go on, the stream goes on behind it, and a cut link costs a partial sync.
fn sync(primary: &Program, replica: &Program) {
    let primary = Server::start_program(primary, DUAL);
    dataset::fill(&mut primary.client(), true);
    let load = Load::start(2, &[primary.port]);
    load.wait_for_more(100);
    // Slow enough for the stream to come before the snapshot is complete.
    primary.call("CONFIG SET rdb-key-save-delay 50");
    let proxy = Proxy::to(primary.port);
    let address = format!("127.0.0.1 {}", proxy.port);
    let options = [DUAL, &["--replicaof", &address]].concat();
    let replica = Server::start_program(replica, &options);
    replica.wait_for_link();
    load.wait_for_more(100);
    let acknowledged = load.stop();
    replica.wait_for_offset_of(&primary);
    assert_same(&primary, &replica);
    assert!(crate::common::load::lost(&mut replica.client(), &acknowledged).is_empty());
    // One for the snapshot's connection, one for the other.
    assert_eq!((primary.info_number("sync_full"), primary.info_number("sync_partial_ok")), (1, 1));
    assert!(primary.log().contains("using: dual-channel"), "{}", primary.log());
    assert_eq!(primary.info("replicas_waiting_psync"), "0");
    wait_until("the snapshot's connection is gone", || primary.info("connected_slaves") == "1");
    proxy.cut();
    primary.client().ok("SET after:cut 1");
    wait_until("the link is back", || primary.info_number("sync_partial_ok") == 2);
    replica.wait_for_offset_of(&primary);
    assert_same(&primary, &replica);
    assert_eq!(primary.info_number("sync_full"), 1);
}

#[test]
fn ours_from_ours() {
    sync(&Program::ours(), &Program::ours());
}

#[test]
fn ours_from_valkey() {
    let Some(valkey) = Program::valkey() else { return };
    sync(&valkey, &Program::ours());
}

#[test]
fn valkey_from_ours() {
    let Some(valkey) = Program::valkey() else { return };
    sync(&Program::ours(), &valkey);
}

/// Connections that break at any moment of the sync: it begins anew, and ends well.
#[test]
fn a_sync_that_is_cut_again_and_again_ends_well() {
    let primary = Server::start(DUAL);
    dataset::fill(&mut primary.client(), true);
    primary.call("CONFIG SET rdb-key-save-delay 200");
    let load = Load::start(2, &[primary.port]);
    let proxy = Proxy::to(primary.port);
    let address = format!("127.0.0.1 {}", proxy.port);
    let options = [DUAL, &["--replicaof", &address]].concat();
    let replica = Server::start_program(&Program::ours(), &options);
    for round in 1..=4 {
        wait_until("a sync has begun", || primary.info_number("sync_full") >= round);
        std::thread::sleep(std::time::Duration::from_millis(60 * round as u64));
        proxy.cut();
    }
    primary.call("CONFIG SET rdb-key-save-delay 0");
    replica.wait_for_link();
    load.stop();
    replica.wait_for_offset_of(&primary);
    assert_same(&primary, &replica);
    wait_until("nothing is kept for the broken ones", || primary.info("replicas_waiting_psync") == "0");
}

/// A primary without the feature, or without diskless syncs, does it the old way.
#[test]
fn without_the_offer_there_is_one_connection() {
    for options in [&[][..], &["--dual-channel-replication-enabled", "yes", "--repl-diskless-sync", "no"]] {
        let primary = Server::start(options);
        dataset::fill(&mut primary.client(), true);
        let replica = Server::replica_of(primary.port, DUAL);
        replica.wait_for_offset_of(&primary);
        assert_same(&primary, &replica);
        assert_eq!((primary.info_number("sync_full"), primary.info_number("sync_partial_ok")), (1, 0));
    }
}
