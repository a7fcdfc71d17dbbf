//! Commands about the connection itself: PING, ECHO, AUTH, HELLO, SELECT, QUIT, RESET.

use std::sync::Arc;

use super::plain;
use crate::acl::{Context, DEFAULT_USER};
use crate::base::number::parse_i64;
use crate::command::{Argument, ArgumentKind, Categories, DatabaseArguments, Flags, Group};
use crate::protocol::{ErrorReply, Protocol, Reply};
use crate::server::Server;
use crate::server::call::Call;
use crate::server::client::{Close, Traits};
use crate::server::session::{ReplyMode, Session};
use crate::server::table::{HostCommand, HostOutcome};
use crate::server::users;

const ALWAYS: Flags = Flags::NOSCRIPT
    .and(Flags::LOADING)
    .and(Flags::STALE)
    .and(Flags::FAST)
    .and(Flags::NO_AUTH)
    .and(Flags::ALLOW_BUSY);

pub const COMMANDS: &[HostCommand] = &[
    HostCommand {
        name: "ping",
        summary: "Answers, so that the client knows the server is alive.",
        arity: -1,
        arguments: &[Argument::new("message", ArgumentKind::String).optional()],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        ..plain(Group::Connection, Flags::FAST, ping)
    },
    HostCommand {
        name: "echo",
        summary: "Answers with the given text.",
        arity: 2,
        arguments: &[Argument::new("message", ArgumentKind::String)],
        ..plain(Group::Connection, Flags::LOADING.and(Flags::STALE).and(Flags::FAST), |call| {
            Ok(Reply::Owned(call.args[1].to_vec()).into())
        })
    },
    HostCommand {
        name: "auth",
        summary: "Authenticates the connection.",
        complexity: "O(N), N being the number of passwords of the user",
        arity: -2,
        arguments: &[
            Argument::new("username", ArgumentKind::String).since("6.0.0").optional(),
            Argument::new("password", ArgumentKind::String),
        ],
        history: &[("6.0.0", "Takes the name of a user.")],
        ..plain(Group::Connection, ALWAYS, auth)
    },
    HostCommand {
        name: "hello",
        summary: "Chooses the protocol, and answers what the server is.",
        since: "6.0.0",
        arity: -1,
        arguments: &[Argument::block(
            "arguments",
            &[
                Argument::new("protover", ArgumentKind::Integer),
                Argument::block(
                    "auth",
                    &[
                        Argument::new("username", ArgumentKind::String),
                        Argument::new("password", ArgumentKind::String),
                    ],
                )
                .after("AUTH")
                .optional(),
                Argument::new("clientname", ArgumentKind::String).after("SETNAME").optional(),
            ],
        )
        .optional()],
        history: &[
            ("8.1.0", "The answer names the availability zone, if one is configured."),
            ("6.2.0", "The version may be left out, to ask only."),
        ],
        ..plain(Group::Connection, ALWAYS, hello)
    },
    HostCommand {
        name: "readonly",
        summary: "Lets this connection read from a replica.",
        since: "3.0.0",
        arity: 1,
        categories: Categories::CONNECTION,
        ..plain(Group::Cluster, READING_MODE, |call| set_readonly(call, true))
    },
    HostCommand {
        name: "readwrite",
        summary: "Takes READONLY back.",
        since: "3.0.0",
        arity: 1,
        categories: Categories::CONNECTION,
        ..plain(Group::Cluster, READING_MODE, |call| set_readonly(call, false))
    },
    HostCommand {
        name: "select",
        summary: "Selects the database that the connection works on.",
        arity: 2,
        databases: DatabaseArguments::At(&[1]),
        arguments: &[Argument::new("index", ArgumentKind::Integer)],
        ..plain(
            Group::Connection,
            Flags::ALLOW_BUSY.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST),
            select,
        )
    },
    HostCommand {
        name: "quit",
        summary: "Closes the connection.",
        arity: -1,
        ..plain(Group::Connection, ALWAYS, |call| {
            call.session.client.close(Close::AfterReplies);
            Ok(Reply::Ok.into())
        })
    },
    HostCommand {
        name: "reset",
        summary: "Puts the connection into the state of a new one.",
        since: "6.2.0",
        arity: 1,
        ..plain(Group::Connection, ALWAYS, reset)
    },
];

/// Of READONLY and READWRITE, made for clusters and of use to clients that announced `redirect` too.
const READING_MODE: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);

fn set_readonly(call: &mut Call<'_, '_>, on: bool) -> Result<HostOutcome, ErrorReply> {
    call.session.readonly = on;
    call.session.client.set(Traits::READONLY, on);
    Ok(Reply::Ok.into())
}

fn ping(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    if call.args.len() > 2 {
        return Err(super::wrong_arguments(call));
    }
    let message = call.args.get(1).map(|message| message.to_vec());
    if call.session.is_subscribed() && call.session.protocol() == Protocol::Resp2 {
        let message = Reply::Owned(message.unwrap_or_default());
        return Ok(Reply::Array(vec![Reply::Bulk(b"pong"), message]).into());
    }
    Ok(message.map_or(Reply::Status("PONG".into()), Reply::Owned).into())
}

fn auth(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let (user, password): (&[u8], &[u8]) = match call.args {
        [_, password] => {
            if call.server().users.current().default_user().no_password {
                return Err(ErrorReply::new(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure \
                     your configuration is correct?",
                ));
            }
            (DEFAULT_USER, password)
        }
        [_, user, password] => (user, password),
        _ => return Err(ErrorReply::SYNTAX),
    };
    authenticate(call, user, password)?;
    Ok(Reply::Ok.into())
}

fn authenticate(call: &mut Call<'_, '_>, user: &[u8], password: &[u8]) -> Result<(), ErrorReply> {
    let context = if call.executor.in_unit() { Context::Transaction } else { Context::TopLevel };
    users::authenticate(call.executor.server, call.session, call.args[0], user, password, context)
}

fn hello(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let args = call.args;
    let protocol = match args.get(1) {
        None => call.session.protocol(),
        Some(version) => match parse_i64(version) {
            None => return Err(ErrorReply::new("ERR Protocol version is not an integer or out of range")),
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(ErrorReply::new("NOPROTO unsupported protocol version")),
        },
    };
    let mut name = None;
    let mut credentials = None;
    let mut rest = args.get(2..).unwrap_or(&[]);
    while let Some((option, after)) = rest.split_first() {
        rest = match (option.to_ascii_uppercase().as_slice(), after) {
            (b"AUTH", [user, password, after @ ..]) => {
                credentials = Some((*user, *password));
                after
            }
            (b"SETNAME", [given, after @ ..]) => {
                super::client::check_name(given)?;
                name = Some(given.to_vec());
                after
            }
            _ => {
                let mut text = b"ERR Syntax error in HELLO option '".to_vec();
                text.extend_from_slice(option);
                text.push(b'\'');
                return Err(ErrorReply::from_text(text));
            }
        };
    }
    if let Some((user, password)) = credentials {
        authenticate(call, user, password)?;
    }
    if !call.session.authenticated && !call.server().users.are_open_to_all() {
        return Err(ErrorReply::new(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
             same time",
        ));
    }
    if let Some(name) = name {
        call.session.client.labels.lock().name = name;
    }
    if args.len() > 1 {
        call.session.set_protocol(protocol);
    }
    Ok(description(call.server(), call.session).into())
}

fn description(server: &Server, session: &Session) -> Reply<'static> {
    let compatible = server.config().extended_redis_compatibility;
    let (name, version) =
        if compatible { ("redis", "7.2.4") } else { ("valkey", super::super::command_line::VALKEY_VERSION) };
    let role = if server.conditions.has(crate::server::admission::Conditions::REPLICA) {
        "replica"
    } else {
        "master"
    };
    let protocol = if session.protocol() == Protocol::Resp3 { 3 } else { 2 };
    let field = |name: &'static [u8], value| (Reply::Bulk(name), value);
    Reply::Map(vec![
        field(b"server", Reply::text(name)),
        field(b"version", Reply::text(version)),
        field(b"proto", Reply::Integer(protocol)),
        field(b"id", Reply::Integer(session.client.number as i64)),
        field(b"mode", Reply::text("standalone")),
        field(b"role", Reply::text(role)),
        field(b"modules", Reply::Array(Vec::new())),
        field(b"availability_zone", Reply::Owned(server.config().availability_zone.as_bytes().to_vec())),
    ])
}

fn select(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let Some(index) = parse_i64(call.args[1]).and_then(|index| i32::try_from(index).ok()) else {
        return Err(ErrorReply::new("ERR value is not an integer or out of range"));
    };
    match usize::try_from(index) {
        Ok(index) if index < call.server().config().databases as usize => {
            call.session.select(index);
            Ok(Reply::Ok.into())
        }
        _ => Err(ErrorReply::new("ERR DB index is out of range")),
    }
}

fn reset(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let session = &mut *call.session;
    super::transactions::discard(call.executor.server, session);
    super::pubsub::leave(call.executor.server, session);
    call.executor.server.monitors.remove(&session.client);
    session.select(0);
    session.set_protocol(Protocol::Resp2);
    session.reply_mode = ReplyMode::On;
    session.readonly = false;
    session.redirect = false;
    session.touch = true;
    for trait_ in [Traits::READONLY, Traits::NO_EVICT, Traits::NO_TOUCH, Traits::REDIRECT_CAPABLE] {
        session.client.set(trait_, false);
    }
    let mut labels = session.client.labels.lock();
    labels.name.clear();
    drop(labels);
    users::begin(call.executor.server, session);
    Ok(Reply::Status("RESET".into()).into())
}

/// Takes an ending connection out of everything that knows it.
pub async fn leave(server: &Arc<Server>, session: &mut Session) {
    super::pubsub::leave(server, session);
    server.monitors.remove(&session.client);
    if session.client.is(Traits::BLOCKED) {
        server.forget_waiting(&session.client).await;
    }
    super::transactions::forget_watched(server, session);
}
