//! Threads on which read-only scripts go on that did not end in their first slice. They read a snapshot, so neither a
//! writer nor the stream nor any other client waits for them.
//!
//! All such scripts stand in one queue and get slices in turn, so that every one of them gets on, however many there are.
//! At most `read-only-script-threads` threads serve the queue; they are started when there is work for them.
//!
//! Invariant: a script in the queue is run by one thread at a time, and its client waits until it is answered.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::client::{Client, Unblock};
use super::execute::Executor;
use super::reactor::Reactor;
use super::script::ScriptInProgress;
use super::scripts_running::RunningScript;
use super::session::Session;
use super::table::Entry;
use super::{Server, log};
use crate::keyspace::Snapshot;
use crate::protocol::Reply;

/// A script that goes on away from its connection.
pub struct Job {
    pub script: Box<ScriptInProgress>,
    pub shown: Arc<RunningScript>,
    pub snapshot: Snapshot,
    /// Stands in for the connection's own.
    pub session: Session,
    pub entry: &'static Entry,
    pub args: Vec<Vec<u8>>,
    /// CLIENT REPLY says that no reply is wanted.
    pub is_silent: bool,
}

#[derive(Default)]
pub struct ScriptWorkers {
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// An idle thread ends after this time.
const IDLE: Duration = Duration::from_secs(60);

impl Server {
    /// Lets a script go on on another thread; its client gets the reply by mail.
    pub fn run_away(self: &Arc<Self>, job: Job) {
        let workers = &self.script_workers;
        let mut queue = workers.queue.lock();
        queue.jobs.push_back(job);
        if queue.idle > 0 {
            workers.work.notify_one();
        } else if queue.threads < self.config().read_only_script_threads as usize {
            queue.threads += 1;
            drop(queue);
            let server = self.clone();
            let started = std::thread::Builder::new().name("scripts".into()).spawn(move || work(&server));
            if let Err(error) = started {
                tracing::warn!("Cannot start a thread for scripts: {error}");
                workers.queue.lock().threads -= 1;
                self.fail_jobs_without_threads();
            }
        }
    }

    fn fail_jobs_without_threads(&self) {
        let mut queue = self.script_workers.queue.lock();
        if queue.threads > 0 {
            return;
        }
        for job in std::mem::take(&mut queue.jobs) {
            self.scripts_running.remove(&job.shown);
            let error = crate::protocol::ErrorReply::new("ERR no thread can be started for the script");
            let mut session = job.session;
            session.reply(&Reply::Error(error));
            answer(&session.client, job.is_silent, &session.out);
        }
    }

    /// The next script to get a slice. `None`: the thread is to end.
    fn next_job(&self) -> Option<Job> {
        let workers = &self.script_workers;
        let mut queue = workers.queue.lock();
        loop {
            if queue.threads > self.config().read_only_script_threads as usize {
                break;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue.idle += 1;
            let timed_out = workers.work.wait_for(&mut queue, IDLE).timed_out();
            queue.idle -= 1;
            if timed_out && queue.jobs.is_empty() {
                break;
            }
        }
        queue.threads -= 1;
        None
    }

    /// Puts a script behind the others that wait for their slices.
    fn queue_again(&self, job: Job) {
        self.script_workers.queue.lock().jobs.push_back(job);
    }
}

fn work(server: &Arc<Server>) {
    log::mark_background_thread();
    let reactor = Reactor::of_worker(server);
    while let Some(job) = server.next_job() {
        if let Some(job) = run_slice(server, &reactor, job) {
            server.queue_again(job);
        }
    }
}

/// Runs one slice. Returns the script if it is not over.
fn run_slice(server: &Arc<Server>, reactor: &Rc<Reactor>, mut job: Job) -> Option<Job> {
    let mut executor = Executor::on_snapshot(server, reactor, job.snapshot.clone());
    executor.begin_unit();
    let killed = job.script.kill(&mut executor, &job.shown);
    let Some(reply) = killed.or_else(|| job.script.slice(&mut executor, &mut job.session)) else {
        return Some(job);
    };
    let args: Vec<&[u8]> = job.args.iter().map(Vec::as_slice).collect();
    job.script.finish(&mut executor, &mut job.session, job.entry, &args, &reply);
    answer(&job.session.client, job.is_silent, &job.session.out);
    None
}

fn answer(client: &Client, is_silent: bool, reply: &[u8]) {
    if !is_silent {
        client.send_bytes(reply);
    }
    client.unblock(Unblock::Answered);
}
