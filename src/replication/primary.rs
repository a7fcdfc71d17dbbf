//! What a server knows of the replicas attached to it: their handshake, full sync, acknowledgements and timeouts.
//!
//! Serves a primary and, for its sub-replicas, a replica alike. Knows nothing of the link to its own primary, nor
//! of how snapshots and stream bytes are made. Invariants: a connection is in the list of replicas from the moment
//! its SYNC or PSYNC was accepted until it is closed; at most one full sync runs at a time.

use super::action::{Action, ConnectionId, GETACK_RECORD, PING_RECORD, TransferId, Turn};
use super::attached::{AttachedReplica, ReplicaState};
use super::handshake::{Announced, Offers, Parsed, ReplconfReply, SnapshotFilter, parse};
use super::history::{History, ReplicationId};
use super::moved::Moved;
use super::output_limit::OutputLimit;
use super::rdb_clients::RdbClients;
use super::wait::{Acknowledged, WaitReply, WaitRequest, Waiters, answer};
use crate::protocol::ErrorReply;
use std::collections::BTreeMap;

/// The directives that matter here; times in milliseconds.
#[derive(Debug, Clone)]
pub struct PrimarySettings {
    /// `repl-diskless-sync`: stream snapshots rather than prepare them in a file.
    pub diskless_sync: bool,
    /// `dual-channel-replication-enabled`: offer snapshots on connections of their own.
    pub dual_channel: bool,
    /// How long a snapshot that was sent on a connection of its own waits for the replica's main connection.
    pub rdb_client_grace_ms: u64,
    /// `repl-diskless-sync-delay`: how long the first replica waits for others to join its snapshot.
    pub diskless_sync_delay_ms: u64,
    /// `repl-diskless-sync-max-replicas`: start at once with so many; 0 is no limit.
    pub diskless_sync_max_replicas: usize,
    /// `repl-ping-replica-period`.
    pub ping_period_ms: u64,
    /// `repl-timeout`.
    pub timeout_ms: u64,
    /// `repl-backlog-ttl`; 0 is never. Pass 0 while the stream's bytes are on the disk anyway.
    pub backlog_ttl_ms: u64,
    /// `min-replicas-to-write`; 0 is off.
    pub min_replicas_to_write: usize,
    /// `min-replicas-max-lag`, in seconds; 0 is off.
    pub min_replicas_max_lag_seconds: u64,
    /// `client-output-buffer-limit replica`.
    pub output_limit: OutputLimit,
}

impl Default for PrimarySettings {
    fn default() -> Self {
        PrimarySettings {
            diskless_sync: true,
            dual_channel: false,
            rdb_client_grace_ms: 60_000,
            diskless_sync_delay_ms: 5_000,
            diskless_sync_max_replicas: 0,
            ping_period_ms: 10_000,
            timeout_ms: 60_000,
            backlog_ttl_ms: 3_600_000,
            min_replicas_to_write: 0,
            min_replicas_max_lag_seconds: 10,
            output_limit: OutputLimit { hard_bytes: 256 << 20, soft_bytes: 64 << 20, soft_ms: 60_000 },
        }
    }
}

/// How a snapshot's end is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `$EOF:<mark>`, the bytes, the mark again.
    EofMark(ReplicationId),
    /// `$<length>`, the bytes.
    Length,
}

/// Counters of INFO stats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncStatistics {
    pub full: u64,
    pub partial_ok: u64,
    pub partial_err: u64,
}

/// The running full sync.
#[derive(Debug)]
struct Transfer {
    id: TransferId,
    framing: Framing,
    wants: (SnapshotFilter, bool),
    position: u64,
    /// The length is not known yet, so others can still join.
    preparing: bool,
    /// Replicas that have all of it.
    served: usize,
}

/// How a SYNC or PSYNC goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// The connection is a replica's.
    Attached,
    /// The replica is to fetch a snapshot on another connection, and come back. It is told so by a status reply.
    DualChannel,
}

impl Accepted {
    pub const DUAL_CHANNEL_REPLY: &'static str = "DUALCHANNELSYNC";
}

/// Who asks for a sync, and what for.
pub(super) struct Request<'a> {
    pub connection: ConnectionId,
    pub peer_ip: &'a str,
    /// Replication id and first byte wanted (counted from 1) of a PSYNC; `None` for SYNC.
    pub psync: Option<(&'a [u8], &'a [u8])>,
}

/// All replicas attached to this server.
#[derive(Debug)]
pub struct Primary {
    pub settings: PrimarySettings,
    handshakes: BTreeMap<ConnectionId, Announced>,
    /// In the order in which they came.
    replicas: Vec<AttachedReplica>,
    transfer: Option<Transfer>,
    rdb_clients: RdbClients,
    last_transfer: TransferId,
    waiters: Waiters,
    acks_requested: bool,
    last_ping_ms: u64,
    no_replicas_since_ms: u64,
    statistics: SyncStatistics,
    /// The role went elsewhere, and not all replicas know it.
    moved: Option<Moved>,
}

impl Primary {
    pub fn new(settings: PrimarySettings, now_ms: u64) -> Self {
        Primary {
            settings,
            handshakes: BTreeMap::new(),
            replicas: Vec::new(),
            transfer: None,
            rdb_clients: RdbClients::default(),
            last_transfer: 0,
            waiters: Waiters::default(),
            acks_requested: false,
            last_ping_ms: now_ms,
            no_replicas_since_ms: now_ms,
            statistics: SyncStatistics::default(),
            moved: None,
        }
    }

    pub fn replicas(&self) -> &[AttachedReplica] {
        &self.replicas
    }

    pub fn statistics(&self) -> SyncStatistics {
        self.statistics
    }

    /// CONFIG RESETSTAT.
    pub(super) fn reset_statistics(&mut self) {
        self.statistics = SyncStatistics::default();
    }

    pub fn is_replica(&self, connection: ConnectionId) -> bool {
        self.find(connection).is_some()
    }

    fn find(&self, connection: ConnectionId) -> Option<&AttachedReplica> {
        self.replicas.iter().find(|replica| replica.connection == connection)
    }

    fn find_mut(&mut self, connection: ConnectionId) -> Option<&mut AttachedReplica> {
        self.replicas.iter_mut().find(|replica| replica.connection == connection)
    }

    /// The position after which some replica still needs the stream's bytes; the stream keeps them.
    pub fn oldest_needed(&self) -> Option<u64> {
        let waiting = self.rdb_clients.positions();
        self.replicas.iter().filter_map(AttachedReplica::needs_from).chain(waiting).min()
    }

    /// Snapshots on connections of their own whose replica has not asked for the stream behind them yet.
    pub fn waiting_for_psync(&self) -> usize {
        self.rdb_clients.len()
    }

    /// Whether a snapshot for replicas is being written.
    pub fn is_saving(&self) -> bool {
        let saving = |transfer: &Transfer| transfer.preparing || transfer.framing != Framing::Length;
        self.transfer.as_ref().is_some_and(saving)
    }

    /// The end of the stream at which the first replica is too far behind; the limit is looked at by then.
    pub fn over_limit_at(&self) -> u64 {
        match (self.settings.output_limit.hard_bytes, self.oldest_needed()) {
            (0, _) | (_, None) => u64::MAX,
            (hard_bytes, Some(oldest)) => oldest.saturating_add(hard_bytes),
        }
    }

    /// Replicas that are online and acknowledged lately (`min-replicas-max-lag`).
    pub fn good_replicas(&self, now_ms: u64) -> usize {
        let max = self.settings.min_replicas_max_lag_seconds;
        self.replicas.iter().filter(|r| r.state.is_online() && r.lag_seconds(now_ms) <= max).count()
    }

    /// Whether `min-replicas-to-write` and `min-replicas-max-lag` are both in force.
    pub fn counts_good_replicas(&self) -> bool {
        self.settings.min_replicas_to_write > 0 && self.settings.min_replicas_max_lag_seconds > 0
    }

    /// Refuses a write of a client while too few replicas keep up.
    pub fn check_good_replicas(&self, now_ms: u64) -> Result<(), ErrorReply> {
        if self.counts_good_replicas() && self.good_replicas(now_ms) < self.settings.min_replicas_to_write {
            return Err(ErrorReply::new("NOREPLICAS Not enough good replicas to write."));
        }
        Ok(())
    }

    /// A REPLCONF of this connection: the arguments after the name.
    pub(super) fn replconf(
        &mut self,
        connection: ConnectionId,
        arguments: &[&[u8]],
        turn: &mut Turn<'_>,
    ) -> ReplconfReply {
        let attached = self.replicas.iter_mut().find(|replica| replica.connection == connection);
        let announced = match attached {
            Some(replica) => &mut replica.announced,
            None => self.handshakes.entry(connection).or_default(),
        };
        let rdb_clients = self.rdb_clients.connections();
        let dual_channel = self.settings.dual_channel && self.settings.diskless_sync;
        match parse(announced, arguments, &Offers { dual_channel, rdb_clients: &rdb_clients }) {
            Err(error) => ReplconfReply::Error(error),
            Ok(Parsed::Announcement) => ReplconfReply::Ok,
            Ok(Parsed::GetAck) => ReplconfReply::SendAck,
            Ok(Parsed::Ack { offset, fsynced }) => {
                self.acknowledged(connection, offset, fsynced, turn);
                ReplconfReply::Silent
            }
        }
    }

    fn acknowledged(
        &mut self,
        connection: ConnectionId,
        offset: Option<i64>,
        fsynced: Option<i64>,
        turn: &mut Turn<'_>,
    ) {
        let Some(replica) = self.replicas.iter_mut().find(|replica| replica.connection == connection) else {
            return;
        };
        let position = |offset: i64| u64::try_from(offset).ok();
        let Some(offset) = offset.and_then(position) else { return };
        let fsynced = fsynced.and_then(position);
        let end = turn.stream.end;
        if offset > end || fsynced.is_some_and(|fsynced| fsynced > end) {
            // Believing it would let WAIT and FAILOVER count bytes that nobody has.
            if !std::mem::replace(&mut replica.lied, true) {
                let name = replica.name();
                turn.warning(format!(
                    "Replica {name} acknowledges offset {offset}, but this stream ends at {end}: not counted."
                ));
            }
            return;
        }
        replica.acknowledged = replica.acknowledged.max(offset);
        replica.fsynced = replica.fsynced.max(fsynced);
        replica.last_ack_ms = turn.now_ms;
        match replica.state {
            ReplicaState::AwaitingAck { position } => {
                replica.state = ReplicaState::Online;
                replica.sent = position;
                turn.act(Action::StreamFrom { connection, position });
            }
            ReplicaState::BackgroundTransfer => {
                replica.state = ReplicaState::Online;
                let name = replica.name();
                turn.notice(format!("Synchronization with replica {name} succeeded"));
            }
            _ => {}
        }
        if replica.state == ReplicaState::Online
            && let Some(moved) = &mut self.moved
            && moved.finds(replica)
        {
            turn.act(Action::SendAfterStream { connection, position: end, bytes: moved.line() });
            self.replicas.retain(|replica| replica.connection != connection);
        }
        self.finish_waits(turn);
    }

    /// A SYNC or PSYNC that the server's role allows.
    pub(super) fn sync(
        &mut self,
        request: &Request<'_>,
        history: &mut History,
        turn: &mut Turn<'_>,
    ) -> Result<Accepted, ErrorReply> {
        let announced = self.handshakes.get(&request.connection).cloned().unwrap_or_default();
        if !announced.filter.is_everything() && !announced.eof {
            return Err(ErrorReply::new("ERR Filtered replica requires EOF capability"));
        }
        let replica = AttachedReplica {
            connection: request.connection,
            announced,
            state: ReplicaState::WaitingForSnapshot,
            acknowledged: 0,
            fsynced: None,
            peer_ip: request.peer_ip.to_owned(),
            plain_sync: request.psync.is_none(),
            last_ack_ms: turn.now_ms,
            since_ms: turn.now_ms,
            last_progress_ms: turn.now_ms,
            last_newline_ms: turn.now_ms,
            sent: 0,
            over_soft_limit_since_ms: None,
            lied: false,
            closing: false,
        };
        let name = replica.name();
        turn.notice(format!("Replica {name} asks for synchronization"));
        if let Some((id, offset)) = request.psync {
            let Some(offset) = super::handshake::integer(offset) else {
                turn.warning(format!("Replica {name} asks for synchronization but with a wrong offset"));
                return Err(ErrorReply::NOT_AN_INTEGER);
            };
            if let Some(moved) = &mut self.moved
                && history.is_previous_id(id)
            {
                // It was cut off when the others were told.
                moved.leave_behind(&replica);
            }
            match continuation(id, offset, &name, history, turn) {
                Some(position) => {
                    self.statistics.partial_ok += 1;
                    self.continue_stream(replica, position, history, turn);
                    return Ok(Accepted::Attached);
                }
                // `?` asks for a full sync on purpose: no attempt has failed.
                None if id.first() == Some(&b'?') => {}
                None => self.statistics.partial_err += 1,
            }
            if replica.announced.dual_channel {
                turn.notice(format!(
                    "Replica {name} is capable of dual channel synchronization, and partial sync isn't possible. Full \
                     sync will continue with dedicated RDB channel."
                ));
                return Ok(Accepted::DualChannel);
            }
        }
        self.statistics.full += 1;
        self.handshakes.remove(&request.connection);
        self.replicas.push(replica);
        if self.replicas.len() == 1 && turn.stream.kept_from.is_none() {
            self.begin_backlog(history, turn);
        }
        self.place_in_transfer(request.connection, history, turn);
        Ok(Accepted::Attached)
    }

    fn begin_backlog(&mut self, history: &mut History, turn: &mut Turn<'_>) {
        // Bytes went by unrecorded: no position of the old names can be trusted.
        history.renew((turn.fresh_id)());
        turn.stream.kept_from = Some(turn.stream.end);
        turn.act(Action::CreateBacklog);
        turn.notice(format!(
            "Replication backlog created, my new replication IDs are '{}' and '{}'",
            history.id(),
            history.previous_id_text()
        ));
    }

    fn continue_stream(
        &mut self,
        mut replica: AttachedReplica,
        position: u64,
        history: &History,
        turn: &mut Turn<'_>,
    ) {
        let connection = replica.connection;
        let bytes = if replica.announced.psync2 {
            format!("+CONTINUE {}\r\n", history.id()).into_bytes()
        } else {
            b"+CONTINUE\r\n".to_vec()
        };
        turn.act(Action::Send { connection, bytes });
        turn.act(Action::StreamFrom { connection, position });
        turn.notice(format!(
            "Partial resynchronization request from {} accepted. Sending {} bytes of backlog starting from offset {}.",
            replica.name(),
            turn.stream.end.saturating_sub(position),
            u128::from(position) + 1
        ));
        let rdb_client = replica.announced.rdb_client;
        replica.state =
            if rdb_client.is_some() { ReplicaState::BackgroundTransfer } else { ReplicaState::Online };
        if rdb_client.is_none() {
            replica.acknowledged = position;
        }
        replica.sent = position;
        self.rdb_clients.joined(rdb_client);
        self.handshakes.remove(&connection);
        self.replicas.push(replica);
        self.finish_waits(turn);
    }

    /// Joins the full sync that is being prepared, or waits for one.
    fn place_in_transfer(&mut self, connection: ConnectionId, history: &History, turn: &mut Turn<'_>) {
        let Some(replica) = self.find(connection) else { return };
        let (wants, eof) = (replica.wants(), replica.announced.eof);
        match &self.transfer {
            Some(transfer) if transfer.preparing && transfer.wants == wants => {
                let position = transfer.position;
                self.enter_transfer(connection, position, history, turn);
                turn.notice("Waiting for end of BGSAVE for SYNC");
            }
            Some(Transfer { framing: Framing::Length, .. }) => {
                turn.notice(
                    "Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC",
                );
            }
            Some(_) => turn.notice("Current BGSAVE has socket target. Waiting for next BGSAVE for SYNC"),
            None => {
                let settings = &self.settings;
                if settings.diskless_sync && eof && settings.diskless_sync_delay_ms > 0 {
                    turn.notice("Delay next BGSAVE for diskless SYNC");
                    self.start_pending_transfer(history, turn);
                } else {
                    self.start_transfer(wants, history, turn);
                }
            }
        }
    }

    fn enter_transfer(
        &mut self,
        connection: ConnectionId,
        position: u64,
        history: &History,
        turn: &mut Turn<'_>,
    ) {
        let Some(replica) = self.find_mut(connection) else { return };
        replica.state = ReplicaState::InTransfer { position };
        replica.last_progress_ms = turn.now_ms;
        if replica.announced.rdb_channel {
            let name = replica.name();
            self.await_psync(connection, name, position, history, turn);
        } else if !replica.plain_sync {
            let bytes = format!("+FULLRESYNC {} {position}\r\n", history.id()).into_bytes();
            turn.act(Action::Send { connection, bytes });
        }
    }

    /// Tells a connection that takes a snapshot only where the stream goes on behind it, and keeps the stream from there.
    fn await_psync(
        &mut self,
        connection: ConnectionId,
        name: String,
        position: u64,
        history: &History,
        turn: &mut Turn<'_>,
    ) {
        turn.notice(format!(
            "Sending to replica {name} RDB end offset {position} and client-id {connection}"
        ));
        let (id, database) = (history.id(), turn.stream.database);
        let bytes = format!("$ENDOFF:{position} {id} {database} {connection}\r\n").into_bytes();
        turn.act(Action::Send { connection, bytes });
        self.rdb_clients.add(connection, name, position, turn);
    }

    /// Starts the next full sync if its replicas have waited for company long enough.
    fn start_pending_transfer(&mut self, history: &History, turn: &mut Turn<'_>) {
        if self.transfer.is_some() {
            return;
        }
        let waiting = |replica: &&AttachedReplica| replica.state == ReplicaState::WaitingForSnapshot;
        let Some(wants) = self.replicas.iter().find(waiting).map(AttachedReplica::wants) else { return };
        let group = self.replicas.iter().filter(waiting).filter(|replica| replica.wants() == wants);
        let longest_ms = group.clone().map(|r| turn.now_ms.saturating_sub(r.since_ms)).max().unwrap_or(0);
        let full = self.settings.diskless_sync_max_replicas;
        let enough = full > 0 && group.count() >= full;
        if !self.settings.diskless_sync || enough || longest_ms >= self.settings.diskless_sync_delay_ms {
            self.start_transfer(wants, history, turn);
        }
    }

    fn start_transfer(&mut self, wants: (SnapshotFilter, bool), history: &History, turn: &mut Turn<'_>) {
        let (filter, by_channel) = wants;
        let group: Vec<_> = self
            .replicas
            .iter()
            .filter(|r| r.state == ReplicaState::WaitingForSnapshot && r.wants() == wants)
            .map(|r| (r.connection, r.announced.eof))
            .collect();
        if group.is_empty() {
            return;
        }
        // One framing for all: the mark only if each of them understands it.
        let marked = group.iter().all(|(_, eof)| *eof)
            && (self.settings.diskless_sync || !filter.is_everything() || by_channel);
        let framing = if marked { Framing::EofMark((turn.fresh_id)()) } else { Framing::Length };
        let target = if marked { "replicas sockets" } else { "disk" };
        let way = if by_channel { "dual-channel" } else { "normal sync" };
        turn.notice(format!("Starting BGSAVE for SYNC with target: {target} using: {way}"));
        self.last_transfer += 1;
        let position = turn.stream.end;
        let transfer = self.last_transfer;
        self.transfer =
            Some(Transfer { id: transfer, framing, wants, position, preparing: !marked, served: 0 });
        let connections: Vec<ConnectionId> = group.into_iter().map(|(connection, _)| connection).collect();
        for &connection in &connections {
            self.enter_transfer(connection, position, history, turn);
        }
        turn.act(Action::ReselectDatabase);
        turn.act(Action::StartTransfer { transfer, framing, filter, connections });
    }

    /// A snapshot with `Framing::Length` is ready, `length` bytes long.
    pub(super) fn transfer_prepared(&mut self, id: TransferId, length: u64, turn: &mut Turn<'_>) {
        match &mut self.transfer {
            Some(transfer) if transfer.id == id && transfer.preparing => transfer.preparing = false,
            _ => return,
        }
        for replica in &mut self.replicas {
            let ReplicaState::InTransfer { position } = replica.state else { continue };
            replica.state = ReplicaState::SendingBulk { position };
            replica.last_progress_ms = turn.now_ms;
            let connection = replica.connection;
            turn.act(Action::Send { connection, bytes: format!("${length}\r\n").into_bytes() });
            turn.act(Action::SendPrepared { connection, transfer: id });
        }
    }

    /// Some bytes of the snapshot went out to this replica, or it sent a newline: it is alive.
    pub fn is_alive(&mut self, connection: ConnectionId, now_ms: u64) {
        if let Some(replica) = self.find_mut(connection) {
            replica.last_progress_ms = now_ms;
            replica.last_ack_ms = now_ms;
        }
    }

    /// The last byte of the snapshot (and its mark) went out to this replica.
    pub(super) fn snapshot_sent(&mut self, connection: ConnectionId, history: &History, turn: &mut Turn<'_>) {
        let Some(replica) = self.find_mut(connection) else { return };
        let (position, marked) = match replica.state {
            ReplicaState::InTransfer { position } => (position, true),
            ReplicaState::SendingBulk { position } => (position, false),
            _ => return,
        };
        let name = replica.name();
        replica.last_ack_ms = turn.now_ms;
        // Nothing is acknowledged by that: it may still be loading, or fail to.
        if let Some(transfer) = &mut self.transfer {
            transfer.served += 1;
        }
        self.rdb_clients.sent(connection);
        let Some(replica) = self.find_mut(connection) else { return };
        if replica.announced.rdb_only {
            replica.state = ReplicaState::Transmitted;
            turn.notice(format!(
                "RDB transfer completed, rdb only replica ({name}) should be disconnected asap"
            ));
            turn.act(Action::Close { connection });
        } else if marked {
            replica.state = ReplicaState::AwaitingAck { position };
            turn.notice(format!(
                "Streamed RDB transfer with replica {name} succeeded (socket). Waiting for REPLCONF ACK from replica \
                 to enable streaming"
            ));
            turn.notice(format!("Synchronization with replica {name} succeeded"));
        } else {
            replica.state = ReplicaState::Online;
            replica.sent = position;
            turn.notice(format!("Synchronization with replica {name} succeeded"));
            turn.act(Action::StreamFrom { connection, position });
        }
        self.end_transfer_if_done(history, turn);
    }

    /// The snapshot could not be written: those who wait for it are closed and will ask again.
    pub(super) fn transfer_failed(&mut self, id: TransferId, reason: &str, turn: &mut Turn<'_>) {
        if !matches!(&self.transfer, Some(transfer) if transfer.id == id) {
            return;
        }
        self.transfer = None;
        turn.warning(format!("SYNC failed. BGSAVE child returned an error: {reason}"));
        for replica in &self.replicas {
            if matches!(replica.state, ReplicaState::InTransfer { .. } | ReplicaState::SendingBulk { .. }) {
                turn.act(Action::Close { connection: replica.connection });
            }
        }
        turn.act(Action::EndTransfer { transfer: id });
    }

    fn end_transfer_if_done(&mut self, history: &History, turn: &mut Turn<'_>) {
        let Some(transfer) = &self.transfer else { return };
        let served = |r: &AttachedReplica| {
            matches!(r.state, ReplicaState::InTransfer { .. } | ReplicaState::SendingBulk { .. })
        };
        if !self.replicas.iter().any(served) {
            // In the words that people and tools know, of a server where a child process writes into a pipe.
            match (transfer.framing, transfer.served) {
                (Framing::Length, _) => {}
                (_, 0) => {
                    turn.warning("Diskless rdb transfer, last replica dropped, killing fork child.");
                    turn.warning("Background RDB transfer error");
                }
                (_, served) => {
                    turn.notice(format!(
                        "Diskless rdb transfer, done reading from pipe, {served} replicas still up."
                    ));
                    turn.notice("Background RDB transfer terminated with success");
                }
            }
            turn.act(Action::EndTransfer { transfer: transfer.id });
            self.transfer = None;
            self.start_pending_transfer(history, turn);
        }
    }

    /// Stream bytes up to `position` were handed to this replica's socket.
    pub fn stream_sent(&mut self, connection: ConnectionId, position: u64) {
        if let Some(replica) = self.find_mut(connection) {
            replica.sent = replica.sent.max(position);
        }
    }

    /// The connection is gone, replica or not.
    pub(super) fn closed(&mut self, connection: ConnectionId, history: &History, turn: &mut Turn<'_>) {
        self.handshakes.remove(&connection);
        self.waiters.remove(connection);
        let before = self.replicas.len();
        if let Some(replica) = self.find(connection) {
            turn.notice(format!("Connection with replica {} lost.", replica.name()));
        }
        self.replicas.retain(|replica| replica.connection != connection);
        self.rdb_clients.closed(connection, self.settings.rdb_client_grace_ms, turn);
        if self.replicas.len() < before {
            if self.replicas.is_empty() {
                self.no_replicas_since_ms = turn.now_ms;
            }
            self.end_transfer_if_done(history, turn);
        }
    }

    /// Every replica has to ask again, since the name of the history changed. With `follow`, those who can are
    /// sent to the new primary instead.
    pub(super) fn disconnect_all(&mut self, follow: Option<&super::Address>, turn: &mut Turn<'_>) {
        self.moved = follow.map(Moved::to);
        for replica in &self.replicas {
            let connection = replica.connection;
            if let Some(moved) = &mut self.moved {
                if replica.announced.follow && replica.state == ReplicaState::Online {
                    let bytes = moved.line();
                    turn.act(Action::SendAfterStream { connection, position: turn.stream.end, bytes });
                    continue;
                }
                moved.leave_behind(replica);
            }
            turn.act(Action::Close { connection });
        }
        if let Some(transfer) = self.transfer.take() {
            turn.act(Action::EndTransfer { transfer: transfer.id });
        }
        if !self.replicas.is_empty() {
            turn.act(Action::ReselectDatabase);
        }
        self.rdb_clients.clear();
        self.replicas.clear();
        self.no_replicas_since_ms = turn.now_ms;
    }

    /// WAIT or WAITAOF of a client whose last write ends at `position`: the answer if it need not wait.
    pub(super) fn wait(
        &mut self,
        connection: ConnectionId,
        position: u64,
        request: WaitRequest,
        may_block: bool,
        turn: &Turn<'_>,
    ) -> Option<WaitReply> {
        let (reply, enough) = answer(&request, position, &Replicas(&self.replicas), turn.stream.fsynced);
        if enough || !may_block {
            return Some(reply);
        }
        self.waiters.add(connection, position, request);
        self.acks_requested = true;
        None
    }

    /// This server follows another one, wherever the role once went.
    pub(super) fn forget_move(&mut self) {
        self.moved = None;
    }

    /// Nobody can be answered any more: this server is a primary no longer.
    pub(super) fn drop_waiters(&mut self) {
        self.waiters.clear();
    }

    /// Stops waiting for this client (CLIENT UNBLOCK, a lost connection).
    pub fn stop_waiting(&mut self, connection: ConnectionId) {
        self.waiters.remove(connection);
    }

    /// Answers whoever has what it waits for; call after the AOF reached the disk.
    pub(super) fn finish_waits(&mut self, turn: &mut Turn<'_>) {
        if self.waiters.is_empty() {
            return;
        }
        let replicas = Replicas(&self.replicas);
        for (connection, reply) in self.waiters.finished(&replicas, turn.stream.fsynced, turn.now_ms) {
            turn.act(Action::FinishWait { connection, reply });
        }
    }

    /// One GETACK for all the clients that began to wait, unless the stream must not grow now.
    pub(super) fn request_acks(&mut self, frozen: bool, turn: &mut Turn<'_>) {
        if self.acks_requested && !frozen {
            self.acks_requested = false;
            if !self.replicas.is_empty() {
                turn.append(GETACK_RECORD);
            }
        }
    }

    /// Whatever comes with time. `owns_stream`: this server is a primary; `frozen`: a failover fixes the offset.
    pub(super) fn tick(
        &mut self,
        owns_stream: bool,
        frozen: bool,
        history: &mut History,
        turn: &mut Turn<'_>,
    ) {
        self.finish_waits(turn);
        if owns_stream && turn.now_ms.saturating_sub(self.last_ping_ms) >= self.settings.ping_period_ms {
            self.last_ping_ms = turn.now_ms;
            if !frozen && !self.replicas.is_empty() {
                turn.append(PING_RECORD);
            }
        }
        self.send_newlines(turn);
        self.close_late_replicas(turn);
        self.check_limits(turn);
        self.rdb_clients.tick(self.settings.rdb_client_grace_ms, turn);
        if owns_stream {
            self.free_idle_backlog(history, turn);
        }
        self.start_pending_transfer(history, turn);
    }

    /// Keeps those alive who see no bytes yet.
    fn send_newlines(&mut self, turn: &mut Turn<'_>) {
        let preparing = self.transfer.as_ref().is_some_and(|transfer| transfer.preparing);
        for replica in &mut self.replicas {
            let silent = match replica.state {
                ReplicaState::WaitingForSnapshot => true,
                ReplicaState::InTransfer { .. } => preparing,
                _ => false,
            };
            if silent && turn.now_ms.saturating_sub(replica.last_newline_ms) >= 1000 {
                replica.last_newline_ms = turn.now_ms;
                turn.act(Action::Send { connection: replica.connection, bytes: b"\n".to_vec() });
            }
        }
    }

    fn close_late_replicas(&mut self, turn: &mut Turn<'_>) {
        let timeout_ms = self.settings.timeout_ms;
        let preparing = self.transfer.as_ref().is_some_and(|transfer| transfer.preparing);
        for replica in &mut self.replicas {
            let silent_ms = match replica.state {
                ReplicaState::AwaitingAck { .. }
                | ReplicaState::BackgroundTransfer
                | ReplicaState::Online
                    if !replica.plain_sync =>
                {
                    turn.now_ms.saturating_sub(replica.last_ack_ms)
                }
                ReplicaState::InTransfer { .. } if preparing => 0,
                ReplicaState::InTransfer { .. } | ReplicaState::SendingBulk { .. } => {
                    turn.now_ms.saturating_sub(replica.last_progress_ms)
                }
                _ => 0,
            };
            let connection = replica.connection;
            if silent_ms > timeout_ms && !replica.closing {
                let phase = if replica.state.is_online() { "streaming sync" } else { "full sync" };
                turn.warning(format!("Disconnecting timedout replica ({phase}): {}", replica.name()));
                replica.closing = true;
                turn.act(Action::Close { connection });
            }
        }
    }

    /// Closes those for whom too much of the stream has to be kept.
    pub(super) fn check_limits(&mut self, turn: &mut Turn<'_>) {
        let (limit, end, now_ms) = (self.settings.output_limit, turn.stream.end, turn.now_ms);
        let mut closed = Vec::new();
        // What is read from files costs no memory.
        let in_memory_from = turn.stream.kept_from.unwrap_or(end);
        for replica in &mut self.replicas {
            let needed = replica.needs_from().map(|position| position.max(in_memory_from));
            let pending = needed.map_or(0, |position| end.saturating_sub(position));
            if limit.is_exceeded(pending, &mut replica.over_soft_limit_since_ms, now_ms) {
                replica.closing = true;
                closed.push((replica.connection, replica.name()));
            }
        }
        closed.extend(self.rdb_clients.take_over_limit(&limit, turn));
        for (connection, name) in closed {
            turn.warning(format!(
                "Client {name} scheduled to be closed ASAP for overcoming of output buffer limits."
            ));
            turn.act(Action::CloseOverLimit { connection });
        }
    }

    fn free_idle_backlog(&mut self, history: &mut History, turn: &mut Turn<'_>) {
        let ttl_ms = self.settings.backlog_ttl_ms;
        let idle_ms = turn.now_ms.saturating_sub(self.no_replicas_since_ms);
        if turn.stream.kept_from.is_some() && self.replicas.is_empty() && ttl_ms > 0 && idle_ms > ttl_ms {
            // From now on writes go by unrecorded, so the old names end here.
            history.renew((turn.fresh_id)());
            turn.stream.kept_from = None;
            turn.act(Action::FreeBacklog);
            turn.notice(format!(
                "Replication backlog freed after {} seconds without connected replicas.",
                ttl_ms / 1000
            ));
        }
    }
}

/// Whether a replica may continue after having read a part of the stream: the position to go on from.
fn continuation(id: &[u8], offset: i64, name: &str, history: &History, turn: &mut Turn<'_>) -> Option<u64> {
    let shown = String::from_utf8_lossy(id);
    // The first byte wanted, counted from 1: the position is one less. Nobody can have less than nothing.
    let position = offset.checked_sub(1).and_then(|position| u64::try_from(position).ok());
    if !position.map_or(history.id().matches(id), |position| history.shares(id, position)) {
        if id.first() == Some(&b'?') {
            turn.notice(format!("Full resync requested by replica {name}"));
        } else if history.knows(id) {
            turn.notice(format!(
                "Partial resynchronization not accepted: Requested offset for second ID was {offset}, but I can \
                 reply up to {}",
                history.second_offset()
            ));
        } else {
            turn.notice(format!(
                "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{shown}', my \
                 replication IDs are '{}' and '{}')",
                history.id(),
                history.previous_id_text()
            ));
        }
        return None;
    }
    let end = turn.stream.end;
    match (turn.stream.kept_from, position) {
        (Some(kept_from), Some(position)) if (kept_from..=end).contains(&position) => return Some(position),
        (None, _) => turn.notice(format!(
            "Unable to partial resync with replica {name} for lack of backlog (Replica request was: {shown}:{offset})."
        )),
        (Some(kept_from), _) => turn.notice(format!(
            "Unable to partial resync with replica {name} for lack of backlog (Replica request was {shown}:{offset}, \
             and I can only reply with the range [{}, {}]).",
            u128::from(kept_from) + 1,
            u128::from(end) + 1
        )),
    }
    if position.is_some_and(|position| position >= end) {
        turn.warning(format!(
            "Warning: replica {name} tried to PSYNC with an offset ({offset}) that is greater than the primary \
             replication offset ({end})"
        ));
    }
    None
}

struct Replicas<'a>(&'a [AttachedReplica]);

impl Acknowledged for Replicas<'_> {
    fn applied(&self, position: u64) -> usize {
        self.0.iter().filter(|r| r.state.is_online() && r.acknowledged >= position).count()
    }

    fn fsynced(&self, position: u64) -> usize {
        let has = |replica: &&AttachedReplica| replica.fsynced.is_some_and(|fsynced| fsynced >= position);
        self.0.iter().filter(|r| r.state.is_online()).filter(has).count()
    }
}
