//! The undo journal: how the dataset was before a unit began, kept while a script may still be rolled back.
//!
//! Invariants: for each key the journal keeps the first old version only; putting them back restores the dataset
//! as it was, entry for entry. A journal that is off keeps nothing.

use hashbrown::HashTable;

use super::{Database, Entry};

/// A table that has grown beyond this many keys is not carried over to the next script.
const MOST_CARRIED_OVER: usize = 1024;

#[derive(Debug, Default)]
pub struct Journal {
    is_on: bool,
    /// By the hash that the dictionary of the key uses, which whoever changes a key has at hand.
    kept: HashTable<Kept>,
    /// All databases, as they were before one was flushed or swapped; later changes need no entries.
    databases: Option<Vec<Database>>,
}

/// How a key was.
#[derive(Debug)]
struct Kept {
    hash: u64,
    database: usize,
    old: Old,
}

#[derive(Debug)]
enum Old {
    Missing(Box<[u8]>),
    Entry(Entry),
}

impl Kept {
    fn key(&self) -> &[u8] {
        match &self.old {
            Old::Missing(key) => key,
            Old::Entry(entry) => entry.key(),
        }
    }

    fn is_of(&self, database: usize, key: &[u8]) -> bool {
        self.database == database && self.key() == key
    }
}

impl Journal {
    pub(super) fn begin(&mut self) {
        self.end();
        self.is_on = true;
    }

    /// Forgets what was kept, and keeps nothing any more.
    #[inline]
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.is_on) {
            self.databases = None;
            if self.kept.capacity() > MOST_CARRIED_OVER {
                self.kept = HashTable::new();
            } else {
                self.kept.clear();
            }
        }
    }

    /// Is the version of this key still to be kept before it changes? `hash` is that of the dictionary.
    #[inline]
    pub(super) fn wants(&self, database: usize, hash: u64, key: &[u8]) -> bool {
        self.is_on
            && self.databases.is_none()
            && self.kept.find(hash, |kept| kept.is_of(database, key)).is_none()
    }

    /// Keeps the version of a key that [is wanted](Self::wants).
    pub(super) fn keep(&mut self, database: usize, hash: u64, key: &[u8], old: Option<&Entry>) {
        let old = old.map_or_else(|| Old::Missing(key.into()), |entry| Old::Entry(entry.clone()));
        self.kept.insert_unique(hash, Kept { hash, database, old }, |kept| kept.hash);
    }

    /// Keeps all databases, before a change to whole ones.
    pub(super) fn keep_all(&mut self, databases: &[Database]) {
        if self.is_on && self.databases.is_none() {
            self.databases = Some(databases.to_vec());
        }
    }

    /// Puts everything back and ends. `false`: the journal was off.
    pub(super) fn undo(&mut self, databases: &mut Vec<Database>) -> bool {
        if !self.is_on {
            return false;
        }
        if let Some(kept) = self.databases.take() {
            *databases = kept;
        }
        for Kept { database, old, .. } in self.kept.drain() {
            match old {
                Old::Entry(entry) => drop(databases[database].insert(entry)),
                Old::Missing(key) => drop(databases[database].remove(&key)),
            }
        }
        self.end();
        true
    }
}
