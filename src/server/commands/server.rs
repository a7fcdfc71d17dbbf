//! Commands about the server as a whole: COMMAND, TIME, SLOWLOG, ROLE, SHUTDOWN.

use super::plain;
use crate::base::number::parse_i64;
use crate::command::{Argument, ArgumentKind, Command, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::server::call::Call;
use crate::server::slow_log::SlowCall;
use crate::server::table::{HostCommand, HostOutcome};

const ADMIN: Flags = Flags::ADMIN.and(Flags::LOADING).and(Flags::STALE);

pub const COMMANDS: &[HostCommand] = &[
    HostCommand {
        name: "time",
        summary: "The server's clock: seconds, and microseconds of the second.",
        since: "2.6.0",
        arity: 1,
        ..plain(Group::Server, Flags::LOADING.and(Flags::STALE).and(Flags::FAST), |call| {
            let now_us = call.executor.now_us;
            let part = |number: u64| Reply::Owned(number.to_string().into_bytes());
            Ok(Reply::Array(vec![part(now_us / 1_000_000), part(now_us % 1_000_000)]).into())
        })
    },
    HostCommand {
        name: "slowlog",
        summary: "The log of slow commands.",
        since: "2.2.12",
        complexity: "Depends on subcommand",
        group: Group::Server,
        ..Command::container(&[
            HostCommand {
                name: "get",
                summary: "The newest slow commands.",
                since: "2.2.12",
                complexity: "O(N), N being the number of entries",
                arity: -2,
                arguments: &[Argument::new("count", ArgumentKind::Integer).optional()],
                ..plain(Group::Server, ADMIN, slowlog_get)
            },
            HostCommand {
                name: "len",
                summary: "How many slow commands are kept.",
                since: "2.2.12",
                arity: 2,
                ..plain(Group::Server, ADMIN, |call| {
                    Ok(Reply::Integer(call.server().slow_log.len() as i64).into())
                })
            },
            HostCommand {
                name: "reset",
                summary: "Forgets the slow commands.",
                since: "2.2.12",
                complexity: "O(N), N being the number of entries",
                arity: 2,
                ..plain(Group::Server, ADMIN, |call| {
                    call.server().slow_log.clear();
                    Ok(Reply::Ok.into())
                })
            },
            HostCommand {
                name: "help",
                summary: "What SLOWLOG understands.",
                since: "6.2.0",
                arity: 2,
                ..plain(Group::Server, Flags::LOADING.and(Flags::STALE), |call| {
                    Ok(super::help(call, SLOWLOG_HELP).into())
                })
            },
        ])
    },
];

const SLOWLOG_HELP: &[&str] = &[
    "GET [<count>]",
    "    Return the newest <count> entries (10 unless given, -1 means all). An entry is: its number, when it was,",
    "    how many microseconds it took, the arguments, the client's address and name.",
    "LEN",
    "    Return how many entries there are.",
    "RESET",
    "    Forget all entries.",
];

fn slowlog_get(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let count = match &call.args[2..] {
        [] => 10,
        [count] => match parse_i64(count) {
            Some(-1) => usize::MAX,
            Some(count @ 0..) => count as usize,
            _ => return Err(ErrorReply::new("ERR count should be greater than or equal to -1")),
        },
        _ => return Err(super::wrong_subcommand_arguments(call)),
    };
    let calls = call.server().slow_log.newest(count);
    Ok(Reply::Array(calls.into_iter().map(slow_call).collect()).into())
}

fn slow_call(call: SlowCall) -> Reply<'static> {
    Reply::Array(vec![
        Reply::Integer(call.number as i64),
        Reply::Integer(call.unix_seconds as i64),
        Reply::Integer(call.microseconds as i64),
        Reply::Array(call.args.into_iter().map(Reply::Owned).collect()),
        Reply::text(call.address),
        Reply::Owned(call.client_name),
    ])
}
