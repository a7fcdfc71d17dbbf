//! What a replica answers, and what both sides say of each other.

use std::time::{Duration, Instant};

use crate::common::client::{Client, Reply};
use crate::common::proxy::Proxy;
use crate::common::server::Server;
use crate::common::wait_until;

const READONLY: &str = "READONLY You can't write against a read only replica.";
const SCRIPT_READONLY: &str = "READONLY You can't run a script that may write on a read only replica. Use EVAL_RO, \
                               EVALSHA_RO or FCALL_RO, or give the script the no-writes flag.";

fn refused(client: &mut Client, words: &[&str], expected: &str) {
    let reply = client.call_args(words);
    assert!(reply.is_error(), "{words:?}: {reply:?}");
    assert_eq!(reply.text(), expected, "{words:?}");
}

#[test]
fn writes_are_refused_and_reads_are_not() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &[]);
    primary.client().ok("SET k v");
    replica.wait_for_offset_of(&primary);
    let mut client = replica.client();
    for words in [
        "SET k x",
        "DEL k",
        "EXPIRE k 10",
        "LPUSH l a",
        "FLUSHALL",
        "BLPOP l 0",
        "GETDEL k",
        "SORT l STORE m",
    ] {
        refused(&mut client, &words.split(' ').collect::<Vec<_>>(), READONLY);
    }
    // One refused command spoils a transaction.
    client.ok("MULTI");
    refused(&mut client, &["SET", "k", "x"], READONLY);
    assert_eq!(client.call("EXEC").text(), "EXECABORT Transaction discarded because of previous errors.");
    // Reads work, in a transaction too.
    client.ok("MULTI");
    client.ok("GET k");
    assert_eq!(client.call("EXEC").items()[0].text(), "v");
    // The setting decides.
    client.ok("CONFIG SET replica-read-only no");
    client.ok("SET own 1");
    client.ok("CONFIG SET replica-read-only yes");
    refused(&mut client, &["SET", "own", "2"], READONLY);
}

/// The stream is read on, and applied when the pause ends.
#[test]
fn a_paused_replica_holds_the_stream_back() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &[]);
    let (mut writer, mut client) = (primary.client(), replica.client());
    writer.ok("SET a 1");
    replica.wait_for_offset_of(&primary);
    let applied = client.info("slave_repl_offset");
    client.ok("CLIENT PAUSE 100000 WRITE");
    for words in ["SET a 2", "MULTI", "INCR b", "INCR b", "EXEC", "PUBLISH channel message", "SET a 3"] {
        writer.ok(words);
    }
    let written = primary.info("master_repl_offset");
    wait_until("all has come", || client.info("slave_read_repl_offset") == written);
    assert_eq!(client.info("slave_repl_offset"), applied);
    assert_eq!(client.info("master_repl_offset"), applied);
    assert_eq!(client.ok("GET a").text(), "1");
    assert!(client.ok("GET b").is_nil());
    assert_eq!(writer.call("WAIT 1 50").integer(), 0);
    client.ok("CLIENT UNPAUSE");
    assert_eq!(writer.call("WAIT 1 0").integer(), 1);
    assert_eq!(client.ok("GET a").text(), "3");
    assert_eq!(client.ok("GET b").text(), "2");
    // So it is at the end of the time, and a pause of all commands holds back those that write nothing too.
    let paused = Instant::now();
    client.ok("CLIENT PAUSE 400 ALL");
    writer.ok("SET a 4");
    assert_eq!(writer.call("WAIT 1 0").integer(), 1);
    assert!(paused.elapsed() >= Duration::from_millis(400), "{:?}", paused.elapsed());
    assert_eq!(client.ok("GET a").text(), "4");
    assert_eq!(primary.info_number("sync_full"), 1);
    assert_eq!(primary.info_number("sync_partial_ok"), 0);
}

#[test]
fn a_reader_waits_for_what_the_stream_brings() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &[]);
    primary.client().ok("XADD log 1-1 a 1");
    replica.wait_for_offset_of(&primary);
    let (mut waiting, mut client) = (replica.client(), replica.client());
    waiting.send(&["XREAD", "BLOCK", "0", "STREAMS", "log", "$"]).expect("sent");
    wait_until("it waits", || client.info("blocked_clients") == "1");
    refused(&mut client, &["XREADGROUP", "GROUP", "g", "c", "STREAMS", "log", ">"], READONLY);
    primary.client().ok("XADD log 2-2 a 2");
    let reply = waiting.read().expect("a reply");
    assert_eq!(reply.items()[0].items()[1].items()[0].items()[0].text(), "2-2", "{reply:?}");
    // A script cannot wait.
    let script = "return redis.call('XREAD', 'BLOCK', '0', 'STREAMS', 'log', '3')";
    assert_eq!(client.call_args(&["EVAL_RO", script, "0"]), Reply::NilBulk);
}

#[test]
fn scripts_must_say_that_they_only_read() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &[]);
    let mut writer = primary.client();
    writer.ok("SET k v");
    let library = "#!lua name=lib
server.register_function('plain', function(keys) return server.call('GET', keys[1]) end)
server.register_function{function_name='reader', callback=function(keys) return server.call('GET', keys[1]) end, flags={'no-writes'}}";
    writer.call_args(&["FUNCTION", "LOAD", library]);
    let read = "return redis.call('GET', KEYS[1])";
    let sha = writer.call_args(&["SCRIPT", "LOAD", read]).text();
    replica.wait_for_offset_of(&primary);
    let mut client = replica.client();
    // Those that cannot write.
    for words in [
        &["EVAL_RO", read, "1", "k"][..],
        &["EVALSHA_RO", &sha, "1", "k"],
        &["EVAL", &format!("#!lua flags=no-writes\n{read}"), "1", "k"],
        &["FCALL_RO", "reader", "1", "k"],
        &["FCALL", "reader", "1", "k"],
    ] {
        let reply = client.call_args(words);
        assert!(!reply.is_error(), "{words:?}: {reply:?}");
        assert_eq!(reply.text(), "v", "{words:?}");
    }
    // Those that might.
    for words in [
        &["EVAL", read, "1", "k"][..],
        &["EVALSHA", &sha, "1", "k"],
        &["EVAL", &format!("#!lua\n{read}"), "1", "k"],
        &["FCALL", "plain", "1", "k"],
    ] {
        refused(&mut client, words, SCRIPT_READONLY);
    }
    refused(
        &mut client,
        &["FCALL_RO", "plain", "1", "k"],
        "ERR Can not execute a script with write flag using *_ro command.",
    );
    let reply = client.call_args(&["EVAL_RO", "return redis.pcall('SET', KEYS[1], 'x')", "1", "k"]);
    assert!(
        reply.text().starts_with("ERR Write commands are not allowed from read-only scripts."),
        "{reply:?}"
    );
    assert_eq!(client.call("GET k").text(), "v");
    refused(&mut client, &["FUNCTION", "FLUSH"], READONLY);
    refused(&mut client, &["FUNCTION", "DELETE", "lib"], READONLY);
}

/// A script that came to the primary by EVAL is not in its stream: the replica asks for it.
#[test]
fn a_script_that_the_replica_lacks_is_asked_of_the_primary() {
    let mut primary = Server::start(&[]);
    let mut writer = primary.client();
    writer.ok("CONFIG SET requirepass secret");
    let replica =
        Server::start(&["--replicaof", &format!("127.0.0.1 {}", primary.port), "--primaryauth", "secret"]);
    replica.wait_for_link();
    let mut client = replica.client();
    let run = |script: &str| {
        let sha = server_sha1(script);
        vec!["EVALSHA_RO".to_owned(), sha, "0".to_owned()]
    };
    for number in 0..3 {
        let script = format!("return {number}");
        writer.call_args(&["EVAL", &script, "0"]);
        assert_eq!(client.call_args(&run(&script)).integer(), number);
        // Now it is known here.
        assert_eq!(client.call_args(&["SCRIPT", "EXISTS", &run(&script)[1]]).items()[0].integer(), 1);
    }
    // Several clients that want the same are answered alike, and what nobody has is NOSCRIPT.
    writer.call_args(&["EVAL", "return 'shared'", "0"]);
    let mut clients: Vec<Client> = (0..5).map(|_| replica.client()).collect();
    for client in &mut clients {
        client.send(&run("return 'shared'")).expect("sent");
    }
    for client in &mut clients {
        assert_eq!(client.read().expect("a reply").text(), "shared");
    }
    for words in [run("return 'nobody'"), vec!["EVALSHA_RO".into(), "short".into(), "0".into()]] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        refused(&mut client, &words, "NOSCRIPT No matching script.");
        refused(&mut client, &words, "NOSCRIPT No matching script.");
    }
    // In a transaction nobody can wait.
    writer.call_args(&["EVAL", "return 'queued'", "0"]);
    client.ok("MULTI");
    client.call_args(&run("return 'queued'"));
    assert!(client.call("EXEC").items()[0].is_error());
    // A primary that does not answer holds up nobody but who asks, and that not for long.
    writer.send(&["DEBUG", "SLEEP", "4"]).expect("sent");
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    client.send(&run("return 'asleep'")).expect("sent");
    let mut other = replica.client();
    assert_eq!(other.call("PING").text(), "PONG");
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(client.read().expect("a reply").text(), "NOSCRIPT No matching script.");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    primary.kill();
    refused(&mut client, &["EVALSHA_RO", &server_sha1("return 'gone'"), "0"], "NOSCRIPT No matching script.");
}

/// From its first use by digest on, a script that came by EVAL is in the stream, once, whichever command uses it.
#[test]
fn a_script_in_use_by_its_digest_is_known_where_the_stream_goes() {
    let mut primary = Server::start(&["--appendonly", "yes"]);
    let replica = Server::replica_of(primary.port, &[]);
    let mut writer = primary.client();
    let known = |server: &Server, sha: &str| {
        server.client().call_args(&["SCRIPT", "EXISTS", sha]).items()[0].integer() == 1
    };
    let uses =
        [("EVALSHA", "return 'used'"), ("EVALSHA_RO", "return 'read'"), ("EVALSHA", "return 'queued'")];
    for (command, script) in uses {
        let sha = server_sha1(script);
        writer.call_args(&["EVAL", script, "0"]);
        replica.wait_for_offset_of(&primary);
        assert!(!known(&replica, &sha), "{script}");
        let before = primary.info_number("master_repl_offset");
        if script.contains("queued") {
            writer.ok("MULTI");
            writer.call_args(&[command, &sha, "0"]);
            assert_eq!(writer.call("EXEC").items()[0].text(), "queued");
        } else {
            writer.call_args(&[command, &sha, "0"]);
        }
        let told = primary.info_number("master_repl_offset");
        assert!(told > before, "{script}");
        writer.call_args(&[command, &sha, "0"]);
        assert_eq!(primary.info_number("master_repl_offset"), told, "{script}");
        replica.wait_for_offset_of(&primary);
        assert!(known(&replica, &sha), "{script}");
    }
    primary.kill();
    primary.restart();
    for (_, script) in uses {
        assert!(known(&primary, &server_sha1(script)), "{script}");
    }
}

fn server_sha1(script: &str) -> String {
    use sha1::Digest;
    sha1::Sha1::digest(script).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a transaction is known to do counts before it runs.
#[test]
fn a_transaction_with_a_script_that_writes_is_refused_as_a_whole() {
    let primary = Server::start(&[]);
    let server = Server::start(&["--replica-scripts", "compatible"]);
    let mut client = server.client();
    client.ok("MULTI");
    client.call_args(&["EVAL", "#!lua\nreturn 1", "0"]);
    let mut unflagged = server.client();
    unflagged.ok("MULTI");
    unflagged.call_args(&["EVAL", "return redis.call('SET', 'k', 1)", "0"]);
    server.client().ok(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
    server.wait_for_link();
    refused(&mut client, &["EXEC"], &format!("EXECABORT Transaction discarded because of: {READONLY}"));
    assert!(unflagged.call("EXEC").items()[0].text().starts_with(READONLY));
}

#[test]
fn valkeys_rule_for_scripts_can_be_asked_for() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &["--replica-scripts", "compatible"]);
    primary.client().ok("SET k v");
    replica.wait_for_offset_of(&primary);
    let mut client = replica.client();
    assert_eq!(client.call_args(&["EVAL", "return redis.call('GET', KEYS[1])", "1", "k"]).text(), "v");
    let reply = client.call_args(&["EVAL", "return redis.call('SET', KEYS[1], 1)", "1", "k"]);
    assert!(reply.text().starts_with(READONLY), "{reply:?}");
    refused(
        &mut client,
        &["EVAL", "#!lua\nreturn 1", "0"],
        "READONLY You can't write against a read only replica.",
    );
}

#[test]
fn stale_data_is_refused_when_asked_for() {
    let mut primary = Server::start(&[]);
    primary.client().ok("SET k v");
    let replica = Server::replica_of(primary.port, &["--replica-serve-stale-data", "no"]);
    let mut client = replica.client();
    wait_until("the status is seen", || client.call("GET k").text() == "v");
    primary.kill();
    let down = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    wait_until("it notices", || client.call("GET k").text() == down);
    refused(&mut client, &["EVAL_RO", "return 1", "0"], down);
    // A script that says so may run, but not look at data.
    let allowed = |body: &str| format!("#!lua flags=no-writes,allow-stale\nreturn {body}");
    assert_eq!(client.call_args(&["EVAL_RO", &allowed("1"), "0"]).integer(), 1);
    let reply = client.call_args(&["EVAL_RO", &allowed("redis.call('GET', KEYS[1])"), "1", "k"]);
    assert!(reply.text().starts_with("ERR Can not execute the command on a stale replica"), "{reply:?}");
    refused(&mut client, &["EVAL", "#!lua flags=no-writes\nreturn 1", "0"], down);
    refused(&mut client, &["DBSIZE"], down);
    // What it takes to find out and to mend it goes on working.
    for words in ["INFO replication", "ROLE", "CONFIG GET port", "SUBSCRIBE c"] {
        client.ok(words);
    }
    let mut client = replica.client();
    assert_eq!(client.info("master_link_status"), "down");
    client.ok("CONFIG SET replica-serve-stale-data yes");
    assert_eq!(client.call("GET k").text(), "v");
    client.ok("CONFIG SET replica-serve-stale-data no");
    primary.restart();
    wait_until("it is back", || client.call("PING").text() == "PONG");
}

#[test]
fn wait_counts_the_replicas_that_have_it() {
    let primary = Server::start(&[]);
    let mut client = primary.client();
    client.ok("SET k 0");
    assert_eq!(client.call("WAIT 0 100").integer(), 0);
    assert_eq!(client.call("WAIT 1 20").integer(), 0);
    let replicas = [Server::replica_of(primary.port, &[]), Server::replica_of(primary.port, &[])];
    wait_until("both acknowledge", || {
        client.ok("INCR n");
        client.call("WAIT 2 1000").integer() == 2
    });
    // At once, since acknowledgements are asked for, not awaited.
    let began = std::time::Instant::now();
    for _ in 0..10 {
        client.ok("INCR n");
        assert_eq!(client.call("WAIT 2 10000").integer(), 2);
    }
    assert!(began.elapsed().as_millis() < 5_000, "{:?}", began.elapsed());
    // A third never comes.
    client.ok("INCR n");
    assert_eq!(client.call("WAIT 3 50").integer(), 2);
    let count = replicas[0].call("GET n").text();
    assert_eq!(count, client.call("GET n").text());
    refused(
        &mut replicas[0].client(),
        &["WAIT", "1", "0"],
        "ERR WAIT cannot be used with replica instances. Please also note that if a replica is configured to be \
         writable (which is not the default) writes to replicas are just local and are not propagated.",
    );
    refused(&mut client, &["WAIT", "1", "-1"], "ERR timeout is negative");
    // Inside of a transaction it cannot wait.
    client.ok("MULTI");
    client.ok("WAIT 5 0");
    assert_eq!(client.call("EXEC").items()[0].integer(), 2);
}

#[test]
fn info_and_role_say_how_things_are() {
    let primary = Server::start(&["--repl-backlog-size", "2mb"]);
    assert_eq!(primary.info("role"), "master");
    assert_eq!(primary.info("connected_slaves"), "0");
    assert_eq!(primary.info("repl_backlog_active"), "0");
    assert_eq!(primary.info("master_replid2"), "0".repeat(40));
    assert_eq!(primary.info("second_repl_offset"), "-1");
    let replica = Server::replica_of(primary.port, &["--replica-priority", "7"]);
    let mut client = primary.client();
    client.ok("SET k v");
    replica.wait_for_offset_of(&primary);
    client.ok("WAIT 1 10000");
    assert_eq!(client.info("repl_backlog_active"), "1");
    assert_eq!(client.info("repl_backlog_size"), (2 * 1024 * 1024).to_string());
    assert_eq!(client.info("master_failover_state"), "no-failover");
    let line = client.info("slave0");
    let expected = format!("ip=127.0.0.1,port={},state=online,offset=", replica.port);
    assert!(
        line.starts_with(&expected) && line.contains(",lag=") && line.ends_with(",type=replica"),
        "{line}"
    );
    let role = client.call("ROLE");
    let [name, offset, replicas] = role.items() else { panic!("{role:?}") };
    assert_eq!(name.text(), "master");
    assert!(offset.integer() > 0);
    assert_eq!(replicas.items()[0].items()[0].text(), "127.0.0.1");
    assert_eq!(replicas.items()[0].items()[1].text(), replica.port.to_string());

    let mut client = replica.client();
    assert_eq!(client.info("role"), "slave");
    assert_eq!(client.info("master_host"), "127.0.0.1");
    assert_eq!(client.info("master_port"), primary.port.to_string());
    assert_eq!(client.info("master_link_status"), "up");
    assert_eq!(client.info("master_sync_in_progress"), "0");
    assert_eq!(client.info("slave_read_only"), "1");
    assert_eq!(client.info("slave_priority"), "7");
    assert_eq!(client.info("slave_repl_offset"), client.info("master_repl_offset"));
    let role = client.call("ROLE");
    let [name, host, port, state, offset] = role.items() else { panic!("{role:?}") };
    assert_eq!(
        (name.text(), host.text(), state.text()),
        ("slave".into(), "127.0.0.1".into(), "connected".into())
    );
    assert_eq!(port.integer(), i64::from(primary.port));
    assert_eq!(offset.integer().to_string(), client.info("slave_repl_offset"));
    drop(replica);
    let mut client = primary.client();
    wait_until("it is gone", || client.info("connected_slaves") == "0");
}

#[test]
fn waitaof_counts_disks() {
    let files = ["--appendonly", "yes", "--appendfsync", "always"];
    let primary = Server::start(&files);
    let mut client = primary.client();
    let counts = |client: &mut Client, words: &str| {
        let reply = client.ok(words);
        (reply.items()[0].integer(), reply.items()[1].integer())
    };
    client.ok("INCR n");
    assert_eq!(counts(&mut client, "WAITAOF 1 0 10000"), (1, 0));
    let replica = Server::replica_of(primary.port, &files);
    client.ok("INCR n");
    assert_eq!(counts(&mut client, "WAITAOF 1 1 20000"), (1, 1));
    assert_eq!(counts(&mut client, "WAITAOF 1 2 50"), (1, 1));
    refused(
        &mut replica.client(),
        &["WAITAOF", "0", "1", "0"],
        "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and \
         are not propagated.",
    );
    let plain = Server::start(&[]);
    refused(
        &mut plain.client(),
        &["WAITAOF", "1", "0", "0"],
        "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
    );
}

/// Valkey waits for the client's own last write, not for what others wrote since.
#[test]
fn wait_is_for_the_clients_own_writes() {
    let primary = Server::start(&[]);
    let proxy = Proxy::to(primary.port);
    let replica = Server::replica_of(proxy.port, &[]);
    let (mut one, mut other) = (primary.client(), primary.client());
    one.ok("SET mine 1");
    assert_eq!(one.call("WAIT 1 20000").integer(), 1);
    replica.wait_for_offset_of(&primary);
    // The replica stands still: it has what the first client wrote, and not what the second does.
    let stopped = replica.process_id().to_string();
    let signal = |name: &str| {
        let status = std::process::Command::new("kill").args([name, &stopped]).status().expect("kill");
        assert!(status.success());
    };
    signal("-STOP");
    other.ok("SET theirs 1");
    let (mine, theirs) = (one.call("WAIT 1 300").integer(), other.call("WAIT 1 300").integer());
    let nothing = primary.client().call("WAIT 1 300").integer();
    signal("-CONT");
    assert_eq!((mine, theirs, nothing), (1, 0, 1));
}

/// What clients write to a writable replica stays there: the stream goes on as if it were not, and their keys expire.
#[test]
fn a_writable_replica_keeps_its_writes_to_itself() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &["--replica-read-only", "no"]);
    let below = Server::replica_of(replica.port, &[]);
    let (mut client, mut writer) = (primary.client(), replica.client());
    client.ok("SET shared 1");
    replica.wait_for_offset_of(&primary);
    let offset = replica.info_number("master_repl_offset");
    writer.ok("SET own 1");
    writer.ok("SET short 1 PX 50");
    writer.ok("MULTI");
    writer.ok("SADD set a b");
    writer.ok("EXPIRE set 1");
    writer.ok("EXEC");
    assert_eq!(replica.info_number("master_repl_offset"), offset);
    wait_until("they expire by themselves", || replica.info_number("expired_keys") == 2);
    assert_eq!(writer.call("DBSIZE").integer(), 2);
    // The primary's keys do not.
    client.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    client.ok("SET theirs 1 PX 20");
    replica.wait_for_offset_of(&primary);
    writer.ok("SET later 1 PX 50");
    wait_until("its own expire", || replica.info_number("expired_keys") == 3);
    assert_eq!(writer.call("DBSIZE").integer(), 3);
    assert!(writer.call("GET theirs").is_nil());
    below.wait_for_offset_of(&primary);
    assert_eq!(below.call("DBSIZE").integer(), 2);
    assert_eq!(primary.info_number("sync_full") + replica.info_number("sync_full"), 2);
}

#[test]
fn a_client_can_cut_the_link() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &[]);
    let mut client = replica.client();
    let list = client.ok("CLIENT LIST TYPE primary").text();
    assert!(list.contains(&format!("addr=127.0.0.1:{}", primary.port)) && list.contains("flags=M"), "{list}");
    assert_eq!(client.ok(&format!("CLIENT KILL ADDR 127.0.0.1:{}", primary.port)).integer(), 1);
    wait_until("it is back", || primary.info_number("sync_partial_ok") == 1);
    primary.client().ok("SET k 1");
    replica.wait_for_offset_of(&primary);
    assert_eq!(primary.info_number("sync_full"), 1);
}

/// A replica that does not read costs the primary as much memory as its limit allows.
#[test]
fn a_replica_that_stands_still_is_closed_at_its_limit() {
    let options = ["--repl-backlog-size", "1mb", "--client-output-buffer-limit", "replica 2mb 0 0"];
    let primary = Server::start(&options);
    let replica = Server::replica_of(primary.port, &[]);
    let stopped = replica.process_id().to_string();
    let signal = |name: &str| {
        let status = std::process::Command::new("kill").args([name, &stopped]).status().expect("kill");
        assert!(status.success());
    };
    signal("-STOP");
    let mut client = primary.client();
    let value = "x".repeat(100_000);
    let mut most = 0;
    for number in 0..400 {
        client.ok(&format!("SET key:{} {value}", number % 10));
        most = most.max(client.info("mem_total_replication_buffers").parse::<u64>().expect("bytes"));
    }
    let closed = client.info("client_output_buffer_limit_disconnections");
    signal("-CONT");
    assert_eq!(closed, "1");
    assert!(most < 4 << 20, "{most} bytes");
    replica.wait_for_link();
    replica.wait_for_offset_of(&primary);
}
