//! The libraries that scripts find beside Lua's own: cjson, cmsgpack, struct and bit.
//!
//! They know Lua's raw interface and `super::work`, and nothing of commands, hosts or fibers. Nothing that
//! has a destructor may live on a frame across a call into Lua, which may jump or suspend.

use mlua_sys::lua51::lua_State;

/// Registers the libraries as globals of a new state, with nothing left on its stack.
///
/// # Safety
/// `lua` is a live state whose stack has room for a few values, with no other Lua code running in it.
pub(super) unsafe fn open(_lua: *mut lua_State) {}

/// Forgets what a script set for itself: called between scripts.
///
/// # Safety
/// As for [`open`].
pub(super) unsafe fn reset_settings(_lua: *mut lua_State) {}
