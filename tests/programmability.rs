//! What Valkey's page on programmability promises, sentence by sentence, where no other test shows it. Which test shows which
//! sentence stands in docs/programmability.md.

#[path = "common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::client::{Client, Reply};
use common::server::{Program, Server};
use common::wait_until;

const READ: &str = "return redis.call('GET', KEYS[1])";
const LIBRARY: &str = "#!lua name=lib
server.register_function('plain', function(keys) return server.call('GET', keys[1]) end)
server.register_function('bump', function(keys) return server.call('INCR', keys[1]) end)
server.register_function('endless', function() while true do end end)
server.register_function{function_name='reader', callback=function(keys) return server.call('GET', keys[1]) end, flags={'no-writes'}}
server.register_function{function_name='liar', callback=function(keys) return server.call('INCR', keys[1]) end, flags={'no-writes'}}
server.register_function{function_name='endless_reader', callback=function() while true do end end, flags={'no-writes'}}";

fn load(client: &mut Client) {
    assert_eq!(client.call_args(&["FUNCTION", "LOAD", "REPLACE", LIBRARY]).text(), "lib");
}

/// Starts a script that does not end, on a connection of its own, and waits until the server is busy.
fn busy_with(server: &Server, words: &[&str]) -> Client {
    let mut caller = server.client();
    caller.send(words).expect("sent");
    let mut other = server.client();
    wait_until("it is busy", || other.call("PING").is_error());
    caller
}

#[track_caller]
fn fails(reply: &Reply, expected: &str) {
    assert!(reply.is_error() && reply.text().starts_with(expected), "{reply:?} instead of {expected}");
}

// ---- Running scripts ----

#[test]
fn scripts_are_cached_and_volatile() {
    let mut server = Server::start(&[]);
    let mut client = server.client();
    client.ok("SET k v");
    assert_eq!(client.call_args(&["EVAL", READ, "1", "k"]).text(), "v");
    let sha = client.call_args(&["SCRIPT", "LOAD", "return redis.call('GET', KEYS[1]) .. ARGV[1]"]).text();
    // Any other connection can run it by its digest.
    let words = ["EVALSHA", &sha, "1", "k", "!"];
    assert_eq!(server.client().call_args(&words).text(), "v!");
    assert_eq!(client.call_args(&["SCRIPT", "EXISTS", &sha, "0"]).items().len(), 2);
    assert_eq!(client.call_args(&["SCRIPT", "EXISTS", &sha]).items()[0].integer(), 1);
    client.ok("SCRIPT FLUSH");
    fails(&client.call_args(&words), "NOSCRIPT No matching script.");
    client.call_args(&["SCRIPT", "LOAD", READ]);
    server.kill();
    server.restart();
    fails(&server.client().call_args(&words), "NOSCRIPT No matching script.");
}

/// Functions are part of the dataset: loaded once, for all clients; saved in both kinds of files; replicated; dumped and restored.
#[test]
fn functions_are_kept_with_the_data() {
    let mut primary = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    load(&mut primary.client());
    let late = Server::replica_of(primary.port, &[]);
    let mut client = primary.client();
    assert_eq!(client.call("FCALL bump 1 n").integer(), 1);
    let more = "#!lua name=more\nredis.register_function{function_name='more', callback=function() return 'more' end, flags={'no-writes'}}";
    client.call_args(&["FUNCTION", "LOAD", more]);
    late.wait_for_offset_of(&primary);
    // One library came with the full sync, the other through the stream.
    assert_eq!(late.call("FCALL_RO reader 1 n").text(), "1");
    assert_eq!(late.call("FCALL_RO more 0").text(), "more");
    primary.kill();
    primary.restart();
    assert_eq!(primary.call("FCALL bump 1 n").integer(), 2);
    assert_eq!(primary.call("FCALL more 0").text(), "more");
    let mut client = primary.client();
    client.ok("SAVE");
    let dump = client.ok("FUNCTION DUMP");
    let Reply::Bulk(payload) = dump else { panic!("{dump:?}") };
    let mut other = Server::start(&["--save", "3600 1"]);
    let mut client = other.client();
    client.call_args(&[b"FUNCTION".as_slice(), b"RESTORE", &payload]);
    client.ok("SET n 5");
    client.ok("SAVE");
    other.kill();
    other.restart();
    assert_eq!(other.call("FCALL bump 1 n").integer(), 6);
    assert_eq!(other.call("FCALL_RO more 0").text(), "more");
}

/// The effects of a script are seen whole or not at all: by other clients, and by those of a replica.
#[test]
fn scripts_are_atomic() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &[]);
    let script = "redis.call('INCR', 'a') local started = os.clock() repeat until os.clock() - started > 0.005 \
                  return redis.call('INCR', 'b')";
    const RUNS: i64 = 40;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = primary.client();
            for _ in 0..RUNS {
                client.call_args(&["EVAL", script, "0"]);
            }
        });
        let mut readers = [primary.client(), replica.client()];
        while !writer.is_finished() {
            for reader in &mut readers {
                let both = reader.ok("MGET a b");
                assert_eq!(both.items()[0], both.items()[1]);
            }
        }
    });
    replica.wait_for_offset_of(&primary);
    assert_eq!(replica.call("GET b").text(), RUNS.to_string());
    // An error in the middle takes nothing back, as in Valkey: what was done before it is one unit too.
    let mut client = primary.client();
    let failed = client.call_args(&[
        "EVAL",
        "redis.call('SET', 'half', 1) error('x') redis.call('SET', 'whole', 1)",
        "0",
    ]);
    assert!(failed.is_error());
    assert_eq!(client.ok("MGET half whole").items()[0].text(), "1");
    assert!(client.ok("MGET half whole").items()[1].is_nil());
}

/// A read-only script sees one moment, however long it runs and whatever is written meanwhile.
#[test]
fn a_read_only_script_sees_one_moment() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.ok("SET a 0");
    client.ok("SET b 0");
    let script = "local a = redis.call('GET', 'a') local started = os.clock() repeat until os.clock() - started > 0.02 \
                  return a == redis.call('GET', 'b') and a == redis.call('GET', 'a')";
    let mut reader = server.client();
    for _ in 0..20 {
        reader.send(&["EVAL_RO", script, "0"]).expect("sent");
        for _ in 0..20 {
            client.call_args(&["EVAL", "redis.call('INCR', 'a') return redis.call('INCR', 'b')", "0"]);
        }
        assert_eq!(reader.read().expect("a reply").integer(), 1);
    }
}

/// One that ends just after its first slice is answered by another thread before its connection has begun to wait.
#[test]
fn a_connection_goes_on_after_a_script_elsewhere() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for round in 0..1500 {
        let time = 0.0009 + f64::from(round % 40) / 100_000.0;
        let script =
            format!("local started = os.clock() repeat until os.clock() - started > {time} return 1");
        assert_eq!(client.call_args(&["EVAL_RO", &script, "0"]).integer(), 1);
        assert_eq!(client.call("PING").text(), "PONG");
    }
}

// ---- Read-only scripts ----

const READ_ONLY_REFUSAL: &str = "ERR Write commands are not allowed from read-only scripts.";

#[test]
fn read_only_scripts_cannot_write() {
    let server = Server::start(&[]);
    let mut client = server.client();
    load(&mut client);
    client.ok("SET k v");
    // PFCOUNT may write the cached count, so it counts as writing too; so do both kinds of publishing.
    for call in [
        "'SET', 'k', 'x'",
        "'DEL', 'k'",
        "'EXPIRE', 'k', 1",
        "'FLUSHALL'",
        "'PUBLISH', 'c', 'm'",
        "'SPUBLISH', 'c', 'm'",
        "'PFCOUNT', 'k'",
        "'SETBIT', 'k', 0, 1",
        "'BITFIELD', 'k', 'GET', 'u8', 0",
        "'GETDEL', 'k'",
        "'GETEX', 'k'",
        "'SORT', 'k', 'STORE', 'l'",
    ] {
        let body = format!("return redis.call({call})");
        let flagged = format!("#!lua flags=no-writes\n{body}");
        let sha = client.call_args(&["SCRIPT", "LOAD", &body]).text();
        for words in [
            ["EVAL_RO", &body, "0"],
            ["EVALSHA_RO", &sha, "0"],
            ["EVAL", &flagged, "0"],
            ["EVAL_RO", &flagged, "0"],
        ] {
            fails(&client.call_args(&words), READ_ONLY_REFUSAL);
        }
        // Caught, it still has not been done.
        let caught = format!("return redis.pcall({call})");
        fails(&client.call_args(&["EVAL_RO", &caught, "0"]), READ_ONLY_REFUSAL);
    }
    fails(&client.call("FCALL liar 1 k"), READ_ONLY_REFUSAL);
    fails(&client.call("FCALL_RO liar 1 k"), READ_ONLY_REFUSAL);
    let refusal = "ERR Can not execute a script with write flag using *_ro command.";
    fails(&client.call("FCALL_RO plain 1 k"), refusal);
    fails(&client.call_args(&["EVAL_RO", &format!("#!lua\n{READ}"), "1", "k"]), refusal);
    assert_eq!(client.call("GET k").text(), "v");
    assert_eq!(client.call("FCALL_RO reader 1 k").text(), "v");
    assert_eq!(client.call("FCALL reader 1 k").text(), "v");
}

#[test]
fn read_only_scripts_never_fail_for_want_of_memory() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let mut client = server.client();
    load(&mut client);
    client.ok("SET k v");
    client.ok("CONFIG SET maxmemory 1");
    fails(&client.call("SET k w"), "OOM ");
    fails(
        &client.call_args(&["EVAL", &format!("#!lua\n{READ}"), "1", "k"]),
        "OOM allow-oom flag is not set on the script",
    );
    fails(&client.call("FCALL plain 1 k"), "OOM allow-oom flag is not set on the script");
    fails(&client.call_args(&["EVAL", "return redis.call('SET', 'k', 'w')", "0"]), "OOM ");
    for words in [
        &["EVAL_RO", READ, "1", "k"][..],
        &["EVAL", &format!("#!lua flags=no-writes\n{READ}"), "1", "k"],
        &["EVAL", &format!("#!lua flags=allow-oom\n{READ}"), "1", "k"],
        &["FCALL_RO", "reader", "1", "k"],
        &["FCALL", "reader", "1", "k"],
    ] {
        assert_eq!(client.call_args(words).text(), "v", "{words:?}");
    }
}

#[test]
fn read_only_scripts_are_not_paused() {
    let server = Server::start(&[]);
    let mut client = server.client();
    load(&mut client);
    client.ok("SET k v");
    client.ok("CLIENT PAUSE 100000 WRITE");
    // Those that might write wait, whatever they do; so does publishing.
    let mut waiting: Vec<Client> = [
        &["EVAL", READ, "1", "k"][..],
        &["EVAL", "#!lua\nreturn 1", "0"],
        &["FCALL", "plain", "1", "k"],
        &["PUBLISH", "c", "m"],
        &["SPUBLISH", "c", "m"],
        &["PFCOUNT", "h"],
    ]
    .map(|words| {
        let mut waiting = server.client();
        waiting.send(words).expect("sent");
        waiting
    })
    .into();
    wait_until("they wait", || client.info("blocked_clients") == waiting.len().to_string());
    for words in [
        &["EVAL_RO", READ, "1", "k"][..],
        &["EVAL", &format!("#!lua flags=no-writes\n{READ}"), "1", "k"],
        &["FCALL_RO", "reader", "1", "k"],
        &["FCALL", "reader", "1", "k"],
        &["GET", "k"],
    ] {
        assert_eq!(client.call_args(words).text(), "v", "{words:?}");
    }
    assert_eq!(client.info("blocked_clients"), waiting.len().to_string());
    client.ok("CLIENT UNPAUSE");
    for client in &mut waiting {
        assert!(!client.read().expect("a reply").is_error());
    }
}

/// At once, after its threshold, and where it holds the dataset as Valkey's do.
#[test]
fn read_only_scripts_can_always_be_killed() {
    for mode in ["snapshot", "blocking"] {
        let server = Server::start(&["--read-only-scripts", mode, "--busy-reply-threshold", "50"]);
        let mut client = server.client();
        load(&mut client);
        client.ok("SET k v");
        for (words, kill, other_kill) in [
            (
                &["EVAL_RO", "while true do redis.call('GET', 'k') end", "0"][..],
                "SCRIPT KILL",
                "FUNCTION KILL",
            ),
            (
                &["EVAL", "#!lua flags=no-writes\nwhile true do pcall(error) end", "0"],
                "SCRIPT KILL",
                "FUNCTION KILL",
            ),
            (&["FCALL_RO", "endless_reader", "0"], "FUNCTION KILL", "SCRIPT KILL"),
            (&["FCALL", "endless_reader", "0"], "FUNCTION KILL", "SCRIPT KILL"),
        ] {
            let mut caller = server.client();
            caller.send(words).expect("sent");
            if mode == "blocking" {
                wait_until("it is busy", || client.call("PING").is_error());
                fails(&client.call("GET k"), "BUSY Valkey is busy running a script. You can only call ");
            } else {
                wait_until("it runs", || client.call(other_kill).text().starts_with("BUSY "));
                std::thread::sleep(Duration::from_millis(100));
                assert_eq!(client.call("GET k").text(), "v");
            }
            // Each kind has its own command.
            fails(&client.call(other_kill), "BUSY Valkey is busy running a script. You can only call ");
            assert_eq!(client.call(kill).text(), "OK", "{words:?}");
            let reply = caller.read().expect("a reply");
            fails(&reply, &format!("ERR Script killed by user with {kill}."));
        }
        fails(&client.call("SCRIPT KILL"), "NOTBUSY No scripts in execution right now.");
        fails(&client.call("FUNCTION KILL"), "NOTBUSY No scripts in execution right now.");
    }
}

/// By these flags clients decide which calls may go to replicas, and what may be called while a script is busy.
#[test]
fn clients_can_route_scripts_by_the_flags_of_their_commands() {
    let server = Server::start(&[]);
    let flags = |client: &mut Client, name: &str| -> Vec<String> {
        let info = client.call_args(&["COMMAND", "INFO", name]);
        let mut flags: Vec<String> = info.items()[0].items()[2].items().iter().map(Reply::text).collect();
        flags.sort();
        flags
    };
    let mut client = server.client();
    for (name, read_only) in [
        ("eval", false),
        ("evalsha", false),
        ("fcall", false),
        ("eval_ro", true),
        ("evalsha_ro", true),
        ("fcall_ro", true),
    ] {
        let flags = flags(&mut client, name);
        assert_eq!(flags.contains(&"readonly".to_owned()), read_only, "{name}: {flags:?}");
        for flag in ["noscript", "movablekeys", "stale", "skip_monitor", "no_mandatory_keys"] {
            assert!(flags.contains(&flag.to_owned()), "{name} has not {flag}: {flags:?}");
        }
        assert!(!flags.contains(&"write".to_owned()), "{name}: {flags:?}");
        let keys = client.call_args(&["COMMAND", "GETKEYS", name, "x", "2", "a", "b", "c"]);
        assert_eq!(keys.items().iter().map(Reply::text).collect::<Vec<_>>(), ["a", "b"], "{name}");
    }
    let Some(valkey) = Program::valkey() else { return };
    let real = Server::start_program(&valkey, &[]);
    let mut other = real.client();
    for name in [
        "eval",
        "evalsha",
        "fcall",
        "eval_ro",
        "evalsha_ro",
        "fcall_ro",
        "script|kill",
        "function|kill",
        "shutdown",
        "function|stats",
    ] {
        assert_eq!(flags(&mut client, name), flags(&mut other, name), "{name}");
    }
}

// ---- Maximum execution time ----

/// The time from the start of an endless script to the first BUSY.
fn time_to_busy(server: &Server) -> Duration {
    let began = Instant::now();
    let mut caller = busy_with(server, &["EVAL", "while true do end", "0"]);
    let time = began.elapsed();
    assert_eq!(server.call("SCRIPT KILL").text(), "OK");
    assert!(caller.read().expect("a reply").is_error());
    time
}

#[test]
fn the_threshold_is_set_in_the_file_or_while_running() {
    assert_eq!(Server::start(&[]).client().ok("CONFIG GET busy-reply-threshold").items()[1].text(), "5000");
    for name in ["busy-reply-threshold", "lua-time-limit"] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("valkey.conf");
        std::fs::write(&file, format!("{name} 400\n")).expect("written");
        // The file comes before the options.
        let server = Server::start_in(
            tempfile::tempdir().expect("a folder"),
            &Program::ours(),
            &["--include", file.to_str().expect("a path")],
        );
        let mut client = server.client();
        for asked in ["busy-reply-threshold", "lua-time-limit"] {
            assert_eq!(
                client.ok(&format!("CONFIG GET {asked}")).items()[1].text(),
                "400",
                "{asked} set as {name}"
            );
        }
        let time = time_to_busy(&server);
        assert!(time >= Duration::from_millis(400), "busy after {time:?}");
        client.ok(&format!("CONFIG SET {name} 23"));
        assert_eq!(client.ok("CONFIG GET busy-reply-threshold").items()[1].text(), "23");
        let time = time_to_busy(&server);
        assert!(
            (Duration::from_millis(23)..Duration::from_millis(390)).contains(&time),
            "busy after {time:?}"
        );
    }
}

/// The threshold ends nothing: it is logged, others are told, and the script goes on to its own end.
#[test]
fn a_slow_script_is_logged_and_not_ended() {
    let server = Server::start(&["--busy-reply-threshold", "50"]);
    let mut client = server.client();
    load(&mut client);
    let slow =
        "local started = os.clock() repeat until os.clock() - started > 0.4 return redis.call('INCR', 'n')";
    let sha = client.call_args(&["SCRIPT", "LOAD", slow]).text();
    let mut caller = busy_with(&server, &["EVALSHA", &sha, "0"]);
    assert_eq!(caller.read().expect("a reply").integer(), 1);
    let log = server.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("Slow script detected")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let (before, after) = lines[0].split_once("still in execution after ").expect("the line");
    assert!(before.contains(" # "), "it is a warning: {before}");
    let (time, after) = after.split_once(' ').expect("a time");
    assert!(time.parse::<u64>().expect("a number") >= 50);
    assert_eq!(
        after,
        format!(
            "milliseconds. You can try killing the script using the SCRIPT KILL command. Script name is: {sha}."
        )
    );
    let mut caller = busy_with(&server, &["FCALL", "endless", "0"]);
    assert_eq!(client.call("FUNCTION KILL").text(), "OK");
    assert!(caller.read().expect("a reply").is_error());
    assert!(server.log().contains("using the FUNCTION KILL command. Script name is: endless."));
    assert_eq!(client.ok("GET n").text(), "1");
}

#[test]
fn normal_commands_are_answered_busy() {
    let server = Server::start(&["--busy-reply-threshold", "20"]);
    let mut client = server.client();
    load(&mut client);
    for (words, kill) in
        [(["EVAL", "while true do end", "0"], "SCRIPT KILL"), (["FCALL", "endless", "0"], "FUNCTION KILL")]
    {
        let mut caller = busy_with(&server, &words);
        let busy =
            format!("BUSY Valkey is busy running a script. You can only call {kill} or SHUTDOWN NOSAVE.");
        for normal in [
            "GET k",
            "SET k v",
            "PING",
            "INFO",
            "CONFIG GET port",
            "DBSIZE",
            "EVAL_RO x 0",
            "FCALL_RO reader 1 k",
            "EVAL x 0",
            "PUBLISH c m",
            "SUBSCRIBE c",
            "CLIENT LIST",
            "SHUTDOWN",
            "SAVE",
            "FLUSHALL",
        ] {
            let reply = client.call(normal);
            assert!(reply.is_error(), "{normal}: {reply:?}");
            assert_eq!(reply.text(), busy, "{normal}");
        }
        assert_eq!(client.call(kill).text(), "OK");
        assert!(caller.read().expect("a reply").is_error());
        assert_eq!(client.call("PING").text(), "PONG");
    }
}

/// What the table calls `allow_busy` is what passes, and it is what passes in Valkey.
#[test]
fn what_is_allowed_while_a_script_is_busy() {
    // All names, and those of commands that are allowed.
    let names = |client: &mut Client| {
        let (mut all, mut names) = (Vec::new(), Vec::new());
        let commands = client.call("COMMAND");
        for command in commands.items() {
            for entry in std::iter::once(command).chain(command.items()[9].items()) {
                all.push(entry.items()[0].text());
                let flags = entry.items()[2].items();
                if flags.iter().any(|flag| flag.text() == "allow_busy") {
                    names.push(entry.items()[0].text());
                }
            }
        }
        names.sort();
        (all, names)
    };
    let server = Server::start(&["--busy-reply-threshold", "20"]);
    let mut client = server.client();
    load(&mut client);
    let (known, ours) = names(&mut client);
    for expected in
        ["script|kill", "function|kill", "shutdown", "function|stats", "hello", "auth", "multi", "unwatch"]
    {
        assert!(ours.contains(&expected.to_owned()), "{expected}: {ours:?}");
    }
    if let Some(valkey) = Program::valkey() {
        let real = Server::start_program(&valkey, &[]);
        let mut theirs = names(&mut real.client()).1;
        theirs.retain(|name| known.contains(name));
        assert_eq!(ours, theirs);
    }
    let mut caller = busy_with(&server, &["EVAL", "while true do end", "0"]);
    for words in
        ["HELLO 3", "FUNCTION STATS", "MULTI", "DISCARD", "WATCH k", "UNWATCH", "RESET", "FUNCTION KILL"]
    {
        let reply = client.call(words);
        assert!(!reply.is_error() || words == "FUNCTION KILL", "{words}: {reply:?}");
    }
    // A queue that holds what is not allowed is refused while the server is busy.
    client.ok("MULTI");
    fails(&client.call("SET k v"), "BUSY ");
    fails(&client.call("EXEC"), "EXECABORT ");
    client.ok("SCRIPT KILL");
    assert!(caller.read().expect("a reply").is_error());
}

const UNKILLABLE: &str = "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the \
                          script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.";

#[test]
fn a_script_that_wrote_cannot_be_killed() {
    let mut server = Server::start(&["--busy-reply-threshold", "20", "--save", "3600 1"]);
    let mut client = server.client();
    client.ok("SET kept before");
    client.ok("SAVE");
    for write in ["redis.call('SET', 'kept', 'after')", "redis.call('DEL', 'nothing')"] {
        let body = format!("{write} while true do end");
        let mut caller = busy_with(&server, &["EVAL", &body, "0"]);
        assert_eq!(client.call("SCRIPT KILL").text(), UNKILLABLE);
        assert_eq!(client.call("SCRIPT KILL").text(), UNKILLABLE);
        fails(&client.call("FUNCTION KILL"), "BUSY ");
        fails(&client.call("GET kept"), "BUSY ");
        // Ours alone: undone, it can.
        assert_eq!(client.call("SCRIPT KILL ROLLBACK").text(), "OK");
        assert!(caller.read().expect("a reply").text().contains("killed"));
        assert_eq!(client.call("GET kept").text(), "before");
    }
    let mut caller =
        busy_with(&server, &["EVAL", "redis.call('SET', 'kept', 'after') while true do end", "0"]);
    fails(&client.call("SHUTDOWN"), "BUSY ");
    client.send(&["SHUTDOWN", "NOSAVE"]).expect("sent");
    assert!(server.wait_for_exit().success());
    caller.set_read_timeout(Duration::from_secs(1));
    let _ = caller.read();
    server.restart();
    assert_eq!(server.call("GET kept").text(), "before");
}

/// Told to stop and writing for the first time may meet: either it is stopped and has written nothing, or it is told so.
#[test]
fn a_kill_and_a_first_write_do_not_pass_each_other() {
    let server = Server::start(&["--busy-reply-threshold", "1", "--io-threads", "2"]);
    let mut client = server.client();
    for round in 0..30 {
        client.ok("SET k before");
        let body = format!(
            "local started = os.clock() repeat until os.clock() - started > {} pcall(redis.call, 'SET', 'k', 'after') return 1",
            0.004 + f64::from(round) / 3000.0
        );
        let mut caller = server.client();
        caller.send(&["EVAL", &body, "0"]).expect("sent");
        let mut killed = Reply::NilBulk;
        wait_until("it is killed, or over", || {
            killed = client.call("SCRIPT KILL");
            !killed.text().starts_with("NOTBUSY ") || client.call("GET k").text() == "after"
        });
        let reply = caller.read().expect("a reply");
        let value = client.call("GET k").text();
        let was_killed = killed.text() == "OK";
        assert_eq!(was_killed, reply.is_error(), "{killed:?} {reply:?}");
        assert_eq!(value, if was_killed { "before" } else { "after" }, "{killed:?} {reply:?}");
    }
}

// ---- What scripts publish ----

#[test]
fn messages_of_a_script_go_out_when_it_has_ended() {
    let server = Server::start(&["--busy-reply-threshold", "20", "--notify-keyspace-events", "KEA"]);
    let mut subscriber = server.client();
    subscriber.ok("PSUBSCRIBE *");
    let mut client = server.client();
    let body = "local got = redis.call('PUBLISH', 'c', 'one') redis.call('SET', 'k', 'v') redis.call('PUBLISH', 'c', 'two') return got";
    assert_eq!(client.call_args(&["EVAL", body, "0"]).integer(), 1);
    let mut heard: Vec<String> =
        (0..4).map(|_| subscriber.read().expect("a message").items()[3].text()).collect();
    // In the order in which they came about.
    assert_eq!(heard, ["one", "set", "k", "two"]);
    heard.clear();
    let mut caller = busy_with(
        &server,
        &["EVAL", "redis.call('PUBLISH', 'c', 'x') redis.call('SET', 'k', 'w') while true do end", "0"],
    );
    client.ok("SCRIPT KILL ROLLBACK");
    assert!(caller.read().expect("a reply").is_error());
    client.ok("PUBLISH c later");
    assert_eq!(subscriber.read().expect("a message").items()[3].text(), "later");
}

/// PFCOUNT keeps its estimate in the value: told to replicas, and not done by a replica of its own accord.
#[test]
fn pfcount_writes_where_it_may() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(primary.port, &["--replica-scripts", "compatible"]);
    let (mut writer, mut reader) = (primary.client(), replica.client());
    writer.ok("PFADD h a b c");
    replica.wait_for_offset_of(&primary);
    let added = reader.ok("GET h");
    let offset = replica.info_number("slave_repl_offset");
    assert_eq!(reader.ok("PFCOUNT h").integer(), 3);
    assert_eq!(reader.ok("PFCOUNT h h").integer(), 3);
    assert_eq!(reader.call_args(&["EVAL", "return redis.call('PFCOUNT', 'h')", "0"]).integer(), 3);
    assert_eq!(reader.ok("GET h"), added, "a replica changes nothing of its own accord");
    assert_eq!(replica.info_number("slave_repl_offset"), offset);
    assert_eq!(writer.call_args(&["EVAL", "return redis.call('PFCOUNT', 'h')", "0"]).integer(), 3);
    replica.wait_for_offset_of(&primary);
    let kept = reader.ok("GET h");
    assert_ne!(kept, added);
    assert_eq!(kept, writer.ok("GET h"));
}

// ---- Slow scripts ----

/// The slow log shows a script as Valkey does, and what took longest of what it called where that matters.
#[test]
fn the_slow_log_says_what_made_a_script_slow() {
    let server = Server::start(&["--slowlog-log-slower-than", "0"]);
    let mut client = server.client();
    client.ok("DEBUG POPULATE 100000");
    let slowest = |client: &mut Client, words: &[&str]| -> Vec<String> {
        client.ok("SLOWLOG RESET");
        client.call_args(words);
        let entries = client.ok("SLOWLOG GET -1");
        let is_call = |entry: &&Reply| entry.items()[3].items()[0].text() == words[0];
        let entry = entries.items().iter().find(is_call).expect("the script's entry");
        entry.items()[3].items().iter().map(Reply::text).collect()
    };
    let quick = "return redis.call('PING')";
    assert_eq!(slowest(&mut client, &["EVAL", quick, "0"]), ["EVAL", quick, "0"]);
    let slow = "redis.call('GET', 'key:1') redis.call('KEYS', 'nothing*') redis.call('GET', 'key:2')";
    for name in ["EVAL", "EVAL_RO"] {
        let shown = slowest(&mut client, &[name, slow, "0"]);
        assert_eq!(shown[..3], [name, slow, "0"]);
        let (call, time) = shown[3].split_once(" (").expect("a time");
        assert_eq!(call, "... costliest call: KEYS nothing*");
        let time: u64 = time.strip_suffix(" microseconds)").expect("a unit").parse().expect("a number");
        assert!(time >= 1000, "{shown:?}");
    }
    // What one script called says nothing of the next.
    assert_eq!(slowest(&mut client, &["EVAL", quick, "0"]).len(), 3);
}

/// A script that was slow before begins on a thread of its own; it answers the same, and sees the moment it was called at.
#[test]
fn scripts_known_to_be_slow_see_the_moment_they_were_called_at() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let slow = "local before = redis.call('GET', KEYS[1]) for i = 1, 1e6 do end \
                return {before, redis.call('GET', KEYS[1])}";
    let mut other = server.client();
    let mut random = fastrand::Rng::with_seed(1);
    for number in 1..=12 {
        let number = number.to_string();
        client.ok(&format!("SET n {number}"));
        client.send(&["EVAL_RO", slow, "1", "n"]).expect("sent");
        // It sees this or does not, but all the way the same.
        std::thread::sleep(Duration::from_micros(random.u64(..2000)));
        other.ok("SET n later");
        let seen: Vec<String> = client.read().expect("a reply").items().iter().map(Reply::text).collect();
        assert_eq!(seen[0], seen[1]);
        assert!([&number, "later"].contains(&seen[0].as_str()), "{seen:?}");
    }
    let statistics = client.ok("INFO scriptstats").text();
    assert!(statistics.contains("calls=12"), "{statistics}");
}

// ---- The language ----

/// `pairs` gives string fields in Valkey's order.
#[test]
fn fields_come_in_valkeys_order() {
    let Some(valkey) = Program::valkey() else { return };
    let (ours, theirs) = (Server::start(&[]), Server::start_program(&valkey, &[]));
    let (mut ours, mut theirs) = (ours.client(), theirs.client());
    let script = "local t, names = {}, {} for i, name in ipairs(ARGV) do t[name] = i end \
                  for i = 1, #ARGV, 3 do t[ARGV[i]] = nil end for i = 1, #ARGV, 5 do t[ARGV[i] .. 'x'] = i end \
                  for name in pairs(t) do names[#names + 1] = name end return names";
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..300 {
        let count = random.usize(..60);
        let mut words: Vec<Vec<u8>> = vec![b"EVAL".into(), script.into(), b"0".into()];
        words.extend((0..count).map(|_| {
            let length = if random.u8(..4) == 0 { random.usize(..200) } else { random.usize(..12) };
            (0..length).map(|_| random.u8(b'a'..=b'z')).collect::<Vec<u8>>()
        }));
        let [one, other] = [&mut ours, &mut theirs].map(|client| {
            client.send(&words).expect("sent");
            client.read().expect("a reply")
        });
        assert_eq!(one, other);
    }
}
