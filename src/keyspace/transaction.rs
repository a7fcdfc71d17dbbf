//! The write transaction: the only way to change the dataset. It records the effects, keeps the journal, raises
//! watch flags, notes events and woken waiters; what of it becomes visible is decided by its owner when the unit ends.
//!
//! Invariants: every change to an entry goes through `change_entry`, `insert` or `remove`, which keep the journal;
//! a command states what replicas are told at most by [`WriteTxn::state_effect`]: if it states nothing and
//! changed something, it is recorded as it was called.

use std::collections::HashSet;

use super::entry::Collection;
use super::reader::{hash_of, list_of, set_of, sorted_set_of, stream_of};
use super::watch::{Presence, Replaced};
use super::{
    Effects, Entry, Event, EventClasses, Garbage, Journal, KeyExpiry, Keyspace, Message, Reader, Settings,
    StringValue, WaitedKeys, Watchers,
};
use crate::protocol::{CommandResult, ErrorReply, Protocol};
use crate::types::{Hash, Kind, Limits, List, Set, SortedSet, Stream, dictionary};

/// What stands beside the dataset and changes with it, under the same guard.
#[derive(Debug, Default)]
pub struct WriteState {
    pub effects: Effects,
    pub watchers: Watchers,
    pub waited: WaitedKeys,
    /// What was deleted and takes long to drop; for a background thread to take.
    pub garbage: Garbage,
    events: Vec<Event>,
    messages: Vec<Message>,
    /// Keys changed in this unit, while anybody watches or tracks.
    touched: Vec<(usize, Box<[u8]>)>,
    /// Keys that did not change, but whose waiting clients are to look again.
    woken: Vec<(usize, Box<[u8]>)>,
    /// Watched keys whose databases the running unit has emptied or swapped.
    replaced: Vec<Replaced>,
    /// Databases that the running unit has swapped.
    swapped: Vec<usize>,
    journal: Journal,
    /// The counters as they were when the journal began.
    before: Counts,
    /// Changes ever made; the difference to the last save is `rdb_changes_since_last_save`.
    pub changes: u64,
    pub expired_keys: u64,
    pub expired_fields: u64,
    /// Keys that clients of a writable replica let expire: no primary will delete them.
    own_expiring: HashSet<(usize, Box<[u8]>)>,
    /// Are changed keys wanted by client-side caching?
    pub tracking: bool,
    /// Has the running unit emptied all databases? Whoever publishes the unit takes this.
    pub flushed_all: bool,
}

/// Counters of [`WriteState`] that a rollback takes back.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    changes: u64,
    expired_keys: u64,
    expired_fields: u64,
}

/// A change of one unit: a command, a transaction or a script.
#[derive(Debug)]
pub struct WriteTxn<'k> {
    keyspace: &'k mut Keyspace,
    state: &'k mut WriteState,
    /// The index of the selected database.
    pub database: usize,
    pub now_ms: u64,
    pub protocol: Protocol,
    pub expiry: KeyExpiry,
    pub touch: bool,
}

/// What the owner of a unit publishes when it has ended.
#[derive(Debug, Default)]
pub struct Aftermath {
    pub events: Vec<Event>,
    pub messages: Vec<Message>,
    /// Keys that changed, in order; only filled while [`WriteState::tracking`] is on.
    pub touched: Vec<(usize, Box<[u8]>)>,
}

/// How many fields of one hash are deleted in one go.
const FIELDS_AT_ONCE: usize = 1024;

impl WriteState {
    /// Begins a unit that [`rollback`](Self::rollback) can undo.
    pub fn begin_journal(&mut self) {
        self.journal.begin();
        self.before = Counts {
            changes: self.changes,
            expired_keys: self.expired_keys,
            expired_fields: self.expired_fields,
        };
    }

    /// Ends the unit if nobody is to hear of it; `false`: it has not ended.
    pub fn finish_unheard(&mut self) -> bool {
        let unheard = self.effects.is_empty()
            && self.touched.is_empty()
            && self.woken.is_empty()
            && !self.flushed_all
            && self.replaced.is_empty()
            && self.swapped.is_empty()
            && self.events.is_empty()
            && self.messages.is_empty()
            && self.garbage.is_empty();
        if unheard {
            self.journal.end();
            self.effects.set_muted(false);
        }
        unheard
    }

    /// Ends a unit: raises watch flags and hands out what is to be published. Effects stay for the stream to take.
    pub fn finish(&mut self, keyspace: &Keyspace) -> Aftermath {
        self.journal.end();
        self.effects.set_muted(false);
        for (database, key) in &self.touched {
            let exists = keyspace.database(*database).get(key).is_some();
            self.watchers.changed(*database, key, exists);
            self.waited.changed(*database, key);
        }
        for (database, key) in self.woken.drain(..) {
            self.waited.changed(database, &key);
        }
        for replaced in self.replaced.drain(..) {
            self.watchers.replaced(&replaced);
        }
        for database in self.swapped.drain(..) {
            self.waited.all_changed(database);
        }
        let touched = std::mem::take(&mut self.touched);
        Aftermath {
            events: std::mem::take(&mut self.events),
            messages: std::mem::take(&mut self.messages),
            touched: if self.tracking { touched } else { Vec::new() },
        }
    }

    /// Another dataset has taken the place of the old one: all that is watched or waited for may have changed.
    pub fn touch_all(&mut self, keyspace: &Keyspace) {
        for index in 0..keyspace.database_count() {
            self.waited.all_changed(index);
        }
        self.watchers.all_changed();
    }

    /// Undoes a unit that began with [`begin_journal`](Self::begin_journal), as if it had never run. `false`: there is none.
    pub fn rollback(&mut self, keyspace: &mut Keyspace) -> bool {
        if !self.journal.undo(&mut keyspace.databases) {
            return false;
        }
        let Counts { changes, expired_keys, expired_fields } = self.before;
        (self.changes, self.expired_keys, self.expired_fields) = (changes, expired_keys, expired_fields);
        self.flushed_all = false;
        self.effects.clear();
        self.events.clear();
        self.messages.clear();
        self.swapped.clear();
        self.touched.clear();
        self.woken.clear();
        self.replaced.clear();
        true
    }
}

impl<'k> WriteTxn<'k> {
    pub fn new(keyspace: &'k mut Keyspace, state: &'k mut WriteState, database: usize, now_ms: u64) -> Self {
        WriteTxn {
            keyspace,
            state,
            database,
            now_ms,
            protocol: Protocol::Resp2,
            expiry: KeyExpiry::Delete,
            touch: true,
        }
    }

    /// Runs a command within the unit and records it as it was called, unless it states its own effect.
    pub fn call<R>(
        &mut self,
        args: &[&[u8]],
        command: impl FnOnce(&mut Self) -> Result<R, ErrorReply>,
    ) -> Result<R, ErrorReply> {
        let changes = self.state.changes;
        let database = self.database;
        self.state.effects.stated = false;
        let result = command(self);
        if self.state.changes != changes && !self.state.effects.stated {
            self.state.effects.record(database, args);
        }
        self.state.effects.stated = false;
        result
    }

    /// A reader of the same moment.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            keyspace: self.keyspace,
            database: self.database,
            now_ms: self.now_ms,
            protocol: self.protocol,
            expiry: self.expiry,
            touch: self.touch,
            counters: None,
        }
    }

    /// Runs a read command within the unit.
    pub fn read(&self, read: impl FnOnce(&Reader<'_>) -> CommandResult<'static>) -> CommandResult<'static> {
        read(&self.reader())
    }

    pub fn keyspace(&self) -> &Keyspace {
        self.keyspace
    }

    pub fn settings(&self) -> &Settings {
        self.keyspace.settings()
    }

    pub fn limits(&self) -> Limits {
        self.keyspace.settings().limits
    }

    // ---- What replicas and the AOF are told ----

    /// States an effect of the running command; it is then no longer recorded as it was called.
    pub fn state_effect(&mut self, args: &[&[u8]]) {
        self.state.effects.stated = true;
        self.state.effects.record(self.database, args);
    }

    /// States that the running command has no effect of its own, though it changed something.
    pub fn state_no_effect(&mut self) {
        self.state.effects.stated = true;
    }

    /// Counts `count` changes. A command that counts none is not recorded.
    pub fn count_changes(&mut self, count: u64) {
        self.state.changes += count;
    }

    /// Notes an event of `key`, if anybody can want its class.
    pub fn notify(&mut self, class: EventClasses, name: &'static str, key: &[u8]) {
        if self.settings().events.has_any(class) {
            self.state.events.push(Event { database: self.database, class, name, key: key.to_vec() });
        }
    }

    /// Publishes a message when the unit ends, in its place among the events.
    pub fn publish(&mut self, channel: &[u8], payload: &[u8], to_shard: bool) {
        let after_events = self.state.events.len();
        let (channel, payload) = (channel.to_vec(), payload.to_vec());
        self.state.messages.push(Message { channel, payload, to_shard, after_events });
    }

    /// The usual end of a change: the key was touched, an event is noted, `count` changes are counted.
    pub fn changed(&mut self, class: EventClasses, name: &'static str, key: &[u8], count: u64) {
        self.touched(key);
        self.notify(class, name, key);
        self.count_changes(count);
    }

    /// Says that the value of `key` is another one now: watchers, waiting and tracking clients are told when the unit ends.
    pub fn touched(&mut self, key: &[u8]) {
        let state = &mut *self.state;
        if state.tracking || state.watchers.key_count() > 0 || !state.waited.is_empty() {
            state.touched.push((self.database, key.into()));
        }
    }

    /// Lets the clients that wait for `key` look at it again when the unit ends, though its value counts as the same: who
    /// watches it is not told.
    pub fn wake(&mut self, key: &[u8]) {
        if !self.state.waited.is_empty() {
            self.state.woken.push((self.database, key.into()));
        }
    }

    // ---- Looking ----

    /// The live entry of `key`. If its time has passed it is deleted first, which is an effect of its own.
    pub fn lookup(&mut self, key: &[u8]) -> Option<&Entry> {
        let hash = dictionary::hash(key);
        if self.has_expired(hash, key) {
            return None;
        }
        let entry = self.keyspace.databases[self.database].entries.get_hashed(hash, key)?;
        if self.touch {
            self.keyspace.settings.access.touch(entry, self.now_ms);
        }
        Some(entry)
    }

    fn is_there(&self, hash: u64, key: &[u8]) -> bool {
        self.keyspace.databases[self.database].entries.get_hashed(hash, key).is_some()
    }

    /// Has the time of `key` passed, so that it counts as missing? It is deleted then, unless it is only to be hidden.
    fn has_expired(&mut self, hash: u64, key: &[u8]) -> bool {
        let database = &self.keyspace.databases[self.database];
        if self.expiry == KeyExpiry::Ignore || database.expiring() == 0 {
            return false;
        }
        let at_ms = database.entries.get_hashed(hash, key).and_then(Entry::expire_at_ms);
        let expired = at_ms.is_some_and(|at| at <= self.now_ms);
        if expired && self.expiry == KeyExpiry::Delete {
            self.expire(key);
        }
        expired
    }

    pub fn contains(&mut self, key: &[u8]) -> bool {
        self.lookup(key).is_some()
    }

    pub fn string(&mut self, key: &[u8]) -> Result<Option<StringValue<'_>>, ErrorReply> {
        self.lookup(key).map(StringValue::of).transpose()
    }

    pub fn list(&mut self, key: &[u8]) -> Result<Option<&List>, ErrorReply> {
        self.lookup(key).map(list_of).transpose()
    }

    pub fn set(&mut self, key: &[u8]) -> Result<Option<&Set>, ErrorReply> {
        self.lookup(key).map(set_of).transpose()
    }

    pub fn sorted_set(&mut self, key: &[u8]) -> Result<Option<&SortedSet>, ErrorReply> {
        self.lookup(key).map(sorted_set_of).transpose()
    }

    pub fn hash(&mut self, key: &[u8]) -> Result<Option<&Hash>, ErrorReply> {
        self.lookup(key).map(hash_of).transpose()
    }

    pub fn stream(&mut self, key: &[u8]) -> Result<Option<&Stream>, ErrorReply> {
        self.lookup(key).map(stream_of).transpose()
    }

    // ---- Changing values in place ----

    /// The live entry of `key`, to be changed. Its old version is kept while a journal is on.
    pub fn change_entry(&mut self, key: &[u8]) -> Option<&mut Entry> {
        self.change_entry_hashed(dictionary::hash(key), key)
    }

    fn change_entry_hashed(&mut self, hash: u64, key: &[u8]) -> Option<&mut Entry> {
        if self.has_expired(hash, key) {
            return None;
        }
        self.keep_if_there(hash, key);
        let entry = self.keyspace.databases[self.database].entries.get_mut_hashed(hash, key)?;
        if self.touch {
            self.keyspace.settings.access.touch(entry, self.now_ms);
        }
        Some(entry)
    }

    pub fn change_list(&mut self, key: &[u8]) -> Result<Option<&mut List>, ErrorReply> {
        self.change_entry(key).map(|entry| entry.list_mut().ok_or(ErrorReply::WRONG_TYPE)).transpose()
    }

    pub fn change_set(&mut self, key: &[u8]) -> Result<Option<&mut Set>, ErrorReply> {
        self.change_entry(key).map(|entry| entry.set_mut().ok_or(ErrorReply::WRONG_TYPE)).transpose()
    }

    pub fn change_sorted_set(&mut self, key: &[u8]) -> Result<Option<&mut SortedSet>, ErrorReply> {
        self.change_entry(key).map(|entry| entry.sorted_set_mut().ok_or(ErrorReply::WRONG_TYPE)).transpose()
    }

    pub fn change_hash(&mut self, key: &[u8]) -> Result<Option<&mut Hash>, ErrorReply> {
        self.change_entry(key).map(|entry| entry.hash_mut().ok_or(ErrorReply::WRONG_TYPE)).transpose()
    }

    pub fn change_stream(&mut self, key: &[u8]) -> Result<Option<&mut Stream>, ErrorReply> {
        self.change_entry(key).map(|entry| entry.stream_mut().ok_or(ErrorReply::WRONG_TYPE)).transpose()
    }

    /// Deletes `key` if its collection has no elements left; the "del" event is noted. `true` if so.
    pub fn remove_if_empty(&mut self, key: &[u8]) -> bool {
        let empty = match self.keyspace.databases[self.database].get(key) {
            Some(entry) => entry.is_empty_collection(),
            None => false,
        };
        if empty {
            let old = self.remove(key);
            self.discard_if_any(old);
            self.notify(EventClasses::GENERIC, "del", key);
        }
        empty
    }

    // ---- Whole entries ----

    /// Puts in an entry, replacing what was under its key. `new` events are noted; touching the key is the caller's. An
    /// old entry whose time has passed counts as missing, and its end is an effect of its own.
    pub fn insert(&mut self, entry: Entry) -> Option<Entry> {
        self.insert_hashed(dictionary::hash(entry.key()), entry)
    }

    fn insert_hashed(&mut self, hash: u64, entry: Entry) -> Option<Entry> {
        self.keep(hash, entry.key());
        entry.set_access_clock(self.keyspace.settings.access.fresh(self.now_ms));
        let want_new = self.settings().events.has_any(EventClasses::NEW);
        let key = want_new.then(|| entry.key().to_vec());
        if entry.expire_at_ms().is_some() {
            self.note_own_expiry(entry.key());
        }
        let mut old = self.keyspace.databases[self.database].insert_hashed(hash, entry);
        let expired = |old: &mut Entry| old.expire_at_ms().is_some_and(|at| at <= self.now_ms);
        if self.expiry != KeyExpiry::Ignore
            && let Some(expired) = old.take_if(expired)
        {
            if self.expiry == KeyExpiry::Delete {
                self.tell_expired(expired.key());
            }
            self.discard(expired);
        }
        if let (Some(key), None) = (key, &old) {
            self.notify(EventClasses::NEW, "new", &key);
        }
        old
    }

    /// Sets `key` to a string, whatever it held. `expire_at_ms` is the new expiry (`None`: none).
    pub fn insert_string(&mut self, key: &[u8], value: &[u8], expire_at_ms: Option<u64>) {
        let hash = dictionary::hash(key);
        if expire_at_ms.is_some() || !self.overwrite(hash, key, value) {
            let old = self.insert_hashed(hash, Entry::string(key, value, expire_at_ms));
            self.discard_if_any(old);
        }
    }

    /// Writes a string over another one that does not expire: where it has its length, as most have, in its place.
    fn overwrite(&mut self, hash: u64, key: &[u8], value: &[u8]) -> bool {
        self.keep(hash, key);
        let entry = self.keyspace.databases[self.database].entries.get_mut_hashed(hash, key);
        let Some(entry) =
            entry.filter(|entry| entry.kind() == Kind::String && entry.expire_at_ms().is_none())
        else {
            return false;
        };
        entry.set_string(value);
        self.keyspace.settings.access.touch(entry, self.now_ms);
        true
    }

    /// Takes `key` out, without looking whether its time has passed. What comes out goes to [`discard`](Self::discard) if it
    /// is not wanted: dropping it here would hold up everybody if it is large.
    pub fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let hash = dictionary::hash(key);
        self.keep_if_there(hash, key);
        self.keyspace.databases[self.database].remove_hashed(hash, key)
    }

    /// Deletes a live key: touched, and the "del" event noted. Counting the change is the caller's.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        if !self.contains(key) {
            return false;
        }
        let old = self.remove(key);
        self.discard_if_any(old);
        self.touched(key);
        self.notify(EventClasses::GENERIC, "del", key);
        true
    }

    /// Changes or takes away the expiry of a live key. `false`: there is no such key.
    pub fn set_expiry(&mut self, key: &[u8], expire_at_ms: Option<u64>) -> bool {
        if !self.contains(key) {
            return false;
        }
        self.keep_if_there(dictionary::hash(key), key);
        if expire_at_ms.is_some() {
            self.note_own_expiry(key);
        }
        self.keyspace.databases[self.database].set_expiry(key, expire_at_ms)
    }

    /// Where keys are hidden rather than deleted, those that clients wrote have nobody else to delete them.
    fn note_own_expiry(&mut self, key: &[u8]) {
        match self.expiry {
            KeyExpiry::Hide => drop(self.state.own_expiring.insert((self.database, key.into()))),
            KeyExpiry::Ignore if !self.state.own_expiring.is_empty() => {
                self.state.own_expiring.remove(&(self.database, key.into()));
            }
            _ => {}
        }
    }

    /// Deletes what clients of a writable replica let expire and what is due.
    pub fn expire_own(&mut self) {
        let own = std::mem::take(&mut self.state.own_expiring);
        for (database, key) in own {
            let at_ms = self.keyspace.databases[database].get(&key).and_then(Entry::expire_at_ms);
            match at_ms {
                Some(at_ms) if at_ms <= self.now_ms => self.expire_if_due(database, &key),
                Some(_) => drop(self.state.own_expiring.insert((database, key))),
                None => {}
            }
        }
    }

    /// Whether there may be something for [`expire_own`](Self::expire_own) to do.
    pub fn has_own_expiring(&self) -> bool {
        !self.state.own_expiring.is_empty()
    }

    /// Deletes a key whose time has passed, or is to count as passed, as an effect of its own.
    pub fn expire(&mut self, key: &[u8]) {
        let old = self.remove(key);
        self.discard_if_any(old);
        self.tell_expired(key);
    }

    fn tell_expired(&mut self, key: &[u8]) {
        self.state.expired_keys += 1;
        self.notify(EventClasses::EXPIRED, "expired", key);
        self.touched(key);
        let name: &[u8] = if self.settings().lazy_free.expire { b"UNLINK" } else { b"DEL" };
        self.state.effects.record(self.database, &[name, key]);
        // Not counted as a change: a command that only met an expired key is not recorded for it.
    }

    /// Deletes up to `most` keys of all databases that are due. Returns how many records it looked at and whether that was all.
    pub fn expire_due(&mut self, most: usize) -> usize {
        let mut looked = 0;
        for database in 0..self.keyspace.databases.len() {
            let (due, taken) = self.keyspace.databases[database].take_due(self.now_ms, most - looked);
            looked += taken;
            for key in due {
                // A key whose expiry was moved nearer has several records: by the second one it is gone.
                self.expire_if_due(database, &key);
            }
        }
        looked
    }

    /// Deletes `key` of `database` if its time has passed.
    pub fn expire_if_due(&mut self, database: usize, key: &[u8]) {
        self.database = database;
        let now_ms = self.now_ms;
        let due = |entry: &Entry| entry.expire_at_ms().is_some_and(|at| at <= now_ms);
        if self.expiry == KeyExpiry::Delete && self.keyspace.databases[database].get(key).is_some_and(due) {
            self.expire(key);
        }
    }

    /// A field of the hash `key` expires at `at_ms`.
    pub fn field_expires(&mut self, key: &[u8], at_ms: u64) {
        self.keyspace.databases[self.database].note_field_expiry(key, at_ms);
    }

    /// Deletes fields that have expired, of up to `most` hashes of all databases. Returns how many records it looked at.
    pub fn expire_fields_due(&mut self, most: usize) -> usize {
        let mut looked = 0;
        for database in 0..self.keyspace.databases.len() {
            self.database = database;
            let (due, taken) = self.keyspace.databases[database].take_due_fields(self.now_ms, most - looked);
            looked += taken;
            for key in due {
                self.expire_fields(&key);
            }
        }
        looked
    }

    fn expire_fields(&mut self, key: &[u8]) {
        let now_ms = i64::try_from(self.now_ms).unwrap_or(i64::MAX);
        let Ok(Some(hash)) = self.change_hash(key) else { return };
        let fields: Vec<Vec<u8>> =
            hash.expired(now_ms, FIELDS_AT_ONCE).iter().map(|field| field.name.to_vec()).collect();
        for field in &fields {
            hash.remove(field);
        }
        let next = hash.next_expiry_ms();
        if !fields.is_empty() {
            self.state.expired_fields += fields.len() as u64;
            let mut effect: Vec<&[u8]> = vec![b"HDEL", key];
            effect.extend(fields.iter().map(Vec::as_slice));
            self.state.effects.record(self.database, &effect);
            self.changed(EventClasses::HASH, "hexpired", key, fields.len() as u64);
        }
        if !self.remove_if_empty(key)
            && let Some(at_ms) = next
        {
            self.field_expires(key, at_ms.max(0) as u64);
        }
    }

    // ---- Whole databases ----

    /// Empties a database (`None`: all) and returns how many keys went.
    pub fn flush(&mut self, database: Option<usize>) -> usize {
        self.keep_all();
        self.state.flushed_all |= database.is_none();
        let range = database.map_or(0..self.keyspace.databases.len(), |index| index..index + 1);
        let mut removed = 0;
        for index in range {
            let databases = &self.keyspace.databases;
            let (now_ms, tracking) = (self.now_ms, self.state.tracking);
            let entries = &databases[index];
            for key in self.state.watchers.keys_of(index) {
                let (before, after) = (entries.presence(&key, now_ms), Presence::Missing);
                self.state.replaced.push(Replaced { database: index, key, before, after });
            }
            if tracking || !self.state.waited.is_empty() {
                let keys = entries.entries().iter().map(|entry| (index, Box::from(entry.key())));
                self.state.touched.extend(keys);
            }
            removed += entries.len();
            self.state.garbage.add_database(std::mem::take(&mut self.keyspace.databases[index]));
        }
        removed
    }

    /// Swaps two databases.
    pub fn swap_databases(&mut self, one: usize, other: usize) {
        if one == other {
            return;
        }
        self.keep_all();
        self.keyspace.databases.swap(one, other);
        for (index, before) in [(one, other), (other, one)] {
            let (now, was) = (&self.keyspace.databases[index], &self.keyspace.databases[before]);
            for key in self.state.watchers.keys_of(index) {
                let (before, after) = (was.presence(&key, self.now_ms), now.presence(&key, self.now_ms));
                self.state.replaced.push(Replaced { database: index, key, before, after });
            }
            self.state.swapped.push(index);
        }
    }

    // ---- Giving memory back ----

    /// Drops an entry that was taken out: here if it is small, else on the thread that the server has for it.
    pub fn discard(&mut self, entry: Entry) {
        self.state.garbage.add(entry);
    }

    /// As [`discard`](Self::discard), of what [`insert`](Self::insert) and [`remove`](Self::remove) return.
    pub fn discard_if_any(&mut self, entry: Option<Entry>) {
        if let Some(entry) = entry {
            self.discard(entry);
        }
    }

    /// Keeps how `key` is, or that it is missing, while a journal is on.
    #[inline]
    fn keep(&mut self, hash: u64, key: &[u8]) {
        let journal = &mut self.state.journal;
        if journal.wants(self.database, hash, key) {
            let old = self.keyspace.databases[self.database].entries.get_hashed(hash, key);
            journal.keep(self.database, hash, key, old);
        }
    }

    /// As [`keep`](Self::keep), before what changes nothing if the key is missing.
    #[inline]
    fn keep_if_there(&mut self, hash: u64, key: &[u8]) {
        let journal = &mut self.state.journal;
        if journal.wants(self.database, hash, key)
            && let Some(old) = self.keyspace.databases[self.database].entries.get_hashed(hash, key)
        {
            journal.keep(self.database, hash, key, Some(old));
        }
    }

    fn keep_all(&mut self) {
        self.state.journal.keep_all(&self.keyspace.databases);
    }
}

/// Access to a collection that is made when it is missing.
macro_rules! or_new {
    ($name:ident, $of_entry:ident, $variant:ident) => {
        impl WriteTxn<'_> {
            /// The value of `key` to be changed, made by `new` if there is none.
            pub fn $name(
                &mut self,
                key: &[u8],
                new: impl FnOnce() -> $variant,
            ) -> Result<&mut $variant, ErrorReply> {
                let hash = dictionary::hash(key);
                if self.has_expired(hash, key) || !self.is_there(hash, key) {
                    self.insert_hashed(hash, Entry::collection(key, Collection::$variant(new()), None));
                }
                // Found or just put in, so it is there.
                let entry = self.change_entry_hashed(hash, key).ok_or(ErrorReply::NO_SUCH_KEY)?;
                entry.$of_entry().ok_or(ErrorReply::WRONG_TYPE)
            }
        }
    };
}

or_new!(list_or_new, list_mut, List);
or_new!(set_or_new, set_mut, Set);
or_new!(sorted_set_or_new, sorted_set_mut, SortedSet);
or_new!(hash_or_new, hash_mut, Hash);
or_new!(stream_or_new, stream_mut, Stream);
