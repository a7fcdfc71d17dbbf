//! WAIT and WAITAOF: clients that wait until enough replicas (and disks) have their writes.
//!
//! Knows counts and positions, not who the replicas are. Invariant: every waiter is answered exactly once.

use super::action::ConnectionId;
use super::handshake::integer;
use crate::protocol::{ErrorReply, Reply};

/// What a waiting client asked for. A deadline of `None` waits for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitRequest {
    pub replicas: i64,
    pub kind: WaitKind,
    pub deadline_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitKind {
    /// Replicas that have applied the writes.
    Applied,
    /// Replicas that have them on disk, and this server too if `local`.
    Fsynced { local: bool },
}

/// The answer to a waiting client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReply {
    Replicas(usize),
    Fsynced { local: bool, replicas: usize },
    Error(ErrorReply),
}

impl From<WaitReply> for Reply<'static> {
    fn from(reply: WaitReply) -> Self {
        let count = |n: usize| Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX));
        match reply {
            WaitReply::Replicas(replicas) => count(replicas),
            WaitReply::Fsynced { local, replicas } => {
                Reply::Array(vec![Reply::Integer(i64::from(local)), count(replicas)])
            }
            WaitReply::Error(error) => Reply::Error(error),
        }
    }
}

pub const WAIT_ON_REPLICA: ErrorReply = ErrorReply::new(
    "ERR WAIT cannot be used with replica instances. Please also note that if a replica is configured to be writable \
     (which is not the default) writes to replicas are just local and are not propagated.",
);
pub const WAITAOF_ON_REPLICA: ErrorReply = ErrorReply::new(
    "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and \
     are not propagated.",
);
pub const WAITAOF_WITHOUT_AOF: ErrorReply =
    ErrorReply::new("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");

/// `WAIT numreplicas timeout`: the arguments after the name.
pub fn parse_wait(arguments: [&[u8]; 2], is_replica: bool, now_ms: u64) -> Result<WaitRequest, ErrorReply> {
    if is_replica {
        return Err(WAIT_ON_REPLICA);
    }
    let replicas = integer(arguments[0]).ok_or(ErrorReply::NOT_AN_INTEGER)?;
    Ok(WaitRequest { replicas, kind: WaitKind::Applied, deadline_ms: deadline(arguments[1], now_ms)? })
}

/// `WAITAOF numlocal numreplicas timeout`: the arguments after the name.
pub fn parse_waitaof(
    arguments: [&[u8]; 3],
    is_replica: bool,
    aof_enabled: bool,
    now_ms: u64,
) -> Result<WaitRequest, ErrorReply> {
    let local = match integer(arguments[0]).ok_or(ErrorReply::NOT_AN_INTEGER)? {
        0 => false,
        1 => true,
        _ => return Err(ErrorReply::new("ERR value is out of range, value must between 0 and 1")),
    };
    let replicas = integer(arguments[1]).ok_or(ErrorReply::NOT_AN_INTEGER)?;
    if replicas < 0 {
        return Err(ErrorReply::MUST_BE_POSITIVE);
    }
    let deadline_ms = deadline(arguments[2], now_ms)?;
    if is_replica {
        return Err(WAITAOF_ON_REPLICA);
    }
    if local && !aof_enabled {
        return Err(WAITAOF_WITHOUT_AOF);
    }
    Ok(WaitRequest { replicas, kind: WaitKind::Fsynced { local }, deadline_ms })
}

/// A timeout in milliseconds as the moment it ends; 0 is never.
pub(crate) fn deadline(text: &[u8], now_ms: u64) -> Result<Option<u64>, ErrorReply> {
    let timeout_ms = integer(text).ok_or(ErrorReply::new("ERR timeout is not an integer or out of range"))?;
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| ErrorReply::new("ERR timeout is negative"))?;
    match now_ms.checked_add(timeout_ms) {
        _ if timeout_ms == 0 => Ok(None),
        Some(end) if end <= i64::MAX as u64 => Ok(Some(end)),
        _ => Err(ErrorReply::new("ERR timeout is out of range")),
    }
}

/// What the replicas have, at a position.
pub(super) trait Acknowledged {
    fn applied(&self, position: u64) -> usize;
    fn fsynced(&self, position: u64) -> usize;
}

#[derive(Debug, Clone, Copy)]
struct Waiter {
    connection: ConnectionId,
    position: u64,
    request: WaitRequest,
}

/// Everyone who waits.
#[derive(Debug, Default)]
pub(super) struct Waiters(Vec<Waiter>);

impl Waiters {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, connection: ConnectionId, position: u64, request: WaitRequest) {
        self.0.push(Waiter { connection, position, request });
    }

    pub fn remove(&mut self, connection: ConnectionId) {
        self.0.retain(|waiter| waiter.connection != connection);
    }

    /// Everyone leaves without an answer: who they were.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes out those who have their answer: by count, or because their time is up.
    pub fn finished(
        &mut self,
        replicas: &impl Acknowledged,
        fsynced: Option<u64>,
        now_ms: u64,
    ) -> Vec<(ConnectionId, WaitReply)> {
        let mut finished = Vec::new();
        self.0.retain(|waiter| {
            let (reply, enough) = answer(&waiter.request, waiter.position, replicas, fsynced);
            let late = waiter.request.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms);
            if enough || late {
                finished.push((waiter.connection, reply));
            }
            !enough && !late
        });
        finished
    }
}

/// What a client would be told now, and whether that is what it waits for.
pub(super) fn answer(
    request: &WaitRequest,
    position: u64,
    replicas: &impl Acknowledged,
    fsynced: Option<u64>,
) -> (WaitReply, bool) {
    let enough = |count: usize| i64::try_from(count).is_ok_and(|count| count >= request.replicas);
    match request.kind {
        WaitKind::Applied => {
            let count = replicas.applied(position);
            (WaitReply::Replicas(count), enough(count))
        }
        // The AOF was switched off in the meantime: the wish can no longer come true.
        WaitKind::Fsynced { local: true } if fsynced.is_none() => {
            (WaitReply::Error(WAITAOF_WITHOUT_AOF), true)
        }
        WaitKind::Fsynced { local: wanted } => {
            let count = replicas.fsynced(position);
            let local = fsynced.is_some_and(|fsynced| fsynced >= position);
            (WaitReply::Fsynced { local, replicas: count }, enough(count) && local >= wanted)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions of each replica: applied, fsynced.
    struct Positions(Vec<(u64, u64)>);

    impl Acknowledged for Positions {
        fn applied(&self, position: u64) -> usize {
            self.0.iter().filter(|replica| replica.0 >= position).count()
        }
        fn fsynced(&self, position: u64) -> usize {
            self.0.iter().filter(|replica| replica.1 >= position).count()
        }
    }

    #[test]
    fn arguments() {
        let parse = |a: &'static str, b: &'static str| parse_wait([a.as_bytes(), b.as_bytes()], false, 100);
        let ok = WaitRequest { replicas: 2, kind: WaitKind::Applied, deadline_ms: Some(150) };
        assert_eq!(parse("2", "50"), Ok(ok));
        assert_eq!(parse("2", "0").map(|request| request.deadline_ms), Ok(None));
        assert_eq!(parse("x", "0"), Err(ErrorReply::NOT_AN_INTEGER));
        assert_eq!(parse("1", "-1"), Err(ErrorReply::new("ERR timeout is negative")));
        assert_eq!(parse("1", "x"), Err(ErrorReply::new("ERR timeout is not an integer or out of range")));
        assert_eq!(parse("1", "9223372036854775807"), Err(ErrorReply::new("ERR timeout is out of range")));
        assert_eq!(parse_wait([b"x", b"0"], true, 0), Err(WAIT_ON_REPLICA));
    }

    #[test]
    fn waitaof_arguments() {
        let parse = |a: &'static [u8], b: &'static [u8], is_replica, aof| {
            parse_waitaof([a, b, b"0"], is_replica, aof, 0).map(|request| request.kind)
        };
        assert_eq!(parse(b"1", b"0", false, true), Ok(WaitKind::Fsynced { local: true }));
        assert_eq!(parse(b"1", b"0", false, false), Err(WAITAOF_WITHOUT_AOF));
        assert_eq!(parse(b"0", b"0", true, false), Err(WAITAOF_ON_REPLICA));
        assert_eq!(parse(b"0", b"-1", false, false), Err(ErrorReply::MUST_BE_POSITIVE));
        assert!(parse(b"2", b"0", false, false).is_err());
    }

    #[test]
    fn applied_by_count_and_by_deadline() {
        let mut waiters = Waiters::default();
        let request = WaitRequest { replicas: 2, kind: WaitKind::Applied, deadline_ms: Some(500) };
        waiters.add(1, 10, request);
        waiters.add(2, 20, request);
        let replicas = Positions(vec![(10, 0), (15, 0)]);
        assert_eq!(waiters.finished(&replicas, None, 499), vec![(1, WaitReply::Replicas(2))]);
        assert_eq!(waiters.finished(&replicas, None, 500), vec![(2, WaitReply::Replicas(0))]);
        assert!(waiters.is_empty());
    }

    #[test]
    fn fsynced_needs_local_and_replicas() {
        let mut waiters = Waiters::default();
        let request = WaitRequest { replicas: 1, kind: WaitKind::Fsynced { local: true }, deadline_ms: None };
        waiters.add(1, 10, request);
        let behind = Positions(vec![(10, 9)]);
        let there = Positions(vec![(10, 10)]);
        assert_eq!(waiters.finished(&behind, Some(10), 0), vec![]);
        assert_eq!(waiters.finished(&there, Some(9), 0), vec![]);
        let both = WaitReply::Fsynced { local: true, replicas: 1 };
        assert_eq!(waiters.finished(&there, Some(10), 0), vec![(1, both)]);
        waiters.add(1, 10, request);
        assert_eq!(waiters.finished(&behind, None, 0), vec![(1, WaitReply::Error(WAITAOF_WITHOUT_AOF))]);
    }
}
