//! What the tests that run whole servers share: servers of any make, a client that sees every byte of a reply,
//! a link that can be cut, a load that knows what it was promised, and ways to compare datasets.
//!
//! Nothing here sleeps for a guessed time: whatever takes long is waited for, up to a deadline.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod client;
pub mod dataset;
pub mod load;
pub mod proxy;
pub mod random;
pub mod server;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long anything may take before the test fails. Far beyond what it takes on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until there is an answer; panics with `what` when patience ends.
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, ask).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Waits until the condition holds; panics with `what` when patience ends.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Asks until there is an answer or the time is over.
pub fn wait_within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Raises a flag when it goes out of scope, by a panic too: threads that look at it end.
pub struct Until<'a>(pub &'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
