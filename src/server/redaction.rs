//! Which arguments of a call are secrets: passwords, and what says who may do what. Logs and MONITOR show a word in their
//! place.

use super::config::sensitive_arguments;
use super::table::Entry;
use crate::command::Args;

const SHOWN: &[u8] = b"(redacted)";

/// The arguments as they may be shown.
pub fn redacted<'a>(entry: &Entry, args: &Args<'a>) -> Vec<&'a [u8]> {
    let mut shown = args.to_vec();
    for index in secrets(&entry.full_name, args) {
        if let Some(argument) = shown.get_mut(index) {
            *argument = SHOWN;
        }
    }
    shown
}

fn secrets(command: &str, args: &Args<'_>) -> Vec<usize> {
    match command {
        "auth" => (1..args.len()).collect(),
        "hello" => args
            .iter()
            .position(|word| word.eq_ignore_ascii_case(b"auth"))
            .map_or(Vec::new(), |index| vec![index + 1, index + 2]),
        "migrate" => args
            .iter()
            .enumerate()
            .skip(6)
            .take_while(|(_, word)| !word.eq_ignore_ascii_case(b"keys"))
            .flat_map(|(index, word)| match word.to_ascii_lowercase().as_slice() {
                b"auth" => index + 1..index + 2,
                b"auth2" => index + 1..index + 3,
                _ => 0..0,
            })
            .collect(),
        "config|set" => sensitive_arguments(args),
        "acl|setuser" | "acl|deluser" | "acl|getuser" => (2..args.len()).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(command: &str, line: &str) -> String {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let secrets = secrets(command, &args);
        let words = line.split(' ').enumerate();
        let words = words.map(|(index, word)| if secrets.contains(&index) { "*" } else { word });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn secrets_are_found() {
        assert_eq!(shown("auth", "AUTH user password"), "AUTH * *");
        assert_eq!(shown("hello", "HELLO 3 auth u p SETNAME x"), "HELLO 3 auth * * SETNAME x");
        assert_eq!(shown("config|set", "CONFIG SET hz 10 RequirePass x"), "CONFIG SET hz 10 RequirePass *");
        assert_eq!(shown("acl|setuser", "ACL SETUSER a on >p"), "ACL SETUSER * * *");
        assert_eq!(
            shown("migrate", "MIGRATE h 1 k 0 9 COPY AUTH2 u p KEYS auth a"),
            "MIGRATE h 1 k 0 9 COPY AUTH2 * * KEYS auth a"
        );
        assert_eq!(shown("set", "SET a b"), "SET a b");
    }
}
