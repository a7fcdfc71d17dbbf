//! The small trait under all file access, so that a crash, a full disk or a short write is an ordinary test.
//!
//! Files grow at the end only and are read at any place: nothing in this server overwrites in the middle.
//! A name is durable after [`FileSystem::sync_dir`] on its folder, content after [`File::sync_data`]; code
//! above relies on nothing else, and the in-memory implementation takes away whatever was not promised.

mod memory;
mod system;

use std::io;
use std::path::Path;

pub use memory::{Crash, MemoryFileSystem};
pub use system::SystemFileSystem;

/// An open file.
pub trait File: Send + Sync {
    /// Appends some of `bytes` and says how many, at least one unless `bytes` is empty.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Reads up to `buffer.len()` bytes from byte `offset`; 0 at or after the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Cuts the file to `len` bytes; never extends it.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Returns once the content and the length are on the disk.
    fn sync_data(&self) -> io::Result<()>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Another handle of the same file, for the thread that syncs it.
    fn duplicate(&self) -> io::Result<Box<dyn File>>;
}

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// An existing file, to read.
    Read,
    /// An existing or new file, to read and append to.
    Append,
    /// A new or emptied file, to read and append to.
    Create,
}

/// Files by name.
pub trait FileSystem: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>>;

    /// Gives a file another name, in place of what had that name: one or the other, never neither.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names of the files in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Length of a file in bytes; `None` if there is none of that name.
    fn len(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Makes a folder; fine if it exists.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Returns once the names in the folder are on the disk.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// Appends all of `bytes`, or fails after having appended some of them.
pub fn append_all(file: &mut dyn File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.append(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).ok_or(io::ErrorKind::InvalidData)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The whole content of a file of at most `limit` bytes.
pub fn read_all(file: &dyn File, limit: u64) -> io::Result<Vec<u8>> {
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    let mut out = Vec::new();
    let mut reader = Reader::new(file, 0);
    io::Read::read_to_end(&mut io::Read::take(&mut reader, limit), &mut out)?;
    Ok(out)
}

/// Replaces the content of `path` by `bytes`: after a crash it holds the old or the new, whole.
/// `temporary` names the file that is written first, in the same folder.
pub fn replace(files: &dyn FileSystem, path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = write_new(files, temporary, bytes).and_then(|()| files.rename(temporary, path));
    if let Err(error) = written {
        // What matters is the first error; a leftover is removed at the next start.
        let _ = files.remove(temporary);
        return Err(error);
    }
    files.sync_dir(path.parent().unwrap_or(Path::new("")))
}

fn write_new(files: &dyn FileSystem, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = files.open(path, Open::Create)?;
    append_all(&mut *file, bytes)?;
    file.sync_data()
}

/// Reads a file from front to back.
pub struct Reader<'a> {
    file: &'a dyn File,
    offset: u64,
}

impl<'a> Reader<'a> {
    /// Begins at byte `offset`.
    pub fn new(file: &'a dyn File, offset: u64) -> Self {
        Reader { file, offset }
    }

    /// The place of the next byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl io::Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
