//! LZF compression, the format of long strings in RDB files.
//!
//! Format: a control byte below 32 is followed by that many plus one literal bytes. Any other holds a
//! length in its top three bits (7: plus the next byte) and, with the byte that follows, an offset of 13
//! bits; it copies length plus 2 bytes from offset plus 1 bytes back in the output.
//! The output depends on the input only, so that equal values have equal dumps.

/// The longest run of literals after one control byte.
const MAX_LITERALS: usize = 32;
/// How far back a reference can reach.
const MAX_DISTANCE: usize = 1 << 13;
/// The longest copy of one reference.
const MAX_MATCH: usize = 264;

/// The input as given is not a compressed text of the stated length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid LZF data")]
pub struct InvalidLzf;

/// Compresses texts one after the other: what it looks matches up in is made once and not cleared between them.
#[derive(Debug)]
pub struct Compressor {
    /// Where each three-byte beginning was last seen, by hash, as `base` plus its position. What is below `base` is of an
    /// earlier text.
    places: Box<[u32; SLOTS]>,
    base: u32,
    /// Length of the last text.
    last_len: u32,
}

/// The slots, as powers of two. A text uses some dozens for each of its positions, within bounds: hashes that fall together cost
/// more than anything else does, and those of a short text stay in the nearest cache all the same.
const MAX_BITS: u32 = 14;
const MIN_BITS: u32 = 6;
const SPARE_BITS: u32 = 5;
const SLOTS: usize = 1 << MAX_BITS;

impl Default for Compressor {
    fn default() -> Self {
        // 0 is what unused slots hold.
        Compressor { places: Box::new([0; SLOTS]), base: 1, last_len: 0 }
    }
}

impl Compressor {
    /// Appends the compressed `input` to `out`. `false`, and nothing appended, if it would be longer than `max_len` bytes.
    pub fn compress(&mut self, input: &[u8], max_len: usize, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let fits = self.append_compressed(input, max_len, out);
        if !fits {
            out.truncate(start);
        }
        fits
    }

    fn append_compressed(&mut self, input: &[u8], max_len: usize, out: &mut Vec<u8>) -> bool {
        let Some(shift) = self.begin(input.len()) else { return false };
        let start = out.len();
        let mut literals_from = 0;
        let mut at = 0;
        while let Some(prefix) = prefix_at(input, at) {
            let earlier = self.swap_place(prefix, at, shift);
            let Some((distance, length)) = earlier.and_then(|earlier| find_match(input, earlier, at, prefix))
            else {
                at += 1;
                continue;
            };
            append_literals(out, &input[literals_from..at]);
            append_reference(out, distance, length);
            if out.len() - start > max_len {
                return false;
            }
            // The last two positions of the match are remembered: enough to find runs and repeats.
            let end = at + length;
            for position in end - 2..end {
                if let Some(prefix) = prefix_at(input, position) {
                    self.swap_place(prefix, position, shift);
                }
            }
            at = end;
            literals_from = end;
        }
        append_literals(out, &input[literals_from..]);
        out.len() - start <= max_len
    }

    /// Forgets the last text. Returns by how much a hash is shifted. `None`: the text is longer than places can say.
    fn begin(&mut self, len: usize) -> Option<u32> {
        let bits = (usize::BITS - len.leading_zeros() + SPARE_BITS).clamp(MIN_BITS, MAX_BITS);
        let len = u32::try_from(len).ok()?;
        self.base = match self.base.checked_add(self.last_len) {
            Some(base) if base.checked_add(len).is_some() => base,
            _ => {
                self.places.fill(0);
                1
            }
        };
        self.last_len = len;
        self.base.checked_add(len).map(|_| u32::BITS - bits)
    }

    /// Remembers where a prefix stands, and returns an earlier position of one with the same hash.
    #[inline(always)]
    fn swap_place(&mut self, prefix: u32, at: usize, shift: u32) -> Option<usize> {
        let slot = (prefix.wrapping_mul(0x9E37_79B1) >> shift) as usize;
        // It is below already; so the compiler knows it too.
        let place = &mut self.places[slot & (SLOTS - 1)];
        let earlier = std::mem::replace(place, self.base + at as u32);
        earlier.checked_sub(self.base).map(|earlier| earlier as usize)
    }
}

/// The three bytes at a position as a number, if there are as many.
#[inline(always)]
fn prefix_at(input: &[u8], at: usize) -> Option<u32> {
    let rest = input.get(at..)?;
    if let Some(four) = rest.first_chunk::<4>() {
        return Some(u32::from_le_bytes(*four) & 0x00ff_ffff);
    }
    let [first, second, third] = *rest.first_chunk::<3>()?;
    Some(u32::from_le_bytes([first, second, third, 0]))
}

/// Distance and length of a match of what stands at `at` with what stands at `earlier`.
#[inline(always)]
fn find_match(input: &[u8], earlier: usize, at: usize, prefix: u32) -> Option<(usize, usize)> {
    let distance = at.checked_sub(earlier).filter(|distance| (1..=MAX_DISTANCE).contains(distance))?;
    (prefix_at(input, earlier) == Some(prefix)).then(|| (distance, match_len(input, earlier, at)))
}

fn match_len(input: &[u8], earlier: usize, at: usize) -> usize {
    const WORD: usize = size_of::<u64>();
    let limit = MAX_MATCH.min(input.len() - at);
    let (a, b) = (&input[earlier..earlier + limit], &input[at..at + limit]);
    let mut len = 0;
    for (a, b) in a.as_chunks::<WORD>().0.iter().zip(b.as_chunks::<WORD>().0) {
        let difference = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if difference != 0 {
            return len + difference.trailing_zeros() as usize / 8;
        }
        len += WORD;
    }
    len + a[len..].iter().zip(&b[len..]).take_while(|(a, b)| a == b).count()
}

fn append_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(MAX_LITERALS) {
        out.push((run.len() - 1) as u8);
        out.extend_from_slice(run);
    }
}

fn append_reference(out: &mut Vec<u8>, distance: usize, length: usize) {
    let offset = distance - 1;
    let length = length - 2;
    if length < 7 {
        out.push((length << 5 | offset >> 8) as u8);
    } else {
        out.push((7 << 5 | offset >> 8) as u8);
        out.push((length - 7) as u8);
    }
    out.push((offset & 0xff) as u8);
}

/// Decompresses `input`, whose original length is known to be `len` bytes.
pub fn decompress(input: &[u8], len: usize) -> Result<Vec<u8>, InvalidLzf> {
    // A reference of three bytes makes at most 264: a length beyond that is a lie not worth an allocation.
    if len > input.len().saturating_mul(MAX_MATCH) {
        return Err(InvalidLzf);
    }
    let mut out = Vec::with_capacity(len);
    let mut rest = input;
    while let [control, tail @ ..] = rest {
        let control = usize::from(*control);
        rest = if control < MAX_LITERALS {
            let (literals, tail) = tail.split_at_checked(control + 1).ok_or(InvalidLzf)?;
            out.extend_from_slice(literals);
            tail
        } else {
            let (extra, tail) = match (control >> 5, tail) {
                (7, [extra, tail @ ..]) => (usize::from(*extra), tail),
                (7, []) => return Err(InvalidLzf),
                _ => (0, tail),
            };
            let [low, tail @ ..] = tail else {
                return Err(InvalidLzf);
            };
            let length = (control >> 5) + extra + 2;
            let distance = ((control & 0x1f) << 8 | usize::from(*low)) + 1;
            copy_back(&mut out, distance, length)?;
            tail
        };
        if out.len() > len {
            return Err(InvalidLzf);
        }
    }
    if out.len() == len { Ok(out) } else { Err(InvalidLzf) }
}

/// Appends `length` bytes from `distance` back; they may overlap what is being appended.
fn copy_back(out: &mut Vec<u8>, distance: usize, length: usize) -> Result<(), InvalidLzf> {
    let from = out.len().checked_sub(distance).ok_or(InvalidLzf)?;
    let mut left = length;
    while left > 0 {
        // Each pass doubles what is there to copy.
        let step = left.min(out.len() - from);
        out.extend_from_within(from..from + step);
        left -= step;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compress(input: &[u8], max_len: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        Compressor::default().compress(input, max_len, &mut out).then_some(out)
    }

    fn round_trip(input: &[u8]) -> usize {
        let packed = compress(input, usize::MAX).unwrap();
        // One that has seen other texts says the same.
        let mut used = Compressor::default();
        for before in [&b"understudy understudy"[..], &[b'a'; 5000], &input[..input.len() / 2]] {
            used.compress(before, usize::MAX, &mut Vec::new());
        }
        let mut again = b"before".to_vec();
        assert!(used.compress(input, usize::MAX, &mut again));
        assert_eq!(again[6..], packed);
        assert_eq!(decompress(&packed, input.len()).as_deref(), Ok(input));
        packed.len()
    }

    #[test]
    fn compresses_what_repeats() {
        assert!(round_trip(&[b'a'; 10_000]) < 200);
        assert!(round_trip("understudy ".repeat(100).as_bytes()) < 60);
        assert_eq!(round_trip(b""), 0);
        assert_eq!(round_trip(b"ab"), 3);
    }

    #[test]
    fn gives_up_when_not_shorter() {
        let noise: Vec<u8> = (0..=255).collect();
        assert_eq!(compress(&noise, noise.len() - 4), None);
    }

    /// What a compressor remembers is forgotten before its numbers run out.
    #[test]
    fn its_numbers_do_not_run_out() {
        let text = b"abcdefgh abcdefgh abcdefgh";
        let mut compressor = Compressor { base: u32::MAX - 40, ..Compressor::default() };
        for _ in 0..5 {
            let mut packed = Vec::new();
            assert!(compressor.compress(text, text.len(), &mut packed));
            assert_eq!(decompress(&packed, text.len()).as_deref(), Ok(&text[..]));
        }
        assert!(compressor.base < 1000);
    }

    /// The value part of `DUMP` of 40 times `a` on a running server.
    #[test]
    fn reads_foreign_data() {
        let packed = [0x01, 0x61, 0x61, 0xe0, 0x1b, 0x00, 0x01, 0x61, 0x61];
        assert_eq!(decompress(&packed, 40), Ok(vec![b'a'; 40]));
    }

    #[test]
    fn refuses_bad_data() {
        for (bytes, len) in [
            (&[0x05, 0x61][..], 6),
            (&[0x20, 0x00], 3),
            (&[0x00, 0x61, 0x20], 4),
            (&[0x00, 0x61, 0xe0], 10),
            (&[0x00, 0x61, 0xe0, 0x01], 10),
            (&[0x00, 0x61, 0x20, 0x01], 4),
            (&[0x00, 0x61], 2),
            (&[0x01, 0x61, 0x61], 1),
            (&[0x00, 0x61], usize::MAX),
        ] {
            assert_eq!(decompress(bytes, len), Err(InvalidLzf), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_input(input in prop::collection::vec(0u8..4, 0..3000)) {
            round_trip(&input);
        }

        #[test]
        fn any_bytes(input: Vec<u8>) {
            round_trip(&input);
        }

        #[test]
        fn noise_does_not_panic(input: Vec<u8>, len in 0usize..2000) {
            if let Ok(out) = decompress(&input, len) {
                prop_assert_eq!(out.len(), len);
            }
        }
    }
}
