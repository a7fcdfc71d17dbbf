//! The configuration that the dataset itself depends on. The server fills it from the directives.

use super::{AccessPolicy, EventClasses};
use crate::types::Limits;

/// Which deletions hand the value to a background thread. It decides between DEL and UNLINK in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LazyFree {
    pub expire: bool,
    pub server_delete: bool,
    pub user_delete: bool,
    pub user_flush: bool,
    pub eviction: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// When collections change from their small to their large form.
    pub limits: Limits,
    /// Which keyspace events anybody can want.
    pub events: EventClasses,
    pub access: AccessPolicy,
    pub lazy_free: LazyFree,
    /// The longest string allowed, in bytes (`proto-max-bulk-len`).
    pub max_string_length: usize,
    /// Are RDB files and payloads of versions taken that this server may not know all of (`rdb-version-check relaxed`)?
    pub takes_other_versions: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let lazy = LazyFree {
            expire: true,
            server_delete: true,
            user_delete: true,
            user_flush: true,
            eviction: true,
        };
        Settings {
            limits: Limits::default(),
            events: EventClasses::NONE,
            access: AccessPolicy::Lru,
            lazy_free: lazy,
            max_string_length: 512 << 20,
            takes_other_versions: false,
        }
    }
}
