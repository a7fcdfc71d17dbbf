//! The debugger of scripts over the wire: what a person who debugs sees, and what nobody else may notice.

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod differential;
mod sessions;

use common::client::{Client, Reply};

/// A connection on which a script is debugged.
struct Session {
    client: Client,
}

impl Session {
    /// Begins in a mode, `YES` or `SYNC`; also returns the lines with which it stops at first.
    fn begin(mut client: Client, mode: &str, script: &str, arguments: &[&str]) -> (Session, Vec<String>) {
        assert_eq!(client.call(&format!("SCRIPT DEBUG {mode}")).text(), "OK");
        let words = [&["EVAL", script][..], if arguments.is_empty() { &["0"] } else { arguments }].concat();
        let stop = client.call_args(&words);
        (Session { client }, lines(&stop))
    }

    /// The lines that answer a command.
    fn say(&mut self, words: &str) -> Vec<String> {
        lines(&self.client.call(words))
    }

    /// As [`say`](Self::say), of the command that ends the session; also returns the script's reply.
    fn end(mut self, words: &str) -> (Vec<String>, Reply) {
        let last = self.say(words);
        assert_eq!(last.last().map(String::as_str), Some("<endsession>"), "{last:?}");
        let reply = self.client.read().expect("the reply of the script");
        assert_eq!(self.client.read_to_end().expect("the end of the connection"), b"");
        (last, reply)
    }
}

/// The status lines of an array.
fn lines(reply: &Reply) -> Vec<String> {
    reply
        .items()
        .iter()
        .map(|line| match line {
            Reply::Line(text) if text.first() == Some(&b'+') => line.text(),
            other => panic!("no status line: {other:?}"),
        })
        .collect()
}
