//! Replication and failover between whole servers: ours with ours, and ours with real ones.

#[path = "../common/mod.rs"]
mod common;

mod dual_channel;
mod failover;
mod interoperation;
mod random;
mod replica;
mod restart;
mod sentinel;
mod sync;
