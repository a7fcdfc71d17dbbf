//! Scripts that end by themselves, with what nobody could want: impossible sizes, endless nesting, odd errors.

use super::{Stage, WAYS};
use crate::common::client::Reply;

/// Runs each script in every way; its reply is an error that contains the text.
fn all_fail(cases: &[(&str, &str)]) {
    let mut stage = Stage::new(&[]);
    for (body, expected) in cases {
        for way in WAYS {
            let reply = stage.run(way, body);
            assert!(reply.is_error(), "{way:?} {body}: {reply:?}");
            assert!(reply.text().contains(expected), "{way:?} {body}: {:.300}", reply.text());
        }
    }
    stage.end();
}

/// Runs each script in every way; its reply is a string or an integer of this text.
fn all_answer(cases: &[(&str, &str)]) {
    let mut stage = Stage::new(&[]);
    for (body, expected) in cases {
        for way in WAYS {
            let reply = stage.run(way, body);
            assert!(!reply.is_error(), "{way:?} {body}: {reply:?}");
            assert_eq!(reply.text(), *expected, "{way:?} {body}");
        }
    }
    stage.end();
}

#[test]
fn impossible_sizes() {
    all_fail(&[
        ("return string.find(('a'):rep(1e6), ('a?'):rep(5e5))", "pattern too complex"),
        ("return string.find(('a'):rep(1e6), ('(a'):rep(1e5))", "too many captures"),
        ("return unpack({}, 0, 2 ^ 31 - 1)", "too many results to unpack"),
        ("return unpack({}, -2 ^ 31, 2 ^ 31 - 1)", "too many results to unpack"),
        ("return unpack({}, 1, 1e7)", "too many results to unpack"),
        ("return ('%999d'):format(1)", "invalid format"),
        ("return ('x'):rep(2 ^ 31 - 1):rep(2 ^ 31 - 1)", "more memory than"),
        ("return string.char(256)", "invalid value"),
        ("return table.concat({}, 'x', 1, 2 ^ 31 - 1)", "invalid value (nil) at index 1"),
        ("return select(-2 ^ 31, 1)", "index out of range"),
    ]);
    all_answer(&[
        ("return #string.rep('', 1e9)", "0"),
        ("return #string.rep('x', -1e9)", "0"),
        ("return #('x'):rep(6e7)", "60000000"),
        ("local t = {} for i = 1, 1e6 do t[i] = 'piece' end return #table.concat(t, ', ')", "6999998"),
        ("return #string.sub('abc', -2 ^ 31, 2 ^ 31 - 1)", "3"),
        ("return select('#', string.byte('abc', -2 ^ 31, 2 ^ 31 - 1))", "3"),
    ]);
}

#[test]
fn libraries() {
    all_fail(&[
        (
            "return cjson.decode(('['):rep(1e5) .. (']'):rep(1e5))",
            "Found too many nested data structures (1001)",
        ),
        ("return cjson.decode(('{\"a\":'):rep(1e5))", "Found too many nested data structures (1001)"),
        ("local t = {} for i = 1, 1e5 do t = {t} end return cjson.encode(t)", "(1001)"),
        ("local t = {} t.t = t return cjson.encode(t)", "(1001)"),
        ("return cjson.encode(function() end)", "type not supported"),
        ("return cjson.encode(0 / 0)", "must not be NaN or Inf"),
        ("return cjson.encode({[1] = 1, [1e9] = 1})", "excessively sparse array"),
        ("return cjson.encode_max_depth(2 ^ 31)", "expected integer between 1 and 2147483647"),
        ("return struct.pack('i33', 1)", "integral size 33 is larger than limit of 32"),
        ("return struct.pack('c2147483648', 'x')", "integral size overflow"),
        ("return struct.pack('c2147483647', 'x')", "string too short"),
        ("return struct.pack('!3i', 1)", "alignment 3 is not a power of 2"),
        ("return struct.unpack('c2147483647', 'x')", "data string too short"),
        ("return struct.unpack('i', 'aaaa', -1)", "data string too short"),
        ("return struct.unpack('i', 'aaaa', 0)", "offset must be 1 or greater"),
        ("return struct.unpack('i', 'aaaa', 2 ^ 62)", "data string too short"),
        ("return struct.unpack('dc0', struct.pack('d', -1))", "data string too short"),
        ("return struct.unpack('dc0', struct.pack('d', 2 ^ 63))", "data string too short"),
        ("return struct.unpack(('b'):rep(1e5), ('x'):rep(1e5))", "too many results"),
        ("return struct.unpack('s', ('x'):rep(1e6))", "unfinished string in data"),
        ("return cmsgpack.unpack('\\221\\255\\255\\255\\255')", "Missing bytes in input"),
        ("return cmsgpack.unpack('\\223\\255\\255\\255\\255')", "Missing bytes in input"),
        ("return cmsgpack.unpack('\\219\\255\\255\\255\\255x')", "Missing bytes in input"),
        ("return cmsgpack.unpack(('\\145'):rep(1e6))", "stack overflow"),
        ("return cmsgpack.unpack_limit('\\1\\2', -1)", "Invalid request to unpack with offset"),
        ("return cmsgpack.unpack_one('\\1', 2 ^ 31 - 1)", "greater than input length"),
    ]);
    all_answer(&[
        ("return bit.tohex(-1, -2 ^ 31)", "FFFFFFFF"),
        ("return bit.tohex(-1, 2 ^ 31 - 1)", "ffffffff"),
        ("return struct.size('c2147483647c2147483647')", "4294967294"),
        ("return #struct.pack('!1073741824 b i32', 1, 1)", "64"),
        // Sixteen levels are kept, what is deeper becomes nil.
        ("local t = {} for i = 1, 1e5 do t = {t} end return #cmsgpack.pack(t)", "17"),
        ("local t = {} t[1] = t return #cmsgpack.pack(t)", "17"),
        (
            "local t, depth = cmsgpack.unpack(('\\145'):rep(1e3) .. '\\1'), 0 \
             while type(t) == 'table' do t, depth = t[1], depth + 1 end return depth",
            "1000",
        ),
        (
            "cjson.decode_max_depth(2 ^ 31 - 1) cjson.encode_max_depth(2 ^ 31 - 1) local t = {} \
             for i = 1, 1500 do t = {t} end return #cjson.encode(cjson.decode(cjson.encode(t)))",
            "3002",
        ),
    ]);
}

#[test]
fn deep_recursion() {
    all_fail(&[
        ("local function f() return 1 + f() end return f()", "stack overflow"),
        ("local f f = function() return (('a'):gsub('a', f)) end return f()", "stack overflow"),
        ("local f f = function() return coroutine.wrap(f)() end return f()", "stack overflow"),
        ("local f f = function(a, b) table.sort({1, 2, 3}, f) return false end return f()", "stack overflow"),
        ("local t = setmetatable({}, {__tostring = function(t) return tostring(t) end}) return tostring(t)", "stack overflow"),
        ("local t = {} setmetatable(t, {__index = function(t, k) return t[k] end}) return t.x", "stack overflow"),
        ("local t = {} setmetatable(t, {__index = t}) return t.x", "loop in gettable"),
        ("local t = {} setmetatable(t, {__newindex = t}) t.x = 1", "loop in settable"),
        ("return loadstring('return ' .. ('('):rep(1e5) .. '1' .. (')'):rep(1e5))()", "a nil value"),
    ]
    .map(|(body, expected)| (body, expected)));
}

/// Deeper than any reply may be. The bytes are looked at as they come: clients recurse.
#[test]
fn deep_replies() {
    let mut stage = Stage::new(&[]);
    for body in ["local t = {} t[1] = t return t", "local t = {} for i = 1, 1e5 do t = {t} end return t"] {
        for way in WAYS {
            let mut caller = stage.server.client();
            way.send(&mut caller, body);
            caller.send(&["QUIT"]).expect("sent");
            let reply = caller.read_to_end().expect("a reply");
            assert!(reply.ends_with(b"*1\r\n-ERR reached lua stack limit\r\n+OK\r\n"), "{way:?} {body}");
            stage.is_clean(way, body);
        }
    }
    stage.end();
}

/// Errors that are not what an error should be. Each reply is one error, and the connection stays in step.
#[test]
fn odd_errors() {
    let mut stage = Stage::new(&[]);
    for body in [
        "error()",
        "error(nil)",
        "error(true)",
        "error(print)",
        "error({})",
        "error({err = {}})",
        "error({err = redis})",
        "error({err = true})",
        "error({err = ''})",
        "error({err = 'a\\r\\n+b\\r\\n$1000\\r\\n'})",
        "error({err = 'x', source = {}, line = {}})",
        "error({err = 'x', source = ('s'):rep(1e6), line = 'a\\r\\nb'})",
        "error({err = 'x', ignore_error_stats_update = 1})",
        "error(redis)",
        "error(string)",
        "error(getmetatable(''))",
        "error(newproxy(true))",
        "error(coroutine.create(function() end))",
        "error(setmetatable({}, {__index = function() error({}) end}))",
        "error(setmetatable({}, {__newindex = function() error({}) end}))",
        "error(setmetatable({err = 'x'}, {__index = redis, __newindex = string, __metatable = 1}))",
        "error(setmetatable({}, {__tostring = function() error('x') end, __call = error}))",
        "error(('x'):rep(6e7))",
        "error({err = ('x'):rep(6e7)})",
        "error('a\\r\\n+OK\\r\\n')",
        "error('\\0\\0')",
        "error(('%s%n'):rep(100), 1e9)",
        "return {err = ('x'):rep(6e7)}",
        "return {err = 'a\\r\\n+OK\\r\\n'}",
        "return {err = ''}",
        "return redis.error_reply('a\\r\\nb')",
        "return redis.error_reply(('x'):rep(6e7))",
        "return redis.error_reply()",
        "return redis.call(('x'):rep(6e7))",
        "return redis.call('GET', {})",
        "return redis.call()",
        "return redis.call('\\r\\n+OK\\r\\n')",
        "return redis.call('HGET', 'kept', 'field')",
        "x = 1",
        "return x",
        "_G[('x'):rep(1e6)] = 1",
        "return _G[('x'):rep(6e7)]",
        "return pcall()",
        "return xpcall()",
        "return error_handler()",
        "coroutine.yield()",
        "return coroutine.wrap(function() error(setmetatable({}, {__index = error})) end)()",
    ] {
        for way in WAYS {
            let reply = stage.run(way, body);
            assert!(reply.is_error(), "{way:?} {body}: {reply:?}");
        }
    }
    stage.end();
}

/// Replies that are not what a reply should be.
#[test]
fn odd_replies() {
    let mut stage = Stage::new(&[]);
    for body in [
        "return {err = {}}",
        "return {ok = {}}",
        "return {ok = 'a\\r\\n+OK\\r\\n'}",
        "return {ok = ('x'):rep(6e7)}",
        "return {double = 'x'}",
        "return {double = 0 / 0}",
        "return {big_number = '1\\r\\n2'}",
        "return {map = 1}",
        "return {map = {[{}] = {}}}",
        "return {set = {[{}] = true}}",
        "return {verbatim_string = 1}",
        "return {verbatim_string = {string = 'x', format = 'much too long'}}",
        "redis.setresp(3) return {verbatim_string = {string = 'a\\r\\nb', format = 'a'}}",
        "redis.setresp(3) return {big_number = 'a\\r\\nb'}",
        "redis.setresp(3) return {double = -1 / 0}",
        "return setmetatable({}, {__index = function() return 1 end})",
        "return setmetatable({}, {__index = error})",
        "return newproxy(true)",
        "return coroutine.create(function() end)",
        "return print",
        "return _G",
        "return redis",
        "return 1 / 0",
        "return -2 ^ 63",
        "return 0 / 0",
        "return pcall(error, ('x'):rep(6e7))",
        "return pcall(error, redis)",
        "return {pcall(error, setmetatable({}, {__index = string}))}",
        "return xpcall(error, error)",
        "return {xpcall(function() return 1 end, 1)}",
    ] {
        for way in WAYS {
            let _: Reply = stage.run(way, body);
        }
    }
    stage.end();
}

#[test]
fn bytecode() {
    all_fail(&[
        ("return loadstring(string.dump(function() return 1 end))()", "a nil value"),
        (
            "local done local f = load(function() if not done then done = 1 return string.dump(function() end) end end) return f()",
            "a nil value",
        ),
        ("return loadstring('\\27Lua\\81\\0\\1\\4\\8\\4\\8\\0')()", "a nil value"),
        ("return string.dump(string.dump)", "unable to dump given function"),
        ("return loadfile('/etc/passwd')", "nonexistent global variable 'loadfile'"),
        ("return dofile('/etc/passwd')", "nonexistent global variable 'dofile'"),
        ("return require('os')", "nonexistent global variable 'require'"),
        ("return io.open('/etc/passwd')", "nonexistent global variable 'io'"),
        ("return os.execute('true')", "attempt to call field 'execute'"),
        ("return debug.getregistry()", "nonexistent global variable 'debug'"),
        ("return package.loadlib('x')", "nonexistent global variable 'package'"),
    ]);
    let mut stage = Stage::new(&[]);
    for way in [super::Way::Eval, super::Way::EvalReadOnly] {
        let mut caller = stage.server.client();
        let command = if way.is_read_only() { "EVAL_RO" } else { "EVAL" };
        let reply = caller.call_args(&[command.as_bytes(), b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00", b"0"]);
        assert!(reply.text().starts_with("ERR Error compiling script"), "{reply:?}");
        stage.is_clean(way, "bytecode");
    }
    stage.end();
}
