//! DUMP and RESTORE: values as payloads. They touch keys only, and stand here because the format lies above the layer of the
//! other key commands.

use crate::base::number::parse_i64;
use crate::command::{
    Args, Argument, ArgumentKind, Audience, Categories, Command, Flags, Group, KeySpec, KeyUse,
};
use crate::keyspace::{AccessPolicy, EventClasses, KeyExpiry, Reader, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::rdb::{self, RdbError};
use crate::server::table::HostCommand;

const KEY: Argument = Argument::key();

pub const COMMANDS: &[HostCommand] = &[
    HostCommand {
        name: "dump",
        summary: "The value of a key as a payload for RESTORE.",
        since: "2.6.0",
        complexity: "O(N), N being the size of the value",
        group: Group::Generic,
        categories: Categories::KEYSPACE,
        arity: 2,
        keys: &[KeySpec::one(1, KeyUse::RO.and(KeyUse::ACCESS))],
        arguments: &[KEY],
        tips: &["nondeterministic_output"],
        ..Command::read(dump)
    },
    HostCommand { name: "restore", since: "2.6.0", group: Group::Generic, ..RESTORE },
    HostCommand {
        name: "restore-asking",
        since: "3.0.0",
        group: Group::Server,
        flags: RESTORE.flags.and(Flags::ASKING),
        audience: Audience::Servers,
        ..RESTORE
    },
];

const RESTORE: HostCommand = HostCommand {
    summary: "Sets a key to the value of a payload of DUMP.",
    complexity: "O(N), N being the size of the value; O(N*log(N)) for sorted sets",
    arity: -4,
    flags: Flags::DENYOOM,
    categories: Categories::KEYSPACE.and(Categories::DANGEROUS),
    keys: &[KeySpec::one(1, KeyUse::OW.and(KeyUse::UPDATE))],
    arguments: &[
        KEY,
        Argument::new("ttl", ArgumentKind::Integer),
        Argument::new("serialized-value", ArgumentKind::String),
        Argument::word("REPLACE").since("3.0.0").optional(),
        Argument::word("ABSTTL").since("5.0.0").optional(),
        Argument::new("seconds", ArgumentKind::Integer).after("IDLETIME").since("5.0.0").optional(),
        Argument::new("frequency", ArgumentKind::Integer).after("FREQ").since("5.0.0").optional(),
    ],
    history: &[("3.0.0", "REPLACE."), ("5.0.0", "ABSTTL."), ("5.0.0", "IDLETIME and FREQ.")],
    ..Command::write(restore)
};

fn dump<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    Ok(reader.lookup(args[1]).map_or(Reply::Nil, |entry| Reply::Owned(rdb::dump(entry))))
}

/// When the key was last used, as the payload's sender knew it.
#[derive(Debug, Clone, Copy)]
enum Use {
    IdleSeconds(u64),
    Frequency(u8),
}

#[derive(Debug, Default)]
struct Options {
    replace: bool,
    absolute: bool,
    used: Option<Use>,
}

impl Options {
    fn parse(mut words: &[&[u8]]) -> Result<Options, ErrorReply> {
        let mut options = Options::default();
        while let Some((word, after)) = words.split_first() {
            words = match (word.to_ascii_lowercase().as_slice(), after, options.used) {
                (b"replace", ..) => {
                    options.replace = true;
                    after
                }
                (b"absttl", ..) => {
                    options.absolute = true;
                    after
                }
                (b"idletime", [seconds, after @ ..], None | Some(Use::IdleSeconds(_))) => {
                    let seconds = parse_i64(seconds).ok_or(ErrorReply::NOT_AN_INTEGER)?;
                    let seconds = u64::try_from(seconds)
                        .map_err(|_| ErrorReply::new("ERR Invalid IDLETIME value, must be >= 0"))?;
                    options.used = Some(Use::IdleSeconds(seconds));
                    after
                }
                (b"freq", [count, after @ ..], None | Some(Use::Frequency(_))) => {
                    let count = parse_i64(count).ok_or(ErrorReply::NOT_AN_INTEGER)?;
                    let count = u8::try_from(count)
                        .map_err(|_| ErrorReply::new("ERR Invalid FREQ value, must be >= 0 and <= 255"))?;
                    options.used = Some(Use::Frequency(count));
                    after
                }
                _ => return Err(ErrorReply::SYNTAX),
            };
        }
        Ok(options)
    }
}

fn restore(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (key, payload) = (args[1], args[3]);
    let options = Options::parse(&args[4..])?;
    if !options.replace && transaction.contains(key) {
        return Err(ErrorReply::new("BUSYKEY Target key name already exists."));
    }
    let ttl = parse_i64(args[2]).ok_or(ErrorReply::NOT_AN_INTEGER)?;
    let ttl = u64::try_from(ttl).map_err(|_| ErrorReply::new("ERR Invalid TTL value, must be >= 0"))?;
    let entry = rdb::restore(payload, key, transaction.settings()).map_err(|error| match error {
        RdbError::Signature | RdbError::Version(_) | RdbError::Checksum { .. } => {
            ErrorReply::new("ERR DUMP payload version or checksum are wrong")
        }
        _ => ErrorReply::new("ERR Bad data format"),
    })?;
    // A collection without elements is no value.
    let mut entry = entry.ok_or(ErrorReply::new("ERR Bad data format"))?;
    let now_ms = transaction.now_ms;
    let expire_at_ms = match (ttl, options.absolute) {
        (0, _) => None,
        (at, true) => Some(at),
        (after, false) => Some(now_ms.saturating_add(after)),
    };
    if expire_at_ms.is_some_and(|at| at <= now_ms) && transaction.expiry == KeyExpiry::Delete {
        // It would be gone at once: all that is left to do is to delete what it was to replace.
        if options.replace && transaction.delete(key) {
            transaction.count_changes(1);
            let lazily = transaction.settings().lazy_free.server_delete;
            transaction.state_effect(&[if lazily { b"UNLINK" } else { b"DEL" }, key]);
        }
        return Ok(Reply::Ok);
    }
    entry.set_expiry(expire_at_ms);
    if options.replace {
        let old = transaction.remove(key);
        transaction.discard_if_any(old);
    }
    transaction.insert(entry);
    set_use(transaction, key, options.used);
    transaction.changed(EventClasses::GENERIC, "restore", key, 1);
    if let Some(at) = expire_at_ms
        && !options.absolute
    {
        let at = at.to_string();
        let mut told = args.to_vec();
        told[2] = at.as_bytes();
        told.push(b"ABSTTL");
        transaction.state_effect(&told);
    }
    Ok(Reply::Ok)
}

/// Sets the access clock, if what is given is what the policy counts.
fn set_use(transaction: &mut WriteTxn<'_>, key: &[u8], used: Option<Use>) {
    let (policy, now_ms) = (transaction.settings().access, transaction.now_ms);
    let clock = match (used, policy) {
        (Some(Use::IdleSeconds(seconds)), AccessPolicy::Lru) => AccessPolicy::clock_of_idle(seconds, now_ms),
        (Some(Use::Frequency(count)), AccessPolicy::Lfu { .. }) => {
            AccessPolicy::clock_of_frequency(count, now_ms)
        }
        _ => return,
    };
    if let Some(entry) = transaction.keyspace().database(transaction.database).get(key) {
        entry.set_access_clock(clock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{Keyspace, Settings, WriteState};

    struct Data(Keyspace, WriteState);

    const NOW_MS: u64 = 1_000_000;

    impl Data {
        fn new() -> Self {
            let mut state = WriteState::default();
            state.effects.set_recording(true);
            Data(Keyspace::new(16, Settings::default()), state)
        }

        fn restore(&mut self, args: &[&[u8]]) -> Result<(), String> {
            let mut transaction = WriteTxn::new(&mut self.0, &mut self.1, 0, NOW_MS);
            let mut all: Vec<&[u8]> = vec![b"RESTORE"];
            all.extend(args);
            let reply = transaction.call(&all, |transaction| restore(transaction, &all));
            reply.map(|_| ()).map_err(|error| String::from_utf8_lossy(&error.0).into_owned())
        }

        fn effects(&mut self) -> Vec<String> {
            let word = |reply: &Reply<'_>| match reply {
                Reply::Bulk(word) => word.escape_ascii().to_string(),
                Reply::Owned(word) => word.escape_ascii().to_string(),
                other => panic!("an effect holds bulk strings, not {other:?}"),
            };
            let commands = self.1.effects.unit().commands().map(|(_, bytes)| {
                match crate::protocol::decode::decode(bytes).expect("well-formed").expect("whole") {
                    (Reply::Array(words), _) => words.iter().map(word).collect::<Vec<_>>().join(" "),
                    (other, _) => panic!("an effect is an array, not {other:?}"),
                }
            });
            let shown = commands.collect();
            self.1.effects.clear();
            shown
        }
    }

    fn payload(value: &[u8]) -> Vec<u8> {
        rdb::dump(&crate::keyspace::Entry::string(b"x", value, None))
    }

    #[test]
    fn a_payload_comes_back() {
        let mut data = Data::new();
        let payload = payload(b"value");
        assert_eq!(data.restore(&[b"k", b"0", &payload]), Ok(()));
        let busy = data.restore(&[b"k", b"0", &payload]);
        assert_eq!(busy, Err("BUSYKEY Target key name already exists.".to_owned()));
        assert_eq!(data.restore(&[b"k", b"500", &payload, b"REPLACE"]), Ok(()));
        let entry = data.0.database(0).get(b"k").expect("the key");
        assert_eq!(entry.expire_at_ms(), Some(NOW_MS + 500));
        let effects = data.effects();
        assert!(effects[1].contains("1000500") && effects[1].ends_with("REPLACE ABSTTL"), "{effects:?}");
    }

    #[test]
    fn what_is_expired_already_only_deletes() {
        let mut data = Data::new();
        let payload = payload(b"value");
        assert_eq!(data.restore(&[b"k", b"1", &payload, b"ABSTTL"]), Ok(()));
        assert!(data.effects().is_empty());
        assert_eq!(data.restore(&[b"k", b"0", &payload]), Ok(()));
        data.effects();
        assert_eq!(data.restore(&[b"k", b"1", &payload, b"ABSTTL", b"REPLACE"]), Ok(()));
        assert!(data.0.database(0).get(b"k").is_none());
        assert_eq!(data.effects(), ["UNLINK k"]);
    }

    #[test]
    fn bad_calls_are_refused() {
        let mut data = Data::new();
        let payload = payload(b"value");
        let mut broken = payload.clone();
        broken[1] ^= 1;
        let calls: [(&[&[u8]], &str); 9] = [
            (&[b"k", b"0", &broken], "ERR DUMP payload version or checksum are wrong"),
            (&[b"k", b"0", b"x"], "ERR DUMP payload version or checksum are wrong"),
            (&[b"k", b"x", &payload], "ERR value is not an integer or out of range"),
            (&[b"k", b"-1", &payload], "ERR Invalid TTL value, must be >= 0"),
            (&[b"k", b"0", &payload, b"NOTHING"], "ERR syntax error"),
            (&[b"k", b"0", &payload, b"IDLETIME"], "ERR syntax error"),
            (&[b"k", b"0", &payload, b"IDLETIME", b"-1"], "ERR Invalid IDLETIME value, must be >= 0"),
            (&[b"k", b"0", &payload, b"FREQ", b"256"], "ERR Invalid FREQ value, must be >= 0 and <= 255"),
            (&[b"k", b"0", &payload, b"FREQ", b"1", b"IDLETIME", b"1"], "ERR syntax error"),
        ];
        for (args, error) in calls {
            assert_eq!(data.restore(args), Err(error.to_owned()), "{args:?}");
        }
        assert!(data.0.database(0).is_empty() && data.effects().is_empty());
    }
}
