//! Files of the operating system. Knows nothing but how to ask it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{File, FileSystem, Open};

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemFileSystem;

struct SystemFile(fs::File);

impl File for SystemFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        if len < self.len()? { self.0.set_len(len) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn duplicate(&self) -> io::Result<Box<dyn File>> {
        Ok(Box::new(SystemFile(self.0.try_clone()?)))
    }
}

impl FileSystem for SystemFileSystem {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let file = match how {
            Open::Read => OpenOptions::new().read(true).open(path)?,
            Open::Append => OpenOptions::new().read(true).append(true).create(true).open(path)?,
            Open::Create => {
                // Appending and truncating cannot be asked for together.
                let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
                file.set_len(0)?;
                file
            }
        };
        Ok(Box::new(SystemFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        fs::File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{append_all, read_all, replace};
    use super::*;

    #[test]
    fn life_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder/a");
        let files = SystemFileSystem;
        assert_eq!(files.open(&path, Open::Read).err().unwrap().kind(), io::ErrorKind::NotFound);
        files.create_dir(&dir.path().join("folder")).unwrap();
        let mut file = files.open(&path, Open::Create).unwrap();
        append_all(&mut *file, b"0123456789").unwrap();
        file.sync_data().unwrap();
        assert_eq!(read_all(&*file, 10).unwrap(), b"0123456789");
        assert_eq!(read_all(&*file, 9).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        file.truncate(4).unwrap();
        file.truncate(100).unwrap();
        let mut again = files.open(&path, Open::Append).unwrap();
        append_all(&mut *again, b"x").unwrap();
        assert_eq!(read_all(&*file.duplicate().unwrap(), 10).unwrap(), b"0123x");
        let other = path.with_file_name("b");
        files.rename(&path, &other).unwrap();
        replace(&files, &other, &path, b"new").unwrap();
        assert_eq!(files.list(path.parent().unwrap()).unwrap(), ["b"]);
        assert_eq!((files.len(&path).unwrap(), files.len(&other).unwrap()), (None, Some(3)));
        assert!(files.open(&other, Open::Create).unwrap().is_empty().unwrap());
        files.remove(&other).unwrap();
        assert!(files.list(path.parent().unwrap()).unwrap().is_empty());
    }
}
