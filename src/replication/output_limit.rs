//! How far a replica may fall behind the stream: Valkey's `client-output-buffer-limit`, for what is kept for one.
//!
//! Knows numbers only.

/// How far a replica's connection may fall behind the stream before it is closed; 0 bytes is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputLimit {
    pub hard_bytes: u64,
    pub soft_bytes: u64,
    pub soft_ms: u64,
}

impl OutputLimit {
    /// Whether so many bytes are too many, or have been for too long.
    pub(super) fn is_exceeded(
        &self,
        pending: u64,
        over_soft_since_ms: &mut Option<u64>,
        now_ms: u64,
    ) -> bool {
        if self.soft_bytes == 0 || pending < self.soft_bytes {
            *over_soft_since_ms = None;
        } else {
            let since_ms = *over_soft_since_ms.get_or_insert(now_ms);
            if now_ms.saturating_sub(since_ms) > self.soft_ms {
                return true;
            }
        }
        self.hard_bytes > 0 && pending >= self.hard_bytes
    }
}
