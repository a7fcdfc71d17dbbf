//! TIME, and LOLWUT.

use crate::command::{Argument, ArgumentKind, Command, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::server::call::Call;
use crate::server::lolwut;
use crate::server::table::{HostCommand, HostHandler, HostOutcome};

pub const COMMANDS: &[HostCommand] = &[
    HostCommand {
        name: "time",
        summary: "The server's clock: seconds, and microseconds of the second.",
        since: "2.6.0",
        group: Group::Server,
        arity: 1,
        flags: Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
        tips: &["nondeterministic_output"],
        ..Command::host(HostHandler::Plain(time))
    },
    HostCommand {
        name: "lolwut",
        summary: "Draws something, and says which version this is.",
        since: "5.0.0",
        complexity: "",
        group: Group::Server,
        arity: -1,
        flags: Flags::READONLY.and(Flags::FAST),
        arguments: &[Argument::new("version", ArgumentKind::Integer).after("VERSION").optional()],
        ..Command::host(HostHandler::Plain(|call| {
            let text = lolwut::answer(&call.args[1..])?;
            Ok(Reply::Verbatim(*b"txt", text.into_bytes()).into())
        }))
    },
];

fn time(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let now_us = call.executor.now_us;
    let part = |number: u64| Reply::Owned(number.to_string().into_bytes());
    Ok(Reply::Array(vec![part(now_us / 1_000_000), part(now_us % 1_000_000)]).into())
}
