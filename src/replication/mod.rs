//! Replication as state machines without I/O: `(state, event, now) -> actions`.
//!
//! [`Replication`] holds everything a server knows about being a primary or a replica: the identity of its
//! history, the replicas attached to it, and the link to its own primary. Events come in as method calls,
//! together with a [`Turn`] that carries the time, the position of the stream and a source of fresh replication
//! ids; what has to be done goes out as [`Action`]s.
//!
//! It must not know sockets, clocks, files, random number generators, keys or commands.
//!
//! Invariants:
//! - The driver performs the actions of a turn in order, and before the next event: a snapshot that an action
//!   asks for is a snapshot of the very position that the turn saw.
//! - A position counts the bytes of the stream that lie before it; the wire counts from 1, so "the first byte I
//!   want" is a position plus one. Only this folder's parsing and printing knows the second form.
//! - Two servers with the same replication id and the same position have the same bytes behind them.

mod action;
mod attached;
mod handshake;
mod history;
pub mod info;
mod line;
mod moved;
mod output_limit;
mod primary;
mod rdb_channel;
mod rdb_clients;
mod replica;
mod roles;
mod snapshot_reader;
pub mod wait;

pub(crate) use action::GETACK_RECORD;
pub use action::{Action, ConnectionId, Level, Role, StreamView, TransferId, Turn};
pub use attached::{AttachedReplica, ReplicaState};
pub(crate) use handshake::integer;
pub use handshake::{Announced, ReplconfReply, SnapshotFilter};
pub use history::{History, PreviousHistory, ReplicationId};
pub use output_limit::OutputLimit;
pub use primary::{Accepted, Framing, Primary, PrimarySettings, SyncStatistics};
pub use replica::{Attempt, Link, LinkSettings, LinkState, LoadStrategy, Meanwhile, PsyncOutcome};
pub use roles::{FailoverPhase, ReplicaOf, Replication, Settings, SyncRequest};

/// The address of a server, as it was given or announced: a host name or an IP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Address { host: host.into(), port }
    }

    /// Whether both name the same server, letter by letter but without regard to case.
    pub fn is(&self, host: &str, port: i64) -> bool {
        self.host.eq_ignore_ascii_case(host) && i64::from(self.port) == port
    }
}

impl std::fmt::Display for Address {
    /// `host:port`, the form of the log: without brackets around an IPv6 host.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
