//! Scripts that are wrong, never end, or want too much, and what goes on beside them.

use std::time::Duration;

use super::{assert_kept, with_data};
use crate::common::client::Client;
use crate::common::server::Server;
use crate::common::wait_until;

const ENDLESS: &[&str] = &[
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "while true do xpcall(error, function() while true do end end) end",
    "local c = coroutine.wrap(function() while true do pcall(error) end end) while true do pcall(c) end",
    "local t = setmetatable({}, {__index = function(t, k) while true do end end}) return pcall(function() return t.x end)",
    "string.rep('a', 100):gsub('.', function() while true do pcall(error) end end)",
    "while true do pcall(redis.call, 'nonsense') end",
];

fn start_script(server: &Server, command: &str, script: &str) -> Client {
    let mut client = server.client();
    client.send(&[command, script, "0"]).expect("sent");
    client
}

fn is_busy(client: &mut Client) -> bool {
    let reply = client.call("GET kept");
    reply.is_error() && reply.text().starts_with("BUSY ")
}

#[test]
fn wrong_scripts_are_answered() {
    let server = with_data(&[]);
    let mut client = server.client();
    for (script, expected) in [
        (
            "this is no Lua",
            "ERR Error compiling script (new function): user_script:1: '=' expected near 'is'",
        ),
        (
            "return {",
            "ERR Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'",
        ),
        ("#!nonsense\nreturn 1", "ERR Could not find scripting engine 'nonsense'"),
        ("#!lua flags=nonsense\nreturn 1", "ERR Unexpected flag in script shebang: nonsense"),
        ("#!lua", "ERR Invalid script shebang"),
    ] {
        assert_eq!(client.call_args(&["EVAL", script, "0"]).text(), expected, "{script}");
    }
    for script in [
        "error('x')",
        "error({})",
        "error()",
        "return redis.call()",
        "return redis.call('nonsense')",
        "return redis.call('get')",
        "return redis.call({})",
        "return nonsense",
        "nonsense = 1",
        "local function f() return f() + 1 end return f()",
        "return redis.call('set', 'x')",
        "local t = {} t[1] = t return cjson.encode(t)",
        "return cmsgpack.unpack('\\193')",
        "return struct.unpack('i', '')",
        "return loadstring('\\27Lua')()",
    ] {
        let reply = client.call_args(&["EVAL", script, "0"]);
        assert!(reply.is_error(), "{script}: {reply:?}");
    }
    // Deeper than any reply may be, and than this client could read.
    client.send(&["EVAL", "local t = {} for i = 1, 100000 do t = {t} end return t", "0"]).expect("sent");
    client.shutdown_write().expect("ended");
    let reply = client.read_to_end().expect("a reply");
    assert!(reply.ends_with(b"*1\r\n-ERR reached lua stack limit\r\n"), "{}", reply.escape_ascii());
    assert_kept(&server);
}

#[test]
fn endless_write_scripts_are_busy_and_can_be_killed() {
    let server = with_data(&["--busy-reply-threshold", "20"]);
    let mut client = server.client();
    for script in ENDLESS {
        let mut slow = start_script(&server, "EVAL", script);
        wait_until("it is busy", || is_busy(&mut client));
        assert_eq!(client.call("SCRIPT KILL").text(), "OK", "{script}");
        let reply = slow.read().expect("a reply");
        assert!(reply.is_error() && reply.text().contains("Script killed by user"), "{script}: {reply:?}");
        assert_eq!(client.call("SCRIPT KILL").text(), "NOTBUSY No scripts in execution right now.");
    }
    assert_kept(&server);
}

#[test]
fn endless_read_only_scripts_hold_nobody_up() {
    let server = with_data(&["--busy-reply-threshold", "20"]);
    let mut client = server.client();
    for script in ENDLESS {
        let mut slow = start_script(&server, "EVAL_RO", script);
        wait_until("it runs", || client.call("SCRIPT KILL").text() == "OK");
        let reply = slow.read().expect("a reply");
        assert!(reply.is_error() && reply.text().contains("Script killed by user"), "{script}: {reply:?}");
        client.ok("INCR n");
    }
    assert_kept(&server);
}

/// All kinds of commands and ends of connections while a script that may write is between two slices: they wait for it,
/// and the server goes on.
#[test]
fn a_script_between_slices_blocks_no_thread() {
    let server = with_data(&[]);
    let slow = "local started = os.clock() repeat until os.clock() - started > 0.3 return redis.call('INCR', 'slow')";
    for round in 1..=2 {
        // Some that wait for keys, some that watch.
        let mut waiting: Vec<Client> = (0..4).map(|_| server.client()).collect();
        for client in &mut waiting {
            client.send(&["BLPOP", "nothing", "0.1"]).expect("sent");
        }
        let mut gone = server.client();
        gone.send(&["BLPOP", "nothing", "0"]).expect("sent");
        let watching: Vec<Client> = (0..4)
            .map(|_| {
                let mut client = server.client();
                client.ok("WATCH kept list");
                client
            })
            .collect();
        let mut unwatching = server.client();
        unwatching.ok("WATCH kept");
        let mut script = start_script(&server, "EVAL", slow);
        let calls = [
            "INFO",
            "DBSIZE",
            "ROLE",
            "PING",
            "CLIENT LIST",
            "CONFIG GET port",
            "DEBUG DIGEST",
            "FUNCTION LIST",
            "FUNCTION STATS",
            "MEMORY USAGE kept",
            "SELECT 1",
            "WATCH a",
            "WAIT 0 1",
            "LASTSAVE",
            "SCRIPT EXISTS a",
            "GET kept",
            "SET other 1",
            "KEYS *",
            "RESET",
            "HELLO 3",
        ];
        let mut others: Vec<(&str, Client)> = calls.iter().map(|words| (*words, server.client())).collect();
        for (words, client) in &mut others {
            client.send(&words.split(' ').collect::<Vec<_>>()).expect("sent");
        }
        unwatching.send(&["UNWATCH"]).expect("sent");
        // Connections end meanwhile.
        drop((gone, watching));
        for (words, client) in &mut others {
            let reply = client.read().unwrap_or_else(|error| panic!("{words} is not answered: {error}"));
            assert!(!reply.is_error(), "{words}: {reply:?}");
        }
        assert_eq!(unwatching.read().expect("a reply").text(), "OK");
        for client in &mut waiting {
            assert!(client.read().expect("a reply").is_nil());
        }
        assert_eq!(script.read().expect("a reply").integer(), round);
    }
    assert_kept(&server);
}

#[test]
fn a_busy_server_can_be_ended() {
    for nosave in [true, false] {
        let mut server = with_data(&["--busy-reply-threshold", "20", "--save", "3600 1"]);
        let mut client = server.client();
        client.ok("SAVE");
        client.ok("SET late 1");
        let mut slow = start_script(&server, "EVAL", "redis.call('SET', 'half', 1) while true do end");
        wait_until("it is busy", || is_busy(&mut client));
        assert!(client.call("SHUTDOWN").text().starts_with("BUSY "));
        assert!(client.call("SHUTDOWN SAVE").text().starts_with("BUSY "));
        if nosave {
            client.send(&["SHUTDOWN", "NOSAVE"]).expect("sent");
        } else {
            // Undoes the script, saves, ends.
            let process = server.process_id().to_string();
            assert!(std::process::Command::new("kill").arg(process).status().expect("kill runs").success());
        }
        assert!(server.wait_for_exit().success());
        slow.set_read_timeout(Duration::from_secs(1));
        let _ = slow.read_to_end();
        server.restart();
        assert_kept(&server);
        let late = server.call("GET late");
        assert_eq!(late.is_nil(), nosave, "{late:?}");
        assert!(server.call("GET half").is_nil());
    }
}

#[test]
fn greedy_scripts_end_at_the_limit() {
    let server = with_data(&["--script-max-memory", "50mb"]);
    let mut client = server.client();
    for script in [
        "return #string.rep('x', 1e9)",
        "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(100000) .. #t end) end",
        "return redis.call('SET', 'large', string.rep('x', 1e9))",
    ] {
        let mut caller = server.client();
        caller.send(&["EVAL", script, "0"]).expect("sent");
        caller.set_read_timeout(Duration::from_millis(1500));
        let reply = caller.read();
        if let Ok(reply) = &reply {
            assert!(reply.is_error(), "{script}: {reply:?}");
        } else {
            // It catches the error again and again: that is an endless script.
            wait_until("it can be killed", || client.call("SCRIPT KILL").text() == "OK");
            caller.set_read_timeout(Duration::from_secs(20));
            assert!(caller.read().expect("a reply").is_error());
        }
    }
    assert!(server.info_number("used_memory") < 100_000_000);
    assert_kept(&server);
}

#[test]
fn a_script_that_is_not_busy_ends_before_the_server() {
    let mut server = with_data(&["--save", "3600 1"]);
    let mut client = server.client();
    let library = "#!lua name=lib
server.register_function('slow', function()
  local started = os.clock() repeat until os.clock() - started > 0.3
  return server.call('INCR', 'slow')
end)";
    client.call_args(&["FUNCTION", "LOAD", library]);
    let mut caller = server.client();
    caller.send(&["FCALL", "slow", "0"]).expect("sent");
    wait_until("it runs", || !client.call("FUNCTION STATS").items()[1].is_nil());
    client.send(&["SHUTDOWN", "SAVE"]).expect("sent");
    assert_eq!(caller.read().expect("a reply").integer(), 1);
    assert!(server.wait_for_exit().success());
    server.restart();
    assert_kept(&server);
    assert_eq!(server.call("GET slow").text(), "1");
}
