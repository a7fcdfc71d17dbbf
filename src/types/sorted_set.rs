//! Sorted sets.

use std::marker::PhantomData;
use std::ops::Range;

use crate::types::element::{Element, OwnedElement};
use crate::types::limits::Limits;
use crate::types::list::Direction;

/// A set of strings with a score each, ordered by score, then by the member's bytes. A score is never NaN.
/// `Clone` is a reference count.
#[derive(Clone, Debug)]
pub struct SortedSet(());

/// What an insert did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The member is new.
    Added,
    /// The member was there with another score.
    Updated,
    /// The member was there with this score.
    Unchanged,
}

/// One end of a range of scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScoreBound {
    /// This score belongs to the range.
    Inclusive(f64),
    /// This score does not.
    Exclusive(f64),
}

/// A range of scores; infinities are ordinary bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreRange {
    /// The lower end.
    pub min: ScoreBound,
    /// The upper end.
    pub max: ScoreBound,
}

/// One end of a range of members by their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LexBound<'b> {
    /// `-`: before every member.
    Minimum,
    /// `+`: after every member.
    Maximum,
    /// `[`: this member belongs to the range.
    Inclusive(&'b [u8]),
    /// `(`: this member does not.
    Exclusive(&'b [u8]),
}

/// A range of members by their bytes; meaningful when all scores are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LexRange<'b> {
    /// The lower end.
    pub min: LexBound<'b>,
    /// The upper end.
    pub max: LexBound<'b>,
}

/// Iterator over members and scores in order; see [`SortedSet::iter_from`].
pub struct Iter<'a>(PhantomData<&'a SortedSet>);

impl<'a> Iterator for Iter<'a> {
    type Item = (Element<'a>, f64);
    fn next(&mut self) -> Option<Self::Item> {
        unimplemented!()
    }
}

#[allow(unused_variables)]
impl SortedSet {
    /// An empty sorted set.
    pub fn new() -> Self {
        unimplemented!()
    }

    /// An empty sorted set in the form that suits a number of members, the longest of `longest_member` bytes.
    pub fn with_expected(len: usize, longest_member: usize, limits: &Limits) -> Self {
        unimplemented!()
    }

    /// Goes back to the small form if the members fit it, as Valkey does with the results of ZUNIONSTORE and
    /// its kin. `longest_member` is in bytes, `total_bytes` the sum of the lengths of all members.
    pub fn shrink(&mut self, longest_member: usize, limits: &Limits) {
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

    /// "listpack" or "skiplist".
    pub fn encoding(&self) -> &'static str {
        unimplemented!()
    }

    /// Gives a member a score. A NaN is refused: nothing changes and the answer is `Unchanged`.
    pub fn insert(&mut self, member: &[u8], score: f64, limits: &Limits) -> Inserted {
        unimplemented!()
    }

    /// Removes a member and returns its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        unimplemented!()
    }

    /// Removes the members with these ranks.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) {
        unimplemented!()
    }

    /// The score of a member.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        unimplemented!()
    }

    /// Whether this is a member.
    pub fn contains(&self, member: &[u8]) -> bool {
        self.score(member).is_some()
    }

    /// The rank of a member, 0 for the lowest, and its score. O(log n).
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        unimplemented!()
    }

    /// The rank of a member, 0 for the highest, and its score. O(log n).
    pub fn reverse_rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        self.rank(member).map(|(rank, score)| (self.len() - 1 - rank, score))
    }

    /// The member with a rank, and its score.
    pub fn get(&self, rank: usize) -> Option<(Element<'_>, f64)> {
        self.iter_from(rank, Direction::Forward).next()
    }

    /// The ranks of the members whose scores lie in a range; its length is their number. O(log n).
    pub fn ranks_by_score(&self, range: &ScoreRange) -> Range<usize> {
        unimplemented!()
    }

    /// The ranks of the members that lie in a range by their bytes; its length is their number. O(log n).
    pub fn ranks_by_lex(&self, range: &LexRange<'_>) -> Range<usize> {
        unimplemented!()
    }

    /// All members with their scores, the lowest first.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0, Direction::Forward)
    }

    /// The members from a rank (included) on, towards higher or lower ranks; nothing if the rank is outside.
    pub fn iter_from(&self, rank: usize, direction: Direction) -> Iter<'_> {
        unimplemented!()
    }

    /// Takes out the member with the lowest score.
    pub fn pop_min(&mut self) -> Option<(OwnedElement, f64)> {
        unimplemented!()
    }

    /// Takes out the member with the highest score.
    pub fn pop_max(&mut self) -> Option<(OwnedElement, f64)> {
        unimplemented!()
    }

    /// A member chosen with equal chances for all.
    pub fn random(&self, random: &mut fastrand::Rng) -> Option<(Element<'_>, f64)> {
        self.get(random.usize(0..self.len().max(1)))
    }

    /// Visits the members of one step of a scan and returns the cursor for the next, 0 at the end. Every
    /// member that stays in the set from the first step to the last is visited at least once.
    pub fn scan(&self, cursor: u64, count: usize, visit: impl FnMut(Element<'_>, f64)) -> u64 {
        unimplemented!()
    }

    /// Bytes of memory that the sorted set owns, shared parts included; estimated from at most `samples`
    /// members (0: all).
    pub fn memory_bytes(&self, samples: usize) -> usize {
        unimplemented!()
    }
}

impl Default for SortedSet {
    fn default() -> Self {
        SortedSet::new()
    }
}
