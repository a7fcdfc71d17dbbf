//! One server's place in replication: its history, its replicas, and its link if it is a replica itself.
//!
//! Joins [`Primary`] and [`Link`]: promotion, demotion, full syncs and changes of the history's name happen here and
//! nowhere else. Invariant: the server owns the stream (may write to it) exactly while it has no link.

use super::Address;
use super::action::{Action, ConnectionId, Role, StreamView, TransferId, Turn};
use super::handshake::{ReplconfReply, integer};
use super::history::History;
use super::primary::{self, Accepted, Primary, PrimarySettings};
use super::replica::{Attempt, Event, Link, LinkSettings, PsyncOutcome, Purpose};
use super::wait::{WaitReply, WaitRequest};
use crate::protocol::ErrorReply;
use bytes::Bytes;

/// All directives of replication.
#[derive(Debug, Clone)]
pub struct Settings {
    pub primary: PrimarySettings,
    pub link: LinkSettings,
}

/// How far a coordinated failover has come; set by its coordinator, shown in INFO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailoverPhase {
    #[default]
    None,
    WaitingForSync,
    InProgress,
}

impl FailoverPhase {
    /// `master_failover_state` of INFO.
    pub fn name(self) -> &'static str {
        match self {
            FailoverPhase::None => "no-failover",
            FailoverPhase::WaitingForSync => "waiting-for-sync",
            FailoverPhase::InProgress => "failover-in-progress",
        }
    }
}

/// A SYNC or PSYNC from a client.
#[derive(Debug, Clone, Copy)]
pub struct SyncRequest<'a> {
    pub connection: ConnectionId,
    pub peer_ip: &'a str,
    /// The client as the log describes it.
    pub client_info: &'a str,
    /// The arguments of PSYNC; `None` for SYNC.
    pub psync: Option<&'a [&'a [u8]]>,
    /// Replies to earlier commands are still unsent.
    pub has_pending_output: bool,
    /// The bytes after this position up to the end of the stream can be read from files, beyond what memory holds.
    pub on_disk_from: Option<u64>,
}

/// What a REPLICAOF asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaOf {
    NoOne,
    Primary(Address),
}

impl ReplicaOf {
    /// `REPLICAOF host port` or `REPLICAOF NO ONE`: the arguments after the name.
    pub fn parse(host: &[u8], port: &[u8]) -> Result<Self, ErrorReply> {
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            return Ok(ReplicaOf::NoOne);
        }
        let invalid = ErrorReply::new("ERR Invalid master port");
        let port = integer(port).and_then(|port| u16::try_from(port).ok()).ok_or(invalid)?;
        Ok(ReplicaOf::Primary(Address::new(String::from_utf8_lossy(host), port)))
    }
}

/// One server's state of replication.
#[derive(Debug)]
pub struct Replication {
    history: History,
    primary: Primary,
    link: Option<Link>,
    settings: Settings,
    failover: FailoverPhase,
    outcome: Option<PsyncOutcome>,
    /// The last attempt of the links before this one: an attempt's number is never used again, so that what is left
    /// of an old connection cannot speak for a new one.
    last_attempt: Attempt,
}

impl Replication {
    /// A server with this history and role. After `Role::HandingOver` also make its coordinator with
    /// `Coordinator::resume`.
    pub fn new(settings: Settings, history: History, role: Role, now_ms: u64) -> Self {
        let (link, failover) = match role {
            Role::Primary => (None, FailoverPhase::None),
            Role::Replica(address) => {
                (Some(Link::new(address, Purpose::Follow, 0, now_ms)), FailoverPhase::None)
            }
            Role::HandingOver(address) => {
                let purpose = Purpose::Failover { sent: true };
                (Some(Link::new(address, purpose, 0, now_ms)), FailoverPhase::InProgress)
            }
        };
        Replication {
            history,
            primary: Primary::new(settings.primary.clone(), now_ms),
            link,
            settings,
            failover,
            outcome: None,
            last_attempt: 0,
        }
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    pub fn primary(&self) -> &Primary {
        &self.primary
    }

    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    pub fn is_replica(&self) -> bool {
        self.link.is_some()
    }

    /// What this server is, and is again after a restart.
    pub fn role(&self) -> Role {
        match self.link_address() {
            None => Role::Primary,
            Some(target) if self.failover == FailoverPhase::InProgress => Role::HandingOver(target),
            Some(primary) => Role::Replica(primary),
        }
    }

    pub fn failover_phase(&self) -> FailoverPhase {
        self.failover
    }

    pub(crate) fn set_failover_phase(&mut self, phase: FailoverPhase) {
        self.failover = phase;
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// CONFIG SET changed something.
    pub fn set_settings(&mut self, settings: Settings) {
        self.primary.settings = settings.primary.clone();
        self.settings = settings;
    }

    /// What the target of a failover answered; told once, to the coordinator.
    pub(crate) fn take_outcome(&mut self) -> Option<PsyncOutcome> {
        self.outcome.take()
    }

    /// Whether the target of the failover may have heard of it.
    pub(crate) fn failover_was_sent(&self) -> bool {
        self.link.as_ref().is_some_and(Link::failover_was_sent)
    }

    /// REPLICAOF of a client.
    pub fn replicaof(
        &mut self,
        request: &ReplicaOf,
        connection: ConnectionId,
        client_info: &str,
        turn: &mut Turn<'_>,
    ) -> Result<&'static str, ErrorReply> {
        if self.failover != FailoverPhase::None {
            return Err(ErrorReply::new("ERR REPLICAOF not allowed while failing over."));
        }
        match request {
            ReplicaOf::NoOne => {
                if self.is_replica() {
                    self.promote(false, turn);
                    turn.notice(format!("PRIMARY MODE enabled (user request from '{client_info}')"));
                }
            }
            ReplicaOf::Primary(address) => {
                if self.primary.is_replica(connection) {
                    return Err(ErrorReply::new("ERR Command is not valid when client is a replica."));
                }
                let current = self.link.as_ref().map(Link::address);
                if current.is_some_and(|current| current.is(&address.host, address.port.into())) {
                    turn.notice(
                        "REPLICAOF would result into synchronization with the primary we are already connected with. \
                         No operation performed.",
                    );
                    return Ok("OK Already connected to specified master");
                }
                self.follow(address.clone(), Purpose::Follow, false, turn);
                turn.notice(format!("REPLICAOF {address} enabled (user request from '{client_info}')"));
            }
        }
        Ok("OK")
    }

    /// Gives the role of primary up and asks a replica to take it.
    pub(crate) fn hand_over(&mut self, target: Address, turn: &mut Turn<'_>) {
        self.failover = FailoverPhase::InProgress;
        self.follow(target, Purpose::Failover { sent: false }, true, turn);
    }

    /// The target took the role.
    pub(crate) fn handed_over(&mut self, turn: &mut Turn<'_>) {
        if let Some(address) = self.link_address() {
            turn.act(Action::RoleChanged { role: Role::Replica(address), by_failover: true });
        }
    }

    /// Becomes a replica of `address`. A primary keeps its history, to ask the new one to continue it.
    fn follow(&mut self, address: Address, purpose: Purpose, by_failover: bool, turn: &mut Turn<'_>) {
        self.primary.forget_move();
        match &mut self.link {
            Some(link) => link.hang_up_for_good(turn),
            None => {
                turn.act(Action::UnblockForDemotion);
                self.primary.drop_waiters();
                turn.notice(
                    "Before turning into a replica, using my own primary parameters to synthesize a cached primary: I \
                     may be able to synchronize with the new primary with just a partial transfer.",
                );
                self.history.keep();
            }
        }
        if turn.stream.kept_from.is_none() {
            // A replica keeps its bytes: it may be promoted.
            turn.stream.kept_from = Some(turn.stream.end);
            turn.act(Action::CreateBacklog);
        }
        let role = match purpose {
            Purpose::Follow => Role::Replica(address.clone()),
            Purpose::Failover { .. } | Purpose::ConfirmFailover => Role::HandingOver(address.clone()),
        };
        turn.act(Action::RoleChanged { role, by_failover });
        let attempts = self.link.as_ref().map_or(self.last_attempt, Link::last_attempt);
        let mut link = Link::new(address, purpose, attempts, turn.now_ms);
        link.connect(turn);
        self.link = Some(link);
    }

    /// The stream goes by a new name from here: nobody may continue from the old ones.
    pub fn rename_stream(&mut self, turn: &mut Turn<'_>) {
        self.history.renew((turn.fresh_id)());
    }

    /// Becomes a primary: a new history, which shares the old one's bytes up to here.
    pub(crate) fn promote(&mut self, by_failover: bool, turn: &mut Turn<'_>) {
        let Some(mut link) = self.link.take() else { return };
        self.last_attempt = link.last_attempt();
        link.hang_up_for_good(turn);
        if !self.history.is_continuable() {
            // The dataset was flushed for a load that never ended, or there never was one: it has nothing of the old names.
            self.history.renew((turn.fresh_id)());
            self.history.keep();
            turn.act(Action::KeepFlushed);
        } else {
            self.history.shift(turn.stream.end, (turn.fresh_id)());
        }
        turn.notice(format!(
            "Setting secondary replication ID to {}, valid up to offset: {}. New replication ID is {}",
            self.history.previous_id_text(),
            self.history.second_offset(),
            self.history.id()
        ));
        self.primary.disconnect_all(None, turn);
        turn.act(Action::ReselectDatabase);
        turn.act(Action::RoleChanged { role: Role::Primary, by_failover });
    }

    /// REPLCONF: the arguments after the name. `ReplconfReply::SendAck` counts only from the primary's stream.
    pub fn replconf(
        &mut self,
        connection: ConnectionId,
        arguments: &[&[u8]],
        turn: &mut Turn<'_>,
    ) -> ReplconfReply {
        self.primary.replconf(connection, arguments, turn)
    }

    /// SYNC or PSYNC. Answers go out as actions.
    pub fn sync(&mut self, request: &SyncRequest<'_>, turn: &mut Turn<'_>) -> Result<Accepted, ErrorReply> {
        if self.primary.is_replica(request.connection) {
            return Ok(Accepted::Attached);
        }
        let psync = match request.psync {
            None => None,
            Some([id, offset, rest @ ..]) => {
                if rest.first().is_some_and(|word| word.eq_ignore_ascii_case(b"failover")) {
                    self.take_over(id, request.client_info, turn)?;
                }
                Some((*id, *offset))
            }
            Some(_) => return Err(ErrorReply::new("ERR wrong number of arguments for 'psync' command")),
        };
        if self.failover != FailoverPhase::None {
            return Err(ErrorReply::new("NOMASTERLINK Can't SYNC while failing over"));
        }
        if self.link.as_ref().is_some_and(|link| !link.is_connected()) {
            return Err(ErrorReply::new("NOMASTERLINK Can't SYNC while not connected with my master"));
        }
        if request.has_pending_output {
            return Err(ErrorReply::new("ERR SYNC and PSYNC are invalid with pending output"));
        }
        if let (Some(kept_from), Some(on_disk_from)) = (&mut turn.stream.kept_from, request.on_disk_from) {
            *kept_from = (*kept_from).min(on_disk_from);
        }
        let request = primary::Request { connection: request.connection, peer_ip: request.peer_ip, psync };
        self.primary.sync(&request, &mut self.history, turn)
    }

    /// A primary hands its place to this replica.
    fn take_over(&mut self, id: &[u8], client_info: &str, turn: &mut Turn<'_>) -> Result<(), ErrorReply> {
        turn.notice(format!("Failover request received for replid {}.", String::from_utf8_lossy(id)));
        if self.history.descends_from(id) {
            // Asked twice: the answer to the first request was lost. It is a plain PSYNC by now, even if the role
            // went on to another server in the meantime.
            return Ok(());
        }
        if !self.is_replica() {
            return Err(ErrorReply::new("ERR PSYNC FAILOVER can't be sent to a master."));
        }
        if !self.history.id().matches(id) || !self.history.is_continuable() {
            return Err(ErrorReply::new("ERR PSYNC FAILOVER replid must match my replid."));
        }
        self.promote(true, turn);
        turn.notice(format!("PRIMARY MODE enabled (failover request from '{client_info}')"));
        Ok(())
    }

    /// WAIT or WAITAOF of a client whose last write ends at `position`; `None` if it has to wait.
    pub fn wait(
        &mut self,
        connection: ConnectionId,
        position: u64,
        request: WaitRequest,
        may_block: bool,
        turn: &Turn<'_>,
    ) -> Option<WaitReply> {
        self.primary.wait(connection, position, request, may_block, turn)
    }

    /// Stops waiting for this client without an answer.
    pub fn stop_waiting(&mut self, connection: ConnectionId) {
        self.primary.stop_waiting(connection);
    }

    /// A client's connection is gone, replica or not. Also reported after `Action::Close`.
    pub fn closed(&mut self, connection: ConnectionId, turn: &mut Turn<'_>) {
        self.primary.closed(connection, &self.history, turn);
    }

    /// Stream bytes up to `position` were handed to this replica's socket.
    pub fn stream_sent(&mut self, connection: ConnectionId, position: u64) {
        self.primary.stream_sent(connection, position);
    }

    /// A snapshot that had to be prepared is ready, `length` bytes long.
    pub fn transfer_prepared(&mut self, transfer: TransferId, length: u64, turn: &mut Turn<'_>) {
        self.primary.transfer_prepared(transfer, length, turn);
    }

    /// Some of the snapshot went out to this replica, or it sent a newline.
    pub fn is_alive(&mut self, connection: ConnectionId, now_ms: u64) {
        self.primary.is_alive(connection, now_ms);
    }

    /// CONFIG RESETSTAT.
    pub fn reset_statistics(&mut self) {
        self.primary.reset_statistics();
    }

    /// The stream grew to where a replica may be too far behind ([`Primary::over_limit_at`]).
    pub fn check_limits(&mut self, turn: &mut Turn<'_>) {
        self.primary.check_limits(turn);
    }

    /// All of the snapshot, its mark included, went out to this replica.
    pub fn snapshot_sent(&mut self, connection: ConnectionId, turn: &mut Turn<'_>) {
        self.primary.snapshot_sent(connection, &self.history, turn);
    }

    /// The snapshot could not be made.
    pub fn transfer_failed(&mut self, transfer: TransferId, reason: &str, turn: &mut Turn<'_>) {
        self.primary.transfer_failed(transfer, reason, turn);
    }

    /// The socket to the primary is connected.
    pub fn link_connected(&mut self, attempt: Attempt, turn: &mut Turn<'_>) {
        if let Some(link) = &mut self.link {
            link.connected(attempt, &self.settings.link, turn);
        }
    }

    /// The socket to the primary failed or was closed, or what it sent could not be applied.
    pub fn link_lost(&mut self, attempt: Attempt, reason: &str, turn: &mut Turn<'_>) {
        if let Some(link) = &mut self.link {
            link.lost(attempt, reason, turn);
        }
    }

    /// Bytes came from the primary. Snapshot and stream bytes come back as actions.
    pub fn link_received(&mut self, attempt: Attempt, bytes: Bytes, turn: &mut Turn<'_>) {
        let Some(link) = &mut self.link else { return };
        let events = link.received(attempt, bytes, &self.settings.link, &self.history, turn);
        self.outcome = link.take_outcome().or(self.outcome);
        for event in events {
            self.on_link(event, turn);
        }
    }

    /// A line, without its end, that stood between two commands of the primary's stream; not part of it.
    pub fn link_line(&mut self, attempt: Attempt, line: &[u8], turn: &mut Turn<'_>) {
        let event =
            self.link.as_mut().and_then(|link| link.stream_line(attempt, line, &self.settings.link, turn));
        if let Some(event) = event {
            self.on_link(event, turn);
        }
    }

    /// The loader finished, well or not.
    pub fn loaded(&mut self, attempt: Attempt, result: Result<(), String>, turn: &mut Turn<'_>) {
        let event = self.link.as_mut().and_then(|link| link.loaded(attempt, result, turn));
        if let Some(event) = event {
            self.on_link(event, turn);
        }
    }

    /// A `REPLCONF GETACK` of the primary's stream was applied and counts in `turn.stream.end`.
    pub fn acknowledge(&mut self, turn: &mut Turn<'_>) {
        if let Some(link) = &mut self.link {
            link.send_ack(turn);
        }
    }

    fn on_link(&mut self, event: Event, turn: &mut Turn<'_>) {
        match event {
            Event::Continued(id) => {
                if turn.stream.kept_from.is_none() {
                    turn.stream.kept_from = Some(turn.stream.end);
                    turn.act(Action::CreateBacklog);
                }
                if let Some(id) = id.filter(|id| *id != self.history.id()) {
                    turn.notice(format!("Primary replication ID changed to {id}"));
                    self.history.adopt(id, turn.stream.end);
                    let follow =
                        (self.failover == FailoverPhase::InProgress).then(|| self.link_address()).flatten();
                    self.primary.disconnect_all(follow.as_ref(), turn);
                }
            }
            Event::Flushed => {
                // Whatever is saved now must not go by a name that others know.
                self.history.renew((turn.fresh_id)());
                self.history.forget();
                self.primary.disconnect_all(None, turn);
                turn.stream.kept_from = Some(turn.stream.end);
                turn.act(Action::FlushDataset);
            }
            Event::Loaded { id, position, continuable } => {
                self.primary.disconnect_all(None, turn);
                self.history.replace(id);
                if !continuable {
                    self.history.forget();
                }
                // Nothing of the new dataset is on the disk yet.
                let fsynced = turn.stream.fsynced.map(|_| 0);
                turn.stream = StreamView { end: position, kept_from: Some(position), fsynced, ..turn.stream };
                turn.act(Action::ReplaceDataset { position });
                if let Some(link) = &mut self.link {
                    link.after_load(turn);
                }
            }
            Event::Follow(address) => self.follow(address, Purpose::Follow, true, turn),
        }
    }

    fn link_address(&self) -> Option<Address> {
        self.link.as_ref().map(|link| link.address().clone())
    }

    /// The end of a round of events: one GETACK for all clients that began to wait in it.
    pub fn end_of_round(&mut self, frozen: bool, turn: &mut Turn<'_>) {
        if !self.is_replica() {
            self.primary.request_acks(frozen, turn);
        }
    }

    /// The AOF reached the disk: whoever waited for that is answered.
    pub fn fsynced(&mut self, turn: &mut Turn<'_>) {
        self.primary.finish_waits(turn);
    }

    /// Whatever comes with time; call about ten times a second.
    pub fn tick(&mut self, turn: &mut Turn<'_>) {
        let owns_stream = !self.is_replica();
        let frozen = self.failover != FailoverPhase::None;
        self.primary.tick(owns_stream, frozen, &mut self.history, turn);
        if let Some(link) = &mut self.link {
            link.tick(&self.settings.link, turn);
        }
    }
}
