//! The dataset: databases of entries, snapshots, expiry, and the transaction through which alone it changes.
//! Knows nothing of connections, sockets, scripts or files.
//!
//! Invariants: a [`Keyspace`] changes only through a [`WriteTxn`]; whoever holds `&Keyspace` reads one moment
//! in time; a clone of it (a [`Snapshot`]) costs a handful of pointers and never changes.

mod access;
mod counters;
mod database;
mod digest;
mod effects;
pub mod entry;
mod events;
mod expiry_index;
mod garbage;
mod journal;
mod reader;
mod settings;
mod transaction;
mod waiting;
mod watch;

pub use access::AccessPolicy;
pub use counters::Counters;
pub use database::Database;
pub use digest::Digest;
pub use effects::{Effects, Unit};
pub use entry::{Entry, ValueRef};
pub use events::{Event, EventClasses, Message};
pub use garbage::Garbage;
pub use journal::Journal;
pub use reader::{KeyExpiry, Reader, StringValue};
pub use settings::{LazyFree, Settings};
pub use transaction::{Aftermath, WriteState, WriteTxn};
pub use waiting::WaitedKeys;
pub use watch::{Presence, WatchFlag, Watchers};

use std::sync::Arc;

use parking_lot::Mutex;

/// All databases, and the settings by which their values are kept.
#[derive(Debug)]
pub struct Keyspace {
    databases: Vec<Database>,
    settings: Arc<Settings>,
    /// Expired keys that reads met. A read cannot delete; the next write turn does.
    expired_seen: Mutex<Vec<(usize, Vec<u8>)>>,
}

/// One moment of the dataset, to be read on any thread while the original goes on changing.
#[derive(Debug, Clone)]
pub struct Snapshot(Arc<Keyspace>);

impl Snapshot {
    /// The databases, to be given up one by one.
    pub fn into_databases(self) -> Vec<Database> {
        match Arc::try_unwrap(self.0) {
            Ok(keyspace) => keyspace.databases,
            Err(shared) => shared.databases.clone(),
        }
    }
}

impl std::ops::Deref for Snapshot {
    type Target = Keyspace;

    fn deref(&self) -> &Keyspace {
        &self.0
    }
}

impl Keyspace {
    /// An empty dataset of `databases` databases (at least one).
    pub fn new(databases: usize, settings: Settings) -> Self {
        Keyspace {
            databases: (0..databases.max(1)).map(|_| Database::default()).collect(),
            settings: Arc::new(settings),
            expired_seen: Mutex::default(),
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot(Arc::new(self.copy()))
    }

    /// A dataset of its own that begins at this moment. What either changes the other does not see.
    pub fn copy(&self) -> Keyspace {
        Keyspace {
            databases: self.databases.clone(),
            settings: self.settings.clone(),
            expired_seen: Mutex::default(),
        }
    }

    pub fn database_count(&self) -> usize {
        self.databases.len()
    }

    /// Database `index`, which must be below [`database_count`](Self::database_count).
    pub fn database(&self, index: usize) -> &Database {
        &self.databases[index]
    }

    pub fn databases(&self) -> &[Database] {
        &self.databases
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = Arc::new(settings);
    }

    /// Puts an entry in while a dataset is being loaded that nobody else sees yet.
    pub fn insert_loaded(&mut self, database: usize, entry: Entry) -> Option<Entry> {
        self.databases[database].insert(entry)
    }

    /// Keys of all databases.
    pub fn len(&self) -> usize {
        self.databases.iter().map(Database::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn note_expired(&self, database: usize, key: &[u8]) {
        self.expired_seen.lock().push((database, key.to_vec()));
    }

    /// The expired keys that reads have met since the last call.
    pub fn take_expired_seen(&mut self) -> Vec<(usize, Vec<u8>)> {
        std::mem::take(self.expired_seen.get_mut())
    }

    /// Have reads met expired keys? Cheap enough to ask after each batch of reads.
    pub fn has_expired_seen(&self) -> bool {
        !self.expired_seen.lock().is_empty()
    }
}
