//! Elements packed one behind the other in a flat block: the small form of every collection and the nodes of
//! large lists. Knows nothing of fields, scores or limits.
//!
//! An element is a first byte that tells its kind, what the kind needs, and at the end the length of all that
//! in base 128, the lowest digit last and the high bit set on every digit that has another before it. So a
//! block can be walked from both ends.
//!
//! | first byte  | element                                                                    |
//! |-------------|----------------------------------------------------------------------------|
//! | `0iiiiiii`  | integer 0 to 127                                                           |
//! | `10llllll`  | string of up to 63 bytes                                                   |
//! | `1100llll`  | string of up to 4095 bytes; the low 8 bits of the length follow            |
//! | `11010000`  | string; its length follows in 4 bytes, little endian                       |
//! | `110100xx`  | integer in 2 (`01`), 3 (`10`) or 4 (`11`) bytes, little endian             |
//! | `11010100`  | integer in 8 bytes, little endian                                          |
//! | `111iiiii`  | integer of 13 bits, the high bits here, the low 8 bits following           |
//!
//! The sizes are, on purpose, those of the same elements in Valkey's listpack (its listpack.c), since the
//! limits of a list are expressed in that size: a block of `n` bytes here is [`LISTPACK_OVERHEAD`]` + n` there.
//!
//! Invariants: an element that spells an integer is stored as one; the lower 15 bits of a block's tag are the
//! number of its elements, the highest is a flag for its owner.

use crate::types::element::Element;
use crate::types::thin::Thin;

/// A block of packed elements.
pub type Packed = Thin<()>;

/// Bytes that a listpack has beyond its elements.
pub const LISTPACK_OVERHEAD: usize = 7;

/// Most elements that a block can count.
pub const MAX_ELEMENTS: usize = 0x7fff;

/// Most bytes that an owner should let a block grow to.
pub const MAX_BYTES: usize = 1 << 30;

const FLAG: u16 = 0x8000;

/// An element ready to be written.
pub struct Encoded<'a> {
    head: [u8; 9],
    head_len: usize,
    body: &'a [u8],
    tail: [u8; 5],
    tail_start: usize,
}

impl<'a> Encoded<'a> {
    /// Encodes a string, as an integer if it spells one.
    pub fn text(text: &'a [u8]) -> Self {
        Self::new(Element::from_text(text))
    }

    /// Encodes an element. Bytes are kept as bytes.
    pub fn new(element: Element<'a>) -> Self {
        let mut head = [0; 9];
        let (head_len, body) = match element {
            Element::Integer(integer) => (integer_head(integer, &mut head), &[][..]),
            Element::Bytes(bytes) => (string_head(bytes.len(), &mut head), bytes),
        };
        let (mut tail, mut tail_start) = ([0; 5], 4);
        let mut rest = head_len + body.len();
        tail[4] = (rest & 0x7f) as u8;
        while rest > 0x7f {
            rest >>= 7;
            tail[tail_start] |= 0x80;
            tail_start -= 1;
            tail[tail_start] = (rest & 0x7f) as u8;
        }
        Encoded { head, head_len, body, tail, tail_start }
    }

    /// The bytes in three parts.
    pub fn parts(&self) -> [&[u8]; 3] {
        [&self.head[..self.head_len], self.body, &self.tail[self.tail_start..]]
    }

    /// Size in bytes.
    #[cfg(test)]
    fn size(&self) -> usize {
        self.head_len + self.body.len() + (5 - self.tail_start)
    }
}

fn integer_head(integer: i64, head: &mut [u8; 9]) -> usize {
    let bytes = integer.to_le_bytes();
    let (kind, width) = match integer {
        0..=127 => {
            head[0] = bytes[0];
            return 1;
        }
        -4096..=4095 => {
            head[0] = 0xe0 | (bytes[1] & 0x1f);
            head[1] = bytes[0];
            return 2;
        }
        -0x8000..=0x7fff => (0xd1, 2),
        -0x80_0000..=0x7f_ffff => (0xd2, 3),
        -0x8000_0000..=0x7fff_ffff => (0xd3, 4),
        _ => (0xd4, 8),
    };
    head[0] = kind;
    head[1..=width].copy_from_slice(&bytes[..width]);
    1 + width
}

fn string_head(len: usize, head: &mut [u8; 9]) -> usize {
    match len {
        0..=63 => {
            head[0] = 0x80 | len as u8;
            1
        }
        64..=4095 => {
            head[0] = 0xc0 | (len >> 8) as u8;
            head[1] = len as u8;
            2
        }
        _ => {
            head[0] = 0xd0;
            head[1..5].copy_from_slice(&(len as u32).to_le_bytes());
            5
        }
    }
}

/// The little-endian integer of two's complement in these bytes (at most 8).
fn signed(bytes: &[u8]) -> i64 {
    let mut all = [0; 8];
    all[8 - bytes.len()..].copy_from_slice(bytes);
    i64::from_le_bytes(all) >> (64 - 8 * bytes.len())
}

/// Reads the element that starts at `at`, which must be the start of one; gives the start of the next.
fn decode(bytes: &[u8], at: usize) -> (Element<'_>, usize) {
    let first = bytes[at];
    let (element, len) = match first {
        0..=0x7f => (Element::Integer(i64::from(first)), 1),
        0x80..=0xbf => {
            let len = usize::from(first & 0x3f);
            (Element::Bytes(&bytes[at + 1..at + 1 + len]), 1 + len)
        }
        0xc0..=0xcf => {
            let len = usize::from(first & 0x0f) << 8 | usize::from(bytes[at + 1]);
            (Element::Bytes(&bytes[at + 2..at + 2 + len]), 2 + len)
        }
        0xd0 => {
            let len = bytes[at + 1..at + 5].iter().rev().fold(0, |len, &byte| len << 8 | usize::from(byte));
            (Element::Bytes(&bytes[at + 5..at + 5 + len]), 5 + len)
        }
        0xd1..=0xd3 => {
            let width = usize::from(first - 0xcf);
            (Element::Integer(signed(&bytes[at + 1..=at + width])), 1 + width)
        }
        0xd4..=0xdf => (Element::Integer(signed(&bytes[at + 1..at + 9])), 9),
        0xe0..=0xff => {
            let value = i64::from(first & 0x1f) << 8 | i64::from(bytes[at + 1]);
            (Element::Integer(value << 51 >> 51), 2)
        }
    };
    (element, at + len + tail_len(len))
}

/// Bytes that the length at the end of an element takes.
fn tail_len(len: usize) -> usize {
    match len {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    }
}

/// Start of the element that ends right before `at`, which must be the end of one.
fn start_before(bytes: &[u8], at: usize) -> usize {
    let (mut len, mut shift, mut position) = (0usize, 0, at);
    loop {
        position -= 1;
        let digit = bytes[position];
        len |= usize::from(digit & 0x7f) << shift;
        if digit & 0x80 == 0 {
            return position - len;
        }
        shift += 7;
    }
}

/// Walks over the elements of a block from either end, with their places.
#[derive(Clone)]
pub struct Elements<'a> {
    bytes: &'a [u8],
    front: usize,
    back: usize,
}

impl<'a> Elements<'a> {
    /// Offset in bytes of the next element from the front.
    pub fn offset(&self) -> usize {
        self.front
    }

    /// Offset in bytes of the end of the next element from the back.
    pub fn end_offset(&self) -> usize {
        self.back
    }

    /// Over nothing.
    pub fn empty() -> Self {
        Elements { bytes: &[], front: 0, back: 0 }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        if self.front >= self.back {
            return None;
        }
        let (element, next) = decode(self.bytes, self.front);
        self.front = next;
        Some(element)
    }
}

impl DoubleEndedIterator for Elements<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        self.back = start_before(self.bytes, self.back);
        Some(decode(self.bytes, self.back).0)
    }
}

impl Packed {
    /// A block without elements.
    pub fn empty() -> Self {
        Thin::new((), 0, &[])
    }

    /// A block of raw bytes whose flag is set, not of packed elements; what they mean is its owner's business.
    pub fn raw(bytes: &[u8]) -> Self {
        Thin::new((), FLAG, &[bytes])
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        usize::from(self.tag() & !FLAG)
    }

    /// The owner's flag.
    pub fn flag(&self) -> bool {
        self.tag() & FLAG != 0
    }

    /// Sets the owner's flag.
    pub fn set_flag(&mut self) {
        self.set_tag(self.tag() | FLAG);
    }

    /// The size in bytes of a listpack of the same elements.
    pub fn listpack_bytes(&self) -> usize {
        self.len() + LISTPACK_OVERHEAD
    }

    /// All elements.
    pub fn elements(&self) -> Elements<'_> {
        Elements { bytes: self.bytes(), front: 0, back: self.len() }
    }

    /// The elements from an offset on; it must be that of an element or the end.
    pub fn elements_from(&self, offset: usize) -> Elements<'_> {
        Elements { bytes: self.bytes(), front: offset, back: self.len() }
    }

    /// The elements that end at or before an offset; it must be the end of an element or 0.
    pub fn elements_to(&self, offset: usize) -> Elements<'_> {
        Elements { bytes: self.bytes(), front: 0, back: offset }
    }

    /// Offset in bytes of the element at `index`, of the end if there are just that many. Walks from the
    /// nearer end.
    pub fn offset_of(&self, index: usize) -> usize {
        let count = self.count();
        debug_assert!(index <= count);
        let mut elements = self.elements();
        if index <= count / 2 {
            if let Some(skip) = index.checked_sub(1) {
                elements.nth(skip);
            }
            elements.offset()
        } else {
            if let Some(skip) = (count - index).checked_sub(1) {
                elements.nth_back(skip);
            }
            elements.end_offset()
        }
    }

    /// The element at an index.
    pub fn element(&self, index: usize) -> Option<Element<'_>> {
        (index < self.count()).then(|| decode(self.bytes(), self.offset_of(index)).0)
    }

    /// The element at an offset, and the offset of the next.
    pub fn element_at(&self, offset: usize) -> (Element<'_>, usize) {
        decode(self.bytes(), offset)
    }

    /// Replaces the `removed` elements between two offsets by others.
    pub fn replace(&mut self, start: usize, end: usize, removed: usize, elements: &[Encoded<'_>]) {
        let count = self.count() - removed + elements.len();
        assert!(count <= MAX_ELEMENTS, "a block counts at most {MAX_ELEMENTS} elements");
        let tag = self.tag() & FLAG | count as u16;
        match elements {
            [] => self.splice(start..end, &[], tag),
            [element] => self.splice(start..end, &element.parts(), tag),
            elements => {
                let parts: smallvec::SmallVec<[&[u8]; 12]> =
                    elements.iter().flat_map(|element| element.parts()).collect();
                self.splice(start..end, &parts, tag);
            }
        }
    }

    /// Inserts an element at an offset.
    pub fn insert(&mut self, offset: usize, element: &Encoded<'_>) {
        self.replace(offset, offset, 0, std::slice::from_ref(element));
    }

    /// Adds an element at the end.
    pub fn append(&mut self, element: &Encoded<'_>) {
        self.insert(self.len(), element);
    }

    /// A new block of `count` elements that lie in the given range of bytes.
    pub fn section(&self, start: usize, end: usize, count: usize) -> Packed {
        Thin::new((), count as u16, &[&self.bytes()[start..end]])
    }

    /// Finds, among every `stride`-th element from the first on, the one that equals a string; gives its index
    /// divided by the stride, and its offset.
    pub fn find(&self, text: &[u8], stride: usize) -> Option<(usize, usize)> {
        let wanted = Element::from_text(text);
        let bytes = self.bytes();
        let (mut at, mut index) = (0, 0);
        while at < bytes.len() {
            let (element, mut next) = decode(bytes, at);
            let same = match (element, wanted) {
                (Element::Bytes(a), Element::Bytes(b)) => a == b,
                (Element::Integer(a), Element::Integer(b)) => a == b,
                _ => false,
            };
            if same {
                return Some((index, at));
            }
            for _ in 1..stride {
                next = decode(bytes, next).1;
            }
            (at, index) = (next, index + 1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<i64>().prop_map(|i| i.to_string().into_bytes()),
            any::<i16>().prop_map(|i| i.to_string().into_bytes()),
            any::<i32>().prop_map(|i| i.to_string().into_bytes()),
            (-5000i64..5000).prop_map(|i| i.to_string().into_bytes()),
            (-(1i64 << 24)..1 << 24).prop_map(|i| i.to_string().into_bytes()),
            proptest::collection::vec(any::<u8>(), 0..80),
            (60usize..70, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
            (4090usize..4100, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
            (16370usize..16400, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        ]
    }

    #[test]
    fn sizes_are_those_of_a_listpack() {
        let sizes = [
            ("0", 2),
            ("127", 2),
            ("128", 3),
            ("-1", 3),
            ("4095", 3),
            ("-4096", 3),
            ("4096", 4),
            ("32767", 4),
            ("32768", 5),
            ("8388607", 5),
            ("8388608", 6),
            ("2147483648", 10),
            ("", 2),
            ("abc", 5),
        ];
        for (text, size) in sizes {
            assert_eq!(Encoded::text(text.as_bytes()).size(), size, "{text}");
        }
        for (len, size) in [(63, 65), (64, 67), (125, 128), (126, 130), (4095, 4099), (4096, 4103)] {
            assert_eq!(Encoded::text(&vec![b'x'; len]).size(), size, "{len}");
        }
    }

    proptest! {
        #[test]
        fn walks_both_ways(texts in proptest::collection::vec(texts(), 0..30)) {
            let mut packed = Packed::empty();
            for text in &texts {
                packed.append(&Encoded::text(text));
            }
            prop_assert_eq!(packed.count(), texts.len());
            let forward: Vec<_> = packed.elements().map(|element| element.to_vec()).collect();
            prop_assert_eq!(&forward, &texts);
            let mut backward: Vec<_> = packed.elements().rev().map(|element| element.to_vec()).collect();
            backward.reverse();
            prop_assert_eq!(&backward, &texts);
            for (index, text) in texts.iter().enumerate() {
                prop_assert_eq!(&packed.element(index).unwrap().to_vec(), text);
                let first = texts.iter().position(|other| other == text);
                prop_assert_eq!(packed.find(text, 1).map(|found| found.0), first);
            }
            prop_assert_eq!(packed.offset_of(texts.len()), packed.len());
            let from_element: usize = texts.iter().map(|text| Encoded::text(text).size()).sum();
            prop_assert_eq!(from_element, packed.len());
        }
    }
}
