//! Reading the arguments of stream commands: identifiers and ranges of them.

use crate::base::number;
use crate::commands::parse;
use crate::protocol::ErrorReply;
use crate::types::StreamId;

pub const INVALID_ID: ErrorReply =
    ErrorReply::new("ERR Invalid stream ID specified as stream command argument");

/// The longest text of an identifier.
const LONGEST: usize = 127;

/// An identifier as a client gives it. `seq` is what stands for the second number if it is left out.
pub fn id(text: &[u8], seq: u64) -> Result<StreamId, ErrorReply> {
    match id_or_any_number(text, seq)? {
        (id, true) => Ok(id),
        (_, false) => Err(INVALID_ID),
    }
}

/// The same, or `ms-*`, for which the flag is false: the second number is to be chosen.
pub fn id_or_any_number(text: &[u8], seq: u64) -> Result<(StreamId, bool), ErrorReply> {
    if text.len() > LONGEST {
        return Err(INVALID_ID);
    }
    let (ms, rest) = match memchr::memchr(b'-', text) {
        Some(dash) => (&text[..dash], Some(&text[dash + 1..])),
        None => (text, None),
    };
    let ms = unsigned(ms).ok_or(INVALID_ID)?;
    match rest {
        None => Ok((StreamId::new(ms, seq), true)),
        Some(b"*") => Ok((StreamId::new(ms, 0), false)),
        Some(seq) => Ok((StreamId::new(ms, unsigned(seq).ok_or(INVALID_ID)?), true)),
    }
}

/// A number as C's `strtoull` takes it, all of it: white space and a sign before, zeros in front, a negative one counted from
/// the end of the range.
fn unsigned(text: &[u8]) -> Option<u64> {
    if let Some(number) = number::parse_u64(text) {
        return Some(number);
    }
    if number::parse_i64(text).is_some() {
        return None;
    }
    let blanks = text.iter().take_while(|byte| number::is_space(**byte)).count();
    let (is_negative, digits) = match &text[blanks..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if is_negative { number.wrapping_neg() } else { number })
}

/// An identifier, or `-` and `+` for the lowest and the highest.
pub fn id_or_extreme(text: &[u8], seq: u64) -> Result<StreamId, ErrorReply> {
    match text {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        text => id(text, seq),
    }
}

/// An end of an interval: the identifier, and whether it is left out of it, as `(` says.
fn bound(text: &[u8], seq: u64) -> Result<(StreamId, bool), ErrorReply> {
    match text {
        [b'(', text @ ..] if !text.is_empty() => Ok((id(text, seq)?, true)),
        text => Ok((id_or_extreme(text, seq)?, false)),
    }
}

/// The first identifier of an interval.
pub fn start(text: &[u8]) -> Result<StreamId, ErrorReply> {
    match bound(text, 0)? {
        (id, false) => Ok(id),
        (id, true) => id.next().ok_or(ErrorReply::new("ERR invalid start ID for the interval")),
    }
}

/// The last identifier of an interval.
pub fn end(text: &[u8]) -> Result<StreamId, ErrorReply> {
    match bound(text, u64::MAX)? {
        (id, false) => Ok(id),
        (id, true) => id.previous().ok_or(ErrorReply::new("ERR invalid end ID for the interval")),
    }
}

/// A count of which a negative one is none.
pub fn count(text: &[u8]) -> Result<usize, ErrorReply> {
    Ok(parse::integer(text)?.max(0) as usize)
}

/// A number, with its own error.
pub fn integer_or(text: &[u8], error: &'static str) -> Result<i64, ErrorReply> {
    number::parse_i64(text).ok_or(ErrorReply::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        let ok = |text: &str, ms, seq| {
            assert_eq!(id(text.as_bytes(), 7).ok(), Some(StreamId::new(ms, seq)), "{text}")
        };
        ok("5", 5, 7);
        ok("5-6", 5, 6);
        ok("007- +08", 7, 8);
        ok("5--01", 5, u64::MAX);
        ok("18446744073709551615-18446744073709551615", u64::MAX, u64::MAX);
        for text in
            ["", "-", "+", "5-", "-5", "5-6-7", "5-*", "a", "5-a", "18446744073709551616", "5--1", "(5"]
        {
            assert!(id(text.as_bytes(), 0).is_err(), "{text}");
        }
        assert_eq!(id_or_any_number(b"5-*", 0).ok(), Some((StreamId::new(5, 0), false)));
        assert_eq!(start(b"(5").ok(), Some(StreamId::new(5, 1)));
        assert_eq!(end(b"(5-0").ok(), Some(StreamId::new(4, u64::MAX)));
        assert!(start(b"(+").is_err() && end(b"(0-0").is_err());
    }
}
