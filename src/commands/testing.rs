//! A small server for the tests of commands: a dataset, the command table, and command lines in, replies out as text.
//!
//! It has no connections, admission or stream; what commands record and note is there to be looked at.

use std::convert::Infallible;
use std::fmt::Write;

use super::FAMILIES;
use crate::command::{CommandTable, Handler, Outcome, TableEntry, help_reply};
use crate::keyspace::{EventClasses, KeyExpiry, Keyspace, Reader, Settings, WriteState, WriteTxn};
use crate::protocol::request::split_arguments;
use crate::protocol::{ErrorReply, Protocol, Reply};

/// A dataset to run commands on. The clock stands until a test moves it.
pub struct TestData {
    pub keyspace: Keyspace,
    pub state: WriteState,
    pub database: usize,
    pub now_ms: u64,
    pub protocol: Protocol,
    pub expiry: KeyExpiry,
    table: CommandTable<Infallible>,
    events: Vec<String>,
}

#[expect(clippy::new_without_default, reason = "a test says what it begins with")]
impl TestData {
    /// An empty dataset of 16 databases that records effects and notes all events, at a round moment in 2023.
    pub fn new() -> Self {
        let events = EventClasses::ALL.and(EventClasses::NEW).and(EventClasses::KEYEVENT);
        let mut state = WriteState::default();
        state.effects.set_recording(true);
        TestData {
            keyspace: Keyspace::new(16, Settings { events, ..Settings::default() }),
            state,
            database: 0,
            now_ms: 1_700_000_000_000,
            protocol: Protocol::Resp2,
            expiry: KeyExpiry::Delete,
            table: CommandTable::new(FAMILIES, &[]),
            events: Vec::new(),
        }
    }

    /// Runs a line (quoted as inline commands are) and shows its reply as one
    /// line: `OK`, `(integer) 1`, `"text"`, `(nil)`, `(error) ERR …`, `[…]`, `{key => value}`, `~[…]`, `(blocked)`.
    pub fn run(&mut self, line: &str) -> String {
        let words = split_arguments(line.as_bytes()).expect("quotes are balanced");
        let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        self.run_args(&args)
    }

    /// As [`TestData::run`], with the arguments given.
    pub fn run_args(&mut self, args: &[&[u8]]) -> String {
        let TestData { keyspace, state, database, now_ms, protocol, expiry, table, events } = self;
        let handler = match find(table, args) {
            Ok(entry) => entry.handler,
            Err(error) => return text(&Reply::Error(error)),
        };
        let reader = Reader {
            keyspace,
            database: *database,
            now_ms: *now_ms,
            protocol: *protocol,
            expiry: *expiry,
            touch: true,
            counters: None,
        };
        if let Handler::Read(function) = handler {
            return text(&function(&reader, args).unwrap_or_else(Reply::Error));
        }
        if let Handler::BlockingRead(function) = handler {
            return match function(&reader, args) {
                Ok(Outcome::Reply(reply)) => text(&reply),
                Ok(Outcome::Block(_)) => "(blocked)".to_owned(),
                Err(error) => text(&Reply::Error(error)),
            };
        }
        let mut transaction = WriteTxn::new(keyspace, state, *database, *now_ms);
        transaction.protocol = *protocol;
        transaction.expiry = *expiry;
        if let Handler::Help(lines) = handler {
            return text(&help_reply(args[0], lines));
        }
        let outcome = transaction.call(args, |transaction| match handler {
            Handler::Write(function) | Handler::Caching(_, function) => {
                function(transaction, args).map(Outcome::Reply)
            }
            Handler::Blocking(function) => function(transaction, args),
            _ => Err(ErrorReply::SYNTAX),
        });
        assert_eq!(transaction.database, *database, "a command must leave the selected database");
        for event in state.finish(keyspace).events {
            let place =
                if event.database == *database { String::new() } else { format!("{}:", event.database) };
            events.push(format!("{place}{} {}", event.name, event.key.escape_ascii()));
        }
        match outcome {
            Ok(Outcome::Reply(reply)) => text(&reply),
            Ok(Outcome::Block(_)) => "(blocked)".to_owned(),
            Err(error) => text(&Reply::Error(error)),
        }
    }

    /// What was recorded since the last call: words with spaces between, a database other than 0 in front.
    pub fn effects(&mut self) -> Vec<String> {
        let show = |(database, bytes): (usize, &[u8])| {
            let (reply, _) = crate::protocol::decode::decode(bytes).expect("well-formed").expect("whole");
            let Reply::Array(words) = reply else { panic!("an effect is an array") };
            let words: Vec<String> = words
                .iter()
                .map(|word| match word {
                    Reply::Bulk(word) => word.escape_ascii().to_string(),
                    Reply::Owned(word) => word.escape_ascii().to_string(),
                    other => panic!("an effect holds bulk strings, not {other:?}"),
                })
                .collect();
            let place = if database == 0 { String::new() } else { format!("{database}:") };
            place + &words.join(" ")
        };
        let effects = self.state.effects.unit().commands().map(show).collect();
        self.state.effects.clear();
        effects
    }

    /// The events noted since the last call, each as name and key.
    pub fn events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    /// Runs each line and compares its reply: `line => reply`, one a line; blank lines and what follows `//` do not count.
    pub fn check(&mut self, script: &str) {
        for step in script.lines().map(str::trim).filter(|step| !step.is_empty() && !step.starts_with("//")) {
            let (line, expected) = step.split_once(" => ").expect("a step is `line => reply`");
            assert_eq!(self.run(line), expected.trim(), "{line}");
        }
    }
}

fn find<'t>(
    table: &'t CommandTable<Infallible>,
    args: &[&[u8]],
) -> Result<&'t TableEntry<Infallible>, ErrorReply> {
    let name = args.first().copied().unwrap_or_default();
    let mut entry = table.find(name).ok_or(ErrorReply::new("ERR unknown command"))?;
    if matches!(entry.handler, Handler::Container) {
        let word = args.get(1).copied().unwrap_or_default();
        entry = table.subcommand(entry, word).ok_or(ErrorReply::new("ERR unknown subcommand"))?;
    }
    if entry.arity_fits(args.len()) {
        Ok(entry)
    } else {
        let name = &entry.full_name;
        Err(ErrorReply::from_text(format!("ERR wrong number of arguments for '{name}' command")))
    }
}

/// A reply as one line; see [`TestData::run`].
pub fn text(reply: &Reply<'_>) -> String {
    let mut out = String::new();
    show(reply, &mut out);
    out
}

fn show(reply: &Reply<'_>, out: &mut String) {
    let written = match reply {
        Reply::Ok => write!(out, "OK"),
        Reply::Status(line) => write!(out, "{line}"),
        Reply::Error(error) => {
            write!(out, "(error) {}", error.0.escape_ascii().to_string().replace("\\'", "'"))
        }
        Reply::Integer(number) => write!(out, "(integer) {number}"),
        Reply::Bulk(bytes) => write!(out, "\"{}\"", bytes.escape_ascii()),
        Reply::Owned(bytes) => write!(out, "\"{}\"", bytes.escape_ascii()),
        Reply::BulkInteger(number) => write!(out, "\"{number}\""),
        Reply::Nil | Reply::NilArray => write!(out, "(nil)"),
        Reply::Bool(value) => write!(out, "({value})"),
        Reply::Double(value) => write!(out, "(double) {value}"),
        Reply::Array(replies) => return show_all("[", replies, out),
        Reply::Set(replies) => return show_all("~[", replies, out),
        Reply::Map(pairs) => {
            out.push('{');
            for (index, (key, value)) in pairs.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                show(key, out);
                out.push_str(" => ");
                show(value, out);
            }
            write!(out, "}}")
        }
        other => write!(out, "{other:?}"),
    };
    written.expect("a string takes all that is written");
}

fn show_all(open: &str, replies: &[Reply<'_>], out: &mut String) {
    out.push_str(open);
    for (index, reply) in replies.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { ", " });
        show(reply, out);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_effects_and_events() {
        let mut data = TestData::new();
        assert_eq!(data.run("nothing"), "(error) ERR unknown command");
        assert_eq!(data.run("sadd s"), "(error) ERR wrong number of arguments for 'sadd' command");
        assert_eq!(data.run("sadd s a"), "(integer) 1");
        assert_eq!(data.run("smembers s"), "~[\"a\"]");
        assert_eq!(data.run("sadd s"), "(error) ERR wrong number of arguments for 'sadd' command");
        assert_eq!(data.effects(), ["sadd s a"]);
        assert_eq!(data.events(), ["new s", "sadd s"]);
    }
}
