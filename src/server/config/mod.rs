//! The configuration: [`Config`] holds the value of every directive, [`DIRECTIVES`] says everything about
//! them, and the functions here are CONFIG GET, SET and REWRITE and the reading of files and arguments.
//!
//! It must not know sockets, clients or the keyspace: a change that needs action is answered as an
//! [`Effect`], and the server acts.
//!
//! Readers hold an `Arc<Config>` (see [`shared`]), so that reading a value is a plain load; a change makes a
//! new `Config` and publishes it.

mod checks;
mod directive;
mod load;
mod quote;
mod rewrite;
pub mod shared;
mod special;
mod table;
#[cfg(test)]
mod tests;
mod values;

use crate::base::glob::{self, Case};
use crate::protocol::ErrorReply;

pub use directive::{Directive, Effect, Flags, Kind, NumberFormat, parse_memory};
pub use load::{Accept, LineCheck, LoadError, Source};
pub use quote::{quote, split};
pub use shared::{ConfigReader, SharedConfig};
pub use special::system_reason;
pub use table::{Config, DIRECTIVES};
pub use values::*;

/// Who asks for a change, and when.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// The client is on this machine.
    pub is_local: bool,
    /// The dataset is loading.
    pub is_loading: bool,
}

/// Something to do after a set, and the directive that asked for it.
#[derive(Clone, Copy)]
pub struct Change {
    pub directive: &'static Directive,
    pub effect: Effect,
}

/// The directive of a name or an alias, in any case.
pub fn find(name: &[u8]) -> Option<&'static Directive> {
    DIRECTIVES.iter().find(|directive| {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        is(directive.name) || directive.alias.is_some_and(is)
    })
}

/// Which arguments of `CONFIG SET name value …` are secrets, not to be shown in any log.
pub fn sensitive_arguments(argv: &[&[u8]]) -> Vec<usize> {
    let names = argv.iter().enumerate().skip(2).step_by(2);
    names
        .filter(|(_, name)| find(name).is_some_and(|directive| directive.flags.contains(Flags::SENSITIVE)))
        .map(|(index, _)| index + 1)
        .filter(|index| *index < argv.len())
        .collect()
}

/// The reply of a CONFIG SET that failed because of one directive.
fn set_failed(name: &[u8], reason: &str) -> ErrorReply {
    let mut text = b"ERR CONFIG SET failed (possibly related to argument '".to_vec();
    text.extend_from_slice(name);
    text.extend_from_slice(b"') - ");
    text.extend_from_slice(reason.as_bytes());
    ErrorReply::from_text(text)
}

impl Config {
    /// CONFIG GET: the names that match, as they match, and their values. A name without a pattern is looked
    /// up as it is, in any case, and answered as it was asked; only so are hidden directives found.
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for pattern in patterns {
            let has_pattern = pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['));
            if !has_pattern {
                if let Some(directive) = find(pattern) {
                    add(&mut found, pattern, || directive.get(self));
                }
                continue;
            }
            for directive in DIRECTIVES.iter().filter(|directive| !directive.flags.contains(Flags::HIDDEN)) {
                for name in std::iter::once(directive.name).chain(directive.alias) {
                    if glob::matches(pattern, name.as_bytes(), Case::Insensitive) {
                        add(&mut found, name.as_bytes(), || directive.get(self));
                    }
                }
            }
        }
        found
    }

    /// CONFIG SET, all or nothing: what the server has to do now, each effect once.
    ///
    /// # Errors
    /// What CONFIG SET replies; nothing has changed then.
    pub fn set_many(&mut self, pairs: &[(&[u8], &[u8])], access: Access) -> Result<Vec<Change>, ErrorReply> {
        let directives = self.settable(pairs, access)?;
        let mut new = self.clone();
        let mut changes: Vec<Change> = Vec::new();
        for (directive, (_, value)) in directives.into_iter().zip(pairs) {
            let words: Vec<&[u8]> = match directive.flags.contains(Flags::MULTI) {
                true if value.is_empty() => Vec::new(),
                true => value.split(|byte| *byte == b' ').collect(),
                false => vec![value],
            };
            let changed = directive
                .set(&mut new, &words, directive::Origin::Runtime)
                .map_err(|reason| set_failed(directive.name.as_bytes(), &reason))?;
            let effect = directive.effect.filter(|_| changed);
            if let Some(effect) =
                effect.filter(|effect| changes.iter().all(|change| change.effect != *effect))
            {
                changes.push(Change { directive, effect });
            }
        }
        new.take_hints();
        *self = new;
        Ok(changes)
    }

    /// The directives of the pairs, if each may be set.
    fn settable(
        &self,
        pairs: &[(&[u8], &[u8])],
        access: Access,
    ) -> Result<Vec<&'static Directive>, ErrorReply> {
        let mut directives: Vec<&'static Directive> = Vec::new();
        for (name, _) in pairs {
            let Some(directive) = find(name) else {
                let mut text = b"ERR Unknown option or number of arguments for CONFIG SET - '".to_vec();
                text.extend_from_slice(name);
                text.push(b'\'');
                return Err(ErrorReply::from_text(text));
            };
            let may_set_protected = match self.enable_protected_configs {
                ProtectedAction::Yes => true,
                ProtectedAction::Local => access.is_local,
                ProtectedAction::No => false,
            };
            if directive.flags.contains(Flags::IMMUTABLE) {
                return Err(set_failed(name, "can't set immutable config"));
            }
            if directive.flags.contains(Flags::PROTECTED) && !may_set_protected {
                return Err(set_failed(name, "can't set protected config"));
            }
            if access.is_loading && directive.flags.contains(Flags::DENY_LOADING) {
                return Err(ErrorReply::new("LOADING Valkey is loading the dataset in memory"));
            }
            if directives.iter().any(|other| std::ptr::eq(*other, directive)) {
                return Err(set_failed(name, "duplicate parameter"));
            }
            directives.push(directive);
        }
        Ok(directives)
    }
}

fn add(found: &mut Vec<(Vec<u8>, Vec<u8>)>, name: &[u8], value: impl FnOnce() -> Vec<u8>) {
    if found.iter().all(|(other, _)| other != name) {
        found.push((name.to_vec(), value()));
    }
}
