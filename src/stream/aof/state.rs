//! What of the stream outlives the process beside its bytes: the names of the histories, and at which offset each incr
//! file begins.

use serde::{Deserialize, Serialize};

use crate::base::state_codec::{self, Format, StateError};

const FORMAT: Format = Format { magic: *b"UNDSTREA", version: 1 };

/// Where an incr file begins in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncrStart {
    pub sequence: u64,
    pub offset: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    /// 40 hexadecimal digits.
    pub replid: Vec<u8>,
    pub replid2: Vec<u8>,
    pub second_offset: Option<u64>,
    pub incrs: Vec<IncrStart>,
}

impl StreamState {
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        state_codec::encode(FORMAT, self)
    }

    /// `None`: not such a state, or not whole.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let state: StreamState = state_codec::decode(FORMAT, bytes).ok()?;
        (state.replid.len() == 40 && state.replid2.len() == 40).then_some(state)
    }

    /// The offset at which the incr file of this sequence begins.
    pub fn start_of(&self, sequence: u64) -> Option<u64> {
        self.incrs.iter().find(|incr| incr.sequence == sequence).map(|incr| incr.offset)
    }
}
