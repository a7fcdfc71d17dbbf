//! Up to where the AOF is on the disk.
//!
//! Knows numbers only. Invariant: what it says is of the history that the files hold, and nothing while they lack its base.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The offset, and which of the histories that the files held one after the other it is of.
#[derive(Debug, Default)]
pub struct Synced {
    offset: AtomicU64,
    /// Grows when the files begin to hold another history. Odd while its base is not complete: nothing of it counts as
    /// synced until then.
    history: AtomicU64,
}

impl Synced {
    /// The offset up to which everything is on the disk.
    pub fn offset(&self) -> u64 {
        self.offset.load(Relaxed)
    }

    /// The history that the files hold at present.
    pub fn history(&self) -> u64 {
        self.history.load(Relaxed)
    }

    /// Have the files the base of that history?
    pub fn is_whole(&self) -> bool {
        self.history().is_multiple_of(2)
    }

    /// All that was found at the start.
    pub fn begin_at(&self, offset: u64) {
        self.offset.store(offset, Relaxed);
    }

    /// The AOF is to hold another history: that its files are on the disk says nothing until there is a base.
    pub fn begin_history(&self) {
        let history = self.history();
        self.history.store(history + 1 + history % 2, Relaxed);
        self.offset.store(0, Relaxed);
    }

    /// The base of the stream's history up to `offset` is complete and on the disk.
    pub fn base_is_complete(&self, offset: u64) {
        let history = self.history();
        self.history.store(history + history % 2, Relaxed);
        self.offset.fetch_max(offset, Relaxed);
    }

    /// The files of this history are on the disk up to `offset`.
    pub fn note(&self, history: u64, offset: u64) {
        if history.is_multiple_of(2) && history == self.history() {
            self.offset.fetch_max(offset, Relaxed);
        }
    }
}
