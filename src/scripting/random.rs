//! The random numbers of `math.random`: the 48-bit linear congruential generator of POSIX `lrand48`, so that a
//! seed gives the same numbers everywhere.

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;

/// A generator that belongs to one run of a script. Unseeded it is unpredictable.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Random {
    state: Option<u64>,
}

impl Random {
    /// `math.randomseed`.
    pub(super) fn seed(&mut self, seed: i32) {
        self.state = Some(u64::from(seed as u32) << 16 | 0x330E);
    }

    /// The next number, in `0..1`, with 31 bits.
    pub(super) fn next(&mut self) -> f64 {
        let state = self.state.unwrap_or_else(|| fastrand::u64(..) & MASK);
        let state = state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT) & MASK;
        self.state = Some(state);
        let number = (state >> 17) as u32 & 0x7FFF_FFFF;
        f64::from(number % i32::MAX as u32) / f64::from(i32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_known_numbers() {
        let mut random = Random::default();
        random.seed(42);
        let numbers: Vec<i64> = (0..2).map(|_| (random.next() * 1000.0).floor() as i64 + 1).collect();
        assert_eq!(numbers, [745, 343]);
    }

    #[test]
    fn unseeded_runs_differ() {
        let mut one = Random::default();
        let mut other = Random::default();
        assert_ne!([one.next(), one.next()], [other.next(), other.next()]);
    }
}
