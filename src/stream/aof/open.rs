//! The AOF that is being written: its open file, and what its state file says, in step with the stream.
//!
//! Knows the order in which names, state and bytes change, and neither threads nor clocks: its driver locks, waits and retries.
//!
//! A dataset that takes the place of another begins a file that no manifest names: what the named ones hold stays as it is, by
//! its own name, until the new dataset's base is whole.
//!
//! Invariants: the state names the history of the named files' bytes, and no byte goes into one before the state on the disk
//! does so too; a file that no manifest names is in no state.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{AofError, AofFiles, IncrFiles, IncrStart, Kept, StreamState, Writer};
use crate::base::file::File;
use crate::stream::Stream;

/// The open AOF.
pub struct OpenAof {
    /// Manifest and state. Locked before the writer, and for as long as it takes to bring them to the disk, which those who
    /// append must not wait for.
    pub files: Arc<Mutex<AofFiles>>,
    pub file: Writer,
    incrs: IncrFiles,
    state: StreamState,
    /// Does the state file say what it must?
    state_is_stored: bool,
    /// No manifest names the file yet: its base is being written.
    awaits_base: bool,
}

impl std::fmt::Debug for OpenAof {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OpenAof").field("written", &self.file.written()).finish_non_exhaustive()
    }
}

impl OpenAof {
    /// Goes on with an AOF that was loaded, whose files begin where `starts` says, or that has a base only. The state on the
    /// disk is right when this returns, and the stream's bytes are collected.
    pub fn resume(
        mut files: AofFiles,
        stream: &mut Stream,
        starts: Vec<IncrStart>,
        is_replica: bool,
    ) -> Result<Self, AofError> {
        let (file, sequence) = match files.open_last_incr()? {
            Some(open) => open,
            None => files.begin_incr()?,
        };
        // What replicas have selected that go on from here is known only if the last bytes were a primary's.
        if !is_replica {
            stream.forget_selected();
        }
        let mut state = state_of(stream, starts);
        let length = file.len().unwrap_or(0);
        let offset = stream.offset();
        let start = match state.start_of(sequence) {
            Some(start) => start,
            None => {
                state.incrs.push(IncrStart { sequence, offset });
                offset
            }
        };
        files.save_state(&state)?;
        stream.start_aof();
        Ok(OpenAof {
            incrs: files.incr_files(),
            files: Arc::new(Mutex::new(files)),
            file: Writer::new(file, start, offset, length),
            state,
            state_is_stored: true,
            awaits_base: false,
        })
    }

    /// Begins one whose file gets a name with its first base, which holds what is in the dataset now.
    pub fn begin(
        files: Arc<Mutex<AofFiles>>,
        stream: &mut Stream,
        is_replica: bool,
    ) -> Result<Self, AofError> {
        let (file, incrs) = {
            let files = files.lock();
            (files.begin_unnamed_incr()?, files.incr_files())
        };
        if !is_replica {
            stream.forget_selected();
        }
        stream.start_aof();
        // What came before stands in the base.
        stream.take_for_aof();
        let start = stream.offset();
        Ok(OpenAof {
            incrs,
            files,
            file: Writer::new(file, start, start, 0),
            state: state_of(stream, Vec::new()),
            state_is_stored: true,
            awaits_base: true,
        })
    }

    pub fn awaits_base(&self) -> bool {
        self.awaits_base
    }

    /// What is to stand in the state file. `None`: the files in the folder are of an earlier AOF as long as this one has no name.
    pub fn state(&self) -> Option<&StreamState> {
        (!self.awaits_base).then_some(&self.state)
    }

    /// Brings the state to the disk after the history was noted. Until that succeeds nothing may be written.
    pub fn save_state(&mut self, files: &AofFiles) -> Result<(), AofError> {
        let saved = self.state().map_or(Ok(()), |state| files.save_state(state));
        self.state_is_stored = saved.is_ok();
        saved
    }

    /// May bytes go to the file? Not after a state that could not be saved: what the files hold would go by a wrong name.
    pub fn check_state(&self) -> io::Result<()> {
        if self.state_is_stored {
            return Ok(());
        }
        Err(io::Error::other("the state of the stream could not be saved"))
    }

    // ---- Reading ----

    /// The incr files with the offsets of the stream at which they begin, if each holds nothing but the stream from there to
    /// the beginning of the next, as far as is known.
    fn files_of_the_stream(&self) -> Option<&[IncrStart]> {
        (self.file.is_pure() && !self.awaits_base).then_some(&self.state.incrs)
    }

    /// The offset from which the files hold the stream without a gap up to its end. `None`: they hold none of it, or other
    /// bytes too.
    pub fn readable_from(&self) -> Option<u64> {
        let mut from = None;
        let mut end = self.file.written();
        for incr in self.files_of_the_stream()?.iter().rev() {
            let length = self.incrs.len(incr.sequence);
            if length.and_then(|length| incr.offset.checked_add(length)) != Some(end) {
                break;
            }
            (from, end) = (Some(incr.offset), incr.offset);
        }
        from
    }

    /// Where the stream's bytes from `position` on are. `None`: nowhere.
    pub fn place_of(&self, position: u64) -> Option<Place> {
        let incrs = self.files_of_the_stream()?;
        if position >= self.file.written() {
            return Some(Place::Memory);
        }
        let after = incrs.iter().position(|incr| incr.offset > position).unwrap_or(incrs.len());
        let incr = after.checked_sub(1).and_then(|index| incrs.get(index))?;
        let end = incrs.get(after).map_or(self.file.written(), |next| next.offset);
        Some(Place::File(PlaceInFile {
            files: self.incrs.clone(),
            sequence: incr.sequence,
            skip: position - incr.offset,
            left: end.saturating_sub(position),
        }))
    }

    // ---- Histories ----

    /// The stream has another name, and perhaps another offset. The bytes of the old one were handed over.
    pub fn note_history(&mut self, stream: &Stream) {
        self.file.renumber(stream.offset());
        self.state = state_of(stream, std::mem::take(&mut self.state.incrs));
    }

    // ---- Rewrites ----

    /// All that was handed over is written: it goes on in `next`, an empty file that the manifest names already.
    pub fn go_on_in(
        &mut self,
        next: Box<dyn File>,
        sequence: u64,
        stream: &mut Stream,
        is_replica: bool,
    ) -> io::Result<()> {
        // A replica's stream is its primary's and goes on as it is; the base says in which database.
        if !is_replica {
            stream.forget_selected();
        }
        self.file.rotate(next)?;
        self.state.incrs.push(IncrStart { sequence, offset: self.file.start() });
        Ok(())
    }

    /// A base is in place: some incr files are gone, or the open one has a name now.
    pub fn note_rewritten(&mut self, kept: Kept, named: Option<u64>) {
        if let Some(sequence) = named {
            self.state.incrs = vec![IncrStart { sequence, offset: self.file.start() }];
            self.awaits_base = false;
        } else if let Kept::From(first) = kept {
            self.state.incrs.retain(|incr| incr.sequence >= first);
        }
    }
}

/// Where bytes of the stream are.
pub enum Place {
    /// They are not written yet, if there are any: the [writer](OpenAof::file) has them.
    Memory,
    File(PlaceInFile),
}

/// In an incr file, from its byte `skip` on, `left` of them.
pub struct PlaceInFile {
    files: IncrFiles,
    sequence: u64,
    skip: u64,
    left: u64,
}

impl PlaceInFile {
    /// Appends up to `most` bytes to `out`. Nothing need be locked. `false`: there are none, any more.
    pub fn read(&self, most: usize, out: &mut Vec<u8>) -> bool {
        let Ok(file) = self.files.open(self.sequence) else { return false };
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let already = out.len();
        out.resize(already + most.min(left), 0);
        let count = file.read_at(&mut out[already..], self.skip).unwrap_or(0);
        out.truncate(already + count);
        count > 0
    }
}

fn state_of(stream: &Stream, incrs: Vec<IncrStart>) -> StreamState {
    StreamState {
        replid: stream.replid().to_vec(),
        replid2: stream.replid2().to_vec(),
        second_offset: stream.second_offset(),
        incrs,
    }
}
