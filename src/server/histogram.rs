//! How long calls took: counts in bins whose width grows with the value, two significant digits everywhere.
//!
//! The bins are those of the HDR histograms that Valkey keeps (1 ns to 1 s), so that its clients read the same numbers. They
//! are our own and not a crate's because one thread counts while others read, without a lock.
//!
//! Invariant: one thread records, unless all that do say so; what others read may be a moment old.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A value's bin is given by its highest bit and the seven after it.
const SUB_BITS: u32 = 7;
const SUBS: usize = 1 << SUB_BITS;
const LONGEST: u64 = 1_000_000_000;
const BINS: usize = bin_of(LONGEST) + 1;
/// LATENCY HISTOGRAM shows the counts up to these nanoseconds: this, and doublings of it.
const FIRST_LEVEL: u64 = 1024;
const LEVELS: u32 = 20;

/// Counts of durations. Without any it takes no memory to speak of.
#[derive(Debug, Default)]
pub struct Histogram {
    bins: OnceLock<Box<[AtomicU64]>>,
}

/// The counts at one moment.
#[derive(Debug, Clone)]
pub struct Counts {
    bins: Vec<u64>,
    pub total: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Counts { bins: vec![0; BINS], total: 0 }
    }
}

const fn bin_of(value: u64) -> usize {
    let shift = (u64::BITS - (value | (2 * SUBS as u64 - 1)).leading_zeros()) - SUB_BITS - 1;
    shift as usize * SUBS + (value >> shift) as usize
}

/// The highest value of a bin.
fn highest_of(bin: usize) -> u64 {
    let shift = (bin / SUBS).saturating_sub(1);
    let sub = (bin - shift * SUBS) as u64;
    (sub << shift) + (1 << shift) - 1
}

impl Histogram {
    /// Counts a duration; longer ones than a second count as a second.
    #[inline]
    pub fn record(&self, nanoseconds: u64) {
        let count = self.count_of(nanoseconds);
        count.store(count.load(Relaxed) + 1, Relaxed);
    }

    /// As [`record`](Self::record), of a histogram that many threads record in.
    pub fn record_shared(&self, nanoseconds: u64) {
        self.count_of(nanoseconds).fetch_add(1, Relaxed);
    }

    #[inline]
    fn count_of(&self, nanoseconds: u64) -> &AtomicU64 {
        let bins = self.bins.get_or_init(|| (0..BINS).map(|_| AtomicU64::new(0)).collect());
        &bins[bin_of(nanoseconds.clamp(1, LONGEST))]
    }

    pub fn reset(&self) {
        for count in self.bins.get().into_iter().flatten() {
            count.store(0, Relaxed);
        }
    }

    /// Adds what was counted here.
    pub fn add_to(&self, counts: &mut Counts) {
        let Some(bins) = self.bins.get() else { return };
        for (sum, count) in counts.bins.iter_mut().zip(bins) {
            let count = count.load(Relaxed);
            *sum += count;
            counts.total += count;
        }
    }
}

impl Counts {
    /// The nanoseconds within which so many percent of the calls ended.
    pub fn percentile(&self, percent: f64) -> u64 {
        let wanted = ((percent / 100.0 * self.total as f64 + 0.5) as u64).max(1);
        let mut sum = 0;
        for (bin, count) in self.bins.iter().enumerate() {
            sum += count;
            if sum >= wanted {
                return highest_of(bin);
            }
        }
        0
    }

    /// Microseconds, and how many calls took no longer, for ever doubled times; those that add no call are left out.
    pub fn cumulative(&self) -> Vec<(u64, u64)> {
        let mut rows: Vec<(u64, u64)> = Vec::new();
        let (mut sum, mut next) = (0, 0);
        for level in 0..LEVELS {
            let last = bin_of(FIRST_LEVEL << level);
            let before = sum;
            sum += self.bins[next..=last].iter().sum::<u64>();
            next = last + 1;
            if sum > before {
                rows.push((highest_of(last) / 1000, sum));
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_keep_two_digits() {
        for value in (1..2000).chain((0..30).map(|bit| (1u64 << bit) + 3)).chain([LONGEST]) {
            let bin = bin_of(value);
            let highest = highest_of(bin);
            assert!(highest >= value && bin_of(highest) == bin, "{value}: {bin} {highest}");
            assert!((highest - value) as f64 <= value as f64 / 100.0, "{value}: {highest}");
        }
    }

    #[test]
    fn percentiles_are_the_bins_ends() {
        let histogram = Histogram::default();
        let mut counts = Counts::default();
        histogram.add_to(&mut counts);
        assert_eq!((counts.total, counts.percentile(50.0)), (0, 0));
        for value in [0, 20_124_000, 30_138_000, 50_148_000] {
            histogram.record(value);
        }
        histogram.add_to(&mut counts);
        // As Valkey shows these: p50=20.185 ms and p99=50.331 ms.
        assert_eq!(counts.percentile(0.0), 1);
        assert_eq!(counts.percentile(50.0) / 1000, 20_185);
        assert_eq!(counts.percentile(99.9) / 1000, 50_331);
        assert_eq!(counts.cumulative(), [(1, 1), (33_816, 3), (67_633, 4)]);
        histogram.reset();
        let mut none = Counts::default();
        histogram.add_to(&mut none);
        assert_eq!((none.total, none.cumulative()), (0, vec![]));
    }
}
