//! `cjson`: JSON, as lua-cjson 2.1.0 writes and reads it.
//!
//! Here are the module and its settings; [`encode`] and [`decode`] do the work. Strings pass as bytes: no encoding is
//! checked. `null` is a light userdata with a null pointer. Each module has its own settings: the global one's lie
//! in the library state, those of a module made by `cjson.new()` in a userdata that its functions keep.

mod decode;
mod encode;
mod number;

use std::ffi::{CStr, c_char, c_int};

use mlua_sys::lua51 as ffi;
use mlua_sys::lua51::{lua_CFunction, lua_State};

use super::stack::{Kind, Message, Stack};
use super::{push_module, scratch};

pub(super) use decode::Level as DecodeLevel;
pub(super) use encode::Level as EncodeLevel;

/// What the settings functions of one module set. Plain values, read directly by the encoder and the decoder.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    /// Whether a too sparse array becomes an object, instead of an error.
    sparse_convert: bool,
    /// An array is too sparse if its largest index is more than this many times its elements; 0 for never.
    sparse_ratio: i32,
    /// Largest index up to which no array is too sparse.
    sparse_safe: i32,
    encode_max_depth: i32,
    decode_max_depth: i32,
    encode_invalid_numbers: InvalidNumbers,
    /// Whether numbers that JSON does not know are read: hexadecimal, NaN, infinities, leading zeros and pluses.
    decode_invalid_numbers: bool,
    /// Significant digits, 1 to 14.
    number_precision: i32,
    /// Whether the output buffer is kept for the next call.
    keep_buffer: bool,
}

impl Settings {
    pub(super) const DEFAULT: Self = Self {
        sparse_convert: false,
        sparse_ratio: 2,
        sparse_safe: 10,
        encode_max_depth: 1000,
        decode_max_depth: 1000,
        encode_invalid_numbers: InvalidNumbers::Refused,
        decode_invalid_numbers: true,
        number_precision: 14,
        keep_buffer: true,
    };
}

/// What the encoder does with NaN and the infinities.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InvalidNumbers {
    Refused,
    Written,
    Null,
}

/// Registers the global `cjson`, whose settings are at `settings`: inside of the library state, which is on the top
/// of the stack and stays there.
pub(super) fn open(stack: Stack, settings: *mut Settings) {
    stack.push_copy(-1);
    // SAFETY: the stack's promise; the pointer stays valid as long as the first upvalue does.
    unsafe { ffi::lua_pushlightuserdata(stack.state(), settings.cast()) };
    push_cjson(stack);
    // SAFETY: the stack's promise.
    unsafe { ffi::lua_setglobal(stack.state(), c"cjson".as_ptr()) };
}

/// Replaces the library state and the settings on the top of the stack by a module that uses them.
fn push_cjson(stack: Stack) {
    const FUNCTIONS: [(&CStr, lua_CFunction); 10] = [
        (c"encode", encode_value),
        (c"decode", decode_text),
        (c"encode_sparse_array", encode_sparse_array),
        (c"encode_max_depth", encode_max_depth),
        (c"decode_max_depth", decode_max_depth),
        (c"encode_number_precision", encode_number_precision),
        (c"encode_keep_buffer", encode_keep_buffer),
        (c"encode_invalid_numbers", encode_invalid_numbers),
        (c"decode_invalid_numbers", decode_invalid_numbers),
        (c"new", new),
    ];
    push_module(stack, &FUNCTIONS, 2);
    stack.push_null_pointer();
    stack.set_field(-2, c"null");
    stack.push_bytes(b"cjson");
    stack.set_field(-2, c"_NAME");
    stack.push_bytes(b"2.1.0");
    stack.set_field(-2, c"_VERSION");
}

/// The settings of the module of the running function.
///
/// # Safety
/// The function must be one of [`push_cjson`], and must borrow the settings only once per call.
unsafe fn settings<'script>(stack: Stack) -> &'script mut Settings {
    // SAFETY: the caller's promise; the second upvalue points at settings, in a userdata that is alive.
    unsafe { &mut *ffi::lua_touserdata(stack.state(), ffi::lua_upvalueindex(2)).cast::<Settings>() }
}

/// `cjson.new()`: a module of its own, with settings of its own.
unsafe extern "C-unwind" fn new(state: *mut lua_State) -> c_int {
    // SAFETY: called with the state of a running C function; only plain values are alive on its frames. The
    // userdata is large enough, aligned to 8, and filled before anything reads it.
    let stack = unsafe {
        let stack = Stack::of(state);
        stack.push_copy(ffi::lua_upvalueindex(1));
        ffi::lua_newuserdata(state, size_of::<Settings>()).cast::<Settings>().write(Settings::DEFAULT);
        stack
    };
    push_cjson(stack);
    1
}

/// `cjson.encode(value)`
unsafe extern "C-unwind" fn encode_value(state: *mut lua_State) -> c_int {
    // SAFETY: as in `new`; each borrowed once per call, and they lie apart.
    let (stack, settings, scratch) = unsafe {
        let stack = Stack::of(state);
        (stack, &*settings(stack), scratch(stack))
    };
    stack.check_argument(stack.top() == 1, 1, c"expected 1 argument");
    if let Err(failure) = encode::encode(stack, settings, scratch) {
        failure.raise(stack);
    }
    stack.push_bytes(scratch.bytes.as_slice());
    if !settings.keep_buffer {
        scratch.bytes.release(state);
    }
    1
}

/// `cjson.decode(text)`
unsafe extern "C-unwind" fn decode_text(state: *mut lua_State) -> c_int {
    // SAFETY: as in `encode_value`.
    let (stack, settings, scratch) = unsafe {
        let stack = Stack::of(state);
        (stack, &*settings(stack), scratch(stack))
    };
    stack.check_argument(stack.top() == 1, 1, c"expected 1 argument");
    let text = stack.check_string_with_nul(1);
    // The first character of any JSON text is ASCII, so a NUL among the first two bytes means wider units.
    if text.len() > 2 && text[..2].contains(&0) {
        stack.raise(format_args!("JSON parser does not support UTF-16 or UTF-32"));
    }
    if let Err(failure) = decode::decode(stack, settings, scratch, text) {
        failure.raise(stack);
    }
    1
}

// The settings functions: each sets what its arguments say and answers with what now holds

/// The stack and the settings of a settings function with up to `arguments` arguments, the absent ones made nil.
///
/// # Safety
/// As for [`Stack::of`] and [`settings`].
unsafe fn begin<'script>(state: *mut lua_State, arguments: c_int) -> (Stack, &'script mut Settings) {
    // SAFETY: the caller's promise.
    let (stack, settings) = unsafe {
        let stack = Stack::of(state);
        (stack, settings(stack))
    };
    stack.check_argument(stack.top() <= arguments, arguments + 1, c"found too many arguments");
    stack.set_top(arguments);
    (stack, settings)
}

fn integer_option(stack: Stack, argument: c_int, setting: &mut i32, least: i32, greatest: i32) {
    if stack.kind(argument) != Kind::Nil {
        let value = stack.check_integer(argument) as i32;
        if !(least..=greatest).contains(&value) {
            let mut message = Message::new();
            message.push(b"expected integer between ");
            message.push(itoa::Buffer::new().format(least).as_bytes());
            message.push(b" and ");
            message.push(itoa::Buffer::new().format(greatest).as_bytes());
            // Whichever argument it was: the reference always names the first.
            stack.argument_error(1, message.as_c_str());
        }
        *setting = value;
    }
    stack.push_number(f64::from(*setting));
}

/// The index among `names` of a string argument, or an argument error. The last of `names` is null.
fn check_name(stack: Stack, argument: c_int, names: &[*const c_char]) -> c_int {
    debug_assert!(names.last().is_some_and(|name| name.is_null()));
    // SAFETY: the stack's promise; `names` are C strings up to a null pointer.
    unsafe { ffi::luaL_checkoption(stack.state(), argument, std::ptr::null(), names.as_ptr()) }
}

fn boolean_option(stack: Stack, argument: c_int, setting: &mut bool) {
    match stack.kind(argument) {
        Kind::Nil => {}
        Kind::Boolean => *setting = stack.boolean(argument),
        _ => {
            let names = [c"off".as_ptr(), c"on".as_ptr(), std::ptr::null()];
            *setting = check_name(stack, argument, &names) == 1;
        }
    }
    stack.push_boolean(*setting);
}

unsafe extern "C-unwind" fn encode_sparse_array(state: *mut lua_State) -> c_int {
    // SAFETY: a function of `push_cjson`, called by Lua; only plain values are alive on its frames.
    let (stack, settings) = unsafe { begin(state, 3) };
    boolean_option(stack, 1, &mut settings.sparse_convert);
    integer_option(stack, 2, &mut settings.sparse_ratio, 0, i32::MAX);
    integer_option(stack, 3, &mut settings.sparse_safe, 0, i32::MAX);
    3
}

unsafe extern "C-unwind" fn encode_max_depth(state: *mut lua_State) -> c_int {
    // SAFETY: as in `encode_sparse_array`.
    let (stack, settings) = unsafe { begin(state, 1) };
    integer_option(stack, 1, &mut settings.encode_max_depth, 1, i32::MAX);
    1
}

unsafe extern "C-unwind" fn decode_max_depth(state: *mut lua_State) -> c_int {
    // SAFETY: as in `encode_sparse_array`.
    let (stack, settings) = unsafe { begin(state, 1) };
    integer_option(stack, 1, &mut settings.decode_max_depth, 1, i32::MAX);
    1
}

unsafe extern "C-unwind" fn encode_number_precision(state: *mut lua_State) -> c_int {
    // SAFETY: as in `encode_sparse_array`.
    let (stack, settings) = unsafe { begin(state, 1) };
    integer_option(stack, 1, &mut settings.number_precision, 1, number::MAXIMUM_PRECISION);
    1
}

unsafe extern "C-unwind" fn encode_keep_buffer(state: *mut lua_State) -> c_int {
    // SAFETY: as in `encode_sparse_array`.
    let (stack, settings) = unsafe { begin(state, 1) };
    boolean_option(stack, 1, &mut settings.keep_buffer);
    1
}

unsafe extern "C-unwind" fn encode_invalid_numbers(state: *mut lua_State) -> c_int {
    // SAFETY: as in `encode_sparse_array`.
    let (stack, settings) = unsafe { begin(state, 1) };
    match stack.kind(1) {
        Kind::Nil => {}
        Kind::Boolean if stack.boolean(1) => settings.encode_invalid_numbers = InvalidNumbers::Written,
        Kind::Boolean => settings.encode_invalid_numbers = InvalidNumbers::Refused,
        _ => {
            let names = [c"off".as_ptr(), c"on".as_ptr(), c"null".as_ptr(), std::ptr::null()];
            settings.encode_invalid_numbers = match check_name(stack, 1, &names) {
                0 => InvalidNumbers::Refused,
                1 => InvalidNumbers::Written,
                _ => InvalidNumbers::Null,
            };
        }
    }
    match settings.encode_invalid_numbers {
        InvalidNumbers::Refused => stack.push_boolean(false),
        InvalidNumbers::Written => stack.push_boolean(true),
        InvalidNumbers::Null => stack.push_bytes(b"null"),
    }
    1
}

unsafe extern "C-unwind" fn decode_invalid_numbers(state: *mut lua_State) -> c_int {
    // SAFETY: as in `encode_sparse_array`.
    let (stack, settings) = unsafe { begin(state, 1) };
    boolean_option(stack, 1, &mut settings.decode_invalid_numbers);
    1
}
