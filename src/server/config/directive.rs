//! What a directive is: its names, what may be done to it, and how its value becomes text and text its
//! value. Knows no particular directive: those stand in [`table`](super::table), one line each.
//!
//! Invariant: a set that fails has not touched the value.

use super::Config;
use super::special::Special;
use super::tokens::quote;
use super::values::Text;
use crate::base::number::parse_i64;

/// Where a value comes from. Only a few directives care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// CONFIG SET: the value replaces the old one.
    Runtime,
    /// The first line of this directive in a configuration file or on the command line.
    FirstLine,
    /// A later line of the same directive.
    FurtherLine,
}

/// What may be done to a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    pub const NONE: Flags = Flags(0);
    /// Cannot be set while the server runs.
    pub const IMMUTABLE: Flags = Flags(1 << 0);
    /// Found by its exact name only, not by a pattern.
    pub const HIDDEN: Flags = Flags(1 << 1);
    /// Can be set at runtime only where `enable-protected-configs` allows it.
    pub const PROTECTED: Flags = Flags(1 << 2);
    /// A secret: not to be shown in logs, the slow log or MONITOR.
    pub const SENSITIVE: Flags = Flags(1 << 3);
    /// Takes several arguments.
    pub const MULTI: Flags = Flags(1 << 4);
    /// Cannot be set while the dataset is loading.
    pub const DENY_LOADING: Flags = Flags(1 << 5);
    /// Setting the same value again is a change (a certificate file may have new content).
    pub const VOLATILE: Flags = Flags(1 << 6);

    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What the server has to do after a change, beyond reading the new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Listen on another port; may fail.
    Port,
    /// Listen on other addresses; may fail.
    Bind,
    /// Listen on another TLS port; may fail.
    TlsPort,
    /// Read certificates and keys again; may fail.
    Tls,
    /// Change the working directory; may fail.
    Directory,
    /// Evict if the new limit is exceeded.
    Maxmemory,
    /// Close clients if the new limit is exceeded.
    MaxmemoryClients,
    /// Raise the limit of open files; may fail.
    Maxclients,
    /// Start or stop reactors; may fail.
    IoThreads,
    /// Turn the append-only file on or off; may fail.
    AppendOnly,
    AppendFsync,
    /// Delete history files of the append-only file that had been kept.
    AofHistory,
    /// Give the default user this password.
    Requirepass,
    ReplicationBacklogSize,
    /// Count again how many replicas are near enough.
    GoodReplicas,
    Hz,
    /// Hand the limits at which encodings change to the keyspace.
    EncodingLimits,
    /// Hand policy, sample count and tenacity to eviction.
    Eviction,
    /// Level, format or timestamps of the log.
    Logging,
    /// Shorten the command log (slow log).
    CommandLog,
    /// Shorten the ACL log.
    AclLog,
    /// Drop the latency histograms when they are turned off.
    LatencyTracking,
    OomScoreAdj,
    ProcessTitle,
    /// May fail.
    LocaleCollate,
    CrashLog,
    Watchdog,
    RedisCompatibility,
    JemallocBackgroundThread,
    /// Memory limit and threads of scripts.
    Scripts,
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFormat {
    Decimal,
    Octal,
    /// `100mb`, in bytes.
    Memory,
}

/// What an empty text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// That there is no value: the directive is not written to the file.
    Unset,
    /// Itself.
    Value,
}

/// Refuses a text, with the reason.
pub type TextCheck = fn(&[u8]) -> Result<(), &'static str>;

/// The kind of value and the access to it.
pub enum Kind {
    Bool {
        get: fn(&Config) -> bool,
        set: fn(&mut Config, bool),
        /// A reason why `yes` is refused.
        refuse_yes: Option<&'static str>,
    },
    Number {
        format: NumberFormat,
        min: i128,
        max: i128,
        get: fn(&Config) -> i128,
        set: fn(&mut Config, i128),
    },
    Choice {
        names: &'static [&'static str],
        get: fn(&Config) -> &'static str,
        /// False if there is no such name.
        set: fn(&mut Config, &[u8]) -> bool,
    },
    Text {
        empty: Empty,
        check: Option<TextCheck>,
        get: fn(&Config) -> &Text,
        set: fn(&mut Config, Text),
    },
    Special {
        get: fn(&Config) -> &dyn Special,
        get_mut: fn(&mut Config) -> &mut dyn Special,
    },
}

/// One directive.
pub struct Directive {
    pub name: &'static str,
    pub alias: Option<&'static str>,
    pub flags: Flags,
    pub effect: Option<Effect>,
    pub kind: Kind,
}

/// What CONFIG REWRITE does with a directive.
#[derive(Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// Its lines go.
    Remove,
    /// One line or several, without the name. `always` means: also where the file had none.
    Lines(Vec<Line>),
}

/// The arguments of a line, quoted where needed.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub arguments: Vec<u8>,
    /// Add the line where the file had none: the value is not the default.
    pub always: bool,
}

impl Directive {
    /// Sets the value from its arguments. `Ok(true)` if it changed.
    ///
    /// # Errors
    /// The reason, as CONFIG SET and the configuration file report it.
    pub fn set(&self, config: &mut Config, arguments: &[&[u8]], origin: Origin) -> Result<bool, String> {
        let first = arguments.first().copied().unwrap_or(b"");
        let changed = match &self.kind {
            Kind::Bool { get, set, refuse_yes } => {
                let value = parse_bool(first).ok_or("argument must be 'yes' or 'no'")?;
                if let (true, Some(reason)) = (value, refuse_yes) {
                    return Err((*reason).into());
                }
                let changed = get(config) != value;
                set(config, value);
                changed
            }
            Kind::Number { format, min, max, get, set } => {
                let value = parse_number(first, *format, *min < 0)?;
                if value < *min || value > *max {
                    return Err(match format {
                        NumberFormat::Octal => {
                            format!("argument must be between {min:o} and {max:o} inclusive")
                        }
                        _ => format!("argument must be between {min} and {max} inclusive"),
                    });
                }
                let changed = get(config) != value;
                set(config, value);
                changed
            }
            Kind::Choice { names, get, set } => {
                let old = get(config);
                if arguments.len() != 1 || !set(config, first) {
                    return Err(one_of(names));
                }
                old != get(config)
            }
            Kind::Text { check, get, set, .. } => {
                if let Some(check) = check {
                    check(first)?;
                }
                let changed = get(config).as_bytes() != first;
                set(config, Text::from(first));
                changed
            }
            Kind::Special { get, get_mut } => {
                let old = get(config).get();
                get_mut(config).set(arguments, origin)?;
                old != get(config).get()
            }
        };
        Ok(changed || self.flags.contains(Flags::VOLATILE))
    }

    /// The value as CONFIG GET answers it.
    pub fn get(&self, config: &Config) -> Vec<u8> {
        match &self.kind {
            Kind::Bool { get, .. } => yes_no(get(config)).into(),
            Kind::Number { format, get, .. } => match format {
                NumberFormat::Octal => format!("{:o}", get(config)).into(),
                _ => get(config).to_string().into(),
            },
            Kind::Choice { get, .. } => get(config).into(),
            Kind::Text { get, .. } => get(config).as_bytes().into(),
            Kind::Special { get, .. } => get(config).get(),
        }
    }

    /// What CONFIG REWRITE writes, given what the defaults are.
    pub fn rewrite(&self, config: &Config, default: &Config) -> Rewrite {
        let arguments = match &self.kind {
            Kind::Bool { .. } | Kind::Choice { .. } => self.get(config),
            Kind::Number { format: NumberFormat::Memory, get, .. } => format_memory(get(config)).into(),
            Kind::Number { .. } => self.get(config),
            Kind::Text { empty: Empty::Unset, get, .. } if get(config).is_empty() => return Rewrite::Remove,
            Kind::Text { get, .. } => quote(get(config).as_bytes()),
            Kind::Special { get, .. } => return get(config).rewrite(),
        };
        let always = self.get(config) != self.get(default);
        Rewrite::Lines(vec![Line { arguments, always }])
    }
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn parse_bool(text: &[u8]) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case(b"yes") => Some(true),
        _ if text.eq_ignore_ascii_case(b"no") => Some(false),
        _ => None,
    }
}

/// The error for a name that is none of those allowed.
pub fn one_of(names: &[&str]) -> String {
    format!("argument(s) must be one of the following: {}", names.join(", "))
}

fn parse_number(text: &[u8], format: NumberFormat, takes_negative: bool) -> Result<i128, String> {
    match format {
        // Up to 64 bits are a number; what lies beyond the directive's own range is refused after this.
        // A negative number stands for something special; where it may not, the range refuses it.
        NumberFormat::Memory => parse_memory(text)
            .map(i128::from)
            .or_else(|| parse_i64(text).map(i128::from).filter(|_| takes_negative))
            .ok_or_else(|| "argument must be a memory value".into()),
        NumberFormat::Octal => std::str::from_utf8(text)
            .ok()
            .and_then(|digits| i64::from_str_radix(digits, 8).ok())
            .map(i128::from)
            .ok_or_else(|| "argument couldn't be parsed as an octal number".into()),
        NumberFormat::Decimal => parse_i64(text)
            .map(i128::from)
            .ok_or_else(|| "argument couldn't be parsed into an integer".into()),
    }
}

/// A number of bytes: digits and an optional unit (`k` 1000, `kb` 1024, and so on up to `gb`), in any
/// case. No digits at all mean 0, as Valkey has it.
pub fn parse_memory(text: &[u8]) -> Option<u64> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = text.split_at(length);
    let factor: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let number: u64 = match digits {
        b"" => 0,
        _ => std::str::from_utf8(digits).ok()?.parse().ok()?,
    };
    number.checked_mul(factor)
}

/// Bytes in the largest unit that divides them.
pub fn format_memory(bytes: i128) -> String {
    for (unit, size) in [("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10)] {
        if bytes != 0 && bytes % size == 0 {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}
