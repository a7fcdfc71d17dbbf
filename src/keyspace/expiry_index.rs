//! Which entries expire when: key hashes in buckets of time. Eight bytes a record, no keys.
//!
//! Invariant: every entry with an expiry has a record in a bucket that begins at or before its time. A record
//! may be stale (its entry is gone, lives longer, or expires no more); whoever takes it out looks at the entry.
//! So moving an expiry later costs nothing: the old record, when due, is put in again at the new time.

use std::collections::BTreeMap;

/// The width of a bucket: keys are deleted at most this late by the index alone.
const BUCKET_MS: u64 = 64;

#[derive(Debug, Default, Clone)]
pub(super) struct ExpiryIndex {
    buckets: BTreeMap<u64, Vec<u64>>,
}

impl ExpiryIndex {
    pub fn add(&mut self, at_ms: u64, hash: u64) {
        self.buckets.entry(at_ms / BUCKET_MS).or_default().push(hash);
    }

    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Takes out up to `most` records whose bucket has begun and ended, or is the current one.
    pub fn take_due(&mut self, now_ms: u64, most: usize) -> Vec<u64> {
        let mut due = Vec::new();
        // A bucket is looked at only when it is wholly in the past: its records would be put back otherwise.
        while let Some(mut bucket) = self.buckets.first_entry()
            && *bucket.key() < now_ms / BUCKET_MS
            && due.len() < most
        {
            let records = bucket.get_mut();
            let rest = records.len().saturating_sub(most - due.len());
            due.extend(records.drain(rest..));
            if records.is_empty() {
                bucket.remove();
            }
        }
        due
    }
}
