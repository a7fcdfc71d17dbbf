//! MONITOR: connections that are shown every call. Without any a call pays one load.
//!
//! Invariant: what is shown holds no secrets, and no call of an administrator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;

use super::Server;
use super::client::{Client, Traits};
use super::config::quote;
use super::redaction::redacted;
use super::session::{Origin, Session};
use super::table::Entry;
use crate::command::{Args, Flags};

#[derive(Debug, Default)]
pub struct Monitors {
    any: AtomicBool,
    clients: Mutex<Vec<Arc<Client>>>,
}

impl Monitors {
    pub fn add(&self, client: &Arc<Client>) {
        let mut clients = self.clients.lock();
        if !client.is(Traits::MONITOR) {
            client.set(Traits::MONITOR, true);
            clients.push(client.clone());
        }
        self.any.store(true, Relaxed);
    }

    pub fn remove(&self, client: &Client) {
        if !client.is(Traits::MONITOR) {
            return;
        }
        let mut clients = self.clients.lock();
        client.set(Traits::MONITOR, false);
        clients.retain(|monitor| monitor.number != client.number);
        self.any.store(!clients.is_empty(), Relaxed);
    }

    /// Shows a call, if anybody looks. A script is shown before what it calls, others when they have ended.
    #[inline]
    pub fn show(&self, server: &Server, session: &Session, entry: &Entry, args: &Args<'_>) {
        if self.any.load(Relaxed) && !entry.flags.has_any(Flags::SKIP_MONITOR | Flags::ADMIN) {
            self.show_always(server, session, entry, args);
        }
    }

    /// As [`Monitors::show`], of commands that are not shown by themselves.
    pub fn show_script(&self, server: &Server, session: &Session, entry: &Entry, args: &Args<'_>) {
        if self.any.load(Relaxed) {
            self.show_always(server, session, entry, args);
        }
    }

    #[cold]
    fn show_always(&self, server: &Server, session: &Session, entry: &Entry, args: &Args<'_>) {
        if session.origin.is_unseen() {
            return;
        }
        let now_us = server.now_us();
        let who = match session.origin {
            Origin::Script => "lua".to_owned(),
            _ if session.client.is(Traits::UNIX_SOCKET) => {
                format!(
                    "unix:{}",
                    session.client.address.strip_suffix(":0").unwrap_or(&session.client.address)
                )
            }
            _ => session.client.address.clone(),
        };
        let head = format!("+{}.{:06} [{} {who}]", now_us / 1_000_000, now_us % 1_000_000, session.database);
        let mut line = head.into_bytes();
        for arg in redacted(entry, args) {
            line.push(b' ');
            line.extend(quote(arg));
        }
        line.extend_from_slice(b"\r\n");
        for client in &*self.clients.lock() {
            client.send_bytes(&line);
        }
    }
}
