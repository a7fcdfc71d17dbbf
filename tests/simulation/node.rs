//! One server: the real state machines, around a dataset and a stream small enough to look through.
//!
//! Its disk is perfect: what was appended survives a kill, unless the world takes a tail away.

use crate::network::{Happening, Network, NodeId, SocketId};
use bytes::Bytes;
use std::collections::BTreeMap;
use understudy::failover::{CommandClass, Coordinator, PauseGate, WriteScript};
use understudy::protocol::ErrorReply;
use understudy::replication::{
    Accepted, Action, Address, Attempt, Framing, History, LinkSettings, LoadStrategy, OutputLimit,
    PrimarySettings, ReplconfReply, Replication, ReplicationId, Role, Settings, StreamView, SyncRequest,
    Turn,
};

pub type Dataset = BTreeMap<String, String>;

/// How a node differs from others.
#[derive(Debug, Clone)]
pub struct Character {
    /// Behaves like a server that knows nothing of `+FOLLOW` and leaves a GETACK out of its answer.
    pub plain: bool,
    pub diskless: bool,
    pub backlog_size: u64,
    pub load: LoadStrategy,
    pub sync_delay_ms: u64,
    /// Snapshots come on connections of their own.
    pub dual_channel: bool,
}

/// What a client was promised.
#[derive(Debug, Clone)]
pub struct Promise {
    pub key: String,
    pub value: String,
}

#[derive(Default)]
struct Incoming {
    /// Where its stream has got to, once it receives it.
    stream: Option<u64>,
    input: Vec<u8>,
}

pub struct Node {
    pub id: NodeId,
    pub life: u32,
    pub alive: bool,
    pub character: Character,
    pub replication: Replication,
    pub gate: PauseGate,
    pub coordinator: Coordinator,
    pub data: Dataset,
    /// The dataset at position `base`, and all bytes since.
    base: u64,
    base_data: Dataset,
    log: Vec<u8>,
    kept_from: Option<u64>,
    role: Role,
    incoming: BTreeMap<SocketId, Incoming>,
    links: BTreeMap<Attempt, SocketId>,
    stream_input: Vec<u8>,
    loader: Option<Vec<u8>>,
    prepared: BTreeMap<u64, Vec<u8>>,
    released: bool,
    pub parked: Vec<Promise>,
    pub accepted: Vec<(ReplicationId, Promise)>,
    pub script: Option<Vec<Promise>>,
    pub trace: Vec<String>,
    ids: u64,
}

pub fn host(id: NodeId) -> String {
    format!("10.0.0.{id}")
}

pub fn node_of(address: &Address) -> Option<NodeId> {
    address.host.strip_prefix("10.0.0.")?.parse().ok()
}

fn settings(id: NodeId, character: &Character) -> Settings {
    Settings {
        primary: PrimarySettings {
            diskless_sync: character.diskless,
            dual_channel: character.dual_channel,
            rdb_client_grace_ms: 3_000,
            diskless_sync_delay_ms: character.sync_delay_ms,
            ping_period_ms: 1_000,
            timeout_ms: 4_000,
            backlog_ttl_ms: 30_000,
            output_limit: OutputLimit { hard_bytes: 1 << 20, soft_bytes: 0, soft_ms: 0 },
            ..PrimarySettings::default()
        },
        link: LinkSettings {
            user: None,
            password: None,
            announce_ip: Some(host(id)),
            announce_port: 6379,
            version: "9.1.0",
            follow_failover: !character.plain,
            timeout_ms: 4_000,
            load: character.load,
            dual_channel: character.dual_channel,
            early_limit_bytes: 0,
        },
    }
}

fn fresh_id(id: NodeId, counter: &mut u64) -> ReplicationId {
    *counter += 1;
    let mut random = [0; 20];
    random[0] = id as u8 + 1;
    random[12..].copy_from_slice(&counter.to_be_bytes());
    ReplicationId::from_random(random)
}

impl Node {
    pub fn new(id: NodeId, character: Character, primary: Option<NodeId>, now_ms: u64) -> Self {
        let mut ids = 0;
        let history = History::new(fresh_id(id, &mut ids));
        let address = primary.map(|primary| Address::new(host(primary), 6379));
        let role = address.map_or(Role::Primary, Role::Replica);
        Node {
            id,
            life: 0,
            alive: true,
            replication: Replication::new(settings(id, &character), history, role.clone(), now_ms),
            character,
            gate: PauseGate::default(),
            coordinator: Coordinator::default(),
            data: Dataset::new(),
            base: 0,
            base_data: Dataset::new(),
            log: Vec::new(),
            kept_from: None,
            role,
            incoming: BTreeMap::new(),
            links: BTreeMap::new(),
            stream_input: Vec::new(),
            loader: None,
            prepared: BTreeMap::new(),
            released: false,
            parked: Vec::new(),
            accepted: Vec::new(),
            script: None,
            trace: Vec::new(),
            ids,
        }
    }

    pub fn end(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    pub fn is_primary(&self) -> bool {
        !self.replication.is_replica()
    }

    pub fn has_link(&self, attempt: Attempt) -> bool {
        self.links.contains_key(&attempt)
    }

    /// The stream's bytes that this node and another both have.
    pub fn same_bytes(&self, other: &Node) -> bool {
        let (from, to) = (self.base.max(other.base), self.end().min(other.end()));
        from >= to || self.bytes(from, to) == other.bytes(from, to)
    }

    fn bytes(&self, from: u64, to: u64) -> &[u8] {
        &self.log[(from - self.base) as usize..(to - self.base) as usize]
    }

    fn view(&self) -> StreamView {
        StreamView { end: self.end(), kept_from: self.kept_from, fsynced: Some(self.end()), database: 0 }
    }

    /// One event of the state machines, followed by the coordinator's step, and all that comes of it.
    pub fn turn<R>(
        &mut self,
        network: &mut Network,
        event: impl FnOnce(&mut Replication, &mut Coordinator, &mut PauseGate, &mut Turn<'_>) -> R,
    ) -> R {
        let mut actions = Vec::new();
        let view = self.view();
        let script = if self.script.is_some() { WriteScript::Running } else { WriteScript::None };
        let (id, ids) = (self.id, &mut self.ids);
        let mut fresh = || fresh_id(id, ids);
        let mut turn =
            Turn { now_ms: network.now_ms, stream: view, fresh_id: &mut fresh, actions: &mut actions };
        let result = event(&mut self.replication, &mut self.coordinator, &mut self.gate, &mut turn);
        self.coordinator.step(script, &mut self.replication, &mut self.gate, &mut turn);
        let foreseen = turn.stream;
        // Stream bytes are applied in turns of their own: those move on from what this turn saw.
        let applies = actions.iter().any(|action| matches!(action, Action::ApplyStream { .. }));
        for action in actions {
            self.perform(action, network);
        }
        if !applies {
            assert_eq!(
                foreseen.end,
                self.end(),
                "node {}: the view of the stream and the stream differ",
                self.id
            );
        }
        self.pump(network);
        if std::mem::take(&mut self.released) {
            for promise in std::mem::take(&mut self.parked) {
                self.write(promise, network);
            }
        }
        result
    }

    fn perform(&mut self, action: Action, network: &mut Network) {
        let life = self.life;
        let node = self.id;
        match action {
            Action::Log(_, text) => self.trace.push(format!("{} {node}: {text}", network.now_ms)),
            Action::Send { connection, bytes } => network.send(connection, false, &bytes),
            Action::StreamFrom { connection, position } => {
                assert!(
                    position >= self.base && position <= self.end(),
                    "node {node}: stream from {position}"
                );
                if let Some(incoming) = self.incoming.get_mut(&connection) {
                    incoming.stream = Some(position);
                }
            }
            Action::SendAfterStream { connection, position, bytes } => {
                assert_eq!(position, self.end());
                self.pump(network);
                network.send(connection, false, &bytes);
                self.close_incoming(connection, network);
            }
            Action::Close { connection } | Action::CloseOverLimit { connection } => {
                self.close_incoming(connection, network)
            }
            Action::StartTransfer { transfer, framing, connections, .. } => {
                let snapshot = save(&self.data);
                let Framing::EofMark(mark) = framing else {
                    self.prepared.insert(transfer, snapshot);
                    let delay_ms = network.random.u64(0..300);
                    return network.at(delay_ms, Happening::TransferPrepared { node, life, transfer });
                };
                let framed =
                    [format!("$EOF:{mark}\r\n").as_bytes(), &snapshot, mark.as_str().as_bytes()].concat();
                for socket in connections {
                    network.send(socket, false, &framed);
                    let delay_ms = network.random.u64(0..100);
                    network.at(delay_ms, Happening::SnapshotSent { node, life, socket });
                }
            }
            Action::SendPrepared { connection: socket, transfer } => {
                network.send(socket, false, &self.prepared[&transfer]);
                let delay_ms = network.random.u64(0..100);
                network.at(delay_ms, Happening::SnapshotSent { node, life, socket });
            }
            Action::EndTransfer { transfer } => drop(self.prepared.remove(&transfer)),
            Action::AppendToStream(record) => self.log.extend_from_slice(record),
            Action::CreateBacklog => self.kept_from = Some(self.end()),
            Action::FreeBacklog => self.kept_from = None,
            Action::Connect { attempt, address } => {
                let delay_ms = network.random.u64(1..60);
                network
                    .at(delay_ms, Happening::ConnectDone { node, life, attempt, target: node_of(&address) });
            }
            Action::Disconnect { attempt } => {
                if let Some(socket) = self.links.remove(&attempt) {
                    network.close(socket, true);
                }
                self.stream_input.clear();
            }
            Action::SendToPrimary { attempt, bytes } => {
                if let Some(socket) = self.links.get(&attempt) {
                    network.send(*socket, true, &bytes);
                }
            }
            Action::BeginLoad { .. } => self.loader = Some(Vec::new()),
            Action::FeedLoader { bytes, .. } => {
                self.loader.as_mut().expect("a load began").extend_from_slice(&bytes)
            }
            Action::FinishLoad { attempt } => {
                let delay_ms = network.random.u64(0..500);
                network.at(delay_ms, Happening::LoadDone { node, life, attempt });
            }
            Action::AbortLoad { .. } => self.loader = None,
            Action::FlushDataset => {
                self.data.clear();
                (self.base, self.base_data, self.kept_from) = (self.end(), Dataset::new(), Some(self.end()));
                self.log.clear();
            }
            Action::ReplaceDataset { position } => {
                self.data = load(&self.loader.take().expect("a load ended")).expect("checked before");
                (self.base, self.base_data, self.kept_from) = (position, self.data.clone(), Some(position));
                self.log.clear();
            }
            Action::ApplyStream { attempt, bytes } => {
                self.stream_input.extend_from_slice(&bytes);
                self.apply_stream(attempt, network);
            }
            Action::RoleChanged { role, .. } => self.role = role,
            Action::RollBackWriteScript => self.script = None,
            Action::ReleasePaused => self.released = true,
            Action::ReselectDatabase
            | Action::UnblockForDemotion
            | Action::FinishWait { .. }
            | Action::PausePoint => {}
        }
    }

    fn close_incoming(&mut self, socket: SocketId, network: &mut Network) {
        if self.incoming.remove(&socket).is_some() {
            network.close(socket, false);
            network.at(0, Happening::Closed { socket, to_server: true });
        }
    }

    /// Sends what the replicas have not had, and forgets what nobody may ask for again.
    fn pump(&mut self, network: &mut Network) {
        let end = self.end();
        for (&socket, incoming) in &mut self.incoming {
            if let Some(position) = incoming.stream.filter(|position| *position < end) {
                let from = (position - self.base) as usize;
                network.send(socket, false, &self.log[from..]);
                incoming.stream = Some(end);
                self.replication.stream_sent(socket, end);
            }
        }
        if let Some(kept_from) = &mut self.kept_from {
            let oldest = self.replication.primary().oldest_needed().unwrap_or(end);
            *kept_from = (*kept_from).max(end.saturating_sub(self.character.backlog_size).min(oldest));
        }
    }

    /// Applies whole commands of the primary's stream.
    fn apply_stream(&mut self, attempt: Attempt, network: &mut Network) {
        while self.has_link(attempt) && !self.stream_input.is_empty() {
            if self.stream_input[0] != b'*' {
                let Some(line) = take_line(&mut self.stream_input) else { return };
                self.turn(network, |replication, _, _, turn| replication.link_line(attempt, &line, turn));
                continue;
            }
            let Some((length, words)) = parse_command(&self.stream_input) else { return };
            let command: Vec<u8> = self.stream_input.drain(..length).collect();
            let asks = words.first().is_some_and(|word| word == "REPLCONF");
            if asks && self.character.plain {
                self.turn(network, |replication, _, _, turn| replication.acknowledge(turn));
            }
            self.log.extend_from_slice(&command);
            apply(&mut self.data, &words);
            if asks && !self.character.plain {
                self.turn(network, |replication, _, _, turn| replication.acknowledge(turn));
            }
            self.pump(network);
        }
    }

    /// A client's write: accepted, parked or refused.
    pub fn write(&mut self, promise: Promise, network: &mut Network) {
        if self.script.is_some() || self.gate.holds(CommandClass::Write, network.now_ms) {
            self.parked.push(promise);
        } else if self.is_primary() {
            self.accept(promise);
            self.turn(network, |_, _, _, _| ());
        }
    }

    fn accept(&mut self, promise: Promise) {
        let command = command(&["SET", &promise.key, &promise.value]);
        self.log.extend_from_slice(&command);
        self.data.insert(promise.key.clone(), promise.value.clone());
        self.accepted.push((self.replication.history().id(), promise));
    }

    /// A script that writes begins: nothing of it is visible until it ends.
    pub fn begin_script(&mut self, writes: Vec<Promise>, now_ms: u64) -> bool {
        let may = self.script.is_none() && self.is_primary() && !self.gate.holds(CommandClass::Write, now_ms);
        if may {
            self.script = Some(writes);
        }
        may
    }

    pub fn end_script(&mut self, network: &mut Network) {
        let Some(writes) = self.script.take() else { return };
        assert!(self.is_primary(), "node {}: the role changed under a write script", self.id);
        writes.into_iter().for_each(|promise| self.accept(promise));
        self.turn(network, |_, _, _, _| ());
        if !self.gate.holds(CommandClass::Write, network.now_ms) {
            for promise in std::mem::take(&mut self.parked) {
                self.write(promise, network);
            }
        }
    }

    pub fn accept_connection(&mut self, socket: SocketId) {
        self.incoming.insert(socket, Incoming::default());
    }

    pub fn link_is_up(&mut self, attempt: Attempt, socket: SocketId, network: &mut Network) -> bool {
        if self.replication.link().is_none_or(|link| !link.is_current(attempt)) {
            return false;
        }
        self.links.insert(attempt, socket);
        self.turn(network, |replication, _, _, turn| replication.link_connected(attempt, turn));
        true
    }

    pub fn primary_sent(&mut self, attempt: Attempt, bytes: Vec<u8>, network: &mut Network) {
        let bytes = Bytes::from(bytes);
        self.turn(network, |replication, _, _, turn| replication.link_received(attempt, bytes, turn));
    }

    pub fn link_is_lost(&mut self, attempt: Attempt, network: &mut Network) {
        self.turn(network, |replication, _, _, turn| {
            replication.link_lost(attempt, "connection closed", turn)
        });
    }

    pub fn incoming_closed(&mut self, socket: SocketId, network: &mut Network) {
        self.incoming.remove(&socket);
        self.turn(network, |replication, _, _, turn| replication.closed(socket, turn));
    }

    /// Bytes of a connection that is, or wants to be, a replica's.
    pub fn client_sent(&mut self, socket: SocketId, peer: NodeId, bytes: &[u8], network: &mut Network) {
        let Some(incoming) = self.incoming.get_mut(&socket) else { return };
        incoming.input.extend_from_slice(bytes);
        while let Some(incoming) = self.incoming.get_mut(&socket) {
            let Some(&first) = incoming.input.first() else { return };
            if first != b'*' {
                let Some(line) = take_line(&mut incoming.input) else { return };
                assert!(line.is_empty() || line == b"SYNC", "node {}: {line:?}", self.id);
                if line == b"SYNC" && self.character.dual_channel {
                    self.sync(socket, peer, None, network);
                }
                continue;
            }
            let Some((length, words)) = parse_command(&incoming.input) else { return };
            incoming.input.drain(..length);
            self.client_command(socket, peer, &words, network);
        }
    }

    fn client_command(&mut self, socket: SocketId, peer: NodeId, words: &[String], network: &mut Network) {
        let arguments: Vec<&[u8]> = words.iter().skip(1).map(String::as_bytes).collect();
        let reply = match words[0].as_str() {
            "PING" => Some("+PONG\r\n".to_owned()),
            "REPLCONF" => {
                match self
                    .turn(network, |replication, _, _, turn| replication.replconf(socket, &arguments, turn))
                {
                    ReplconfReply::Ok => Some("+OK\r\n".to_owned()),
                    ReplconfReply::Error(error) => Some(error_line(&error)),
                    ReplconfReply::Silent | ReplconfReply::SendAck => None,
                }
            }
            "PSYNC" => return self.sync(socket, peer, Some(&arguments), network),
            other => panic!("node {}: {other}", self.id),
        };
        if let Some(reply) = reply {
            network.send(socket, false, reply.as_bytes());
        }
    }

    fn sync(&mut self, socket: SocketId, peer: NodeId, psync: Option<&[&[u8]]>, network: &mut Network) {
        let request = SyncRequest {
            connection: socket,
            peer_ip: &host(peer),
            client_info: "a node",
            psync,
            has_pending_output: false,
            on_disk_from: None,
        };
        let reply = match self.turn(network, |replication, _, _, turn| replication.sync(&request, turn)) {
            Ok(Accepted::Attached) => return,
            Ok(Accepted::DualChannel) => format!("+{}\r\n", Accepted::DUAL_CHANNEL_REPLY),
            Err(error) => error_line(&error),
        };
        network.send(socket, false, reply.as_bytes());
    }

    pub fn load_done(&mut self, attempt: Attempt, network: &mut Network) {
        if self.replication.link().is_none_or(|link| !link.is_current(attempt)) {
            return;
        }
        let result = match self.loader.as_deref().map(load) {
            Some(Some(_)) => Ok(()),
            _ => Err("damaged snapshot".to_owned()),
        };
        self.turn(network, |replication, _, _, turn| replication.loaded(attempt, result, turn));
    }

    /// The length of a snapshot that was prepared and is still wanted.
    pub fn prepared_length(&self, transfer: u64) -> Option<u64> {
        self.prepared.get(&transfer).map(|snapshot| snapshot.len() as u64)
    }

    /// Everything in memory is gone.
    pub fn kill(&mut self) {
        self.alive = false;
        self.incoming.clear();
        self.links.clear();
        self.stream_input.clear();
        self.loader = None;
        self.prepared.clear();
        self.parked.clear();
        self.script = None;
    }

    /// Comes back from its disk, perhaps without the last commands.
    pub fn restart(&mut self, lose_tail: bool, network: &mut Network) {
        if lose_tail {
            let keep = network.random.usize(0..=self.log.len());
            self.data = self.base_data.clone();
            let mut at = 0;
            while let Some((length, words)) =
                parse_command(&self.log[at..]).filter(|(length, _)| at + length <= keep)
            {
                apply(&mut self.data, &words);
                at += length;
            }
            self.log.truncate(at);
        }
        self.alive = true;
        self.life += 1;
        let stored = self.replication.history().clone();
        let ancestors = stored.ancestors().to_vec();
        let history = match &self.role {
            Role::Primary => {
                let fresh = fresh_id(self.id, &mut self.ids);
                History::of_restarted_primary(stored.id(), ancestors, self.end(), fresh)
            }
            Role::Replica(_) | Role::HandingOver(_) if stored.is_continuable() => {
                History::of_restarted_replica(stored.id(), ancestors)
            }
            // A dataset that was flushed for a load that did not end belongs to no position.
            Role::Replica(_) | Role::HandingOver(_) => History::new(fresh_id(self.id, &mut self.ids)),
        };
        self.kept_from = self.kept_from.map(|_| self.base);
        let role = self.role.clone();
        self.replication =
            Replication::new(settings(self.id, &self.character), history, role, network.now_ms);
        self.gate = PauseGate::default();
        self.coordinator = Coordinator::resume(&self.replication, &mut self.gate, network.now_ms);
        let (node, life) = (self.id, self.life);
        network.at(1, Happening::Tick { node, life });
    }
}

fn error_line(error: &ErrorReply) -> String {
    format!("-{}\r\n", String::from_utf8_lossy(&error.0))
}

pub fn command(words: &[&str]) -> Vec<u8> {
    let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    let count = words.matches('$').count();
    format!("*{count}\r\n{words}").into_bytes()
}

fn apply(data: &mut Dataset, words: &[String]) {
    if let [name, key, value] = words
        && name == "SET"
    {
        data.insert(key.clone(), value.clone());
    }
}

fn take_line(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let at = input.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = input.drain(..=at).collect();
    Some(line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n"))?.to_vec())
}

/// The length and words of the command that the bytes begin with, once it is whole.
fn parse_command(bytes: &[u8]) -> Option<(usize, Vec<String>)> {
    let number = |from: usize, sign: u8| -> Option<(usize, usize)> {
        let end = from + bytes.get(from..)?.windows(2).position(|pair| pair == b"\r\n")?;
        let text = std::str::from_utf8(bytes[from..end].strip_prefix(&[sign])?).ok()?;
        Some((text.parse().ok()?, end + 2))
    };
    let (count, mut at) = number(0, b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (length, from) = number(at, b'$')?;
        words.push(String::from_utf8_lossy(bytes.get(from..from + length)?).into_owned());
        at = from + length + 2;
    }
    (at <= bytes.len()).then_some((at, words))
}

fn save(data: &Dataset) -> Vec<u8> {
    let lines: String = data.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    format!("{lines}end {}\n", data.len()).into_bytes()
}

fn load(snapshot: &[u8]) -> Option<Dataset> {
    let text = std::str::from_utf8(snapshot).ok()?;
    let (lines, end) = text.rsplit_once("end ")?;
    let data: Dataset =
        lines.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
    (end.trim().parse() == Ok(data.len())).then_some(data)
}
