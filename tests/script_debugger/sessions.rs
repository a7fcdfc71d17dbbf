//! How sessions begin and end, and what others see of them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Session;
use crate::common::client::{Client, Reply};
use crate::common::server::Server;
use crate::common::{wait_for, wait_until};

const WRITES: &str =
    "redis.call('SET', 'key', 'new')\nredis.call('PUBLISH', 'channel', 'message')\nreturn 'done'";

/// How many clients there are.
fn clients(client: &mut Client) -> usize {
    client.call("CLIENT LIST").text().lines().count()
}

#[test]
fn a_copy_is_all_that_a_rehearsal_changes() {
    let server = Server::start(&["--notify-keyspace-events", "AKE", "--appendonly", "yes"]);
    let replica = Server::replica_of(server.port, &[]);
    let mut client = server.client();
    client.ok("SET key old");
    client.ok("SET expiring x PX 100000");
    let mut watching = server.client();
    watching.ok("WATCH key");
    let mut waiting = server.client();
    waiting.send(&["BLPOP", "list", "0"]).unwrap();
    let mut listening = server.client();
    listening.ok("PSUBSCRIBE *");
    let mut monitoring = server.client();
    monitoring.ok("MONITOR");
    wait_until("somebody waits", || client.info("blocked_clients") == "1");
    replica.wait_for_offset_of(&server);
    let offset = client.info("master_repl_offset");

    let (mut session, _) = Session::begin(server.client(), "YES", WRITES, &[]);
    assert_eq!(session.say("r GET key")[1], "<reply> \"old\"");
    session.say("s");
    session.say("r RPUSH list x");
    assert_eq!(session.say("r GET key")[1], "<reply> \"new\"");
    // The person thinks, and nobody waits.
    let began = Instant::now();
    client.ok("SET other 1");
    assert_eq!(client.call("GET key").text(), "old");
    assert!(began.elapsed() < Duration::from_secs(2));
    // Nor does the session see what others do.
    assert_eq!(session.say("r GET other")[1], "<reply> NULL");
    session.say("r FLUSHALL");
    assert_eq!(session.say("r DBSIZE")[1], "<reply> 0");
    // What reaches beyond the dataset is refused.
    for words in ["r SLOWLOG RESET", "r MIGRATE 127.0.0.1 1 key 0 1", "r CONFIG SET maxmemory 1"] {
        let shown = session.say(words);
        assert!(shown[1].starts_with("<reply> \"-ERR "), "{words}: {shown:?}");
    }
    let (_, reply) = session.end("c");
    assert_eq!(reply.text(), "done");

    assert_eq!(client.call("GET key").text(), "old");
    assert_eq!(client.call("DBSIZE").integer(), 3);
    assert_eq!(client.info("blocked_clients"), "1");
    watching.ok("MULTI");
    watching.ok("PING");
    assert_eq!(watching.call("EXEC").items().len(), 1);
    // What came of it all is the SET of another client: the stream, the events, the monitors.
    let expected =
        offset.parse::<usize>().unwrap() + crate::common::client::encode(&["SET", "other", "1"]).len();
    wait_until("the replica has it", || replica.call("GET other").text() == "1");
    assert!(client.info("master_repl_offset").parse::<usize>().unwrap() < expected + 60);
    client.ok("PUBLISH end end");
    let mut seen = Vec::new();
    loop {
        let message = listening.read().unwrap();
        let channel = message.items()[2].text();
        if channel == "end" {
            break;
        }
        seen.push(channel);
    }
    assert!(
        seen.iter()
            .all(|channel| channel.contains("other") || channel.contains(":set") || channel.contains(":new")),
        "{seen:?}"
    );
    let mut shown = String::new();
    while !shown.contains("\"PUBLISH\" \"end\"") {
        shown.push_str(&monitoring.read().unwrap().text());
    }
    assert!(shown.contains("\"EVAL\"") && !shown.contains(" lua]"), "{shown}");
    assert!(!server.log().contains("Slow script"));
}

#[test]
fn sync_changes_the_dataset() {
    let server = Server::start(&[]);
    let replica = Server::replica_of(server.port, &[]);
    let (mut session, _) = Session::begin(server.client(), "SYNC", WRITES, &[]);
    assert_eq!(session.say("s")[..2], ["<command> SET key new", "<reply> \"+OK\""]);
    let (_, reply) = session.end("c");
    assert_eq!(reply.text(), "done");
    assert_eq!(server.call("GET key").text(), "new");
    wait_until("the replica has it too", || replica.call("GET key").text() == "new");
    // The next one that is not debugged is run.
    assert_eq!(server.client().call_args(&["EVAL", WRITES, "0"]).text(), "done");
}

#[test]
fn an_aborted_script_is_not_gone_on_with() {
    let server = Server::start(&[]);
    // Nothing in the script can catch it.
    let script =
        "redis.call('SET', 'first', '1')\npcall(function()\nredis.call('SET', 'second', '2')\nend)\nreturn 1";
    for (mode, first) in [("SYNC", "1"), ("YES", "")] {
        server.call("FLUSHALL");
        let (mut session, _) = Session::begin(server.client(), mode, script, &[]);
        session.say("b 3");
        session.say("c");
        let (last, reply) = session.end("abort");
        assert_eq!(last.len(), 1);
        let text = reply.text();
        assert!(text.starts_with("ERR script aborted for user request script: "), "{text}");
        assert!(text.ends_with(" on @user_script:3."), "{text}");
        let kept = server.call("GET first");
        assert_eq!(if kept.is_nil() { String::new() } else { kept.text() }, first);
        assert!(server.call("GET second").is_nil());
    }
}

#[test]
fn a_client_that_goes_ends_its_session() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for (mode, expected) in [("YES", ""), ("SYNC", "new")] {
        client.ok("DEL key");
        let (mut session, _) = Session::begin(server.client(), mode, WRITES, &[]);
        session.say("s");
        drop(session);
        wait_until("it has gone", || clients(&mut client) == 1);
        let kept = client.call("GET key");
        assert_eq!(if kept.is_nil() { String::new() } else { kept.text() }, expected, "{mode}");
        // While its script runs, too.
        let (mut session, _) = Session::begin(server.client(), mode, "while true do end", &[]);
        session.client.send(&["c"]).unwrap();
        drop(session);
        wait_until("it has gone", || clients(&mut client) == 1);
    }
    // So does one that is ended.
    for mode in ["YES", "SYNC"] {
        let (mut session, _) = Session::begin(server.client(), mode, "return 1", &[]);
        let killed = wait_for("CLIENT KILL is let through", || {
            let reply = server.client().call("CLIENT KILL SKIPME yes TYPE normal");
            (!reply.is_error()).then_some(reply)
        });
        assert!(killed.integer() >= 1);
        assert_eq!(session.client.read_to_end().unwrap(), b"");
        client = server.client();
    }
    client.ok("SET key after");
}

#[test]
fn others_are_told_busy_while_sync_holds_the_dataset() {
    let server = Server::start(&["--busy-reply-threshold", "200"]);
    let mut other = server.client();
    let (mut session, _) = Session::begin(server.client(), "SYNC", WRITES, &[]);
    // The person thinks.
    let reply = other.call("SET key other");
    assert!(reply.text().starts_with("BUSY "), "{reply:?}");
    assert_eq!(other.call("SCRIPT KILL").text(), "OK");
    // That comes without a command of the debugger.
    assert_eq!(super::lines(&session.client.read().unwrap()), ["<endsession>"]);
    let text = session.client.read().unwrap().text();
    assert!(text.starts_with("ERR Script killed by user with SCRIPT KILL."), "{text}");
    assert_eq!(session.client.read_to_end().unwrap(), b"");
    assert!(other.call("GET key").is_nil());

    // One that has written is only undone.
    let (mut session, _) = Session::begin(server.client(), "SYNC", WRITES, &[]);
    session.say("s");
    wait_until("it is busy", || other.call("PING").text().starts_with("BUSY "));
    assert!(other.call("SCRIPT KILL").text().starts_with("UNKILLABLE "));
    assert_eq!(session.say("r GET key")[1], "<reply> \"new\"");
    assert_eq!(other.call("SCRIPT KILL ROLLBACK").text(), "OK");
    assert_eq!(super::lines(&session.client.read().unwrap()), ["<endsession>"]);
    assert!(other.call("GET key").is_nil());
}

#[test]
fn a_loop_without_a_stop_is_stopped() {
    let server = Server::start(&["--busy-reply-threshold", "300"]);
    let script = "while redis.call('GET', 'stop') ~= '1' do\nend\nreturn 'stopped'";
    let (mut session, _) = Session::begin(server.client(), "YES", script, &[]);
    let mut other = server.client();
    session.client.send(&["c"]).unwrap();
    assert_eq!(other.call("PING").text(), "PONG");
    let shown = super::lines(&session.client.read().unwrap());
    assert!(shown[0].ends_with("stop reason = timeout reached, infinite loop?"), "{shown:?}");
    session.say("r SET stop 1");
    assert_eq!(session.end("c").1.text(), "stopped");
    // What is evaluated can be left too.
    let (mut session, _) = Session::begin(server.client(), "YES", script, &[]);
    session.client.send(&["e", "while true do end"]).unwrap();
    assert_eq!(other.call("PING").text(), "PONG");
    drop(session);
    wait_until("it has gone", || clients(&mut other) == 1);
}

#[test]
fn what_cannot_be_run_ends_its_session_at_once() {
    let server = Server::start(&[]);
    let cases: [(&[&str], &str); 4] = [
        (&["EVAL", "return (", "0"], "ERR Error compiling script (new function): user_script:1:"),
        (&["EVAL", "return 1", "1"], "ERR Number of keys can't be greater than number of args"),
        (&["EVAL", "return 1", "x"], "ERR value is not an integer or out of range"),
        (&["EVAL", "#!python\nreturn 1", "0"], "ERR "),
    ];
    for mode in ["YES", "SYNC"] {
        for (words, expected) in cases {
            let mut client = server.client();
            client.ok(&format!("SCRIPT DEBUG {mode}"));
            assert_eq!(super::lines(&client.call_args(words)), ["<endsession>"], "{words:?}");
            let text = client.read().unwrap().text();
            assert!(text.starts_with(expected), "{words:?}: {text}");
            assert_eq!(client.read_to_end().unwrap(), b"");
        }
    }
    // Of commands that are no commands, the script is ended.
    for bytes in [&b"*1\r\nfoo\r\n"[..], b"*1025\r\n$1\r\na\r\n"] {
        let (mut session, _) = Session::begin(server.client(), "SYNC", "return 1", &[]);
        let whole = [bytes, &b"$1\r\na\r\n".repeat(1024)].concat();
        session.client.send_bytes(&whole).unwrap();
        assert_eq!(super::lines(&session.client.read().unwrap()), ["<endsession>"]);
        let text = session.client.read().unwrap().text();
        assert!(text.starts_with("ERR protocol error script: "), "{text}");
    }
    let (mut session, _) = Session::begin(server.client(), "YES", "return 1", &[]);
    // It may be closed before all of it is taken.
    let _ = session
        .client
        .send_bytes(b"*2\r\n$1\r\ne\r\n$1040000\r\n")
        .and_then(|()| session.client.send_bytes(&vec![b'x'; 1 << 20]));
    assert_eq!(super::lines(&session.client.read().unwrap()), ["<endsession>"]);
}

#[test]
fn which_scripts_are_debugged() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(client.call("SCRIPT DEBUG maybe").text(), "ERR Use SCRIPT DEBUG YES/SYNC/NO");
    assert_eq!(client.call("SCRIPT DEBUG YES lua").text(), "OK");
    assert!(
        client.call("SCRIPT DEBUG YES other").text().contains("No scripting engine found with name 'other'")
    );
    let digest = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    let expected = "ERR Please use EVAL instead of EVALSHA for debugging";
    assert_eq!(client.call(&format!("EVALSHA {digest} 0")).text(), expected);
    assert_eq!(client.call("FCALL nothing 0").text(), "ERR Function not found");
    // A transaction is not left in the middle.
    client.ok("MULTI");
    client.call_args(&["EVAL", "return 1", "0"]);
    let text = client.call("EXEC").items()[0].text();
    assert_eq!(text, "ERR A script that is part of a transaction can't be debugged");
    assert_eq!(client.call("SCRIPT DEBUG NO").text(), "OK");
    assert_eq!(client.call_args(&["EVAL", "return 1", "0"]).integer(), 1);
    // In a pipeline its answer could not be told from those before it.
    client.send_bytes(b"PING\r\nSCRIPT DEBUG YES\r\n").unwrap();
    assert_eq!(client.read().unwrap().text(), "PONG");
    assert_eq!(client.read().unwrap().text(), "ERR SCRIPT DEBUG must be called outside a pipeline");
    client.ok("MULTI");
    client.ok("SCRIPT DEBUG YES");
    assert!(client.call("EXEC").items()[0].is_error());
    // Those that only read, too.
    client.ok("SCRIPT DEBUG YES");
    let stop = super::lines(&client.call_args(&["EVAL_RO", "#!lua flags=no-writes\nreturn 1", "0"]));
    assert_eq!(stop, ["* Stopped at 2, stop reason = step over", "-> 2   return 1"]);
}

#[test]
fn rehearsals_are_bounded() {
    let server = Server::start(&[]);
    let mut sessions: Vec<Session> =
        (0..16).map(|_| Session::begin(server.client(), "YES", "return 1", &[]).0).collect();
    let mut client = server.client();
    client.ok("SCRIPT DEBUG YES");
    let reply = client.call_args(&["EVAL", "return 1", "0"]);
    assert!(reply.text().starts_with("ERR Can't run EVAL in debugging mode:"), "{reply:?}");
    let one = sessions.pop().expect("16");
    one.end("c");
    let stop = wait_for("a place is free", || {
        let reply = client.call_args(&["EVAL", "return 1", "0"]);
        (!reply.is_error()).then_some(reply)
    });
    assert_eq!(stop.items().len(), 2);
    // Those that are left do not hold up the end of the server.
    client = server.client();
    client.send(&["SHUTDOWN", "NOSAVE"]).unwrap();
    let mut server = server;
    assert!(server.wait_for_exit().success());
}

#[test]
fn the_server_ends_while_sync_holds_the_dataset() {
    let mut server = Server::start(&["--busy-reply-threshold", "200"]);
    let (mut session, _) = Session::begin(server.client(), "SYNC", WRITES, &[]);
    session.say("s");
    let mut other = server.client();
    wait_until("it is busy", || other.call("PING").text().starts_with("BUSY "));
    other.send(&["SHUTDOWN", "NOSAVE"]).unwrap();
    assert!(server.wait_for_exit().success());
}

#[test]
fn users_are_checked_in_sessions_too() {
    let server = Server::start(&[]);
    server.call("ACL SETUSER reader on nopass +@all -set ~allowed");
    for mode in ["YES", "SYNC"] {
        let mut client = server.client();
        client.ok("AUTH reader x");
        let (mut session, _) = Session::begin(client, mode, "return 1", &[]);
        for words in ["r SET allowed x", "r GET other"] {
            let shown = session.say(words);
            assert!(shown[1].contains("ACL failure in script"), "{words}: {shown:?}");
        }
        assert_eq!(session.say("r GET allowed")[1], "<reply> NULL");
    }
}

#[test]
fn replicas_and_the_aof_see_one_unit_of_a_sync_session() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let script = "redis.call('SET', 'a', '1')\nredis.call('SET', 'b', '2')\nreturn 1";
    let (mut session, _) = Session::begin(server.client(), "SYNC", script, &[]);
    session.say("s");
    session.say("r SET c 3");
    session.end("c");
    server.kill();
    server.restart();
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
        assert_eq!(server.call(&format!("GET {key}")).text(), value);
    }
}

/// The tool that people use, as it comes: it takes its commands from a pipe.
#[test]
#[ignore = "needs redis-tools"]
fn redis_cli() {
    let server = Server::start(&[]);
    let script = server.folder().join("script.lua");
    std::fs::write(
        &script,
        "local a = ARGV[1]\nredis.call('SET', KEYS[1], a)\nreturn redis.call('GET', KEYS[1])\n",
    )
    .unwrap();
    for (mode, kept) in [("--ldb", ""), ("--ldb-sync-mode", "value")] {
        let mut tool = Command::new("redis-cli")
            .args(["-p", &server.port.to_string(), mode, "--eval"])
            .arg(&script)
            .args(["key", ",", "value"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-tools");
        let commands = b"s\nprint a\nb 3\ns\nlist\nserver strlen key\ntrace\nc\nquit\n";
        std::io::Write::write_all(&mut tool.stdin.take().unwrap(), commands).unwrap();
        let said = tool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        for expected in [
            "* Stopped at 1, stop reason = step over",
            "<value> value",
            "<command> SET key value",
            "->#3   return redis.call('GET', KEYS[1])",
            "<reply> 5",
            "In top level:",
            "Lua debugging session ended",
            "\"value\"",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        let reply = server.call("GET key");
        assert_eq!(if reply == Reply::NilBulk { String::new() } else { reply.text() }, kept);
    }
}
