//! Write pause and coordinated failover as state machines without I/O, and the file that makes a failover last.
//!
//! The [`PauseGate`] says which commands wait; the [`Coordinator`] hands a primary's place to a replica that has
//! everything. Both know the time only as a parameter, and nothing of sockets, clients, keys or scripts.

mod coordinator;
mod pause;
mod request;
mod role_file;

pub use coordinator::{Coordinator, WriteScript};
pub use pause::{CommandClass, PauseGate, Purpose, Scope, parse_client_pause};
pub use request::{FailoverRequest, Start};
pub use role_file::{RoleFile, RoleState, RoleSync};
