//! `bit`: operations on 32-bit integers, as in Lua BitOp 1.0.2. Needs no scratch memory and never runs long.

use std::ffi::c_int;

use mlua_sys::lua51::lua_State;

use super::register;
use super::stack::Stack;

/// Registers the global `bit`.
pub(super) fn open(stack: Stack) {
    register(
        stack,
        c"bit",
        &[
            (c"tobit", tobit),
            (c"bnot", bnot),
            (c"band", band),
            (c"bor", bor),
            (c"bxor", bxor),
            (c"lshift", lshift),
            (c"rshift", rshift),
            (c"arshift", arshift),
            (c"rol", rol),
            (c"ror", ror),
            (c"bswap", bswap),
            (c"tohex", tohex),
        ],
        0,
    );
    stack.pop(1);
}

/// A number as 32 bits: rounded to the nearest integer (ties to even), then taken modulo 2^32. Adding 2^52 + 2^51
/// leaves the integer in the low bits of the mantissa, which defines what happens beyond 2^51, and to NaN and the
/// infinities (they become 0).
fn bits_of(number: f64) -> u32 {
    const SHIFT_INTO_MANTISSA: f64 = 6_755_399_441_055_744.0;
    (number + SHIFT_INTO_MANTISSA).to_bits() as u32
}

fn argument(stack: Stack, index: c_int) -> u32 {
    let bits = bits_of(stack.number(index));
    if bits == 0 && !stack.is_numeric(index) {
        stack.number_expected(index);
    }
    bits
}

fn answer(stack: Stack, bits: u32) -> c_int {
    stack.push_number(f64::from(bits.cast_signed()));
    1
}

/// Folds the arguments from the last to the second into the first, so the last bad one is the one reported.
fn fold(state: *mut lua_State, operation: impl Fn(u32, u32) -> u32) -> c_int {
    // SAFETY: called with the state of a running C function; only plain values are alive on its frames.
    let stack = unsafe { Stack::of(state) };
    let first = argument(stack, 1);
    let bits = (2..=stack.top()).rev().fold(first, |bits, index| operation(bits, argument(stack, index)));
    answer(stack, bits)
}

/// An operation with a distance, of which only the low five bits count.
fn shift(state: *mut lua_State, operation: impl Fn(u32, u32) -> u32) -> c_int {
    // SAFETY: as in `fold`.
    let stack = unsafe { Stack::of(state) };
    let bits = argument(stack, 1);
    let distance = argument(stack, 2) & 31;
    answer(stack, operation(bits, distance))
}

fn unary(state: *mut lua_State, operation: impl Fn(u32) -> u32) -> c_int {
    // SAFETY: as in `fold`.
    let stack = unsafe { Stack::of(state) };
    answer(stack, operation(argument(stack, 1)))
}

unsafe extern "C-unwind" fn tobit(state: *mut lua_State) -> c_int {
    unary(state, |bits| bits)
}

unsafe extern "C-unwind" fn bnot(state: *mut lua_State) -> c_int {
    unary(state, |bits| !bits)
}

unsafe extern "C-unwind" fn bswap(state: *mut lua_State) -> c_int {
    unary(state, u32::swap_bytes)
}

unsafe extern "C-unwind" fn band(state: *mut lua_State) -> c_int {
    fold(state, |left, right| left & right)
}

unsafe extern "C-unwind" fn bor(state: *mut lua_State) -> c_int {
    fold(state, |left, right| left | right)
}

unsafe extern "C-unwind" fn bxor(state: *mut lua_State) -> c_int {
    fold(state, |left, right| left ^ right)
}

unsafe extern "C-unwind" fn lshift(state: *mut lua_State) -> c_int {
    shift(state, |bits, distance| bits << distance)
}

unsafe extern "C-unwind" fn rshift(state: *mut lua_State) -> c_int {
    shift(state, |bits, distance| bits >> distance)
}

unsafe extern "C-unwind" fn arshift(state: *mut lua_State) -> c_int {
    shift(state, |bits, distance| (bits.cast_signed() >> distance).cast_unsigned())
}

unsafe extern "C-unwind" fn rol(state: *mut lua_State) -> c_int {
    shift(state, u32::rotate_left)
}

unsafe extern "C-unwind" fn ror(state: *mut lua_State) -> c_int {
    shift(state, u32::rotate_right)
}

/// The low `n` hexadecimal digits (8 by default and at most), in capitals if `n` is negative.
unsafe extern "C-unwind" fn tohex(state: *mut lua_State) -> c_int {
    // SAFETY: as in `fold`.
    let stack = unsafe { Stack::of(state) };
    let mut bits = argument(stack, 1);
    let wanted = if stack.is_absent(2) { 8 } else { argument(stack, 2).cast_signed() };
    let digits: &[u8; 16] = if wanted < 0 { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let mut text = [0; 8];
    let text = &mut text[..wanted.unsigned_abs().min(8) as usize];
    for digit in text.iter_mut().rev() {
        *digit = digits[(bits & 15) as usize];
        bits >>= 4;
    }
    stack.push_bytes(text);
    1
}
