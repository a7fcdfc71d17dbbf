//! The dataset: databases of entries, snapshots, expiry, and the transaction through which alone it changes.

pub mod entry;
