//! The commands that need the server, one file per family: functions and their `COMMANDS`.

pub mod client;
pub mod connection;
pub mod pubsub;
pub mod transactions;

use super::table::HostCommand;

/// All families; a new file is added here.
pub const FAMILIES: &[&[HostCommand]] =
    &[connection::COMMANDS, client::COMMANDS, pubsub::COMMANDS, transactions::COMMANDS];
