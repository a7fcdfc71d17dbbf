//! FAILOVER: a primary hands its place to a replica that has all of its stream.
//!
//! Knows the order of the steps; pausing is the gate's, and the roles are [`Replication`]'s. Invariants: writes are
//! paused from the request until the failover ended, well or not; the role is given up only while no write script
//! runs; it is taken back only if the target surely did not take it, or an operator says so.

use super::pause::{PauseGate, Purpose, Scope};
use super::request::{FailoverRequest, Start};
use crate::protocol::ErrorReply;
use crate::replication::{
    Action, Address, AttachedReplica, FailoverPhase, GETACK_RECORD, PsyncOutcome, ReplicaState, Replication,
    Turn,
};

/// How long a lagging target has before it is asked again; each time twice as long, so that the answer of a target
/// that is further away than that is not overtaken by the next question for ever.
const ASK_AGAIN_MS: u64 = 1000;

/// Whether a script that has written, or may yet, is between two of its slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteScript {
    None,
    Running,
}

#[derive(Debug)]
enum State {
    Idle,
    WaitingForSync(Waiting),
    InProgress { target: Address, deadline_ms: Option<u64> },
}

#[derive(Debug)]
struct Waiting {
    target: Option<Address>,
    force: bool,
    deadline_ms: Option<u64>,
    /// Where the data ended when acknowledgements were asked for last, and when that was.
    asked: Option<Asked>,
    rollback_requested: bool,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The end of the stream before the trailing GETACKs, and after them.
    data_end: u64,
    end: u64,
    at_ms: u64,
    again_after_ms: u64,
}

/// The coordinated failover of one server.
#[derive(Debug)]
pub struct Coordinator {
    state: State,
}

impl Default for Coordinator {
    fn default() -> Self {
        Coordinator { state: State::Idle }
    }
}

impl Coordinator {
    /// The coordinator of a server that was restarted; goes on with the failover it was in.
    pub fn resume(replication: &Replication, gate: &mut PauseGate, now_ms: u64) -> Self {
        match (replication.failover_phase(), replication.link()) {
            (FailoverPhase::InProgress, Some(link)) => {
                gate.pause(Purpose::Failover, Scope::Write, None, now_ms);
                Coordinator { state: State::InProgress { target: link.address().clone(), deadline_ms: None } }
            }
            _ => Coordinator::default(),
        }
    }

    pub fn is_active(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// FAILOVER of a client: the arguments after the name. Answer OK and call [`Coordinator::step`].
    pub fn command(
        &mut self,
        arguments: &[&[u8]],
        replication: &mut Replication,
        gate: &mut PauseGate,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorReply> {
        match FailoverRequest::parse(arguments)? {
            FailoverRequest::Abort if !self.is_active() => {
                Err(ErrorReply::new("ERR No failover in progress."))
            }
            FailoverRequest::Abort => {
                self.abort("Failover manually aborted", replication, gate, turn);
                Ok(())
            }
            FailoverRequest::Start(start) => self.start(start, replication, gate, turn),
        }
    }

    fn start(
        &mut self,
        start: Start,
        replication: &mut Replication,
        gate: &mut PauseGate,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorReply> {
        let refuse = |text| Err(ErrorReply::new(text));
        if self.is_active() {
            return refuse("ERR FAILOVER already in progress.");
        }
        if replication.is_replica() {
            return refuse("ERR FAILOVER is not valid when server is a replica.");
        }
        if replication.primary().replicas().is_empty() {
            return refuse("ERR FAILOVER requires connected replicas.");
        }
        if start.force && (start.timeout_ms.is_none() || start.target.is_none()) {
            return refuse("ERR FAILOVER with force option requires both a timeout and target HOST and IP.");
        }
        let target = match &start.target {
            None => {
                turn.notice("FAILOVER requested to any replica.");
                None
            }
            Some((host, port)) => {
                let named = |replica: &&AttachedReplica| {
                    replica.host().eq_ignore_ascii_case(host) && replica.announced.listening_port == *port
                };
                let Some(replica) = replication.primary().replicas().iter().find(named) else {
                    return refuse("ERR FAILOVER target HOST and PORT is not a replica.");
                };
                // A port that nobody can listen on is no address to hand the role to.
                let (true, Some(address)) = (replica.state.is_online(), address(replica)) else {
                    return refuse("ERR FAILOVER target replica is not online.");
                };
                turn.notice(format!("FAILOVER requested to {host}:{port}."));
                Some(address)
            }
        };
        let deadline_ms = start.timeout_ms.map(|timeout_ms| turn.now_ms.saturating_add(timeout_ms));
        let waiting =
            Waiting { target, force: start.force, deadline_ms, asked: None, rollback_requested: false };
        self.state = State::WaitingForSync(waiting);
        replication.set_failover_phase(FailoverPhase::WaitingForSync);
        gate.pause(Purpose::Failover, Scope::Write, None, turn.now_ms);
        Ok(())
    }

    /// Goes as far as possible. Call after every event of replication, at every tick, and when a write script ends.
    pub fn step(
        &mut self,
        script: WriteScript,
        replication: &mut Replication,
        gate: &mut PauseGate,
        turn: &mut Turn<'_>,
    ) {
        match &mut self.state {
            State::Idle => {}
            State::WaitingForSync(waiting) => match waiting.step(script, replication, turn) {
                Next::Wait => {}
                Next::Abort => self.abort("Replica never caught up before timeout", replication, gate, turn),
                Next::HandOver(target) => {
                    let deadline_ms = waiting.deadline_ms.filter(|_| !waiting.force);
                    replication.hand_over(target.clone(), turn);
                    self.state = State::InProgress { target, deadline_ms };
                }
            },
            State::InProgress { deadline_ms, .. } => {
                let late = deadline_ms.is_some_and(|deadline_ms| deadline_ms <= turn.now_ms);
                match replication.take_outcome() {
                    Some(PsyncOutcome::Accepted) => {
                        replication.handed_over(turn);
                        self.clear(replication, gate, turn);
                    }
                    Some(PsyncOutcome::Rejected) => {
                        self.abort("Failover target rejected psync request", replication, gate, turn);
                    }
                    None if late && !replication.failover_was_sent() => {
                        self.abort(
                            "Failover target could not be reached before timeout",
                            replication,
                            gate,
                            turn,
                        );
                    }
                    None => {}
                }
            }
        }
    }

    fn abort(
        &mut self,
        reason: &str,
        replication: &mut Replication,
        gate: &mut PauseGate,
        turn: &mut Turn<'_>,
    ) {
        let target = match &self.state {
            State::Idle => return,
            State::WaitingForSync(waiting) => waiting.target.as_ref(),
            State::InProgress { target, .. } => Some(target),
        };
        match target {
            Some(target) => turn.notice(format!("FAILOVER to {target} aborted: {reason}")),
            None => turn.notice(format!("FAILOVER to any replica aborted: {reason}")),
        }
        if matches!(self.state, State::InProgress { .. }) {
            replication.promote(true, turn);
        }
        self.clear(replication, gate, turn);
    }

    fn clear(&mut self, replication: &mut Replication, gate: &mut PauseGate, turn: &mut Turn<'_>) {
        self.state = State::Idle;
        replication.set_failover_phase(FailoverPhase::None);
        if gate.unpause(Purpose::Failover, turn.now_ms) {
            turn.act(Action::ReleasePaused);
        }
    }
}

enum Next {
    Wait,
    Abort,
    HandOver(Address),
}

impl Waiting {
    fn step(&mut self, script: WriteScript, replication: &Replication, turn: &mut Turn<'_>) -> Next {
        let late = self.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= turn.now_ms);
        if late && !self.force {
            return Next::Abort;
        }
        if script == WriteScript::Running {
            // Its effects enter the stream when it ends: until then no offset means anything.
            if late && !std::mem::replace(&mut self.rollback_requested, true) {
                turn.act(Action::RollBackWriteScript);
            }
            self.asked = None;
            return Next::Wait;
        }
        if let (true, Some(target)) = (late, &self.target) {
            turn.notice(format!("FAILOVER to {target} time out exceeded, failing over."));
            return Next::HandOver(target.clone());
        }
        let asked = self.ask(turn);
        let is_target = |replica: &&AttachedReplica| match &self.target {
            None => true,
            Some(target) => target.is(replica.host(), replica.announced.listening_port),
        };
        let ready = |replica: &AttachedReplica| address(replica).filter(|_| has_everything(replica, &asked));
        let Some(target) = replication.primary().replicas().iter().filter(is_target).find_map(ready) else {
            return Next::Wait;
        };
        turn.notice(format!("Failover target {target} is synced, failing over."));
        Next::HandOver(target)
    }

    /// Asks for acknowledgements if the stream grew since, or nobody caught up for a while.
    fn ask(&mut self, turn: &mut Turn<'_>) -> Asked {
        match self.asked {
            Some(asked) if asked.end == turn.stream.end => {
                if turn.now_ms.saturating_sub(asked.at_ms) < asked.again_after_ms {
                    return asked;
                }
                turn.append(GETACK_RECORD);
                let again_after_ms = asked.again_after_ms.saturating_mul(2);
                let again = Asked { end: turn.stream.end, at_ms: turn.now_ms, again_after_ms, ..asked };
                self.asked = Some(again);
                again
            }
            _ => {
                let data_end = turn.stream.end;
                turn.append(GETACK_RECORD);
                let (end, at_ms) = (turn.stream.end, turn.now_ms);
                let asked = Asked { data_end, end, at_ms, again_after_ms: ASK_AGAIN_MS };
                self.asked = Some(asked);
                asked
            }
        }
    }
}

/// Whether a replica has all data. One of our own kind counts the GETACK in its answer; others answer with the
/// offset before it, so they are ready when all that may be missing is the question itself.
///
/// One that has an AOF and nothing on its disk is still writing the base of what it was sent: as a primary that is killed
/// it would come back with none of it.
fn has_everything(replica: &AttachedReplica, asked: &Asked) -> bool {
    let needed = if replica.announced.follow { asked.end } else { asked.data_end };
    let lacks_base = replica.fsynced == Some(0);
    replica.state == ReplicaState::Online && replica.acknowledged >= needed && !lacks_base
}

fn address(replica: &AttachedReplica) -> Option<Address> {
    let port = u16::try_from(replica.announced.listening_port).ok().filter(|port| *port > 0)?;
    Some(Address::new(replica.host(), port))
}
