//! Streams: entries under ascending identifiers, in nodes of packed entries, and the consumer groups that read them. Knows
//! nothing of keys and commands.
//!
//! All nodes but the newest hang in a counted tree; the newest, to which entries are added, lies beside it. So a small
//! stream is one block, and adding does not walk a tree. `Clone` is one reference count; a write to a shared stream copies
//! its few fixed words, and the node or path that it changes.
//!
//! A node is full, and trimming by whole nodes ends, exactly where it does in Valkey (its t_stream.c), which clients see.
//!
//! Invariants: no node is without live entries; if there are nodes, the newest lies outside of the tree; identifiers ascend
//! and never exceed `last_id`, which is for the caller to see to.

use std::cmp::Ordering;

use triomphe::Arc;

use crate::types::limits::Limits;
pub use crate::types::list::Direction;
use crate::types::ordered::Ordered;
use crate::types::stream_group::{ByName, NamedGroup};
pub use crate::types::stream_group::{Consumer, Group, Owner, Pending};
pub use crate::types::stream_id::StreamId;
use crate::types::stream_node::LiveEntries;
pub use crate::types::stream_node::{Fields, Malformed, Node, StreamEntry};
use crate::types::tree::{Cursor, Order, Tree};

/// Largest node in bytes, whatever the limits say.
const MAX_NODE_BYTES: usize = 1 << 30;

/// Are these fields (names and values) small enough for an entry?
pub fn fits_an_entry(fields: &[&[u8]]) -> bool {
    total_bytes(fields) <= MAX_NODE_BYTES
}

fn total_bytes(fields: &[&[u8]]) -> usize {
    fields.iter().map(|part| part.len()).sum()
}

/// What a trim leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// This many entries, the newest.
    Newest(u64),
    /// Entries from this identifier on.
    From(StreamId),
}

/// What to trim, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    pub keep: Keep,
    /// Whole nodes only.
    pub approximate: bool,
    /// Most entries that are deleted; 0 for any number.
    pub limit: u64,
}

/// A stream; see the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Stream(Arc<Parts>);

#[derive(Clone, Debug, Default)]
struct Parts {
    log: Log,
    groups: Ordered<NamedGroup>,
}

/// The entries of a stream, and what is known of those that it had.
#[derive(Clone, Debug, Default)]
pub struct Log {
    full: Option<Tree<Node>>,
    newest: Option<Node>,
    /// The highest identifier ever given out; the next is higher.
    pub last_id: StreamId,
    /// The highest identifier that was deleted on its own, not by trimming.
    pub max_deleted_id: StreamId,
    /// How many entries were ever added.
    pub entries_added: u64,
}

/// The place of an identifier among nodes: behind the node that would hold it.
struct Behind(StreamId);

impl Order<Node> for Behind {
    fn is_before(&self, node: &Node) -> bool {
        node.first_id() <= self.0
    }

    fn compare_hint(&self, hint: &StreamId) -> Ordering {
        if *hint <= self.0 { Ordering::Less } else { Ordering::Greater }
    }
}

/// Live entries in a range of identifiers; see [`Log::range`].
#[derive(Clone)]
pub struct Range<'a> {
    start: StreamId,
    end: StreamId,
    direction: Direction,
    entries: Option<LiveEntries<'a>>,
    full: Option<Cursor<'a, Node>>,
    /// The newest node, if it is yet to come.
    newest: Option<&'a Node>,
}

impl<'a> Range<'a> {
    fn next_node(&mut self) -> Option<&'a Node> {
        let from_tree = |full: &mut Option<Cursor<'a, Node>>, forward: bool| {
            let cursor = full.as_mut()?;
            let node = cursor.entry();
            if forward {
                cursor.forward()
            } else {
                cursor.backward()
            }
            node
        };
        match self.direction {
            Direction::Forward => from_tree(&mut self.full, true).or_else(|| self.newest.take()),
            Direction::Backward => self.newest.take().or_else(|| from_tree(&mut self.full, false)),
        }
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = StreamEntry<'a>;

    fn next(&mut self) -> Option<StreamEntry<'a>> {
        loop {
            let entry = self.entries.as_mut().and_then(|entries| match self.direction {
                Direction::Forward => entries.next(),
                Direction::Backward => entries.next_back(),
            });
            let Some(entry) = entry else {
                self.entries = Some(self.next_node()?.entries());
                continue;
            };
            let (before, behind) = match self.direction {
                Direction::Forward => (entry.id < self.start, entry.id > self.end),
                Direction::Backward => (entry.id > self.end, entry.id < self.start),
            };
            if behind {
                (self.full, self.newest, self.entries) = (None, None, None);
                return None;
            }
            if !before {
                return Some(entry);
            }
        }
    }
}

impl Log {
    /// Number of live entries.
    pub fn len(&self) -> usize {
        self.full_len() + self.newest.as_ref().map_or(0, Node::live)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    fn full_len(&self) -> usize {
        self.full.as_ref().map_or(0, Tree::weight)
    }

    /// Adds an entry under an identifier that is higher than [`Log::last_id`]; `fields` are names and values alternating,
    /// and small enough ([`fits_an_entry`]).
    pub fn append(&mut self, id: StreamId, fields: &[&[u8]], limits: &Limits) {
        debug_assert!(id > self.last_id && fits_an_entry(fields), "identifiers ascend");
        match &mut self.newest {
            Some(node) if has_room(node, total_bytes(fields), limits) => node.append(id, fields),
            newest => {
                if let Some(node) = newest.replace(Node::new(id, fields)) {
                    self.full.get_or_insert_default().push(node);
                }
            }
        }
        self.last_id = id;
        self.entries_added = self.entries_added.wrapping_add(1);
    }

    /// Adds a node behind all others, when a stream is loaded; false if it does not come behind them.
    pub fn push_node(&mut self, node: Node) -> bool {
        if self.newest.as_ref().is_some_and(|newest| newest.last_id() >= node.first_id()) {
            return false;
        }
        if let Some(node) = self.newest.replace(node) {
            self.full.get_or_insert_default().push(node);
        }
        true
    }

    /// The live entries from `start` to `end`, both included, from either side. O(log n) to the first.
    pub fn range(&self, start: StreamId, end: StreamId, direction: Direction) -> Range<'_> {
        let mut range = Range { start, end, direction, entries: None, full: None, newest: None };
        if start > end {
            return range;
        }
        let from = if direction == Direction::Forward { start } else { end };
        range.newest = self.newest.as_ref();
        let is_in_newest = range.newest.is_some_and(|node| node.first_id() <= from);
        if direction == Direction::Backward && !is_in_newest {
            range.newest = None;
        }
        if let Some(tree) = &self.full
            && !(direction == Direction::Forward && is_in_newest)
        {
            // The last node that begins at or before the identifier, or else the first one.
            let behind = tree.weight_before(&Behind(from));
            if behind > 0 || direction == Direction::Forward {
                range.full = Some(tree.cursor(behind.saturating_sub(1)).0);
            }
        }
        range
    }

    /// All live entries.
    pub fn iter(&self) -> Range<'_> {
        self.range(StreamId::MIN, StreamId::MAX, Direction::Forward)
    }

    /// The live entry of an identifier.
    pub fn get(&self, id: StreamId) -> Option<StreamEntry<'_>> {
        self.range(id, id, Direction::Forward).next()
    }

    /// The identifier of the first live entry.
    pub fn first_id(&self) -> Option<StreamId> {
        self.iter().next().map(|entry| entry.id)
    }

    /// The identifier of the last live entry, which may be lower than [`Log::last_id`].
    pub fn last_live_id(&self) -> Option<StreamId> {
        self.range(StreamId::MIN, StreamId::MAX, Direction::Backward).next().map(|entry| entry.id)
    }

    /// The identifier with which the first node begins, which may be that of a deleted entry.
    pub fn first_node_id(&self) -> Option<StreamId> {
        self.first_node().map(Node::first_id)
    }

    fn first_node(&self) -> Option<&Node> {
        self.full.as_ref().and_then(Tree::first).or(self.newest.as_ref())
    }

    /// The nodes, oldest first.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        let mut range = self.iter();
        std::iter::from_fn(move || range.next_node())
    }

    /// Number of nodes.
    pub fn node_count(&self) -> usize {
        self.full.as_ref().map_or(0, Tree::entry_count) + usize::from(self.newest.is_some())
    }

    /// Deletes an entry; false if it is not there.
    pub fn delete(&mut self, id: StreamId) -> bool {
        if self.get(id).is_none() {
            return false;
        }
        match &mut self.newest {
            Some(node) if node.first_id() <= id => {
                if node.live() > 1 {
                    node.delete(id);
                } else {
                    self.drop_newest();
                }
            }
            _ => {
                let Some(tree) = &mut self.full else { return false };
                let Some(within) = tree.weight_before(&Behind(id)).checked_sub(1) else { return false };
                if tree.get(within).is_some_and(|(node, _)| node.live() > 1) {
                    tree.update_at(within, |node| node.delete(id));
                } else {
                    tree.remove_at(within);
                    self.drop_empty_tree();
                }
            }
        }
        self.max_deleted_id = self.max_deleted_id.max(id);
        true
    }

    fn drop_newest(&mut self) {
        self.newest = self.full.as_mut().and_then(Tree::pop_last);
        self.drop_empty_tree();
    }

    fn drop_empty_tree(&mut self) {
        if self.full_len() == 0 {
            self.full = None;
        }
    }

    /// Deletes the oldest entries; returns how many.
    pub fn trim(&mut self, trim: &Trim) -> u64 {
        let mut deleted = 0;
        while let Some(node) = self.first_node() {
            let (len, live) = (self.len() as u64, node.live() as u64);
            if matches!(trim.keep, Keep::Newest(most) if len <= most)
                || (trim.limit > 0 && deleted + live > trim.limit)
            {
                break;
            }
            let goes_whole = match trim.keep {
                Keep::Newest(most) => len - live >= most,
                Keep::From(id) => node.last_id() < id,
            };
            if goes_whole {
                self.drop_first_node();
                deleted += live;
                continue;
            }
            if !trim.approximate {
                deleted += self.trim_first_node(trim.keep, len);
            }
            break;
        }
        deleted
    }

    fn drop_first_node(&mut self) {
        match &mut self.full {
            Some(tree) => {
                tree.pop_first();
                self.drop_empty_tree();
            }
            None => self.newest = None,
        }
    }

    /// Deletes entries of the first node, of which at least one stays; returns how many.
    fn trim_first_node(&mut self, keep: Keep, len: u64) -> u64 {
        let stop = |id: StreamId, deleted: usize| match keep {
            Keep::Newest(most) => len - deleted as u64 <= most,
            Keep::From(first) => id >= first,
        };
        // Of a node that keeps only deleted entries nothing would be left.
        let survives = |node: &Node| match keep {
            Keep::Newest(_) => true,
            Keep::From(first) => node.entries().next_back().is_some_and(|entry| entry.id >= first),
        };
        let Some(node) = self.first_node() else { return 0 };
        if !survives(node) {
            let live = node.live() as u64;
            self.drop_first_node();
            return live;
        }
        let deleted = match (&mut self.full, &mut self.newest) {
            (Some(tree), _) => tree.update_first(|node| node.delete_until(stop)),
            (None, newest) => newest.as_mut().map(|node| node.delete_until(stop)),
        };
        deleted.unwrap_or(0) as u64
    }

    /// Are there entries from `start` on that were deleted on their own?
    pub fn has_deleted_from(&self, start: StreamId) -> bool {
        self.max_deleted_id != StreamId::MIN
            && self.first_id().is_some_and(|first| first <= self.max_deleted_id)
            && start <= self.max_deleted_id
    }

    /// How many entries there ever were up to an identifier; `None` if it cannot be told.
    pub fn entries_up_to(&self, id: StreamId) -> Option<i64> {
        let added = self.entries_added as i64;
        if added == 0 {
            return Some(0);
        }
        let first = self.first_id();
        if id == self.last_id || (first.is_none() && id < self.last_id) {
            return Some(added);
        }
        let first = first.filter(|_| id < self.last_id)?;
        let is_whole = self.max_deleted_id == StreamId::MIN || self.max_deleted_id < first;
        let before = added.wrapping_sub(self.len() as i64);
        match id.cmp(&first) {
            Ordering::Less if is_whole => Some(before),
            Ordering::Equal if is_whole => Some(before.wrapping_add(1)),
            _ => None,
        }
    }

    /// How many entries a group has not read yet; `None` if it cannot be told.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        let added = self.entries_added as i64;
        if added == 0 {
            return Some(0);
        }
        let read = group.entries_read.filter(|_| !self.has_deleted_from(group.last_id));
        read.or_else(|| self.entries_up_to(group.last_id)).map(|read| added.wrapping_sub(read))
    }
}

/// May an entry whose fields have this size be added to the node?
fn has_room(node: &Node, bytes: usize, limits: &Limits) -> bool {
    let most_bytes = match limits.stream_node_max_bytes {
        0 => MAX_NODE_BYTES,
        most => most.min(MAX_NODE_BYTES),
    };
    let most_entries = match limits.stream_node_max_entries {
        0 => usize::MAX,
        most => most,
    };
    node.listpack_bytes() + bytes < most_bytes && node.count() < most_entries
}

impl Stream {
    /// A stream without entries and groups.
    pub fn new() -> Self {
        Stream::default()
    }

    /// The entries.
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// The entries, to be changed.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut Arc::make_mut(&mut self.0).log
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.log().len()
    }

    /// Whether there is no entry. A stream may stay so.
    pub fn is_empty(&self) -> bool {
        self.log().is_empty()
    }

    /// Number of groups.
    pub fn group_count(&self) -> usize {
        self.0.groups.len()
    }

    /// The groups under their names, in the order of these.
    pub fn groups(&self) -> impl Iterator<Item = (&[u8], &Group)> {
        self.0.groups.iter().map(|named| (named.name(), &*named.group))
    }

    /// The group of a name.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.0.groups.find(&ByName(name)).map(|named| &*named.group)
    }

    /// Adds a group; false if there is one of this name.
    pub fn add_group(&mut self, name: &[u8], group: Group) -> bool {
        if self.group(name).is_some() {
            return false;
        }
        Arc::make_mut(&mut self.0).groups.insert(&ByName(name), NamedGroup::new(name, group));
        true
    }

    /// Takes a group away; false if there is none of this name.
    pub fn remove_group(&mut self, name: &[u8]) -> bool {
        self.group(name).is_some() && Arc::make_mut(&mut self.0).groups.remove(&ByName(name)).is_some()
    }

    /// Changes a group, with a view of the entries; `None` if there is none of this name.
    pub fn change_group<R>(&mut self, name: &[u8], change: impl FnOnce(&mut Group, &Log) -> R) -> Option<R> {
        self.group(name)?;
        let Parts { log, groups } = Arc::make_mut(&mut self.0);
        groups.update(&ByName(name), |named| change(Arc::make_mut(&mut named.group), log))
    }

    /// Bytes of memory that the stream owns, shared parts included; estimated from at most `samples` nodes (0: all).
    pub fn memory_bytes(&self, samples: usize) -> usize {
        let count = self.log().node_count();
        let taken = if samples == 0 { count } else { samples.min(count) };
        let nodes: usize = self.log().nodes().take(taken).map(Node::memory_bytes).sum();
        let groups: usize =
            self.groups().map(|(name, group)| size_of::<Group>() + name.len() + group.memory_bytes()).sum();
        size_of::<Parts>()
            + self.log().full.as_ref().map_or(0, Tree::memory_bytes)
            + nodes * count / taken.max(1)
            + self.0.groups.memory_bytes()
            + groups
    }

    /// How many elements there are to drop.
    pub fn element_count(&self) -> usize {
        self.log().node_count() + self.groups().map(|(_, group)| group.pending_count() + 1).sum::<usize>()
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
