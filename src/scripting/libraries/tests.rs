//! Compares the libraries with what a Valkey 9.1.2 server answered: the tables in `expectations` hold one Lua
//! expression a line and the server's answer behind it, both run with `prelude.lua` in front.

use std::ffi::c_int;

use mlua_sys::lua51 as ffi;
use mlua_sys::lua51::lua_State;

const PRELUDE: &str = include_str!("expectations/prelude.lua");

/// A Lua state with the base libraries and ours.
struct Lua(*mut lua_State);

impl Lua {
    fn new() -> Self {
        // SAFETY: a fresh state; the openers are called as Lua functions.
        unsafe {
            let state = ffi::luaL_newstate();
            let openers = [
                ffi::luaopen_base as unsafe extern "C-unwind" fn(*mut lua_State) -> c_int,
                ffi::luaopen_string,
                ffi::luaopen_table,
                ffi::luaopen_math,
            ];
            for opener in openers {
                ffi::lua_pushcclosure(state, opener, 0);
                ffi::lua_call(state, 0, 0);
            }
            super::open(state);
            assert_eq!(ffi::lua_gettop(state), 0, "open leaves the stack as it was");
            Self(state)
        }
    }

    /// Runs a chunk named like a script and answers the string it returns, or its error.
    fn run(&self, source: &str) -> String {
        // SAFETY: the state lives as long as self, and nothing is alive on Rust frames below the protected call.
        unsafe {
            let name = c"@user_script".as_ptr();
            let loaded = ffi::luaL_loadbuffer(self.0, source.as_ptr().cast(), source.len(), name);
            if loaded == ffi::LUA_OK {
                ffi::lua_pcall(self.0, 0, 1, 0);
            }
            let mut length = 0;
            let bytes = ffi::lua_tolstring(self.0, -1, &raw mut length);
            assert!(!bytes.is_null(), "the chunk answers with a string");
            let text = std::slice::from_raw_parts(bytes.cast::<u8>(), length);
            let text = String::from_utf8_lossy(text).into_owned();
            ffi::lua_settop(self.0, 0);
            text
        }
    }

    fn show(&self, body: &str) -> String {
        let is_statement = body.starts_with("local ") || body.starts_with("seed(");
        let body = if is_statement { body.to_owned() } else { format!("return {body}") };
        self.run(&format!("{PRELUDE}return show_results(pcall(function() {body} end))"))
    }
}

impl Drop for Lua {
    fn drop(&mut self) {
        // SAFETY: made by luaL_newstate, closed once.
        unsafe { ffi::lua_close(self.0) }
    }
}

fn check(table: &str) {
    let lua = Lua::new();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for line in table.lines() {
        let (body, expected) = line.split_once(" --> ").expect("an expression and its answer");
        let answer = lua.show(body);
        checked += 1;
        if answer != expected {
            wrong.push(format!("{body}\n  expected {expected}\n  got      {answer}"));
        }
    }
    assert!(checked > 100);
    assert!(wrong.is_empty(), "{} of {checked} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn cjson_answers_as_valkey() {
    check(include_str!("expectations/cjson.txt"));
}

#[test]
fn cmsgpack_answers_as_valkey() {
    check(include_str!("expectations/cmsgpack.txt"));
}

#[test]
fn struct_answers_as_valkey() {
    check(include_str!("expectations/struct.txt"));
}

#[test]
fn bit_answers_as_valkey() {
    check(include_str!("expectations/bit.txt"));
}

#[test]
fn settings_of_the_global_module_last_until_the_reset() {
    let lua = Lua::new();
    assert_eq!(
        lua.show("cjson.encode_max_depth(1), cjson.encode_number_precision(3), cjson.encode(1/3)"),
        "1, 3, \"0.333\""
    );
    assert_eq!(
        lua.show("cjson.encode({{}})"),
        "error: user_script:97: Cannot serialise, excessive nesting (2)"
    );
    // SAFETY: the state has the libraries, and none of them runs.
    unsafe { super::reset_settings(lua.0) };
    assert_eq!(
        lua.show("cjson.encode_max_depth(), cjson.encode({{}}), cjson.encode(1/3)"),
        "1000, \"[{}]\", \"0.33333333333333\""
    );
}

#[test]
fn settings_of_a_private_module_are_its_own() {
    let lua = Lua::new();
    lua.run("private = cjson.new() private.encode_max_depth(1) return ''");
    // SAFETY: as above.
    unsafe { super::reset_settings(lua.0) };
    assert_eq!(lua.show("private.encode_max_depth(), cjson.encode_max_depth()"), "1, 1000");
}

#[test]
fn values_survive_a_round_trip() {
    let lua = Lua::new();
    let same = |codec: &str| {
        format!(
            "fuzz(1, 2000, function() local value = {{random_value(0)}} \
             assert(show({codec}) == show(value)) end)"
        )
    };
    let failures = ", 0";
    assert!(lua.show(&same("cmsgpack.unpack(cmsgpack.pack(value))")).ends_with(failures));
    let text = "local function survives(text) return cjson.decode(cjson.encode({text}))[1] == text end \
                return fuzz(1, 2000, function() assert(survives(random_bytes(random(100)))) end)";
    assert!(lua.show(text).ends_with(failures));
    let numbers = "fuzz(1, 2000, function() local number = random_number() \
                   if number == 1/0 or number == -1/0 then return end \
                   assert(struct.unpack('>d', struct.pack('>d', number)) == number) \
                   assert(cjson.decode(cjson.encode(number)) == tonumber(string.format('%.14g', number))) end)";
    assert!(lua.show(numbers).ends_with(failures));
}

/// An allocator that counts what is out, and refuses to go beyond a limit.
struct Meter {
    used: usize,
    limit: usize,
}

unsafe extern "C" fn metered(
    meter: *mut std::ffi::c_void,
    block: *mut std::ffi::c_void,
    old: usize,
    new: usize,
) -> *mut std::ffi::c_void {
    // SAFETY: `meter` outlives the state; the sizes are those that Lua and the scratch keep for each block.
    unsafe {
        let meter = &mut *meter.cast::<Meter>();
        if new > old && meter.used + (new - old) > meter.limit {
            return std::ptr::null_mut();
        }
        meter.used = meter.used - old + new;
        if new == 0 {
            libc::free(block);
            return std::ptr::null_mut();
        }
        libc::realloc(block, new)
    }
}

#[test]
fn memory_is_the_states_own_and_its_end_is_an_error() {
    let mut meter = Meter { used: 0, limit: usize::MAX };
    // SAFETY: the meter outlives the state, and the state is closed once.
    unsafe {
        let state = ffi::lua_newstate(metered, (&raw mut meter).cast());
        for opener in
            [ffi::luaopen_base as unsafe extern "C-unwind" fn(*mut lua_State) -> c_int, ffi::luaopen_string]
        {
            ffi::lua_pushcclosure(state, opener, 0);
            ffi::lua_call(state, 0, 0);
        }
        super::open(state);
        let lua = Lua(state);
        lua.run("text = string.rep('/', 100000) return ''");
        meter.limit = meter.used + 150_000;
        let answer = lua.run("local _, message = pcall(cjson.encode, text) return message");
        assert_eq!(answer, "not enough memory");
        meter.limit = usize::MAX;
        let before = meter.used;
        assert_eq!(lua.run("return tostring(#cjson.encode(text))"), "200002");
        assert!(meter.used > before + 100_000, "the buffer is kept");
        super::reset_settings(state);
        drop(lua);
    }
    assert_eq!(meter.used, 0, "everything is given back");
}
