//! The commands that touch only keys, one file per family: functions and their `COMMANDS`.
//!
//! They know the dataset by `Reader` and `WriteTxn` only; a handler here cannot reach the server, a connection or the
//! stream. To add a command, write its function and its constant in the file of its family.

mod bitfield;
mod bitmaps;
mod expiry;
mod hash_expiry;
mod hashes;
mod hyperloglog;
mod keys;
mod lists;
mod options;
mod parse;
mod scan;
mod sets;
mod sort;
mod sorted_set_algebra;
mod sorted_set_range;
mod sorted_sets;
mod streams;
mod strings;
#[cfg(test)]
pub mod testing;

use crate::command::DataCommand;

/// All families; a new file is added here.
pub const FAMILIES: &[&[DataCommand]] = &[
    bitfield::COMMANDS,
    bitmaps::COMMANDS,
    expiry::COMMANDS,
    hash_expiry::COMMANDS,
    hashes::COMMANDS,
    hyperloglog::COMMANDS,
    keys::COMMANDS,
    lists::COMMANDS,
    scan::COMMANDS,
    sets::COMMANDS,
    sort::COMMANDS,
    sorted_set_algebra::COMMANDS,
    sorted_set_range::COMMANDS,
    sorted_sets::COMMANDS,
    streams::COMMANDS,
    strings::COMMANDS,
];
