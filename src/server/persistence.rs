//! Saving: RDB files, the AOF, its rewrites. Everything that takes long runs on a thread over a snapshot; nothing forks.
//!
//! Lock order: the dataset's guard, then the AOF. Bytes leave the stream for the AOF under both, so the file holds the
//! stream in order.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Server;
use super::admission::Conditions;
use super::command_line::VALKEY_VERSION;
use super::config::AppendFsync;
use super::core::Core;
use super::latency::event;
use crate::base::file::{File, FileSystem, Open, SystemFileSystem, append_all};
use crate::keyspace::Snapshot;
use crate::rdb;
use crate::scripting::{Origin, Registry, Script};
use crate::stream::Stream;
use crate::stream::aof::{AofError, AofFiles, IncrStart, StreamState};

/// What INFO persistence shows, and what is going on.
#[derive(Debug)]
pub struct Persistence {
    aof: Mutex<Option<AofWriter>>,
    /// One BGSAVE or rewrite at a time.
    saving: Mutex<Option<Saving>>,
    pub saves: AtomicU64,
    pub rewrites: AtomicU64,
    pub last_save_seconds: AtomicU64,
    /// `WriteState::changes` at the last save.
    pub changes_at_save: AtomicU64,
    pub last_save_ok: AtomicBool,
    pub last_save_took_seconds: AtomicI64,
    pub last_rewrite_ok: AtomicBool,
    pub last_rewrite_took_seconds: AtomicI64,
    pub aof_write_ok: AtomicBool,
    pub rewrite_is_scheduled: AtomicBool,
    pub save_is_scheduled: AtomicBool,
    pub aof_size: AtomicU64,
    pub aof_base_size: AtomicU64,
    /// The offset up to which the AOF is on the disk.
    pub aof_synced_offset: AtomicU64,
    /// Grows when the files begin to hold another history. Odd while its base is not complete: nothing of it counts as
    /// synced until then.
    aof_history: AtomicU64,
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavingKind {
    Rdb,
    Aof,
}

/// The open incr file.
struct AofWriter {
    files: AofFiles,
    file: Box<dyn File>,
    state: StreamState,
    /// The offset behind the last byte written.
    written: u64,
    /// Bytes that could not be written yet.
    pending: Vec<u8>,
}

impl AofWriter {
    fn incr_path(&self, sequence: u64) -> Option<PathBuf> {
        let incr = self.files.manifest().incrs().iter().find(|incr| incr.sequence == sequence)?;
        Some(self.files.path(&incr.name))
    }
}

impl std::fmt::Debug for AofWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AofWriter").field("written", &self.written).finish_non_exhaustive()
    }
}

impl Default for Persistence {
    fn default() -> Self {
        Persistence {
            aof: Mutex::default(),
            saving: Mutex::default(),
            saves: AtomicU64::new(0),
            rewrites: AtomicU64::new(0),
            last_save_seconds: AtomicU64::new(0),
            changes_at_save: AtomicU64::new(0),
            last_save_ok: AtomicBool::new(true),
            last_save_took_seconds: AtomicI64::new(-1),
            last_rewrite_ok: AtomicBool::new(true),
            last_rewrite_took_seconds: AtomicI64::new(-1),
            aof_write_ok: AtomicBool::new(true),
            rewrite_is_scheduled: AtomicBool::new(false),
            save_is_scheduled: AtomicBool::new(false),
            aof_size: AtomicU64::new(0),
            aof_base_size: AtomicU64::new(0),
            aof_synced_offset: AtomicU64::new(0),
            aof_history: AtomicU64::new(0),
            last_attempt_seconds: AtomicU64::new(0),
            loading: Loading::default(),
        }
    }
}

impl Persistence {
    /// The AOF is to hold another history: that its files are on the disk says nothing until there is a base.
    pub fn begin_aof_history(&self) {
        let history = self.aof_history.load(Relaxed);
        self.aof_history.store(history + 1 + history % 2, Relaxed);
        self.aof_synced_offset.store(0, Relaxed);
    }

    /// The base of the stream's history up to `offset` is complete and on the disk.
    fn base_is_complete(&self, offset: u64) {
        let history = self.aof_history.load(Relaxed);
        self.aof_history.store(history + history % 2, Relaxed);
        self.aof_synced_offset.fetch_max(offset, Relaxed);
    }

    /// The files of this history are on the disk up to `offset`.
    fn note_synced(&self, history: u64, offset: u64) {
        if history.is_multiple_of(2) && history == self.aof_history.load(Relaxed) {
            self.aof_synced_offset.fetch_max(offset, Relaxed);
        }
    }

    pub fn saving(&self) -> Option<Saving> {
        self.saving.lock().clone()
    }

    pub fn has_aof(&self) -> bool {
        self.aof.lock().is_some()
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
        let loaded = self.scripts.all().into_iter().filter(|(_, origin)| *origin == Origin::Load);
        Moment {
            snapshot: core.keyspace.snapshot(),
            functions: self.functions.get(),
            scripts: loaded.map(|(script, _)| script).collect(),
            replid: String::from_utf8_lossy(core.stream.replid()).into_owned(),
            offset: core.stream.offset(),
            database: core.stream.selected().unwrap_or(0),
        }
    }

    /// Writes a moment as RDB. `progress` counts keys; `cancelled` ends it.
    pub fn write_rdb(
        &self,
        moment: &Moment,
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
        };
        let contents = rdb::Contents {
            keyspace: Some(&moment.snapshot),
            functions: &moment.functions,
            scripts: &moment.scripts,
        };
        rdb::save(contents, &options, out, &mut |keys| {
            progress.store(keys, Relaxed);
            brake(self.config().rdb_key_save_delay_us, keys);
            if cancelled.load(Relaxed) { Err(io::Error::other("cancelled")) } else { Ok(()) }
        })
    }

    /// Saves a moment into the file at `path`: written beside it, synced, then renamed.
    fn save_file(
        &self,
        moment: &Moment,
        path: &Path,
        temporary: &Path,
        progress: &AtomicU64,
        cancelled: &AtomicBool,
    ) -> io::Result<()> {
        let written = (|| {
            let file = std::fs::File::create(temporary)?;
            let mut out = BufWriter::with_capacity(1 << 18, file);
            self.write_rdb(moment, false, &mut out, progress, cancelled)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
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
        let temporary = PathBuf::from(format!("temp-{}.rdb", std::process::id()));
        let result = self.save_file(
            &moment,
            &self.rdb_path(),
            &temporary,
            &AtomicU64::new(0),
            &AtomicBool::new(false),
        );
        self.saved(&result, core.writes.changes, None);
        result
    }

    fn saved(&self, result: &io::Result<()>, changes: u64, took: Option<Duration>) {
        let persistence = &self.persistence;
        persistence.last_save_ok.store(result.is_ok(), Relaxed);
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
        let failed = save_failed || !persistence.aof_write_ok.load(Relaxed);
        self.conditions.set(Conditions::DISK_ERROR, failed);
    }

    /// Begins something that is saved in the background; `false`: something is already.
    fn begin_saving(&self, kind: SavingKind, keys_total: u64) -> Option<Saving> {
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
        };
        *saving = Some(new.clone());
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
        spawn("bgsave", move || {
            super::log::mark_background_thread();
            let temporary = PathBuf::from(format!("temp-{}.rdb", std::process::id()));
            let result = server.save_file(
                &moment,
                &server.rdb_path(),
                &temporary,
                &saving.keys_written,
                &saving.cancelled,
            );
            drop(moment);
            *server.persistence.saving.lock() = None;
            if saving.cancelled.load(Relaxed) {
                tracing::warn!("Background saving terminated by signal 10");
                return;
            }
            server.saved(&result, changes, Some(saving.started.elapsed()));
            match result {
                Ok(()) => tracing::info!("Background saving terminated with success"),
                Err(_) => tracing::warn!("Background saving error"),
            }
        });
        true
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

    // ---- The AOF ----

    /// Opens the AOF that was loaded, or begins one; from then on the stream's bytes go into it.
    pub fn open_aof(&self, core: &mut Core, files: AofFiles) -> Result<(), AofError> {
        let mut files = files;
        let known = files.load_state();
        let (file, sequence) = match files.open_last_incr()? {
            Some(open) => open,
            None => {
                if files.manifest().base().is_none() {
                    self.write_first_base(core, &mut files)?;
                }
                if !self.is_replica() {
                    core.stream.forget_selected();
                }
                files.begin_incr()?
            }
        };
        let incrs = known.as_ref().map(|state| state.incrs.clone()).unwrap_or_default();
        let mut state = state_of(&core.stream, incrs);
        let length = file.len().unwrap_or(0);
        if state.start_of(sequence).is_none() {
            state.incrs.push(IncrStart { sequence, offset: core.stream.offset().saturating_sub(length) });
        }
        files.save_state(&state)?;
        core.stream.start_aof();
        let written = core.stream.offset();
        self.persistence.aof_synced_offset.store(written, Relaxed);
        self.persistence.aof_size.store(self.aof_bytes(&files), Relaxed);
        self.persistence.aof_base_size.store(self.aof_bytes(&files), Relaxed);
        *self.persistence.aof.lock() = Some(AofWriter { files, file, state, written, pending: Vec::new() });
        Ok(())
    }

    fn write_first_base(&self, core: &Core, files: &mut AofFiles) -> Result<(), AofError> {
        let moment = self.moment(core);
        let path = files.temporary_base();
        let write = || {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            let mut out = BufWriter::new(std::fs::File::create(&path)?);
            self.write_rdb(&moment, true, &mut out, &AtomicU64::new(0), &AtomicBool::new(false))?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
        };
        write().map_err(|source| AofError::Io {
            action: "Can't write",
            path: path.display().to_string(),
            source,
        })?;
        tracing::info!(
            "Creating AOF base file {}.1.base.rdb on server start",
            self.config().appendfilename.to_str()
        );
        files.finish_rewrite(u64::MAX, true).map(drop)
    }

    fn aof_bytes(&self, files: &AofFiles) -> u64 {
        let manifest = files.manifest();
        let names = manifest.base().into_iter().chain(manifest.incrs());
        names
            .filter_map(|file| std::fs::metadata(files.path(&file.name)).ok())
            .map(|metadata| metadata.len())
            .sum()
    }

    /// Appends bytes of the stream to the AOF and makes them as durable as `appendfsync` asks. Call with the guard held
    /// for the bytes to be in order; it may be released once this has locked.
    pub fn write_aof(&self, bytes: &[u8]) {
        let mut aof = self.persistence.aof.lock();
        if let Some(writer) = &mut *aof {
            writer.pending.extend_from_slice(bytes);
            self.write_pending(writer);
        }
    }

    fn write_pending(&self, writer: &mut AofWriter) {
        let config = self.config();
        let length = writer.pending.len() as u64;
        let began = self.latency.begin();
        let written = append_all(&mut *writer.file, &writer.pending);
        self.latency.end(event::AOF_WRITE, began, self.now_ms());
        let result = written.and_then(|()| {
            writer.written += length;
            self.persistence.aof_size.fetch_add(length, Relaxed);
            writer.pending.clear();
            if config.appendfsync == AppendFsync::Always {
                let began = self.latency.begin();
                writer.file.sync_data()?;
                self.latency.end(event::AOF_FSYNC_ALWAYS, began, self.now_ms());
                self.persistence.note_synced(self.persistence.aof_history.load(Relaxed), writer.written);
            }
            Ok(())
        });
        let was_ok = self.persistence.aof_write_ok.swap(result.is_ok(), Relaxed);
        if let Err(error) = result {
            if was_ok {
                tracing::warn!("Error writing to the AOF file: {error}");
            }
            // What was written in part is cut off again, so that the file ends with a whole command.
            let start = writer.state.incrs.last().map_or(0, |incr| incr.offset);
            if let Err(error) = writer.file.truncate(writer.written.saturating_sub(start)) {
                tracing::warn!("Could not remove short write from the append-only file: {error}");
            }
            if config.appendfsync == AppendFsync::Always {
                tracing::error!(
                    "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting..."
                );
                std::process::exit(1);
            }
        }
        if was_ok != self.persistence.aof_write_ok.load(Relaxed) {
            self.note_disk();
        }
    }

    /// Once a second: what was written is brought to the disk, if `appendfsync` is everysec; what could not be written
    /// is tried again.
    pub fn sync_aof(self: &Arc<Self>) {
        let (file, written, history) = {
            let mut aof = self.persistence.aof.lock();
            let Some(writer) = &mut *aof else { return };
            if !writer.pending.is_empty() || !self.persistence.aof_write_ok.load(Relaxed) {
                self.write_pending(writer);
            }
            if self.config().appendfsync == AppendFsync::No
                || writer.written == self.persistence.aof_synced_offset.load(Relaxed)
            {
                return;
            }
            let Ok(file) = writer.file.duplicate() else { return };
            (file, writer.written, self.persistence.aof_history.load(Relaxed))
        };
        let server = self.clone();
        spawn("aof-sync", move || match file.sync_data() {
            Ok(()) => {
                server.persistence.note_synced(history, written);
                server.acknowledged();
            }
            Err(error) => tracing::warn!("Fail to fsync the AOF file: {error}"),
        });
    }

    /// Brings everything to the disk now.
    pub fn sync_aof_now(&self, core: &mut Core) -> io::Result<()> {
        let bytes = core.stream.take_for_aof();
        let mut aof = self.persistence.aof.lock();
        let Some(writer) = &mut *aof else { return Ok(()) };
        writer.pending.extend_from_slice(&bytes);
        self.write_pending(writer);
        writer.file.sync_data()?;
        self.persistence.note_synced(self.persistence.aof_history.load(Relaxed), writer.written);
        Ok(())
    }

    /// The stream has another name: the state file must know before anything is acknowledged under it.
    pub fn note_history(&self, core: &mut Core) {
        let bytes = core.stream.take_for_aof();
        let mut aof = self.persistence.aof.lock();
        let Some(writer) = &mut *aof else { return };
        if !bytes.is_empty() {
            writer.pending.extend_from_slice(&bytes);
            self.write_pending(writer);
        }
        writer.written = core.stream.offset().saturating_sub(writer.pending.len() as u64);
        writer.state = state_of(&core.stream, std::mem::take(&mut writer.state.incrs));
        if let Err(error) = writer.files.save_state(&writer.state) {
            tracing::warn!("{error}");
        }
    }

    /// What the AOF holds belongs to no history that anybody knows, until a rewrite ends.
    pub fn disown_history(&self, replid: &str) {
        let mut aof = self.persistence.aof.lock();
        let Some(writer) = &mut *aof else { return };
        writer.state.replid = replid.as_bytes().to_vec();
        writer.state.replid2 = crate::stream::NO_REPLID.to_vec();
        writer.state.second_offset = None;
        if let Err(error) = writer.files.save_state(&writer.state) {
            tracing::warn!("{error}");
        }
    }

    /// The offset from which the AOF's files hold the stream without a gap up to its end. `None`: they hold none of it, or
    /// other bytes too.
    pub fn aof_readable_from(&self) -> Option<u64> {
        let is_whole = self.persistence.aof_history.load(Relaxed).is_multiple_of(2);
        let aof = self.persistence.aof.lock();
        let writer = aof.as_ref().filter(|writer| is_whole && writer.pending.is_empty())?;
        let mut from = None;
        let mut end = writer.written;
        for incr in writer.state.incrs.iter().rev() {
            let length =
                writer.incr_path(incr.sequence).and_then(|path| Some(std::fs::metadata(path).ok()?.len()));
            if length.and_then(|length| incr.offset.checked_add(length)) != Some(end) {
                break;
            }
            (from, end) = (Some(incr.offset), incr.offset);
        }
        from
    }

    /// Appends to `out` up to `most` bytes of the stream from `position` on, as the AOF's files hold them. `false`: they do
    /// not.
    pub fn read_aof(&self, position: u64, most: usize, out: &mut Vec<u8>) -> bool {
        let opened = {
            let aof = self.persistence.aof.lock();
            let incrs = aof.as_ref().map_or(&[][..], |writer| &writer.state.incrs);
            let after = incrs.iter().position(|incr| incr.offset > position).unwrap_or(incrs.len());
            let Some(incr) = after.checked_sub(1).and_then(|index| incrs.get(index)) else { return false };
            let end = incrs.get(after).map_or(u64::MAX, |next| next.offset);
            let path = aof.as_ref().and_then(|writer| writer.incr_path(incr.sequence));
            path.and_then(|path| SystemFileSystem.open(&path, Open::Read).ok())
                .map(|file| (file, position - incr.offset, end - position))
        };
        let Some((file, offset, left)) = opened else { return false };
        let start = out.len();
        out.resize(start + most.min(usize::try_from(left).unwrap_or(usize::MAX)), 0);
        let count = file.read_at(&mut out[start..], offset).unwrap_or(0);
        out.truncate(start + count);
        count > 0
    }

    /// BGREWRITEAOF, or turning the AOF on. `false`: something is being saved already.
    pub fn rewrite_aof(self: &Arc<Self>, core: &mut Core) -> Result<bool, AofError> {
        let Some(saving) = self.begin_saving(SavingKind::Aof, core.keyspace.len() as u64) else {
            return Ok(false);
        };
        let first_incr = match self.begin_rewrite(core) {
            Ok(first_incr) => first_incr,
            Err(error) => {
                *self.persistence.saving.lock() = None;
                self.persistence.last_rewrite_ok.store(false, Relaxed);
                tracing::warn!("{error}");
                return Err(error);
            }
        };
        self.persistence.rewrite_is_scheduled.store(false, Relaxed);
        let moment = self.moment(core);
        let offset = moment.offset;
        tracing::info!("Background append only file rewriting started by pid {}", std::process::id());
        let server = self.clone();
        spawn("aof-rewrite", move || {
            super::log::mark_background_thread();
            let result = server.write_base(&moment, &saving);
            drop(moment);
            let result = result.and_then(|()| server.end_rewrite(first_incr));
            if result.is_ok() && !saving.cancelled.load(Relaxed) {
                // It may have been disowned until now.
                server.note_history(&mut server.core.write());
                server.persistence.base_is_complete(offset);
                server.acknowledged();
            }
            *server.persistence.saving.lock() = None;
            server
                .persistence
                .last_rewrite_took_seconds
                .store(saving.started.elapsed().as_secs() as i64, Relaxed);
            server.persistence.last_rewrite_ok.store(result.is_ok(), Relaxed);
            match result {
                Ok(()) => {
                    server.persistence.rewrites.fetch_add(1, Relaxed);
                    tracing::info!("Background AOF rewrite finished successfully");
                }
                Err(_) if saving.cancelled.load(Relaxed) => {
                    tracing::warn!("Background AOF rewrite terminated by signal 10");
                }
                Err(error) => tracing::warn!("Background AOF rewrite terminated with error: {error}"),
            }
        });
        Ok(true)
    }

    /// Opens the incr file that begins at this moment.
    fn begin_rewrite(&self, core: &mut Core) -> Result<u64, AofError> {
        let bytes = core.stream.take_for_aof();
        let mut aof = self.persistence.aof.lock();
        let writer = match &mut *aof {
            Some(writer) => writer,
            None => {
                return Err(AofError::Io {
                    action: "No AOF",
                    path: String::new(),
                    source: io::ErrorKind::NotFound.into(),
                });
            }
        };
        if !bytes.is_empty() {
            writer.pending.extend_from_slice(&bytes);
            self.write_pending(writer);
        }
        // The old file must be complete and on the disk before anything comes after it.
        let incomplete =
            |source| AofError::Io { action: "Can't finish the present", path: "AOF file".into(), source };
        if !writer.pending.is_empty() {
            return Err(incomplete(io::ErrorKind::WriteZero.into()));
        }
        writer.file.sync_data().map_err(incomplete)?;
        // A replica's stream is its primary's and goes on as it is; the base says in which database.
        if !self.is_replica() {
            core.stream.forget_selected();
        }
        let (file, sequence) = writer.files.begin_incr()?;
        writer.file = file;
        writer.written = core.stream.offset();
        writer.state.incrs.push(IncrStart { sequence, offset: core.stream.offset() });
        writer.files.save_state(&writer.state)?;
        Ok(sequence)
    }

    fn write_base(&self, moment: &Moment, saving: &Saving) -> Result<(), AofError> {
        let path = match &*self.persistence.aof.lock() {
            Some(writer) => writer.files.temporary_base(),
            None => return Ok(()),
        };
        let write = || {
            let mut out = BufWriter::with_capacity(1 << 18, std::fs::File::create(&path)?);
            self.write_rdb(moment, true, &mut out, &saving.keys_written, &saving.cancelled)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
        };
        write().map_err(|source| {
            let _ = std::fs::remove_file(&path);
            AofError::Io { action: "Can't write", path: path.display().to_string(), source }
        })
    }

    fn end_rewrite(&self, first_incr: u64) -> Result<(), AofError> {
        let keep_history = self.config().aof_disable_auto_gc;
        let mut aof = self.persistence.aof.lock();
        let Some(writer) = &mut *aof else { return Ok(()) };
        let old = writer.files.finish_rewrite(first_incr, true)?;
        writer.state.incrs.retain(|incr| incr.sequence >= first_incr);
        writer.files.save_state(&writer.state)?;
        if !keep_history {
            writer.files.remove(&old)?;
        }
        let size = self.aof_bytes(&writer.files);
        self.persistence.aof_size.store(size, Relaxed);
        self.persistence.aof_base_size.store(size, Relaxed);
        Ok(())
    }

    /// Turns the AOF off.
    pub fn close_aof(&self, core: &mut Core) {
        if let Err(error) = self.sync_aof_now(core) {
            tracing::warn!("Fail to fsync the AOF file: {error}");
        }
        self.cancel_saving(SavingKind::Aof);
        core.stream.stop_aof();
        *self.persistence.aof.lock() = None;
    }

    /// Brings to the disk what must be there when the process ends.
    pub fn prepare_to_end(&self, core: &mut Core, save: bool) -> io::Result<()> {
        self.cancel_saving(SavingKind::Rdb);
        self.cancel_saving(SavingKind::Aof);
        if let Err(error) = self.sync_aof_now(core) {
            tracing::warn!("Fail to fsync the AOF file: {error}.");
        }
        if save {
            tracing::info!("Saving the final RDB snapshot before exiting.");
            if let Err(error) = self.save_now(core) {
                tracing::warn!("Error trying to save the DB, can't exit.");
                return Err(error);
            }
        }
        Ok(())
    }

    // ---- What happens by itself ----

    /// Once in a while: save points, scheduled and automatic rewrites.
    pub fn save_if_due(self: &Arc<Self>, core: &mut Core) {
        let persistence = &self.persistence;
        if persistence.saving().is_some() {
            return;
        }
        if persistence.save_is_scheduled.swap(false, Relaxed) {
            self.save_in_background(core);
            return;
        }
        let config = self.config();
        if persistence.rewrite_is_scheduled.load(Relaxed) && persistence.has_aof() {
            // What went wrong was logged.
            let _ = self.rewrite_aof(core);
            return;
        }
        let now = self.now_ms() / 1000;
        let changes = core.writes.changes.saturating_sub(persistence.changes_at_save.load(Relaxed));
        let since_save = now.saturating_sub(persistence.last_save_seconds.load(Relaxed));
        let since_attempt = now.saturating_sub(persistence.last_attempt_seconds.load(Relaxed));
        let may_try = persistence.last_save_ok.load(Relaxed) || since_attempt > 5;
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
        {
            tracing::info!("Starting automatic rewriting of AOF on {growth}% growth");
            let _ = self.rewrite_aof(core);
        }
    }
}

fn state_of(stream: &Stream, incrs: Vec<IncrStart>) -> StreamState {
    StreamState {
        replid: stream.replid().to_vec(),
        replid2: stream.replid2().to_vec(),
        second_offset: stream.second_offset(),
        incrs,
    }
}

/// Sleeps as the delay directives ask, which tests use to make saving and loading slow.
pub fn brake(delay_us: i32, keys: u64) {
    match delay_us {
        0 => {}
        1.. => std::thread::sleep(Duration::from_micros(delay_us as u64)),
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
