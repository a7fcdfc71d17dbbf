//! MONITOR: shows its client every call from now on, until RESET or the end of the connection.

use crate::command::{Command, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::server::call::Call;
use crate::server::table::{HostCommand, HostHandler, HostOutcome};

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "monitor",
    summary: "Shows every call that the server takes.",
    complexity: "",
    group: Group::Server,
    arity: 1,
    flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE),
    ..Command::host(HostHandler::Plain(monitor))
}];

fn monitor(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    if call.executor.in_unit() {
        return Err(ErrorReply::new("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    call.server().monitors.add(&call.session.client);
    Ok(Reply::Ok.into())
}
