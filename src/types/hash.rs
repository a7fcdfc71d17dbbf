//! Hashes: a flat block of packed names and values while small, then a dictionary of reference-counted fields,
//! beside it, for the fields that expire, a tree ordered by expiry. Knows nothing of keys, commands or the time.
//!
//! The form changes exactly when Valkey changes it (its t_hash.c), and never back. Valkey gives a hash its large
//! form as soon as a field expires; here the block only gets a third element for each field (an integer: the
//! expiry; an empty string: none) and says so by its flag, and [`Hash::encoding`] keeps up the appearance.
//!
//! Invariant: a field of the large form is in the tree exactly if it has an expiry.

use std::cmp::Ordering;

use crate::types::dictionary::{self, Dictionary, Item};
use crate::types::element::{Element, TextBuffer};
use crate::types::limits::Limits;
use crate::types::packed::{Elements, Encoded, MAX_BYTES, MAX_ELEMENTS, Packed};
use crate::types::thin::{Form, Thin, View, ViewMut};
use crate::types::tree::{Entry, Order, Tree};

/// A field of the large form in one block: the name (its length is the head), the value, and, if the tag is 1,
/// the expiry in 8 bytes.
#[derive(Clone, Debug)]
struct StoredField(Thin<u32>);

const EXPIRES: u16 = 1;

impl StoredField {
    fn new(name: &[u8], value: &[u8], expire_at_ms: Option<i64>) -> Self {
        // A name is shorter than 4 GiB, or the block that is made of it here could not be.
        let name_len = name.len() as u32;
        StoredField(match expire_at_ms {
            None => Thin::new(name_len, 0, &[name, value]),
            Some(moment) => Thin::new(name_len, EXPIRES, &[name, value, &moment.to_le_bytes()]),
        })
    }

    fn parts(&self) -> (&[u8], &[u8], Option<i64>) {
        let (name, rest) = self.0.bytes().split_at(self.0.head() as usize);
        match rest.split_last_chunk::<8>() {
            Some((value, moment)) if self.0.tag() == EXPIRES => {
                (name, value, Some(i64::from_le_bytes(*moment)))
            }
            _ => (name, rest, None),
        }
    }

    fn expire_at_ms(&self) -> Option<i64> {
        self.parts().2
    }

    fn field(&self) -> Field<'_> {
        let (name, value, expire_at_ms) = self.parts();
        Field { name: Element::Bytes(name), value: Element::Bytes(value), expire_at_ms }
    }
}

impl Item for StoredField {
    fn key(&self) -> &[u8] {
        self.parts().0
    }
}

impl Entry for StoredField {
    /// The expiry.
    type Hint = i64;

    fn hint(&self) -> i64 {
        self.expire_at_ms().unwrap_or(i64::MAX)
    }

    fn weight(&self) -> usize {
        1
    }
}

/// The place of a field among those that expire.
struct ByExpiry<'n> {
    expire_at_ms: i64,
    name: &'n [u8],
}

impl Order<StoredField> for ByExpiry<'_> {
    fn is_before(&self, field: &StoredField) -> bool {
        (field.hint(), field.key()) < (self.expire_at_ms, self.name)
    }

    fn compare_hint(&self, hint: &i64) -> Ordering {
        hint.cmp(&self.expire_at_ms)
    }
}

/// The large form.
#[derive(Clone, Debug, Default)]
struct Fields {
    fields: Dictionary<StoredField>,
    expiring: Option<Tree<StoredField>>,
}

impl Fields {
    /// Puts a field in, over one of the same name. True if there was none.
    fn put(&mut self, field: StoredField) -> bool {
        if let Some(moment) = field.expire_at_ms() {
            let order = ByExpiry { expire_at_ms: moment, name: field.key() };
            self.forget_expiry(field.key());
            self.expiring.get_or_insert_with(Tree::new).insert_by(&order, field.clone());
        } else {
            self.forget_expiry(field.key());
        }
        self.fields.insert(field).is_none()
    }

    /// Sets the value of a field that never expires, in place if nobody shares it. True if it is new.
    fn set_forever(&mut self, name: &[u8], value: &[u8]) -> bool {
        self.forget_expiry(name);
        let (field, new) = self.fields.find_or_insert_with(name, || StoredField::new(name, value, None));
        if !new {
            let len = field.0.len();
            field.0.splice(name.len()..len, &[value], 0);
        }
        new
    }

    fn remove(&mut self, name: &[u8]) -> bool {
        self.forget_expiry(name);
        self.fields.remove(name).is_some()
    }

    /// Takes a field out of the tree, if it is there.
    fn forget_expiry(&mut self, name: &[u8]) {
        let Some(expiring) = &mut self.expiring else { return };
        let Some(moment) = self.fields.get(name).and_then(StoredField::expire_at_ms) else { return };
        let place = expiring.weight_before(&ByExpiry { expire_at_ms: moment, name });
        expiring.remove_at(place);
        if expiring.weight() == 0 {
            self.expiring = None;
        }
    }
}

/// Elements for each field of a block.
fn stride(block: &Packed) -> usize {
    if block.flag() { 3 } else { 2 }
}

fn expiry_element(expire_at_ms: Option<i64>) -> Encoded<'static> {
    Encoded::new(expire_at_ms.map_or(Element::Bytes(b""), Element::Integer))
}

/// The field whose elements come next.
fn next_field<'a>(elements: &mut Elements<'a>, stride: usize) -> Option<Field<'a>> {
    let (name, value) = (elements.next()?, elements.next()?);
    let expire_at_ms = match stride {
        3 => elements.next()?.as_integer(),
        _ => None,
    };
    Some(Field { name, value, expire_at_ms })
}

/// A map from field to value, both strings, each field with an optional moment at which it expires. The type
/// does not look at the clock: an expired field stays until it is removed. `Clone` is a reference count.
#[derive(Clone, Debug)]
pub struct Hash(Form<Fields>);

/// One field of a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The field's name.
    pub name: Element<'a>,
    /// Its value.
    pub value: Element<'a>,
    /// When it expires, in milliseconds of Unix time; `None`: never.
    pub expire_at_ms: Option<i64>,
}

/// Iterator over the fields of a hash, in no particular order.
pub struct Iter<'a>(FieldsIter<'a>);

enum FieldsIter<'a> {
    Packed(Elements<'a>, usize),
    Dictionary(dictionary::Iter<'a, StoredField>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        match &mut self.0 {
            FieldsIter::Packed(elements, stride) => next_field(elements, *stride),
            FieldsIter::Dictionary(fields) => fields.next().map(StoredField::field),
        }
    }
}

impl Hash {
    /// An empty hash.
    pub fn new() -> Self {
        Hash(Form::small(Packed::empty()))
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        match self.0.view() {
            View::Small(block) => block.count() / stride(block),
            View::Large(large) => large.fields.len(),
        }
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// "listpack" or "hashtable".
    pub fn encoding(&self) -> &'static str {
        match self.0.view() {
            View::Small(block) if !block.flag() => "listpack",
            _ => "hashtable",
        }
    }

    /// Changes to the large form.
    fn enlarge(&mut self) {
        let mut large = Fields::default();
        let (mut name, mut value) = (TextBuffer::new(), TextBuffer::new());
        for field in self.iter() {
            large.put(StoredField::new(
                field.name.text(&mut name),
                field.value.text(&mut value),
                field.expire_at_ms,
            ));
        }
        self.0 = Form::large(large);
    }

    /// Sets a field with its expiry. True if it is new.
    fn put(&mut self, name: &[u8], value: &[u8], expire_at_ms: Option<i64>, limits: &Limits) -> bool {
        let longest = name.len().max(value.len());
        if let View::Small(block) = self.0.view()
            && (longest > limits.hash_max_listpack_value
                || block.count() + 6 > MAX_ELEMENTS / 3 * 2
                || block.len() + name.len() + value.len() > MAX_BYTES)
        {
            self.enlarge();
        }
        match self.0.view_mut() {
            ViewMut::Large(large) => match expire_at_ms {
                None => large.set_forever(name, value),
                Some(_) => large.put(StoredField::new(name, value, expire_at_ms)),
            },
            ViewMut::Small(block) => {
                let new = put_packed(block, name, value, expire_at_ms);
                if block.count() / stride(block) > limits.hash_max_listpack_entries {
                    self.enlarge();
                }
                new
            }
        }
    }

    /// Changes to the large form ahead of time if one of these names or values is too long for the small
    /// one, or if so many fields would not fit it. Names and values alternate.
    pub fn prepare<V: AsRef<[u8]>>(&mut self, fields_and_values: &[V], limits: &Limits) {
        let View::Small(block) = self.0.view() else { return };
        let fields = fields_and_values.len() / 2;
        let bytes: usize = fields_and_values.iter().map(|text| text.as_ref().len()).sum();
        let too_long = |text: &V| text.as_ref().len() > limits.hash_max_listpack_value;
        if fields > limits.hash_max_listpack_entries
            || fields_and_values.iter().any(too_long)
            || block.len() + bytes > MAX_BYTES
        {
            self.enlarge();
        }
    }

    /// The value of a field.
    pub fn get(&self, field: &[u8]) -> Option<Element<'_>> {
        self.get_field(field).map(|field| field.value)
    }

    /// A field with its value and expiry.
    pub fn get_field(&self, field: &[u8]) -> Option<Field<'_>> {
        match self.0.view() {
            View::Small(block) => {
                let (_, offset) = block.find(field, stride(block))?;
                next_field(&mut block.elements_from(offset), stride(block))
            }
            View::Large(large) => large.fields.get(field).map(StoredField::field),
        }
    }

    /// Whether there is such a field.
    pub fn contains(&self, field: &[u8]) -> bool {
        self.get_field(field).is_some()
    }

    /// Sets a field, which then never expires. True if it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        self.put(field, value, None, limits)
    }

    /// Sets a field and keeps its expiry. True if it is new.
    pub fn set_keeping_expiry(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        self.put(field, value, self.expire_at_ms(field), limits)
    }

    /// Sets or clears the expiry of a field, in milliseconds of Unix time; false if there is no such field.
    pub fn set_expiry(&mut self, field: &[u8], expire_at_ms: Option<i64>, limits: &Limits) -> bool {
        let Some(found) = self.get_field(field) else { return false };
        if found.expire_at_ms == expire_at_ms {
            return true;
        }
        let value = found.value.to_vec();
        self.put(field, &value, expire_at_ms, limits);
        true
    }

    /// When a field expires, in milliseconds of Unix time; `None` if never or if there is no such field.
    pub fn expire_at_ms(&self, field: &[u8]) -> Option<i64> {
        self.get_field(field).and_then(|field| field.expire_at_ms)
    }

    /// The earliest expiry of any field, in milliseconds of Unix time.
    pub fn next_expiry_ms(&self) -> Option<i64> {
        match self.0.view() {
            View::Small(block) if !block.flag() => None,
            View::Small(_) => self.iter().filter_map(|field| field.expire_at_ms).min(),
            View::Large(large) => large.expiring.as_ref()?.first()?.expire_at_ms(),
        }
    }

    /// Number of fields that have an expiry.
    pub fn expiring_len(&self) -> usize {
        match self.0.view() {
            View::Small(block) if !block.flag() => 0,
            View::Small(_) => self.iter().filter(|field| field.expire_at_ms.is_some()).count(),
            View::Large(large) => large.expiring.as_ref().map_or(0, Tree::weight),
        }
    }

    /// Up to `limit` fields whose expiry is at or before `now_ms`, the earliest first; to be removed by the
    /// caller, who also records what was removed.
    pub fn expired(&self, now_ms: i64, limit: usize) -> Vec<Field<'_>> {
        let is_due = |field: &Field<'_>| field.expire_at_ms.is_some_and(|moment| moment <= now_ms);
        match self.0.view() {
            View::Small(block) if !block.flag() => Vec::new(),
            View::Small(_) => {
                let mut due: Vec<_> = self.iter().filter(is_due).collect();
                due.sort_by_key(|field| field.expire_at_ms);
                due.truncate(limit);
                due
            }
            View::Large(large) => {
                let Some(expiring) = &large.expiring else { return Vec::new() };
                let (mut place, _) = expiring.cursor(0);
                let fields = std::iter::from_fn(|| {
                    let field = place.entry()?.field();
                    place.forward();
                    Some(field)
                });
                fields.take_while(is_due).take(limit).collect()
            }
        }
    }

    /// Removes a field; false if it was not there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        if !self.contains(field) {
            return false;
        }
        match self.0.view_mut() {
            ViewMut::Small(block) => {
                let stride = stride(block);
                let Some((_, offset)) = block.find(field, stride) else { return false };
                let mut elements = block.elements_from(offset);
                next_field(&mut elements, stride);
                let end = elements.offset();
                block.replace(offset, end, stride, &[]);
                true
            }
            ViewMut::Large(large) => large.remove(field),
        }
    }

    /// All fields.
    pub fn iter(&self) -> Iter<'_> {
        Iter(match self.0.view() {
            View::Small(block) => FieldsIter::Packed(block.elements(), stride(block)),
            View::Large(large) => FieldsIter::Dictionary(large.fields.iter()),
        })
    }

    /// A field chosen with equal chances for all.
    pub fn random(&self, random: &mut fastrand::Rng) -> Option<Field<'_>> {
        match self.0.view() {
            View::Small(block) => {
                let index = random.usize(0..self.len().max(1));
                next_field(
                    &mut block.elements_from(block.offset_of((index * stride(block)).min(block.count()))),
                    stride(block),
                )
            }
            View::Large(large) => large.fields.random(random).map(StoredField::field),
        }
    }

    /// Visits the fields of one step of a scan and returns the cursor for the next, 0 at the end. Every field
    /// that stays in the hash from the first step to the last is visited at least once.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(Field<'_>)) -> u64 {
        match self.0.view() {
            View::Small(_) => {
                self.iter().for_each(&mut visit);
                0
            }
            View::Large(large) => {
                large.fields.scan(cursor, count, &mut |field: &StoredField| visit(field.field()))
            }
        }
    }

    /// Bytes of memory that the hash owns, shared parts included; estimated from at most `samples` fields
    /// (0: all).
    pub fn memory_bytes(&self, samples: usize) -> usize {
        match self.0.view() {
            View::Small(block) => block.memory_bytes(),
            View::Large(Fields { fields, expiring }) => {
                let taken = if samples == 0 { fields.len() } else { samples.min(fields.len()) };
                let sum: usize = fields.iter().take(taken).map(|field| field.0.memory_bytes()).sum();
                fields.memory_usage()
                    + sum * fields.len() / taken.max(1)
                    + expiring.as_ref().map_or(0, Tree::memory_bytes)
            }
        }
    }
}

impl Default for Hash {
    fn default() -> Self {
        Hash::new()
    }
}

/// Puts a field into a block, over one of the same name. True if there was none.
fn put_packed(block: &mut Packed, name: &[u8], value: &[u8], expire_at_ms: Option<i64>) -> bool {
    if expire_at_ms.is_some() && !block.flag() {
        add_expiries(block);
    }
    let stride = stride(block);
    let found = block.find(name, stride);
    let rest = [Encoded::text(value), expiry_element(expire_at_ms)];
    if let Some((_, offset)) = found {
        let (_, start) = block.element_at(offset);
        let mut elements = block.elements_from(start);
        elements.by_ref().take(stride - 1).for_each(drop);
        let end = elements.offset();
        block.replace(start, end, stride - 1, &rest[..stride - 1]);
        return false;
    }
    let [value, expiry] = rest;
    let all = [Encoded::text(name), value, expiry];
    block.replace(block.len(), block.len(), 0, &all[..stride]);
    true
}

/// Gives every field of a block room for an expiry.
fn add_expiries(block: &mut Packed) {
    let mut wider = Packed::empty();
    wider.set_flag();
    let mut elements = block.elements();
    while let Some(field) = next_field(&mut elements, 2) {
        let all = [Encoded::new(field.name), Encoded::new(field.value), expiry_element(None)];
        wider.replace(wider.len(), wider.len(), 0, &all);
    }
    *block = wider;
}

#[cfg(test)]
#[path = "hash_tests.rs"]
mod tests;
