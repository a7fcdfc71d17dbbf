//! Which clients wait for which keys (BLPOP and its kin), and which of those keys have changed.
//!
//! Invariant: clients of a key are served in the order in which they began to wait.

use std::collections::{HashMap, VecDeque};

/// The number of a client; the server gives them out.
pub type ClientNumber = u64;

#[derive(Debug, Default)]
pub struct WaitedKeys {
    queues: HashMap<(usize, Box<[u8]>), VecDeque<ClientNumber>>,
    ready: Vec<(usize, Box<[u8]>)>,
}

impl WaitedKeys {
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Puts `client` at the end of the queue of `key`, once.
    pub fn wait(&mut self, client: ClientNumber, database: usize, key: &[u8]) {
        let queue = self.queues.entry((database, key.into())).or_default();
        if !queue.contains(&client) {
            queue.push_back(client);
        }
    }

    pub fn forget(&mut self, client: ClientNumber, database: usize, key: &[u8]) {
        let id = (database, Box::from(key));
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.retain(|waiting| *waiting != client);
            if queue.is_empty() {
                self.queues.remove(&id);
            }
        }
    }

    /// Notes that `key` changed, if anybody waits for it.
    pub(super) fn changed(&mut self, database: usize, key: &[u8]) {
        if self.queues.is_empty() {
            return;
        }
        let id = (database, Box::from(key));
        if self.queues.contains_key(&id) && !self.ready.contains(&id) {
            self.ready.push(id);
        }
    }

    /// Notes that every key of a database may have changed (SWAPDB, a new dataset).
    pub(super) fn all_changed(&mut self, database: usize) {
        let keys = self.queues.keys().filter(|(waited, _)| *waited == database);
        let new: Vec<_> = keys.filter(|id| !self.ready.contains(id)).cloned().collect();
        self.ready.extend(new);
    }

    /// Keys that changed since the last call, in order.
    pub fn take_ready(&mut self) -> Vec<(usize, Box<[u8]>)> {
        std::mem::take(&mut self.ready)
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Who waits for `key` now, first come first.
    pub fn queue(&self, database: usize, key: &[u8]) -> Vec<ClientNumber> {
        self.queues
            .get(&(database, Box::from(key)))
            .map(|queue| queue.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Keys that at least one client waits for.
    pub fn key_count(&self) -> usize {
        self.queues.len()
    }
}
