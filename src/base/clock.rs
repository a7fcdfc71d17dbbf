//! Time as a value that is passed in, so that tests and the simulator own it.
//!
//! Nothing above this module asks the operating system for the time. Wall time may jump; monotonic time
//! never goes back and counts from an unspecified start.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time.
pub trait Clock: Send + Sync {
    /// Microseconds since the Unix epoch.
    fn unix_us(&self) -> i64;

    /// Time since the clock's own start; never goes back.
    fn monotonic(&self) -> Duration;

    /// Milliseconds since the Unix epoch.
    fn unix_ms(&self) -> i64 {
        self.unix_us().div_euclid(1000)
    }
}

/// The time of the operating system.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks for the wall time")]
    fn unix_us(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
        }
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Time that moves only when told.
#[derive(Debug)]
pub struct ManualClock {
    unix_us: AtomicI64,
    monotonic_us: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `unix_ms` milliseconds since the epoch.
    pub fn at_unix_ms(unix_ms: i64) -> Self {
        ManualClock { unix_us: AtomicI64::new(unix_ms.saturating_mul(1000)), monotonic_us: AtomicU64::new(0) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.monotonic_us.fetch_add(us, Ordering::Relaxed);
        self.unix_us.fetch_add(i64::try_from(us).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Sets the wall clock, as an administrator would; monotonic time stays.
    pub fn set_unix_ms(&self, unix_ms: i64) {
        self.unix_us.store(unix_ms.saturating_mul(1000), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn unix_us(&self) -> i64 {
        self.unix_us.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.monotonic_us.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_time_moves_when_told() {
        let clock = ManualClock::at_unix_ms(1_000);
        clock.advance(Duration::from_micros(1_500));
        assert_eq!((clock.unix_us(), clock.unix_ms()), (1_001_500, 1_001));
        clock.set_unix_ms(-1);
        assert_eq!(clock.unix_ms(), -1);
        assert_eq!(clock.monotonic(), Duration::from_micros(1_500));
    }

    #[test]
    fn system_time_is_plausible() {
        let clock = SystemClock::new();
        let before = clock.monotonic();
        assert!(clock.unix_ms() > 1_700_000_000_000);
        assert!(clock.monotonic() >= before);
    }
}
