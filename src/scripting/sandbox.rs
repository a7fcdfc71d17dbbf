//! What scripts and functions find in a new Lua state, and what they must not change. Builds the state; knows
//! nothing of running in it.

use std::ffi::CStr;
use std::os::raw::{c_char, c_int};

use mlua_sys::lua51::*;

use super::api;
use super::debugger;
use super::libraries;

unsafe extern "C-unwind" {
    fn lua_setreadonly(lua: *mut lua_State, index: c_int, readonly: c_int);
    fn lua_isreadonly(lua: *mut lua_State, index: c_int) -> c_int;
}

/// The version that scripts written for Redis look for.
const REDIS_VERSION: (&CStr, u32) = (c"7.2.4", 0x0007_0204);
/// The version of Valkey whose behaviour this is.
const VALKEY_VERSION: (&CStr, u32) = (c"9.1.2", 0x0009_0102);

/// What a state is for; the two kinds have different globals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// EVAL and its relatives: the globals `KEYS` and `ARGV`.
    Scripts,
    /// FUNCTION and FCALL: while a library loads it sees little but `register_function`.
    Functions,
}

/// What the scripts of a state find that others do not; bits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Features(u8);

impl Features {
    /// `lua-enable-insecure-api`: `getfenv`, `setfenv` and `newproxy`.
    const INSECURE_API: u8 = 1;
    /// The functions of the API that a debugger hears of.
    const DEBUGGED: u8 = 2;

    pub(super) fn new(insecure_api: bool) -> Self {
        Features(if insecure_api { Self::INSECURE_API } else { 0 })
    }

    pub(super) fn debugged(self) -> Self {
        Features(self.0 | Self::DEBUGGED)
    }

    fn has(self, feature: u8) -> bool {
        self.0 & feature != 0
    }
}

/// Registry references of tables that the engine switches between.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Globals {
    /// For functions: the metatable of the globals, whose `__index` says what is visible.
    metatable: c_int,
    /// For functions: what a library sees while it loads.
    loading: c_int,
    /// For functions: what a function sees.
    running: c_int,
}

/// Fills a new state, with nothing left on its stack.
///
/// # Safety
/// `lua` is a new state, and its memory is not limited. Errors for want of memory are raised.
pub(super) unsafe fn fill(lua: *mut lua_State, kind: Kind, features: Features) -> Globals {
    // SAFETY: passed on to the caller.
    unsafe {
        for open in [luaopen_base, luaopen_table, luaopen_string, luaopen_math] {
            lua_pushcclosure(lua, open, 0);
            lua_call(lua, 0, 0);
        }
        let insecure = [c"getfenv", c"setfenv", c"newproxy"];
        let hidden = if features.has(Features::INSECURE_API) { &insecure[..0] } else { &insecure };
        for name in [c"dofile", c"loadfile", c"print"].iter().chain(hidden) {
            lua_pushnil(lua);
            lua_setglobal(lua, name.as_ptr());
        }
        libraries::open(lua);
        lua_createtable(lua, 0, 1);
        set_function(lua, c"clock", api::clock);
        lua_setglobal(lua, c"os".as_ptr());
        lua_getglobal_(lua, c"math".as_ptr());
        set_function(lua, c"random", api::random);
        set_function(lua, c"randomseed", api::randomseed);
        lua_settop(lua, 0);
        lua_pushcclosure(lua, api::pcall, 0);
        lua_setglobal(lua, c"pcall".as_ptr());

        push_api(lua, kind);
        if features.has(Features::DEBUGGED) {
            set_debugged_functions(lua);
        }
        lua_pushvalue(lua, -1);
        lua_setglobal(lua, c"server".as_ptr());
        lua_setglobal(lua, c"redis".as_ptr());
        if kind == Kind::Scripts {
            for name in [c"__server__err__handler", c"__redis__err__handler"] {
                lua_pushcclosure(lua, api::error_handler, 0);
                lua_setglobal(lua, name.as_ptr());
            }
        }

        lua_pushvalue(lua, LUA_GLOBALSINDEX);
        refuse_missing(lua);
        protect(lua);
        lua_settop(lua, 0);
        // The metatable that all strings share.
        push_empty_string(lua);
        if lua_getmetatable(lua, -1) != 0 {
            protect(lua);
        }
        lua_settop(lua, 0);
        match kind {
            Kind::Scripts => Globals::default(),
            Kind::Functions => separate_loading(lua),
        }
    }
}

unsafe fn push_empty_string(lua: *mut lua_State) {
    // SAFETY: passed on to the caller.
    unsafe { lua_pushlstring_(lua, c"".as_ptr(), 0) };
}

/// Makes the globals of functions an empty table that shows, through its metatable, either the full globals or,
/// while a library loads, only the API for loading.
unsafe fn separate_loading(lua: *mut lua_State) -> Globals {
    // SAFETY: passed on to the caller of `fill`.
    unsafe {
        lua_pushvalue(lua, LUA_GLOBALSINDEX);
        let running = luaL_ref(lua, LUA_REGISTRYINDEX);

        lua_createtable(lua, 0, 2);
        lua_createtable(lua, 0, 12);
        set_function(lua, c"register_function", api::register_function);
        set_log(lua);
        set_versions(lua);
        refuse_missing(lua);
        lua_pushvalue(lua, -1);
        lua_setfield(lua, -3, c"server".as_ptr());
        lua_setfield(lua, -2, c"redis".as_ptr());
        refuse_missing(lua);
        protect(lua);
        let loading = luaL_ref(lua, LUA_REGISTRYINDEX);

        lua_createtable(lua, 0, 0);
        lua_createtable(lua, 0, 1);
        lua_rawgeti_(lua, LUA_REGISTRYINDEX, running);
        lua_setfield(lua, -2, c"__index".as_ptr());
        lua_pushvalue(lua, -1);
        let metatable = luaL_ref(lua, LUA_REGISTRYINDEX);
        lua_setreadonly(lua, -1, 1);
        lua_setmetatable(lua, -2);
        lua_setreadonly(lua, -1, 1);
        lua_replace(lua, LUA_GLOBALSINDEX);
        Globals { metatable, loading, running }
    }
}

impl Globals {
    /// Shows a library what it may use while it loads, or functions all they may use.
    ///
    /// # Safety
    /// `lua` is the state of kind `Functions` that these belong to, with a few free slots, and its memory is not
    /// limited.
    pub(super) unsafe fn show(&self, lua: *mut lua_State, loading: bool) {
        // SAFETY: the references are those of this state.
        unsafe {
            lua_rawgeti_(lua, LUA_REGISTRYINDEX, self.metatable);
            lua_setreadonly(lua, -1, 0);
            lua_rawgeti_(lua, LUA_REGISTRYINDEX, if loading { self.loading } else { self.running });
            lua_setfield(lua, -2, c"__index".as_ptr());
            lua_setreadonly(lua, -1, 1);
            lua_settop(lua, -2);
        }
    }
}

/// Sets the global `name` to the value on the top of the stack, past the protection, and pops it.
///
/// # Safety
/// `lua` is a state of kind `Scripts` with its memory not limited.
pub(super) unsafe fn set_global(lua: *mut lua_State, name: c_int) {
    // SAFETY: the globals are a table, and the reference is that of a string. Setting a name that is there already
    // needs no memory, and otherwise memory is not limited now.
    unsafe {
        lua_rawgeti_(lua, LUA_REGISTRYINDEX, name);
        lua_insert(lua, -2);
        lua_setreadonly(lua, LUA_GLOBALSINDEX, 0);
        lua_rawset(lua, LUA_GLOBALSINDEX);
        lua_setreadonly(lua, LUA_GLOBALSINDEX, 1);
    }
}

/// Pushes the global `name`, without what the protection would do for one that is missing.
///
/// # Safety
/// As for [`set_global`].
pub(super) unsafe fn push_global(lua: *mut lua_State, name: c_int) {
    // SAFETY: the globals are a table, and the reference is that of a string.
    unsafe {
        lua_rawgeti_(lua, LUA_REGISTRYINDEX, name);
        lua_rawget_(lua, LUA_GLOBALSINDEX);
    }
}

/// Pushes the table `redis`.
unsafe fn push_api(lua: *mut lua_State, kind: Kind) {
    // SAFETY: passed on to the caller of `fill`.
    unsafe {
        lua_createtable(lua, 0, 32);
        set_function(lua, c"call", api::call);
        set_function(lua, c"pcall", api::pcall_command);
        set_log(lua);
        set_versions(lua);
        set_function(lua, c"setresp", api::setresp);
        set_function(lua, c"sha1hex", api::sha1hex);
        set_function(lua, c"error_reply", api::error_reply);
        set_function(lua, c"status_reply", api::status_reply);
        set_function(lua, c"set_repl", api::set_repl);
        set_number(lua, c"REPL_NONE", 0);
        set_number(lua, c"REPL_AOF", 1);
        set_number(lua, c"REPL_SLAVE", 2);
        set_number(lua, c"REPL_REPLICA", 2);
        set_number(lua, c"REPL_ALL", 3);
        set_function(lua, c"acl_check_cmd", api::acl_check_cmd);
        if kind == Kind::Scripts {
            set_function(lua, c"breakpoint", api::breakpoint);
            set_function(lua, c"debug", api::debug);
            set_function(lua, c"replicate_commands", api::replicate_commands);
        }
    }
}

/// Replaces those of the table on the top of the stack that a debugger hears of.
unsafe fn set_debugged_functions(lua: *mut lua_State) {
    // SAFETY: passed on to the caller of `fill`.
    unsafe {
        set_function(lua, c"call", debugger::call);
        set_function(lua, c"pcall", debugger::pcall_command);
        set_function(lua, c"error_reply", debugger::error_reply);
        set_function(lua, c"breakpoint", debugger::breakpoint);
        set_function(lua, c"debug", debugger::debug);
    }
}

unsafe fn set_log(lua: *mut lua_State) {
    // SAFETY: passed on to the caller of `fill`.
    unsafe {
        set_function(lua, c"log", api::log);
        set_number(lua, c"LOG_DEBUG", 0);
        set_number(lua, c"LOG_VERBOSE", 1);
        set_number(lua, c"LOG_NOTICE", 2);
        set_number(lua, c"LOG_WARNING", 3);
    }
}

unsafe fn set_versions(lua: *mut lua_State) {
    // SAFETY: passed on to the caller of `fill`.
    unsafe {
        set_text(lua, c"REDIS_VERSION", REDIS_VERSION.0);
        set_number(lua, c"REDIS_VERSION_NUM", REDIS_VERSION.1);
        for (text, number) in
            [(c"VALKEY_VERSION", c"VALKEY_VERSION_NUM"), (c"SERVER_VERSION", c"SERVER_VERSION_NUM")]
        {
            set_text(lua, text, VALKEY_VERSION.0);
            set_number(lua, number, VALKEY_VERSION.1);
        }
        set_text(lua, c"SERVER_NAME", c"valkey");
    }
}

unsafe fn set_function(lua: *mut lua_State, name: &CStr, function: lua_CFunction) {
    // SAFETY: a table is on the top of the stack.
    unsafe {
        lua_pushcclosure(lua, function, 0);
        lua_setfield(lua, -2, name.as_ptr());
    }
}

unsafe fn set_number(lua: *mut lua_State, name: &CStr, number: u32) {
    // SAFETY: a table is on the top of the stack.
    unsafe {
        lua_pushnumber(lua, f64::from(number));
        lua_setfield(lua, -2, name.as_ptr());
    }
}

unsafe fn set_text(lua: *mut lua_State, name: &CStr, text: &CStr) {
    // SAFETY: a table is on the top of the stack.
    unsafe {
        lua_pushstring_(lua, text.as_ptr());
        lua_setfield(lua, -2, name.as_ptr());
    }
}

/// Lets the table on the top of the stack raise an error when a field is read that it does not have.
unsafe fn refuse_missing(lua: *mut lua_State) {
    // SAFETY: a table is on the top of the stack.
    unsafe {
        lua_createtable(lua, 0, 1);
        set_function(lua, c"__index", api::missing_global);
        lua_setmetatable(lua, -2);
    }
}

/// Makes the table on the top of the stack read-only, and all tables that can be reached from it. The tables are
/// those of this module and of the libraries: shallow.
unsafe fn protect(lua: *mut lua_State) {
    // SAFETY: a table is on the top of the stack; a few slots are made free for each level.
    unsafe {
        luaL_checkstack_(lua, 8, c"tables nested too deeply".as_ptr() as *const c_char);
        let before = lua_gettop(lua);
        lua_setreadonly(lua, -1, 1);
        lua_pushnil(lua);
        while lua_next(lua, -2) != 0 {
            if lua_type(lua, -1) == LUA_TTABLE && lua_isreadonly(lua, -1) == 0 {
                protect(lua);
            }
            lua_settop(lua, -2);
        }
        if lua_getmetatable(lua, -1) != 0 {
            if lua_isreadonly(lua, -1) == 0 {
                protect(lua);
            }
            lua_settop(lua, -2);
        }
        debug_assert_eq!(lua_gettop(lua), before);
    }
}
