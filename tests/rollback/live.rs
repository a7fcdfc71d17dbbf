//! Scripts on a live server, killed with SCRIPT KILL ROLLBACK at random points.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::common::client::{Client, Reply};
use crate::common::server::Server;
use crate::common::wait_until;
use crate::generate::Generator;

/// Runs the calls in its arguments (each preceded by the number of its words) again and again.
const RUN_FOR_EVER: &str = "
    local calls, place = {}, 1
    while place <= #ARGV do
        local call = {}
        for word = 1, tonumber(ARGV[place]) do call[word] = ARGV[place + word] end
        calls[#calls + 1] = call
        place = place + #call + 1
    end
    while true do
        for _, call in ipairs(calls) do redis.pcall(unpack(call)) end
        redis.call('PUBLISH', 'channel', 'said by the script')
        redis.call('SPUBLISH', 'shard', 'said by the script')
    end";

/// All that is to be as it was.
#[derive(Debug, PartialEq)]
struct Picture {
    digest: Reply,
    offset: String,
    aof: Vec<(String, Vec<u8>)>,
    fields: Vec<(&'static str, String)>,
    keys: i64,
}

const FIELDS: [&str; 6] = [
    "master_repl_offset",
    "rdb_changes_since_last_save",
    "expired_keys",
    "evicted_keys",
    "blocked_clients",
    "watching_clients",
];

fn picture(server: &Server, client: &mut Client) -> Picture {
    Picture {
        digest: client.ok("DEBUG DIGEST"),
        offset: client.info("master_repl_offset"),
        aof: files(&server.folder().join("appendonlydir")),
        fields: FIELDS.map(|field| (field, client.try_info(field).unwrap_or_default())).to_vec(),
        keys: client.ok("DBSIZE").integer(),
    }
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .expect("the AOF's folder")
        .map(|file| {
            let file = file.expect("a file");
            let name = file.file_name().to_string_lossy().into_owned();
            (name, fs::read(file.path()).expect("can be read"))
        })
        .collect();
    files.sort();
    files
}

/// Calls that are no transaction and leave nothing that expires while the test looks.
fn calls(generator: &mut Generator, count: usize, lasting: bool) -> Vec<Vec<Vec<u8>>> {
    let mut calls = Vec::new();
    while calls.len() < count {
        let call = generator.next_call();
        let name = call[0].to_ascii_uppercase();
        let is_transaction =
            [&b"MULTI"[..], b"EXEC", b"DISCARD", b"WATCH", b"UNWATCH"].contains(&name.as_slice());
        let expires = name.windows(3).any(|part| part == b"EXP") || name.ends_with(b"EX");
        let is_blocking = name.first() == Some(&b'B') && !name.starts_with(b"BIT");
        if !is_transaction && !(lasting && (expires || is_blocking)) {
            calls.push(call);
        }
    }
    calls
}

fn check(options: &[&str], rounds: u64, with_replica: bool) {
    let common = ["--busy-reply-threshold", "10", "--appendonly", "yes", "--notify-keyspace-events", "KEA"];
    let server = Server::start(&[&common, options].concat());
    let mut client = server.client();
    client.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    let mut generator = Generator::new(fastrand::u64(..));
    let replica = with_replica.then(|| Server::replica_of(server.port, &["--busy-reply-threshold", "10"]));
    // Who is not to hear anything.
    let mut subscriber = server.client();
    for command in ["PSUBSCRIBE *", "SSUBSCRIBE shard"] {
        subscriber.ok(command);
    }
    let mut waiting = server.client();
    waiting.send(&["BLPOP", "waited", "0"]).expect("sent");
    wait_until("a client waits", || client.info("blocked_clients") == "1");
    for round in 0..rounds {
        for call in calls(&mut generator, 100, true) {
            client.call_args(&call);
        }
        // What was said so far.
        subscriber.set_read_timeout(Duration::from_millis(50));
        while subscriber.read().is_ok() {}
        let mut watching = server.client();
        watching.ok("WATCH s1 l1 h1 z1 t1 waited");
        if let Some(replica) = &replica {
            replica.wait_for_offset_of(&server);
        }
        let before = picture(&server, &mut client);
        let memory = server.info_number("used_memory");

        let mut words: Vec<Vec<u8>> = vec![b"EVAL".to_vec(), RUN_FOR_EVER.as_bytes().to_vec(), b"0".to_vec()];
        let mut unit = calls(&mut generator, 1 + fastrand::usize(..60), false);
        if fastrand::bool() {
            let whole = ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1"][fastrand::usize(..3)];
            let place = fastrand::usize(..=unit.len());
            unit.insert(place, whole.split(' ').map(|word| word.as_bytes().to_vec()).collect());
        }
        unit.push(vec![b"RPUSH".to_vec(), b"waited".to_vec(), b"x".to_vec()]);
        for call in &unit {
            words.push(call.len().to_string().into_bytes());
            words.extend(call.iter().cloned());
        }
        let mut caller = server.client();
        caller.send(&words).expect("sent");
        wait_until("it is busy", || client.call("PING").is_error());
        std::thread::sleep(Duration::from_millis(fastrand::u64(..30)));
        let unkillable = client.call("SCRIPT KILL");
        assert!(unkillable.text().starts_with("UNKILLABLE "), "{unkillable:?}");
        client.ok("SCRIPT KILL ROLLBACK");
        let reply = caller.read().expect("a reply");
        assert!(reply.is_error() && reply.text().contains("killed"), "{reply:?}");

        let after = picture(&server, &mut client);
        assert_eq!(
            after,
            before,
            "round {round}, after {:?}",
            unit.iter().map(|call| show(call)).collect::<Vec<_>>()
        );
        let grown = server.info_number("used_memory") - memory;
        assert!(grown < 16 << 20, "it took {grown} bytes");
        let heard = subscriber.read();
        assert!(heard.is_err(), "a subscriber heard {heard:?}");
        watching.ok("MULTI");
        watching.ok("PING");
        assert_eq!(watching.ok("EXEC").items().len(), 1, "no watched key changed");
        if let Some(replica) = &replica {
            replica.wait_for_offset_of(&server);
            assert_eq!(replica.call("DEBUG DIGEST"), before.digest);
        }
    }
    client.ok("RPUSH waited y");
    assert_eq!(waiting.read().expect("a reply").items()[1].text(), "y");
}

fn show(call: &[Vec<u8>]) -> String {
    call.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_killed_script_leaves_nothing_behind() {
    check(&["--appendfsync", "always"], 12, false);
}

#[test]
fn nor_on_replicas() {
    check(&["--repl-ping-replica-period", "3600"], 8, true);
}
