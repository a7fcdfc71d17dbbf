//! Counters of reads, one set per reactor, so that the hot path shares no cache line with another core.
//!
//! Invariant: one thread adds to a set; any thread may read it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
pub struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Counters {
    pub fn hit(&self) {
        // A plain load and store: there is only one writer.
        self.hits.store(self.hits.load(Relaxed) + 1, Relaxed);
    }

    pub fn miss(&self) {
        self.misses.store(self.misses.load(Relaxed) + 1, Relaxed);
    }

    /// Lookups that found their key, and those that did not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Relaxed), self.misses.load(Relaxed))
    }

    pub fn reset(&self) {
        self.hits.store(0, Relaxed);
        self.misses.store(0, Relaxed);
    }
}
