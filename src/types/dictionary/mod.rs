//! The dictionary: an extendible hash table whose versions are cheap to keep.
//!
//! A directory of `u32` indexes, addressed by the top bits of the hash, points into a vector of reference-counted
//! segments of 511 slots. Cloning a dictionary clones the segment pointers only; a write to a segment that a clone
//! still shares copies that one segment first. A full segment splits in two, so no insert ever moves more than one
//! segment's items: there is no rehash of the whole table. The first segment starts at seven slots and doubles.
//!
//! It knows nothing of what an item is beyond its key, and nothing of expiry, commands or threads.
//!
//! Invariants:
//! - A segment of depth `d` is pointed at by exactly the `2^(D-d)` adjacent directory slots that share its prefix,
//!   `D` being the directory's depth; every segment index occurs.
//! - All segments have one size: the full one as soon as there is more than one segment.
//! - A segment is mutated only while its reference count is one.
//! - Between any item's home slot and its actual slot there is no empty slot.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use siphasher::sip::SipHasher13;

mod scan;
mod segment;
#[cfg(test)]
mod tests;

use segment::{FULL_CLASS, Probe, Segment, home, max_len, tag_of_hash};

/// The directory never gets deeper than this: 2^26 segments hold 15 to 30 thousand million items.
const MAX_DEPTH: u32 = 26;

/// Two buddy segments with no more items than this together become one: half of a full segment, so that neither a
/// split nor a merge can follow at once.
const MERGE_LEN: usize = max_len(FULL_CLASS) / 2;

/// Something a [`Dictionary`] can hold: one pointer wide with a niche, and cheap to clone (a reference count).
pub trait Item: Clone {
    /// The key; it must not change while the item is in a dictionary.
    fn key(&self) -> &[u8];

    /// Sixteen bits of the key's hash that the dictionary put into spare bits of the item by [`Item::set_tag`], or 0
    /// if there are none. They save touching the item's memory when probing, deleting and resizing.
    fn tag(&self) -> u16 {
        0
    }

    /// Remembers `tag` in spare bits of the item itself (not in what it points at). Clones may keep it.
    fn set_tag(&mut self, tag: u16) {
        let _ = tag;
    }

    /// Starts to load what the item points at into the cache, without waiting.
    fn prefetch(&self) {}

    /// The same where all of it is going to be read, not only its beginning.
    fn prefetch_whole(&self) {
        self.prefetch();
    }
}

/// Bytes of segments that were copied, in all dictionaries, since somebody else still read them.
static COPIED_BYTES: AtomicU64 = AtomicU64::new(0);

/// How many bytes keeping earlier versions has cost so far. The difference between two moments is what a version that was kept
/// meanwhile cost, but for the values that only it has.
pub fn copied_bytes() -> u64 {
    COPIED_BYTES.load(Relaxed)
}

fn note_copied(bytes: usize) {
    COPIED_BYTES.fetch_add(bytes as u64, Relaxed);
}

/// The hash of a key, by SipHash-1-3 under a random seed of the process: a client cannot choose keys that collide.
#[inline]
pub fn hash(key: &[u8]) -> u64 {
    static HASHER: LazyLock<SipHasher13> = LazyLock::new(|| {
        let mut seed = [0; 16];
        // The operating system's source fails only where nothing random is available at all; a seed from the
        // addresses and the clock is then better than no server.
        if getrandom::fill(&mut seed).is_err() {
            seed = u128::from(fastrand::u64(..))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
                .to_ne_bytes();
        }
        SipHasher13::new_with_key(&seed)
    });
    HASHER.hash(key)
}

/// Asks the processor to load the cache line at `address`; never faults, whatever the address.
#[inline(always)]
pub(crate) fn prefetch_line<P>(address: *const P) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it dereferences nothing and cannot fault.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above; the instruction touches neither memory, stack nor flags as the program sees them.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

/// A map from the keys of its items to the items. `clone()` is a snapshot: it costs a reference count per segment.
pub struct Dictionary<T> {
    segments: Vec<Segment<T>>,
    /// `2^depth` indexes into `segments`; empty if and only if `segments` is.
    directory: Vec<u32>,
    len: usize,
    depth: u32,
    /// How many segments are as deep as the directory: when none is, the directory can be halved.
    deepest: u32,
}

impl<T: Item> Dictionary<T> {
    /// An empty dictionary; allocates nothing.
    pub const fn new() -> Self {
        Dictionary { segments: Vec::new(), directory: Vec::new(), len: 0, depth: 0, deepest: 0 }
    }

    /// The number of items.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no items.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The item with this key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&T> {
        self.get_hashed(hash(key), key)
    }

    /// As [`Dictionary::get`], `hash` being [`hash`] of the key (as in all `_hashed` methods).
    #[inline]
    pub fn get_hashed(&self, hash: u64, key: &[u8]) -> Option<&T> {
        let segment = &self.segments[self.locate(hash)?];
        match segment.probe(hash, key) {
            Probe::Found(slot) => segment.slots()[slot].as_ref(),
            Probe::Vacant(_) => None,
        }
    }

    /// The item whose key has this hash and that `wanted` accepts: for an index that keeps hashes instead of keys.
    pub fn find_hashed(&self, hash: u64, wanted: impl Fn(&T) -> bool) -> Option<&T> {
        let segment = &self.segments[self.locate(hash)?];
        let tag = segment::tag_of_hash(hash);
        let slots = segment.slots();
        let mut slot = segment::home(tag, slots.len());
        while let Some(item) = &slots[slot] {
            if segment::tag_of_item(item) == tag && self::hash(item.key()) == hash && wanted(item) {
                return Some(item);
            }
            slot = segment::next(slot, slots.len());
        }
        None
    }

    /// Whether there is an item with this key.
    #[inline]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    /// The item with this key, to change or replace by one with the same key. A segment shared with a snapshot is
    /// copied first, but only if the key is there.
    #[inline]
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut T> {
        self.get_mut_hashed(hash(key), key)
    }

    /// As [`Dictionary::get_mut`].
    #[inline]
    pub fn get_mut_hashed(&mut self, hash: u64, key: &[u8]) -> Option<&mut T> {
        let index = self.locate(hash)?;
        let segment = &mut self.segments[index];
        match segment.probe(hash, key) {
            Probe::Found(slot) => segment.slots_mut()[slot].as_mut(),
            Probe::Vacant(_) => None,
        }
    }

    /// Puts the item in; returns the one with the same key that it replaces.
    #[inline]
    pub fn insert(&mut self, item: T) -> Option<T> {
        self.insert_hashed(hash(item.key()), item)
    }

    /// As [`Dictionary::insert`].
    pub fn insert_hashed(&mut self, hash: u64, mut item: T) -> Option<T> {
        let (index, probe) = self.probe_for_insert(hash, item.key());
        item.set_tag(tag_of_hash(hash));
        let segment = &mut self.segments[index];
        match probe {
            Probe::Found(slot) => segment.slots_mut()[slot].replace(item),
            Probe::Vacant(slot) => {
                segment.fill(slot, item);
                self.len += 1;
                None
            }
        }
    }

    /// The item with this key, made by `make` if it was missing; true if it was. `make` must return an item with this
    /// key.
    #[inline]
    pub fn find_or_insert_with(&mut self, key: &[u8], make: impl FnOnce() -> T) -> (&mut T, bool) {
        self.find_or_insert_with_hashed(hash(key), key, make)
    }

    /// As [`Dictionary::find_or_insert_with`].
    pub fn find_or_insert_with_hashed(
        &mut self,
        hash: u64,
        key: &[u8],
        make: impl FnOnce() -> T,
    ) -> (&mut T, bool) {
        let (index, probe) = self.probe_for_insert(hash, key);
        let segment = &mut self.segments[index];
        let (slot, made) = match probe {
            Probe::Found(slot) => (slot, false),
            Probe::Vacant(slot) => {
                let mut item = make();
                debug_assert!(item.key() == key);
                item.set_tag(tag_of_hash(hash));
                segment.fill(slot, item);
                self.len += 1;
                (slot, true)
            }
        };
        match &mut segment.slots_mut()[slot] {
            Some(item) => (item, made),
            None => unreachable!("the slot was found or filled above"),
        }
    }

    /// Takes the item with this key out.
    #[inline]
    pub fn remove(&mut self, key: &[u8]) -> Option<T> {
        self.remove_hashed(hash(key), key)
    }

    /// As [`Dictionary::remove`].
    pub fn remove_hashed(&mut self, hash: u64, key: &[u8]) -> Option<T> {
        let index = self.locate(hash)?;
        let segment = &mut self.segments[index];
        let Probe::Found(slot) = segment.probe(hash, key) else { return None };
        let item = segment.take(slot);
        self.len -= 1;
        if self.len == 0 {
            self.clear();
        } else {
            self.shrink_after_remove(index);
        }
        item
    }

    /// Removes everything. With many items not shared with a snapshot this takes long: rather move the dictionary to
    /// another thread by [`std::mem::take`] and drop it there.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Calls `each` with all items, until one fails, and gives every segment up as soon as it is through with it: of a clone
    /// that is read only once, no more is kept than what is still to be read.
    pub fn consume<E>(self, mut each: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        // Whoever walks over all items waits for memory more than for anything else. The misses of a group overlap, with each
        // other and with what is done with the group before; a larger group drives itself out of the nearest cache.
        const GROUP: usize = 32;
        let mut segments = self.segments.into_iter();
        while let Some(segment) = segments.next() {
            if let Some(next) = segments.as_slice().first() {
                next.prefetch_count();
            }
            let mut groups = segment.slots().chunks(GROUP).map(|group| group.iter().flatten());
            let mut group = groups.next();
            group.iter().cloned().flatten().for_each(T::prefetch_whole);
            while let Some(mut items) = group {
                group = groups.next();
                group.iter().cloned().flatten().for_each(T::prefetch_whole);
                items.try_for_each(&mut each)?;
            }
        }
        Ok(())
    }

    /// All items, in no order that means anything.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { segments: self.segments.iter(), slots: [].iter(), remaining: self.len }
    }

    /// An item chosen at random, each with the same probability.
    pub fn random(&self, random: &mut fastrand::Rng) -> Option<&T> {
        if self.is_empty() {
            return None;
        }
        // All segments have the same number of slots, so that a random slot of a random segment is fair; it is
        // occupied with a probability of about 0.6, and only after mass deletion much less.
        for _ in 0..100 {
            let slots = self.segments[random.usize(..self.segments.len())].slots();
            if let Some(item) = &slots[random.usize(..slots.len())] {
                return Some(item);
            }
        }
        let mut skip = random.usize(..self.len);
        for segment in &self.segments {
            if skip < segment.len() {
                return segment.slots().iter().flatten().nth(skip);
            }
            skip -= segment.len();
        }
        None
    }

    /// First stage of the prefetch of a key that is about to be looked up: the line of its slot.
    #[inline]
    pub fn prefetch_segment(&self, hash: u64) {
        if let Some(index) = self.locate(hash) {
            let slots = self.segments[index].slots();
            prefetch_line(&raw const slots[home(tag_of_hash(hash), slots.len())]);
        }
    }

    /// Second stage, some other work after the first: what the slot points at.
    #[inline]
    pub fn prefetch_item(&self, hash: u64) {
        if let Some(index) = self.locate(hash) {
            self.segments[index].prefetch_item(hash);
        }
    }

    /// The bytes that the table itself has allocated, without its items; segments shared with snapshots count whole.
    pub fn memory_usage(&self) -> usize {
        self.segments.iter().map(Segment::allocated_bytes).sum::<usize>()
            + self.segments.capacity() * size_of::<Segment<T>>()
            + self.directory.capacity() * size_of::<u32>()
    }

    /// The index of the segment that keys with this hash belong to; `None` in a dictionary without segments.
    #[inline(always)]
    fn locate(&self, hash: u64) -> Option<usize> {
        // Two shifts, since one by 64 bits would not be one.
        let position = (hash >> 1) >> (63 - self.depth);
        self.directory.get(position as usize).map(|&index| index as usize)
    }

    /// Finds the key, or the slot for it in a segment that has room (after making room).
    fn probe_for_insert(&mut self, hash: u64, key: &[u8]) -> (usize, Probe) {
        loop {
            let Some(index) = self.locate(hash) else {
                self.segments.push(Segment::new(segment::FIRST_CLASS, 1));
                self.directory.push(0);
                self.deepest = 1;
                continue;
            };
            let segment = &mut self.segments[index];
            match segment.probe(hash, key) {
                Probe::Vacant(_) if !segment.has_room() => {
                    if segment.class() < FULL_CLASS {
                        segment.resize(segment.class() + 1);
                    } else {
                        self.split(index);
                    }
                }
                probe => return (index, probe),
            }
        }
    }

    /// Replaces a segment by two of half its prefix each.
    fn split(&mut self, index: usize) {
        let depth = self.segments[index].depth();
        if depth == self.depth {
            assert!(
                depth < MAX_DEPTH,
                "a dictionary cannot hold more items, or the hashes given are not hashes"
            );
            let mut doubled = Vec::with_capacity(2 * self.directory.len());
            doubled.extend(self.directory.iter().flat_map(|&index| [index, index]));
            self.directory = doubled;
            self.depth += 1;
            self.deepest = 0;
        }
        let (left, right) = self.segments[index].split();
        let right_index =
            u32::try_from(self.segments.len()).unwrap_or_else(|_| unreachable!("bounded by MAX_DEPTH"));
        let right_range = self.directory_range(&right);
        self.directory[right_range].fill(right_index);
        self.deepest += if left.depth() == self.depth { 2 } else { 0 };
        self.segments[index] = left;
        self.segments.push(right);
    }

    /// The directory slots that belong to a segment.
    fn directory_range(&self, segment: &Segment<T>) -> std::ops::Range<usize> {
        let width = self.depth - segment.depth();
        (segment.prefix() << width)..((segment.prefix() + 1) << width)
    }

    /// Gives memory back where the segment at `index` has lost an item.
    fn shrink_after_remove(&mut self, mut index: usize) {
        while self.segments[index].len() <= MERGE_LEN / 2 {
            let segment = &mut self.segments[index];
            let depth = segment.depth();
            if depth == 0 {
                let smaller = segment.class() - 1;
                if smaller >= segment::FIRST_CLASS && segment.len() <= max_len(smaller) / 2 {
                    segment.resize(smaller);
                }
                return;
            }
            let buddy_start = (segment.prefix() ^ 1) << (self.depth - depth);
            let buddy = self.directory[buddy_start] as usize;
            let together = self.segments[index].len() + self.segments[buddy].len();
            if self.segments[buddy].depth() != depth || together > MERGE_LEN {
                return;
            }
            index = self.merge(index, buddy);
        }
    }

    /// Moves the items of two buddies into one segment of one bit less; returns its index.
    fn merge(&mut self, index: usize, buddy: usize) -> usize {
        let (keep, gone) = (index.min(buddy), index.max(buddy));
        let depth = self.segments[keep].depth();
        let gone_segment = self.segments.swap_remove(gone);
        if gone < self.segments.len() {
            let moved_range = self.directory_range(&self.segments[gone]);
            self.directory[moved_range].fill(gone as u32);
        }
        self.segments[keep].absorb(gone_segment);
        let merged_range = self.directory_range(&self.segments[keep]);
        self.directory[merged_range].fill(keep as u32);
        if depth == self.depth {
            self.deepest -= 2;
            while self.deepest == 0 && self.depth > 0 {
                self.directory = self.directory.iter().copied().step_by(2).collect();
                self.depth -= 1;
                self.deepest =
                    self.segments.iter().filter(|segment| segment.depth() == self.depth).count() as u32;
            }
            self.segments.shrink_to(self.directory.len());
        }
        keep
    }
}

impl<T: Item> Default for Dictionary<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Dictionary<T> {
    fn clone(&self) -> Self {
        // The counts lie far apart in memory: without asking for them ahead, each is waited for.
        const AHEAD: usize = 16;
        let mut segments = Vec::with_capacity(self.segments.len());
        for (index, segment) in self.segments.iter().enumerate() {
            if let Some(later) = self.segments.get(index + AHEAD) {
                later.prefetch_count();
            }
            segments.push(segment.clone());
        }
        Dictionary { segments, directory: self.directory.clone(), ..*self }
    }
}

impl<T: Item + std::fmt::Debug> std::fmt::Debug for Dictionary<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl<T: Item> FromIterator<T> for Dictionary<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut dictionary = Self::new();
        dictionary.extend(items);
        dictionary
    }
}

impl<T: Item> Extend<T> for Dictionary<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        items.into_iter().for_each(|item| drop(self.insert(item)));
    }
}

impl<'a, T: Item> IntoIterator for &'a Dictionary<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// The items of a [`Dictionary`].
#[derive(Clone)]
pub struct Iter<'a, T> {
    segments: std::slice::Iter<'a, Segment<T>>,
    slots: std::slice::Iter<'a, Option<T>>,
    remaining: usize,
}

impl<'a, T: Item> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some(item) = self.slots.by_ref().flatten().next() {
                self.remaining -= 1;
                return Some(item);
            }
            // Whoever walks over all items waits for memory more than for anything else: the misses of a segment's
            // items overlap, and with them that of the next segment.
            let slots = self.segments.next()?.slots();
            slots.iter().flatten().for_each(T::prefetch);
            if let Some(next) = self.segments.as_slice().first() {
                next.prefetch_count();
            }
            self.slots = slots.iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<T: Item> ExactSizeIterator for Iter<'_, T> {}
impl<T: Item> std::iter::FusedIterator for Iter<'_, T> {}
