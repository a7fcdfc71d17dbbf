//! The question of access control: may this user make this call?
//!
//! A call must be allowed as a whole by one selector. Within a selector databases are looked at first, then the command,
//! keys and channels; where several selectors refuse, the reason that got farthest is told.

use super::selector::Selector;
use super::user::User;
use crate::command::{Args, Categories, ChannelArguments, Flags, KeyPosition, KeyUse, TableEntry};

/// What is refused, in the order in which reasons outweigh each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Database,
    Command,
    Key,
    /// Wrong name or password. No check answers it: it stands in the log.
    Authentication,
    Channel,
}

impl Reason {
    /// As ACL LOG shows it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Database => "database",
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Authentication => "auth",
            Reason::Channel => "channel",
        }
    }
}

/// A refused call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Denial {
    pub reason: Reason,
    /// The index of the argument that is refused; 0 stands for the command.
    pub index: usize,
}

impl Denial {
    /// What the client is told, without a code. Keys and channels are not named.
    pub fn message<H>(&self, user: &User, entry: &TableEntry<H>) -> Vec<u8> {
        match self.reason {
            Reason::Key => b"No permissions to access a key".to_vec(),
            Reason::Channel => b"No permissions to access a channel".to_vec(),
            Reason::Database => b"No permissions to access database".to_vec(),
            Reason::Command | Reason::Authentication => {
                let command = entry.full_name.as_bytes();
                [b"User ".as_slice(), &user.name, b" has no permissions to run the '", command, b"' command"]
                    .concat()
            }
        }
    }

    /// The same, with the argument that is refused.
    pub fn full_message<H>(&self, user: &User, entry: &TableEntry<H>, args: &Args<'_>) -> Vec<u8> {
        let (before, after): (&[u8], &[u8]) = match self.reason {
            Reason::Key => (b"the '", b"' key"),
            Reason::Channel => (b"the '", b"' channel"),
            Reason::Database => (b"database ", b""),
            Reason::Command | Reason::Authentication => return self.message(user, entry),
        };
        let argument = args.get(self.index).copied().unwrap_or_default();
        [b"User ".as_slice(), &user.name, b" has no permissions to access ", before, argument, after].concat()
    }

    /// What ACL LOG calls the object: the command, or the argument that is refused.
    pub fn object<'a, H>(&self, entry: &'a TableEntry<H>, args: &Args<'a>) -> &'a [u8] {
        match (self.reason, self.index) {
            (Reason::Command, _) | (Reason::Database, 0) => entry.full_name.as_bytes(),
            (_, index) => args.get(index).copied().unwrap_or_default(),
        }
    }

    /// Why EXEC no longer runs a command that was queued.
    pub fn exec_reason(&self) -> &'static str {
        match self.reason {
            Reason::Command => "no permission to execute the command or subcommand",
            Reason::Key => "no permission to touch the specified keys",
            Reason::Channel => "no permission to access one of the channels used as arguments to the command",
            Reason::Database | Reason::Authentication => "no permission",
        }
    }
}

/// May `user` make this call in `database`, one of `database_count`?
///
/// # Errors
/// What is refused first.
pub fn check<H>(
    user: &User,
    entry: &TableEntry<H>,
    args: &Args<'_>,
    database: usize,
    database_count: usize,
) -> Result<(), Denial> {
    let call = Call { entry, args, database, database_count };
    let mut keys = None;
    let mut worst = None;
    for selector in user.selectors() {
        match call.check(selector, &mut keys) {
            Ok(()) => return Ok(()),
            Err(denial) => worst = worst.max(Some(denial)),
        }
    }
    Err(worst.unwrap_or(Denial { reason: Reason::Command, index: 0 }))
}

/// May `user` make this call and read every key besides?
pub fn reads_every_key<H>(
    user: &User,
    entry: &TableEntry<H>,
    args: &Args<'_>,
    database: usize,
    database_count: usize,
) -> bool {
    let call = Call { entry, args, database, database_count };
    let mut keys = None;
    user.selectors()
        .any(|selector| selector.keys.allow_every(KeyUse::ACCESS) && call.check(selector, &mut keys).is_ok())
}

struct Call<'a, H: 'static> {
    entry: &'a TableEntry<H>,
    args: &'a Args<'a>,
    database: usize,
    database_count: usize,
}

impl<H> Call<'_, H> {
    /// `keys` keeps the positions of the keys for the next selector.
    fn check(&self, selector: &Selector, keys: &mut Option<Vec<KeyPosition>>) -> Result<(), Denial> {
        self.check_databases(selector)?;
        if !selector.commands.allow(self.entry, self.args) {
            return Err(Denial { reason: Reason::Command, index: 0 });
        }
        self.check_keys(selector, keys)?;
        self.check_channels(selector)
    }

    fn check_databases(&self, selector: &Selector) -> Result<(), Denial> {
        let allowed = &selector.databases;
        if matches!(allowed, super::patterns::Databases::All) {
            return Ok(());
        }
        let refuse = |index| Err(Denial { reason: Reason::Database, index });
        for (index, database) in self.entry.spec.databases.positions(self.args, self.database_count) {
            if !allowed.allow(database) {
                return refuse(index);
            }
        }
        let all = self.entry.flags.has(Flags::ALL_DBS);
        if all && !(0..self.database_count).all(|database| allowed.allow(database)) {
            return refuse(0);
        }
        if self.touches_its_database() && !allowed.allow(self.database) {
            return refuse(0);
        }
        Ok(())
    }

    /// Does the call see or change anything of the database in which it runs?
    fn touches_its_database(&self) -> bool {
        self.entry.flags.has_any(Flags::WRITE | Flags::READONLY)
            || self.entry.categories.has(Categories::KEYSPACE)
            || self.entry.has_keys()
    }

    fn check_keys(&self, selector: &Selector, keys: &mut Option<Vec<KeyPosition>>) -> Result<(), Denial> {
        if matches!(selector.keys, super::patterns::Keys::All) || !self.entry.has_keys() {
            return Ok(());
        }
        // Arguments that are no valid call name no keys: the command itself will refuse them.
        let keys = keys.get_or_insert_with(|| self.entry.keys(self.args).unwrap_or_default());
        for key in keys.iter().filter(|key| !key.uses.has(KeyUse::NOT_KEY)) {
            let name = self.args.get(key.index).copied().unwrap_or_default();
            if !selector.keys.allow(name, key.uses) {
                return Err(Denial { reason: Reason::Key, index: key.index });
            }
        }
        Ok(())
    }

    fn check_channels(&self, selector: &Selector) -> Result<(), Denial> {
        let channels = &selector.channels;
        let (last, is_pattern) = match self.entry.spec.channels {
            ChannelArguments::None => return Ok(()),
            ChannelArguments::First => (2, false),
            ChannelArguments::All => (self.args.len(), false),
            ChannelArguments::AllPatterns => (self.args.len(), true),
        };
        for (index, name) in self.args.iter().enumerate().take(last).skip(1) {
            if !channels.allow(name, is_pattern) {
                return Err(Denial { reason: Reason::Channel, index });
            }
        }
        Ok(())
    }
}
