//! The link of a replica to its primary: handshake, full sync, stream, and the way back after it broke.
//!
//! Knows the conversation with one primary. It must not change the history or the role itself: what it learnt is
//! handed to [`super::Replication`] as an [`Event`]. Invariants: an answer from a peer never leads to a panic, at
//! worst to a closed link and another attempt; events of an earlier attempt are ignored.

use super::Address;
use super::action::{Action, Turn};
use super::handshake::integer;
use super::history::{History, ReplicationId};
use super::line::{LINE_LIMIT, Line, request, shown, take_line};
use super::rdb_channel::{ChannelEvent, RdbChannel};
use super::snapshot_reader::{Chunk, SnapshotReader};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Counts the connections made to primaries.
pub type Attempt = u64;

/// How long a failed attempt waits for the next.
const RETRY_MS: u64 = 1000;
/// A link that worked is tried again at once, and so is a full sync that broke off, but not in a tight loop.
const RECONNECT_MS: u64 = 100;
const ACK_PERIOD_MS: u64 = 1000;
const DUAL_CHANNEL: &[u8] = b"+DUALCHANNELSYNC";
const PROMOTED_ALREADY: &[u8] = b"-ERR PSYNC FAILOVER can't be sent to a master.";

/// The directives that matter here.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// `primaryuser`, `primaryauth`.
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    /// `replica-announce-ip`.
    pub announce_ip: Option<String>,
    /// `replica-announce-port`, or the port that is listened to.
    pub announce_port: u16,
    /// What REPLCONF VERSION says.
    pub version: &'static str,
    /// `replica-follow-failover`.
    pub follow_failover: bool,
    /// `repl-timeout`.
    pub timeout_ms: u64,
    pub load: LoadStrategy,
    /// `dual-channel-replication-enabled`: take snapshots on a connection of their own where the primary offers it.
    pub dual_channel: bool,
    /// Bytes of the stream that may wait for such a snapshot to be loaded; 0 is no limit
    /// (`client-output-buffer-limit replica`).
    pub early_limit_bytes: u64,
}

/// What becomes of the old dataset while the new one loads (`repl-diskless-load`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadStrategy {
    /// It stays, is served as if nothing happened, and is swapped at the end: it survives a broken transfer.
    Aside,
    /// It stays and survives, but is served only if the new one continues its history: clients are told.
    Swap,
    /// It goes first, to save memory.
    FlushFirst,
}

/// What clients see while a snapshot loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    /// Nothing of it.
    Unseen,
    /// The old dataset, and that another is being loaded.
    Old,
    /// That a dataset is being loaded.
    Loading,
}

/// The phase as ROLE names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    Connect,
    Connecting,
    Handshake,
    Sync,
    Connected,
}

impl LinkState {
    pub fn name(self) -> &'static str {
        match self {
            LinkState::Connect => "connect",
            LinkState::Connecting => "connecting",
            LinkState::Handshake => "handshake",
            LinkState::Sync => "sync",
            LinkState::Connected => "connected",
        }
    }
}

/// What the target of a failover said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PsyncOutcome {
    Accepted,
    Rejected,
}

/// How the next PSYNC is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Follow,
    /// With FAILOVER. `sent`: an earlier request may have arrived although its answer did not.
    Failover {
        sent: bool,
    },
    /// The target says that it is a primary: see whether it is one by our earlier request.
    ConfirmFailover,
}

#[derive(Debug)]
enum Phase {
    Waiting {
        retry_at_ms: u64,
    },
    Connecting,
    Handshake {
        awaited: VecDeque<Awaited>,
    },
    /// The line that precedes the snapshot.
    AwaitingSnapshot,
    Receiving {
        reader: SnapshotReader,
        length: Option<u64>,
    },
    Loading,
    /// The other connection of a dual-channel sync has to say first from where the stream goes on.
    AwaitingChannel,
    /// The stream comes, and waits for the other connection's snapshot.
    Buffering,
    Connected,
}

/// The reply that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Pong,
    Auth,
    /// A REPLCONF that may be refused; its name in the log.
    Replconf(&'static str),
    /// REPLCONF SET-RDB-CLIENT-ID, which may not.
    SetRdbClient,
    Psync,
}

/// What a full sync will make of the dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    id: ReplicationId,
    position: u64,
    /// The primary only knows SYNC: positions mean nothing to it.
    plain_sync: bool,
}

/// What the link learnt, for the one who owns the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The primary continues our history, perhaps under another id.
    Continued(Option<ReplicationId>),
    /// The old dataset is gone.
    Flushed,
    /// The new dataset is complete.
    Loaded { id: ReplicationId, position: u64, continuable: bool },
    /// The primary sends us to another one.
    Follow(Address),
}

/// A link to a primary, in whatever state.
#[derive(Debug)]
pub struct Link {
    address: Address,
    phase: Phase,
    purpose: Purpose,
    attempt: Attempt,
    line: BytesMut,
    target: Option<Target>,
    channel: Option<RdbChannel>,
    /// The last number given to a connection.
    last_attempt: Attempt,
    /// Stream bytes that came while the snapshot was still loading.
    early: Vec<Bytes>,
    early_bytes: u64,
    early_peak_bytes: u64,
    outcome: Option<PsyncOutcome>,
    received: u64,
    asked_to_continue: bool,
    last_io_ms: u64,
    last_attempt_ms: Option<u64>,
    last_ack_ms: u64,
    last_newline_ms: u64,
    down_since_ms: Option<u64>,
}

impl Link {
    pub(super) fn new(address: Address, purpose: Purpose, first_attempt: Attempt, now_ms: u64) -> Self {
        Link {
            address,
            phase: Phase::Waiting { retry_at_ms: now_ms },
            purpose,
            attempt: first_attempt,
            line: BytesMut::new(),
            target: None,
            channel: None,
            last_attempt: first_attempt,
            early: Vec::new(),
            early_bytes: 0,
            early_peak_bytes: 0,
            outcome: None,
            received: 0,
            asked_to_continue: false,
            last_io_ms: now_ms,
            last_attempt_ms: None,
            last_ack_ms: now_ms,
            last_newline_ms: now_ms,
            down_since_ms: None,
        }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The number of the last connection that was made.
    pub fn last_attempt(&self) -> Attempt {
        self.last_attempt
    }

    pub fn state(&self) -> LinkState {
        match self.phase {
            Phase::Waiting { .. } => LinkState::Connect,
            Phase::Connecting => LinkState::Connecting,
            Phase::Handshake { .. } | Phase::AwaitingChannel => LinkState::Handshake,
            Phase::AwaitingSnapshot | Phase::Receiving { .. } | Phase::Loading | Phase::Buffering => {
                LinkState::Sync
            }
            Phase::Connected => LinkState::Connected,
        }
    }

    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected)
    }

    /// Whether the socket should be read: not while a snapshot loads, so that the stream waits at the primary.
    /// Nor while as much of the stream waits as may.
    pub fn wants_input(&self, attempt: Attempt, settings: &LinkSettings) -> bool {
        match (&self.phase, &self.channel) {
            (_, Some(channel)) if channel.attempt == attempt => channel.wants_input(),
            (Phase::Waiting { .. } | Phase::Loading, _) => false,
            (Phase::Buffering, _) => !self.is_full(settings),
            _ => true,
        }
    }

    fn is_full(&self, settings: &LinkSettings) -> bool {
        settings.early_limit_bytes > 0 && self.early_bytes > settings.early_limit_bytes
    }

    /// Bytes of the stream that wait for a snapshot, and the most that ever did.
    pub fn early_bytes(&self) -> (u64, u64) {
        (self.early_bytes, self.early_peak_bytes)
    }

    pub fn last_io_ms(&self) -> u64 {
        self.last_io_ms
    }

    /// When a working link broke; `None` while it works, and before the first one did.
    pub fn down_since_ms(&self) -> Option<u64> {
        self.down_since_ms
    }

    /// Bytes of the snapshot: its length (0 if unknown) and those received.
    pub fn transfer_progress(&self) -> (u64, u64) {
        match (&self.phase, &self.channel) {
            (_, Some(channel)) => (0, channel.received_bytes()),
            (Phase::Receiving { length, .. }, _) => (length.unwrap_or(0), self.received),
            _ => (0, self.received),
        }
    }

    /// What became of a PSYNC FAILOVER; told once.
    pub(super) fn take_outcome(&mut self) -> Option<PsyncOutcome> {
        self.outcome.take()
    }

    /// Whether the target may have heard of the failover.
    pub(super) fn failover_was_sent(&self) -> bool {
        !matches!(self.purpose, Purpose::Failover { sent: false }) || self.awaits_psync()
    }

    fn awaits_psync(&self) -> bool {
        matches!(&self.phase, Phase::Handshake { awaited } if awaited.front() == Some(&Awaited::Psync))
    }

    /// Whether this connection is in use: events of earlier ones mean nothing.
    pub fn is_current(&self, attempt: Attempt) -> bool {
        let is_channel = self.channel.as_ref().is_some_and(|channel| channel.attempt == attempt);
        (attempt == self.attempt || is_channel) && !matches!(self.phase, Phase::Waiting { .. })
    }

    fn next_attempt(&mut self) -> Attempt {
        self.last_attempt += 1;
        self.last_attempt
    }

    fn forget_early(&mut self) {
        self.early.clear();
        self.early_bytes = 0;
    }

    fn send(&self, turn: &mut Turn<'_>, words: &[&[u8]]) {
        turn.act(Action::SendToPrimary { attempt: self.attempt, bytes: request(words) });
    }

    pub(super) fn connect(&mut self, turn: &mut Turn<'_>) {
        self.attempt = self.next_attempt();
        self.phase = Phase::Connecting;
        self.line.clear();
        self.forget_early();
        self.target = None;
        self.channel = None;
        self.received = 0;
        self.last_io_ms = turn.now_ms;
        self.last_attempt_ms = Some(turn.now_ms);
        turn.notice(format!("Connecting to PRIMARY {}", self.address));
        turn.act(Action::Connect { attempt: self.attempt, address: self.address.clone() });
        turn.notice("PRIMARY <-> REPLICA sync started");
    }

    pub(super) fn connected(&mut self, attempt: Attempt, settings: &LinkSettings, turn: &mut Turn<'_>) {
        if let Some(channel) = self.channel.as_mut().filter(|channel| channel.attempt == attempt) {
            self.last_io_ms = turn.now_ms;
            return channel.connected(settings, turn);
        }
        if !self.is_current(attempt) || !matches!(self.phase, Phase::Connecting) {
            return;
        }
        turn.notice("Non blocking connect for SYNC fired the event.");
        self.last_io_ms = turn.now_ms;
        self.phase = Phase::Handshake { awaited: VecDeque::from([Awaited::Pong]) };
        self.send(turn, &[b"PING"]);
    }

    /// The socket is gone, or was never there.
    pub(super) fn lost(&mut self, attempt: Attempt, reason: &str, turn: &mut Turn<'_>) {
        // A primary closes the connection that the snapshot came on.
        let is_done = |channel: &RdbChannel| channel.attempt == attempt && !channel.wants_input();
        if !self.is_current(attempt) || self.channel.as_ref().is_some_and(is_done) {
            return;
        }
        match &self.phase {
            Phase::Connected => turn.warning(format!("Connection with primary lost: {reason}")),
            Phase::Connecting => turn.warning(format!("Error condition on socket for SYNC: {reason}")),
            Phase::Handshake { .. } => {
                turn.warning("Primary did not respond to command during SYNC handshake")
            }
            _ => turn.warning(format!("I/O error trying to sync with PRIMARY: {reason}")),
        }
        self.hang_up(turn);
    }

    /// Closes the socket and plans the next attempt.
    pub(super) fn hang_up(&mut self, turn: &mut Turn<'_>) {
        let worked = matches!(self.phase, Phase::Connected);
        let broke_off = matches!(self.phase, Phase::Receiving { .. } | Phase::Loading | Phase::Buffering);
        if self.awaits_psync() && matches!(self.purpose, Purpose::Failover { .. } | Purpose::ConfirmFailover)
        {
            // The request may have arrived although its answer did not.
            self.purpose = Purpose::Failover { sent: true };
        }
        if matches!(self.phase, Phase::Waiting { .. }) {
            return;
        }
        self.disconnect(turn);
        // Clients wait for a handover.
        let hurries = worked || broke_off || self.purpose != Purpose::Follow;
        let pause_ms = if hurries { RECONNECT_MS } else { RETRY_MS };
        let earliest_ms = self.last_attempt_ms.map_or(0, |at| at.saturating_add(pause_ms));
        if worked {
            turn.notice("Caching the disconnected primary state.");
            self.down_since_ms = Some(turn.now_ms);
        }
        self.forget_early();
        self.target = None;
        self.phase = Phase::Waiting { retry_at_ms: earliest_ms.max(turn.now_ms) };
        if worked && earliest_ms <= turn.now_ms {
            turn.notice(format!("Reconnecting to PRIMARY {}", self.address));
            self.connect(turn);
        }
    }

    /// Closes the socket; there is no next attempt, since this link ends.
    pub(super) fn hang_up_for_good(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.phase, Phase::Waiting { .. }) {
            return;
        }
        self.disconnect(turn);
        self.phase = Phase::Waiting { retry_at_ms: u64::MAX };
    }

    fn disconnect(&mut self, turn: &mut Turn<'_>) {
        if let Some(channel) = self.channel.take() {
            let attempt = channel.attempt;
            if channel.has_loader() {
                turn.act(Action::AbortLoad { attempt });
            }
            turn.act(Action::Disconnect { attempt });
        }
        if matches!(self.phase, Phase::Receiving { .. } | Phase::Loading) {
            turn.act(Action::AbortLoad { attempt: self.attempt });
        }
        turn.act(Action::Disconnect { attempt: self.attempt });
    }

    /// The peer does not behave: say so and start over.
    fn give_up(&mut self, text: impl Into<String>, turn: &mut Turn<'_>) {
        turn.warning(text);
        self.hang_up(turn);
    }

    /// Bytes from the primary.
    pub(super) fn received(
        &mut self,
        attempt: Attempt,
        mut input: Bytes,
        settings: &LinkSettings,
        history: &History,
        turn: &mut Turn<'_>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        if self.channel.as_ref().is_some_and(|channel| channel.attempt == attempt) {
            self.channel_received(input, settings, history, &mut events, turn);
            return events;
        }
        while !input.is_empty() && self.is_current(attempt) {
            self.last_io_ms = turn.now_ms;
            match &mut self.phase {
                Phase::Waiting { .. } | Phase::Connecting => break,
                Phase::AwaitingChannel => {
                    // Newlines only: nothing was asked.
                    if input.iter().any(|byte| !b"\r\n".contains(byte)) {
                        self.give_up("Bad protocol from PRIMARY: bytes that were not asked for", turn);
                    }
                    break;
                }
                Phase::Connected => {
                    turn.act(Action::ApplyStream { attempt, bytes: std::mem::take(&mut input) })
                }
                Phase::Loading | Phase::Buffering => {
                    self.buffer(std::mem::take(&mut input), settings, turn);
                }
                Phase::Receiving { reader, .. } => {
                    let before = input.len();
                    let (snapshot, last) = match reader.read(std::mem::take(&mut input)) {
                        Chunk::More(snapshot) => (snapshot, None),
                        Chunk::Last(snapshot, after) => (snapshot, Some(after)),
                    };
                    self.received += (before - last.as_ref().map_or(0, Bytes::len)) as u64;
                    if !snapshot.is_empty() {
                        turn.act(Action::FeedLoader { attempt, bytes: snapshot });
                    }
                    if let Some(after) = last {
                        input = after;
                        self.phase = Phase::Loading;
                        self.last_newline_ms = turn.now_ms;
                        turn.act(Action::FinishLoad { attempt });
                    }
                }
                Phase::Handshake { .. } | Phase::AwaitingSnapshot => {
                    let Some(line) = self.take_line(&mut input, turn) else { continue };
                    self.line(&line, settings, history, &mut events, turn);
                }
            }
        }
        events
    }

    /// Keeps bytes of the stream until the snapshot is loaded.
    fn buffer(&mut self, bytes: Bytes, settings: &LinkSettings, turn: &mut Turn<'_>) {
        let was_full = self.is_full(settings);
        self.early_bytes += bytes.len() as u64;
        self.early_peak_bytes = self.early_peak_bytes.max(self.early_bytes);
        self.early.push(bytes);
        if self.is_full(settings) && !was_full {
            turn.notice("Replication buffer limit reached, stopping buffering.");
        }
    }

    /// Takes input up to a line's end; `None` if it has not come yet.
    fn take_line(&mut self, input: &mut Bytes, turn: &mut Turn<'_>) -> Option<BytesMut> {
        match take_line(&mut self.line, input) {
            Line::Whole(line) => Some(line),
            Line::Part => None,
            Line::TooLong => {
                let text = format!("Bad protocol from PRIMARY: a line of more than {LINE_LIMIT} bytes");
                self.give_up(text, turn);
                None
            }
        }
    }

    fn line(
        &mut self,
        line: &[u8],
        settings: &LinkSettings,
        history: &History,
        events: &mut Vec<Event>,
        turn: &mut Turn<'_>,
    ) {
        match &mut self.phase {
            Phase::AwaitingSnapshot => self.snapshot_header(line, settings, history, events, turn),
            Phase::Handshake { awaited } => match awaited.pop_front() {
                Some(Awaited::Pong) => self.pong(line, settings, turn),
                Some(Awaited::Auth) if line.starts_with(b"-") => {
                    self.give_up(format!("Unable to AUTH to PRIMARY: {}", shown(line)), turn);
                }
                Some(Awaited::Auth) => {}
                Some(Awaited::SetRdbClient) if line.starts_with(b"-") => {
                    self.give_up(
                        format!("Primary does not understand REPLCONF identify: {}", shown(line)),
                        turn,
                    );
                }
                Some(Awaited::SetRdbClient) => self.send_channel_psync(turn),
                Some(Awaited::Replconf(name)) => {
                    if line.starts_with(b"-") {
                        turn.notice(format!(
                            "(Non critical) Primary does not understand REPLCONF {name}: {}",
                            shown(line)
                        ));
                    }
                    if awaited.is_empty() {
                        self.send_psync(history, turn);
                    }
                }
                // Newlines keep the connection alive until the primary can answer.
                Some(Awaited::Psync) if line.is_empty() => awaited.push_front(Awaited::Psync),
                Some(Awaited::Psync) => self.psync_reply(line, history, events, turn),
                None => self.give_up(format!("Unexpected line from PRIMARY: {}", shown(line)), turn),
            },
            _ => {}
        }
    }

    fn pong(&mut self, line: &[u8], settings: &LinkSettings, turn: &mut Turn<'_>) {
        let wants_auth = [&b"-NOAUTH"[..], b"-NOPERM", b"-ERR operation not permitted"];
        if !line.starts_with(b"+") && !wants_auth.iter().any(|error| line.starts_with(error)) {
            return self.give_up(format!("Error reply to PING from primary: '{}'", shown(line)), turn);
        }
        turn.notice("Primary replied to PING, replication can continue...");
        let mut awaited = VecDeque::new();
        if let Some(password) = &settings.password {
            match &settings.user {
                Some(user) => self.send(turn, &[b"AUTH", user, password]),
                None => self.send(turn, &[b"AUTH", password]),
            }
            awaited.push_back(Awaited::Auth);
        }
        let port = settings.announce_port.to_string();
        self.send(turn, &[b"REPLCONF", b"listening-port", port.as_bytes()]);
        awaited.push_back(Awaited::Replconf("listening-port"));
        if let Some(ip) = &settings.announce_ip {
            self.send(turn, &[b"REPLCONF", b"ip-address", ip.as_bytes()]);
            awaited.push_back(Awaited::Replconf("ip-address"));
        }
        let mut capabilities: Vec<&[u8]> = vec![b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"];
        if settings.dual_channel && self.purpose == Purpose::Follow {
            capabilities.extend([&b"capa"[..], b"dual-channel"]);
        }
        if settings.follow_failover {
            capabilities.extend([&b"capa"[..], b"follow"]);
        }
        self.send(turn, &capabilities);
        awaited.push_back(Awaited::Replconf("capa"));
        self.send(turn, &[b"REPLCONF", b"version", settings.version.as_bytes()]);
        awaited.push_back(Awaited::Replconf("VERSION"));
        self.phase = Phase::Handshake { awaited };
    }

    fn send_psync(&mut self, history: &History, turn: &mut Turn<'_>) {
        self.asked_to_continue = history.is_continuable();
        let hands_over = matches!(self.purpose, Purpose::Failover { .. });
        let (id, offset) = if hands_over && !history.is_continuable() {
            // Nothing is left here to go on from, but the target is to take the role all the same.
            (history.id().to_string(), "-1".to_owned())
        } else if history.is_continuable() {
            let first_wanted = u128::from(turn.stream.end) + 1;
            let name = if hands_over { history.id() } else { history.name_at(turn.stream.end) };
            turn.notice(format!("Trying a partial resynchronization (request {name}:{first_wanted})."));
            (name.to_string(), first_wanted.to_string())
        } else {
            turn.notice("Partial resynchronization not possible (no cached primary)");
            ("?".to_owned(), "-1".to_owned())
        };
        let mut words: Vec<&[u8]> = vec![b"PSYNC", id.as_bytes(), offset.as_bytes()];
        if hands_over {
            words.push(b"FAILOVER");
        }
        self.send(turn, &words);
        self.phase = Phase::Handshake { awaited: VecDeque::from([Awaited::Psync]) };
    }

    fn psync_reply(&mut self, line: &[u8], history: &History, events: &mut Vec<Event>, turn: &mut Turn<'_>) {
        match std::mem::replace(&mut self.purpose, Purpose::Follow) {
            Purpose::Follow => {}
            Purpose::Failover { sent: true } if line == PROMOTED_ALREADY && !history.is_continuable() => {
                // It has the role, and there is nothing here that could be lost by following it.
                self.outcome = Some(PsyncOutcome::Accepted);
                return self.send_psync(history, turn);
            }
            Purpose::Failover { sent: true } if line == PROMOTED_ALREADY => {
                // Our first request may have been what promoted it. Its data tells: only then it continues ours.
                self.purpose = Purpose::ConfirmFailover;
                return self.send_psync(history, turn);
            }
            purpose => {
                let full = line.starts_with(b"+FULLRESYNC") && purpose != Purpose::ConfirmFailover;
                if full || line.starts_with(b"+CONTINUE") {
                    self.outcome = Some(PsyncOutcome::Accepted);
                } else if purpose == (Purpose::Failover { sent: false }) {
                    turn.warning(format!("Failover target rejected the PSYNC: {}", shown(line)));
                    self.outcome = Some(PsyncOutcome::Rejected);
                    return self.hang_up(turn);
                } else {
                    // No refusal proves that the target did not take the role and moved on since.
                    turn.warning(format!(
                        "Failover target answers '{}' after a request whose answer was lost: it may have taken the \
                         role, so this server does not take it back by itself. FAILOVER ABORT does.",
                        shown(line)
                    ));
                    self.purpose = Purpose::Failover { sent: true };
                    return self.hang_up(turn);
                }
            }
        }
        if self.channel.is_some() {
            self.channel_continued(line, events, turn);
        } else if line == DUAL_CHANNEL {
            self.open_channel(turn);
        } else if let Some(rest) = line.strip_prefix(b"+FULLRESYNC") {
            self.full_resync(rest, turn);
        } else if let Some(rest) = line.strip_prefix(b"+CONTINUE") {
            self.continued(rest, events, turn);
        } else if line.starts_with(b"-NOMASTERLINK") || line.starts_with(b"-LOADING") {
            turn.notice(format!(
                "Primary is currently unable to PSYNC but should be in the future: {}",
                shown(line)
            ));
            self.hang_up(turn);
        } else {
            if line.starts_with(b"-ERR") {
                turn.notice(format!(
                    "Primary does not support PSYNC or is in error state (reply: {})",
                    shown(line)
                ));
            } else {
                turn.warning(format!("Unexpected reply to PSYNC from primary: {}", shown(line)));
            }
            turn.notice("Retrying with SYNC...");
            turn.act(Action::SendToPrimary { attempt: self.attempt, bytes: b"SYNC\r\n".to_vec() });
            // Nobody else has this id: the history cannot be continued, here or elsewhere.
            self.target = Some(Target { id: (turn.fresh_id)(), position: 0, plain_sync: true });
            self.phase = Phase::AwaitingSnapshot;
        }
    }

    fn full_resync(&mut self, rest: &[u8], turn: &mut Turn<'_>) {
        let words: Vec<&[u8]> = rest.split(|byte| *byte == b' ').skip(1).collect();
        let parsed = match words.as_slice() {
            [id, offset] => {
                ReplicationId::parse(id).zip(integer(offset).and_then(|offset| u64::try_from(offset).ok()))
            }
            _ => None,
        };
        let Some((id, position)) = parsed else {
            return self.give_up("Primary replied with wrong +FULLRESYNC syntax.", turn);
        };
        turn.notice(format!("Full resync from primary: {id}:{position}"));
        self.target = Some(Target { id, position, plain_sync: false });
        self.phase = Phase::AwaitingSnapshot;
    }

    fn continued(&mut self, rest: &[u8], events: &mut Vec<Event>, turn: &mut Turn<'_>) {
        let id = match rest {
            b"" => None,
            [b' ', text @ ..] if ReplicationId::parse(text).is_some() => ReplicationId::parse(text),
            _ => return self.give_up("Primary replied with wrong +CONTINUE syntax.", turn),
        };
        if !self.asked_to_continue {
            return self.give_up("Primary continues a history that it was not asked to continue.", turn);
        }
        turn.notice("Successful partial resynchronization with primary.");
        events.push(Event::Continued(id));
        self.phase = Phase::Connected;
        self.down_since_ms = None;
        self.last_ack_ms = turn.now_ms;
        turn.notice("PRIMARY <-> REPLICA sync: Primary accepted a Partial Resynchronization.");
    }

    fn snapshot_header(
        &mut self,
        line: &[u8],
        settings: &LinkSettings,
        history: &History,
        events: &mut Vec<Event>,
        turn: &mut Turn<'_>,
    ) {
        if line.is_empty() {
            return;
        }
        if let Some(error) = line.strip_prefix(b"-") {
            return self
                .give_up(format!("PRIMARY aborted replication with an error: {}", shown(error)), turn);
        }
        let Some(reader) = SnapshotReader::from_header(line) else {
            let text = format!(
                "Bad protocol from PRIMARY, the first byte is not '$' (we received '{}'), are you sure the host and \
                 port are right?",
                shown(line)
            );
            return self.give_up(text, turn);
        };
        let length = reader.left();
        match length {
            None => turn
                .notice("PRIMARY <-> REPLICA sync: receiving streamed RDB from primary with EOF to parser"),
            Some(length) => {
                turn.notice(format!(
                    "PRIMARY <-> REPLICA sync: receiving {length} bytes from primary to parser"
                ));
            }
        }
        self.begin_load(self.attempt, length, settings, history, events, turn);
        self.phase = Phase::Receiving { reader, length };
        if length == Some(0) {
            self.give_up("Bad protocol from PRIMARY: an empty snapshot", turn);
        }
    }

    fn begin_load(
        &self,
        attempt: Attempt,
        length: Option<u64>,
        settings: &LinkSettings,
        history: &History,
        events: &mut Vec<Event>,
        turn: &mut Turn<'_>,
    ) {
        let continues = self.target.is_some_and(|target| history.knows(target.id.as_str().as_bytes()));
        let meanwhile = match settings.load {
            LoadStrategy::Aside => Meanwhile::Unseen,
            LoadStrategy::Swap if continues => Meanwhile::Old,
            LoadStrategy::Swap => Meanwhile::Loading,
            LoadStrategy::FlushFirst => {
                turn.notice("PRIMARY <-> REPLICA sync: Flushing old data");
                events.push(Event::Flushed);
                Meanwhile::Loading
            }
        };
        turn.notice("PRIMARY <-> REPLICA sync: Loading DB in memory");
        turn.act(Action::BeginLoad { attempt, length, meanwhile });
    }

    // ---- A snapshot on a connection of its own ----

    fn open_channel(&mut self, turn: &mut Turn<'_>) {
        turn.notice("PSYNC is not possible, initialize RDB channel.");
        let attempt = self.next_attempt();
        self.channel = Some(RdbChannel::new(attempt));
        self.phase = Phase::AwaitingChannel;
        turn.act(Action::Connect { attempt, address: self.address.clone() });
    }

    fn channel_received(
        &mut self,
        input: Bytes,
        settings: &LinkSettings,
        history: &History,
        events: &mut Vec<Event>,
        turn: &mut Turn<'_>,
    ) {
        self.last_io_ms = turn.now_ms;
        let Some(channel) = &mut self.channel else { return };
        let attempt = channel.attempt;
        // What begins the loading comes before the bytes that feed it.
        let mut fed = Vec::new();
        let mut inner = Turn { actions: &mut fed, fresh_id: &mut *turn.fresh_id, ..*turn };
        let learnt = channel.read(input, &mut inner);
        let mut failure = None;
        for event in learnt {
            match event {
                ChannelEvent::End { id, position, client } => {
                    self.target = Some(Target { id, position, plain_sync: false });
                    self.line.clear();
                    let client = client.to_string();
                    self.send(turn, &[b"REPLCONF", b"set-rdb-client-id", client.as_bytes()]);
                    self.phase = Phase::Handshake { awaited: VecDeque::from([Awaited::SetRdbClient]) };
                }
                ChannelEvent::Begins => {
                    turn.notice(
                        "PRIMARY <-> REPLICA sync: receiving streamed RDB from primary with EOF to parser",
                    );
                    self.begin_load(attempt, None, settings, history, events, turn);
                }
                ChannelEvent::Failed(text) => failure = Some(text),
            }
        }
        turn.actions.append(&mut fed);
        if let Some(text) = failure {
            self.give_up(format!("Dual channel sync failed with error {text}"), turn);
        }
    }

    fn send_channel_psync(&mut self, turn: &mut Turn<'_>) {
        let Some(target) = self.target else { return };
        let first_wanted = (u128::from(target.position) + 1).to_string();
        turn.act(Action::PausePoint);
        turn.notice(format!(
            "Trying a partial resynchronization using main channel (request {}:{first_wanted}).",
            target.id
        ));
        self.send(turn, &[b"PSYNC", target.id.as_str().as_bytes(), first_wanted.as_bytes()]);
        self.phase = Phase::Handshake { awaited: VecDeque::from([Awaited::Psync]) };
    }

    /// The answer to the PSYNC behind the other connection's snapshot.
    fn channel_continued(&mut self, line: &[u8], events: &mut Vec<Event>, turn: &mut Turn<'_>) {
        let Some(name) = line.strip_prefix(b"+CONTINUE") else {
            return self.give_up(format!("Aborting dual channel sync: {}", shown(line)), turn);
        };
        // The primary's history may have got another name since it sent the snapshot.
        if let (Some(id), Some(target)) = (ReplicationId::parse(name.trim_ascii()), &mut self.target) {
            target.id = id;
        }
        self.phase = Phase::Buffering;
        self.last_newline_ms = turn.now_ms;
        if self.channel.as_ref().is_some_and(RdbChannel::is_loaded) {
            turn.debug("Dual channel sync - psync established after rdb load");
            events.extend(self.complete());
        }
    }

    /// The dataset of the snapshot is there.
    fn complete(&self) -> Option<Event> {
        let target = self.target?;
        Some(Event::Loaded { id: target.id, position: target.position, continuable: !target.plain_sync })
    }

    /// The loader is done with the snapshot. The caller acts on the events, then calls [`Link::after_load`].
    pub(super) fn loaded(
        &mut self,
        attempt: Attempt,
        result: Result<(), String>,
        turn: &mut Turn<'_>,
    ) -> Option<Event> {
        if let Some(channel) = self.channel.as_mut().filter(|channel| channel.attempt == attempt) {
            if let Err(reason) = result {
                self.give_up(
                    format!("Failed trying to load the PRIMARY synchronization DB from socket: {reason}"),
                    turn,
                );
                return None;
            }
            if !channel.loaded() {
                self.give_up("Replication stream EOF marker is broken", turn);
                return None;
            }
            return if matches!(self.phase, Phase::Buffering) { self.complete() } else { None };
        }
        if !self.is_current(attempt) || !matches!(self.phase, Phase::Loading | Phase::Receiving { .. }) {
            return None;
        }
        let finished = matches!(self.phase, Phase::Loading);
        match result {
            Ok(()) if finished => self.complete(),
            Ok(()) => {
                self.give_up("Replication stream EOF marker is broken", turn);
                None
            }
            Err(reason) => {
                let text =
                    format!("Failed trying to load the PRIMARY synchronization DB from socket: {reason}");
                self.give_up(text, turn);
                None
            }
        }
    }

    /// The new dataset is in place: go on with the stream.
    pub(super) fn after_load(&mut self, turn: &mut Turn<'_>) {
        self.phase = Phase::Connected;
        self.down_since_ms = None;
        self.last_io_ms = turn.now_ms;
        turn.notice("PRIMARY <-> REPLICA sync: Finished with success");
        if let Some(channel) = self.channel.take() {
            turn.act(Action::Disconnect { attempt: channel.attempt });
        }
        self.send_ack(turn);
        self.early_bytes = 0;
        for bytes in std::mem::take(&mut self.early) {
            turn.act(Action::ApplyStream { attempt: self.attempt, bytes });
        }
    }

    /// A line between two commands of the stream, without its end. It is no part of the stream.
    pub(super) fn stream_line(
        &mut self,
        attempt: Attempt,
        line: &[u8],
        settings: &LinkSettings,
        turn: &mut Turn<'_>,
    ) -> Option<Event> {
        if !self.is_current(attempt) || !self.is_connected() || line.is_empty() {
            return None;
        }
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        if let [b"+FOLLOW", host, port] = words.as_slice()
            && let Some(port) = integer(port).and_then(|port| u16::try_from(port).ok())
            && let Ok(host) = std::str::from_utf8(host)
            && settings.follow_failover
        {
            turn.notice(format!("Primary failed over to {host}:{port}: following"));
            return Some(Event::Follow(Address::new(host, port)));
        }
        let text = format!("Bad protocol from PRIMARY: '{}' between two commands of the stream", shown(line));
        self.give_up(text, turn);
        None
    }

    /// Tells the primary how far the stream is applied, and how far it is on the disk.
    pub(super) fn send_ack(&mut self, turn: &mut Turn<'_>) {
        if !self.is_connected() || self.target.is_some_and(|target| target.plain_sync) {
            return;
        }
        self.last_ack_ms = turn.now_ms;
        let applied = turn.stream.end.to_string();
        match turn.stream.fsynced.map(|fsynced| fsynced.to_string()) {
            Some(fsynced) => {
                self.send(turn, &[b"REPLCONF", b"ACK", applied.as_bytes(), b"FACK", fsynced.as_bytes()]);
            }
            None => self.send(turn, &[b"REPLCONF", b"ACK", applied.as_bytes()]),
        }
    }

    pub(super) fn tick(&mut self, settings: &LinkSettings, turn: &mut Turn<'_>) {
        let idle_ms = turn.now_ms.saturating_sub(self.last_io_ms);
        let late = idle_ms > settings.timeout_ms;
        match self.phase {
            Phase::Waiting { retry_at_ms } if retry_at_ms <= turn.now_ms => self.connect(turn),
            Phase::Waiting { .. } => {}
            Phase::Connecting | Phase::Handshake { .. } | Phase::AwaitingChannel if late => {
                self.give_up("Timeout connecting to the PRIMARY...", turn);
            }
            Phase::AwaitingSnapshot | Phase::Receiving { .. } | Phase::Buffering if late => self.give_up(
                "Timeout receiving bulk data from PRIMARY... If the problem persists try to set the 'repl-timeout' \
                 parameter in valkey.conf to a larger value.",
                turn,
            ),
            Phase::Connected if late => self.give_up("PRIMARY timeout: no data nor PING received...", turn),
            Phase::Connected if turn.now_ms.saturating_sub(self.last_ack_ms) >= ACK_PERIOD_MS => self.send_ack(turn),
            // The primary would take the silence of a long load for a dead replica.
            Phase::Receiving { .. } | Phase::Loading | Phase::Buffering
                if turn.now_ms.saturating_sub(self.last_newline_ms) >= ACK_PERIOD_MS =>
            {
                self.last_newline_ms = turn.now_ms;
                turn.act(Action::SendToPrimary { attempt: self.attempt, bytes: b"\n".to_vec() });
            }
            _ => {}
        }
    }
}
