//! Scripts that take all the memory they get. With `script-max-memory` they end, and what they took comes back.

use super::{Stage, WAYS};

#[test]
fn bombs_go_off_at_the_limit() {
    let mut stage = Stage::new(&["--script-max-memory", "64mb"]);
    for body in [
        "return ('a'):rep(1e9)",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local t = {} for i = 1, 1e9 do t[i] = 'x' .. i end",
        "local s = 'a' while true do s = s .. s end",
        "local t = {} while true do t = {t} end",
        "local t = {} while true do t[#t + 1] = function() return t end end",
        "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
        "local t = {} while true do t[#t + 1] = newproxy(true) end",
        "local t = {} while true do pcall(function() while true do t = {t, {}} end end) end",
        "local t = {} while true do xpcall(function() while true do t = {t} end end, function() t = {t} end) end",
        "pcall(string.rep, 'a', 1e9) return 'caught'",
        "local t = {} while true do t[#t + 1] = redis.call('GET', 'kept') .. #t end",
        "local t = {} while true do t[#t + 1] = redis.call('ECHO', ('a'):rep(1e6) .. #t) end",
        "local t = {} for i = 1, 24 do t = {t, t} end return t",
        "return table.concat({('x'):rep(3e7), ('y'):rep(3e7), ('z'):rep(3e7)})",
        "return ('x'):rep(1e6):gsub('x', ('y'):rep(1e6))",
        "return ('%s%s'):format(('x'):rep(4e7), ('y'):rep(4e7))",
        "return cjson.decode('[' .. ('[],'):rep(5e6) .. '1]')",
        "local t = {} for i = 1, 1e6 do t[i] = ('x'):rep(20) end return cjson.encode({t, t, t, t, t})",
        "return #cmsgpack.unpack('\\221\\0\\76\\75\\64' .. ('\\144'):rep(5e6))",
        "local s = ('x'):rep(1e6) local t = {} for i = 1, 1e3 do t[i] = s end return cmsgpack.pack(t)",
        "local s = ('x'):rep(3e7) return struct.pack('sss', s, s, s)",
        "return loadstring('return {' .. ('{},'):rep(2e7) .. '}')",
        "return loadstring('return \"' .. ('x'):rep(3e7) .. '\"')()",
        "return ('x'):rep(3e7):upper():lower():reverse() .. ('x'):rep(3e7)",
        "return tostring(setmetatable({}, {__tostring = function() return ('x'):rep(1e9) end}))",
        "return redis.error_reply(('x'):rep(1e9))",
        "return {err = ('x'):rep(4e7), ok = ('y'):rep(4e7)}",
    ] {
        for way in WAYS {
            let reply = stage.run(way, body);
            assert!(
                reply.is_error()
                    && reply.text().contains("Script used more memory than 'script-max-memory' allows"),
                "{way:?} {body}: {reply:?}"
            );
        }
    }
    stage.end();
}

/// The limit is changed while the server runs.
#[test]
fn the_limit_can_be_changed() {
    let mut stage = Stage::new(&["--script-max-memory", "0"]);
    let body = "return #('a'):rep(5e7)";
    for way in WAYS {
        assert_eq!(stage.run(way, body).text(), "50000000", "{way:?}");
    }
    stage.other.ok("CONFIG SET script-max-memory 20mb");
    for way in WAYS {
        let reply = stage.run(way, body);
        assert!(reply.is_error() && reply.text().contains("script-max-memory"), "{way:?}: {reply:?}");
    }
    stage.other.ok("CONFIG SET script-max-memory 0");
    for way in WAYS {
        assert_eq!(stage.run(way, body).text(), "50000000", "{way:?}");
    }
    stage.end();
}

/// What one script leaves behind as garbage is not the next one's, however many there are.
#[test]
fn memory_comes_back_without_a_limit() {
    let mut stage = Stage::new(&["--script-max-memory", "0"]);
    for round in 0..5 {
        for body in [
            "return #('x'):rep(6e7)",
            "local t = {} for i = 1, 1e6 do t[i] = {i} end return #t",
            "return #redis.error_reply(('x'):rep(6e7)).err",
            "return #redis.status_reply(('x'):rep(6e7)).ok",
            "return #redis.call('ECHO', ('x'):rep(6e7))",
            "return #cjson.encode(('x'):rep(3e7))",
            "redis.log(redis.LOG_DEBUG, ('x'):rep(6e7)) return 1",
            "return {err = ('x'):rep(6e7)}",
            "return #tostring(pcall(error, ('x'):rep(6e7)))",
        ] {
            for way in WAYS {
                let _ = stage.run(way, &format!("--{round}\n{body}"));
            }
        }
    }
    // Killed in the middle of compiling, of a pattern, of a long string.
    for body in [
        "while true do loadstring('return \"' .. ('x'):rep(3e7) .. '\" ' .. ('+ 1 '):rep(1e5)) end",
        "local s = ('x'):rep(6e7) while true do s:gsub('x', 'y') end",
        "while true do cjson.encode(('x'):rep(3e7)) end",
        "while true do redis.call('ECHO', ('x'):rep(6e7)) end",
    ] {
        for _ in 0..3 {
            for way in WAYS {
                stage.kill(way, body);
            }
        }
    }
    stage.end();
}
