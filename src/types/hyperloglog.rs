//! HyperLogLog: an estimate of how many different elements were seen, in a string that clients can read, copy and set.
//!
//! Knows only the bytes of such a string. They come from clients, so nothing about them is believed: what does not add up is
//! [`Corrupt`].
//!
//! The format is that of Valkey, byte for byte, since DUMP, RDB and GET show it (`hyperloglog.c` there describes it): `HYLL`, the
//! encoding (0 dense, 1 sparse), three unused bytes, the last estimate in 8 bytes little-endian (its uppermost bit says that
//! it is out of date), and 16384 registers. Dense, each takes 6 bits, the lower bits of a byte first. Sparse, runs of equal
//! registers follow one another: `00llllll` up to 64 zeros, `01llllll llllllll` up to 16384 zeros, `1vvvvvll` up to 4 registers
//! with a value of 1 to 32; lengths and values are stored less one.
//!
//! The estimate is that of Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (arXiv:1702.01284).

/// The number of registers.
pub const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// The bits of a hash that are looked at for the run of zeros.
const RUN_BITS: u32 = 64 - INDEX_BITS;
const REGISTER_MAX: u8 = 63;

const HEADER: usize = 16;
const CACHED: std::ops::Range<usize> = 8..16;
const OUT_OF_DATE: u8 = 1 << 7;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const DENSE_LEN: usize = HEADER + REGISTERS * 6 / 8;

const LONGEST_ZERO: usize = 64;
const LONGEST_VALUE: usize = 4;
const GREATEST_SPARSE: u8 = 32;
/// How many runs are looked at for neighbours to be merged after a change.
const LOOKED_AT: usize = 5;

/// The runs of a sparse string do not add up to all registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

/// A string in which nothing was counted yet.
pub fn empty() -> Vec<u8> {
    let mut value = vec![0; HEADER];
    value[..4].copy_from_slice(b"HYLL");
    value[4] = SPARSE;
    push_zeros(&mut value, REGISTERS);
    value
}

/// Does the header say that this is one?
pub fn is_valid(value: &[u8]) -> bool {
    value.len() >= HEADER
        && value.starts_with(b"HYLL")
        && (value[4] == SPARSE || value[4] == DENSE && value.len() == DENSE_LEN)
}

/// Is each register stored for itself?
pub fn is_dense(value: &[u8]) -> bool {
    value[4] == DENSE
}

/// The last estimate, if nothing was added since.
pub fn cached(value: &[u8]) -> Option<u64> {
    let bytes = value[CACHED].try_into().map(u64::from_le_bytes).unwrap_or_default();
    (value[CACHED.end - 1] & OUT_OF_DATE == 0).then_some(bytes)
}

/// Keeps an estimate.
pub fn set_cached(value: &mut [u8], count: u64) {
    value[CACHED].copy_from_slice(&count.to_le_bytes());
}

/// Says that the estimate kept is out of date.
pub fn invalidate(value: &mut [u8]) {
    value[CACHED.end - 1] |= OUT_OF_DATE;
}

/// Counts an element. `true`: a register has changed. A sparse string becomes dense rather than longer than `most_sparse` bytes.
pub fn add(value: &mut Vec<u8>, element: &[u8], most_sparse: usize) -> Result<bool, Corrupt> {
    let (index, run) = index_and_run(element);
    raise(value, index, run, most_sparse)
}

/// Raises a register to `run`, if it is lower.
fn raise(value: &mut Vec<u8>, index: usize, run: u8, most_sparse: usize) -> Result<bool, Corrupt> {
    if is_dense(value) {
        return Ok(raise_dense(value, index, run));
    }
    let change =
        if run > GREATEST_SPARSE { Change::TooMuch } else { raise_sparse(value, index, run, most_sparse)? };
    match change {
        Change::None => Ok(false),
        Change::Done => Ok(true),
        Change::TooMuch => {
            make_dense(value)?;
            Ok(raise_dense(value, index, run))
        }
    }
}

/// Stores each register for itself from now on.
pub fn make_dense(value: &mut Vec<u8>) -> Result<(), Corrupt> {
    if is_dense(value) {
        return Ok(());
    }
    let mut dense = vec![0; DENSE_LEN];
    dense[..HEADER].copy_from_slice(&value[..HEADER]);
    dense[4] = DENSE;
    for_each_run(value, |first, run| {
        if run.value > 0 {
            (first..first + run.len).for_each(|index| set_dense(&mut dense, index, run.value));
        }
    })?;
    *value = dense;
    Ok(())
}

/// The estimate, computed anew.
pub fn count(value: &[u8]) -> Result<u64, Corrupt> {
    let mut histogram = [0u32; 64];
    if is_dense(value) {
        dense_registers(value).for_each(|register| histogram[usize::from(register)] += 1);
    } else {
        for_each_run(value, |_, run| histogram[usize::from(run.value)] += run.len as u32)?;
    }
    Ok(estimate(&histogram))
}

/// The registers of a dense string, in order.
pub fn dense_registers(value: &[u8]) -> impl Iterator<Item = u8> {
    value[HEADER..].chunks_exact(3).flat_map(|bytes| {
        let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
        [0, 6, 12, 18].map(|shift| (bits >> shift) as u8 & REGISTER_MAX)
    })
}

/// The runs of a sparse string as text: `z` and `Z` with a number of zeros, `v` with a value and how often.
pub fn describe_sparse(value: &[u8]) -> String {
    let describe = |(_, run): (usize, Run)| match run {
        Run { value: 0, size: 1, len } => format!("z:{len}"),
        Run { value: 0, len, .. } => format!("Z:{len}"),
        Run { value, len, .. } => format!("v:{value},{len}"),
    };
    runs(value).map(describe).collect::<Vec<_>>().join(" ")
}

/// The greatest of each register of several strings.
pub struct Union {
    registers: Vec<u8>,
    /// Was one of them dense?
    has_dense: bool,
}

impl Default for Union {
    fn default() -> Self {
        Union { registers: vec![0; REGISTERS], has_dense: false }
    }
}

impl Union {
    /// Adds a valid string.
    pub fn add(&mut self, value: &[u8]) -> Result<(), Corrupt> {
        if is_dense(value) {
            self.has_dense = true;
            for (mine, theirs) in self.registers.iter_mut().zip(dense_registers(value)) {
                *mine = (*mine).max(theirs);
            }
            return Ok(());
        }
        for_each_run(value, |first, run| {
            if run.value > 0 {
                let mine = &mut self.registers[first..first + run.len];
                mine.iter_mut().for_each(|register| *register = (*register).max(run.value));
            }
        })
    }

    pub fn count(&self) -> u64 {
        let mut histogram = [0u32; 64];
        self.registers.iter().for_each(|register| histogram[usize::from(register & REGISTER_MAX)] += 1);
        estimate(&histogram)
    }

    /// Raises the registers of `value`, which is one of the strings added or empty. It becomes dense if one of them was.
    pub fn write_to(&self, value: &mut Vec<u8>, most_sparse: usize) -> Result<(), Corrupt> {
        if self.has_dense {
            make_dense(value)?;
        }
        for (index, register) in self.registers.iter().enumerate().filter(|(_, register)| **register > 0) {
            raise(value, index, *register, most_sparse)?;
        }
        invalidate(value);
        Ok(())
    }
}

// ---- Elements ----

/// The register that an element belongs to, and the length of the run of zeros in its hash, with the one that ends it.
fn index_and_run(element: &[u8]) -> (usize, u8) {
    let hash = murmur(element);
    let rest = hash >> INDEX_BITS | 1 << RUN_BITS;
    (hash as usize % REGISTERS, rest.trailing_zeros() as u8 + 1)
}

/// MurmurHash64A with the seed that the format prescribes.
fn murmur(data: &[u8]) -> u64 {
    const SEED: u64 = 0xadc8_3b19;
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = SEED ^ (data.len() as u64).wrapping_mul(FACTOR);
    let mut words = data.chunks_exact(8);
    for word in &mut words {
        let mut word = u64::from_le_bytes(word.try_into().unwrap_or_default()).wrapping_mul(FACTOR);
        word = (word ^ word >> 47).wrapping_mul(FACTOR);
        hash = (hash ^ word).wrapping_mul(FACTOR);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = (hash ^ word).wrapping_mul(FACTOR);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(FACTOR);
    hash ^ hash >> 47
}

// ---- Dense ----

fn set_dense(value: &mut [u8], index: usize, register: u8) {
    let (byte, shift) = (HEADER + index * 6 / 8, index * 6 % 8);
    let keep = |bits: u16| u16::from(register) << shift | bits & !(u16::from(REGISTER_MAX) << shift);
    let next = value.get(byte + 1).copied().unwrap_or_default();
    let [low, high] = keep(u16::from_le_bytes([value[byte], next])).to_le_bytes();
    value[byte] = low;
    if let Some(place) = value.get_mut(byte + 1) {
        *place = high;
    }
}

fn raise_dense(value: &mut [u8], index: usize, run: u8) -> bool {
    let (byte, shift) = (HEADER + index * 6 / 8, index * 6 % 8);
    let next = value.get(byte + 1).copied().unwrap_or_default();
    let register = (u16::from_le_bytes([value[byte], next]) >> shift) as u8 & REGISTER_MAX;
    if register < run {
        set_dense(value, index, run);
    }
    register < run
}

// ---- Sparse ----

/// Equal registers that follow one another.
#[derive(Debug, Clone, Copy)]
struct Run {
    value: u8,
    len: usize,
    /// Bytes that it takes.
    size: usize,
}

/// The run that begins at a place. A second byte that is cut off counts as zero.
fn run_at(value: &[u8], at: usize) -> Option<Run> {
    let first = *value.get(at)?;
    let bits = usize::from(first & 0x3f);
    Some(match first >> 6 {
        0 => Run { value: 0, len: bits + 1, size: 1 },
        1 => {
            let second = value.get(at + 1).copied().unwrap_or_default();
            Run { value: 0, len: (bits << 8 | usize::from(second)) + 1, size: 2 }
        }
        _ => Run { value: (first >> 2 & 0x1f) + 1, len: usize::from(first & 3) + 1, size: 1 },
    })
}

/// The runs with their places.
fn runs(value: &[u8]) -> impl Iterator<Item = (usize, Run)> {
    let mut at = HEADER;
    std::iter::from_fn(move || {
        let run = run_at(value, at)?;
        at += run.size;
        Some((at - run.size, run))
    })
}

/// Calls with the first register of each run, and the run. Fails if they are not exactly all registers, and never passes the last.
fn for_each_run(value: &[u8], mut f: impl FnMut(usize, Run)) -> Result<(), Corrupt> {
    let mut first = 0;
    for (_, run) in runs(value) {
        if first + run.len > REGISTERS {
            return Err(Corrupt);
        }
        f(first, run);
        first += run.len;
    }
    if first == REGISTERS { Ok(()) } else { Err(Corrupt) }
}

fn value_run(value: u8, len: usize) -> u8 {
    0x80 | (value - 1) << 2 | (len - 1) as u8
}

fn push_zeros(to: &mut Vec<u8>, len: usize) {
    let stored = len - 1;
    if len > LONGEST_ZERO {
        to.push(0x40 | (stored >> 8) as u8);
    }
    to.push(stored as u8);
}

enum Change {
    None,
    Done,
    /// The string must become dense for it.
    TooMuch,
}

fn raise_sparse(value: &mut Vec<u8>, index: usize, register: u8, most: usize) -> Result<Change, Corrupt> {
    let (mut first, mut before) = (0, HEADER);
    let mut found = None;
    for (at, run) in runs(value) {
        if index < first + run.len {
            found = Some((at, run));
            break;
        }
        before = at;
        first += run.len;
    }
    let (at, run) = found.ok_or(Corrupt)?;
    if run.value >= register {
        return Ok(Change::None);
    }
    // What is left of the run on both sides of the register.
    let mut parts = Vec::with_capacity(5);
    let push_rest = |parts: &mut Vec<u8>, len: usize| match (run.value, len) {
        (_, 0) => {}
        (0, _) => push_zeros(parts, len),
        _ => parts.push(value_run(run.value, len)),
    };
    push_rest(&mut parts, index - first);
    parts.push(value_run(register, 1));
    push_rest(&mut parts, first + run.len - 1 - index);
    if parts.len() > run.size && value.len() + parts.len() - run.size > most {
        return Ok(Change::TooMuch);
    }
    let end = (at + run.size).min(value.len());
    value.splice(at..end, parts);
    merge(value, before);
    invalidate(value);
    Ok(Change::Done)
}

/// Makes one run of neighbours with the same value, in the few runs from `at` on.
fn merge(value: &mut Vec<u8>, mut at: usize) {
    for _ in 0..LOOKED_AT {
        let Some(run) = run_at(value, at) else { return };
        match run_at(value, at + 1) {
            Some(next) if run.value > 0 && next.value == run.value && run.len + next.len <= LONGEST_VALUE => {
                value[at] = value_run(run.value, run.len + next.len);
                value.remove(at + 1);
            }
            _ => at += run.size,
        }
    }
}

// ---- The estimate ----

/// The estimate of registers of which so many have each value.
fn estimate(histogram: &[u32; 64]) -> u64 {
    /// 0.5 / ln(2)
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let registers = REGISTERS as f64;
    let full = f64::from(histogram[RUN_BITS as usize + 1]);
    let mut sum = registers * tau((registers - full) / registers);
    for value in (1..=RUN_BITS as usize).rev() {
        sum = (sum + f64::from(histogram[value])) * 0.5;
    }
    sum += registers * sigma(f64::from(histogram[0]) / registers);
    (ALPHA * registers * registers / sum).round() as u64
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut factor, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * factor;
        factor += factor;
        if before == sum {
            return sum;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut factor, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        factor *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * factor;
        if before == sum {
            return sum / 3.0;
        }
    }
}

/// Counts ten million elements, sparse and dense at once, and says where they do not agree or the estimate is off by more than
/// six times the error to be expected. Takes seconds.
pub fn self_test(seed: u64, most_sparse: usize) -> Result<(), &'static str> {
    const ELEMENTS: u64 = 10_000_000;
    let (mut sparse, mut dense) = (empty(), empty());
    let corrupt = |_: Corrupt| "a string is corrupt";
    make_dense(&mut dense).map_err(corrupt)?;
    let expected_error = 1.04 / (REGISTERS as f64).sqrt();
    let mut checked = 1;
    for number in 1..=ELEMENTS {
        let (index, run) = index_and_run(&(number ^ seed).to_le_bytes());
        raise_dense(&mut dense, index, run);
        raise(&mut sparse, index, run, most_sparse).map_err(corrupt)?;
        if number != checked {
            continue;
        }
        let estimated = count(&dense).map_err(corrupt)?;
        // Two elements in one register are not rare enough among ten.
        let most = if number == 10 { 1 } else { (expected_error * 6.0 * number as f64).ceil() as u64 };
        match () {
            () if number < most_sparse as u64 / 2 && is_dense(&sparse) => {
                return Err("sparse encoding not used");
            }
            () if count(&sparse) != Ok(estimated) => return Err("dense/sparse disagree"),
            () if estimated.abs_diff(number) > most => return Err("Too big error."),
            () => checked *= 10,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn registers(value: &[u8]) -> Vec<u8> {
        let mut dense = value.to_vec();
        make_dense(&mut dense).expect("sound");
        dense_registers(&dense).collect()
    }

    #[test]
    fn an_empty_one_counts_nothing() {
        let value = empty();
        assert_eq!(value, b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff");
        assert!(is_valid(&value) && !is_dense(&value));
        assert_eq!((cached(&value), count(&value)), (Some(0), Ok(0)));
        assert_eq!(describe_sparse(&value), "Z:16384");
    }

    #[test]
    fn what_is_added_twice_changes_nothing() {
        let mut value = empty();
        assert_eq!(add(&mut value, b"a", 3000), Ok(true));
        assert_eq!(cached(&value), None);
        assert_eq!(add(&mut value, b"a", 3000), Ok(false));
        set_cached(&mut value, 1);
        assert_eq!((cached(&value), count(&value)), (Some(1), Ok(1)));
    }

    #[test]
    fn strings_that_do_not_add_up_are_corrupt() {
        let of = |runs: &[u8]| [&empty()[..HEADER], runs].concat();
        for runs in [&[][..], &[0x7f, 0xfe], &[0x7f, 0xff, 0x80], &[0x7f], &[0x80], &[0x3f, 0x7f, 0xff]] {
            let mut value = of(runs);
            assert_eq!(count(&value), Err(Corrupt), "{runs:x?}");
            assert_eq!(Union::default().add(&value), Err(Corrupt));
            assert_eq!(make_dense(&mut value), Err(Corrupt));
            // May find its register before the end.
            let _ = add(&mut value, b"a", 3000);
        }
        assert!(!is_valid(b"HYLL") && !is_valid(&of(&[])[..15]));
        assert!(!is_valid(&[b"HYLL\x02".as_slice(), &[0; 30]].concat()));
        assert!(!is_valid(&[b"HYLL\0".as_slice(), &[0; 30]].concat()));
    }

    #[test]
    fn estimates_are_close() {
        let mut value = empty();
        let mut next = 1;
        for number in 1u64..=100_000 {
            add(&mut value, &number.to_le_bytes(), 3000).expect("sound");
            if number == next {
                let error = count(&value).expect("sound").abs_diff(number) as f64;
                assert!(error <= (number as f64 * 0.05).ceil(), "{number}: off by {error}");
                next *= 10;
            }
        }
        assert!(is_dense(&value));
    }

    proptest! {
        /// Sparse, dense and a plain array of registers agree, whatever is raised in which order.
        #[test]
        fn all_forms_agree(raised in proptest::collection::vec((0usize..300, 1u8..40), 1..200), most in 20usize..400) {
            let mut model = vec![0; REGISTERS];
            let mut sparse = empty();
            let mut dense = empty();
            make_dense(&mut dense).expect("sound");
            for (index, run) in raised {
                let index = if index % 3 == 0 { REGISTERS - 1 - index } else { index };
                let changed = model[index] < run;
                model[index] = run.max(model[index]);
                prop_assert_eq!(raise(&mut sparse, index, run, most), Ok(changed));
                prop_assert_eq!(raise(&mut dense, index, run, most), Ok(changed));
                prop_assert!(is_dense(&sparse) || sparse.len() <= most.max(20));
            }
            prop_assert_eq!(&registers(&sparse), &model);
            prop_assert_eq!(&registers(&dense), &model);
            prop_assert_eq!(count(&sparse), count(&dense));
            let mut union = Union::default();
            union.add(&sparse).expect("sound");
            prop_assert_eq!(Ok(union.count()), count(&dense));
            let mut copy = empty();
            union.write_to(&mut copy, most).expect("sound");
            prop_assert_eq!(registers(&copy), model);
        }

        #[test]
        fn no_bytes_make_it_panic(runs in proptest::collection::vec(any::<u8>(), 0..60), element in any::<u32>()) {
            let mut value = [&empty()[..HEADER], &runs].concat();
            let _ = count(&value);
            let _ = describe_sparse(&value);
            let _ = add(&mut value, &element.to_le_bytes(), 3000);
            let _ = make_dense(&mut value);
        }
    }
}
