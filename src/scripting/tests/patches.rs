//! One test for each patch of `build/lua_patches.rs`, which fails without it.

use super::*;

#[test]
fn bytecode_is_not_loaded() {
    assert_eq!(
        eval("local f, e = loadstring(string.dump(function() return 1 end)) return {f == nil, type(e)}"),
        "[1 \"string\"]"
    );
    let shown = eval("\u{1b}Lua");
    assert!(shown.starts_with("-ERR Error compiling script (new function): "), "{shown}");
}

#[test]
fn the_name_of_a_chunk_is_not_collected() {
    // A reader that has nothing at first is asked again when the parser already has the name, which is cut at the
    // zero byte, so that nobody else holds it. Without the anchor it is collected and overwritten here.
    let body = "for i = 1, 50 do local asked = 0 local function reader() asked = asked + 1 \
                if asked == 1 then return nil elseif asked == 2 then collectgarbage() \
                local t = {} for j = 1, 2000 do t[j] = '=other' .. i .. '/' .. j end return ' ! ' end end \
                local f, e = load(reader, '=chunk' .. i .. '\\0') \
                if e ~= 'chunk' .. i .. \":1: unexpected symbol near '!'\" then return e end end return 'kept'";
    assert_eq!(eval(body), "\"kept\"");
}

#[test]
fn unpack_counts_unsigned() {
    assert!(eval("return unpack({}, -2147483648, 2147483647)").contains("too many results to unpack"));
    assert!(eval("return unpack({}, 0, 2147483647)").contains("too many results to unpack"));
    assert_eq!(eval("return {unpack({1, 2, 3}, 2, 3)}"), "[2 3]");
}

#[test]
fn long_brackets_have_a_highest_level() {
    let shown = eval(
        "return loadstring('return [' .. string.rep('=', 100001) .. '[x]' .. string.rep('=', 100001) .. ']') == nil",
    );
    assert_eq!(shown, "1");
    assert_eq!(eval("return loadstring('return [==[x]==]')()"), "\"x\"");
}

#[test]
fn every_setter_respects_read_only_tables() {
    let refused = "Attempt to modify a readonly table";
    for body in [
        "string.x = 1",
        "string['x'] = 1",
        "string[1] = 1",
        "rawset(string, 'x', 1)",
        "setmetatable(string, {})",
        "table.insert(string, 1)",
        "setmetatable(string, nil)",
    ] {
        assert!(eval(body).contains(refused), "{body}: {}", eval(body));
    }
    assert!(eval("local t = setmetatable({}, {__newindex = string}) t.x = 1").contains(refused));
}

#[test]
fn strings_are_built_right() {
    assert_eq!(eval("return #string.rep('abc', 100000)"), "300000");
    assert_eq!(
        eval(
            "return string.rep('abc', 100000) == table.concat({string.rep('abc', 50000), string.rep('abc', 50000)})"
        ),
        "1"
    );
    assert_eq!(eval("return string.rep('ab', 10000):reverse() == string.rep('ba', 10000)"), "1");
    assert_eq!(eval("return string.rep('ab', 10000):upper() == string.rep('AB', 10000)"), "1");
    assert_eq!(
        eval("return {string.rep('', 1e9), string.rep('x', 0), string.rep('x', -1)}"),
        "[\"\" \"\" \"\"]"
    );
    assert_eq!(eval("return {string.gsub(string.rep('a', 20000), 'a', 'bb')}").len(), 40000 + 10);
    assert_eq!(
        eval("return string.format('%s|%5d|%q', string.rep('x', 3), 42, 'a\"b')"),
        "\"xxx|   42|\\\"a\\\\\\\"b\\\"\""
    );
    assert_eq!(eval("return {string.find('hello world', 'o w', 1, true)}"), "[5 7]");
    assert_eq!(eval("return string.match('key=value', '(%w+)=(%w+)')"), "\"key\"");
}

#[test]
fn patterns_nest_only_so_deep() {
    assert!(
        eval("return string.find(string.rep('a', 5000), string.rep('a?', 5000))")
            .contains("pattern too complex")
    );
    assert_eq!(eval("return string.find(string.rep('a', 300), string.rep('a?', 300))"), "1");
}

#[test]
fn the_environment_of_the_thread_stays() {
    assert!(eval("setfenv(0, {})").contains("level must be positive"));
    assert_eq!(eval("return getfenv(0) == _G"), "1");
    assert_eq!(eval("local f = setfenv(function() return x end, {x = 5}) return f()"), "5");
}

#[test]
fn fields_come_in_valkeys_order() {
    // As Valkey 9.1.2 answers it.
    let body = "local t, names = {alpha = 1, beta = 2, gamma = 3, delta = 4, epsilon = 5, zeta = 6, eta = 7, x = 8}, {} \
                for name in pairs(t) do names[#names + 1] = name end return table.concat(names, ' ')";
    assert_eq!(eval(body), "\"x zeta eta beta delta alpha gamma epsilon\"");
}
