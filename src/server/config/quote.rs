//! Lines to words and words to quoted text, as a configuration file has them.
//!
//! Invariant: [`split`] of a quoted text gives the text back, whatever its bytes.

use crate::protocol::request::split_arguments;

pub use crate::base::quote::quote;

/// The words of a line; `None` if its quotes are not balanced.
///
/// The rules are those of inline commands but for one edge: a backslash escapes the last byte of a line too,
/// so a quote there does not close. A blank behind it makes it a byte like any other.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    split_arguments(&[line, b" "].concat())
}
