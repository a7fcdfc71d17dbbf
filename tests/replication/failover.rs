//! FAILOVER between running servers, mostly under a load whose every acknowledged write must be there afterwards.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use crate::common::client::Client;
use crate::common::dataset::assert_same;
use crate::common::load::{Load, lost};
use crate::common::proxy::Proxy;
use crate::common::server::Server;
use crate::common::{Until, wait_for, wait_until};

struct Trio {
    servers: Vec<Server>,
}

impl Trio {
    fn start() -> Trio {
        let primary = Server::start(&[]);
        let replicas: Vec<Server> = (0..2).map(|_| Server::replica_of(primary.port, &[])).collect();
        Trio { servers: std::iter::once(primary).chain(replicas).collect() }
    }

    fn ports(&self) -> Vec<u16> {
        self.servers.iter().map(|server| server.port).collect()
    }

    fn primary(&self) -> Option<usize> {
        let primaries: Vec<usize> =
            (0..self.servers.len()).filter(|index| self.servers[*index].info("role") == "master").collect();
        (primaries.len() == 1).then(|| primaries[0])
    }

    /// Waits until there is one primary that is not failing over and all others follow it, and returns it.
    fn settle(&self) -> usize {
        let primary = wait_for("the servers agree", || {
            let primary = self.primary()?;
            let port = self.servers[primary].port.to_string();
            let agrees = |(index, server): (usize, &Server)| {
                let mut client = server.client();
                client.info("master_failover_state") == "no-failover"
                    && (index == primary
                        || client.info("role") == "slave"
                            && client.info("master_port") == port
                            && client.info("master_link_status") == "up")
            };
            self.servers.iter().enumerate().all(agrees).then_some(primary)
        });
        let others = self.servers.iter().filter(|server| server.port != self.servers[primary].port);
        others.for_each(|server| server.wait_for_offset_of(&self.servers[primary]));
        primary
    }

    fn check(&self, acknowledged: &[String]) {
        let primary = self.settle();
        assert!(!acknowledged.is_empty());
        for server in &self.servers {
            let lost = lost(&mut server.client(), acknowledged);
            assert!(
                lost.is_empty(),
                "{} of {} acknowledged writes are lost: {lost:?}",
                lost.len(),
                acknowledged.len()
            );
            assert_same(&self.servers[primary], server);
        }
    }
}

#[test]
fn plain_and_to_lose_nothing_under_load() {
    let trio = Trio::start();
    let load = Load::start(4, &trio.ports());
    load.wait_for_more(200);
    trio.servers[0].client().ok("FAILOVER");
    wait_until("another takes over", || trio.primary().is_some_and(|primary| primary != 0));
    let second = trio.settle();
    load.wait_for_more(200);
    let third = 3 - second;
    trio.servers[second].client().ok(&format!("FAILOVER TO 127.0.0.1 {}", trio.ports()[third]));
    wait_until("the named one takes over", || trio.primary() == Some(third));
    trio.settle();
    load.wait_for_more(200);
    // And home.
    trio.servers[third].client().ok(&format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 20000", trio.ports()[0]));
    wait_until("the first takes over", || trio.primary() == Some(0));
    load.wait_for_more(200);
    trio.check(&load.stop());
    let full: i64 = trio.servers.iter().map(|server| server.info_number("sync_full")).sum();
    assert_eq!(full, 2, "the two of the beginning");
}

#[test]
fn a_failover_that_times_out_changes_nothing() {
    let primary = Server::start(&[]);
    let proxy = Proxy::to(primary.port);
    let replica = Server::replica_of(proxy.port, &[]);
    let load = Load::start(2, &[primary.port]);
    load.wait_for_more(50);
    // A replica that stands still has not everything before the time is over.
    let mut sleeper = replica.client();
    sleeper.send(&["DEBUG", "SLEEP", "1"]).expect("sent");
    load.wait_for_more(20);
    let mut client = primary.client();
    client.ok("FAILOVER TIMEOUT 200");
    assert_eq!(client.info("master_failover_state"), "waiting-for-sync");
    let began = Instant::now();
    wait_until("the time is over", || client.info("master_failover_state") == "no-failover");
    assert!(began.elapsed().as_millis() < 900, "{:?}", began.elapsed());
    assert_eq!(client.info("role"), "master");
    load.wait_for_more(50);
    let acknowledged = load.stop();
    assert!(lost(&mut client, &acknowledged).is_empty());
    sleeper.read().expect("awake");
    replica.wait_for_offset_of(&primary);
    assert_same(&primary, &replica);
    assert_eq!(primary.info_number("sync_full"), 1);
}

#[test]
fn an_aborted_failover_lets_writes_go_on() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &[]);
    let mut client = primary.client();
    assert_eq!(client.call("FAILOVER ABORT").text(), "ERR No failover in progress.");
    let mut sleeper = replica.client();
    sleeper.send(&["DEBUG", "SLEEP", "1"]).expect("sent");
    wait_until("it sleeps", || {
        client.ok("INCR before");
        client.call("WAIT 1 50").integer() == 0
    });
    client.ok("FAILOVER");
    assert_eq!(client.call("FAILOVER").text(), "ERR FAILOVER already in progress.");
    let mut writer = primary.client();
    writer.send(&["SET", "held", "1"]).expect("sent");
    wait_until("the write is held back", || client.info("blocked_clients") == "1");
    assert!(client.call("GET held").is_nil());
    client.ok("FAILOVER ABORT");
    assert_eq!(writer.read().expect("a reply").text(), "OK");
    assert_eq!(client.info("master_failover_state"), "no-failover");
    assert_eq!(client.info("role"), "master");
    sleeper.read().expect("awake");
    replica.wait_for_offset_of(&primary);
    assert_same(&primary, &replica);
}

#[test]
fn force_takes_over_when_the_time_is_over() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &[]);
    let mut client = primary.client();
    client.ok("SET k v");
    replica.wait_for_offset_of(&primary);
    let mut sleeper = replica.client();
    sleeper.send(&["DEBUG", "SLEEP", "1"]).expect("sent");
    wait_until("it sleeps", || {
        client.ok("INCR unsure");
        client.call("WAIT 1 50").integer() == 0
    });
    client.ok(&format!("FAILOVER TO 127.0.0.1 {} FORCE TIMEOUT 100", replica.port));
    let states = ["failover-in-progress", "no-failover"];
    wait_until("it does not wait any longer", || states.contains(&&*client.info("master_failover_state")));
    sleeper.read().expect("awake");
    wait_until("it takes over", || replica.info("role") == "master");
    primary.wait_for_offset_of(&replica);
    assert_eq!(primary.info("role"), "slave");
    assert_eq!(replica.call("GET k").text(), "v");
    assert_same(&replica, &primary);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let primary = Server::start(&[]);
    let mut client = primary.client();
    assert_eq!(client.call("FAILOVER").text(), "ERR FAILOVER requires connected replicas.");
    let replica = Server::replica_of(primary.port, &[]);
    for (words, expected) in [
        ("FAILOVER TO 127.0.0.1", "ERR syntax error"),
        ("FAILOVER TO 127.0.0.1 1", "ERR FAILOVER target HOST and PORT is not a replica."),
        ("FAILOVER TIMEOUT 0", "ERR FAILOVER timeout must be greater than 0"),
        ("FAILOVER FORCE", "ERR FAILOVER with force option requires both a timeout and target HOST and IP."),
        (
            "FAILOVER TIMEOUT 10 FORCE",
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
        ),
        ("FAILOVER TO 127.0.0.1 x", "ERR value is not an integer or out of range"),
    ] {
        assert_eq!(client.call(words).text(), expected, "{words}");
    }
    assert_eq!(replica.call("FAILOVER").text(), "ERR FAILOVER is not valid when server is a replica.");
    assert_eq!(client.info("role"), "master");
}

#[test]
fn read_only_scripts_run_through_a_pause_and_a_failover() {
    let trio = Trio::start();
    let mut client = trio.servers[0].client();
    client.ok("SET k v");
    trio.settle();
    client.ok("CLIENT PAUSE 20000 WRITE");
    let mut writer = trio.servers[0].client();
    writer.send(&["EVAL", "return redis.call('SET', KEYS[1], 'after')", "1", "k"]).expect("sent");
    wait_until("the write is held back", || client.info("blocked_clients") == "1");
    for _ in 0..100 {
        assert_eq!(client.call_args(&["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "k"]).text(), "v");
        assert_eq!(client.call("GET k").text(), "v");
    }
    client.ok("CLIENT UNPAUSE");
    assert_eq!(writer.read().expect("a reply").text(), "OK");
    assert_eq!(client.call("GET k").text(), "after");
    trio.settle();
    // On every server, while the role moves from one to another.
    let ports = trio.ports();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let until = Until(&stop);
        for port in &ports {
            let stop = &stop;
            scope.spawn(move || {
                let mut reader = Client::connect(*port).expect("connects");
                while !stop.load(SeqCst) {
                    let words = ["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "k"];
                    assert_eq!(reader.call_args(&words).text(), "after");
                }
            });
        }
        let before = 0;
        client.ok("FAILOVER");
        wait_until("another takes over", || trio.primary().is_some_and(|primary| primary != before));
        trio.settle();
        drop(until);
    });
}

/// Replicas that cannot be told when the role goes, since they are being sent a snapshot or their link is cut, are told when they are back.
#[test]
fn siblings_that_were_not_there_follow_too() {
    let primary = Server::start(&["--rdbcompression", "no"]);
    let mut client = primary.client();
    client.ok("DEBUG POPULATE 1000 key 1000");
    let proxy = Proxy::to(primary.port);
    let target = Server::replica_of(primary.port, &[]);
    let cut = Server::replica_of(proxy.port, &[]);
    client.ok("CONFIG SET rdb-key-save-delay 3000");
    for replica in [&target, &cut] {
        replica.wait_for_offset_of(&primary);
    }
    let late = Server::start(&["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    wait_until("the snapshot comes", || late.info("master_sync_in_progress") == "1");
    proxy.block();
    client.ok(&format!("FAILOVER TO 127.0.0.1 {}", target.port));
    wait_until("the role has gone", || target.info("role") == "master" && primary.info("role") == "slave");
    client.ok("CONFIG SET rdb-key-save-delay 0");
    proxy.unblock();
    let port = target.port.to_string();
    for replica in [&late, &cut] {
        wait_until("it follows the new primary", || {
            replica.info("master_port") == port && replica.info("master_link_status") == "up"
        });
    }
    // One that comes later stays where it was sent.
    let chained = Server::replica_of(primary.port, &[]);
    target.client().ok("SET after 1");
    for replica in [&primary, &late, &cut, &chained] {
        replica.wait_for_offset_of(&target);
        assert_same(&target, replica);
    }
    assert_eq!(chained.info("master_port"), primary.port.to_string());
}

/// A client that waits for a list of the old primary is told, and none of what it was promised is lost.
#[test]
fn blocked_clients_are_told() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &[]);
    let mut waiting = primary.client();
    waiting.send(&["BLPOP", "list", "0"]).expect("sent");
    let mut client = primary.client();
    wait_until("it waits", || client.info("blocked_clients") == "1");
    client.ok("FAILOVER");
    let reply = waiting.read().expect("a reply");
    assert_eq!(
        reply.text(),
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
    );
    wait_until("it takes over", || replica.info("role") == "master");
}

#[test]
fn a_write_script_is_whole_on_one_side() {
    let trio = Trio::start();
    let ports = trio.ports();
    let stop = AtomicBool::new(false);
    let script =
        "local n = redis.call('INCR', 'n') for i = 1, 200 do redis.call('INCR', 'c:' .. i) end return n";
    let last = std::thread::scope(|scope| {
        let (stop, ports) = (&stop, &ports);
        let until = Until(stop);
        let caller = scope.spawn(move || {
            let mut acknowledged = 0;
            let mut server = 0;
            while !stop.load(SeqCst) {
                let Ok(mut client) = Client::connect(ports[server]) else { continue };
                while let Ok(reply) = client.try_call(&["EVAL", script, "0"]) {
                    if reply.is_error() {
                        break;
                    }
                    acknowledged = reply.integer();
                    if stop.load(SeqCst) {
                        break;
                    }
                }
                server = (server + 1) % ports.len();
            }
            acknowledged
        });
        let mut primary = 0;
        for _ in 0..3 {
            wait_until("scripts run", || !trio.servers[primary].call("GET n").is_nil());
            trio.servers[primary].client().ok("FAILOVER");
            wait_until("another takes over", || trio.primary().is_some_and(|other| other != primary));
            primary = trio.settle();
        }
        drop(until);
        caller.join().expect("no panic")
    });
    let primary = trio.settle();
    let mut client = trio.servers[primary].client();
    let n = client.call("GET n").text();
    assert!(n.parse::<i64>().expect("a number") >= last);
    for number in 1..=200 {
        assert_eq!(client.call(&format!("GET c:{number}")).text(), n, "a script was split");
    }
    for server in &trio.servers {
        assert_same(&trio.servers[primary], server);
    }
}

/// A primary is killed while it hands over, and nobody knows whether its replica heard of it. When it comes back it goes on
/// with that, and not as a second primary.
#[test]
fn a_kill_in_the_middle_of_a_handover_leaves_one_primary() {
    for options in [&[][..], &["--appendonly", "yes"]] {
        let mut primary = Server::start(options);
        let replica = Server::replica_of(primary.port, options);
        let proxy = Proxy::to(replica.port);
        let mut there = replica.client();
        // Others reach the replica through the proxy only.
        there.ok(&format!("CONFIG SET replica-announce-port {}", proxy.port));
        there.ok("CLIENT KILL TYPE primary");
        let port = format!("port={}", proxy.port);
        wait_until("the new port is known", || {
            let slave = primary.client().try_info("slave0").unwrap_or_default();
            slave.contains(&port) && slave.contains("state=online")
        });
        primary.client().ok("SET before 1");
        replica.wait_for_offset_of(&primary);
        proxy.block();
        primary.client().ok("FAILOVER");
        wait_until("it hands over", || primary.info("master_failover_state") == "failover-in-progress");
        primary.kill();
        primary.restart();
        let mut client = primary.client();
        assert_eq!(client.info("role"), "slave");
        assert_eq!(client.info("master_failover_state"), "failover-in-progress");
        client.send(&["SET", "during", "1"]).expect("sent");
        proxy.unblock();
        wait_until("the replica has the role", || replica.info("role") == "master");
        primary.wait_for_link();
        // What was held back is refused now.
        let refused = client.read().expect("an answer");
        assert!(refused.text().starts_with("READONLY"), "{refused:?}");
        assert_eq!(replica.call("GET before").text(), "1");
        replica.client().ok("SET after 1");
        primary.wait_for_offset_of(&replica);
        assert_same(&replica, &primary);
        // Both keep what they have become.
        primary.kill();
        primary.restart();
        assert_eq!(primary.info("role"), "slave");
        primary.wait_for_link();
        // Until an operator says otherwise.
        primary.client().ok("REPLICAOF NO ONE");
        primary.kill();
        primary.restart();
        assert_eq!(primary.info("role"), "master");
    }
}

/// The new primary stays one over a restart, although its configuration says replica.
#[test]
fn a_failover_outlives_restarts() {
    let primary = Server::start(&["--appendonly", "yes"]);
    let mut replica = Server::replica_of(primary.port, &["--appendonly", "yes"]);
    primary.client().ok("SET k 1");
    primary.client().ok("FAILOVER");
    wait_until("the replica has the role", || replica.info("role") == "master");
    primary.wait_for_link();
    // A process that is killed loses what waits for the disk, and a base that is not whole.
    wait_until("its AOF is whole", || {
        replica.info("aof_rewrite_in_progress") == "0" && replica.info("aof_buffer_length") == "0"
    });
    replica.kill();
    replica.restart();
    assert_eq!(replica.info("role"), "master");
    primary.wait_for_link();
    assert_eq!(replica.info_number("sync_full"), 0);
    replica.client().ok("SET k 2");
    primary.wait_for_offset_of(&replica);
    assert_same(&replica, &primary);
    // Whoever changes the configuration decides.
    replica.kill();
    let options = ["--appendonly", "yes", "--replicaof", "127.0.0.1 1"];
    replica.restart_with(&options);
    assert_eq!(replica.info("role"), "slave");
    assert_eq!(replica.info("master_port"), "1");
}
