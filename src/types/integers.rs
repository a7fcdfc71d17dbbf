//! Sorted arrays of integers in a flat block: the form of a small set that holds nothing else. All integers have
//! the width (2, 4 or 8 bytes, little endian) that the widest ever added needed.
//!
//! Invariants: the block's flag is set, the rest of its tag is the width; the integers ascend, none twice.

use crate::types::element::Element;
use crate::types::thin::Thin;

const FLAG: u16 = 0x8000;

/// Most integers in a block.
pub const MAX_LEN: usize = 1 << 28;

/// A block without integers.
pub fn empty() -> Thin<()> {
    Thin::new((), FLAG | 2, &[])
}

fn width(block: &Thin<()>) -> usize {
    usize::from(block.tag() & !FLAG)
}

fn width_of(integer: i64) -> usize {
    if i16::try_from(integer).is_ok() {
        2
    } else if i32::try_from(integer).is_ok() {
        4
    } else {
        8
    }
}

fn read(bytes: &[u8]) -> i64 {
    let mut all = [0; 8];
    all[8 - bytes.len()..].copy_from_slice(bytes);
    i64::from_le_bytes(all) >> (64 - 8 * bytes.len())
}

/// Number of integers.
pub fn len(block: &Thin<()>) -> usize {
    block.len() / width(block)
}

/// The integer at an index, which must be below [`len`].
pub fn get(block: &Thin<()>, index: usize) -> i64 {
    let width = width(block);
    read(&block.bytes()[index * width..(index + 1) * width])
}

/// Iterator over the integers, ascending.
pub struct Iter<'a>(std::slice::ChunksExact<'a, u8>);

impl Iterator for Iter<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        self.0.next().map(read)
    }
}

/// All integers, ascending.
pub fn iter(block: &Thin<()>) -> Iter<'_> {
    Iter(block.bytes().chunks_exact(width(block)))
}

/// Where an integer is, or where it would be.
fn search(block: &Thin<()>, integer: i64) -> Result<usize, usize> {
    let (mut low, mut high) = (0, len(block));
    while low < high {
        let middle = low + (high - low) / 2;
        match get(block, middle).cmp(&integer) {
            std::cmp::Ordering::Equal => return Ok(middle),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Err(low)
}

/// Whether the integer is in the block.
pub fn contains(block: &Thin<()>, integer: i64) -> bool {
    search(block, integer).is_ok()
}

/// Adds an integer; false if it is there already.
pub fn insert(block: &mut Thin<()>, integer: i64) -> bool {
    let Err(index) = search(block, integer) else { return false };
    let width = width(block).max(width_of(integer));
    if width > self::width(block) {
        let wide: Vec<u8> = iter(block).flat_map(|old| old.to_le_bytes().into_iter().take(width)).collect();
        *block = Thin::new((), FLAG | width as u16, &[&wide]);
    }
    block.splice(index * width..index * width, &[&integer.to_le_bytes()[..width]], FLAG | width as u16);
    true
}

/// Removes an integer; false if it is not there.
pub fn remove(block: &mut Thin<()>, integer: i64) -> bool {
    let Ok(index) = search(block, integer) else { return false };
    let (width, tag) = (width(block), block.tag());
    block.splice(index * width..(index + 1) * width, &[], tag);
    true
}

/// Length in bytes of the longest decimal text, as far as the smallest and the largest integer tell.
pub fn longest_text(block: &Thin<()>) -> usize {
    let Some(last) = len(block).checked_sub(1) else { return 0 };
    Element::Integer(get(block, 0)).text_len().max(Element::Integer(get(block, last)).text_len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_tree_set(steps in proptest::collection::vec((prop_oneof![-5i64..5, -40000i64..40000, any::<i64>()], any::<bool>()), 0..80)) {
            let (mut block, mut model) = (empty(), BTreeSet::new());
            let kept = block.clone();
            for (integer, add) in steps {
                if add {
                    prop_assert_eq!(insert(&mut block, integer), model.insert(integer));
                } else {
                    prop_assert_eq!(remove(&mut block, integer), model.remove(&integer));
                }
                prop_assert_eq!(contains(&block, integer), model.contains(&integer));
                prop_assert_eq!(len(&block), model.len());
                prop_assert!(iter(&block).eq(model.iter().copied()));
            }
            prop_assert_eq!(len(&kept), 0);
        }
    }
}
