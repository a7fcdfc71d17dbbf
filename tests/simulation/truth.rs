//! What each history consists of, as its first holder had it: everybody else must have the same.

use std::collections::BTreeMap;

use understudy::replication::ReplicationId;

#[derive(Default)]
struct History {
    /// The offset of the first byte known.
    start: u64,
    bytes: Vec<u8>,
    /// Digests of the dataset at offsets.
    digests: BTreeMap<u64, u64>,
}

/// All histories by their names.
#[derive(Default)]
pub struct Truth(BTreeMap<ReplicationId, History>);

/// Who claims to have this part of a history.
pub struct Claim<'a> {
    pub who: usize,
    pub id: ReplicationId,
    pub start: u64,
    pub bytes: &'a [u8],
    pub digest: u64,
}

impl Truth {
    /// Compares with what is known of the history, and learns the rest.
    pub fn check(&mut self, claim: &Claim<'_>) {
        let (who, id) = (claim.who, claim.id);
        let end = claim.start + claim.bytes.len() as u64;
        let history =
            self.0.entry(id).or_insert_with(|| History { start: claim.start, ..History::default() });
        let known_end = history.start + history.bytes.len() as u64;
        let (from, to) = (claim.start.max(history.start), end.min(known_end));
        if from < to {
            let known = &history.bytes[(from - history.start) as usize..(to - history.start) as usize];
            let claimed = &claim.bytes[(from - claim.start) as usize..(to - claim.start) as usize];
            assert!(known == claimed, "node {who} has other bytes of history {id} between {from} and {to}");
        }
        if end > known_end && claim.start <= known_end {
            history.bytes.extend_from_slice(&claim.bytes[(known_end - claim.start) as usize..]);
        }
        let digest = *history.digests.entry(end).or_insert(claim.digest);
        assert_eq!(digest, claim.digest, "node {who} has another dataset at {end} of history {id}");
    }
}
