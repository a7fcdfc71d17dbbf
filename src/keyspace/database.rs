//! One numbered database: its entries, and the index of what expires when.
//!
//! Invariants: `expiring` is the number of entries with an expiry; every such entry has a record in the index at
//! or before its time (see `expiry_index`).

use super::expiry_index::ExpiryIndex;
use super::{Entry, Presence, ValueRef};
use crate::types::dictionary::{self, Dictionary};

#[derive(Debug, Default, Clone)]
pub struct Database {
    pub(super) entries: Dictionary<Entry>,
    pub(super) expiring: usize,
    pub(super) expiry_index: ExpiryIndex,
    /// Of hashes with fields that expire, by the earliest of them.
    field_expiry_index: ExpiryIndex,
}

impl Database {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries with an expiry, whether it has passed or not.
    pub fn expiring(&self) -> usize {
        self.expiring
    }

    /// The entry of `key`, also when its time has passed.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// How `key` looks to a watcher.
    pub fn presence(&self, key: &[u8], now_ms: u64) -> Presence {
        match self.get(key) {
            None => Presence::Missing,
            Some(entry) if entry.expire_at_ms().is_some_and(|at| at <= now_ms) => Presence::Expired,
            Some(_) => Presence::Present,
        }
    }

    /// The table itself, for iteration, SCAN and sampling.
    pub fn entries(&self) -> &Dictionary<Entry> {
        &self.entries
    }

    pub fn into_entries(self) -> Dictionary<Entry> {
        self.entries
    }

    /// Puts an entry in, replacing one of the same key, which is returned. Loaders use this directly;
    /// everything else goes through a transaction.
    pub fn insert(&mut self, entry: Entry) -> Option<Entry> {
        self.insert_hashed(dictionary::hash(entry.key()), entry)
    }

    /// As [`insert`](Self::insert), with the hash of the entry's key.
    pub(super) fn insert_hashed(&mut self, hash: u64, entry: Entry) -> Option<Entry> {
        let expiry = entry.expire_at_ms();
        if let Some(at_ms) = next_field_expiry(&entry) {
            self.field_expiry_index.add(at_ms, hash);
        }
        let old = self.entries.insert_hashed(hash, entry);
        let old_expiry = old.as_ref().and_then(Entry::expire_at_ms);
        self.note_expiry(hash, old_expiry, expiry);
        old
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        self.remove_hashed(dictionary::hash(key), key)
    }

    pub(super) fn remove_hashed(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        let old = self.entries.remove_hashed(hash, key)?;
        if old.expire_at_ms().is_some() {
            self.expiring -= 1;
        }
        Some(old)
    }

    /// Changes the expiry of `key`, if it is there.
    pub(super) fn set_expiry(&mut self, key: &[u8], expiry: Option<u64>) -> bool {
        let hash = dictionary::hash(key);
        let Some(entry) = self.entries.get_mut_hashed(hash, key) else { return false };
        let old = entry.expire_at_ms();
        if old != expiry {
            entry.set_expiry(expiry);
            self.note_expiry(hash, old, expiry);
        }
        true
    }

    fn note_expiry(&mut self, hash: u64, old: Option<u64>, new: Option<u64>) {
        self.expiring = self.expiring + usize::from(new.is_some()) - usize::from(old.is_some());
        if let Some(at) = new
            && old.is_none_or(|old| old > at)
        {
            self.expiry_index.add(at, hash);
        }
    }

    /// `false`: no hash here has a field that expires.
    pub fn may_have_expiring_fields(&self) -> bool {
        !self.field_expiry_index.is_empty()
    }

    /// Takes up to `most` records that are due out of the index and returns the keys that really have expired,
    /// with the number of records taken. Keys whose time was moved get a new record.
    pub(super) fn take_due(&mut self, now_ms: u64, most: usize) -> (Vec<Vec<u8>>, usize) {
        let records = self.expiry_index.take_due(now_ms, most);
        let taken = records.len();
        let mut due = Vec::new();
        for hash in records {
            let Some(entry) = self.entries.find_hashed(hash, |entry| entry.expire_at_ms().is_some()) else {
                continue;
            };
            match entry.expire_at_ms() {
                Some(at) if at <= now_ms => due.push(entry.key().to_vec()),
                Some(at) => self.expiry_index.add(at, hash),
                None => {}
            }
        }
        (due, taken)
    }

    /// A field of the hash `key` expires at `at_ms` (or later).
    pub(super) fn note_field_expiry(&mut self, key: &[u8], at_ms: u64) {
        self.field_expiry_index.add(at_ms, dictionary::hash(key));
    }

    /// As [`take_due`](Self::take_due), of hashes with fields that have expired. The caller removes those, and notes the
    /// next expiry of what is left.
    pub(super) fn take_due_fields(&mut self, now_ms: u64, most: usize) -> (Vec<Vec<u8>>, usize) {
        let records = self.field_expiry_index.take_due(now_ms, most);
        let taken = records.len();
        let mut due = Vec::new();
        for hash in records {
            let Some(entry) = self.entries.find_hashed(hash, |entry| next_field_expiry(entry).is_some())
            else {
                continue;
            };
            match next_field_expiry(entry) {
                Some(at_ms) if at_ms <= now_ms => due.push(entry.key().to_vec()),
                Some(at_ms) => self.field_expiry_index.add(at_ms, hash),
                None => {}
            }
        }
        (due, taken)
    }

    /// The mean remaining life in milliseconds over a sample of the entries with an expiry; 0 without any.
    pub fn average_ttl_ms(&self, now_ms: u64) -> u64 {
        let mut total = 0u64;
        let mut count = 0u64;
        let sample = self.entries.iter().take(1000).filter_map(Entry::expire_at_ms);
        for at in sample {
            total = total.saturating_add(at.saturating_sub(now_ms));
            count += 1;
        }
        total.checked_div(count).unwrap_or(0)
    }
}

/// When the first field of the entry expires, in milliseconds of Unix time, if it is a hash that has such fields.
pub(super) fn next_field_expiry(entry: &Entry) -> Option<u64> {
    match entry.value() {
        ValueRef::Hash(hash) => hash.next_expiry_ms().map(|at_ms| at_ms.max(0) as u64),
        _ => None,
    }
}
