//! Tests of the dictionary against the standard map.

use std::collections::HashMap;
use std::sync::Arc;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Pair(Arc<(Vec<u8>, u64)>);

impl Pair {
    fn new(key: u64, value: u64) -> Self {
        Pair(Arc::new((key.to_string().into_bytes(), value)))
    }
}

impl Item for Pair {
    fn key(&self) -> &[u8] {
        &self.0.0
    }
}

fn contents(dictionary: &Dictionary<Pair>) -> HashMap<Vec<u8>, u64> {
    dictionary.iter().map(|pair| (*pair.0).clone()).collect()
}

#[test]
fn grows_and_shrinks() {
    let mut dictionary = Dictionary::new();
    for key in 0..20_000 {
        assert_eq!(dictionary.insert(Pair::new(key, key)), None);
    }
    assert_eq!(dictionary.len(), 20_000);
    let snapshot = dictionary.clone();
    for key in 0..20_000u64 {
        assert_eq!(dictionary.get(key.to_string().as_bytes()), Some(&Pair::new(key, key)));
        assert_eq!(dictionary.remove(key.to_string().as_bytes()), Some(Pair::new(key, key)));
    }
    assert_eq!(dictionary.memory_usage(), 0);
    assert_eq!(contents(&snapshot).len(), 20_000);
    let mut seen = 0;
    let mut cursor = 0;
    loop {
        cursor = snapshot.scan(cursor, 10, &mut |_| seen += 1);
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen, 20_000);
}
