//! What one guard protects: the dataset and all that changes in step with it.
//!
//! Invariant: the dataset, the offset of the stream and the registries of scripts and functions are always seen
//! together, at one moment.

use std::collections::HashMap;
use std::sync::Arc;

use super::blocking::BlockedCall;
use super::client::ClientNumber;
use crate::keyspace::{Keyspace, WriteState};
use crate::scripting::Registry;
use crate::stream::Stream;

#[derive(Debug)]
pub struct Core {
    pub keyspace: Keyspace,
    pub writes: WriteState,
    pub stream: Stream,
    pub functions: Arc<Registry>,
    /// Calls that wait for keys, by client.
    pub blocked: HashMap<ClientNumber, BlockedCall>,
}
