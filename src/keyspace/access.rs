//! The 24-bit access clock of an entry: seconds of last use (LRU), or a decaying count of uses (LFU).
//!
//! Source of the LFU scheme: a logarithmic counter of 8 bits that is incremented with a probability falling with
//! its value, and halved or decremented with time; 16 bits hold the minute of the last decay.

use super::Entry;

/// How the access clocks of entries are read and moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessPolicy {
    Lru,
    Lfu { log_factor: u32, decay_minutes: u32 },
}

const LFU_INITIAL: u32 = 5;
const LFU_MAXIMUM: u32 = 255;
/// LRU clocks count seconds modulo 2^24.
const CLOCK_MASK: u32 = (1 << 24) - 1;

impl AccessPolicy {
    /// The clock of an entry created now.
    pub fn fresh(self, now_ms: u64) -> u32 {
        match self {
            AccessPolicy::Lru => seconds(now_ms),
            AccessPolicy::Lfu { .. } => minutes(now_ms) << 8 | LFU_INITIAL,
        }
    }

    /// Notes a use of `entry`.
    pub fn touch(self, entry: &Entry, now_ms: u64) {
        match self {
            AccessPolicy::Lru => {
                let now = seconds(now_ms);
                // Writing the same value again would dirty a cache line for nothing.
                if entry.access_clock() != now {
                    entry.set_access_clock(now);
                }
            }
            AccessPolicy::Lfu { log_factor, .. } => {
                let count = increment(self.frequency(entry, now_ms), log_factor);
                entry.set_access_clock(minutes(now_ms) << 8 | count);
            }
        }
    }

    /// Seconds since the last use, under LRU.
    pub fn idle_seconds(entry: &Entry, now_ms: u64) -> u64 {
        u64::from(seconds(now_ms).wrapping_sub(entry.access_clock()) & CLOCK_MASK)
    }

    /// The decayed use count, under LFU.
    pub fn frequency(self, entry: &Entry, now_ms: u64) -> u32 {
        let clock = entry.access_clock();
        let count = clock & 0xff;
        let AccessPolicy::Lfu { decay_minutes, .. } = self else { return count };
        let elapsed = minutes(now_ms).wrapping_sub(clock >> 8) & 0xffff;
        count.saturating_sub(elapsed.checked_div(decay_minutes).unwrap_or(0))
    }

    /// A clock that says "idle for `seconds`", as RESTORE and RDB files give it.
    pub fn clock_of_idle(idle_seconds: u64, now_ms: u64) -> u32 {
        seconds(now_ms).wrapping_sub(idle_seconds as u32) & CLOCK_MASK
    }

    /// A clock that says "used `count` times", as RESTORE and RDB files give it.
    pub fn clock_of_frequency(count: u8, now_ms: u64) -> u32 {
        minutes(now_ms) << 8 | u32::from(count)
    }
}

fn seconds(now_ms: u64) -> u32 {
    (now_ms / 1000) as u32 & CLOCK_MASK
}

fn minutes(now_ms: u64) -> u32 {
    (now_ms / 60_000) as u32 & 0xffff
}

fn increment(count: u32, log_factor: u32) -> u32 {
    if count >= LFU_MAXIMUM {
        return LFU_MAXIMUM;
    }
    let chance = 1.0 / (f64::from(count.saturating_sub(LFU_INITIAL)) * f64::from(log_factor) + 1.0);
    if fastrand::f64() < chance { count + 1 } else { count }
}
