//! The server's command table: the data families and the server's own, in one.

use super::call::{Call, Reads, Writes};
use super::commands;
use crate::command::{CommandTable, TableEntry};
use crate::protocol::{ErrorReply, Reply};

/// A command that needs the server.
pub type HostCommand = crate::command::Command<HostHandler>;
pub type Entry = TableEntry<HostHandler>;
pub type Table = CommandTable<HostHandler>;

pub type PlainFn = fn(&mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply>;
pub type ReadingFn = fn(&mut Call<'_, '_, Reads>) -> Result<HostOutcome, ErrorReply>;
pub type WritingFn = fn(&mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply>;
pub type ScriptFn = fn(&mut Call<'_, '_>) -> Result<super::script::ScriptRequest, ErrorReply>;

/// How the server runs a command of its own.
#[derive(Debug, Clone, Copy)]
pub enum HostHandler {
    /// At once, without the dataset.
    Plain(PlainFn),
    /// At once, while the dataset is held for reading.
    Reading(ReadingFn),
    /// At once, while the dataset is held for writing.
    Writing(WritingFn),
    /// As a script, which may take many slices.
    Script(ScriptFn),
    /// EXEC: runs other commands, scripts among them.
    Exec,
}

/// What a plain command came to.
#[derive(Debug)]
pub enum HostOutcome {
    Reply(Reply<'static>),
    /// The client waits; its reply comes by mail, or by the request when the time is over.
    Wait(super::blocking::Waiting),
    /// The connection becomes a replica's: after the handshake lines it carries a dataset and then the stream.
    Replicate(super::replicas::Handover),
}

impl From<Reply<'static>> for HostOutcome {
    fn from(reply: Reply<'static>) -> Self {
        HostOutcome::Reply(reply)
    }
}

/// Builds the table of all commands.
pub fn build() -> Table {
    CommandTable::new(crate::commands::FAMILIES, commands::FAMILIES)
}
