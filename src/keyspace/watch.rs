//! WATCH: flags that clients hold, raised when a watched key changes.
//!
//! Who watches is kept beside the dataset, under a lock of its own, so that a client can begin and cease to watch while a
//! script holds the dataset.
//!
//! Invariant: a flag once raised stays raised until its owner makes a new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

/// Raised when a key watched under it was changed.
pub type WatchFlag = Arc<AtomicBool>;

#[derive(Debug)]
struct Watcher {
    flag: WatchFlag,
    /// The key's time had already passed when it was watched, so its deletion is no change.
    was_expired: bool,
}

/// How a key looks to its watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Missing,
    /// Still there, but its time has passed.
    Expired,
    Present,
}

/// A watched key whose whole database was emptied or swapped.
#[derive(Debug)]
pub struct Replaced {
    pub database: usize,
    pub key: Box<[u8]>,
    pub before: Presence,
    pub after: Presence,
}

type WatchersByKey = HashMap<(usize, Box<[u8]>), Vec<Watcher>>;

#[derive(Debug, Default)]
struct Shared {
    /// The size of `by_key`, so that writers need no lock while nobody watches.
    keys: AtomicUsize,
    by_key: Mutex<WatchersByKey>,
}

/// Everyone who watches keys; clones are handles of the same set.
#[derive(Debug, Default, Clone)]
pub struct Watchers(Arc<Shared>);

impl Watchers {
    pub fn add(&self, flag: &WatchFlag, database: usize, key: &[u8], was_expired: bool) {
        let mut by_key = self.0.by_key.lock();
        let watchers = by_key.entry((database, key.into())).or_default();
        if !watchers.iter().any(|watcher| Arc::ptr_eq(&watcher.flag, flag)) {
            watchers.push(Watcher { flag: flag.clone(), was_expired });
        }
        self.0.keys.store(by_key.len(), Relaxed);
    }

    pub fn remove(&self, flag: &WatchFlag, database: usize, key: &[u8]) {
        let id = (database, Box::from(key));
        let mut by_key = self.0.by_key.lock();
        if let Some(watchers) = by_key.get_mut(&id) {
            watchers.retain(|watcher| !Arc::ptr_eq(&watcher.flag, flag));
            if watchers.is_empty() {
                by_key.remove(&id);
            }
        }
        self.0.keys.store(by_key.len(), Relaxed);
    }

    /// Was the key already expired when `flag` began to watch it?
    pub fn was_expired(&self, flag: &WatchFlag, database: usize, key: &[u8]) -> bool {
        let by_key = self.0.by_key.lock();
        by_key
            .get(&(database, Box::from(key)))
            .and_then(|watchers| watchers.iter().find(|watcher| Arc::ptr_eq(&watcher.flag, flag)))
            .is_some_and(|watcher| watcher.was_expired)
    }

    /// Raises the flags of those who watch `key`. A key that had expired when it was watched and is gone now is what it
    /// was: nothing.
    pub(super) fn changed(&self, database: usize, key: &[u8], exists: bool) {
        if self.key_count() == 0 {
            return;
        }
        for watcher in self.0.by_key.lock().get_mut(&(database, Box::from(key))).into_iter().flatten() {
            if watcher.was_expired && !exists {
                watcher.was_expired = false;
            } else {
                watcher.flag.store(true, Relaxed);
            }
        }
    }

    /// The watched keys of `database`.
    pub(super) fn keys_of(&self, database: usize) -> Vec<Box<[u8]>> {
        if self.key_count() == 0 {
            return Vec::new();
        }
        let by_key = self.0.by_key.lock();
        by_key.keys().filter(|(watched, _)| *watched == database).map(|(_, key)| key.clone()).collect()
    }

    /// A watched key was replaced along with its whole database: raises the flags of those to whom it looks different.
    pub(super) fn replaced(&self, replaced: &Replaced) {
        let mut by_key = self.0.by_key.lock();
        let id = (replaced.database, replaced.key.clone());
        for watcher in by_key.get_mut(&id).into_iter().flatten() {
            match (watcher.was_expired, replaced.before, replaced.after) {
                (_, Presence::Missing, Presence::Missing) | (true, _, Presence::Expired) => {}
                (true, _, Presence::Missing) => watcher.was_expired = false,
                (false, Presence::Missing, Presence::Expired) => watcher.was_expired = true,
                _ => watcher.flag.store(true, Relaxed),
            }
        }
    }

    /// Raises all flags.
    pub(super) fn all_changed(&self) {
        for watcher in self.0.by_key.lock().values().flatten() {
            watcher.flag.store(true, Relaxed);
        }
    }

    /// Keys watched by at least one client.
    pub fn key_count(&self) -> usize {
        self.0.keys.load(Relaxed)
    }
}
