//! The commands that need the server, one file per family: functions and their `COMMANDS`.

pub mod acl;
pub mod client;
mod client_filters;
pub mod cluster;
pub mod command;
pub mod commandlog;
pub mod config;
pub mod connection;
pub mod debug;
pub mod dump;
pub mod functions;
pub mod hyperloglog;
pub mod info;
pub mod latency;
pub mod memory;
pub mod migrate;
pub mod monitor;
pub mod persistence;
pub mod pubsub;
pub mod replication;
pub mod scripting;
pub mod server;
pub mod transactions;

use super::call::Call;
use super::table::{HostCommand, HostHandler, PlainFn, ReadingFn, WritingFn};
use crate::command::{Command, Flags, Group};
use crate::protocol::ErrorReply;

/// All families; a new file is added here.
pub const FAMILIES: &[&[HostCommand]] = &[
    connection::COMMANDS,
    acl::COMMANDS,
    client::COMMANDS,
    cluster::COMMANDS,
    command::COMMANDS,
    commandlog::COMMANDS,
    config::COMMANDS,
    debug::COMMANDS,
    dump::COMMANDS,
    functions::COMMANDS,
    hyperloglog::COMMANDS,
    info::COMMANDS,
    latency::COMMANDS,
    memory::COMMANDS,
    migrate::COMMANDS,
    monitor::COMMANDS,
    persistence::COMMANDS,
    server::COMMANDS,
    pubsub::COMMANDS,
    replication::COMMANDS,
    scripting::COMMANDS,
    transactions::COMMANDS,
];

/// A command that never looks at the dataset.
pub const fn plain(group: Group, flags: Flags, function: PlainFn) -> HostCommand {
    Command { group, flags, ..Command::host(HostHandler::Plain(function)) }
}

/// A command that reads the dataset.
pub const fn reading(group: Group, flags: Flags, function: ReadingFn) -> HostCommand {
    Command { group, flags, ..Command::host(HostHandler::Reading(function)) }
}

/// A command that changes the dataset, or what changes in step with it.
pub const fn writing(group: Group, flags: Flags, function: WritingFn) -> HostCommand {
    Command { group, flags, ..Command::host(HostHandler::Writing(function)) }
}

/// The error of a call with a number of arguments that its arity allows and its syntax does not.
pub fn wrong_arguments<Access>(call: &Call<'_, '_, Access>) -> ErrorReply {
    crate::server::admission::wrong_arity(call.entry)
}

/// The same, where the subcommand is named and HELP is pointed at.
pub fn wrong_subcommand_arguments<Access>(call: &Call<'_, '_, Access>) -> ErrorReply {
    let subcommand = String::from_utf8_lossy(call.args.get(1).copied().unwrap_or(b""));
    let name = String::from_utf8_lossy(call.args[0]).to_uppercase();
    ErrorReply::from_text(format!(
        "ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try {name} HELP."
    ))
}
