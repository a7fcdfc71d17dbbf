//! Hashes.

use std::marker::PhantomData;

use crate::types::element::Element;
use crate::types::limits::Limits;

/// A map from field to value, both strings, each field with an optional moment at which it expires. The type
/// does not look at the clock: an expired field stays until it is removed. `Clone` is a reference count.
#[derive(Clone, Debug)]
pub struct Hash(());

/// One field of a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The field's name.
    pub name: Element<'a>,
    /// Its value.
    pub value: Element<'a>,
    /// When it expires, in milliseconds of Unix time; `None`: never.
    pub expire_at_ms: Option<i64>,
}

/// Iterator over the fields of a hash, in no particular order.
pub struct Iter<'a>(PhantomData<&'a Hash>);

impl<'a> Iterator for Iter<'a> {
    type Item = Field<'a>;
    fn next(&mut self) -> Option<Field<'a>> {
        unimplemented!()
    }
}

#[allow(unused_variables)]
impl Hash {
    /// An empty hash.
    pub fn new() -> Self {
        unimplemented!()
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// "listpack" or "hashtable".
    pub fn encoding(&self) -> &'static str {
        unimplemented!()
    }

    /// Changes to the large form ahead of time if one of these fields or values is too long for the small
    /// one, or if `more` fields would not fit it.
    pub fn prepare<V: AsRef<[u8]>>(&mut self, fields_and_values: &[V], limits: &Limits) {
        unimplemented!()
    }

    /// The value of a field.
    pub fn get(&self, field: &[u8]) -> Option<Element<'_>> {
        self.get_field(field).map(|field| field.value)
    }

    /// A field with its value and expiry.
    pub fn get_field(&self, field: &[u8]) -> Option<Field<'_>> {
        unimplemented!()
    }

    /// Whether there is such a field.
    pub fn contains(&self, field: &[u8]) -> bool {
        self.get_field(field).is_some()
    }

    /// Sets a field, which then never expires. True if it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        unimplemented!()
    }

    /// Sets a field and keeps its expiry. True if it is new.
    pub fn set_keeping_expiry(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        unimplemented!()
    }

    /// Sets or clears the expiry of a field, in milliseconds of Unix time; false if there is no such field.
    pub fn set_expiry(&mut self, field: &[u8], expire_at_ms: Option<i64>, limits: &Limits) -> bool {
        unimplemented!()
    }

    /// When a field expires, in milliseconds of Unix time; `None` if never or if there is no such field.
    pub fn expire_at_ms(&self, field: &[u8]) -> Option<i64> {
        self.get_field(field).and_then(|field| field.expire_at_ms)
    }

    /// The earliest expiry of any field, in milliseconds of Unix time.
    pub fn next_expiry_ms(&self) -> Option<i64> {
        unimplemented!()
    }

    /// Number of fields that have an expiry.
    pub fn expiring_len(&self) -> usize {
        unimplemented!()
    }

    /// Up to `limit` fields whose expiry is at or before `now_ms`, the earliest first; to be removed by the
    /// caller, who also records what was removed.
    pub fn expired(&self, now_ms: i64, limit: usize) -> Vec<Field<'_>> {
        unimplemented!()
    }

    /// Removes a field; false if it was not there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        unimplemented!()
    }

    /// All fields.
    pub fn iter(&self) -> Iter<'_> {
        unimplemented!()
    }

    /// A field chosen with equal chances for all.
    pub fn random(&self, random: &mut fastrand::Rng) -> Option<Field<'_>> {
        unimplemented!()
    }

    /// Visits the fields of one step of a scan and returns the cursor for the next, 0 at the end. Every field
    /// that stays in the hash from the first step to the last is visited at least once.
    pub fn scan(&self, cursor: u64, count: usize, visit: impl FnMut(Field<'_>)) -> u64 {
        unimplemented!()
    }

    /// Bytes of memory that the hash owns, shared parts included; estimated from at most `samples` fields
    /// (0: all).
    pub fn memory_bytes(&self, samples: usize) -> usize {
        unimplemented!()
    }
}

impl Default for Hash {
    fn default() -> Self {
        Hash::new()
    }
}
