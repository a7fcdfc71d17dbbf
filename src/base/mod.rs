//! What every layer may use and what knows no layer: numbers, patterns, checksums, compression, clock, randomness, files.

pub mod clock;
pub mod crc64;
pub mod file;
pub mod glob;
pub mod lzf;
pub mod number;
pub mod quote;
pub mod random;
pub mod state_codec;
pub mod tick_clock;
