//! Finds the end of a snapshot in the bytes from a primary: by length, or by a mark that follows it.
//!
//! Knows nothing of what the snapshot holds. Invariant: the bytes given out, in order, are the snapshot's, and none
//! of the mark or of the stream after it.

use super::history::ReplicationId;
use bytes::{Bytes, BytesMut};
use memchr::memmem;

/// Reads one snapshot.
#[derive(Debug, Clone)]
pub(super) enum SnapshotReader {
    Length {
        left: u64,
    },
    /// `held` may be the beginning of the mark: fewer bytes than the mark has.
    Mark {
        mark: ReplicationId,
        held: BytesMut,
    },
}

/// What a chunk of input turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// All of the snapshot that can be told so far.
    More(Bytes),
    /// The last of the snapshot, and what came after it.
    Last(Bytes, Bytes),
}

impl SnapshotReader {
    /// Reads the line that precedes a snapshot, without its end: `$<length>` or `$EOF:<mark>`.
    pub fn from_header(line: &[u8]) -> Option<SnapshotReader> {
        let rest = line.strip_prefix(b"$")?;
        if let Some(mark) = rest.strip_prefix(b"EOF:") {
            return ReplicationId::parse(mark)
                .map(|mark| SnapshotReader::Mark { mark, held: BytesMut::new() });
        }
        let left = u64::try_from(super::handshake::integer(rest)?).ok()?;
        Some(SnapshotReader::Length { left })
    }

    /// Bytes still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            SnapshotReader::Length { left } => Some(*left),
            SnapshotReader::Mark { .. } => None,
        }
    }

    pub fn read(&mut self, mut input: Bytes) -> Chunk {
        match self {
            SnapshotReader::Length { left } => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= take as u64;
                let snapshot = input.split_to(take);
                if *left == 0 { Chunk::Last(snapshot, input) } else { Chunk::More(snapshot) }
            }
            SnapshotReader::Mark { mark, held } => {
                let mark = mark.as_str().as_bytes();
                let mut all = if held.is_empty() {
                    input
                } else {
                    held.extend_from_slice(&input);
                    held.split().freeze()
                };
                if let Some(at) = memmem::find(&all, mark) {
                    let snapshot = all.split_to(at);
                    return Chunk::Last(snapshot, all.split_off(mark.len()));
                }
                let keep = all.len().min(mark.len() - 1);
                let tail = all.split_off(all.len() - keep);
                held.extend_from_slice(&tail);
                Chunk::More(all)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(header: &[u8], wire: &[u8], step: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut reader = SnapshotReader::from_header(header)?;
        let mut snapshot = Vec::new();
        let mut chunks = wire.chunks(step);
        while let Some(chunk) = chunks.next() {
            match reader.read(Bytes::copy_from_slice(chunk)) {
                Chunk::More(bytes) => snapshot.extend_from_slice(&bytes),
                Chunk::Last(bytes, after) => {
                    snapshot.extend_from_slice(&bytes);
                    return Some((snapshot, [&after[..], &chunks.collect::<Vec<_>>().concat()].concat()));
                }
            }
        }
        None
    }

    #[test]
    fn headers() {
        for bad in [&b"$"[..], b"$-1", b"$x", b"$ 1", b"12", b"$EOF:short", b"+OK", b"$99999999999999999999"]
        {
            assert!(SnapshotReader::from_header(bad).is_none(), "{bad:?}");
        }
        assert_eq!(SnapshotReader::from_header(b"$12").and_then(|reader| reader.left()), Some(12));
    }

    proptest! {
        #[test]
        fn chunking_does_not_matter(
            snapshot in proptest::collection::vec(97u8..99, 0..200),
            after in proptest::collection::vec(any::<u8>(), 0..20),
            step in 1usize..90,
        ) {
            // A mark of the snapshot's own letters makes near misses common.
            let mark = "ab".repeat(19) + "zz";
            let wire = [&snapshot[..], mark.as_bytes(), &after].concat();
            let header = format!("$EOF:{mark}");
            prop_assert_eq!(run(header.as_bytes(), &wire, step), Some((snapshot.clone(), after.clone())));

            let wire = [&snapshot[..], &after].concat();
            if !wire.is_empty() {
                let header = format!("${}", snapshot.len());
                prop_assert_eq!(run(header.as_bytes(), &wire, step), Some((snapshot, after)));
            }
        }
    }
}
