//! Numbers as text: which byte strings are numbers, and how numbers are written.
//!
//! The rules are Valkey's, byte for byte, since clients and replicas see the result. Knows no commands.
//! Invariant: `parse_i64` accepts exactly the strings that `append_i64` writes, so an integer stored in
//! place of a string reads back as the same string.

mod long_double;

pub use long_double::LongDouble;

/// The longest decimal text of an `i64`, with its sign.
const MAX_I64_LEN: usize = 20;

/// Reads a canonical decimal `i64`: no spaces, no plus sign, no leading zeros, no `-0`.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > MAX_I64_LEN {
        return None;
    }
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    let mut magnitude = 0u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Reads a `u64` as stream ids and cursors are read: canonical decimals first, then whatever C's
/// `strtoull` takes whole: leading white space, a sign (a minus wraps around) and leading zeros.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    if let Some(n) = parse_i64(text) {
        return u64::try_from(n).ok();
    }
    let first = text.iter().position(|&b| !is_space(b))?;
    let (negative, digits) = match text.get(first..)? {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut magnitude = 0u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(if negative { magnitude.wrapping_neg() } else { magnitude })
}

/// Reads a double: decimals with an optional exponent, `inf` and `infinity` in any case and with any
/// sign; no spaces, no hexadecimals, no NaN. What overflows, or becomes zero without being written as
/// zero, is refused.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if value.is_nan() || (value.is_infinite() && text.iter().any(u8::is_ascii_digit)) {
        return None;
    }
    if value == 0.0 {
        let mantissa = text.iter().take_while(|&&b| b != b'e' && b != b'E');
        if mantissa.into_iter().any(|b| (b'1'..=b'9').contains(b)) {
            return None;
        }
    }
    Some(value)
}

/// Writes the decimal digits of `value`.
pub fn append_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes the decimal digits of `value`.
pub fn append_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes a double as replies and scores show it: the shortest digits that read back as the same
/// value; plain when that stays short, else with an exponent (`1e+20`); `inf`, `-inf`, `nan`, `-0`.
pub fn append_f64(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"nan");
        return;
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let magnitude = value.abs();
    if magnitude.is_infinite() {
        out.extend_from_slice(b"inf");
    } else if magnitude <= (i64::MAX / 2) as f64 && magnitude.trunc() == magnitude {
        append_u64(out, magnitude as u64);
    } else {
        append_shortest(out, magnitude);
    }
}

/// The text of [`append_f64`] as a value.
pub fn format_f64(value: f64) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    append_f64(&mut out, value);
    out
}

/// As [`format_f64`], but large whole numbers get an exponent too (`1e+10`): how the digest of a dataset sees scores.
pub fn format_shortest(value: f64) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    if value.is_finite() && value != 0.0 {
        if value.is_sign_negative() {
            out.push(b'-');
        }
        append_shortest(&mut out, value.abs());
    } else {
        append_f64(&mut out, value);
    }
    out
}

/// Writes a finite, positive double by its shortest digits.
fn append_shortest(out: &mut Vec<u8>, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let (digits, point) = shortest_digits(buffer.format_finite(value).as_bytes());
    let digits = digits.as_slice();
    let count = digits.len() as i32;
    // The exponent of the last digit and the size of that of the first.
    let last = point - count;
    let scientific = (point - 1).unsigned_abs();
    if last >= 0 && scientific < digits.len() as u32 + 7 {
        out.extend_from_slice(digits);
        out.resize(out.len() + last as usize, b'0');
    } else if last < 0 && (last > -7 || scientific < 4) {
        if point <= 0 {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + point.unsigned_abs() as usize, b'0');
            out.extend_from_slice(digits);
        } else {
            let (whole, fraction) = digits.split_at(point as usize);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
    } else {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if point > 0 { b"e+" } else { b"e-" });
        append_u64(out, u64::from(scientific));
    }
}

/// Takes apart `ddd.ddde±x`: the significant digits without zeros at either end, and the position of the
/// decimal point counted from the first of them.
fn shortest_digits(text: &[u8]) -> (smallvec::SmallVec<[u8; 24]>, i32) {
    let mut digits = smallvec::SmallVec::<[u8; 24]>::new();
    let mut point = None;
    let mut exponent = 0;
    for (i, &byte) in text.iter().enumerate() {
        match byte {
            b'.' => point = Some(digits.len() as i32),
            b'e' => {
                exponent = std::str::from_utf8(&text[i + 1..]).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
                break;
            }
            digit => digits.push(digit),
        }
    }
    let mut point = point.unwrap_or(digits.len() as i32) + exponent;
    let leading = digits.iter().take_while(|&&d| d == b'0').count();
    digits.drain(..leading);
    point -= leading as i32;
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    (digits, point)
}

/// A double with at most so many significant digits, as C's `%g` writes it. 17 are enough to read back the same value, and
/// seldom the shortest such text.
pub fn format_significant(value: f64, digits: u8) -> Vec<u8> {
    if value == 0.0 || !value.is_finite() {
        return format_f64(value);
    }
    let scientific = format!("{value:.*e}", usize::from(digits) - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    if (-4..i32::from(digits)).contains(&exponent) {
        let decimals = (i32::from(digits) - 1 - exponent) as usize;
        let fixed = format!("{value:.decimals$}");
        return if decimals == 0 { fixed } else { trimmed(&fixed) }.into_bytes();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs()).into_bytes()
}

/// Writes `value` with exactly `decimals` (1 to 17) digits after the point, as distances and
/// percentages show; `None` if the scaled value does not fit 64 bits.
pub fn format_fixed(value: f64, decimals: usize) -> Option<Vec<u8>> {
    if !(1..=17).contains(&decimals) {
        return None;
    }
    let scaled = (value * 10f64.powi(decimals as i32)).round_ties_even();
    if !(-9.3e18..9.3e18).contains(&scaled) {
        return None;
    }
    let mut out = Vec::with_capacity(24);
    if scaled < 0.0 {
        out.push(b'-');
    }
    let digits = format!("{:0width$}", (scaled as i64).unsigned_abs(), width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    out.extend_from_slice(whole.as_bytes());
    out.push(b'.');
    out.extend_from_slice(fraction.as_bytes());
    Some(out)
}

/// C's `isspace` in the default locale.
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn double(value: f64) -> String {
        String::from_utf8(format_f64(value)).unwrap()
    }

    #[test]
    fn integers_are_canonical_only() {
        for (text, value) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("18446744073709551616", None),
            ("99999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("00", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("1a", None),
        ] {
            assert_eq!(parse_i64(text.as_bytes()), value, "{text:?}");
        }
    }

    #[test]
    fn unsigned_takes_what_strtoull_takes() {
        for (text, value) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("+5", Some(5)),
            (" 5", Some(5)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-5", None),
            ("-05", Some(u64::MAX - 4)),
            ("", None),
            ("+", None),
            ("5 ", None),
            ("+-5", None),
        ] {
            assert_eq!(parse_u64(text.as_bytes()), value, "{text:?}");
        }
    }

    #[test]
    fn doubles_in() {
        for text in [
            "", ".", "e", "1e", "1e+", " 1", "1 ", "nan", "-nan", "0x10", "1_0", "1e400", "-1e400", "1e-400",
            "1d5", "infi", "1\0", "--1", "+-1",
        ] {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text:?}");
        }
        for (text, value) in [
            ("+5", 5.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("-.5e3", -500.0),
            ("1E5", 1e5),
            ("0e999", 0.0),
            ("0.0e-999", 0.0),
            ("4e-320", 4e-320),
            ("inf", f64::INFINITY),
            ("+INF", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text:?}");
        }
    }

    #[test]
    fn doubles_out() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (f64::NAN, "nan"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (1.0, "1"),
            (-17.0, "-17"),
            (1e15, "1000000000000000"),
            (1e17, "100000000000000000"),
            (4.6e18, "4600000000000000000"),
            (5e18, "5e+18"),
            (1e19, "1e+19"),
            (1e20, "1e+20"),
            (1.5e20, "1.5e+20"),
            (123456789012345678901.0, "123456789012345680000"),
            (1e-5, "0.00001"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-6, "1.5e-6"),
            (1.234567e-5, "1.234567e-5"),
            (0.0001234, "1.234e-4"),
            (0.1, "0.1"),
            (3.25, "3.25"),
            (-1e-7, "-1e-7"),
            (1.25e-10, "1.25e-10"),
            (0.30000000000000004, "0.30000000000000004"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(double(value), text);
        }
    }

    #[test]
    fn seventeen_digits() {
        for (value, text) in [
            (0.1, "0.10000000000000001"),
            (1e20, "1e+20"),
            (1e17, "1e+17"),
            (1e16, "10000000000000000"),
            (123456789012345678.0, "1.2345678901234568e+17"),
            (1e-7, "9.9999999999999995e-08"),
            (0.00001, "1.0000000000000001e-05"),
            (0.0001, "0.0001"),
            (3.0, "3"),
            (-12345.678, "-12345.678"),
            (-0.0, "-0"),
            (f64::INFINITY, "inf"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
        ] {
            assert_eq!(String::from_utf8(format_significant(value, 17)).unwrap(), text);
        }
    }

    #[test]
    fn fixed_point() {
        let fixed = |value, decimals| format_fixed(value, decimals).map(|t| String::from_utf8(t).unwrap());
        assert_eq!(fixed(166274.15156960033, 4).unwrap(), "166274.1516");
        assert_eq!(fixed(0.775, 4).unwrap(), "0.7750");
        assert_eq!(fixed(0.0, 4).unwrap(), "0.0000");
        assert_eq!(fixed(-0.00001, 4).unwrap(), "0.0000");
        assert_eq!(fixed(-1.5, 2).unwrap(), "-1.50");
        assert_eq!(fixed(1.0, 0), None);
        assert_eq!(fixed(1e30, 4), None);
    }

    proptest! {
        #[test]
        fn integer_round_trip(value: i64) {
            let mut out = Vec::new();
            append_i64(&mut out, value);
            prop_assert_eq!(parse_i64(&out), Some(value));
        }

        #[test]
        fn integer_text_is_unique(text in "-?[0-9]{1,20}") {
            if let Some(value) = parse_i64(text.as_bytes()) {
                prop_assert_eq!(value.to_string(), text);
            }
        }

        #[test]
        fn double_round_trip(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(parse_f64(&format_f64(value)).map(f64::to_bits), Some(bits));
        }

        #[test]
        fn short_double_round_trip(mantissa in -1_000_000i64..1_000_000, exponent in -30i32..30) {
            let value = mantissa as f64 * 10f64.powi(exponent);
            prop_assert_eq!(parse_f64(&format_f64(value)), Some(value));
        }
    }
}
