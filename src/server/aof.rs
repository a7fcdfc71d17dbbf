//! The AOF of the running server: the file that the stream's bytes go to. Its rewrites are in `server::aof_rewriting`.
//!
//! Lock order: the dataset's guard, the AOF's names (manifest and state), the AOF. Bytes leave the stream for the AOF under both, so the file holds the
//! stream in order. While the AOF is being turned on its bytes go to a file that no manifest names: what an earlier AOF
//! left stays as it is until the new base is whole.
//!
//! Nobody who appends waits for a sync, unless `appendfsync` is always: while one is going on bytes stay in memory, for two
//! seconds at most. Nothing counts as synced that was not written, and synced after that.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, MutexGuard};

use super::Server;
use super::aof_rewriting::Rewrite;
use super::config::AppendFsync;
use super::core::Core;
use super::latency::event;
use super::persistence::{Persistence, SavingKind, spawn};
use crate::stream::aof::{AofError, AofFiles, IncrStart, Kept, OpenAof, Turn, Writer};

/// The right to bring the AOF to the disk beside those who append, of which there is one. Unless `appendfsync` is always, what is
/// appended meanwhile stays in memory.
pub(super) struct Syncing(Arc<Server>);

impl Drop for Syncing {
    fn drop(&mut self) {
        self.0.persistence.aof_is_syncing.store(false, Relaxed);
    }
}

impl Persistence {
    /// Is the AOF on?
    pub fn has_aof(&self) -> bool {
        self.aof_is_on.load(Relaxed)
    }

    pub(super) fn aof_has_failed(&self) -> bool {
        self.has_aof() && !(self.aof_write_ok.load(Relaxed) && self.aof_sync_ok.load(Relaxed))
    }

    /// Bytes of the stream that the AOF has, but its file does not.
    pub fn aof_pending(&self) -> usize {
        self.aof.lock().as_ref().map_or(0, |writer| writer.file.pending())
    }

    /// Is the base of an AOF that was turned on being written, so that nothing is kept if the process ends?
    pub fn is_writing_first_base(&self) -> bool {
        let awaits_base = self.aof.lock().as_ref().is_some_and(|writer| writer.awaits_base());
        awaits_base && self.saving().is_some_and(|saving| saving.kind == SavingKind::Aof)
    }
}

impl Server {
    // ---- On and off ----

    /// Opens the AOF that was loaded, or begins one; from then on the stream's bytes go into it. `incrs` says where the files
    /// that were loaded begin in the stream.
    pub fn open_aof(&self, core: &mut Core, files: AofFiles, incrs: Vec<IncrStart>) -> Result<(), AofError> {
        let mut files = files;
        // An earlier process may have ended before that.
        files.sync_incrs()?;
        if files.is_new() {
            self.write_first_base(core, &mut files)?;
        }
        let aof = OpenAof::resume(files, &mut core.stream, incrs, self.is_replica())?;
        self.persistence.aof_synced.begin_at(core.stream.offset());
        let (base, all) = {
            let mut files = aof.files.lock();
            if !self.config().aof_disable_auto_gc {
                files.delete_history()?;
            }
            files.sizes()?
        };
        self.persistence.aof_size.store(all, Relaxed);
        self.persistence.aof_base_size.store(base, Relaxed);
        self.persistence.aof_is_on.store(true, Relaxed);
        *self.persistence.aof.lock() = Some(aof);
        Ok(())
    }

    fn write_first_base(&self, core: &Core, files: &mut AofFiles) -> Result<(), AofError> {
        let is_rdb = self.config().aof_use_rdb_preamble;
        let rewrite = Rewrite { base: files.temporary_base(), is_rdb, kept: Kept::Nothing };
        files.create_dir()?;
        self.write_base(self.moment(core), &rewrite, &AtomicU64::new(0), &AtomicBool::new(false))?;
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
        persistence.aof_synced.begin_history();
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
        if let Some(writer) = writer.filter(|writer| writer.awaits_base()) {
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
    pub(super) fn aof_names(&self) -> Option<Arc<Mutex<AofFiles>>> {
        self.persistence.aof.lock().as_ref().map(|writer| writer.files.clone())
    }

    // ---- Appending ----

    /// Appends bytes of the stream to the AOF and makes them as durable as `appendfsync` asks. Call with the guard held
    /// for the bytes to be in order; it may be released once this has locked.
    pub fn write_aof(&self, bytes: &[u8]) {
        let mut aof = self.persistence.aof.lock();
        if let Some(writer) = &mut *aof {
            writer.file.push(bytes);
            self.write_in_turn(writer);
        }
    }

    /// Writes what is pending, unless it would have to wait for the disk.
    fn write_in_turn(&self, writer: &mut OpenAof) {
        let persistence = &self.persistence;
        let is_busy = persistence.aof_is_syncing.load(Relaxed)
            && self.config().appendfsync != AppendFsync::Always
            && writer.file.pending() > 0;
        match writer.file.turn(is_busy, self.uptime_ms()) {
            Turn::Later => return,
            Turn::Now => {}
            Turn::Overdue => {
                persistence.aof_delayed_syncs.fetch_add(1, Relaxed);
                tracing::info!(
                    "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting for fsync to complete, this may slow down the server."
                );
            }
        }
        // What went wrong was logged.
        let _ = self.write_pending(writer, Writer::write);
    }

    /// Writes all of what is pending, or some of it, and says whether there may be more.
    pub(super) fn write_pending<T>(
        &self,
        writer: &mut OpenAof,
        write: impl FnOnce(&mut Writer, Option<u64>) -> io::Result<T>,
    ) -> io::Result<T> {
        let config = self.config();
        let persistence = &self.persistence;
        let pause_us = persistence.aof_pause_us.load(Relaxed);
        if pause_us > 0 && writer.file.pending() > 0 {
            std::thread::sleep(std::time::Duration::from_micros(pause_us));
        }
        let (began, before) = (self.latency.begin(), writer.file.length());
        let written = writer.check_state().and_then(|()| {
            write(&mut writer.file, config.aof_timestamp_enabled.then(|| self.now_ms() / 1000))
        });
        self.latency.end(event::AOF_WRITE, began, self.now_ms());
        persistence.aof_size.fetch_add(writer.file.length() - before, Relaxed);
        let result = written.and_then(|written| {
            if config.appendfsync == AppendFsync::Always && !self.spares_disk() {
                let began = self.latency.begin();
                writer.file.sync()?;
                self.latency.end(event::AOF_FSYNC_ALWAYS, began, self.now_ms());
                let synced = &persistence.aof_synced;
                synced.note(synced.history(), writer.file.written());
            }
            Ok(written)
        });
        self.note_written(result.as_ref().map(drop));
        result
    }

    /// The AOF could be written, or not.
    fn note_written(&self, result: Result<(), &io::Error>) {
        let persistence = &self.persistence;
        let was_ok = persistence.aof_write_ok.swap(result.is_ok(), Relaxed);
        if let Err(error) = &result {
            if was_ok {
                tracing::warn!("Error writing to the AOF file: {error}");
            }
            *persistence.aof_error.lock() = words_of(error);
            if self.config().appendfsync == AppendFsync::Always {
                tracing::error!(
                    "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting..."
                );
                std::process::exit(1);
            }
        }
        if was_ok != result.is_ok() {
            self.note_disk();
        }
    }

    /// Does the disk belong to what is saved in the background (`no-appendfsync-on-rewrite`)?
    fn spares_disk(&self) -> bool {
        self.config().no_appendfsync_on_rewrite && self.persistence.saving().is_some()
    }

    /// Once in a while: what could not be written, or has waited for long enough, is written.
    pub fn write_what_waits(&self) {
        let is_behind = self.persistence.aof.lock().as_ref().is_some_and(|aof| aof.check_state().is_err());
        if let Some(names) = self.aof_names().filter(|_| is_behind) {
            let files = names.lock();
            if let Some(writer) = &mut *self.persistence.aof.lock() {
                self.save_aof_state(&files, writer);
            }
        }
        let mut aof = self.persistence.aof.lock();
        if let Some(writer) = &mut *aof
            && (writer.file.pending() > 0 || !self.persistence.aof_write_ok.load(Relaxed))
        {
            self.write_in_turn(writer);
        }
    }

    /// Once a second: what was written is brought to the disk, if `appendfsync` is everysec.
    pub fn sync_aof(self: &Arc<Self>) {
        let is_synced = self.persistence.aof.lock().as_ref().is_none_or(|writer| writer.file.is_synced());
        if self.config().appendfsync == AppendFsync::No || is_synced || self.spares_disk() {
            return;
        }
        if let Some(syncing) = self.begin_syncing() {
            spawn("aof-sync", move || {
                let server = syncing.0.clone();
                // What went wrong was logged, and is tried again.
                let _ = server.sync_beside(&syncing);
                let _nothing_is_held = server.write_what_was_held();
                drop(syncing);
            });
        }
    }

    /// `None`: somebody has the right.
    pub(super) fn begin_syncing(self: &Arc<Self>) -> Option<Syncing> {
        (!self.persistence.aof_is_syncing.swap(true, Relaxed)).then(|| Syncing(self.clone()))
    }

    /// Brings what was written up to now to the disk, beside those who append.
    pub(super) fn sync_beside(self: &Arc<Self>, _: &Syncing) -> io::Result<()> {
        let persistence = &self.persistence;
        let (sync, history) = {
            let aof = persistence.aof.lock();
            let Some(writer) = &*aof else { return Ok(()) };
            (writer.file.begin_sync()?, persistence.aof_synced.history())
        };
        let synced = sync.run();
        if persistence.aof_sync_ok.swap(synced.is_ok(), Relaxed) != synced.is_ok() {
            if let Err(error) = &synced {
                *persistence.aof_error.lock() = words_of(error);
            }
            self.note_disk();
        }
        if let Err(error) = &synced {
            tracing::warn!("Fail to fsync the AOF file: {error}");
            return synced;
        }
        if persistence.aof.lock().as_mut().is_some_and(|writer| writer.file.end_sync(&sync)) {
            persistence.aof_synced.note(history, sync.end());
            self.acknowledged();
        }
        Ok(())
    }

    /// Writes what has come to lie in memory during a sync: piece by piece, so that nobody has to wait for all of it. As long as
    /// the AOF stays locked nothing more comes to lie there.
    pub(super) fn write_what_was_held(&self) -> MutexGuard<'_, Option<OpenAof>> {
        loop {
            let mut aof = self.persistence.aof.lock();
            let more = aof.as_mut().map(|writer| self.write_pending(writer, Writer::write_block));
            if !matches!(more, Some(Ok(true))) {
                return aof;
            }
            MutexGuard::unlock_fair(aof);
        }
    }

    /// Brings everything to the disk now.
    pub fn sync_aof_now(&self, core: &mut Core) -> io::Result<()> {
        let bytes = core.stream.take_for_aof();
        let mut aof = self.persistence.aof.lock();
        let Some(writer) = &mut *aof else { return Ok(()) };
        writer.file.push(&bytes);
        self.write_pending(writer, Writer::write)?;
        writer.file.sync()?;
        let synced = &self.persistence.aof_synced;
        synced.note(synced.history(), writer.file.written());
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
            writer.file.push(&bytes);
            self.write_in_turn(writer);
        }
        writer.note_history(&core.stream);
        self.save_aof_state(&files, writer);
    }

    /// While the state on the disk is not right nothing is written.
    fn save_aof_state(&self, files: &AofFiles, writer: &mut OpenAof) {
        let Err(error) = writer.save_state(files) else { return };
        tracing::warn!("{error}");
        self.note_written(Err(&io::Error::other(error)));
    }

    /// The dataset is to be replaced: from here on the stream's bytes go to a file that no manifest names. What the named ones
    /// hold stays as it is until there is a base of the new dataset.
    pub fn leave_aof_files(&self, core: &mut Core) {
        self.persistence.aof_synced.begin_history();
        self.cancel_saving(SavingKind::Aof);
        if let Err(error) = self.begin_unnamed_file(core) {
            tracing::error!("Cannot begin an AOF of the new dataset: {error}");
        }
    }

    /// Begins a file that gets a name with its base. After an error there is no AOF until it is tried again.
    pub(super) fn begin_unnamed_file(&self, core: &mut Core) -> Result<(), AofError> {
        let names = match self.aof_names() {
            Some(names) => names,
            None => Arc::new(Mutex::new(self.aof_files()?)),
        };
        *self.persistence.aof.lock() = None;
        let aof = OpenAof::begin(names, &mut core.stream, self.is_replica())?;
        *self.persistence.aof.lock() = Some(aof);
        Ok(())
    }
}

/// What the system calls an error, without its number.
fn words_of(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
