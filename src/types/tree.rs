//! A counted B+tree: a sequence of entries in nodes that versions share. Every entry has a weight (1 in a
//! sorted set, the number of its elements in a list), so a place can be found by the weight before it in
//! O(log n), and, if the entries are in order, by comparing. Knows nothing of what the entries are.
//!
//! `Clone` is one reference count. A write copies the nodes on its path that are shared, no others.
//!
//! Invariants: a link's weight and hint are those of its node (the sum of the weights, the hint of the first
//! entry); no node but the root is empty; all leaves have the same depth. A node may be sparse, but two
//! neighbours that would fit one node after a removal become one.

use std::cmp::Ordering;

use arrayvec::ArrayVec;
use triomphe::Arc;

/// Entries in a leaf: with count and length the allocation is 512 bytes.
const LEAF_CAPACITY: usize = 62;

/// Links in an inner node.
const INNER_CAPACITY: usize = 32;

/// More levels than a tree can have: 15 levels of a quarter full nodes hold more entries than memory can.
const MAX_DEPTH: usize = 16;

/// What a [`Tree`] holds.
pub trait Entry: Clone {
    /// A small copy of the first part of what orders the entry, kept in the links so that most comparisons need
    /// not touch the entry; `()` where there is no order.
    type Hint: Copy;

    /// The hint of this entry.
    fn hint(&self) -> Self::Hint;

    /// How much the entry counts; never 0.
    fn weight(&self) -> usize;
}

/// Finds a place by the order of the entries: the place before the first entry that is not before the target.
pub trait Order<T: Entry> {
    /// Whether the entry is before the target.
    fn is_before(&self, entry: &T) -> bool;

    /// How an entry with this hint compares with the target, `Equal` if the hint does not decide it.
    fn compare_hint(&self, hint: &T::Hint) -> Ordering;
}

type Leaf<T> = ArrayVec<T, LEAF_CAPACITY>;
type Inner<T> = ArrayVec<Link<T>, INNER_CAPACITY>;

enum Node<T: Entry> {
    Leaf(Arc<Leaf<T>>),
    Inner(Arc<Inner<T>>),
}

struct Link<T: Entry> {
    node: Node<T>,
    weight: usize,
    hint: T::Hint,
}

/// A sequence of weighted entries.
pub struct Tree<T: Entry> {
    root: Node<T>,
    weight: usize,
}

impl<T: Entry> Clone for Node<T> {
    fn clone(&self) -> Self {
        match self {
            Node::Leaf(leaf) => Node::Leaf(Arc::clone(leaf)),
            Node::Inner(inner) => Node::Inner(Arc::clone(inner)),
        }
    }
}

impl<T: Entry> Clone for Link<T> {
    fn clone(&self) -> Self {
        Link { node: self.node.clone(), weight: self.weight, hint: self.hint }
    }
}

impl<T: Entry> Clone for Tree<T> {
    fn clone(&self) -> Self {
        Tree { root: self.root.clone(), weight: self.weight }
    }
}

/// A way down from the root.
trait Path<T: Entry> {
    /// Which link of an inner node to follow.
    fn link(&mut self, inner: &Inner<T>) -> usize;
    /// Which place in a leaf is meant; its length if the end.
    fn place(&mut self, leaf: &Leaf<T>) -> usize;
}

/// Down to the entry that holds the unit of weight number `rest`; afterwards `rest` is its number inside of
/// that entry.
struct ByWeight {
    rest: usize,
}

impl<T: Entry> Path<T> for ByWeight {
    fn link(&mut self, inner: &Inner<T>) -> usize {
        for (index, link) in inner.iter().enumerate() {
            if self.rest < link.weight || index + 1 == inner.len() {
                return index;
            }
            self.rest -= link.weight;
        }
        0
    }

    fn place(&mut self, leaf: &Leaf<T>) -> usize {
        for (index, entry) in leaf.iter().enumerate() {
            let weight = entry.weight();
            if self.rest < weight {
                return index;
            }
            self.rest -= weight;
        }
        leaf.len()
    }
}

/// Down to the first entry.
struct AtStart;

/// Down to the last entry.
struct AtLast;

/// Down to the end, behind the last entry.
struct AtEnd;

impl<T: Entry> Path<T> for AtStart {
    fn link(&mut self, _inner: &Inner<T>) -> usize {
        0
    }
    fn place(&mut self, _leaf: &Leaf<T>) -> usize {
        0
    }
}

impl<T: Entry> Path<T> for AtLast {
    fn link(&mut self, inner: &Inner<T>) -> usize {
        inner.len() - 1
    }
    fn place(&mut self, leaf: &Leaf<T>) -> usize {
        leaf.len().saturating_sub(1)
    }
}

impl<T: Entry> Path<T> for AtEnd {
    fn link(&mut self, inner: &Inner<T>) -> usize {
        inner.len() - 1
    }
    fn place(&mut self, leaf: &Leaf<T>) -> usize {
        leaf.len()
    }
}

/// Down by order; `before` counts the weight passed.
struct ByOrder<'o, O> {
    order: &'o O,
    before: usize,
}

impl<T: Entry, O: Order<T>> Path<T> for ByOrder<'_, O> {
    fn link(&mut self, inner: &Inner<T>) -> usize {
        let behind = inner.partition_point(|link| match self.order.compare_hint(&link.hint) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => link.node.first().is_some_and(|first| self.order.is_before(first)),
        });
        let index = behind.saturating_sub(1);
        self.before += inner[..index].iter().map(|link| link.weight).sum::<usize>();
        index
    }

    fn place(&mut self, leaf: &Leaf<T>) -> usize {
        let place = leaf.partition_point(|entry| self.order.is_before(entry));
        self.before += leaf[..place].iter().map(Entry::weight).sum::<usize>();
        place
    }
}

impl<T: Entry> Node<T> {
    fn first(&self) -> Option<&T> {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.first(),
                Node::Inner(inner) => node = &inner.first()?.node,
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.len(),
            Node::Inner(inner) => inner.len(),
        }
    }

    fn weight(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.iter().map(Entry::weight).sum(),
            Node::Inner(inner) => inner.iter().map(|link| link.weight).sum(),
        }
    }

    /// The node as a link; `None` if it is empty.
    fn into_link(self) -> Option<Link<T>> {
        let hint = self.first()?.hint();
        Some(Link { weight: self.weight(), node: self, hint })
    }

    /// Inserts an entry. Gives the right part of the node if it was full, and whether the first entry changed.
    fn insert(&mut self, path: &mut impl Path<T>, entry: T) -> (Option<Link<T>>, bool) {
        match self {
            Node::Leaf(leaf) => {
                let place = path.place(leaf);
                let right = put(Arc::make_mut(leaf), place, entry);
                (right.and_then(|right| Node::Leaf(Arc::new(right)).into_link()), place == 0)
            }
            Node::Inner(inner) => {
                let index = path.link(inner);
                let inner = Arc::make_mut(inner);
                let link = &mut inner[index];
                link.weight += entry.weight();
                let (split, first_changed) = link.node.insert(path, entry);
                link.refresh_hint(first_changed);
                let Some(right) = split else { return (None, first_changed && index == 0) };
                link.weight -= right.weight;
                let right = put(inner, index + 1, right);
                (
                    right.and_then(|right| Node::Inner(Arc::new(right)).into_link()),
                    first_changed && index == 0,
                )
            }
        }
    }

    /// Removes an entry, if there is one at the place, and tells whether it was the first. Afterwards the node
    /// may be empty.
    fn remove(&mut self, path: &mut impl Path<T>) -> Option<(T, bool)> {
        match self {
            Node::Leaf(leaf) => {
                let place = path.place(leaf);
                Some((Arc::make_mut(leaf).pop_at(place)?, place == 0))
            }
            Node::Inner(inner) => {
                let index = path.link(inner);
                let inner = Arc::make_mut(inner);
                let link = &mut inner[index];
                let (removed, first_changed) = link.node.remove(path)?;
                link.weight -= removed.weight();
                link.refresh_hint(first_changed);
                settle(inner, index);
                Some((removed, first_changed && index == 0))
            }
        }
    }

    /// Changes an entry; gives what the closure gave, and the weights before and after.
    fn update<R>(
        &mut self,
        path: &mut impl Path<T>,
        change: impl FnOnce(&mut T) -> R,
    ) -> Option<(R, usize, usize)> {
        match self {
            Node::Leaf(leaf) => {
                let place = path.place(leaf);
                let entry = Arc::make_mut(leaf).get_mut(place)?;
                let before = entry.weight();
                let result = change(entry);
                Some((result, before, entry.weight()))
            }
            Node::Inner(inner) => {
                let index = path.link(inner);
                let link = &mut Arc::make_mut(inner)[index];
                let (result, before, after) = link.node.update(path, change)?;
                link.weight = link.weight - before + after;
                Some((result, before, after))
            }
        }
    }

    /// Whether the node holds so little that its neighbour may take it in.
    fn is_sparse(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.len() <= LEAF_CAPACITY / 3,
            Node::Inner(inner) => inner.len() <= INNER_CAPACITY / 3,
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Node::Leaf(_) => LEAF_CAPACITY,
            Node::Inner(_) => INNER_CAPACITY,
        }
    }

    /// Takes in all that a right neighbour of the same level holds; there is room.
    fn append(&mut self, right: Node<T>) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => Arc::make_mut(left).extend(unwrap(right)),
            (Node::Inner(left), Node::Inner(right)) => Arc::make_mut(left).extend(unwrap(right)),
            _ => unreachable!("all leaves have the same depth"),
        }
    }
}

impl<T: Entry> Link<T> {
    /// Brings the hint up to date if the first entry has changed.
    fn refresh_hint(&mut self, first_changed: bool) {
        if let (true, Some(first)) = (first_changed, self.node.first()) {
            self.hint = first.hint();
        }
    }
}

/// What an `Arc` holds, without a copy if nobody shares it.
fn unwrap<V: Clone>(arc: Arc<V>) -> V {
    Arc::try_unwrap(arc).unwrap_or_else(|shared| V::clone(&shared))
}

/// Inserts into a node; if it is full, splits it and gives the right part. At the ends the split leaves the
/// full node alone, so that a sequence that is built in order fills its nodes.
fn put<V, const N: usize>(node: &mut ArrayVec<V, N>, place: usize, value: V) -> Option<ArrayVec<V, N>> {
    if !node.is_full() {
        node.insert(place, value);
        return None;
    }
    let middle = match place {
        0 => 0,
        place if place == N => N,
        _ => N / 2,
    };
    let mut right: ArrayVec<V, N> = node.drain(middle..).collect();
    if place > middle || middle == N {
        right.insert(place - middle, value);
    } else {
        node.insert(place, value);
    }
    Some(right)
}

/// After a removal below the link at `index`: drops it if its node is empty, joins it with a neighbour if the
/// node is sparse and both fit one.
fn settle<T: Entry>(inner: &mut Inner<T>, index: usize) {
    if inner[index].node.len() == 0 {
        inner.remove(index);
        return;
    }
    if !inner[index].node.is_sparse() {
        return;
    }
    let fits = |left: usize| {
        inner
            .get(left + 1)
            .is_some_and(|right| inner[left].node.len() + right.node.len() <= right.node.capacity())
    };
    let left = if fits(index) {
        index
    } else if index > 0 && fits(index - 1) {
        index - 1
    } else {
        return;
    };
    let right = inner.remove(left + 1);
    inner[left].node.append(right.node);
    inner[left].weight += right.weight;
}

impl<T: Entry> Tree<T> {
    /// An empty tree.
    pub fn new() -> Self {
        Tree { root: Node::Leaf(Arc::new(Leaf::new())), weight: 0 }
    }

    /// A tree of these entries, its nodes full.
    pub fn from_entries(entries: impl IntoIterator<Item = T>) -> Self {
        let mut tree = Tree::new();
        for entry in entries {
            tree.push(entry);
        }
        tree
    }

    /// The sum of the weights.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Number of entries.
    pub fn entry_count(&self) -> usize {
        fn count<T: Entry>(node: &Node<T>) -> usize {
            match node {
                Node::Leaf(leaf) => leaf.len(),
                Node::Inner(inner) => inner.iter().map(|link| count(&link.node)).sum(),
            }
        }
        count(&self.root)
    }

    /// Bytes of memory that the nodes take, without what the entries point at.
    pub fn memory_bytes(&self) -> usize {
        fn bytes<T: Entry>(node: &Node<T>) -> usize {
            match node {
                Node::Leaf(_) => size_of::<Leaf<T>>() + 8,
                Node::Inner(inner) => {
                    size_of::<Inner<T>>() + 8 + inner.iter().map(|link| bytes(&link.node)).sum::<usize>()
                }
            }
        }
        bytes(&self.root)
    }

    fn insert_along(&mut self, path: &mut impl Path<T>, entry: T) {
        self.weight += entry.weight();
        let (Some(right), _) = self.root.insert(path, entry) else { return };
        // A root that only moves is not shared anew: the left part keeps its count.
        let left = std::mem::replace(&mut self.root, Node::Inner(Arc::new(Inner::new())));
        let links: Inner<T> = left.into_link().into_iter().chain([right]).collect();
        self.root = Node::Inner(Arc::new(links));
    }

    fn remove_along(&mut self, path: &mut impl Path<T>) -> Option<T> {
        let (removed, _) = self.root.remove(path)?;
        self.weight -= removed.weight();
        while let Node::Inner(inner) = &self.root {
            match inner.as_slice() {
                [] => self.root = Node::Leaf(Arc::new(Leaf::new())),
                [only] => self.root = only.node.clone(),
                _ => break,
            }
        }
        Some(removed)
    }

    /// Inserts an entry before the one that begins after `weight`, which must be where an entry begins, or the
    /// end.
    pub fn insert_at(&mut self, weight: usize, entry: T) {
        self.insert_along(&mut ByWeight { rest: weight }, entry);
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, entry: T) {
        self.insert_along(&mut AtEnd, entry);
    }

    /// Inserts an entry at its place in the order.
    pub fn insert_by(&mut self, order: &impl Order<T>, entry: T) {
        self.insert_along(&mut ByOrder { order, before: 0 }, entry);
    }

    /// Takes out the entry that holds the unit of weight number `weight`.
    pub fn remove_at(&mut self, weight: usize) -> Option<T> {
        if weight >= self.weight {
            return None;
        }
        self.remove_along(&mut ByWeight { rest: weight })
    }

    /// Changes the entry that holds the unit of weight number `weight`. Its weight may change, but not to 0, nor
    /// may its hint or its place in the order.
    pub fn update_at<R>(&mut self, weight: usize, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.update_along(&mut ByWeight { rest: weight }, change)
    }

    /// Changes the first entry, as [`Tree::update_at`].
    pub fn update_first<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.update_along(&mut AtStart, change)
    }

    /// Changes the last entry, as [`Tree::update_at`].
    pub fn update_last<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.update_along(&mut AtLast, change)
    }

    fn update_along<R>(&mut self, path: &mut impl Path<T>, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let (result, before, after) = self.root.update(path, change)?;
        self.weight = self.weight - before + after;
        Some(result)
    }

    /// The first entry.
    pub fn first(&self) -> Option<&T> {
        self.root.first()
    }

    /// The last entry.
    pub fn last(&self) -> Option<&T> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.last(),
                Node::Inner(inner) => node = &inner.last()?.node,
            }
        }
    }

    /// Takes out the first entry.
    pub fn pop_first(&mut self) -> Option<T> {
        self.remove_along(&mut AtStart)
    }

    /// Takes out the last entry.
    pub fn pop_last(&mut self) -> Option<T> {
        self.remove_along(&mut AtLast)
    }

    /// The entry that holds the unit of weight number `weight`, and the number of that unit inside of it.
    pub fn get(&self, weight: usize) -> Option<(&T, usize)> {
        let mut path = ByWeight { rest: weight };
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let place = path.place(leaf);
                    return leaf.get(place).map(|entry| (entry, path.rest));
                }
                Node::Inner(inner) => {
                    let index = path.link(inner);
                    node = &inner.get(index)?.node;
                }
            }
        }
    }

    /// The weight of all entries before a place in the order.
    pub fn weight_before(&self, order: &impl Order<T>) -> usize {
        let mut path = ByOrder { order, before: 0 };
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    path.place(leaf);
                    return path.before;
                }
                Node::Inner(inner) => {
                    let index = path.link(inner);
                    node = &inner[index].node;
                }
            }
        }
    }

    /// A cursor at the entry that holds the unit of weight number `weight`, or beyond the end, and the number of
    /// that unit inside of the entry.
    pub fn cursor(&self, weight: usize) -> (Cursor<'_, T>, usize) {
        let mut path = ByWeight { rest: weight };
        let mut cursor = Cursor { above: ArrayVec::new(), leaf: &[], place: 0 };
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    cursor.leaf = leaf;
                    cursor.place = path.place(leaf);
                    return (cursor, path.rest);
                }
                Node::Inner(inner) => {
                    let index = path.link(inner);
                    cursor.above.push((inner, index));
                    node = &inner[index].node;
                }
            }
        }
    }
}

/// A place in a tree, for walking from entry to entry either way.
pub struct Cursor<'a, T: Entry> {
    above: ArrayVec<(&'a [Link<T>], usize), MAX_DEPTH>,
    leaf: &'a [T],
    place: usize,
}

impl<T: Entry> Clone for Cursor<'_, T> {
    fn clone(&self) -> Self {
        Cursor { above: self.above.clone(), leaf: self.leaf, place: self.place }
    }
}

impl<'a, T: Entry> Cursor<'a, T> {
    /// The entry here; `None` beyond an end.
    pub fn entry(&self) -> Option<&'a T> {
        self.leaf.get(self.place)
    }

    /// Goes to the next entry, or beyond the end.
    pub fn forward(&mut self) {
        self.place += 1;
        if self.place >= self.leaf.len() {
            self.climb(|links, index| (index + 1 < links.len()).then_some(index + 1), false);
        }
    }

    /// Goes to the entry before, or beyond the start.
    pub fn backward(&mut self) {
        match self.place.checked_sub(1) {
            Some(place) => self.place = place,
            None => self.climb(|_, index| index.checked_sub(1), true),
        }
    }

    /// Goes to the nearest leaf that `sibling` leads to.
    fn climb(&mut self, sibling: impl Fn(&[Link<T>], usize) -> Option<usize>, last: bool) {
        while let Some((links, index)) = self.above.pop() {
            let Some(index) = sibling(links, index) else { continue };
            self.above.push((links, index));
            let mut node = &links[index].node;
            loop {
                match node {
                    Node::Leaf(leaf) => {
                        self.leaf = leaf;
                        self.place = if last { leaf.len().saturating_sub(1) } else { 0 };
                        return;
                    }
                    Node::Inner(inner) => {
                        let index = if last { inner.len().saturating_sub(1) } else { 0 };
                        self.above.push((inner, index));
                        node = &inner[index].node;
                    }
                }
            }
        }
        self.leaf = &[];
        self.place = 0;
    }
}

impl<T: Entry> Default for Tree<T> {
    fn default() -> Self {
        Tree::new()
    }
}

impl<T: Entry> std::fmt::Debug for Tree<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tree(weight {})", self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An entry of a weight, ordered by its number.
    #[derive(Clone, Debug, PartialEq)]
    struct Number(u32, usize);

    impl Entry for Number {
        type Hint = u32;
        fn hint(&self) -> u32 {
            self.0 / 4
        }
        fn weight(&self) -> usize {
            self.1
        }
    }

    struct At(u32);

    impl Order<Number> for At {
        fn is_before(&self, entry: &Number) -> bool {
            entry.0 < self.0
        }
        fn compare_hint(&self, hint: &u32) -> Ordering {
            hint.cmp(&(self.0 / 4))
        }
    }

    /// Walks the whole tree and checks what the module promises of links and depths.
    fn check(tree: &Tree<Number>) {
        fn depth(node: &Node<Number>, root: bool) -> usize {
            assert!(root || node.len() > 0, "an empty node");
            match node {
                Node::Leaf(_) => 1,
                Node::Inner(inner) => {
                    let mut depths = inner.iter().map(|link| {
                        assert_eq!(link.weight, link.node.weight());
                        assert_eq!(link.hint, link.node.first().unwrap().hint());
                        depth(&link.node, false)
                    });
                    let first = depths.next().unwrap();
                    assert!(depths.all(|depth| depth == first));
                    first + 1
                }
            }
        }
        depth(&tree.root, true);
        assert_eq!(tree.weight, tree.root.weight());
    }

    fn all(tree: &Tree<Number>) -> Vec<Number> {
        let (mut cursor, _) = tree.cursor(0);
        let mut entries = Vec::new();
        while let Some(entry) = cursor.entry() {
            entries.push(entry.clone());
            cursor.forward();
        }
        entries
    }

    fn all_backward(tree: &Tree<Number>) -> Vec<Number> {
        let (mut cursor, _) = tree.cursor(tree.weight().saturating_sub(1));
        let mut entries = Vec::new();
        while let Some(entry) = cursor.entry() {
            entries.push(entry.clone());
            cursor.backward();
        }
        entries.reverse();
        entries
    }

    #[test]
    fn building_in_order_fills_the_nodes() {
        let tree = Tree::from_entries((0..100_000).map(|number| Number(number, 1)));
        check(&tree);
        assert!(tree.memory_bytes() < 100_000 * (size_of::<Number>() + 2));
        assert_eq!(tree.entry_count(), 100_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn behaves_like_a_sorted_vector(
            steps in proptest::collection::vec((0u32..4000, 1usize..4, 0u8..8), 1..2500),
            grow in 1u8..8,
        ) {
            let mut tree = Tree::new();
            let mut model: Vec<Number> = Vec::new();
            let mut kept = Vec::new();
            for (step, (number, weight, action)) in steps.into_iter().enumerate() {
                let place = model.partition_point(|entry| entry.0 < number);
                let before: usize = model[..place].iter().map(|entry| entry.1).sum();
                prop_assert_eq!(tree.weight_before(&At(number)), before);
                if action < grow {
                    tree.insert_by(&At(number), Number(number, weight));
                    model.insert(place, Number(number, weight));
                } else if action == 7 && place < model.len() {
                    let offset = model[place].1 - 1;
                    let seen = tree.update_at(before + offset, |entry| std::mem::replace(&mut entry.1, weight));
                    prop_assert_eq!(seen, Some(offset + 1));
                    model[place].1 = weight;
                } else if place < model.len() {
                    prop_assert_eq!(tree.remove_at(before), Some(model.remove(place)));
                } else {
                    prop_assert_eq!(tree.remove_at(before), None);
                }
                if step % 500 == 0 {
                    kept.push((tree.clone(), model.clone()));
                }
            }
            kept.push((tree, model));
            for (tree, model) in kept {
                check(&tree);
                prop_assert_eq!(&all(&tree), &model);
                prop_assert_eq!(&all_backward(&tree), &model);
                let mut weight = 0;
                for entry in &model {
                    for offset in 0..entry.1 {
                        prop_assert_eq!(tree.get(weight), Some((entry, offset)));
                        weight += 1;
                    }
                }
                prop_assert_eq!(tree.get(weight), None);
            }
        }
    }
}
