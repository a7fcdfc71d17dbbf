//! A fingerprint of the dataset: what DEBUG DIGEST and DEBUG DIGEST-VALUE answer.
//!
//! It depends on what is kept, not on the order or the form in which it is kept, and is bit for bit Valkey's, so that two
//! servers of either make can be compared. Source of the algorithm: SHA-1 sums of keys and elements; those of things
//! without an order are combined by exclusive or, those with one are hashed on. When a field expires does not count, but one whose time
//! has passed is as good as gone.

use sha1::{Digest as _, Sha1};

use super::{Entry, Keyspace, ValueRef};
use crate::base::number::format_shortest;
use crate::types::element::{Element, TextBuffer};

/// A SHA-1 sum, or a combination of some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest([u8; 20]);

impl Digest {
    /// Of all that the dataset holds, keys whose time has passed included, but not such fields.
    pub fn of_keyspace(keyspace: &Keyspace, now_ms: u64) -> Digest {
        let mut digest = Digest::default();
        for (index, database) in keyspace.databases().iter().enumerate() {
            if database.is_empty() {
                continue;
            }
            digest.hash_on(&(index as u32).to_be_bytes());
            for entry in database.entries().iter() {
                let mut of_entry = Digest::default();
                of_entry.hash_on(entry.key());
                of_entry.hash_on_value(entry, now_ms);
                digest.combine(&of_entry.0);
            }
        }
        digest
    }

    /// Of a value and whether it expires, without its key.
    pub fn of_value(entry: &Entry, now_ms: u64) -> Digest {
        let mut digest = Digest::default();
        digest.hash_on_value(entry, now_ms);
        digest
    }

    /// Forty hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Mixes something in whose place among the others does not count.
    fn combine(&mut self, bytes: &[u8]) {
        let sum = Sha1::digest(bytes);
        self.0.iter_mut().zip(sum).for_each(|(byte, other)| *byte ^= other);
    }

    /// Mixes something in whose place counts.
    fn hash_on(&mut self, bytes: &[u8]) {
        self.combine(bytes);
        self.0 = Sha1::digest(self.0).into();
    }

    fn hash_on_element(&mut self, element: Element<'_>) {
        self.hash_on(element.text(&mut TextBuffer::new()));
    }

    fn hash_on_value(&mut self, entry: &Entry, now_ms: u64) {
        self.hash_on(&u32::from(entry.kind() as u8).to_be_bytes());
        match entry.value() {
            ValueRef::String(bytes) => self.hash_on(bytes),
            ValueRef::Integer(number) => self.hash_on_element(Element::Integer(number)),
            ValueRef::List(list) => list.iter().for_each(|element| self.hash_on_element(element)),
            ValueRef::Set(set) => {
                set.iter().for_each(|member| self.combine(member.text(&mut TextBuffer::new())));
            }
            ValueRef::SortedSet(set) => {
                for (member, score) in set.iter() {
                    let mut pair = Digest::default();
                    pair.hash_on_element(member);
                    pair.hash_on(&format_shortest(score));
                    self.combine(&pair.0);
                }
            }
            ValueRef::Hash(hash) => {
                let lives = |at: i64| u64::try_from(at).is_ok_and(|at| at > now_ms);
                for field in hash.iter().filter(|field| field.expire_at_ms.is_none_or(lives)) {
                    let mut pair = Digest::default();
                    pair.hash_on_element(field.name);
                    pair.hash_on_element(field.value);
                    self.combine(&pair.0);
                }
            }
            ValueRef::Stream(stream) => {
                for entry in stream.log().iter() {
                    self.hash_on(&entry.id.joined_by(b'.'));
                    for (name, value) in entry.fields {
                        self.hash_on_element(name);
                        self.hash_on_element(value);
                    }
                }
            }
        }
        if entry.expire_at_ms().is_some() {
            self.combine(b"!!expire!!");
        }
    }
}

#[cfg(test)]
mod tests;
