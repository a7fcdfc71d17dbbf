//! The scripts that are running: which of them holds the dataset, which are to be killed, and the BUSY state.
//!
//! Invariants: at most one script holds the dataset, and `holds` is true from its first suspension to its end; a script
//! that was told to stop while it had written nothing writes nothing any more.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::client::Client;
use crate::protocol::ErrorReply;

/// What a running script has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    No,
    /// Stop, having written nothing.
    Yes,
    /// Stop, and undo what was written.
    Rollback,
}

/// A script in progress.
#[derive(Debug)]
pub struct RunningScript {
    /// The sha1 of an EVAL script, or the name of a function.
    pub name: String,
    pub is_function: bool,
    pub command: Vec<Vec<u8>>,
    pub started: Instant,
    /// It holds the dataset, so others wait for it.
    pub holds: AtomicBool,
    /// It is run for the stream of the primary or a loader, whose history cannot be changed.
    pub is_replicated: bool,
    /// It is part of a transaction, so what it wrote cannot be undone alone.
    pub is_in_transaction: bool,
    /// The client that debugs it, which waits for a person: it is to look when the script is told something.
    pub debugged_by: OnceLock<Arc<Client>>,
    /// Bits of what it did and what it was told: both change at one moment or not at all.
    state: AtomicU8,
}

/// It has called a command that writes.
const WROTE: u8 = 1;
/// It is to stop.
const KILLED: u8 = 2;
/// What it has done is to be undone, even if it wrote.
const ROLLED_BACK: u8 = 4;

impl RunningScript {
    pub fn new(
        name: String,
        is_function: bool,
        command: Vec<Vec<u8>>,
        is_replicated: bool,
        is_in_transaction: bool,
    ) -> Arc<Self> {
        Arc::new(RunningScript {
            name,
            is_function,
            command,
            started: Instant::now(),
            holds: AtomicBool::new(false),
            is_replicated,
            is_in_transaction,
            debugged_by: OnceLock::new(),
            state: AtomicU8::new(0),
        })
    }

    pub fn kill(&self) -> Kill {
        let state = self.state.load(Relaxed);
        match state & (KILLED | ROLLED_BACK) {
            0 => Kill::No,
            KILLED => Kill::Yes,
            _ => Kill::Rollback,
        }
    }

    /// Tells the script to stop. `false`: it has written, and that is not to be undone or cannot be.
    pub fn stop(&self, kill: Kill) -> bool {
        let (told, undoes) = match kill {
            Kill::No => return true,
            Kill::Yes => (KILLED, false),
            Kill::Rollback => (KILLED | ROLLED_BACK, !self.is_in_transaction),
        };
        let stop = |state: u8| (state & WROTE == 0 || undoes).then_some(state | told);
        let is_told = self.state.fetch_update(Relaxed, Relaxed, stop).is_ok();
        if let Some(client) = self.debugged_by.get() {
            client.nudge();
        }
        is_told
    }

    /// The script is about to write for the first time. `false`: it was told to stop, so it must not.
    pub fn may_write(&self) -> bool {
        let write = |state: u8| (state & (KILLED | WROTE) != KILLED).then_some(state | WROTE);
        self.state.fetch_update(Relaxed, Relaxed, write).is_ok()
    }
}

#[derive(Debug, Default)]
pub struct ScriptsRunning {
    scripts: Mutex<Vec<Arc<RunningScript>>>,
    holds: AtomicBool,
    ended: Notify,
}

impl ScriptsRunning {
    pub fn add(&self, script: &Arc<RunningScript>) {
        self.scripts.lock().push(script.clone());
    }

    pub fn remove(&self, script: &Arc<RunningScript>) {
        self.scripts.lock().retain(|other| !Arc::ptr_eq(other, script));
    }

    /// All that run now, longest first.
    pub fn all(&self) -> Vec<Arc<RunningScript>> {
        self.scripts.lock().clone()
    }

    /// The script that holds the dataset.
    pub fn holder(&self) -> Option<Arc<RunningScript>> {
        self.scripts.lock().iter().find(|script| script.holds.load(Relaxed)).cloned()
    }

    /// Does a script hold the dataset across its slices?
    pub fn holds(&self) -> bool {
        self.holds.load(Relaxed)
    }

    pub fn set_holds(&self, script: &RunningScript, holds: bool) {
        script.holds.store(holds, Relaxed);
        self.holds.store(holds, Relaxed);
        if !holds {
            self.ended.notify_waiters();
        }
    }

    /// Waits until no script holds the dataset.
    pub async fn ended(&self) {
        let notified = self.ended.notified();
        if self.holds() {
            notified.await;
        }
    }

    /// How long a request waits for the script that holds the dataset before it is answered BUSY.
    pub fn patience(&self, threshold: Duration) -> Duration {
        let running = self.holder().map_or(Duration::ZERO, |script| script.started.elapsed());
        // A little later than the threshold, so that the script's own check comes first.
        threshold.saturating_sub(running) + Duration::from_millis(5)
    }

    /// What normal commands are answered while a script is busy.
    pub fn busy_error(&self) -> ErrorReply {
        let kill = if self.holder().is_some_and(|script| script.is_function) { "FUNCTION" } else { "SCRIPT" };
        ErrorReply::from_text(format!(
            "BUSY Valkey is busy running a script. You can only call {kill} KILL or SHUTDOWN NOSAVE."
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(is_in_transaction: bool) -> Arc<RunningScript> {
        RunningScript::new("name".into(), false, Vec::new(), false, is_in_transaction)
    }

    #[test]
    fn told_to_stop_it_writes_no_more() {
        let stopped = script(false);
        assert!(stopped.stop(Kill::Yes));
        assert_eq!(stopped.kill(), Kill::Yes);
        assert!(!stopped.may_write());
        // Told again, with another word.
        assert!(stopped.stop(Kill::Rollback));
        assert!(!stopped.may_write());
    }

    #[test]
    fn having_written_it_can_only_be_undone() {
        for is_in_transaction in [false, true] {
            let writing = script(is_in_transaction);
            assert!(writing.may_write() && writing.may_write());
            assert!(!writing.stop(Kill::Yes));
            assert_eq!(writing.kill(), Kill::No);
            assert_eq!(writing.stop(Kill::Rollback), !is_in_transaction);
            assert_eq!(writing.kill(), if is_in_transaction { Kill::No } else { Kill::Rollback });
            // What it does until it is left is undone with the rest.
            assert!(writing.may_write());
        }
    }
}
