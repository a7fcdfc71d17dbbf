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
    /// How often each code was answered.
    errors: Mutex<BTreeMap<Vec<u8>, u64>>,
}

/// Codes made up by scripts are counted apart until there are so many.
const MOST_CODES: usize = 128;
const OTHER_CODES: &[u8] = b"ERRORSTATS_OVERFLOW";

impl Stats {
    pub fn count_error(&self, error: &ErrorReply) {
        self.count_code(error, usize::MAX);
    }

    /// As [`count_error`](Self::count_error), of an error that a script answered: it can make up codes without end.
    pub fn count_script_error(&self, error: &ErrorReply) {
        self.count_code(error, MOST_CODES);
    }

    /// Counts a code that is new apart if there are fewer than `most`.
    fn count_code(&self, error: &ErrorReply, most: usize) {
        self.error_replies.fetch_add(1, Relaxed);
        let mut errors = self.errors.lock();
        if let Some(count) = errors.get_mut(error.code()) {
            *count += 1;
            return;
        }
        let code = if errors.len() < most { error.code() } else { OTHER_CODES };
        *errors.entry(code.to_vec()).or_default() += 1;
    }

    /// How often each error code was answered.
    pub fn errors(&self) -> Vec<(Vec<u8>, u64)> {
        self.errors.lock().iter().map(|(code, count)| (code.clone(), *count)).collect()
    }

    pub fn reset(&self) {
        self.errors.lock().clear();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_scripts_are_bounded() {
        let stats = Stats::default();
        for number in 0..200 {
            stats.count_script_error(&ErrorReply::from_text(format!("E{number} text")));
        }
        stats.count_script_error(&ErrorReply::new("E1 again"));
        stats.count_error(&ErrorReply::SYNTAX);
        let count = |code: &[u8]| {
            stats.errors().into_iter().find(|(known, _)| known == code).map_or(0, |(_, count)| count)
        };
        assert_eq!((count(b"E1"), count(b"E199"), count(b"ERR")), (2, 0, 1));
        assert_eq!(count(OTHER_CODES), 200 - MOST_CODES as u64);
    }
}
