//! Understudy: a Valkey-compatible primary/replica server for scripts, and replicas that can take over.
//!
//! The folders are layers, bottom up: base, protocol, types, keyspace, command, commands, acl, scripting, stream, rdb,
//! replication, failover, server. Each imports only those before it; `tests/tidy.rs` keeps the order, ARCHITECTURE.md
//! describes them.

pub mod acl;
pub mod base;
pub mod command;
pub mod commands;
pub mod failover;
pub mod keyspace;
pub mod protocol;
pub mod rdb;
pub mod replication;
pub mod scripting;
pub mod server;
pub mod stream;
pub mod types;
