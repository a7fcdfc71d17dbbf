//! Each command of the debugger, and what its answers look like.

use super::Session;
use crate::common::server::Server;

#[test]
fn steps_and_breakpoints() {
    let server = Server::start(&[]);
    let script = "local a = 1\nlocal b = 2\nfor i = 1, 3 do\n  b = b + i\nend\nreturn a + b\n";
    let (mut session, stop) = Session::begin(server.client(), "YES", script, &[]);
    assert_eq!(stop, ["* Stopped at 1, stop reason = step over", "-> 1   local a = 1"]);
    assert_eq!(session.say("s"), ["* Stopped at 2, stop reason = step over", "-> 2   local b = 2"]);
    assert_eq!(session.say("NEXT"), ["* Stopped at 3, stop reason = step over", "-> 3   for i = 1, 3 do"]);
    assert_eq!(session.say("b"), ["No breakpoints set. Use 'b <line>' to add one."]);
    assert_eq!(session.say("b 4"), ["-> 3   for i = 1, 3 do", "  #4     b = b + i", "   5   end"]);
    assert_eq!(session.say("b 4"), ["Wrong line number."]);
    assert_eq!(session.say("b 7"), ["Wrong line number."]);
    assert_eq!(session.say("b x"), ["Invalid argument:'x'"]);
    assert_eq!(session.say("break"), ["1 breakpoints set:", "  #4     b = b + i"]);
    assert_eq!(session.say("c"), ["* Stopped at 4, stop reason = break point", "->#4     b = b + i"]);
    assert_eq!(session.say("p b"), ["<value> 2"]);
    assert_eq!(session.say("continue")[0], "* Stopped at 4, stop reason = break point");
    assert_eq!(session.say("p b"), ["<value> 3"]);
    assert_eq!(session.say("b -5"), ["No breakpoint in the specified line."]);
    assert_eq!(session.say("b -4"), ["Breakpoint removed."]);
    assert_eq!(session.say("b 6")[1], "  #6   return a + b");
    assert_eq!(session.say("b 0"), ["All breakpoints removed."]);
    let (last, reply) = session.end("c");
    assert_eq!((last.len(), reply.integer()), (1, 9));
}

#[test]
fn at_most_64_breakpoints() {
    let server = Server::start(&[]);
    let (mut session, _) = Session::begin(server.client(), "YES", &"local x = 1\n".repeat(70), &[]);
    for line in 1..=64 {
        assert!(session.say(&format!("b {line}")).len() > 1);
    }
    assert_eq!(session.say("b 65"), ["Too many breakpoints set."]);
    assert_eq!(session.say("b").len(), 65);
}

#[test]
fn listings() {
    let server = Server::start(&[]);
    let script: String = (1..=20).map(|line| format!("local v{line} = {line}\n")).collect();
    let (mut session, _) = Session::begin(server.client(), "YES", &script, &[]);
    assert_eq!(session.say("l").len(), 6);
    assert_eq!(session.say("list 10").len(), 11);
    assert_eq!(
        session.say("l 10 1"),
        ["   9   local v9 = 9", "   10  local v10 = 10", "   11  local v11 = 11"]
    );
    assert_eq!(session.say("l 0 0"), ["-> 1   local v1 = 1"]);
    assert_eq!(session.say("l 100"), [""; 0]);
    assert_eq!(session.say("w").len(), 20);
    assert_eq!(session.say("whole")[19], "   20  local v20 = 20");
}

#[test]
fn variables() {
    let server = Server::start(&[]);
    let script = "local number, text, yes = 1234567.5, 'a\\nb', true\n\
                  local list, map, nested = {1, 'x', {}}, {key = false}, {}\n\
                  nested.nested = nested\n\
                  local function twice(value)\n\
                  local result = value * 2\n\
                  return result\n\
                  end\n\
                  return twice(4)";
    let arguments = ["2", "key", "other", "argument"];
    let (mut session, _) = Session::begin(server.client(), "YES", script, &arguments);
    assert_eq!(session.say("p"), ["No local variables in the current context."]);
    session.say("b 6");
    session.say("c");
    assert_eq!(session.say("print"), ["<value> value = 4", "<value> result = 8"]);
    assert_eq!(session.say("p value"), ["<value> 4"]);
    // It is no local of this function, but of the one that called it; the tail call has left its frame.
    assert_eq!(session.say("p list"), ["No such variable."]);
    assert_eq!(session.say("p KEYS"), ["<value> {key; other; }"]);
    assert_eq!(session.say("p ARGV"), ["<value> {argument; }"]);
    assert_eq!(session.end("c").1.integer(), 8);

    let (mut session, _) = Session::begin(server.client(), "YES", script, &[]);
    session.say("b 8");
    session.say("c");
    let shown = session.say("p");
    let depth = "{[nested]=".repeat(10);
    let expected = [
        "<value> number = 1.23457e+06",
        // Line ends would end the status line.
        "<value> text = a b",
        "<value> yes = true",
        "<value> list = {1; x; {}; }",
        "<value> map = {[key]=false; }",
    ];
    assert_eq!(shown[..5], expected);
    assert!(shown[5].starts_with(&format!("<value> nested = {}", &depth[..90])), "{}", shown[5]);
    assert!(shown[5].contains("<max recursion level reached! Nested table?>"), "{}", shown[5]);
}

#[test]
fn what_is_called_is_shown_while_stepping() {
    let server = Server::start(&[]);
    let script = "redis.call('SET', KEYS[1], ARGV[1])\n\
                  redis.pcall('LPUSH', KEYS[1], 'x')\n\
                  redis.setresp(3)\n\
                  redis.call('HSET', 'hash', 'field', 'value')\n\
                  redis.call('HGETALL', 'hash')\n\
                  return redis.call('GET', 'nothing')";
    let (mut session, _) = Session::begin(server.client(), "YES", script, &["1", "key", "va\"lue"]);
    assert_eq!(session.say("s")[..2], ["<command> SET key va\"lue", "<reply> \"+OK\""]);
    let shown = session.say("s");
    assert_eq!(shown[0], "<command> LPUSH key x");
    assert!(shown[1].starts_with("<reply> \"-WRONGTYPE "), "{shown:?}");
    assert!(shown[2].starts_with("<error> -WRONGTYPE "), "{shown:?}");
    session.say("s");
    assert_eq!(session.say("s")[1], "<reply> 1");
    assert_eq!(session.say("s")[1], "<reply> {\"field\" => \"value\"}");
    let (last, reply) = session.end("s");
    assert_eq!(last[1], "<reply> (null)");
    assert!(reply.is_nil(), "{reply:?}");
}

#[test]
fn commands_and_code_of_the_person_who_debugs() {
    let server = Server::start(&[]);
    let (mut session, _) = Session::begin(server.client(), "YES", "local a = 1\nreturn a", &[]);
    for name in ["server", "redis", "r", "valkey", "V"] {
        assert_eq!(session.say(&format!("{name} PING")), ["<command> PING", "<reply> \"+PONG\""]);
    }
    session.say("r RPUSH list a b");
    assert_eq!(session.say("r LRANGE list 0 -1")[1], "<reply> [\"a\",\"b\"]");
    assert_eq!(session.say("r GET nothing")[1], "<reply> NULL");
    let shown = session.say("r FLUSHALL SYNC now");
    assert!(shown[1].starts_with("<reply> \"-ERR "), "{shown:?}");
    assert_eq!(session.say("e 1 + 1"), ["<retval> 2"]);
    assert_eq!(session.say("eval local x = 'y' return x"), ["<retval> y"]);
    assert_eq!(session.say("e redis.call('LLEN', 'list')"), ["<retval> 2"]);
    assert_eq!(
        session.say("e a"),
        ["<error> ldb_eval:1: Script attempted to access nonexistent global variable 'a'"]
    );
    assert!(session.say("e if")[0].starts_with("Error compiling code: ldb_eval:1:"));
    assert_eq!(session.say("e error({err = 'E'})"), ["<error> {[err]=E; }"]);
    assert_eq!(session.end("c").1.integer(), 1);
}

#[test]
fn what_it_does_not_understand() {
    let server = Server::start(&[]);
    let (mut session, _) = Session::begin(server.client(), "YES", "return 1", &[]);
    for words in ["foo", "e", "server", "r", "s now", "w 1", "l 1 2 3", "p a b", "b 1 2", "quit", "\0"] {
        let shown = session.say(words);
        assert_eq!(shown, ["<error> Unknown Lua debugger command or wrong number of arguments."], "{words}");
    }
    let help = session.say("help");
    for name in ["[h]elp", "[s]tep", "[b]reak [line|-line]", "[e]val <code>", "[a]bort"] {
        assert!(help.iter().any(|line| line.starts_with(name)), "{name}: {help:?}");
    }
    assert_eq!(session.say("h"), help);
    // A person at a terminal may come without a client.
    session.client.send_bytes(b"p a\r\n").unwrap();
    assert_eq!(super::lines(&session.client.read().unwrap()), ["No such variable."]);
}

#[test]
fn traces() {
    let server = Server::start(&[]);
    let script = "local function inner(n)\n  return n + 1\nend\nlocal function outer(n)\n  local m = inner(n)\n  \
                  return m\nend\nlocal r = outer(1)\nreturn r";
    let (mut session, _) = Session::begin(server.client(), "YES", script, &[]);
    session.say("b 2");
    session.say("c");
    assert_eq!(
        session.say("t"),
        [
            "In inner:",
            "->#2     return n + 1",
            "From outer:",
            "   5     local m = inner(n)",
            "From top level:",
            "   8   local r = outer(1)",
        ]
    );
}

#[test]
fn the_script_stops_itself() {
    let server = Server::start(&[]);
    let script = "redis.debug('seen', 1, nil, {2})\nlocal stopped = server.breakpoint()\nreturn stopped";
    let (mut session, _) = Session::begin(server.client(), "YES", script, &[]);
    assert_eq!(
        session.say("c"),
        [
            "<debug> line 1: seen, 1, nil, {2; }",
            "* Stopped at 3, stop reason = server.breakpoint() called",
            "-> 3   return stopped",
        ]
    );
    assert_eq!(session.end("c").1.integer(), 1);
    // Nothing stops where nobody debugs.
    let mut client = server.client();
    assert!(client.call_args(&["EVAL", script, "0"]).is_nil());
}

#[test]
fn what_is_large_is_cut() {
    let server = Server::start(&[]);
    let script = "local text = ('x'):rep(1e7)\nlocal many = {}\nfor i = 1, 1e6 do many[i] = i end\nlocal wide = {}\n\
                  for i = 1, 50 do wide[i] = wide end\nlocal last = 1\nreturn last";
    let (mut session, _) = Session::begin(server.client(), "YES", script, &[]);
    session.say("b 7");
    session.say("c");
    let shown = session.say("p text");
    assert_eq!(shown[0], format!("<value> {} ...", "x".repeat(248)));
    assert!(shown[1].starts_with("<hint> "), "{shown:?}");
    // It is said once.
    assert_eq!(session.say("p many").len(), 1);
    let shown = session.say("p wide");
    assert!(shown[0].len() < 300 && shown[0].ends_with(" ..."), "{shown:?}");
    assert_eq!(session.say("max"), ["Current maxlen is 256"]);
    assert_eq!(session.say("m 10"), ["<value> replies are truncated at 60 bytes."]);
    assert_eq!(session.say("maxlen -1"), ["<error> Invalid maxlen value."]);
    assert_eq!(session.say("p text")[0].len(), 64);
    assert_eq!(session.say("maxlen 0"), ["<value> replies are not truncated."]);
    // 50 times 50 times 50 and so on: shown up to what can be borne.
    for name in ["text", "many", "wide"] {
        let shown = session.say(&format!("p {name}"));
        assert!((1 << 20..(1 << 20) + 10).contains(&shown[0].len()), "{name}: {}", shown[0].len());
    }
    assert_eq!(session.end("c").1.integer(), 1);
    // What is printed without a stop is bounded too.
    let script = "local text = ('x'):rep(1000)\nfor i = 1, 1e5 do redis.debug(text) end\nreturn 1";
    let (session, _) = Session::begin(server.client(), "YES", script, &[]);
    let (last, _) = session.end("c");
    assert!((1000..1100).contains(&last.len()), "{}", last.len());
    assert!(last[last.len() - 2].starts_with("<hint> "), "{:?}", last[last.len() - 2]);
}
