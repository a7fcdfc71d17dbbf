//! CONFIG: reading and changing directives while the server runs. What a directive is stands in `server::config`.

use super::{plain, writing};
use crate::base::file::SystemFileSystem;
use crate::command::{Argument, ArgumentKind, Command, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::server::Server;
use crate::server::admission::Conditions;
use crate::server::call::{Call, Writes};
use crate::server::client::Traits;
use crate::server::config::Access;
use crate::server::session::Session;
use crate::server::table::{HostCommand, HostOutcome};

const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE);

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "config",
    summary: "The configuration of the running server.",
    since: "2.0.0",
    complexity: "Depends on subcommand",
    group: Group::Server,
    ..Command::container(&[
        HostCommand {
            name: "get",
            summary: "The values of directives.",
            since: "2.0.0",
            complexity: "O(N), N being the number of directives",
            arity: -3,
            arguments: &[Argument::new("parameter", ArgumentKind::String).multiple()],
            history: &[("7.0.0", "Takes several patterns.")],
            ..plain(Group::Server, ADMIN, get)
        },
        HostCommand {
            name: "set",
            summary: "Changes directives, all of them or none.",
            since: "2.0.0",
            complexity: "O(N), N being the number of directives",
            arity: -4,
            arguments: &[Argument::block(
                "data",
                &[
                    Argument::new("parameter", ArgumentKind::String),
                    Argument::new("value", ArgumentKind::String),
                ],
            )
            .multiple()],
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            history: &[("7.0.0", "Sets several directives at once.")],
            ..writing(Group::Server, ADMIN, set)
        },
        HostCommand {
            name: "resetstat",
            summary: "Sets the counters of INFO to zero.",
            since: "2.0.0",
            arity: 2,
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..plain(Group::Server, ADMIN, |call| {
                call.server().reset_stats();
                Ok(Reply::Ok.into())
            })
        },
        HostCommand {
            name: "rewrite",
            summary: "Writes the configuration into its file.",
            since: "2.8.0",
            arity: 2,
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..plain(Group::Server, ADMIN, rewrite)
        },
        Command::help("5.0.0", Group::Server, HELP),
    ])
}];

const HELP: &[&str] = &[
    "GET <pattern> [<pattern> ...]",
    "    Return the directives that match <pattern>, and their values.",
    "SET <directive> <value> [<directive> <value> ...]",
    "    Change directives: all of them, or none.",
    "RESETSTAT",
    "    Set the counters of INFO to zero.",
    "REWRITE",
    "    Write the configuration into the file that the server was started with.",
];

fn get(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let found = call.server().config().get(&call.args[2..]);
    let pairs = found.into_iter().map(|(name, value)| (Reply::Owned(name), Reply::Owned(value)));
    Ok(Reply::Map(pairs.collect()).into())
}

fn set(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    if !call.args.len().is_multiple_of(2) {
        return Err(super::wrong_arguments(call));
    }
    let server = call.server();
    let pairs: Vec<(&[u8], &[u8])> = call.args[2..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let access = Access {
        is_local: is_local(call.session),
        is_loading: server.conditions.has(Conditions::LOADING | Conditions::ASYNC_LOADING),
    };
    let executor = &mut *call.executor;
    server.config.set(&pairs, access, &mut |change, config| server.apply(executor, change.effect, config))?;
    server.refresh();
    let settings = crate::server::keyspace_settings(&server.config());
    let core = call.core_mut();
    if *core.keyspace.settings() != settings {
        core.keyspace.set_settings(settings);
    }
    Ok(Reply::Ok.into())
}

/// Is the client on this machine?
pub fn is_local(session: &Session) -> bool {
    let address = &session.client.address;
    session.client.is(Traits::UNIX_SOCKET) || address.starts_with("127.") || address.starts_with("[::1]")
}

fn rewrite(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    rewrite_file(call.server(), false)
}

/// CONFIG REWRITE; with `force_all` directives at their defaults are written too.
pub fn rewrite_file(server: &Server, force_all: bool) -> Result<HostOutcome, ErrorReply> {
    let Some(path) = &server.config_file else {
        return Err(ErrorReply::new("ERR The server is running without a config file"));
    };
    let users = server.users.current().lines();
    match server.write_role(|| server.config().rewrite(&SystemFileSystem, path, &users, force_all)) {
        Ok(()) => {
            tracing::info!("CONFIG REWRITE executed with success.");
            Ok(Reply::Ok.into())
        }
        Err(error) => {
            tracing::warn!("CONFIG REWRITE failed: {error}");
            Err(ErrorReply::from_text(format!("ERR Rewriting config file: {error}")))
        }
    }
}
