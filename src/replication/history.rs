//! The identity of a dataset's history: which replication id it has, which one it had, and until where.
//!
//! Knows nothing of connections or of the stream's bytes. Invariant: the id changes whenever the bytes that
//! follow may differ from what another holder of the old id writes.

use std::fmt;

/// Forty printable characters that name one history. Made by random, or received from a primary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicationId([u8; ReplicationId::LENGTH]);

impl ReplicationId {
    pub const LENGTH: usize = 40;

    /// What INFO shows where there is no id.
    pub const NONE_TEXT: &'static str = "0000000000000000000000000000000000000000";

    /// An id from twenty random bytes, in lower-case hexadecimal.
    pub fn from_random(random: [u8; 20]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; Self::LENGTH];
        for (pair, byte) in text.chunks_exact_mut(2).zip(random) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        ReplicationId(text)
    }

    /// An id as a peer wrote it: exactly forty printable ASCII characters without a space.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: [u8; Self::LENGTH] = text.try_into().ok()?;
        text.iter().all(u8::is_ascii_graphic).then_some(ReplicationId(text))
    }

    /// Whether a peer that asks for `text` means this id; case does not count.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.0.eq_ignore_ascii_case(text)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or(Self::NONE_TEXT)
    }
}

impl fmt::Display for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The history that this one continues, shared up to `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviousHistory {
    pub id: ReplicationId,
    /// The last position at which both histories are the same.
    pub until: u64,
}

/// The names under which this server's stream is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    id: ReplicationId,
    previous: Option<PreviousHistory>,
    continuable: bool,
}

impl History {
    /// An empty dataset: nothing that another server could continue for it.
    pub fn new(id: ReplicationId) -> Self {
        History { id, previous: None, continuable: false }
    }

    /// A replica that comes back with its dataset at the position that `id` describes.
    pub fn of_restarted_replica(id: ReplicationId, previous: Option<PreviousHistory>) -> Self {
        History { id, previous, continuable: true }
    }

    /// A primary that comes back with its dataset at `position` of the history `stored`. It takes a new id, since
    /// a torn tail may have been handed to replicas already: what it writes next may differ from those bytes.
    pub fn of_restarted_primary(stored: ReplicationId, position: u64, fresh: ReplicationId) -> Self {
        let previous = Some(PreviousHistory { id: stored, until: position });
        History { id: fresh, previous, continuable: true }
    }

    pub fn id(&self) -> ReplicationId {
        self.id
    }

    pub fn previous(&self) -> Option<PreviousHistory> {
        self.previous
    }

    /// `master_replid2` of INFO.
    pub fn previous_id_text(&self) -> &str {
        self.previous.as_ref().map_or(ReplicationId::NONE_TEXT, |previous| previous.id.as_str())
    }

    /// `second_repl_offset` of INFO: the first byte, counted from 1, that is not shared; -1 without a previous id.
    pub fn second_offset(&self) -> i128 {
        self.previous.map_or(-1, |previous| i128::from(previous.until) + 1)
    }

    /// Whether it makes sense to ask a primary to continue this history.
    pub fn is_continuable(&self) -> bool {
        self.continuable
    }

    /// The dataset is gone or no longer matches any position.
    pub(super) fn forget(&mut self) {
        self.continuable = false;
    }

    /// From now on this dataset is one that a primary may continue.
    pub(super) fn keep(&mut self) {
        self.continuable = true;
    }

    /// A new history begins at `position`, shared with the old one until there: promotion.
    pub(super) fn shift(&mut self, position: u64, fresh: ReplicationId) {
        self.previous = Some(PreviousHistory { id: self.id, until: position });
        self.id = fresh;
        self.continuable = true;
    }

    /// A history without a past: nobody may continue from the old ids.
    pub(super) fn renew(&mut self, fresh: ReplicationId) {
        self.previous = None;
        self.id = fresh;
    }

    /// The primary goes on with the same bytes under another id.
    pub(super) fn adopt(&mut self, id: ReplicationId, position: u64) {
        self.shift(position, id);
    }

    /// The dataset was replaced by the primary's.
    pub(super) fn replace(&mut self, id: ReplicationId) {
        *self = History { id, previous: None, continuable: true };
    }

    /// Whether a peer that has `position` bytes of the history `id` has only bytes that this history has too.
    pub fn shares(&self, id: &[u8], position: u64) -> bool {
        self.id.matches(id)
            || self.previous.is_some_and(|previous| previous.id.matches(id) && position <= previous.until)
    }

    /// Whether `id` is one of the two names, at any position.
    pub fn knows(&self, id: &[u8]) -> bool {
        self.id.matches(id) || self.previous.is_some_and(|previous| previous.id.matches(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ReplicationId {
        ReplicationId::from_random([n; 20])
    }

    #[test]
    fn id_is_lower_case_hexadecimal() {
        assert_eq!(id(0xa7).to_string(), "a7".repeat(20));
        assert_eq!(ReplicationId::parse(id(3).as_str().as_bytes()), Some(id(3)));
        assert_eq!(ReplicationId::parse(b"short"), None);
        assert_eq!(ReplicationId::parse(&[b' '; 40]), None);
        assert_eq!(ReplicationId::parse(&[0xff; 40]), None);
        assert!(id(0xab).matches("AB".repeat(20).as_bytes()));
    }

    #[test]
    fn promotion_keeps_the_old_name_until_the_position() {
        let mut history = History::new(id(1));
        assert_eq!((history.second_offset(), history.previous_id_text()), (-1, ReplicationId::NONE_TEXT));
        history.shift(50, id(2));
        assert_eq!(history.id(), id(2));
        assert_eq!(history.second_offset(), 51);
        assert!(history.shares(id(1).as_str().as_bytes(), 50));
        assert!(!history.shares(id(1).as_str().as_bytes(), 51));
        assert!(history.shares(id(2).as_str().as_bytes(), 51));
        assert!(history.knows(id(1).as_str().as_bytes()) && !history.knows(id(3).as_str().as_bytes()));
    }

    #[test]
    fn second_promotion_forgets_the_oldest_name() {
        let mut history = History::new(id(1));
        history.shift(50, id(2));
        history.shift(60, id(3));
        assert!(!history.knows(id(1).as_str().as_bytes()));
        history.replace(id(4));
        assert_eq!(history.previous(), None);
        history.adopt(id(5), 70);
        assert_eq!(history.previous(), Some(PreviousHistory { id: id(4), until: 70 }));
        history.renew(id(6));
        assert!(!history.knows(id(5).as_str().as_bytes()));
    }

    #[test]
    fn restarted_primary_never_writes_under_its_old_name() {
        let history = History::of_restarted_primary(id(1), 40, id(2));
        assert_eq!(history.id(), id(2));
        assert!(history.shares(id(1).as_str().as_bytes(), 40));
        assert!(!history.shares(id(1).as_str().as_bytes(), 41));
    }
}
