//! Rewrites of the AOF: a base that holds the dataset of one moment, and the incr file that goes on from there.
//!
//! The order in which it is done lets nobody wait for the disk and leaves a loadable AOF at every moment:
//! 1. A thread, without the guard: what was written so far is brought to the disk, and a new, empty incr file gets its name.
//! 2. Under the guard: the rest of the stream up to here goes to the old file, the new one takes its place, and the moment is held
//!    fast.
//! 3. Without the guard again: the end of the old file is brought to the disk. Until that is done the new file stays empty, and
//!    the stream's bytes stay in memory (with `appendfsync` always there is nothing left to do here).
//! 4. Where the new file begins goes into the state, the base is written, and takes the place of what came before.
//!
//! Invariant: of the incr files that the manifest names only the last that is not empty can be torn.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::Server;
use super::aof::Syncing;
use super::core::Core;
use super::persistence::{Moment, Pace, Saving, SavingKind};
use super::steady_file::SteadyFile;
use crate::rdb;
use crate::stream::aof::{AofError, AofFiles, Kept, OpenAof, StreamState, Writer, annotation};

/// Rewrites that fail again and again are begun by themselves less and less often.
#[derive(Debug, Default)]
pub(super) struct RewriteLimit {
    pub(super) failures: u32,
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

/// A rewrite that has begun.
pub(super) struct Rewrite {
    /// The file that is written first.
    pub(super) base: PathBuf,
    pub(super) is_rdb: bool,
    pub(super) kept: Kept,
}

/// How often it is looked whether a sync that is going on has ended.
const SYNC_PAUSE: Duration = Duration::from_millis(1);

impl Server {
    /// BGREWRITEAOF, or turning the AOF on. Without an AOF only a base is written. `false`: something is being saved
    /// already. What the base holds is this moment, or where an AOF goes on a moment soon after it.
    pub fn rewrite_aof(self: &Arc<Self>, core: &mut Core) -> Result<bool, AofError> {
        let Some(saving) = self.begin_saving(SavingKind::Aof, core.keyspace.len() as u64) else {
            return Ok(false);
        };
        let is_rdb = self.config().aof_use_rdb_preamble;
        let begun = match self.named_aof() {
            Some(_) => Ok(None),
            None => self.begin_without_names(core, is_rdb).map(|rewrite| Some((rewrite, self.moment(core)))),
        };
        let begun = begun.inspect_err(|error| {
            *self.persistence.saving.lock() = None;
            self.rewrite_failed(error);
        })?;
        self.persistence.rewrite_is_scheduled.store(false, Relaxed);
        self.persistence.rewrites.fetch_add(1, Relaxed);
        tracing::info!("Background append only file rewriting started by pid {}", std::process::id());
        let server = self.clone();
        self.spawn_saving("aof-rewrite", move || {
            let begun = match begun {
                Some(begun) => Ok(begun),
                None => server.begin_behind_names(&saving, is_rdb),
            };
            // Not before: what the stream brings stays in memory until the beginning is over.
            super::process::give_way();
            let (kept, result) = match begun {
                Ok((rewrite, moment)) => (rewrite.kept, server.finish_rewrite(&rewrite, moment, &saving)),
                Err(error) => (Kept::Nothing, Err(error)),
            };
            server.rewrite_ended(kept, &saving, result);
        });
        Ok(true)
    }

    /// The manifest and the state of the open AOF, if the manifest names its file.
    fn named_aof(&self) -> Option<Arc<Mutex<AofFiles>>> {
        let aof = self.persistence.aof.lock();
        aof.as_ref().filter(|writer| !writer.awaits_base()).map(|writer| writer.files.clone())
    }

    // ---- The beginning ----

    /// There is no AOF, or one whose file gets a name with its first base.
    fn begin_without_names(&self, core: &mut Core, is_rdb: bool) -> Result<Rewrite, AofError> {
        if !self.persistence.has_aof() {
            let files = self.aof_files()?;
            files.create_dir()?;
            return Ok(Rewrite { base: files.temporary_base(), is_rdb, kept: Kept::Nothing });
        }
        self.begin_unnamed_file(core)?;
        let names = self.aof_names().ok_or_else(cancelled)?;
        let base = names.lock().temporary_base();
        Ok(Rewrite { base, is_rdb, kept: Kept::Unnamed })
    }

    /// Steps 1 to 3 of the module's description.
    fn begin_behind_names(
        self: &Arc<Self>,
        saving: &Saving,
        is_rdb: bool,
    ) -> Result<(Rewrite, Moment), AofError> {
        let syncing = self.await_syncing(saving)?;
        let names = self.named_aof().ok_or_else(cancelled)?;
        self.sync_beside(&syncing).map_err(cannot_finish_present)?;
        let (file, sequence) = names.lock().begin_incr()?;
        drop(self.write_what_was_held());
        let base = names.lock().temporary_base();
        let moment = {
            let mut core = self.core.write();
            let core = &mut *core;
            let bytes = core.stream.take_for_aof();
            let mut aof = self.persistence.aof.lock();
            let is_cancelled = saving.cancelled.load(Relaxed);
            let is_same = |writer: &&mut OpenAof| Arc::ptr_eq(&writer.files, &names) && !writer.awaits_base();
            let writer = aof.as_mut().filter(is_same).filter(|_| !is_cancelled).ok_or_else(cancelled)?;
            writer.file.push(&bytes);
            self.write_pending(writer, Writer::write).map_err(cannot_finish_present)?;
            writer
                .go_on_in(file, sequence, &mut core.stream, self.is_replica())
                .map_err(cannot_finish_present)?;
            drop(aof);
            self.moment(core)
        };
        self.sync_beside(&syncing).map_err(cannot_finish_present)?;
        let nothing_is_held = self.write_what_was_held();
        drop(syncing);
        drop(nothing_is_held);
        self.save_present_state(&names)?;
        Ok((Rewrite { base, is_rdb, kept: Kept::From(sequence) }, moment))
    }

    /// Waits for the right to bring the AOF to the disk.
    fn await_syncing(self: &Arc<Self>, saving: &Saving) -> Result<Syncing, AofError> {
        loop {
            if let Some(syncing) = self.begin_syncing() {
                return Ok(syncing);
            }
            if saving.cancelled.load(Relaxed) {
                return Err(cancelled());
            }
            std::thread::sleep(SYNC_PAUSE);
        }
    }

    /// Saves the state as it is by then; whoever changes it saves it too.
    fn save_present_state(&self, names: &Mutex<AofFiles>) -> Result<(), AofError> {
        let files = names.lock();
        let state = self.persistence.aof.lock().as_ref().and_then(OpenAof::state).cloned();
        state.map_or(Ok(()), |state| files.save_state(&state))
    }

    // ---- The base ----

    pub(super) fn write_base(
        &self,
        moment: Moment,
        rewrite: &Rewrite,
        progress: &AtomicU64,
        cancelled: &AtomicBool,
    ) -> Result<(), AofError> {
        let path = &rewrite.base;
        let write = || {
            let mut out = SteadyFile::create(path, self.config().aof_rewrite_incremental_fsync)?;
            if rewrite.is_rdb {
                self.write_rdb(moment, true, &mut out, progress, cancelled)?;
            } else {
                let contents = rdb::Contents {
                    keyspace: Some(moment.snapshot),
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
            out.finish()
        };
        write().map_err(|source| {
            // The first error is the one to tell of.
            let _ = std::fs::remove_file(path);
            AofError::Io { action: "Can't write", path: path.display().to_string(), source }
        })
    }

    // ---- The end ----

    fn finish_rewrite(
        self: &Arc<Self>,
        rewrite: &Rewrite,
        moment: Moment,
        saving: &Saving,
    ) -> Result<(), AofError> {
        let offset = moment.offset;
        self.write_base(moment, rewrite, &saving.keys_written, &saving.cancelled)?;
        tracing::info!("Background AOF rewrite terminated with success");
        self.put_base_in_place(rewrite, saving)?;
        if rewrite.kept != Kept::Nothing {
            self.complete_history(saving, offset)?;
            self.acknowledged();
        }
        Ok(())
    }

    fn put_base_in_place(&self, rewrite: &Rewrite, saving: &Saving) -> Result<(), AofError> {
        let open = self.aof_names();
        let is_open = open.is_some();
        let names = match open {
            Some(names) => names,
            None => Arc::new(Mutex::new(self.aof_files()?)),
        };
        let mut files = names.lock();
        // Whoever replaces the dataset cancels this first, and waits for the names then.
        if saving.cancelled.load(Relaxed) || !(is_open || rewrite.kept == Kept::Nothing) {
            // Nobody waits for it any more.
            let _ = std::fs::remove_file(&rewrite.base);
            return Err(cancelled());
        }
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
        writer.note_rewritten(rewrite.kept, named);
        writer.state().cloned()
    }

    /// The files hold all of the history that the stream has up to `offset`.
    fn complete_history(&self, saving: &Saving, offset: u64) -> Result<(), AofError> {
        let _aof = self.persistence.aof.lock();
        // If the dataset was replaced once more, the base is not its.
        if saving.cancelled.load(Relaxed) {
            return Err(cancelled());
        }
        self.persistence.aof_synced.base_is_complete(offset);
        Ok(())
    }

    fn rewrite_ended(&self, kept: Kept, saving: &Saving, result: Result<(), AofError>) {
        let persistence = &self.persistence;
        let took = saving.started.elapsed().as_secs() as i64;
        persistence.last_rewrite_took_seconds.store(took, Relaxed);
        persistence.last_rewrite_copied_bytes.store(saving.copied_bytes(), Relaxed);
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
        if result.is_err() && kept == Kept::Unnamed && persistence.has_aof() {
            // Without it the AOF is not on.
            persistence.rewrite_is_scheduled.store(true, Relaxed);
        }
    }

    fn rewrite_failed(&self, error: &AofError) {
        self.persistence.rewrite_limit.lock().failures += 1;
        self.persistence.last_rewrite_ok.store(false, Relaxed);
        tracing::warn!("{error}");
    }

    /// BGREWRITEAOF by hand is not held back by earlier failures.
    pub fn forgive_rewrite_failures(&self) {
        self.persistence.rewrite_limit.lock().failures = 0;
    }
}

fn cancelled() -> AofError {
    let (path, source) = ("AOF file".into(), io::ErrorKind::Interrupted.into());
    AofError::Io { action: "Cancelled: the new", path, source }
}

/// The old file must be complete before anything comes after it.
fn cannot_finish_present(source: io::Error) -> AofError {
    AofError::Io { action: "Can't finish the present", path: "AOF file".into(), source }
}
