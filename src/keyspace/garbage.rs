//! What was deleted and takes long to drop: whole databases, and values of many elements. It only collects; whoever owns
//! the write state moves it to a thread of its own and drops it there.
//!
//! Invariant: small values never get here, so that a deletion as it usually is costs no second thread anything.

use super::{Database, Entry, ValueRef};

/// Values of up to this many elements are dropped at once: that is cheaper than handing them over.
const MOST_DROPPED_AT_ONCE: usize = 64;

#[derive(Debug, Default)]
pub struct Garbage {
    entries: Vec<Entry>,
    databases: Vec<Database>,
}

impl Garbage {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.databases.is_empty()
    }

    /// All of it, to be dropped elsewhere.
    pub fn take(&mut self) -> Garbage {
        std::mem::take(self)
    }

    /// How many entries wait to be dropped, those of databases included.
    pub fn len(&self) -> usize {
        self.entries.len() + self.databases.iter().map(Database::len).sum::<usize>()
    }

    pub(super) fn add(&mut self, entry: Entry) {
        let elements = match entry.value() {
            ValueRef::String(_) | ValueRef::Integer(_) => 1,
            ValueRef::List(list) => list.len(),
            ValueRef::Set(set) => set.len(),
            ValueRef::SortedSet(sorted_set) => sorted_set.len(),
            ValueRef::Hash(hash) => hash.len(),
            ValueRef::Stream(stream) => stream.element_count(),
        };
        if elements > MOST_DROPPED_AT_ONCE {
            self.entries.push(entry);
        }
    }

    pub(super) fn add_database(&mut self, database: Database) {
        if !database.is_empty() {
            self.databases.push(database);
        }
    }
}
