//! What the debugger does in Lua: the hook of lines, and looking at a stopped script.
//!
//! Invariant: as in [`api`](crate::scripting::api), nothing has a destructor on a frame that calls into Lua, which may
//! raise, or spends work, which may suspend; such things lie in the [`Debugger`]. Everything runs within a hook, where the
//! frame of the script's function is the current one: what is on the stack is counted from its top.

use std::ffi::CStr;
use std::mem;
use std::os::raw::{c_char, c_int};

use mlua_sys::lua51::*;

use super::super::api::{self, Listener, run_command};
use super::super::context::{self, Context, suspend, suspend_for_good};
use super::super::convert::{push_bytes, string_at};
use super::super::fiber::Event;
use super::super::ticks::work;
use super::values::{Shown, command_line};
use super::{Action, Debugger, MOST_SHOWN};
use crate::base::number::format_significant;
use crate::protocol::Reply;

unsafe extern "C-unwind" {
    /// Lets hooks be called on this thread, or not: within a hook they are not.
    fn lua_allowhook(lua: *mut lua_State, allow: c_int);
}

/// How deep a table is shown.
const DEPTH: usize = 10;
/// The source of the script itself, as opposed to code that it or the debugger compiled.
const SCRIPT: &[u8] = b"@user_script";

/// The debugger of a state; it is borrowed for no longer than a step that neither calls into Lua nor suspends.
unsafe fn debugger_of<'d>(context: *mut Context) -> Option<&'d mut Debugger> {
    // SAFETY: the context is live, and nobody else uses it while the fiber runs.
    unsafe { (*context).debugger.as_deref_mut() }
}

/// Removes the value on the top of the stack.
unsafe fn pop(lua: *mut lua_State) {
    // SAFETY: there is one.
    unsafe { lua_settop(lua, -2) };
}

/// Lua's hook in a debugged state: every line, and every so many instructions.
pub(in crate::scripting) unsafe extern "C-unwind" fn on_event(
    lua: *mut lua_State,
    activation: *mut lua_Debug,
) {
    // SAFETY: called by Lua with a live state, between two instructions.
    unsafe {
        let context = context::of(lua);
        let counted = (*activation).event == LUA_HOOKCOUNT;
        if counted {
            context::on_count(lua, activation);
        }
        if !(*context).on_fiber || lua_getinfo(lua, c"Sl".as_ptr(), activation) == 0 {
            return;
        }
        if CStr::from_ptr((*activation).source).to_bytes() != SCRIPT {
            return;
        }
        let Some(debugger) = debugger_of(context) else { return };
        if debugger.evaluates {
            return;
        }
        debugger.line = i64::from((*activation).currentline);
        if let Some(reason) = debugger.reason_to_stop(counted) {
            debugger.stop(reason);
            converse(lua, context);
        }
    }
}

/// Carries out commands until one lets the script go on.
unsafe fn converse(lua: *mut lua_State, context: *mut Context) {
    // SAFETY: within the hook.
    unsafe {
        loop {
            let action = debugger_of(context).and_then(Debugger::next_action);
            match action {
                None => {
                    (*context).suspended_in = lua;
                    suspend(context, Event::SliceEnded);
                    continue;
                }
                Some(Action::Resume) => return,
                Some(Action::Abort) => {
                    if let Some(debugger) = debugger_of(context) {
                        debugger.console.abort();
                    }
                    (*context).suspended_in = lua;
                    suspend_for_good(context, Event::SliceEnded);
                }
                Some(Action::Answered) => {}
                Some(Action::PrintAll) => print_all(lua, context),
                Some(Action::Print) => print(lua, context),
                Some(Action::Trace) => trace(lua, context),
                Some(Action::Evaluate) => evaluate(lua, context),
                Some(Action::Call) => call_command(lua, context),
            }
            if (*context).limit_hit {
                suspend_for_good(context, Event::MemoryExceeded);
            }
            if let Some(debugger) = debugger_of(context) {
                debugger.flush();
            }
        }
    }
}

unsafe fn show(context: *mut Context, line: &[u8]) {
    // SAFETY: passed on to the caller.
    if let Some(debugger) = unsafe { debugger_of(context) } {
        debugger.show(line.to_vec());
    }
}

/// Begins a line, to which [`append`] and [`append_value`] add.
unsafe fn begin(context: *mut Context, start: &[u8]) {
    // SAFETY: passed on to the caller.
    if let Some(debugger) = unsafe { debugger_of(context) } {
        debugger.begin(start);
    }
}

unsafe fn append(context: *mut Context, bytes: &[u8]) {
    // SAFETY: passed on to the caller.
    if let Some(debugger) = unsafe { debugger_of(context) } {
        debugger.text.push(bytes);
    }
}

unsafe fn end(context: *mut Context) {
    // SAFETY: passed on to the caller.
    if let Some(debugger) = unsafe { debugger_of(context) } {
        debugger.end();
    }
}

// ---- Values ----

/// Adds the value on the top of the stack to the line, and leaves it there.
unsafe fn append_value(lua: *mut lua_State, context: *mut Context, level: usize) {
    // SAFETY: looks only, without metamethods.
    unsafe {
        if level == DEPTH {
            return append(context, b"<max recursion level reached! Nested table?>");
        }
        match lua_type(lua, -1) {
            LUA_TSTRING => append(context, string_at(lua, -1).unwrap_or_default()),
            LUA_TBOOLEAN if lua_toboolean(lua, -1) != 0 => append(context, b"true"),
            LUA_TBOOLEAN => append(context, b"false"),
            LUA_TNUMBER => append(context, &format_significant(lua_tonumber(lua, -1), 6)),
            LUA_TNIL => append(context, b"nil"),
            LUA_TTABLE => append_table(lua, context, level),
            other => {
                let kind = match other {
                    LUA_TFUNCTION => "function",
                    LUA_TUSERDATA => "userdata",
                    LUA_TTHREAD => "thread",
                    _ => "light-userdata",
                };
                append(context, format!(" \"{kind}@{:p}\"", lua_topointer(lua, -1)).as_bytes());
            }
        }
    }
}

unsafe fn append_table(lua: *mut lua_State, context: *mut Context, level: usize) {
    // SAFETY: the table is on the top of the stack; room is made for the keys and values of each level. Walking a table
    // neither allocates nor raises.
    unsafe {
        if lua_checkstack(lua, 6) == 0 {
            return append(context, b"<the stack of Lua is full>");
        }
        let is_list = looks_like_list(lua, context);
        append(context, b"{");
        lua_pushnil(lua);
        while lua_next(lua, -2) != 0 {
            work(lua, 8);
            if debugger_of(context).is_none_or(|debugger| debugger.text.is_full()) {
                lua_settop(lua, -3);
                return;
            }
            if !is_list {
                append(context, b"[");
                lua_pushvalue(lua, -2);
                append_value(lua, context, level + 1);
                pop(lua);
                append(context, b"]=");
            }
            append_value(lua, context, level + 1);
            append(context, b"; ");
            pop(lua);
        }
        append(context, b"}");
    }
}

/// Does the table on the top of the stack hold the keys 1, 2, 3 and so on, in this order, as far as it is shown?
unsafe fn looks_like_list(lua: *mut lua_State, context: *mut Context) -> bool {
    // SAFETY: as for `append_table`.
    unsafe {
        let most = debugger_of(context).map_or(0, |debugger| debugger.text.room());
        let mut expected = 0;
        lua_pushnil(lua);
        while lua_next(lua, -2) != 0 {
            work(lua, 4);
            expected += 1;
            pop(lua);
            let fits = lua_type(lua, -1) == LUA_TNUMBER && lua_tonumber(lua, -1) == expected as f64;
            if !fits || expected > most {
                pop(lua);
                return fits;
            }
        }
        true
    }
}

// ---- Commands ----

/// `print` without a name: the variables of the function that runs.
unsafe fn print_all(lua: *mut lua_State, context: *mut Context) {
    // SAFETY: the name lies in the function's prototype.
    unsafe {
        let mut activation: lua_Debug = mem::zeroed();
        let mut are_any = false;
        let mut index = 0;
        while lua_getstack(lua, 0, &mut activation) != 0 {
            index += 1;
            let name = lua_getlocal(lua, &activation, index);
            if name.is_null() {
                break;
            }
            let name = CStr::from_ptr(name).to_bytes();
            if name != b"(*temporary)" {
                are_any = true;
                begin(context, b"<value> ");
                append(context, name);
                append(context, b" = ");
                append_value(lua, context, 0);
                end(context);
            }
            pop(lua);
        }
        if !are_any {
            show(context, b"No local variables in the current context.");
        }
    }
}

/// Is this the first argument of the command that is carried out?
unsafe fn is_asked_for(context: *mut Context, name: &[u8]) -> bool {
    // SAFETY: passed on to the caller.
    unsafe { debugger_of(context) }
        .is_some_and(|debugger| debugger.command.get(1).is_some_and(|asked| asked == name))
}

/// `print` with a name: the nearest variable of that name, or `KEYS` or `ARGV`.
unsafe fn print(lua: *mut lua_State, context: *mut Context) {
    // SAFETY: as for `print_all`. Reading the two globals, which are set, neither raises nor allocates.
    unsafe {
        let mut activation: lua_Debug = mem::zeroed();
        let mut level = 0;
        while lua_getstack(lua, level, &mut activation) != 0 {
            level += 1;
            let mut index = 0;
            loop {
                index += 1;
                let name = lua_getlocal(lua, &activation, index);
                if name.is_null() {
                    break;
                }
                if is_asked_for(context, CStr::from_ptr(name).to_bytes()) {
                    return show_value(lua, context, b"<value> ");
                }
                pop(lua);
            }
        }
        let names = (*context).names;
        for (name, reference) in [(b"KEYS", names.keys), (b"ARGV", names.argv)] {
            if is_asked_for(context, name) {
                lua_rawgeti_(lua, LUA_REGISTRYINDEX, reference);
                lua_rawget_(lua, LUA_GLOBALSINDEX);
                return show_value(lua, context, b"<value> ");
            }
        }
        show(context, b"No such variable.");
    }
}

unsafe fn trace(lua: *mut lua_State, context: *mut Context) {
    // SAFETY: the texts of an activation lie in Lua; nothing is left on the stack.
    unsafe {
        let mut activation: lua_Debug = mem::zeroed();
        let mut level = 0;
        while lua_getstack(lua, level, &mut activation) != 0 {
            lua_getinfo(lua, c"Snl".as_ptr(), &mut activation);
            if CStr::from_ptr(activation.source).to_bytes() == SCRIPT
                && let Some(debugger) = debugger_of(context)
            {
                let start = if level == 0 { "In" } else { "From" };
                let name = match activation.name.is_null() {
                    true => "top level".into(),
                    false => CStr::from_ptr(activation.name).to_string_lossy(),
                };
                debugger.show(format!("{start} {name}:").into_bytes());
                debugger.show_source(i64::from(activation.currentline));
            }
            level += 1;
        }
    }
}

/// Compiles the arguments of the command, behind `start`. Leaves the function on the stack, or the error.
unsafe fn compile(lua: *mut lua_State, context: *mut Context, start: &[u8]) -> bool {
    // SAFETY: compiling is protected by Lua itself; the code lies in the debugger, which changes it here only.
    unsafe {
        let Some(debugger) = debugger_of(context) else { return false };
        debugger.code.clear();
        debugger.code.extend_from_slice(start);
        debugger.code.extend_from_slice(&debugger.command[1..].join(&b' '));
        let (start, length) = (debugger.code.as_ptr().cast::<c_char>(), debugger.code.len());
        luaL_loadbuffer(lua, start, length, c"@ldb_eval".as_ptr()) == 0
    }
}

unsafe fn evaluate(lua: *mut lua_State, context: *mut Context) {
    // SAFETY: the call is protected. The count hook is let in, so that the code can be left like a script; `evaluates` keeps
    // the debugger itself out of it.
    unsafe {
        if lua_checkstack(lua, 4) == 0 {
            return show(context, b"<error> the stack of Lua is full");
        }
        if !compile(lua, context, b"return ") {
            pop(lua);
            if !compile(lua, context, b"") {
                return show_value(lua, context, b"Error compiling code: ");
            }
        }
        if let Some(debugger) = debugger_of(context) {
            debugger.evaluates = true;
        }
        lua_allowhook(lua, 1);
        let status = lua_pcall(lua, 0, 1, 0);
        lua_allowhook(lua, 0);
        if let Some(debugger) = debugger_of(context) {
            debugger.evaluates = false;
        }
        show_value(lua, context, if status == 0 { b"<retval> " } else { b"<error> " });
    }
}

/// Shows the value on the top of the stack behind `start`, and pops it.
unsafe fn show_value(lua: *mut lua_State, context: *mut Context, start: &[u8]) {
    // SAFETY: passed on to the caller.
    unsafe {
        begin(context, start);
        append_value(lua, context, 0);
        end(context);
        pop(lua);
    }
}

/// Calls the command in the arguments; what it is and answers is shown as while stepping.
unsafe fn call_command(lua: *mut lua_State, context: *mut Context) {
    // SAFETY: the call is protected. Pushing may raise for want of memory, which ends the script.
    unsafe {
        let count = debugger_of(context).map_or(0, |debugger| debugger.command.len() - 1);
        if lua_checkstack(lua, c_int::try_from(count).unwrap_or(c_int::MAX).saturating_add(4)) == 0 {
            return show(context, b"<error> the stack of Lua has no room for so many arguments");
        }
        lua_pushcclosure(lua, call, 0);
        for index in 1..=count {
            let argument = debugger_of(context).and_then(|debugger| debugger.command.get(index));
            push_bytes(lua, argument.map_or(&[], Vec::as_slice));
        }
        if let Some(debugger) = debugger_of(context) {
            debugger.steps = true;
        }
        lua_pcall(lua, count as c_int, 1, 0);
        if let Some(debugger) = debugger_of(context) {
            debugger.steps = false;
        }
        pop(lua);
    }
}

// ---- The API of a debugged script ----

/// Shows commands and their replies while the script is stepped through.
struct Steps;

// SAFETY: neither calls into Lua.
unsafe impl Listener for Steps {
    unsafe fn called(context: *mut Context, arguments: &[&[u8]]) {
        // SAFETY: passed on to the caller; the arguments do not lie in the debugger.
        if let Some(debugger) = unsafe { debugger_of(context) }
            && debugger.steps
        {
            debugger.show(command_line(arguments, MOST_SHOWN));
        }
    }

    unsafe fn answered(context: *mut Context, reply: &Reply<'_>) {
        // SAFETY: passed on to the caller; the reply does not lie in the debugger.
        let (debugger, resp3) = unsafe { (debugger_of(context), (*context).protocol == 3) };
        if let Some(debugger) = debugger
            && debugger.steps
        {
            debugger.begin(b"<reply> ");
            debugger.text.push_reply(reply, resp3);
            debugger.end();
            if let Reply::Error(error) = reply {
                debugger.show([b"<error> -", &*error.0].concat());
            }
        }
    }
}

/// `redis.call`.
pub(in crate::scripting) unsafe extern "C-unwind" fn call(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { run_command::<Steps>(lua, true) }
}

/// `redis.pcall`.
pub(in crate::scripting) unsafe extern "C-unwind" fn pcall_command(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { run_command::<Steps>(lua, false) }
}

/// `redis.error_reply`.
pub(in crate::scripting) unsafe extern "C-unwind" fn error_reply(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        if let Some(debugger) = debugger_of(context::of(lua))
            && debugger.steps
            && let Some(text) = string_at(lua, 1)
        {
            let mut line = Shown::new(b"<error> -", MOST_SHOWN);
            line.push(text.strip_prefix(b"-").unwrap_or(text));
            debugger.show(line.finish().0);
        }
        api::error_reply(lua)
    }
}

/// `redis.breakpoint`: the script stops at its next line.
pub(in crate::scripting) unsafe extern "C-unwind" fn breakpoint(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        if let Some(debugger) = debugger_of(context::of(lua)) {
            debugger.stops_next = true;
        }
        lua_pushboolean(lua, 1);
        1
    }
}

/// `redis.debug`: shows its arguments.
pub(in crate::scripting) unsafe extern "C-unwind" fn debug(lua: *mut lua_State) -> c_int {
    // SAFETY: called by Lua with its arguments on the stack.
    unsafe {
        let context = context::of(lua);
        if let Some(debugger) = debugger_of(context) {
            debugger.text = Shown::new(format!("<debug> line {}: ", debugger.line).as_bytes(), MOST_SHOWN);
        }
        let count = lua_gettop(lua);
        for index in 1..=count {
            if index > 1 {
                append(context, b", ");
            }
            lua_pushvalue(lua, index);
            append_value(lua, context, 0);
            pop(lua);
        }
        if let Some(debugger) = debugger_of(context) {
            let (line, _) = mem::take(&mut debugger.text).finish();
            debugger.show(line);
        }
        0
    }
}
