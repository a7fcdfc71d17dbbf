//! Which commands a selector allows: a bit per command, and the rules in their order as text.
//!
//! Invariant: the rules, applied in their order to the base (all or nothing), give the bits and the first arguments.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::RuleError;
use crate::command::{Categories, CommandId, CommandTable, Flags, TableEntry};

/// Commands that a set can hold. A table never has more; an id beyond would be allowed to nobody.
const CAPACITY: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
struct CommandSet([u64; CAPACITY / 64]);

impl CommandSet {
    fn of_all(all: bool) -> Self {
        CommandSet([if all { u64::MAX } else { 0 }; CAPACITY / 64])
    }

    fn contains(&self, id: CommandId) -> bool {
        let id = usize::from(id.0);
        self.0.get(id / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    fn set(&mut self, id: CommandId, to: bool) {
        let id = usize::from(id.0);
        if let Some(word) = self.0.get_mut(id / 64) {
            let bit = 1 << (id % 64);
            *word = if to { *word | bit } else { *word & !bit };
        }
    }
}

/// A rule as it is kept: `+get`, `-@write`, `+select|0`, without its sign.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CommandRule {
    allows: bool,
    text: Vec<u8>,
}

/// What a selector says about commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    allowed: CommandSet,
    /// Begins with everything, and no rule takes any of it away.
    everything: bool,
    /// Begins with `+@all`, not with `-@all`.
    from_all: bool,
    /// Forbidden commands that are allowed with one of these, in lower case, as their first argument.
    first_arguments: BTreeMap<CommandId, BTreeSet<Vec<u8>>>,
    rules: Vec<CommandRule>,
}

impl Commands {
    /// `+@all` or `-@all`.
    pub fn of_all(all: bool) -> Self {
        Commands {
            allowed: CommandSet::of_all(all),
            everything: all,
            from_all: all,
            first_arguments: BTreeMap::new(),
            rules: Vec::new(),
        }
    }

    /// Is every command allowed, whatever its arguments?
    pub fn are_all(&self) -> bool {
        self.everything
    }

    /// May the command be called with these arguments, so far as commands are concerned?
    pub fn allow<H>(&self, entry: &TableEntry<H>, args: &[&[u8]]) -> bool {
        self.everything
            || entry.flags.has(Flags::NO_AUTH)
            || self.allowed.contains(entry.id)
            || self.allow_first_argument(entry, args)
    }

    fn allow_first_argument<H>(&self, entry: &TableEntry<H>, args: &[&[u8]]) -> bool {
        let index = if entry.parent.is_some() { 2 } else { 1 };
        match (self.first_arguments.get(&entry.id), args.get(index)) {
            (Some(allowed), Some(first)) => allowed.contains(&first.to_ascii_lowercase()),
            _ => false,
        }
    }

    /// Applies a rule that begins with `+` or `-`, the sign being `allow`.
    pub fn apply<H>(&mut self, rule: &[u8], allow: bool, table: &CommandTable<H>) -> Result<(), RuleError> {
        if let Some(category) = rule.strip_prefix(b"@") {
            return self.apply_category(rule, category, allow, table);
        }
        match rule.iter().rposition(|byte| *byte == b'|') {
            Some(bar) if allow => self.allow_part(rule, bar, table),
            _ => {
                let entry = find(table, rule).ok_or(RuleError::UnknownCommand)?;
                self.change(entry, allow);
                self.note(entry.full_name.as_bytes(), allow);
                Ok(())
            }
        }
    }

    fn apply_category<H>(
        &mut self,
        rule: &[u8],
        name: &[u8],
        allow: bool,
        table: &CommandTable<H>,
    ) -> Result<(), RuleError> {
        if name.eq_ignore_ascii_case(b"all") {
            *self = Commands::of_all(allow);
            return Ok(());
        }
        let category = Categories::find(name).ok_or(RuleError::UnknownCommand)?;
        self.note(rule, allow);
        for entry in table.entries() {
            if entry.categories.has(category) {
                self.change(entry, allow);
            }
        }
        Ok(())
    }

    /// `+config|get`, or `+select|0`: a subcommand, or a command with a first argument. `bar` is where the last bar stands.
    fn allow_part<H>(&mut self, rule: &[u8], bar: usize, table: &CommandTable<H>) -> Result<(), RuleError> {
        let (name, part) = (&rule[..bar], &rule[bar + 1..]);
        let entry = find(table, name).ok_or(RuleError::UnknownCommand)?;
        if entry.parent.is_some() {
            return Err(RuleError::FirstArgumentOfSubcommand);
        }
        if part.is_empty() {
            return Err(RuleError::Syntax);
        }
        if entry.subcommands.is_empty() {
            // Such a rule could not be read again from the text it would leave.
            if part.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | 0 | 0x0b)) {
                return Err(RuleError::Syntax);
            }
            self.first_arguments.entry(entry.id).or_default().insert(part.to_ascii_lowercase());
        } else {
            let subcommand = find(table, rule).ok_or(RuleError::UnknownCommand)?;
            self.change(subcommand, true);
        }
        self.note(rule, true);
        Ok(())
    }

    /// A container's subcommands go with it.
    fn change<H>(&mut self, entry: &TableEntry<H>, allow: bool) {
        self.first_arguments.remove(&entry.id);
        for id in std::iter::once(&entry.id).chain(&entry.subcommands) {
            self.allowed.set(*id, allow);
        }
    }

    /// Keeps the text of a rule, in place of what it makes void: the same rule, and those for parts of its command.
    fn note(&mut self, rule: &[u8], allows: bool) {
        let text = rule.to_ascii_lowercase();
        let is_void = |old: &[u8]| {
            old.strip_prefix(text.as_slice()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"|"))
        };
        self.rules.retain(|old| !is_void(&old.text));
        self.rules.push(CommandRule { allows, text });
        self.everything = self.from_all && self.rules.iter().all(|rule| rule.allows);
    }

    /// The rules as they can be given again.
    pub fn describe(&self) -> Vec<u8> {
        let mut text = if self.from_all { b"+@all".to_vec() } else { b"-@all".to_vec() };
        for rule in &self.rules {
            text.extend_from_slice(if rule.allows { b" +" } else { b" -" });
            text.extend_from_slice(&rule.text);
        }
        text
    }
}

/// The command of a name as it was before any `rename-command`, in any case; subcommands as `parent|child`.
fn find<'t, H>(table: &'t CommandTable<H>, name: &[u8]) -> Option<&'t TableEntry<H>> {
    table.entries().iter().find(|entry| name.eq_ignore_ascii_case(entry.full_name.as_bytes()))
}
