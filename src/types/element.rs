//! One value inside a collection, as a reader sees it: bytes that lie in the collection, or an integer that
//! was stored as one. Knows nothing of the collections.
//!
//! Invariant: an integer stands for its canonical decimal text, so "012" and "-0" are bytes, and two elements
//! are equal exactly when their texts are.

use std::cmp::Ordering;

use crate::base::number::parse_i64;

/// A borrowed element.
#[derive(Debug, Clone, Copy)]
pub enum Element<'a> {
    /// Bytes that lie in the collection.
    Bytes(&'a [u8]),
    /// An integer, unboxed; its value as a string is its decimal text.
    Integer(i64),
}

/// An element that was taken out of its collection.
#[derive(Debug, Clone)]
pub enum OwnedElement {
    /// A string.
    Bytes(Vec<u8>),
    /// An integer; its value as a string is its decimal text.
    Integer(i64),
}

/// Room for the decimal text of an integer element.
#[derive(Default)]
pub struct TextBuffer(itoa::Buffer);

impl TextBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        TextBuffer(itoa::Buffer::new())
    }
}

impl<'a> Element<'a> {
    /// The element that a string is stored as: an integer if the string is the canonical decimal text of one.
    pub fn from_text(text: &'a [u8]) -> Self {
        match parse_i64(text) {
            Some(integer) => Element::Integer(integer),
            None => Element::Bytes(text),
        }
    }

    /// The element as a string; an integer is written into `buffer`.
    pub fn text<'b>(&self, buffer: &'b mut TextBuffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match *self {
            Element::Bytes(bytes) => bytes,
            Element::Integer(integer) => buffer.0.format(integer).as_bytes(),
        }
    }

    /// Length of the string in bytes.
    pub fn text_len(&self) -> usize {
        match *self {
            Element::Bytes(bytes) => bytes.len(),
            Element::Integer(integer) => TextBuffer::new().0.format(integer).len(),
        }
    }

    /// The string, copied.
    pub fn to_vec(&self) -> Vec<u8> {
        self.text(&mut TextBuffer::new()).to_vec()
    }

    /// The value as an integer, whether stored as one or as bytes that spell one.
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Element::Bytes(bytes) => parse_i64(bytes),
            Element::Integer(integer) => Some(integer),
        }
    }

    /// A copy that borrows nothing.
    pub fn to_owned(&self) -> OwnedElement {
        match *self {
            Element::Bytes(bytes) => OwnedElement::Bytes(bytes.to_vec()),
            Element::Integer(integer) => OwnedElement::Integer(integer),
        }
    }
}

impl PartialEq for Element<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Element::Bytes(a), Element::Bytes(b)) => a == b,
            (Element::Integer(a), Element::Integer(b)) => a == b,
            (Element::Bytes(bytes), Element::Integer(integer))
            | (Element::Integer(integer), Element::Bytes(bytes)) => parse_i64(bytes) == Some(integer),
        }
    }
}

impl Eq for Element<'_> {}

impl PartialEq<[u8]> for Element<'_> {
    fn eq(&self, other: &[u8]) -> bool {
        *self == Element::Bytes(other)
    }
}

impl PartialOrd for Element<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Element<'_> {
    /// The order of the strings, byte by byte (not of the numbers).
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut left, mut right) = (TextBuffer::new(), TextBuffer::new());
        self.text(&mut left).cmp(other.text(&mut right))
    }
}

impl OwnedElement {
    /// The element, borrowed.
    pub fn as_element(&self) -> Element<'_> {
        match self {
            OwnedElement::Bytes(bytes) => Element::Bytes(bytes),
            OwnedElement::Integer(integer) => Element::Integer(*integer),
        }
    }

    /// The string.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            OwnedElement::Bytes(bytes) => bytes,
            OwnedElement::Integer(integer) => Element::Integer(integer).to_vec(),
        }
    }
}

impl PartialEq for OwnedElement {
    fn eq(&self, other: &Self) -> bool {
        self.as_element() == other.as_element()
    }
}

impl Eq for OwnedElement {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_canonical_texts_become_integers() {
        for text in
            ["", "-", "-0", "00", "01", "+1", " 1", "1 ", "1a", "9223372036854775808", "-9223372036854775809"]
        {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
        for integer in [0, 1, -1, 10, i64::MAX, i64::MIN, 1_000_000_000_000_000_000] {
            assert_eq!(parse_i64(integer.to_string().as_bytes()), Some(integer));
        }
    }

    proptest! {
        #[test]
        fn texts_survive(text in proptest::collection::vec(prop_oneof![Just(b'-'), b'0'..=b'9', any::<u8>()], 0..24)) {
            prop_assert_eq!(Element::from_text(&text).to_vec(), text);
        }

        #[test]
        fn integers_survive(integer: i64) {
            let text = integer.to_string();
            prop_assert!(matches!(Element::from_text(text.as_bytes()), Element::Integer(i) if i == integer));
            prop_assert!(Element::Integer(integer) == Element::Bytes(text.as_bytes()));
        }
    }
}
