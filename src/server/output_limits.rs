//! `client-output-buffer-limit`: clients that do not read what they are sent are closed before it fills the memory.
//! Replicas have limits of their own, which the replication knows.
//!
//! Invariant: a client over its hard limit is closed at the end of the batch, or of the push, that led to it.

use std::sync::atomic::Ordering::Relaxed;

use super::Server;
use super::client::{Client, Close, Traits};

impl Server {
    /// Closes the client if more is waiting for it than its class allows, or has been for too long.
    pub fn check_output(&self, client: &Client, waiting_bytes: usize) {
        if client.is(Traits::REPLICA) || client.is(Traits::PRIMARY) || client.closing() == Close::Now {
            return;
        }
        let limits = self.config().client_output_buffer_limit;
        let limit = if client.is(Traits::PUBSUB) { limits.pubsub } else { limits.normal };
        let waiting_bytes = waiting_bytes as u64;
        let over_soft = limit.soft_bytes > 0 && waiting_bytes > limit.soft_bytes;
        let now_ms = self.now_ms();
        let since_ms = match (over_soft, client.figures.over_soft_limit_since_ms.load(Relaxed)) {
            (false, _) => 0,
            (true, 0) => now_ms,
            (true, since_ms) => since_ms,
        };
        client.figures.over_soft_limit_since_ms.store(since_ms, Relaxed);
        let over_hard = limit.hard_bytes > 0 && waiting_bytes > limit.hard_bytes;
        if over_hard || (over_soft && now_ms.saturating_sub(since_ms) > limit.soft_seconds * 1000) {
            self.stats.output_buffer_disconnections.fetch_add(1, Relaxed);
            let client_info = super::commands::client::describe(self, client);
            tracing::warn!(
                "Client {client_info} scheduled to be closed ASAP for overcoming of output buffer limits."
            );
            client.close(Close::Now);
        }
    }

    /// Looks at all clients: the time of a soft limit passes without anything being sent.
    pub fn check_all_output(&self) {
        for client in self.clients.all() {
            self.check_output(&client, client.figures.output_buffer.load(Relaxed) + client.mail_len());
        }
    }
}
