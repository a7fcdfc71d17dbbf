//! MIGRATE: moves keys to another server.
//!
//! **What waits.** The calling client waits, on its connection; other clients do not, and the reactor goes on: a thread
//! sends the values, which it shares with the dataset, while these may be read and written. When the target has
//! acknowledged them, the guard is taken and each key that is still what was sent is deleted. What has changed meanwhile is
//! sent again, and after [`ROUNDS`] rounds a last time while the dataset is held, so that no write that was acknowledged here
//! is lost. Within a transaction or a script, where nobody may come between, the dataset is held from the beginning:
//! everybody waits, as on Valkey always.
//!
//! Connections are kept for [`KEPT`] after their last use.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLockWriteGuard};

use super::writing;
use crate::base::number::parse_i64;
use crate::command::{
    Args, Argument, ArgumentKind, BeginSearch, Categories, FindKeys, Flags, Group, KeyPosition, KeySpec,
    KeyUse,
};
use crate::keyspace::{Entry, WriteTxn};
use crate::protocol::encode::append_command;
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::rdb;
use crate::server::Server;
use crate::server::admission::Conditions;
use crate::server::blocking::Waiting;
use crate::server::call::{Call, Writes};
use crate::server::client::{Client, Unblock};
use crate::server::commandstats;
use crate::server::core::Core;
use crate::server::execute::publish_unit;
use crate::server::session::Origin;
use crate::server::table::{HostCommand, HostOutcome};

const USES: KeyUse = KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::DELETE);

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "migrate",
    summary: "Moves keys to another server.",
    since: "2.6.0",
    complexity: "As DUMP and DEL here and RESTORE there, and O(N) for the bytes that are sent",
    arity: -6,
    categories: Categories::KEYSPACE.and(Categories::DANGEROUS),
    keys: &[
        KeySpec::one(3, USES),
        KeySpec {
            uses: USES.and(KeyUse::INCOMPLETE),
            begin: BeginSearch::Keyword("KEYS", -2),
            find: FindKeys::Range { last: -1, step: 1, limit: 0 },
            note: "",
        },
    ],
    keys_of: Some(keys_of),
    arguments: &[
        Argument::new("host", ArgumentKind::String),
        Argument::new("port", ArgumentKind::Integer),
        Argument::one_of(
            "key-selector",
            &[Argument::key(), Argument::new("empty-string", ArgumentKind::PureToken)],
        ),
        Argument::new("destination-db", ArgumentKind::Integer),
        Argument::new("timeout", ArgumentKind::Integer),
        Argument::word("COPY").since("3.0.0").optional(),
        Argument::word("REPLACE").since("3.0.0").optional(),
        Argument::one_of(
            "authentication",
            &[
                Argument::new("auth", ArgumentKind::String).shown("password").after("AUTH").since("4.0.7"),
                Argument::block(
                    "auth2",
                    &[
                        Argument::new("username", ArgumentKind::String),
                        Argument::new("password", ArgumentKind::String),
                    ],
                )
                .after("AUTH2")
                .since("6.0.0"),
            ],
        )
        .optional(),
        Argument::new("keys", ArgumentKind::Key)
            .shown("key")
            .key_spec(1)
            .after("KEYS")
            .since("3.0.6")
            .optional()
            .multiple(),
    ],
    tips: &["nondeterministic_output"],
    history: &[("3.0.0", "COPY and REPLACE."), ("3.0.6", "KEYS."), ("4.0.7", "AUTH."), ("6.0.0", "AUTH2.")],
    ..writing(Group::Generic, Flags::WRITE, migrate)
}];

/// Rounds in which values are sent that others may change meanwhile.
const ROUNDS: usize = 4;
/// How long a thread sleeps before it looks again whether writes are still paused.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a connection is kept after its last use.
const KEPT: Duration = Duration::from_secs(10);
/// How many are kept.
const MOST_KEPT: usize = 64;
/// The timeout of a call that gives none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest reply line that is taken, in bytes.
const MOST_REPLY: u64 = 64 * 1024;

/// Where the keys stand: in the third place, or behind KEYS.
fn keys_of(args: &Args<'_>, out: &mut Vec<KeyPosition>) {
    let mut index = 6;
    while let Some(word) = args.get(index) {
        match word.to_ascii_lowercase().as_slice() {
            b"keys" if args[3].is_empty() => {
                out.extend((index + 1..args.len()).map(|index| KeyPosition { index, uses: USES }));
                return;
            }
            // The call will be refused.
            b"keys" => return,
            b"auth" => index += 1,
            b"auth2" => index += 2,
            _ => {}
        }
        index += 1;
    }
    out.push(KeyPosition { index: 3, uses: USES });
}

/// What is asked for.
#[derive(Debug, Clone)]
struct Request {
    host: String,
    port: String,
    database: i64,
    timeout: Duration,
    copy: bool,
    replace: bool,
    /// The words behind AUTH.
    credentials: Vec<Vec<u8>>,
}

impl Request {
    /// The request, and the names of its keys.
    fn parse<'a>(args: &Args<'a>) -> Result<(Request, Vec<&'a [u8]>), ErrorReply> {
        let (mut copy, mut replace, mut credentials) = (false, false, Vec::new());
        let mut keys = vec![args[3]];
        let mut rest = &args[6..];
        while let Some((word, after)) = rest.split_first() {
            rest = match (word.to_ascii_lowercase().as_slice(), after) {
                (b"copy", _) => {
                    copy = true;
                    after
                }
                (b"replace", _) => {
                    replace = true;
                    after
                }
                (b"auth", [password, after @ ..]) => {
                    credentials = vec![password.to_vec()];
                    after
                }
                (b"auth2", [user, password, after @ ..]) => {
                    credentials = vec![user.to_vec(), password.to_vec()];
                    after
                }
                (b"keys", _) if !args[3].is_empty() => {
                    return Err(ErrorReply::new(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                    ));
                }
                (b"keys", _) => {
                    keys = after.to_vec();
                    &[]
                }
                _ => return Err(ErrorReply::SYNTAX),
            };
        }
        let timeout_ms = parse_i64(args[5]).ok_or(ErrorReply::NOT_AN_INTEGER)?;
        let timeout = u64::try_from(timeout_ms).ok().filter(|timeout_ms| *timeout_ms > 0);
        let request = Request {
            host: String::from_utf8_lossy(args[1]).into_owned(),
            port: String::from_utf8_lossy(args[2]).into_owned(),
            database: parse_i64(args[4]).ok_or(ErrorReply::NOT_AN_INTEGER)?,
            timeout: timeout.map_or(DEFAULT_TIMEOUT, Duration::from_millis),
            copy,
            replace,
            credentials,
        };
        Ok((request, keys))
    }

    fn target(&self) -> (String, String) {
        (self.host.clone(), self.port.clone())
    }
}

/// A key that is to be moved: its value as it was last seen, or that it is gone meanwhile.
#[derive(Clone)]
struct Item {
    key: Vec<u8>,
    value: Option<Entry>,
}

fn migrate(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let (request, keys) = Request::parse(call.args)?;
    let mut items = Vec::with_capacity(keys.len());
    let mut transaction = call.transaction();
    let now_ms = transaction.now_ms;
    for key in keys {
        if let Some(entry) = transaction.lookup(key) {
            items.push(Item { key: key.to_vec(), value: Some(entry.clone()) });
        }
    }
    if items.is_empty() {
        return Ok(Reply::Status("NOKEY".into()).into());
    }
    let server = call.server().clone();
    if call.executor.in_unit() || call.session.origin != Origin::Client {
        let sent = send(&server.migrations, &request, &items, request.replace, now_ms);
        if !request.copy {
            delete(&mut call.transaction(), &sent.acknowledged)?;
        }
        return sent.error.map_or(Ok(Reply::Ok.into()), Err);
    }
    let (database, client) = (call.session.database, call.session.client.clone());
    let begun = std::thread::Builder::new().name("migrate".into()).spawn(move || {
        let began = Instant::now();
        let reply = move_keys(&server, &request, database, items).map_or_else(Reply::Error, |()| Reply::Ok);
        answer(&server, &client, began.elapsed(), &reply);
    });
    if begun.is_err() {
        return Err(ErrorReply::new("IOERR error or timeout connecting to the client"));
    }
    Ok(HostOutcome::Wait(Waiting {
        timeout: None,
        on_timeout: Box::new(|_| {
            Reply::Error(ErrorReply::new("IOERR error or timeout reading to target instance"))
        }),
        interruptible: false,
    }))
}

fn answer(server: &Arc<Server>, client: &Arc<Client>, took: Duration, reply: &Reply<'_>) {
    commandstats::record_unblocked(server, client, took, reply);
    client.send(reply);
    client.unblock(Unblock::Answered);
}

/// Sends the items and deletes what has arrived, until nothing has changed meanwhile.
fn move_keys(
    server: &Arc<Server>,
    request: &Request,
    database: usize,
    mut items: Vec<Item>,
) -> Result<(), ErrorReply> {
    let mut failed = None;
    for round in 0.. {
        let mut held = (round == ROUNDS).then(|| writable(server));
        // What is sent again takes the place of what was sent before.
        let replace = request.replace || round > 0;
        let sent = send(&server.migrations, request, &items, replace, server.now_ms());
        failed = failed.or(sent.error);
        if request.copy {
            break;
        }
        let mut core = held.take().unwrap_or_else(|| writable(server));
        if server.is_replica() {
            // It is not this server's to delete keys any more.
            return Err(failed.unwrap_or_else(|| server.readonly_error()));
        }
        items = settle(server, &mut core, database, sent.acknowledged)?;
        if items.is_empty() {
            break;
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The dataset, when no pause forbids that it is changed: a failover counts on the stream standing still.
fn writable(server: &Server) -> RwLockWriteGuard<'_, Core> {
    loop {
        let core = server.core.write();
        if !server.conditions.has(Conditions::PAUSED) {
            return core;
        }
        drop(core);
        std::thread::sleep(PAUSE);
    }
}

/// Deletes what has arrived and has not changed. Returns what has.
fn settle(
    server: &Arc<Server>,
    core: &mut Core,
    database: usize,
    arrived: Vec<Item>,
) -> Result<Vec<Item>, ErrorReply> {
    let entries = core.keyspace.database(database);
    let mut again = Vec::new();
    let mut moved = Vec::new();
    for item in arrived {
        match (entries.get(&item.key), &item.value) {
            (None, None) => {}
            // Whoever changes an entry that the sender shares makes another one.
            (Some(now), Some(then)) if std::ptr::eq(now.key(), then.key()) => moved.push(item),
            (now, _) => again.push(Item { value: now.cloned(), key: item.key }),
        }
    }
    core.writes.effects.set_recording(core.stream.is_read());
    let mut transaction = WriteTxn::new(&mut core.keyspace, &mut core.writes, database, server.now_ms());
    let deleted = delete(&mut transaction, &moved);
    publish_unit(server, core);
    server.hand_over(core);
    deleted.map(|_| again)
}

fn delete(transaction: &mut WriteTxn<'_>, items: &[Item]) -> CommandResult<'static> {
    if items.is_empty() {
        return Ok(Reply::Ok);
    }
    let args: Vec<&[u8]> =
        std::iter::once(&b"DEL"[..]).chain(items.iter().map(|item| &item.key[..])).collect();
    transaction.call(&args, |transaction| {
        for key in &args[1..] {
            if transaction.delete(key) {
                transaction.count_changes(1);
            }
        }
        Ok(Reply::Ok)
    })
}

/// What became of the items that were sent.
struct Sent {
    acknowledged: Vec<Item>,
    error: Option<ErrorReply>,
}

/// Why nothing was acknowledged.
#[derive(Debug)]
enum Failure {
    Connecting,
    Writing(io::Error),
    Reading(io::Error),
}

impl Failure {
    /// A kept connection that was closed in the meantime is worth another attempt; what took too long is not.
    fn may_be_stale(&self) -> bool {
        match self {
            Failure::Connecting => false,
            Failure::Writing(error) | Failure::Reading(error) => {
                !matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
            }
        }
    }

    fn reply(&self) -> ErrorReply {
        ErrorReply::new(match self {
            Failure::Connecting => "IOERR error or timeout connecting to the client",
            Failure::Writing(_) => "IOERR error or timeout writing to target instance",
            Failure::Reading(_) => "IOERR error or timeout reading to target instance",
        })
    }
}

fn send(connections: &Connections, request: &Request, items: &[Item], replace: bool, now_ms: u64) -> Sent {
    let mut attempt = exchange(connections, request, items, replace, now_ms);
    if attempt.as_ref().is_err_and(Failure::may_be_stale) {
        attempt = exchange(connections, request, items, replace, now_ms);
    }
    attempt.unwrap_or_else(|failure| Sent { acknowledged: Vec::new(), error: Some(failure.reply()) })
}

fn exchange(
    connections: &Connections,
    request: &Request,
    items: &[Item],
    replace: bool,
    now_ms: u64,
) -> Result<Sent, Failure> {
    let mut connection = match connections.take(&request.target()) {
        Some(connection) => connection,
        None => Connection::open(request)?,
    };
    connection.set_timeout(request.timeout).map_err(Failure::Writing)?;
    let mut bytes = Vec::new();
    let has_credentials = !request.credentials.is_empty();
    if has_credentials {
        let words: Vec<&[u8]> =
            std::iter::once(&b"AUTH"[..]).chain(request.credentials.iter().map(Vec::as_slice)).collect();
        append_command(&mut bytes, &words);
    }
    let selects = connection.database != Some(request.database);
    if selects {
        append_command(&mut bytes, &[b"SELECT", request.database.to_string().as_bytes()]);
    }
    // One that has expired meanwhile is not sent, and counts as not there.
    let alive = |item: &&Item| {
        let at_ms = item.value.as_ref().and_then(Entry::expire_at_ms);
        at_ms.is_none_or(|at_ms| at_ms >= now_ms)
    };
    let items: Vec<&Item> = items.iter().filter(alive).collect();
    items.iter().for_each(|item| append_item(&mut bytes, item, replace, now_ms));
    connection.stream.get_mut().write_all(&bytes).map_err(Failure::Writing)?;
    drop(bytes);
    let mut refusals = Vec::new();
    for _ in 0..usize::from(has_credentials) + usize::from(selects) {
        let line = connection.read_line().map_err(Failure::Reading)?;
        refusals.extend(refusal_of(&line));
    }
    let mut sent = Sent { acknowledged: Vec::new(), error: None };
    for (index, item) in items.into_iter().enumerate() {
        let line = match connection.read_line() {
            Ok(line) => line,
            Err(error) if index == 0 => return Err(Failure::Reading(error)),
            Err(error) => {
                sent.error.get_or_insert_with(|| Failure::Reading(error).reply());
                return Ok(sent);
            }
        };
        match refusals.first().cloned().or_else(|| refusal_of(&line)) {
            None => sent.acknowledged.push(item.clone()),
            Some(refusal) => {
                sent.error.get_or_insert(refusal);
            }
        }
    }
    connection.database = sent.error.is_none().then_some(request.database);
    connections.keep(request.target(), connection);
    Ok(sent)
}

fn append_item(out: &mut Vec<u8>, item: &Item, replace: bool, now_ms: u64) {
    let Some(entry) = &item.value else { return append_command(out, &[b"DEL", &item.key[..]]) };
    // A time to live of 0 would be none.
    let ttl_ms = entry.expire_at_ms().map_or(0, |at_ms| at_ms.saturating_sub(now_ms).max(1)).to_string();
    let payload = rdb::dump(entry);
    let mut words: Vec<&[u8]> = vec![b"RESTORE", &item.key, ttl_ms.as_bytes(), &payload];
    if replace {
        words.push(b"REPLACE");
    }
    append_command(out, &words);
}

fn refusal_of(line: &[u8]) -> Option<ErrorReply> {
    let text = line.strip_prefix(b"-")?;
    let mut error = b"ERR Target instance replied with error: ".to_vec();
    error.extend_from_slice(text);
    Some(ErrorReply::from_text(error))
}

/// A connection to another server.
#[derive(Debug)]
struct Connection {
    stream: BufReader<TcpStream>,
    /// The database that is selected there, if that is known.
    database: Option<i64>,
    used: Instant,
}

impl Connection {
    fn open(request: &Request) -> Result<Connection, Failure> {
        let port: u16 = request.port.parse().map_err(|_| Failure::Connecting)?;
        let addresses = (request.host.as_str(), port).to_socket_addrs().map_err(|_| Failure::Connecting)?;
        let mut failure = Failure::Connecting;
        for address in addresses {
            match TcpStream::connect_timeout(&address, request.timeout) {
                Ok(stream) => {
                    // Without it everything works too, later.
                    let _ = stream.set_nodelay(true);
                    return Ok(Connection {
                        stream: BufReader::new(stream),
                        database: None,
                        used: Instant::now(),
                    });
                }
                // Valkey connects without waiting and sees a refusal when it writes.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    failure = Failure::Writing(error);
                }
                Err(_) => {}
            }
        }
        Err(failure)
    }

    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(Some(timeout))?;
        self.stream.get_ref().set_write_timeout(Some(timeout))
    }

    /// A line of the target's answer, without its end.
    fn read_line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        io::Read::take(&mut self.stream, MOST_REPLY).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(text) => Ok(text.to_vec()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Connections to targets of MIGRATE that are not in use.
#[derive(Debug, Default)]
pub struct Connections(Mutex<HashMap<(String, String), Connection>>);

impl Connections {
    fn take(&self, target: &(String, String)) -> Option<Connection> {
        self.0.lock().remove(target)
    }

    fn keep(&self, target: (String, String), mut connection: Connection) {
        connection.used = Instant::now();
        let mut kept = self.0.lock();
        if kept.len() >= MOST_KEPT
            && let Some(oldest) =
                kept.iter().min_by_key(|(_, connection)| connection.used).map(|(target, _)| target.clone())
        {
            kept.remove(&oldest);
        }
        kept.insert(target, connection);
    }

    /// Closes those that were not used for long.
    pub fn close_idle(&self) {
        self.0.lock().retain(|_, connection| connection.used.elapsed() < KEPT);
    }

    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
