//! How long an idle server takes to answer on this machine just now: what a client of an attacked one waits for is compared with it,
//! so that a machine that is busy with other things proves nothing against a server.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::server::Server;

/// A request and how long it took, or has taken so far.
type Beat = (Instant, Option<Duration>);

const PERIOD: Duration = Duration::from_millis(2);
/// Beats that are kept, and how far back one still counts: what holds a machine up does not end at once.
const KEPT: usize = 2000;
const MEMORY: Duration = Duration::from_secs(1);

/// Asks an idle server again and again.
pub struct Pulse {
    beats: Arc<Mutex<VecDeque<Beat>>>,
    has_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    pub fn new() -> Pulse {
        let beats: Arc<Mutex<VecDeque<Beat>>> = Arc::default();
        let has_ended: Arc<AtomicBool> = Arc::default();
        let thread = std::thread::spawn({
            let (beats, has_ended) = (beats.clone(), has_ended.clone());
            move || {
                let server = Server::start(&[]);
                let mut client = server.client();
                while !has_ended.load(Relaxed) {
                    let asked = Instant::now();
                    let mut kept = lock(&beats);
                    kept.truncate(KEPT);
                    kept.push_front((asked, None));
                    drop(kept);
                    client.ok("PING");
                    lock(&beats)[0].1 = Some(asked.elapsed());
                    std::thread::sleep(PERIOD);
                }
            }
        });
        Pulse { beats, has_ended, thread: Some(thread) }
    }

    /// The longest of the last answers, up to those to what was asked since `moment`.
    pub fn slowest_since(&self, moment: Instant) -> Duration {
        let beats = lock(&self.beats);
        let counts = |beat: &&Beat| beat.0 + beat.1.unwrap_or_default() + MEMORY >= moment;
        let took = |beat: &Beat| beat.1.unwrap_or_else(|| beat.0.elapsed());
        beats.iter().take_while(counts).map(took).max().unwrap_or_default()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.has_ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It fails only if its server did, which then has said so.
            let _ = thread.join();
        }
    }
}

fn lock(beats: &Mutex<VecDeque<Beat>>) -> MutexGuard<'_, VecDeque<Beat>> {
    beats.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
