//! The data types, copy-on-write inside. Knows nothing of keys, expiry, commands or replication.

pub mod dictionary;
pub mod element;
pub mod hash;
pub mod integers;
pub mod limits;
pub mod list;
pub mod packed;
pub mod set;
pub mod sorted_set;
pub mod thin;
pub mod tree;
