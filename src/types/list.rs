//! Lists.

use std::marker::PhantomData;

use crate::types::element::{Element, OwnedElement};
use crate::types::limits::Limits;

/// One end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The head, index 0.
    Front,
    /// The tail.
    Back,
}

/// Which way an iterator walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From lower to higher index or rank.
    Forward,
    /// From higher to lower index or rank.
    Backward,
}

/// A list of strings. `Clone` is a reference count.
#[derive(Clone, Debug)]
pub struct List(());

/// Iterator over the elements of a list; see [`List::iter_from`].
pub struct Iter<'a>(PhantomData<&'a List>);

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;
    fn next(&mut self) -> Option<Element<'a>> {
        unimplemented!()
    }
}

#[allow(unused_variables)]
impl List {
    /// An empty list.
    pub fn new() -> Self {
        unimplemented!()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// "listpack" or "quicklist".
    pub fn encoding(&self) -> &'static str {
        unimplemented!()
    }

    /// The element at an index from the head.
    pub fn get(&self, index: usize) -> Option<Element<'_>> {
        unimplemented!()
    }

    /// All elements from the head.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0, Direction::Forward)
    }

    /// The elements from `index` (included) on towards the tail or the head; nothing if `index` is outside.
    pub fn iter_from(&self, index: usize, direction: Direction) -> Iter<'_> {
        unimplemented!()
    }

    /// Adds the values one after the other at one end (so `Front` turns their order round), as LPUSH and
    /// RPUSH do; the form changes at most once, decided by all of them together.
    pub fn push<V: AsRef<[u8]>>(&mut self, end: End, values: &[V], limits: &Limits) {
        unimplemented!()
    }

    /// Adds one value at the head.
    pub fn push_front(&mut self, value: &[u8], limits: &Limits) {
        self.push(End::Front, &[value], limits);
    }

    /// Adds one value at the tail.
    pub fn push_back(&mut self, value: &[u8], limits: &Limits) {
        self.push(End::Back, &[value], limits);
    }

    /// Takes the element at one end.
    pub fn pop(&mut self, end: End, limits: &Limits) -> Option<OwnedElement> {
        unimplemented!()
    }

    /// Takes the element at the head.
    pub fn pop_front(&mut self, limits: &Limits) -> Option<OwnedElement> {
        self.pop(End::Front, limits)
    }

    /// Takes the element at the tail.
    pub fn pop_back(&mut self, limits: &Limits) -> Option<OwnedElement> {
        self.pop(End::Back, limits)
    }

    /// Replaces the element at `index`; false if there is none.
    pub fn set(&mut self, index: usize, value: &[u8], limits: &Limits) -> bool {
        unimplemented!()
    }

    /// Inserts before the element at `index`; `index == len()` appends. False if `index` is beyond that.
    pub fn insert(&mut self, index: usize, value: &[u8], limits: &Limits) -> bool {
        unimplemented!()
    }

    /// Index of the first element, from the head, that equals `value`.
    pub fn position(&self, value: &[u8]) -> Option<usize> {
        self.iter().position(|element| element == *value)
    }

    /// Removes up to `count` elements (0: all) that equal `value`, from the head (`Forward`) or the tail
    /// (`Backward`). Returns how many.
    pub fn remove_matching(
        &mut self,
        value: &[u8],
        count: usize,
        direction: Direction,
        limits: &Limits,
    ) -> usize {
        unimplemented!()
    }

    /// Removes `count` elements from `start` on, fewer if the list ends before.
    pub fn remove_range(&mut self, start: usize, count: usize, limits: &Limits) {
        unimplemented!()
    }

    /// Keeps only `count` elements from `start` on.
    pub fn trim(&mut self, start: usize, count: usize, limits: &Limits) {
        unimplemented!()
    }

    /// Bytes of memory that the list owns, shared parts included; estimated from at most `samples` nodes
    /// (0: all).
    pub fn memory_bytes(&self, samples: usize) -> usize {
        unimplemented!()
    }
}

impl Default for List {
    fn default() -> Self {
        List::new()
    }
}
