//! An entry of the keyspace: key, value and what is known about them, in one reference-counted allocation.
//!
//! It knows how a value is kept, and nothing of databases, transactions or commands; whether an expiry has passed is
//! for others to say.
//!
//! The handle is one pointer wide; cloning it counts a reference. The allocation, in this order:
//!
//! | part    | bytes | there                                                                               |
//! |---------|-------|-------------------------------------------------------------------------------------|
//! | header  | 8     | always: references (`u32`), state (`u32`: access clock 24 bits, representation, flags) |
//! | expiry  | 8     | if the entry ever had one: Unix time in milliseconds, `u64::MAX` for none            |
//! | payload | 8, 16 | of a boxed string or a collection: the handle of its own type                        |
//! | lengths | 2, 8  | of key and inline value: two `u8`, or, if one does not fit, 48 and 16 bits of a `u64` |
//! | key     | any   | always                                                                              |
//! | value   | ≤ 16K | of an inline string its bytes, of an integer 4 or 8 bytes                            |
//!
//! Invariants:
//! - Everything but the access clock is written only while the entry has one reference.
//! - An inline string is never the canonical text of an `i64`: that is an integer. A string that was edited in place
//!   is boxed, and stays so until it is set anew.
//! - The upper 16 bits of the pointer belong to the dictionary's tag and are masked out of every access.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::types::Kind;
use crate::types::dictionary::{Item, prefetch_line};
use crate::types::element::{Element, TextBuffer};
use crate::types::hash::Hash;
use crate::types::list::List;
use crate::types::set::Set;
use crate::types::sorted_set::SortedSet;
use crate::types::stream::Stream;

/// Longer strings are boxed, so that a copy of the entry (new expiry, new key, a snapshot) does not copy them.
const MAX_INLINE_LEN: usize = 16 * 1024;

/// Strings are called `embstr` where Valkey 9.1 keeps them with their key in two cache lines.
const EMBEDDED_BYTES: usize = 128;

/// What the processor loads at once.
const LINE_BYTES: usize = 64;

const CLOCK_MASK: u32 = 0x00ff_ffff;
const REPRESENTATION_SHIFT: u32 = 24;
const WIDE_LENGTHS: u32 = 1 << 28;
const HAS_EXPIRY: u32 = 1 << 29;

const NO_EXPIRY: u64 = u64::MAX;
const ADDRESS_BITS: u32 = 48;
const ADDRESS_MASK: usize = (1 << ADDRESS_BITS) - 1;

/// A string that is long or was edited; the vector has room to grow.
type BoxedString = Arc<Vec<u8>>;

/// How a value lies in its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Representation {
    Inline,
    Integer,
    Boxed,
    List,
    Set,
    SortedSet,
    Hash,
    Stream,
}

/// Evaluates `$body` with `$payload` naming the payload's type, or `$none` where there is no payload.
macro_rules! with_payload {
    ($representation:expr, $payload:ident => $body:expr, none => $none:expr) => {
        with_payload!(@match $representation, $payload, $body, $none,
            Boxed: BoxedString, List: List, Set: Set, SortedSet: SortedSet, Hash: Hash, Stream: Stream)
    };
    (@match $representation:expr, $payload:ident, $body:expr, $none:expr, $($variant:ident: $type:ty),*) => {
        match $representation {
            Representation::Inline | Representation::Integer => $none,
            $(Representation::$variant => {
                type $payload = $type;
                $body
            })*
        }
    };
}

/// A value to read.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    String(&'a [u8]),
    /// A string that is the canonical decimal text of this number.
    Integer(i64),
    List(&'a List),
    Set(&'a Set),
    SortedSet(&'a SortedSet),
    Hash(&'a Hash),
    Stream(&'a Stream),
}

/// A value with elements, to be put into an entry.
#[derive(Clone, Debug)]
pub enum Collection {
    List(List),
    Set(Set),
    SortedSet(SortedSet),
    Hash(Hash),
    Stream(Stream),
}

#[repr(C)]
struct Header {
    references: AtomicU32,
    state: AtomicU32,
}

/// A key with its value, expiry and access clock; see the module's documentation.
pub struct Entry(NonNull<Header>);

const _: () = {
    const fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<(List, Set, SortedSet, Hash, Stream, BoxedString)>();
    assert!(size_of::<Option<Entry>>() == 8 && size_of::<Header>() == 8);
};

// SAFETY: an entry is like an Arc of its parts, which are all Send and Sync (checked above): readers on several threads
// share it, and only the sole holder writes.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

/// What determines the layout of an allocation.
#[derive(Clone, Copy)]
struct Shape {
    representation: Representation,
    has_expiry: bool,
    key_len: usize,
    /// Of an inline string or integer; else 0.
    value_len: usize,
}

impl Shape {
    fn wide(self) -> bool {
        self.key_len > usize::from(u8::MAX) || self.value_len > usize::from(u8::MAX)
    }

    fn state(self) -> u32 {
        ((self.representation as u32) << REPRESENTATION_SHIFT)
            | if self.wide() { WIDE_LENGTHS } else { 0 }
            | if self.has_expiry { HAS_EXPIRY } else { 0 }
    }

    fn layout(self) -> Layout {
        let state = self.state();
        let size = lengths_offset(state) + lengths_size(state) + self.key_len + self.value_len;
        Layout::from_size_align(size, align_of::<u64>())
            .unwrap_or_else(|_| unreachable!("the key fits memory"))
    }
}

#[inline(always)]
fn representation(state: u32) -> Representation {
    const ALL: [Representation; 8] = [
        Representation::Inline,
        Representation::Integer,
        Representation::Boxed,
        Representation::List,
        Representation::Set,
        Representation::SortedSet,
        Representation::Hash,
        Representation::Stream,
    ];
    ALL[(state >> REPRESENTATION_SHIFT & 0xf) as usize]
}

#[inline(always)]
fn payload_offset(state: u32) -> usize {
    size_of::<Header>() + if state & HAS_EXPIRY == 0 { 0 } else { size_of::<u64>() }
}

#[inline(always)]
fn lengths_offset(state: u32) -> usize {
    payload_offset(state)
        + with_payload!(representation(state), Payload => {
            const { assert!(align_of::<Payload>() <= 8 && size_of::<Payload>() <= 16) };
            size_of::<Payload>().next_multiple_of(8)
        }, none => 0)
}

#[inline(always)]
fn lengths_size(state: u32) -> usize {
    if state & WIDE_LENGTHS == 0 { 2 } else { 8 }
}

impl Entry {
    /// A string; one that is the canonical text of an `i64` is kept as that number. `expire_at_ms` is Unix time.
    pub fn string(key: &[u8], value: &[u8], expire_at_ms: Option<u64>) -> Entry {
        if let Element::Integer(integer) = Element::from_text(value) {
            return Self::integer(key, integer, expire_at_ms);
        }
        if value.len() > MAX_INLINE_LEN {
            return Self::with_payload(key, Representation::Boxed, expire_at_ms, Arc::new(value.to_vec()));
        }
        Self::allocate(key, Representation::Inline, expire_at_ms, value)
    }

    /// A string that is a number.
    pub fn integer(key: &[u8], value: i64, expire_at_ms: Option<u64>) -> Entry {
        match i32::try_from(value) {
            Ok(value) => Self::allocate(key, Representation::Integer, expire_at_ms, &value.to_ne_bytes()),
            Err(_) => Self::allocate(key, Representation::Integer, expire_at_ms, &value.to_ne_bytes()),
        }
    }

    /// A list, set, sorted set, hash or stream.
    pub fn collection(key: &[u8], value: Collection, expire_at_ms: Option<u64>) -> Entry {
        match value {
            Collection::List(list) => Self::with_payload(key, Representation::List, expire_at_ms, list),
            Collection::Set(set) => Self::with_payload(key, Representation::Set, expire_at_ms, set),
            Collection::SortedSet(set) => {
                Self::with_payload(key, Representation::SortedSet, expire_at_ms, set)
            }
            Collection::Hash(hash) => Self::with_payload(key, Representation::Hash, expire_at_ms, hash),
            Collection::Stream(stream) => {
                Self::with_payload(key, Representation::Stream, expire_at_ms, stream)
            }
        }
    }

    /// The same value, expiry and access clock under another key. Long strings and collections are shared until
    /// one of the two is written.
    pub fn with_key(&self, key: &[u8]) -> Entry {
        self.copy_as(key, self.expire_at_ms())
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        let state = self.state();
        let (key_len, _) = self.lengths(state);
        // SAFETY: every allocation holds its key at this place.
        unsafe { std::slice::from_raw_parts(self.at(lengths_offset(state) + lengths_size(state)), key_len) }
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> ValueRef<'_> {
        let state = self.state();
        match representation(state) {
            Representation::Inline => ValueRef::String(self.inline_value(state)),
            Representation::Integer => ValueRef::Integer(self.read_integer(state)),
            // SAFETY: the representation says which payload there is.
            Representation::Boxed => ValueRef::String(unsafe { self.payload::<BoxedString>() }),
            // SAFETY: as above.
            Representation::List => ValueRef::List(unsafe { self.payload() }),
            // SAFETY: as above.
            Representation::Set => ValueRef::Set(unsafe { self.payload() }),
            // SAFETY: as above.
            Representation::SortedSet => ValueRef::SortedSet(unsafe { self.payload() }),
            // SAFETY: as above.
            Representation::Hash => ValueRef::Hash(unsafe { self.payload() }),
            // SAFETY: as above.
            Representation::Stream => ValueRef::Stream(unsafe { self.payload() }),
        }
    }

    /// The kind of the value.
    #[inline]
    pub fn kind(&self) -> Kind {
        match representation(self.state()) {
            Representation::Inline | Representation::Integer | Representation::Boxed => Kind::String,
            Representation::List => Kind::List,
            Representation::Set => Kind::Set,
            Representation::SortedSet => Kind::SortedSet,
            Representation::Hash => Kind::Hash,
            Representation::Stream => Kind::Stream,
        }
    }

    /// The encoding that OBJECT ENCODING replies.
    pub fn encoding(&self) -> &'static str {
        match self.value() {
            ValueRef::Integer(_) => "int",
            ValueRef::String(value) => match representation(self.state()) {
                Representation::Inline if self.would_embed(value.len()) => "embstr",
                _ => "raw",
            },
            ValueRef::List(list) => list.encoding(),
            ValueRef::Set(set) => set.encoding(),
            ValueRef::SortedSet(set) => set.encoding(),
            ValueRef::Hash(hash) => hash.encoding(),
            ValueRef::Stream(_) => "stream",
        }
    }

    /// Does a value of this length share an allocation with its key in Valkey 9.1? There it has an object header of 8
    /// bytes, 8 for an expiry, a byte that says where the key is, and two strings with their headers and end marks.
    fn would_embed(&self, value_len: usize) -> bool {
        let key_len = self.key().len();
        let key_header = if key_len < 32 { 1 } else { 3 };
        let expiry = if self.expire_at_ms().is_some() { 8 } else { 0 };
        8 + expiry + 1 + (key_header + key_len + 1) + (3 + value_len + 1) <= EMBEDDED_BYTES
    }

    /// The bytes of a string, a number's being written into `buffer`; `None` for other kinds.
    #[inline]
    pub fn string_bytes<'a>(&'a self, buffer: &'a mut TextBuffer) -> Option<&'a [u8]> {
        match self.value() {
            ValueRef::String(value) => Some(value),
            ValueRef::Integer(integer) => Some(Element::Integer(integer).text(buffer)),
            _ => None,
        }
    }

    /// Makes the value this string (a number if it is the text of one), whatever it was; keeps key, expiry and clock.
    pub fn set_string(&mut self, value: &[u8]) {
        let state = self.state();
        if let Element::Integer(integer) = Element::from_text(value) {
            self.set_integer(integer);
        } else if representation(state) == Representation::Inline
            && self.lengths(state).1 == value.len()
            && self.is_unique()
        {
            self.inline_value_mut().copy_from_slice(value);
        } else {
            self.become_other(Self::string(self.key(), value, self.expire_at_ms()));
        }
    }

    /// Makes the value this number, whatever it was; keeps key, expiry and clock.
    pub fn set_integer(&mut self, value: i64) {
        let state = self.state();
        if representation(state) == Representation::Integer && self.is_unique() {
            let place = self.inline_value_mut();
            if place.len() == size_of::<i64>() {
                return place.copy_from_slice(&value.to_ne_bytes());
            }
            if let Ok(value) = i32::try_from(value) {
                return place.copy_from_slice(&value.to_ne_bytes());
            }
        }
        self.become_other(Self::integer(self.key(), value, self.expire_at_ms()));
    }

    /// Makes the value this collection, whatever it was; keeps key, expiry and clock.
    pub fn set_collection(&mut self, value: Collection) {
        self.become_other(Self::collection(self.key(), value, self.expire_at_ms()));
    }

    /// The bytes of a string to edit in place (APPEND, SETRANGE, SETBIT, …): from here on the encoding is `raw`, and
    /// the string grows with amortised cost. `None` for other kinds.
    pub fn string_mut(&mut self) -> Option<&mut Vec<u8>> {
        if representation(self.state()) != Representation::Boxed {
            let bytes = self.string_bytes(&mut TextBuffer::new())?.to_vec();
            self.become_other(Self::with_payload(
                self.key(),
                Representation::Boxed,
                self.expire_at_ms(),
                Arc::new(bytes),
            ));
        }
        // SAFETY: the representation is a boxed string.
        let string = unsafe { self.payload_mut::<BoxedString>() };
        Some(Arc::make_mut(string))
    }

    /// The list to change; `None` for other kinds. If a snapshot shares this entry, the entry is copied first, and
    /// the list's own nodes where they are written.
    pub fn list_mut(&mut self) -> Option<&mut List> {
        // SAFETY: the representation is checked first.
        (representation(self.state()) == Representation::List).then(|| unsafe { self.payload_mut() })
    }

    /// As [`Entry::list_mut`].
    pub fn set_mut(&mut self) -> Option<&mut Set> {
        // SAFETY: the representation is checked first.
        (representation(self.state()) == Representation::Set).then(|| unsafe { self.payload_mut() })
    }

    /// As [`Entry::list_mut`].
    pub fn sorted_set_mut(&mut self) -> Option<&mut SortedSet> {
        // SAFETY: the representation is checked first.
        (representation(self.state()) == Representation::SortedSet).then(|| unsafe { self.payload_mut() })
    }

    /// As [`Entry::list_mut`].
    pub fn hash_mut(&mut self) -> Option<&mut Hash> {
        // SAFETY: the representation is checked first.
        (representation(self.state()) == Representation::Hash).then(|| unsafe { self.payload_mut() })
    }

    /// As [`Entry::list_mut`].
    pub fn stream_mut(&mut self) -> Option<&mut Stream> {
        // SAFETY: the representation is checked first.
        (representation(self.state()) == Representation::Stream).then(|| unsafe { self.payload_mut() })
    }

    /// Is the value a collection without elements left? Such an entry is to be deleted; a stream may stay empty.
    pub fn is_empty_collection(&self) -> bool {
        match self.value() {
            ValueRef::String(_) | ValueRef::Integer(_) | ValueRef::Stream(_) => false,
            ValueRef::List(list) => list.is_empty(),
            ValueRef::Set(set) => set.is_empty(),
            ValueRef::SortedSet(sorted_set) => sorted_set.is_empty(),
            ValueRef::Hash(hash) => hash.is_empty(),
        }
    }

    /// When the entry expires, Unix time in milliseconds.
    #[inline]
    pub fn expire_at_ms(&self) -> Option<u64> {
        if self.state() & HAS_EXPIRY == 0 {
            return None;
        }
        // SAFETY: the flag says that the expiry lies behind the header, aligned.
        let expire_at_ms = unsafe { self.at(size_of::<Header>()).cast::<u64>().read() };
        (expire_at_ms != NO_EXPIRY).then_some(expire_at_ms)
    }

    /// Sets or removes the expiry; `u64::MAX` is none.
    pub fn set_expiry(&mut self, expire_at_ms: Option<u64>) {
        if self.expire_at_ms() == expire_at_ms {
            return;
        }
        if self.state() & HAS_EXPIRY != 0 && self.is_unique() {
            // SAFETY: the flag says that there is room for it behind the header, and nobody else reads it.
            unsafe { self.at(size_of::<Header>()).cast::<u64>().write(expire_at_ms.unwrap_or(NO_EXPIRY)) };
        } else {
            self.become_other(self.copy_as(self.key(), expire_at_ms));
        }
    }

    /// The 24 bits of the access clock: LRU time or LFU counter, as the eviction policy uses them.
    #[inline]
    pub fn access_clock(&self) -> u32 {
        self.state() & CLOCK_MASK
    }

    /// Sets the access clock (its lower 24 bits). Readers may race; one of them wins.
    #[inline]
    pub fn set_access_clock(&self, clock: u32) {
        // Not a read-modify-write: all other bits of the state stay as they are while the entry is shared.
        let state = self.state() & !CLOCK_MASK | clock & CLOCK_MASK;
        self.header().state.store(state, Ordering::Relaxed);
    }

    /// The bytes allocated for the entry with its value, without the allocator's rounding; big collections are
    /// estimated from about `samples` of their elements, 0 for all.
    pub fn allocated_bytes(&self, samples: usize) -> usize {
        self.shape().layout().size()
            + match self.value() {
                ValueRef::Integer(_) => 0,
                ValueRef::String(_) if representation(self.state()) == Representation::Inline => 0,
                ValueRef::String(_) => {
                    // SAFETY: a string that is not inline is boxed. The Arc counts its references in two words.
                    let capacity = unsafe { self.payload::<BoxedString>() }.capacity();
                    2 * size_of::<usize>() + size_of::<Vec<u8>>() + capacity
                }
                ValueRef::List(list) => list.memory_bytes(samples),
                ValueRef::Set(set) => set.memory_bytes(samples),
                ValueRef::SortedSet(set) => set.memory_bytes(samples),
                ValueRef::Hash(hash) => hash.memory_bytes(samples),
                ValueRef::Stream(stream) => stream.memory_bytes(samples),
            }
    }

    /// A new allocation, with header, expiry, lengths, key and inline value written; a payload is
    /// not yet.
    fn allocate(
        key: &[u8],
        representation: Representation,
        expire_at_ms: Option<u64>,
        value: &[u8],
    ) -> Entry {
        let value_len = value.len();
        let shape =
            Shape { representation, has_expiry: expire_at_ms.is_some(), key_len: key.len(), value_len };
        let (state, layout) = (shape.state(), shape.layout());
        // SAFETY: the layout is never empty.
        let Some(header) = NonNull::new(unsafe { alloc(layout) }.cast::<Header>()) else {
            handle_alloc_error(layout)
        };
        // Holds on every platform whose user addresses have 48 bits unless asked otherwise.
        assert!(header.addr().get() <= ADDRESS_MASK, "the upper bits of addresses are in use");
        let entry = Entry(header);
        // SAFETY: the layout was computed from the same shape, and so has room for each part at its offset; header and
        // expiry are aligned, the lengths are written unaligned.
        unsafe {
            header.write(Header { references: AtomicU32::new(1), state: AtomicU32::new(state) });
            if let Some(expire_at_ms) = expire_at_ms {
                entry.at(size_of::<Header>()).cast::<u64>().write(expire_at_ms);
            }
            let lengths = entry.at(lengths_offset(state));
            if shape.wide() {
                lengths.cast::<u64>().write_unaligned((value_len as u64) << ADDRESS_BITS | key.len() as u64);
            } else {
                lengths.cast::<[u8; 2]>().write([key.len() as u8, value_len as u8]);
            }
            let key_start = lengths.add(lengths_size(state));
            key_start.copy_from_nonoverlapping(key.as_ptr(), key.len());
            key_start.add(key.len()).copy_from_nonoverlapping(value.as_ptr(), value_len);
        }
        entry
    }

    /// A new entry with a payload; `representation` must be the one of this payload.
    fn with_payload<P>(
        key: &[u8],
        representation: Representation,
        expire_at_ms: Option<u64>,
        payload: P,
    ) -> Entry {
        let entry = Self::allocate(key, representation, expire_at_ms, &[]);
        // SAFETY: the representation's layout has room for the payload here, aligned to 8 bytes; nothing was there.
        unsafe { entry.at(payload_offset(entry.state())).cast::<P>().write(payload) };
        entry
    }

    /// A copy with this key and expiry, and the same value and clock.
    fn copy_as(&self, key: &[u8], expire_at_ms: Option<u64>) -> Entry {
        let state = self.state();
        let representation = representation(state);
        let entry = with_payload!(representation, Payload => {
            // SAFETY: this is the type of the payload of this representation.
            let payload = unsafe { self.payload::<Payload>() }.clone();
            Self::with_payload(key, representation, expire_at_ms, payload)
        }, none => {
            Self::allocate(key, representation, expire_at_ms, self.inline_value(state))
        });
        entry.set_access_clock(state);
        entry
    }

    /// Replaces this entry by `other`, which takes over clock and tag.
    fn become_other(&mut self, mut other: Entry) {
        other.set_access_clock(self.access_clock());
        other.set_tag(self.tag());
        *self = other;
    }

    fn make_unique(&mut self) {
        if !self.is_unique() {
            self.become_other(self.copy_as(self.key(), self.expire_at_ms()));
        }
    }

    #[inline]
    fn is_unique(&self) -> bool {
        // Acquire: reads by former sharers happened before their decrement, and so before our writes.
        self.header().references.load(Ordering::Acquire) == 1
    }

    #[inline(always)]
    fn pointer(&self) -> *mut Header {
        self.0.as_ptr().map_addr(|address| address & ADDRESS_MASK)
    }

    #[inline(always)]
    fn header(&self) -> &Header {
        // SAFETY: the allocation lives as long as any handle.
        unsafe { &*self.pointer() }
    }

    #[inline(always)]
    fn state(&self) -> u32 {
        self.header().state.load(Ordering::Relaxed)
    }

    /// The address `offset` bytes into the allocation.
    #[inline(always)]
    fn at(&self, offset: usize) -> *mut u8 {
        self.pointer().cast::<u8>().wrapping_add(offset)
    }

    /// The lengths of key and inline value.
    #[inline(always)]
    fn lengths(&self, state: u32) -> (usize, usize) {
        let lengths = self.at(lengths_offset(state));
        // SAFETY: every allocation holds its lengths at this place, in the form that the flag tells.
        unsafe {
            if state & WIDE_LENGTHS == 0 {
                let [key_len, value_len] = lengths.cast::<[u8; 2]>().read();
                (usize::from(key_len), usize::from(value_len))
            } else {
                let both = lengths.cast::<u64>().read_unaligned();
                (both as usize & ADDRESS_MASK, (both >> ADDRESS_BITS) as usize)
            }
        }
    }

    fn shape(&self) -> Shape {
        let state = self.state();
        let (key_len, value_len) = self.lengths(state);
        Shape {
            representation: representation(state),
            has_expiry: state & HAS_EXPIRY != 0,
            key_len,
            value_len,
        }
    }

    #[inline(always)]
    fn inline_value(&self, state: u32) -> &[u8] {
        let (key_len, value_len) = self.lengths(state);
        // SAFETY: the value lies behind the key, initialised by `allocate`.
        unsafe {
            std::slice::from_raw_parts(
                self.at(lengths_offset(state) + lengths_size(state) + key_len),
                value_len,
            )
        }
    }

    /// The inline value for writing; the entry must be unique.
    #[inline(always)]
    fn inline_value_mut(&mut self) -> &mut [u8] {
        debug_assert!(self.is_unique());
        let state = self.state();
        let (key_len, value_len) = self.lengths(state);
        let start = self.at(lengths_offset(state) + lengths_size(state) + key_len);
        // SAFETY: as in `inline_value`; all callers have checked or just made that this is the only handle.
        unsafe { std::slice::from_raw_parts_mut(start, value_len) }
    }

    #[inline(always)]
    fn read_integer(&self, state: u32) -> i64 {
        let value = self.inline_value(state);
        match (value.first_chunk::<8>(), value.first_chunk::<4>()) {
            (Some(bytes), _) => i64::from_ne_bytes(*bytes),
            (None, Some(bytes)) => i64::from(i32::from_ne_bytes(*bytes)),
            (None, None) => unreachable!("integers have 4 or 8 bytes"),
        }
    }

    /// The payload.
    ///
    /// # Safety
    /// `P` must be the payload's type of this entry's representation.
    #[inline(always)]
    unsafe fn payload<P>(&self) -> &P {
        // SAFETY: by the caller's promise a `P` lies there; it is not written while handles are shared.
        unsafe { &*self.at(payload_offset(self.state())).cast::<P>() }
    }

    /// The payload for writing; copies a shared entry first.
    ///
    /// # Safety
    /// As for [`Entry::payload`].
    unsafe fn payload_mut<P>(&mut self) -> &mut P {
        self.make_unique();
        // SAFETY: as above, and this is now the only handle, borrowed mutably.
        unsafe { &mut *self.at(payload_offset(self.state())).cast::<P>() }
    }
}

impl Item for Entry {
    #[inline(always)]
    fn key(&self) -> &[u8] {
        Entry::key(self)
    }

    #[inline(always)]
    fn tag(&self) -> u16 {
        (self.0.addr().get() >> ADDRESS_BITS) as u16
    }

    #[inline(always)]
    fn set_tag(&mut self, tag: u16) {
        let tagged = self.pointer().map_addr(|address| address | (usize::from(tag) << ADDRESS_BITS));
        // SAFETY: the address bits are not all 0.
        self.0 = unsafe { NonNull::new_unchecked(tagged) };
    }

    #[inline(always)]
    fn prefetch(&self) {
        // One line only: asking for a second as well costs more than it saves, even where the entry reaches into it.
        prefetch_line(self.at(0));
    }

    #[inline(always)]
    fn prefetch_whole(&self) {
        // How long it is only its beginning says; most are in two lines.
        prefetch_line(self.at(0));
        prefetch_line(self.at(LINE_BYTES));
    }
}

impl Clone for Entry {
    #[inline]
    fn clone(&self) -> Entry {
        // Relaxed as in Arc: a new reference comes from an existing one. So many that it could wrap are a leak.
        if self.header().references.fetch_add(1, Ordering::Relaxed) > u32::MAX / 2 {
            std::process::abort();
        }
        Entry(self.0)
    }
}

impl Drop for Entry {
    #[inline]
    fn drop(&mut self) {
        if self.header().references.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        let layout = self.shape().layout();
        with_payload!(representation(self.state()), Payload => {
            // SAFETY: this was the last handle; the payload of this type is dropped once, here.
            unsafe { self.at(payload_offset(self.state())).cast::<Payload>().drop_in_place() }
        }, none => ());
        // SAFETY: the allocation was made with the layout of the same shape: no part of the shape ever changes.
        unsafe { dealloc(self.at(0), layout) };
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key().escape_ascii().to_string())
            .field("value", &self.value())
            .field("expire_at_ms", &self.expire_at_ms())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::dictionary::Dictionary;

    fn text(entry: &Entry) -> Vec<u8> {
        entry.string_bytes(&mut TextBuffer::new()).expect("a string").to_vec()
    }

    /// What an entry should say of itself.
    #[derive(Clone, Debug, PartialEq)]
    struct Model {
        key: Vec<u8>,
        value: Vec<u8>,
        expire_at_ms: Option<u64>,
        clock: u32,
        edited: bool,
    }

    impl Model {
        fn encoding(&self) -> &'static str {
            let number = std::str::from_utf8(&self.value).ok().and_then(|text| text.parse::<i64>().ok());
            match number {
                _ if self.edited => "raw",
                Some(number) if number.to_string().as_bytes() == self.value => "int",
                _ => {
                    let headers = if self.key.len() < 32 { 15 } else { 17 };
                    let expiry = if self.expire_at_ms.is_some() { 8 } else { 0 };
                    let fits = self.key.len() + self.value.len() + headers + expiry <= 128;
                    if fits { "embstr" } else { "raw" }
                }
            }
        }

        fn check(&self, entry: &Entry) {
            let seen = Model {
                key: entry.key().to_vec(),
                value: text(entry),
                expire_at_ms: entry.expire_at_ms(),
                clock: entry.access_clock(),
                edited: self.edited,
            };
            assert_eq!(seen, *self);
            assert_eq!((entry.encoding(), entry.kind()), (self.encoding(), Kind::String));
            assert!(entry.allocated_bytes(0) >= 8 + self.key.len());
        }
    }

    #[derive(Clone, Debug)]
    enum Action {
        SetString(Vec<u8>),
        SetInteger(i64),
        Append(Vec<u8>),
        SetByte(usize),
        Expiry(Option<u64>),
        Clock(u32),
        Rename(Vec<u8>),
        Keep,
        DropKept,
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let len = prop_oneof![6 => 0..70usize, 2 => 200..300usize, 1 => 16_380..16_390usize, 1 => 65_530..65_540usize];
        let long = len.prop_flat_map(|len| proptest::collection::vec(any::<u8>(), len));
        prop_oneof![3 => long, 1 => any::<i64>().prop_map(|number| number.to_string().into_bytes())]
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            4 => bytes().prop_map(Action::SetString),
            2 => any::<i64>().prop_map(Action::SetInteger),
            2 => (-100..100i64).prop_map(Action::SetInteger),
            3 => bytes().prop_map(Action::Append),
            2 => any::<usize>().prop_map(Action::SetByte),
            3 => proptest::option::of(0..u64::MAX).prop_map(Action::Expiry),
            1 => any::<u32>().prop_map(Action::Clock),
            1 => bytes().prop_map(Action::Rename),
            3 => Just(Action::Keep),
            2 => Just(Action::DropKept),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn entries_match_the_model(
            key in bytes(),
            value in bytes(),
            expire_at_ms in proptest::option::of(0..u64::MAX),
            tag in any::<u16>(),
            actions in proptest::collection::vec(action(), 0..30),
        ) {
            let mut entry = Entry::string(&key, &value, expire_at_ms);
            entry.set_tag(tag);
            let mut model = Model { key, value, expire_at_ms, clock: 0, edited: false };
            let mut kept: Vec<(Entry, Model)> = Vec::new();
            for action in actions {
                match action {
                    Action::SetString(value) => {
                        entry.set_string(&value);
                        (model.value, model.edited) = (value, false);
                    }
                    Action::SetInteger(number) => {
                        entry.set_integer(number);
                        (model.value, model.edited) = (number.to_string().into_bytes(), false);
                    }
                    Action::Append(more) => {
                        entry.string_mut().expect("a string").extend_from_slice(&more);
                        model.value.extend(more);
                        model.edited = true;
                    }
                    Action::SetByte(position) => {
                        let string = entry.string_mut().expect("a string");
                        model.edited = true;
                        if !string.is_empty() {
                            let position = position % string.len();
                            string[position] ^= 0x55;
                            model.value[position] ^= 0x55;
                        }
                    }
                    Action::Expiry(expire_at_ms) => {
                        entry.set_expiry(expire_at_ms);
                        model.expire_at_ms = expire_at_ms;
                    }
                    Action::Clock(clock) => {
                        // Entries that are shared as a whole share the clock too: a snapshot need not keep it.
                        entry.make_unique();
                        entry.set_access_clock(clock);
                        model.clock = clock & 0x00ff_ffff;
                    }
                    Action::Rename(key) => {
                        entry = entry.with_key(&key);
                        entry.set_tag(tag);
                        model.key = key;
                    }
                    Action::Keep => kept.push((entry.clone(), model.clone())),
                    Action::DropKept => drop(kept.pop()),
                }
                model.check(&entry);
                assert_eq!(entry.tag(), tag);
            }
            kept.iter().for_each(|(entry, model)| model.check(entry));
        }
    }

    #[test]
    fn only_canonical_texts_are_numbers() {
        for number in [0, 1, -1, 255, i64::from(i32::MAX), i64::from(i32::MIN), i64::MAX, i64::MIN] {
            let entry = Entry::string(b"k", number.to_string().as_bytes(), None);
            assert!(matches!(entry.value(), ValueRef::Integer(kept) if kept == number));
            assert_eq!((entry.encoding(), text(&entry)), ("int", number.to_string().into_bytes()));
        }
        for string in
            ["", "-", "-0", "+1", "01", " 1", "1 ", "1.0", "9223372036854775808", "-9223372036854775809"]
        {
            let entry = Entry::string(b"k", string.as_bytes(), None);
            assert_eq!(
                (entry.encoding(), text(&entry)),
                ("embstr", string.as_bytes().to_vec()),
                "{string:?}"
            );
        }
    }

    #[test]
    fn a_number_changes_in_place() {
        let mut entry = Entry::integer(b"counter", 1, None);
        let place = entry.pointer();
        entry.set_integer(i64::from(i32::MIN));
        entry.set_string(b"-7");
        assert_eq!((entry.pointer(), text(&entry)), (place, b"-7".to_vec()));
        entry.set_integer(i64::MAX);
        let place = entry.pointer();
        entry.set_integer(3);
        entry.set_integer(i64::MIN);
        assert_eq!((entry.pointer(), text(&entry)), (place, i64::MIN.to_string().into_bytes()));
    }

    #[test]
    fn allocations_are_as_small_as_promised() {
        let size = |key_len, value: &[u8], expiry| {
            Entry::string(&vec![b'k'; key_len], value, expiry).allocated_bytes(0)
        };
        assert_eq!(size(16, &[b'v'; 16], None), 8 + 2 + 16 + 16);
        assert_eq!(size(16, &[b'v'; 64], None), 8 + 2 + 16 + 64);
        assert_eq!(size(16, &[b'v'; 16], Some(1)), 8 + 8 + 2 + 16 + 16);
        assert_eq!(size(16, b"12345", None), 8 + 2 + 16 + 4);
        assert_eq!(size(16, b"12345678901", None), 8 + 2 + 16 + 8);
        assert_eq!(size(16, &[b'v'; 256], None), 8 + 8 + 16 + 256);
        assert_eq!(size(256, &[b'v'; 16], None), 8 + 8 + 256 + 16);
        assert_eq!(size(16, &[b'v'; 100_000], None), 8 + 8 + 2 + 16 + 16 + 24 + 100_000);
    }

    #[test]
    fn appending_in_a_loop_moves_the_string_seldom() {
        let mut entry = Entry::string(b"k", b"x", None);
        let mut capacities = std::collections::BTreeSet::new();
        for _ in 0..1_000_000 {
            let string = entry.string_mut().expect("a string");
            string.push(b'x');
            capacities.insert(string.capacity());
        }
        assert_eq!(text(&entry).len(), 1_000_001);
        assert!(capacities.len() < 30);
    }

    #[test]
    fn a_new_key_or_expiry_does_not_copy_a_long_string() {
        let mut entry = Entry::string(b"k", &vec![b'v'; 1_000_000], None);
        let start = |entry: &Entry| match entry.value() {
            ValueRef::String(value) => value.as_ptr(),
            _ => unreachable!("a string was put in"),
        };
        let place = start(&entry);
        entry.set_expiry(Some(1));
        let renamed = entry.with_key(b"other");
        assert_eq!((start(&entry), start(&renamed)), (place, place));
        entry.string_mut().expect("a string")[0] = b'w';
        assert_eq!((text(&entry)[0], text(&renamed)[0]), (b'w', b'v'));
    }

    #[test]
    fn threads_read_and_touch_entries_that_are_replaced_meanwhile() {
        let value = |round: usize| format!("value of round {round}").into_bytes();
        let mut dictionary: Dictionary<Entry> = (0..2000)
            .map(|number: u32| Entry::string(number.to_string().as_bytes(), &value(0), None))
            .collect();
        for round in 1..8 {
            let snapshot = dictionary.clone();
            let reader = std::thread::spawn(move || {
                for entry in snapshot.iter() {
                    entry.set_access_clock(round as u32);
                    assert!(entry.access_clock() > 0);
                    assert_eq!(text(entry), value(round - 1));
                }
            });
            for number in 0..2000 {
                let entry = dictionary.get_mut(number.to_string().as_bytes()).expect("it is there");
                entry.set_access_clock(0x10);
                entry.set_string(&value(round));
                assert_ne!(entry.tag(), 0);
            }
            reader.join().expect("the reader agrees");
        }
    }

    #[test]
    #[ignore = "takes 2 GB of memory"]
    fn the_longest_string_works() {
        const LEN: usize = 512 << 20;
        let mut entry = Entry::string(b"k", &vec![b'v'; LEN - 1], None);
        let kept = entry.clone();
        entry.string_mut().expect("a string").push(b'w');
        let ends = |entry: &Entry| match entry.value() {
            ValueRef::String(value) => (value.len(), value.last().copied()),
            _ => unreachable!("a string was put in"),
        };
        assert_eq!((ends(&entry), ends(&kept)), ((LEN, Some(b'w')), (LEN - 1, Some(b'v'))));
    }
}
