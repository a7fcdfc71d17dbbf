//! Reading arguments, with the errors that clients know.

use crate::base::number;
use crate::protocol::ErrorReply;

/// A signed integer.
pub fn integer(text: &[u8]) -> Result<i64, ErrorReply> {
    number::parse_i64(text).ok_or(ErrorReply::NOT_AN_INTEGER)
}

/// A signed integer within bounds, both included.
pub fn integer_in(text: &[u8], least: i64, most: i64) -> Result<i64, ErrorReply> {
    let value = integer(text)?;
    if (least..=most).contains(&value) { Ok(value) } else { Err(ErrorReply::OUT_OF_RANGE) }
}

/// An integer that is not negative; `error` also when it is none.
pub fn positive_or(text: &[u8], error: ErrorReply) -> Result<usize, ErrorReply> {
    number::parse_i64(text).and_then(|value| usize::try_from(value).ok()).ok_or(error)
}

/// A number that may have a fraction.
pub fn float(text: &[u8]) -> Result<f64, ErrorReply> {
    number::parse_f64(text).filter(|value| !value.is_nan()).ok_or(ErrorReply::NOT_A_FLOAT)
}

/// `numkeys key [key …]`: the keys and what follows them.
pub fn counted_keys<'a, 'b>(args: &'b [&'a [u8]]) -> Result<(&'b [&'a [u8]], &'b [&'a [u8]]), ErrorReply> {
    let too_few = ErrorReply::new("ERR numkeys should be greater than 0");
    let count = args.first().and_then(|text| number::parse_i64(text));
    let count =
        count.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0).ok_or(too_few)?;
    args[1..]
        .split_at_checked(count)
        .ok_or(ErrorReply::new("ERR Number of keys can't be greater than number of args"))
}

/// The range of indexes that `start` and `end` name, negative ones counting from the end, in `length` elements. Empty if
/// they name none.
pub fn index_range(start: i64, end: i64, length: usize) -> std::ops::Range<usize> {
    let length = length as i64;
    let from_end = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
    let (start, end) = (from_end(start).max(0), from_end(end).min(length - 1));
    if start > end { 0..0 } else { start as usize..end as usize + 1 }
}

/// A time to wait in seconds, as milliseconds; 0 is for ever.
pub fn timeout_ms(text: &[u8]) -> Result<u64, ErrorReply> {
    // Timeouts may be hexadecimal, or too large for a double.
    let extended = || {
        let digits = number::LongDouble::parse(text)?.format();
        std::str::from_utf8(&digits).ok()?.parse::<f64>().ok()
    };
    let Some(seconds) = number::parse_f64(text).or_else(extended).filter(|seconds| !seconds.is_nan()) else {
        return Err(ErrorReply::new("ERR timeout is not a float or out of range"));
    };
    if seconds < 0.0 {
        return Err(ErrorReply::new("ERR timeout is negative"));
    }
    let milliseconds = (seconds * 1000.0).ceil();
    if milliseconds > i64::MAX as f64 / 2.0 {
        return Err(ErrorReply::new("ERR timeout is out of range"));
    }
    Ok(milliseconds as u64)
}

/// Is this argument the word?
pub fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}
