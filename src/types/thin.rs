//! Reference-counted byte blocks behind pointers of one word, and the one-word choice between such a block
//! and a larger structure. Knows nothing of what the bytes mean.
//!
//! This file holds unsafe code because the memory targets demand it: a count of 2 bytes, 2 bytes for the
//! owner and a length of 4 make a prefix of 8 bytes, where safe thin pointers cost 24. A small sorted set of
//! ten members is 128 bytes instead of 160 this way, a member of a large set 16 bytes less.
//!
//! Invariants: the size of an allocation is a function of the length alone ([`allocation_size`]); bytes are
//! written only while the count is 1; a count never goes beyond [`MAX_REFERENCES`] plus the number of threads
//! that clone at the same moment, since a clone beyond it copies the block.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use triomphe::Arc;

/// From this count on, a clone copies the block instead of counting.
const MAX_REFERENCES: u16 = 1 << 15;

/// Every allocation is aligned to this, so a head of 8 bytes may follow the prefix and the lowest bit of a
/// pointer is free.
const ALIGNMENT: usize = 8;

#[repr(C)]
struct Prefix {
    references: AtomicU16,
    tag: u16,
    len: u32,
}

/// A reference-counted block: a tag of 16 bits, a fixed head `H` (of at most 8 bytes) and bytes, in one
/// allocation. `Clone` counts; writing to a shared block copies it first.
pub struct Thin<H: Copy> {
    prefix: NonNull<Prefix>,
    head: PhantomData<H>,
}

// SAFETY: the block is shared like an `Arc<(H, [u8])>`: the count is atomic, and bytes, head and tag are
// written only through `&mut` while the count is 1.
unsafe impl<H: Copy + Send + Sync> Send for Thin<H> {}
// SAFETY: as above.
unsafe impl<H: Copy + Send + Sync> Sync for Thin<H> {}

/// Size in bytes of the allocation for a total of `size` bytes: the size classes of jemalloc (steps of 16 up
/// to 128, then four steps for each doubling), so that growing inside a class needs no call.
fn size_class(size: usize) -> usize {
    let step = if size <= 128 { 16 } else { 1 << (usize::BITS - 1 - (size - 1).leading_zeros() - 2) };
    size.next_multiple_of(step)
}

impl<H: Copy> Thin<H> {
    /// Most bytes that a block can hold.
    pub const MAX_LEN: usize = u32::MAX as usize;

    const BYTES_OFFSET: usize = {
        assert!(size_of::<H>() <= 8 && align_of::<H>() <= ALIGNMENT);
        size_of::<Prefix>() + size_of::<H>()
    };

    fn allocation_size(len: usize) -> usize {
        size_class(Self::BYTES_OFFSET + len)
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(Self::allocation_size(len), ALIGNMENT).expect("a block's size fits an isize")
    }

    /// An allocation for `len` bytes with count 1; its bytes are not initialised.
    fn allocate(head: H, tag: u16, len: usize) -> Self {
        let stored_len = u32::try_from(len).expect("a block holds less than 4 GiB");
        let layout = Self::layout(len);
        // SAFETY: the layout is not empty (the prefix is part of it), and the writes stay inside of it: the
        // prefix at offset 0, the head right behind it, both aligned.
        unsafe {
            let Some(prefix) = NonNull::new(alloc(layout).cast::<Prefix>()) else {
                handle_alloc_error(layout)
            };
            prefix.write(Prefix { references: AtomicU16::new(1), tag, len: stored_len });
            prefix.byte_add(size_of::<Prefix>()).cast::<H>().write(head);
            Thin { prefix, head: PhantomData }
        }
    }

    /// A block of these bytes, one part after the other.
    pub fn new(head: H, tag: u16, parts: &[&[u8]]) -> Self {
        let thin = Self::allocate(head, tag, parts.iter().map(|part| part.len()).sum());
        // SAFETY: the allocation has room for all parts, and nobody else knows it yet.
        unsafe { write_parts(thin.start(), parts) };
        thin
    }

    fn start(&self) -> *mut u8 {
        // SAFETY: the offset lies inside of the allocation or at its end.
        unsafe { self.prefix.as_ptr().byte_add(Self::BYTES_OFFSET).cast() }
    }

    fn prefix(&self) -> &Prefix {
        // SAFETY: the prefix is initialised and lives as long as this reference is counted; it is written only
        // through `&mut self` while nobody else holds one.
        unsafe { self.prefix.as_ref() }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.prefix().len as usize
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The owner's 16 bits.
    pub fn tag(&self) -> u16 {
        self.prefix().tag
    }

    /// The fixed head.
    pub fn head(&self) -> H {
        // SAFETY: the head was written when the block was allocated.
        unsafe { self.prefix.byte_add(size_of::<Prefix>()).cast::<H>().read() }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes from the start are initialised, and not written while this borrow lives.
        unsafe { std::slice::from_raw_parts(self.start(), self.len()) }
    }

    /// Whether this is the only reference, so that a write needs no copy.
    pub fn is_unique(&mut self) -> bool {
        self.prefix().references.load(Ordering::Acquire) == 1
    }

    /// Whether two references lead to the same block.
    pub fn same(&self, other: &Self) -> bool {
        self.prefix == other.prefix
    }

    /// Bytes of memory that the block takes.
    pub fn memory_bytes(&self) -> usize {
        Self::allocation_size(self.len())
    }

    /// Sets the owner's 16 bits, copying the block first if it is shared.
    pub fn set_tag(&mut self, tag: u16) {
        if self.is_unique() {
            // SAFETY: this is the only reference, and it is borrowed mutably.
            unsafe { self.prefix.as_mut().tag = tag };
        } else {
            *self = Self::new(self.head(), tag, &[self.bytes()]);
        }
    }

    /// Replaces the bytes of `range` by the parts, one after the other, and sets the tag. A shared block is
    /// copied; the others that share it see no change.
    ///
    /// # Panics
    /// If the range does not lie inside of the bytes.
    pub fn splice(&mut self, range: Range<usize>, parts: &[&[u8]], tag: u16) {
        let len = self.len();
        assert!(range.start <= range.end && range.end <= len, "splice outside of the block");
        let added: usize = parts.iter().map(|part| part.len()).sum();
        let new_len = len - range.len() + added;
        if !self.is_unique() {
            let copy = Self::allocate(self.head(), tag, new_len);
            let bytes = self.bytes();
            // SAFETY: the new allocation has room for what precedes the range, the parts, and what follows it;
            // these are exactly `new_len` bytes, and nobody else knows it yet.
            unsafe {
                write_parts(copy.start(), &[&bytes[..range.start]]);
                write_parts(copy.start().add(range.start), parts);
                write_parts(copy.start().add(range.start + added), &[&bytes[range.end..]]);
            }
            *self = copy;
            return;
        }
        let stored_len = u32::try_from(new_len).expect("a block holds less than 4 GiB");
        if Self::allocation_size(new_len) > Self::allocation_size(len) {
            self.reallocate(len, new_len);
        }
        // SAFETY: this is the only reference, borrowed mutably. The allocation has room for the longer of the
        // two lengths; the tail is moved first, then the parts, which cannot lie in this block since it is
        // borrowed mutably, fill the gap.
        unsafe {
            let start = self.start();
            std::ptr::copy(start.add(range.end), start.add(range.start + added), len - range.end);
            write_parts(start.add(range.start), parts);
            let prefix = self.prefix.as_mut();
            prefix.len = stored_len;
            prefix.tag = tag;
        }
        if Self::allocation_size(new_len) < Self::allocation_size(len) {
            self.reallocate(len, new_len);
        }
    }

    /// Changes the allocation from that of `old_len` bytes to that of `new_len`.
    fn reallocate(&mut self, old_len: usize, new_len: usize) {
        let layout = Self::layout(new_len);
        // SAFETY: only called while this is the only reference, with the length that the allocation was made
        // for; the new size is not zero and was checked by `layout`.
        unsafe {
            let moved = realloc(self.prefix.as_ptr().cast(), Self::layout(old_len), layout.size());
            let Some(prefix) = NonNull::new(moved.cast()) else { handle_alloc_error(layout) };
            self.prefix = prefix;
        }
    }
}

/// Copies the parts to `target`, one after the other.
///
/// # Safety
/// `target` must be valid for writes of the sum of their lengths and must not overlap any of them.
unsafe fn write_parts(target: *mut u8, parts: &[&[u8]]) {
    let mut at = 0;
    for part in parts {
        // SAFETY: promised by the caller.
        unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), target.add(at), part.len()) };
        at += part.len();
    }
}

impl<H: Copy> Clone for Thin<H> {
    fn clone(&self) -> Self {
        let references = &self.prefix().references;
        // The order of the increment does not matter: whoever clones holds a reference already.
        if references.fetch_add(1, Ordering::Relaxed) < MAX_REFERENCES {
            return Thin { prefix: self.prefix, head: PhantomData };
        }
        references.fetch_sub(1, Ordering::Release);
        Self::new(self.head(), self.tag(), &[self.bytes()])
    }
}

impl<H: Copy> Drop for Thin<H> {
    fn drop(&mut self) {
        let len = self.len();
        if self.prefix().references.fetch_sub(1, Ordering::Release) == 1 {
            // All writes through other references happen before the memory goes.
            fence(Ordering::Acquire);
            // SAFETY: this was the last reference, and the allocation was made for `len` bytes.
            unsafe { dealloc(self.prefix.as_ptr().cast(), Self::layout(len)) };
        }
    }
}

impl<H: Copy> fmt::Debug for Thin<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thin({} bytes, tag {})", self.len(), self.tag())
    }
}

/// One word that holds either a small form, one flat block, or a large one behind a reference count.
pub struct Form<T> {
    /// From `Thin<()>`, or from `Arc<T>` with the lowest bit set.
    pointer: NonNull<Prefix>,
    owned: PhantomData<(Thin<()>, Arc<T>)>,
}

/// What a [`Form`] holds.
pub enum View<'a, T> {
    /// The flat block.
    Small(&'a Thin<()>),
    /// The large structure.
    Large(&'a T),
}

/// What a [`Form`] holds, for writing. A shared block copies itself when it is written to.
pub enum ViewMut<'a, T> {
    /// The flat block.
    Small(&'a mut Thin<()>),
    /// The large structure, no longer shared.
    Large(&'a mut T),
}

// SAFETY: a form owns a `Thin<()>` (Send and Sync) or an `Arc<T>`, and hands out what these would.
unsafe impl<T: Send + Sync> Send for Form<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Form<T> {}

impl<T> Form<T> {
    /// A form that holds a flat block.
    pub fn small(block: Thin<()>) -> Self {
        let pointer = block.prefix;
        std::mem::forget(block);
        Form { pointer, owned: PhantomData }
    }

    /// A form that holds a large structure.
    pub fn large(value: T) -> Self {
        Self::from_arc(Arc::new(value))
    }

    fn from_arc(arc: Arc<T>) -> Self {
        const { assert!(align_of::<T>() >= 2) };
        let raw = Arc::into_raw(arc).cast::<Prefix>().cast_mut();
        // SAFETY: a pointer into an allocation is not null, nor is it with its lowest bit set; that bit is
        // free because `T` is aligned to at least 2.
        let pointer = unsafe { NonNull::new_unchecked(raw.map_addr(|address| address | 1)) };
        Form { pointer, owned: PhantomData }
    }

    /// The pointer that `Arc::into_raw` gave, if the form is large.
    fn large_pointer(&self) -> Option<*const T> {
        let raw = self.pointer.as_ptr();
        (raw.addr() & 1 == 1).then(|| raw.map_addr(|address| address & !1).cast::<T>().cast_const())
    }

    /// Whether the form is the large one.
    pub fn is_large(&self) -> bool {
        self.large_pointer().is_some()
    }

    /// What the form holds.
    pub fn view(&self) -> View<'_, T> {
        match self.large_pointer() {
            // SAFETY: the form owns one count of the `Arc`, so the value lives as long as the borrow.
            Some(pointer) => View::Large(unsafe { &*pointer }),
            // SAFETY: without the lowest bit the word is that of a `Thin<()>`, a struct of just this pointer.
            None => View::Small(unsafe { &*std::ptr::from_ref(&self.pointer).cast::<Thin<()>>() }),
        }
    }

    /// What the form holds, for writing; a large structure that is shared is cloned first.
    pub fn view_mut(&mut self) -> ViewMut<'_, T>
    where
        T: Clone,
    {
        let Some(pointer) = self.large_pointer() else {
            // SAFETY: as in `view`; whatever the block does to its pointer, the lowest bit stays clear, since
            // allocations are aligned to 8.
            return ViewMut::Small(unsafe { &mut *std::ptr::from_mut(&mut self.pointer).cast::<Thin<()>>() });
        };
        // SAFETY: the form owns the count that is turned back into an `Arc` here; it is borrowed through
        // `ManuallyDrop`, so the count is not given up, even if the clone below panics.
        let arc = std::mem::ManuallyDrop::new(unsafe { Arc::from_raw(pointer) });
        if !arc.is_unique() {
            *self = Self::from_arc(Arc::new(T::clone(&arc)));
        }
        let pointer = self.large_pointer().expect("the form is large").cast_mut();
        // SAFETY: the count is 1 and owned by this form, which is borrowed mutably for as long as the result.
        ViewMut::Large(unsafe { &mut *pointer })
    }
}

impl<T> Clone for Form<T> {
    fn clone(&self) -> Self {
        match self.large_pointer() {
            Some(pointer) => {
                // SAFETY: the form owns the count; `ManuallyDrop` keeps it, and the clone adds one.
                let arc = std::mem::ManuallyDrop::new(unsafe { Arc::from_raw(pointer) });
                Self::from_arc(Arc::clone(&arc))
            }
            None => match self.view() {
                View::Small(block) => Self::small(block.clone()),
                View::Large(_) => unreachable!("the lowest bit is clear"),
            },
        }
    }
}

impl<T> Drop for Form<T> {
    fn drop(&mut self) {
        match self.large_pointer() {
            // SAFETY: the form owns this count and gives it up here, once.
            Some(pointer) => drop(unsafe { Arc::from_raw(pointer) }),
            None => drop(Thin::<()> { prefix: self.pointer, head: PhantomData }),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Form<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.view() {
            View::Small(block) => block.fmt(f),
            View::Large(value) => value.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_those_of_jemalloc() {
        for (size, class) in [
            (1, 16),
            (16, 16),
            (17, 32),
            (128, 128),
            (129, 160),
            (160, 160),
            (161, 192),
            (256, 256),
            (257, 320),
            (8192, 8192),
            (8193, 10240),
        ] {
            assert_eq!(size_class(size), class, "{size}");
        }
    }

    #[test]
    fn heads_and_tags_survive() {
        let mut thin = Thin::new(1.5f64, 7, &[b"ab", b"c"]);
        assert_eq!((thin.head(), thin.tag(), thin.bytes()), (1.5, 7, &b"abc"[..]));
        let kept = thin.clone();
        thin.splice(1..2, &[&[b'x'; 1000]], 9);
        assert_eq!((kept.head(), kept.tag(), kept.bytes()), (1.5, 7, &b"abc"[..]));
        assert_eq!((thin.head(), thin.tag(), thin.len()), (1.5, 9, 1002));
        assert_eq!(size_of::<Option<Thin<f64>>>(), 8);
    }

    #[test]
    fn a_block_with_very_many_references_copies_itself() {
        let thin = Thin::new((), 0, &[b"bytes"]);
        let clones: Vec<_> = (0..100_000).map(|_| thin.clone()).collect();
        assert!(clones.iter().all(|clone| clone.bytes() == b"bytes"));
        assert!(clones.iter().any(|clone| !clone.same(&thin)));
        drop(clones);
        let mut thin = thin;
        assert!(thin.is_unique());
    }

    #[test]
    fn forms_share_until_written() {
        let mut form: Form<Vec<u8>> = Form::small(Thin::new((), 3, &[b"x"]));
        let kept = form.clone();
        if let ViewMut::Small(block) = form.view_mut() {
            block.splice(0..1, &[b"yy"], 4);
        }
        assert!(matches!(kept.view(), View::Small(block) if block.bytes() == b"x"));
        assert!(matches!(form.view(), View::Small(block) if block.bytes() == b"yy"));
        form = Form::large(vec![1, 2]);
        let kept = form.clone();
        if let ViewMut::Large(value) = form.view_mut() {
            value.push(3);
        }
        assert!(matches!(kept.view(), View::Large(value) if value == &[1, 2]));
        assert!(matches!(form.view(), View::Large(value) if value == &[1, 2, 3]));
        assert_eq!(size_of::<Option<Form<Vec<u8>>>>(), 8);
    }

    proptest! {
        #[test]
        fn splices_like_a_vector(edits in proptest::collection::vec((0usize..400, 0usize..400, proptest::collection::vec(any::<u8>(), 0..300), any::<bool>()), 1..40)) {
            let mut thin = Thin::new(5u32, 0, &[]);
            let mut model: Vec<u8> = Vec::new();
            let mut kept = Vec::new();
            for (a, b, bytes, keep) in edits {
                let (a, b) = (a.min(model.len()), b.min(model.len()));
                let range = a.min(b)..a.max(b);
                if keep {
                    kept.push((thin.clone(), model.clone()));
                }
                let (left, right) = bytes.split_at(bytes.len() / 2);
                thin.splice(range.clone(), &[left, right], 1);
                model.splice(range, bytes.iter().copied());
                prop_assert_eq!(thin.bytes(), &model[..]);
                prop_assert_eq!(thin.head(), 5);
            }
            for (thin, model) in kept {
                prop_assert_eq!(thin.bytes(), &model[..]);
            }
        }
    }
}
