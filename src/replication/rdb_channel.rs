//! The second connection of a dual-channel full sync: it brings the snapshot while the first one brings the stream.
//!
//! Knows its own conversation: what it is called, where the snapshot ends in the stream, and the snapshot's bytes. It
//! must not know the main connection, nor retry: whoever owns both gives both up together.
//!
//! Source of the exchange: Valkey 8's dual-channel replication. After `REPLCONF … rdb-channel 1` and `SYNC` the
//! primary sends `$ENDOFF:<offset> <replication id> <database> <client id>` and then a snapshot that ends with a mark.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::action::{Action, Turn};
use super::handshake::integer;
use super::history::ReplicationId;
use super::line::{Line, request, shown, take_line};
use super::replica::{Attempt, LinkSettings};
use super::snapshot_reader::{Chunk, SnapshotReader};

const VERSION: &str = "REPLCONF version";

#[derive(Debug)]
enum Phase {
    Connecting,
    /// Names of the commands whose replies have yet to come.
    Handshake {
        awaited: VecDeque<&'static str>,
    },
    AwaitingEnd,
    AwaitingSnapshot,
    Receiving {
        reader: SnapshotReader,
    },
    Loading,
    Loaded,
}

/// What the channel learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChannelEvent {
    /// The snapshot is of this moment; the primary knows this connection by `client`.
    End { id: ReplicationId, position: u64, client: u64 },
    /// The snapshot begins.
    Begins,
    /// The peer does not behave, or refuses.
    Failed(String),
}

#[derive(Debug)]
pub(super) struct RdbChannel {
    pub attempt: Attempt,
    phase: Phase,
    line: BytesMut,
    received: u64,
}

impl RdbChannel {
    pub fn new(attempt: Attempt) -> Self {
        RdbChannel { attempt, phase: Phase::Connecting, line: BytesMut::new(), received: 0 }
    }

    /// Whether the socket should be read.
    pub fn wants_input(&self) -> bool {
        !matches!(self.phase, Phase::Loading | Phase::Loaded)
    }

    pub fn received_bytes(&self) -> u64 {
        self.received
    }

    /// Whether a loader is at work on the snapshot, or done with it.
    pub fn has_loader(&self) -> bool {
        matches!(self.phase, Phase::Receiving { .. } | Phase::Loading | Phase::Loaded)
    }

    pub fn is_loaded(&self) -> bool {
        matches!(self.phase, Phase::Loaded)
    }

    fn send(&self, turn: &mut Turn<'_>, words: &[&[u8]]) {
        turn.act(Action::SendToPrimary { attempt: self.attempt, bytes: request(words) });
    }

    pub fn connected(&mut self, settings: &LinkSettings, turn: &mut Turn<'_>) {
        if !matches!(self.phase, Phase::Connecting) {
            return;
        }
        let mut awaited = VecDeque::new();
        if let Some(password) = &settings.password {
            match &settings.user {
                Some(user) => self.send(turn, &[b"AUTH", user, password]),
                None => self.send(turn, &[b"AUTH", password]),
            }
            awaited.push_back("AUTH");
        }
        let port = settings.announce_port.to_string();
        let mut words: Vec<&[u8]> =
            vec![b"REPLCONF", b"capa", b"eof", b"rdb-only", b"1", b"rdb-channel", b"1"];
        words.extend([&b"listening-port"[..], port.as_bytes()]);
        if let Some(ip) = &settings.announce_ip {
            words.extend([&b"ip-address"[..], ip.as_bytes()]);
        }
        self.send(turn, &words);
        awaited.push_back("REPLCONF");
        // What it is worth depends on the primary: without it, one of Valkey 9 leaves out what older replicas cannot read.
        self.send(turn, &[b"REPLCONF", b"version", settings.version.as_bytes()]);
        awaited.push_back(VERSION);
        self.phase = Phase::Handshake { awaited };
    }

    pub fn read(&mut self, mut input: Bytes, turn: &mut Turn<'_>) -> Vec<ChannelEvent> {
        let mut events = Vec::new();
        while !input.is_empty() && !matches!(events.last(), Some(ChannelEvent::Failed(_))) {
            match &mut self.phase {
                Phase::Handshake { .. } | Phase::AwaitingEnd | Phase::AwaitingSnapshot => {
                    match take_line(&mut self.line, &mut input) {
                        Line::Whole(line) => events.extend(self.line(&line, turn)),
                        Line::Part => {}
                        Line::TooLong => events.push(ChannelEvent::Failed("a line too long".to_owned())),
                    }
                }
                Phase::Receiving { reader } => {
                    let before = input.len();
                    let (snapshot, is_last) = match reader.read(std::mem::take(&mut input)) {
                        Chunk::More(snapshot) => (snapshot, false),
                        // Nothing follows the mark here; what does is not for us.
                        Chunk::Last(snapshot, _) => (snapshot, true),
                    };
                    self.received += before as u64;
                    if !snapshot.is_empty() {
                        turn.act(Action::FeedLoader { attempt: self.attempt, bytes: snapshot });
                    }
                    if is_last {
                        self.phase = Phase::Loading;
                        turn.act(Action::FinishLoad { attempt: self.attempt });
                    }
                }
                Phase::Connecting | Phase::Loading | Phase::Loaded => break,
            }
        }
        events
    }

    fn line(&mut self, line: &[u8], turn: &mut Turn<'_>) -> Option<ChannelEvent> {
        let failed = |text: String| Some(ChannelEvent::Failed(text));
        match &mut self.phase {
            Phase::Handshake { awaited } => {
                let name = awaited.pop_front().unwrap_or_default();
                if line.starts_with(b"-") && name != VERSION {
                    return failed(format!("{name} is refused: {}", shown(line)));
                }
                if awaited.is_empty() {
                    turn.act(Action::SendToPrimary { attempt: self.attempt, bytes: b"SYNC\r\n".to_vec() });
                    self.phase = Phase::AwaitingEnd;
                }
                None
            }
            // Newlines keep the connection alive until the snapshot is begun.
            _ if line.is_empty() => None,
            Phase::AwaitingEnd => match end_of_snapshot(line) {
                Some(event) => {
                    self.phase = Phase::AwaitingSnapshot;
                    Some(event)
                }
                None => failed(format!("Received unexpected $ENDOFF response: {}", shown(line))),
            },
            _ => match SnapshotReader::from_header(line) {
                Some(reader) if reader.left() != Some(0) => {
                    self.phase = Phase::Receiving { reader };
                    Some(ChannelEvent::Begins)
                }
                _ => failed(format!("not the beginning of a snapshot: {}", shown(line))),
            },
        }
    }

    /// The loader has made a dataset of the whole snapshot. `false`: it ended before the snapshot did.
    pub fn loaded(&mut self) -> bool {
        let whole = matches!(self.phase, Phase::Loading);
        if whole {
            self.phase = Phase::Loaded;
        }
        whole
    }
}

fn end_of_snapshot(line: &[u8]) -> Option<ChannelEvent> {
    let words: Vec<&[u8]> = line.strip_prefix(b"$ENDOFF:")?.split(|byte| *byte == b' ').collect();
    let number = |text: &[u8]| integer(text).and_then(|number| u64::try_from(number).ok());
    let [position, id, database, client] = words.as_slice() else { return None };
    // The database stands in the snapshot too, and the stream says it again. It is -1 before the first write.
    integer(database)?;
    Some(ChannelEvent::End {
        id: ReplicationId::parse(id)?,
        position: number(position)?,
        client: number(client)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_snapshot() {
        let id = "0123456789".repeat(4);
        let line = format!("$ENDOFF:77 {id} 3 12");
        let expected = ChannelEvent::End {
            id: ReplicationId::parse(id.as_bytes()).expect("an id"),
            position: 77,
            client: 12,
        };
        assert_eq!(end_of_snapshot(line.as_bytes()), Some(expected.clone()));
        let line = format!("$ENDOFF:77 {id} -1 12");
        assert_eq!(end_of_snapshot(line.as_bytes()), Some(expected), "nothing was written yet");
        for bad in [
            "$ENDOFF:".to_owned(),
            format!("$ENDOFF:-1 {id} 3 12"),
            format!("$ENDOFF:77 {id} 3"),
            format!("$ENDOFF:77 {id} 3 12 1"),
            "$ENDOFF:77 short 3 12".to_owned(),
            format!("+FULLRESYNC {id} 77"),
        ] {
            assert_eq!(end_of_snapshot(bad.as_bytes()), None, "{bad}");
        }
    }
}
