//! What a read command gets: the dataset at one moment, and the connection's view of it.
//!
//! Invariant: nothing here changes the dataset; an expired key reads as absent and is noted for the next write turn.

use super::{Counters, Database, Entry, Keyspace, Settings, ValueRef};
use crate::protocol::{ErrorReply, Protocol, Reply};
use crate::types::{Hash, List, Set, SortedSet, Stream};

/// How keys whose time has passed are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyExpiry {
    /// They are gone: reads hide them and note them for deletion, writes delete them. A primary.
    Delete,
    /// Reads and writes hide them, nobody deletes them. A replica, and a primary under a write pause.
    Hide,
    /// They are there until the stream says otherwise. The stream being applied.
    Ignore,
}

/// Read access to one database.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'k> {
    pub keyspace: &'k Keyspace,
    /// The index of the selected database.
    pub database: usize,
    pub now_ms: u64,
    pub protocol: Protocol,
    pub expiry: KeyExpiry,
    /// Do lookups count as uses (CLIENT NO-TOUCH says no)?
    pub touch: bool,
    /// Where lookups are counted; `None` where they do not count, as inside a write.
    pub counters: Option<&'k Counters>,
}

/// A string value: integers are kept unboxed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StringValue<'k> {
    Bytes(&'k [u8]),
    Integer(i64),
}

impl<'k> StringValue<'k> {
    pub fn of(entry: &'k Entry) -> Result<StringValue<'k>, ErrorReply> {
        match entry.value() {
            ValueRef::String(bytes) => Ok(StringValue::Bytes(bytes)),
            ValueRef::Integer(number) => Ok(StringValue::Integer(number)),
            _ => Err(ErrorReply::WRONG_TYPE),
        }
    }

    pub fn reply(self) -> Reply<'k> {
        match self {
            StringValue::Bytes(bytes) => Reply::Bulk(bytes),
            StringValue::Integer(number) => Reply::BulkInteger(number),
        }
    }

    pub fn len(self) -> usize {
        match self {
            StringValue::Bytes(bytes) => bytes.len(),
            StringValue::Integer(number) => itoa::Buffer::new().format(number).len(),
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The text, borrowed where it is one already.
    pub fn text(self) -> std::borrow::Cow<'k, [u8]> {
        match self {
            StringValue::Bytes(bytes) => bytes.into(),
            StringValue::Integer(number) => itoa::Buffer::new().format(number).as_bytes().to_vec().into(),
        }
    }
}

impl<'k> Reader<'k> {
    pub fn database(&self) -> &'k Database {
        self.keyspace.database(self.database)
    }

    pub fn settings(&self) -> &'k Settings {
        self.keyspace.settings()
    }

    /// Is the entry hidden because its time has passed?
    pub fn is_expired(&self, entry: &Entry) -> bool {
        self.expiry != KeyExpiry::Ignore && entry.expire_at_ms().is_some_and(|at| at <= self.now_ms)
    }

    /// The live entry of `key`; neither counted nor a use of it.
    pub fn peek(&self, key: &[u8]) -> Option<&'k Entry> {
        self.database().get(key).filter(|entry| {
            let expired = self.is_expired(entry);
            if expired && self.expiry == KeyExpiry::Delete {
                self.keyspace.note_expired(self.database, key);
            }
            !expired
        })
    }

    /// The live entry of `key`: a use of it, and a hit or a miss.
    pub fn lookup(&self, key: &[u8]) -> Option<&'k Entry> {
        let entry = self.peek(key);
        if let Some(counters) = self.counters {
            if entry.is_some() { counters.hit() } else { counters.miss() }
        }
        if let Some(entry) = entry
            && self.touch
        {
            self.settings().access.touch(entry, self.now_ms);
        }
        entry
    }

    pub fn string(&self, key: &[u8]) -> Result<Option<StringValue<'k>>, ErrorReply> {
        self.lookup(key).map(StringValue::of).transpose()
    }

    pub fn list(&self, key: &[u8]) -> Result<Option<&'k List>, ErrorReply> {
        self.lookup(key).map(list_of).transpose()
    }

    pub fn set(&self, key: &[u8]) -> Result<Option<&'k Set>, ErrorReply> {
        self.lookup(key).map(set_of).transpose()
    }

    pub fn sorted_set(&self, key: &[u8]) -> Result<Option<&'k SortedSet>, ErrorReply> {
        self.lookup(key).map(sorted_set_of).transpose()
    }

    pub fn hash(&self, key: &[u8]) -> Result<Option<&'k Hash>, ErrorReply> {
        self.lookup(key).map(hash_of).transpose()
    }

    pub fn stream(&self, key: &[u8]) -> Result<Option<&'k Stream>, ErrorReply> {
        self.lookup(key).map(stream_of).transpose()
    }
}

macro_rules! of_kind {
    ($name:ident, $variant:ident, $type:ty) => {
        pub(super) fn $name(entry: &Entry) -> Result<&$type, ErrorReply> {
            match entry.value() {
                ValueRef::$variant(value) => Ok(value),
                _ => Err(ErrorReply::WRONG_TYPE),
            }
        }
    };
}

of_kind!(list_of, List, List);
of_kind!(set_of, Set, Set);
of_kind!(sorted_set_of, SortedSet, SortedSet);
of_kind!(hash_of, Hash, Hash);
of_kind!(stream_of, Stream, Stream);
