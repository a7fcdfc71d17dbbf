//! The packed forms that other servers write into RDB: listpack, ziplist, zipmap, intset. Only listpacks are written, for
//! streams.
//!
//! Invariant: every byte is checked before it is used; a block that does not end where it says is refused.

use super::RdbError;
use crate::types::Element;

/// An element of a packed block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Packed<'a> {
    Bytes(&'a [u8]),
    Integer(i64),
}

impl Packed<'_> {
    pub fn with_text<R>(self, use_text: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Packed::Bytes(bytes) => use_text(bytes),
            Packed::Integer(number) => use_text(itoa::Buffer::new().format(number).as_bytes()),
        }
    }
}

const BROKEN: RdbError = RdbError::Corrupt("a packed block is broken");

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], RdbError> {
    let (head, tail) = bytes.split_at_checked(count).ok_or(BROKEN)?;
    *bytes = tail;
    Ok(head)
}

fn byte(bytes: &mut &[u8]) -> Result<u8, RdbError> {
    Ok(take(bytes, 1)?[0])
}

/// A little-endian integer of up to eight bytes, sign-extended.
fn integer(bytes: &[u8]) -> i64 {
    let mut wide = [if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(wide)
}

fn length_of(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte))
}

/// The elements of a listpack.
pub fn listpack(block: &[u8]) -> Result<Vec<Packed<'_>>, RdbError> {
    let mut rest = block;
    let header = take(&mut rest, 6)?;
    if length_of(&header[..4]) != block.len() {
        return Err(BROKEN);
    }
    let mut elements = Vec::new();
    loop {
        let before = rest.len();
        let first = byte(&mut rest)?;
        if first == 0xff {
            break;
        }
        let element = match first {
            0..=0x7f => Packed::Integer(i64::from(first)),
            0x80..=0xbf => Packed::Bytes(take(&mut rest, usize::from(first & 0x3f))?),
            0xc0..=0xdf => {
                let number = i64::from(first & 0x1f) << 8 | i64::from(byte(&mut rest)?);
                Packed::Integer(if number >= 1 << 12 { number - (1 << 13) } else { number })
            }
            0xe0..=0xef => {
                let length = usize::from(first & 0x0f) << 8 | usize::from(byte(&mut rest)?);
                Packed::Bytes(take(&mut rest, length)?)
            }
            0xf0 => {
                let length = length_of(take(&mut rest, 4)?);
                Packed::Bytes(take(&mut rest, length)?)
            }
            0xf1 => Packed::Integer(integer(take(&mut rest, 2)?)),
            0xf2 => Packed::Integer(integer(take(&mut rest, 3)?)),
            0xf3 => Packed::Integer(integer(take(&mut rest, 4)?)),
            0xf4 => Packed::Integer(integer(take(&mut rest, 8)?)),
            _ => return Err(BROKEN),
        };
        let size = before - rest.len();
        take(&mut rest, back_length(size))?;
        elements.push(element);
    }
    let counted = length_of(&header[4..]);
    if !rest.is_empty() || (counted != 0xffff && counted != elements.len()) {
        return Err(BROKEN);
    }
    Ok(elements)
}

/// How many bytes the size of a listpack's element takes behind it, where it stands so that it can be walked backwards.
fn back_length(size: usize) -> usize {
    match size {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// Appends an element of a listpack, a number in as few bytes as it needs.
pub fn append_listpack_element(out: &mut Vec<u8>, element: Element<'_>) {
    let start = out.len();
    match element {
        Element::Integer(number) => append_listpack_integer(out, number),
        Element::Bytes(bytes) => {
            match bytes.len() {
                length @ 0..64 => out.push(0x80 | length as u8),
                length @ 64..4096 => out.extend_from_slice(&[0xe0 | (length >> 8) as u8, length as u8]),
                length => {
                    out.push(0xf0);
                    out.extend_from_slice(&(length as u32).to_le_bytes());
                }
            }
            out.extend_from_slice(bytes);
        }
    }
    let size = out.len() - start;
    let groups = back_length(size);
    for group in (0..groups).rev() {
        // From the highest seven bits to the lowest; all but the first have the upper bit set.
        let more = if group + 1 == groups { 0 } else { 0x80 };
        out.push((size >> (7 * group)) as u8 & 0x7f | more);
    }
}

fn append_listpack_integer(out: &mut Vec<u8>, number: i64) {
    let bytes = number.to_le_bytes();
    let (head, width) = match number {
        0..=127 => return out.push(bytes[0]),
        -4096..=4095 => return out.extend_from_slice(&[0xc0 | bytes[1] & 0x1f, bytes[0]]),
        -0x8000..=0x7fff => (0xf1, 2),
        -0x80_0000..=0x7f_ffff => (0xf2, 3),
        -0x8000_0000..=0x7fff_ffff => (0xf3, 4),
        _ => (0xf4, 8),
    };
    out.push(head);
    out.extend_from_slice(&bytes[..width]);
}

/// The elements of a ziplist.
pub fn ziplist(block: &[u8]) -> Result<Vec<Packed<'_>>, RdbError> {
    let mut rest = block;
    let header = take(&mut rest, 10)?;
    if length_of(&header[..4]) != block.len() {
        return Err(BROKEN);
    }
    let mut elements = Vec::new();
    loop {
        match byte(&mut rest)? {
            0xff => break,
            0xfe => drop(take(&mut rest, 4)?),
            _ => {}
        }
        let first = byte(&mut rest)?;
        elements.push(match first {
            0..=0x3f => Packed::Bytes(take(&mut rest, usize::from(first))?),
            0x40..=0x7f => {
                let length = usize::from(first & 0x3f) << 8 | usize::from(byte(&mut rest)?);
                Packed::Bytes(take(&mut rest, length)?)
            }
            0x80 => {
                let length =
                    take(&mut rest, 4)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                Packed::Bytes(take(&mut rest, length)?)
            }
            0xc0 => Packed::Integer(integer(take(&mut rest, 2)?)),
            0xd0 => Packed::Integer(integer(take(&mut rest, 4)?)),
            0xe0 => Packed::Integer(integer(take(&mut rest, 8)?)),
            0xf0 => Packed::Integer(integer(take(&mut rest, 3)?)),
            0xfe => Packed::Integer(integer(take(&mut rest, 1)?)),
            0xf1..=0xfd => Packed::Integer(i64::from(first & 0x0f) - 1),
            _ => return Err(BROKEN),
        });
    }
    let counted = length_of(&header[8..]);
    if !rest.is_empty() || (counted != 0xffff && counted != elements.len()) {
        return Err(BROKEN);
    }
    Ok(elements)
}

/// Names and values of a zipmap, alternating.
pub fn zipmap(block: &[u8]) -> Result<Vec<Packed<'_>>, RdbError> {
    let mut rest = block;
    byte(&mut rest)?;
    let mut elements = Vec::new();
    while let Some(length) = zipmap_length(&mut rest)? {
        elements.push(Packed::Bytes(take(&mut rest, length)?));
        let length = zipmap_length(&mut rest)?.ok_or(BROKEN)?;
        let free = usize::from(byte(&mut rest)?);
        elements.push(Packed::Bytes(take(&mut rest, length)?));
        take(&mut rest, free)?;
    }
    if rest.is_empty() { Ok(elements) } else { Err(BROKEN) }
}

fn zipmap_length(rest: &mut &[u8]) -> Result<Option<usize>, RdbError> {
    match byte(rest)? {
        0xff => Ok(None),
        0xfe => Ok(Some(length_of(take(rest, 4)?))),
        length => Ok(Some(usize::from(length))),
    }
}

/// The members of an intset.
pub fn intset(block: &[u8]) -> Result<Vec<Packed<'_>>, RdbError> {
    let mut rest = block;
    let width = length_of(take(&mut rest, 4)?);
    let count = length_of(take(&mut rest, 4)?);
    if !matches!(width, 2 | 4 | 8) || count.checked_mul(width) != Some(rest.len()) {
        return Err(BROKEN);
    }
    Ok(rest.chunks_exact(width).map(|bytes| Packed::Integer(integer(bytes))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listpack_of_every_sort() {
        // 1, -1, "ab", 4096, as a real server packs them.
        let block = [
            0x15, 0, 0, 0, 4, 0, 0x01, 0x01, 0xdf, 0xff, 0x02, 0x82, b'a', b'b', 0x03, 0xf1, 0x00, 0x10,
            0x03, 0xff, 0,
        ];
        assert!(listpack(&block).is_err(), "a byte too many");
        let mut block = block[..20].to_vec();
        block[0] = 20;
        let elements = listpack(&block).unwrap();
        assert_eq!(
            elements,
            [Packed::Integer(1), Packed::Integer(-1), Packed::Bytes(b"ab"), Packed::Integer(4096)]
        );
        for cut in 0..block.len() {
            assert!(listpack(&block[..cut]).is_err());
        }
    }

    #[test]
    fn what_is_appended_is_read() {
        let texts =
            [0, 1, 63, 64, 4095, 4096, 16_377, 16_378, 16_379, 3_000_000].map(|length| vec![b'x'; length]);
        let numbers = [
            0,
            127,
            128,
            -1,
            4095,
            -4096,
            4096,
            -4097,
            32_767,
            32_768,
            -8_388_608,
            8_388_608,
            i64::MIN,
            i64::MAX,
        ];
        let elements: Vec<Element<'_>> =
            texts.iter().map(|text| Element::Bytes(text)).chain(numbers.map(Element::Integer)).collect();
        let mut block = vec![0; 6];
        elements.iter().for_each(|element| append_listpack_element(&mut block, *element));
        block.push(0xff);
        let size = block.len() as u32;
        block[..4].copy_from_slice(&size.to_le_bytes());
        block[4] = elements.len() as u8;
        let again = listpack(&block).unwrap();
        assert_eq!(again.len(), elements.len());
        for (again, element) in again.iter().zip(elements) {
            again.with_text(|text| assert!(element == *text));
        }
    }

    #[test]
    fn an_intset() {
        let block = [2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 5, 0];
        assert_eq!(intset(&block).unwrap(), [Packed::Integer(-1), Packed::Integer(5)]);
        assert!(intset(&block[..11]).is_err());
    }
}
