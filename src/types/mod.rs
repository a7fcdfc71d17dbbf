//! The data types, copy-on-write inside. Knows nothing of keys, expiry, commands or replication.

pub mod dictionary;
