//! CLIENT: what connections are and do.

use std::sync::Arc;

use crate::command::{Command, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::server::Server;
use crate::server::client::Client;
use crate::server::table::{HostCommand, HostHandler, PlainFn};

const LOOKING: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "client",
    summary: "Connections: what they are and what they do.",
    since: "2.4.0",
    complexity: "Depends on subcommand",
    group: Group::Connection,
    ..Command::container(&[HostCommand {
        name: "id",
        summary: "The number of this connection.",
        since: "5.0.0",
        arity: 2,
        ..command(LOOKING, |call| Ok(Reply::Integer(call.session.client.number as i64).into()))
    }])
}];

const fn command(flags: Flags, function: PlainFn) -> HostCommand {
    Command { group: Group::Connection, flags, ..Command::host(HostHandler::Plain(function)) }
}

/// May a connection have this name?
pub fn check_name(name: &[u8]) -> Result<(), ErrorReply> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err(ErrorReply::new("ERR Client names cannot contain spaces, newlines or special characters."))
}

/// The line of CLIENT LIST, without its end.
pub fn describe(_server: &Arc<Server>, client: &Client) -> String {
    format!("id={} addr={} laddr={}", client.number, client.address, client.local_address)
}
