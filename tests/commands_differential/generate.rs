//! Random calls of commands, mostly sensible, sometimes not.

/// One call a line. `$x` is a random word of a kind, `#x` a count and that many of them; `[a|b]` one of the alternatives or
/// nothing, `<a|b>` one of them, `{a}` one to four times. Brackets do not nest.
const CALLS: &[&str] = &[
    // Strings
    "SET $s $v [NX|XX|IFEQ $v] [GET] [EX $q|PX $q|EXAT $q|PXAT $q|KEEPTTL]",
    "SET $s $n",
    "GET $s",
    "GETSET $s $v",
    "GETDEL $s",
    "GETEX $s [EX $q|PX $q|EXAT $q|PXAT $q|PERSIST]",
    "MGET $s $s $k",
    "MSET {$s $v}",
    "MSETNX {$s $v}",
    "MSETEX #w [NX|XX] [EX $q|PX $q|EXAT $q|PXAT $q|KEEPTTL]",
    "SETNX $s $v",
    "SETEX $s $q $v",
    "PSETEX $s $q $v",
    "INCR $s",
    "DECR $s",
    "INCRBY $s $i",
    "DECRBY $s $i",
    "INCRBYFLOAT $s $d",
    "APPEND $s $v",
    "STRLEN $s",
    "SETRANGE $s $n $v",
    "GETRANGE $s $x $x",
    "SUBSTR $s $x $x",
    "LCS $s $s [LEN|IDX] [MINMATCHLEN $n] [WITHMATCHLEN]",
    "DELIFEQ $s $v",
    // Bits of strings
    "SETBIT $s $O <0|1>",
    "SETBIT $s $n <0|1>",
    "GETBIT $s $O",
    "BITCOUNT $s",
    "BITCOUNT $s $x",
    "BITCOUNT $s $x $x [BYTE|BIT]",
    "BITCOUNT $s -$O -$O BIT",
    "BITPOS $s <0|1>",
    "BITPOS $s <0|1> $x",
    "BITPOS $s <0|1> $x $x [BYTE|BIT]",
    "BITPOS $s <0|1> $O -$n BIT",
    "BITOP <AND|OR|XOR> $s {$s}",
    "BITOP NOT $s $s",
    "BITFIELD $s {GET $T $O|SET $T $O $i|INCRBY $T $O $i|OVERFLOW WRAP|OVERFLOW SAT|GET $T #$n|SET $T #$n $x}",
    // A Valkey forgets to tell replicas of a string that grew for operations that all failed.
    "BITFIELD $s SET u8 180 7 OVERFLOW FAIL {SET $T $O $i|INCRBY $T $O $i|INCRBY $T $O $x}",
    "BITFIELD_RO $s {GET $T $O}",
    // HyperLogLogs
    "PFADD $J {$v}",
    "PFADD $J",
    "PFADD $J $i $d $q $v",
    "PFCOUNT $J",
    "PFCOUNT {$J}",
    "PFMERGE {$J}",
    "PFDEBUG <ENCODING|DECODE|TODENSE|NONSENSE> $J",
    "GET $J",
    "COPY $J $J REPLACE",
    "DEL $J",
    "PFADD $s $v",
    // Keys and expiry
    "DEL $k $k",
    "UNLINK $k",
    "EXISTS $k $k $k",
    "TYPE $k",
    "KEYS $g",
    "RENAME $k $k",
    "RENAMENX $k $k",
    "COPY $k $k [DB 1] [REPLACE]",
    "MOVE $k 1",
    "TOUCH $k $k",
    "DBSIZE",
    "SCAN 0 COUNT 100000 [MATCH $g] [TYPE string|TYPE list|TYPE set|TYPE zset|TYPE hash|TYPE stream|TYPE nonsense]",
    "OBJECT ENCODING $k",
    "OBJECT $v $k",
    "EXPIRE $k $q [NX|XX|GT|LT]",
    "PEXPIRE $k $q [NX|XX|GT|LT]",
    "EXPIREAT $k $q [NX|XX|GT|LT]",
    "PEXPIREAT $k $q [NX|XX|GT|LT]",
    "EXPIRE $k $q <NX|XX|GT> <GT|LT>",
    "TTL $k",
    "PTTL $k",
    "EXPIRETIME $k",
    "PEXPIRETIME $k",
    "PERSIST $k",
    "SWAPDB 0 1",
    // Hashes
    "HSET $h {$f $v}",
    "HSET $h $f $i",
    "HMSET $h {$f $v}",
    "HSETNX $h $f $v",
    "HGET $h $f",
    "HMGET $h {$f}",
    "HGETALL $h",
    "HKEYS $h",
    "HVALS $h",
    "HLEN $h",
    "HDEL $h {$f}",
    "HEXISTS $h $f",
    "HSTRLEN $h $f",
    "HINCRBY $h $f $i",
    "HINCRBYFLOAT $h $f $d",
    "HSCAN $h 0 COUNT 100000 [MATCH $g] [NOVALUES]",
    "HEXPIRE $h $q [NX|XX|GT|LT] FIELDS #f",
    "HPEXPIRE $h $q [NX|XX|GT|LT] FIELDS #f",
    "HEXPIREAT $h $q [NX|XX|GT|LT] FIELDS #f",
    "HPEXPIREAT $h $q [NX|XX|GT|LT] FIELDS #f",
    "HTTL $h FIELDS #f",
    "HPTTL $h FIELDS #f",
    "HEXPIRETIME $h FIELDS #f",
    "HPEXPIRETIME $h FIELDS #f",
    "HPERSIST $h FIELDS #f",
    "HGETEX $h [EX $q|PX $q|EXAT $q|PXAT $q|PERSIST] FIELDS #f",
    "HSETEX $h [NX|XX] [FNX|FXX] [EX $q|PX $q|EXAT $q|PXAT $q|KEEPTTL] FIELDS #p",
    "HGETDEL $h FIELDS #f",
    // Lists
    "RPUSH $l {$v}",
    "LPUSH $l {$v}",
    "RPUSHX $l {$v}",
    "LPUSHX $l {$v}",
    "LPOP $l [$n]",
    "RPOP $l [$n]",
    "LLEN $l",
    "LRANGE $l $x $x",
    "LINDEX $l $x",
    "LSET $l $x $v",
    "LINSERT $l <BEFORE|AFTER> $v $v",
    "LREM $l $x $v",
    "LTRIM $l $x $x",
    "LPOS $l $v [RANK $x] [COUNT $n] [MAXLEN $n]",
    "RPOPLPUSH $l $l",
    "LMOVE $l $l <LEFT|RIGHT> <LEFT|RIGHT>",
    "LMPOP #l <LEFT|RIGHT> [COUNT $n]",
    // Sets
    "SADD $t {$v}",
    "SADD $t {$n}",
    "SADD $t $i",
    "SREM $t {$v}",
    "SCARD $t",
    "SISMEMBER $t $v",
    "SMISMEMBER $t {$v}",
    "SMEMBERS $t",
    "SMOVE $t $t $v",
    "SINTER {$t}",
    "SUNION {$t}",
    "SDIFF {$t}",
    "SINTERSTORE $t {$t}",
    "SUNIONSTORE $t {$t}",
    "SDIFFSTORE $t {$t}",
    "SINTERCARD #t [LIMIT $n]",
    "SSCAN $t 0 COUNT 100000 [MATCH $g]",
    // Sorted sets
    "ZADD $z [NX|XX] [GT|LT] [CH] {$d $f}",
    "ZADD $z {$n $f}",
    "ZADD $z [NX|XX] [GT|LT] INCR $d $f",
    "ZINCRBY $z $d $f",
    "ZREM $z {$f}",
    "ZCARD $z",
    "ZSCORE $z $f",
    "ZMSCORE $z {$f}",
    "ZRANK $z $f [WITHSCORE]",
    "ZREVRANK $z $f [WITHSCORE]",
    "ZCOUNT $z $r $r",
    "ZADD $y {0 $f}",
    "ZREM $y {$f}",
    "ZLEXCOUNT $y $e $e",
    "ZRANGE $z $x $x [REV] [WITHSCORES]",
    "ZRANGE $z $r $r BYSCORE [REV] [LIMIT $n $x] [WITHSCORES]",
    "ZRANGE $y $e $e BYLEX [REV] [LIMIT $n $x]",
    "ZRANGESTORE $z $z $r $r BYSCORE [REV] [LIMIT $n $x]",
    "ZRANGESTORE $z $z $x $x [REV]",
    "ZREVRANGE $z $x $x [WITHSCORES]",
    "ZRANGEBYSCORE $z $r $r [WITHSCORES] [LIMIT $n $x]",
    "ZREVRANGEBYSCORE $z $r $r [WITHSCORES] [LIMIT $n $x]",
    "ZRANGEBYLEX $y $e $e [LIMIT $n $x]",
    "ZREVRANGEBYLEX $y $e $e [LIMIT $n $x]",
    "ZREMRANGEBYRANK $z $x $x",
    "ZREMRANGEBYSCORE $z $r $r",
    "ZREMRANGEBYLEX $y $e $e",
    "ZPOPMIN $z [$n]",
    "ZPOPMAX $z [$n]",
    "ZMPOP #z <MIN|MAX> [COUNT $n]",
    "ZUNION #z [AGGREGATE SUM|AGGREGATE MIN|AGGREGATE MAX] [WITHSCORES]",
    "ZUNION 2 $z $t WEIGHTS $m $m [AGGREGATE MAX] [WITHSCORES]",
    "ZINTER 2 $z $t WEIGHTS $m $m [WITHSCORES]",
    "ZINTER #z [AGGREGATE MIN] [WITHSCORES]",
    "ZDIFF #z [WITHSCORES]",
    "ZUNIONSTORE $z 2 $z $t [WEIGHTS $m $m] [AGGREGATE MIN]",
    "ZINTERSTORE $z #z",
    "ZDIFFSTORE $z #z",
    "ZINTERCARD #z [LIMIT $n]",
    "ZSCAN $z 0 COUNT 100000 [MATCH $g]",
    // Streams, with identifiers that no clock gives
    "XADD $a $A {$f $v}",
    "XADD $a $A f1 $v f2 $v",
    "XADD $a $A f1 $v",
    "XADD $a [NOMKSTREAM] [MAXLEN $n|MAXLEN ~ $n|MAXLEN = $n|MINID $j|MINID ~ $j] [LIMIT $n] $A f1 $v",
    "XADD $a $j $f $v",
    "XDEL $a {$j}",
    "XTRIM $a <MAXLEN $n|MAXLEN ~ $n|MAXLEN = $n|MINID $j|MINID ~ $j|MINID = $j> [LIMIT $n]",
    "XLEN $a",
    "XRANGE $a $j $j [COUNT $x]",
    "XRANGE $a - +",
    "XREVRANGE $a $j $j [COUNT $x]",
    "XREVRANGE $a + -",
    "XREAD [COUNT $x] STREAMS $a $j",
    "XREAD [COUNT $x] STREAMS $a $a $G $j",
    "XGROUP CREATE $a $c <$j|$|0> [MKSTREAM] [ENTRIESREAD $x]",
    "XGROUP CREATE $a $c 0",
    "XGROUP SETID $a $c <$j|$> [ENTRIESREAD $x]",
    "XGROUP DESTROY $a $c",
    "XGROUP CREATECONSUMER $a $c $C",
    "XGROUP DELCONSUMER $a $c $C",
    "XREADGROUP GROUP $c $C [COUNT $x] [NOACK] STREAMS $a >",
    "XREADGROUP GROUP $c $C [COUNT $n] STREAMS $a >",
    "XREADGROUP GROUP $c $C [COUNT $x] STREAMS $a $a $G $j",
    "XACK $a $c {$j}",
    "XCLAIM $a $c $C <0|3600000> {$j} [IDLE $n|TIME $n] [RETRYCOUNT $x] [FORCE] [JUSTID] [LASTID $j]",
    "XCLAIM $a $c $C 0 {$j} [FORCE]",
    "XAUTOCLAIM $a $c $C <0|3600000> <$j|0> [COUNT $n] [JUSTID]",
    "XPENDING $a $c",
    "XPENDING $a $c [IDLE 0|IDLE 3600000] $j $j $x [$C]",
    "XPENDING $a $c - + 10",
    "XSETID $a $j [ENTRIESADDED $i] [MAXDELETEDID $j]",
    "XINFO STREAM $a",
    "XINFO STREAM $a FULL [COUNT $x]",
    "XINFO GROUPS $a",
    "XINFO CONSUMERS $a $c",
    // SORT. Not of other sorted sets, which Valkey changes to its large form when it sorts them.
    "RPUSH $o {$v}",
    "RPUSH $o {$n}",
    "SADD $u {$v}",
    "LPOP $o",
    "DEL $u",
    "SORT $o [LIMIT $x $x] [ASC|DESC] ALPHA",
    "SORT $o [ASC|DESC]",
    "SORT $u ALPHA [LIMIT $n $n] [GET #|GET s*]",
    "SORT $y BY nosort [ASC|DESC] [LIMIT $n $n] [STORE $o]",
    "SORT $o BY b* [ALPHA] [GET h*->f1] [STORE $o]",
    "SET $b $n",
    "SORT_RO $o ALPHA",
];

/// Random choices of so many that all are chosen.
const ALL: &[&str] = &[
    "SPOP $t 1000",
    "SRANDMEMBER $t 1000",
    "HRANDFIELD $h 1000 [WITHVALUES]",
    "ZRANDMEMBER $z 1000 [WITHSCORES]",
];

/// Calls that would wait, in transactions, where they do not.
const BLOCKING: &[&str] = &[
    "BLPOP $l $l $n",
    "BRPOP $l $n",
    "BLMOVE $l $l <LEFT|RIGHT> <LEFT|RIGHT> $n",
    "BRPOPLPUSH $l $l $n",
    "BLMPOP $n #l <LEFT|RIGHT> [COUNT $n]",
    "BZPOPMIN $z $z $n",
    "BZPOPMAX $z $n",
    "BZMPOP $n #z <MIN|MAX> [COUNT $n]",
    "XREAD BLOCK $n STREAMS $a <$|$j>",
    "XREADGROUP GROUP $c $C BLOCK $n STREAMS $a >",
];

/// What no command expects. No number among them is one that makes a server wait, make huge values or expire a key
/// within the test.
const BAD: &[&str] = &[
    "",
    "-1",
    "0",
    "00",
    "+1",
    " 1",
    "1 ",
    "0x10",
    "1e3",
    "1.5",
    "nan",
    "inf",
    "-inf",
    "+inf",
    "1e400",
    "abc",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "99999999999",
    "(",
    "[",
    "(1",
    "[a",
    "-",
    "+",
    "*",
    "NX",
    "GET",
    "LIMIT",
    "WITHSCORES",
    "\r\n",
];

const VALUES: &[&str] = &[
    "a",
    "b",
    "c",
    "abc",
    "hello world",
    "0",
    "1",
    "2",
    "-5",
    "10",
    "42",
    "007",
    "3.0",
    "3.14",
    "9223372036854775807",
    "-9223372036854775808",
    "12345678901234567890",
    "",
    "\u{e9}\0\r\n",
    "foobarfoobarfoobarfoobarfoobarfoobarfoobar",
];

const INTEGERS: &[&str] = &[
    "1",
    "-1",
    "0",
    "2",
    "10",
    "-7",
    "100",
    "9223372036854775807",
    "-9223372036854775808",
    "4611686018427387904",
];

const DOUBLES: &[&str] = &[
    "0",
    "1",
    "2",
    "-1",
    "1.5",
    "-0.5",
    "3.14159",
    "1e10",
    "1e-10",
    "100",
    "inf",
    "-inf",
    "-0",
    "0.1",
    "1e300",
    "123456789012",
];

/// Times for expiry: far from now in both directions, in seconds and milliseconds.
const TIMES: &[&str] = &[
    "-1",
    "0",
    "100000",
    "200000",
    "5000000000",
    "5000000000000",
    "6000000000",
    "1000000",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775",
];

const SCORES: &[&str] = &["-inf", "+inf", "0", "(0", "1", "(1", "2", "(2.5", "-1", "(inf", "100", "3"];
const LEX: &[&str] = &["-", "+", "[a", "(a", "[f1", "(f2", "[f3", "[z", "(", "["];
const GLOBS: &[&str] = &["*", "s*", "?1", "[lh]*", "f[1-3]", "*\\*", "", "[^a]*", "a*c"];

/// What calls a command from a script.
pub const SCRIPT: &str = "return redis.pcall(unpack(ARGV))";

fn in_script(words: Vec<Vec<u8>>, reads_only: bool) -> Vec<Vec<u8>> {
    let name = if reads_only { &b"EVAL_RO"[..] } else { b"EVAL" };
    [name, SCRIPT.as_bytes(), b"0"].into_iter().map(<[u8]>::to_vec).chain(words).collect()
}

pub struct Generator {
    pub random: fastrand::Rng,
    /// The names of the commands in the transaction that is being put together.
    pub queued: Option<Vec<String>>,
    /// The time of the last identifier of a stream's entry: these rise.
    last_id_ms: u64,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator { random: fastrand::Rng::with_seed(seed), queued: None, last_id_ms: 0 }
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.usize(..all.len())]
    }

    /// The words of the next call.
    pub fn next_call(&mut self) -> Vec<Vec<u8>> {
        let template = match (&self.queued, self.random.u8(..100)) {
            (None, 0..3) => "MULTI",
            (None, 3) => "WATCH $k",
            (None, 4) => "UNWATCH",
            (None, 5) => self.one_of(&["EXEC", "DISCARD"]),
            (Some(_), 0..12) => "EXEC",
            (Some(_), 12..14) => self.one_of(&["DISCARD", "MULTI", "WATCH $k"]),
            (Some(_), 14..30) => self.one_of(BLOCKING),
            (_, 98..) => {
                let template = self.one_of(ALL);
                return self.expand(template);
            }
            _ => self.one_of(CALLS),
        };
        let mut words = self.expand(template);
        self.spoil(&mut words);
        if words[0].eq_ignore_ascii_case(b"XADD") {
            // No identifier by the clock.
            words.retain(|word| word != b"*");
        }
        match self.random.u8(..36) {
            0..3 => in_script(words, false),
            3 => in_script(words, true),
            _ => words,
        }
    }

    /// Now and then too many words, too few, or a wrong one. The name stays.
    fn spoil(&mut self, words: &mut Vec<Vec<u8>>) {
        // Scores of these stay equal.
        if words[0] == b"ZADD" && words.get(1).is_some_and(|key| key.starts_with(b"y")) {
            return;
        }
        let waits = words[0].first() == Some(&b'B') && self.queued.is_none();
        if waits || words.len() < 2 {
            return;
        }
        let place = self.random.usize(1..words.len());
        // Cursors are opaque.
        if words[place] == b"0" && words[0].ends_with(b"SCAN") {
            return;
        }
        match self.random.u8(..100) {
            0..2 => drop(words.pop()),
            2 => words.push(words[place].clone()),
            3..8 => words[place] = self.one_of(BAD).as_bytes().to_vec(),
            8 => words[0] = words[0].to_ascii_lowercase(),
            _ => {}
        }
    }

    fn expand(&mut self, template: &str) -> Vec<Vec<u8>> {
        let mut words = Vec::new();
        let mut rest = template;
        while let Some(first) = rest.trim_start().chars().next() {
            rest = rest.trim_start();
            let close = match first {
                '[' => "]",
                '<' => ">",
                '{' => "}",
                _ => {
                    let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
                    self.word(word, &mut words);
                    rest = after;
                    continue;
                }
            };
            let (inside, after) = rest[1..].split_once(close).expect("a closed bracket");
            rest = after;
            let alternatives: Vec<&str> = inside.split('|').collect();
            let times = match first {
                '[' => usize::from(self.random.u8(..3) == 0),
                '<' => 1,
                _ => self.random.usize(1..=4),
            };
            for _ in 0..times {
                let chosen = self.one_of(&alternatives);
                words.extend(self.expand(chosen));
            }
        }
        words
    }

    fn word(&mut self, word: &str, words: &mut Vec<Vec<u8>>) {
        if let Some(kind) = word.strip_prefix('#').filter(|kind| !kind.is_empty() && !kind.starts_with('$')) {
            let count = self.random.usize(1..=3);
            words.push(count.to_string().into_bytes());
            for _ in 0..count {
                match kind {
                    "p" => words.extend([self.random_word("f"), self.random_word("v")]),
                    "w" => words.extend([self.random_word("s"), self.random_word("v")]),
                    kind => words.push(self.random_word(kind)),
                }
            }
        } else if let Some((prefix, kind)) = word.split_once('$').filter(|(_, kind)| !kind.is_empty()) {
            words.push([prefix.as_bytes(), &self.random_word(kind)].concat());
        } else {
            words.push(word.as_bytes().to_vec());
        }
    }

    fn random_word(&mut self, kind: &str) -> Vec<u8> {
        let text = match kind {
            // A list and a set that nothing else takes the place of.
            "b" => format!("b{}", self.random.u8(1..6)),
            "o" | "u" => format!("{kind}{}", self.random.u8(1..=2)),
            // Weights that make no minus zero of a zero, which ours forgets in small results.
            "m" => self.one_of(&["1", "2", "3.5", "0.25"]).to_owned(),
            // Sorted sets whose scores are equal, without which ranges of members mean nothing.
            "y" => self.one_of(&["y1", "y2"]).to_owned(),
            // Consumer groups and consumers.
            "c" | "C" => format!("{kind}{}", self.random.u8(1..=2)),
            "A" => {
                self.last_id_ms += self.random.u64(..2);
                let seq = self.one_of(&["*", "1", "2", "5"]);
                format!("{}-{seq}", self.last_id_ms)
            }
            // Where a reader is to begin.
            "G" if self.random.bool() => self.one_of(&[">", "$", "+"]).to_owned(),
            "G" | "j" => {
                let ms = self.last_id_ms.saturating_sub(self.random.u64(..10));
                let exclusive = self.one_of(&["", "", "", "", "("]);
                format!("{exclusive}{ms}{}", self.one_of(&["", "-1", "-2", "-5"]))
            }
            "a" | "s" | "l" | "h" | "t" | "z" | "k" => {
                // Sometimes a key that holds another type.
                let any = kind == "k" || self.random.u8(..25) == 0;
                let kind = if any { self.one_of(&["a", "s", "l", "h", "t", "z"]) } else { kind };
                format!("{kind}{}", self.random.u8(1..=3))
            }
            "J" => format!("j{}", self.random.u8(1..=3)),
            "O" => self.random.u8(..180).to_string(),
            "T" => self.one_of(&["u1", "i1", "u4", "i8", "u13", "u32", "i33", "u63", "i64"]).to_owned(),
            "f" => format!("f{}", self.random.u8(1..=9)),
            "n" => self.random.u8(..6).to_string(),
            "x" => self.random.i8(-6..8).to_string(),
            "v" if self.random.bool() => format!("f{}", self.random.u8(1..=9)),
            "v" => self.one_of(VALUES).to_owned(),
            "i" => self.one_of(INTEGERS).to_owned(),
            "d" => self.one_of(DOUBLES).to_owned(),
            "q" => self.one_of(TIMES).to_owned(),
            "r" => self.one_of(SCORES).to_owned(),
            "e" => self.one_of(LEX).to_owned(),
            "g" => self.one_of(GLOBS).to_owned(),
            other => panic!("no kind of word: {other}"),
        };
        text.into_bytes()
    }
}
