//! The types that directive values have in [`Config`](super::Config). They know their own text form and
//! nothing of directives, files or commands.
//!
//! Invariant: a value that exists is valid; text becomes one only through the parsing functions here.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A free text, any bytes (passwords may hold them).
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text(Box<[u8]>);

impl Text {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text as a file name.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The text for people; bytes that are no UTF-8 show as U+FFFD.
    pub fn to_str(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: AsRef<[u8]> + ?Sized> From<&T> for Text {
    fn from(bytes: &T) -> Self {
        Text(bytes.as_ref().into())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_str(), f)
    }
}

/// One of a few names.
pub trait Choice: Copy + 'static {
    /// The names, as CONFIG GET and the error text list them. A name that repeats a value of another
    /// comes after the one that CONFIG GET answers.
    const NAMES: &'static [&'static str];

    /// The value of a name, in any case.
    fn from_name(name: &[u8]) -> Option<Self>;

    fn name(self) -> &'static str;
}

macro_rules! choices {
    ($($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal $(| $synonym:literal)?,)+ })+) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type { $($(#[$variant_doc])* $variant,)+ }

        impl Choice for $type {
            const NAMES: &'static [&'static str] = &[$($name, $($synonym,)?)+];

            fn from_name(name: &[u8]) -> Option<Self> {
                $(if name.eq_ignore_ascii_case($name.as_bytes()) $(|| name.eq_ignore_ascii_case($synonym.as_bytes()))? {
                    return Some($type::$variant);
                })+
                None
            }

            fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)+ }
            }
        }
    )+ };
}

choices! {
    /// Which keys eviction takes first.
    MaxmemoryPolicy {
        VolatileLru = "volatile-lru",
        VolatileLfu = "volatile-lfu",
        VolatileRandom = "volatile-random",
        VolatileTtl = "volatile-ttl",
        AllkeysLru = "allkeys-lru",
        AllkeysLfu = "allkeys-lfu",
        AllkeysRandom = "allkeys-random",
        Noeviction = "noeviction",
    }
    SyslogFacility {
        User = "user",
        Local0 = "local0",
        Local1 = "local1",
        Local2 = "local2",
        Local3 = "local3",
        Local4 = "local4",
        Local5 = "local5",
        Local6 = "local6",
        Local7 = "local7",
    }
    /// The least important lines that are still logged.
    LogLevel {
        Debug = "debug",
        Verbose = "verbose",
        Notice = "notice",
        Warning = "warning",
        Nothing = "nothing",
    }
    LogFormat {
        Legacy = "legacy",
        Logfmt = "logfmt",
        Json = "json",
    }
    LogTimestampFormat {
        Legacy = "legacy",
        Iso8601 = "iso8601",
        Milliseconds = "milliseconds",
    }
    SupervisedMode {
        Upstart = "upstart",
        Systemd = "systemd",
        Auto = "auto",
        No = "no",
    }
    AppendFsync {
        EverySecond = "everysec",
        Always = "always",
        No = "no",
    }
    /// How a replica takes a full sync that comes over the socket.
    ReplDisklessLoad {
        /// To a file first.
        Disabled = "disabled",
        /// From the socket when there is no data to lose.
        OnEmptyDb = "on-empty-db",
        /// From the socket into a second dataset, swapped in at the end.
        SwapDb = "swapdb",
        /// From the socket, after dropping the own data.
        FlushBeforeLoad = "flush-before-load",
    }
    OomScoreAdj {
        No = "no",
        Relative = "yes" | "relative",
        Absolute = "absolute",
    }
    AclPubsubDefault {
        Allchannels = "allchannels",
        Resetchannels = "resetchannels",
    }
    SanitizeDumpPayload {
        No = "no",
        Yes = "yes",
        Clients = "clients",
    }
    /// Who may use something dangerous.
    ProtectedAction {
        No = "no",
        Yes = "yes",
        /// Clients of this machine.
        Local = "local",
    }
    ClusterPreferredEndpointType {
        Ip = "ip",
        Hostname = "hostname",
        UnknownEndpoint = "unknown-endpoint",
    }
    ClusterConfigSaveBehavior {
        Sync = "sync",
        BestEffort = "best-effort",
    }
    PropagationErrorBehavior {
        Ignore = "ignore",
        Panic = "panic",
        PanicOnReplicas = "panic-on-replicas",
    }
    RdbVersionCheck {
        Strict = "strict",
        Relaxed = "relaxed",
    }
    TlsAuthClients {
        No = "no",
        Yes = "yes",
        Optional = "optional",
    }
    TlsAuthClientsUser {
        CommonName = "CN",
        Uri = "URI",
        Off = "off",
    }
    /// What a read-only script does when it is slow.
    ReadOnlyScripts {
        /// Goes on against a snapshot, and nobody waits.
        Snapshot = "snapshot",
        /// Others wait and get BUSY, as on Valkey.
        Blocking = "blocking",
    }
    /// Which scripts a replica takes.
    ReplicaScripts {
        /// Those that are declared read-only.
        ReadOnly = "read-only",
        /// All that do not write, as on Valkey.
        Compatible = "compatible",
    }
}

/// Options of SHUTDOWN that a signal stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownOptions {
    pub save: bool,
    pub nosave: bool,
    pub now: bool,
    pub force: bool,
    /// Refuse where it would lose data.
    pub safe: bool,
    /// Hand over to a replica first.
    pub failover: bool,
}

/// A limit on the memory of all clients together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientsMemoryLimit {
    /// In bytes; 0 means no limit.
    Bytes(u64),
    /// Percent of `maxmemory`, 1 to 100.
    Percent(u8),
}

impl ClientsMemoryLimit {
    /// The limit in bytes, `None` where there is none.
    pub fn bytes(self, maxmemory: u64) -> Option<u64> {
        match self {
            ClientsMemoryLimit::Bytes(0) => None,
            ClientsMemoryLimit::Bytes(bytes) => Some(bytes),
            // A share of no limit is no limit.
            ClientsMemoryLimit::Percent(_) if maxmemory == 0 => None,
            ClientsMemoryLimit::Percent(percent) => {
                Some((u128::from(maxmemory) * u128::from(percent) / 100) as u64)
            }
        }
    }
}

/// Save the dataset once so many changes have been made and so much time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavePoint {
    pub seconds: u64,
    pub changes: u64,
}

/// All save points; none means that nothing is saved by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavePoints(pub Vec<SavePoint>);

/// When a client that does not read its replies is closed. 0 means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputBufferLimit {
    pub hard_bytes: u64,
    pub soft_bytes: u64,
    /// How long the soft limit may be exceeded.
    pub soft_seconds: u64,
}

/// The limits of the three classes of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputBufferLimits {
    pub normal: OutputBufferLimit,
    pub replica: OutputBufferLimit,
    pub pubsub: OutputBufferLimit,
}

impl Default for OutputBufferLimits {
    fn default() -> Self {
        const MB: u64 = 1024 * 1024;
        OutputBufferLimits {
            normal: OutputBufferLimit { hard_bytes: 0, soft_bytes: 0, soft_seconds: 0 },
            replica: OutputBufferLimit { hard_bytes: 256 * MB, soft_bytes: 64 * MB, soft_seconds: 60 },
            pubsub: OutputBufferLimit { hard_bytes: 32 * MB, soft_bytes: 8 * MB, soft_seconds: 60 },
        }
    }
}

/// `oom_score_adj` of the process as primary, as replica, and of background work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OomScoreAdjValues(pub [i32; 3]);

/// Which keyspace events are published, and on which kind of channel: a set of the letters of
/// `notify-keyspace-events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyspaceEvents(u16);

impl KeyspaceEvents {
    pub const GENERIC: KeyspaceEvents = KeyspaceEvents(1 << 0);
    pub const STRING: KeyspaceEvents = KeyspaceEvents(1 << 1);
    pub const LIST: KeyspaceEvents = KeyspaceEvents(1 << 2);
    pub const SET: KeyspaceEvents = KeyspaceEvents(1 << 3);
    pub const HASH: KeyspaceEvents = KeyspaceEvents(1 << 4);
    pub const ZSET: KeyspaceEvents = KeyspaceEvents(1 << 5);
    pub const EXPIRED: KeyspaceEvents = KeyspaceEvents(1 << 6);
    pub const EVICTED: KeyspaceEvents = KeyspaceEvents(1 << 7);
    pub const STREAM: KeyspaceEvents = KeyspaceEvents(1 << 8);
    pub const MODULE: KeyspaceEvents = KeyspaceEvents(1 << 9);
    /// `A`: all above.
    pub const ALL: KeyspaceEvents = KeyspaceEvents((1 << 10) - 1);
    pub const NEW_KEY: KeyspaceEvents = KeyspaceEvents(1 << 10);
    pub const KEYSPACE_CHANNEL: KeyspaceEvents = KeyspaceEvents(1 << 11);
    pub const KEYEVENT_CHANNEL: KeyspaceEvents = KeyspaceEvents(1 << 12);
    pub const KEY_MISS: KeyspaceEvents = KeyspaceEvents(1 << 13);

    /// The letters in the order in which they are written.
    const LETTERS: &[(u8, KeyspaceEvents)] = &[
        (b'g', Self::GENERIC),
        (b'$', Self::STRING),
        (b'l', Self::LIST),
        (b's', Self::SET),
        (b'h', Self::HASH),
        (b'z', Self::ZSET),
        (b'x', Self::EXPIRED),
        (b'e', Self::EVICTED),
        (b't', Self::STREAM),
        (b'd', Self::MODULE),
        (b'n', Self::NEW_KEY),
        (b'K', Self::KEYSPACE_CHANNEL),
        (b'E', Self::KEYEVENT_CHANNEL),
        (b'm', Self::KEY_MISS),
    ];

    pub fn contains(self, events: KeyspaceEvents) -> bool {
        self.0 & events.0 == events.0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// `None` if there is a letter without a meaning.
    pub fn from_letters(letters: &[u8]) -> Option<Self> {
        let mut events = 0;
        for letter in letters {
            events |= match letter {
                b'A' => Self::ALL.0,
                _ => Self::LETTERS.iter().find(|(known, _)| known == letter)?.1.0,
            };
        }
        Some(KeyspaceEvents(events))
    }

    /// The shortest letters. `A` swallows the letters it stands for, and `n` too where both are set,
    /// which is how Valkey answers.
    pub fn to_letters(self) -> String {
        let mut letters = String::new();
        let all = self.contains(Self::ALL);
        if all {
            letters.push('A');
        }
        for &(letter, event) in Self::LETTERS {
            let swallowed = all && (Self::ALL.contains(event) || event == Self::NEW_KEY);
            if self.contains(event) && !swallowed {
                letters.push(char::from(letter));
            }
        }
        letters
    }
}

/// The addresses to listen on; a leading `-` marks one that may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindAddresses(pub Vec<Text>);

/// The primary that a replica follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryAddress {
    pub host: Text,
    pub port: u16,
}

/// Percentiles of the latency histograms in INFO, each 0 to 100.
#[derive(Debug, Clone, PartialEq)]
pub struct Percentiles(pub Vec<f64>);

/// The absolute path of the directory that all relative file names start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory(pub PathBuf);

/// A command and its new name; an empty one removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenamedCommand {
    pub name: Text,
    pub new_name: Text,
}

/// A `user` line: the name and the ACL rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserLine {
    pub name: Text,
    pub rules: Vec<Text>,
}
