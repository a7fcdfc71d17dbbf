//! ACL: users and their rules. What a user is and how it is checked stands in `acl`; the users of the running server in
//! `server::users`.

use super::plain;
use crate::acl::{LogEntry, Reason, Selector, check, is_valid_name, save_file};
use crate::base::file::{self, SystemFileSystem};
use crate::base::number::parse_i64;
use crate::base::random::fill_secret;
use crate::command::{Argument, ArgumentKind, Categories, Command, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::server::Server;
use crate::server::admission::{find_entry, wrong_arity};
use crate::server::call::Call;
use crate::server::table::{Entry, HostCommand, HostOutcome};

const OPEN: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const ADMIN: Flags = OPEN.and(Flags::ADMIN);
const USER_NAME: Argument = Argument::new("username", ArgumentKind::String);

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "acl",
    summary: "Users, and what they may do.",
    since: "6.0.0",
    complexity: "Depends on subcommand",
    group: Group::Server,
    ..Command::container(&[
        HostCommand {
            name: "cat",
            summary: "The categories of commands, or the commands of a category.",
            since: "6.0.0",
            complexity: "O(1), the number of commands and categories being what it is",
            arity: -2,
            arguments: &[Argument::new("category", ArgumentKind::String).optional()],
            ..plain(Group::Server, OPEN, cat)
        },
        HostCommand {
            name: "deluser",
            summary: "Deletes users and ends their connections.",
            since: "6.0.0",
            complexity: "O(N), N being the number of users and of connections",
            arity: -3,
            arguments: &[USER_NAME.multiple()],
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..plain(Group::Server, ADMIN, delete)
        },
        HostCommand {
            name: "dryrun",
            summary: "Whether a user may make a call, without making it.",
            since: "7.0.0",
            complexity: "O(1)",
            arity: -4,
            arguments: &[
                USER_NAME,
                Argument::new("command", ArgumentKind::String),
                Argument::new("arg", ArgumentKind::String).optional().multiple(),
            ],
            ..plain(Group::Server, ADMIN, dry_run)
        },
        HostCommand {
            name: "genpass",
            summary: "A password that nobody can guess.",
            since: "6.0.0",
            arity: -2,
            arguments: &[Argument::new("bits", ArgumentKind::Integer).optional()],
            ..plain(Group::Server, OPEN, generate_password)
        },
        HostCommand {
            name: "getuser",
            summary: "The rules of a user.",
            since: "6.0.0",
            complexity: "O(N), N being the number of rules",
            arity: 3,
            arguments: &[USER_NAME],
            history: &[
                ("6.2.0", "Channel patterns."),
                ("7.0.0", "Selectors, and rules about keys and channels as they are written."),
                ("9.1.0", "Databases."),
            ],
            ..plain(Group::Server, ADMIN, get)
        },
        Command::help("6.0.0", Group::Server, HELP),
        HostCommand {
            name: "list",
            summary: "All users with their rules, as a file has them.",
            since: "6.0.0",
            complexity: "O(N), N being the number of users",
            arity: 2,
            ..plain(Group::Server, ADMIN, list)
        },
        HostCommand {
            name: "load",
            summary: "Reads the users from the ACL file.",
            since: "6.0.0",
            complexity: "O(N), N being the number of users",
            arity: 2,
            ..plain(Group::Server, ADMIN, load)
        },
        HostCommand {
            name: "log",
            summary: "Calls that were refused, and failed authentications.",
            since: "6.0.0",
            complexity: "O(N), N being the number of entries",
            arity: -2,
            arguments: &[Argument::one_of(
                "operation",
                &[Argument::new("count", ArgumentKind::Integer), Argument::word("RESET")],
            )
            .optional()],
            history: &[("7.2.0", "Each entry has a number, and when it was made and last changed.")],
            ..plain(Group::Server, ADMIN, log)
        },
        HostCommand {
            name: "save",
            summary: "Writes the users into the ACL file.",
            since: "6.0.0",
            complexity: "O(N), N being the number of users",
            arity: 2,
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..plain(Group::Server, ADMIN, save)
        },
        HostCommand {
            name: "setuser",
            summary: "Makes a user, or changes one.",
            since: "6.0.0",
            complexity: "O(N), N being the number of rules",
            arity: -3,
            arguments: &[USER_NAME, Argument::new("rule", ArgumentKind::String).optional().multiple()],
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            history: &[
                ("6.2.0", "Channel patterns."),
                ("7.0.0", "Selectors, and key patterns for reading or writing."),
                ("9.1.0", "Databases."),
            ],
            ..plain(Group::Server, ADMIN, set)
        },
        HostCommand {
            name: "users",
            summary: "The names of all users.",
            since: "6.0.0",
            complexity: "O(N), N being the number of users",
            arity: 2,
            ..plain(Group::Server, ADMIN, |call| {
                let users = call.server().users.current();
                let names = users.iter().map(|user| Reply::Owned(user.name.clone()));
                Ok(Reply::Array(names.collect()).into())
            })
        },
        HostCommand {
            name: "whoami",
            summary: "The user of this connection.",
            since: "6.0.0",
            arity: 2,
            ..plain(Group::Server, OPEN, |call| {
                Ok(Reply::Owned(call.session.identity.user().name.clone()).into())
            })
        },
    ])
}];

const HELP: &[&str] = &[
    "CAT [<category>]",
    "    Return all commands of <category>, or all categories.",
    "DELUSER <username> [<username> ...]",
    "    Delete users and end their connections.",
    "DRYRUN <username> <command> [<arg> ...]",
    "    Return whether the user may make this call, without making it.",
    "GETUSER <username>",
    "    Return the rules of a user.",
    "GENPASS [<bits>]",
    "    Return a password of 256 random bits, or of <bits>.",
    "LIST",
    "    Return all users with their rules, as a configuration file has them.",
    "LOAD",
    "    Read the users from the ACL file.",
    "LOG [<count> | RESET]",
    "    Return the latest refusals (10 unless given), or forget them.",
    "SAVE",
    "    Write the users into the ACL file.",
    "SETUSER <username> <rule> [<rule> ...]",
    "    Make a user with these rules, or apply them to one that there is.",
    "USERS",
    "    Return the names of all users.",
    "WHOAMI",
    "    Return the user of this connection.",
];

fn cat(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let table = call.server().table;
    let names = match &call.args[2..] {
        [] => Categories::NAMES.iter().map(|name| Reply::text(*name)).collect(),
        [name] => {
            let category = Categories::find(name).ok_or_else(|| {
                let shown = &name[..name.len().min(128)];
                ErrorReply::from_text([b"ERR Unknown category '".as_slice(), shown, b"'"].concat())
            })?;
            let members = table.entries().iter().filter(|entry| entry.categories.has(category));
            members.map(|entry| Reply::text(&*entry.full_name)).collect()
        }
        _ => return Err(super::wrong_subcommand_arguments(call)),
    };
    Ok(Reply::Array(names).into())
}

fn set(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let (name, rules) = (call.args[2], &call.args[3..]);
    if !is_valid_name(name) {
        return Err(ErrorReply::new("ERR Usernames can't contain spaces or null characters"));
    }
    call.server().set_user(&call.session.client, name, rules).map_err(error)?;
    Ok(Reply::Ok.into())
}

fn error(text: Vec<u8>) -> ErrorReply {
    ErrorReply::from_text([b"ERR ".as_slice(), &text].concat())
}

fn delete(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let names = &call.args[2..];
    if names.contains(&crate::acl::DEFAULT_USER) {
        return Err(ErrorReply::new("ERR The 'default' user cannot be removed"));
    }
    let deleted = call.server().delete_users(&call.session.client, names);
    Ok(Reply::Integer(deleted as i64).into())
}

fn get(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let users = call.server().users.current();
    let Some(user) = users.get(call.args[2]) else { return Ok(Reply::Nil.into()) };
    let flags = user.flags().into_iter().map(Reply::text).collect();
    let passwords = user.passwords().iter().map(|hash| Reply::text(hash.to_digits())).collect();
    let mut fields =
        vec![(Reply::text("flags"), Reply::Set(flags)), (Reply::text("passwords"), Reply::Array(passwords))];
    fields.extend(selector_fields(user.root()));
    let others = user.selectors().skip(1).map(|selector| Reply::Map(selector_fields(selector).collect()));
    fields.push((Reply::text("selectors"), Reply::Array(others.collect())));
    Ok(Reply::Map(fields).into())
}

fn selector_fields(selector: &Selector) -> impl Iterator<Item = (Reply<'static>, Reply<'static>)> {
    selector.fields().into_iter().map(|(name, value)| (Reply::text(name), Reply::Owned(value)))
}

fn list(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let lines = call.server().users.current().lines();
    let lines = lines.into_iter().map(|line| Reply::Owned([b"user ".as_slice(), &line].concat()));
    Ok(Reply::Array(lines.collect()).into())
}

fn dry_run(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server();
    let (name, args) = (call.args[2], &call.args[3..]);
    let users = server.users.current();
    let Some(user) = users.get(name) else {
        return Err(ErrorReply::from_text([b"ERR User '".as_slice(), name, b"' not found"].concat()));
    };
    let is_whole = |entry: &Entry| entry.subcommands.is_empty() || args.len() == 1;
    let Some(entry) = find_entry(server, args).filter(|entry| is_whole(entry)) else {
        return Err(ErrorReply::from_text([b"ERR Command '".as_slice(), args[0], b"' not found"].concat()));
    };
    if !entry.arity_fits(args.len()) {
        return Err(wrong_arity(entry));
    }
    let count = server.config().databases as usize;
    match check(user, entry, args, call.session.database, count) {
        Ok(()) => Ok(Reply::Ok.into()),
        Err(denial) => Ok(Reply::Owned(denial.full_message(user, entry, args)).into()),
    }
}

/// A password may have this many bits.
const MOST_BITS: i64 = 4096;

fn generate_password(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let bits = match &call.args[2..] {
        [] => 256,
        [bits] => parse_i64(bits).ok_or(ErrorReply::NOT_AN_INTEGER)?,
        _ => return Err(super::wrong_subcommand_arguments(call)),
    };
    if !(1..=MOST_BITS).contains(&bits) {
        return Err(ErrorReply::from_text(format!(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to {MOST_BITS}"
        )));
    }
    let digits = (bits as usize).div_ceil(4);
    let mut bytes = vec![0; digits.div_ceil(2)];
    fill_secret(&mut bytes).map_err(|error| {
        tracing::warn!("No source of randomness: {error}");
        ErrorReply::new("ERR no source of randomness")
    })?;
    let mut password: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    password.truncate(digits);
    Ok(Reply::text(password).into())
}

fn log(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server();
    let count = match &call.args[2..] {
        [] => 10,
        [word] if word.eq_ignore_ascii_case(b"reset") => {
            server.users.log().clear();
            return Ok(Reply::Ok.into());
        }
        [count] => parse_i64(count).ok_or(ErrorReply::NOT_AN_INTEGER)?,
        _ => return Err(super::wrong_subcommand_arguments(call)),
    };
    let now_ms = server.now_ms();
    let log = server.users.log();
    let entries = log.newest(usize::try_from(count).unwrap_or(0));
    Ok(Reply::Array(entries.map(|entry| log_entry(entry, now_ms)).collect()).into())
}

fn log_entry(entry: &LogEntry, now_ms: u64) -> Reply<'static> {
    let age_seconds = now_ms.saturating_sub(entry.updated_ms) as f64 / 1000.0;
    let number = |number: u64| Reply::Integer(number as i64);
    let fields = [
        ("count", number(entry.count)),
        ("reason", Reply::text(entry.reason.name())),
        ("context", Reply::text(entry.context.name())),
        ("object", Reply::Owned(entry.object.clone())),
        ("username", Reply::Owned(entry.user.clone())),
        ("age-seconds", Reply::Double(age_seconds)),
        ("client-info", Reply::text(&*entry.client)),
        ("entry-id", number(entry.number)),
        ("timestamp-created", number(entry.created_ms)),
        ("timestamp-last-updated", number(entry.updated_ms)),
    ];
    Reply::Map(fields.into_iter().map(|(name, value)| (Reply::text(name), value)).collect())
}

fn require_file(server: &Server) -> Result<(), ErrorReply> {
    if server.config().aclfile.is_empty() {
        return Err(ErrorReply::new(
            "ERR This instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER \
             command and then issue a CONFIG REWRITE (assuming you have a configuration file set) in order to store users \
             in the configuration.",
        ));
    }
    Ok(())
}

fn load(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    require_file(call.server())?;
    call.server().load_users(&call.session.client).map_err(error)?;
    Ok(Reply::Ok.into())
}

fn save(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server();
    require_file(server)?;
    let path = server.config().aclfile.as_path().to_owned();
    let mut temporary = path.clone().into_os_string();
    temporary.push(format!(".tmp-{}-{}", std::process::id(), server.now_ms()));
    let text = save_file(&server.users.current());
    file::replace(&SystemFileSystem, &path, temporary.as_ref(), &text).map_err(|error| {
        tracing::warn!("Writing ACL file for ACL SAVE: {error}");
        ErrorReply::new(
            "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
        )
    })?;
    Ok(Reply::Ok.into())
}

/// The lines of INFO stats about refusals.
pub const DENIED: [(Option<Reason>, &str); 6] = [
    (Some(Reason::Authentication), "auth"),
    (Some(Reason::Command), "cmd"),
    (Some(Reason::Key), "key"),
    (Some(Reason::Channel), "channel"),
    // There is no TLS, so nobody comes with a certificate.
    (None, "tls_cert"),
    (Some(Reason::Database), "db"),
];
