//! The file of users (`aclfile`): a line `user NAME RULE …` each. Comments are refused, since ACL SAVE would lose them.
//!
//! Invariant: a file with anything wrong in it changes nothing.

use super::rules::{ChannelDefault, RuleError, join_selectors};
use super::user::{User, Users, is_valid_name};
use crate::command::CommandTable;

/// Reads all users. `shown` is what the file is called in messages.
///
/// # Errors
/// Everything that is wrong, one sentence behind the other, as ACL LOAD replies.
pub fn load_file<H>(
    text: &[u8],
    shown: &str,
    table: &CommandTable<H>,
    default: ChannelDefault,
) -> Result<Users, Vec<u8>> {
    let mut users: Vec<User> = Vec::new();
    let mut errors = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = trim(line, b" \t\r\n");
        if line.is_empty() {
            continue;
        }
        let at = format!("{shown}:{}", index + 1);
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [b"user", name, rules @ ..] = words.as_slice() else {
            errors.extend(
                format!("{at} should start with user keyword followed by the username. ").into_bytes(),
            );
            continue;
        };
        if !is_valid_name(name) {
            errors.extend(format!("'{at}: username '").into_bytes());
            errors.extend_from_slice(name);
            errors.extend_from_slice(b"' contains invalid characters. ");
            continue;
        }
        if users.iter().any(|user| user.name == *name) {
            errors.extend_from_slice(b"WARNING: Duplicate user '");
            errors.extend_from_slice(name);
            errors.extend(format!("' found on line {}. ", index + 1).into_bytes());
            continue;
        }
        let mut user = User::new(name, default);
        apply(&mut user, rules, &at, table, default, &mut errors);
        users.push(user);
    }
    if errors.is_empty() {
        return Ok(Users::new(users));
    }
    errors.extend_from_slice(
        b"WARNING: ACL errors detected, no change to the previously active ACL rules was performed",
    );
    Err(errors)
}

fn apply<H>(
    user: &mut User,
    rules: &[&[u8]],
    at: &str,
    table: &CommandTable<H>,
    default: ChannelDefault,
    errors: &mut Vec<u8>,
) {
    let Ok(rules) = join_selectors(rules) else {
        errors.extend(format!("{at}: Unmatched parenthesis in selector definition.").into_bytes());
        return;
    };
    let mut is_broken = false;
    for rule in &rules {
        let rule = trim(rule, b"\t\r\n");
        match user.apply(rule, table, default) {
            Ok(()) => {}
            // A command's name is no secret. Of other faults only the first is told: the rest may follow from it.
            Err(error @ RuleError::UnknownCommand) => {
                errors.extend(format!("{at}: Error in applying operation '").into_bytes());
                errors.extend_from_slice(rule);
                errors.extend(format!("': {error}. ").into_bytes());
            }
            Err(error) => {
                if !std::mem::replace(&mut is_broken, true) {
                    errors.extend(format!("{at}: {error}. ").into_bytes());
                }
            }
        }
    }
}

/// The text of a file with these users.
pub fn save_file(users: &Users) -> Vec<u8> {
    users.lines().iter().flat_map(|line| [b"user ", line.as_slice(), b"\n"].concat()).collect()
}

fn trim<'a>(text: &'a [u8], blanks: &[u8]) -> &'a [u8] {
    let is_kept = |byte: &u8| !blanks.contains(byte);
    match (text.iter().position(is_kept), text.iter().rposition(is_kept)) {
        (Some(first), Some(last)) => &text[first..=last],
        _ => b"",
    }
}
