//! The file that makes a failover last over restarts: which role this server has by a failover, not by its configuration.
//!
//! Without it a primary that handed its place over, or was killed while it did, would come back as a primary beside the new
//! one. The file counts only as long as the configuration asks for what it asked for when the file was written: whoever
//! changes `replicaof` decides, and so does a REPLICAOF, after which there is no file.
//!
//! Invariants: the file is in place before the target of a handover can hear of it. It is on the disk a little later: an
//! end of the process cannot lose it, an end of the machine in that moment can.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::file::{self, FileSystem, Open};
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

/// Longest file read, in bytes.
const LIMIT: u64 = 1 << 16;

/// The file, and what it is compared with.
pub struct RoleFile {
    files: Arc<dyn FileSystem>,
    path: PathBuf,
    /// `replicaof` as it was when the server started, or when its configuration was written to the file last.
    configured: Option<Address>,
    exists: bool,
}

/// A change of the file that is to reach the disk, beside those who must not wait for that.
pub struct RoleSync {
    files: Arc<dyn FileSystem>,
    path: PathBuf,
}

impl RoleFile {
    /// The file at `path` of a server that is configured so, and the role of the last run if that counts: `None` if there is
    /// nothing that can be trusted.
    pub fn open(
        files: Arc<dyn FileSystem>,
        path: PathBuf,
        configured: Option<Address>,
    ) -> (RoleFile, Option<RoleState>) {
        let stored = load(&*files, &path);
        let exists = stored.is_some();
        let remembered = stored.filter(|state| state.counts_for(configured.as_ref()));
        (RoleFile { files, path, configured, exists }, remembered)
    }

    /// The role changed, in the history `replid`: by a failover it is to last, otherwise it is that of the configuration, or an
    /// operator's. Returns what is still to reach the disk.
    pub fn note(
        &mut self,
        role: &Role,
        by_failover: bool,
        replid: ReplicationId,
    ) -> io::Result<Option<RoleSync>> {
        let is_configured = match role {
            Role::Primary => self.configured.is_none(),
            Role::Replica(address) => self.configured.as_ref() == Some(address),
            Role::HandingOver(_) => false,
        };
        if by_failover && !is_configured {
            self.store(&RoleState::new(self.configured.as_ref(), role, replid))?;
            self.exists = true;
        } else if std::mem::take(&mut self.exists) {
            match self.files.remove(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        } else {
            return Ok(None);
        }
        Ok(Some(RoleSync { files: self.files.clone(), path: self.path.clone() }))
    }

    /// The configuration was written to its file as it is now, this role included. Only a handover that is under way must be
    /// remembered beside it.
    pub fn note_configured(&mut self, role: &Role, replid: ReplicationId) -> io::Result<Option<RoleSync>> {
        self.configured = match role {
            Role::Primary => None,
            Role::Replica(address) | Role::HandingOver(address) => Some(address.clone()),
        };
        self.note(role, matches!(role, Role::HandingOver(_)), replid)
    }

    fn store(&self, state: &RoleState) -> io::Result<()> {
        let bytes = state_codec::encode(FORMAT, state).map_err(io::Error::other)?;
        let temporary = self.path.with_extension("tmp");
        let mut file = self.files.open(&temporary, Open::Create)?;
        file::append_all(&mut *file, &bytes)?;
        self.files.rename(&temporary, &self.path)
    }
}

impl RoleSync {
    /// Returns once the file, or that it is gone, is on the disk.
    pub fn run(&self) -> io::Result<()> {
        match self.files.open(&self.path, Open::Read).and_then(|file| file.sync_data()) {
            // It was removed, perhaps since.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.files.sync_dir(self.path.parent().unwrap_or(Path::new("")))
    }
}

fn load(files: &dyn FileSystem, path: &Path) -> Option<RoleState> {
    let file = files.open(path, Open::Read).ok()?;
    let bytes = file::read_all(&*file, LIMIT).ok()?;
    match state_codec::decode(FORMAT, &bytes) {
        Ok(state) => Some(state),
        Err(error) => {
            tracing::warn!("{}: {error}: the role is that of the configuration", path.display());
            None
        }
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
