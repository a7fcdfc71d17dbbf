//! Passwords, of which only the SHA-256 hash is kept.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The hash of a password. Written as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordHash([u8; 32]);

impl PasswordHash {
    pub fn of(password: &[u8]) -> Self {
        PasswordHash(Sha256::digest(password).into())
    }

    /// Reads the digits. `None`: not 64 of them, or capitals.
    pub fn parse(digits: &[u8]) -> Option<Self> {
        let digits: &[u8; 64] = digits.try_into().ok()?;
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 32];
        for (byte, [high, low]) in hash.iter_mut().zip(digits.as_chunks::<2>().0) {
            *byte = value(*high)? << 4 | value(*low)?;
        }
        Some(PasswordHash(hash))
    }

    /// Takes the same time whatever the difference.
    pub fn fits(&self, other: &PasswordHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    pub fn to_digits(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_round_trip() {
        let hash = PasswordHash::of(b"x");
        let digits = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        assert_eq!(hash.to_digits(), digits);
        assert_eq!(PasswordHash::parse(digits.as_bytes()), Some(hash));
        assert!(hash.fits(&PasswordHash::of(b"x")) && !hash.fits(&PasswordHash::of(b"y")));
        assert_eq!(PasswordHash::parse(digits.to_uppercase().as_bytes()), None);
        assert_eq!(PasswordHash::parse(&digits.as_bytes()[1..]), None);
    }
}
