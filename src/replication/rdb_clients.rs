//! Snapshots that went out, or go, on connections of their own: the stream behind each waits for the main connection of the
//! same replica.
//!
//! Knows positions and time, nothing of how snapshots are sent. Invariant: an entry leaves when its main connection came,
//! when its snapshot broke off, when its time of grace is over, or when too much of the stream is kept for it.

use super::action::{ConnectionId, Turn};
use super::output_limit::OutputLimit;

#[derive(Debug)]
struct RdbClient {
    connection: ConnectionId,
    name: String,
    position: u64,
    /// The stream has grown since, so there is something to keep.
    tracks: bool,
    sent: bool,
    gone_since_ms: Option<u64>,
    over_soft_limit_since_ms: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct RdbClients(Vec<RdbClient>);

impl RdbClients {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The connections by which replicas name their snapshots.
    pub fn connections(&self) -> Vec<ConnectionId> {
        self.0.iter().map(|client| client.connection).collect()
    }

    /// The positions after which the stream is needed.
    pub fn positions(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|client| client.position)
    }

    /// A snapshot of `position` begins to go out.
    pub fn add(&mut self, connection: ConnectionId, name: String, position: u64, turn: &mut Turn<'_>) {
        let tracks = turn.stream.kept_from.is_some_and(|kept_from| kept_from < position);
        turn.debug(format!(
            "Add rdb replica {name} to waiting psync, with cid {connection}, {}",
            if tracks { "tracking repl-backlog tail" } else { "no repl-backlog to track" }
        ));
        self.0.push(RdbClient {
            connection,
            name,
            position,
            tracks,
            sent: false,
            gone_since_ms: None,
            over_soft_limit_since_ms: None,
        });
    }

    /// All of the snapshot went out.
    pub fn sent(&mut self, connection: ConnectionId) {
        for client in self.0.iter_mut().filter(|client| client.connection == connection) {
            client.sent = true;
        }
    }

    /// The main connection goes on behind the snapshot.
    pub fn joined(&mut self, connection: Option<ConnectionId>) {
        self.0.retain(|client| Some(client.connection) != connection);
    }

    /// The snapshot's connection is closed.
    pub fn closed(&mut self, connection: ConnectionId, grace_ms: u64, turn: &mut Turn<'_>) {
        for client in self.0.iter_mut().filter(|client| client.connection == connection) {
            client.gone_since_ms = Some(turn.now_ms);
            let seconds = grace_ms / 1000;
            turn.debug(format!(
                "Postpone RDB client id={connection} ({}) free for {seconds} seconds",
                client.name
            ));
        }
        // Half a snapshot needs no stream behind it.
        self.0.retain(|client| client.sent || client.gone_since_ms.is_none());
    }

    /// Takes out those for whom too much is kept: their connections and names.
    pub fn take_over_limit(&mut self, limit: &OutputLimit, turn: &Turn<'_>) -> Vec<(ConnectionId, String)> {
        let mut taken = Vec::new();
        self.0.retain_mut(|client| {
            let pending = turn.stream.end.saturating_sub(client.position);
            let exceeded = limit.is_exceeded(pending, &mut client.over_soft_limit_since_ms, turn.now_ms);
            if exceeded {
                taken.push((client.connection, std::mem::take(&mut client.name)));
            }
            !exceeded
        });
        taken
    }

    /// Whatever comes with time.
    pub fn tick(&mut self, grace_ms: u64, turn: &mut Turn<'_>) {
        self.0.retain_mut(|client| {
            let connection = client.connection;
            if !client.tracks && turn.stream.end > client.position {
                client.tracks = true;
                turn.debug(format!("Attach replica rdb client {connection} to the backlog"));
            }
            let gone_ms = client.gone_since_ms.map_or(0, |since_ms| turn.now_ms.saturating_sub(since_ms));
            let late = gone_ms > grace_ms;
            if late {
                turn.notice(format!(
                    "Replica main channel failed to establish PSYNC within the grace period ({} seconds). Freeing RDB \
                     client {connection}.",
                    gone_ms / 1000
                ));
            }
            !late
        });
    }
}
