//! Saving the dataset: what a save is made of, RDB files, and what is saved by itself. The AOF is in `server::aof`.
//!
//! Everything that takes long runs on a thread over a snapshot; nothing forks. Invariant: at most one save or rewrite goes
//! on in the background, and two that write at the same time have temporary files of different names.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Server;
use super::admission::Conditions;
use super::aof_rewriting::RewriteLimit;
use super::command_line::VALKEY_VERSION;
use super::config::MaxmemoryPolicy;
use super::core::Core;
use super::steady_file::SteadyFile;
use crate::base::file::{FileSystem, SystemFileSystem};
use crate::keyspace::Snapshot;
use crate::protocol::ErrorReply;
use crate::rdb;
use crate::scripting::{Origin, Registry, Script};
use crate::stream::aof::{OpenAof, Synced};
use crate::types::dictionary;

/// What INFO persistence shows, and what is going on.
#[derive(Debug)]
pub struct Persistence {
    pub(super) aof: Mutex<Option<OpenAof>>,
    /// `appendonly`. Without a file yet if the rewrite that begins it has to wait.
    pub(super) aof_is_on: AtomicBool,
    /// One BGSAVE or rewrite at a time.
    pub(super) saving: Mutex<Option<Saving>>,
    /// How often something began to be saved in the background, and how many microseconds the last moment took to be
    /// held fast: what stands for forks here.
    pub moments: AtomicU64,
    pub last_moment_us: AtomicU64,
    pub saves: AtomicU64,
    pub rewrites: AtomicU64,
    pub last_save_seconds: AtomicU64,
    /// `WriteState::changes` at the last save.
    pub changes_at_save: AtomicU64,
    pub last_save_ok: AtomicBool,
    pub last_save_took_seconds: AtomicI64,
    pub last_save_copied_bytes: AtomicU64,
    pub last_rewrite_ok: AtomicBool,
    pub last_rewrite_took_seconds: AtomicI64,
    pub last_rewrite_copied_bytes: AtomicU64,
    pub aof_write_ok: AtomicBool,
    /// Did the last sync in the background succeed?
    pub(super) aof_sync_ok: AtomicBool,
    /// What the system said when the AOF could not be written last.
    pub(super) aof_error: Mutex<String>,
    /// DEBUG AOF-FLUSH-SLEEP: what is waited before the AOF is written.
    pub aof_pause_us: AtomicU64,
    /// A thread is bringing the AOF to the disk.
    pub aof_is_syncing: AtomicBool,
    /// How often something was written all the same, since that took too long.
    pub aof_delayed_syncs: AtomicU64,
    pub(super) rewrite_limit: Mutex<RewriteLimit>,
    pub rewrite_is_scheduled: AtomicBool,
    pub save_is_scheduled: AtomicBool,
    pub aof_size: AtomicU64,
    pub aof_base_size: AtomicU64,
    pub aof_synced: Synced,
    last_attempt_seconds: AtomicU64,
    pub loading: Loading,
}

/// How far a dataset that is being loaded is.
#[derive(Debug, Default)]
pub struct Loading {
    pub since_seconds: AtomicU64,
    pub total_bytes: AtomicU64,
    pub loaded_bytes: AtomicU64,
    pub keys_loaded: AtomicU64,
    pub keys_expired: AtomicU64,
}

/// What is being saved.
#[derive(Debug, Clone)]
pub struct Saving {
    pub kind: SavingKind,
    pub started: Instant,
    /// Set to end it.
    pub cancelled: Arc<AtomicBool>,
    pub keys_written: Arc<AtomicU64>,
    pub keys_total: u64,
    copied_before: u64,
}

impl Saving {
    /// Bytes of the dataset's tables that were copied since it began.
    pub fn copied_bytes(&self) -> u64 {
        dictionary::copied_bytes() - self.copied_before
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavingKind {
    Rdb,
    Aof,
}

impl Default for Persistence {
    fn default() -> Self {
        Persistence {
            aof: Mutex::default(),
            aof_is_on: AtomicBool::new(false),
            moments: AtomicU64::new(0),
            last_moment_us: AtomicU64::new(0),
            aof_sync_ok: AtomicBool::new(true),
            aof_error: Mutex::default(),
            aof_pause_us: AtomicU64::new(0),
            aof_is_syncing: AtomicBool::new(false),
            aof_delayed_syncs: AtomicU64::new(0),
            rewrite_limit: Mutex::default(),
            saving: Mutex::default(),
            saves: AtomicU64::new(0),
            rewrites: AtomicU64::new(0),
            last_save_seconds: AtomicU64::new(0),
            changes_at_save: AtomicU64::new(0),
            last_save_ok: AtomicBool::new(true),
            last_save_took_seconds: AtomicI64::new(-1),
            last_save_copied_bytes: AtomicU64::new(0),
            last_rewrite_ok: AtomicBool::new(true),
            last_rewrite_took_seconds: AtomicI64::new(-1),
            last_rewrite_copied_bytes: AtomicU64::new(0),
            aof_write_ok: AtomicBool::new(true),
            rewrite_is_scheduled: AtomicBool::new(false),
            save_is_scheduled: AtomicBool::new(false),
            aof_size: AtomicU64::new(0),
            aof_base_size: AtomicU64::new(0),
            aof_synced: Synced::default(),
            last_attempt_seconds: AtomicU64::new(0),
            loading: Loading::default(),
        }
    }
}

impl Persistence {
    pub fn saving(&self) -> Option<Saving> {
        self.saving.lock().clone()
    }
}

/// What a save is made of: one moment of the dataset and of what stands beside it.
pub struct Moment {
    pub snapshot: Snapshot,
    pub functions: Arc<Registry>,
    pub scripts: Vec<Arc<Script>>,
    pub replid: String,
    pub offset: u64,
    pub database: usize,
}

impl Server {
    /// Takes the present moment.
    pub fn moment(&self, core: &Core) -> Moment {
        let began = Instant::now();
        let loaded = self.scripts.all().into_iter().filter(|(_, origin)| *origin == Origin::Load);
        let moment = Moment {
            snapshot: core.keyspace.snapshot(),
            functions: self.functions.get(),
            scripts: loaded.map(|(script, _)| script).collect(),
            replid: String::from_utf8_lossy(core.stream.replid()).into_owned(),
            offset: core.stream.offset(),
            database: core.stream.selected().unwrap_or(0),
        };
        self.persistence.last_moment_us.store(began.elapsed().as_micros() as u64, Relaxed);
        moment
    }

    /// Writes a moment as RDB. `progress` counts keys; `cancelled` ends it.
    pub fn write_rdb(
        &self,
        moment: Moment,
        as_base: bool,
        out: &mut dyn Write,
        progress: &AtomicU64,
        cancelled: &AtomicBool,
    ) -> io::Result<()> {
        let config = self.config();
        let aux = [
            ("redis-ver", "7.2.4".to_owned()),
            ("valkey-ver", VALKEY_VERSION.to_owned()),
            ("redis-bits", usize::BITS.to_string()),
            ("ctime", (self.now_ms() / 1000).to_string()),
            ("used-mem", super::memory::used().to_string()),
            ("repl-stream-db", moment.database.to_string()),
            ("repl-id", moment.replid.clone()),
            ("repl-offset", moment.offset.to_string()),
            ("aof-base", u8::from(as_base).to_string()),
        ];
        let options = rdb::SaveOptions {
            compression: config.rdbcompression,
            checksum: config.rdbchecksum,
            aux: &aux,
            now_ms: self.now_ms(),
            access: matches!(
                config.maxmemory_policy,
                MaxmemoryPolicy::AllkeysLru
                    | MaxmemoryPolicy::VolatileLru
                    | MaxmemoryPolicy::AllkeysLfu
                    | MaxmemoryPolicy::VolatileLfu
            ),
        };
        let contents = rdb::Contents {
            keyspace: Some(moment.snapshot),
            functions: &moment.functions,
            scripts: &moment.scripts,
        };
        let mut pace = Pace::new(self, progress, cancelled);
        rdb::save(contents, &options, out, &mut |keys| pace.key_written(keys))
    }

    /// Saves a moment into the file at `path`: written beside it, synced, then renamed.
    fn save_file(
        &self,
        moment: Moment,
        path: &Path,
        temporary: &Path,
        progress: &AtomicU64,
        cancelled: &AtomicBool,
    ) -> io::Result<()> {
        let written = (|| {
            let mut out = SteadyFile::create(temporary, self.config().rdb_save_incremental_fsync)?;
            self.write_rdb(moment, false, &mut out, progress, cancelled)?;
            out.finish()?;
            std::fs::rename(temporary, path)?;
            SystemFileSystem
                .sync_dir(path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))
        })();
        if written.is_err() {
            // The first error is the one to tell of.
            let _ = std::fs::remove_file(temporary);
        }
        written
    }

    fn rdb_path(&self) -> PathBuf {
        PathBuf::from(self.config().dbfilename.as_path())
    }

    /// SAVE: blocks until the dataset is on the disk.
    pub fn save_now(&self, core: &Core) -> io::Result<()> {
        let moment = self.moment(core);
        let result = self.save_moment(moment, &AtomicBool::new(false));
        self.saved(&result, core.writes.changes, None);
        result
    }

    /// Writes the RDB file on the calling thread.
    pub fn save_moment(&self, moment: Moment, cancelled: &AtomicBool) -> io::Result<()> {
        self.save_file(moment, &self.rdb_path(), &temporary_save(), &AtomicU64::new(0), cancelled)
    }

    pub(super) fn saved(&self, result: &io::Result<()>, changes: u64, took: Option<Duration>) {
        let persistence = &self.persistence;
        if result.is_ok() || took.is_some() {
            // Whoever asked for a save that others wait for, SAVE or SHUTDOWN, is told of its failure; writes go on.
            persistence.last_save_ok.store(result.is_ok(), Relaxed);
        }
        if let Some(took) = took {
            persistence.last_save_took_seconds.store(took.as_secs() as i64, Relaxed);
        }
        match result {
            Ok(()) => {
                tracing::info!("DB saved on disk");
                persistence.saves.fetch_add(1, Relaxed);
                persistence.last_save_seconds.store(self.now_ms() / 1000, Relaxed);
                persistence.changes_at_save.store(changes, Relaxed);
            }
            Err(error) => tracing::warn!("Error saving DB on disk: {error}"),
        }
        self.note_disk();
    }

    /// Writes are refused while the disk fails, if the configuration says so.
    pub fn note_disk(&self) {
        let config = self.config();
        let persistence = &self.persistence;
        let save_failed = config.stop_writes_on_bgsave_error
            && !config.save.0.is_empty()
            && !persistence.last_save_ok.load(Relaxed);
        let failed = save_failed || persistence.aof_has_failed();
        self.conditions.set(Conditions::DISK_ERROR, failed);
    }

    /// What a write is answered after the disk failed.
    pub fn disk_error(&self) -> ErrorReply {
        let persistence = &self.persistence;
        if persistence.last_save_ok.load(Relaxed) && persistence.aof_has_failed() {
            let error = persistence.aof_error.lock();
            return ErrorReply::from_text(format!("MISCONF Errors writing to the AOF file: {error}"));
        }
        ErrorReply::new(
            "MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands \
             that may modify the data set are disabled, because this instance is configured to report errors during writes \
             if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Valkey logs for details \
             about the RDB error.",
        )
    }

    /// What is being saved in the background. One that was cancelled has a moment to notice it, so that a new one can begin as
    /// soon as the old one was given up.
    pub fn saving_that_goes_on(&self) -> Option<Saving> {
        const MOMENT: Duration = Duration::from_millis(100);
        const PAUSE: Duration = Duration::from_millis(1);
        let began = Instant::now();
        loop {
            let saving = self.persistence.saving()?;
            if !saving.cancelled.load(Relaxed) || began.elapsed() > MOMENT {
                return Some(saving);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Begins something that is saved in the background; `false`: something is already.
    pub(super) fn begin_saving(&self, kind: SavingKind, keys_total: u64) -> Option<Saving> {
        let mut saving = self.persistence.saving.lock();
        if saving.is_some() {
            return None;
        }
        let new = Saving {
            kind,
            started: Instant::now(),
            cancelled: Arc::default(),
            keys_written: Arc::default(),
            keys_total,
            copied_before: dictionary::copied_bytes(),
        };
        *saving = Some(new.clone());
        self.persistence.moments.fetch_add(1, Relaxed);
        Some(new)
    }

    /// BGSAVE. `false`: something is being saved already.
    pub fn save_in_background(self: &Arc<Self>, core: &Core) -> bool {
        let Some(saving) = self.begin_saving(SavingKind::Rdb, core.keyspace.len() as u64) else {
            return false;
        };
        let moment = self.moment(core);
        let changes = core.writes.changes;
        self.persistence.last_attempt_seconds.store(self.now_ms() / 1000, Relaxed);
        tracing::info!("Background saving started by pid {}", std::process::id());
        let server = self.clone();
        self.spawn_saving("bgsave", move || {
            super::process::give_way();
            let result = server.save_file(
                moment,
                &server.rdb_path(),
                &temporary_background_save(),
                &saving.keys_written,
                &saving.cancelled,
            );
            if saving.cancelled.load(Relaxed) {
                tracing::warn!("Background saving terminated by signal 10");
                *server.persistence.saving.lock() = None;
                return;
            }
            server.persistence.last_save_copied_bytes.store(saving.copied_bytes(), Relaxed);
            server.saved(&result, changes, Some(saving.started.elapsed()));
            match result {
                Ok(()) => tracing::info!("Background saving terminated with success"),
                Err(_) => tracing::warn!("Background saving error"),
            }
            *server.persistence.saving.lock() = None;
        });
        true
    }

    /// Runs `work` on a thread that gives the one place for saving back when it has ended.
    pub(super) fn spawn_saving(self: &Arc<Self>, name: &str, work: impl FnOnce() + Send + 'static) {
        let place = Place(self.clone());
        spawn(name, move || {
            let _place = place;
            super::log::mark_background_thread();
            work();
        });
    }

    /// All keys were deleted: what is being saved is not wanted any more, and what was saved is to be empty too.
    pub fn dataset_flushed(&self, core: &Core) {
        if self.conditions.has(Conditions::LOADING) {
            return;
        }
        self.cancel_saving(SavingKind::Rdb);
        if !self.config().save.0.is_empty() {
            // What went wrong was logged.
            let _ = self.save_now(core);
        }
    }

    /// Ends what is being saved in the background.
    pub fn cancel_saving(&self, kind: SavingKind) -> bool {
        match &*self.persistence.saving.lock() {
            Some(saving) if saving.kind == kind => {
                saving.cancelled.store(true, Relaxed);
                true
            }
            _ => false,
        }
    }

    // ---- What happens by itself ----

    /// Once in a while: save points, scheduled and automatic rewrites.
    pub fn save_if_due(self: &Arc<Self>, core: &mut Core) {
        let persistence = &self.persistence;
        if persistence.saving().is_some() {
            return;
        }
        let config = self.config();
        let now = self.now_ms() / 1000;
        if persistence.rewrite_is_scheduled.load(Relaxed) && !persistence.rewrite_limit.lock().holds(now) {
            // What went wrong was logged.
            let _ = self.rewrite_aof(core);
            return;
        }
        let changes = core.writes.changes.saturating_sub(persistence.changes_at_save.load(Relaxed));
        let since_save = now.saturating_sub(persistence.last_save_seconds.load(Relaxed));
        let since_attempt = now.saturating_sub(persistence.last_attempt_seconds.load(Relaxed));
        let may_try = persistence.last_save_ok.load(Relaxed) || since_attempt > RETRY_AFTER_SECONDS;
        if may_try && persistence.save_is_scheduled.swap(false, Relaxed) {
            self.save_in_background(core);
            return;
        }
        for point in &config.save.0 {
            if changes >= point.changes && since_save > point.seconds && may_try {
                tracing::info!("{} changes in {} seconds. Saving...", point.changes, point.seconds);
                self.save_in_background(core);
                return;
            }
        }
        let (size, base) =
            (persistence.aof_size.load(Relaxed), persistence.aof_base_size.load(Relaxed).max(1));
        let growth = (size as u128 * 100 / u128::from(base)).saturating_sub(100);
        if persistence.has_aof()
            && config.auto_aof_rewrite_percentage > 0
            && size > config.auto_aof_rewrite_min_size
            && growth >= u128::from(config.auto_aof_rewrite_percentage)
            && !persistence.rewrite_limit.lock().holds(now)
        {
            tracing::info!("Starting automatic rewriting of AOF on {growth}% growth");
            let _ = self.rewrite_aof(core);
        }
    }
}

/// After a save that failed the next one by itself comes this much later.
const RETRY_AFTER_SECONDS: u64 = 5;

/// The file that SAVE, FLUSHALL and the end of the server write before it takes the name of the RDB file.
pub(super) fn temporary_save() -> PathBuf {
    PathBuf::from(format!("temp-{}.rdb", std::process::id()))
}

/// The same of BGSAVE, which may be ending while another save begins.
pub(super) fn temporary_background_save() -> PathBuf {
    PathBuf::from(format!("temp-bg-{}.rdb", std::process::id()))
}

/// The one place for what is saved in the background; it is free again when this is dropped.
struct Place(Arc<Server>);

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.persistence.saving.lock() = None;
    }
}

/// What happens after each key that is saved: progress is shown, others are let by, the delay directive obeyed, a cancellation
/// noticed.
pub(super) struct Pace<'a> {
    server: &'a Server,
    progress: &'a AtomicU64,
    cancelled: &'a AtomicBool,
    delay_us: i32,
}

impl<'a> Pace<'a> {
    /// Keys after which others get the processor, and the configuration is looked at again, unless there is a delay.
    pub const KEYS_AT_ONCE: u64 = 256;

    pub fn new(server: &'a Server, progress: &'a AtomicU64, cancelled: &'a AtomicBool) -> Self {
        Pace { server, progress, cancelled, delay_us: server.config().rdb_key_save_delay_us }
    }

    pub fn key_written(&mut self, keys: u64) -> io::Result<()> {
        self.progress.store(keys, Relaxed);
        if keys.is_multiple_of(Self::KEYS_AT_ONCE) {
            super::process::step_aside();
        }
        if self.delay_us != 0 || keys.is_multiple_of(Self::KEYS_AT_ONCE) {
            self.delay_us = self.server.config().rdb_key_save_delay_us;
            brake(self.delay_us, keys, || {
                !self.cancelled.load(Relaxed) && self.server.config().rdb_key_save_delay_us == self.delay_us
            });
        }
        if self.cancelled.load(Relaxed) { Err(io::Error::other("cancelled")) } else { Ok(()) }
    }
}

/// Sleeps as the delay directives ask, which tests use to make saving and loading slow, while `goes_on` says so.
pub fn brake(delay_us: i32, keys: u64, goes_on: impl Fn() -> bool) {
    /// How long a cancellation may go unnoticed.
    const STEP: Duration = Duration::from_millis(5);
    match delay_us {
        0 => {}
        1.. => {
            let until = Instant::now() + Duration::from_micros(delay_us as u64);
            while let left = until.saturating_duration_since(Instant::now())
                && !left.is_zero()
                && goes_on()
            {
                std::thread::sleep(left.min(STEP));
            }
        }
        _ if keys.is_multiple_of(u64::from(delay_us.unsigned_abs())) => {
            std::thread::sleep(Duration::from_micros(1))
        }
        _ => {}
    }
}

/// Runs what takes long on a thread.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(work) {
        tracing::warn!("Can't start a thread for {name}: {error}");
    }
}
