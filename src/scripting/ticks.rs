//! The work credit that C and Rust code inside the interpreter spends, so that no loop outside of the virtual
//! machine runs longer than a slice. See the patches in `build/lua_patches.rs`.

use std::os::raw::c_int;

use mlua_sys::lua51::lua_State;

/// The function that Lua calls when the work credit is used up.
pub(super) type Tick = unsafe extern "C-unwind" fn(*mut lua_State);

unsafe extern "C-unwind" {
    fn lua_workcredit(lua: *mut lua_State) -> *mut c_int;
    fn lua_tick(lua: *mut lua_State);
    pub(super) fn lua_settick(lua: *mut lua_State, tick: Option<Tick>);
}

/// The credit between two ticks; the same number as `LUA_WORK_CREDIT` in the patches.
const WORK_CREDIT: c_int = 4096;

/// Counts `units` of work (one unit is about one step of the virtual machine, a few nanoseconds; copying 16
/// bytes is one). Suspends the script here if its slice is over.
///
/// # Safety
/// `lua` is the running state. Called only where the script may be abandoned: nothing that needs its
/// destructor lives on the stack, and the Lua state is consistent.
#[inline]
pub(in crate::scripting) unsafe fn work(lua: *mut lua_State, units: usize) {
    // SAFETY: the pointer lies in the global state of `lua`, which is live.
    unsafe {
        let credit = lua_workcredit(lua);
        *credit -= units.min(1 << 20) as c_int;
        if *credit <= 0 {
            lua_tick(lua);
        }
    }
}

/// Gives C code its full credit again.
///
/// # Safety
/// `lua` is a live state.
pub(super) unsafe fn renew_credit(lua: *mut lua_State) {
    // SAFETY: the pointer lies in the global state of `lua`, which is live.
    unsafe { *lua_workcredit(lua) = WORK_CREDIT };
}
