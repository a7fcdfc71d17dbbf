//! Keyspace events: what `notify-keyspace-events` can ask for. Delivery is the server's.

/// A set of event classes, as the letters of `notify-keyspace-events` give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventClasses(pub u16);

impl EventClasses {
    pub const NONE: EventClasses = EventClasses(0);
    pub const KEYSPACE: EventClasses = EventClasses(1 << 0);
    pub const KEYEVENT: EventClasses = EventClasses(1 << 1);
    pub const GENERIC: EventClasses = EventClasses(1 << 2);
    pub const STRING: EventClasses = EventClasses(1 << 3);
    pub const LIST: EventClasses = EventClasses(1 << 4);
    pub const SET: EventClasses = EventClasses(1 << 5);
    pub const HASH: EventClasses = EventClasses(1 << 6);
    pub const SORTEDSET: EventClasses = EventClasses(1 << 7);
    pub const EXPIRED: EventClasses = EventClasses(1 << 8);
    pub const EVICTED: EventClasses = EventClasses(1 << 9);
    pub const STREAM: EventClasses = EventClasses(1 << 10);
    pub const KEY_MISS: EventClasses = EventClasses(1 << 11);
    pub const MODULE: EventClasses = EventClasses(1 << 12);
    pub const NEW: EventClasses = EventClasses(1 << 13);
    /// What `A` stands for.
    pub const ALL: EventClasses = EventClasses(
        Self::GENERIC.0
            | Self::STRING.0
            | Self::LIST.0
            | Self::SET.0
            | Self::HASH.0
            | Self::SORTEDSET.0
            | Self::EXPIRED.0
            | Self::EVICTED.0
            | Self::STREAM.0
            | Self::MODULE.0,
    );

    const LETTERS: [(char, EventClasses); 14] = [
        ('g', Self::GENERIC),
        ('$', Self::STRING),
        ('l', Self::LIST),
        ('s', Self::SET),
        ('h', Self::HASH),
        ('z', Self::SORTEDSET),
        ('x', Self::EXPIRED),
        ('e', Self::EVICTED),
        ('t', Self::STREAM),
        ('d', Self::MODULE),
        ('K', Self::KEYSPACE),
        ('E', Self::KEYEVENT),
        ('m', Self::KEY_MISS),
        ('n', Self::NEW),
    ];

    pub const fn has_any(self, other: EventClasses) -> bool {
        self.0 & other.0 != 0
    }

    pub const fn and(self, other: EventClasses) -> EventClasses {
        EventClasses(self.0 | other.0)
    }

    /// Reads the letters of the directive; `None` if one is unknown.
    pub fn parse(letters: &str) -> Option<EventClasses> {
        letters.chars().try_fold(Self::NONE, |classes, letter| {
            let class = match letter {
                'A' => Self::ALL,
                _ => Self::LETTERS.iter().find(|(known, _)| *known == letter)?.1,
            };
            Some(classes.and(class))
        })
    }

    /// The letters, as CONFIG GET answers them: `A` stands for all of its classes.
    pub fn letters(self) -> String {
        let all = self.0 & Self::ALL.0 == Self::ALL.0;
        let mut letters = String::from(if all { "A" } else { "" });
        letters.extend(
            Self::LETTERS
                .iter()
                .filter(|(_, class)| self.has_any(*class) && !(all && Self::ALL.has_any(*class)))
                .map(|(letter, _)| *letter),
        );
        letters
    }
}

/// Something that happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub database: usize,
    pub class: EventClasses,
    pub name: &'static str,
    pub key: Vec<u8>,
}

/// What a unit publishes on a channel, when it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub channel: Vec<u8>,
    pub payload: Vec<u8>,
    /// To a shard channel (SPUBLISH).
    pub to_shard: bool,
    /// How many of the unit's events come before it.
    pub after_events: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_round_trip() {
        assert_eq!(EventClasses::parse("KEA").unwrap().letters(), "AKE");
        assert_eq!(EventClasses::parse("KElg$").unwrap().letters(), "g$lKE");
        assert_eq!(EventClasses::parse("").unwrap().letters(), "");
        assert_eq!(EventClasses::parse("KEx?"), None);
    }
}
