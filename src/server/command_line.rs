//! The command line: what the program was asked to do, and the directives among the arguments.
//!
//! It must not start anything: it answers a [`Task`], and the caller does it.

/// The version of Valkey whose behaviour this server has; clients and tools decide by it.
pub const VALKEY_VERSION: &str = "9.1.2";
