//! What is counted of each script and function, for INFO scriptstats. Lives as long as the script in the cache, or the
//! library in the registry.
//!
//! Invariant: figures only grow, until [`ScriptStatistics::reset`]; they are no part of what a script is.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Powers of two of microseconds: the last bucket holds all that took longer than half an hour.
const BUCKETS: usize = 32;

#[derive(Debug, Default)]
pub struct ScriptStatistics {
    failed: AtomicU64,
    killed: AtomicU64,
    undone: AtomicU64,
    nanoseconds: AtomicU64,
    /// Beyond the first of each run.
    more_slices: AtomicU64,
    commands: AtomicU64,
    writes: AtomicU64,
    reply_bytes: AtomicU64,
    /// Runs by the number of bits of their microseconds; their sum is the number of runs.
    histogram: [AtomicU64; BUCKETS],
    /// Grows with each run that took more than a slice, and shrinks with each other one.
    slowness: AtomicU8,
}

/// What a slow run adds to the slowness, what that is at most, and from where on a script counts as slow: two slow runs make it
/// so, and a few quick ones in a row end it.
const SLOW_RUN: u8 = 2;
const SLOWEST: u8 = 8;
const IS_SLOW: u8 = 4;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    Answered,
    Failed,
    Killed,
    /// Killed, and what it had written was undone.
    Undone,
}

/// What one run came to.
#[derive(Debug, Clone, Copy)]
pub struct RunFigures {
    pub end: RunEnd,
    pub elapsed: Duration,
    pub slices: u64,
    /// Commands that it called, and those of them that may write.
    pub commands: u64,
    pub writes: u64,
    pub reply_bytes: u64,
}

/// The figures at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptTotals {
    pub calls: u64,
    pub failed: u64,
    pub killed: u64,
    pub undone: u64,
    pub microseconds: u64,
    pub slices: u64,
    pub commands: u64,
    pub writes: u64,
    pub reply_bytes: u64,
    /// Upper bounds in microseconds: half of the runs, and 99 of 100, took at most so long.
    pub p50_us: u64,
    pub p99_us: u64,
}

impl ScriptStatistics {
    pub fn count(&self, run: &RunFigures) {
        let add = |counter: &AtomicU64, amount: u64| {
            if amount > 0 {
                counter.fetch_add(amount, Relaxed);
            }
        };
        add(&self.failed, u64::from(run.end == RunEnd::Failed));
        add(&self.killed, u64::from(matches!(run.end, RunEnd::Killed | RunEnd::Undone)));
        add(&self.undone, u64::from(run.end == RunEnd::Undone));
        add(&self.nanoseconds, run.elapsed.as_nanos() as u64);
        add(&self.more_slices, run.slices.saturating_sub(1));
        add(&self.commands, run.commands);
        add(&self.writes, run.writes);
        add(&self.reply_bytes, run.reply_bytes);
        if run.slices <= 1 {
            self.change_slowness(|before| before.saturating_sub(1));
        }
        let bits = 64 - (run.elapsed.as_micros() as u64).leading_zeros();
        add(&self.histogram[(bits as usize).min(BUCKETS - 1)], 1);
    }

    /// A run takes more than a slice.
    pub fn note_slow(&self) {
        self.change_slowness(|before| (before + SLOW_RUN).min(SLOWEST));
    }

    fn change_slowness(&self, change: impl Fn(u8) -> u8) {
        let before = self.slowness.load(Relaxed);
        let after = change(before);
        if after != before {
            // Of two changes at once one may not count, which does no harm.
            self.slowness.store(after, Relaxed);
        }
    }

    /// Is another run likely to take longer than a slice?
    pub fn is_slow(&self) -> bool {
        self.slowness.load(Relaxed) >= IS_SLOW
    }

    /// `None`: it never ran.
    pub fn totals(&self) -> Option<ScriptTotals> {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let calls: u64 = self.histogram.iter().map(get).sum();
        (calls > 0).then(|| ScriptTotals {
            calls,
            failed: get(&self.failed),
            killed: get(&self.killed),
            undone: get(&self.undone),
            microseconds: get(&self.nanoseconds) / 1000,
            slices: calls + get(&self.more_slices),
            commands: get(&self.commands),
            writes: get(&self.writes),
            reply_bytes: get(&self.reply_bytes),
            p50_us: self.quantile_us(calls, 50),
            p99_us: self.quantile_us(calls, 99),
        })
    }

    fn quantile_us(&self, calls: u64, percent: u64) -> u64 {
        let wanted = (calls * percent).div_ceil(100);
        let mut seen = 0;
        let bucket = self.histogram.iter().position(|count| {
            seen += count.load(Relaxed);
            seen >= wanted
        });
        (1u64 << bucket.unwrap_or(BUCKETS - 1)) - 1
    }

    /// Counts from zero again (CONFIG RESETSTAT).
    pub fn reset(&self) {
        let counters = [
            &self.failed,
            &self.killed,
            &self.undone,
            &self.nanoseconds,
            &self.more_slices,
            &self.commands,
            &self.writes,
            &self.reply_bytes,
        ];
        for counter in counters.into_iter().chain(&self.histogram) {
            counter.store(0, Relaxed);
        }
    }
}

impl PartialEq for ScriptStatistics {
    /// Two scripts are the same whatever was counted of them.
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for ScriptStatistics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted_by_how_they_ended_and_how_long_they_took() {
        let statistics = ScriptStatistics::default();
        assert_eq!(statistics.totals(), None);
        let run = |end, micros| RunFigures {
            end,
            elapsed: Duration::from_micros(micros),
            slices: 1,
            commands: 3,
            writes: 1,
            reply_bytes: 10,
        };
        for _ in 0..98 {
            statistics.count(&run(RunEnd::Answered, 5));
        }
        statistics.count(&run(RunEnd::Failed, 100));
        statistics.count(&run(RunEnd::Undone, 5_000));
        let totals = statistics.totals().expect("it ran");
        assert_eq!((totals.calls, totals.failed, totals.killed, totals.undone), (100, 1, 1, 1));
        assert_eq!((totals.commands, totals.writes, totals.reply_bytes), (300, 100, 1000));
        assert_eq!(totals.microseconds, 98 * 5 + 100 + 5_000);
        assert_eq!((totals.p50_us, totals.p99_us), (7, 127));
        statistics.reset();
        assert_eq!(statistics.totals(), None);
    }

    #[test]
    fn two_slow_runs_make_a_script_slow_and_quick_ones_end_that() {
        let statistics = ScriptStatistics::default();
        let runs = |slices: u64, times: usize| {
            for _ in 0..times {
                if slices > 1 {
                    statistics.note_slow();
                }
                statistics.count(&RunFigures {
                    end: RunEnd::Answered,
                    elapsed: Duration::from_micros(1),
                    slices,
                    commands: 0,
                    writes: 0,
                    reply_bytes: 0,
                });
            }
            statistics.is_slow()
        };
        assert!(!runs(1, 100));
        assert!(!runs(2, 1));
        assert!(runs(2, 1));
        assert!(runs(2, 100));
        assert!(runs(1, 4));
        assert!(!runs(1, 1));
    }
}
