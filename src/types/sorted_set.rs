//! Sorted sets: a flat block of packed members and scores in order while small, then a counted tree for the order
//! and a dictionary from member to score, which share one block for each member. Knows nothing of keys and
//! commands.
//!
//! The form changes exactly when Valkey changes it (its t_zset.c), and back only by [`SortedSet::shrink`].
//!
//! Invariants: the order is by score, then by the member's bytes; no score is NaN; tree and dictionary of the large
//! form hold the same blocks.

use std::cmp::Ordering;
use std::ops::Range;

use crate::types::dictionary::{Dictionary, Item};
use crate::types::element::{Element, OwnedElement, TextBuffer};
use crate::types::limits::Limits;
use crate::types::list::Direction;
use crate::types::packed::{Elements, Encoded, MAX_BYTES, MAX_ELEMENTS, Packed};
use crate::types::thin::{Form, Thin, View, ViewMut};
use crate::types::tree::{Cursor, Entry, Order, Tree};

/// A member of the large form: its score is the head, its bytes are the block's.
#[derive(Clone, Debug)]
struct Scored(Thin<f64>);

impl Scored {
    fn new(member: &[u8], score: f64) -> Self {
        Scored(Thin::new(score, 0, &[member]))
    }

    fn score(&self) -> f64 {
        self.0.head()
    }

    fn pair(&self) -> (Element<'_>, f64) {
        (Element::Bytes(self.0.bytes()), self.score())
    }
}

impl Item for Scored {
    fn key(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// The first 8 bytes of a member as a number that orders like them.
fn prefix(member: &[u8]) -> u64 {
    match member.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut first = [0; 8];
            first[..member.len()].copy_from_slice(member);
            u64::from_be_bytes(first)
        }
    }
}

impl Entry for Scored {
    /// The score, and the first bytes of the member.
    type Hint = (f64, u64);

    fn hint(&self) -> (f64, u64) {
        (self.score(), prefix(self.key()))
    }

    fn weight(&self) -> usize {
        1
    }
}

/// Compares scores, of which none is NaN; the two zeros are equal.
fn compare_scores(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}

/// The place of a member with its score.
struct ByMember<'m> {
    score: f64,
    member: &'m [u8],
}

impl Order<Scored> for ByMember<'_> {
    fn is_before(&self, scored: &Scored) -> bool {
        compare_scores(scored.score(), self.score).then_with(|| scored.key().cmp(self.member)).is_lt()
    }

    fn compare_hint(&self, &(score, first): &(f64, u64)) -> Ordering {
        compare_scores(score, self.score).then_with(|| first.cmp(&prefix(self.member)))
    }
}

/// The place before or behind all members with a score.
struct ByScore {
    score: f64,
    behind: bool,
}

impl ByScore {
    fn is_before_score(&self, score: f64) -> bool {
        score < self.score || self.behind && score == self.score
    }
}

impl Order<Scored> for ByScore {
    fn is_before(&self, scored: &Scored) -> bool {
        self.is_before_score(scored.score())
    }

    fn compare_hint(&self, &(score, _): &(f64, u64)) -> Ordering {
        if self.is_before_score(score) { Ordering::Less } else { Ordering::Greater }
    }
}

/// The place before or behind a member, whatever the scores.
struct ByText<'m> {
    member: &'m [u8],
    behind: bool,
}

impl ByText<'_> {
    fn is_before_text(&self, text: &[u8]) -> bool {
        match text.cmp(self.member) {
            Ordering::Less => true,
            Ordering::Equal => self.behind,
            Ordering::Greater => false,
        }
    }
}

impl Order<Scored> for ByText<'_> {
    fn is_before(&self, scored: &Scored) -> bool {
        self.is_before_text(scored.key())
    }

    fn compare_hint(&self, &(_, first): &(f64, u64)) -> Ordering {
        first.cmp(&prefix(self.member))
    }
}

/// The large form.
#[derive(Clone, Debug, Default)]
struct Ranked {
    members: Dictionary<Scored>,
    order: Tree<Scored>,
}

impl Ranked {
    fn insert(&mut self, member: &[u8], score: f64) -> Inserted {
        let (stored, new) = self.members.find_or_insert_with(member, || Scored::new(member, score));
        if new {
            let scored = stored.clone();
            self.order.insert_by(&ByMember { score, member }, scored);
            return Inserted::Added;
        }
        let old = stored.score();
        if old == score {
            return Inserted::Unchanged;
        }
        let scored = Scored::new(member, score);
        *stored = scored.clone();
        self.order.remove_at(self.order.weight_before(&ByMember { score: old, member }));
        self.order.insert_by(&ByMember { score, member }, scored);
        Inserted::Updated
    }

    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let score = self.members.remove(member)?.score();
        self.order.remove_at(self.order.weight_before(&ByMember { score, member }));
        Some(score)
    }

    fn remove_ranks(&mut self, ranks: Range<usize>) {
        if ranks.len() == self.members.len() {
            *self = Ranked::default();
            return;
        }
        for _ in ranks.clone() {
            let Some(scored) = self.order.remove_at(ranks.start) else { return };
            self.members.remove(scored.key());
        }
    }

    fn pop(&mut self, scored: Option<Scored>) -> Option<(OwnedElement, f64)> {
        let scored = scored?;
        self.members.remove(scored.key());
        Some((OwnedElement::Bytes(scored.key().to_vec()), scored.score()))
    }
}

/// A score as an element of a block: an integer if it is one, else its 8 bytes. So minus zero becomes zero, as in
/// Valkey's small form.
struct PackedScore {
    integer: Option<i64>,
    bytes: [u8; 8],
}

impl PackedScore {
    fn new(score: f64) -> Self {
        let integer = score as i64;
        let exact = integer as f64 == score && integer != i64::MAX;
        PackedScore { integer: exact.then_some(integer), bytes: score.to_le_bytes() }
    }

    fn element(&self) -> Element<'_> {
        self.integer.map_or(Element::Bytes(&self.bytes), Element::Integer)
    }
}

fn unpack_score(element: Element<'_>) -> f64 {
    match element {
        Element::Integer(integer) => integer as f64,
        Element::Bytes(bytes) => bytes.first_chunk().map_or(0.0, |bytes| f64::from_le_bytes(*bytes)),
    }
}

fn next_pair<'a>(elements: &mut Elements<'a>) -> Option<(Element<'a>, f64)> {
    Some((elements.next()?, unpack_score(elements.next()?)))
}

fn next_pair_back<'a>(elements: &mut Elements<'a>) -> Option<(Element<'a>, f64)> {
    let score = unpack_score(elements.next_back()?);
    Some((elements.next_back()?, score))
}

/// How many pairs of a block, from the start, satisfy a condition.
fn count_while(block: &Packed, mut condition: impl FnMut(Element<'_>, f64) -> bool) -> usize {
    let mut elements = block.elements();
    std::iter::from_fn(|| next_pair(&mut elements))
        .take_while(|&(member, score)| condition(member, score))
        .count()
}

/// A member's place in a block: its rank, the offsets of its start and end, and its score.
fn find_pair(block: &Packed, member: &[u8]) -> Option<(usize, Range<usize>, f64)> {
    let (rank, start) = block.find(member, 2)?;
    let mut elements = block.elements_from(start);
    let (_, score) = next_pair(&mut elements)?;
    Some((rank, start..elements.offset(), score))
}

/// Inserts a pair at its place.
fn insert_pair(block: &mut Packed, member: &[u8], score: f64) {
    let wanted = Element::Bytes(member);
    let mut elements = block.elements();
    let mut offset = 0;
    while let Some((element, other)) = next_pair(&mut elements) {
        if compare_scores(other, score).then_with(|| element.cmp(&wanted)).is_ge() {
            break;
        }
        offset = elements.offset();
    }
    let score = PackedScore::new(score);
    block.replace(offset, offset, 0, &[Encoded::text(member), Encoded::new(score.element())]);
}

fn pop_pair(block: &mut Packed, last: bool) -> Option<(OwnedElement, f64)> {
    let mut elements = block.elements();
    let (member, score) = if last { next_pair_back(&mut elements)? } else { next_pair(&mut elements)? };
    let range = if last { elements.end_offset()..block.len() } else { 0..elements.offset() };
    let member = member.to_owned();
    block.replace(range.start, range.end, 2, &[]);
    Some((member, score))
}

/// A set of strings with a score each, ordered by score, then by the member's bytes. A score is never NaN.
/// `Clone` is a reference count.
#[derive(Clone, Debug)]
pub struct SortedSet(Form<Ranked>);

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

impl ScoreRange {
    /// Whether a score lies in the range.
    pub fn contains(&self, score: f64) -> bool {
        !self.start().is_before_score(score) && self.end().is_before_score(score)
    }

    fn start(&self) -> ByScore {
        match self.min {
            ScoreBound::Inclusive(score) => ByScore { score, behind: false },
            ScoreBound::Exclusive(score) => ByScore { score, behind: true },
        }
    }

    fn end(&self) -> ByScore {
        match self.max {
            ScoreBound::Inclusive(score) => ByScore { score, behind: true },
            ScoreBound::Exclusive(score) => ByScore { score, behind: false },
        }
    }
}

/// Iterator over members and scores in order; see [`SortedSet::iter_from`].
#[derive(Clone)]
pub struct Iter<'a>(Pairs<'a>, Direction);

#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives on the stack; a box would cost an allocation a range"
)]
enum Pairs<'a> {
    Packed(Elements<'a>),
    Tree(Cursor<'a, Scored>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Element<'a>, f64);

    fn next(&mut self) -> Option<Self::Item> {
        match (&mut self.0, self.1) {
            (Pairs::Packed(elements), Direction::Forward) => next_pair(elements),
            (Pairs::Packed(elements), Direction::Backward) => next_pair_back(elements),
            (Pairs::Tree(place), direction) => {
                let pair = place.entry()?.pair();
                match direction {
                    Direction::Forward => place.forward(),
                    Direction::Backward => place.backward(),
                }
                Some(pair)
            }
        }
    }
}

impl SortedSet {
    /// An empty sorted set.
    pub fn new() -> Self {
        SortedSet(Form::small(Packed::empty()))
    }

    /// An empty sorted set in the form that suits a number of members, the longest of `longest_member` bytes.
    pub fn with_expected(len: usize, longest_member: usize, limits: &Limits) -> Self {
        if len <= limits.zset_max_listpack_entries && longest_member <= limits.zset_max_listpack_value {
            return SortedSet::new();
        }
        SortedSet(Form::large(Ranked::default()))
    }

    /// Goes back to the small form if the members fit it, as Valkey does with the results of ZUNIONSTORE and
    /// its kin. `longest_member` is in bytes.
    pub fn shrink(&mut self, longest_member: usize, limits: &Limits) {
        let View::Large(large) = self.0.view() else { return };
        let len = large.members.len();
        if len > limits.zset_max_listpack_entries.min(MAX_ELEMENTS / 2)
            || longest_member > limits.zset_max_listpack_value
        {
            return;
        }
        let mut block = Packed::empty();
        for (member, score) in self.iter() {
            let (score, mut buffer) = (PackedScore::new(score), TextBuffer::new());
            let pair = [Encoded::text(member.text(&mut buffer)), Encoded::new(score.element())];
            block.replace(block.len(), block.len(), 0, &pair);
        }
        self.0 = Form::small(block);
    }

    /// Changes to the large form.
    fn enlarge(&mut self) {
        let mut large = Ranked::default();
        let mut buffer = TextBuffer::new();
        for (member, score) in self.iter() {
            let scored = Scored::new(member.text(&mut buffer), score);
            large.order.push(scored.clone());
            large.members.insert(scored);
        }
        self.0 = Form::large(large);
    }

    fn rank_of_text(&self, place: &ByText<'_>) -> usize {
        match self.0.view() {
            View::Small(block) => {
                let mut buffer = TextBuffer::new();
                count_while(block, |member, _| place.is_before_text(member.text(&mut buffer)))
            }
            View::Large(large) => large.order.weight_before(place),
        }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        match self.0.view() {
            View::Small(block) => block.count() / 2,
            View::Large(large) => large.members.len(),
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// "listpack" or "skiplist".
    pub fn encoding(&self) -> &'static str {
        if self.0.is_large() { "skiplist" } else { "listpack" }
    }

    /// Gives a member a score. A NaN is refused: nothing changes and the answer is `Unchanged`.
    pub fn insert(&mut self, member: &[u8], score: f64, limits: &Limits) -> Inserted {
        if score.is_nan() {
            return Inserted::Unchanged;
        }
        match self.0.view_mut() {
            ViewMut::Large(large) => return large.insert(member, score),
            ViewMut::Small(block) => {
                if let Some((_, range, old)) = find_pair(block, member) {
                    if old == score {
                        return Inserted::Unchanged;
                    }
                    block.replace(range.start, range.end, 2, &[]);
                    insert_pair(block, member, score);
                    return Inserted::Updated;
                }
                let len = block.count() / 2;
                if len < limits.zset_max_listpack_entries.min(MAX_ELEMENTS / 2)
                    && member.len() <= limits.zset_max_listpack_value
                    && block.len() + member.len() <= MAX_BYTES
                {
                    insert_pair(block, member, score);
                    return Inserted::Added;
                }
            }
        }
        self.enlarge();
        self.insert(member, score, limits)
    }

    /// Removes a member and returns its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        if !self.contains(member) {
            return None;
        }
        match self.0.view_mut() {
            ViewMut::Small(block) => {
                let (_, range, score) = find_pair(block, member)?;
                block.replace(range.start, range.end, 2, &[]);
                Some(score)
            }
            ViewMut::Large(large) => large.remove(member),
        }
    }

    /// Removes the members with these ranks.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) {
        let ranks = ranks.start..ranks.end.min(self.len());
        if ranks.is_empty() {
            return;
        }
        match self.0.view_mut() {
            ViewMut::Small(block) => {
                let (start, end) = (block.offset_of(ranks.start * 2), block.offset_of(ranks.end * 2));
                block.replace(start, end, ranks.len() * 2, &[]);
            }
            ViewMut::Large(large) => large.remove_ranks(ranks),
        }
    }

    /// The score of a member.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self.0.view() {
            View::Small(block) => find_pair(block, member).map(|(_, _, score)| score),
            View::Large(large) => large.members.get(member).map(Scored::score),
        }
    }

    /// Whether this is a member.
    pub fn contains(&self, member: &[u8]) -> bool {
        self.score(member).is_some()
    }

    /// The rank of a member, 0 for the lowest, and its score. O(log n).
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match self.0.view() {
            View::Small(block) => find_pair(block, member).map(|(rank, _, score)| (rank, score)),
            View::Large(large) => {
                let score = large.members.get(member)?.score();
                Some((large.order.weight_before(&ByMember { score, member }), score))
            }
        }
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
        let (start, end) = match self.0.view() {
            View::Small(block) => (
                count_while(block, |_, score| range.start().is_before_score(score)),
                count_while(block, |_, score| range.end().is_before_score(score)),
            ),
            View::Large(large) => {
                (large.order.weight_before(&range.start()), large.order.weight_before(&range.end()))
            }
        };
        start..end.max(start)
    }

    /// The ranks of the members that lie in a range by their bytes; its length is their number. O(log n).
    pub fn ranks_by_lex(&self, range: &LexRange<'_>) -> Range<usize> {
        let start = match range.min {
            LexBound::Minimum => 0,
            LexBound::Maximum => self.len(),
            LexBound::Inclusive(member) => self.rank_of_text(&ByText { member, behind: false }),
            LexBound::Exclusive(member) => self.rank_of_text(&ByText { member, behind: true }),
        };
        let end = match range.max {
            LexBound::Minimum => 0,
            LexBound::Maximum => self.len(),
            LexBound::Inclusive(member) => self.rank_of_text(&ByText { member, behind: true }),
            LexBound::Exclusive(member) => self.rank_of_text(&ByText { member, behind: false }),
        };
        start..end.max(start)
    }

    /// All members with their scores, the lowest first.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0, Direction::Forward)
    }

    /// The members from a rank (included) on, towards higher or lower ranks; nothing if the rank is outside.
    pub fn iter_from(&self, rank: usize, direction: Direction) -> Iter<'_> {
        let pairs = match self.0.view() {
            View::Small(_) if rank >= self.len() => Pairs::Packed(Elements::empty()),
            View::Small(block) => Pairs::Packed(match direction {
                Direction::Forward => block.elements_from(block.offset_of(rank * 2)),
                Direction::Backward => block.elements_to(block.offset_of(rank * 2 + 2)),
            }),
            View::Large(large) => Pairs::Tree(large.order.cursor(rank).0),
        };
        Iter(pairs, direction)
    }

    /// Takes out the member with the lowest score.
    pub fn pop_min(&mut self) -> Option<(OwnedElement, f64)> {
        match self.0.view_mut() {
            ViewMut::Small(block) => pop_pair(block, false),
            ViewMut::Large(large) => {
                let scored = large.order.pop_first();
                large.pop(scored)
            }
        }
    }

    /// Takes out the member with the highest score.
    pub fn pop_max(&mut self) -> Option<(OwnedElement, f64)> {
        match self.0.view_mut() {
            ViewMut::Small(block) => pop_pair(block, true),
            ViewMut::Large(large) => {
                let scored = large.order.pop_last();
                large.pop(scored)
            }
        }
    }

    /// A member chosen with equal chances for all.
    pub fn random(&self, random: &mut fastrand::Rng) -> Option<(Element<'_>, f64)> {
        self.get(random.usize(0..self.len().max(1)))
    }

    /// Visits the members of one step of a scan and returns the cursor for the next, 0 at the end. Every
    /// member that stays in the set from the first step to the last is visited at least once.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(Element<'_>, f64)) -> u64 {
        match self.0.view() {
            View::Small(_) => {
                self.iter().for_each(|(member, score)| visit(member, score));
                0
            }
            View::Large(large) => large.members.scan(cursor, count, &mut |scored: &Scored| {
                let (member, score) = scored.pair();
                visit(member, score);
            }),
        }
    }

    /// Bytes of memory that the sorted set owns, shared parts included; estimated from at most `samples`
    /// members (0: all).
    pub fn memory_bytes(&self, samples: usize) -> usize {
        match self.0.view() {
            View::Small(block) => block.memory_bytes(),
            View::Large(Ranked { members, order }) => {
                let taken = if samples == 0 { members.len() } else { samples.min(members.len()) };
                let sum: usize = members.iter().take(taken).map(|scored| scored.0.memory_bytes()).sum();
                members.memory_usage() + order.memory_bytes() + sum * members.len() / taken.max(1)
            }
        }
    }
}

impl Default for SortedSet {
    fn default() -> Self {
        SortedSet::new()
    }
}

#[cfg(test)]
#[path = "sorted_set_tests.rs"]
mod tests;
