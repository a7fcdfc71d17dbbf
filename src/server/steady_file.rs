//! A large file that is written in one go, and reaches the disk on the way instead of all at its end: a sync of a hundred
//! megabytes holds up everybody who writes to the same disk, the AOF first of all.
//!
//! Invariant: when [`SteadyFile::finish`] has returned, all of it is on the disk.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::process::{Writeout, write_out};

/// Bytes after which what was written is sent on to the disk, and those before it are waited for.
const STRETCH: u64 = 4 << 20;
const BUFFER: usize = 1 << 18;

pub struct SteadyFile(BufWriter<Stretches>);

/// The file, and how far it is written and on its way.
struct Stretches {
    file: File,
    written: u64,
    started: u64,
    finished: u64,
    is_steady: bool,
}

impl SteadyFile {
    /// A new or emptied file. Without `is_steady` it is as any other.
    pub fn create(path: &Path, is_steady: bool) -> io::Result<SteadyFile> {
        let file = File::create(path)?;
        let stretches = Stretches { file, written: 0, started: 0, finished: 0, is_steady };
        Ok(SteadyFile(BufWriter::with_capacity(BUFFER, stretches)))
    }

    /// Brings the rest to the disk.
    pub fn finish(self) -> io::Result<()> {
        self.0.into_inner().map_err(io::IntoInnerError::into_error)?.file.sync_all()
    }
}

impl Write for SteadyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Write for Stretches {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if self.is_steady && self.written - self.started >= STRETCH {
            // The disk is at most one stretch behind.
            if self.started > self.finished {
                write_out(&self.file, self.finished, self.started - self.finished, Writeout::Finish)?;
            }
            self.finished = self.started;
            write_out(&self.file, self.started, self.written - self.started, Writeout::Start)?;
            self.started = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for is_steady in [true, false] {
            let mut file = SteadyFile::create(&path, is_steady).unwrap();
            let mut expected = Vec::new();
            for number in 0..40u8 {
                let block = vec![number; 300_000];
                file.write_all(&block).unwrap();
                expected.extend_from_slice(&block);
            }
            file.finish().unwrap();
            assert!(std::fs::read(&path).unwrap() == expected);
        }
    }
}
