//! WATCH: flags that clients hold, raised when a watched key changes.
//!
//! Invariant: a flag once raised stays raised until its owner makes a new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Raised when a key watched under it was changed.
pub type WatchFlag = Arc<AtomicBool>;

#[derive(Debug)]
struct Watcher {
    flag: WatchFlag,
    /// The key's time had already passed when it was watched, so its deletion is no change.
    was_expired: bool,
}

#[derive(Debug, Default)]
pub struct Watchers {
    by_key: HashMap<(usize, Box<[u8]>), Vec<Watcher>>,
}

impl Watchers {
    pub fn add(&mut self, flag: &WatchFlag, database: usize, key: &[u8], was_expired: bool) {
        let watchers = self.by_key.entry((database, key.into())).or_default();
        if !watchers.iter().any(|watcher| Arc::ptr_eq(&watcher.flag, flag)) {
            watchers.push(Watcher { flag: flag.clone(), was_expired });
        }
    }

    pub fn remove(&mut self, flag: &WatchFlag, database: usize, key: &[u8]) {
        let id = (database, Box::from(key));
        if let Some(watchers) = self.by_key.get_mut(&id) {
            watchers.retain(|watcher| !Arc::ptr_eq(&watcher.flag, flag));
            if watchers.is_empty() {
                self.by_key.remove(&id);
            }
        }
    }

    /// Was the key already expired when `flag` began to watch it?
    pub fn was_expired(&self, flag: &WatchFlag, database: usize, key: &[u8]) -> bool {
        self.by_key
            .get(&(database, Box::from(key)))
            .and_then(|watchers| watchers.iter().find(|watcher| Arc::ptr_eq(&watcher.flag, flag)))
            .is_some_and(|watcher| watcher.was_expired)
    }

    /// Raises the flags of those who watch `key`. A key that had expired when it was watched and is gone now is what it
    /// was: nothing.
    pub(super) fn changed(&mut self, database: usize, key: &[u8], exists: bool) {
        if self.by_key.is_empty() {
            return;
        }
        for watcher in self.by_key.get_mut(&(database, Box::from(key))).into_iter().flatten() {
            if watcher.was_expired && !exists {
                watcher.was_expired = false;
            } else {
                watcher.flag.store(true, Relaxed);
            }
        }
    }

    /// Raises the flags of the keys of `database` for which `touched` says so, given whether the key was
    /// expired when watched.
    pub(super) fn changed_where(&mut self, database: usize, mut touched: impl FnMut(&[u8], bool) -> bool) {
        for ((watched, key), watchers) in &mut self.by_key {
            if *watched != database {
                continue;
            }
            for watcher in watchers {
                if touched(key, watcher.was_expired) {
                    watcher.flag.store(true, Relaxed);
                }
            }
        }
    }

    /// Keys watched by at least one client.
    pub fn key_count(&self) -> usize {
        self.by_key.len()
    }
}
