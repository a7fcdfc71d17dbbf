//! What the server does by itself, `hz` times a second: deletes what has expired, closes idle clients.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::Server;
use super::client::{Close, Traits};
use super::execute::publish_unit;
use super::latency::event;
use super::rates;
use super::reactor::Reactor;
use crate::keyspace::WriteTxn;

/// Runs for the life of the server, on its first reactor.
pub async fn run(server: Arc<Server>, _reactor: Rc<Reactor>) {
    let mut last_second = Instant::now();
    let mut last_sample = Instant::now();
    loop {
        let hz = server.config().hz.clamp(1, 500);
        tokio::time::sleep(Duration::from_millis(1000 / u64::from(hz))).await;
        server.cron_loops.fetch_add(1, Relaxed);
        if server.cron_is_off.load(Relaxed) {
            continue;
        }
        if last_sample.elapsed() >= rates::INTERVAL {
            last_sample = Instant::now();
            server.rates.sample(&server, last_sample);
        }
        delete_expired(&server, Duration::from_millis(250 / u64::from(hz)));
        close_idle(&server);
        server.write_what_waits();
        if last_second.elapsed() >= Duration::from_secs(1) {
            last_second = Instant::now();
            server.sync_aof();
            server.check_all_output();
            server.migrations.close_idle();
            delete_own_expired(&server);
        }
        if let Some(mut core) = server.core.try_write_for(Duration::from_millis(1)) {
            server.save_if_due(&mut core);
        }
    }
}

/// Records looked at under one hold of the guard.
const EXPIRE_BATCH: usize = 64;

/// Deletes keys that are due, for at most `budget` of every round.
fn delete_expired(server: &Arc<Server>, budget: Duration) {
    if server.expiry_is_off() || server.active_expire_is_off.load(Relaxed) {
        return;
    }
    let began = Instant::now();
    let measured = server.latency.begin();
    loop {
        let Some(mut core) = server.core.try_write_for(Duration::from_millis(1)) else { return };
        let core = &mut *core;
        let mut transaction = WriteTxn::new(&mut core.keyspace, &mut core.writes, 0, server.now_ms());
        let looked = transaction.expire_due(EXPIRE_BATCH).max(transaction.expire_fields_due(EXPIRE_BATCH));
        publish_unit(server, core);
        server.hand_over(core);
        if looked < EXPIRE_BATCH {
            break;
        }
        if began.elapsed() > budget {
            server.stats.expire_time_cap_reached.fetch_add(1, Relaxed);
            break;
        }
    }
    server.latency.end(event::EXPIRE_CYCLE, measured, server.now_ms());
}

/// On a writable replica: what its own clients let expire.
fn delete_own_expired(server: &Arc<Server>) {
    if !server.is_replica() || server.active_expire_is_off.load(Relaxed) {
        return;
    }
    let Some(mut core) = server.core.try_write_for(Duration::from_millis(1)) else { return };
    let core = &mut *core;
    let mut transaction = WriteTxn::new(&mut core.keyspace, &mut core.writes, 0, server.now_ms());
    if transaction.has_own_expiring() {
        transaction.expire_own();
        publish_unit(server, core);
    }
}

fn close_idle(server: &Server) {
    let timeout_ms = u64::from(server.config().timeout_seconds) * 1000;
    if timeout_ms == 0 {
        return;
    }
    let now_ms = server.now_ms();
    let exempt =
        [Traits::BLOCKED, Traits::PUBSUB, Traits::REPLICA, Traits::PRIMARY, Traits::MONITOR, Traits::AWAY];
    for client in server.clients.all() {
        let idle = now_ms.saturating_sub(client.figures.last_interaction_ms.load(Relaxed));
        if idle > timeout_ms && !exempt.iter().any(|exempt| client.is(*exempt)) {
            client.close(Close::Now);
        }
    }
}
