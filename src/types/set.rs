//! Sets.

use std::marker::PhantomData;

use crate::types::element::{Element, OwnedElement};
use crate::types::limits::Limits;

/// A set of strings. `Clone` is a reference count.
#[derive(Clone, Debug)]
pub struct Set(());

/// Iterator over the members of a set, in no particular order except that sets of integers in their small
/// form come sorted.
pub struct Iter<'a>(PhantomData<&'a Set>);

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;
    fn next(&mut self) -> Option<Element<'a>> {
        unimplemented!()
    }
}

#[allow(unused_variables)]
impl Set {
    /// An empty set in the form that suits its first member and the number of members expected to be added
    /// in all (`expected_len`, 0 if unknown).
    pub fn new(first_member: &[u8], expected_len: usize, limits: &Limits) -> Self {
        unimplemented!()
    }

    /// Changes to the large form ahead of time if `expected_len` members would not fit the present one.
    pub fn prepare(&mut self, expected_len: usize, limits: &Limits) {
        unimplemented!()
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// "intset", "listpack" or "hashtable".
    pub fn encoding(&self) -> &'static str {
        unimplemented!()
    }

    /// Whether the set is a sorted array of integers.
    pub fn is_intset(&self) -> bool {
        unimplemented!()
    }

    /// Adds a member; false if it was there already.
    pub fn insert(&mut self, member: &[u8], limits: &Limits) -> bool {
        unimplemented!()
    }

    /// Removes a member; false if it was not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        unimplemented!()
    }

    /// Whether this is a member.
    pub fn contains(&self, member: &[u8]) -> bool {
        unimplemented!()
    }

    /// All members.
    pub fn iter(&self) -> Iter<'_> {
        unimplemented!()
    }

    /// A member chosen with equal chances for all.
    pub fn random(&self, random: &mut fastrand::Rng) -> Option<Element<'_>> {
        unimplemented!()
    }

    /// Takes out a member chosen with equal chances for all.
    pub fn pop_random(&mut self, random: &mut fastrand::Rng) -> Option<OwnedElement> {
        unimplemented!()
    }

    /// Visits the members of one step of a scan and returns the cursor for the next, 0 at the end. Every
    /// member that stays in the set from the first step to the last is visited at least once.
    pub fn scan(&self, cursor: u64, count: usize, visit: impl FnMut(Element<'_>)) -> u64 {
        unimplemented!()
    }

    /// Bytes of memory that the set owns, shared parts included; estimated from at most `samples` members
    /// (0: all).
    pub fn memory_bytes(&self, samples: usize) -> usize {
        unimplemented!()
    }
}
