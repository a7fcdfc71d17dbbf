//! The functions of the tables `redis` and `server`, and the few globals that replace Lua's own.
//!
//! Each is called by Lua on the script's fiber. Invariant: none has anything with a destructor on its frame when
//! it calls into Lua, which may jump over it, or spends work, which may suspend it; such things lie in the
//! [`Context`]. The host is called, and its reply converted, without a point at which the script can be left.

use std::mem;
use std::os::raw::{c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use mlua_sys::lua51::*;
use sha1::{Digest, Sha1};

use super::context::{self, Context};
use super::convert::{
    NUMBER_TEXT_BYTES, append_number, c_text, error_text, push_bytes, push_error, push_reply, string_at,
};
use super::fiber::Event;
use super::flags::{ScriptFlags, valid_name};
use super::functions::LoadedFunction;
use super::host::{EffectTargets, LogLevel, ScriptHost};
use super::ticks::work;
use crate::protocol::Reply;

/// A string that lies in Lua.
#[derive(Clone, Copy)]
#[repr(C)]
struct LuaBytes {
    start: *const u8,
    length: usize,
}

unsafe extern "C-unwind" {
    /// The arguments of the running function if all are strings and at most `most`; returns how many, or -1.
    fn lua_stringarguments(lua: *mut lua_State, bytes: *mut LuaBytes, most: c_int) -> c_int;
    /// Makes a string the only thing on the stack. May raise for want of memory.
    fn lua_stringresult(lua: *mut lua_State, start: *const c_char, length: usize);
    /// Does the running function's caller drop whatever it returns?
    fn lua_wantsnothing(lua: *mut lua_State) -> c_int;
}

/// Calls with more arguments than this, or with numbers among them, are looked at one by one.
const FEW_ARGUMENTS: usize = 8;

/// What a call of a command costs in units of work, beside its reply: the clock is looked at every few calls.
const CALL_WORK: usize = 256;

/// Pushes `{err = "ERR …"}`.
unsafe fn push_own_error(lua: *mut lua_State, message: &'static str) {
    // SAFETY: passed on to the caller.
    unsafe {
        let context = context::of(lua);
        let text = &mut (*context).text;
        text.clear();
        text.extend_from_slice(b"ERR ");
        text.extend_from_slice(message.as_bytes());
        push_error(lua, &(*context).names, &(*context).text, false);
    }
}

/// Raises `{err = "ERR …"}`.
unsafe fn raise(lua: *mut lua_State, message: &'static str) -> c_int {
    // SAFETY: no frame of ours holds a destructor.
    unsafe {
        push_own_error(lua, message);
        lua_error(lua)
    }
}

/// `redis.call`: an error of the command is raised.
pub(super) unsafe extern "C-unwind" fn call(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { run_command::<Unheard>(lua, true) }
}

/// `redis.pcall`: an error of the command is returned.
pub(super) unsafe extern "C-unwind" fn pcall_command(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { run_command::<Unheard>(lua, false) }
}

/// Hears of commands that a script calls.
///
/// # Safety
/// Neither function calls into Lua, raises or suspends.
pub(super) unsafe trait Listener {
    /// A command is about to be called.
    ///
    /// # Safety
    /// The arguments lie in the context, or in Lua.
    unsafe fn called(context: *mut Context, arguments: &[&[u8]]);

    /// It has been answered.
    ///
    /// # Safety
    /// The context is live.
    unsafe fn answered(context: *mut Context, reply: &Reply<'_>);
}

/// Nobody listens, and nothing is spent on that.
struct Unheard;

// SAFETY: they do nothing.
unsafe impl Listener for Unheard {
    unsafe fn called(_context: *mut Context, _arguments: &[&[u8]]) {}

    unsafe fn answered(_context: *mut Context, _reply: &Reply<'_>) {}
}

/// Calls the command in the arguments on the stack.
///
/// # Safety
/// Runs as a function that Lua called.
pub(super) unsafe fn run_command<L: Listener>(lua: *mut lua_State, raises: bool) -> c_int {
    // SAFETY: called by Lua with its arguments on the stack. The argument slices point into strings that stay on
    // the stack until the host is done with them.
    unsafe {
        let context = context::of(lua);
        work(lua, CALL_WORK + mem::take(&mut (*context).reply_elements));
        if let Err(message) = collect_arguments(lua, context) {
            push_own_error(lua, message);
            return if raises { lua_error(lua) } else { 1 };
        }
        let answer = ask(lua, context, |host, arguments| {
            L::called(context, arguments);
            let reply = host.call(arguments);
            L::answered(context, &reply);
            match reply {
                // SAFETY: it is read before the host is used again.
                Reply::Bulk(bytes) => Answer::Bytes(mem::transmute::<&[u8], &'static [u8]>(bytes)),
                reply => {
                    let failed = matches!(reply, Reply::Error(_));
                    // SAFETY: the reply is read before the host is used again, and dropped afterwards without looking at
                    // what it borrows.
                    (*context).command_reply = mem::transmute::<Reply<'_>, Reply<'static>>(reply);
                    Answer::Kept { failed }
                }
            }
        });
        match answer {
            // To make a value that nobody sees is most of what a call of a write command costs in Lua.
            Answer::Bytes(_) if lua_wantsnothing(lua) != 0 => 0,
            Answer::Kept { failed: false } if lua_wantsnothing(lua) != 0 => {
                (*context).command_reply = Reply::None;
                0
            }
            Answer::Bytes(bytes) => {
                lua_stringresult(lua, bytes.as_ptr().cast(), bytes.len());
                1
            }
            Answer::Kept { failed } => {
                lua_settop(lua, 0);
                push_reply(lua, context, &(*context).command_reply);
                (*context).command_reply = Reply::None;
                if failed && raises { lua_error(lua) } else { 1 }
            }
        }
    }
}

/// What a command answered a script.
enum Answer {
    /// A string that lies in the dataset, which is what most scripts ask for most often.
    Bytes(&'static [u8]),
    /// Anything else, in the context.
    Kept { failed: bool },
}

/// Calls the host with the collected arguments. If it panics the script is never gone on with.
#[inline]
unsafe fn ask<R>(
    lua: *mut lua_State,
    context: *mut Context,
    question: impl FnOnce(&mut dyn ScriptHost, &[&[u8]]) -> R,
) -> R {
    // SAFETY: the host is there while the fiber runs, and nobody else uses it meanwhile.
    unsafe {
        let marker = 0u8;
        let Some(mut host) = (*context).host else {
            luaL_error(lua, c"no server to call from here".as_ptr());
            unreachable!("luaL_error does not return");
        };
        if (&raw const marker).addr() < (*context).stack_floor {
            luaL_error(lua, c"C stack overflow".as_ptr());
        }
        let arguments = &(&(*context).arguments)[..];
        match catch_unwind(AssertUnwindSafe(|| question(host.as_mut(), arguments))) {
            Ok(answer) => answer,
            Err(panic) => {
                (*context).panic = Some(panic);
                context::suspend_for_good(context, Event::HostPanicked)
            }
        }
    }
}

/// Fills `context.arguments` from the stack.
unsafe fn collect_arguments(lua: *mut lua_State, context: *mut Context) -> Result<(), &'static str> {
    // SAFETY: the slices point into strings on the stack, or into `number_text`, which does not grow meanwhile.
    unsafe {
        let arguments = &mut (*context).arguments;
        arguments.clear();
        let mut few = [LuaBytes { start: std::ptr::null(), length: 0 }; FEW_ARGUMENTS];
        if let 1.. = lua_stringarguments(lua, few.as_mut_ptr(), FEW_ARGUMENTS as c_int) {
            let strings = few.iter().take_while(|bytes| !bytes.start.is_null());
            arguments.extend(strings.map(|bytes| slice::from_raw_parts(bytes.start, bytes.length)));
            return Ok(());
        }
        let count = lua_gettop(lua);
        if count == 0 {
            return Err("Please specify at least one argument for this call");
        }
        let number_text = &mut (*context).number_text;
        number_text.clear();
        for index in 1..=count {
            let argument: &'static [u8] = match lua_type(lua, index) {
                LUA_TSTRING => {
                    let mut len = 0;
                    let start = lua_tolstring(lua, index, &mut len);
                    slice::from_raw_parts(start.cast(), len)
                }
                LUA_TNUMBER => {
                    // No reallocation below: the texts that are already pointed at stay.
                    if number_text.is_empty() {
                        number_text.reserve(count as usize * NUMBER_TEXT_BYTES);
                    }
                    let start = number_text.len();
                    append_number(number_text, lua_tonumber(lua, index));
                    slice::from_raw_parts(number_text.as_ptr().add(start), number_text.len() - start)
                }
                _ => return Err("Command arguments must be strings or integers"),
            };
            arguments.push(argument);
        }
        Ok(())
    }
}

/// `redis.acl_check_cmd`.
pub(super) unsafe extern "C-unwind" fn acl_check_cmd(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let context = context::of(lua);
        if let Err(message) = collect_arguments(lua, context) {
            return raise(lua, message);
        }
        match ask(lua, context, |host, arguments| host.acl_check(arguments)) {
            Some(allowed) => {
                lua_settop(lua, 0);
                lua_pushboolean(lua, c_int::from(allowed));
                1
            }
            None => raise(lua, "Invalid command passed to server.acl_check_cmd()"),
        }
    }
}

/// `redis.error_reply`.
pub(super) unsafe extern "C-unwind" fn error_reply(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        match string_at(lua, 1) {
            Some(text) if lua_gettop(lua) == 1 => {
                let context = context::of(lua);
                let text = c_text(text);
                error_text(text.strip_prefix(b"-").unwrap_or(text), &mut (*context).text);
                push_error(lua, &(*context).names, &(*context).text, false);
            }
            _ => push_own_error(lua, "wrong number or type of arguments"),
        }
        1
    }
}

/// `redis.status_reply`.
pub(super) unsafe extern "C-unwind" fn status_reply(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        if lua_gettop(lua) != 1 || lua_type(lua, 1) != LUA_TSTRING {
            push_own_error(lua, "wrong number or type of arguments");
            return 1;
        }
        lua_createtable(lua, 0, 1);
        lua_rawgeti_(lua, LUA_REGISTRYINDEX, (*context::of(lua)).names.ok);
        lua_pushvalue(lua, 1);
        lua_rawset(lua, -3);
        1
    }
}

/// `redis.sha1hex`.
pub(super) unsafe extern "C-unwind" fn sha1hex(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        if lua_gettop(lua) != 1 {
            return raise(lua, "wrong number of arguments");
        }
        let mut len = 0;
        let start = lua_tolstring(lua, 1, &mut len);
        let bytes = if start.is_null() { &[][..] } else { slice::from_raw_parts(start.cast::<u8>(), len) };
        let mut hash = Sha1::new();
        for block in bytes.chunks(16 << 10) {
            hash.update(block);
            work(lua, 2048);
        }
        let digest = super::scripts::ScriptDigest(hash.finalize().into());
        push_bytes(lua, &digest.hex());
        1
    }
}

/// `redis.log`.
pub(super) unsafe extern "C-unwind" fn log(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let count = lua_gettop(lua);
        if count < 2 {
            return raise(lua, "server.log() requires two arguments or more.");
        }
        if lua_isnumber(lua, 1) == 0 {
            return raise(lua, "First argument must be a number (log level).");
        }
        let level = match lua_tonumber(lua, 1) as i64 {
            0 => LogLevel::Debug,
            1 => LogLevel::Verbose,
            2 => LogLevel::Notice,
            3 => LogLevel::Warning,
            _ => return raise(lua, "Invalid log level."),
        };
        let context = context::of(lua);
        (*context).text.clear();
        for index in 2..=count {
            let mut len = 0;
            let start = lua_tolstring(lua, index, &mut len);
            if !start.is_null() {
                let text = &mut (*context).text;
                if index > 2 {
                    text.push(b' ');
                }
                text.extend_from_slice(slice::from_raw_parts(start.cast(), len));
            }
        }
        ask(lua, context, |host, _| host.log(level, &(*context).text));
        0
    }
}

/// `redis.setresp`.
pub(super) unsafe extern "C-unwind" fn setresp(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        if lua_gettop(lua) != 1 {
            return raise(lua, "server.setresp() requires one argument.");
        }
        let version = match lua_tonumber(lua, 1) as i64 {
            2 => 2,
            3 => 3,
            _ => return raise(lua, "RESP version must be 2 or 3."),
        };
        let context = context::of(lua);
        (*context).protocol = version;
        ask(lua, context, |host, _| host.set_response_protocol(version));
        0
    }
}

/// `redis.set_repl`.
pub(super) unsafe extern "C-unwind" fn set_repl(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        if lua_gettop(lua) != 1 {
            return raise(lua, "server.set_repl() requires one argument.");
        }
        let flags = lua_tonumber(lua, 1) as i64;
        if flags & !3 != 0 {
            return raise(
                lua,
                "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
            );
        }
        let targets = EffectTargets { aof: flags & 1 != 0, replicas: flags & 2 != 0 };
        ask(lua, context::of(lua), |host, _| host.set_effect_targets(targets));
        0
    }
}

/// `redis.replicate_commands`: effects are always what is replicated.
pub(super) unsafe extern "C-unwind" fn replicate_commands(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { lua_pushboolean(lua, 1) };
    1
}

/// `redis.breakpoint`, where there is no debugger to stop in.
pub(super) unsafe extern "C-unwind" fn breakpoint(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { lua_pushboolean(lua, 0) };
    1
}

/// `redis.debug`, where there is no debugger to print to.
pub(super) unsafe extern "C-unwind" fn debug(_lua: *mut lua_State) -> c_int {
    0
}

/// `redis.register_function`, in a library that is being loaded.
pub(super) unsafe extern "C-unwind" fn register_function(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua. What is registered is moved into the context before anything can raise.
    unsafe {
        let context = context::of(lua);
        if (*context).loading.is_none() {
            return raise(lua, "server.register_function can only be called on FUNCTION LOAD command");
        }
        let read = match lua_gettop(lua) {
            1 => read_named_arguments(lua),
            2 => read_positional_arguments(lua),
            _ => Err("wrong number of arguments to server.register_function"),
        };
        let registration = match read {
            Ok(registration) => registration,
            Err(message) => return raise(lua, message),
        };
        let Some(name) = valid_name(registration.name) else {
            return raise(
                lua,
                "Library names can only contain letters, numbers, or underscores(_) and must be at least one \
                 character long",
            );
        };
        lua_pushvalue(lua, registration.callback);
        let reference = luaL_ref(lua, LUA_REGISTRYINDEX);
        let added = match &mut (*context).loading {
            Some(functions) if functions.iter().any(|function| function.name == name) => false,
            Some(functions) => {
                functions.push(LoadedFunction {
                    name: name.to_owned(),
                    description: registration.description.map(<[u8]>::to_vec),
                    flags: registration.flags,
                    reference,
                });
                true
            }
            None => false,
        };
        if added {
            return 0;
        }
        luaL_unref(lua, LUA_REGISTRYINDEX, reference);
        raise(lua, "Function already exists in the library")
    }
}

/// The arguments of `register_function`: texts that lie in Lua strings, and the stack index of the function.
struct Registration<'a> {
    name: &'a [u8],
    description: Option<&'a [u8]>,
    flags: ScriptFlags,
    callback: c_int,
}

/// The bytes of a string or number at `index`, which becomes a string.
unsafe fn text_at<'a>(lua: *mut lua_State, index: c_int) -> Option<&'a [u8]> {
    // SAFETY: passed on to the caller; the value stays on the stack.
    unsafe {
        let mut len = 0;
        let start = lua_tolstring(lua, index, &mut len);
        if start.is_null() { None } else { Some(slice::from_raw_parts(start.cast(), len)) }
    }
}

unsafe fn read_positional_arguments<'a>(lua: *mut lua_State) -> Result<Registration<'a>, &'static str> {
    // SAFETY: two arguments are on the stack.
    unsafe {
        let name = text_at(lua, 1).ok_or("first argument to server.register_function must be a string")?;
        if lua_type(lua, 2) != LUA_TFUNCTION {
            return Err("second argument to server.register_function must be a function");
        }
        Ok(Registration { name, description: None, flags: ScriptFlags::NONE, callback: 2 })
    }
}

unsafe fn read_named_arguments<'a>(lua: *mut lua_State) -> Result<Registration<'a>, &'static str> {
    // SAFETY: one argument is on the stack. Values that are kept are copied to the slots 2 to 4.
    unsafe {
        if lua_type(lua, 1) != LUA_TTABLE {
            return Err(
                "calling server.register_function with a single argument is only applicable to Lua table \
                 (representing named arguments).",
            );
        }
        let (name_slot, description_slot, callback_slot) = (2, 3, 4);
        lua_settop(lua, 4);
        let (mut name, mut description, mut flags, mut has_callback) = (None, None, ScriptFlags::NONE, false);
        lua_pushnil(lua);
        while lua_next(lua, 1) != 0 {
            // Copied: turning a number into a string in place would confuse the walk.
            lua_pushvalue(lua, -2);
            let key = text_at(lua, -1)
                .ok_or("named argument key given to server.register_function is not a string")?;
            lua_settop(lua, -2);
            let key = c_text(key);
            if key.eq_ignore_ascii_case(b"function_name") {
                name = text_at(lua, -1);
                name.ok_or("function_name argument given to server.register_function must be a string")?;
                lua_replace(lua, name_slot);
            } else if key.eq_ignore_ascii_case(b"description") {
                description = text_at(lua, -1);
                description
                    .ok_or("description argument given to server.register_function must be a string")?;
                lua_replace(lua, description_slot);
            } else if key.eq_ignore_ascii_case(b"callback") {
                if lua_type(lua, -1) != LUA_TFUNCTION {
                    return Err("callback argument given to server.register_function must be a function");
                }
                has_callback = true;
                lua_replace(lua, callback_slot);
            } else if key.eq_ignore_ascii_case(b"flags") {
                if lua_type(lua, -1) != LUA_TTABLE {
                    return Err(
                        "flags argument to server.register_function must be a table representing function flags",
                    );
                }
                flags = read_flags(lua).ok_or("unknown flag given")?;
                lua_settop(lua, -2);
            } else {
                return Err("unknown argument given to server.register_function");
            }
        }
        let name = name.ok_or("server.register_function must get a function name argument")?;
        if !has_callback {
            return Err("server.register_function must get a callback argument");
        }
        Ok(Registration { name, description, flags, callback: callback_slot })
    }
}

/// The flags named by the elements of the table on the top of the stack.
unsafe fn read_flags(lua: *mut lua_State) -> Option<ScriptFlags> {
    // SAFETY: the table is on the top of the stack.
    unsafe {
        let mut flags = ScriptFlags::NONE;
        for index in 1.. {
            work(lua, 2);
            lua_rawgeti_(lua, -1, index);
            if lua_type(lua, -1) == LUA_TNIL {
                lua_settop(lua, -2);
                break;
            }
            let name = c_text(text_at(lua, -1)?);
            let named =
                ScriptFlags::NAMED.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
            flags = flags.with(named?.1);
            lua_settop(lua, -2);
        }
        Some(flags)
    }
}

/// The global `pcall`: an error that is a table with the field `err` is returned as that text, as scripts have
/// known it since errors were texts.
pub(super) unsafe extern "C-unwind" fn pcall(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        luaL_checkany(lua, 1);
        let count = lua_gettop(lua);
        lua_pushboolean(lua, 1);
        lua_insert(lua, 1);
        if lua_pcall(lua, count - 1, LUA_MULTRET, 0) != 0 {
            lua_remove(lua, 1);
            if lua_type(lua, -1) == LUA_TTABLE {
                lua_getfield_(lua, -1, c"err".as_ptr());
                if lua_isstring(lua, -1) != 0 {
                    lua_replace(lua, -2);
                }
            }
            lua_pushboolean(lua, 0);
            lua_insert(lua, 1);
        }
        lua_gettop(lua)
    }
}

/// Turns what was raised into a table that says where. The error handler of every script.
pub(super) unsafe extern "C-unwind" fn error_handler(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua with the error as the first argument.
    unsafe {
        lua_settop(lua, 1);
        if lua_type(lua, 1) != LUA_TTABLE {
            push_error_text(lua);
            lua_replace(lua, 1);
        }
        // If a C function raised, its caller is what the script's author knows.
        let mut activation: lua_Debug = mem::zeroed();
        let mut level = 1;
        while lua_getstack(lua, level, &mut activation) != 0 {
            lua_getinfo(lua, c"Sl".as_ptr(), &mut activation);
            if level == 1 && *activation.what == b'C' as c_char {
                level = 2;
                continue;
            }
            lua_pushstring_(lua, activation.source);
            lua_setfield(lua, 1, c"source".as_ptr());
            lua_pushnumber(lua, f64::from(activation.currentline));
            lua_setfield(lua, 1, c"line".as_ptr());
            break;
        }
        1
    }
}

/// Pushes `{err = "ERR " .. tostring(error)}` for the value in slot 1.
unsafe fn push_error_text(lua: *mut lua_State) {
    // SAFETY: there is a value in slot 1.
    unsafe {
        lua_createtable(lua, 0, 3);
        match lua_type(lua, 1) {
            LUA_TSTRING | LUA_TNUMBER => {
                lua_pushstring_(lua, c"ERR ".as_ptr());
                lua_pushvalue(lua, 1);
                lua_concat(lua, 2);
            }
            LUA_TNIL | LUA_TNONE => lua_pushstring_(lua, c"ERR nil".as_ptr()),
            LUA_TBOOLEAN if lua_toboolean(lua, 1) != 0 => lua_pushstring_(lua, c"ERR true".as_ptr()),
            LUA_TBOOLEAN => lua_pushstring_(lua, c"ERR false".as_ptr()),
            other => {
                lua_pushfstring(lua, c"ERR %s: %p".as_ptr(), lua_typename(lua, other), lua_topointer(lua, 1));
            }
        }
        lua_setfield(lua, -2, c"err".as_ptr());
    }
}

/// Reading a global that is not there.
pub(super) unsafe extern "C-unwind" fn missing_global(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua with a table and a key.
    unsafe {
        if lua_gettop(lua) != 2 {
            luaL_error(lua, c"Wrong number of arguments to luaProtectedTableError".as_ptr());
        }
        if lua_isstring(lua, 2) == 0 {
            luaL_error(lua, c"Second argument to luaProtectedTableError must be a string or number".as_ptr());
        }
        luaL_error(
            lua,
            c"Script attempted to access nonexistent global variable '%s'".as_ptr(),
            lua_tolstring(lua, 2, std::ptr::null_mut()),
        )
    }
}

/// `os.clock`: the processor time used, in seconds.
pub(super) unsafe extern "C-unwind" fn clock(lua: *mut lua_State) -> c_int {
    // SAFETY: `clock` has no preconditions; called by Lua.
    unsafe {
        let mut time: libc::timespec = mem::zeroed();
        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time);
        lua_pushnumber(lua, time.tv_sec as f64 + time.tv_nsec as f64 / 1e9);
        1
    }
}

/// `math.random`.
pub(super) unsafe extern "C-unwind" fn random(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let number = (*context::of(lua)).random.next();
        let count = lua_gettop(lua);
        let (low, high, last) = match count {
            0 => {
                lua_pushnumber(lua, number);
                return 1;
            }
            1 => (1, luaL_checkinteger(lua, 1) as i32, 1),
            2 => (luaL_checkinteger(lua, 1) as i32, luaL_checkinteger(lua, 2) as i32, 2),
            _ => return luaL_error(lua, c"wrong number of arguments".as_ptr()),
        };
        luaL_argcheck(lua, c_int::from(low <= high), last, c"interval is empty".as_ptr());
        let (low, high) = (f64::from(low), f64::from(high));
        lua_pushnumber(lua, (number * (high - low + 1.0)).floor() + low);
        1
    }
}

/// `math.randomseed`.
pub(super) unsafe extern "C-unwind" fn randomseed(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { (*context::of(lua)).random.seed(luaL_checkinteger(lua, 1) as i32) };
    0
}
