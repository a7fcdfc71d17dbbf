//! A selector: a set of permissions that must allow a call as a whole. A user has one, and may have more of them.

use super::commands::Commands;
use super::patterns::{Channels, Databases, Keys};
use super::rules::{ChannelDefault, RuleError};
use crate::command::CommandTable;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    pub(super) commands: Commands,
    pub(super) keys: Keys,
    pub(super) channels: Channels,
    pub(super) databases: Databases,
}

impl Selector {
    /// Nothing is allowed, but channels where the configuration has it so.
    pub fn new(default: ChannelDefault) -> Self {
        Selector {
            commands: Commands::of_all(false),
            keys: Keys::NONE,
            channels: match default {
                ChannelDefault::All => Channels::All,
                ChannelDefault::None => Channels::NONE,
            },
            databases: Databases::All,
        }
    }

    /// Everything is allowed.
    pub fn everything() -> Self {
        Selector {
            commands: Commands::of_all(true),
            keys: Keys::All,
            channels: Channels::All,
            databases: Databases::All,
        }
    }

    /// Is there nothing that it does not allow?
    pub fn allows_everything(&self) -> bool {
        self.commands.are_all()
            && self.keys == Keys::All
            && self.channels == Channels::All
            && self.databases == Databases::All
    }

    /// Applies one rule. After an error it is as it was.
    pub fn apply<H>(&mut self, rule: &[u8], table: &CommandTable<H>) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        let after_prefix = |prefix: &[u8]| {
            let (start, rest) = rule.split_at_checked(prefix.len())?;
            start.eq_ignore_ascii_case(prefix).then_some(rest)
        };
        if is("allkeys") || is("~*") {
            self.keys = Keys::All;
        } else if is("resetkeys") {
            self.keys = Keys::NONE;
        } else if is("allchannels") || is("&*") {
            self.channels = Channels::All;
        } else if is("resetchannels") {
            self.channels = Channels::NONE;
        } else if is("alldbs") {
            self.databases = Databases::All;
        } else if is("resetdbs") {
            self.databases = Databases::NONE;
        } else if is("allcommands") || is("nocommands") {
            self.commands = Commands::of_all(is("allcommands"));
        } else if let Some(list) = after_prefix(b"db=") {
            self.databases = Databases::parse(list)?;
        } else {
            return match rule {
                [b'~' | b'%', ..] => self.keys.apply(rule),
                [b'&', pattern @ ..] => self.channels.apply(pattern),
                [sign @ (b'+' | b'-'), rest @ ..] => self.commands.apply(rest, *sign == b'+', table),
                _ => Err(RuleError::Syntax),
            };
        }
        Ok(())
    }

    /// The rules that make it, given to a new selector.
    pub fn describe(&self) -> Vec<u8> {
        let mut text = self.keys.describe();
        let mut add = |part: Vec<u8>| {
            if !part.is_empty() {
                if !text.is_empty() {
                    text.push(b' ');
                }
                text.extend_from_slice(&part);
            }
        };
        if self.channels != Channels::All {
            add(b"resetchannels".to_vec());
        }
        add(self.channels.describe());
        match &self.databases {
            Databases::All => {}
            Databases::Only(allowed) if allowed.is_empty() => add(b"resetdbs".to_vec()),
            only => add(only.describe()),
        }
        add(self.commands.describe());
        text
    }

    /// The fields of GETUSER.
    pub fn fields(&self) -> [(&'static str, Vec<u8>); 4] {
        [
            ("commands", self.commands.describe()),
            ("keys", self.keys.describe()),
            ("channels", self.channels.describe()),
            ("databases", self.databases.describe()),
        ]
    }
}
