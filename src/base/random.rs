//! Randomness as a value that is passed in, so that one seed replays a whole run.
//!
//! [`Random`] is fast and predictable: for sampling, eviction and tests. Identifiers that must be unique
//! across servers are seeded from the operating system; secrets come from it directly.

/// A seedable generator.
#[derive(Debug, Clone)]
pub struct Random(fastrand::Rng);

impl Random {
    /// The sequence that belongs to `seed`.
    pub fn from_seed(seed: u64) -> Self {
        Random(fastrand::Rng::with_seed(seed))
    }

    /// A sequence nobody has seen, from the operating system.
    pub fn from_system() -> Result<Self, getrandom::Error> {
        Ok(Random::from_seed(getrandom::u64()?))
    }

    /// Any 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number below `bound`, evenly; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.u64(..bound) }
    }

    /// An index into something of `len` elements; `None` if it is empty.
    pub fn index(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.0.usize(..len))
    }

    /// A number of at least 0 and less than 1.
    pub fn unit(&mut self) -> f64 {
        self.0.f64()
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        self.0.shuffle(items);
    }

    /// An identifier of 40 hexadecimal digits: run ids, replication ids.
    pub fn hex_id(&mut self) -> [u8; 40] {
        let mut id = [0; 40];
        self.0.fill(&mut id);
        for digit in &mut id {
            *digit = b"0123456789abcdef"[usize::from(*digit & 15)];
        }
        id
    }

    /// Another generator, independent of what this one gives afterwards.
    pub fn fork(&mut self) -> Self {
        Random(self.0.fork())
    }
}

/// Fills `bytes` with secrets: passwords, tokens.
pub fn fill_secret(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    getrandom::fill(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays() {
        let (mut a, mut b) = (Random::from_seed(7), Random::from_seed(7));
        assert_eq!(a.hex_id(), b.hex_id());
        assert_eq!(a.fork().next_u64(), b.fork().next_u64());
        assert_ne!(a.next_u64(), Random::from_seed(8).next_u64());
    }

    #[test]
    fn ids_are_hexadecimal_and_differ() {
        let mut random = Random::from_system().unwrap();
        let (a, b) = (random.hex_id(), random.hex_id());
        assert!(a.iter().all(|d| d.is_ascii_digit() || (b'a'..=b'f').contains(d)));
        assert_ne!(a, b);
    }

    #[test]
    fn bounds_hold() {
        let mut random = Random::from_seed(1);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.index(0), None);
        for _ in 0..1000 {
            assert!(random.below(3) < 3);
            assert!(random.index(5).unwrap() < 5);
            assert!((0.0..1.0).contains(&random.unit()));
        }
    }

    #[test]
    fn secrets_are_not_left_blank() {
        let mut secret = [0; 32];
        fill_secret(&mut secret).unwrap();
        assert_ne!(secret, [0; 32]);
    }
}
