//! The checksum of RDB files, DUMP payloads and state files: CRC-64 with the Jones polynomial, reflected,
//! starting at zero. Check value of `123456789`: `0xe9c6d914c4b8d9ca`.

use crc::{CRC_64_REDIS, Crc, Table};

static JONES: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// The checksum of what `previous` covers followed by `bytes`; start with 0.
pub fn crc64(previous: u64, bytes: &[u8]) -> u64 {
    // The crate reflects the starting value as it reflects the input.
    let mut digest = JONES.digest_with_initial(previous.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn check_value() {
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64(0, b""), 0);
    }

    proptest! {
        #[test]
        fn in_pieces(bytes: Vec<u8>, cut: prop::sample::Index) {
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(crc64(crc64(0, head), tail), crc64(0, &bytes));
        }
    }
}
