//! Lines and commands of a conversation with a primary.
//!
//! Knows bytes only. Invariant: a peer cannot make a line grow beyond [`LINE_LIMIT`].

use bytes::{Buf, Bytes, BytesMut};

/// No line of the conversation is longer.
pub(super) const LINE_LIMIT: usize = 1024;

pub(super) enum Line {
    /// Without its end.
    Whole(BytesMut),
    Part,
    TooLong,
}

/// Moves input up to a line's end into `line`, which holds what came of it before.
pub(super) fn take_line(line: &mut BytesMut, input: &mut Bytes) -> Line {
    let (take, whole) = match memchr::memchr(b'\n', input) {
        Some(at) => (at + 1, true),
        None => (input.len(), false),
    };
    if line.len() + take > LINE_LIMIT {
        return Line::TooLong;
    }
    line.extend_from_slice(&input[..take]);
    input.advance(take);
    if !whole {
        return Line::Part;
    }
    let mut whole = line.split();
    let text = whole.strip_suffix(b"\n").map_or(&whole[..], |text| text.strip_suffix(b"\r").unwrap_or(text));
    let length = text.len();
    whole.truncate(length);
    Line::Whole(whole)
}

/// A command as an array of bulk strings.
pub(super) fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Bytes of a peer, safe for a log.
pub(super) fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().map(|c| if c.is_control() { '.' } else { c }).take(256).collect()
}
