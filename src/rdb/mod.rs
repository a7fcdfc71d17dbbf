//! The RDB format, in and out: files, full syncs, and the payloads of DUMP and RESTORE.
//!
//! Source: the format of Valkey and Redis, versions 1 to 11 and 80. Written is version 10 with plain encodings, which every
//! server since Redis 7.0 reads (and 80 only where a hash has fields with an expiry, which older ones cannot hold).
//! It must not know files or sockets: it writes into and reads from what it is given.
//!
//! Invariant: reading never trusts a length, a count or a checksum, and never panics; what is read is whole or an error.

mod commands;
mod encodings;
mod reader;
mod streams;
mod writer;

#[cfg(test)]
mod tests;

pub use commands::save_as_commands;
pub use reader::{Loaded, Options as LoadOptions, RdbError, load, restore, restore_functions};
pub use writer::{Contents, Options as SaveOptions, dump, dump_functions, save};

/// The version that is written unless a newer one is needed.
const VERSION: u16 = 10;
/// The first version that says when a stream's consumers last got entries.
const VERSION_STREAM_ACTIVITY: u16 = 11;
/// The first version in which hash fields can expire.
const VERSION_FIELD_EXPIRY: u16 = 80;
/// The newest version that is known of either family, and the first of Valkey's own, which have another signature. What lies
/// between them is Redis's, of later years.
const NEWEST: u16 = 80;
const NEWEST_REDIS: u16 = 11;
const FIRST_VALKEY: u16 = 80;

/// Types of values.
mod kind {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const SORTED_SET: u8 = 3;
    pub const HASH: u8 = 4;
    pub const SORTED_SET_BINARY: u8 = 5;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const SORTED_SET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const SORTED_SET_LISTPACK: u8 = 17;
    pub const LIST_QUICKLIST_LISTPACK: u8 = 18;
    /// With what is known of deleted entries, and how far groups have read.
    pub const STREAM_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    /// With the times at which consumers last got entries.
    pub const STREAM_3: u8 = 21;
    /// A hash whose fields have expiries.
    pub const HASH_EXPIRING: u8 = 22;
}

/// What stands before a key, or instead of one.
mod opcode {
    pub const SLOT_INFO: u8 = 244;
    pub const FUNCTION: u8 = 245;
    pub const FUNCTION_EARLY: u8 = 246;
    pub const MODULE_AUX: u8 = 247;
    pub const IDLE: u8 = 248;
    pub const FREQUENCY: u8 = 249;
    pub const AUX: u8 = 250;
    pub const RESIZE: u8 = 251;
    pub const EXPIRE_MS: u8 = 252;
    pub const EXPIRE_SECONDS: u8 = 253;
    pub const SELECT: u8 = 254;
    pub const END: u8 = 255;
}

/// How a string is written other than by its length and bytes.
mod packed_string {
    pub const INT8: u8 = 0xc0;
    pub const INT16: u8 = 0xc1;
    pub const INT32: u8 = 0xc2;
    pub const LZF: u8 = 0xc3;
}
