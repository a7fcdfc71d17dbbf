//! How much memory the server uses, by its allocator's own count.

use std::sync::atomic::Ordering::Relaxed;

use tikv_jemalloc_ctl::{epoch, stats};

use super::Server;
use super::admission::Conditions;
use super::process::resident_bytes;

/// In bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Handed out by the allocator.
    pub used: u64,
    /// In pages that the allocator has in use.
    pub active: u64,
    /// In RAM of what the allocator has.
    pub allocator_resident: u64,
    /// In RAM of the whole process.
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

/// The allocator's report of itself.
pub fn allocator_report() -> Vec<u8> {
    let mut report = Vec::new();
    match tikv_jemalloc_ctl::stats_print::stats_print(&mut report, Default::default()) {
        Ok(()) => report,
        Err(_) => b"Stats not supported for the current allocator".to_vec(),
    }
}

/// Lets the allocator give back to the system what is free. `false`: it could not.
pub fn purge() -> bool {
    super::process::purge_allocator()
}

impl Server {
    pub fn memory(&self) -> Memory {
        let used = used();
        let peak = self.stats.peak_memory.fetch_max(used, Relaxed).max(used);
        let active = stats::active::read().unwrap_or(0) as u64;
        let allocator_resident = stats::resident::read().unwrap_or(0) as u64;
        Memory {
            used,
            active,
            allocator_resident,
            resident: resident_bytes(),
            peak,
            at_start: self.memory_at_start,
        }
    }

    /// Notes whether more memory is used than `maxmemory` allows. The allocator is asked once a millisecond at most: to
    /// ask is dearer than an ordinary command.
    pub fn look_at_memory(&self) {
        let now_ms = self.now_ms();
        if self.memory_looked_at_ms.swap(now_ms, Relaxed) != now_ms {
            self.note_memory(now_ms);
        }
    }

    /// `maxmemory` or what it means for a replica has changed.
    pub fn refresh_memory_limit(&self) {
        self.conditions.set(Conditions::LIMITED_MEMORY, self.config().maxmemory > 0);
        self.note_memory(self.now_ms());
    }

    fn note_memory(&self, now_ms: u64) {
        self.memory_looked_at_ms.store(now_ms, Relaxed);
        let config = self.config();
        let is_limited = config.maxmemory > 0 && !(self.is_replica() && config.replica_ignore_maxmemory);
        self.conditions.set(Conditions::OVER_MEMORY, is_limited && used() > config.maxmemory);
    }
}
