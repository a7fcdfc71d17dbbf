//! The types of the command table. Knows nothing of what any one command does.
//!
//! A command is a constant beside its function. Everything that the server says or decides about a command
//! (COMMAND, ACL categories, `write`/`readonly`, replica routing, the write pause, the documentation) is
//! derived from that constant, here.
//!
//! Invariant: whether a command writes is a fact of its handler's type and is never declared.

mod keys;
mod operands;
mod short_names;
mod table;

use std::convert::Infallible;

pub use keys::{BeginSearch, FindKeys, KeyPosition, KeyRange, KeySpec, KeyUse, key_positions, key_range};
pub use operands::{ChannelArguments, DatabaseArguments};
pub use table::{CommandId, CommandTable, TableEntry};

use crate::keyspace::{Reader, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::Kind;

/// A command that only touches keys. Its handler type has no way to reach the server.
pub type DataCommand = Command<Infallible>;

/// The arguments of a call; `args[0]` is the name the client used. The arity is checked before.
pub type Args<'a> = [&'a [u8]];

pub type ReadFn = for<'k> fn(&Reader<'k>, &Args<'_>) -> CommandResult<'k>;
pub type WriteFn = fn(&mut WriteTxn<'_>, &Args<'_>) -> CommandResult<'static>;
pub type BlockingFn = fn(&mut WriteTxn<'_>, &Args<'_>) -> Result<Outcome<'static>, ErrorReply>;
pub type BlockingReadFn = for<'k> fn(&Reader<'k>, &Args<'_>) -> Result<Outcome<'k>, ErrorReply>;
/// Tells whether a call reads keys that its arguments do not name: the error for users who may not read every key.
pub type UnnamedReadsFn = fn(&Args<'_>) -> Option<ErrorReply>;

/// What a call of a command came to.
#[derive(Debug)]
pub enum Outcome<'a> {
    Reply(Reply<'a>),
    /// Nothing can be answered yet: wait for one of the keys.
    Block(BlockOnKeys),
}

impl<'a> From<Reply<'a>> for Outcome<'a> {
    fn from(reply: Reply<'a>) -> Self {
        Outcome::Reply(reply)
    }
}

/// What a blocking command waits for. When one of the keys may satisfy it, the same call is run again.
#[derive(Debug, Clone)]
pub struct BlockOnKeys {
    pub keys: Vec<Vec<u8>>,
    /// The type a key must have to wake the call.
    pub kind: Kind,
    /// Is it woken as well when a key is gone, or has become another type?
    pub wakes_without: bool,
    /// The call that is run again, if it is not the same.
    pub args: Option<Vec<Vec<u8>>>,
    /// Milliseconds; 0 waits for ever.
    pub timeout_ms: u64,
    /// What the client gets when the time is over.
    pub on_timeout: Reply<'static>,
    /// What a transaction or a script gets at once, since it cannot wait.
    pub when_denied: Reply<'static>,
}

/// What runs when the command is called. `H` is the server's own kind of handler.
#[derive(Debug, Clone, Copy)]
pub enum Handler<H> {
    /// Reads keys.
    Read(ReadFn),
    /// Changes keys.
    Write(WriteFn),
    /// Reads keys, and where it may write keeps what it found out in them: the call that reads, and the one that keeps too.
    Caching(ReadFn, WriteFn),
    /// Changes keys, or waits until it can.
    Blocking(BlockingFn),
    /// Reads keys, or waits until there is something to read.
    BlockingRead(BlockingReadFn),
    /// Has subcommands and does nothing itself.
    Container,
    /// HELP of a container: lines about its other subcommands.
    Help(&'static [&'static str]),
    /// Needs the server.
    Host(H),
}

/// The reply of HELP: a first line that names the command, then `lines`, then HELP itself.
pub fn help_reply(name: &[u8], lines: &[&'static str]) -> Reply<'static> {
    let name = String::from_utf8_lossy(name).to_uppercase();
    let first = format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    let others = lines.iter().chain(&["HELP", "    Print this help."]);
    let all = std::iter::once(first.into()).chain(others.map(|line| (*line).into()));
    Reply::Array(all.map(Reply::Status).collect())
}

/// Flags that a command declares. Those that follow from the handler are not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    pub const NONE: Flags = Flags(0);
    /// May grow memory: refused when over `maxmemory`.
    pub const DENYOOM: Flags = Flags(1 << 0);
    pub const ADMIN: Flags = Flags(1 << 1);
    pub const PUBSUB: Flags = Flags(1 << 2);
    /// Not from scripts.
    pub const NOSCRIPT: Flags = Flags(1 << 3);
    /// Also while the dataset is being loaded.
    pub const LOADING: Flags = Flags(1 << 4);
    /// Also on a replica whose link is down and which must not serve stale data.
    pub const STALE: Flags = Flags(1 << 5);
    pub const SKIP_MONITOR: Flags = Flags(1 << 6);
    pub const SKIP_COMMANDLOG: Flags = Flags(1 << 7);
    pub const FAST: Flags = Flags(1 << 8);
    /// Before authentication too.
    pub const NO_AUTH: Flags = Flags(1 << 9);
    /// May put something into the stream although it changes no key.
    pub const MAY_REPLICATE: Flags = Flags(1 << 10);
    pub const NO_MULTI: Flags = Flags(1 << 11);
    /// Also while a script is busy.
    pub const ALLOW_BUSY: Flags = Flags(1 << 12);
    /// Reaches keys that its arguments do not name.
    pub const TOUCHES_ARBITRARY_KEYS: Flags = Flags(1 << 13);
    pub const NO_ASYNC_LOADING: Flags = Flags(1 << 14);
    /// Keys may be missing from the arguments.
    pub const NO_MANDATORY_KEYS: Flags = Flags(1 << 15);
    /// Derived: first key, last key and step alone do not say where the keys are.
    pub const MOVABLE_KEYS: Flags = Flags(1 << 16);
    pub const ALL_DBS: Flags = Flags(1 << 17);
    pub const PROTECTED: Flags = Flags(1 << 18);
    /// Declared by host handlers only: counts as `readonly` (EVAL_RO).
    pub const READONLY: Flags = Flags(1 << 20);
    /// Declared by host handlers only: counts as `write` (RESTORE-ASKING, FUNCTION LOAD).
    pub const WRITE: Flags = Flags(1 << 21);
    /// Derived: may wait.
    pub const BLOCKING: Flags = Flags(1 << 22);
    /// Sent by MIGRATE to a node that takes over a slot.
    pub const ASKING: Flags = Flags(1 << 23);

    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn has_any(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    /// The names of the flags that COMMAND INFO shows, in its order. The others are the server's own business.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const SHOWN: [(Flags, &str); 19] = [
            (Flags::WRITE, "write"),
            (Flags::READONLY, "readonly"),
            (Flags::DENYOOM, "denyoom"),
            (Flags::ADMIN, "admin"),
            (Flags::PUBSUB, "pubsub"),
            (Flags::NOSCRIPT, "noscript"),
            (Flags::BLOCKING, "blocking"),
            (Flags::LOADING, "loading"),
            (Flags::STALE, "stale"),
            (Flags::SKIP_MONITOR, "skip_monitor"),
            (Flags::SKIP_COMMANDLOG, "skip_commandlog"),
            (Flags::ASKING, "asking"),
            (Flags::FAST, "fast"),
            (Flags::NO_AUTH, "no_auth"),
            (Flags::NO_MANDATORY_KEYS, "no_mandatory_keys"),
            (Flags::NO_ASYNC_LOADING, "no_async_loading"),
            (Flags::NO_MULTI, "no_multi"),
            (Flags::MOVABLE_KEYS, "movablekeys"),
            (Flags::ALLOW_BUSY, "allow_busy"),
        ];
        SHOWN.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        self.and(other)
    }
}

/// ACL categories, one bit each, in the order in which ACL CAT lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Categories(pub u32);

impl Categories {
    pub const NAMES: [&'static str; 21] = [
        "keyspace",
        "read",
        "write",
        "set",
        "sortedset",
        "list",
        "hash",
        "string",
        "bitmap",
        "hyperloglog",
        "geo",
        "stream",
        "pubsub",
        "admin",
        "fast",
        "slow",
        "blocking",
        "dangerous",
        "connection",
        "transaction",
        "scripting",
    ];
    pub const NONE: Categories = Categories(0);
    pub const KEYSPACE: Categories = Categories(1 << 0);
    pub const READ: Categories = Categories(1 << 1);
    pub const WRITE: Categories = Categories(1 << 2);
    pub const SET: Categories = Categories(1 << 3);
    pub const SORTEDSET: Categories = Categories(1 << 4);
    pub const LIST: Categories = Categories(1 << 5);
    pub const HASH: Categories = Categories(1 << 6);
    pub const STRING: Categories = Categories(1 << 7);
    pub const BITMAP: Categories = Categories(1 << 8);
    pub const HYPERLOGLOG: Categories = Categories(1 << 9);
    pub const GEO: Categories = Categories(1 << 10);
    pub const STREAM: Categories = Categories(1 << 11);
    pub const PUBSUB: Categories = Categories(1 << 12);
    pub const ADMIN: Categories = Categories(1 << 13);
    pub const FAST: Categories = Categories(1 << 14);
    pub const SLOW: Categories = Categories(1 << 15);
    pub const BLOCKING: Categories = Categories(1 << 16);
    pub const DANGEROUS: Categories = Categories(1 << 17);
    pub const CONNECTION: Categories = Categories(1 << 18);
    pub const TRANSACTION: Categories = Categories(1 << 19);
    pub const SCRIPTING: Categories = Categories(1 << 20);

    pub const fn and(self, other: Categories) -> Categories {
        Categories(self.0 | other.0)
    }

    pub const fn has(self, other: Categories) -> bool {
        self.0 & other.0 == other.0
    }

    /// The category of a name, without the `@`, in any case.
    pub fn find(name: &[u8]) -> Option<Categories> {
        let bit = Self::NAMES.iter().position(|known| name.eq_ignore_ascii_case(known.as_bytes()))?;
        Some(Categories(1 << bit))
    }

    /// The names of the categories in this set, without the `@`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| *name)
    }
}

impl std::ops::BitOr for Categories {
    type Output = Categories;

    fn bitor(self, other: Categories) -> Categories {
        self.and(other)
    }
}

/// The documentation group of a command, which also gives its data-type ACL category.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    PubSub,
    Transactions,
    Connection,
    Server,
    Scripting,
    HyperLogLog,
    Cluster,
    Geo,
    Stream,
    Bitmap,
}

impl Group {
    /// As COMMAND DOCS spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::PubSub => "pubsub",
            Group::Transactions => "transactions",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Scripting => "scripting",
            Group::HyperLogLog => "hyperloglog",
            Group::Cluster => "cluster",
            Group::Geo => "geo",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
        }
    }

    const fn category(self) -> Categories {
        match self {
            Group::String => Categories::STRING,
            Group::List => Categories::LIST,
            Group::Set => Categories::SET,
            Group::SortedSet => Categories::SORTEDSET,
            Group::Hash => Categories::HASH,
            Group::Transactions => Categories::TRANSACTION,
            Group::Connection => Categories::CONNECTION,
            Group::Scripting => Categories::SCRIPTING,
            Group::HyperLogLog => Categories::HYPERLOGLOG,
            Group::Geo => Categories::GEO,
            Group::Stream => Categories::STREAM,
            Group::Bitmap => Categories::BITMAP,
            // Commands of this group say so by their flag.
            Group::PubSub | Group::Generic | Group::Server | Group::Cluster => Categories::NONE,
        }
    }
}

/// One argument in the documentation of a command.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    pub name: &'static str,
    pub kind: ArgumentKind,
    /// The literal word before it, or the word itself for a pure token; empty if none.
    pub token: &'static str,
    pub optional: bool,
    pub multiple: bool,
    /// The token stands before each of several, not once before all.
    pub multiple_token: bool,
    pub parts: &'static [Argument],
    /// Which key specification it stands for, where the order of the key arguments does not say so.
    pub key_spec: Option<u8>,
    /// What documentation shows in place of the name; empty: the name.
    pub shown: &'static str,
    /// One line of documentation; empty where the name says it all.
    pub summary: &'static str,
    /// The version that first had it, if the command is older; empty otherwise.
    pub since: &'static str,
    /// Since when it should not be used; empty: it may be.
    pub deprecated_since: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentKind {
    Key,
    String,
    Integer,
    Double,
    Pattern,
    UnixTime,
    PureToken,
    /// One of the parts.
    OneOf,
    /// All of the parts, in order.
    Block,
}

impl ArgumentKind {
    /// As COMMAND DOCS spells it.
    pub const fn name(self) -> &'static str {
        match self {
            ArgumentKind::Key => "key",
            ArgumentKind::String => "string",
            ArgumentKind::Integer => "integer",
            ArgumentKind::Double => "double",
            ArgumentKind::Pattern => "pattern",
            ArgumentKind::UnixTime => "unix-time",
            ArgumentKind::PureToken => "pure-token",
            ArgumentKind::OneOf => "oneof",
            ArgumentKind::Block => "block",
        }
    }
}

impl Argument {
    pub const fn new(name: &'static str, kind: ArgumentKind) -> Argument {
        Argument {
            name,
            kind,
            token: "",
            optional: false,
            multiple: false,
            multiple_token: false,
            parts: &[],
            key_spec: None,
            shown: "",
            summary: "",
            since: "",
            deprecated_since: "",
        }
    }

    pub const fn key() -> Argument {
        Argument::new("key", ArgumentKind::Key)
    }

    /// A word that stands for itself.
    pub const fn word(token: &'static str) -> Argument {
        Argument { token, ..Argument::new(token, ArgumentKind::PureToken) }
    }

    pub const fn optional(self) -> Argument {
        Argument { optional: true, ..self }
    }

    pub const fn multiple(self) -> Argument {
        Argument { multiple: true, ..self }
    }

    /// Several, each preceded by the token.
    pub const fn multiple_token(self) -> Argument {
        Argument { multiple: true, multiple_token: true, ..self }
    }

    /// In a version newer than the command's own.
    pub const fn since(self, since: &'static str) -> Argument {
        Argument { since, ..self }
    }

    /// Stands for the key specification of this index.
    pub const fn key_spec(self, index: u8) -> Argument {
        Argument { key_spec: Some(index), ..self }
    }

    /// Shown under another text than its name.
    pub const fn shown(self, shown: &'static str) -> Argument {
        Argument { shown, ..self }
    }

    /// Preceded by a literal word.
    pub const fn after(self, token: &'static str) -> Argument {
        Argument { token, ..self }
    }

    pub const fn one_of(name: &'static str, parts: &'static [Argument]) -> Argument {
        Argument { parts, ..Argument::new(name, ArgumentKind::OneOf) }
    }

    pub const fn block(name: &'static str, parts: &'static [Argument]) -> Argument {
        Argument { parts, ..Argument::new(name, ArgumentKind::Block) }
    }
}

/// Whom a command is documented for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Audience {
    #[default]
    Everybody,
    /// Servers and tests speak to each other with it.
    Servers,
    /// Nobody any more.
    Nobody { since: &'static str, replaced_by: &'static str },
}

/// Finds the keys of a call where specifications cannot say what is done with them, or where they stand.
pub type KeysFn = fn(&Args<'_>, &mut Vec<KeyPosition>);

/// A command, as it stands beside its function. Build one with functional update:
/// `Command { name: "get", arity: 2, .., ..Command::read(get) }`.
#[derive(Debug, Clone, Copy)]
pub struct Command<H: 'static> {
    /// Lower case; of a subcommand only its own word.
    pub name: &'static str,
    /// One line of documentation.
    pub summary: &'static str,
    /// The version in which Redis or Valkey first had it.
    pub since: &'static str,
    pub complexity: &'static str,
    pub group: Group,
    /// The number of arguments with the name; negative: at least that many.
    pub arity: i32,
    pub flags: Flags,
    /// Categories beyond those that follow from group, flags and handler.
    pub categories: Categories,
    /// Of commands that make up keys from what they find.
    pub unnamed_reads: Option<UnnamedReadsFn>,
    /// The channels that a call publishes or subscribes to.
    pub channels: ChannelArguments,
    /// The databases that a call reaches besides its own; all of them: [`Flags::ALL_DBS`].
    pub databases: DatabaseArguments,
    pub keys: &'static [KeySpec],
    /// Asked in place of `keys` where those are incomplete or their flags depend on the call.
    pub keys_of: Option<KeysFn>,
    pub arguments: &'static [Argument],
    /// Hints for clients that route calls to the nodes of a cluster, or keep replies, as COMMAND INFO shows them.
    pub tips: &'static [&'static str],
    pub audience: Audience,
    /// What versions after `since` changed, oldest first: version and change.
    pub history: &'static [(&'static str, &'static str)],
    pub subcommands: &'static [Command<H>],
    pub handler: Handler<H>,
}

impl<H: Copy> Command<H> {
    const fn with(handler: Handler<H>) -> Self {
        Command {
            name: "",
            summary: "",
            since: "1.0.0",
            complexity: "O(1)",
            group: Group::Generic,
            arity: 1,
            flags: Flags::NONE,
            categories: Categories::NONE,
            unnamed_reads: None,
            channels: ChannelArguments::None,
            databases: DatabaseArguments::None,
            keys: &[],
            keys_of: None,
            arguments: &[],
            tips: &[],
            audience: Audience::Everybody,
            history: &[],
            subcommands: &[],
            handler,
        }
    }

    pub const fn read(function: ReadFn) -> Self {
        Self::with(Handler::Read(function))
    }

    pub const fn write(function: WriteFn) -> Self {
        Self::with(Handler::Write(function))
    }

    pub const fn caching(read: ReadFn, keep: WriteFn) -> Self {
        Self::with(Handler::Caching(read, keep))
    }

    pub const fn blocking(function: BlockingFn) -> Self {
        Self::with(Handler::Blocking(function))
    }

    pub const fn blocking_read(function: BlockingReadFn) -> Self {
        Self::with(Handler::BlockingRead(function))
    }

    pub const fn container(subcommands: &'static [Command<H>]) -> Self {
        Command { subcommands, arity: -2, ..Self::with(Handler::Container) }
    }

    /// HELP of a container.
    pub const fn help(since: &'static str, group: Group, lines: &'static [&'static str]) -> Self {
        Command {
            name: "help",
            summary: "What the subcommands do.",
            since,
            group,
            arity: 2,
            flags: Flags::LOADING.and(Flags::STALE),
            ..Self::with(Handler::Help(lines))
        }
    }

    pub const fn host(handler: H) -> Self {
        Self::with(Handler::Host(handler))
    }
}
