//! Numbers as C's `%.*g` writes them and `strtod` reads them, without the cost of either where it can be avoided.

use std::ffi::{c_char, c_int};

/// Most significant digits that a module can be set to write.
pub(super) const MAXIMUM_PRECISION: c_int = 14;

/// Long enough for 14 digits, a sign, a point, "0.000" and an exponent.
pub(super) const TEXT_SIZE: usize = 32;

/// Writes `number` into `text` as `printf` does with `%.<precision>g`; answers the length. `precision` is 1 to
/// [`MAXIMUM_PRECISION`].
pub(super) fn format(number: f64, precision: c_int, text: &mut [u8; TEXT_SIZE]) -> usize {
    if number == 0.0 && number.is_sign_positive() {
        text[0] = b'0';
        return 1;
    }
    match shortest_digits(number).and_then(|digits| digits.rounded(precision.unsigned_abs() as usize)) {
        Some(digits) => digits.write(number.is_sign_negative(), precision, text),
        None => format_exactly(number, precision, text),
    }
}

/// What the C library writes: for NaN and infinities, subnormal numbers and exact ties.
fn format_exactly(number: f64, precision: c_int, text: &mut [u8; TEXT_SIZE]) -> usize {
    // SAFETY: `text` is as long as is said, and the arguments are those that the format names.
    let length =
        unsafe { libc::snprintf(text.as_mut_ptr().cast(), TEXT_SIZE, c"%.*g".as_ptr(), precision, number) };
    usize::try_from(length).unwrap_or(0).min(TEXT_SIZE - 1)
}

/// Significant decimal digits, the first and the last not 0, and the power of ten of the first.
#[derive(Clone, Copy)]
struct Digits {
    digits: [u8; 17],
    count: usize,
    exponent: i32,
}

/// The fewest digits that tell a normal number from every other; `None` for all other numbers.
fn shortest_digits(number: f64) -> Option<Digits> {
    if !number.is_normal() {
        return None;
    }
    let magnitude = number.abs();
    let mut found = Digits { digits: [0; 17], count: 0, exponent: 0 };
    if magnitude < 1e15 && magnitude.trunc() == magnitude {
        found.take(itoa::Buffer::new().format(magnitude as u64).as_bytes());
    } else {
        found.take(zmij::Buffer::new().format_finite(magnitude).as_bytes());
    }
    (found.count > 0).then_some(found)
}

impl Digits {
    /// Takes the digits from a decimal text, with or without a point and an exponent.
    fn take(&mut self, text: &[u8]) {
        let mut zeros = 0;
        let mut behind_point = false;
        self.exponent = -1;
        for (index, &byte) in text.iter().enumerate() {
            match byte {
                b'.' => behind_point = true,
                b'e' => {
                    let exponent = std::str::from_utf8(&text[index + 1..]).ok();
                    self.exponent += exponent.and_then(|text| text.parse().ok()).unwrap_or(0);
                    break;
                }
                b'0' if self.count == 0 => self.exponent -= i32::from(behind_point),
                _ => {
                    self.exponent += i32::from(!behind_point);
                    if byte == b'0' {
                        // Significant only if another digit follows.
                        zeros += 1;
                    } else {
                        for _ in 0..zeros {
                            self.push(b'0');
                        }
                        zeros = 0;
                        self.push(byte);
                    }
                }
            }
        }
    }

    fn push(&mut self, digit: u8) {
        if let Some(place) = self.digits.get_mut(self.count) {
            *place = digit;
            self.count += 1;
        }
    }

    /// Rounds to at most `precision` digits; `None` if the digits do not tell which way.
    ///
    /// Rounding the shortest digits rounds the number itself, unless what is cut off is exactly one 5: were there a
    /// rounding boundary between the two, it would be a shorter or closer choice for the shortest digits.
    fn rounded(mut self, precision: usize) -> Option<Self> {
        if self.count <= precision {
            return Some(self);
        }
        let first_cut = self.digits[precision];
        if first_cut == b'5' && self.count == precision + 1 {
            return None;
        }
        self.count = precision;
        if first_cut >= b'5' {
            while self.count > 0 && self.digits[self.count - 1] == b'9' {
                self.count -= 1;
            }
            if self.count == 0 {
                self.digits[0] = b'1';
                self.count = 1;
                self.exponent += 1;
            } else {
                self.digits[self.count - 1] += 1;
            }
        }
        while self.count > 1 && self.digits[self.count - 1] == b'0' {
            self.count -= 1;
        }
        Some(self)
    }

    /// Writes the digits in the style that `%g` chooses: with an exponent if it is below -4 or at least the
    /// precision.
    fn write(&self, negative: bool, precision: c_int, text: &mut [u8; TEXT_SIZE]) -> usize {
        let mut output = Output { text, length: 0 };
        let digits = &self.digits[..self.count];
        if negative {
            output.extend(b"-");
        }
        if self.exponent < -4 || self.exponent >= precision {
            output.extend(&digits[..1]);
            if self.count > 1 {
                output.extend(b".");
                output.extend(&digits[1..]);
            }
            output.extend(if self.exponent < 0 { b"e-" } else { b"e+" });
            let exponent = self.exponent.unsigned_abs();
            if exponent < 10 {
                output.extend(b"0");
            }
            output.extend(itoa::Buffer::new().format(exponent).as_bytes());
        } else if self.exponent < 0 {
            let zeros = self.exponent.unsigned_abs() as usize + 1;
            output.extend(&b"0.000"[..zeros]);
            output.extend(digits);
        } else {
            let integral = self.exponent.unsigned_abs() as usize + 1;
            output.extend(&digits[..integral.min(self.count)]);
            for _ in self.count..integral {
                output.extend(b"0");
            }
            if self.count > integral {
                output.extend(b".");
                output.extend(&digits[integral..]);
            }
        }
        output.length
    }
}

struct Output<'text> {
    text: &'text mut [u8; TEXT_SIZE],
    length: usize,
}

impl Output<'_> {
    fn extend(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.text[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }
}

/// Reads a number from the start of `text`, which ends with a NUL byte, as `strtod` does: decimal or hexadecimal,
/// "inf", "nan" and their relatives. Answers the number and the length of its text, 0 if there is none.
pub(super) fn parse(text: &[u8]) -> (f64, usize) {
    match decimal_length(text) {
        Some((length, Some(integer))) => (if text[0] == b'-' { -integer } else { integer }, length),
        Some((length, None)) => {
            let number = std::str::from_utf8(&text[..length]).ok().and_then(|text| text.parse().ok());
            number.map_or_else(|| parse_by_c(text), |number| (number, length))
        }
        None => parse_by_c(text),
    }
}

/// The length of a decimal number, and the magnitude if it is a small integer; `None` if `text` starts otherwise.
fn decimal_length(text: &[u8]) -> Option<(usize, Option<f64>)> {
    let digits_from = |start: usize| {
        let rest = text.get(start..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let at = |index: usize| text.get(index).copied().unwrap_or(0);
    let start = usize::from(matches!(at(0), b'-' | b'+'));
    let integral = digits_from(start);
    let mut end = start + integral;
    if integral == 0 || (at(start) == b'0' && at(end) | 0x20 == b'x') {
        return None;
    }
    let mut is_integer = true;
    if at(end) == b'.' {
        end += 1 + digits_from(end + 1);
        is_integer = false;
    }
    if at(end) | 0x20 == b'e' {
        let sign = usize::from(matches!(at(end + 1), b'-' | b'+'));
        let exponent = digits_from(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
            is_integer = false;
        }
    }
    // Fifteen digits are exact in a double.
    let integer = (is_integer && integral <= 15).then(|| {
        text[start..end].iter().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0')) as f64
    });
    Some((end, integer))
}

fn parse_by_c(text: &[u8]) -> (f64, usize) {
    if text.last() != Some(&0) {
        return (0.0, 0);
    }
    let start = text.as_ptr().cast::<c_char>();
    let mut end = start.cast_mut();
    // SAFETY: `text` ends with a NUL byte, so strtod stays inside of it, and so does the end it reports.
    unsafe {
        let number = libc::strtod(start, &raw mut end);
        (number, usize::try_from(end.offset_from(start)).unwrap_or(0))
    }
}
