//! Scripts that try to leave something behind for the next one, or for the server.

use super::{Stage, WAYS, Way};

/// Tries every setter on every table that can be reached from the globals, from the environments of functions and from the
/// metatables of values. Returns how many tables it met, and where a setter was successful.
const WRITE_EVERYWHERE: &str = "
    local met, written, seen = 0, {}, {}
    local own = {[seen] = true, [written] = true, [KEYS] = true, [ARGV] = true}
    local setters = {
        set = function(t) t.left = 1 end,
        number = function(t) t[1] = 1 end,
        old = function(t) local key = next(t) t[key] = nil end,
        rawset = function(t) rawset(t, 'left', 1) end,
        rawset_old = function(t) rawset(t, (next(t)), nil) end,
        setmetatable = function(t) setmetatable(t, {}) end,
        unsetmetatable = function(t) setmetatable(t, nil) end,
        insert = function(t) table.insert(t, 1) end,
        insert_first = function(t) table.insert(t, 1, 1) end,
    }
    local function empty(t) return next(t) == nil end
    local visit
    local function look(path, value)
        if type(value) == 'function' then
            local ok, environment = pcall(getfenv, value)
            if ok then visit(path .. '()', environment) end
        end
        if type(value) == 'table' then visit(path, value) end
        local metatable = getmetatable(value)
        if type(metatable) == 'table' then visit(path .. '@', metatable) end
    end
    visit = function(path, t)
        if own[t] or seen[t] then return end
        seen[t] = true
        met = met + 1
        for name, setter in pairs(setters) do
            if not (empty(t) and (name == 'old' or name == 'rawset_old')) and pcall(setter, t) then
                written[#written + 1] = path .. ' by ' .. name
            end
        end
        for key, value in pairs(t) do
            look(path .. '.' .. tostring(key), value)
        end
    end
    own[setters] = true
    look('_G', _G) look('level 1', getfenv(1)) look('string', '') look('null', cjson.null) look('nil', nil)
    look('number', 1) look('boolean', true) look('redis', redis)
    for _, name in ipairs({'string', 'table', 'math', 'os', 'coroutine', 'bit', 'struct', 'cjson', 'cmsgpack', 'server'}) do
        look(name, getfenv(1)[name])
    end
    return met .. ' ' .. table.concat(written, ', ')";

#[test]
fn every_table_of_the_api_is_read_only() {
    let mut stage = Stage::new(&[]);
    for way in WAYS {
        let reply = stage.run(way, WRITE_EVERYWHERE);
        let text = reply.text();
        let (met, written) = text.split_once(' ').unwrap_or_else(|| panic!("{way:?}: {text}"));
        assert_eq!(written, "", "{way:?}");
        assert!(met.parse::<u32>().expect("a number") >= 12, "{way:?}: {met}");
    }
    stage.end();
}

#[test]
fn what_is_shared_cannot_be_changed() {
    let mut stage = Stage::new(&[]);
    for (body, expected) in [
        ("getmetatable('').__index = {}", "Attempt to modify a readonly table"),
        ("rawset(getmetatable(''), '__index', {})", "Attempt to modify a readonly table"),
        ("string.rep = nil", "Attempt to modify a readonly table"),
        ("rawset(string, 'rep', nil)", "Attempt to modify a readonly table"),
        ("redis.call = nil", "Attempt to modify a readonly table"),
        ("rawset(_G, 'x', 1)", "Attempt to modify a readonly table"),
        ("_G.x = 1", "Attempt to modify a readonly table"),
        ("x = 1", "Attempt to modify a readonly table"),
        ("setmetatable(_G, nil)", "Attempt to modify a readonly table"),
        ("setmetatable(_G, {})", "Attempt to modify a readonly table"),
        ("getmetatable(_G).__index = nil", "Attempt to modify a readonly table"),
        ("table.insert(redis, 1)", "Attempt to modify a readonly table"),
        ("setfenv(0, {})", "bad argument #1 to 'setfenv'"),
        ("getfenv(0).x = 1", "Attempt to modify a readonly table"),
        ("getfenv(1).x = 1", "Attempt to modify a readonly table"),
        ("setfenv(redis.call, {})", "cannot change environment of given object"),
        ("setfenv(pcall, {})", "cannot change environment of given object"),
        ("setmetatable('x', {})", "bad argument #1 to 'setmetatable'"),
        ("setmetatable(setmetatable({}, {__metatable = 1}), {})", "cannot change a protected metatable"),
    ] {
        for way in WAYS {
            let reply = stage.run(way, body);
            assert!(reply.is_error() && reply.text().contains(expected), "{way:?} {body}: {reply:?}");
        }
    }
    stage.end();
}

/// What Valkey hides, unless `lua-enable-insecure-api` shows it. It can be changed while the server runs.
#[test]
fn what_is_insecure_is_hidden() {
    let server = crate::common::server::Server::start(&[]);
    let mut client = server.client();
    for _ in 0..2 {
        for name in ["newproxy", "setfenv", "getfenv"] {
            let reply = client.call_args(&["EVAL", &format!("return type({name})"), "0"]);
            let hidden = format!("Script attempted to access nonexistent global variable '{name}'");
            assert!(reply.is_error() && reply.text().contains(&hidden), "{reply:?}");
        }
        assert!(client.call("CONFIG SET lua-enable-insecure-api yes").is_error(), "it is protected");
    }
    let server = crate::common::server::Server::start(&[
        "--lua-enable-insecure-api",
        "yes",
        "--enable-protected-configs",
        "yes",
    ]);
    let mut client = server.client();
    let body = ["EVAL", "return type(rawget(_G, 'newproxy'))", "0"];
    assert_eq!(client.call_args(&body).text(), "function");
    client.ok("CONFIG SET lua-enable-insecure-api no");
    assert_eq!(client.call_args(&body).text(), "nil");
}

/// What a script changes of its own ends with it: it runs twice, and finds the same.
#[test]
fn nothing_is_left_for_the_next_run() {
    let mut stage = Stage::new(&[]);
    for (body, expected) in [
        (
            "local before = rawget(getfenv(1), 'x') setfenv(1, setmetatable({}, {__index = _G})) x = 1 \
             return tostring(before) .. x",
            "nil1",
        ),
        ("local before = getfenv(1) setfenv(1, {}) return before.type(before.redis)", "table"),
        ("math.randomseed(42) return math.random(1000)", "745"),
        (
            "cjson.encode_max_depth(1) cjson.encode_number_precision(3) return cjson.encode({0.12345})",
            "[0.123]",
        ),
        ("local n = cjson.encode_number_precision() return n", "14"),
        ("cjson.encode_sparse_array(true) return cjson.encode({[1] = 1, [99] = 2})", "{\"1\":1,\"99\":2}"),
        ("redis.setresp(3) return redis.call('ECHO', 'x')", "x"),
        ("table.insert(KEYS, 'x') table.insert(ARGV, 'y') return #KEYS + #ARGV", "2"),
        ("collectgarbage('stop') return collectgarbage('setpause', 1e6)", "200"),
        ("KEYS.left = (KEYS.left or 0) + 1 return KEYS.left", "1"),
    ] {
        for way in WAYS {
            let first = stage.run(way, body);
            let second = stage.run(way, body);
            assert_eq!(first, second, "{way:?} {body}");
            assert_eq!(second.text(), expected, "{way:?} {body}");
        }
    }
    stage.end();
}

/// What a library keeps in its own variables stays within the library, and goes with it.
#[test]
fn a_library_keeps_what_is_its_own() {
    let mut stage = Stage::new(&[]);
    let load = |client: &mut crate::common::client::Client| {
        for name in ["one", "two"] {
            let library = format!(
                "#!lua name={name}\nlocal count = 0 redis.register_function('{name}', function() count = count + 1 return count end)"
            );
            client.call_args(&["FUNCTION", "LOAD", "REPLACE", &library]);
        }
    };
    load(&mut stage.other);
    for expected in 1..=3 {
        assert_eq!(stage.other.call("FCALL one 0").integer(), expected);
    }
    assert_eq!(stage.other.call("FCALL two 0").integer(), 1);
    load(&mut stage.other);
    assert_eq!(stage.other.call("FCALL one 0").integer(), 1);
    stage.is_clean(Way::Function, "a library with a state");
    // While it loads, a library sees nothing by which it could leave something elsewhere.
    for code in [
        "redis.call('SET', 'x', '1')",
        "x = 1",
        "redis.x = 1",
        "setfenv(0, {})",
        "getmetatable('').__index = {}",
        "string.rep('x', 1e9)",
        "setmetatable({}, {})",
        "local t = ('').x",
    ] {
        let library = format!("#!lua name=bad\n{code}\nredis.register_function('bad', function() end)");
        let reply = stage.other.call_args(&["FUNCTION", "LOAD", &library]);
        let loads = code == "local t = ('').x";
        assert_eq!(reply.is_error(), !loads, "{code}: {reply:?}");
    }
    for endless in [
        "while true do end",
        "local function f() return f() end f()",
        "local s = ('x'):rep(1e5):find('.-.-.-b')",
    ] {
        let library = format!("#!lua name=slow\n{endless}\nredis.register_function('slow', function() end)");
        let reply = stage.other.call_args(&["FUNCTION", "LOAD", &library]);
        assert!(reply.is_error() && reply.text().contains("FUNCTION LOAD timeout"), "{endless}: {reply:?}");
    }
    stage.is_clean(Way::Function, "libraries that do not load");
    stage.end();
}

/// A seed is the script's that sets it: the next one's numbers are not those that would come next.
#[test]
fn a_seed_ends_with_its_script() {
    let mut stage = Stage::new(&[]);
    let seeded = "math.randomseed(42) return math.random(1000) .. ' ' .. math.random(1000)";
    for way in WAYS {
        assert_eq!(stage.run(way, seeded).text(), "745 343", "{way:?}");
        let next = ["return math.random(1e9)", "return math.random(1e9)"].map(|body| {
            assert_eq!(stage.run(way, "math.randomseed(42) return 1").integer(), 1);
            stage.run(way, body).integer()
        });
        assert_ne!(next[0], next[1], "{way:?}");
    }
    stage.end();
}
