//! What scripts can do, and what they are answered.

use super::*;

/// Checks the result of `body`; `~` in an expected error stands for ` script: <digest>, on @user_script:`.
fn check(body: &str, expected: &str) {
    let digest = String::from_utf8(script(body).digest().hex().to_vec()).expect("digits");
    let expected = match expected.starts_with('-') {
        true => expected.replace('~', &format!(" script: {digest}, on @user_script:")),
        false => expected.to_owned(),
    };
    assert_eq!(eval(body), expected, "{body}");
}

#[test]
fn values_become_replies() {
    check("return 3.99", "3");
    check("return -3.99", "-3");
    check("return 'a'", "\"a\"");
    check("return true", "1");
    check("return false", "nil");
    check("return nil", "nil");
    check("return", "nil");
    check(
        "return print == nil",
        "-ERR user_script:1: Script attempted to access nonexistent global variable 'print'~1.",
    );
    check("return {1, 2, nil, 4}", "[1 2]");
    check("return {1, 'a', {false, true}}", "[1 \"a\" [nil 1]]");
    check("return {ok = 'fine\\nline'}", "+fine line");
    check("return {err = 'MY error'}", "-MY error");
    check("return {double = 3.5}", ",3.5");
    check("return {big_number = '123\\r4'}", "(123 4");
    check("return {verbatim_string = {string = 'x', format = 'md'}}", "=md :x");
    check("return {map = {a = {1}}}", "{\"a\"=[1]}");
    check("return {set = {a = true}}", "~[\"a\"]");
    check("return {KEYS[1], KEYS[2], ARGV[1], ARGV[2], #KEYS, #ARGV}", "[\"k1\" \"k2\" \"a1\" \"a2\" 2 2]");
    check("return function() end", "nil");
    check("return {map = {}}", "{}");
    check("return {{map = {a = 1}}, {err = 'X'}, {ok = 'Y'}}", "[{\"a\"=1} -X +Y]");
}

#[test]
fn resp3_values_become_replies() {
    check("redis.setresp(3) return {true, false}", "[#true #false]");
    check("redis.setresp(2) return {true, false}", "[1 nil]");
}

#[test]
fn commands_answer_values() {
    check("return redis.call('PING')", "+PONG");
    check("return redis.call('PING').ok", "\"PONG\"");
    check("redis.call('SET', 'x', 'y') return redis.call('GET', 'x')", "\"y\"");
    check("return redis.call('GET', 'none') == false", "1");
    check("redis.setresp(3) return redis.call('GET', 'none') == nil", "#true");
    check("return redis.call('COUNT', 1, 2, 'x')", "4");
    check("return redis.call('ARRAY')", "[1 nil nil \"z\"]");
    check("return redis.call('BOOL')", "1");
    check("redis.setresp(3) return redis.call('BOOL')", "#true");
    check("return redis.call('DOUBLE')", "\"3.5\"");
    check("redis.setresp(3) return redis.call('DOUBLE').double", "3");
    check("return redis.call('BIG')", "\"12345678901234567890\"");
    check("redis.setresp(3) return redis.call('BIG')", "(12345678901234567890");
    check("return redis.call('VERBATIM')", "\"hello\"");
    check("redis.setresp(3) return redis.call('VERBATIM')", "=txt:hello");
    check("return redis.call('MAP')", "[\"a\" 1]");
    check("redis.setresp(3) return redis.call('MAP')", "{\"a\"=1}");
    check("redis.setresp(3) return redis.call('MAP').map.a", "1");
    check("return redis.call('SETOF')", "[\"a\"]");
    check("redis.setresp(3) return redis.call('SETOF').set.a", "#true");
    check("return #redis.call('LARGE')", "1000000");
    check("return server.call == redis.call and server == redis", "1");
}

#[test]
fn arguments_of_commands() {
    let mut host = FakeHost::default();
    let mut engine = Engine::new();
    let body = "redis.call('COUNT', 1, 1.5, 1e17, 1e19, 0.1, -7, 'a\\0b', 2^53) return 1";
    let run = start(&mut engine, body, &[], &[]);
    finish(&mut engine, run, &mut host);
    let texts: Vec<_> = host.calls[0].iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    assert_eq!(
        texts,
        ["COUNT", "1", "1.5", "100000000000000000", "1e+19", "0.1", "-7", "a\0b", "9007199254740992"]
    );
    check("return redis.call()", "-ERR Please specify at least one argument for this call~1.");
    check("redis.call({})", "-ERR Command arguments must be strings or integers~1.");
    check("return redis.pcall('GET', nil)", "-ERR Command arguments must be strings or integers");
    check("return redis.call('COUNT', unpack(redis.call('LARGE'), 1, 7000))", "7001");
}

#[test]
fn errors_say_where() {
    check(
        "return foo",
        "-ERR user_script:1: Script attempted to access nonexistent global variable 'foo'~1.",
    );
    check("\n\nerror('x')", "-ERR user_script:3: x~3.");
    check("error({err = 'My err'})", "-My err~1.");
    check("error({})", "-ERR unknown error~1.");
    check("error(nil)", "-ERR nil~1.");
    check("error()", "-ERR nil~1.");
    check("return redis.call('NOSUCH')", "-ERR Unknown command called from script~1.");
    check(
        "return redis.call('FAIL')",
        "-WRONGTYPE Operation against a key holding the wrong kind of value~1.",
    );
    check("return redis.pcall('FAIL')", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    check(
        "return redis.pcall('FAIL').err",
        "\"WRONGTYPE Operation against a key holding the wrong kind of value\"",
    );
    check(
        "local ok, err = pcall(redis.call, 'NOSUCH') return {ok, err}",
        "[nil \"ERR Unknown command called from script\"]",
    );
    check("return {pcall(error, 'plain', 0)}", "[nil \"plain\"]");
    check("return {pcall(function(...) return ... end, 1, 2)}", "[1 1 2]");
    check("local function f() return f() + 1 end return f()", "-ERR user_script:1: stack overflow~1.");
    check("local t = {} t.x.y = 1", "-ERR user_script:1: attempt to index field 'x' (a nil value)~1.");
    check("return KEYS[9] .. 'x'", "-ERR user_script:1: attempt to concatenate field '?' (a nil value)~1.");
    check("os.execute()", "-ERR user_script:1: attempt to call field 'execute' (a nil value)~1.");
    check(
        "syntax error here",
        "-ERR Error compiling script (new function): user_script:1: '=' expected near 'error'",
    );
    check("#!lua\n\nerror('x')", "-ERR user_script:3: x~3.");
    check("return tostring(os.clock() >= 0)", "\"true\"");
}

#[test]
fn errors_that_cannot_be_reported() {
    // The handler cannot write into the table that was raised.
    assert!(eval("error(redis)").starts_with("-ERR Attempt to modify a readonly table"));
    // Whatever is raised, a table or not, there is an answer.
    for body in [
        "error(function() end)",
        "error(newproxy())",
        "error(coroutine.create(function() end))",
        "error(setmetatable({}, {__newindex = function() error('again') end}))",
        "error(setmetatable({}, {__index = function() error('again') end}))",
        "error({err = {}})",
        "error({err = 7})",
        "error({err = 'a\\0b'})",
        "xpcall(error, function() error('in the handler') end) error('x')",
        "local t = setmetatable({}, {__tostring = function() error('y') end}) error(tostring(t))",
    ] {
        assert!(eval(body).starts_with('-'), "{body}: {}", eval(body));
    }
    check("error({err = 7})", "-7~1.");
    check("error({err = 'a\\0b'})", "-a~1.");
    check("return redis.error_reply('a\\0b c')", "-ERR a");
    check("return {{err = 7}, {ok = 5}, {double = '3'}}", "[[] [] []]");
}

#[test]
fn counted_errors_are_marked() {
    let mut engine = Engine::new();
    let mut counted = |body: &str| {
        let run = start(&mut engine, body, &[], &[]);
        let result = finish(&mut engine, run, &mut FakeHost::default());
        assert!(matches!(result.reply, Reply::Error(_)));
        result.error_counted
    };
    assert!(counted("return redis.call('FAIL')"));
    assert!(counted("return redis.pcall('FAIL')"));
    assert!(!counted("return {err = 'X'}"));
    assert!(!counted("error('x')"));
    assert!(!counted("return redis.error_reply('x')"));
}

#[test]
fn reply_constructors() {
    check("return redis.error_reply('x')", "-ERR x");
    check("return redis.error_reply('-x')", "-ERR x");
    check("return redis.error_reply('MY_ERR custom msg')", "-MY_ERR custom msg");
    check("return redis.error_reply('')", "-ERR ");
    check("return redis.error_reply(1)", "-ERR wrong number or type of arguments");
    check("return redis.status_reply('GOOD')", "+GOOD");
    check("return redis.status_reply()", "-ERR wrong number or type of arguments");
    check("return redis.sha1hex('')", "\"da39a3ee5e6b4b0d3255bfef95601890afd80709\"");
    check("return redis.sha1hex(12)", "\"7b52009b64fd0a2a49e6d8a939753077792b0554\"");
    check("return redis.sha1hex()", "-ERR wrong number of arguments~1.");
    check("return redis.sha1hex(string.rep('a', 1e6))", "\"34aa973cd4c4daa4f61eeb2bdbad27316534016f\"");
}

#[test]
fn other_functions_of_the_api() {
    check("redis.setresp(4)", "-ERR RESP version must be 2 or 3.~1.");
    check("redis.setresp()", "-ERR server.setresp() requires one argument.~1.");
    check(
        "redis.set_repl(9)",
        "-ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.~1.",
    );
    check("redis.set_repl()", "-ERR server.set_repl() requires one argument.~1.");
    check("redis.log(1)", "-ERR server.log() requires two arguments or more.~1.");
    check("redis.log('a', 'b')", "-ERR First argument must be a number (log level).~1.");
    check("redis.log(9, 'a')", "-ERR Invalid log level.~1.");
    check("redis.acl_check_cmd('nosuch')", "-ERR Invalid command passed to server.acl_check_cmd()~1.");
    check("return {redis.acl_check_cmd('GET'), redis.acl_check_cmd('SET', 1)}", "[1 nil]");
    check("return {redis.replicate_commands(), redis.breakpoint(), redis.debug(1)}", "[1 nil]");
    check(
        "return {redis.REPL_NONE, redis.REPL_AOF, redis.REPL_SLAVE, redis.REPL_REPLICA, redis.REPL_ALL}",
        "[0 1 2 2 3]",
    );
    check(
        "return {redis.REDIS_VERSION, redis.REDIS_VERSION_NUM, server.SERVER_NAME}",
        "[\"7.2.4\" 459268 \"valkey\"]",
    );
    check("return server.VALKEY_VERSION_NUM", "590082");
    let mut host = FakeHost::default();
    let mut engine = Engine::new();
    let body =
        "redis.log(redis.LOG_WARNING, 'a', 1, {}, 'b') redis.setresp(3) redis.set_repl(redis.REPL_AOF)";
    let run = start(&mut engine, body, &[], &[]);
    finish(&mut engine, run, &mut host);
    assert_eq!(host.logs, [(LogLevel::Warning, b"a 1 b".to_vec())]);
    assert_eq!(host.protocols, [3]);
    assert_eq!(host.targets, [EffectTargets { aof: true, replicas: false }]);
}

#[test]
fn globals_are_protected() {
    const READ_ONLY: &str = "-ERR user_script:1: Attempt to modify a readonly table~1.";
    const RAW: &str = "-ERR Attempt to modify a readonly table~1.";
    for body in [
        "foo = 1",
        "redis.call = 1",
        "string.rep = nil",
        "getmetatable('').__index = 1",
        "getmetatable('').x = 1",
        "math.x = 1",
        "os.x = 1",
        "_G.x = 1",
        "KEYS = 1",
        "getmetatable(_G).__index = nil",
        "function foo() end",
        "coroutine.create = nil",
    ] {
        check(body, READ_ONLY);
    }
    for body in [
        "rawset(_G, 'x', 1)",
        "setmetatable(_G, {})",
        "setmetatable(redis, nil)",
        "table.insert(_G, 1)",
        "rawset(getmetatable(''), '__index', 1)",
        "rawset(string, 'x', 1)",
    ] {
        check(body, RAW);
    }
    check("table.sort(redis)", "nil");
    check("KEYS[1] = 'x' ARGV.y = 1 return KEYS[1]", "\"x\"");
    check("return rawget(_G, 'x') == nil", "1");
    check("return loadstring(string.dump(function() return 1 end)) == nil", "1");
    check("return loadstring('return 7')()", "7");
    check(
        "return {type(dofile)}",
        "-ERR user_script:1: Script attempted to access nonexistent global variable 'dofile'~1.",
    );
}

#[test]
fn the_list_of_globals() {
    let expected = "ARGV KEYS _G _VERSION __redis__err__handler __server__err__handler assert bit cjson cmsgpack \
                    collectgarbage coroutine error gcinfo getfenv getmetatable ipairs load loadstring math newproxy \
                    next os pairs pcall rawequal rawget rawset redis select server setfenv setmetatable string struct \
                    table tonumber tostring type unpack xpcall";
    let shown = eval(
        "local r = {} for k in pairs(_G) do r[#r + 1] = k end table.sort(r) return table.concat(r, ' ')",
    );
    let missing_libraries = ["bit ", "cjson ", "cmsgpack ", "struct "];
    let without =
        |text: &str| missing_libraries.iter().fold(text.to_owned(), |text, name| text.replace(name, ""));
    assert_eq!(without(shown.trim_matches('"')), without(expected));
    let settings = Arc::new(EngineSettings::default());
    let mut engine = Engine::with_settings(settings.clone());
    let mut host = FakeHost::default();
    // Whatever idles is exchanged when the setting changes.
    for insecure in [false, true, false] {
        settings.insecure_api.store(insecure, std::sync::atomic::Ordering::Relaxed);
        for name in ["getfenv", "setfenv", "newproxy"] {
            let run = start(&mut engine, &format!("return type(rawget(_G, '{name}'))"), &[], &[]);
            let expected = if insecure { "\"function\"" } else { "\"nil\"" };
            assert_eq!(show(&finish(&mut engine, run, &mut host).reply), expected, "{name}");
        }
    }
}

#[test]
fn libraries_are_there_and_forget_settings() {
    check("return cjson.encode({1, 2, {a = 'b'}})", "\"[1,2,{\\\"a\\\":\\\"b\\\"}]\"");
    check("return cmsgpack.unpack(cmsgpack.pack({1, 2}))", "[1 2]");
    check("return bit.tohex(255)", "\"000000ff\"");
    check("return struct.unpack('>I', struct.pack('>I', 7))", "7");
    check("cjson.x = 1", "-ERR user_script:1: Attempt to modify a readonly table~1.");
    let mut engine = Engine::new();
    let mut host = FakeHost::default();
    let mut encode = |body: &str| {
        let run = start(&mut engine, body, &[], &[]);
        show(&finish(&mut engine, run, &mut host).reply)
    };
    let body = "local before = cjson.encode(1.23456) cjson.encode_number_precision(3) return {before, cjson.encode(1.23456)}";
    assert_eq!(encode(body), "[\"1.23456\" \"1.23\"]");
    assert_eq!(encode(body), "[\"1.23456\" \"1.23\"]");
}

#[test]
fn environments_do_not_outlive_the_script() {
    let mut engine = open_engine();
    let mut host = FakeHost::default();
    let body = "if rawget(getfenv(1), 'mine') then return 'leaked' end setfenv(1, {mine = 1}) return mine";
    for _ in 0..3 {
        let run = start(&mut engine, body, &[], &[]);
        assert_eq!(show(&finish(&mut engine, run, &mut host).reply), "1");
    }
    let body = "local ok = pcall(setfenv, 0, {}) return ok";
    let run = start(&mut engine, body, &[], &[]);
    assert_eq!(show(&finish(&mut engine, run, &mut host).reply), "nil");
}

#[test]
fn random_numbers() {
    check("math.randomseed(42) return {math.random(1000), math.random(1000)}", "[745 343]");
    check("math.randomseed(42) return math.random(5, 5)", "5");
    check("return math.random(0)", "-ERR user_script:1: bad argument #1 to 'random' (interval is empty)~1.");
    check("return math.random(1, 2, 3)", "-ERR user_script:1: wrong number of arguments~1.");
    let number = "return tostring(math.random())";
    assert_ne!(eval(number), eval(number));
    // A seed is the script's own.
    let mut engine = Engine::new();
    let mut host = FakeHost::default();
    let mut next = |body: &str| {
        let run = start(&mut engine, body, &[], &[]);
        show(&finish(&mut engine, run, &mut host).reply)
    };
    next("math.randomseed(1)");
    let one = next(number);
    next("math.randomseed(1)");
    assert_ne!(next(number), one);
}

#[test]
fn recursive_results_end() {
    let shown = eval("local a = {} local b = {a} a[1] = b return a");
    assert!(shown.starts_with("[[[["), "{}", &shown[..40]);
    assert!(shown.contains("[-ERR reached lua stack limit]"));
}

#[test]
fn compiling_without_running() {
    let mut engine = Engine::new();
    assert_eq!(engine.compile(&script("return 1")), Ok(()));
    assert_eq!(engine.compile(&script("return 1")), Ok(()));
    let error = engine.compile(&script("x x")).expect_err("no Lua");
    assert_eq!(
        String::from_utf8_lossy(&error.0),
        "ERR Error compiling script (new function): user_script:1: '=' expected near 'x'"
    );
    let run = start(&mut engine, "return 1", &[], &[]);
    assert_eq!(show(&finish(&mut engine, run, &mut FakeHost::default()).reply), "1");
}

#[test]
fn many_scripts_are_compiled_and_forgotten() {
    let mut engine = Engine::new();
    let mut host = FakeHost::default();
    for n in 0..3000 {
        let run = start(&mut engine, &format!("return {n}"), &[], &[]);
        assert_eq!(finish(&mut engine, run, &mut host).reply, Reply::Integer(n));
    }
    let (scripts, functions) = engine.used_memory();
    assert!(scripts < 8 << 20 && functions == 0, "{scripts} {functions}");
    let run = start(&mut engine, "return 2", &[], &[]);
    assert_eq!(finish(&mut engine, run, &mut host).reply, Reply::Integer(2));
}
