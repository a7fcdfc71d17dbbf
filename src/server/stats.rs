//! Counters of the whole server, for INFO stats and errorstats.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::protocol::ErrorReply;

#[derive(Debug, Default)]
pub struct Stats {
    pub connections: AtomicU64,
    pub rejected_connections: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    pub replication_bytes_in: AtomicU64,
    pub replication_bytes_out: AtomicU64,
    pub error_replies: AtomicU64,
    pub query_buffer_disconnections: AtomicU64,
    pub output_buffer_disconnections: AtomicU64,
    pub full_syncs: AtomicU64,
    pub partial_syncs: AtomicU64,
    pub partial_syncs_refused: AtomicU64,
    pub evicted_keys: AtomicU64,
    pub evicted_clients: AtomicU64,
    pub expire_cycle_milliseconds: AtomicU64,
    pub expire_time_cap_reached: AtomicU64,
    pub peak_memory: AtomicU64,
    errors: Mutex<Errors>,
}

#[derive(Debug, Default)]
struct Errors {
    by_code: BTreeMap<Vec<u8>, u64>,
    /// Too many codes were seen: counting by code has stopped, since scripts can make them up without end.
    off: bool,
}

/// Codes counted apart.
const MOST_CODES: usize = 128;

impl Stats {
    pub fn count_error(&self, error: &ErrorReply) {
        self.error_replies.fetch_add(1, Relaxed);
        let mut errors = self.errors.lock();
        if errors.off {
            return;
        }
        if let Some(count) = errors.by_code.get_mut(error.code()) {
            *count += 1;
        } else if errors.by_code.len() < MOST_CODES {
            errors.by_code.insert(error.code().to_vec(), 1);
        } else {
            errors.off = true;
            errors.by_code.clear();
            errors.by_code.insert(b"ERRORSTATS_OVERFLOW".to_vec(), 1);
        }
    }

    /// How often each error code was answered.
    pub fn errors(&self) -> Vec<(Vec<u8>, u64)> {
        self.errors.lock().by_code.iter().map(|(code, count)| (code.clone(), *count)).collect()
    }

    pub fn reset(&self) {
        *self.errors.lock() = Errors::default();
        let counters = [
            &self.connections,
            &self.rejected_connections,
            &self.bytes_in,
            &self.bytes_out,
            &self.replication_bytes_in,
            &self.replication_bytes_out,
            &self.error_replies,
            &self.query_buffer_disconnections,
            &self.output_buffer_disconnections,
            &self.full_syncs,
            &self.partial_syncs,
            &self.partial_syncs_refused,
            &self.evicted_keys,
            &self.evicted_clients,
            &self.expire_cycle_milliseconds,
            &self.expire_time_cap_reached,
        ];
        for counter in counters {
            counter.store(0, Relaxed);
        }
    }
}
