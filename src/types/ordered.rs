//! Entries of weight 1 in order, found by key: a counted tree that takes no memory while it is empty. Knows nothing of
//! what the entries are.
//!
//! Invariant: no two entries are found by the same key.

use crate::types::tree::{Cursor, Entry, Order, Tree};

/// A place in the order, and the question whether an entry is the one that belongs there.
pub trait Key<T: Entry>: Order<T> {
    /// Is this entry the one of the key?
    fn is(&self, entry: &T) -> bool;
}

/// See the module's documentation. `Clone` is a reference count.
#[derive(Debug)]
pub struct Ordered<T: Entry>(Option<Tree<T>>);

impl<T: Entry> Clone for Ordered<T> {
    fn clone(&self) -> Self {
        Ordered(self.0.clone())
    }
}

impl<T: Entry> Default for Ordered<T> {
    fn default() -> Self {
        Ordered(None)
    }
}

/// Entries from a place on, in order.
pub struct Walk<'a, T: Entry>(Option<Cursor<'a, T>>);

impl<'a, T: Entry> Iterator for Walk<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        let cursor = self.0.as_mut()?;
        let entry = cursor.entry()?;
        cursor.forward();
        Some(entry)
    }
}

impl<T: Entry> Ordered<T> {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, Tree::weight)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries come before a place.
    pub fn count_before(&self, place: &impl Order<T>) -> usize {
        self.0.as_ref().map_or(0, |tree| tree.weight_before(place))
    }

    /// The entry of a key. O(log n).
    pub fn find(&self, key: &impl Key<T>) -> Option<&T> {
        let tree = self.0.as_ref()?;
        tree.get(tree.weight_before(key)).map(|(entry, _)| entry).filter(|entry| key.is(entry))
    }

    /// All entries.
    pub fn iter(&self) -> Walk<'_, T> {
        Walk(self.0.as_ref().map(|tree| tree.cursor(0).0))
    }

    /// The entries from a place on.
    pub fn iter_from(&self, place: &impl Order<T>) -> Walk<'_, T> {
        Walk(self.0.as_ref().map(|tree| tree.cursor(tree.weight_before(place)).0))
    }

    /// The last entry.
    pub fn last(&self) -> Option<&T> {
        self.0.as_ref()?.last()
    }

    /// Puts in an entry whose key is not there yet.
    pub fn insert(&mut self, key: &impl Key<T>, entry: T) {
        debug_assert!(self.find(key).is_none(), "a key is there once");
        self.0.get_or_insert_default().insert_by(key, entry);
    }

    /// Takes out the entry of a key.
    pub fn remove(&mut self, key: &impl Key<T>) -> Option<T> {
        self.find(key)?;
        let tree = self.0.as_mut()?;
        let removed = tree.remove_at(tree.weight_before(key));
        if tree.weight() == 0 {
            self.0 = None;
        }
        removed
    }

    /// Changes the entry of a key, but not its place in the order.
    pub fn update<R>(&mut self, key: &impl Key<T>, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.find(key)?;
        let tree = self.0.as_mut()?;
        tree.update_at(tree.weight_before(key), change)
    }

    /// Bytes of memory of the nodes, without what the entries point at.
    pub fn memory_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, Tree::memory_bytes)
    }
}
