//! The Lua stack as the libraries see it: the few C API calls they need, each with the types Rust wants.
//!
//! This is where `unsafe` lives, so that the libraries themselves read as ordinary code. What keeps it sound is
//! one promise, made once per C function when it calls [`Stack::of`]: *nothing with a destructor is alive on the
//! frames below it while a method runs*. Any of these calls may raise a Lua error, which jumps over those frames,
//! and a tick may suspend the script for good. Buffers therefore live in [`Scratch`](super::scratch::Scratch), and
//! failures travel as plain `Copy` values to the outermost frame, which raises them.

use std::ffi::{CStr, c_int};
use std::fmt::{self, Write};

use mlua_sys::lua51 as ffi;
use mlua_sys::lua51::{lua_CFunction, lua_State};

/// A running C function's view of its stack. Indexes are Lua's: 1 is the first argument, -1 the top.
#[derive(Clone, Copy)]
pub(super) struct Stack(*mut lua_State);

/// What a stack slot holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Nil,
    Boolean,
    Number,
    String,
    Table,
    LightUserdata,
    /// No value, a function, a full userdata or a thread: what no format can carry.
    Other,
}

impl Stack {
    /// # Safety
    /// `state` must be a live Lua state, and until this value is dropped no frame between the Lua call and here may
    /// hold anything with a destructor.
    pub(super) unsafe fn of(state: *mut lua_State) -> Self {
        Self(state)
    }

    pub(super) fn state(self) -> *mut lua_State {
        self.0
    }

    // What is there

    pub(super) fn top(self) -> c_int {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_gettop(self.0) }
    }

    #[inline]
    pub(super) fn kind(self, index: c_int) -> Kind {
        // SAFETY: the promise of `of`.
        match unsafe { ffi::lua_type(self.0, index) } {
            ffi::LUA_TNIL => Kind::Nil,
            ffi::LUA_TBOOLEAN => Kind::Boolean,
            ffi::LUA_TNUMBER => Kind::Number,
            ffi::LUA_TSTRING => Kind::String,
            ffi::LUA_TTABLE => Kind::Table,
            ffi::LUA_TLIGHTUSERDATA => Kind::LightUserdata,
            _ => Kind::Other,
        }
    }

    /// Lua's name for the type of the value at `index`.
    pub(super) fn type_name(self, index: c_int) -> &'static str {
        // SAFETY: lua_typename answers with a constant of the Lua library for every result of lua_type.
        let name = unsafe { CStr::from_ptr(ffi::lua_typename(self.0, ffi::lua_type(self.0, index))) };
        name.to_str().unwrap_or("userdata")
    }

    pub(super) fn is_absent(self, index: c_int) -> bool {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_type(self.0, index) == ffi::LUA_TNONE }
    }

    /// Whether the value is a number, or a string that reads as one.
    pub(super) fn is_numeric(self, index: c_int) -> bool {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_isnumber(self.0, index) != 0 }
    }

    pub(super) fn is_null_pointer(self, index: c_int) -> bool {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_touserdata(self.0, index).is_null() }
    }

    #[inline]
    pub(super) fn boolean(self, index: c_int) -> bool {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_toboolean(self.0, index) != 0 }
    }

    /// The value as a number; 0 when it is not one.
    #[inline]
    pub(super) fn number(self, index: c_int) -> f64 {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_tonumber(self.0, index) }
    }

    /// The bytes of the string at `index`, empty for anything else. Valid while the string stays on the stack (or
    /// is otherwise reachable): the caller keeps it there as long as it uses the slice.
    #[inline]
    pub(super) fn string<'script>(self, index: c_int) -> &'script [u8] {
        let mut length = 0;
        // SAFETY: Lua never moves a string, and `length` is what it says it holds.
        unsafe {
            let bytes = ffi::lua_tolstring(self.0, index, &raw mut length);
            if bytes.is_null() { &[] } else { std::slice::from_raw_parts(bytes.cast(), length) }
        }
    }

    // Arguments

    /// The argument as a string (numbers are converted in place), or an argument error. Lives as [`Self::string`].
    pub(super) fn check_string<'script>(self, argument: c_int) -> &'script [u8] {
        let mut length = 0;
        // SAFETY: as in `string`; luaL_checklstring answers with a string or does not return.
        unsafe {
            let bytes = ffi::luaL_checklstring(self.0, argument, &raw mut length);
            std::slice::from_raw_parts(bytes.cast(), length)
        }
    }

    /// [`Self::check_string`] with the NUL byte that Lua keeps behind every string.
    pub(super) fn check_string_with_nul<'script>(self, argument: c_int) -> &'script [u8] {
        let text: &'script [u8] = self.check_string(argument);
        // SAFETY: Lua stores a NUL behind the last byte of every string.
        unsafe { std::slice::from_raw_parts(text.as_ptr(), text.len() + 1) }
    }

    pub(super) fn check_number(self, argument: c_int) -> f64 {
        // SAFETY: the promise of `of`.
        unsafe { ffi::luaL_checknumber(self.0, argument) }
    }

    pub(super) fn check_integer(self, argument: c_int) -> i64 {
        // SAFETY: the promise of `of`.
        unsafe { ffi::luaL_checkinteger(self.0, argument) }
    }

    /// The argument as an integer, `default` if it is nil or absent.
    pub(super) fn integer_or(self, argument: c_int, default: i64) -> i64 {
        // SAFETY: the promise of `of`.
        unsafe { ffi::luaL_optinteger(self.0, argument, default) }
    }

    // Room

    /// Whether there is room for `slots` more values.
    #[inline]
    pub(super) fn has_room(self, slots: c_int) -> bool {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_checkstack(self.0, slots) != 0 }
    }

    /// Makes room for `slots` more values or raises "stack overflow (`purpose`)".
    #[inline]
    pub(super) fn need_room(self, slots: c_int, purpose: &'static CStr) {
        // SAFETY: the promise of `of`.
        unsafe { ffi::luaL_checkstack_(self.0, slots, purpose.as_ptr()) }
    }

    // Pushing and popping

    pub(super) fn push_nil(self) {
        // SAFETY: the promise of `of`; callers keep to the room they asked for.
        unsafe { ffi::lua_pushnil(self.0) }
    }

    pub(super) fn push_boolean(self, value: bool) {
        // SAFETY: as in `push_nil`.
        unsafe { ffi::lua_pushboolean(self.0, c_int::from(value)) }
    }

    #[inline]
    pub(super) fn push_number(self, value: f64) {
        // SAFETY: as in `push_nil`.
        unsafe { ffi::lua_pushnumber(self.0, value) }
    }

    #[inline]
    pub(super) fn push_bytes(self, bytes: &[u8]) {
        // SAFETY: as in `push_nil`; Lua copies the bytes.
        unsafe { ffi::lua_pushlstring_(self.0, bytes.as_ptr().cast(), bytes.len()) }
    }

    pub(super) fn push_null_pointer(self) {
        // SAFETY: as in `push_nil`.
        unsafe { ffi::lua_pushlightuserdata(self.0, std::ptr::null_mut()) }
    }

    #[inline]
    pub(super) fn push_table(self) {
        // SAFETY: as in `push_nil`.
        unsafe { ffi::lua_createtable(self.0, 0, 0) }
    }

    #[inline]
    pub(super) fn push_copy(self, index: c_int) {
        // SAFETY: as in `push_nil`.
        unsafe { ffi::lua_pushvalue(self.0, index) }
    }

    /// Pushes `function` as a closure over the `upvalues` values on the top, which it takes off.
    pub(super) fn push_closure(self, function: lua_CFunction, upvalues: c_int) {
        // SAFETY: as in `push_nil`.
        unsafe { ffi::lua_pushcclosure(self.0, function, upvalues) }
    }

    #[inline]
    pub(super) fn pop(self, count: c_int) {
        // SAFETY: the promise of `of`; callers pop what they pushed.
        unsafe { ffi::lua_settop(self.0, -count - 1) }
    }

    /// Leaves exactly `top` values: what is above goes, what is missing becomes nil.
    pub(super) fn set_top(self, top: c_int) {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_settop(self.0, top) }
    }

    /// Moves the top value to `index`.
    pub(super) fn insert(self, index: c_int) {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_insert(self.0, index) }
    }

    // Tables

    /// Replaces the key on the top by the table's next pair (key below value), or takes it off at the end.
    #[inline]
    pub(super) fn next_pair(self, table: c_int) -> bool {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_next(self.0, table) != 0 }
    }

    /// Pushes `table[position]`, metamethods aside.
    #[inline]
    pub(super) fn get_raw(self, table: c_int, position: c_int) {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_rawgeti_(self.0, table, position) }
    }

    /// `table[key] = value` for the key and value on the top, metamethods aside; takes both off.
    #[inline]
    pub(super) fn set_raw_pair(self, table: c_int) {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_rawset(self.0, table) }
    }

    /// `table[position] = value` for the value on the top, metamethods aside; takes it off.
    #[inline]
    pub(super) fn set_raw(self, table: c_int, position: c_int) {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_rawseti_(self.0, table, position) }
    }

    /// `table.name = value` for the value on the top; takes it off.
    pub(super) fn set_field(self, table: c_int, name: &CStr) {
        // SAFETY: the promise of `of`.
        unsafe { ffi::lua_setfield(self.0, table, name.as_ptr()) }
    }

    // Errors

    /// Raises "bad argument #`argument` to '<function>' (`message`)".
    pub(super) fn argument_error(self, argument: c_int, message: &CStr) -> ! {
        // SAFETY: the promise of `of`; luaL_argerror does not return.
        unsafe {
            ffi::luaL_argerror(self.0, argument, message.as_ptr());
        }
        unreachable!("luaL_argerror returned")
    }

    pub(super) fn check_argument(self, holds: bool, argument: c_int, message: &CStr) {
        if !holds {
            self.argument_error(argument, message);
        }
    }

    /// Raises "bad argument #`argument` to '<function>' (number expected, got <type>)".
    pub(super) fn number_expected(self, argument: c_int) -> ! {
        // SAFETY: the promise of `of`; luaL_typerror does not return.
        unsafe {
            ffi::luaL_typerror(self.0, argument, c"number".as_ptr());
        }
        unreachable!("luaL_typerror returned")
    }

    /// Raises `message`, with the position of the calling Lua code in front of it.
    pub(super) fn raise(self, message: fmt::Arguments<'_>) -> ! {
        let mut text = Message::new();
        // A message longer than the buffer is cut.
        let _ = text.write_fmt(message);
        // SAFETY: the promise of `of`; LUA_MINSTACK leaves room for the two strings of a message.
        unsafe {
            ffi::luaL_where(self.0, 1);
            self.push_bytes(text.as_bytes());
            ffi::lua_concat(self.0, 2);
            ffi::lua_error(self.0)
        }
    }
}

/// A short text on the stack: nothing to free when an error jumps over it. What does not fit is cut off.
pub(super) struct Message {
    bytes: [u8; Self::CAPACITY],
    length: usize,
}

impl Message {
    const CAPACITY: usize = 200;

    pub(super) fn new() -> Self {
        // The last byte stays NUL.
        Self { bytes: [0; Self::CAPACITY], length: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = Self::CAPACITY - 1 - self.length;
        let taken = bytes.len().min(room);
        self.bytes[self.length..self.length + taken].copy_from_slice(&bytes[..taken]);
        self.length += taken;
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The text up to its first NUL byte.
    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}
