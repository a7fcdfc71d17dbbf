//! The 80-bit extended double of x86, in software: INCRBYFLOAT, HINCRBYFLOAT and GEOPOS show its digits.
//!
//! Must give, on every machine, what a server built for x86 gives: correct rounding when reading, one
//! rounding when adding, exact decimals when writing. Checked against a running Valkey.
//! Invariant: the significand of a finite non-zero number has its top bit set, unless it is subnormal.

use num_bigint::BigUint;

/// Texts from this length on are not numbers.
const MAX_TEXT_LEN: usize = 5 * 1024;
/// The exponent of the lowest significand bit of the greatest and of the smallest numbers.
const MAX_EXPONENT: i64 = 16383 - 63;
const MIN_EXPONENT: i64 = -16382 - 63;
/// Digits after the point of the human-friendly form.
const DECIMALS: u32 = 17;

/// An extended double: `significand * 2^exponent`, or an infinity, or not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Finite { significand: u64, exponent: i32 },
    Infinite,
    NotANumber,
}

const ZERO: Kind = Kind::Finite { significand: 0, exponent: 0 };

impl LongDouble {
    /// Zero.
    pub const ZERO: LongDouble = LongDouble { negative: false, kind: ZERO };

    /// Reads decimals, C's hexadecimal floats and infinities. No spaces around, no NaN, nothing that
    /// overflows, or becomes zero without being written as zero.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= MAX_TEXT_LEN {
            return None;
        }
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble { negative, kind: Kind::Infinite });
        }
        let (base, rest) = match rest {
            [b'0', b'x' | b'X', rest @ ..] => (16, rest),
            rest => (10, rest),
        };
        let number = Literal::parse(rest, base)?;
        if number.digits.is_empty() {
            return Some(LongDouble { negative, kind: ZERO });
        }
        let kind = if base == 16 { number.hexadecimal()? } else { number.decimal()? };
        match kind {
            Kind::Finite { significand: 1.., .. } => Some(LongDouble { negative, kind }),
            _ => None,
        }
    }

    /// Whether this is neither an infinity nor NaN.
    pub fn is_finite(self) -> bool {
        matches!(self.kind, Kind::Finite { .. })
    }

    /// Writes all digits before the point and up to 17 after it, without trailing zeros and never with
    /// an exponent; `inf`, `-inf`, `nan`.
    pub fn append(self, out: &mut Vec<u8>) {
        let (significand, exponent) = match self.kind {
            Kind::Finite { significand, exponent } => (significand, exponent),
            Kind::Infinite => return out.extend_from_slice(if self.negative { b"-inf" } else { b"inf" }),
            Kind::NotANumber => return out.extend_from_slice(b"nan"),
        };
        let sign: &[u8] = if self.negative { b"-" } else { b"" };
        if exponent >= 0 {
            if significand != 0 {
                out.extend_from_slice(sign);
            }
            let digits = (BigUint::from(significand) << exponent as usize).to_string();
            return out.extend_from_slice(digits.as_bytes());
        }
        let scaled = u128::from(significand) * 10u128.pow(DECIMALS);
        let shift = exponent.unsigned_abs();
        let whole = scaled.checked_shr(shift).unwrap_or(0);
        let rest = if shift < 128 { scaled - (whole << shift) } else { scaled };
        // Above 127 the remainder is less than half of the last place: 121 bits hold `scaled`.
        let half = 1u128.checked_shl(shift - 1).unwrap_or(u128::MAX);
        let rounded = whole + u128::from(rest > half || (rest == half && whole & 1 == 1));
        let digits = format!("{rounded:0width$}", width = DECIMALS as usize + 1);
        let (integer, fraction) = digits.split_at(digits.len() - DECIMALS as usize);
        let fraction = fraction.trim_end_matches('0');
        if rounded != 0 || self.negative && !fraction.is_empty() {
            out.extend_from_slice(sign);
        }
        out.extend_from_slice(integer.as_bytes());
        if !fraction.is_empty() {
            out.push(b'.');
            out.extend_from_slice(fraction.as_bytes());
        }
    }

    /// The text of [`LongDouble::append`] as a value.
    pub fn format(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        self.append(&mut out);
        out
    }
}

impl std::ops::Add for LongDouble {
    type Output = LongDouble;

    /// The sum, rounded once, to nearest, ties to even.
    fn add(self, other: LongDouble) -> LongDouble {
        let (a, b) = match (self.kind, other.kind) {
            (Kind::Finite { significand: a, exponent: i }, Kind::Finite { significand: b, exponent: j }) => {
                ((self.negative, a, i), (other.negative, b, j))
            }
            (Kind::NotANumber, _) | (_, Kind::NotANumber) => {
                return LongDouble { negative: false, kind: Kind::NotANumber };
            }
            (Kind::Infinite, Kind::Infinite) if self.negative != other.negative => {
                return LongDouble { negative: false, kind: Kind::NotANumber };
            }
            (Kind::Infinite, _) => return self,
            (_, Kind::Infinite) => return other,
        };
        if b.1 == 0 && a.1 == 0 {
            return LongDouble { negative: a.0 && b.0, kind: ZERO };
        }
        if b.1 == 0 {
            return self;
        }
        if a.1 == 0 {
            return other;
        }
        // 62 bits below the greater significand leave room for a carry; what falls off below them
        // matters to the rounding only as "something is there".
        let (high, low) = if a.2 >= b.2 { (a, b) } else { (b, a) };
        let distance = (i64::from(high.2) - i64::from(low.2)) as u32;
        let left = u128::from(high.1) << 62;
        let full = u128::from(low.1) << 62;
        let right = match full.checked_shr(distance) {
            Some(shifted) if shifted << distance == full => shifted,
            Some(shifted) => shifted | 1,
            None => 1,
        };
        let exponent = i64::from(high.2) - 62;
        let (negative, sum) = if high.0 == low.0 {
            (high.0, left + right)
        } else if left >= right {
            (high.0, left - right)
        } else {
            (low.0, right - left)
        };
        let kind = round(sum, exponent, false);
        LongDouble { negative: negative && kind != ZERO, kind }
    }
}

impl From<i64> for LongDouble {
    fn from(value: i64) -> Self {
        LongDouble { negative: value < 0, kind: round(u128::from(value.unsigned_abs()), 0, false) }
    }
}

impl From<f64> for LongDouble {
    fn from(value: f64) -> Self {
        let negative = value.is_sign_negative();
        if value.is_nan() {
            return LongDouble { negative: false, kind: Kind::NotANumber };
        }
        if value.is_infinite() {
            return LongDouble { negative, kind: Kind::Infinite };
        }
        let bits = value.to_bits();
        let fraction = bits & ((1 << 52) - 1);
        let biased = ((bits >> 52) & 0x7ff) as i64;
        let (significand, exponent) =
            if biased == 0 { (fraction, -1074) } else { (fraction | (1 << 52), biased - 1075) };
        LongDouble { negative, kind: round(u128::from(significand), exponent, false) }
    }
}

/// The number `value * 2^exponent`, plus a little if `sticky`, rounded to the nearest extended double.
fn round(value: u128, exponent: i64, sticky: bool) -> Kind {
    if value == 0 {
        return ZERO;
    }
    let bits = i64::from(128 - value.leading_zeros());
    // How far the significand moves right: to 64 bits, or further for a subnormal.
    let shift = (bits - 64).max(MIN_EXPONENT - exponent);
    let mut exponent = exponent + shift;
    let mut significand = if shift <= 0 {
        // `-shift` is at most the number of free bits, so nothing is lost.
        value << shift.unsigned_abs().min(127)
    } else {
        let shift = u32::try_from(shift).unwrap_or(u32::MAX);
        let whole = value.checked_shr(shift).unwrap_or(0);
        let rest = if shift < 128 { value - (whole << shift) } else { value };
        let up = match 1u128.checked_shl(shift.saturating_sub(1)) {
            Some(half) if rest == half => sticky || whole & 1 == 1,
            Some(half) => rest > half,
            None => false,
        };
        whole + u128::from(up)
    };
    if significand >> 64 != 0 {
        significand >>= 1;
        exponent += 1;
    }
    if significand == 0 {
        return ZERO;
    }
    if exponent > MAX_EXPONENT {
        return Kind::Infinite;
    }
    Kind::Finite { significand: significand as u64, exponent: exponent as i32 }
}

/// A literal taken apart: its digits as values without zeros at either end (empty for zero), and the
/// exponent of the last of them: a power of ten, or of two for hexadecimals.
struct Literal {
    digits: Vec<u8>,
    exponent: i64,
}

impl Literal {
    fn parse(text: &[u8], base: u32) -> Option<Literal> {
        let mut digits = Vec::with_capacity(text.len());
        let mut fraction = None;
        let mut rest = text;
        let mut any = false;
        while let [byte, tail @ ..] = rest {
            if let Some(digit) = (*byte as char).to_digit(base) {
                digits.push(digit as u8);
                any = true;
            } else if *byte == b'.' && fraction.is_none() {
                fraction = Some(digits.len());
            } else {
                break;
            }
            rest = tail;
        }
        if !any {
            return None;
        }
        let step = if base == 16 { 4 } else { 1 };
        let mut exponent = -((digits.len() - fraction.unwrap_or(digits.len())) as i64) * step;
        let marker = if base == 16 { b'p' } else { b'e' };
        match rest {
            [] => {}
            [byte, tail @ ..] if byte.to_ascii_lowercase() == marker => exponent += parse_exponent(tail)?,
            _ => return None,
        }
        while digits.last() == Some(&0) {
            digits.pop();
            exponent += step;
        }
        let leading = digits.iter().take_while(|&&d| d == 0).count();
        digits.drain(..leading);
        Some(Literal { digits, exponent })
    }

    fn hexadecimal(&self) -> Option<Kind> {
        // 31 digits are more than 64 bits and leave the rest to the sticky bit.
        let (head, tail) = self.digits.split_at(self.digits.len().min(31));
        let value = head.iter().fold(0u128, |n, &digit| (n << 4) | u128::from(digit));
        Some(round(value, self.exponent + 4 * tail.len() as i64, !tail.is_empty()))
    }

    fn decimal(&self) -> Option<Kind> {
        let magnitude = self.exponent + self.digits.len() as i64;
        if !(-4970..=4935).contains(&magnitude) {
            return None;
        }
        if self.digits.len() <= 19 && (-18..=0).contains(&self.exponent) {
            let value = self.digits.iter().fold(0u128, |n, &digit| n * 10 + u128::from(digit));
            let divisor = 10u128.pow(self.exponent.unsigned_abs() as u32);
            // A dividend of 128 bits over a divisor of 60 leaves more bits of quotient than are kept.
            let shift = value.leading_zeros();
            let dividend = value << shift;
            return Some(round(dividend / divisor, -i64::from(shift), dividend % divisor != 0));
        }
        let value = BigUint::from_radix_be(&self.digits, 10)?;
        let power = BigUint::from(10u32).pow(self.exponent.unsigned_abs() as u32);
        let (numerator, divisor) =
            if self.exponent >= 0 { (value * power, BigUint::from(1u32)) } else { (value, power) };
        let shift = (divisor.bits() + 100).saturating_sub(numerator.bits());
        let dividend = numerator << shift;
        let quotient = &dividend / &divisor;
        let mut sticky = &quotient * &divisor != dividend;
        let excess = quotient.bits().saturating_sub(128);
        let head = &quotient >> excess;
        sticky |= &head << excess != quotient;
        Some(round(u128::try_from(head).ok()?, excess as i64 - shift as i64, sticky))
    }
}

/// The digits after `e` or `p`, with an optional sign; huge ones saturate.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits.iter().fold(0i64, |n, &d| (n * 10 + i64::from(d - b'0')).min(1_000_000));
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(a: &str, b: &str) -> String {
        let read = |text: &str| LongDouble::parse(text.as_bytes()).unwrap();
        String::from_utf8((read(a) + read(b)).format()).unwrap()
    }

    /// Sums taken from a running server.
    #[test]
    fn sums_of_the_real_server() {
        for (a, b, result) in [
            ("0", "0x1p3", "8"),
            ("0", "0x1.fffffffffffff8p0", "1.99999999999999989"),
            ("0", "0x1.fffffffffffff7p0", "1.99999999999999988"),
            ("0", "-0", "0"),
            ("0", "1e-400", "0"),
            ("0", "-.5e3", "-500"),
            ("-849.118705", "889.01", "39.891295"),
            ("104.01", "4688936.960857", "4689040.97085700000025099"),
            ("885921.9655164080872", "0x4a0c60597bdc.1p-79", "885921.96551640822190166"),
            ("6242918438584265435", "14662255646.455664", "6242918453246521081.5"),
            ("60.99", "-3660397373.549618203699964", "-3660397312.55961820366792381"),
            (
                "-839686475.863559476691",
                "0x2599b1d117b7.9c849c277af3208c9196dp3",
                "330735508268145.027618408203125",
            ),
            ("896824053e1", "-681251.608867", "8967559278.39113300014287233"),
            ("-2.6768088547314304e-39", "-2715.17", "-2715.16999999999999993"),
            ("25952353.53", "389.2", "25952742.73000000000138243"),
            ("6850894148859452.5", "577.125", "6850894148860029.625"),
            ("160.99", "2231086e8", "223108600000160.9900054931640625"),
            ("1810569.75656570654", "-7242452.66224396", "-5431882.9056782534598824"),
            ("-489211511.8938", "-9980632.6944068082395335", "-499192144.58820680822827853"),
            ("5601590453078416e-21", "-564075.55779", "-564075.55778439840958072"),
        ] {
            assert_eq!(sum(a, b), result, "{a} + {b}");
        }
    }

    #[test]
    fn refuses() {
        for text in [
            "", "+", "-", ".", "0x", "0x.", "1e", "1e+", " 1", "1 ", "nan", "1e5000", "1e-5000", "1p3",
            "0x1e+3",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(LongDouble::parse(&[b'1'; 5120]), None);
        assert!(LongDouble::parse(&[b'0'; 5119]).is_some());
    }

    #[test]
    fn not_finite() {
        let infinity = LongDouble::parse(b"inf").unwrap();
        let negative = LongDouble::parse(b"-Infinity").unwrap();
        assert!(!infinity.is_finite());
        assert_eq!((infinity + LongDouble::from(1)).format(), b"inf");
        assert_eq!((LongDouble::from(1) + negative).format(), b"-inf");
        assert_eq!((infinity + negative).format(), b"nan");
        let greatest = LongDouble::parse(b"1.18973149535723176502e4932").unwrap();
        assert!(!(greatest + greatest).is_finite());
    }

    proptest! {
        /// Sums that 64 bits hold are exact.
        #[test]
        fn integers_are_exact(a in -(1i64 << 62)..1 << 62, b in -(1i64 << 62)..1 << 62) {
            prop_assert_eq!((LongDouble::from(a) + LongDouble::from(b)).format(), (a + b).to_string().into_bytes());
        }

        #[test]
        fn fast_and_slow_reading_agree(digits in "[1-9][0-9]{0,17}", decimals in 0usize..18) {
            let text = format!("{digits}e-{decimals}");
            let padded = format!("{digits}000000000000000000000000e-{}", decimals + 24);
            prop_assert_eq!(LongDouble::parse(text.as_bytes()), LongDouble::parse(padded.as_bytes()));
            let scaled = format!("{digits}{}1e-{}", "0".repeat(60), decimals + 61);
            let near = LongDouble::parse(scaled.as_bytes()).unwrap();
            prop_assert_eq!(near.format(), LongDouble::parse(text.as_bytes()).unwrap().format());
        }

        #[test]
        fn double_is_exact(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = format!("{value:e}");
            let wide = LongDouble::from(value);
            if value.fract() == 0.0 && value != 0.0 {
                prop_assert_eq!(wide.format(), format!("{value:.0}").into_bytes());
            }
            prop_assert!(LongDouble::parse(text.as_bytes()).is_some());
        }

        #[test]
        fn never_panics(text in "[-+]?(0x)?[0-9a-f.]{0,40}([ep][-+]?[0-9]{0,7})?", other in "[-+]?[0-9]{0,6}\\.[0-9]{1,20}(e-?[0-9]{1,4})?") {
            if let Some(a) = LongDouble::parse(text.as_bytes()) {
                a.format();
                if let Some(b) = LongDouble::parse(other.as_bytes()) {
                    prop_assert_eq!(a + b, b + a);
                    (a + b).format();
                }
            }
        }
    }
}
