//! Consumer groups of a stream: how far a group has read, its consumers, and which entries each of them has been given and
//! has not acknowledged. Knows nothing of the entries themselves.
//!
//! What is pending stands in two orders: by identifier with all that is known of it, and by owner. A consumer's name is
//! kept once and shared by what it owns.
//!
//! `Clone` is a handful of reference counts; a write copies the nodes on its path that are shared.
//!
//! Invariants: what is pending belongs to a consumer of the group and stands in both orders; consumers have different
//! numbers.

use std::cmp::Ordering;

use triomphe::ThinArc;

use crate::types::ordered::{Key, Ordered};
use crate::types::stream_id::StreamId;
use crate::types::tree::{Entry, Order};

/// A consumer as what it owns names it: a number within the group, and the name.
#[derive(Clone, Debug)]
pub struct Owner(ThinArc<u64, u8>);

impl Owner {
    fn new(number: u64, name: &[u8]) -> Self {
        Owner(ThinArc::from_header_and_slice(number, name))
    }

    fn number(&self) -> u64 {
        self.0.header.header
    }

    pub fn name(&self) -> &[u8] {
        &self.0.slice
    }
}

impl PartialEq for Owner {
    /// Of the same group.
    fn eq(&self, other: &Self) -> bool {
        self.number() == other.number()
    }
}

/// A consumer of a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    owner: Owner,
    /// When it last asked for entries, Unix time in milliseconds.
    pub seen_ms: i64,
    /// When it last got any.
    pub active_ms: Option<i64>,
}

impl Consumer {
    pub fn name(&self) -> &[u8] {
        self.owner.name()
    }

    pub fn owner(&self) -> &Owner {
        &self.owner
    }
}

/// An entry that was delivered and is not acknowledged.
#[derive(Clone, Debug)]
pub struct Pending {
    pub id: StreamId,
    /// When it was last delivered, Unix time in milliseconds.
    pub delivered_ms: i64,
    pub deliveries: u64,
    pub owner: Owner,
}

#[derive(Clone, Debug)]
struct Owned {
    owner: u64,
    id: StreamId,
}

/// The first bytes of a name, by which most names can be ordered.
type NameHint = u64;

fn name_hint(name: &[u8]) -> NameHint {
    let mut first = [0; 8];
    let len = name.len().min(8);
    first[..len].copy_from_slice(&name[..len]);
    u64::from_be_bytes(first)
}

/// An order by name.
pub(super) trait Named {
    fn name(&self) -> &[u8];
}

/// The place of a name.
pub(super) struct ByName<'a>(pub(super) &'a [u8]);

impl<T: Named + Entry<Hint = NameHint>> Order<T> for ByName<'_> {
    fn is_before(&self, entry: &T) -> bool {
        entry.name() < self.0
    }

    fn compare_hint(&self, hint: &NameHint) -> Ordering {
        hint.cmp(&name_hint(self.0))
    }
}

impl<T: Named + Entry<Hint = NameHint>> Key<T> for ByName<'_> {
    fn is(&self, entry: &T) -> bool {
        entry.name() == self.0
    }
}

macro_rules! named_entry {
    ($type:ty) => {
        impl Named for $type {
            fn name(&self) -> &[u8] {
                <$type>::name(self)
            }
        }

        impl Entry for $type {
            type Hint = NameHint;

            fn hint(&self) -> NameHint {
                name_hint(self.name())
            }

            fn weight(&self) -> usize {
                1
            }
        }
    };
}

named_entry!(Consumer);
named_entry!(NamedGroup);

impl Entry for Pending {
    type Hint = StreamId;

    fn hint(&self) -> StreamId {
        self.id
    }

    fn weight(&self) -> usize {
        1
    }
}

impl Order<Pending> for StreamId {
    fn is_before(&self, entry: &Pending) -> bool {
        entry.id < *self
    }

    fn compare_hint(&self, hint: &StreamId) -> Ordering {
        hint.cmp(self)
    }
}

impl Key<Pending> for StreamId {
    fn is(&self, entry: &Pending) -> bool {
        entry.id == *self
    }
}

impl Entry for Owned {
    type Hint = (u64, StreamId);

    fn hint(&self) -> (u64, StreamId) {
        (self.owner, self.id)
    }

    fn weight(&self) -> usize {
        1
    }
}

/// The place of an entry among what a consumer owns.
struct ByOwner(u64, StreamId);

impl Order<Owned> for ByOwner {
    fn is_before(&self, entry: &Owned) -> bool {
        entry.hint() < (self.0, self.1)
    }

    fn compare_hint(&self, hint: &(u64, StreamId)) -> Ordering {
        hint.cmp(&(self.0, self.1))
    }
}

impl Key<Owned> for ByOwner {
    fn is(&self, entry: &Owned) -> bool {
        entry.hint() == (self.0, self.1)
    }
}

/// A group; see the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Up to here entries were delivered.
    pub last_id: StreamId,
    /// How many entries that is, counted from the first that the stream ever had; `None` if it cannot be told.
    pub entries_read: Option<i64>,
    consumers: Ordered<Consumer>,
    pending: Ordered<Pending>,
    owned: Ordered<Owned>,
    consumers_ever: u64,
}

impl Group {
    pub fn new(last_id: StreamId, entries_read: Option<i64>) -> Self {
        Group { last_id, entries_read, ..Group::default() }
    }

    // ---- Consumers ----

    pub fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    /// In the order of their names.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.consumers.iter()
    }

    pub fn consumer(&self, name: &[u8]) -> Option<&Consumer> {
        self.consumers.find(&ByName(name))
    }

    /// Makes a consumer; false if there is one of this name.
    pub fn create_consumer(&mut self, name: &[u8], seen_ms: i64) -> bool {
        if self.consumer(name).is_some() {
            return false;
        }
        self.consumers_ever += 1;
        let owner = Owner::new(self.consumers_ever, name);
        self.consumers.insert(&ByName(name), Consumer { owner, seen_ms, active_ms: None });
        true
    }

    /// Changes the times of a consumer.
    pub fn update_consumer(&mut self, name: &[u8], change: impl FnOnce(&mut Consumer)) {
        self.consumers.update(&ByName(name), change);
    }

    /// Takes a consumer away with all it owns, and tells how much that was; `None` if there is none.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let number = self.consumers.remove(&ByName(name))?.owner.number();
        let ids: Vec<StreamId> = self.owned_of(number, StreamId::MIN).collect();
        for id in &ids {
            self.owned.remove(&ByOwner(number, *id));
            self.pending.remove(id);
        }
        Some(ids.len())
    }

    // ---- What is pending ----

    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    pub fn pending(&self, id: StreamId) -> Option<&Pending> {
        self.pending.find(&id)
    }

    /// In the order of identifiers, from this one on.
    pub fn pending_from(&self, id: StreamId) -> impl Iterator<Item = &Pending> {
        self.pending.iter_from(&id)
    }

    pub fn last_pending(&self) -> Option<&Pending> {
        self.pending.last()
    }

    /// How many entries a consumer owns. O(log n).
    pub fn owned_count(&self, owner: &Owner) -> usize {
        let number = owner.number();
        let behind = self.owned.count_before(&ByOwner(number + 1, StreamId::MIN));
        behind - self.owned.count_before(&ByOwner(number, StreamId::MIN))
    }

    /// What a consumer owns, in the order of identifiers, from this one on.
    pub fn owned_from(&self, owner: &Owner, id: StreamId) -> impl Iterator<Item = &Pending> {
        self.owned_of(owner.number(), id).filter_map(|id| self.pending(id))
    }

    fn owned_of(&self, number: u64, id: StreamId) -> impl Iterator<Item = StreamId> {
        let owned = self.owned.iter_from(&ByOwner(number, id));
        owned.take_while(move |owned| owned.owner == number).map(|owned| owned.id)
    }

    /// Gives an entry to a consumer of the group, whoever had it.
    pub fn assign(&mut self, pending: Pending) {
        let (id, owner) = (pending.id, pending.owner.clone());
        match self.pending.update(&id, |old| std::mem::replace(old, pending.clone()).owner) {
            Some(old) if old == owner => return,
            Some(old) => drop(self.owned.remove(&ByOwner(old.number(), id))),
            None => self.pending.insert(&id, pending),
        }
        let number = owner.number();
        self.owned.insert(&ByOwner(number, id), Owned { owner: number, id });
    }

    /// Forgets what is pending under an identifier; false if nothing is.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(&id) else { return false };
        self.owned.remove(&ByOwner(pending.owner.number(), id));
        true
    }

    /// Bytes of memory that the group owns.
    pub fn memory_bytes(&self) -> usize {
        let names = self.consumers().map(|consumer| consumer.name().len() + 3 * size_of::<usize>());
        self.consumers.memory_bytes()
            + self.pending.memory_bytes()
            + self.owned.memory_bytes()
            + names.sum::<usize>()
    }
}

/// A group under its name.
#[derive(Clone, Debug)]
pub(super) struct NamedGroup {
    pub(super) name: ThinArc<(), u8>,
    pub(super) group: triomphe::Arc<Group>,
}

impl NamedGroup {
    pub(super) fn new(name: &[u8], group: Group) -> Self {
        NamedGroup { name: ThinArc::from_header_and_slice((), name), group: triomphe::Arc::new(group) }
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name.slice
    }
}
