//! Users and rules: who may run which command on which keys, channels and databases.
//!
//! It knows the command table and nothing of connections, files or configuration: what is stored is text that comes in
//! and goes out here, and a check is a question about one call.
//!
//! Invariants: the text of a user, applied to a new user, gives one with the same permissions; [`Users`] never changes, a change
//! makes another one.

mod check;
mod commands;
mod file;
mod log;
mod password;
mod patterns;
mod rules;
mod selector;
#[cfg(test)]
mod tests;
mod user;

pub use check::{Denial, Reason, check, reads_every_key};
pub use file::{load_file, save_file};
pub use log::{AclLog, Context, LogEntry};
pub use password::PasswordHash;
pub use rules::{ChannelDefault, RuleError, SetUserError, join_selectors};
pub use selector::Selector;
pub use user::{DEFAULT_USER, User, Users, is_valid_name};
