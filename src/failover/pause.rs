//! The one gate at which commands wait: CLIENT PAUSE, failover and shutdown all close it.
//!
//! Knows classes of commands, not commands; and purposes, not who asked. Invariants: each purpose has at most one
//! pause, which never becomes shorter but by being lifted; together the most restrictive scope counts.

use crate::protocol::ErrorReply;
use crate::replication::wait;

/// Who paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Client,
    Failover,
    Shutdown,
}

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Whatever may change data or reach replicas.
    Write,
    /// Every command of a client.
    All,
}

/// What the gate has to know of a command. A transaction has the class of its strongest command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandClass {
    /// Never waits: it came from a replica or from the primary.
    Always,
    /// Reads, read-only scripts, functions with `no-writes`, and what touches no data.
    Read,
    /// EVAL and FCALL without `no-writes`, PUBLISH, SPUBLISH, PFCOUNT.
    MayReplicate,
    Write,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    scope: Scope,
    /// The first moment after the pause; `None` is never.
    until_ms: Option<u64>,
}

impl Pause {
    fn is_over(&self, now_ms: u64) -> bool {
        self.until_ms.is_some_and(|until_ms| until_ms <= now_ms)
    }
}

/// The pauses in force.
#[derive(Debug, Default)]
pub struct PauseGate {
    pauses: [Option<Pause>; 3],
}

impl PauseGate {
    fn slot(&mut self, purpose: Purpose) -> &mut Option<Pause> {
        &mut self.pauses[purpose as usize]
    }

    /// Pauses until `until_ms` (`None`: until lifted), or longer if this purpose already pauses longer. Of the
    /// scope, a client's pause keeps ALL once it has it; the others take the new one.
    pub fn pause(&mut self, purpose: Purpose, scope: Scope, until_ms: Option<u64>, now_ms: u64) {
        let slot = self.slot(purpose);
        let new = Pause { scope, until_ms };
        *slot = Some(match slot.filter(|pause| !pause.is_over(now_ms)) {
            None => new,
            Some(old) => Pause {
                scope: if purpose == Purpose::Client { old.scope.max(scope) } else { scope },
                until_ms: old.until_ms.zip(until_ms).map(|(old, new)| old.max(new)),
            },
        });
    }

    /// Lifts the pause of this purpose. Returns whether held commands should be looked at again.
    #[must_use]
    pub fn unpause(&mut self, purpose: Purpose, now_ms: u64) -> bool {
        let before = self.scope(now_ms);
        *self.slot(purpose) = None;
        self.scope(now_ms) < before
    }

    /// Forgets the pauses that are over. Returns whether held commands should be looked at again.
    #[must_use]
    pub fn expire(&mut self, now_ms: u64) -> bool {
        let before = self.pauses.iter().flatten().map(|pause| pause.scope).max();
        for slot in &mut self.pauses {
            *slot = slot.filter(|pause| !pause.is_over(now_ms));
        }
        self.scope(now_ms) < before
    }

    /// When [`PauseGate::expire`] has something to do next.
    pub fn next_end_ms(&self) -> Option<u64> {
        self.pauses.iter().flatten().filter_map(|pause| pause.until_ms).min()
    }

    /// The most restrictive scope in force.
    pub fn scope(&self, now_ms: u64) -> Option<Scope> {
        self.pauses.iter().flatten().filter(|pause| !pause.is_over(now_ms)).map(|pause| pause.scope).max()
    }

    /// Whether a command of this class has to wait.
    pub fn holds(&self, class: CommandClass, now_ms: u64) -> bool {
        match (class, self.scope(now_ms)) {
            (CommandClass::Always, _) | (_, None) => false,
            (CommandClass::Read, Some(scope)) => scope == Scope::All,
            (CommandClass::MayReplicate | CommandClass::Write, Some(_)) => true,
        }
    }

    /// Whether expiry, eviction and everything else that would enter the stream by itself stands still.
    pub fn freezes_data(&self, now_ms: u64) -> bool {
        self.scope(now_ms).is_some()
    }
}

/// `CLIENT PAUSE timeout [WRITE|ALL]`: the arguments after PAUSE. The moment is `now_ms` for a timeout of 0.
pub fn parse_client_pause(
    timeout: &[u8],
    mode: Option<&[u8]>,
    now_ms: u64,
) -> Result<(Scope, u64), ErrorReply> {
    let scope = match mode.map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"all") => Scope::All,
        Some(b"write") => Scope::Write,
        Some(_) => return Err(ErrorReply::new("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    Ok((scope, wait::deadline(timeout, now_ms)?.unwrap_or(now_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use CommandClass::{Always, MayReplicate, Read, Write};

    fn held(gate: &PauseGate, now_ms: u64) -> Vec<CommandClass> {
        [Always, Read, MayReplicate, Write].into_iter().filter(|class| gate.holds(*class, now_ms)).collect()
    }

    #[test]
    fn scopes() {
        let mut gate = PauseGate::default();
        assert_eq!(held(&gate, 0), []);
        gate.pause(Purpose::Client, Scope::Write, Some(10), 0);
        assert_eq!(held(&gate, 9), [MayReplicate, Write]);
        assert!(gate.freezes_data(9) && !gate.freezes_data(10));
        gate.pause(Purpose::Client, Scope::All, Some(10), 0);
        assert_eq!(held(&gate, 9), [Read, MayReplicate, Write]);
        assert_eq!(held(&gate, 10), []);
    }

    #[test]
    fn longest_and_most_restrictive_win_within_a_purpose() {
        let mut gate = PauseGate::default();
        gate.pause(Purpose::Client, Scope::All, Some(100), 0);
        gate.pause(Purpose::Client, Scope::Write, Some(50), 0);
        assert_eq!(gate.scope(99), Some(Scope::All));
        // Once over, nothing of it is left.
        gate.pause(Purpose::Client, Scope::Write, Some(150), 100);
        assert_eq!(gate.scope(149), Some(Scope::Write));
        gate.pause(Purpose::Failover, Scope::Write, None, 0);
        gate.pause(Purpose::Failover, Scope::Write, Some(5), 0);
        assert_eq!(gate.scope(u64::MAX), Some(Scope::Write));
    }

    #[test]
    fn purposes_are_independent() {
        let mut gate = PauseGate::default();
        gate.pause(Purpose::Client, Scope::All, Some(100), 0);
        gate.pause(Purpose::Failover, Scope::Write, None, 0);
        assert!(gate.unpause(Purpose::Client, 1), "ALL became WRITE: reads are released");
        assert_eq!(held(&gate, 1), [MayReplicate, Write]);
        assert!(!gate.unpause(Purpose::Shutdown, 1));
        assert!(gate.unpause(Purpose::Failover, 1));
        assert_eq!(held(&gate, 1), []);
    }

    #[test]
    fn end_releases_once() {
        let mut gate = PauseGate::default();
        gate.pause(Purpose::Client, Scope::All, Some(100), 0);
        gate.pause(Purpose::Shutdown, Scope::Write, Some(200), 0);
        assert_eq!(gate.next_end_ms(), Some(100));
        assert!(!gate.expire(99));
        assert!(gate.expire(100));
        assert!(!gate.expire(100));
        assert!(gate.expire(200));
        assert_eq!(gate.next_end_ms(), None);
    }

    #[test]
    fn arguments() {
        assert_eq!(parse_client_pause(b"5", None, 100), Ok((Scope::All, 105)));
        assert_eq!(parse_client_pause(b"5", Some(b"WRITE"), 100), Ok((Scope::Write, 105)));
        assert_eq!(parse_client_pause(b"0", Some(b"all"), 100), Ok((Scope::All, 100)));
        let error = |text| Err(ErrorReply::new(text));
        assert_eq!(
            parse_client_pause(b"x", Some(b"foo"), 0),
            error("ERR CLIENT PAUSE mode must be WRITE or ALL")
        );
        assert_eq!(parse_client_pause(b"x", None, 0), error("ERR timeout is not an integer or out of range"));
        assert_eq!(parse_client_pause(b"-1", None, 0), error("ERR timeout is negative"));
    }
}
