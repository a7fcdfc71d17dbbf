//! The libraries that scripts find beside Lua's own: `cjson`, `cmsgpack`, `struct` and `bit`.
//!
//! They answer byte for byte what Valkey's answer, error texts included, and know nothing of the server. Invariants:
//! no long loop runs without a tick; no recursion follows the depth of its input further than a fixed bound; all
//! memory is the Lua state's own (see [`scratch`]); no frame of theirs holds anything with a destructor, since Lua
//! errors and abandoned scripts jump over them (see [`stack`]). The one difference from Valkey: the settings of the
//! global `cjson` last only until [`reset_settings`].

mod bit;
mod cjson;
mod cmsgpack;
mod scratch;
mod stack;
mod struct_pack;
#[cfg(test)]
mod tests;

use std::ffi::{CStr, c_int, c_void};

use mlua_sys::lua51 as ffi;
use mlua_sys::lua51::{lua_CFunction, lua_State};

use scratch::Scratch;
use stack::Stack;

/// The address of this is the registry's key for the [`LibraryState`].
static STATE_KEY: u8 = 0;

fn state_key() -> *mut c_void {
    (&raw const STATE_KEY).cast_mut().cast()
}

/// What the libraries keep per Lua state: a userdata in its registry, released with the state.
struct LibraryState {
    scratch: Scratch,
    /// Those of the global `cjson`.
    settings: cjson::Settings,
}

/// Registers `cjson`, `cmsgpack`, `struct` and `bit` as globals. Raises a Lua error if there is no memory.
///
/// # Safety
/// `state` must be a live Lua state with room for a few values on its stack, and no frame below may hold anything
/// with a destructor.
pub(super) unsafe fn open(state: *mut lua_State) {
    // SAFETY: the caller's promise.
    let stack = unsafe { Stack::of(state) };
    let shared = push_new_state(stack);
    bit::open(stack);
    struct_pack::open(stack);
    cmsgpack::open(stack);
    // SAFETY: `shared` is the userdata on the top of the stack, which the registry keeps alive from here on.
    unsafe {
        cjson::open(stack, &raw mut (*shared).settings);
        ffi::lua_pushlightuserdata(state, state_key());
        stack.insert(-2);
        ffi::lua_rawset(state, ffi::LUA_REGISTRYINDEX);
    }
}

/// Makes the settings of the global `cjson` the defaults again and gives back what scratch memory grew large: to be
/// called between scripts. Modules that a script made with `cjson.new()` are its own and keep theirs.
///
/// # Safety
/// `state` must be a live Lua state with a free stack slot, in which no library function is running.
pub(super) unsafe fn reset_settings(state: *mut lua_State) {
    // SAFETY: the caller's promise; nothing here can raise, and the registry's entry is a `LibraryState` or nil.
    unsafe {
        ffi::lua_pushlightuserdata(state, state_key());
        ffi::lua_rawget_(state, ffi::LUA_REGISTRYINDEX);
        if let Some(shared) = ffi::lua_touserdata(state, -1).cast::<LibraryState>().as_mut() {
            shared.settings = cjson::Settings::DEFAULT;
            shared.scratch.shrink(state);
        }
        ffi::lua_settop(state, -2);
    }
}

fn push_new_state(stack: Stack) -> *mut LibraryState {
    // SAFETY: Lua aligns a userdata to 8 bytes, and it is filled before anything can read it.
    let shared = unsafe {
        const { assert!(align_of::<LibraryState>() <= 8) };
        let shared = ffi::lua_newuserdata(stack.state(), size_of::<LibraryState>()).cast::<LibraryState>();
        shared.write(LibraryState { scratch: Scratch::new(), settings: cjson::Settings::DEFAULT });
        shared
    };
    stack.push_table();
    stack.push_closure(release_state, 0);
    stack.set_field(-2, c"__gc");
    // SAFETY: the metatable lies on the userdata.
    unsafe { ffi::lua_setmetatable(stack.state(), -2) };
    shared
}

/// The `__gc` of the [`LibraryState`].
unsafe extern "C-unwind" fn release_state(state: *mut lua_State) -> c_int {
    // SAFETY: only a `LibraryState` has the metatable with this function, and no other library function runs now.
    unsafe {
        if let Some(shared) = ffi::lua_touserdata(state, 1).cast::<LibraryState>().as_mut() {
            shared.scratch.release(state);
        }
    }
    0
}

/// The scratch of the running function, whose first upvalue is the [`LibraryState`].
///
/// # Safety
/// The function must have been registered with the library state as its first upvalue, and must borrow the scratch
/// only once per call.
unsafe fn scratch<'script>(stack: Stack) -> &'script mut Scratch {
    // SAFETY: the caller's promise.
    unsafe {
        let shared = ffi::lua_touserdata(stack.state(), ffi::lua_upvalueindex(1)).cast::<LibraryState>();
        &mut (*shared).scratch
    }
}

/// Pushes a table of `functions` and makes it the global `name`.
fn register(stack: Stack, name: &CStr, functions: &[(&CStr, lua_CFunction)], upvalues: c_int) {
    push_module(stack, functions, upvalues);
    stack.push_copy(-1);
    // SAFETY: the stack's promise.
    unsafe { ffi::lua_setglobal(stack.state(), name.as_ptr()) };
}

/// Replaces the `upvalues` values on the top by a table of `functions`, each a closure over them.
fn push_module(stack: Stack, functions: &[(&CStr, lua_CFunction)], upvalues: c_int) {
    stack.push_table();
    stack.insert(-upvalues - 1);
    for &(name, function) in functions {
        for _ in 0..upvalues {
            stack.push_copy(-upvalues);
        }
        stack.push_closure(function, upvalues);
        stack.set_field(-upvalues - 2, name);
    }
    stack.pop(upvalues);
}

/// Counts the work of one call, and hands it over in portions: only there may the script be suspended. In units
/// of [`super::work`], a few nanoseconds each.
struct Pace {
    left: usize,
}

impl Pace {
    const PORTION: usize = 1024;
    const UNITS_PER_TURN: usize = 4;
    const BYTES_PER_UNIT: usize = 4;
    /// The most bytes that a loop should go through between two calls of [`Self::bytes`].
    const CHUNK_BYTES: usize = Self::PORTION * Self::BYTES_PER_UNIT;

    fn new() -> Self {
        Self { left: Self::PORTION }
    }

    /// One turn of a loop.
    #[inline]
    fn turn(&mut self, stack: Stack) {
        self.spend(stack, Self::UNITS_PER_TURN);
    }

    /// `count` bytes looked at one by one.
    #[inline]
    fn bytes(&mut self, stack: Stack, count: usize) {
        self.spend(stack, count / Self::BYTES_PER_UNIT);
    }

    #[inline]
    fn spend(&mut self, stack: Stack, units: usize) {
        match self.left.checked_sub(units) {
            Some(left) => self.left = left,
            None => self.hand_over(stack, units),
        }
    }

    #[cold]
    fn hand_over(&mut self, stack: Stack, units: usize) {
        let spent = Self::PORTION - self.left + units;
        self.left = Self::PORTION;
        // SAFETY: the stack's promise covers suspension, and the libraries leave Lua's state consistent.
        unsafe { super::work(stack.state(), spent) };
    }

    /// Hands over what is left at the end of a call.
    #[inline]
    fn finish(mut self, stack: Stack) {
        if self.left < Self::PORTION {
            self.hand_over(stack, 0);
        }
    }
}

/// The integer part as the reference's processor computes it: what does not fit becomes the least value.
fn truncate_to_i64(number: f64) -> i64 {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if (-TWO_TO_63..TWO_TO_63).contains(&number) { number as i64 } else { i64::MIN }
}

/// [`truncate_to_i64`] for 32 bits.
fn truncate_to_i32(number: f64) -> i32 {
    const TWO_TO_31: f64 = 2_147_483_648.0;
    if number > -TWO_TO_31 - 1.0 && number < TWO_TO_31 { number as i32 } else { i32::MIN }
}
