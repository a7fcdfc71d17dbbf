//! Effects: what a write turn tells replicas and the AOF, as commands in canonical form.
//!
//! Invariants: effects are recorded in the order in which they happened; a unit is applied whole or not at all
//! by whoever receives it, so the stream wraps a unit of several commands in MULTI/EXEC.

use crate::protocol::encode::append_command;

/// The effects of one write turn (a command, a transaction, a script).
#[derive(Debug, Default)]
pub struct Effects {
    bytes: Vec<u8>,
    /// For each command its database and where its bytes end.
    commands: Vec<(usize, usize)>,
    /// Off while the stream itself is being applied, and when nobody listens.
    recording: bool,
    /// The script that runs asked that what it does now be told to nobody.
    muted: bool,
    /// Has the running command said how it is to be recorded?
    pub(super) stated: bool,
}

/// A finished unit, ready for the stream.
#[derive(Debug, Clone, Copy)]
pub struct Unit<'a> {
    bytes: &'a [u8],
    commands: &'a [(usize, usize)],
}

impl<'a> Unit<'a> {
    /// Each command with its database, as RESP arrays of bulk strings.
    pub fn commands(self) -> impl ExactSizeIterator<Item = (usize, &'a [u8])> {
        let mut start = 0;
        self.commands.iter().map(move |&(database, end)| {
            let command = &self.bytes[start..end];
            start = end;
            (database, command)
        })
    }

    pub fn is_empty(self) -> bool {
        self.commands.is_empty()
    }
}

impl Effects {
    pub fn is_recording(&self) -> bool {
        self.recording
    }

    pub fn set_recording(&mut self, recording: bool) {
        self.recording = recording;
    }

    /// Stops recording within the running unit, or goes on with it.
    pub fn set_muted(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// A command that the running unit does to the dataset.
    pub fn record(&mut self, database: usize, args: &[&[u8]]) {
        if self.recording && !self.muted {
            append_command(&mut self.bytes, args);
            self.commands.push((database, self.bytes.len()));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub fn unit(&self) -> Unit<'_> {
        Unit { bytes: &self.bytes, commands: &self.commands }
    }

    /// Forgets what was recorded, once the stream has it or a rollback made it void.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.commands.clear();
        self.muted = false;
        // One huge unit must not keep its memory for ever.
        self.bytes.shrink_to(1 << 20);
    }
}
