//! Scripts that never end by themselves, and do what they can to survive.

use super::{Stage, WAYS};

fn all_are_killed(bodies: &[&str]) {
    let mut stage = Stage::new(&[]);
    for body in bodies {
        for way in WAYS {
            stage.kill(way, body);
        }
    }
    stage.end();
}

#[test]
fn loops_and_protected_calls() {
    all_are_killed(&[
        "while true do end",
        "for i = 1, math.huge do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(error, {}) end",
        "xpcall(error, function() while true do end end)",
        "while true do xpcall(error, function(e) error(e) end) end",
        "xpcall(function() while true do end end, function() while true do end end)",
        "local function f() return f() end return f()",
        "local function f(...) return f(1, ...) end return f()",
        "local function f(a, ...) return f(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, ...) end return f()",
        "local function f(...) for i = 1, 1e9 do local n = select('#', ...) end end \
         local function g(n, ...) if n == 0 then return f(...) end \
         return g(n - 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, ...) end return g(2e4)",
        "local a, b a = function() return b() end b = function() return pcall(a) end while true do a() end",
        "local function f() return 1 + f() end while true do pcall(f) end",
        "local function f() return pcall(f) end while true do f() end",
    ]);
}

#[test]
fn coroutines() {
    all_are_killed(&[
        "coroutine.wrap(function() while true do end end)()",
        "local function f(n) if n == 0 then while true do pcall(error) end end return coroutine.wrap(f)(n - 1) end f(50)",
        "local c = coroutine.create(function() while true do coroutine.yield() end end) \
         while true do coroutine.resume(c) end",
        "while true do coroutine.wrap(function() pcall(error) end)() end",
        "while true do coroutine.create(function() end) end",
        "while true do pcall(coroutine.wrap(function() error({}) end)) end",
        "local f f = function() return coroutine.wrap(f)() end while true do pcall(f) end",
        "local c c = coroutine.wrap(function() pcall(c) while true do coroutine.yield(pcall(c)) end end) \
         while true do c() end",
    ]);
}

#[test]
fn metamethods() {
    let mut stage = Stage::new(&[]);
    for (event, expression) in [
        ("__index", "t.x"),
        ("__newindex", "rawequal(t, (function() t.x = 1 end)())"),
        ("__call", "t()"),
        ("__lt", "t < t"),
        ("__le", "t <= t"),
        ("__eq", "t == setmetatable({}, getmetatable(t))"),
        ("__concat", "t .. 'x'"),
        ("__add", "t + 1"),
        ("__unm", "-t"),
        ("__tostring", "tostring(t)"),
    ] {
        let body = format!(
            "local t = setmetatable({{}}, {{{event} = function() while true do pcall(error) end end}}) return {expression}"
        );
        for way in WAYS {
            stage.kill(way, &body);
        }
    }
    for body in [
        "local p = newproxy(true) getmetatable(p).__len = function() while true do end end return #p",
        "local a = {} setmetatable(a, {__index = a}) while true do pcall(function() return a.x end) end",
        "local a, b = {}, {} setmetatable(a, {__index = b}) setmetatable(b, {__index = a}) \
         while true do pcall(function() return a.x end) end",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(_, k) return t[k] end \
         while true do pcall(function() return t.x end) end",
    ] {
        for way in WAYS {
            stage.kill(way, body);
        }
    }
    stage.end();
}

#[test]
fn callbacks_of_the_library() {
    all_are_killed(&[
        "local t = {} for i = 1, 100 do t[i] = i end table.sort(t, function() while true do end end)",
        "local t = {} for i = 1, 1e5 do t[i] = i % 7 end while true do pcall(table.sort, t, function() return true end) end",
        "('abc'):gsub('.', function() while true do pcall(error) end end)",
        "('abc'):gsub('.', setmetatable({}, {__index = function() while true do end end}))",
        "table.foreach({1}, function() while true do end end)",
        "table.foreachi({1}, function() while true do end end)",
        "load(function() while true do end end)",
        "load(function() return ' ' end)",
        "while true do loadstring('return ' .. ('1 + '):rep(1000) .. '1') end",
        "while true do loadstring('local x = [[' .. ('x'):rep(1e6)) end",
        "for word in ('a'):rep(1e6):gmatch('a*b') do end",
        "local p = newproxy(true) getmetatable(p).__gc = function() while true do end end p = nil \
         while true do collectgarbage() end",
    ]);
}

#[test]
fn long_work_in_one_call() {
    all_are_killed(&[
        "string.find(('a'):rep(1e5), '.-.-.-b')",
        "string.find(('a'):rep(1e5), '.*.*.*b')",
        "('x'):rep(1e6):gsub('x*y', '')",
        "string.find(('a'):rep(1e7) .. 'c', ('a'):rep(5e6) .. 'b', 1, true)",
        "while true do string.rep('', 1e9) end",
        "local s = ('x'):rep(6e7) while true do local a, b = s:upper(), s:reverse() end",
        "local s = ('x'):rep(6e7) while true do local t = s .. 'y' end",
        "local s = ('x'):rep(6e7) while true do redis.sha1hex(s) end",
        "local s = ('x'):rep(2e7) while true do pcall(redis.call, 'ECHO', s) end",
        "local t = {} for i = 1, 1e6 do t[i] = 'piece' end while true do table.concat(t, ',') end",
        "local t = {} for i = 1, 1e5 do t[i] = i end while true do table.insert(t, 1, 0) table.remove(t, 1) end",
        "local t = {} for i = 1, 1e6 do t[i] = -i end while true do table.sort(t) t[1] = 1 end",
        "local t = {} for i = 1, 7000 do t[i] = i end while true do select('#', unpack(t)) end",
        "local t = {} for i = 1, 1e6 do t[i] = {} end while true do collectgarbage() end",
        "while true do pcall(unpack, {}, 0, 2 ^ 31 - 1) end",
        "local s = ('1'):rep(1e7) while true do tonumber(s) end",
        "while true do ('%s'):format(('x'):rep(1e7)) end",
    ]);
}

#[test]
fn libraries_in_rust() {
    all_are_killed(&[
        "local t = {} for i = 1, 1e6 do t[i] = i end while true do cjson.encode(t) end",
        "local s = '[' .. ('1,'):rep(1e6) .. '1]' while true do cjson.decode(s) end",
        "local s = '\"' .. ('\\\\u0041'):rep(1e6) .. '\"' while true do cjson.decode(s) end",
        "cjson.decode_max_depth(1e6) local s = ('['):rep(1e5) while true do pcall(cjson.decode, s) end",
        "local t = {} for i = 1, 1e6 do t[i] = i end while true do cmsgpack.pack(t) end",
        "local s = cmsgpack.pack(('x'):rep(1e7)) while true do cmsgpack.unpack(s) end",
        "local s = ('\\145'):rep(1e6) .. '\\1' while true do pcall(cmsgpack.unpack, s) end",
        "local s = ('x'):rep(1e6) while true do struct.pack(s) end",
        "local f = ('b'):rep(7000) local s = ('x'):rep(7000) while true do struct.unpack(f, s) end",
        "local f = ('i4'):rep(1e6) while true do struct.size(f) end",
        "while true do bit.tohex(-1, -2 ^ 31) end",
    ]);
}

#[test]
fn commands() {
    all_are_killed(&[
        "while true do redis.call('GET', 'kept') end",
        "while true do redis.pcall('nonsense') end",
        "while true do pcall(redis.call, 'GET') end",
        "while true do redis.setresp(3) redis.setresp(2) end",
        "while true do redis.acl_check_cmd('GET', 'kept') end",
        "while true do redis.error_reply('x') redis.status_reply('x') end",
    ]);
}

/// What is returned can be larger than what was made: each of thirty tables holds the one before twice.
#[test]
fn results() {
    all_are_killed(&["local t = {} for i = 1, 30 do t = {t, t} end return t"]);
}
