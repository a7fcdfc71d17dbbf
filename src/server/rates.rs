//! What happens per second, for the `instantaneous_*` figures of INFO: the mean of the last samples, taken ten times a second.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use parking_lot::Mutex;

use super::Server;

const SAMPLES: usize = 16;
/// How often [`Rates::sample`] is to be called.
pub const INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);

/// The counters that are watched: commands, and bytes in and out of clients and of replication.
type Figures = [u64; 5];

/// Per second.
#[derive(Debug, Clone, Copy, Default)]
pub struct PerSecond {
    pub commands: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub replication_bytes_in: u64,
    pub replication_bytes_out: u64,
}

#[derive(Debug, Default)]
struct State {
    last: Option<(Instant, Figures)>,
    samples: [Figures; SAMPLES],
    next: usize,
}

#[derive(Debug, Default)]
pub struct Rates(Mutex<State>);

impl Rates {
    /// Looks at the counters.
    pub fn sample(&self, server: &Server, now: Instant) {
        let stats = &server.stats;
        let figures = [
            server.commands_processed(),
            stats.bytes_in.load(Relaxed),
            stats.bytes_out.load(Relaxed),
            stats.replication_bytes_in.load(Relaxed),
            stats.replication_bytes_out.load(Relaxed),
        ];
        self.0.lock().add(figures, now);
    }

    pub fn now(&self) -> PerSecond {
        let state = self.0.lock();
        let mean =
            |figure: usize| state.samples.iter().map(|sample| sample[figure]).sum::<u64>() / SAMPLES as u64;
        PerSecond {
            commands: mean(0),
            bytes_in: mean(1),
            bytes_out: mean(2),
            replication_bytes_in: mean(3),
            replication_bytes_out: mean(4),
        }
    }
}

impl State {
    fn add(&mut self, figures: Figures, now: Instant) {
        if let Some((then, before)) = self.last {
            let milliseconds = now.duration_since(then).as_millis().max(1) as u64;
            let per_second = |index: usize| {
                // CONFIG RESETSTAT takes counters back to 0.
                figures[index].saturating_sub(before[index]).saturating_mul(1000) / milliseconds
            };
            self.samples[self.next] = std::array::from_fn(per_second);
            self.next = (self.next + 1) % SAMPLES;
        }
        self.last = Some((now, figures));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rates_are_means_of_samples() {
        let start = Instant::now();
        let rates = Rates::default();
        for index in 0..=SAMPLES as u64 {
            let now = start + Duration::from_millis(100 * index);
            rates.0.lock().add([index * 10, index * 1000, 0, 0, 7], now);
        }
        let now = rates.now();
        assert_eq!((now.commands, now.bytes_in, now.bytes_out), (100, 10_000, 0));
        rates.0.lock().add([0; 5], start + Duration::from_secs(9));
        assert!(rates.now().commands < 100);
    }
}
