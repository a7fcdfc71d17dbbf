//! A dataset as commands: the base of an AOF where `aof-use-rdb-preamble` is `no`.
//!
//! Values that commands of plain words build are written as such, in commands of at most 64 elements; others as RESTORE of
//! their payload, in the form that most servers read. Whoever runs all of it in an empty dataset has the same one.

use std::io::{self, Write};

use super::writer::{Contents, dump_in_old_form};
use crate::keyspace::{Entry, Snapshot, ValueRef};
use crate::protocol::encode::append_command;
use crate::types::element::{Element, TextBuffer};

/// Elements that one command adds.
const AT_ONCE: usize = 64;
/// Bytes collected before they are written out.
const CHUNK: usize = 64 * 1024;

/// Writes everything. `selected` is the database that holds behind it. `after_key` is called with the number of keys written
/// so far and can end it by an error.
pub fn save_as_commands(
    contents: Contents<'_>,
    selected: usize,
    out: &mut dyn Write,
    after_key: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK * 2);
    for library in contents.functions.libraries() {
        append_command(&mut buffer, &[b"FUNCTION", &b"LOAD"[..], library.code()]);
    }
    for script in contents.scripts {
        append_command(&mut buffer, &[b"SCRIPT", &b"LOAD"[..], script.body()]);
    }
    let databases = contents.keyspace.map_or_else(Vec::new, Snapshot::into_databases);
    let databases = databases.into_iter().enumerate().filter(|(_, database)| !database.is_empty());
    let mut keys = 0;
    for (index, database) in databases {
        append_select(&mut buffer, index);
        database.into_entries().consume(|entry| {
            append_entry(&mut buffer, entry);
            if buffer.len() >= CHUNK {
                out.write_all(&buffer)?;
                buffer.clear();
            }
            keys += 1;
            after_key(keys)
        })?;
    }
    append_select(&mut buffer, selected);
    out.write_all(&buffer)
}

fn append_select(out: &mut Vec<u8>, database: usize) {
    append_command(out, &[b"SELECT", itoa::Buffer::new().format(database).as_bytes()]);
}

fn append_entry(out: &mut Vec<u8>, entry: &Entry) {
    let key = entry.key();
    match entry.value() {
        ValueRef::String(bytes) => append_command(out, &[b"SET", key, bytes]),
        ValueRef::Integer(number) => {
            append_command(out, &[b"SET", key, itoa::Buffer::new().format(number).as_bytes()]);
        }
        ValueRef::List(list) => {
            append_parts(out, b"RPUSH", key, list.iter().map(|element| vec![text(element)]))
        }
        ValueRef::Set(set) => append_parts(out, b"SADD", key, set.iter().map(|member| vec![text(member)])),
        ValueRef::Hash(hash) => {
            append_parts(
                out,
                b"HMSET",
                key,
                hash.iter().map(|field| vec![text(field.name), text(field.value)]),
            );
            for field in hash.iter() {
                if let Some(at_ms) = field.expire_at_ms {
                    let at = at_ms.to_string();
                    let name = text(field.name);
                    append_command(out, &[b"HPEXPIREAT", key, at.as_bytes(), b"FIELDS", b"1", &name]);
                }
            }
        }
        ValueRef::SortedSet(set) => {
            let pair = |rank| {
                set.get(rank).map(|(member, score)| vec![score.to_string().into_bytes(), text(member)])
            };
            append_parts(out, b"ZADD", key, (0..set.len()).filter_map(pair));
        }
        ValueRef::Stream(_) => append_command(out, &[b"RESTORE", key, b"0", &dump_in_old_form(entry)]),
    }
    if let Some(at_ms) = entry.expire_at_ms() {
        append_command(out, &[b"PEXPIREAT", key, at_ms.to_string().as_bytes()]);
    }
}

/// Appends commands `name key part...` that add all parts.
fn append_parts(out: &mut Vec<u8>, name: &[u8], key: &[u8], parts: impl Iterator<Item = Vec<Vec<u8>>>) {
    let mut parts = parts.peekable();
    while parts.peek().is_some() {
        let words: Vec<Vec<u8>> = parts.by_ref().take(AT_ONCE).flatten().collect();
        let head = [name, key];
        let all: Vec<&[u8]> = head.into_iter().chain(words.iter().map(Vec::as_slice)).collect();
        append_command(out, &all);
    }
}

fn text(element: Element<'_>) -> Vec<u8> {
    element.text(&mut TextBuffer::new()).to_vec()
}
