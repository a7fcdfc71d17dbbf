//! The command stream: one append-only, offset-addressed log that replicas receive and the AOF holds.
//!
//! Its bytes are RESP commands: effects in canonical form, SELECT where the database changes, MULTI and EXEC around units of
//! several, and PING and REPLCONF GETACK, which mean nothing on replay. A replica appends the bytes it receives
//! unchanged, so its log is its primary's. Knows nothing of sockets and threads.
//!
//! Invariants: `offset` is the number of bytes ever appended (plus where the history began); a unit is appended whole;
//! what is in the log is never changed.

pub mod aof;
mod backlog;

pub use backlog::Backlog;

use crate::keyspace::Unit;
use crate::protocol::encode::append_command;

/// The name of a history: 40 hexadecimal digits.
pub type ReplicationId = [u8; 40];

/// No second history.
pub const NO_REPLID: ReplicationId = [b'0'; 40];

#[derive(Debug)]
pub struct Stream {
    replid: ReplicationId,
    /// The history this one continues, valid up to `second_offset`.
    replid2: ReplicationId,
    second_offset: Option<u64>,
    offset: u64,
    /// The database that the last SELECT in the log chose.
    selected: Option<usize>,
    backlog: Option<Backlog>,
    /// Bytes that the AOF has yet to get; `None` while there is no AOF.
    for_aof: Option<Vec<u8>>,
    /// The slowest reader of the backlog, which is not trimmed beyond it.
    needed_from: u64,
}

impl Stream {
    /// An empty log of the history `replid`.
    pub fn new(replid: ReplicationId) -> Self {
        Stream {
            replid,
            replid2: NO_REPLID,
            second_offset: None,
            offset: 0,
            selected: None,
            backlog: None,
            for_aof: None,
            needed_from: u64::MAX,
        }
    }

    pub fn replid(&self) -> &ReplicationId {
        &self.replid
    }

    pub fn replid2(&self) -> &ReplicationId {
        &self.replid2
    }

    /// Up to where the second history is this one's too.
    pub fn second_offset(&self) -> Option<u64> {
        self.second_offset
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn selected(&self) -> Option<usize> {
        self.selected
    }

    pub fn backlog(&self) -> Option<&Backlog> {
        self.backlog.as_ref()
    }

    /// Does anybody read the log? If not, effects need not be recorded.
    pub fn is_read(&self) -> bool {
        self.backlog.is_some() || self.for_aof.is_some()
    }

    // ---- Appending ----

    /// Appends a unit of effects: as a transaction if it holds more than one command.
    pub fn append_unit(&mut self, unit: Unit<'_>) {
        let commands = unit.commands();
        let wrapped = commands.len() > 1;
        let mut bytes = Vec::new();
        for (index, (database, command)) in commands.enumerate() {
            if wrapped && index == 0 {
                append_command(&mut bytes, &[b"MULTI"]);
            }
            if self.selected != Some(database) {
                append_command(&mut bytes, &[b"SELECT", itoa::Buffer::new().format(database).as_bytes()]);
                self.selected = Some(database);
            }
            bytes.extend_from_slice(command);
        }
        if wrapped {
            append_command(&mut bytes, &[b"EXEC"]);
        }
        self.append(&bytes);
    }

    /// Appends a command that belongs to the stream itself: PING, REPLCONF GETACK.
    pub fn append_control(&mut self, args: &[&[u8]]) {
        let mut bytes = Vec::new();
        append_command(&mut bytes, args);
        self.append(&bytes);
    }

    /// Appends the deletion of a key that was gone before the stream went on.
    pub fn append_deletion(&mut self, database: usize, key: &[u8]) {
        if self.selected != Some(database) {
            self.append_control(&[b"SELECT", itoa::Buffer::new().format(database).as_bytes()]);
            self.selected = Some(database);
        }
        self.append_control(&[b"DEL", key]);
    }

    /// Appends bytes received from a primary, unchanged. `selected` is the database that holds after them.
    pub fn append_received(&mut self, bytes: &[u8], selected: Option<usize>) {
        self.append(bytes);
        self.selected = selected;
    }

    /// Takes bytes over that the AOF holds already: while it is being loaded.
    pub fn append_loaded(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        if let Some(backlog) = &mut self.backlog {
            backlog.append(bytes);
            backlog.trim(self.needed_from);
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        if let Some(backlog) = &mut self.backlog {
            backlog.append(bytes);
            backlog.trim(self.needed_from);
        }
        if let Some(for_aof) = &mut self.for_aof {
            for_aof.extend_from_slice(bytes);
        }
    }

    /// The next effect begins with a SELECT: a new reader, or a new file, begins there.
    pub fn forget_selected(&mut self) {
        self.selected = None;
    }

    // ---- Readers ----

    /// Begins to keep the log in memory.
    pub fn start_backlog(&mut self, size: usize) {
        if self.backlog.is_none() {
            self.backlog = Some(Backlog::new(self.offset, size));
        }
    }

    /// Ends that. What was kept may take long to drop.
    pub fn take_backlog(&mut self) -> Option<Backlog> {
        self.backlog.take()
    }

    pub fn resize_backlog(&mut self, size: usize) {
        if let Some(backlog) = &mut self.backlog {
            backlog.resize(size);
            backlog.trim(self.needed_from);
        }
    }

    /// Keeps in memory what a reader at `offset` still needs (`u64::MAX`: no reader).
    pub fn keep_from(&mut self, offset: u64) {
        self.needed_from = offset;
        if let Some(backlog) = &mut self.backlog {
            backlog.trim(offset);
        }
    }

    /// Begins to collect bytes for the AOF.
    pub fn start_aof(&mut self) {
        self.for_aof.get_or_insert_default();
    }

    pub fn stop_aof(&mut self) {
        self.for_aof = None;
    }

    pub fn has_for_aof(&self) -> bool {
        self.for_aof.as_ref().is_some_and(|bytes| !bytes.is_empty())
    }

    /// The bytes that the AOF has yet to get; they are its from now on.
    pub fn take_for_aof(&mut self) -> Vec<u8> {
        self.for_aof.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Can a reader of the history `replid` go on at `offset`, the first byte it lacks?
    pub fn can_continue(&self, replid: &[u8], offset: u64) -> bool {
        let known = replid == self.replid
            || (replid == self.replid2 && self.second_offset.is_some_and(|second| offset <= second));
        let kept = self.backlog.as_ref().is_some_and(|backlog| {
            offset >= backlog.first_offset() && offset <= backlog.first_offset() + backlog.len() as u64
        });
        known && kept
    }

    // ---- Histories ----

    /// Begins a history of its own that continues the present one: a replica was promoted.
    pub fn shift_replid(&mut self, new: ReplicationId) {
        self.replid2 = self.replid;
        self.second_offset = Some(self.offset);
        self.replid = new;
    }

    /// Begins an unrelated history.
    pub fn change_replid(&mut self, new: ReplicationId) {
        self.replid = new;
        self.clear_second();
    }

    pub fn clear_second(&mut self) {
        self.replid2 = NO_REPLID;
        self.second_offset = None;
    }

    /// The primary said by +CONTINUE that its history is called `new` now.
    pub fn continue_as(&mut self, new: ReplicationId) {
        if new != self.replid {
            self.shift_replid(new);
        }
    }

    /// Takes over a history at an offset: after a full sync, or from a file.
    pub fn adopt(&mut self, replid: ReplicationId, offset: u64) {
        self.replid = replid;
        self.clear_second();
        self.offset = offset;
        self.selected = None;
        if let Some(backlog) = &mut self.backlog {
            *backlog = Backlog::new(offset, backlog.size());
        }
        if let Some(for_aof) = &mut self.for_aof {
            for_aof.clear();
        }
    }

    /// Takes over a second history from a file.
    pub fn set_second(&mut self, replid2: ReplicationId, second_offset: Option<u64>) {
        self.replid2 = replid2;
        self.second_offset = second_offset;
    }
}
