//! Files in memory that fail on request: short writes, a full disk, failing syncs, and crashes that keep
//! no more than what was synced, or that and a torn part of the rest.
//!
//! Handles to files stay valid over a crash of their file system as they would in a process that is gone:
//! nobody sees what they write. [`MemoryFileSystem::crash`] gives the disk as the next start finds it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{File, FileSystem, Open};
use crate::base::random::Random;

/// What a crash does to bytes and names that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// All of them are lost.
    LoseUnsynced,
    /// None is lost: the process died, not the machine.
    KeepAll,
    /// Each file keeps a random part of its unsynced tail, each unsynced name change happens or not.
    Torn { seed: u64 },
}

/// A file system in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryFileSystem {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    names: BTreeMap<PathBuf, Content>,
    /// The names as of the last sync of their folder.
    durable_names: BTreeMap<PathBuf, Content>,
    dirs: BTreeSet<PathBuf>,
    faults: Faults,
}

#[derive(Default, Clone)]
struct Faults {
    /// Most bytes of one append.
    append_limit: Option<usize>,
    /// Bytes that may still be appended.
    space: Option<usize>,
    sync_fails: bool,
    /// Changes that still happen before the machine stops.
    changes_left: Option<u64>,
}

impl Faults {
    /// One more change of the disk.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            Some(0) => Err(io::Error::other("the machine has stopped")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

type Content = Arc<Mutex<Bytes>>;

#[derive(Default, Clone)]
struct Bytes {
    now: Vec<u8>,
    /// The content as of the last sync.
    durable: Vec<u8>,
}

struct MemoryFile {
    content: Content,
    disk: Arc<Mutex<Disk>>,
    writable: bool,
}

impl MemoryFileSystem {
    /// An empty disk without faults.
    pub fn new() -> Self {
        MemoryFileSystem::default()
    }

    /// Lets an append take at most `bytes` bytes at a time; `None` takes all.
    pub fn limit_append(&self, bytes: Option<usize>) {
        self.disk.lock().faults.append_limit = bytes;
    }

    /// Leaves room for `bytes` more bytes; then appending fails as on a full disk. `None` is endless.
    pub fn limit_space(&self, bytes: Option<usize>) {
        self.disk.lock().faults.space = bytes;
    }

    /// Lets every sync fail, or not.
    pub fn fail_sync(&self, fails: bool) {
        self.disk.lock().faults.sync_fails = fails;
    }

    /// Stops the machine after so many changes of any kind: all later ones fail, and a [crash](Self::crash) finds the disk as it
    /// was in the middle of whatever was being done.
    pub fn stop_after(&self, changes: Option<u64>) {
        self.disk.lock().faults.changes_left = changes;
    }

    /// Has the machine stopped?
    pub fn is_stopped(&self) -> bool {
        self.disk.lock().faults.changes_left == Some(0)
    }

    /// The content of a file as a running process sees it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.disk.lock().names.get(path).map(|content| content.lock().now.clone())
    }

    /// The disk after a crash at this moment, without the faults; this one goes on unharmed, so that one
    /// run can be cut at every point.
    pub fn crash(&self, crash: Crash) -> MemoryFileSystem {
        let disk = self.disk.lock();
        let mut random = match crash {
            Crash::Torn { seed } => Some(Random::from_seed(seed)),
            _ => None,
        };
        let mut names =
            if crash == Crash::LoseUnsynced { disk.durable_names.clone() } else { disk.names.clone() };
        if let Some(random) = &mut random {
            let all: BTreeSet<PathBuf> =
                disk.names.keys().chain(disk.durable_names.keys()).cloned().collect();
            for path in all {
                let survivor = if random.below(2) == 0 { &disk.names } else { &disk.durable_names };
                match survivor.get(&path) {
                    Some(content) => names.insert(path, content.clone()),
                    None => names.remove(&path),
                };
            }
        }
        let after = names.into_iter().map(|(path, content)| {
            let bytes = content.lock();
            let kept = match (crash, &mut random) {
                (Crash::LoseUnsynced, _) => bytes.durable.clone(),
                (_, Some(random)) => torn(&bytes, random),
                _ => bytes.now.clone(),
            };
            (path, Arc::new(Mutex::new(Bytes { now: kept.clone(), durable: kept })))
        });
        let names: BTreeMap<PathBuf, Content> = after.collect();
        let durable_names = names.clone();
        let faults = Faults::default();
        MemoryFileSystem {
            disk: Arc::new(Mutex::new(Disk { names, durable_names, dirs: disk.dirs.clone(), faults })),
        }
    }
}

/// What was synced, and some of what was appended to it; or what was synced before a truncation.
fn torn(bytes: &Bytes, random: &mut Random) -> Vec<u8> {
    if !bytes.now.starts_with(&bytes.durable) {
        return if random.below(2) == 0 { bytes.now.clone() } else { bytes.durable.clone() };
    }
    let unsynced = bytes.now.len() - bytes.durable.len();
    let kept = bytes.durable.len() + random.below(unsynced as u64 + 1) as usize;
    bytes.now[..kept].to_vec()
}

fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "No such file or directory")
}

impl FileSystem for MemoryFileSystem {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let mut disk = self.disk.lock();
        if how == Open::Create || (how == Open::Append && !disk.names.contains_key(path)) {
            disk.faults.change()?;
        }
        let content = match (disk.names.get(path), how) {
            (Some(content), _) => content.clone(),
            (None, Open::Read) => return Err(not_found()),
            (None, _) => {
                let dir = path.parent().unwrap_or(Path::new(""));
                if !dir.as_os_str().is_empty() && !disk.dirs.contains(dir) {
                    return Err(not_found());
                }
                let content = Content::default();
                disk.names.insert(path.to_owned(), content.clone());
                content
            }
        };
        if how == Open::Create {
            content.lock().now.clear();
        }
        Ok(Box::new(MemoryFile { content, disk: self.disk.clone(), writable: how != Open::Read }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.faults.change()?;
        let content = disk.names.remove(from).ok_or_else(not_found)?;
        disk.names.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.faults.change()?;
        disk.names.remove(path).map(drop).ok_or_else(not_found)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk.lock();
        if !dir.as_os_str().is_empty() && !disk.dirs.contains(dir) {
            return Err(not_found());
        }
        let inside = disk.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        Ok(self.disk.lock().names.get(path).map(|content| content.lock().now.len() as u64))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.faults.change()?;
        if disk.faults.sync_fails {
            return Err(io::Error::other("injected sync failure"));
        }
        disk.durable_names.retain(|path, _| path.parent() != Some(dir));
        let inside = disk.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        let inside: Vec<_> = inside.map(|(path, content)| (path.clone(), content.clone())).collect();
        disk.durable_names.extend(inside);
        Ok(())
    }
}

impl File for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut disk = self.disk.lock();
        disk.faults.change()?;
        let mut count = bytes.len().min(disk.faults.append_limit.unwrap_or(usize::MAX));
        if let Some(space) = &mut disk.faults.space {
            count = count.min(*space);
            *space -= count;
            if count == 0 && !bytes.is_empty() {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "No space left on device"));
            }
        }
        self.content.lock().now.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content.lock();
        let rest = usize::try_from(offset).ok().and_then(|offset| content.now.get(offset..)).unwrap_or(&[]);
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().now.len() as u64)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.disk.lock().faults.change()?;
        self.content.lock().now.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.faults.change()?;
        if disk.faults.sync_fails {
            return Err(io::Error::other("injected sync failure"));
        }
        let mut content = self.content.lock();
        content.durable = content.now.clone();
        Ok(())
    }

    fn duplicate(&self) -> io::Result<Box<dyn File>> {
        Ok(Box::new(MemoryFile {
            content: self.content.clone(),
            disk: self.disk.clone(),
            writable: self.writable,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{append_all, read_all, replace};
    use super::*;

    fn dir_with(name: &str, bytes: &[u8]) -> (MemoryFileSystem, Box<dyn File>) {
        let files = MemoryFileSystem::new();
        files.create_dir(Path::new("d")).unwrap();
        let mut file = files.open(&Path::new("d").join(name), Open::Create).unwrap();
        append_all(&mut *file, bytes).unwrap();
        (files, file)
    }

    #[test]
    fn a_crash_keeps_what_was_synced() {
        let (files, mut file) = dir_with("a", b"synced");
        file.sync_data().unwrap();
        assert_eq!(files.crash(Crash::LoseUnsynced).content(Path::new("d/a")), None);
        files.sync_dir(Path::new("d")).unwrap();
        append_all(&mut *file, b" not").unwrap();
        assert_eq!(files.crash(Crash::LoseUnsynced).content(Path::new("d/a")).unwrap(), b"synced");
        assert_eq!(files.crash(Crash::KeepAll).content(Path::new("d/a")).unwrap(), b"synced not");
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let kept = files.crash(Crash::Torn { seed }).content(Path::new("d/a")).unwrap();
            assert!(kept.starts_with(b"synced") && b"synced not".starts_with(&kept[..]));
            seen.insert(kept.len());
        }
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn short_writes_and_a_full_disk() {
        let (files, mut file) = dir_with("a", b"");
        files.limit_append(Some(2));
        assert_eq!(file.append(b"abcdef").unwrap(), 2);
        files.limit_space(Some(3));
        let error = append_all(&mut *file, b"cdef").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(read_all(&*file, 10).unwrap(), b"abcde");
        files.fail_sync(true);
        assert!(file.sync_data().is_err());
        assert!(files.sync_dir(Path::new("d")).is_err());
    }

    /// A replacement that is cut off after any of its steps leaves the old or the new.
    #[test]
    fn a_machine_can_stop_in_the_middle() {
        let (path, temporary) = (Path::new("d/state"), Path::new("d/temp-state"));
        let (mut old, mut new) = (0, 0);
        for changes in 0..10 {
            let (files, _) = dir_with("other", b"");
            replace(&files, path, temporary, b"old").unwrap();
            files.stop_after(Some(changes));
            let done = replace(&files, path, temporary, b"new").is_ok();
            assert_eq!(files.is_stopped(), changes <= 5);
            for crash in [Crash::LoseUnsynced, Crash::KeepAll, Crash::Torn { seed: changes }] {
                let after = files.crash(crash).content(path).unwrap();
                assert!(after == b"new" || (!done && after == b"old"));
                *if after == b"new" { &mut new } else { &mut old } += 1;
            }
        }
        assert!(old > 8 && new > 8, "{old} {new}");
    }

    #[test]
    fn replacing_is_all_or_nothing() {
        let (path, temporary) = (Path::new("d/state"), Path::new("d/temp-state"));
        let (files, _) = dir_with("other", b"");
        replace(&files, path, temporary, b"old").unwrap();
        for space in 0..3 {
            files.limit_space(Some(space));
            assert!(replace(&files, path, temporary, b"new").is_err());
            files.limit_space(None);
            assert_eq!(files.content(path).unwrap(), b"old");
            assert_eq!(files.content(temporary), None);
        }
        files.open(temporary, Open::Create).unwrap().append(b"new").unwrap();
        files.rename(temporary, path).unwrap();
        assert_eq!(files.crash(Crash::LoseUnsynced).content(path).unwrap(), b"old");
        replace(&files, path, temporary, b"new").unwrap();
        for seed in 0..20 {
            assert_eq!(files.crash(Crash::Torn { seed }).content(path).unwrap(), b"new");
        }
    }

    #[test]
    fn names_and_folders() {
        let (files, _file) = dir_with("a", b"x");
        assert!(files.open(Path::new("missing/a"), Open::Append).is_err());
        assert!(files.open(Path::new("d/a"), Open::Read).unwrap().append(b"y").is_err());
        assert_eq!(files.list(Path::new("d")).unwrap(), ["a"]);
        assert!(files.list(Path::new("missing")).is_err());
        assert_eq!(files.len(Path::new("d/a")).unwrap(), Some(1));
        files.remove(Path::new("d/a")).unwrap();
        assert_eq!(files.len(Path::new("d/a")).unwrap(), None);
        assert!(files.remove(Path::new("d/a")).is_err());
    }
}
