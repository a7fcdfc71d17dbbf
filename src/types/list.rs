//! Lists: one flat block while small, then a counted tree whose entries are blocks of packed elements (nodes),
//! with the very large elements alone in a node of their own. Knows nothing of keys and commands.
//!
//! The form changes exactly when Valkey changes it (the conversions in its t_list.c, the limits of a node in its
//! quicklist.c), judged by the size that a listpack of the same elements would have.
//!
//! Invariant: no node is empty.

use crate::types::element::{Element, OwnedElement, TextBuffer};
use crate::types::limits::Limits;
use crate::types::packed::{Elements, Encoded, MAX_ELEMENTS, Packed};
use crate::types::thin::{Form, View, ViewMut};
use crate::types::tree::{Cursor, Entry, Tree};

/// One end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The head, index 0.
    Front,
    /// The tail.
    Back,
}

/// Which way an iterator walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From lower to higher index or rank.
    Forward,
    /// From higher to lower index or rank.
    Backward,
}

/// Largest node, in bytes, where the limit counts elements.
const SAFE_NODE_BYTES: usize = 8192;

/// What an element may add to a listpack beyond its bytes, as estimated before it is added to a node.
const ELEMENT_OVERHEAD: usize = 8;

/// The limit of one node: bytes of a listpack, number of elements.
fn node_limit(limits: &Limits) -> (usize, usize) {
    match limits.list_max_listpack_size {
        size @ ..0 => (4096 << (size.unsigned_abs() - 1).min(4), usize::MAX),
        count => (usize::MAX, count.max(1) as usize),
    }
}

/// Whether a node of this size would be too large.
fn exceeds_limit(limits: &Limits, bytes: usize, count: usize) -> bool {
    let (max_bytes, max_count) = node_limit(limits);
    bytes > max_bytes.min(if max_count == usize::MAX { usize::MAX } else { SAFE_NODE_BYTES })
        || count > max_count.min(MAX_ELEMENTS)
}

/// Whether an element of this length gets a node of its own.
fn is_large(limits: &Limits, len: usize) -> bool {
    match (limits.quicklist_packed_threshold, node_limit(limits)) {
        (0, (usize::MAX, _)) => len > SAFE_NODE_BYTES,
        (0, (max_bytes, _)) => len > max_bytes,
        (threshold, _) => len >= threshold,
    }
}

/// A node of a large list: packed elements, or, with the block's flag set, the raw bytes of a single one.
#[derive(Clone)]
struct Node(Packed);

impl Node {
    /// A node of one element.
    fn new(value: &[u8], limits: &Limits) -> Self {
        if is_large(limits, value.len()) {
            return Node(Packed::raw(value));
        }
        let mut packed = Packed::empty();
        packed.append(&Encoded::text(value));
        Node(packed)
    }

    fn is_plain(&self) -> bool {
        self.0.flag()
    }

    /// Whether an element of this length may be added.
    fn allows(&self, len: usize, limits: &Limits) -> bool {
        !self.is_plain()
            && !is_large(limits, len)
            && !exceeds_limit(limits, self.0.listpack_bytes() + len + ELEMENT_OVERHEAD, self.0.count() + 1)
    }

    fn element(&self, index: usize) -> Option<Element<'_>> {
        match self.is_plain() {
            true => Some(Element::Bytes(self.0.bytes())),
            false => self.0.element(index),
        }
    }
}

impl Entry for Node {
    type Hint = ();

    fn hint(&self) {}

    fn weight(&self) -> usize {
        match self.is_plain() {
            true => 1,
            false => self.0.count(),
        }
    }
}

/// Inserts an element at an index of a block.
fn insert_packed(packed: &mut Packed, index: usize, value: &[u8]) {
    packed.insert(packed.offset_of(index), &Encoded::text(value));
}

/// Removes `count` elements of a block.
fn remove_packed(packed: &mut Packed, start: usize, count: usize) {
    let from = packed.offset_of(start);
    let to = packed.offset_of(start + count);
    packed.replace(from, to, count, &[]);
}

/// Replaces an element of a block.
fn set_packed(packed: &mut Packed, index: usize, value: &[u8]) {
    let from = packed.offset_of(index);
    let (_, to) = packed.element_at(from);
    packed.replace(from, to, 1, &[Encoded::text(value)]);
}

/// A copy of a block without the elements at these indexes, which are in ascending order.
fn without(packed: &Packed, indexes: &[usize]) -> Packed {
    let mut kept: Vec<&[u8]> = Vec::with_capacity(indexes.len() + 1);
    let mut elements = packed.elements();
    let (mut from, mut next_index) = (0, 0);
    for &index in indexes {
        elements.by_ref().take(index - next_index).for_each(drop);
        kept.push(&packed.bytes()[from..elements.offset()]);
        elements.next();
        (from, next_index) = (elements.offset(), index + 1);
    }
    kept.push(&packed.bytes()[from..]);
    Packed::new((), (packed.count() - indexes.len()) as u16, &kept)
}

/// A list of strings. `Clone` is a reference count.
#[derive(Clone, Debug)]
pub struct List(Form<Tree<Node>>);

/// Iterator over the elements of a list; see [`List::iter_from`].
#[derive(Clone)]
pub struct Iter<'a> {
    elements: Elements<'a>,
    plain: Option<&'a [u8]>,
    nodes: Option<Cursor<'a, Node>>,
    direction: Direction,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        loop {
            if let Some(bytes) = self.plain.take() {
                return Some(Element::Bytes(bytes));
            }
            let element = match self.direction {
                Direction::Forward => self.elements.next(),
                Direction::Backward => self.elements.next_back(),
            };
            if element.is_some() {
                return element;
            }
            let nodes = self.nodes.as_mut()?;
            match self.direction {
                Direction::Forward => nodes.forward(),
                Direction::Backward => nodes.backward(),
            }
            let Node(block) = nodes.entry()?;
            match block.flag() {
                true => self.plain = Some(block.bytes()),
                false => self.elements = block.elements(),
            }
        }
    }
}

/// The elements of a block from an index on, in a direction.
fn elements_from(packed: &Packed, index: usize, direction: Direction) -> Elements<'_> {
    if index >= packed.count() {
        return Elements::empty();
    }
    let offset = packed.offset_of(index);
    match direction {
        Direction::Forward => packed.elements_from(offset),
        Direction::Backward => packed.elements_to(packed.element_at(offset).1),
    }
}

impl List {
    /// An empty list.
    pub fn new() -> Self {
        List(Form::small(Packed::empty()))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self.0.view() {
            View::Small(block) => block.count(),
            View::Large(tree) => tree.weight(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// "listpack" or "quicklist".
    pub fn encoding(&self) -> &'static str {
        match self.0.is_large() {
            false => "listpack",
            true => "quicklist",
        }
    }

    /// The element at an index from the head.
    pub fn get(&self, index: usize) -> Option<Element<'_>> {
        match self.0.view() {
            View::Small(block) => block.element(index),
            View::Large(tree) => tree.get(index).and_then(|(node, index)| node.element(index)),
        }
    }

    /// All elements from the head.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0, Direction::Forward)
    }

    /// The elements from `index` (included) on towards the tail or the head; nothing if `index` is outside.
    pub fn iter_from(&self, index: usize, direction: Direction) -> Iter<'_> {
        let mut iter = Iter { elements: Elements::empty(), plain: None, nodes: None, direction };
        match self.0.view() {
            View::Small(block) => iter.elements = elements_from(block, index, direction),
            View::Large(tree) => {
                let (nodes, index) = tree.cursor(index);
                match nodes.entry() {
                    Some(Node(block)) if block.flag() => iter.plain = Some(block.bytes()),
                    Some(Node(block)) => iter.elements = elements_from(block, index, direction),
                    None => return iter,
                }
                iter.nodes = Some(nodes);
            }
        }
        iter
    }

    /// Adds the values one after the other at one end (so `Front` turns their order round), as LPUSH and
    /// RPUSH do; the form changes at most once, decided by all of them together.
    pub fn push<V: AsRef<[u8]>>(&mut self, end: End, values: &[V], limits: &Limits) {
        self.prepare(values, limits);
        match self.0.view_mut() {
            ViewMut::Small(block) => {
                for value in values {
                    let offset = if end == End::Front { 0 } else { block.len() };
                    block.insert(offset, &Encoded::text(value.as_ref()));
                }
            }
            ViewMut::Large(tree) => {
                for value in values {
                    push_node(tree, end, value.as_ref(), limits);
                }
            }
        }
    }

    /// Adds one value at the head.
    pub fn push_front(&mut self, value: &[u8], limits: &Limits) {
        self.push(End::Front, &[value], limits);
    }

    /// Adds one value at the tail.
    pub fn push_back(&mut self, value: &[u8], limits: &Limits) {
        self.push(End::Back, &[value], limits);
    }

    /// Takes the element at one end.
    pub fn pop(&mut self, end: End, limits: &Limits) -> Option<OwnedElement> {
        let popped = self.take(end)?;
        self.shrink(limits);
        Some(popped)
    }

    fn take(&mut self, end: End) -> Option<OwnedElement> {
        match self.0.view_mut() {
            ViewMut::Small(block) => pop_packed(block, end),
            ViewMut::Large(tree) => pop_node(tree, end),
        }
    }

    /// Moves an element from one end to an end, and returns it. The form is decided when it is in its new place.
    pub fn rotate(&mut self, from: End, to: End, limits: &Limits) -> Option<OwnedElement> {
        let element = self.take(from)?;
        self.push(to, &[element.as_element().text(&mut TextBuffer::new())], limits);
        self.shrink(limits);
        Some(element)
    }

    /// Takes the element at the head.
    pub fn pop_front(&mut self, limits: &Limits) -> Option<OwnedElement> {
        self.pop(End::Front, limits)
    }

    /// Takes the element at the tail.
    pub fn pop_back(&mut self, limits: &Limits) -> Option<OwnedElement> {
        self.pop(End::Back, limits)
    }

    /// Replaces the element at `index`; false if there is none.
    pub fn set(&mut self, index: usize, value: &[u8], limits: &Limits) -> bool {
        self.prepare(&[value], limits);
        if index >= self.len() {
            return false;
        }
        match self.0.view_mut() {
            ViewMut::Small(block) => set_packed(block, index, value),
            ViewMut::Large(tree) => {
                if !set_in_node(tree, index, value, limits) {
                    insert_node(tree, index + 1, value, limits);
                    remove_nodes(tree, index, 1);
                }
            }
        }
        self.shrink(limits);
        true
    }

    /// Inserts before the element at `index`; `index == len()` appends. False if `index` is beyond that.
    pub fn insert(&mut self, index: usize, value: &[u8], limits: &Limits) -> bool {
        self.prepare(&[value], limits);
        if index > self.len() {
            return false;
        }
        match self.0.view_mut() {
            ViewMut::Small(block) => insert_packed(block, index, value),
            ViewMut::Large(tree) => insert_node(tree, index, value, limits),
        }
        true
    }

    /// Index of the first element, from the head, that equals `value`.
    pub fn position(&self, value: &[u8]) -> Option<usize> {
        self.iter().position(|element| element == *value)
    }

    /// Removes up to `count` elements (0: all) that equal `value`, from the head (`Forward`) or the tail
    /// (`Backward`). Returns how many.
    pub fn remove_matching(
        &mut self,
        value: &[u8],
        count: usize,
        direction: Direction,
        limits: &Limits,
    ) -> usize {
        let wanted = Element::from_text(value);
        let limit = if count == 0 { usize::MAX } else { count };
        let len = self.len();
        let mut indexes: Vec<usize> = match direction {
            Direction::Forward => self
                .iter()
                .enumerate()
                .filter(|(_, element)| *element == wanted)
                .map(|(index, _)| index)
                .take(limit)
                .collect(),
            Direction::Backward => self
                .iter_from(len.saturating_sub(1), direction)
                .zip((0..len).rev())
                .filter(|(element, _)| *element == wanted)
                .map(|(_, index)| index)
                .take(limit)
                .collect(),
        };
        if direction == Direction::Backward {
            indexes.reverse();
        }
        if indexes.is_empty() {
            return 0;
        }
        match self.0.view_mut() {
            ViewMut::Small(block) => *block = without(block, &indexes),
            ViewMut::Large(tree) => remove_indexes(tree, &indexes),
        }
        self.shrink(limits);
        indexes.len()
    }

    /// Removes `count` elements from `start` on, fewer if the list ends before.
    pub fn remove_range(&mut self, start: usize, count: usize, limits: &Limits) {
        self.delete(start, count);
        self.shrink(limits);
    }

    /// Keeps only `count` elements from `start` on.
    pub fn trim(&mut self, start: usize, count: usize, limits: &Limits) {
        let len = self.len();
        let start = start.min(len);
        let end = start.saturating_add(count).min(len);
        self.delete(end, len - end);
        self.delete(0, start);
        self.shrink(limits);
    }

    /// Number of nodes; 1 in the small form.
    pub fn node_count(&self) -> usize {
        match self.0.view() {
            View::Small(_) => 1,
            View::Large(tree) => tree.entry_count(),
        }
    }

    /// Changes to the large form if these values, added to the small one, would exceed its limit. Every write
    /// that adds does this by itself; LINSERT does it even if it then finds no pivot.
    pub fn prepare<V: AsRef<[u8]>>(&mut self, values: &[V], limits: &Limits) {
        let View::Small(block) = self.0.view() else { return };
        let added: usize = values.iter().map(|value| value.as_ref().len()).sum();
        if !exceeds_limit(limits, block.listpack_bytes() + added, block.count() + values.len()) {
            return;
        }
        let node = (block.count() > 0).then(|| Node(block.clone()));
        self.0 = Form::large(Tree::from_entries(node));
    }

    /// Goes back to the small form if only one node is left, of at most half the limit.
    fn shrink(&mut self, limits: &Limits) {
        let View::Large(tree) = self.0.view() else { return };
        let Some(node) = tree.first().filter(|node| !node.is_plain() && node.weight() == tree.weight())
        else {
            return;
        };
        let (max_bytes, max_count) = node_limit(limits);
        if node.0.listpack_bytes() <= max_bytes / 2 && node.0.count() <= max_count / 2 {
            self.0 = Form::small(node.0.clone());
        }
    }

    /// Removes elements without looking at the form.
    fn delete(&mut self, start: usize, count: usize) {
        let count = count.min(self.len().saturating_sub(start));
        if count == 0 {
            return;
        }
        match self.0.view_mut() {
            ViewMut::Small(block) => remove_packed(block, start, count),
            ViewMut::Large(tree) if count == tree.weight() => *tree = Tree::new(),
            ViewMut::Large(tree) => remove_nodes(tree, start, count),
        }
    }

    /// Bytes of memory that the list owns, shared parts included; estimated from at most `samples` nodes
    /// (0: all).
    pub fn memory_bytes(&self, samples: usize) -> usize {
        match self.0.view() {
            View::Small(block) => block.memory_bytes(),
            View::Large(tree) => {
                let (mut nodes, _) = tree.cursor(0);
                let (mut seen, mut bytes) = (0, 0);
                while let Some(Node(block)) = nodes.entry().filter(|_| samples == 0 || seen < samples) {
                    seen += 1;
                    bytes += block.memory_bytes();
                    nodes.forward();
                }
                tree.memory_bytes() + bytes * tree.entry_count() / seen.max(1)
            }
        }
    }
}

impl Default for List {
    fn default() -> Self {
        List::new()
    }
}

fn push_node(tree: &mut Tree<Node>, end: End, value: &[u8], limits: &Limits) {
    let neighbour = if end == End::Front { tree.first() } else { tree.last() };
    if neighbour.is_some_and(|node| node.allows(value.len(), limits)) {
        let element = Encoded::text(value);
        match end {
            End::Front => tree.update_first(|node| node.0.insert(0, &element)),
            End::Back => tree.update_last(|node| node.0.append(&element)),
        };
        return;
    }
    let node = Node::new(value, limits);
    match end {
        End::Front => tree.insert_at(0, node),
        End::Back => tree.push(node),
    }
}

fn pop_packed(packed: &mut Packed, end: End) -> Option<OwnedElement> {
    let mut elements = packed.elements();
    let (element, range) = match end {
        End::Front => (elements.next()?.to_owned(), 0..elements.offset()),
        End::Back => (elements.next_back()?.to_owned(), elements.end_offset()..packed.len()),
    };
    packed.replace(range.start, range.end, 1, &[]);
    Some(element)
}

fn pop_node(tree: &mut Tree<Node>, end: End) -> Option<OwnedElement> {
    let node = if end == End::Front { tree.first()? } else { tree.last()? };
    if node.weight() > 1 {
        return match end {
            End::Front => tree.update_first(|node| pop_packed(&mut node.0, end)),
            End::Back => tree.update_last(|node| pop_packed(&mut node.0, end)),
        }?;
    }
    let node = if end == End::Front { tree.pop_first()? } else { tree.pop_last()? };
    node.element(0).map(|element| element.to_owned())
}

/// Replaces an element inside of its node if that is possible; otherwise does nothing and gives false.
fn set_in_node(tree: &mut Tree<Node>, index: usize, value: &[u8], limits: &Limits) -> bool {
    let Some((node, offset)) = tree.get(index) else { return false };
    let large = is_large(limits, value.len());
    if node.is_plain() {
        return large && tree.update_at(index, |node| node.0 = Packed::raw(value)).is_some();
    }
    // A replacement by something longer may not make a node grow without bounds.
    let fits = node.0.count() == 1
        || !exceeds_limit(limits, node.0.listpack_bytes() + value.len() + ELEMENT_OVERHEAD, node.0.count());
    let shorter = || node.element(offset).is_some_and(|old| value.len() <= old.text_len());
    if large || !(fits || shorter()) {
        return false;
    }
    tree.update_at(index, |node| set_packed(&mut node.0, offset, value)).is_some()
}

/// Inserts before the element at an index that exists, or at the end.
fn insert_node(tree: &mut Tree<Node>, index: usize, value: &[u8], limits: &Limits) {
    let Some((node, offset)) = tree.get(index) else {
        return push_node(tree, End::Back, value, limits);
    };
    if node.allows(value.len(), limits) {
        tree.update_at(index, |node| insert_packed(&mut node.0, offset, value));
        return;
    }
    if offset > 0 {
        let block = node.0.clone();
        let middle = block.offset_of(offset);
        tree.update_at(index, |node| node.0 = block.section(0, middle, offset));
        tree.insert_at(index, Node(block.section(middle, block.len(), block.count() - offset)));
        if tree.get(index).is_some_and(|(node, _)| node.allows(value.len(), limits)) {
            tree.update_at(index, |node| insert_packed(&mut node.0, 0, value));
            return;
        }
    }
    let before = index.checked_sub(1);
    match before.filter(|&before| tree.get(before).is_some_and(|(node, _)| node.allows(value.len(), limits)))
    {
        Some(before) => {
            tree.update_at(before, |node| node.0.append(&Encoded::text(value)));
        }
        None => tree.insert_at(index, Node::new(value, limits)),
    }
}

/// Removes elements that exist.
fn remove_nodes(tree: &mut Tree<Node>, start: usize, mut count: usize) {
    while let Some((node, offset)) = tree.get(start).filter(|_| count > 0) {
        let removed = (node.weight() - offset).min(count);
        if removed == node.weight() {
            tree.remove_at(start);
        } else {
            tree.update_at(start, |node| remove_packed(&mut node.0, offset, removed));
        }
        count -= removed;
    }
}

/// Removes the elements at these indexes, which exist and are in ascending order. Goes from the last node to
/// the first, so that the indexes still to come stay right, and writes each node once.
fn remove_indexes(tree: &mut Tree<Node>, mut indexes: &[usize]) {
    while let Some(&last) = indexes.last() {
        let Some((node, offset)) = tree.get(last) else { return };
        let start = last - offset;
        let split = indexes.partition_point(|&index| index < start);
        let local: Vec<usize> = indexes[split..].iter().map(|index| index - start).collect();
        if local.len() == node.weight() {
            tree.remove_at(start);
        } else {
            tree.update_at(start, |node| node.0 = without(&node.0, &local));
        }
        indexes = &indexes[..split];
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
