//! Lines to words and words to quoted text, as a configuration file has them.
//!
//! Invariant: [`split`] of a quoted text gives the text back, whatever its bytes.

use crate::protocol::request::split_arguments;

/// The words of a line; `None` if its quotes are not balanced.
///
/// The rules are those of inline commands but for one edge: a backslash escapes the last byte of a line too,
/// so a quote there does not close. A blank behind it makes it a byte like any other.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    split_arguments(&[line, b" "].concat())
}

/// The bytes in double quotes, with escapes for all that is not printable ASCII.
pub fn quote(bytes: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(bytes.len() + 2);
    quoted.push(b'"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => quoted.extend([b'\\', byte]),
            b'\n' => quoted.extend(b"\\n"),
            b'\r' => quoted.extend(b"\\r"),
            b'\t' => quoted.extend(b"\\t"),
            0x07 => quoted.extend(b"\\a"),
            0x08 => quoted.extend(b"\\b"),
            b' '..=b'~' => quoted.push(byte),
            _ => quoted.extend(format!("\\x{byte:02x}").into_bytes()),
        }
    }
    quoted.push(b'"');
    quoted
}
