//! The AOF as the far end of the backlog: what has left memory is read from the incr files for the replicas that need it.
//!
//! Invariant: a file is read only where it holds the stream and nothing else. Files with annotations, and those of a history
//! that ended, are not.

use super::Server;
use crate::stream::aof::Place;

impl Server {
    /// The offset from which the AOF's files hold the stream without a gap up to its end. `None`: they hold none of it, or
    /// other bytes too.
    pub fn aof_readable_from(&self) -> Option<u64> {
        let aof = self.persistence.aof.lock();
        aof.as_ref().filter(|_| self.persistence.aof_synced.is_whole())?.readable_from()
    }

    /// Appends to `out` up to `most` bytes of the stream from `position` on, as the AOF's files hold them. `false`: they do
    /// not.
    pub fn read_aof(&self, position: u64, most: usize, out: &mut Vec<u8>) -> bool {
        let place = {
            let aof = self.persistence.aof.lock();
            let Some(aof) = &*aof else { return false };
            match aof.place_of(position) {
                None => return false,
                Some(Place::Memory) => {
                    let already = out.len();
                    aof.file.read_pending(position, most, out);
                    return out.len() > already;
                }
                Some(Place::File(place)) => place,
            }
        };
        place.read(most, out)
    }
}
