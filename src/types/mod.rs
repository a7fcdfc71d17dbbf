//! The data types, copy-on-write inside. Knows nothing of keys, expiry, commands or replication.

pub mod dictionary;
pub mod element;
pub mod hash;
pub mod hyperloglog;
pub mod integers;
pub mod limits;
pub mod list;
pub mod ordered;
pub mod packed;
pub mod set;
pub mod sorted_set;
pub mod stream;
mod stream_group;
mod stream_id;
mod stream_node;
pub mod thin;
pub mod tree;

pub use element::{Element, OwnedElement};
pub use hash::Hash;
pub use limits::Limits;
pub use list::List;
pub use set::Set;
pub use sorted_set::SortedSet;
pub use stream::{Stream, StreamId};

/// What kind of value a key holds. The numbers are Valkey's, which has modules' values between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    String = 0,
    List = 1,
    Set = 2,
    SortedSet = 3,
    Hash = 4,
    Stream = 6,
}

impl Kind {
    /// As TYPE and SCAN's TYPE option spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::SortedSet => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
        }
    }
}
