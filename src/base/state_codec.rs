//! The envelope of small state files: `magic (8) | version (1) | payload length (4, little-endian) |
//! payload | CRC-64 of all before it (8, little-endian)`.
//!
//! The only user of bincode, so that its end of maintenance stays a matter of this module: the version
//! byte belongs to us, and another payload encoding can take its place under a new version.
//! Invariant: what decodes is exactly what was encoded; anything cut, changed or foreign is an error.

use serde::{Serialize, de::DeserializeOwned};

use crate::base::crc64::crc64;

const HEADER_LEN: usize = 8 + 1 + 4;
const CHECKSUM_LEN: usize = 8;
/// Limit of a payload: these files hold a page of state, not data.
const MAX_PAYLOAD_LEN: usize = 16 * 1024 * 1024;

/// Names a kind of file and the layout of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// The first bytes of every file of this kind.
    pub magic: [u8; 8],
    /// The layout of the payload; raised whenever it changes.
    pub version: u8,
}

/// Why bytes are not a state file, or a value cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("not a state file of this kind")]
    Foreign,
    #[error("unknown version {0}")]
    Version(u8),
    #[error("wrong length")]
    Length,
    #[error("wrong checksum")]
    Checksum,
    #[error("unreadable payload: {0}")]
    Payload(String),
}

/// Puts `value` into an envelope.
pub fn encode<T: Serialize>(format: Format, value: &T) -> Result<Vec<u8>, StateError> {
    let payload = bincode::serde::encode_to_vec(value, bincode::config::standard())
        .map_err(|error| StateError::Payload(error.to_string()))?;
    if payload.len() > MAX_PAYLOAD_LEN {
        return Err(StateError::Length);
    }
    let mut out = Vec::with_capacity(HEADER_LEN + payload.len() + CHECKSUM_LEN);
    out.extend_from_slice(&format.magic);
    out.push(format.version);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&payload);
    let checksum = crc64(0, &out);
    out.extend_from_slice(&checksum.to_le_bytes());
    Ok(out)
}

/// The version of a file that carries `magic`, to choose the type to decode.
pub fn version_of(magic: [u8; 8], bytes: &[u8]) -> Result<u8, StateError> {
    match bytes.split_at_checked(8) {
        Some((head, [version, ..])) if head == magic => Ok(*version),
        _ => Err(StateError::Foreign),
    }
}

/// Takes a value out of its envelope.
pub fn decode<T: DeserializeOwned>(format: Format, bytes: &[u8]) -> Result<T, StateError> {
    let version = version_of(format.magic, bytes)?;
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(StateError::Length)?;
    let (header, payload) = body.split_at_checked(HEADER_LEN).ok_or(StateError::Length)?;
    let stated = header.last_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize);
    if stated != Some(payload.len()) || payload.len() > MAX_PAYLOAD_LEN {
        return Err(StateError::Length);
    }
    if crc64(0, body) != u64::from_le_bytes(*checksum) {
        return Err(StateError::Checksum);
    }
    if version != format.version {
        return Err(StateError::Version(version));
    }
    let config = bincode::config::standard().with_limit::<MAX_PAYLOAD_LEN>();
    match bincode::serde::decode_from_slice(payload, config) {
        Ok((value, used)) if used == payload.len() => Ok(value),
        Ok(_) => Err(StateError::Length),
        Err(error) => Err(StateError::Payload(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    const FORMAT: Format = Format { magic: *b"TESTFILE", version: 3 };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct State {
        name: String,
        offset: u64,
        files: Vec<(u64, i64)>,
    }

    fn state() -> State {
        State { name: "primary".into(), offset: u64::MAX, files: vec![(1, -1), (2, 300)] }
    }

    #[test]
    fn round_trip() {
        let bytes = encode(FORMAT, &state()).unwrap();
        assert_eq!(decode::<State>(FORMAT, &bytes), Ok(state()));
        assert_eq!(version_of(FORMAT.magic, &bytes), Ok(3));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let bytes = encode(FORMAT, &state()).unwrap();
        for len in 0..bytes.len() {
            assert!(decode::<State>(FORMAT, &bytes[..len]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<State>(FORMAT, &changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn other_versions_and_kinds() {
        let bytes = encode(Format { version: 4, ..FORMAT }, &state()).unwrap();
        assert_eq!(decode::<State>(FORMAT, &bytes), Err(StateError::Version(4)));
        assert_eq!(
            decode::<State>(Format { magic: *b"OTHER...", ..FORMAT }, &bytes),
            Err(StateError::Foreign)
        );
        let shorter = encode(FORMAT, &("primary", 5u64)).unwrap();
        assert!(decode::<State>(FORMAT, &shorter).is_err());
    }
}
