//! Automatic failover by Debian's Sentinel, as scripts/sentinel plays it.

use std::process::Command;

use crate::common::server::Program;

/// The script checks everything and says what did not hold.
#[test]
fn a_killed_primary_is_replaced_and_comes_back_as_a_replica() {
    if Command::new("redis-sentinel").arg("--version").output().is_err() {
        let message = "NOT TESTED: redis-sentinel is not installed";
        assert!(std::env::var_os("CI").is_none(), "{message}");
        // Not by eprintln, which the test runner keeps to itself.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("\n**** {message} ****\n\n"));
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/sentinel");
    let output = Command::new(script).arg("--binary").arg(Program::ours().path()).output().expect("python3");
    // How the old primary comes back depends on whether it had written what nobody got any more.
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{failed}");
}
