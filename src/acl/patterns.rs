//! Which keys, channels and databases a selector allows.

use std::collections::BTreeSet;

use super::rules::RuleError;
use crate::base::glob::{self, Case};
use crate::command::KeyUse;

/// Keys that match a pattern, to be read, written, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPattern {
    pub reads: bool,
    pub writes: bool,
    pub pattern: Vec<u8>,
}

impl KeyPattern {
    /// Does it give all that `uses` asks for?
    fn allows(&self, uses: KeyUse) -> bool {
        (self.reads || !uses.reads()) && (self.writes || !uses.writes())
    }

    fn gives_everything(&self) -> bool {
        self.reads && self.writes && self.pattern == b"*"
    }

    fn describe(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(match (self.reads, self.writes) {
            (true, false) => b"%R~",
            (false, true) => b"%W~",
            _ => b"~",
        });
        text.extend_from_slice(&self.pattern);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    All,
    /// In the order in which they were given, no pattern twice.
    Matching(Vec<KeyPattern>),
}

impl Keys {
    pub const NONE: Keys = Keys::Matching(Vec::new());

    pub fn allow(&self, key: &[u8], uses: KeyUse) -> bool {
        match self {
            Keys::All => true,
            Keys::Matching(patterns) => patterns
                .iter()
                .any(|pattern| pattern.allows(uses) && glob::matches(&pattern.pattern, key, Case::Sensitive)),
        }
    }

    /// May every key be used so?
    pub fn allow_every(&self, uses: KeyUse) -> bool {
        match self {
            Keys::All => true,
            Keys::Matching(patterns) => {
                patterns.iter().any(|pattern| pattern.allows(uses) && pattern.pattern == b"*")
            }
        }
    }

    /// Applies `~pattern`, `%R~pattern` and their kin.
    pub fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let Keys::Matching(patterns) = self else { return Err(RuleError::PatternAfterAllKeys) };
        let (reads, writes, pattern) = match rule {
            [b'~', pattern @ ..] => (true, true, pattern),
            [_, rest @ ..] => permissions(rest)?,
            [] => return Err(RuleError::Syntax),
        };
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        match patterns.iter_mut().find(|known| known.pattern == pattern) {
            Some(known) => {
                known.reads |= reads;
                known.writes |= writes;
            }
            None => patterns.push(KeyPattern { reads, writes, pattern: pattern.to_vec() }),
        }
        Ok(())
    }

    /// As GETUSER shows it.
    pub fn describe(&self) -> Vec<u8> {
        match self {
            Keys::All => b"~*".to_vec(),
            Keys::Matching(patterns) => {
                let mut text = Vec::new();
                for (index, pattern) in patterns.iter().enumerate() {
                    separate(&mut text);
                    // `~*` is read as `allkeys`, behind which no further pattern is taken.
                    if pattern.gives_everything() && index + 1 < patterns.len() {
                        text.extend_from_slice(b"%RW");
                    }
                    pattern.describe(&mut text);
                }
                text
            }
        }
    }
}

/// The letters behind `%` and the pattern behind their `~`, which may be missing: the pattern then is empty.
fn permissions(rest: &[u8]) -> Result<(bool, bool, &[u8]), RuleError> {
    let (mut reads, mut writes) = (false, false);
    for (index, byte) in rest.iter().enumerate() {
        match byte.to_ascii_uppercase() {
            b'R' if !reads => reads = true,
            b'W' if !writes => writes = true,
            b'~' if reads || writes => return Ok((reads, writes, &rest[index + 1..])),
            _ => return Err(RuleError::Syntax),
        }
    }
    if reads || writes { Ok((reads, writes, b"")) } else { Err(RuleError::Syntax) }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channels {
    All,
    /// In the order in which they were given, no pattern twice.
    Matching(Vec<Vec<u8>>),
}

impl Channels {
    pub const NONE: Channels = Channels::Matching(Vec::new());

    pub fn allow(&self, channel: &[u8], is_pattern: bool) -> bool {
        match self {
            Channels::All => true,
            Channels::Matching(patterns) => matches_any(patterns, channel, is_pattern),
        }
    }

    /// Applies the pattern of a `&` rule.
    pub fn apply(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        let Channels::Matching(patterns) = self else { return Err(RuleError::PatternAfterAllChannels) };
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        if !patterns.iter().any(|known| known == pattern) {
            patterns.push(pattern.to_vec());
        }
        Ok(())
    }

    /// As GETUSER shows it.
    pub fn describe(&self) -> Vec<u8> {
        match self {
            Channels::All => b"&*".to_vec(),
            Channels::Matching(patterns) => {
                let mut text = Vec::new();
                for pattern in patterns {
                    separate(&mut text);
                    text.push(b'&');
                    text.extend_from_slice(pattern);
                }
                text
            }
        }
    }
}

/// A channel is matched; a pattern to subscribe to must be one of the patterns, literally.
pub fn matches_any(patterns: &[Vec<u8>], channel: &[u8], is_pattern: bool) -> bool {
    patterns.iter().any(|pattern| match is_pattern {
        true => pattern == channel,
        false => glob::matches(pattern, channel, Case::Sensitive),
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Databases {
    All,
    Only(BTreeSet<u32>),
}

impl Databases {
    pub const NONE: Databases = Databases::Only(BTreeSet::new());

    pub fn allow(&self, database: usize) -> bool {
        match self {
            Databases::All => true,
            Databases::Only(allowed) => u32::try_from(database).is_ok_and(|number| allowed.contains(&number)),
        }
    }

    /// Reads the list behind `db=`, which takes the place of what was allowed before.
    pub fn parse(list: &[u8]) -> Result<Self, RuleError> {
        list.split(|byte| *byte == b',').map(parse_database).collect::<Result<_, _>>().map(Databases::Only)
    }

    /// As GETUSER shows it.
    pub fn describe(&self) -> Vec<u8> {
        match self {
            Databases::All => b"alldbs".to_vec(),
            Databases::Only(allowed) if allowed.is_empty() => Vec::new(),
            Databases::Only(allowed) => {
                let numbers: Vec<String> = allowed.iter().map(u32::to_string).collect();
                format!("db={}", numbers.join(",")).into_bytes()
            }
        }
    }
}

/// Blanks before a number and a plus sign are let pass.
fn parse_database(text: &[u8]) -> Result<u32, RuleError> {
    let text = text.trim_ascii_start();
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(RuleError::Syntax);
    }
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i32>().ok());
    number.and_then(|number| u32::try_from(number).ok()).ok_or(RuleError::DatabaseOutOfRange)
}

/// Names of users and patterns have none, so that rules can be written one behind the other.
pub fn has_spaces(text: &[u8]) -> bool {
    // C's isspace: also the vertical tab.
    text.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b))
}

fn separate(text: &mut Vec<u8>) {
    if !text.is_empty() {
        text.push(b' ');
    }
}
