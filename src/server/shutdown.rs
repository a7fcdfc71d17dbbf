//! The end of the server: asked for by SHUTDOWN or a signal, held up for replicas that lag behind, taken back by SHUTDOWN
//! ABORT, given up if the dataset could not be saved.
//!
//! One task carries it out, whoever asks; so a second request while one is going on waits for the same end. Writes are
//! paused from the moment the dataset is final. Invariant: a client that asked is answered if, and only if, the server goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLockWriteGuard};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use super::Server;
use super::admission::Conditions;
use super::client::{Client, Unblock};
use super::config::ShutdownOptions;
use super::core::Core;
use super::persistence::{SavingKind, temporary_background_save, temporary_save};
use super::roles::{GUARD_PATIENCE, GUARD_PAUSE};
use super::scripts_running::Kill;
use crate::failover::{Purpose, Scope};
use crate::protocol::{ErrorReply, Reply};

/// What others ask of the task that ends the server.
#[derive(Debug, Default)]
pub struct Shutdown {
    asked: Mutex<Asked>,
    /// Told of what was asked.
    news: Notify,
    /// Until when replicas are waited for, in milliseconds of the Unix clock; 0: they are not.
    deadline_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct Asked {
    /// By SHUTDOWN: how, and by whom.
    request: Option<(ShutdownOptions, String)>,
    /// Those who wait to be told that it did not come to the end.
    clients: Vec<Arc<Client>>,
    is_under_way: bool,
    is_aborted: bool,
}

impl Shutdown {
    /// SHUTDOWN of a client, which waits from now on. While an end is under way its options count.
    pub fn ask(&self, options: ShutdownOptions, client: &Arc<Client>, shown: String) {
        let mut asked = self.asked.lock();
        asked.clients.push(client.clone());
        if !asked.is_under_way {
            asked.request.get_or_insert((options, shown));
        }
        self.news.notify_one();
    }

    /// SHUTDOWN ABORT. `false`: there is nothing to abort.
    pub fn abort(&self) -> bool {
        let mut asked = self.asked.lock();
        if !asked.is_under_way && asked.request.is_none() {
            return false;
        }
        asked.request = None;
        asked.is_aborted = asked.is_under_way;
        tracing::info!("Shutdown manually aborted.");
        self.news.notify_one();
        true
    }

    /// Milliseconds that replicas are still waited for, if they are.
    pub fn milliseconds_left(&self, now_ms: u64) -> Option<i64> {
        let deadline_ms = self.deadline_ms.load(Relaxed);
        (deadline_ms > 0).then(|| deadline_ms as i64 - now_ms as i64)
    }

    fn is_aborted(&self) -> bool {
        self.asked.lock().is_aborted
    }
}

/// The signals that end the server.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Terminate,
    Interrupt,
}

impl Signals {
    pub fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Sign {
        tokio::select! {
            _ = self.terminate.recv() => Sign::Terminate,
            _ = self.interrupt.recv() => Sign::Interrupt,
        }
    }
}

/// An end that did not come about, which was logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotEnded {
    Aborted,
    Failed,
}

/// How often it is looked whether replicas have got everything.
const REPLICAS_PAUSE: Duration = Duration::from_millis(5);
/// What tasks of replicas get to send what they have, when replicas are not waited for.
const LAST_WORDS: Duration = Duration::from_millis(20);

impl Server {
    /// Waits until the server is to end while the dataset is being loaded. Nothing is saved then.
    pub async fn asked_to_end_while_loading(self: &Arc<Self>, signals: &mut Signals) {
        tokio::select! {
            _ = signals.next() => {
                tracing::warn!("Received shutdown signal during loading, scheduling shutdown.");
                tracing::info!("User requested shutdown...");
            }
            (_, shown) = self.request() => self.log_request(&shown),
        }
        self.leave();
    }

    /// Waits for what ends the server, and ends it: when this returns the process may end.
    pub async fn ended(self: &Arc<Self>, signals: &mut Signals) {
        loop {
            let (options, shown) = tokio::select! {
                request = self.request() => request,
                sign = signals.next() => (self.options_of(sign), String::new()),
            };
            self.shutdown.asked.lock().is_under_way = true;
            let outcome = {
                let end = self.end(options, &shown);
                tokio::pin!(end);
                loop {
                    tokio::select! {
                        outcome = &mut end => break outcome,
                        sign = signals.next() => self.insist(sign),
                    }
                }
            };
            match outcome {
                Ok(()) => break,
                Err(not_ended) => self.go_on_after(not_ended),
            }
        }
        self.leave();
    }

    async fn request(&self) -> (ShutdownOptions, String) {
        loop {
            if let Some(request) = self.shutdown.asked.lock().request.take() {
                return request;
            }
            self.shutdown.news.notified().await;
        }
    }

    fn options_of(&self, sign: Sign) -> ShutdownOptions {
        match sign {
            Sign::Terminate => {
                tracing::warn!("Received SIGTERM scheduling shutdown...");
                self.config().shutdown_on_sigterm
            }
            Sign::Interrupt => {
                tracing::warn!("Received SIGINT scheduling shutdown...");
                self.config().shutdown_on_sigint
            }
        }
    }

    /// Another signal while the end is under way: Ctrl-C a second time means now.
    fn insist(&self, sign: Sign) {
        if sign == Sign::Interrupt {
            tracing::warn!("You insist... exiting now.");
            self.remove_temporary_files();
            std::process::exit(1);
        }
    }

    fn log_request(&self, shown: &str) {
        if shown.is_empty() {
            tracing::info!("User requested shutdown...");
        } else {
            tracing::info!("User requested shutdown... (user request from '{shown}')");
        }
    }

    async fn end(self: &Arc<Self>, options: ShutdownOptions, shown: &str) -> Result<(), NotEnded> {
        // DEBUG PAUSE-CRON: on Valkey nothing of this begins meanwhile.
        while self.cron_is_off.load(Relaxed) && shown.is_empty() {
            tokio::time::sleep(REPLICAS_PAUSE).await;
            self.check_aborted()?;
        }
        self.log_request(shown);
        let target = self.stop_writes(options).await;
        let timeout = Duration::from_secs(self.config().shutdown_timeout_seconds.into());
        if !options.now && !timeout.is_zero() && self.lagging_replicas(target) > 0 {
            tracing::info!("Waiting for replicas before shutting down.");
            let deadline = Instant::now() + timeout;
            self.shutdown.deadline_ms.store(self.now_ms() + timeout.as_millis() as u64, Relaxed);
            while self.lagging_replicas(target) > 0 && Instant::now() < deadline {
                tokio::time::sleep(REPLICAS_PAUSE).await;
                self.check_aborted()?;
            }
        }
        self.report_replicas(target);
        self.finish(options).await?;
        if !self.followers.read().is_empty() {
            tokio::time::sleep(LAST_WORDS).await;
        }
        Ok(())
    }

    fn check_aborted(&self) -> Result<(), NotEnded> {
        if self.shutdown.is_aborted() { Err(NotEnded::Aborted) } else { Ok(()) }
    }

    /// From here on the dataset is final. Replicas are asked how far they are. Returns the end of the stream before that.
    async fn stop_writes(self: &Arc<Self>, options: ShutdownOptions) -> u64 {
        let mut core = self.core_without_script().await;
        let now_ms = self.uptime_ms();
        self.roles.lock().gate.pause(Purpose::Shutdown, Scope::Write, None, now_ms);
        self.conditions.set(Conditions::PAUSED, true);
        let target = core.stream.offset();
        if !options.now && !self.is_replica() && self.lagging_replicas(target) > 0 {
            core.stream.append_control(&[b"REPLCONF", b"GETACK", b"*"]);
        }
        self.hand_over(&mut core);
        target
    }

    /// The dataset, for an end that was asked for: a script that is busy when the time of patience is over is undone first.
    async fn core_without_script(&self) -> RwLockWriteGuard<'_, Core> {
        let patience = Duration::from_millis(self.config().busy_reply_threshold_ms);
        loop {
            if let Some(core) = self.core.try_write_for(GUARD_PATIENCE) {
                return core;
            }
            // The history of a primary cannot be changed here: its scripts are waited for.
            let script = self.scripts_running.holder().filter(|script| !script.is_replicated);
            if let Some(script) = script.filter(|script| script.started.elapsed() > patience) {
                script.stop(Kill::Rollback);
            }
            tokio::time::sleep(GUARD_PAUSE).await;
        }
    }

    fn lagging_replicas(&self, target: u64) -> usize {
        let roles = self.roles.lock();
        roles.replication.primary().replicas().iter().filter(|replica| replica.acknowledged < target).count()
    }

    fn report_replicas(&self, target: u64) {
        let now_ms = self.uptime_ms();
        let roles = self.roles.lock();
        let replicas = roles.replication.primary().replicas();
        let mut lagging = 0;
        for replica in replicas.iter().filter(|replica| replica.acknowledged < target) {
            lagging += 1;
            tracing::info!(
                "Lagging replica {}:{} reported offset {} behind master, lag={}, state={}.",
                replica.host(),
                replica.announced.listening_port,
                target - replica.acknowledged,
                replica.lag_seconds(now_ms),
                replica.state.name()
            );
        }
        if !replicas.is_empty() {
            let all = replicas.len();
            tracing::info!("{} of {all} replicas are in sync when shutting down.", all - lagging);
        }
    }

    /// Ends what is going on in the background and brings to the disk what has to be there.
    async fn finish(self: &Arc<Self>, options: ShutdownOptions) -> Result<(), NotEnded> {
        match self.persistence.saving().map(|saving| saving.kind) {
            Some(SavingKind::Rdb) => {
                tracing::warn!("There is a child saving an .rdb. Killing it!");
                self.cancel_saving(SavingKind::Rdb);
            }
            Some(SavingKind::Aof) => {
                if self.persistence.is_writing_first_base() {
                    if !options.force {
                        tracing::warn!("Writing initial AOF, can't exit.");
                        return Err(NotEnded::Failed);
                    }
                    tracing::warn!("Writing initial AOF. Exit anyway.");
                }
                tracing::warn!("There is a child rewriting the AOF. Killing it!");
                self.cancel_saving(SavingKind::Aof);
            }
            None => {}
        }
        let moment = {
            let mut core = self.core_without_script().await;
            if self.persistence.has_aof() {
                tracing::info!("Calling fsync() on the AOF file.");
                if let Err(error) = self.sync_aof_now(&mut core) {
                    tracing::warn!("Fail to fsync the AOF file: {error}.");
                }
            }
            let save = options.save || (!options.nosave && !self.config().save.0.is_empty());
            save.then(|| (self.moment(&core), core.writes.changes))
        };
        let Some((moment, changes)) = moment else { return Ok(()) };
        tracing::info!("Saving the final RDB snapshot before exiting.");
        // On a thread, so that a signal can still end it. Writes are paused meanwhile.
        let (server, (sender, saved)) = (self.clone(), tokio::sync::oneshot::channel());
        let begun = std::thread::Builder::new().name("final-save".into()).spawn(move || {
            let result = server.save_moment(moment, &AtomicBool::new(false));
            server.saved(&result, changes, None);
            // The process ends otherwise.
            sender.send(result.is_ok()).ok();
        });
        match (begun.is_ok() && saved.await.unwrap_or(false), options.force) {
            (true, _) => Ok(()),
            (false, true) => {
                tracing::warn!("Error trying to save the DB. Exit anyway.");
                Ok(())
            }
            (false, false) => {
                tracing::warn!("Error trying to save the DB, can't exit.");
                Err(NotEnded::Failed)
            }
        }
    }

    /// It did not come to the end: writes go on, and those who asked are told.
    fn go_on_after(&self, not_ended: NotEnded) {
        match not_ended {
            NotEnded::Aborted => tracing::info!("Shutdown manually aborted."),
            NotEnded::Failed => {
                tracing::warn!("Errors trying to shut down the server. Check the logs for more information.")
            }
        }
        self.shutdown.deadline_ms.store(0, Relaxed);
        let now_ms = self.uptime_ms();
        {
            let mut roles = self.roles.lock();
            // Whether anybody was held back is found out by letting all try.
            let _ = roles.gate.unpause(Purpose::Shutdown, now_ms);
            self.conditions.set(Conditions::PAUSED, roles.gate.scope(now_ms).is_some());
        }
        let clients = {
            let mut asked = self.shutdown.asked.lock();
            asked.is_under_way = false;
            asked.is_aborted = false;
            std::mem::take(&mut asked.clients)
        };
        for client in clients {
            client.send(&Reply::Error(ErrorReply::new("ERR Errors trying to SHUTDOWN. Check logs.")));
            client.unblock(Unblock::Answered);
        }
        self.let_go();
    }

    /// The last things before the process ends.
    pub fn leave(&self) {
        self.remove_temporary_files();
        self.stop_listening();
        let config = self.config();
        if !config.unixsocket.is_empty() {
            tracing::info!("Removing the unix socket file.");
            // It may have been removed by somebody else.
            let _ = std::fs::remove_file(config.unixsocket.as_path());
        }
        tracing::warn!("Valkey is now ready to exit, bye bye...");
    }

    /// What threads are writing that end with the process.
    fn remove_temporary_files(&self) {
        let base = self.aof_files().ok().map(|files| files.temporary_base());
        for path in [temporary_save(), temporary_background_save()].into_iter().chain(base) {
            remove_if_there(path);
        }
    }
}

fn remove_if_there(path: PathBuf) {
    // Most often there is none.
    let _ = std::fs::remove_file(path);
}
