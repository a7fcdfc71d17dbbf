//! Replies as Valkey 9.1.2 gives them.

use proptest::prelude::*;

use crate::commands::testing::TestData;
use crate::keyspace::Entry;
use crate::keyspace::entry::Collection;
use crate::types::hash::Hash;
use crate::types::list::End;
use crate::types::{Limits, List};

fn with_lists() -> TestData {
    let mut data = TestData::new();
    let mut put = |key: &[u8], elements: &[&str]| {
        let mut list = List::new();
        list.push(End::Back, elements, &Limits::default());
        data.keyspace.insert_loaded(0, Entry::collection(key, Collection::List(list), None));
    };
    put(b"l", &["3", "1", "2", "10"]);
    put(b"texts", &["b", "a"]);
    for (key, value) in [(&b"h_1"[..], "5"), (b"h_2", "6")] {
        let mut hash = Hash::new();
        hash.set(b"f", value.as_bytes(), &Limits::default());
        data.keyspace.insert_loaded(0, Entry::collection(key, Collection::Hash(hash), None));
    }
    data.run("mset w_1 30 w_2 20 w_3 10 d_1 a d_2 b");
    data.effects();
    data
}

#[test]
fn lists() {
    with_lists().check(
        r#"
        sort l => ["1", "2", "3", "10"]
        sort l desc => ["10", "3", "2", "1"]
        sort l desc asc => ["1", "2", "3", "10"]
        sort l alpha => ["1", "10", "2", "3"]
        sort l limit 1 2 => ["2", "3"]
        sort l limit -1 2 => ["1", "2"]
        sort l limit 1 -1 => ["2", "3", "10"]
        sort l limit 0 0 => []
        sort l limit 10 2 => []
        sort l limit 1 9223372036854775807 => ["2", "3", "10"]
        sort l by w_* => ["10", "3", "2", "1"]
        sort l by w_* get d_* get # => [(nil), "10", (nil), "3", "b", "2", "a", "1"]
        sort l by nosort => ["3", "1", "2", "10"]
        sort l by nosort desc => ["10", "2", "1", "3"]
        sort l by nosort desc limit 1 2 => ["2", "1"]
        sort l by nosort limit 9 2 => []
        sort l by nosort desc limit 9 2 => []
        sort l by w_* alpha => ["10", "3", "2", "1"]
        sort l by h_*->f get h_*->f get h_*-> => [(nil), (nil), (nil), (nil), "5", (nil), "6", (nil)]
        sort l get nopattern => [(nil), (nil), (nil), (nil)]
        sort nothing => []
        sort nothing by nosort desc => []
        sort_ro l => ["1", "2", "3", "10"]
        sort_ro l by w_* get # => ["10", "3", "2", "1"]
        "#,
    );
}

#[test]
fn sets_and_errors() {
    with_lists().check(
        r#"
        sadd s c b a => (integer) 3
        sort s => (error) ERR One or more scores can't be converted into double
        sort s alpha => ["a", "b", "c"]
        sort s alpha desc => ["c", "b", "a"]
        sort s by nosort => ["a", "b", "c"]
        zadd z 3 a 2 b 1 c => (integer) 3
        sort z by nosort => ["c", "b", "a"]
        sort z by nosort desc => ["a", "b", "c"]
        sort z by nosort limit 1 1 => ["b"]
        sort z by nosort desc limit 9 1 => []
        sort z alpha => ["a", "b", "c"]
        sort texts => (error) ERR One or more scores can't be converted into double
        sort texts by w_* => ["a", "b"]
        set w_a nan => OK
        sort texts by w_* => (error) ERR One or more scores can't be converted into double
        sort w_1 => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        sort h_1 by nosort => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        sort l limit x 2 => (error) ERR value is not an integer or out of range
        sort l limit 1 => (error) ERR syntax error
        sort l by => (error) ERR syntax error
        sort l store => (error) ERR syntax error
        sort l foo => (error) ERR syntax error
        sort_ro l store x => (error) ERR syntax error
        "#,
    );
}

#[test]
fn storing() {
    let mut data = with_lists();
    data.check(
        r#"
        sort l store dst => (integer) 4
        type dst => list
        sort dst by nosort => ["1", "2", "3", "10"]
        sort l get d_* store dst => (integer) 4
        sort dst by nosort => ["a", "b", "", ""]
        sort nothing store dst => (integer) 0
        exists dst => (integer) 0
        sort nothing store dst => (integer) 0
        sort l store l => (integer) 4
        sort l by nosort => ["1", "2", "3", "10"]
        "#,
    );
    assert_eq!(
        data.effects(),
        ["sort l store dst", "sort l get d_* store dst", "sort nothing store dst", "sort l store l"]
    );
    let events = data.events();
    assert_eq!(
        events[events.len() - 5..],
        ["new dst", "sortstore dst", "sortstore dst", "del dst", "sortstore l"]
    );
}

proptest! {
    #[test]
    fn any_limit_of_numbers_is_a_part_of_the_whole(
        numbers in proptest::collection::vec(-50i64..50, 1..80),
        offset in -5i64..100, count in -5i64..100, desc: bool, alpha: bool,
    ) {
        let mut data = TestData::new();
        let mut list = List::new();
        let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
        list.push(End::Back, &texts, &Limits::default());
        data.keyspace.insert_loaded(0, Entry::collection(b"l", Collection::List(list), None));
        let mut expected = texts;
        if alpha {
            expected.sort();
        } else {
            expected.sort_by_key(|text| text.parse::<i64>().expect("a number"));
        }
        if desc {
            expected.reverse();
        }
        let skip = offset.max(0) as usize;
        let take = if count < 0 { usize::MAX } else { count as usize };
        let expected: Vec<String> = expected.into_iter().skip(skip).take(take).map(|text| format!("\"{text}\"")).collect();
        let order = if desc { "desc" } else { "asc" };
        let kind = if alpha { "alpha" } else { "" };
        let seen = data.run(&format!("sort l {order} {kind} limit {offset} {count}"));
        prop_assert_eq!(seen, format!("[{}]", expected.join(", ")));
    }
}
