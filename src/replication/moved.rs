//! Where the role of primary went, for the replicas that could not be told when it did: those whose sync was under way, or whose
//! link was cut. They come back here, and are told once they are in step.
//!
//! It does not know how they are told. Invariant: only replicas that were here before, or speak of the history from before, are sent
//! away, and each once; who comes later is meant to stay.

use super::Address;
use super::attached::AttachedReplica;

#[derive(Debug)]
pub struct Moved {
    to: Address,
    /// Hosts and ports of those who do not know it.
    unaware: Vec<(String, i64)>,
}

impl Moved {
    pub fn to(address: &Address) -> Self {
        Moved { to: address.clone(), unaware: Vec::new() }
    }

    /// This replica could not be told.
    pub fn leave_behind(&mut self, replica: &AttachedReplica) {
        // Without a port it could not be told from others of its host.
        if replica.announced.follow && replica.announced.listening_port > 0 {
            self.unaware.push((replica.host().to_owned(), replica.announced.listening_port));
        }
    }

    /// Is this one of them? It will not be asked about again.
    pub fn finds(&mut self, replica: &AttachedReplica) -> bool {
        let before = self.unaware.len();
        self.unaware.retain(|(host, port)| {
            (host.as_str(), *port) != (replica.host(), replica.announced.listening_port)
        });
        self.unaware.len() < before
    }

    /// What a replica is told, behind the stream.
    pub fn line(&self) -> Vec<u8> {
        format!("+FOLLOW {} {}\r\n", self.to.host, self.to.port).into_bytes()
    }
}
