//! The open incr file: what is appended to it, and in which order that reaches the disk.
//!
//! The stream's bytes are given to it as they come about and stay in memory until they are written. Knows neither threads
//! nor clocks: who may sync in the background takes a [`Sync`] along and brings it back, and moments come by parameter.
//!
//! Invariants:
//! - The file ends with whole units of the stream, or is cut back to that before anything is appended.
//! - No byte of a file is written before all of the file before it is on the disk. So, whatever a crash takes away, of all
//!   incr files only the last that is not empty can be torn.
//! - What counts as synced was written, and synced after that.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::base::file::{File, append_all};

/// How long bytes may stay in memory because the disk is busy, in milliseconds.
pub const MOST_HELD_MS: u64 = 2000;

/// What is written at once, in bytes, where others wait for the file meanwhile.
const BLOCK: usize = 256 * 1024;

/// Whether bytes go to the file now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Now,
    /// They stay in memory.
    Later,
    /// They have been in memory for [`MOST_HELD_MS`] and go to the file although the disk is busy.
    Overdue,
}

/// Bytes that are not written yet: blocks of whole units.
#[derive(Debug, Default)]
struct Pending {
    blocks: VecDeque<Vec<u8>>,
    length: usize,
}

impl Pending {
    fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.length += bytes.len();
        match self.blocks.back_mut() {
            Some(block) if block.len() + bytes.len() <= BLOCK => block.extend_from_slice(bytes),
            _ => self.blocks.push_back(bytes.to_vec()),
        }
    }

    fn pop(&mut self) {
        if let Some(block) = self.blocks.pop_front() {
            self.length -= block.len();
        }
    }

    /// Appends to `out` up to `most` bytes from `skip` on.
    fn read(&self, mut skip: usize, most: usize, out: &mut Vec<u8>) {
        let mut left = most;
        for block in &self.blocks {
            let part = block.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(block.len());
            let part = &part[..part.len().min(left)];
            out.extend_from_slice(part);
            left -= part.len();
        }
    }
}

/// A file that was written before the open one.
struct Earlier {
    file: Box<dyn File>,
    mark: Arc<()>,
    /// Its bytes.
    length: u64,
    /// The offset at which it ends.
    end: u64,
}

pub struct Writer {
    file: Box<dyn File>,
    /// Tells this file from others that a [`Sync`] may be of.
    mark: Arc<()>,
    /// The file before, while its end may not be on the disk.
    earlier: Option<Earlier>,
    /// The offset of the stream at which the file begins.
    start: u64,
    /// The offset behind the last byte written.
    written: u64,
    /// Everything up to here is on the disk.
    synced: u64,
    /// Bytes of the file that are whole. More than the stream's since `start`: the file holds annotations too.
    length: u64,
    pending: Pending,
    /// Since when bytes are kept in memory, by the clock of [`Writer::turn`].
    held_since_ms: Option<u64>,
    /// The second that the last annotation names.
    annotated_seconds: u64,
    /// Could a write that failed not be cut off?
    is_torn: bool,
}

/// The present end of the file, to be brought to the disk beside those who append.
pub struct Sync {
    earlier: Option<Box<dyn File>>,
    file: Box<dyn File>,
    mark: Arc<()>,
    /// Bytes of the file that it covers.
    length: u64,
    end: u64,
}

impl Sync {
    /// Returns once everything up to [`end`](Self::end) is on the disk.
    pub fn run(&self) -> io::Result<()> {
        if let Some(earlier) = &self.earlier {
            earlier.sync_data()?;
        }
        self.file.sync_data()
    }

    /// The offset up to which it reaches.
    pub fn end(&self) -> u64 {
        self.end
    }
}

impl Writer {
    /// Goes on with a file of `length` whole bytes that begins at the offset `start` and ends at `end`.
    pub fn new(file: Box<dyn File>, start: u64, end: u64, length: u64) -> Self {
        Writer {
            file,
            mark: Arc::default(),
            earlier: None,
            start,
            written: end,
            synced: start,
            length,
            pending: Pending::default(),
            held_since_ms: None,
            annotated_seconds: 0,
            is_torn: false,
        }
    }

    /// The offset of the stream at which the open file begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The offset behind the last byte written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that are in memory only.
    pub fn pending(&self) -> usize {
        self.pending.length
    }

    /// Does the file hold nothing but the stream?
    pub fn is_pure(&self) -> bool {
        self.written.checked_sub(self.start) == Some(self.length)
    }

    /// What is pending ends at `offset`, perhaps of another history. Then nothing of it counts as synced, nor does what is
    /// being synced.
    pub fn renumber(&mut self, offset: u64) {
        let written = offset.saturating_sub(self.pending.length as u64);
        if written == self.written {
            return;
        }
        self.written = written;
        self.synced = 0;
        self.mark = Arc::default();
        if let Some(earlier) = &mut self.earlier {
            (earlier.mark, earlier.end) = (Arc::default(), 0);
        }
    }

    // ---- Appending ----

    /// Takes bytes over: the next of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.push(bytes);
    }

    /// Appends to `out` up to `most` bytes of the stream from `offset` on that are in memory only.
    pub fn read_pending(&self, offset: u64, most: usize, out: &mut Vec<u8>) {
        let skip = offset.checked_sub(self.written).and_then(|skip| usize::try_from(skip).ok());
        if let Some(skip) = skip {
            self.pending.read(skip, most, out);
        }
    }

    /// May what is pending go to the file? Not while the disk is busy: a write to a file that is being synced waits as long
    /// as the sync takes.
    pub fn turn(&mut self, disk_is_busy: bool, now_ms: u64) -> Turn {
        if !disk_is_busy {
            return Turn::Now;
        }
        let since_ms = *self.held_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) < MOST_HELD_MS {
            return Turn::Later;
        }
        self.held_since_ms = None;
        Turn::Overdue
    }

    /// Writes all that is pending; after a failure the rest is still pending. `annotate`: with a line for the present second
    /// of the Unix clock before it, if that is a new one.
    pub fn write(&mut self, annotate: Option<u64>) -> io::Result<()> {
        while self.write_block(annotate)? {}
        Ok(())
    }

    /// The same for a part that takes no long time. `false`: nothing is pending.
    pub fn write_block(&mut self, annotate: Option<u64>) -> io::Result<bool> {
        if let Some(earlier) = &self.earlier {
            earlier.file.sync_data()?;
            self.settle_earlier();
        }
        if self.is_torn {
            self.file.truncate(self.length)?;
            self.is_torn = false;
        }
        let Some(block) = self.pending.blocks.front() else {
            self.held_since_ms = None;
            return Ok(false);
        };
        let annotate = annotate.filter(|now| self.annotated_seconds < *now);
        let appended = match annotate_and_append(&mut *self.file, annotate, block) {
            Ok(appended) => appended,
            Err(error) => {
                self.cut_off();
                return Err(error);
            }
        };
        self.annotated_seconds = annotate.unwrap_or(self.annotated_seconds);
        self.length += appended;
        self.written += block.len() as u64;
        self.pending.pop();
        Ok(true)
    }

    /// Cuts off what was written in part, so that the file ends with a whole unit.
    fn cut_off(&mut self) {
        self.is_torn = true;
        match self.file.truncate(self.length) {
            Ok(()) => self.is_torn = false,
            Err(error) => tracing::warn!("Could not remove short write from the append-only file: {error}"),
        }
    }

    // ---- Syncing ----

    /// Is everything that was written on the disk?
    pub fn is_synced(&self) -> bool {
        self.synced >= self.written
    }

    /// Brings what was written to the disk now.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Some(earlier) = &self.earlier {
            earlier.file.sync_data()?;
            self.settle_earlier();
        }
        self.file.sync_data()?;
        self.synced = self.written;
        Ok(())
    }

    /// What was written so far, to be brought to the disk by somebody else.
    pub fn begin_sync(&self) -> io::Result<Sync> {
        let earlier = self.earlier.as_ref().map(|earlier| earlier.file.duplicate()).transpose()?;
        let (file, mark) = (self.file.duplicate()?, self.mark.clone());
        Ok(Sync { earlier, file, mark, length: self.length, end: self.written })
    }

    /// It has run, and nothing failed. `false`: it was of files that have been given up since.
    pub fn end_sync(&mut self, sync: &Sync) -> bool {
        if Arc::ptr_eq(&sync.mark, &self.mark) {
            self.settle_earlier();
            self.synced = self.synced.max(sync.end);
            return true;
        }
        match &self.earlier {
            Some(earlier) if Arc::ptr_eq(&sync.mark, &earlier.mark) => {
                if sync.length == earlier.length {
                    self.settle_earlier();
                }
                true
            }
            _ => false,
        }
    }

    fn settle_earlier(&mut self) {
        if let Some(earlier) = self.earlier.take() {
            self.synced = self.synced.max(earlier.end);
        }
    }

    /// Goes on in `next`, an empty file that the manifest names already. Fails if something is pending, or if there is an earlier
    /// file that is not on the disk yet: then nothing has changed.
    pub fn rotate(&mut self, next: Box<dyn File>) -> io::Result<()> {
        if self.pending.length > 0 || self.is_torn || self.earlier.is_some() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let file = std::mem::replace(&mut self.file, next);
        let mark = std::mem::take(&mut self.mark);
        if !self.is_synced() {
            self.earlier = Some(Earlier { file, mark, length: self.length, end: self.written });
        }
        self.start = self.written;
        self.length = 0;
        self.annotated_seconds = 0;
        Ok(())
    }
}

fn annotate_and_append(file: &mut dyn File, annotate: Option<u64>, bytes: &[u8]) -> io::Result<u64> {
    let mut length = bytes.len();
    if let Some(now) = annotate {
        let annotation = annotation(now);
        append_all(file, annotation.as_bytes())?;
        length += annotation.len();
    }
    append_all(file, bytes)?;
    Ok(length as u64)
}

/// A line that loaders skip. Valkey's `valkey-check-aof --truncate-to-timestamp` goes by it.
pub fn annotation(unix_seconds: u64) -> String {
    format!("#TS:{unix_seconds}\r\n")
}
