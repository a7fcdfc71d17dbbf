//! The identity of a dataset's history: which replication id it has, which one it had, and until where.
//!
//! Knows nothing of connections or of the stream's bytes, but gives the stream its names. Invariant: the id changes whenever the bytes that
//! follow may differ from what another holder of the old id writes.

use super::action::Role;
use crate::stream::{NO_REPLID, Stream};
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

/// Ids that are remembered. INFO and other servers know of one; more let replicas continue across several failovers
/// and restarts in a row, and let a failover whose answer was lost be recognised.
const ANCESTORS_LIMIT: usize = 8;

/// The names under which this server's stream is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    id: ReplicationId,
    /// The latest first.
    ancestors: Vec<PreviousHistory>,
    continuable: bool,
    /// Where a restarted primary gave the history a new name, which nobody else can know before it writes on.
    renamed_at: Option<u64>,
}

impl History {
    /// An empty dataset: nothing that another server could continue for it.
    pub fn new(id: ReplicationId) -> Self {
        History { id, ancestors: Vec::new(), continuable: false, renamed_at: None }
    }

    /// A replica that comes back with its dataset at the position that `id` describes.
    pub fn of_restarted_replica(id: ReplicationId, ancestors: Vec<PreviousHistory>) -> Self {
        History { id, ancestors, continuable: true, renamed_at: None }
    }

    /// A primary that comes back with its dataset at `position` of the history `stored`. It takes a new id, since
    /// a torn tail may have been handed to replicas already: what it writes next may differ from those bytes.
    pub fn of_restarted_primary(
        stored: ReplicationId,
        ancestors: Vec<PreviousHistory>,
        position: u64,
        fresh: ReplicationId,
    ) -> Self {
        let mut history = History { id: stored, ancestors, continuable: true, renamed_at: None };
        history.shift(position, fresh);
        history.renamed_at = Some(position);
        history
    }

    /// A server that was started again: in this role, with a dataset at `position` of the history `stored`, or with one that
    /// belongs to no position. `target_id` is the history that the target of a handover under way must have.
    pub fn after_restart(
        role: &Role,
        stored: ReplicationId,
        position: Option<u64>,
        target_id: Option<ReplicationId>,
        fresh: ReplicationId,
    ) -> Self {
        match (position, role) {
            // Only who has the target's history can have the target continue it, but asking it needs the name alone.
            (None, Role::HandingOver(_)) => History::new(target_id.unwrap_or(stored)),
            (Some(_), Role::HandingOver(_)) if target_id.is_some_and(|id| id != stored) => {
                History::new(target_id.unwrap_or(stored))
            }
            (None, _) => History::new(stored),
            (Some(position), Role::Primary) => {
                History::of_restarted_primary(stored, Vec::new(), position, fresh)
            }
            (Some(_), _) => History::of_restarted_replica(stored, Vec::new()),
        }
    }

    /// The stream goes by the name that its history has now. Returns whether that is another one.
    pub fn name_stream(&self, stream: &mut Stream) -> bool {
        let previous = self.previous();
        let (second, until) =
            previous.map_or((NO_REPLID, None), |previous| (previous.id.0, Some(previous.until)));
        let is_new = *stream.replid() != self.id.0 || *stream.replid2() != second;
        if is_new {
            stream.change_replid(self.id.0);
            stream.set_second(second, until);
        }
        is_new
    }

    pub fn id(&self) -> ReplicationId {
        self.id
    }

    /// The histories that this one continues, the latest first; for the state file.
    pub fn ancestors(&self) -> &[PreviousHistory] {
        &self.ancestors
    }

    /// Is this the name that the history had before?
    pub fn is_previous_id(&self, id: &[u8]) -> bool {
        self.previous().is_some_and(|previous| previous.id.0 == id)
    }

    fn previous(&self) -> Option<&PreviousHistory> {
        self.ancestors.first()
    }

    /// `master_replid2` of INFO.
    pub fn previous_id_text(&self) -> &str {
        self.previous().map_or(ReplicationId::NONE_TEXT, |previous| previous.id.as_str())
    }

    /// `second_repl_offset` of INFO: the first byte, counted from 1, that is not shared; -1 without a previous id.
    pub fn second_offset(&self) -> i128 {
        self.previous().map_or(-1, |previous| i128::from(previous.until) + 1)
    }

    /// The name under which to ask another server to go on at `position`: a restarted primary that has written nothing
    /// since is at a point of its old history too, and that one others may know.
    pub(super) fn name_at(&self, position: u64) -> ReplicationId {
        match self.previous() {
            Some(previous) if self.renamed_at == Some(position) => previous.id,
            _ => self.id,
        }
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
        // What was shared beyond this point (a torn tail) is not shared by what follows.
        for ancestor in &mut self.ancestors {
            ancestor.until = ancestor.until.min(position);
        }
        self.ancestors.insert(0, PreviousHistory { id: self.id, until: position });
        self.ancestors.truncate(ANCESTORS_LIMIT);
        self.id = fresh;
        self.continuable = true;
        self.renamed_at = None;
    }

    /// A history without a past: nobody may continue from the old ids.
    pub(super) fn renew(&mut self, fresh: ReplicationId) {
        self.ancestors.clear();
        self.id = fresh;
        self.renamed_at = None;
    }

    /// The primary goes on with the same bytes under another id.
    pub(super) fn adopt(&mut self, id: ReplicationId, position: u64) {
        self.shift(position, id);
    }

    /// The dataset was replaced by the primary's.
    pub(super) fn replace(&mut self, id: ReplicationId) {
        *self = History { id, ancestors: Vec::new(), continuable: true, renamed_at: None };
    }

    /// Whether a peer that has `position` bytes of the history `id` has only bytes that this history has too.
    pub fn shares(&self, id: &[u8], position: u64) -> bool {
        let shared = |ancestor: &PreviousHistory| ancestor.id.matches(id) && position <= ancestor.until;
        self.id.matches(id) || self.ancestors.iter().any(shared)
    }

    /// Whether this history once continued `id`, under another name since.
    pub fn descends_from(&self, id: &[u8]) -> bool {
        self.ancestors.iter().any(|ancestor| ancestor.id.matches(id))
    }

    /// Whether `id` is one of the names, at any position.
    pub fn knows(&self, id: &[u8]) -> bool {
        self.id.matches(id) || self.descends_from(id)
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
    fn promotions_in_a_row_remember_the_latest_names() {
        let mut history = History::new(id(1));
        for n in 2..12 {
            history.shift(u64::from(n) * 10, id(n));
        }
        assert_eq!(history.ancestors().len(), ANCESTORS_LIMIT);
        assert!(!history.knows(id(2).as_str().as_bytes()));
        assert!(
            history.shares(id(4).as_str().as_bytes(), 50) && !history.shares(id(4).as_str().as_bytes(), 51)
        );
        assert_eq!(history.second_offset(), 111);
        history.replace(id(14));
        assert_eq!(history.ancestors(), []);
        history.adopt(id(5), 70);
        assert_eq!(history.ancestors(), [PreviousHistory { id: id(14), until: 70 }]);
        history.renew(id(6));
        assert!(!history.knows(id(5).as_str().as_bytes()));
    }

    #[test]
    fn restarted_primary_never_writes_under_its_old_name() {
        let history =
            History::of_restarted_primary(id(1), vec![PreviousHistory { id: id(9), until: 45 }], 40, id(2));
        assert_eq!(history.id(), id(2));
        assert!(history.shares(id(1).as_str().as_bytes(), 40));
        assert!(!history.shares(id(1).as_str().as_bytes(), 41));
        assert!(!history.shares(id(9).as_str().as_bytes(), 41), "the torn tail is shared by no name");
    }
}
