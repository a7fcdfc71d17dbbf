//! The command table: every command with what follows from it, found by name.
//!
//! Invariant: an entry's `flags` and `categories` hold everything derived; nobody outside derives them again.

use std::collections::HashMap;
use std::convert::Infallible;

use super::short_names::ShortNames;
use super::{Args, Categories, Command, Flags, Handler, KeyPosition, KeyUse, key_positions, key_range};

/// The number of an entry: dense from 0, the same through the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u16);

/// A command with all that follows from its constant.
#[derive(Debug)]
pub struct TableEntry<H: 'static> {
    pub id: CommandId,
    /// `get`, or `config|get` for a subcommand.
    pub full_name: String,
    /// `GET`, `CONFIG|GET`: as error texts and INFO do not need it, only COMMAND GETKEYS-like listings do.
    pub spec: Command<Infallible>,
    pub handler: Handler<H>,
    /// Declared and derived.
    pub flags: Flags,
    /// Declared and derived.
    pub categories: Categories,
    pub parent: Option<CommandId>,
    pub subcommands: Vec<CommandId>,
}

impl<H> TableEntry<H> {
    /// May this call change keys?
    pub fn writes(&self) -> bool {
        self.flags.has(Flags::WRITE)
    }

    /// May a call name keys?
    pub fn has_keys(&self) -> bool {
        self.spec.keys.iter().any(|spec| !spec.uses.has(KeyUse::NOT_KEY))
    }

    /// The keys that a call names, and what it does with each. `Err`: the arguments do not fit.
    #[expect(clippy::result_unit_err, reason = "the caller's error text says all there is")]
    pub fn keys(&self, args: &Args<'_>) -> Result<Vec<KeyPosition>, ()> {
        match self.spec.keys_of {
            Some(keys_of) => {
                let mut positions = Vec::new();
                keys_of(args, &mut positions);
                Ok(positions)
            }
            None => key_positions(self.spec.keys, args),
        }
    }

    /// Is `count`, the number of arguments with the name, right?
    pub fn arity_fits(&self, count: usize) -> bool {
        let arity = self.spec.arity;
        if arity >= 0 { count == arity as usize } else { count >= arity.unsigned_abs() as usize }
    }
}

/// All commands of a server.
#[derive(Debug)]
pub struct CommandTable<H: 'static> {
    entries: Vec<TableEntry<H>>,
    /// Lower-case names, without subcommands. Renamed commands are under their new name only.
    by_name: HashMap<Box<[u8]>, CommandId, foldhash::fast::RandomState>,
    /// The short ones of `by_name`.
    short_names: ShortNames,
    longest_name: usize,
}

impl<H: Copy> CommandTable<H> {
    /// Builds the table from the data families and the server's own.
    pub fn new(data: &[&'static [Command<Infallible>]], host: &[&'static [Command<H>]]) -> Self {
        let mut table = CommandTable {
            entries: Vec::new(),
            by_name: HashMap::default(),
            short_names: ShortNames::default(),
            longest_name: 0,
        };
        for command in data.iter().copied().flatten() {
            table.add(command, None, |handler| match handler {
                Handler::Read(function) => Handler::Read(function),
                Handler::Write(function) => Handler::Write(function),
                Handler::Caching(read, keep) => Handler::Caching(read, keep),
                Handler::Blocking(function) => Handler::Blocking(function),
                Handler::BlockingRead(function) => Handler::BlockingRead(function),
                Handler::Container => Handler::Container,
                Handler::Help(lines) => Handler::Help(lines),
            });
        }
        for command in host.iter().copied().flatten() {
            table.add(command, None, |handler| handler);
        }
        table.index_short_names();
        table
    }

    fn add<G: Copy>(
        &mut self,
        command: &'static Command<G>,
        parent: Option<CommandId>,
        convert: fn(Handler<G>) -> Handler<H>,
    ) -> CommandId {
        let id = CommandId(self.entries.len() as u16);
        let full_name = match parent {
            Some(parent) => format!("{}|{}", self.entry(parent).full_name, command.name),
            None => command.name.to_owned(),
        };
        let flags = derive_flags(command);
        let spec = Command { subcommands: &[], handler: Handler::Container, ..without_handler(command) };
        self.longest_name = self.longest_name.max(full_name.len());
        if parent.is_none() {
            let previous = self.by_name.insert(full_name.as_bytes().into(), id);
            assert!(previous.is_none(), "two commands named {full_name}");
        }
        self.entries.push(TableEntry {
            id,
            full_name,
            handler: convert(command.handler),
            flags,
            categories: derive_categories(&spec, flags, matches!(command.handler, Handler::Container)),
            spec,
            parent,
            subcommands: Vec::new(),
        });
        for subcommand in command.subcommands {
            let child = self.add(subcommand, Some(id), convert);
            self.entries[id.0 as usize].subcommands.push(child);
        }
        id
    }
}

impl<H> CommandTable<H> {
    pub fn entry(&self, id: CommandId) -> &TableEntry<H> {
        &self.entries[id.0 as usize]
    }

    /// The command `name` (any case), which is no subcommand.
    pub fn find(&self, name: &[u8]) -> Option<&TableEntry<H>> {
        if let Some(id) = self.short_names.get(name) {
            return Some(self.entry(id));
        }
        let mut lower = [0u8; 64];
        let lower = lower.get_mut(..name.len()).filter(|_| name.len() <= self.longest_name)?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.by_name.get(&*lower).map(|id| self.entry(*id))
    }

    /// The entry of a full name, `parent|child` for a subcommand.
    pub fn find_full(&self, name: &[u8]) -> Option<&TableEntry<H>> {
        match name.iter().position(|byte| *byte == b'|') {
            Some(bar) => self.subcommand(self.find(&name[..bar])?, &name[bar + 1..]),
            None => self.find(name),
        }
    }

    /// All commands that can be called, without subcommands, in the order of the table.
    pub fn commands(&self) -> impl Iterator<Item = &TableEntry<H>> {
        let mut ids: Vec<CommandId> = self.by_name.values().copied().collect();
        ids.sort_unstable();
        ids.into_iter().map(|id| self.entry(id))
    }

    /// The subcommand `name` (any case) of a container.
    pub fn subcommand(&self, container: &TableEntry<H>, name: &[u8]) -> Option<&TableEntry<H>> {
        container
            .subcommands
            .iter()
            .map(|id| self.entry(*id))
            .find(|entry| name.eq_ignore_ascii_case(entry.spec.name.as_bytes()))
    }

    /// All entries; subcommands follow their parents.
    pub fn entries(&self) -> &[TableEntry<H>] {
        &self.entries
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// `rename-command`: `new` empty takes the command away. `false`: no such command, or `new` is taken.
    pub fn rename(&mut self, old: &[u8], new: &[u8]) -> bool {
        let old = old.to_ascii_lowercase();
        let new = new.to_ascii_lowercase();
        if self.by_name.contains_key(&*new) || new.len() > 64 {
            return false;
        }
        let Some(id) = self.by_name.remove(&*old) else { return false };
        if !new.is_empty() {
            self.longest_name = self.longest_name.max(new.len());
            self.by_name.insert(new.into(), id);
        }
        self.index_short_names();
        true
    }

    fn index_short_names(&mut self) {
        self.short_names = ShortNames::of(self.by_name.iter().map(|(name, id)| (&**name, *id)));
    }
}

fn without_handler<G>(command: &Command<G>) -> Command<Infallible> {
    Command {
        name: command.name,
        summary: command.summary,
        since: command.since,
        complexity: command.complexity,
        group: command.group,
        arity: command.arity,
        flags: command.flags,
        categories: command.categories,
        unnamed_reads: command.unnamed_reads,
        channels: command.channels,
        databases: command.databases,
        keys: command.keys,
        keys_of: command.keys_of,
        arguments: command.arguments,
        tips: command.tips,
        audience: command.audience,
        history: command.history,
        subcommands: &[],
        handler: Handler::Container,
    }
}

fn derive_flags<G>(command: &Command<G>) -> Flags {
    let movable = if key_range(command.keys).is_whole { Flags::NONE } else { Flags::MOVABLE_KEYS };
    command.flags
        | movable
        | match command.handler {
            Handler::Read(_) => Flags::READONLY,
            Handler::Write(_) => Flags::WRITE,
            Handler::Caching(..) => Flags::READONLY | Flags::MAY_REPLICATE,
            Handler::Blocking(_) => Flags::WRITE | Flags::BLOCKING,
            Handler::BlockingRead(_) => Flags::READONLY | Flags::BLOCKING,
            Handler::Container | Handler::Help(_) | Handler::Host(_) => Flags::NONE,
        }
}

fn derive_categories(spec: &Command<Infallible>, flags: Flags, is_container: bool) -> Categories {
    let mut categories = spec.categories;
    if !is_container {
        categories = categories | spec.group.category();
    }
    let implied = [
        (Flags::WRITE, Categories::WRITE),
        (Flags::ADMIN, Categories::ADMIN | Categories::DANGEROUS),
        (Flags::PUBSUB, Categories::PUBSUB),
        (Flags::BLOCKING, Categories::BLOCKING),
        (Flags::FAST, Categories::FAST),
    ];
    for (flag, category) in implied {
        if flags.has(flag) {
            categories = categories | category;
        }
    }
    // A read-only script command reads no key of its own accord.
    if flags.has(Flags::READONLY) && !categories.has(Categories::SCRIPTING) {
        categories = categories | Categories::READ;
    }
    if !flags.has(Flags::FAST) {
        categories = categories | Categories::SLOW;
    }
    categories
}
