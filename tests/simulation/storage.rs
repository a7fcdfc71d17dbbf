//! What a node has on its disk and what it is about to write there: the real stream and the real files of the AOF, over a disk
//! that crashes, fills up and fails to sync. What the server's threads do in time is done here step by step.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use understudy::base::file::{FileSystem, MemoryFileSystem, Open, append_all, read_all};
use understudy::keyspace::Effects;
use understudy::stream::aof::{
    AofError, AofFiles, CommandReader, IncrStart, Kept, LoadError, OpenAof, Place, Sync, Synced, Turn, Writer,
};
use understudy::stream::{ReplicationId, Stream};

use crate::dataset::{Dataset, Moment, Unit};
use crate::node::Promise;

/// How a node keeps its AOF.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// `appendfsync always`; otherwise it is everysec.
    pub always: bool,
    /// `aof-timestamp-enabled`.
    pub annotates: bool,
    /// `repl-backlog-size`.
    pub backlog_size: usize,
}

/// How far a rewrite is; in the order of the server's thread.
enum Stage {
    AwaitsSyncing,
    SyncsOld(Sync, u64),
    Named(Box<dyn understudy::base::file::File>, u64),
    SyncsEnd(Sync, u64, u64),
    WritesBase(Kept),
    PutsBase(Kept),
}

struct Rewrite {
    stage: Stage,
    names: Arc<Mutex<AofFiles>>,
    moment: Option<Moment>,
    cancelled: bool,
    holds_syncing: bool,
}

pub struct Storage {
    pub disk: MemoryFileSystem,
    pub stream: Stream,
    pub data: Dataset,
    pub synced: Synced,
    policy: Policy,
    aof: Option<OpenAof>,
    is_syncing: bool,
    sync: Option<(Sync, u64)>,
    rewrite: Option<Rewrite>,
    pub rewrite_is_scheduled: bool,
    write_ok: bool,
    sync_ok: bool,
    /// `appendfsync always` could not be kept: the process ends.
    pub has_exited: bool,
    /// The stream's bytes after `log_start`, for the checks: what the disk and the replicas are compared with.
    pub log: Vec<u8>,
    pub log_start: u64,
}

/// Why a process does not start.
pub enum StartError {
    /// The disk fails: it may start later.
    Disk(String),
}

impl From<AofError> for StartError {
    fn from(error: AofError) -> Self {
        match error {
            AofError::Io { .. } => StartError::Disk(error.to_string()),
            AofError::Manifest(error) => panic!("a crash left a manifest that cannot be read: {error}"),
        }
    }
}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> Self {
        StartError::Disk(error.to_string())
    }
}

impl Storage {
    /// Loads what is on the disk and opens the AOF. `None` beside it: it was new.
    pub fn start(
        disk: MemoryFileSystem,
        policy: Policy,
        fresh: ReplicationId,
        is_replica: bool,
    ) -> Result<Storage, StartError> {
        let mut files = open_files(&disk)?;
        let mut storage = Storage {
            disk,
            stream: Stream::new(fresh),
            data: Dataset::default(),
            synced: Synced::default(),
            policy,
            aof: None,
            is_syncing: false,
            sync: None,
            rewrite: None,
            rewrite_is_scheduled: false,
            write_ok: true,
            sync_ok: true,
            has_exited: false,
            log: Vec::new(),
            log_start: 0,
        };
        let starts = if files.is_new() { Vec::new() } else { storage.load(&files)? };
        files.sync_incrs()?;
        if files.is_new() {
            files.create_dir()?;
            write_base(&storage.disk, &files.temporary_base(), &storage.moment())?;
            files.finish_rewrite(Kept::Nothing, true)?;
        }
        let aof = OpenAof::resume(files, &mut storage.stream, starts, is_replica)?;
        storage.synced.begin_at(storage.stream.offset());
        aof.files.lock().delete_history()?;
        storage.aof = Some(aof);
        Ok(storage)
    }

    /// The base and all incr files, and the stream's history with them, as the server's loader does it.
    fn load(&mut self, files: &AofFiles) -> Result<Vec<IncrStart>, StartError> {
        files.sizes()?;
        let mut database = 0;
        let mut history = None;
        if let Some(base) = files.manifest().base() {
            let file = files.open_to_read(&base.name)?;
            let moment = Moment::load(&read_all(&*file, 1 << 30)?).expect("a base is whole");
            (self.data, database) = (moment.data, moment.database);
            history = Some((moment.replid, moment.offset));
        }
        self.stream.start_backlog(self.policy.backlog_size);
        files.adopt_history(&mut self.stream, history);
        self.log_start = self.stream.offset();
        let last = files.last_written()?;
        let mut starts = Vec::new();
        for incr in files.manifest().incrs() {
            starts.push(IncrStart { sequence: incr.sequence, offset: self.stream.offset() });
            let mut reader = CommandReader::new(files.open_to_read(&incr.name)?, 0);
            match self.run_commands(&mut reader, &mut database) {
                Ok(()) => {}
                Err(LoadError::Truncated) if Some(incr.sequence) == last => {
                    files.cut(&incr.name, reader.valid_len())?;
                }
                Err(LoadError::Io(error)) => return Err(error.into()),
                Err(error) => panic!("a crash left {} so that it cannot be loaded: {error}", incr.name),
            }
        }
        if last.is_some() {
            self.stream.append_received(b"", Some(database));
        }
        Ok(starts)
    }

    fn run_commands(&mut self, reader: &mut CommandReader, database: &mut usize) -> Result<(), LoadError> {
        let mut unit = Vec::new();
        while let Some(command) = reader.read()? {
            unit.extend_from_slice(command.bytes);
            if let Some(whole) = Unit::parse(&unit) {
                whole.apply(&mut self.data, database);
                self.stream.append_loaded(&unit);
                self.log.append(&mut unit);
            }
        }
        Ok(())
    }

    pub fn moment(&self) -> Moment {
        Moment {
            data: self.data.clone(),
            database: self.stream.selected().unwrap_or(0),
            replid: *self.stream.replid(),
            offset: self.stream.offset(),
        }
    }

    pub fn log_end(&self) -> u64 {
        self.log_start + self.log.len() as u64
    }

    // ---- Changes ----

    /// A unit of writes.
    pub fn append(&mut self, writes: &[Promise]) {
        let mut effects = Effects::default();
        effects.set_recording(true);
        for Promise { database, key, value } in writes {
            effects.record(*database, &[b"SET", key.as_bytes(), value.as_bytes()]);
            self.data.set(*database, key, value);
        }
        self.stream.append_unit(effects.unit());
    }

    /// Flushed for a load.
    pub fn flush(&mut self, replid: ReplicationId) {
        self.take_bytes();
        self.data = Dataset::default();
        let offset = self.stream.offset();
        self.stream.adopt(replid, offset);
        self.stream.start_backlog(self.policy.backlog_size);
        (self.log, self.log_start) = (Vec::new(), offset);
    }

    /// The dataset of a full sync takes the place of the present one, and the AOF begins anew.
    pub fn replace(&mut self, moment: Moment, replid: ReplicationId, position: u64, is_replica: bool) {
        self.data = moment.data;
        self.stream.adopt(replid, position);
        self.stream.start_backlog(self.policy.backlog_size);
        self.stream.append_received(b"", Some(moment.database));
        (self.log, self.log_start) = (Vec::new(), position);
        self.begin_anew(is_replica);
    }

    /// What is on the disk is another dataset.
    pub fn begin_anew(&mut self, is_replica: bool) {
        self.leave_files(is_replica);
        self.rewrite_is_scheduled = true;
    }

    /// From here on the stream's bytes go to a file that no manifest names, until there is a base.
    pub fn leave_files(&mut self, is_replica: bool) {
        self.take_bytes();
        self.synced.begin_history();
        if let Some(rewrite) = &mut self.rewrite {
            rewrite.cancelled = true;
        }
        // After an error there is no AOF until it is tried again.
        let _ = self.begin_unnamed_file(is_replica);
    }

    fn begin_unnamed_file(&mut self, is_replica: bool) -> Result<(), AofError> {
        let names = match self.aof.take() {
            Some(aof) => aof.files,
            None => Arc::new(Mutex::new(open_files(&self.disk)?)),
        };
        self.aof = Some(OpenAof::begin(names, &mut self.stream, is_replica)?);
        Ok(())
    }

    /// The stream has another name.
    pub fn note_history(&mut self, now_ms: u64) {
        let bytes = self.take_bytes();
        self.push(&bytes, now_ms);
        if let Some(aof) = &mut self.aof {
            aof.note_history(&self.stream);
        }
        self.save_state();
    }

    fn save_state(&mut self) {
        let Some(aof) = &mut self.aof else { return };
        let names = aof.files.clone();
        if aof.save_state(&names.lock()).is_err() {
            self.write_ok = false;
            self.has_exited |= self.policy.always;
        }
    }

    fn take_bytes(&mut self) -> Vec<u8> {
        let bytes = self.stream.take_for_aof();
        self.log.extend_from_slice(&bytes);
        assert_eq!(self.log_end(), self.stream.offset(), "the offset does not count the stream's bytes");
        bytes
    }

    /// The stream's new bytes go to the AOF.
    pub fn hand_over(&mut self, now_ms: u64) {
        let bytes = self.take_bytes();
        self.push(&bytes, now_ms);
    }

    fn push(&mut self, bytes: &[u8], now_ms: u64) {
        if let Some(aof) = &mut self.aof
            && !bytes.is_empty()
        {
            aof.file.push(bytes);
            self.write_in_turn(now_ms);
        }
    }

    fn write_in_turn(&mut self, now_ms: u64) {
        let Some(aof) = &mut self.aof else { return };
        let is_busy = self.is_syncing && !self.policy.always && aof.file.pending() > 0;
        if aof.file.turn(is_busy, now_ms) != Turn::Later {
            let _ = self.write_pending(Writer::write, now_ms);
        }
    }

    fn write_pending<T>(
        &mut self,
        write: impl FnOnce(&mut Writer, Option<u64>) -> std::io::Result<T>,
        now_ms: u64,
    ) -> std::io::Result<T> {
        let Some(aof) = &mut self.aof else { return Err(std::io::ErrorKind::NotFound.into()) };
        let annotate = self.policy.annotates.then_some(now_ms / 1000);
        let written = aof.check_state().and_then(|()| write(&mut aof.file, annotate));
        let result = written.and_then(|written| {
            if self.policy.always {
                aof.file.sync()?;
                self.synced.note(self.synced.history(), aof.file.written());
            }
            Ok(written)
        });
        self.write_ok = result.is_ok();
        self.has_exited |= result.is_err() && self.policy.always;
        result
    }

    fn write_what_was_held(&mut self, now_ms: u64) {
        while matches!(self.write_pending(Writer::write_block, now_ms), Ok(true)) {}
    }

    /// May clients write?
    pub fn is_healthy(&self) -> bool {
        self.write_ok && self.sync_ok
    }

    // ---- Reading ----

    pub fn readable_from(&self) -> Option<u64> {
        self.aof.as_ref().filter(|_| self.synced.is_whole())?.readable_from()
    }

    /// The stream's bytes from `position` on, or some of them. `None`: they are nowhere.
    pub fn read(&self, position: u64) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        if self.stream.backlog().is_some_and(|backlog| backlog.read(position, usize::MAX / 2, &mut out)) {
            return Some(out);
        }
        let aof = self.aof.as_ref()?;
        match aof.place_of(position)? {
            Place::Memory => aof.file.read_pending(position, usize::MAX / 2, &mut out),
            Place::File(place) => drop(place.read(1 << 20, &mut out)),
        }
        (!out.is_empty()).then_some(out)
    }

    // ---- What comes with time ----

    /// Once a tick. Returns the work that begins.
    pub fn tick(&mut self, is_replica: bool, now_ms: u64) -> Vec<Work> {
        let mut begun = Vec::new();
        if self.aof.as_ref().is_some_and(|aof| aof.check_state().is_err()) {
            self.save_state();
        }
        if let Some(aof) = &self.aof
            && (aof.file.pending() > 0 || !self.write_ok)
        {
            self.write_in_turn(now_ms);
        }
        if now_ms % 1000 < 100
            && !self.policy.always
            && !self.is_syncing
            && let Some(aof) = self.aof.as_ref().filter(|aof| !aof.file.is_synced())
        {
            let sync = aof.file.begin_sync().expect("handles of files in memory are duplicated");
            (self.sync, self.is_syncing) = (Some((sync, self.synced.history())), true);
            begun.push(Work::Sync);
        }
        if self.rewrite_is_scheduled
            && self.rewrite.is_none()
            // After an error it stays scheduled.
            && let Ok(rewrite) = self.begin_rewrite(is_replica)
        {
            (self.rewrite, self.rewrite_is_scheduled) = (Some(rewrite), false);
            begun.push(Work::Rewrite);
        }
        begun
    }

    fn begin_rewrite(&mut self, is_replica: bool) -> Result<Rewrite, AofError> {
        let is_named = self.aof.as_ref().is_some_and(|aof| !aof.awaits_base());
        let (stage, moment) = if is_named {
            (Stage::AwaitsSyncing, None)
        } else {
            self.take_bytes();
            self.begin_unnamed_file(is_replica)?;
            (Stage::WritesBase(Kept::Unnamed), Some(self.moment()))
        };
        let names = self.aof.as_ref().map(|aof| aof.files.clone()).expect("it was begun");
        Ok(Rewrite { stage, names, moment, cancelled: false, holds_syncing: false })
    }

    /// Goes on with work that took its time. Returns whether it goes on.
    pub fn work(&mut self, work: Work, is_replica: bool, now_ms: u64) -> bool {
        match work {
            Work::Sync => {
                if let Some((sync, history)) = self.sync.take() {
                    let _ = self.end_sync(&sync, history);
                    self.write_what_was_held(now_ms);
                    self.is_syncing = false;
                }
                false
            }
            Work::Rewrite => {
                let Some(mut rewrite) = self.rewrite.take() else { return false };
                match self.rewrite_on(&mut rewrite, is_replica, now_ms) {
                    Ok(Some(stage)) => {
                        rewrite.stage = stage;
                        self.rewrite = Some(rewrite);
                        true
                    }
                    Ok(None) => false,
                    Err(_) => {
                        if rewrite.holds_syncing {
                            self.is_syncing = false;
                        }
                        // Without its base the AOF is not on.
                        self.rewrite_is_scheduled |= self.aof.as_ref().is_none_or(OpenAof::awaits_base);
                        false
                    }
                }
            }
        }
    }

    fn end_sync(&mut self, sync: &Sync, history: u64) -> std::io::Result<()> {
        let result = sync.run();
        self.sync_ok = result.is_ok();
        result?;
        if self.aof.as_mut().is_some_and(|aof| aof.file.end_sync(sync)) {
            self.synced.note(history, sync.end());
        }
        Ok(())
    }

    /// The next step of a rewrite, in the order of the server. `None`: it has ended.
    fn rewrite_on(
        &mut self,
        rewrite: &mut Rewrite,
        is_replica: bool,
        now_ms: u64,
    ) -> Result<Option<Stage>, AofError> {
        let failed = |source| AofError::Io { action: "rewriting", path: String::new(), source };
        let cancelled = || failed(std::io::ErrorKind::Interrupted.into());
        let stage = std::mem::replace(&mut rewrite.stage, Stage::AwaitsSyncing);
        Ok(Some(match stage {
            Stage::AwaitsSyncing if rewrite.cancelled => return Err(cancelled()),
            Stage::AwaitsSyncing if self.is_syncing => Stage::AwaitsSyncing,
            Stage::AwaitsSyncing => {
                let aof = self.aof.as_ref().ok_or_else(cancelled)?;
                let sync = aof.file.begin_sync().map_err(failed)?;
                (self.is_syncing, rewrite.holds_syncing) = (true, true);
                Stage::SyncsOld(sync, self.synced.history())
            }
            Stage::SyncsOld(sync, history) => {
                self.end_sync(&sync, history).map_err(failed)?;
                let (file, sequence) = rewrite.names.lock().begin_incr()?;
                self.write_what_was_held(now_ms);
                Stage::Named(file, sequence)
            }
            Stage::Named(file, sequence) => {
                let bytes = self.take_bytes();
                let awaits_base = self.aof.as_ref().is_none_or(OpenAof::awaits_base);
                if rewrite.cancelled || awaits_base {
                    self.push(&bytes, now_ms);
                    return Err(cancelled());
                }
                self.aof.as_mut().ok_or_else(cancelled)?.file.push(&bytes);
                self.write_pending(Writer::write, now_ms).map_err(failed)?;
                let aof = self.aof.as_mut().ok_or_else(cancelled)?;
                aof.go_on_in(file, sequence, &mut self.stream, is_replica).map_err(failed)?;
                let sync = aof.file.begin_sync().map_err(failed)?;
                rewrite.moment = Some(self.moment());
                Stage::SyncsEnd(sync, self.synced.history(), sequence)
            }
            Stage::SyncsEnd(sync, history, sequence) => {
                self.end_sync(&sync, history).map_err(failed)?;
                self.write_what_was_held(now_ms);
                (self.is_syncing, rewrite.holds_syncing) = (false, false);
                let state = self.aof.as_ref().and_then(OpenAof::state).cloned();
                state.map_or(Ok(()), |state| rewrite.names.lock().save_state(&state))?;
                Stage::WritesBase(Kept::From(sequence))
            }
            Stage::WritesBase(kept) => {
                let base = rewrite.names.lock().temporary_base();
                let moment = rewrite.moment.as_ref().expect("the moment was held fast");
                write_base(&self.disk, &base, moment).map_err(failed)?;
                Stage::PutsBase(kept)
            }
            Stage::PutsBase(_) if rewrite.cancelled => return Err(cancelled()),
            Stage::PutsBase(kept) => {
                self.put_base(rewrite, kept)?;
                return Ok(None);
            }
        }))
    }

    fn put_base(&mut self, rewrite: &Rewrite, kept: Kept) -> Result<(), AofError> {
        let mut files = rewrite.names.lock();
        let named = files.finish_rewrite(kept, true)?;
        let Some(aof) = &mut self.aof else { return Ok(()) };
        aof.note_rewritten(kept, named);
        if let Some(state) = aof.state() {
            files.save_state(state)?;
        }
        files.delete_history()?;
        self.synced.base_is_complete(rewrite.moment.as_ref().map_or(0, |moment| moment.offset));
        Ok(())
    }
}

/// Work that takes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    Sync,
    Rewrite,
}

fn open_files(disk: &MemoryFileSystem) -> Result<AofFiles, AofError> {
    AofFiles::open(Arc::new(disk.clone()), Path::new(""), "appendonlydir", "appendonly.aof")
}

fn write_base(disk: &MemoryFileSystem, path: &Path, moment: &Moment) -> std::io::Result<()> {
    let write = || {
        let mut file = disk.open(path, Open::Create)?;
        append_all(&mut *file, &moment.save())?;
        file.sync_data()
    };
    write().inspect_err(|_| drop(disk.remove(path)))
}
