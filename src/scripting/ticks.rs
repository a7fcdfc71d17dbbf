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

/// What one turn of an ordinary loop costs: see [`work`].
///
/// # Safety
/// As for [`work`].
#[inline]
#[allow(dead_code, reason = "for the libraries")]
pub(in crate::scripting) unsafe fn tick(lua: *mut lua_State) {
    // SAFETY: passed on to the caller.
    unsafe { work(lua, 4) }
}

#[cfg(test)]
mod tests {
    use mlua_sys::lua51::*;

    #[test]
    fn the_interpreter_runs() {
        // SAFETY: a fresh state, closed at the end.
        unsafe {
            let lua = luaL_newstate();
            lua_pushcclosure(lua, luaopen_base, 0);
            lua_call(lua, 0, 0);
            assert_eq!(
                luaL_dostring(lua, c"local t = {} for i = 1, 100 do t[i] = i end return #t".as_ptr()),
                0
            );
            assert_eq!(lua_tonumber(lua, -1), 100.0);
            lua_close(lua);
        }
    }
}
