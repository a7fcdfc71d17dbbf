//! A dataset small enough to look through, the commands that change it, and its snapshots.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use understudy::stream::{NO_REPLID, ReplicationId};

/// Keys with the number of their database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dataset {
    keys: BTreeMap<(usize, String), String>,
    digest: u64,
}

impl Dataset {
    pub fn get(&self, database: usize, key: &str) -> Option<&str> {
        self.keys.get(&(database, key.to_owned())).map(String::as_str)
    }

    pub fn set(&mut self, database: usize, key: &str, value: &str) {
        let place = (database, key.to_owned());
        if let Some(old) = self.keys.insert(place.clone(), value.to_owned()) {
            self.digest ^= hash(&place, &old);
        }
        self.digest ^= hash(&place, value);
    }

    /// Equal datasets have equal ones.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Runs a command of the stream. `database` is the selected one.
    pub fn apply(&mut self, database: &mut usize, words: &[&[u8]]) {
        let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        match words {
            [b"SELECT", index] => *database = text(index).parse().expect("a number"),
            [b"SET", key, value] => self.set(*database, &text(key), &text(value)),
            [b"PING" | b"MULTI" | b"EXEC"] | [b"REPLCONF", ..] => {}
            other => panic!("a command that nobody wrote: {other:?}"),
        }
    }
}

fn hash(place: &(usize, String), value: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one((place, value))
}

/// One moment of a dataset, and of the stream that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    pub data: Dataset,
    pub database: usize,
    pub replid: ReplicationId,
    pub offset: u64,
}

impl Moment {
    pub fn save(&self) -> Vec<u8> {
        let id = String::from_utf8_lossy(&self.replid);
        let mut text = format!("{} {id} {} {}\n", self.database, self.offset, self.data.keys.len());
        for ((database, key), value) in &self.data.keys {
            text.push_str(&format!("{database} {key} {value}\n"));
        }
        text.into_bytes()
    }

    /// `None`: damaged.
    pub fn load(bytes: &[u8]) -> Option<Moment> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (first, rest) = text.split_once('\n')?;
        let words: Vec<&str> = first.split(' ').collect();
        let [database, id, offset, count] = words.as_slice() else { return None };
        let mut data = Dataset::default();
        for line in rest.strip_suffix('\n').unwrap_or(rest).split('\n').filter(|line| !line.is_empty()) {
            let (place, value) = line.rsplit_once(' ')?;
            let (database, key) = place.split_once(' ')?;
            data.set(database.parse().ok()?, key, value);
        }
        let is_whole = count.parse() == Ok(data.keys.len()) && rest.ends_with('\n') | rest.is_empty();
        let replid = id.as_bytes().try_into().unwrap_or(NO_REPLID);
        is_whole.then_some(Moment {
            data,
            database: database.parse().ok()?,
            replid,
            offset: offset.parse().ok()?,
        })
    }
}

/// One unit of the stream: a command, or a transaction.
pub struct Unit {
    pub length: usize,
    pub commands: Vec<Vec<Vec<u8>>>,
}

impl Unit {
    /// The unit that the bytes begin with, once it is whole.
    pub fn parse(bytes: &[u8]) -> Option<Unit> {
        let mut unit = Unit { length: 0, commands: Vec::new() };
        loop {
            let (length, words) = parse_command(&bytes[unit.length..])?;
            unit.length += length;
            let is_over = unit.commands.is_empty() && words[0] != b"MULTI" || words[0] == b"EXEC";
            unit.commands.push(words);
            if is_over {
                return Some(unit);
            }
        }
    }

    pub fn apply(&self, data: &mut Dataset, database: &mut usize) {
        for command in &self.commands {
            let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            data.apply(database, &words);
        }
    }

    /// Does the primary ask for an acknowledgement?
    pub fn asks(&self) -> bool {
        self.commands[0][0] == b"REPLCONF"
    }
}

/// The length and words of the command that the bytes begin with, once it is whole.
pub fn parse_command(bytes: &[u8]) -> Option<(usize, Vec<Vec<u8>>)> {
    let number = |from: usize, sign: u8| -> Option<(usize, usize)> {
        let end = from + bytes.get(from..)?.windows(2).position(|pair| pair == b"\r\n")?;
        let text = std::str::from_utf8(bytes[from..end].strip_prefix(&[sign])?).ok()?;
        Some((text.parse().ok()?, end + 2))
    };
    let (count, mut at) = number(0, b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (length, from) = number(at, b'$')?;
        words.push(bytes.get(from..from + length)?.to_vec());
        at = from + length + 2;
    }
    (at <= bytes.len()).then_some((at, words))
}
