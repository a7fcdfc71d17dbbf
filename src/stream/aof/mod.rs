//! The AOF on disk: a manifest, a base file with a whole dataset, and incr files with the stream's bytes since.
//!
//! Source of names and manifest: Valkey's multi-part AOF, so that its tools and servers read the directory. Beside it lies a
//! state file of our own that says at which offset of the stream each incr file begins.
//! It must not know what commands do, nor threads.
//!
//! Invariants: the manifest on disk always names files that exist and are whole; it is replaced atomically; a file is
//! deleted only when no manifest names it any more.

mod loader;
mod manifest;
mod state;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use loader::{CommandReader, LoadError, LoadedCommand};
pub use manifest::{FileKind, Manifest, ManifestError, NamedFile};
pub use state::{IncrStart, StreamState};

use crate::base::file::{self, File, FileSystem, Open};

/// The files of one AOF.
pub struct AofFiles {
    files: Arc<dyn FileSystem>,
    dir: PathBuf,
    /// `appendfilename`.
    name: String,
    manifest: Manifest,
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AofError {
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    #[error("{action} {path}: {source}")]
    Io { action: &'static str, path: String, source: io::Error },
}

/// Longest manifest read, in bytes.
const MANIFEST_LIMIT: u64 = 16 << 20;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AofError {
    let path = path.display().to_string();
    move |source| AofError::Io { action, path, source }
}

impl AofFiles {
    /// Opens the AOF `name` in the folder `dir`, which is `appenddirname` below `data_dir`. An AOF of a single file in
    /// `data_dir`, as old servers wrote it, becomes the base.
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
        } else {
            aof.upgrade(data_dir)?;
        }
        Ok(aof)
    }

    fn upgrade(&mut self, data_dir: &Path) -> Result<(), AofError> {
        let old = data_dir.join(&self.name);
        if !self.exists(&old)? {
            return Ok(());
        }
        self.create_dir()?;
        let new = self.dir.join(&self.name);
        self.manifest.set_base(self.name.clone(), 1);
        self.save_manifest()?;
        self.files.rename(&old, &new).map_err(failed("Can't move the old AOF to", &new))?;
        self.sync_dir()
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

    fn create_dir(&self) -> Result<(), AofError> {
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

    /// Begins a new incr file; the manifest names it when this returns.
    pub fn begin_incr(&mut self) -> Result<(Box<dyn File>, u64), AofError> {
        self.create_dir()?;
        let sequence = self.manifest.next_incr_sequence();
        let name = format!("{}.{sequence}.incr.aof", self.name);
        let path = self.path(&name);
        let file =
            self.files.open(&path, Open::Create).map_err(failed("Can't open the append-only file", &path))?;
        let before = self.manifest.clone();
        self.manifest.add_incr(name, sequence);
        if let Err(error) = self.save_manifest() {
            self.manifest = before;
            return Err(error);
        }
        Ok((file, sequence))
    }

    /// Opens the last incr file to append to it.
    pub fn open_last_incr(&self) -> Result<Option<(Box<dyn File>, u64)>, AofError> {
        let Some(last) = self.manifest.incrs().last() else { return Ok(None) };
        let path = self.path(&last.name);
        let file =
            self.files.open(&path, Open::Append).map_err(failed("Can't open the append-only file", &path))?;
        Ok(Some((file, last.sequence)))
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

    /// Ends a rewrite: the finished temporary base takes the place of the old base and of all incr files before
    /// `first_incr`, whose names are returned after they were forgotten; [`remove`](Self::remove) deletes them.
    pub fn finish_rewrite(&mut self, first_incr: u64, is_rdb: bool) -> Result<Vec<String>, AofError> {
        self.create_dir()?;
        let sequence = self.manifest.next_base_sequence();
        let name = format!("{}.{sequence}.base.{}", self.name, if is_rdb { "rdb" } else { "aof" });
        let (from, to) = (self.temporary_base(), self.path(&name));
        self.files.rename(&from, &to).map_err(failed("Can't rename the new base to", &to))?;
        self.sync_dir()?;
        let before = self.manifest.clone();
        self.manifest.replace_base(name, sequence, first_incr);
        if let Err(error) = self.save_manifest() {
            self.manifest = before;
            return Err(error);
        }
        Ok(self.manifest.history().iter().map(|file| file.name.clone()).collect())
    }

    /// Deletes files that the manifest holds as history.
    pub fn remove(&mut self, names: &[String]) -> Result<(), AofError> {
        for name in names {
            let path = self.path(name);
            match self.files.remove(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("Can't remove", &path)(error)),
            }
        }
        self.manifest.forget_history();
        self.save_manifest()
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

    pub fn save_state(&self, state: &StreamState) -> Result<(), AofError> {
        self.create_dir()?;
        let path = self.state_path();
        let temporary = self.dir.join(format!("temp-{}.stream", self.name));
        let bytes = state.encode().map_err(|error| failed("Can't encode", &path)(io::Error::other(error)))?;
        file::replace(&*self.files, &path, &temporary, &bytes).map_err(failed("Can't write", &path))
    }
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
        let old = aof.finish_rewrite(2, true).expect("finished");
        assert_eq!(old, ["appendonly.aof.1.incr.aof"]);
        aof.remove(&old).expect("removed");
        let again = open(&files);
        assert_eq!(again.manifest().base().map(|base| base.name.as_str()), Some("appendonly.aof.1.base.rdb"));
        assert_eq!(again.manifest().incrs().len(), 1);
        assert!(again.open_to_read("appendonly.aof.1.incr.aof").is_err());
    }

    #[test]
    fn a_single_file_is_upgraded() {
        let files = Arc::new(MemoryFileSystem::new());
        files.create_dir(Path::new("data")).expect("dir");
        let mut old = files.open(Path::new("data/appendonly.aof"), Open::Create).expect("old");
        file::append_all(&mut *old, b"*1\r\n$4\r\nPING\r\n").expect("written");
        let aof = open(&files);
        assert_eq!(aof.manifest().base().map(|base| base.name.as_str()), Some("appendonly.aof"));
        assert!(aof.open_to_read("appendonly.aof").is_ok());
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
