//! Sets: a sorted array of integers or a flat block of packed members while small, then a dictionary of
//! reference-counted members. Knows nothing of keys and commands.
//!
//! The form changes exactly when Valkey changes it (its t_set.c), and never back.

use crate::base::number::parse_i64;
use crate::types::dictionary::{self, Dictionary, Item};
use crate::types::element::{Element, OwnedElement, TextBuffer};
use crate::types::integers;
use crate::types::limits::Limits;
use crate::types::packed::{Elements, Encoded, MAX_BYTES, MAX_ELEMENTS, Packed};
use crate::types::thin::{Form, Thin, View, ViewMut};

/// A member of a large set.
#[derive(Clone, Debug)]
struct Member(Thin<()>);

impl Member {
    fn new(member: &[u8]) -> Self {
        Member(Thin::new((), 0, &[member]))
    }
}

impl Item for Member {
    fn key(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// A set of strings. `Clone` is a reference count.
#[derive(Clone, Debug)]
pub struct Set(Form<Dictionary<Member>>);

/// Iterator over the members of a set, in no particular order except that sets of integers in their small
/// form come sorted.
pub struct Iter<'a>(Members<'a>);

enum Members<'a> {
    Integers(integers::Iter<'a>),
    Packed(Elements<'a>),
    Dictionary(dictionary::Iter<'a, Member>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        match &mut self.0 {
            Members::Integers(integers) => integers.next().map(Element::Integer),
            Members::Packed(elements) => elements.next(),
            Members::Dictionary(members) => members.next().map(|member| Element::Bytes(member.key())),
        }
    }
}

impl Set {
    /// An empty set in the form that suits its first member and the number of members expected to be added
    /// in all (`expected_len`, 0 if unknown).
    pub fn new(first_member: &[u8], expected_len: usize, limits: &Limits) -> Self {
        if expected_len <= limits.set_max_intset_entries && parse_i64(first_member).is_some() {
            return Set(Form::small(integers::empty()));
        }
        if expected_len <= limits.set_max_listpack_entries {
            return Set(Form::small(Packed::empty()));
        }
        Set(Form::large(Dictionary::default()))
    }

    /// Changes to the large form ahead of time if `expected_len` members would not fit the present one.
    pub fn prepare(&mut self, expected_len: usize, limits: &Limits) {
        let View::Small(block) = self.0.view() else { return };
        let most = if block.flag() { limits.set_max_intset_entries } else { limits.set_max_listpack_entries };
        if expected_len > most {
            self.enlarge();
        }
    }

    /// Changes to the large form.
    fn enlarge(&mut self) {
        let mut buffer = TextBuffer::new();
        let members = self.iter().map(|element| Member::new(element.text(&mut buffer))).collect();
        self.0 = Form::large(members);
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        match self.0.view() {
            View::Small(block) if block.flag() => integers::len(block),
            View::Small(block) => block.count(),
            View::Large(members) => members.len(),
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// "intset", "listpack" or "hashtable".
    pub fn encoding(&self) -> &'static str {
        match self.0.view() {
            View::Small(block) if block.flag() => "intset",
            View::Small(_) => "listpack",
            View::Large(_) => "hashtable",
        }
    }

    /// Whether the set is a sorted array of integers.
    pub fn is_intset(&self) -> bool {
        matches!(self.0.view(), View::Small(block) if block.flag())
    }

    /// Adds a member; false if it was there already.
    pub fn insert(&mut self, member: &[u8], limits: &Limits) -> bool {
        match self.0.view_mut() {
            ViewMut::Large(members) => return members.find_or_insert_with(member, || Member::new(member)).1,
            ViewMut::Small(block) if block.flag() => {
                if let Some(integer) = parse_i64(member) {
                    let added = integers::insert(block, integer);
                    if integers::len(block) > limits.set_max_intset_entries.min(integers::MAX_LEN) {
                        self.enlarge();
                    }
                    return added;
                }
                if fits_packed(
                    integers::len(block),
                    integers::longest_text(block),
                    block.len() * 4,
                    member,
                    limits,
                ) {
                    let mut packed = Packed::empty();
                    for integer in integers::iter(block) {
                        packed.append(&Encoded::new(Element::Integer(integer)));
                    }
                    packed.append(&Encoded::text(member));
                    *block = packed;
                    return true;
                }
            }
            ViewMut::Small(block) => {
                if block.find(member, 1).is_some() {
                    return false;
                }
                if fits_packed(block.count(), 0, block.len(), member, limits) {
                    block.append(&Encoded::text(member));
                    return true;
                }
            }
        }
        self.enlarge();
        self.insert(member, limits)
    }

    /// Removes a member; false if it was not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        if !self.contains(member) {
            return false;
        }
        match self.0.view_mut() {
            ViewMut::Small(block) if block.flag() => {
                parse_i64(member).is_some_and(|integer| integers::remove(block, integer))
            }
            ViewMut::Small(block) => {
                let Some((_, offset)) = block.find(member, 1) else { return false };
                let (_, end) = block.element_at(offset);
                block.replace(offset, end, 1, &[]);
                true
            }
            ViewMut::Large(members) => members.remove(member).is_some(),
        }
    }

    /// Whether this is a member.
    pub fn contains(&self, member: &[u8]) -> bool {
        match self.0.view() {
            View::Small(block) if block.flag() => {
                parse_i64(member).is_some_and(|integer| integers::contains(block, integer))
            }
            View::Small(block) => block.find(member, 1).is_some(),
            View::Large(members) => members.contains(member),
        }
    }

    /// All members.
    pub fn iter(&self) -> Iter<'_> {
        Iter(match self.0.view() {
            View::Small(block) if block.flag() => Members::Integers(integers::iter(block)),
            View::Small(block) => Members::Packed(block.elements()),
            View::Large(members) => Members::Dictionary(members.iter()),
        })
    }

    /// A member chosen with equal chances for all.
    pub fn random(&self, random: &mut fastrand::Rng) -> Option<Element<'_>> {
        let len = self.len();
        if len == 0 {
            return None;
        }
        match self.0.view() {
            View::Small(block) if block.flag() => {
                Some(Element::Integer(integers::get(block, random.usize(0..len))))
            }
            View::Small(block) => block.element(random.usize(0..len)),
            View::Large(members) => members.random(random).map(|member| Element::Bytes(member.key())),
        }
    }

    /// Takes out a member chosen with equal chances for all.
    pub fn pop_random(&mut self, random: &mut fastrand::Rng) -> Option<OwnedElement> {
        let member = self.random(random)?.to_owned();
        self.remove(member.as_element().text(&mut TextBuffer::new()));
        Some(member)
    }

    /// Visits the members of one step of a scan and returns the cursor for the next, 0 at the end. Every
    /// member that stays in the set from the first step to the last is visited at least once.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(Element<'_>)) -> u64 {
        match self.0.view() {
            View::Small(_) => {
                self.iter().for_each(&mut visit);
                0
            }
            View::Large(members) => {
                members.scan(cursor, count, &mut |member: &Member| visit(Element::Bytes(member.key())))
            }
        }
    }

    /// Bytes of memory that the set owns, shared parts included; estimated from at most `samples` members
    /// (0: all).
    pub fn memory_bytes(&self, samples: usize) -> usize {
        match self.0.view() {
            View::Small(block) => block.memory_bytes(),
            View::Large(members) => {
                let taken = if samples == 0 { members.len() } else { samples.min(members.len()) };
                let sum: usize = members.iter().take(taken).map(|member| member.0.memory_bytes()).sum();
                members.memory_usage() + sum * members.len() / taken.max(1)
            }
        }
    }
}

/// Whether a block of `len` members, the longest of `longest` bytes, may take in one more.
fn fits_packed(len: usize, longest: usize, bytes: usize, member: &[u8], limits: &Limits) -> bool {
    len < limits.set_max_listpack_entries.min(MAX_ELEMENTS)
        && member.len().max(longest) <= limits.set_max_listpack_value
        && bytes + member.len() <= MAX_BYTES
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
