//! What INFO replication and ROLE say.
//!
//! Knows the text only; every number comes from the state.

use super::roles::Replication;
use super::{LinkState, StreamView};
use crate::protocol::Reply;
use std::fmt::Write;

/// What INFO shows and nothing here acts on, directives mostly.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    /// `replica-priority`.
    pub priority: i64,
    /// `replica-read-only`.
    pub read_only: bool,
    /// `replica-announced`.
    pub announced: bool,
    /// `repl-backlog-size`.
    pub backlog_size: u64,
    /// Bytes of the primary's stream that have come and are not applied.
    pub unapplied_bytes: u64,
}

/// The section `# Replication`, without its title.
pub fn info(replication: &Replication, stream: &StreamView, shown: &Shown, now_ms: u64) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_info(&mut text, replication, stream, shown, now_ms);
    text
}

fn write_info(
    out: &mut String,
    replication: &Replication,
    stream: &StreamView,
    shown: &Shown,
    now_ms: u64,
) -> std::fmt::Result {
    write!(out, "role:{}\r\n", if replication.is_replica() { "slave" } else { "master" })?;
    write_link(out, replication, stream, shown, now_ms)?;
    let primary = replication.primary();
    write!(out, "connected_slaves:{}\r\n", primary.replicas().len())?;
    if primary.counts_good_replicas() {
        write!(out, "min_slaves_good_slaves:{}\r\n", primary.good_replicas(now_ms))?;
    }
    for (index, replica) in primary.replicas().iter().enumerate() {
        write!(
            out,
            "slave{index}:ip={},port={},state={},offset={},lag={},type={}\r\n",
            replica.host(),
            replica.announced.listening_port,
            replica.state.name(),
            replica.acknowledged,
            replica.lag_seconds(now_ms),
            replica.kind()
        )?;
    }
    let history = replication.history();
    write!(
        out,
        "replicas_waiting_psync:{}\r\nmaster_failover_state:{}\r\nmaster_replid:{}\r\nmaster_replid2:{}\r\n\
         master_repl_offset:{}\r\nsecond_repl_offset:{}\r\nrepl_backlog_active:{}\r\nrepl_backlog_size:{}\r\n\
         repl_backlog_first_byte_offset:{}\r\nrepl_backlog_histlen:{}\r\n",
        primary.waiting_for_psync(),
        replication.failover_phase().name(),
        history.id(),
        history.previous_id_text(),
        stream.end,
        history.second_offset(),
        u8::from(stream.kept_from.is_some()),
        shown.backlog_size,
        stream.kept_from.map_or(0, |kept_from| u128::from(kept_from) + 1),
        stream.kept_from.map_or(0, |kept_from| stream.end.saturating_sub(kept_from)),
    )
}

fn write_link(
    out: &mut String,
    replication: &Replication,
    stream: &StreamView,
    shown: &Shown,
    now_ms: u64,
) -> std::fmt::Result {
    let Some(link) = replication.link() else { return Ok(()) };
    let seconds_since = |at_ms: u64| now_ms.saturating_sub(at_ms) / 1000;
    let connected = link.is_connected();
    write!(
        out,
        "master_host:{}\r\nmaster_port:{}\r\nmaster_link_status:{}\r\n",
        link.address().host,
        link.address().port,
        if connected { "up" } else { "down" }
    )?;
    match connected {
        true => write!(out, "master_last_io_seconds_ago:{}\r\n", seconds_since(link.last_io_ms()))?,
        false => write!(out, "master_last_io_seconds_ago:-1\r\n")?,
    }
    let syncing = link.state() == LinkState::Sync;
    let (early, peak) = link.early_bytes();
    write!(
        out,
        "master_sync_in_progress:{}\r\nslave_read_repl_offset:{}\r\nslave_repl_offset:{end}\r\n\
         replicas_repl_buffer_size:{early}\r\nreplicas_repl_buffer_peak:{peak}\r\n",
        u8::from(syncing),
        stream.end.saturating_add(shown.unapplied_bytes),
        end = stream.end
    )?;
    if syncing {
        let (total, read) = link.transfer_progress();
        let percent = if total == 0 { 0.0 } else { read as f64 / total as f64 * 100.0 };
        write!(
            out,
            "master_sync_total_bytes:{total}\r\nmaster_sync_read_bytes:{read}\r\nmaster_sync_left_bytes:{}\r\n\
             master_sync_perc:{percent:.2}\r\nmaster_sync_last_io_seconds_ago:{}\r\n",
            i128::from(total) - i128::from(read),
            seconds_since(link.last_io_ms())
        )?;
    }
    if !connected {
        let down = link.down_since_ms().map_or(-1, |at_ms| i128::from(seconds_since(at_ms)));
        write!(out, "master_link_down_since_seconds:{down}\r\n")?;
    }
    write!(
        out,
        "slave_priority:{}\r\nslave_read_only:{}\r\nreplica_announced:{}\r\n",
        shown.priority,
        u8::from(shown.read_only),
        u8::from(shown.announced)
    )
}

/// The reply to ROLE.
pub fn role(replication: &Replication, stream: &StreamView) -> Reply<'static> {
    let offset = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let Some(link) = replication.link() else {
        let replicas = replication.primary().replicas().iter().filter(|replica| replica.state.is_online());
        let replicas = replicas.map(|replica| {
            Reply::Array(vec![
                Reply::text(replica.host()),
                Reply::BulkInteger(replica.announced.listening_port),
                Reply::BulkInteger(offset(replica.acknowledged)),
            ])
        });
        return Reply::Array(vec![
            Reply::text("master"),
            Reply::Integer(offset(stream.end)),
            Reply::Array(replicas.collect()),
        ]);
    };
    Reply::Array(vec![
        Reply::text("slave"),
        Reply::text(link.address().host.clone()),
        Reply::Integer(link.address().port.into()),
        Reply::text(link.state().name()),
        Reply::Integer(if link.is_connected() { offset(stream.end) } else { -1 }),
    ])
}
