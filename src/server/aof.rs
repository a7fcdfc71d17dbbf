//! The AOF of the running server: the file that the stream's bytes go to, and its rewrites.
//!
//! Lock order: the dataset's guard, the AOF's names (manifest and state), the AOF. Bytes leave the stream for the AOF under both, so the file holds the
//! stream in order. While the AOF is being turned on its bytes go to a file that no manifest names: what an earlier AOF
//! left stays as it is until the new base is whole.
//!
//! Invariant: the open file ends with a whole unit of the stream, or is cut back to one before anything is appended.

use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::Server;
use super::config::AppendFsync;
use super::core::Core;
use super::latency::event;
use super::persistence::{Moment, Pace, Persistence, Saving, SavingKind, spawn};
use crate::base::file::{File, append_all};
use crate::rdb;
use crate::stream::Stream;
use crate::stream::aof::{AofError, AofFiles, IncrStart, Kept, StreamState};

/// The open incr file.
pub(super) struct AofWriter {
    /// Manifest and state. Locked before the writer, and for as long as it takes to bring them to the disk, which those who
    /// append must not wait for.
    files: Arc<Mutex<AofFiles>>,
    file: Box<dyn File>,
    /// Earlier files whose ends may not be on the disk yet.
    unsynced: Vec<Box<dyn File>>,
    state: StreamState,
    /// The offset of the stream at which the file begins.
    start: u64,
    /// The offset behind the last byte written.
    written: u64,
    /// Bytes of the file that are whole. More than the stream's since `start`: the file holds annotations too.
    length: u64,
    /// Bytes that could not be written yet.
    pending: Vec<u8>,
    /// The second that the last annotation names.
    annotated_seconds: u64,
    /// Could a write that failed not be cut off?
    is_torn: bool,
    /// No manifest names the file yet: its base is being written.
    awaits_base: bool,
}

impl AofWriter {
    /// The incr files with the offsets of the stream at which they begin, if each holds nothing but the stream from there to
    /// the beginning of the next, as far as is known.
    pub(super) fn files_of_the_stream(&self) -> Option<&[IncrStart]> {
        let is_pure = self.length == self.written - self.start;
        (is_pure && !self.awaits_base).then_some(&self.state.incrs)
    }

    /// The offset behind the last byte written.
    pub(super) fn end(&self) -> u64 {
        self.written
    }
}

impl std::fmt::Debug for AofWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AofWriter").field("written", &self.written).finish_non_exhaustive()
    }
}

/// Rewrites that fail again and again are begun by themselves less and less often.
#[derive(Debug, Default)]
pub(super) struct RewriteLimit {
    failures: u32,
    delay_minutes: u64,
    next_seconds: Option<u64>,
}

impl RewriteLimit {
    const FAILURES: u32 = 3;
    const MAX_MINUTES: u64 = 60;

    /// Is it too early for another?
    pub fn holds(&mut self, now_seconds: u64) -> bool {
        if self.failures < Self::FAILURES {
            *self = RewriteLimit { failures: self.failures, ..Self::default() };
            return false;
        }
        if let Some(next) = self.next_seconds {
            if now_seconds >= next {
                self.next_seconds = None;
            }
            return now_seconds < next;
        }
        self.delay_minutes = (self.delay_minutes * 2).clamp(1, Self::MAX_MINUTES);
        self.next_seconds = Some(now_seconds + self.delay_minutes * 60);
        tracing::warn!(
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {} minutes",
            self.delay_minutes
        );
        true
    }
}

/// The thread that brings the AOF to the disk, of which there is one at most.
struct Syncing(Arc<Server>);

impl Drop for Syncing {
    fn drop(&mut self) {
        self.0.persistence.aof_is_syncing.store(false, Relaxed);
    }
}

/// A rewrite that has begun.
struct Rewrite {
    /// The file that is written first.
    base: PathBuf,
    is_rdb: bool,
    kept: Kept,
}

impl Persistence {
    /// Is the AOF on?
    pub fn has_aof(&self) -> bool {
        self.aof_is_on.load(Relaxed)
    }

    pub(super) fn aof_has_failed(&self) -> bool {
        self.has_aof() && !(self.aof_write_ok.load(Relaxed) && self.aof_sync_ok.load(Relaxed))
    }

    /// Is the base of an AOF that was turned on being written, so that nothing is kept if the process ends?
    pub fn is_writing_first_base(&self) -> bool {
        let awaits_base = self.aof.lock().as_ref().is_some_and(|writer| writer.awaits_base);
        awaits_base && self.saving().is_some_and(|saving| saving.kind == SavingKind::Aof)
    }

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
}

impl Server {
    // ---- On and off ----

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
        let offset = core.stream.offset();
        let start = match state.start_of(sequence) {
            Some(start) => start,
            None => {
                let start = offset.saturating_sub(length);
                state.incrs.push(IncrStart { sequence, offset: start });
                start
            }
        };
        files.save_state(&state)?;
        core.stream.start_aof();
        self.persistence.aof_synced_offset.store(offset, Relaxed);
        if !self.config().aof_disable_auto_gc {
            files.delete_history()?;
        }
        let (base, all) = files.sizes()?;
        self.persistence.aof_size.store(all, Relaxed);
        self.persistence.aof_base_size.store(base, Relaxed);
        self.persistence.aof_is_on.store(true, Relaxed);
        *self.persistence.aof.lock() = Some(AofWriter {
            files: Arc::new(Mutex::new(files)),
            file,
            unsynced: Vec::new(),
            state,
            start,
            written: offset,
            length,
            pending: Vec::new(),
            annotated_seconds: 0,
            is_torn: false,
            awaits_base: false,
        });
        Ok(())
    }

    fn write_first_base(&self, core: &Core, files: &mut AofFiles) -> Result<(), AofError> {
        let is_rdb = self.config().aof_use_rdb_preamble;
        let rewrite = Rewrite { base: files.temporary_base(), is_rdb, kept: Kept::Nothing };
        files.create_dir()?;
        self.write_base(&self.moment(core), &rewrite, &AtomicU64::new(0), &AtomicBool::new(false))?;
        files.finish_rewrite(Kept::Nothing, is_rdb)?;
        if let Some(base) = files.manifest().base() {
            tracing::info!("Creating AOF base file {} on server start", base.name);
        }
        Ok(())
    }

    /// Turns the AOF on while the server runs: a rewrite makes its base. Within a transaction that has to wait.
    pub fn turn_aof_on(self: &Arc<Self>, core: &mut Core, in_transaction: bool) -> Result<(), AofError> {
        let persistence = &self.persistence;
        if persistence.aof_is_on.swap(true, Relaxed) {
            return Ok(());
        }
        persistence.begin_aof_history();
        for status in [&persistence.aof_write_ok, &persistence.aof_sync_ok] {
            if !status.swap(true, Relaxed) {
                tracing::warn!("AOF reopen, just ignore the last error.");
            }
        }
        self.note_disk();
        let saving = self.saving_that_goes_on().map(|saving| saving.kind);
        match saving {
            Some(SavingKind::Rdb) => tracing::info!(
                "AOF was enabled but there is already another background operation. An AOF background was scheduled to start when possible."
            ),
            // It would be the base of nothing: no file goes on from it.
            Some(SavingKind::Aof) => {
                tracing::info!(
                    "AOF was enabled but there is already an AOF rewriting in background. Stopping background AOF and starting a rewrite now."
                );
                self.cancel_saving(SavingKind::Aof);
            }
            None if in_transaction => tracing::info!(
                "AOF was enabled during a transaction. An AOF background was scheduled to start when possible."
            ),
            None => {
                return self.rewrite_aof(core).map(drop).inspect_err(|_| {
                    persistence.aof_is_on.store(false, Relaxed);
                    tracing::warn!(
                        "The server needs to enable the AOF but can't trigger a background AOF rewrite operation. Check the above logs for more info about the error."
                    );
                });
            }
        }
        persistence.rewrite_is_scheduled.store(true, Relaxed);
        Ok(())
    }

    /// Turns the AOF off.
    pub fn close_aof(&self, core: &mut Core) {
        if !self.persistence.aof_is_on.swap(false, Relaxed) {
            return;
        }
        if let Err(error) = self.sync_aof_now(core) {
            tracing::warn!("Fail to fsync the AOF file: {error}");
        }
        if self.persistence.rewrite_is_scheduled.swap(false, Relaxed) {
            tracing::info!("AOF was disabled but there is a scheduled AOF background, cancel it.");
        }
        if self.cancel_saving(SavingKind::Aof) {
            tracing::info!("Killing running AOF rewrite child: {}", std::process::id());
        }
        core.stream.stop_aof();
        let writer = self.persistence.aof.lock().take();
        if let Some(writer) = writer.filter(|writer| writer.awaits_base) {
            writer.files.lock().forget_unnamed_incr();
        }
        self.note_disk();
    }

    /// `aof-disable-auto-gc` was changed.
    pub fn delete_aof_history(&self) {
        if let Some(files) = self.aof_names()
            && let Err(error) = files.lock().delete_history()
        {
            tracing::warn!("{error}");
        }
    }

    /// The manifest and the state of the open AOF.
    fn aof_names(&self) -> Option<Arc<Mutex<AofFiles>>> {
        self.persistence.aof.lock().as_ref().map(|writer| writer.files.clone())
    }

    // ---- Appending ----

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
        let pause_us = self.persistence.aof_pause_us.load(Relaxed);
        if pause_us > 0 && !writer.pending.is_empty() {
            std::thread::sleep(std::time::Duration::from_micros(pause_us));
        }
        let began = self.latency.begin();
        let written = self.append_pending(writer, config.aof_timestamp_enabled);
        self.latency.end(event::AOF_WRITE, began, self.now_ms());
        let result = written.and_then(|()| {
            if config.appendfsync == AppendFsync::Always && !self.spares_disk() {
                let began = self.latency.begin();
                sync_all(writer)?;
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
            *self.persistence.aof_error.lock() = words_of(&error);
            cut_off(writer);
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

    /// Appends what is pending, behind an annotation of the time if the second is a new one.
    fn append_pending(&self, writer: &mut AofWriter, annotate: bool) -> io::Result<()> {
        if writer.is_torn {
            writer.file.truncate(writer.length)?;
            writer.is_torn = false;
        }
        let now_seconds = self.now_ms() / 1000;
        if annotate && writer.annotated_seconds < now_seconds && !writer.pending.is_empty() {
            let annotation = annotation(now_seconds);
            append_all(&mut *writer.file, annotation.as_bytes())?;
            writer.annotated_seconds = now_seconds;
            self.note_appended(writer, annotation.len());
        }
        append_all(&mut *writer.file, &writer.pending)?;
        let length = writer.pending.len();
        writer.written += length as u64;
        writer.pending.clear();
        writer.pending.shrink_to(MOST_SPARE_BYTES);
        self.note_appended(writer, length);
        Ok(())
    }

    fn note_appended(&self, writer: &mut AofWriter, length: usize) {
        writer.length += length as u64;
        self.persistence.aof_size.fetch_add(length as u64, Relaxed);
    }

    /// Does the disk belong to what is saved in the background (`no-appendfsync-on-rewrite`)?
    fn spares_disk(&self) -> bool {
        self.config().no_appendfsync_on_rewrite && self.persistence.saving().is_some()
    }

    /// Once a second: what was written is brought to the disk, if `appendfsync` is everysec; what could not be written
    /// is tried again.
    pub fn sync_aof(self: &Arc<Self>) {
        let persistence = &self.persistence;
        let (files, written, history, syncing) = {
            let mut aof = persistence.aof.lock();
            let Some(writer) = &mut *aof else { return };
            if !writer.pending.is_empty() || !persistence.aof_write_ok.load(Relaxed) {
                self.write_pending(writer);
            }
            let is_synced = writer.written == persistence.aof_synced_offset.load(Relaxed);
            if self.config().appendfsync == AppendFsync::No || is_synced || self.spares_disk() {
                return;
            }
            if persistence.aof_is_syncing.swap(true, Relaxed) {
                persistence.aof_delayed_syncs.fetch_add(1, Relaxed);
                return;
            }
            let syncing = Syncing(self.clone());
            let Ok(file) = writer.file.duplicate() else { return };
            let mut files = std::mem::take(&mut writer.unsynced);
            files.push(file);
            (files, writer.written, persistence.aof_history.load(Relaxed), syncing)
        };
        spawn("aof-sync", move || {
            let server = &syncing.0;
            let synced = files.iter().try_for_each(|file| file.sync_data());
            let persistence = &server.persistence;
            if persistence.aof_sync_ok.swap(synced.is_ok(), Relaxed) != synced.is_ok() {
                if let Err(error) = &synced {
                    *persistence.aof_error.lock() = words_of(error);
                }
                server.note_disk();
            }
            match synced {
                Ok(()) => {
                    persistence.note_synced(history, written);
                    server.acknowledged();
                }
                Err(error) => {
                    tracing::warn!("Fail to fsync the AOF file: {error}");
                    if let Some(writer) = &mut *persistence.aof.lock() {
                        writer.unsynced.extend(files);
                    }
                }
            }
        });
    }

    /// Brings everything to the disk now.
    pub fn sync_aof_now(&self, core: &mut Core) -> io::Result<()> {
        let bytes = core.stream.take_for_aof();
        let mut aof = self.persistence.aof.lock();
        let Some(writer) = &mut *aof else { return Ok(()) };
        writer.pending.extend_from_slice(&bytes);
        self.write_pending(writer);
        sync_all(writer)?;
        self.persistence.note_synced(self.persistence.aof_history.load(Relaxed), writer.written);
        Ok(())
    }

    // ---- Histories ----

    /// The stream has another name: the state file must know before anything is acknowledged under it.
    pub fn note_history(&self, core: &mut Core) {
        let bytes = core.stream.take_for_aof();
        let Some(files) = self.aof_names() else { return };
        let files = files.lock();
        let mut aof = self.persistence.aof.lock();
        let Some(writer) = &mut *aof else { return };
        if !bytes.is_empty() {
            writer.pending.extend_from_slice(&bytes);
            self.write_pending(writer);
        }
        writer.written = core.stream.offset().saturating_sub(writer.pending.len() as u64);
        writer.state = state_of(&core.stream, std::mem::take(&mut writer.state.incrs));
        save_state(&files, writer);
    }

    /// What the AOF holds belongs to no history that anybody knows, until a rewrite ends.
    pub fn disown_history(&self, replid: &str) {
        let Some(files) = self.aof_names() else { return };
        let files = files.lock();
        let mut aof = self.persistence.aof.lock();
        let Some(writer) = &mut *aof else { return };
        writer.state.replid = replid.as_bytes().to_vec();
        writer.state.replid2 = crate::stream::NO_REPLID.to_vec();
        writer.state.second_offset = None;
        save_state(&files, writer);
    }

    // ---- Rewrites ----

    /// BGREWRITEAOF, or turning the AOF on. Without an AOF only a base is written. `false`: something is being saved
    /// already.
    pub fn rewrite_aof(self: &Arc<Self>, core: &mut Core) -> Result<bool, AofError> {
        let Some(saving) = self.begin_saving(SavingKind::Aof, core.keyspace.len() as u64) else {
            return Ok(false);
        };
        let persistence = &self.persistence;
        let rewrite = match self.begin_rewrite(core) {
            Ok(rewrite) => rewrite,
            Err(error) => {
                *persistence.saving.lock() = None;
                persistence.last_rewrite_ok.store(false, Relaxed);
                persistence.rewrite_limit.lock().failures += 1;
                tracing::warn!("{error}");
                return Err(error);
            }
        };
        persistence.rewrite_is_scheduled.store(false, Relaxed);
        persistence.rewrites.fetch_add(1, Relaxed);
        let moment = self.moment(core);
        let offset = moment.offset;
        tracing::info!("Background append only file rewriting started by pid {}", std::process::id());
        let server = self.clone();
        self.spawn_saving("aof-rewrite", move || {
            let result = server.write_base(&moment, &rewrite, &saving.keys_written, &saving.cancelled);
            drop(moment);
            let result = result.and_then(|()| {
                tracing::info!("Background AOF rewrite terminated with success");
                server.end_rewrite(&rewrite, &saving)
            });
            if result.is_ok() && rewrite.kept != Kept::Nothing {
                // It may have been disowned until now.
                server.note_history(&mut server.core.write());
                server.persistence.base_is_complete(offset);
                server.acknowledged();
            }
            server.rewrite_ended(&rewrite, &saving, result);
        });
        Ok(true)
    }

    /// Opens the incr file that begins at this moment, if there is to be one.
    fn begin_rewrite(&self, core: &mut Core) -> Result<Rewrite, AofError> {
        let is_rdb = self.config().aof_use_rdb_preamble;
        let names = self.aof_names();
        let mut files = names.as_ref().map(|files| files.lock());
        let mut aof = self.persistence.aof.lock();
        let (files, writer) = match (&mut files, &mut *aof) {
            (Some(files), Some(writer)) if !writer.awaits_base => (files, writer),
            _ if !self.persistence.has_aof() => {
                let files = self.aof_files()?;
                files.create_dir()?;
                return Ok(Rewrite { base: files.temporary_base(), is_rdb, kept: Kept::Nothing });
            }
            _ => {
                let writer = self.begin_awaiting_base(core)?;
                let base = writer.files.lock().temporary_base();
                *aof = Some(writer);
                return Ok(Rewrite { base, is_rdb, kept: Kept::Unnamed });
            }
        };
        let bytes = core.stream.take_for_aof();
        if !bytes.is_empty() {
            writer.pending.extend_from_slice(&bytes);
            self.write_pending(writer);
        }
        // The old file must be complete before anything comes after it.
        if !writer.pending.is_empty() || writer.is_torn {
            return Err(AofError::Io {
                action: "Can't finish the present",
                path: "AOF file".into(),
                source: io::ErrorKind::WriteZero.into(),
            });
        }
        // A replica's stream is its primary's and goes on as it is; the base says in which database.
        if !self.is_replica() {
            core.stream.forget_selected();
        }
        let (file, sequence) = files.begin_incr()?;
        // It is brought to the disk before anything of the new one counts as synced, by whoever syncs next: not here, where
        // everybody waits.
        let old = std::mem::replace(&mut writer.file, file);
        writer.unsynced.push(old);
        writer.start = core.stream.offset();
        writer.written = writer.start;
        writer.length = 0;
        writer.state.incrs.push(IncrStart { sequence, offset: writer.start });
        files.save_state(&writer.state)?;
        Ok(Rewrite { base: files.temporary_base(), is_rdb, kept: Kept::From(sequence) })
    }

    fn begin_awaiting_base(&self, core: &mut Core) -> Result<AofWriter, AofError> {
        let files = self.aof_files()?;
        let file = files.begin_unnamed_incr()?;
        if !self.is_replica() {
            core.stream.forget_selected();
        }
        core.stream.start_aof();
        // What came before stands in the base.
        core.stream.take_for_aof();
        let start = core.stream.offset();
        Ok(AofWriter {
            files: Arc::new(Mutex::new(files)),
            file,
            unsynced: Vec::new(),
            state: state_of(&core.stream, Vec::new()),
            start,
            written: start,
            length: 0,
            pending: Vec::new(),
            annotated_seconds: 0,
            is_torn: false,
            awaits_base: true,
        })
    }

    fn write_base(
        &self,
        moment: &Moment,
        rewrite: &Rewrite,
        progress: &AtomicU64,
        cancelled: &AtomicBool,
    ) -> Result<(), AofError> {
        let path = &rewrite.base;
        let write = || {
            let mut out = BufWriter::with_capacity(1 << 18, std::fs::File::create(path)?);
            if rewrite.is_rdb {
                self.write_rdb(moment, true, &mut out, progress, cancelled)?;
            } else {
                let contents = rdb::Contents {
                    keyspace: Some(&moment.snapshot),
                    functions: &moment.functions,
                    scripts: &moment.scripts,
                };
                if self.config().aof_timestamp_enabled {
                    io::Write::write_all(&mut out, annotation(self.now_ms() / 1000).as_bytes())?;
                }
                let mut pace = Pace::new(self, progress, cancelled);
                rdb::save_as_commands(contents, moment.database, &mut out, &mut |keys| {
                    pace.key_written(keys)
                })?;
            }
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
        };
        write().map_err(|source| {
            // The first error is the one to tell of.
            let _ = std::fs::remove_file(path);
            AofError::Io { action: "Can't write", path: path.display().to_string(), source }
        })
    }

    fn end_rewrite(&self, rewrite: &Rewrite, saving: &Saving) -> Result<(), AofError> {
        let names = self.aof_names();
        let is_wanted = names.is_some() || rewrite.kept == Kept::Nothing;
        if saving.cancelled.load(Relaxed) || !is_wanted {
            // Nobody waits for it any more.
            let _ = std::fs::remove_file(&rewrite.base);
            return Err(AofError::Io {
                action: "Cancelled",
                path: rewrite.base.display().to_string(),
                source: io::ErrorKind::Interrupted.into(),
            });
        }
        let is_open = names.is_some();
        let names = match names {
            Some(names) => names,
            None => Arc::new(Mutex::new(self.aof_files()?)),
        };
        let mut files = names.lock();
        let named = files.finish_rewrite(rewrite.kept, rewrite.is_rdb)?;
        if let Some(base) = files.manifest().base() {
            tracing::info!("The new AOF base file is {}", base.name);
        }
        if is_open {
            let state = self.note_rewritten(rewrite, named);
            if let Some(state) = state {
                files.save_state(&state)?;
            }
            let (_, all) = files.sizes()?;
            self.persistence.aof_size.store(all, Relaxed);
            self.persistence.aof_base_size.store(all, Relaxed);
        } else {
            // What the stream did since is in no file.
            files.forget_state()?;
        }
        if !self.config().aof_disable_auto_gc {
            files.delete_history()?;
        }
        Ok(())
    }

    /// Some incr files are gone, or the open one has a name now. Returns the state that says so, to be saved.
    fn note_rewritten(&self, rewrite: &Rewrite, named: Option<u64>) -> Option<StreamState> {
        let mut aof = self.persistence.aof.lock();
        // It may have been turned off in this moment.
        let writer = aof.as_mut()?;
        if let Some(sequence) = named {
            writer.state.incrs = vec![IncrStart { sequence, offset: writer.start }];
            writer.awaits_base = false;
        } else if let Kept::From(first) = rewrite.kept {
            writer.state.incrs.retain(|incr| incr.sequence >= first);
        }
        Some(writer.state.clone())
    }

    fn rewrite_ended(&self, rewrite: &Rewrite, saving: &Saving, result: Result<(), AofError>) {
        let persistence = &self.persistence;
        let took = saving.started.elapsed().as_secs() as i64;
        persistence.last_rewrite_took_seconds.store(took, Relaxed);
        match &result {
            Ok(()) => {
                persistence.rewrite_limit.lock().failures = 0;
                persistence.last_rewrite_ok.store(true, Relaxed);
                tracing::info!("Background AOF rewrite finished successfully");
            }
            Err(_) if saving.cancelled.load(Relaxed) => {
                tracing::warn!("Background AOF rewrite terminated by signal 10");
            }
            Err(error) => {
                persistence.rewrite_limit.lock().failures += 1;
                persistence.last_rewrite_ok.store(false, Relaxed);
                tracing::warn!("Background AOF rewrite terminated with error: {error}");
            }
        }
        if result.is_err() && rewrite.kept == Kept::Unnamed && persistence.has_aof() {
            // Without it the AOF is not on.
            persistence.rewrite_is_scheduled.store(true, Relaxed);
        }
    }

    /// BGREWRITEAOF by hand is not held back by earlier failures.
    pub fn forgive_rewrite_failures(&self) {
        self.persistence.rewrite_limit.lock().failures = 0;
    }
}

/// What the buffer of bytes to be written may keep for itself.
const MOST_SPARE_BYTES: usize = 1 << 20;

/// A line that loaders skip. Valkey's `valkey-check-aof --truncate-to-timestamp` goes by it.
fn annotation(unix_seconds: u64) -> String {
    format!("#TS:{unix_seconds}\r\n")
}

/// Brings the files to the disk: first the earlier ones, without which the last says nothing.
fn sync_all(writer: &mut AofWriter) -> io::Result<()> {
    for file in &writer.unsynced {
        file.sync_data()?;
    }
    writer.unsynced.clear();
    writer.file.sync_data()
}

/// Cuts off what was written in part, so that the file ends with a whole command.
fn cut_off(writer: &mut AofWriter) {
    writer.is_torn = true;
    match writer.file.truncate(writer.length) {
        Ok(()) => writer.is_torn = false,
        Err(error) => tracing::warn!("Could not remove short write from the append-only file: {error}"),
    }
}

/// What the system calls an error, without its number.
fn words_of(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn save_state(files: &AofFiles, writer: &AofWriter) {
    // The files in the folder are of an earlier AOF as long as ours has no name.
    if !writer.awaits_base
        && let Err(error) = files.save_state(&writer.state)
    {
        tracing::warn!("{error}");
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
