//! What one guard protects: the dataset and all that changes in step with it.
//!
//! Invariant: the dataset and the offset of the stream are always seen
//! together, at one moment.

use std::collections::HashMap;

use super::blocking::BlockedCall;
use super::client::ClientNumber;
use crate::keyspace::{Keyspace, WriteState};
use crate::stream::{NO_REPLID, Stream};

#[derive(Debug)]
pub struct Core {
    pub keyspace: Keyspace,
    pub writes: WriteState,
    pub stream: Stream,
    /// Calls that wait for keys, by client.
    pub blocked: HashMap<ClientNumber, BlockedCall>,
}

impl Core {
    /// One of its own that begins with this dataset, and that nobody watches, waits for or reads the stream of.
    pub fn private_copy(&self) -> Core {
        Core {
            keyspace: self.keyspace.copy(),
            writes: WriteState::default(),
            stream: Stream::new(NO_REPLID),
            blocked: HashMap::new(),
        }
    }
}
