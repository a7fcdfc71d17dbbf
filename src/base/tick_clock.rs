//! The clock by which calls and slices are timed: several looks per request, so it reads the processor's own counter and
//! scales only differences. It must not be used for what is shown as a time of day.
//!
//! Invariant: moments are compared with those of the same process only.

use quanta::Clock;

/// A point in time, in ticks of the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(u64);

/// One for each thread; all agree.
#[derive(Debug, Default, Clone)]
pub struct TickClock(Clock);

impl TickClock {
    #[inline]
    pub fn now(&self) -> Moment {
        Moment(self.0.raw())
    }

    /// From `earlier` to `later`; 0 if they are in the other order.
    #[inline]
    pub fn nanoseconds(&self, earlier: Moment, later: Moment) -> u64 {
        self.0.delta_as_nanos(earlier.0, later.0)
    }
}
