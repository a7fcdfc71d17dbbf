//! Streams: adding, trimming and deleting entries, reading them, and consumer groups.
//!
//! Invariants: replicas are told identifiers and lengths, never what stands for one that a clock or a limit chooses; what a
//! group's reader or claimant gets is told entry by entry, as the ownership that results.

mod arguments;
mod claim;
mod edit;
mod groups;
mod info;
mod pending;
mod range;
mod read;
mod table;
#[cfg(test)]
mod tests;

pub use table::COMMANDS;

use super::sets::element;
use crate::protocol::{ErrorReply, Reply};
use crate::types::stream::{StreamEntry, StreamId};

/// An identifier as clients get it.
fn id_reply(id: StreamId) -> Reply<'static> {
    Reply::Owned(id.text())
}

/// An entry as clients get it: its identifier and its fields.
fn entry_reply(entry: StreamEntry<'_>) -> Reply<'_> {
    let mut fields = Vec::with_capacity(2 * entry.fields.len());
    for (name, value) in entry.fields {
        fields.extend([element(name), element(value)]);
    }
    Reply::Array(vec![id_reply(entry.id), Reply::Array(fields)])
}

/// The error of a call that names a group which is not there.
fn no_group(key: &[u8], group: &[u8], where_asked: &[u8]) -> ErrorReply {
    let parts = [b"NOGROUP No such key '", key, b"' or consumer group '", group, b"'", where_asked];
    ErrorReply::from_text(parts.concat())
}

/// The same, of a call whose key is there.
fn no_group_of_key(key: &[u8], group: &[u8]) -> ErrorReply {
    let parts: [&[u8]; 5] = [b"NOGROUP No such consumer group '", group, b"' for key name '", key, b"'"];
    ErrorReply::from_text(parts.concat())
}

/// The error of a subcommand whose arguments are too many or not known.
fn wrong_subcommand_arguments(args: &[&[u8]]) -> ErrorReply {
    let container = args[0].to_ascii_uppercase();
    let parts: [&[u8]; 5] = [
        b"ERR unknown subcommand or wrong number of arguments for '",
        args[1],
        b"'. Try ",
        &container,
        b" HELP.",
    ];
    ErrorReply::from_text(parts.concat())
}
