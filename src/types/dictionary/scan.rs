//! Scanning a dictionary step by step, with a cursor that outlives any change to the table.
//!
//! The walk goes by hash prefix from segment to segment, and inside a segment by tag, which orders the home slots. A
//! cursor is a point in that order: `prefix (26 bits, left-aligned) | tag (16 bits) | depth (5 bits)`, the depth being
//! that of the segment in which the tag counts. It stays below 2^47, exact in clients that read numbers as doubles.
//!
//! The guarantee is Valkey's: an item that is there from the first call to the last is returned at least once. It is
//! returned twice only if its segment merged, or is the right half of one that split, between two calls.

use super::segment::{Segment, home, tag_of_item};
use super::{Dictionary, Item, MAX_DEPTH};

const TAG_BITS: u32 = 16;
const DEPTH_BITS: u32 = 5;

struct Cursor {
    /// The first prefix not wholly visited, of `MAX_DEPTH` bits.
    prefix: usize,
    /// In the segment of this prefix, tags below this one were visited.
    tag: u16,
    /// The depth that segment had.
    depth: u32,
}

impl Cursor {
    fn from_number(number: u64) -> Self {
        Cursor {
            prefix: (number >> (TAG_BITS + DEPTH_BITS)) as usize,
            tag: (number >> DEPTH_BITS) as u16,
            depth: number as u32 & ((1 << DEPTH_BITS) - 1),
        }
    }

    fn to_number(&self) -> u64 {
        ((self.prefix as u64) << (TAG_BITS + DEPTH_BITS))
            | (u64::from(self.tag) << DEPTH_BITS)
            | u64::from(self.depth)
    }
}

impl<T: Item> Dictionary<T> {
    /// Visits about `count` items (at least one cluster of slots) from `cursor` on, 0 being the start. Returns the
    /// cursor to go on from, 0 at the end. Any number is a valid cursor.
    pub fn scan(&self, cursor: u64, count: usize, visit: &mut impl FnMut(&T)) -> u64 {
        let mut cursor = Cursor::from_number(cursor);
        let mut budget = count.max(1);
        while cursor.prefix < 1 << MAX_DEPTH {
            let Some(&index) = self.directory.get(cursor.prefix >> (MAX_DEPTH - self.depth)) else { break };
            let segment = &self.segments[index as usize];
            let below = MAX_DEPTH - segment.depth();
            // A segment that has merged since holds items on both sides of the cursor: it starts over. One that has
            // split is visited from the same tag on; its right half will be visited whole.
            let tag = if segment.depth() >= cursor.depth { cursor.tag } else { 0 };
            if let Some(tag) = scan_segment(segment, tag, &mut budget, visit) {
                return Cursor { prefix: segment.prefix() << below, tag, depth: segment.depth() }.to_number();
            }
            cursor = Cursor { prefix: (segment.prefix() + 1) << below, tag: 0, depth: 0 };
            if budget == 0 && cursor.prefix < 1 << MAX_DEPTH {
                return cursor.to_number();
            }
        }
        0
    }
}

/// Visits the items from `tag` on until the budget is used up and an empty slot is reached: no item whose home is
/// before an empty slot lies behind it. Returns the tag to go on from, or `None` at the segment's end.
fn scan_segment<T: Item>(
    segment: &Segment<T>,
    tag: u16,
    budget: &mut usize,
    visit: &mut impl FnMut(&T),
) -> Option<u16> {
    let slots = segment.slots();
    let start = home(tag, slots.len());
    for (slot, item) in slots.iter().enumerate().skip(start) {
        let Some(item) = item else {
            if *budget == 0 {
                let next_tag = ((slot + 1) << TAG_BITS).div_ceil(slots.len());
                return u16::try_from(next_tag).ok();
            }
            continue;
        };
        // Outside this range it was visited before, or wrapped around from the end and is visited there.
        if (start..=slot).contains(&home(tag_of_item(item), slots.len())) {
            visit(item);
            *budget = budget.saturating_sub(1);
        }
    }
    if slots.last().is_some_and(Option::is_some) {
        for (slot, item) in slots.iter().map_while(Option::as_ref).enumerate() {
            if home(tag_of_item(item), slots.len()) > slot {
                visit(item);
                *budget = budget.saturating_sub(1);
            }
        }
    }
    None
}
