//! Streams against plain models; versions that were kept must not change.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Model = BTreeMap<StreamId, Vec<Vec<u8>>>;

fn id(ms: u64, seq: u64) -> StreamId {
    StreamId::new(ms, seq)
}

fn shown(entry: StreamEntry<'_>) -> (StreamId, Vec<Vec<u8>>) {
    let fields = entry.fields.flat_map(|(name, value)| [name.to_vec(), value.to_vec()]);
    (entry.id, fields.collect())
}

fn all(log: &Log, start: StreamId, end: StreamId, direction: Direction) -> Vec<(StreamId, Vec<Vec<u8>>)> {
    log.range(start, end, direction).map(shown).collect()
}

fn of_model(model: &Model, start: StreamId, end: StreamId) -> Vec<(StreamId, Vec<Vec<u8>>)> {
    let within = model.iter().filter(|(id, _)| **id >= start && **id <= end);
    within.map(|(id, fields)| (*id, fields.clone())).collect()
}

fn check(stream: &Stream, model: &Model, start: StreamId, end: StreamId) {
    let log = stream.log();
    assert_eq!(log.len(), model.len());
    assert_eq!(log.is_empty(), model.is_empty());
    let (first, last) = (StreamId::MIN, StreamId::MAX);
    assert_eq!(all(log, first, last, Direction::Forward), of_model(model, first, last));
    let mut expected = of_model(model, start, end);
    assert_eq!(all(log, start, end, Direction::Forward), expected, "{start} to {end}");
    expected.reverse();
    assert_eq!(all(log, start, end, Direction::Backward), expected, "{start} to {end}, backwards");
    assert_eq!(log.first_id(), model.keys().next().copied());
    assert_eq!(log.last_live_id(), model.keys().next_back().copied());
    assert_eq!(log.get(start).map(shown), model.get(&start).map(|fields| (start, fields.clone())));
    assert_eq!(log.nodes().count(), log.node_count());
    assert!(log.nodes().all(|node| node.live() > 0 && node.live() <= node.count()));
    assert_eq!(log.nodes().map(Node::live).sum::<usize>(), model.len());
    for node in log.nodes() {
        let again = Node::from_listpack(node.first_id(), node.listpack_elements()).unwrap().unwrap();
        assert_eq!(
            again.entries().map(shown).collect::<Vec<_>>(),
            node.entries().map(shown).collect::<Vec<_>>()
        );
        assert_eq!((again.count(), again.listpack_bytes()), (node.count(), node.listpack_bytes()));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { skip_ms: u64, skip_seq: u64, fields: Vec<Vec<u8>> },
    Delete(prop::sample::Index),
    DeleteMissing(u64, u64),
    TrimLength { keep: usize, approximate: bool },
    TrimId { at: prop::sample::Index, approximate: bool },
    Keep,
}

fn fields() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let word = prop_oneof![
        Just(b"a".to_vec()),
        Just(b"12".to_vec()),
        Just(b"-70000".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..90)
    ];
    prop_oneof![
        3 => word.clone().prop_map(|value| vec![b"name".to_vec(), value]),
        1 => (word.clone(), word.clone()).prop_map(|(one, other)| vec![b"x".to_vec(), one, b"y".to_vec(), other]),
        1 => proptest::collection::vec((word.clone(), word), 1..5)
            .prop_map(|pairs| pairs.into_iter().flat_map(|(name, value)| [name, value]).collect()),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        12 => (0u64..3, 0u64..200, fields())
            .prop_map(|(skip_ms, skip_seq, fields)| Step::Append { skip_ms, skip_seq, fields }),
        3 => index().prop_map(Step::Delete),
        1 => (0u64..200, 0u64..200).prop_map(|(ms, seq)| Step::DeleteMissing(ms, seq)),
        1 => (0usize..60, any::<bool>()).prop_map(|(keep, approximate)| Step::TrimLength { keep, approximate }),
        1 => (index(), any::<bool>()).prop_map(|(at, approximate)| Step::TrimId { at, approximate }),
        1 => Just(Step::Keep),
    ];
    proptest::collection::vec(step, 1..300)
}

fn trim(stream: &mut Stream, model: &mut Model, keep: Keep, approximate: bool) {
    let before = model.len();
    let deleted = stream.log_mut().trim(&Trim { keep, approximate, limit: 0 }) as usize;
    let wanted = match keep {
        Keep::Newest(most) => before.saturating_sub(most as usize),
        Keep::From(first) => model.range(..first).count(),
    };
    if approximate {
        assert!(deleted <= wanted);
    } else {
        assert_eq!(deleted, wanted);
    }
    for _ in 0..deleted {
        model.pop_first();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_a_sorted_map(
        steps in steps(),
        max_entries in prop_oneof![Just(0usize), Just(1), 2usize..12],
        max_bytes in prop_oneof![Just(0usize), Just(4096), 20usize..300],
        start in (0u64..100, 0u64..100),
        end in (0u64..300, 0u64..100),
    ) {
        let limits = Limits {
            stream_node_max_entries: max_entries,
            stream_node_max_bytes: max_bytes,
            ..Limits::default()
        };
        let mut stream = Stream::new();
        let mut model = Model::new();
        let mut kept = Vec::new();
        let mut added = 0;
        for step in steps {
            match step {
                Step::Append { skip_ms, skip_seq, fields } => {
                    let last = stream.log().last_id;
                    let next = match skip_ms {
                        0 => id(last.ms, last.seq + 1 + skip_seq),
                        // A new time begins with any number, also a lower one.
                        skip_ms => id(last.ms + skip_ms, skip_seq),
                    };
                    let parts: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
                    stream.log_mut().append(next, &parts, &limits);
                    model.insert(next, fields);
                    added += 1;
                }
                Step::Delete(index) => {
                    let Some(&id) = model.keys().nth(index.index(model.len().max(1))) else { continue };
                    prop_assert!(stream.log_mut().delete(id));
                    prop_assert!(!stream.log_mut().delete(id));
                    prop_assert!(stream.log().max_deleted_id >= id);
                    model.remove(&id);
                }
                Step::DeleteMissing(ms, seq) => {
                    prop_assert_eq!(stream.log_mut().delete(id(ms, seq)), model.remove(&id(ms, seq)).is_some());
                }
                Step::TrimLength { keep, approximate } => {
                    trim(&mut stream, &mut model, Keep::Newest(keep as u64), approximate);
                }
                Step::TrimId { at, approximate } => {
                    let first = model.keys().nth(at.index(model.len().max(1))).copied();
                    trim(&mut stream, &mut model, Keep::From(first.unwrap_or_default()), approximate);
                }
                Step::Keep => kept.push((stream.clone(), model.clone())),
            }
            prop_assert_eq!(stream.log().entries_added, added);
        }
        kept.push((stream, model));
        for (stream, model) in kept {
            check(&stream, &model, id(start.0, start.1), id(end.0, end.1));
            if let Some((first, last)) = model.keys().next().zip(model.keys().next_back()) {
                check(&stream, &model, *first, *last);
            }
        }
    }

    #[test]
    fn groups_behave_like_maps(
        steps in proptest::collection::vec((0u8..8, 0u64..40, 0u8..5, any::<bool>()), 1..400),
    ) {
        let mut group = Group::default();
        // Identifier to owner, time, count; consumers by name.
        let mut pending: BTreeMap<StreamId, (Vec<u8>, i64)> = BTreeMap::new();
        let mut consumers: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        let mut kept = Vec::new();
        for (step, (action, number, consumer, keep)) in steps.into_iter().enumerate() {
            let name = [b"consumer-number-".as_slice(), &[b'0' + consumer]].concat();
            let now = step as i64;
            match action {
                0 => {
                    prop_assert_eq!(group.create_consumer(&name, now), !consumers.contains_key(&name));
                    consumers.entry(name).or_insert(now);
                }
                1 if number < 8 => {
                    let owned = pending.values().filter(|(owner, _)| *owner == name).count();
                    let expected = consumers.remove(&name).map(|_| owned);
                    prop_assert_eq!(group.delete_consumer(&name), expected);
                    pending.retain(|_, (owner, _)| *owner != name);
                }
                2 | 3 => {
                    let known = pending.remove(&id(number, 0)).is_some();
                    prop_assert_eq!(group.acknowledge(id(number, 0)), known);
                }
                _ => {
                    let Some(owner) = group.consumer(&name).map(|consumer| consumer.owner().clone()) else {
                        continue;
                    };
                    group.assign(Pending { id: id(number, 0), delivered_ms: now, deliveries: 1, owner });
                    pending.insert(id(number, 0), (name, now));
                }
            }
            if keep && step % 20 == 0 {
                kept.push((group.clone(), pending.clone(), consumers.clone()));
            }
        }
        kept.push((group, pending, consumers));
        for (group, pending, consumers) in kept {
            let seen: Vec<_> = group.consumers().map(|one| (one.name().to_vec(), one.seen_ms)).collect();
            prop_assert_eq!(seen, consumers.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(group.pending_count(), pending.len());
            let show = |one: &Pending| (one.id, (one.owner.name().to_vec(), one.delivered_ms));
            let expected: Vec<_> = pending.clone().into_iter().collect();
            prop_assert_eq!(group.pending_from(StreamId::MIN).map(show).collect::<Vec<_>>(), expected);
            prop_assert_eq!(group.last_pending().map(|last| last.id), pending.keys().next_back().copied());
            for consumer in group.consumers() {
                let of_consumer = |from: StreamId| {
                    let owned = pending.range(from..).filter(|(_, (owner, _))| owner == consumer.name());
                    owned.map(|(id, _)| *id).collect::<Vec<_>>()
                };
                for from in [StreamId::MIN, id(20, 0)] {
                    let owned = group.owned_from(consumer.owner(), from).map(|one| one.id);
                    prop_assert_eq!(owned.collect::<Vec<_>>(), of_consumer(from));
                }
                prop_assert_eq!(group.owned_count(consumer.owner()), of_consumer(StreamId::MIN).len());
            }
        }
    }
}

#[test]
fn many_entries_in_few_bytes() {
    let limits = Limits::default();
    let mut stream = Stream::new();
    for number in 0..100_000u64 {
        let text = number.to_string();
        stream.log_mut().append(id(1_700_000_000_000 + number, 0), &[b"field", text.as_bytes()], &limits);
    }
    assert_eq!(stream.len(), 100_000);
    assert_eq!(stream.log().node_count(), 1000);
    assert!(stream.memory_bytes(0) < 100_000 * 17, "{}", stream.memory_bytes(0));
    let kept = stream.clone();
    assert!(stream.log_mut().delete(id(1_700_000_050_000, 0)));
    let shared =
        kept.log().nodes().zip(stream.log().nodes()).filter(|(one, other)| one.shares(other)).count();
    assert_eq!(shared, 999, "only the node that was written is copied");
    assert_eq!((kept.len(), stream.len()), (100_000, 99_999));
}

#[test]
fn a_difference_of_identifiers_beyond_63_bits() {
    let mut stream = Stream::new();
    for ms in [1, u64::MAX - 1, u64::MAX] {
        stream.log_mut().append(id(ms, 5), &[b"a", b"b"], &Limits::default());
    }
    let ids: Vec<u64> = stream.log().iter().map(|entry| entry.id.ms).collect();
    assert_eq!(ids, [1, u64::MAX - 1, u64::MAX]);
    assert_eq!(stream.log().node_count(), 1);
}

#[test]
fn parts_that_make_no_node() {
    let node = |numbers: &[i64]| {
        Node::from_listpack(id(5, 5), numbers.iter().map(|number| crate::types::Element::Integer(*number)))
    };
    let whole = [1, 0, 1, 7, 0, 2, 0, 0, 9, 4];
    assert!(node(&whole).unwrap().is_some());
    for cut in 0..whole.len() {
        assert!(node(&whole[..cut]).is_err(), "cut at {cut}");
    }
    for (at, number) in [(0, 2), (1, 1), (2, 2), (2, -1), (4, 1), (5, 0), (5, 4), (6, -1), (7, -1), (9, 5)] {
        let mut changed = whole;
        changed[at] = number;
        assert!(node(&changed).is_err(), "{number} at {at}");
    }
    assert!(node(&[0, 1, 1, 7, 0, 3, 0, 0, 9, 4]).unwrap().is_none(), "nothing lives");
}
