//! Publish and subscribe: who listens to which channel or pattern, and delivery into their mailboxes.
//!
//! Invariant: a client stands here for exactly the channels and patterns that its session lists.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::client::{Client, ClientNumber};
use crate::base::glob::{self, Case};
use crate::keyspace::{Event, EventClasses, Message};
use crate::protocol::Reply;

type Subscribers = HashMap<ClientNumber, Arc<Client>>;

#[derive(Debug, Default)]
struct Registry {
    channels: HashMap<Vec<u8>, Subscribers>,
    shard_channels: HashMap<Vec<u8>, Subscribers>,
    patterns: HashMap<Vec<u8>, Subscribers>,
}

/// What is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Channel,
    ShardChannel,
    Pattern,
}

#[derive(Debug, Default)]
pub struct PubSub {
    registry: RwLock<Registry>,
}

impl Registry {
    fn of(&mut self, subject: Subject) -> &mut HashMap<Vec<u8>, Subscribers> {
        match subject {
            Subject::Channel => &mut self.channels,
            Subject::ShardChannel => &mut self.shard_channels,
            Subject::Pattern => &mut self.patterns,
        }
    }
}

impl PubSub {
    pub fn subscribe(&self, subject: Subject, name: &[u8], client: &Arc<Client>) {
        let mut registry = self.registry.write();
        registry.of(subject).entry(name.to_vec()).or_default().insert(client.number, client.clone());
    }

    pub fn unsubscribe(&self, subject: Subject, name: &[u8], client: ClientNumber) {
        let mut registry = self.registry.write();
        let names = registry.of(subject);
        if let Some(subscribers) = names.get_mut(name) {
            subscribers.remove(&client);
            if subscribers.is_empty() {
                names.remove(name);
            }
        }
    }

    /// Delivers a message and returns how many clients got it.
    pub fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        let registry = self.registry.read();
        let mut receivers = 0;
        if let Some(subscribers) = registry.channels.get(channel) {
            let push = Reply::Push(vec![Reply::Bulk(b"message"), Reply::Bulk(channel), Reply::Bulk(message)]);
            receivers += deliver(subscribers, &push);
        }
        for (pattern, subscribers) in &registry.patterns {
            if glob::matches(pattern, channel, Case::Sensitive) {
                let push = Reply::Push(vec![
                    Reply::Bulk(b"pmessage"),
                    Reply::Bulk(pattern),
                    Reply::Bulk(channel),
                    Reply::Bulk(message),
                ]);
                receivers += deliver(subscribers, &push);
            }
        }
        receivers
    }

    /// Delivers a message to a shard channel and returns how many clients got it.
    pub fn publish_to_shard(&self, channel: &[u8], message: &[u8]) -> usize {
        let registry = self.registry.read();
        let Some(subscribers) = registry.shard_channels.get(channel) else { return 0 };
        let push = Reply::Push(vec![Reply::Bulk(b"smessage"), Reply::Bulk(channel), Reply::Bulk(message)]);
        deliver(subscribers, &push)
    }

    /// How many clients a message on `channel` would reach now.
    pub fn receivers(&self, channel: &[u8], to_shard: bool) -> usize {
        let registry = self.registry.read();
        if to_shard {
            return registry.shard_channels.get(channel).map_or(0, HashMap::len);
        }
        let by_pattern =
            registry.patterns.iter().filter(|(pattern, _)| glob::matches(pattern, channel, Case::Sensitive));
        registry.channels.get(channel).map_or(0, HashMap::len)
            + by_pattern.map(|(_, subscribers)| subscribers.len()).sum::<usize>()
    }

    /// Delivers what a unit has published.
    pub fn publish_message(&self, message: &Message) {
        if message.to_shard {
            self.publish_to_shard(&message.channel, &message.payload);
        } else {
            self.publish(&message.channel, &message.payload);
        }
    }

    /// Publishes a keyspace event on the channels that `classes` asks for.
    pub fn publish_event(&self, event: &Event, classes: EventClasses) {
        if classes.has_any(EventClasses::KEYSPACE) {
            let mut channel = format!("__keyspace@{}__:", event.database).into_bytes();
            channel.extend_from_slice(&event.key);
            self.publish(&channel, event.name.as_bytes());
        }
        if classes.has_any(EventClasses::KEYEVENT) {
            let channel = format!("__keyevent@{}__:{}", event.database, event.name);
            self.publish(channel.as_bytes(), &event.key);
        }
    }

    /// The names with subscribers, of those that match `pattern`.
    pub fn names(&self, subject: Subject, pattern: Option<&[u8]>) -> Vec<Vec<u8>> {
        let mut registry = self.registry.write();
        let names = registry.of(subject).keys();
        names
            .filter(|name| pattern.is_none_or(|pattern| glob::matches(pattern, name, Case::Sensitive)))
            .cloned()
            .collect()
    }

    /// The clients that are subscribed to any of what is `refused`.
    pub fn subscribers_where(&self, refused: impl Fn(Subject, &[u8]) -> bool) -> Vec<Arc<Client>> {
        let mut registry = self.registry.write();
        let mut clients = Subscribers::new();
        for subject in [Subject::Channel, Subject::ShardChannel, Subject::Pattern] {
            for (_, subscribers) in registry.of(subject).iter().filter(|(name, _)| refused(subject, name)) {
                clients.extend(subscribers.iter().map(|(number, client)| (*number, client.clone())));
            }
        }
        clients.into_values().collect()
    }

    pub fn subscriber_count(&self, subject: Subject, name: &[u8]) -> usize {
        self.registry.write().of(subject).get(name).map_or(0, HashMap::len)
    }

    pub fn name_count(&self, subject: Subject) -> usize {
        self.registry.write().of(subject).len()
    }
}

fn deliver(subscribers: &Subscribers, push: &Reply<'_>) -> usize {
    for client in subscribers.values() {
        client.send(push);
    }
    subscribers.len()
}
