//! CLIENT: what connections are and do.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::plain;
use crate::base::number::parse_i64;
use crate::command::{Argument, ArgumentKind, Command, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::server::Server;
use crate::server::call::Call;
use crate::server::client::{Client, Close, Traits, Unblock};
use crate::server::session::ReplyMode;
use crate::server::table::{HostCommand, HostOutcome};

const LOOKING: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE);
const CONNECTION: Flags = LOOKING.and(Flags::ALLOW_BUSY);

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "client",
    summary: "Connections: what they are and what they do.",
    since: "2.4.0",
    complexity: "Depends on subcommand",
    group: Group::Connection,
    ..Command::container(SUBCOMMANDS)
}];

const ON_OFF: &[Argument] = &[Argument::one_of("enabled", &[Argument::word("ON"), Argument::word("OFF")])];

const SUBCOMMANDS: &[HostCommand] = &[
    HostCommand {
        name: "id",
        summary: "The number of this connection.",
        since: "5.0.0",
        arity: 2,
        ..plain(Group::Connection, CONNECTION, |call| {
            Ok(Reply::Integer(call.session.client.number as i64).into())
        })
    },
    HostCommand {
        name: "info",
        summary: "What is known of this connection.",
        since: "6.2.0",
        arity: 2,
        tips: &["nondeterministic_output"],
        ..plain(Group::Connection, LOOKING, |call| {
            let line = describe(call.server(), &call.session.client) + "\n";
            Ok(Reply::Verbatim(*b"txt", line.into_bytes()).into())
        })
    },
    HostCommand {
        name: "list",
        summary: "What is known of all connections.",
        since: "2.4.0",
        complexity: "O(N), N being the number of connections",
        arity: -2,
        arguments: super::client_filters::LIST,
        tips: &["nondeterministic_output"],
        history: &[
            ("2.8.12", "Field id."),
            ("5.0.0", "Filter TYPE."),
            ("6.0.0", "Field user."),
            ("6.2.0", "Fields argv-mem, tot-mem, laddr and redir; filter ID."),
            ("7.0.0", "Fields resp, multi-mem, rbs and rbp."),
            ("7.0.3", "Field ssub."),
            ("8.0.0", "TYPE knows primary, the newer word for master."),
            ("8.1.0", "Filters USER, ADDR, LADDR, SKIPME and MAXAGE."),
            (
                "9.0.0",
                "Filters NAME, IDLE, FLAGS, LIB-NAME, LIB-VER, DB, CAPA and IP, and all filters negated by NOT-.",
            ),
        ],
        ..plain(Group::Connection, ADMIN, list)
    },
    HostCommand {
        name: "kill",
        summary: "Closes connections.",
        since: "2.4.0",
        complexity: "O(N), N being the number of connections",
        arity: -3,
        arguments: super::client_filters::KILL,
        history: &[
            ("2.8.12", "Filters."),
            ("2.8.12", "Filter ID."),
            ("3.2.0", "TYPE knows master."),
            ("5.0.0", "TYPE knows replica, the newer word for slave."),
            ("6.2.0", "Filter LADDR."),
            ("8.0.0", "Filter MAXAGE."),
            ("8.0.0", "TYPE knows primary, the newer word for master."),
            ("8.1.0", "ID takes several numbers."),
            (
                "9.0.0",
                "Filters NAME, IDLE, FLAGS, LIB-NAME, LIB-VER, DB, CAPA and IP, and all filters negated by NOT-.",
            ),
        ],
        ..plain(Group::Connection, ADMIN, kill)
    },
    HostCommand {
        name: "getname",
        summary: "The name of this connection.",
        since: "2.6.9",
        arity: 2,
        ..plain(Group::Connection, CONNECTION, |call| {
            let name = call.session.client.labels.lock().name.clone();
            Ok(if name.is_empty() { Reply::Nil } else { Reply::Owned(name) }.into())
        })
    },
    HostCommand {
        name: "setname",
        summary: "Names this connection.",
        since: "2.6.9",
        arity: 3,
        arguments: &[Argument::new("connection-name", ArgumentKind::String)],
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        ..plain(Group::Connection, CONNECTION, |call| {
            check_name(call.args[2])?;
            call.session.client.labels.lock().name = call.args[2].to_vec();
            Ok(Reply::Ok.into())
        })
    },
    HostCommand {
        name: "setinfo",
        summary: "Says which library, of which version, made this connection.",
        since: "7.2.0",
        arity: 4,
        arguments: &[Argument::one_of(
            "attr",
            &[
                Argument::new("libname", ArgumentKind::String).after("LIB-NAME"),
                Argument::new("libver", ArgumentKind::String).after("LIB-VER"),
            ],
        )],
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        ..plain(Group::Connection, CONNECTION, set_info)
    },
    HostCommand {
        name: "reply",
        summary: "Says whether this connection wants replies.",
        since: "3.2.0",
        arity: 3,
        arguments: &[Argument::one_of(
            "action",
            &[Argument::word("ON"), Argument::word("OFF"), Argument::word("SKIP")],
        )],
        ..plain(Group::Connection, CONNECTION.and(Flags::NO_MULTI), reply_mode)
    },
    HostCommand {
        name: "pause",
        summary: "Holds back the requests of all clients, or those that write, for a time.",
        since: "3.0.0",
        arity: -3,
        arguments: &[
            Argument::new("timeout", ArgumentKind::Integer),
            Argument::one_of("mode", &[Argument::word("WRITE"), Argument::word("ALL")])
                .since("6.2.0")
                .optional(),
        ],
        history: &[("6.2.0", "The mode, and with it WRITE.")],
        ..plain(Group::Connection, ADMIN, pause)
    },
    HostCommand {
        name: "unpause",
        summary: "Ends CLIENT PAUSE.",
        since: "6.2.0",
        complexity: "O(N), N being the number of clients held back",
        arity: 2,
        ..plain(Group::Connection, ADMIN, |call| {
            call.server().unpause_clients();
            Ok(Reply::Ok.into())
        })
    },
    HostCommand {
        name: "unblock",
        summary: "Ends the wait of a blocked client.",
        since: "5.0.0",
        complexity: "O(log N), N being the number of connections",
        arity: -3,
        arguments: &[
            Argument::new("client-id", ArgumentKind::Integer),
            Argument::one_of("unblock-type", &[Argument::word("TIMEOUT"), Argument::word("ERROR")])
                .optional(),
        ],
        ..plain(Group::Connection, ADMIN, unblock)
    },
    HostCommand {
        name: "no-evict",
        summary: "Protects this connection from eviction.",
        since: "7.0.0",
        arity: 3,
        arguments: ON_OFF,
        ..plain(Group::Connection, ADMIN.and(Flags::ALLOW_BUSY), |call| {
            let on = on_or_off(call)?;
            call.session.client.set(Traits::NO_EVICT, on);
            Ok(Reply::Ok.into())
        })
    },
    HostCommand {
        name: "no-touch",
        summary: "Says whether this connection's lookups count as uses of the keys.",
        since: "7.2.0",
        arity: 3,
        arguments: ON_OFF,
        ..plain(Group::Connection, CONNECTION, |call| {
            let on = on_or_off(call)?;
            call.session.touch = !on;
            call.session.client.set(Traits::NO_TOUCH, on);
            Ok(Reply::Ok.into())
        })
    },
    HostCommand {
        name: "capa",
        summary: "Announces what this client understands.",
        since: "8.0.0",
        arity: -3,
        arguments: &[Argument::new("capability", ArgumentKind::String).multiple()],
        ..plain(Group::Connection, CONNECTION, |call| {
            // Unknown capabilities are for newer servers.
            if call.args[2..].iter().any(|word| word.eq_ignore_ascii_case(b"redirect")) {
                call.session.redirect = true;
                call.session.client.set(Traits::REDIRECT_CAPABLE, true);
            }
            Ok(Reply::Ok.into())
        })
    },
    HostCommand {
        name: "getredir",
        summary: "Where this connection's invalidation messages go.",
        since: "6.0.0",
        arity: 2,
        ..plain(Group::Connection, CONNECTION, |call| {
            Ok(Reply::Integer(call.session.client.figures.redirect.load(Relaxed)).into())
        })
    },
    Command::help("5.0.0", Group::Connection, HELP),
];

const HELP: &[&str] = &[
    "CAPA <capability> [<capability> ...]",
    "    Announce what the client understands: REDIRECT (redirections while roles change).",
    "GETNAME",
    "    Return the name of this connection.",
    "GETREDIR",
    "    Return the client ID that invalidation messages are redirected to.",
    "ID",
    "    Return the ID of this connection.",
    "INFO",
    "    Return what is known of this connection.",
    "KILL <ip:port>",
    "    Close the connection from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Close the connections that fit all options. Options are those of LIST; SKIPME is yes unless said otherwise.",
    "LIST [<option> <value> ...]",
    "    Return what is known of the connections that fit all options: TYPE (NORMAL|PRIMARY|REPLICA|PUBSUB),",
    "    ID <client-id> [<client-id> ...], USER, ADDR, LADDR, SKIPME (YES|NO), MAXAGE, FLAGS, NAME, IDLE, LIB-NAME,",
    "    LIB-VER, DB, CAPA, IP.",
    "NO-EVICT (ON|OFF)",
    "    Protect this connection from eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Let lookups of this connection not count as uses.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Hold back all clients, or those that write, for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Say whether this connection wants replies.",
    "SETINFO <option> <value>",
    "    Say which library made this connection: LIB-NAME, LIB-VER.",
    "SETNAME <name>",
    "    Name this connection.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    End the wait of a blocked client.",
    "UNPAUSE",
    "    End the pause.",
];

/// May a connection have this name?
pub fn check_name(name: &[u8]) -> Result<(), ErrorReply> {
    if is_printable(name) {
        return Ok(());
    }
    Err(ErrorReply::new("ERR Client names cannot contain spaces, newlines or special characters."))
}

fn is_printable(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

fn on_or_off(call: &Call<'_, '_>) -> Result<bool, ErrorReply> {
    match call.args[2].to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(ErrorReply::SYNTAX),
    }
}

fn set_info(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let (option, value) = (call.args[2], call.args[3]);
    let mut labels = call.session.client.labels.lock();
    let (name, label) = match option.to_ascii_lowercase().as_slice() {
        b"lib-name" => ("lib-name", &mut labels.library_name),
        b"lib-ver" => ("lib-ver", &mut labels.library_version),
        _ => {
            let mut text = b"ERR Unrecognized option '".to_vec();
            text.extend_from_slice(option);
            text.push(b'\'');
            return Err(ErrorReply::from_text(text));
        }
    };
    if !is_printable(value) {
        return Err(ErrorReply::from_text(format!(
            "ERR {name} cannot contain spaces, newlines or special characters."
        )));
    }
    *label = value.to_vec();
    Ok(Reply::Ok.into())
}

fn reply_mode(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    match call.args[2].to_ascii_lowercase().as_slice() {
        b"on" => {
            call.session.reply_mode = ReplyMode::On;
            Ok(Reply::Ok.into())
        }
        b"off" => {
            call.session.reply_mode = ReplyMode::Off;
            Ok(Reply::None.into())
        }
        b"skip" => {
            if call.session.reply_mode != ReplyMode::Off {
                call.session.reply_mode = ReplyMode::SkipNext;
            }
            Ok(Reply::None.into())
        }
        _ => Err(ErrorReply::SYNTAX),
    }
}

fn pause(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let only_writes = match &call.args[3..] {
        [] => false,
        [mode] if mode.eq_ignore_ascii_case(b"write") => true,
        [mode] if mode.eq_ignore_ascii_case(b"all") => false,
        [_] => return Err(ErrorReply::new("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(ErrorReply::SYNTAX),
    };
    let Some(timeout_ms) = parse_i64(call.args[2]) else {
        return Err(ErrorReply::new("ERR timeout is not an integer or out of range"));
    };
    let Ok(timeout_ms) = u64::try_from(timeout_ms) else {
        return Err(ErrorReply::new("ERR timeout is negative"));
    };
    call.server().pause_clients(timeout_ms, only_writes);
    Ok(Reply::Ok.into())
}

fn unblock(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let how = match &call.args[3..] {
        [] => Unblock::TimedOut,
        [word] if word.eq_ignore_ascii_case(b"timeout") => Unblock::TimedOut,
        [word] if word.eq_ignore_ascii_case(b"error") => Unblock::Error,
        [_] => return Err(ErrorReply::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        _ => return Err(super::wrong_arguments(call)),
    };
    let Some(number) = parse_i64(call.args[2]) else { return Err(ErrorReply::NOT_AN_INTEGER) };
    let client = u64::try_from(number).ok().and_then(|number| call.server().clients.get(number));
    let waits = client.as_ref().is_some_and(|client| client.is(Traits::BLOCKED));
    if let Some(client) = client.filter(|_| waits) {
        client.unblock(how);
    }
    Ok(Reply::Integer(i64::from(waits)).into())
}

// ---- Choosing clients ----

/// Which connections LIST shows and KILL closes.
#[derive(Debug, Default)]
struct Filter {
    numbers: Option<Vec<u64>>,
    kind: Option<Kind>,
    user: Option<Vec<u8>>,
    address: Option<Vec<u8>>,
    local_address: Option<Vec<u8>>,
    ip: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    library_name: Option<Vec<u8>>,
    library_version: Option<Vec<u8>>,
    flags: Option<Vec<u8>>,
    redirect_capable: Option<bool>,
    database: Option<usize>,
    least_age_seconds: u64,
    least_idle_seconds: u64,
    skip: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Primary,
    Replica,
    PubSub,
}

impl Kind {
    fn parse(word: &[u8]) -> Result<Self, ErrorReply> {
        match word.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Kind::Normal),
            b"primary" | b"master" => Ok(Kind::Primary),
            b"replica" | b"slave" => Ok(Kind::Replica),
            b"pubsub" => Ok(Kind::PubSub),
            _ => {
                let mut text = b"ERR Unknown client type '".to_vec();
                text.extend_from_slice(word);
                text.push(b'\'');
                Err(ErrorReply::from_text(text))
            }
        }
    }

    fn of(client: &Client) -> Self {
        if client.is(Traits::PRIMARY) {
            Kind::Primary
        } else if client.is(Traits::REPLICA) {
            Kind::Replica
        } else if client.is(Traits::PUBSUB) {
            Kind::PubSub
        } else {
            Kind::Normal
        }
    }
}

impl Filter {
    fn parse(call: &Call<'_, '_>, mut options: &[&[u8]]) -> Result<Self, ErrorReply> {
        let mut filter = Filter::default();
        while let [option, value, rest @ ..] = options {
            options = rest;
            match option.to_ascii_lowercase().as_slice() {
                b"id" => {
                    let count = 1 + rest.iter().take_while(|word| parse_i64(word).is_some()).count();
                    let mut numbers = Vec::new();
                    for word in std::iter::once(value).chain(&rest[..count - 1]) {
                        match parse_i64(word).and_then(|number| u64::try_from(number).ok()).filter(|n| *n > 0)
                        {
                            Some(number) => numbers.push(number),
                            None => return Err(ErrorReply::new("ERR client-id should be greater than 0")),
                        }
                    }
                    filter.numbers = Some(numbers);
                    options = &rest[count - 1..];
                }
                b"type" => filter.kind = Some(Kind::parse(value)?),
                b"user" => {
                    if *value != b"default" && !call.executor.server.has_user(value) {
                        let mut text = b"ERR No such user '".to_vec();
                        text.extend_from_slice(value);
                        text.push(b'\'');
                        return Err(ErrorReply::from_text(text));
                    }
                    filter.user = Some(value.to_vec());
                }
                b"addr" => filter.address = Some(value.to_vec()),
                b"laddr" => filter.local_address = Some(value.to_vec()),
                b"ip" => filter.ip = Some(value.to_vec()),
                b"name" => filter.name = Some(value.to_vec()),
                b"lib-name" => filter.library_name = Some(value.to_vec()),
                b"lib-ver" => filter.library_version = Some(value.to_vec()),
                b"flags" => {
                    if let Some(unknown) = value.iter().find(|flag| !b"AbcdeioOPrSMtTBRuUxXNG".contains(flag))
                    {
                        return Err(ErrorReply::from_text(format!(
                            "ERR Unknown flags found in the provided filter: {}",
                            *unknown as char
                        )));
                    }
                    filter.flags = Some(value.to_vec());
                }
                b"capa" => filter.redirect_capable = Some(value.eq_ignore_ascii_case(b"r")),
                b"db" => {
                    filter.database =
                        Some(positive(value, "ERR DB is not an integer or out of range")? as usize)
                }
                b"maxage" => {
                    let number = parse_i64(value);
                    if number.is_some_and(|age| age <= 0) {
                        return Err(ErrorReply::new("ERR maxage should be greater than 0"));
                    }
                    filter.least_age_seconds =
                        positive(value, "ERR maxage is not an integer or out of range")?;
                }
                b"idle" => {
                    filter.least_idle_seconds = positive(value, "ERR idle is not an integer or out of range")?
                }
                b"skipme" => match value.to_ascii_lowercase().as_slice() {
                    b"yes" => filter.skip = Some(call.session.client.number),
                    b"no" => filter.skip = None,
                    _ => return Err(ErrorReply::SYNTAX),
                },
                _ => return Err(ErrorReply::SYNTAX),
            }
        }
        if options.is_empty() { Ok(filter) } else { Err(ErrorReply::SYNTAX) }
    }

    fn fits(&self, server: &Server, client: &Client) -> bool {
        let now_ms = server.now_ms();
        let labels = client.labels.lock();
        let same = |wanted: &Option<Vec<u8>>, is: &[u8]| wanted.as_ref().is_none_or(|wanted| wanted == is);
        let ip = client.address.rsplit_once(':').map_or("", |(ip, _)| ip);
        self.numbers.as_ref().is_none_or(|numbers| numbers.contains(&client.number))
            && self.kind.is_none_or(|kind| kind == Kind::of(client))
            && same(&self.user, &labels.user)
            && same(&self.address, client.address.as_bytes())
            && same(&self.local_address, client.local_address.as_bytes())
            && same(&self.ip, ip.as_bytes())
            && same(&self.name, &labels.name)
            && same(&self.library_name, &labels.library_name)
            && same(&self.library_version, &labels.library_version)
            && self
                .flags
                .as_ref()
                .is_none_or(|flags| flags.iter().all(|flag| letters(client).contains(*flag as char)))
            && self.redirect_capable.is_none_or(|capable| capable == client.is(Traits::REDIRECT_CAPABLE))
            && self.database.is_none_or(|database| database == client.figures.database.load(Relaxed))
            && now_ms.saturating_sub(client.created_ms) / 1000 >= self.least_age_seconds
            && idle_seconds(client, now_ms) >= self.least_idle_seconds
            && self.skip != Some(client.number)
    }
}

fn positive(text: &[u8], error: &'static str) -> Result<u64, ErrorReply> {
    parse_i64(text).and_then(|number| u64::try_from(number).ok()).ok_or(ErrorReply::new(error))
}

fn idle_seconds(client: &Client, now_ms: u64) -> u64 {
    now_ms.saturating_sub(client.figures.last_interaction_ms.load(Relaxed)) / 1000
}

fn list(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let filter = Filter::parse(call, &call.args[2..])?;
    let server = call.server();
    let mut lines = String::new();
    for client in server.clients.all() {
        if filter.fits(server, &client) {
            lines += &describe(server, &client);
            lines.push('\n');
        }
    }
    Ok(Reply::Verbatim(*b"txt", lines.into_bytes()).into())
}

fn kill(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server();
    let own = call.session.client.number;
    if let [address] = &call.args[2..] {
        let filter = Filter { address: Some(address.to_vec()), ..Filter::default() };
        let found = server.clients.all().into_iter().find(|client| filter.fits(server, client));
        let Some(client) = found else { return Err(ErrorReply::new("ERR No such client")) };
        client.close(if client.number == own { Close::AfterReplies } else { Close::Now });
        return Ok(Reply::Ok.into());
    }
    let mut filter = Filter { skip: Some(own), ..Filter::default() };
    let parsed = Filter::parse(call, &call.args[2..])?;
    let said = call.args[2..].chunks(2).any(|pair| pair[0].eq_ignore_ascii_case(b"skipme"));
    filter = Filter { skip: if said { parsed.skip } else { filter.skip }, ..parsed };
    let mut killed = 0;
    for client in server.clients.all().into_iter().filter(|client| filter.fits(server, client)) {
        client.close(if client.number == own { Close::AfterReplies } else { Close::Now });
        killed += 1;
    }
    Ok(Reply::Integer(killed).into())
}

/// The flags of a connection, one letter each; `N` if it has none.
fn letters(client: &Client) -> String {
    let known = [
        (Traits::MONITOR, 'O'),
        (Traits::REPLICA, 'S'),
        (Traits::PRIMARY, 'M'),
        (Traits::PUBSUB, 'P'),
        (Traits::MULTI, 'x'),
        (Traits::BLOCKED, 'b'),
        (Traits::TRACKING, 't'),
        (Traits::DIRTY_EXEC, 'd'),
        (Traits::CLOSE_AFTER_REPLY, 'c'),
        (Traits::CLOSE_ASAP, 'A'),
        (Traits::UNIX_SOCKET, 'U'),
        (Traits::READONLY, 'r'),
        (Traits::NO_EVICT, 'e'),
        (Traits::NO_TOUCH, 'T'),
    ];
    let letters: String =
        known.iter().filter(|(trait_, _)| client.is(*trait_)).map(|(_, letter)| *letter).collect();
    if letters.is_empty() { "N".into() } else { letters }
}

/// The line of CLIENT LIST, without its end.
pub fn describe(server: &Server, client: &Client) -> String {
    let figures = &client.figures;
    let labels = client.labels.lock().clone();
    let now_ms = server.now_ms();
    let buffered = figures.output_buffer.load(Relaxed) + client.mail_len();
    let query = figures.query_buffer.load(Relaxed);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let protocol = if client.protocol() == crate::protocol::Protocol::Resp3 { 3 } else { 2 };
    let mut line = format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} capa={} db={} sub={} psub={} ssub={} multi={} watch={}",
        client.number,
        client.address,
        client.local_address,
        client.descriptor,
        text(&labels.name),
        now_ms.saturating_sub(client.created_ms) / 1000,
        idle_seconds(client, now_ms),
        letters(client),
        if client.is(Traits::REDIRECT_CAPABLE) { "r" } else { "" },
        figures.database.load(Relaxed),
        figures.channels.load(Relaxed),
        figures.patterns.load(Relaxed),
        figures.shard_channels.load(Relaxed),
        figures.queued.load(Relaxed),
        figures.watched.load(Relaxed),
    );
    // Writing to a String cannot fail.
    let _ = write!(
        line,
        " qbuf={query} qbuf-free={} argv-mem={} multi-mem={} rbs=16384 rbp=16384 obl={} oll=0 omem={} tot-mem={} events={} cmd={} user={} redir={} resp={protocol} lib-name={} lib-ver={} tot-net-in={} tot-net-out={} tot-cmds={}",
        figures.query_buffer_free.load(Relaxed),
        figures.argument_bytes.load(Relaxed),
        figures.queued_bytes.load(Relaxed),
        buffered.min(16384),
        buffered.saturating_sub(16384),
        std::mem::size_of::<Client>() + query + buffered + figures.queued_bytes.load(Relaxed),
        if buffered > 0 { "rw" } else { "r" },
        server
            .table
            .entries()
            .get(figures.last_command.load(Relaxed) as usize)
            .map_or("NULL", |entry| &entry.full_name),
        text(&labels.user),
        figures.redirect.load(Relaxed),
        text(&labels.library_name),
        text(&labels.library_version),
        figures.bytes_in.load(Relaxed),
        figures.bytes_out.load(Relaxed),
        figures.commands.load(Relaxed),
    );
    line
}

/// What a paused, blocked or idle server does with clients that wait is counted in INFO clients.
pub fn blocked_count(clients: &[Arc<Client>]) -> usize {
    clients.iter().filter(|client| client.is(Traits::BLOCKED) || client.is(Traits::POSTPONED)).count()
}
