//! Memory the libraries work in, owned by the Lua state and kept from call to call.
//!
//! It is taken from the state's own allocator, so it counts against the memory limit of the script that needs it,
//! and it is given back by the garbage collector when the state closes: a Lua error or an abandoned script that
//! jumps over Rust frames leaves nothing behind. One state runs one script at a time, so one [`Scratch`] is enough.

use std::marker::PhantomData;
use std::ptr::NonNull;

use mlua_sys::lua51 as ffi;
use mlua_sys::lua51::lua_State;

use super::cjson::{DecodeLevel, EncodeLevel};
use super::cmsgpack::UnpackLevel;
use super::stack::Stack;

/// A growable array in the allocator of one Lua state. Being `Copy`-element only, it needs no drop; [`Scratch`]
/// releases it with its state.
pub(super) struct Buffer<T: Copy> {
    start: NonNull<T>,
    length: usize,
    capacity: usize,
    elements: PhantomData<T>,
}

impl<T: Copy> Buffer<T> {
    const fn new() -> Self {
        Self { start: NonNull::dangling(), length: 0, capacity: 0, elements: PhantomData }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.length
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[T] {
        // SAFETY: the first `length` elements are initialized and `start` is aligned, even when it dangles.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    #[inline]
    pub(super) fn last_mut(&mut self) -> Option<&mut T> {
        // SAFETY: as in `as_slice`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }.last_mut()
    }

    #[inline]
    pub(super) fn push(&mut self, stack: Stack, element: T) {
        if self.length == self.capacity {
            self.grow(stack, 1);
        }
        // SAFETY: there is room for one more.
        unsafe { self.start.as_ptr().add(self.length).write(element) };
        self.length += 1;
    }

    #[inline]
    pub(super) fn pop(&mut self) {
        self.length = self.length.saturating_sub(1);
    }

    #[inline]
    pub(super) fn extend(&mut self, stack: Stack, elements: &[T]) {
        if elements.len() > self.capacity - self.length {
            self.grow(stack, elements.len());
        }
        // SAFETY: there is room, and a shared slice cannot lie in this exclusively borrowed buffer.
        unsafe {
            std::ptr::copy_nonoverlapping(
                elements.as_ptr(),
                self.start.as_ptr().add(self.length),
                elements.len(),
            );
        }
        self.length += elements.len();
    }

    /// Makes room for at least `additional` more elements, or raises Lua's memory error.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, stack: Stack, additional: usize) {
        const { assert!(align_of::<T>() <= 8, "Lua allocators align to 8 bytes at least") };
        let capacity = self
            .length
            .checked_add(additional)
            .map(|needed| needed.max(self.capacity.saturating_mul(2)).max(64))
            .filter(|capacity| {
                capacity.checked_mul(size_of::<T>()).is_some_and(|size| size < isize::MAX as usize)
            });
        let Some(capacity) = capacity else { out_of_memory(stack, usize::MAX / 2) };
        match reallocate(stack.state(), self.start, self.capacity, capacity) {
            Some(start) => (self.start, self.capacity) = (start, capacity),
            None => out_of_memory(stack, capacity * size_of::<T>()),
        }
    }

    pub(super) fn release(&mut self, state: *mut lua_State) {
        if self.capacity > 0 {
            reallocate(state, self.start, self.capacity, 0);
        }
        *self = Self::new();
    }
}

/// Resizes an allocation of `old` elements to `new` ones; `None` if there is no memory, or `new` is 0.
fn reallocate<T>(state: *mut lua_State, start: NonNull<T>, old: usize, new: usize) -> Option<NonNull<T>> {
    let block = if old == 0 { std::ptr::null_mut() } else { start.as_ptr().cast() };
    let mut data = std::ptr::null_mut();
    // SAFETY: `block` is null or came from this allocator with the size given.
    let block = unsafe {
        let allocate = ffi::lua_getallocf(state, &raw mut data);
        allocate(data, block, old * size_of::<T>(), new * size_of::<T>())
    };
    NonNull::new(block.cast())
}

/// Raises what Lua raises when an allocation fails. Only Lua itself can raise its memory error, so it is asked for
/// the same amount, which the allocator has just refused.
#[cold]
fn out_of_memory(stack: Stack, size: usize) -> ! {
    // SAFETY: the stack's promise; the C function that fails has the one free slot that this needs.
    unsafe { ffi::lua_newuserdata(stack.state(), size) };
    stack.raise(format_args!("not enough memory"))
}

/// The working memory of the libraries of one state.
pub(super) struct Scratch {
    /// Output being built, or the text of a JSON string with its escapes undone.
    pub(super) bytes: Buffer<u8>,
    pub(super) encode_levels: Buffer<EncodeLevel>,
    pub(super) decode_levels: Buffer<DecodeLevel>,
    pub(super) unpack_levels: Buffer<UnpackLevel>,
}

impl Scratch {
    pub(super) const fn new() -> Self {
        Self {
            bytes: Buffer::new(),
            encode_levels: Buffer::new(),
            decode_levels: Buffer::new(),
            unpack_levels: Buffer::new(),
        }
    }

    /// Gives back the bytes if they are more than is worth keeping from script to script.
    pub(super) fn shrink(&mut self, state: *mut lua_State) {
        const KEPT_BYTES: usize = 64 * 1024;
        if self.bytes.capacity > KEPT_BYTES {
            self.bytes.release(state);
        }
    }

    pub(super) fn release(&mut self, state: *mut lua_State) {
        self.bytes.release(state);
        self.encode_levels.release(state);
        self.decode_levels.release(state);
        self.unpack_levels.release(state);
    }
}
