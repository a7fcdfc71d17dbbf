//! The latency monitor: for each kind of event what took longer than `latency-monitor-threshold`, the longest of each second.
//!
//! Invariant: while the threshold is 0 nothing is kept, and asking whether to measure is one load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What is watched.
pub mod event {
    pub const COMMAND: &str = "command";
    /// A command that is said to be fast.
    pub const FAST_COMMAND: &str = "fast-command";
    /// One round of deleting what has expired.
    pub const EXPIRE_CYCLE: &str = "expire-cycle";
    /// A write to the AOF.
    pub const AOF_WRITE: &str = "aof-write";
    /// A sync of the AOF before replies may leave.
    pub const AOF_FSYNC_ALWAYS: &str = "aof-fsync-always";
}

/// Samples kept of each event.
const MOST_SAMPLES: usize = 160;

/// The longest of one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub unix_seconds: u64,
    pub milliseconds: u64,
}

/// What is known of one event.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Oldest first.
    pub samples: Vec<Sample>,
    pub longest_ms: u64,
    /// Of all spikes ever, also those of which no sample is kept.
    pub sum_ms: u64,
    pub count: u64,
}

#[derive(Debug)]
pub struct LatencyMonitor {
    threshold_ns: AtomicU64,
    events: Mutex<BTreeMap<&'static str, Series>>,
}

impl LatencyMonitor {
    pub fn new(threshold_ms: u64) -> Self {
        let monitor = LatencyMonitor { threshold_ns: AtomicU64::default(), events: Mutex::default() };
        monitor.set_threshold(threshold_ms);
        monitor
    }

    /// 0 turns the monitor off.
    pub fn set_threshold(&self, milliseconds: u64) {
        let off_or = if milliseconds == 0 { u64::MAX } else { milliseconds.saturating_mul(1_000_000) };
        self.threshold_ns.store(off_or, Relaxed);
    }

    pub fn is_on(&self) -> bool {
        self.threshold_ns.load(Relaxed) != u64::MAX
    }

    /// When something begins, if it is to be measured.
    pub fn begin(&self) -> Option<Instant> {
        self.is_on().then(Instant::now)
    }

    /// Something that [`begin`](Self::begin) timed has ended.
    pub fn end(&self, event: &'static str, began: Option<Instant>, now_ms: u64) {
        if let Some(began) = began {
            self.note(event, began.elapsed(), now_ms);
        }
    }

    /// Something has ended; kept if it took long.
    pub fn note(&self, event: &'static str, elapsed: Duration, now_ms: u64) {
        if elapsed.as_nanos() as u64 >= self.threshold_ns.load(Relaxed) {
            let milliseconds = elapsed.as_millis() as u64;
            let sample = Sample { unix_seconds: now_ms / 1000, milliseconds };
            self.events.lock().entry(event).or_default().add(sample);
        }
    }

    /// Is an event of this length kept?
    pub fn keeps(&self, nanoseconds: u64) -> bool {
        nanoseconds >= self.threshold_ns.load(Relaxed)
    }

    pub fn events(&self) -> Vec<(&'static str, Series)> {
        self.events.lock().iter().map(|(event, series)| (*event, series.clone())).collect()
    }

    pub fn series(&self, event: &[u8]) -> Option<(&'static str, Series)> {
        let events = self.events.lock();
        let found = events.iter().find(|(name, _)| name.as_bytes() == event);
        found.map(|(name, series)| (*name, series.clone()))
    }

    /// Forgets what is known of an event (`None`: of all); how many that were.
    pub fn reset(&self, event: Option<&[u8]>) -> usize {
        let mut events = self.events.lock();
        let before = events.len();
        events.retain(|name, _| event.is_some_and(|event| !name.as_bytes().eq_ignore_ascii_case(event)));
        before - events.len()
    }
}

impl Series {
    fn add(&mut self, sample: Sample) {
        self.longest_ms = self.longest_ms.max(sample.milliseconds);
        self.sum_ms += sample.milliseconds;
        self.count += 1;
        match self.samples.last_mut() {
            Some(last) if last.unix_seconds == sample.unix_seconds => {
                last.milliseconds = last.milliseconds.max(sample.milliseconds);
            }
            _ => {
                if self.samples.len() == MOST_SAMPLES {
                    self.samples.remove(0);
                }
                self.samples.push(sample);
            }
        }
    }

    /// Mean, mean deviation from it, and the seconds since the oldest sample.
    pub fn analysis(&self, now_ms: u64) -> (u64, u64, u64) {
        let count = self.samples.len().max(1) as u64;
        let mean = self.samples.iter().map(|sample| sample.milliseconds).sum::<u64>() / count;
        let deviation = self.samples.iter().map(|sample| sample.milliseconds.abs_diff(mean)).sum::<u64>();
        let oldest = self.samples.first().map_or(0, |sample| sample.unix_seconds);
        (mean, deviation / count, (now_ms / 1000).saturating_sub(oldest).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_each_second_is_kept() {
        let monitor = LatencyMonitor::new(10);
        for (ms, at) in [(9, 1000), (20, 1000), (50, 1999), (30, 2000), (5, 3000)] {
            monitor.note(event::COMMAND, Duration::from_millis(ms), at);
        }
        let (_, series) = monitor.series(b"command").expect("a series");
        let samples: Vec<_> =
            series.samples.iter().map(|sample| (sample.unix_seconds, sample.milliseconds)).collect();
        assert_eq!(samples, [(1, 50), (2, 30)]);
        assert_eq!((series.longest_ms, series.sum_ms, series.count), (50, 100, 3));
        assert_eq!(series.analysis(4000), (40, 10, 3));
        assert_eq!(monitor.reset(Some(b"nothing")), 0);
        assert_eq!(monitor.reset(Some(b"COMMAND")), 1);
        monitor.set_threshold(0);
        monitor.note(event::COMMAND, Duration::from_secs(5), 1000);
        assert!(!monitor.is_on() && monitor.events().is_empty());
    }

    #[test]
    fn only_so_many_samples_are_kept() {
        let monitor = LatencyMonitor::new(1);
        for second in 0..500 {
            monitor.note(event::COMMAND, Duration::from_millis(second + 1), second * 1000);
        }
        let (_, series) = monitor.series(b"command").expect("a series");
        assert_eq!(series.samples.len(), MOST_SAMPLES);
        assert_eq!(series.samples.last().map(|sample| sample.milliseconds), Some(500));
        assert_eq!(series.count, 500);
    }
}
