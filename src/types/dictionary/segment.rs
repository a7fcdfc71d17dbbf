//! One segment of a dictionary: an open-addressed table of a fixed number of slots behind a reference count.
//!
//! Linear probing; an item's home slot follows from its tag alone, so that with tagged items neither growing nor
//! deleting (by shifting back) touches the items' memory. It must not know of the directory.
//!
//! An allocation is `2^class` bytes, an allocator's size class with nothing lost: one word with the reference count,
//! the rest slots. What a lookup needs besides the slots lies in the handle, in the dictionary's vector, since all
//! allocations of a page's size begin in the same few cache sets.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use super::{Item, hash, note_copied, prefetch_line};

/// The first segment of a dictionary: 64 bytes, 7 slots.
pub(super) const FIRST_CLASS: u8 = 6;

/// A whole segment: 4096 bytes, 511 slots.
pub(super) const FULL_CLASS: u8 = 12;

/// Slots in a segment of this class.
pub(super) const fn slot_count(class: u8) -> usize {
    (1 << class) / size_of::<usize>() - 1
}

/// The most items that a segment of this class takes: seven eighths, which leaves every probe an empty slot to end at.
pub(super) const fn max_len(class: u8) -> usize {
    slot_count(class) * 7 / 8
}

/// The part of the hash that items carry: never 0, which stands for an unknown tag.
#[inline(always)]
pub(super) fn tag_of_hash(hash: u64) -> u16 {
    (hash as u16).max(1)
}

/// The tag of an item, from its own spare bits if it has them.
#[inline]
pub(super) fn tag_of_item<T: Item>(item: &T) -> u16 {
    match item.tag() {
        0 => tag_of_hash(hash(item.key())),
        tag => tag,
    }
}

/// The slot at which the search for a tag begins: monotone in the tag, which scanning relies on.
#[inline(always)]
pub(super) fn home(tag: u16, slot_count: usize) -> usize {
    (usize::from(tag) * slot_count) >> 16
}

/// The outcome of a search.
pub(super) enum Probe {
    /// The slot with the key.
    Found(usize),
    /// The key is not here; this is the empty slot that it would get.
    Vacant(usize),
}

/// The start of an allocation; the slots follow it.
#[repr(C)]
struct Header {
    references: AtomicU32,
    _padding: u32,
}

/// A counted reference to a segment, and what it takes to read it.
pub(super) struct Segment<T> {
    table: NonNull<Header>,
    /// The prefix of the hashes that belong here, below a leading one bit that marks its length.
    path: u32,
    len: u16,
    class: u8,
    slots: PhantomData<Box<[Option<T>]>>,
}

// SAFETY: a segment is like an Arc of its slots: handles on several threads only read them (and clone items of a shared
// segment), hence T: Sync; the last handle, on whatever thread, drops the items, hence T: Send.
unsafe impl<T: Send + Sync> Send for Segment<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Segment<T> {}

impl<T> Segment<T> {
    const LAYOUT_IS_SOUND: () = assert!(
        size_of::<Option<T>>() == size_of::<usize>()
            && align_of::<Option<T>>() <= align_of::<u64>()
            && size_of::<Header>() == size_of::<usize>(),
        "items are one pointer wide and have a niche"
    );

    fn layout(class: u8) -> Layout {
        // Two slots' alignment, that of any allocation of this size anyway.
        Layout::from_size_align(1 << class, 16).unwrap_or_else(|_| unreachable!("classes are small"))
    }

    /// An empty segment.
    pub(super) fn new(class: u8, path: u32) -> Self {
        let () = Self::LAYOUT_IS_SOUND;
        let layout = Self::layout(class);
        // SAFETY: the layout's size is not zero.
        let Some(table) = NonNull::new(unsafe { alloc(layout) }.cast::<Header>()) else {
            handle_alloc_error(layout)
        };
        // SAFETY: the allocation is new, large enough for the header and `slot_count` slots after it, and aligned
        // for both (LAYOUT_IS_SOUND).
        unsafe {
            table.write(Header { references: AtomicU32::new(1), _padding: 0 });
            let slots = table.add(1).cast::<Option<T>>();
            for slot in 0..slot_count(class) {
                slots.add(slot).write(None);
            }
        }
        Segment { table, path, len: 0, class, slots: PhantomData }
    }

    #[inline(always)]
    pub(super) fn slots(&self) -> &[Option<T>] {
        // SAFETY: `new` initialised this many slots behind the header; while this handle is borrowed nobody mutates
        // them, since mutation takes the only handle mutably.
        unsafe { std::slice::from_raw_parts(self.table.add(1).cast().as_ptr(), slot_count(self.class)) }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    pub(super) fn class(&self) -> u8 {
        self.class
    }

    /// How many leading bits of the hash all keys in here share.
    #[inline]
    pub(super) fn depth(&self) -> u32 {
        self.path.ilog2()
    }

    /// Those bits.
    #[inline]
    pub(super) fn prefix(&self) -> usize {
        (self.path ^ (1 << self.depth())) as usize
    }

    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.len() < max_len(self.class)
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        1 << self.class
    }

    #[inline(always)]
    fn references(&self) -> &AtomicU32 {
        // SAFETY: the header lives as long as any handle.
        unsafe { &(*self.table.as_ptr()).references }
    }

    /// Starts to load the reference count.
    #[inline(always)]
    pub(super) fn prefetch_count(&self) {
        prefetch_line(self.table.as_ptr());
    }

    #[inline]
    fn is_shared(&self) -> bool {
        // Acquire: what a former sharer did with the slots happened before its decrement, and so before what we do.
        self.references().load(Ordering::Acquire) != 1
    }
}

impl<T: Item> Segment<T> {
    /// The slots for writing; copies the segment first if it is shared.
    #[inline]
    pub(super) fn slots_mut(&mut self) -> &mut [Option<T>] {
        if self.is_shared() {
            self.unshare();
        }
        // SAFETY: this is the only handle, borrowed mutably; the slots are initialised.
        unsafe { std::slice::from_raw_parts_mut(self.table.add(1).cast().as_ptr(), slot_count(self.class)) }
    }

    #[cold]
    #[inline(never)]
    fn unshare(&mut self) {
        note_copied(self.allocated_bytes());
        self.slots().iter().flatten().for_each(T::prefetch);
        let mut copy = Segment::new(self.class, self.path);
        copy.slots_mut().clone_from_slice(self.slots());
        copy.len = self.len;
        *self = copy;
    }

    /// Searches for a key. Ends, since `max_len` leaves empty slots.
    #[inline(always)]
    pub(super) fn probe(&self, hash: u64, key: &[u8]) -> Probe {
        let slots = self.slots();
        let tag = tag_of_hash(hash);
        let mut slot = home(tag, slots.len());
        loop {
            match &slots[slot] {
                None => return Probe::Vacant(slot),
                Some(item) => {
                    let found = item.tag();
                    if (found == tag || found == 0) && item.key() == key {
                        return Probe::Found(slot);
                    }
                }
            }
            slot = next(slot, slots.len());
        }
    }

    /// Starts to load the item that most likely has this hash.
    #[inline]
    pub(super) fn prefetch_item(&self, hash: u64) {
        let slots = self.slots();
        let tag = tag_of_hash(hash);
        let mut slot = home(tag, slots.len());
        while let Some(item) = &slots[slot] {
            let found = item.tag();
            if found == tag || found == 0 {
                item.prefetch();
                return;
            }
            slot = next(slot, slots.len());
        }
    }

    /// Puts an item into the empty slot that [`Segment::probe`] returned for it.
    #[inline]
    pub(super) fn fill(&mut self, slot: usize, item: T) {
        // A copy made here keeps every item in its slot.
        let place = &mut self.slots_mut()[slot];
        debug_assert!(place.is_none());
        *place = Some(item);
        self.len += 1;
    }

    /// Takes the item out of a slot, and moves those behind it up so that each can still be found.
    pub(super) fn take(&mut self, slot: usize) -> Option<T> {
        let slots = self.slots_mut();
        let count = slots.len();
        let taken = slots[slot].take();
        let mut hole = slot;
        let mut look = next(slot, count);
        while let Some(item) = &slots[look] {
            let home = home(tag_of_item(item), count);
            // It may move into the hole if that is not before its home, on the circle.
            let displacement = (look + count - home) % count;
            let distance = (look + count - hole) % count;
            if displacement >= distance {
                slots.swap(hole, look);
                hole = look;
            }
            look = next(look, count);
        }
        self.len -= 1;
        taken
    }

    /// Moves to a table of another class; there must be room.
    pub(super) fn resize(&mut self, class: u8) {
        let mut resized = Segment::new(class, self.path);
        resized.place_all(self);
        *self = resized;
    }

    /// The two halves of a full segment by the next bit of the hash. Leaves this one empty, or as it was if a
    /// snapshot shares it: its items then go straight into the halves and no copy is made.
    pub(super) fn split(&mut self) -> (Self, Self) {
        self.slots().iter().flatten().for_each(T::prefetch);
        let bit = 63 - self.depth();
        let mut halves =
            [Segment::new(FULL_CLASS, self.path << 1), Segment::new(FULL_CLASS, (self.path << 1) | 1)];
        self.for_each_owned(|mut item| {
            let hash = hash(item.key());
            item.set_tag(tag_of_hash(hash));
            halves[(hash >> bit) as usize & 1].place(tag_of_hash(hash), item);
        });
        let [left, right] = halves;
        (left, right)
    }

    /// Takes the buddy's items in and becomes the segment of both.
    pub(super) fn absorb(&mut self, mut buddy: Self) {
        self.slots_mut();
        self.place_all(&mut buddy);
        self.path >>= 1;
    }

    fn place_all(&mut self, source: &mut Self) {
        source.for_each_owned(|item| self.place(tag_of_item(&item), item));
    }

    /// Hands out every item: the items themselves if nobody shares this segment, which is then empty, else clones.
    fn for_each_owned(&mut self, mut f: impl FnMut(T)) {
        if self.is_shared() {
            note_copied(self.allocated_bytes());
            self.slots().iter().flatten().cloned().for_each(f);
        } else {
            self.len = 0;
            self.slots_mut().iter_mut().filter_map(Option::take).for_each(&mut f);
        }
    }

    /// Puts in an item whose key is known to be absent.
    fn place(&mut self, tag: u16, item: T) {
        let slots = self.slots();
        let mut slot = home(tag, slots.len());
        while slots[slot].is_some() {
            slot = next(slot, slots.len());
        }
        self.fill(slot, item);
    }
}

/// The slot after this one, on the circle.
#[inline(always)]
pub(super) fn next(slot: usize, slot_count: usize) -> usize {
    if slot + 1 == slot_count { 0 } else { slot + 1 }
}

impl<T> Clone for Segment<T> {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed as in Arc: a new reference comes from an existing one. So many that it could wrap would mean as
        // many leaked snapshots.
        if self.references().fetch_add(1, Ordering::Relaxed) > u32::MAX / 2 {
            std::process::abort();
        }
        Segment { slots: PhantomData, ..*self }
    }
}

impl<T> Drop for Segment<T> {
    fn drop(&mut self) {
        if self.references().fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        let slots = std::ptr::slice_from_raw_parts_mut(
            self.table.as_ptr().wrapping_add(1).cast::<Option<T>>(),
            slot_count(self.class),
        );
        // SAFETY: this was the last handle, so nothing refers to the slots, which are initialised; the layout is that
        // of the allocation in `new`.
        unsafe {
            std::ptr::drop_in_place(slots);
            dealloc(self.table.as_ptr().cast(), Self::layout(self.class));
        }
    }
}
