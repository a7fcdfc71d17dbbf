//! What a disk keeps, and how the server ends: on real processes that are killed, stopped and started again.

#[path = "../common/mod.rs"]
mod common;

mod aof;
mod crashes;
mod migrate;
mod saving;
mod shutdown;
#[cfg(target_os = "linux")]
mod slow_disk;

use std::process::Command;

use common::server::Server;

const ALWAYS: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// Sends a signal to the process of a server.
fn signal(server: &Server, name: &str) {
    let pid = server.process_id().to_string();
    let status = Command::new("kill").args([format!("-{name}"), pid]).status().expect("kill runs");
    assert!(status.success());
}
