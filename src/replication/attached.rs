//! One replica as its primary sees it: what it announced, how far its sync is, what it acknowledged.
//!
//! It does not know what is done about that. Invariant: a replica's positions come by its own word, and are never beyond the stream's end.

use super::action::ConnectionId;
use super::handshake::{Announced, SnapshotFilter};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaState {
    /// Waits for a snapshot to begin.
    WaitingForSnapshot,
    /// Its snapshot is being streamed or prepared; the stream goes on from `position`.
    InTransfer {
        position: u64,
    },
    /// A prepared snapshot is being sent.
    SendingBulk {
        position: u64,
    },
    /// Has everything it wanted: it asked for the snapshot only.
    Transmitted,
    /// Has the snapshot; its stream starts at `position` with its first acknowledgement.
    AwaitingAck {
        position: u64,
    },
    /// Gets the stream while its snapshot comes on another connection.
    BackgroundTransfer,
    Online,
}

impl ReplicaState {
    /// The name in INFO.
    pub fn name(self) -> &'static str {
        match self {
            ReplicaState::WaitingForSnapshot | ReplicaState::InTransfer { .. } => "wait_bgsave",
            ReplicaState::SendingBulk { .. } => "send_bulk",
            ReplicaState::Transmitted => "rdb_transmitted",
            ReplicaState::BackgroundTransfer => "bg_transfer",
            ReplicaState::AwaitingAck { .. } | ReplicaState::Online => "online",
        }
    }

    pub fn is_online(self) -> bool {
        matches!(self, ReplicaState::AwaitingAck { .. } | ReplicaState::Online)
    }
}

/// One connection that is a replica.
#[derive(Debug, Clone)]
pub struct AttachedReplica {
    pub connection: ConnectionId,
    pub announced: Announced,
    pub state: ReplicaState,
    /// The position up to which it has applied the stream, by its own word.
    pub acknowledged: u64,
    /// The position up to which its AOF is on its disk, by its own word.
    pub fsynced: Option<u64>,
    pub(super) peer_ip: String,
    /// Came with SYNC: does not acknowledge.
    pub(super) plain_sync: bool,
    pub(super) last_ack_ms: u64,
    pub(super) since_ms: u64,
    pub(super) last_progress_ms: u64,
    pub(super) last_newline_ms: u64,
    pub(super) sent: u64,
    pub(super) over_soft_limit_since_ms: Option<u64>,
    pub(super) lied: bool,
    /// Is being closed: nothing is kept for it.
    pub(super) closing: bool,
}

impl AttachedReplica {
    /// What kind of connection it is, in INFO.
    pub fn kind(&self) -> &'static str {
        match self.state {
            _ if self.announced.rdb_channel => "rdb-channel",
            ReplicaState::BackgroundTransfer => "main-channel",
            _ => "replica",
        }
    }

    /// Snapshots can be shared by those who want the same.
    pub(super) fn wants(&self) -> (SnapshotFilter, bool) {
        (self.announced.filter, self.announced.rdb_channel)
    }

    /// The address others can reach it at, as far as it is known.
    pub fn host(&self) -> &str {
        self.announced.ip_address.as_deref().unwrap_or(&self.peer_ip)
    }

    /// Seconds since its last acknowledgement; 0 before it is online.
    pub fn lag_seconds(&self, now_ms: u64) -> u64 {
        if self.state.is_online() { now_ms.saturating_sub(self.last_ack_ms) / 1000 } else { 0 }
    }

    pub(super) fn name(&self) -> String {
        replica_name(self.host(), self.announced.listening_port)
    }

    /// The first position it still needs bytes after.
    pub(super) fn needs_from(&self) -> Option<u64> {
        match self.state {
            _ if self.closing || self.announced.rdb_only => None,
            ReplicaState::WaitingForSnapshot | ReplicaState::Transmitted => None,
            ReplicaState::InTransfer { position }
            | ReplicaState::SendingBulk { position }
            | ReplicaState::AwaitingAck { position } => Some(position),
            ReplicaState::BackgroundTransfer | ReplicaState::Online => Some(self.sent),
        }
    }
}

fn replica_name(host: &str, port: i64) -> String {
    match port {
        0 => format!("{host}:<unknown-replica-port>"),
        port if host.contains(':') => format!("[{host}]:{port}"),
        port => format!("{host}:{port}"),
    }
}
