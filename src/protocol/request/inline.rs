//! Lines of words with quotes, as inline commands and configuration files have them.
//!
//! White space parts words. In double quotes a backslash escapes: `\n`, `\r`, `\t`, `\b`, `\a`, `\xHH`, else
//! the character itself; in single quotes it escapes only the single quote. Quoted and bare parts that
//! touch are one word. A quote left open is an error. A backslash before the very last character of the
//! line escapes nothing, as nothing could close the quote then.

use super::Argument;
use crate::base::number::is_space;

/// Splits a line into words; `None` if its quotes are not balanced.
pub fn split_arguments(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut line = line.to_vec();
    let mut words = Vec::new();
    split_in_place(&mut line, 0, &mut words)
        .then(|| words.iter().map(|word| word.of(&line).to_vec()).collect())
}

/// Splits a line, which stands at `base` in its buffer, and moves the bytes of unescaped words within
/// it. False if quotes are not balanced; then the line and the output are left half done.
pub(super) fn split_in_place(line: &mut [u8], base: usize, words: &mut Vec<Argument>) -> bool {
    let mut from = 0;
    let mut to = 0;
    loop {
        while line.get(from).is_some_and(|&b| is_space(b)) {
            from += 1;
        }
        if from == line.len() {
            return true;
        }
        // Words only shrink, so writing never overtakes reading.
        to = to.max(from);
        let start = to;
        let mut quote = None;
        while let Some(&byte) = line.get(from) {
            let (unescaped, len) = match (quote, byte) {
                (None, b' ' | b'\n' | b'\r' | b'\t') => break,
                (None, b'"' | b'\'') => {
                    quote = Some(byte);
                    from += 1;
                    continue;
                }
                (Some(open), close) if open == close => {
                    quote = None;
                    from += 1;
                    continue;
                }
                (Some(b'"'), b'\\') => escape(&line[from..]),
                (Some(b'\''), b'\\') if line[from..].len() > 2 && line[from + 1] == b'\'' => (b'\'', 2),
                (_, byte) => (byte, 1),
            };
            line[to] = unescaped;
            to += 1;
            from += len;
        }
        if quote.is_some() {
            return false;
        }
        words.push(Argument { start: base + start, len: to - start });
    }
}

/// The byte that the escape sequence at the start of `text` stands for, and the length of the sequence.
fn escape(text: &[u8]) -> (u8, usize) {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    match *text {
        [_, b'x', high, low, ..] if digit(high).is_some() && digit(low).is_some() => {
            (digit(high).unwrap_or(0) << 4 | digit(low).unwrap_or(0), 4)
        }
        [_, _] | [_] => (b'\\', 1),
        [_, b'n', ..] => (b'\n', 2),
        [_, b'r', ..] => (b'\r', 2),
        [_, b't', ..] => (b'\t', 2),
        [_, b'b', ..] => (0x08, 2),
        [_, b'a', ..] => (0x07, 2),
        [_, other, ..] => (other, 2),
        [] => (b'\\', 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(line: &str) -> Option<Vec<String>> {
        let words = split_arguments(line.as_bytes())?;
        Some(words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect())
    }

    /// Taken from a running server.
    #[test]
    fn words() {
        for (line, words) in [
            ("", &[][..]),
            ("  \t ", &[]),
            ("GET key", &["GET", "key"]),
            ("  GET\tkey \r", &["GET", "key"]),
            (r#"a "b c" 'd e'"#, &["a", "b c", "d e"]),
            (r#""a"b"#, &["ab"]),
            (r#"a"b c"d"#, &["ab cd"]),
            (r#"'a'"b"'c'"#, &["abc"]),
            (r#""" ''"#, &["", ""]),
            (r#""a\x41\n\r\t\b\a\e\"\\'""#, &["aA\n\r\t\x08\x07e\"\\'"]),
            (r#""\x4""#, &["x4"]),
            (r#""\x4g\x""#, &["x4gx"]),
            (r"'a\'b\n\\'", &[r"a'b\n\\"]),
            (r"'a\\\\'", &[r"a\\\\"]),
            (r"'a\'", &[r"a\"]),
            (r#""a\""#, &[r"a\"]),
            (r"a\b a\\b \", &[r"a\b", r"a\\b", r"\"]),
            ("a\x0bb \x0bc", &["a\x0bb", "c"]),
            ("\"a\"\x0bb", &["a\x0bb"]),
        ] {
            assert_eq!(
                split(line).as_deref(),
                Some(words.iter().map(|w| w.to_string()).collect::<Vec<_>>()).as_deref(),
                "{line:?}"
            );
        }
        for line in ["\"", "'", "\"abc", "'abc", r#"a\"b"#, r#""a\x"#, r"'\", "a 'b"] {
            assert_eq!(split(line), None, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn quoted_bytes_come_back(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5)) {
            let mut line = Vec::new();
            for word in &words {
                line.push(b'"');
                for byte in word {
                    line.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
                }
                line.extend_from_slice(b"\" ");
            }
            prop_assert_eq!(split_arguments(&line), Some(words));
        }

        #[test]
        fn any_line_ends(line in prop::collection::vec(prop::sample::select(b"ab \\\"'x4\n".to_vec()), 0..30)) {
            split_arguments(&line);
        }
    }
}
