//! The checksum of RDB files, DUMP payloads and state files: CRC-64 with the Jones polynomial, reflected,
//! starting at zero. Check value of `123456789`: `0xe9c6d914c4b8d9ca`.

use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of what `previous` covers followed by `bytes`; start with 0.
pub fn crc64(previous: u64, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc64Redis, previous);
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
