//! The AOF on disk: a manifest, a base file with a whole dataset, and incr files with the stream's bytes since.
//!
//! Source of names and manifest: Valkey's multi-part AOF, so that its tools and servers read the directory. Beside it lies a
//! state file of our own that says at which offset of the stream each incr file begins.
//! It must not know what commands do, nor threads.
//!
//! Invariants: the manifest on disk always names files that exist and are whole; it is replaced atomically; a file is
//! deleted only when no manifest names it any more.

#[cfg(test)]
mod crash_tests;
mod loader;
mod manifest;
mod open;
mod state;
mod synced;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use loader::{CommandReader, LoadError, LoadedCommand};
pub use manifest::{FileKind, Manifest, ManifestError, NamedFile};
pub use open::{OpenAof, Place};
pub use state::{IncrStart, StreamState};
pub use synced::Synced;
pub use writer::{Sync, Turn, Writer, annotation};

use super::{ReplicationId, Stream};
use crate::base::file::{self, File, FileSystem, Open};

/// The files of one AOF.
pub struct AofFiles {
    files: Arc<dyn FileSystem>,
    dir: PathBuf,
    /// `appendfilename`.
    name: String,
    manifest: Manifest,
}

/// The incr files by their sequences, whatever the manifest says.
#[derive(Clone)]
pub struct IncrFiles {
    files: Arc<dyn FileSystem>,
    dir: PathBuf,
    name: String,
}

impl IncrFiles {
    fn path(&self, sequence: u64) -> PathBuf {
        self.dir.join(incr_name(&self.name, sequence))
    }

    fn len(&self, sequence: u64) -> Option<u64> {
        self.files.len(&self.path(sequence)).ok().flatten()
    }

    fn open(&self, sequence: u64) -> io::Result<Box<dyn File>> {
        self.files.open(&self.path(sequence), Open::Read)
    }
}

/// Which incr files go on after a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// That of this sequence, which was begun with the rewrite, and later ones.
    From(u64),
    /// The one without a name, which gets one now.
    Unnamed,
    /// None: nobody writes one.
    Nothing,
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AofError {
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    #[error("{action} {path} : {source}")]
    Io { action: &'static str, path: String, source: io::Error },
}

/// Longest manifest read, in bytes.
const MANIFEST_LIMIT: u64 = 16 << 20;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AofError {
    let path = path.display().to_string();
    move |source| AofError::Io { action, path, source }
}

/// What the incr file of this sequence is called when this server makes it.
fn incr_name(name: &str, sequence: u64) -> String {
    format!("{name}.{sequence}.incr.aof")
}

/// In the words of the system.
fn no_such_file() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

impl AofFiles {
    /// Opens the AOF `name` in the folder `dir`, which is `appenddirname` below `data_dir`.
    pub fn open(
        files: Arc<dyn FileSystem>,
        data_dir: &Path,
        dir: &str,
        name: &str,
    ) -> Result<Self, AofError> {
        let dir = data_dir.join(dir);
        let mut aof = AofFiles { files, dir, name: name.to_owned(), manifest: Manifest::default() };
        let path = aof.manifest_path();
        if aof.exists(&path)? {
            let file = aof
                .files
                .open(&path, Open::Read)
                .map_err(failed("Fatal error: can't open the AOF manifest file", &path))?;
            let bytes =
                file::read_all(&*file, MANIFEST_LIMIT).map_err(failed("Fatal error: can't read", &path))?;
            aof.manifest = Manifest::parse(&bytes)?;
        }
        Ok(aof)
    }

    /// An AOF of a single file in `data_dir`, as old servers wrote it, becomes the base, if there is nothing else, or if an
    /// earlier attempt at this was interrupted. Returns whether that was so.
    pub fn upgrade(&mut self, data_dir: &Path) -> Result<bool, AofError> {
        let (old, new) = (data_dir.join(&self.name), self.dir.join(&self.name));
        let names_only_old = self.manifest.incrs().is_empty()
            && self.manifest.base().is_some_and(|base| base.name == self.name);
        let was_interrupted = names_only_old && !self.exists(&new)?;
        if !(self.is_new() || was_interrupted) || !self.exists(&old)? {
            return Ok(false);
        }
        self.create_dir()?;
        self.manifest.set_base(self.name.clone(), 1);
        self.save_manifest()?;
        self.files.rename(&old, &new).map_err(failed("Error trying to move the old AOF file to", &new))?;
        self.sync_dir()?;
        self.files.sync_dir(data_dir).map_err(failed("Can't sync", data_dir))?;
        Ok(true)
    }

    /// Fails if a file that the manifest names is not there. Otherwise the bytes of the base and of all files together.
    pub fn sizes(&self) -> Result<(u64, u64), AofError> {
        let size = |file: &NamedFile| {
            let path = self.path(&file.name);
            let missing = failed("Unable to obtain the length of the AOF file", &path);
            let size = self.files.len(&path).and_then(|size| size.ok_or_else(no_such_file));
            size.map_err(missing)
        };
        let base = self.manifest.base().map_or(Ok(0), size)?;
        let incrs = self.manifest.incrs().iter().map(size).sum::<Result<u64, _>>()?;
        Ok((base, base + incrs))
    }

    fn exists(&self, path: &Path) -> Result<bool, AofError> {
        Ok(self.files.len(path).map_err(failed("Can't look at", path))?.is_some())
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Is there nothing yet?
    pub fn is_new(&self) -> bool {
        self.manifest.base().is_none() && self.manifest.incrs().is_empty()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn manifest_path(&self) -> PathBuf {
        self.dir.join(format!("{}.manifest", self.name))
    }

    /// Makes the folder, unless it is there.
    pub fn create_dir(&self) -> Result<(), AofError> {
        self.files.create_dir(&self.dir).map_err(failed("Can't open or create append-only dir", &self.dir))
    }

    fn sync_dir(&self) -> Result<(), AofError> {
        self.files.sync_dir(&self.dir).map_err(failed("Can't sync", &self.dir))
    }

    fn save_manifest(&self) -> Result<(), AofError> {
        let path = self.manifest_path();
        let temporary = self.dir.join(format!("temp-{}.manifest", self.name));
        file::replace(&*self.files, &path, &temporary, &self.manifest.format())
            .map_err(failed("Can't write the AOF manifest", &path))
    }

    /// Begins a new incr file; the manifest names it when this returns. What is written until the writer
    /// [goes on](Writer::rotate) in it still goes to the one before.
    pub fn begin_incr(&mut self) -> Result<(Box<dyn File>, u64), AofError> {
        self.create_dir()?;
        let sequence = self.manifest.next_incr_sequence();
        let path = self.incr_path(sequence);
        let file = self.create_anew(&path)?;
        // A manifest on the disk must not name what is not there yet.
        self.sync_dir()?;
        let before = self.manifest.clone();
        self.manifest.add_incr(incr_name(&self.name, sequence), sequence);
        if let Err(error) = self.save_manifest() {
            self.manifest = before;
            return Err(error);
        }
        Ok((file, sequence))
    }

    fn incr_path(&self, sequence: u64) -> PathBuf {
        self.path(&incr_name(&self.name, sequence))
    }

    fn incr_files(&self) -> IncrFiles {
        IncrFiles { files: self.files.clone(), dir: self.dir.clone(), name: self.name.clone() }
    }

    fn unnamed_incr(&self) -> PathBuf {
        self.dir.join(format!("temp-{}.incr.aof", self.name))
    }

    /// Begins an incr file that no manifest names yet: the base before it is still to be written.
    pub fn begin_unnamed_incr(&self) -> Result<Box<dyn File>, AofError> {
        self.create_dir()?;
        self.create_anew(&self.unnamed_incr())
    }

    /// An empty file, in place of one that was left behind by that name: if that were emptied only, a crash could bring back
    /// what it held.
    fn create_anew(&self, path: &Path) -> Result<Box<dyn File>, AofError> {
        let removed = match self.files.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        removed
            .and_then(|()| self.files.open(path, Open::Create))
            .map_err(failed("Can't open the append-only file", path))
    }

    /// Gives the unnamed incr file up.
    pub fn forget_unnamed_incr(&self) {
        // It is begun anew if it is wanted again.
        let _ = self.files.remove(&self.unnamed_incr());
    }

    /// Opens the last incr file to append to it.
    pub fn open_last_incr(&self) -> Result<Option<(Box<dyn File>, u64)>, AofError> {
        let Some(last) = self.manifest.incrs().last() else { return Ok(None) };
        let path = self.path(&last.name);
        let file =
            self.files.open(&path, Open::Append).map_err(failed("Can't open the append-only file", &path))?;
        Ok(Some((file, last.sequence)))
    }

    /// The incr file that a crash may have torn: the last that holds anything. Those behind it were named for a rewrite that did
    /// not get to write into them.
    pub fn last_written(&self) -> Result<Option<u64>, AofError> {
        let incrs = self.manifest.incrs();
        for incr in incrs.iter().rev() {
            let path = self.path(&incr.name);
            if self.files.len(&path).map_err(failed("Can't look at", &path))?.is_some_and(|length| length > 0)
            {
                return Ok(Some(incr.sequence));
            }
        }
        Ok(incrs.last().map(|incr| incr.sequence))
    }

    /// Brings the incr files to the disk as they are: the process that wrote them may not have come to that.
    pub fn sync_incrs(&self) -> Result<(), AofError> {
        for incr in self.manifest.incrs() {
            let path = self.path(&incr.name);
            let file = self.files.open(&path, Open::Read);
            file.and_then(|file| file.sync_data()).map_err(failed("Can't sync", &path))?;
        }
        Ok(())
    }

    /// Cuts what a crash tore off a file's end, for good.
    pub fn cut(&self, name: &str, length: u64) -> Result<(), AofError> {
        let path = self.path(name);
        let file = self.files.open(&path, Open::Append);
        file.and_then(|mut file| {
            file.truncate(length)?;
            file.sync_data()
        })
        .map_err(failed("Can't cut off the torn end of", &path))
    }

    pub fn open_to_read(&self, name: &str) -> Result<Box<dyn File>, AofError> {
        let path = self.path(name);
        self.files
            .open(&path, Open::Read)
            .map_err(failed("Fatal error: can't open the append log file", &path))
    }

    /// Where a rewrite writes the new base.
    pub fn temporary_base(&self) -> PathBuf {
        self.dir.join(format!("temp-rewriteaof-bg-{}.aof", std::process::id()))
    }

    /// Ends a rewrite: the finished temporary base takes the place of the old base and of all incr files but those that are
    /// kept. What was replaced is history, to be [deleted](Self::delete_history). Returns the sequence that the unnamed incr
    /// file got, if that is what goes on.
    pub fn finish_rewrite(&mut self, kept: Kept, is_rdb: bool) -> Result<Option<u64>, AofError> {
        self.create_dir()?;
        let mut manifest = self.manifest.clone();
        let sequence = manifest.next_base_sequence();
        let name = format!("{}.{sequence}.base.{}", self.name, if is_rdb { "rdb" } else { "aof" });
        let (from, to) = (self.temporary_base(), self.path(&name));
        self.files.rename(&from, &to).map_err(failed("Can't rename the new base to", &to))?;
        let first_kept = if let Kept::From(first) = kept { first } else { u64::MAX };
        manifest.replace_base(name, sequence, first_kept);
        let mut named = None;
        if kept == Kept::Unnamed {
            let sequence = manifest.next_incr_sequence();
            let path = self.incr_path(sequence);
            self.files
                .rename(&self.unnamed_incr(), &path)
                .map_err(failed("Can't rename the new incr file to", &path))?;
            manifest.add_incr(incr_name(&self.name, sequence), sequence);
            named = Some(sequence);
        }
        self.sync_dir()?;
        let before = std::mem::replace(&mut self.manifest, manifest);
        if let Err(error) = self.save_manifest() {
            self.manifest = before;
            return Err(error);
        }
        Ok(named)
    }

    /// Deletes the files that the manifest holds as history.
    pub fn delete_history(&mut self) -> Result<(), AofError> {
        if self.manifest.history().is_empty() {
            return Ok(());
        }
        let names: Vec<PathBuf> = self.manifest.history().iter().map(|file| self.path(&file.name)).collect();
        // First the manifest: it must not name what is gone.
        self.manifest.forget_history();
        self.save_manifest()?;
        for path in names {
            match self.files.remove(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("Can't remove", &path)(error)),
            }
        }
        Ok(())
    }

    // ---- The state of the stream ----

    fn state_path(&self) -> PathBuf {
        self.dir.join(format!("{}.stream", self.name))
    }

    /// What the last run knew of the stream. `None`: nothing, or nothing that can be trusted.
    pub fn load_state(&self) -> Option<StreamState> {
        let file = self.files.open(&self.state_path(), Open::Read).ok()?;
        let bytes = file::read_all(&*file, MANIFEST_LIMIT).ok()?;
        StreamState::decode(&bytes)
    }

    /// The stream is to go on where the first incr file begins: in the history of the state file, or in that of the base, which
    /// says so itself, if there is neither a state nor anything behind the base.
    pub fn adopt_history(&self, stream: &mut Stream, base: Option<(ReplicationId, u64)>) {
        let Some(state) = self.load_state() else {
            let is_empty = |incr: &NamedFile| self.incr_files().len(incr.sequence) == Some(0);
            if let Some((replid, offset)) = base.filter(|_| self.manifest.incrs().iter().all(is_empty)) {
                stream.adopt(replid, offset);
            }
            return;
        };
        // A state that does not know the first file is of another directory: its history is not ours.
        let start = self.manifest.incrs().first().map(|incr| state.start_of(incr.sequence));
        if let Some(start) = start.unwrap_or(state.incrs.last().map(|incr| incr.offset)) {
            stream.adopt(id_of(&state.replid), start);
            stream.set_second(id_of(&state.replid2), state.second_offset);
        }
    }

    /// What the files hold is known to nobody by a name.
    pub fn forget_state(&self) -> Result<(), AofError> {
        let path = self.state_path();
        match self.files.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("Can't remove", &path)(error))
            }
            _ => self.sync_dir(),
        }
    }

    pub fn save_state(&self, state: &StreamState) -> Result<(), AofError> {
        self.create_dir()?;
        let path = self.state_path();
        let temporary = self.dir.join(format!("temp-{}.stream", self.name));
        let bytes = state.encode().map_err(|error| failed("Can't encode", &path)(io::Error::other(error)))?;
        file::replace(&*self.files, &path, &temporary, &bytes).map_err(failed("Can't write", &path))
    }
}

fn id_of(replid: &[u8]) -> ReplicationId {
    replid.try_into().unwrap_or(super::NO_REPLID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::file::MemoryFileSystem;

    fn open(files: &Arc<MemoryFileSystem>) -> AofFiles {
        let files: Arc<dyn FileSystem> = files.clone();
        AofFiles::open(files, Path::new("data"), "appendonlydir", "appendonly.aof").expect("opens")
    }

    #[test]
    fn a_rewrite_replaces_what_came_before_it() {
        let files = Arc::new(MemoryFileSystem::new());
        let mut aof = open(&files);
        assert!(aof.is_new());
        aof.begin_incr().expect("first");
        let (_, sequence) = aof.begin_incr().expect("second");
        assert_eq!(sequence, 2);
        let mut base = files.open(&aof.temporary_base(), Open::Create).expect("base");
        file::append_all(&mut *base, b"REDIS").expect("written");
        assert_eq!(aof.finish_rewrite(Kept::From(2), true).expect("finished"), None);
        let names: Vec<_> = aof.manifest().history().iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["appendonly.aof.1.incr.aof"]);
        aof.delete_history().expect("removed");
        let again = open(&files);
        assert_eq!(again.manifest().base().map(|base| base.name.as_str()), Some("appendonly.aof.1.base.rdb"));
        assert_eq!(again.manifest().incrs().len(), 1);
        assert!(again.open_to_read("appendonly.aof.1.incr.aof").is_err());
    }

    /// Turning the AOF on: until the base is whole the manifest is what it was.
    #[test]
    fn an_unnamed_incr_file_gets_its_name_with_the_base() {
        let files = Arc::new(MemoryFileSystem::new());
        let mut aof = open(&files);
        aof.begin_incr().expect("of earlier");
        let mut incr = aof.begin_unnamed_incr().expect("begun");
        file::append_all(&mut *incr, b"*1\r\n$4\r\nPING\r\n").expect("written");
        assert_eq!(open(&files).manifest().incrs().len(), 1);
        let mut base = files.open(&aof.temporary_base(), Open::Create).expect("base");
        file::append_all(&mut *base, b"REDIS").expect("written");
        assert_eq!(aof.finish_rewrite(Kept::Unnamed, false).expect("finished"), Some(2));
        let again = open(&files);
        assert_eq!(again.manifest().base().map(|base| base.name.as_str()), Some("appendonly.aof.1.base.aof"));
        let names: Vec<_> = again.manifest().incrs().iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["appendonly.aof.2.incr.aof"]);
        assert_eq!(again.sizes().expect("all are there"), (5, 19));
        // Without an AOF a rewrite leaves a base only.
        files.open(&aof.temporary_base(), Open::Create).expect("base");
        aof.finish_rewrite(Kept::Nothing, true).expect("finished");
        assert!(open(&files).manifest().incrs().is_empty());
    }

    #[test]
    fn a_single_file_is_upgraded() {
        let files = Arc::new(MemoryFileSystem::new());
        let data = Path::new("data");
        files.create_dir(data).expect("dir");
        let write_old = || {
            let mut old = files.open(Path::new("data/appendonly.aof"), Open::Create).expect("old");
            file::append_all(&mut *old, b"*1\r\n$4\r\nPING\r\n").expect("written");
        };
        write_old();
        let mut aof = open(&files);
        assert!(aof.upgrade(data).expect("upgraded"));
        assert!(aof.open_to_read("appendonly.aof").is_ok());
        // Interrupted between the manifest and the rename.
        files
            .rename(Path::new("data/appendonlydir/appendonly.aof"), Path::new("data/appendonly.aof"))
            .expect("back");
        let mut aof = open(&files);
        assert!(aof.sizes().is_err());
        assert!(aof.upgrade(data).expect("upgraded"));
        assert_eq!(aof.sizes().expect("there"), (14, 14));
        // Another one that appears later is not ours.
        write_old();
        assert!(!open(&files).upgrade(data).expect("looked"));
        aof.begin_incr().expect("goes on");
        assert!(!open(&files).upgrade(data).expect("looked"));
    }

    #[test]
    fn the_state_survives() {
        let files = Arc::new(MemoryFileSystem::new());
        let aof = open(&files);
        assert!(aof.load_state().is_none());
        let state = StreamState {
            replid: [b'a'; 40].to_vec(),
            replid2: [b'0'; 40].to_vec(),
            second_offset: None,
            incrs: vec![IncrStart { sequence: 1, offset: 100 }],
        };
        aof.save_state(&state).expect("saved");
        assert_eq!(aof.load_state(), Some(state));
    }
}
