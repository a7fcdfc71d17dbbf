//! What comes in with every event and what goes out.
//!
//! Knows the vocabulary only, no decision.

use super::{Address, Attempt, Framing, Meanwhile, ReplicationId, SnapshotFilter, wait};
use bytes::Bytes;

/// Names a client connection for its whole life; the client id.
pub type ConnectionId = u64;

/// Names one full sync: one snapshot, sent to one group of replicas.
pub type TransferId = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Debug,
    Notice,
    Warning,
}

/// What a server is, and is again after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica(Address),
    /// A primary that asked this replica to take its place and does not know yet whether it did. Forgetting that
    /// over a restart would leave two replicas of each other, or two primaries.
    HandingOver(Address),
}

/// Where this server's stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamView {
    /// Bytes of the stream so far: whole commands and transactions, applied to the dataset. `master_repl_offset`.
    pub end: u64,
    /// The bytes after this position up to `end` can be sent again; `None` while no backlog is kept.
    pub kept_from: Option<u64>,
    /// The position up to which the AOF is on the disk; `None` without an AOF.
    pub fsynced: Option<u64>,
    /// The database that the stream's next command goes to if it does not say.
    pub database: usize,
}

/// One event's surroundings, and the list that its actions are added to.
pub struct Turn<'a> {
    /// Milliseconds of a clock that never goes back.
    pub now_ms: u64,
    /// The stream before the first action; kept in step with the actions that change it.
    pub stream: StreamView,
    /// Gives a replication id that nobody has had before.
    pub fresh_id: &'a mut dyn FnMut() -> ReplicationId,
    pub actions: &'a mut Vec<Action>,
}

impl Turn<'_> {
    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(crate) fn notice(&mut self, text: impl Into<String>) {
        self.act(Action::Log(Level::Notice, text.into()));
    }

    pub(super) fn debug(&mut self, text: impl Into<String>) {
        self.act(Action::Log(Level::Debug, text.into()));
    }

    pub(super) fn warning(&mut self, text: impl Into<String>) {
        self.act(Action::Log(Level::Warning, text.into()));
    }

    /// Appends a record that has no effect on data, and moves the view along.
    pub(crate) fn append(&mut self, record: &'static [u8]) {
        self.stream.end = self.stream.end.saturating_add(record.len() as u64);
        self.act(Action::AppendToStream(record));
    }
}

/// The PING that a primary puts into the stream.
pub const PING_RECORD: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// The record that asks every replica for an acknowledgement.
pub const GETACK_RECORD: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// What the driver has to do, in this order and before the next event.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Log(Level, String),

    // To the clients that are replicas, or want to be.
    /// Bytes that are no part of the stream, sent before anything of it.
    Send {
        connection: ConnectionId,
        bytes: Vec<u8>,
    },
    /// From now on this connection receives the stream's bytes after `position`, and nothing else.
    StreamFrom {
        connection: ConnectionId,
        position: u64,
    },
    /// Once the stream's bytes up to `position` are sent, send these and close.
    SendAfterStream {
        connection: ConnectionId,
        position: u64,
        bytes: Vec<u8>,
    },
    Close {
        connection: ConnectionId,
    },
    /// The same, of one that fell too far behind.
    CloseOverLimit {
        connection: ConnectionId,
    },
    /// Take a snapshot now, and send it to `connections` framed as told (`Framing::EofMark`), or write it to a
    /// file and report its length with `transfer_prepared` (`Framing::Length`).
    StartTransfer {
        transfer: TransferId,
        framing: Framing,
        filter: SnapshotFilter,
        connections: Vec<ConnectionId>,
    },
    /// Send the prepared snapshot's bytes; report `snapshot_sent` when the last one is out.
    SendPrepared {
        connection: ConnectionId,
        transfer: TransferId,
    },
    /// Nobody waits for this snapshot any more (or it is sent): release what it holds.
    EndTransfer {
        transfer: TransferId,
    },
    /// A client waiting in WAIT or WAITAOF gets its answer.
    FinishWait {
        connection: ConnectionId,
        reply: wait::WaitReply,
    },

    // To the stream.
    AppendToStream(&'static [u8]),
    /// Select the database again before the next command: whoever joins here has none selected.
    ReselectDatabase,
    /// Start keeping the stream's bytes from its end on.
    CreateBacklog,
    FreeBacklog,

    // To the link with the primary.
    Connect {
        attempt: Attempt,
        address: Address,
    },
    /// Close the socket; drop what was received but not applied, a half transaction included.
    Disconnect {
        attempt: Attempt,
    },
    SendToPrimary {
        attempt: Attempt,
        bytes: Vec<u8>,
    },
    /// A snapshot begins to arrive; `length` in bytes unless it ends with a mark.
    BeginLoad {
        attempt: Attempt,
        length: Option<u64>,
        meanwhile: Meanwhile,
    },
    FeedLoader {
        attempt: Attempt,
        bytes: Bytes,
    },
    /// No more bytes come; report `loaded`.
    FinishLoad {
        attempt: Attempt,
    },
    /// Whatever was loaded, in part or whole, is not wanted.
    AbortLoad {
        attempt: Attempt,
    },
    /// A point at which tests may stop the process (DEBUG PAUSE-AFTER-FORK).
    PausePoint,
    /// Empty the dataset and forget the stream's bytes up to its end, since a load replaces both
    /// (`LoadStrategy::FlushFirst`). The loader may have begun.
    FlushDataset,
    /// Swap in the loaded dataset. The stream restarts, empty, at `position` and keeps its bytes from there.
    ReplaceDataset {
        position: u64,
    },
    /// The dataset stays as [`FlushDataset`](Action::FlushDataset) left it, and what was appended since: no load replaces it any
    /// more. What is on the disk is another one.
    KeepFlushed,
    /// Bytes of the primary's stream: append them unchanged and apply them.
    ApplyStream {
        attempt: Attempt,
        bytes: Bytes,
    },

    // To the server.
    /// Written to the state file; writes are refused from now on if it is a replica.
    RoleChanged {
        role: Role,
        /// By a failover: the role is to outlive a restart.
        by_failover: bool,
    },
    /// Clients blocked on keys get UNBLOCKED and are closed; those held by the pause stay.
    UnblockForDemotion,
    /// Undo the write script that is running, so that a failover need not wait for it.
    RollBackWriteScript,
    /// The pause became weaker: look again at the commands that it holds.
    ReleasePaused,
}

impl Action {
    /// Does what the files hold have no part in the dataset after this?
    pub fn replaces_dataset(&self) -> bool {
        matches!(self, Action::FlushDataset | Action::ReplaceDataset { .. } | Action::KeepFlushed)
    }
}
