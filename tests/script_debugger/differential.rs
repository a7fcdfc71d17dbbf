//! The same sessions on a real Valkey 9.1, line by line.
//!
//! Left out is what differs on purpose: the texts of the help; the digest in errors of scripts, which Valkey 9.1 has lost; the
//! word `Lua` in what is said of unknown commands, as Valkey 8 says it; blanks in place of the end of a line; the address of a
//! function; and the texts for commands that scripts may not call at all.

use super::lines;
use crate::common::client::{Client, Reply};
use crate::common::server::{Program, Server};

/// A script, its arguments behind the number of keys, and the commands of the person who debugs it.
struct Case {
    script: &'static str,
    arguments: &'static [&'static str],
    commands: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        script: "local a = 1\nlocal b = {1, 2, {x = 1}}\nlocal c = 'h\\0i\\n\"'\nredis.call('set', 'k', a)\nlocal d = a * 2\n\
                 return {a, d}\n\n",
        arguments: &["2", "key1", "key2", "arg1", "arg2"],
        commands: &[
            "list",
            "l 3",
            "l 3 1",
            "l 0",
            "l x",
            "l -1",
            "l 1 -1",
            "l 100",
            "w",
            "p",
            "s",
            "n",
            "p",
            "p a",
            "p b",
            "p zz",
            "p KEYS",
            "p ARGV",
            "b",
            "b 5",
            "b 5",
            "b 99",
            "b x",
            "b 1x",
            "b 99999999999999999999",
            "b",
            "l",
            "b -6",
            "b -7",
            "c",
            "p a",
            "t",
            "e a",
            "e 1+1",
            "e return {1,2}",
            "e x=1",
            "e local q=3",
            "e error('boo')",
            "e if",
            "e",
            "server ping",
            "redis get k",
            "r set k 5",
            "v lrange k 0 1",
            "valkey",
            "server",
            "r",
            "max",
            "max 61",
            "max 3",
            "max abc",
            "max -1",
            "max 0",
            "maxlen 1 2",
            "foo",
            "quit",
            "xx yy",
            "s now",
            "b 0",
            "s",
            "p d",
            "s",
        ],
    },
    Case {
        script: "local function g(n)\n local q = n\n return q + 1\nend\nlocal function h(n)\n local w = g(n)\n return w\nend\n\
                 local r = h(3)\nreturn r",
        arguments: &["0"],
        commands: &["b 3", "c", "t", "p", "p w", "p n", "p r", "c"],
    },
    Case {
        script: "local t = {a = 1, b = {c = true, d = false}, [5] = 'x'}\nredis.debug('hi', 1, nil, true, {1, 2}, t)\n\
                 redis.breakpoint()\nlocal y = redis.breakpoint()\nserver.debug()\nreturn y",
        arguments: &["0"],
        commands: &["c", "p t", "c", "p", "s", "c"],
    },
    Case {
        script: "local s = string.rep('x', 300)\nlocal t = {}\nt.t = t\nlocal z = {{{{{{{{{{{{{{1}}}}}}}}}}}}}}\n\
                 local n = {1e100, 0.1, 1 / 0, -1 / 0, 123456789, 0.00001, -7, 1e15, 100000, 1000000}\nreturn 1",
        arguments: &["0"],
        commands: &[
            "s", "s", "p", "p s", "p t", "s", "s", "s", "p z", "p n", "max 0", "p", "max 100", "p s", "c",
        ],
    },
    Case {
        script: "redis.setresp(3)\nlocal x = 1\nreturn {double = 1.5}",
        arguments: &["0"],
        commands: &[
            "server hset h a 1",
            "server hgetall h",
            "s",
            "server hset h a 1",
            "server hgetall h",
            "server sadd s a b",
            "server smembers s",
            "server get none",
            "server zadd z 1.5 m",
            "server zscore z m",
            "server mget none h",
            "server zrange z 0 -1 withscores",
            "server smembers h",
            "s",
            "c",
        ],
    },
    Case {
        script: "local a = redis.error_reply('My err')\nlocal b = redis.error_reply('-My err')\nlocal c = redis.status_reply('x')\n\
                 local d = redis.pcall('lpush', 'h', 'x')\nreturn a",
        arguments: &["0"],
        commands: &["server set h x", "s", "s", "s", "p c", "s", "s"],
    },
    Case {
        script: "local f = loadstring('local z = 1\\nreturn z')\nlocal r = f()\n\
                 local t = setmetatable({}, {__index = function(t, k)\n return k end})\nlocal v = t.foo\nreturn v",
        arguments: &["0"],
        commands: &["s", "s", "s", "s", "t", "c"],
    },
    Case {
        script: "for i = 1, 2 do\n  local x = i\nend\nerror('x')",
        arguments: &["0"],
        commands: &["s", "b 2", "c", "p", "c"],
    },
    Case { script: "\n\nreturn 1\n\n", arguments: &["0"], commands: &["l", "s"] },
    Case { script: "return redis.call('set', 'a', 'b')", arguments: &["0"], commands: &["a"] },
    Case {
        script: "#!lua flags=no-writes\nlocal a = 1\nreturn a",
        arguments: &["0"],
        commands: &["l", "s", "s"],
    },
    Case { script: "return (", arguments: &["0"], commands: &[] },
    Case { script: "return 1", arguments: &["7"], commands: &[] },
    Case { script: "return 1", arguments: &["x"], commands: &[] },
];

/// All that a session shows, in the form in which it is compared.
fn transcript(mut client: Client, mode: &str, case: &Case) -> Vec<String> {
    client.ok("FLUSHALL");
    client.ok(&format!("SCRIPT DEBUG {mode}"));
    let mut seen = Vec::new();
    let mut note = |reply: &Reply| match reply {
        Reply::Array(items)
            if items.iter().all(|item| matches!(item, Reply::Line(text) if text[0] == b'+')) =>
        {
            seen.extend(lines(reply).iter().map(|line| comparable(line)));
        }
        other => seen.push(comparable(&format!("{other:?}"))),
    };
    note(&client.call_args(&[&["EVAL", case.script], case.arguments].concat()));
    for command in case.commands {
        note(&client.call(command));
    }
    note(&client.read().expect("the reply of the script"));
    assert!(client.read().is_err(), "the connection is to be closed");
    assert_eq!(seen.iter().filter(|line| *line == "<endsession>").count(), 1, "{seen:?}");
    seen
}

fn comparable(line: &str) -> String {
    let line = line.trim_end().replace("Unknown Lua debugger", "Unknown debugger");
    match (line.find(" script: "), line.find(", on @user_script")) {
        (Some(start), Some(end)) if start < end => format!("{} script:{}", &line[..start], &line[end + 1..]),
        _ => line,
    }
}

#[test]
fn sessions_look_as_on_valkey() {
    let Some(valkey) = Program::valkey() else { return };
    let (ours, theirs) = (Server::start(&[]), Server::start_program(&valkey, &[]));
    for mode in ["YES", "SYNC"] {
        for case in CASES {
            let (seen, expected) =
                (transcript(ours.client(), mode, case), transcript(theirs.client(), mode, case));
            assert_eq!(seen, expected, "{mode}: {}", case.script);
            let datasets = [&ours, &theirs].map(|server| server.call("DBSIZE").integer());
            assert_eq!(datasets[0], datasets[1], "{mode}: {}", case.script);
        }
    }
}
