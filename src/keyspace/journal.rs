//! The undo journal: how the dataset was before a unit began, kept while a script may still be rolled back.
//!
//! Invariant: for each key the journal keeps the first old version only; putting them back restores the dataset
//! as it was, entry for entry.

use std::collections::HashMap;

use super::{Database, Entry};

#[derive(Debug, Default)]
pub struct Journal {
    /// `None`: the key was not there.
    entries: HashMap<(usize, Box<[u8]>), Option<Entry>, foldhash::fast::RandomState>,
    /// All databases, as they were before one was flushed or swapped; later changes need no entries.
    databases: Option<Vec<Database>>,
}

impl Journal {
    /// Keeps the version of a key that is about to change.
    pub(super) fn keep(&mut self, database: usize, key: &[u8], old: Option<&Entry>) {
        if self.databases.is_none() {
            self.entries.entry((database, key.into())).or_insert_with(|| old.cloned());
        }
    }

    /// Keeps all databases, before a change to whole ones.
    pub(super) fn keep_all(&mut self, databases: &[Database]) {
        if self.databases.is_none() {
            self.databases = Some(databases.to_vec());
        }
    }

    pub(super) fn undo(self, databases: &mut Vec<Database>) {
        if let Some(kept) = self.databases {
            *databases = kept;
        }
        for ((database, key), old) in self.entries {
            match old {
                Some(entry) => drop(databases[database].insert(entry)),
                None => drop(databases[database].remove(&key)),
            }
        }
    }
}
