//! COMMAND: what commands there are, where a call's keys stand, and how each is documented. All of it is read from the
//! command table; nothing is said here of any one command.

use crate::base::glob::{self, Case};
use crate::command::{
    Argument, ArgumentKind, Audience, BeginSearch, Categories, Command, FindKeys, Flags, Group, KeySpec,
    KeyUse, key_range,
};
use crate::protocol::{ErrorReply, Reply};
use crate::server::Server;
use crate::server::admission::find_entry;
use crate::server::call::Call;
use crate::server::table::{Entry, HostCommand, HostHandler, HostOutcome, PlainFn};

const ALWAYS: Flags = Flags::LOADING.and(Flags::STALE);
const NAMES: Argument = Argument::new("command-name", ArgumentKind::String).optional().multiple();
const NONDETERMINISTIC: &[&str] = &["nondeterministic_output_order"];

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "command",
    summary: "What commands there are.",
    since: "2.8.13",
    complexity: "O(N), N being the number of commands",
    arity: -1,
    tips: NONDETERMINISTIC,
    subcommands: &[
        HostCommand {
            name: "count",
            summary: "How many commands there are.",
            since: "2.8.13",
            arity: 2,
            ..command(|call| Ok(Reply::Integer(call.server().table.commands().count() as i64).into()))
        },
        HostCommand {
            name: "docs",
            summary: "The documentation of commands.",
            since: "7.0.0",
            complexity: "O(N), N being the number of commands",
            arity: -2,
            tips: NONDETERMINISTIC,
            arguments: &[NAMES],
            ..command(docs)
        },
        HostCommand {
            name: "getkeys",
            summary: "The keys of a call.",
            since: "2.8.13",
            complexity: "O(N), N being the number of arguments",
            arity: -3,
            arguments: CALL,
            ..command(|call| keys(call, |key, _| key))
        },
        HostCommand {
            name: "getkeysandflags",
            summary: "The keys of a call, and what is done with each.",
            since: "7.0.0",
            complexity: "O(N), N being the number of arguments",
            arity: -3,
            arguments: CALL,
            ..command(|call| keys(call, |key, uses| Reply::Array(vec![key, key_uses(uses)])))
        },
        Command { categories: Categories::CONNECTION, ..Command::help("5.0.0", Group::Server, HELP) },
        HostCommand {
            name: "info",
            summary: "The flags, categories and keys of commands.",
            since: "2.8.13",
            complexity: "O(N), N being the number of commands",
            arity: -2,
            tips: NONDETERMINISTIC,
            history: &[("7.0.0", "Without names it answers all commands.")],
            arguments: &[NAMES],
            ..command(infos)
        },
        HostCommand {
            name: "list",
            summary: "The names of all commands, or of some.",
            since: "7.0.0",
            complexity: "O(N), N being the number of commands",
            arity: -2,
            tips: NONDETERMINISTIC,
            arguments: &[Argument::one_of(
                "filterby",
                &[
                    Argument::new("module-name", ArgumentKind::String).after("MODULE"),
                    Argument::new("category", ArgumentKind::String).after("ACLCAT"),
                    Argument::new("pattern", ArgumentKind::Pattern).after("PATTERN"),
                ],
            )
            .after("FILTERBY")
            .optional()],
            ..command(list)
        },
    ],
    ..command(|call| Ok(all_infos(call.server()).into()))
}];

const CALL: &[Argument] = &[
    Argument::new("command", ArgumentKind::String),
    Argument::new("arg", ArgumentKind::String).optional().multiple(),
];

const HELP: &[&str] = &[
    "(no subcommand)",
    "    Return the flags, categories and keys of all commands.",
    "COUNT",
    "    Return how many commands there are.",
    "LIST [FILTERBY <MODULE <name>|ACLCAT <category>|PATTERN <pattern>>]",
    "    Return the names of all commands, or of those that pass the filter.",
    "INFO [<command-name> ...]",
    "    Return the flags, categories and keys of the commands, or of all.",
    "DOCS [<command-name> ...]",
    "    Return the documentation of the commands, or of all.",
    "GETKEYS <command> [<arg> ...]",
    "    Return the keys of a call.",
    "GETKEYSANDFLAGS <command> [<arg> ...]",
    "    Return the keys of a call, and what is done with each.",
];

const fn command(function: PlainFn) -> HostCommand {
    Command {
        group: Group::Server,
        flags: ALWAYS,
        categories: Categories::CONNECTION,
        ..Command::host(HostHandler::Plain(function))
    }
}

fn infos(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server();
    if call.args.len() == 2 {
        return Ok(all_infos(server).into());
    }
    let of = |name: &&[u8]| server.table.find_full(name).map_or(Reply::NilArray, |entry| info(server, entry));
    Ok(Reply::Array(call.args[2..].iter().map(of).collect()).into())
}

fn all_infos(server: &Server) -> Reply<'static> {
    Reply::Array(server.table.commands().map(|entry| info(server, entry)).collect())
}

fn info(server: &Server, entry: &'static Entry) -> Reply<'static> {
    let range = key_range(entry.spec.keys);
    Reply::Array(vec![
        word(&entry.full_name),
        Reply::Integer(entry.spec.arity.into()),
        statuses(entry.flags.names().map(Into::into)),
        Reply::Integer(range.first as i64),
        Reply::Integer(range.last.into()),
        Reply::Integer(range.step as i64),
        statuses(entry.categories.names().map(|name| format!("@{name}").into())),
        Reply::Set(entry.spec.tips.iter().map(|tip| word(tip)).collect()),
        Reply::Set(entry.spec.keys.iter().map(key_spec).collect()),
        Reply::Array(entry.subcommands.iter().map(|id| info(server, server.table.entry(*id))).collect()),
    ])
}

fn word(text: &'static str) -> Reply<'static> {
    Reply::Bulk(text.as_bytes())
}

fn statuses(names: impl Iterator<Item = std::borrow::Cow<'static, str>>) -> Reply<'static> {
    Reply::Set(names.map(Reply::Status).collect())
}

fn key_uses(uses: KeyUse) -> Reply<'static> {
    statuses(uses.names().map(Into::into))
}

/// A map whose keys are words.
fn map<const N: usize>(fields: [(&'static str, Reply<'static>); N]) -> Reply<'static> {
    Reply::Map(fields.into_iter().map(|(name, value)| (word(name), value)).collect())
}

fn key_spec(spec: &'static KeySpec) -> Reply<'static> {
    let number = |number: usize| Reply::Integer(number as i64);
    let search = |kind, spec| map([("type", word(kind)), ("spec", spec)]);
    let begin = match spec.begin {
        BeginSearch::Index(index) => search("index", map([("index", number(index))])),
        BeginSearch::Keyword(keyword, from) => {
            search("keyword", map([("keyword", word(keyword)), ("startfrom", Reply::Integer(from.into()))]))
        }
        BeginSearch::Unknown => search("unknown", map([])),
    };
    let find = match spec.find {
        FindKeys::Range { last, step, limit } => search(
            "range",
            map([
                ("lastkey", Reply::Integer(last.into())),
                ("keystep", number(step)),
                ("limit", number(limit)),
            ]),
        ),
        FindKeys::Count { count, first, step } => search(
            "keynum",
            map([("keynumidx", number(count)), ("firstkey", number(first)), ("keystep", number(step))]),
        ),
        FindKeys::Unknown => search("unknown", map([])),
    };
    let mut fields = Fields::default();
    fields.text("notes", spec.note);
    fields.put("flags", key_uses(spec.uses));
    fields.put("begin_search", begin);
    fields.put("find_keys", find);
    fields.reply()
}

/// A map that is put together field by field; empty texts are left out.
#[derive(Default)]
struct Fields(Vec<(Reply<'static>, Reply<'static>)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: Reply<'static>) {
        self.0.push((word(name), value));
    }

    fn text(&mut self, name: &'static str, text: &'static str) {
        if !text.is_empty() {
            self.put(name, word(text));
        }
    }

    fn reply(self) -> Reply<'static> {
        Reply::Map(self.0)
    }
}

fn docs(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server();
    let entries: Vec<&'static Entry> = match &call.args[2..] {
        [] => server.table.commands().collect(),
        names => names.iter().filter_map(|name| server.table.find_full(name)).collect(),
    };
    Ok(documentation_of(server, entries.into_iter()).into())
}

fn documentation_of(server: &Server, entries: impl Iterator<Item = &'static Entry>) -> Reply<'static> {
    Reply::Map(entries.map(|entry| (word(&entry.full_name), documentation(server, entry))).collect())
}

fn documentation(server: &Server, entry: &'static Entry) -> Reply<'static> {
    let spec = &entry.spec;
    let mut fields = Fields::default();
    fields.text("summary", spec.summary);
    fields.text("since", spec.since);
    fields.text("group", spec.group.name());
    fields.text("complexity", spec.complexity);
    match spec.audience {
        Audience::Everybody => {}
        Audience::Servers => fields.put("doc_flags", statuses(std::iter::once("syscmd".into()))),
        Audience::Nobody { since, replaced_by } => {
            fields.put("doc_flags", statuses(std::iter::once("deprecated".into())));
            fields.text("deprecated_since", since);
            fields.text("replaced_by", replaced_by);
        }
    }
    if !spec.history.is_empty() {
        let change =
            |(version, text): &(&'static str, &'static str)| Reply::Array(vec![word(version), word(text)]);
        fields.put("history", Reply::Set(spec.history.iter().map(change).collect()));
    }
    if !spec.arguments.is_empty() {
        fields.put("arguments", arguments(spec.arguments, spec.keys.len(), &mut 0));
    }
    if !entry.subcommands.is_empty() {
        let children = entry.subcommands.iter().map(|id| server.table.entry(*id));
        fields.put("subcommands", documentation_of(server, children));
    }
    fields.reply()
}

/// `spec_count`: key specifications of the command. Its key arguments stand for them in order, the last one for all
/// keys that are left; `next_spec` is the one that is due.
fn arguments(arguments: &'static [Argument], spec_count: usize, next_spec: &mut usize) -> Reply<'static> {
    Reply::Array(arguments.iter().map(|each| argument(each, spec_count, next_spec)).collect())
}

fn argument(argument: &'static Argument, spec_count: usize, next_spec: &mut usize) -> Reply<'static> {
    let mut fields = Fields::default();
    // A pure token is named by its word.
    let name = || Reply::Owned(argument.name.to_ascii_lowercase().into_bytes());
    fields.put("name", name());
    fields.text("type", argument.kind.name());
    let is_group = matches!(argument.kind, ArgumentKind::OneOf | ArgumentKind::Block);
    if !is_group {
        fields.put("display_text", if argument.shown.is_empty() { name() } else { word(argument.shown) });
    }
    if let Some(index) = argument.key_spec {
        fields.put("key_spec_index", Reply::Integer(index.into()));
    } else if argument.kind == ArgumentKind::Key && spec_count > 0 {
        fields.put("key_spec_index", Reply::Integer((*next_spec).min(spec_count - 1) as i64));
        *next_spec += 1;
    }
    if argument.kind == ArgumentKind::PureToken {
        // It has one even if it is empty, as MIGRATE's in place of a key.
        fields.put("token", word(argument.token));
    } else {
        fields.text("token", argument.token);
    }
    fields.text("summary", argument.summary);
    fields.text("since", argument.since);
    fields.text("deprecated_since", argument.deprecated_since);
    let flags = [
        (argument.optional, "optional"),
        (argument.multiple, "multiple"),
        (argument.multiple_token, "multiple_token"),
    ];
    if flags.iter().any(|(is_set, _)| *is_set) {
        let names = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name.into());
        fields.put("flags", statuses(names));
    }
    if is_group {
        fields.put("arguments", arguments(argument.parts, spec_count, next_spec));
    }
    fields.reply()
}

type Filter = Box<dyn Fn(&Entry) -> bool>;

fn list(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let passes: Filter = match &call.args[2..] {
        [] => Box::new(|_| true),
        [by, kind, value] if by.eq_ignore_ascii_case(b"filterby") => {
            filter(kind, value).ok_or(ErrorReply::SYNTAX)?
        }
        _ => return Err(ErrorReply::SYNTAX),
    };
    let table = call.server().table;
    let mut names = Vec::new();
    for entry in table.commands() {
        let family = std::iter::once(entry).chain(entry.subcommands.iter().map(|id| table.entry(*id)));
        names.extend(family.filter(|entry| passes(entry)).map(|entry| word(&entry.full_name)));
    }
    Ok(Reply::Array(names).into())
}

fn filter(kind: &[u8], value: &[u8]) -> Option<Filter> {
    match kind.to_ascii_lowercase().as_slice() {
        // There are no modules.
        b"module" => Some(Box::new(|_| false)),
        b"aclcat" => {
            let category =
                Categories::NAMES.iter().position(|name| name.as_bytes().eq_ignore_ascii_case(value));
            Some(Box::new(move |entry| {
                category.is_some_and(|category| entry.categories.has(Categories(1 << category)))
            }))
        }
        b"pattern" => {
            let pattern = value.to_vec();
            Some(Box::new(move |entry| {
                glob::matches(&pattern, entry.full_name.as_bytes(), Case::Insensitive)
            }))
        }
        _ => None,
    }
}

/// Answers the keys of the call in the arguments, each shown by `show`.
fn keys(
    call: &mut Call<'_, '_>,
    show: fn(Reply<'static>, KeyUse) -> Reply<'static>,
) -> Result<HostOutcome, ErrorReply> {
    let args = &call.args[2..];
    let unknown = ErrorReply::new("ERR Invalid command specified");
    let entry = find_entry(call.server(), args).ok_or(unknown.clone())?;
    if !entry.subcommands.is_empty() && args.len() > 1 {
        return Err(unknown);
    }
    if !entry.has_keys() {
        return Err(ErrorReply::new("ERR The command has no key arguments"));
    }
    if !entry.arity_fits(args.len()) {
        return Err(ErrorReply::new("ERR Invalid number of arguments specified for command"));
    }
    match entry.keys(args) {
        Ok(keys) => {
            let show = |key: &crate::command::KeyPosition| {
                let text = args.get(key.index).map_or(Vec::new(), |key| key.to_vec());
                show(Reply::Owned(text), key.uses)
            };
            Ok(Reply::Array(keys.iter().map(show).collect()).into())
        }
        Err(()) if entry.flags.has(Flags::NO_MANDATORY_KEYS) => Ok(Reply::Array(Vec::new()).into()),
        Err(()) => Err(ErrorReply::new("ERR Invalid arguments specified for command")),
    }
}
