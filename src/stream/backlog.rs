//! The part of the stream that is kept in memory, for replicas that are behind.
//!
//! Invariant: the blocks are contiguous; the last one ends at the stream's offset.

use std::collections::VecDeque;

/// Most bytes of a block. Trimming goes by whole blocks.
const BLOCK: usize = 64 * 1024;
/// A small backlog has smaller blocks, so that it does not keep many times its size.
const BLOCKS: usize = 4;
const SMALLEST_BLOCK: usize = 4 * 1024;
/// Blocks that are given up at once: a slow reader that is gone leaves thousands, and who writes next must not wait for all of
/// them.
const GIVEN_UP_AT_ONCE: usize = 8;

#[derive(Debug)]
pub struct Backlog {
    blocks: VecDeque<Vec<u8>>,
    /// The offset of the first byte kept.
    first: u64,
    length: usize,
    size: usize,
    /// Blocks begun since it was last trimmed.
    begun: usize,
}

impl Backlog {
    /// An empty backlog at `offset` that keeps about `size` bytes.
    pub fn new(offset: u64, size: usize) -> Self {
        Backlog { blocks: VecDeque::new(), first: offset, length: 0, size: size.max(1), begun: 0 }
    }

    pub fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.blocks.back().map_or(0, |block| block.capacity() - block.len());
            if room == 0 {
                let capacity = (self.size / BLOCKS).clamp(SMALLEST_BLOCK, BLOCK);
                self.blocks.push_back(Vec::with_capacity(capacity));
                self.begun += 1;
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if let Some(block) = self.blocks.back_mut() {
                block.extend_from_slice(now);
            }
            self.length += now.len();
            bytes = later;
        }
    }

    /// Gives up what is beyond the size and before `needed`, the offset of the slowest reader: not more at once than takes no
    /// long time, but always more than came.
    pub fn trim(&mut self, needed: u64) {
        let most = GIVEN_UP_AT_ONCE + 2 * std::mem::take(&mut self.begun);
        for _ in 0..most {
            let Some(block) = self.blocks.front() else { return };
            if self.length - block.len() < self.size || self.first + block.len() as u64 > needed {
                return;
            }
            self.length -= block.len();
            self.first += block.len() as u64;
            self.blocks.pop_front();
        }
    }

    pub fn resize(&mut self, size: usize) {
        self.size = size.max(1);
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// The offset of the first byte kept.
    pub fn first_offset(&self) -> u64 {
        self.first
    }

    /// Bytes kept.
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether much more is kept than the size asks for: a reader was behind when it was last trimmed.
    pub fn is_stretched(&self) -> bool {
        self.length >= self.size + BLOCK
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.blocks.iter().map(Vec::capacity).sum()
    }

    /// Appends to `out` up to `most` bytes from `offset` on. `false`: what is asked for is not kept.
    pub fn read(&self, offset: u64, most: usize, out: &mut Vec<u8>) -> bool {
        let end = self.first + self.length as u64;
        if offset < self.first || offset > end {
            return false;
        }
        let mut skip = (offset - self.first) as usize;
        let mut left = most;
        for block in &self.blocks {
            if skip >= block.len() {
                skip -= block.len();
                continue;
            }
            let part = &block[skip..(skip + left).min(block.len())];
            out.extend_from_slice(part);
            left -= part.len();
            skip = 0;
            if left == 0 {
                break;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_the_end_of_what_was_appended(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..90_000), 0..12),
            size in 1usize..200_000,
        ) {
            let mut backlog = Backlog::new(7, size);
            let mut all = Vec::new();
            for part in &parts {
                backlog.append(part);
                backlog.trim(u64::MAX);
                all.extend_from_slice(part);
                prop_assert!(backlog.len() >= size.min(all.len()));
                prop_assert!(backlog.len() <= size + 2 * BLOCK + part.len());
                let start = (backlog.first_offset() - 7) as usize;
                let mut read = Vec::new();
                prop_assert!(backlog.read(backlog.first_offset(), usize::MAX / 2, &mut read));
                prop_assert_eq!(&read, &all[start..]);
                let middle = start + (all.len() - start) / 2;
                read.clear();
                prop_assert!(backlog.read(7 + middle as u64, 100, &mut read));
                prop_assert_eq!(&read[..], &all[middle..(middle + 100).min(all.len())]);
            }
            prop_assert!(!backlog.read(7 + all.len() as u64 + 1, 1, &mut Vec::new()));
        }
    }

    /// What a slow reader leaves is given up bit by bit, but faster than the stream can grow.
    #[test]
    fn much_is_given_up_in_steps() {
        let size = BLOCKS * BLOCK;
        let (mut backlog, part) = (Backlog::new(0, size), vec![b'x'; 20 * BLOCK]);
        for _ in 0..10 {
            backlog.append(&part);
            backlog.trim(0);
        }
        assert_eq!(backlog.len(), 200 * BLOCK);
        backlog.trim(u64::MAX);
        assert_eq!(backlog.len(), (200 - GIVEN_UP_AT_ONCE) * BLOCK);
        let mut appended = 0;
        while backlog.is_stretched() {
            backlog.append(&part);
            backlog.trim(u64::MAX);
            appended += 1;
            assert!(appended < 10, "it does not shrink");
        }
        assert_eq!(backlog.len(), size);
    }
}
