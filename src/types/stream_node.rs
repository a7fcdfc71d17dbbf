//! A node of a stream: some entries that follow each other, in one block of packed elements. Knows nothing of the
//! stream around it.
//!
//! The block is what Valkey keeps in a listpack, element for element, but for the two counts at its start, which lie
//! beside it here (source: the comments on the layout in its t_stream.c):
//!
//! - first the names of the fields of the first entry: their number, the names, a 0;
//! - then each entry: flags, its time and number less those of the first entry, then, if its fields have the names above,
//!   the values only, else the number of fields, names and values alternating; last the number of elements of the entry
//!   before this one, so that entries can be walked backwards.
//!
//! A deleted entry stays where it is, with a flag. So nodes are full when Valkey's are, and trimming by whole nodes takes
//! the same entries.
//!
//! Invariants: at least one entry is live; identifiers ascend; an element that spells an integer is stored as one.

use crate::types::element::Element;
use crate::types::packed::{Elements, Encoded, LISTPACK_OVERHEAD, Packed};
use crate::types::stream_id::StreamId;
use crate::types::thin::Thin;
use crate::types::tree;

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// Elements of an entry besides names and values: flags, the two differences.
const FIXED: usize = 3;

type Bytes = smallvec::SmallVec<[u8; 512]>;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Node {
    first: StreamId,
    live: u32,
    deleted: u32,
    block: Packed,
}

/// An entry of a stream, where it lies.
#[derive(Clone, Debug)]
pub struct StreamEntry<'a> {
    pub id: StreamId,
    /// Names and values.
    pub fields: Fields<'a>,
    is_deleted: bool,
    /// Where its flags are in the block.
    at: usize,
}

/// The fields of an entry: names and values.
#[derive(Clone)]
pub struct Fields<'a> {
    left: usize,
    /// `None`: the names stand before the values.
    names: Option<Elements<'a>>,
    values: Elements<'a>,
}

impl std::fmt::Debug for Fields<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.clone()).finish()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Element<'a>, Element<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = match &mut self.names {
            Some(names) => names.next()?,
            None => self.values.next()?,
        };
        Some((name, self.values.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

fn push(bytes: &mut Bytes, element: Element<'_>) {
    for part in Encoded::new(element).parts() {
        bytes.extend_from_slice(part);
    }
}

fn push_number(bytes: &mut Bytes, number: usize) {
    push(bytes, Element::Integer(number as i64));
}

/// What a block begins with if its first entry has these fields (names and values alternating).
fn push_header(bytes: &mut Bytes, fields: &[&[u8]]) {
    push_number(bytes, fields.len() / 2);
    fields.iter().step_by(2).for_each(|name| push(bytes, Element::from_text(name)));
    push_number(bytes, 0);
}

/// Size in bytes of an integer in a listpack.
fn integer_size(integer: u32) -> usize {
    Encoded::new(Element::Integer(i64::from(integer))).parts().iter().map(|part| part.len()).sum()
}

/// Why the parts of a node do not make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Node {
    /// A node of one entry; `fields` are names and values alternating.
    pub fn new(id: StreamId, fields: &[&[u8]]) -> Self {
        let mut bytes = Bytes::new();
        push_header(&mut bytes, fields);
        let mut node = Node { first: id, live: 0, deleted: 0, block: Thin::new((), 0, &[&bytes]) };
        node.append(id, fields);
        node
    }

    /// Adds an entry behind all others.
    pub fn append(&mut self, id: StreamId, fields: &[&[u8]]) {
        let mut bytes = Bytes::new();
        push_header(&mut bytes, fields);
        // Equal elements are equal bytes.
        let same = self.block.bytes().starts_with(&bytes);
        bytes.clear();
        push(&mut bytes, Element::Integer(if same { SAME_FIELDS } else { 0 }));
        push(&mut bytes, Element::Integer(id.ms.wrapping_sub(self.first.ms) as i64));
        push(&mut bytes, Element::Integer(id.seq.wrapping_sub(self.first.seq) as i64));
        let count = if same {
            fields.iter().skip(1).step_by(2).for_each(|value| push(&mut bytes, Element::from_text(value)));
            FIXED + fields.len() / 2
        } else {
            push_number(&mut bytes, fields.len() / 2);
            fields.iter().for_each(|part| push(&mut bytes, Element::from_text(part)));
            FIXED + 1 + fields.len()
        };
        push_number(&mut bytes, count);
        let end = self.block.len();
        self.block.splice(end..end, &[&bytes], 0);
        self.live += 1;
    }

    /// A node from the elements of a listpack, the two counts included. `None`: no entry of it is live.
    pub fn from_listpack<'e>(
        first: StreamId,
        mut elements: impl Iterator<Item = Element<'e>>,
    ) -> Result<Option<Node>, Malformed> {
        let mut bytes = Bytes::new();
        let live = count(&mut elements)?;
        let deleted = count(&mut elements)?;
        let names = copy_count(&mut elements, &mut bytes)?;
        copy(&mut elements, names, &mut bytes)?;
        if copy_count(&mut elements, &mut bytes)? != 0 {
            return Err(Malformed);
        }
        let (mut seen_live, mut seen_deleted, mut last) = (0, 0, None);
        while let Some(flags) = elements.next() {
            let flags = flags.as_integer().filter(|flags| (0..4).contains(flags)).ok_or(Malformed)?;
            push(&mut bytes, Element::Integer(flags));
            let ms = copy_integer(&mut elements, &mut bytes)?;
            let seq = copy_integer(&mut elements, &mut bytes)?;
            let id = StreamId::new(first.ms.wrapping_add(ms as u64), first.seq.wrapping_add(seq as u64));
            if last.is_some_and(|last| last >= id) || id < first {
                return Err(Malformed);
            }
            last = Some(id);
            let parts = if flags & SAME_FIELDS != 0 {
                copy(&mut elements, names, &mut bytes)?;
                FIXED + names
            } else {
                let fields = copy_count(&mut elements, &mut bytes)?;
                let parts = fields.checked_mul(2).ok_or(Malformed)?;
                copy(&mut elements, parts, &mut bytes)?;
                FIXED + 1 + parts
            };
            if copy_count(&mut elements, &mut bytes)? != parts {
                return Err(Malformed);
            }
            if flags & DELETED != 0 { seen_deleted += 1 } else { seen_live += 1 }
        }
        if (live, deleted) != (seen_live, seen_deleted) {
            return Err(Malformed);
        }
        let narrow = |count: usize| u32::try_from(count).map_err(|_| Malformed);
        let node = Node {
            first,
            live: narrow(live)?,
            deleted: narrow(deleted)?,
            block: Thin::new((), 0, &[&bytes]),
        };
        Ok((live > 0).then_some(node))
    }

    /// The elements of the listpack that Valkey would have, the two counts included.
    pub fn listpack_elements(&self) -> impl Iterator<Item = Element<'_>> {
        let counts = [self.live, self.deleted].map(|count| Element::Integer(i64::from(count)));
        counts.into_iter().chain(self.block.elements())
    }

    /// The size in bytes of that listpack.
    pub fn listpack_bytes(&self) -> usize {
        LISTPACK_OVERHEAD + integer_size(self.live) + integer_size(self.deleted) + self.block.len()
    }

    /// The identifier that its first entry had, whether deleted or not.
    pub fn first_id(&self) -> StreamId {
        self.first
    }

    /// The identifier of its last entry, whether deleted or not.
    pub fn last_id(&self) -> StreamId {
        self.all_entries().next_back().map_or(self.first, |entry| entry.id)
    }

    /// How many entries are live.
    pub fn live(&self) -> usize {
        self.live as usize
    }

    /// How many entries there are, deleted ones included.
    pub fn count(&self) -> usize {
        self.live as usize + self.deleted as usize
    }

    /// Is this the same block, not a copy?
    #[cfg(test)]
    pub(super) fn shares(&self, other: &Node) -> bool {
        self.block.same(&other.block)
    }

    /// Bytes of memory of the block.
    pub fn memory_bytes(&self) -> usize {
        self.block.memory_bytes()
    }

    /// The entries, deleted ones included.
    pub fn all_entries(&self) -> NodeEntries<'_> {
        let mut header = self.block.elements();
        let names = header.next().and_then(|count| count.as_integer()).unwrap_or(0) as usize;
        let first_name = header.clone();
        header.nth(names);
        NodeEntries { node: self, names, first_name, front: header.offset(), back: self.block.len() }
    }

    /// The live entries.
    pub fn entries(&self) -> LiveEntries<'_> {
        LiveEntries(self.all_entries())
    }

    /// Marks an entry as deleted; false if there is no such live entry. The last live one stays: then the node itself is
    /// to go.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let found = self.all_entries().take_while(|entry| entry.id <= id).last();
        let Some(at) = found.filter(|entry| entry.id == id && !entry.is_deleted).map(|entry| entry.at) else {
            return false;
        };
        self.mark_deleted(&[at]);
        true
    }

    /// Marks live entries from the first on as deleted, until `stop`, which is told how many were deleted before. Returns how
    /// many.
    pub fn delete_until(&mut self, mut stop: impl FnMut(StreamId, usize) -> bool) -> usize {
        let mut places = Vec::new();
        for entry in self.all_entries() {
            if stop(entry.id, places.len()) {
                break;
            }
            if !entry.is_deleted {
                places.push(entry.at);
            }
        }
        self.mark_deleted(&places);
        places.len()
    }

    fn mark_deleted(&mut self, places: &[usize]) {
        for &at in places {
            // Flags are small numbers, which are their own first byte.
            let flags = self.block.bytes()[at] | DELETED as u8;
            self.block.splice(at..at + 1, &[&[flags]], 0);
        }
        self.live -= places.len() as u32;
        self.deleted += places.len() as u32;
    }
}

impl tree::Entry for Node {
    type Hint = StreamId;

    fn hint(&self) -> StreamId {
        self.first
    }

    fn weight(&self) -> usize {
        self.live()
    }
}

fn count<'e>(elements: &mut impl Iterator<Item = Element<'e>>) -> Result<usize, Malformed> {
    let number = elements.next().and_then(|element| element.as_integer()).ok_or(Malformed)?;
    usize::try_from(number).map_err(|_| Malformed)
}

fn copy_integer<'e>(
    elements: &mut impl Iterator<Item = Element<'e>>,
    bytes: &mut Bytes,
) -> Result<i64, Malformed> {
    let number = elements.next().and_then(|element| element.as_integer()).ok_or(Malformed)?;
    push(bytes, Element::Integer(number));
    Ok(number)
}

fn copy_count<'e>(
    elements: &mut impl Iterator<Item = Element<'e>>,
    bytes: &mut Bytes,
) -> Result<usize, Malformed> {
    usize::try_from(copy_integer(elements, bytes)?).map_err(|_| Malformed)
}

fn copy<'e>(
    elements: &mut impl Iterator<Item = Element<'e>>,
    count: usize,
    bytes: &mut Bytes,
) -> Result<(), Malformed> {
    for _ in 0..count {
        match elements.next().ok_or(Malformed)? {
            Element::Bytes(text) => push(bytes, Element::from_text(text)),
            integer => push(bytes, integer),
        }
    }
    Ok(())
}

/// Walks over the entries of a node from either end, deleted ones included.
#[derive(Clone)]
pub struct NodeEntries<'a> {
    node: &'a Node,
    names: usize,
    first_name: Elements<'a>,
    front: usize,
    back: usize,
}

impl<'a> NodeEntries<'a> {
    /// Reads the entry at a place; gives where it ends.
    fn read(&self, at: usize) -> Option<(StreamEntry<'a>, usize)> {
        let mut elements = self.node.block.elements_from(at);
        let mut integer = || elements.next()?.as_integer();
        let (flags, ms, seq) = (integer()?, integer()?, integer()?);
        let first = self.node.first;
        let id = StreamId::new(first.ms.wrapping_add(ms as u64), first.seq.wrapping_add(seq as u64));
        let same = flags & SAME_FIELDS != 0;
        let count = if same { self.names } else { elements.next()?.as_integer()? as usize };
        let fields =
            Fields { left: count, names: same.then(|| self.first_name.clone()), values: elements.clone() };
        // The fields, then the number of elements.
        elements.nth(if same { count } else { 2 * count })?;
        Some((StreamEntry { id, fields, is_deleted: flags & DELETED != 0, at }, elements.offset()))
    }
}

impl<'a> Iterator for NodeEntries<'a> {
    type Item = StreamEntry<'a>;

    fn next(&mut self) -> Option<StreamEntry<'a>> {
        if self.front >= self.back {
            return None;
        }
        let (entry, end) = self.read(self.front)?;
        self.front = end;
        Some(entry)
    }
}

impl DoubleEndedIterator for NodeEntries<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        let mut elements = self.node.block.elements_to(self.back);
        let count = elements.next_back()?.as_integer()? as usize;
        elements.nth_back(count.checked_sub(1)?)?;
        self.back = elements.end_offset();
        Some(self.read(self.back)?.0)
    }
}

/// Walks over the live entries of a node from either end.
#[derive(Clone)]
pub struct LiveEntries<'a>(NodeEntries<'a>);

impl<'a> Iterator for LiveEntries<'a> {
    type Item = StreamEntry<'a>;

    fn next(&mut self) -> Option<StreamEntry<'a>> {
        self.0.find(|entry| !entry.is_deleted)
    }
}

impl DoubleEndedIterator for LiveEntries<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.rfind(|entry| !entry.is_deleted)
    }
}
