//! The file that makes a failover last over restarts: which role this server has by a failover, not by its configuration.
//!
//! Without it a primary that handed its place over, or was killed while it did, would come back as a primary beside the new
//! one. The file counts only as long as the configuration asks for what it asked for when the file was written: whoever
//! changes `replicaof` decides, and so does a REPLICAOF, after which there is no file.
//!
//! Invariants: the file is in place before the target of a handover can hear of it. It is on the disk a little later: an
//! end of the process cannot lose it, an end of the machine in that moment can.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Server;
use crate::base::state_codec::{self, Format};
use crate::replication::{Address, ReplicationId, Role};

const FORMAT: Format = Format { magic: *b"UNDSROLE", version: 1 };

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum StoredRole {
    Primary,
    Replica(String, u16),
    HandingOver(String, u16),
}

/// The role of the last run, as far as a failover gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleState {
    /// `replicaof` as it was configured.
    configured: Option<(String, u16)>,
    role: StoredRole,
    /// The history that a handover's target must have.
    replid: Vec<u8>,
}

impl RoleState {
    pub fn new(configured: Option<&Address>, role: &Role, replid: ReplicationId) -> Self {
        let pair = |address: &Address| (address.host.clone(), address.port);
        let role = match role {
            Role::Primary => StoredRole::Primary,
            Role::Replica(address) => StoredRole::Replica(address.host.clone(), address.port),
            Role::HandingOver(address) => StoredRole::HandingOver(address.host.clone(), address.port),
        };
        RoleState { configured: configured.map(pair), role, replid: replid.as_str().as_bytes().to_vec() }
    }

    pub fn role(&self) -> Role {
        match &self.role {
            StoredRole::Primary => Role::Primary,
            StoredRole::Replica(host, port) => Role::Replica(Address::new(host.clone(), *port)),
            StoredRole::HandingOver(host, port) => Role::HandingOver(Address::new(host.clone(), *port)),
        }
    }

    pub fn replid(&self) -> Option<ReplicationId> {
        ReplicationId::parse(&self.replid)
    }

    /// Whether a server configured so has this role: its configuration is as it was, or was rewritten since.
    pub fn counts_for(&self, configured: Option<&Address>) -> bool {
        let now = configured.map(|address| (address.host.clone(), address.port));
        let rewritten = match &self.role {
            StoredRole::Primary => None,
            StoredRole::Replica(host, port) | StoredRole::HandingOver(host, port) => {
                Some((host.clone(), *port))
            }
        };
        now == self.configured || now == rewritten
    }
}

/// Servers that share a folder have other ports.
fn path(port: u16) -> PathBuf {
    PathBuf::from(format!("role-{port}.state"))
}

/// What the last run left. `None`: nothing, or nothing that can be trusted.
pub fn load(port: u16) -> Option<RoleState> {
    let bytes = std::fs::read(path(port)).ok()?;
    match state_codec::decode(FORMAT, &bytes) {
        Ok(state) => Some(state),
        Err(error) => {
            tracing::warn!("{}: {error}: the role is that of the configuration", path(port).display());
            None
        }
    }
}

impl Server {
    /// The role changed by a failover, and is to last.
    pub fn store_role(self: &Arc<Self>, state: &RoleState) {
        let path = path(self.config().port);
        let temporary = path.with_extension("tmp");
        let written = state_codec::encode(FORMAT, state)
            .map_err(std::io::Error::other)
            .and_then(|bytes| std::fs::write(&temporary, bytes))
            .and_then(|()| std::fs::rename(&temporary, &path));
        match written {
            // Clients wait for the failover: they do not wait for the disk.
            Ok(()) => super::persistence::spawn("role-sync", move || sync(&path)),
            Err(error) => tracing::warn!("The role cannot be stored in {}: {error}", path.display()),
        }
    }

    /// The role is that of the configuration, or an operator's.
    pub fn forget_role(&self) {
        let path = path(self.config().port);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("{} cannot be removed: {error}", path.display());
        }
    }
}

fn sync(path: &Path) {
    let synced = std::fs::File::open(path)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::File::open(".")?.sync_all());
    match synced {
        // It was replaced or removed since.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!("{} cannot be synced: {error}", path.display()),
        Ok(()) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_configuration_wins() {
        let (a, b, c) = (Address::new("a", 1), Address::new("b", 2), Address::new("c", 3));
        let id = ReplicationId::from_random([1; 20]);
        let state = RoleState::new(None, &Role::HandingOver(b.clone()), id);
        assert_eq!(state.role(), Role::HandingOver(b.clone()));
        assert_eq!(state.replid(), Some(id));
        assert!(state.counts_for(None));
        assert!(state.counts_for(Some(&b)), "CONFIG REWRITE in the meantime");
        assert!(!state.counts_for(Some(&c)));
        let promoted = RoleState::new(Some(&a), &Role::Primary, id);
        assert!(promoted.counts_for(Some(&a)) && promoted.counts_for(None));
        assert!(!promoted.counts_for(Some(&c)));
    }
}
