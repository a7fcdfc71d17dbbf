//! A user, and all users of a server.
//!
//! Invariant: there always is a user `default`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::password::PasswordHash;
use super::patterns::{Channels, has_spaces, matches_any};
use super::rules::{ChannelDefault, RuleError, SetUserError, join_selectors};
use super::selector::Selector;
use crate::command::CommandTable;
use crate::protocol::request::split_arguments;

/// The user whom connections have before they authenticate.
pub const DEFAULT_USER: &[u8] = b"default";

/// May a user be named so?
pub fn is_valid_name(name: &[u8]) -> bool {
    !has_spaces(name)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: Vec<u8>,
    pub enabled: bool,
    /// Any password will do.
    pub no_password: bool,
    passwords: Vec<PasswordHash>,
    root: Selector,
    /// Besides the root.
    selectors: Vec<Selector>,
}

impl User {
    /// A new user: off, without a password, allowed nothing.
    pub fn new(name: &[u8], default: ChannelDefault) -> Self {
        User {
            name: name.to_vec(),
            enabled: false,
            no_password: false,
            passwords: Vec::new(),
            root: Selector::new(default),
            selectors: Vec::new(),
        }
    }

    /// The user `default` of a server without rules: on, without a password, allowed everything.
    pub fn unrestricted(name: &[u8]) -> Self {
        let mut user = User::new(name, ChannelDefault::All);
        user.enabled = true;
        user.no_password = true;
        user.root = Selector::everything();
        user
    }

    /// The root selector, then the others.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.selectors)
    }

    pub fn root(&self) -> &Selector {
        &self.root
    }

    pub fn passwords(&self) -> &[PasswordHash] {
        &self.passwords
    }

    /// The flags that are set, by name.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.no_password {
            flags.push("nopass");
        }
        flags
    }

    /// May the user do whatever it likes?
    pub fn may_everything(&self) -> bool {
        self.selectors().any(Selector::allows_everything)
    }

    /// Can one authenticate as this user with this password?
    pub fn accepts(&self, password: &[u8]) -> bool {
        if !self.enabled || self.no_password {
            return self.enabled;
        }
        let hash = PasswordHash::of(password);
        // All are compared, so that the time does not tell which one fits.
        self.passwords.iter().fold(false, |fits, known| known.fits(&hash) | fits)
    }

    /// `requirepass`: this is the only password; an empty one means that none is needed.
    pub fn set_only_password(&mut self, password: &[u8]) {
        self.passwords.clear();
        self.no_password = password.is_empty();
        if !password.is_empty() {
            self.passwords.push(PasswordHash::of(password));
        }
    }

    /// Applies one rule. After an error the user is as it was.
    pub fn apply<H>(
        &mut self,
        rule: &[u8],
        table: &CommandTable<H>,
        default: ChannelDefault,
    ) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        match rule {
            [] => {}
            _ if is("on") || is("off") => self.enabled = is("on"),
            // Payloads of RESTORE are always checked: these are read because older files have them.
            _ if is("sanitize-payload") || is("skip-sanitize-payload") => {}
            _ if is("nopass") || is("resetpass") => {
                self.no_password = is("nopass");
                self.passwords.clear();
            }
            [b'>', password @ ..] => self.add_password(PasswordHash::of(password)),
            [b'#', digits @ ..] => {
                self.add_password(PasswordHash::parse(digits).ok_or(RuleError::BadHash)?);
            }
            [b'<', password @ ..] => self.remove_password(PasswordHash::of(password))?,
            [b'!', digits @ ..] => {
                self.remove_password(PasswordHash::parse(digits).ok_or(RuleError::BadHash)?)?;
            }
            [b'(', rules @ .., b')'] => {
                let mut selector = Selector::new(default);
                for rule in split_arguments(rules).ok_or(RuleError::Syntax)? {
                    selector.apply(&rule, table)?;
                }
                self.selectors.push(selector);
            }
            _ if is("clearselectors") => self.selectors.clear(),
            _ if is("reset") => *self = User::new(&self.name, default),
            _ => self.root.apply(rule, table)?,
        }
        Ok(())
    }

    fn add_password(&mut self, hash: PasswordHash) {
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
        self.no_password = false;
    }

    fn remove_password(&mut self, hash: PasswordHash) -> Result<(), RuleError> {
        let place = self.passwords.iter().position(|known| *known == hash);
        self.passwords.remove(place.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    /// Applies rules, all of them or none; a selector may be spread over several words.
    pub fn apply_all<H>(
        &mut self,
        words: &[&[u8]],
        table: &CommandTable<H>,
        default: ChannelDefault,
    ) -> Result<(), SetUserError> {
        let rules = join_selectors(words).map_err(|index| SetUserError::Unmatched(words[index].to_vec()))?;
        let mut changed = self.clone();
        for rule in &rules {
            changed
                .apply(rule, table, default)
                .map_err(|error| SetUserError::Rule { rule: rule.to_vec(), error })?;
        }
        *self = changed;
        Ok(())
    }

    /// The rules that make this user, given to a new one: as ACL LIST shows it behind the name.
    pub fn describe(&self) -> Vec<u8> {
        let mut text = self.flags().join(" ").into_bytes();
        for password in &self.passwords {
            text.extend_from_slice(b" #");
            text.extend_from_slice(password.to_digits().as_bytes());
        }
        text.push(b' ');
        text.extend_from_slice(&self.root.describe());
        for selector in &self.selectors {
            text.extend_from_slice(b" (");
            text.extend_from_slice(&selector.describe());
            text.push(b')');
        }
        text
    }

    /// The channel patterns that remain, if some that `old` had are gone; `None` if nothing was taken away.
    pub fn fewer_channels(&self, old: &User) -> Option<Vec<Vec<u8>>> {
        let mut remaining = Vec::new();
        for selector in self.selectors() {
            match &selector.channels {
                Channels::All => return None,
                Channels::Matching(patterns) => remaining.extend(patterns.iter().cloned()),
            }
        }
        let kept = old.selectors().all(|selector| match &selector.channels {
            Channels::All => false,
            Channels::Matching(patterns) => patterns.iter().all(|pattern| remaining.contains(pattern)),
        });
        (!kept).then_some(remaining)
    }

    /// May a subscription stay, when `remaining` are the patterns of channels that are still allowed?
    pub fn may_stay_subscribed(remaining: &[Vec<u8>], name: &[u8], is_pattern: bool) -> bool {
        matches_any(remaining, name, is_pattern)
    }
}

/// All users at one moment.
#[derive(Debug, Clone)]
pub struct Users {
    by_name: BTreeMap<Vec<u8>, Arc<User>>,
}

impl Default for Users {
    /// Only `default`, who may do everything.
    fn default() -> Self {
        Users::new([])
    }
}

impl Users {
    /// These, and `default` if it is not among them.
    pub fn new(users: impl IntoIterator<Item = User>) -> Self {
        let default = User::unrestricted(DEFAULT_USER);
        let all = std::iter::once(default).chain(users);
        Users { by_name: all.map(|user| (user.name.clone(), Arc::new(user))).collect() }
    }

    pub fn get(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    pub fn default_user(&self) -> &Arc<User> {
        self.by_name.get(DEFAULT_USER).expect("is made with the users and never removed")
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.by_name.values()
    }

    /// Puts a user in place of the one with its name.
    pub fn put(&mut self, user: User) {
        self.by_name.insert(user.name.clone(), Arc::new(user));
    }

    /// `false`: there is none, or it is `default`.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        name != DEFAULT_USER && self.by_name.remove(name).is_some()
    }

    /// The lines of ACL LIST, without the word `user`: name and rules.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        self.iter().map(|user| [user.name.as_slice(), b" ", &user.describe()].concat()).collect()
    }
}
