//! How much memory the server uses, by its allocator's own count.

use std::sync::atomic::Ordering::Relaxed;

use tikv_jemalloc_ctl::{epoch, stats};

use super::Server;
use super::process::resident_bytes;

/// In bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Handed out by the allocator.
    pub used: u64,
    /// In pages that the allocator has in use.
    pub active: u64,
    /// In RAM.
    pub resident: u64,
    /// The most that was ever used.
    pub peak: u64,
    /// Used when the server had just started.
    pub at_start: u64,
}

/// Bytes handed out by the allocator now; 0 when another allocator is in place.
pub fn used() -> u64 {
    // The statistics are a copy that advancing the epoch renews.
    epoch::advance().and_then(|_| stats::allocated::read()).unwrap_or(0) as u64
}

impl Server {
    pub fn memory(&self) -> Memory {
        let used = used();
        let peak = self.stats.peak_memory.fetch_max(used, Relaxed).max(used);
        let active = stats::active::read().unwrap_or(0) as u64;
        Memory { used, active, resident: resident_bytes(), peak, at_start: self.memory_at_start }
    }
}
