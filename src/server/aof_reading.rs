//! The AOF as the far end of the backlog: what has left memory is read from the incr files for the replicas that need it.
//!
//! Invariant: a file is read only where it holds the stream and nothing else. Files with annotations, and those of a history
//! that ended, are not.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use super::Server;
use crate::base::file::{FileSystem, Open, SystemFileSystem};
use crate::stream::aof::incr_name;

impl Server {
    fn incr_path(&self, sequence: u64) -> PathBuf {
        let config = self.config();
        let folder = config.appenddirname.to_str().into_owned();
        PathBuf::from(folder).join(incr_name(&config.appendfilename.to_str(), sequence))
    }

    /// The offset from which the AOF's files hold the stream without a gap up to its end. `None`: they hold none of it, or
    /// other bytes too.
    pub fn aof_readable_from(&self) -> Option<u64> {
        let is_whole = self.persistence.aof_history.load(Relaxed).is_multiple_of(2);
        let aof = self.persistence.aof.lock();
        let writer = aof.as_ref().filter(|_| is_whole)?;
        let mut from = None;
        let mut end = writer.file.written();
        for incr in writer.files_of_the_stream()?.iter().rev() {
            let length = std::fs::metadata(self.incr_path(incr.sequence)).ok().map(|metadata| metadata.len());
            if length.and_then(|length| incr.offset.checked_add(length)) != Some(end) {
                break;
            }
            (from, end) = (Some(incr.offset), incr.offset);
        }
        from
    }

    /// Appends to `out` up to `most` bytes of the stream from `position` on, as the AOF's files hold them. `false`: they do
    /// not.
    pub fn read_aof(&self, position: u64, most: usize, out: &mut Vec<u8>) -> bool {
        let (sequence, start, end) = {
            let aof = self.persistence.aof.lock();
            let Some(writer) = &*aof else { return false };
            let Some(incrs) = writer.files_of_the_stream() else { return false };
            if position >= writer.file.written() {
                let already = out.len();
                writer.file.read_pending(position, most, out);
                return out.len() > already;
            }
            let after = incrs.iter().position(|incr| incr.offset > position).unwrap_or(incrs.len());
            let Some(incr) = after.checked_sub(1).and_then(|index| incrs.get(index)) else { return false };
            (incr.sequence, incr.offset, incrs.get(after).map_or(writer.file.written(), |next| next.offset))
        };
        let Ok(file) = SystemFileSystem.open(&self.incr_path(sequence), Open::Read) else { return false };
        let left = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX);
        let already = out.len();
        out.resize(already + most.min(left), 0);
        let count = file.read_at(&mut out[already..], position - start).unwrap_or(0);
        out.truncate(already + count);
        count > 0
    }
}
