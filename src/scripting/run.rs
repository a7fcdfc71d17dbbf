//! What happens on a fiber: compile, call, and turn the result into a reply.
//!
//! Invariant: whatever has a destructor lies in the [`Context`] while Lua runs.

use std::ffi::CStr;
use std::os::raw::c_int;
use std::ptr::NonNull;
use std::slice;

use mlua_sys::lua51::*;

use super::context::{self, Context, Job, Outcome};
use super::convert::{c_text, string_at, take_reply};
use super::fiber::{Body, Event, Suspender};
use super::functions::{Library, LoadedFunction};
use super::scripts::Script;
use crate::protocol::{ErrorReply, Reply};

/// The stack slot of the error handler. Below the first argument of whatever runs.
pub(super) const HANDLER_SLOT: c_int = 1;

/// Where an error that ended a script lies while its text is made.
const ERROR_SLOT: c_int = 2;

// SAFETY: see the invariant of this module and of `api`.
unsafe impl Body for Context {
    unsafe fn started(this: NonNull<Self>, suspender: *const Suspender) {
        // SAFETY: nobody else uses the context now.
        unsafe { (*this.as_ptr()).suspender = suspender };
    }

    unsafe fn run(this: NonNull<Self>) {
        let context = this.as_ptr();
        // SAFETY: the engine does not touch the context while the fiber runs. The job stays where it is, so that
        // references into it hold.
        unsafe {
            (*context).on_fiber = true;
            match &mut (*context).job {
                Job::None => {}
                Job::Script { script, reference, is_new } => run_script(context, script, reference, is_new),
                Job::Compile { script, reference } => {
                    *reference = compile_script(context, script);
                    if reference.is_some() {
                        (*context).outcome = Outcome::Loaded;
                    }
                }
                Job::Function { library, index, reference, loaded } => {
                    run_function(context, library, *index, reference, loaded);
                }
                Job::Load { code, shebang_len } => {
                    if load(context, &code[(*shebang_len).min(code.len())..]) {
                        (*context).outcome = Outcome::Loaded;
                    }
                }
            }
            end_if_memory_exceeded(context);
            lua_settop((*context).lua, HANDLER_SLOT);
            (*context).on_fiber = false;
        }
    }
}

/// A script that caught the error for want of memory has no result.
unsafe fn end_if_memory_exceeded(context: *mut Context) {
    // SAFETY: on the fiber.
    unsafe {
        if (*context).limit_hit {
            context::suspend_for_good(context, Event::MemoryExceeded);
        }
    }
}

unsafe fn run_script(
    context: *mut Context,
    script: &Script,
    reference: &mut Option<c_int>,
    is_new: &mut bool,
) {
    // SAFETY: on the fiber.
    unsafe {
        let lua = (*context).lua;
        if reference.is_none() {
            *reference = compile_script(context, script);
            *is_new = true;
        }
        let Some(reference) = *reference else { return };
        lua_rawgeti_(lua, LUA_REGISTRYINDEX, reference);
        // The last run may have given the script's function another environment.
        lua_pushvalue(lua, LUA_GLOBALSINDEX);
        lua_setfenv(lua, -2);
        call(context, 0);
    }
}

/// Compiles a script and returns its registry reference; or sets the outcome.
unsafe fn compile_script(context: *mut Context, script: &Script) -> Option<c_int> {
    // SAFETY: on the fiber.
    unsafe {
        if compile(context, script.code(), c"@user_script") {
            return Some(luaL_ref((*context).lua, LUA_REGISTRYINDEX));
        }
        set_error(context, b"ERR Error compiling script (new function): ");
        None
    }
}

/// Leaves the function on the stack, or the error.
unsafe fn compile(context: *mut Context, code: &[u8], name: &CStr) -> bool {
    // SAFETY: on the fiber. Compiling is protected by Lua itself.
    unsafe {
        (*context).limit_memory();
        let status = luaL_loadbuffer((*context).lua, code.as_ptr().cast(), code.len(), name.as_ptr());
        (*context).lift_limit();
        end_if_memory_exceeded(context);
        status == 0
    }
}

/// Sets the outcome to an error: `prefix`, and the text on the top of the stack.
unsafe fn set_error(context: *mut Context, prefix: &[u8]) {
    // SAFETY: on the fiber.
    unsafe {
        let mut text = prefix.to_vec();
        text.extend_from_slice(c_text(string_at((*context).lua, -1).unwrap_or_default()));
        (*context).outcome =
            Outcome::Reply { reply: Reply::Error(ErrorReply::from_text(text)), error_counted: false };
    }
}

/// Calls what is on the stack with its `arguments`, and sets the outcome.
unsafe fn call(context: *mut Context, arguments: c_int) {
    // SAFETY: on the fiber; nothing here has a destructor while Lua runs.
    unsafe {
        let lua = (*context).lua;
        (*context).limit_memory();
        let status = lua_pcall(lua, arguments, 1, HANDLER_SLOT);
        (*context).lift_limit();
        end_if_memory_exceeded(context);
        if status != 0 {
            set_raised_error(context);
            return;
        }
        let error_counted = is_counted(context);
        (*context).outcome = match take_reply(lua, context) {
            Some(reply) => Outcome::Reply { reply, error_counted },
            // A result that is larger than the script may be counts as memory it used.
            None => context::suspend_for_good(context, Event::MemoryExceeded),
        };
    }
}

/// Whether the table on the top of the stack is an error that has been counted.
unsafe fn is_counted(context: *mut Context) -> bool {
    // SAFETY: reads one field without metamethods.
    unsafe {
        let lua = (*context).lua;
        if lua_type(lua, -1) != LUA_TTABLE {
            return false;
        }
        lua_rawgeti_(lua, LUA_REGISTRYINDEX, (*context).names.ignore_error_stats_update);
        lua_rawget_(lua, -2);
        let counted = lua_type(lua, -1) == LUA_TBOOLEAN && lua_toboolean(lua, -1) != 0;
        lua_settop(lua, -2);
        counted
    }
}

/// The bytes of a field of the error table in its slot, if it is a string or number; pushes it.
unsafe fn push_text_field<'a>(lua: *mut lua_State, name: c_int) -> Option<&'a [u8]> {
    // SAFETY: the text lies in a string that stays on the stack.
    unsafe {
        lua_rawgeti_(lua, LUA_REGISTRYINDEX, name);
        lua_rawget_(lua, ERROR_SLOT);
        let mut len = 0;
        let start = lua_tolstring(lua, -1, &mut len);
        if start.is_null() { None } else { Some(c_text(slice::from_raw_parts(start.cast(), len))) }
    }
}

/// Sets the outcome to the error that was raised: on the top of the stack, as the error handler left it.
unsafe fn set_raised_error(context: *mut Context) {
    // SAFETY: memory is not limited now; nothing raises.
    unsafe {
        let lua = (*context).lua;
        let name = (*context).job.name();
        let mut text = Vec::new();
        let mut error_counted = false;
        if lua_type(lua, -1) == LUA_TTABLE {
            error_counted = is_counted(context);
            lua_replace(lua, ERROR_SLOT);
            lua_settop(lua, ERROR_SLOT);
            let names = (*context).names;
            text.extend_from_slice(push_text_field(lua, names.err).unwrap_or(b"ERR unknown error"));
            if let (Some(source), Some(line)) =
                (push_text_field(lua, names.source), push_text_field(lua, names.line))
            {
                text.extend_from_slice(b" script: ");
                text.extend_from_slice(&name);
                text.extend_from_slice(b", on ");
                text.extend_from_slice(source);
                text.push(b':');
                text.extend_from_slice(line);
                text.push(b'.');
            }
        } else {
            let message = c_text(string_at(lua, -1).unwrap_or(b"execution failure"));
            text.extend_from_slice(b"ERR Error running script ");
            text.extend_from_slice(&name);
            text.extend_from_slice(b", ");
            text.extend_from_slice(&message[..message.len().min(100)]);
        }
        (*context).outcome =
            Outcome::Reply { reply: Reply::Error(ErrorReply::from_text(text)), error_counted };
    }
}

/// Calls a function with the keys and arguments in the slots above the handler.
unsafe fn run_function(
    context: *mut Context,
    library: &Library,
    index: usize,
    reference: &mut Option<c_int>,
    loaded: &mut Option<Vec<c_int>>,
) {
    // SAFETY: on the fiber.
    unsafe {
        let lua = (*context).lua;
        if reference.is_none() {
            if !load(context, &library.code()[library.shebang_len()..]) {
                return;
            }
            lua_settop(lua, HANDLER_SLOT + 2);
            let functions = (*context).loading.take().unwrap_or_default();
            let references = references_of(library, &functions);
            *reference = references.get(index).copied();
            *loaded = Some(references);
        }
        lua_rawgeti_(lua, LUA_REGISTRYINDEX, reference.unwrap_or(LUA_REFNIL));
        if lua_type(lua, -1) != LUA_TFUNCTION {
            // The library registers other functions than when it was first loaded.
            (*context).outcome = Outcome::Reply {
                reply: Reply::Error(ErrorReply::new("ERR Function not found")),
                error_counted: false,
            };
            return;
        }
        lua_insert(lua, HANDLER_SLOT + 1);
        call(context, 2);
    }
}

/// The references of a library's functions, in its order.
fn references_of(library: &Library, functions: &[LoadedFunction]) -> Vec<c_int> {
    let reference = |name: &str| functions.iter().find(|function| function.name == name);
    library
        .functions()
        .iter()
        .map(|known| reference(&known.name).map_or(LUA_REFNIL, |it| it.reference))
        .collect()
}

/// Runs a library's code; what it registers is in `loading` then. Or sets the outcome, and returns false.
unsafe fn load(context: *mut Context, code: &[u8]) -> bool {
    // SAFETY: on the fiber.
    unsafe {
        let lua = (*context).lua;
        if !compile(context, code, c"@user_function") {
            set_error(context, b"ERR Error compiling function: ");
            return false;
        }
        let globals = (*context).globals;
        globals.show(lua, true);
        (*context).loading = Some(Vec::new());
        (*context).limit_memory();
        let status = lua_pcall(lua, 0, 0, 0);
        (*context).lift_limit();
        end_if_memory_exceeded(context);
        globals.show(lua, false);
        if status == 0 {
            return true;
        }
        (*context).loading = None;
        if lua_type(lua, -1) == LUA_TTABLE {
            lua_rawgeti_(lua, LUA_REGISTRYINDEX, (*context).names.err);
            lua_rawget_(lua, -2);
            set_error(context, b"ERR Error registering functions: ");
        } else {
            set_error(context, b"ERR Error registering functions: ERR ");
        }
        false
    }
}
