//! The dictionary against the standard map: contents, snapshots, scanning, and what it allocates.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use proptest::prelude::*;

use super::segment::{FIRST_CLASS, slot_count};
use super::*;

/// An item without spare bits: the dictionary hashes its key again where it needs the tag.
#[derive(Clone, Debug, PartialEq)]
struct Pair(Arc<(Vec<u8>, u64)>);

/// An item with a tag, as a pointer with spare bits would have, but the bits lie in the box.
#[derive(Clone, Debug)]
struct Tagged(Box<(Pair, u16)>);

trait TestItem: Item {
    fn make(key: u64, value: u64) -> Self;
    fn content(&self) -> (u64, u64);
}

fn key(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

impl Item for Pair {
    fn key(&self) -> &[u8] {
        &self.0.0
    }
}

impl TestItem for Pair {
    fn make(number: u64, value: u64) -> Self {
        Pair(Arc::new((key(number), value)))
    }

    fn content(&self) -> (u64, u64) {
        (std::str::from_utf8(&self.0.0).unwrap().parse().unwrap(), self.0.1)
    }
}

impl Item for Tagged {
    fn key(&self) -> &[u8] {
        self.0.0.key()
    }

    fn tag(&self) -> u16 {
        self.0.1
    }

    fn set_tag(&mut self, tag: u16) {
        self.0.1 = tag;
    }
}

impl TestItem for Tagged {
    fn make(key: u64, value: u64) -> Self {
        Tagged(Box::new((Pair::make(key, value), 0)))
    }

    fn content(&self) -> (u64, u64) {
        self.0.0.content()
    }
}

/// Checks everything that the module comments promise about the structure.
fn check_structure<T: Item>(dictionary: &Dictionary<T>) {
    assert_eq!(dictionary.segments.is_empty(), dictionary.is_empty());
    if dictionary.is_empty() {
        return assert_eq!(dictionary.memory_usage(), 0);
    }
    assert_eq!(dictionary.directory.len(), 1 << dictionary.depth);
    let mut uses = vec![0; dictionary.segments.len()];
    for (position, &index) in dictionary.directory.iter().enumerate() {
        let segment = &dictionary.segments[index as usize];
        assert!(dictionary.directory_range(segment).contains(&position));
        uses[index as usize] += 1;
    }
    for (segment, uses) in dictionary.segments.iter().zip(uses) {
        assert_eq!(uses, 1 << (dictionary.depth - segment.depth()));
        assert!(segment.class() == FULL_CLASS || dictionary.depth == 0);
        assert!(segment.len() <= max_len(segment.class()));
        let items = segment.slots().iter().flatten();
        assert_eq!(items.clone().count(), segment.len());
        for item in items {
            let hash = hash(item.key());
            assert!([0, tag_of_hash(hash)].contains(&item.tag()));
            assert!(matches!(segment.probe(hash, item.key()), Probe::Found(_)));
            assert_eq!(dictionary.get(item.key()).map(std::ptr::from_ref), Some(std::ptr::from_ref(item)));
        }
    }
    let deepest = dictionary.segments.iter().filter(|segment| segment.depth() == dictionary.depth).count();
    assert_eq!(dictionary.deepest as usize, deepest);
    assert!(deepest > 0);
    assert_eq!(dictionary.segments.iter().map(Segment::len).sum::<usize>(), dictionary.len());
}

fn contents<T: TestItem>(dictionary: &Dictionary<T>) -> HashMap<u64, u64> {
    let iter = dictionary.iter();
    assert_eq!(iter.len(), dictionary.len());
    let contents: HashMap<u64, u64> = iter.map(TestItem::content).collect();
    assert_eq!(contents.len(), dictionary.len());
    contents
}

#[derive(Clone, Debug)]
enum Action {
    Insert(u64),
    InsertRange(u64, u64),
    FindOrInsert(u64),
    Change(u64),
    Remove(u64),
    RemoveRange(u64, u64),
    Snapshot,
    DropSnapshot(usize),
    SwapWithSnapshot(usize),
    Clear,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let key = 0..3000u64;
    let action = prop_oneof![
        10 => key.clone().prop_map(Action::Insert),
        4 => (key.clone(), 1..900u64).prop_map(|(start, count)| Action::InsertRange(start, count)),
        5 => key.clone().prop_map(Action::FindOrInsert),
        5 => key.clone().prop_map(Action::Change),
        10 => key.clone().prop_map(Action::Remove),
        3 => (key, 1..1500u64).prop_map(|(start, count)| Action::RemoveRange(start, count)),
        3 => Just(Action::Snapshot),
        2 => (0..4usize).prop_map(Action::DropSnapshot),
        1 => (0..4usize).prop_map(Action::SwapWithSnapshot),
        1 => Just(Action::Clear),
    ];
    proptest::collection::vec(action, 1..60)
}

/// Runs the actions on a dictionary and a model, with snapshots that must not change under the writes.
fn run_against_model<T: TestItem + std::fmt::Debug>(actions: Vec<Action>) {
    let (mut dictionary, mut model) = (Dictionary::<T>::new(), HashMap::<u64, u64>::new());
    let mut snapshots: Vec<(Dictionary<T>, HashMap<u64, u64>)> = Vec::new();
    for (step, action) in actions.into_iter().enumerate() {
        let value = step as u64;
        let old = |item: Option<T>| item.map(|item| item.content().1);
        match action {
            Action::Insert(number) => {
                assert_eq!(old(dictionary.insert(T::make(number, value))), model.insert(number, value));
            }
            Action::InsertRange(start, count) => {
                for number in start..start + count {
                    assert_eq!(old(dictionary.insert(T::make(number, value))), model.insert(number, value));
                }
            }
            Action::FindOrInsert(number) => {
                let (item, made) = dictionary.find_or_insert_with(&key(number), || T::make(number, value));
                assert_eq!(made, !model.contains_key(&number));
                assert_eq!(item.content(), (number, *model.entry(number).or_insert(value)));
            }
            Action::Change(number) => match dictionary.get_mut(&key(number)) {
                Some(item) => {
                    *item = T::make(number, value);
                    assert!(model.insert(number, value).is_some());
                }
                None => assert!(!model.contains_key(&number)),
            },
            Action::Remove(number) => {
                assert_eq!(old(dictionary.remove(&key(number))), model.remove(&number));
            }
            Action::RemoveRange(start, count) => {
                for number in start..start + count {
                    assert_eq!(old(dictionary.remove(&key(number))), model.remove(&number));
                }
            }
            Action::Snapshot => snapshots.push((dictionary.clone(), model.clone())),
            Action::DropSnapshot(index) if index < snapshots.len() => drop(snapshots.swap_remove(index)),
            Action::SwapWithSnapshot(index) if index < snapshots.len() => {
                let (other, other_model) = &mut snapshots[index];
                std::mem::swap(&mut dictionary, other);
                std::mem::swap(&mut model, other_model);
            }
            Action::DropSnapshot(_) | Action::SwapWithSnapshot(_) => {}
            Action::Clear => {
                dictionary.clear();
                model.clear();
            }
        }
        assert_eq!(dictionary.len(), model.len());
    }
    snapshots.push((dictionary, model));
    for (dictionary, model) in &snapshots {
        check_structure(dictionary);
        assert_eq!(contents(dictionary), *model);
    }
}

#[derive(Clone, Debug)]
struct ScanPlan {
    len: u64,
    count: usize,
    /// Before each call: the numbers below `.0` (which are not watched) are removed up to there, then `.1` new ones added.
    changes: Vec<(bool, u64)>,
}

fn scan_plan() -> impl Strategy<Value = ScanPlan> {
    let change = (any::<bool>(), 0..1500u64);
    (0..4000u64, 1..500usize, proptest::collection::vec(change, 0..12))
        .prop_map(|(len, count, changes)| ScanPlan { len, count, changes })
}

/// Scans while items come and go: those that stay must all be seen.
fn run_scan(plan: ScanPlan) {
    let mut dictionary: Dictionary<Pair> = (0..plan.len).map(|number| Pair::make(number, 0)).collect();
    // Every tenth stays; the others may be removed during the scan.
    let staying: BTreeSet<u64> = (0..plan.len).step_by(10).collect();
    let mut removable: Vec<u64> = (0..plan.len).filter(|number| number % 10 != 0).collect();
    let (mut seen, mut cursor, mut added) = (BTreeMap::<u64, u32>::new(), 0, plan.len);
    let mut changes = plan.changes.iter();
    for call in 0.. {
        assert!(call < 20_000, "the scan does not end");
        cursor =
            dictionary.scan(cursor, plan.count, &mut |item| *seen.entry(item.content().0).or_default() += 1);
        if cursor == 0 {
            break;
        }
        match changes.next() {
            Some(&(true, number)) => {
                for number in added..added + number {
                    dictionary.insert(Pair::make(number, 0));
                }
                added += number;
            }
            Some(&(false, number)) => {
                for number in removable.drain(removable.len().saturating_sub(2 * number as usize)..) {
                    assert!(dictionary.remove(&key(number)).is_some());
                }
            }
            None => {}
        }
    }
    assert!(staying.iter().all(|number| seen.contains_key(number)));
    if plan.changes.is_empty() {
        assert!(seen.values().all(|&times| times == 1));
        assert_eq!(seen.len(), dictionary.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 96 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn untagged_items_match_the_model(actions in actions()) {
        run_against_model::<Pair>(actions);
    }

    #[test]
    fn tagged_items_match_the_model(actions in actions()) {
        run_against_model::<Tagged>(actions);
    }

    #[test]
    fn scan_sees_all_that_stays(plan in scan_plan()) {
        run_scan(plan);
    }

    #[test]
    fn any_cursor_is_harmless(cursor in any::<u64>(), bits in 0..64u32, len in 0..3000u64) {
        let dictionary: Dictionary<Pair> = (0..len).map(|number| Pair::make(number, 0)).collect();
        let mut seen = 0;
        dictionary.scan(cursor >> bits, 10, &mut |_| seen += 1);
        prop_assert!(seen <= len);
    }
}

#[test]
fn a_scan_returns_about_as_many_as_asked() {
    let dictionary: Dictionary<Pair> = (0..50_000).map(|number| Pair::make(number, 0)).collect();
    let (mut cursor, mut calls, mut seen) = (0, 0, BTreeSet::new());
    loop {
        let mut returned = 0;
        cursor = dictionary.scan(cursor, 10, &mut |item| {
            returned += 1;
            assert!(seen.insert(item.content().0), "nothing is repeated while nothing changes");
        });
        assert!(cursor < 1 << 47);
        calls += 1;
        if cursor == 0 {
            break;
        }
        assert!(returned >= 10, "a call gives what was asked while there is more");
    }
    assert_eq!(seen.len(), 50_000);
    assert!(calls > 1500, "clusters are short: {calls} calls");
}

#[test]
fn few_items_take_little_and_all_is_given_back() {
    let mut dictionary = Dictionary::new();
    assert_eq!(dictionary.memory_usage(), 0);
    let mut most = 0;
    for number in 0..20_000 {
        dictionary.insert(Pair::make(number, 0));
        if number < max_len(FIRST_CLASS) as u64 {
            assert!(dictionary.memory_usage() <= 64 + 4 * size_of::<Segment<Pair>>() + 16);
        }
        most = most.max(dictionary.memory_usage());
    }
    assert!(most / 20_000 < 24);
    for number in 0..19_990 {
        dictionary.remove(&key(number));
        let bound = 4096 * (2 + dictionary.len() / (MERGE_LEN / 4));
        assert!(dictionary.memory_usage() < bound + most / 16, "{} items", dictionary.len());
    }
    check_structure(&dictionary);
    assert!(dictionary.memory_usage() < 1024);
    for number in 19_990..20_000 {
        dictionary.remove(&key(number));
    }
    assert_eq!(dictionary.memory_usage(), 0);
}

#[test]
fn a_write_after_a_snapshot_copies_one_segment() {
    let mut dictionary: Dictionary<Pair> = (0..10_000).map(|number| Pair::make(number, 0)).collect();
    let snapshot = dictionary.clone();
    dictionary.insert(Pair::make(5, 1));
    let shared = |one: &Dictionary<Pair>, other: &Dictionary<Pair>| {
        let same = |(a, b): (&Segment<Pair>, &Segment<Pair>)| a.slots().as_ptr() == b.slots().as_ptr();
        one.segments.iter().zip(&other.segments).filter(|&pair| same(pair)).count()
    };
    assert_eq!(shared(&dictionary, &snapshot), dictionary.segments.len() - 1);
    assert_eq!(snapshot.get(b"5").map(TestItem::content), Some((5, 0)));
    // Looking in vain for something to change copies nothing.
    let snapshot = dictionary.clone();
    assert!(dictionary.get_mut(b"missing").is_none());
    assert!(dictionary.remove(b"missing").is_none());
    assert_eq!(shared(&dictionary, &snapshot), dictionary.segments.len());
}

#[test]
fn items_are_dropped_once() {
    let shared = Pair::make(1, 1);
    let mut dictionary: Dictionary<Pair> = (0..2000).map(|number| Pair::make(number, 0)).collect();
    dictionary.insert(shared.clone());
    let snapshot = dictionary.clone();
    assert_eq!(Arc::strong_count(&shared.0), 2, "a snapshot shares whole segments");
    dictionary.extend((0..5000).map(|number| Pair::make(number + 5000, 0)));
    assert_eq!(Arc::strong_count(&shared.0), 3, "its segment was copied");
    drop(snapshot);
    assert_eq!(Arc::strong_count(&shared.0), 2);
    dictionary.clear();
    assert_eq!(Arc::strong_count(&shared.0), 1);
}

#[test]
fn random_is_fair() {
    let mut dictionary: Dictionary<Pair> = (0..3000).map(|number| Pair::make(number, 0)).collect();
    let mut random = fastrand::Rng::with_seed(7);
    let mut times = [0u32; 3000];
    for _ in 0..600_000 {
        times[dictionary.random(&mut random).unwrap().content().0 as usize] += 1;
    }
    // Expected 200 each, deviation 14: chi-squared over 3000 degrees, deviation 77.
    let chi_squared: f64 = times.iter().map(|&n| (f64::from(n) - 200.0).powi(2) / 200.0).sum();
    assert!((2600.0..3400.0).contains(&chi_squared), "{chi_squared}");
    for number in 1..3000 {
        dictionary.remove(&key(number));
    }
    assert_eq!(dictionary.random(&mut random).map(TestItem::content), Some((0, 0)));
    dictionary.clear();
    assert_eq!(dictionary.random(&mut random), None);
}

#[test]
fn a_snapshot_is_read_on_another_thread_while_the_original_is_written() {
    let count = if cfg!(miri) { 100 } else { 20_000 };
    let mut dictionary: Dictionary<Pair> = (0..count).map(|number| Pair::make(number, 0)).collect();
    for round in 1..6 {
        let snapshot = dictionary.clone();
        let expected = contents(&snapshot);
        let reader = std::thread::spawn(move || {
            for _ in 0..3 {
                assert_eq!(contents(&snapshot), expected);
                assert!(expected.keys().all(|&number| snapshot.get(&key(number)).is_some()));
            }
        });
        for number in 0..count {
            match number % 3 {
                0 => drop(dictionary.insert(Pair::make(number, round))),
                1 => drop(dictionary.insert(Pair::make(round * count + number, round))),
                _ => drop(dictionary.remove(&key((round - 1) * count + number))),
            }
        }
        reader.join().unwrap();
        check_structure(&dictionary);
    }
}

#[test]
fn the_first_class_is_one_cache_line() {
    assert_eq!((slot_count(FIRST_CLASS), slot_count(FULL_CLASS)), (7, 511));
    assert_eq!((max_len(FIRST_CLASS), max_len(FULL_CLASS)), (6, 447));
    assert_eq!(size_of::<Segment<Pair>>(), 16);
}

/// What is consumed is given up on the way, and an error ends it.
#[test]
fn consuming_sees_all_and_keeps_only_what_is_to_come() {
    let dictionary: Dictionary<Pair> = (0..5000).map(|number| Pair::make(number, number)).collect();
    let weak: Vec<_> = dictionary.iter().map(|item| Arc::downgrade(&item.0)).collect();
    let (mut seen, mut alive_late) = (BTreeSet::new(), 0);
    let all: Result<(), ()> = dictionary.clone().consume(|item| {
        seen.insert(item.content());
        Ok(())
    });
    assert_eq!((all, seen.len()), (Ok(()), 5000));
    let mut left = 4000;
    let ended = dictionary.consume(|_| {
        left -= 1;
        if left > 0 {
            return Ok(());
        }
        alive_late = weak.iter().filter(|item| item.strong_count() > 0).count();
        Err("enough")
    });
    assert_eq!(ended, Err("enough"));
    assert!((1000..2000).contains(&alive_late), "{alive_late} are kept");
    assert!(weak.iter().all(|item| item.strong_count() == 0));
}
