//! The log of refused calls and failed authentications (ACL LOG).
//!
//! Invariant: newest first; a refusal like one of the latest ten, within a minute of it, is counted there.

use std::collections::VecDeque;

use super::check::Reason;

/// Where a call came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    TopLevel,
    Transaction,
    Script,
}

impl Context {
    /// As ACL LOG shows it.
    pub fn name(self) -> &'static str {
        match self {
            Context::TopLevel => "toplevel",
            Context::Transaction => "multi",
            Context::Script => "lua",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub count: u64,
    pub reason: Reason,
    pub context: Context,
    /// The command, key, channel or database that was refused.
    pub object: Vec<u8>,
    pub user: Vec<u8>,
    /// The line of CLIENT LIST.
    pub client: String,
    /// Unique in the life of the process.
    pub number: u64,
    pub created_ms: u64,
    pub updated_ms: u64,
}

impl LogEntry {
    pub fn new(
        reason: Reason,
        context: Context,
        object: &[u8],
        user: &[u8],
        client: String,
        now_ms: u64,
    ) -> Self {
        let (object, user) = (object.to_vec(), user.to_vec());
        LogEntry {
            count: 1,
            reason,
            context,
            object,
            user,
            client,
            number: 0,
            created_ms: now_ms,
            updated_ms: now_ms,
        }
    }

    fn is_like(&self, other: &LogEntry) -> bool {
        self.reason == other.reason
            && self.context == other.context
            && self.object == other.object
            && self.user == other.user
            && self.updated_ms.abs_diff(other.updated_ms) <= GROUPED_WITHIN_MS
    }
}

/// How long refusals of one kind are counted as one entry.
const GROUPED_WITHIN_MS: u64 = 60_000;

/// How many entries are looked at for one of the same kind.
const GROUPED_AMONG: usize = 10;

#[derive(Debug, Default)]
pub struct AclLog {
    entries: VecDeque<LogEntry>,
    next_number: u64,
}

impl AclLog {
    /// Adds an entry, and keeps `most` of them.
    pub fn add(&mut self, mut entry: LogEntry, most: usize) {
        if most == 0 {
            self.entries.clear();
            return;
        }
        let like = self.entries.iter().take(GROUPED_AMONG).position(|old| old.is_like(&entry));
        if let Some(mut old) = like.and_then(|place| self.entries.remove(place)) {
            old.count += 1;
            old.client = entry.client;
            old.updated_ms = entry.updated_ms;
            self.entries.push_front(old);
            return;
        }
        entry.number = self.next_number;
        self.next_number += 1;
        self.entries.push_front(entry);
        self.entries.truncate(most);
    }

    /// The newest `count` entries.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = &LogEntry> {
        self.entries.iter().take(count)
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(object: &str, now_ms: u64) -> LogEntry {
        LogEntry::new(Reason::Key, Context::TopLevel, object.as_bytes(), b"u", "c".into(), now_ms)
    }

    fn shown(log: &AclLog) -> Vec<(String, u64, u64)> {
        let name = |entry: &LogEntry| String::from_utf8_lossy(&entry.object).into_owned();
        log.newest(99).map(|entry| (name(entry), entry.count, entry.number)).collect()
    }

    #[test]
    fn the_like_is_grouped_and_the_old_forgotten() {
        let mut log = AclLog::default();
        for (object, now_ms) in [("a", 0), ("b", 1), ("a", 60_000), ("a", 120_000), ("a", 180_001)] {
            log.add(entry(object, now_ms), 3);
        }
        assert_eq!(shown(&log), [("a".into(), 1, 2), ("a".into(), 3, 0), ("b".into(), 1, 1)]);
        log.add(entry("c", 180_002), 3);
        assert_eq!(shown(&log), [("c".into(), 1, 3), ("a".into(), 1, 2), ("a".into(), 3, 0)]);
        // A lower limit holds from the next entry on.
        log.add(entry("c", 180_002), 1);
        assert_eq!(shown(&log).len(), 3);
        log.add(entry("e", 180_002), 1);
        assert_eq!(shown(&log), [("e".into(), 1, 4)]);
        log.add(entry("d", 180_003), 0);
        assert_eq!(shown(&log), []);
    }
}
