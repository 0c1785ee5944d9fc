//! What a database must survive: `kill -9` while it writes files, a full disk, damaged files, an object store that goes away.
//! Each is tried on a server of its own, whose snapshots and compactions come so often that they are hit; and each time a
//! model of what was acknowledged says what must be there.

use std::path::Path;
use std::time::Duration;

use super::finding::Finding;
use crate::failure::Failure;
use crate::workspace::Workspace;

mod check;
mod clients;
mod damaged_file;
mod full_disk;
mod kills;
mod site;
mod store_gone;

use clients::Clients;
use site::Site;

/// A fault of storage.
#[derive(Clone, Copy)]
pub(super) enum StorageFault {
    KillInSnapshot,
    KillInCompaction,
    FullDisk,
    DamagedFile,
    StoreGone,
}

/// How storage faults are tried.
pub(super) struct Trial<'a> {
    pub workspace: &'a Workspace,
    pub program: &'a Path,
    pub plugins: &'a Path,
    /// For how long each server is killed again and again.
    pub kill_for: Duration,
    pub seed: u64,
}

/// Tries one; where something is not as it should be, the server's files are kept and named.
pub(super) async fn run(fault: StorageFault, trial: &Trial<'_>) -> Result<Finding, Failure> {
    let mut finding = Finding::default();
    let mut site = Site::make(trial)?;
    let tried = match fault {
        StorageFault::KillInSnapshot => kills::in_snapshots(&mut site, trial, &mut finding).await,
        StorageFault::KillInCompaction => kills::in_compactions(&mut site, trial, &mut finding).await,
        StorageFault::FullDisk => full_disk::run(&mut site, &mut finding).await,
        StorageFault::DamagedFile => damaged_file::run(&mut site, &mut finding).await,
        StorageFault::StoreGone => store_gone::run(&mut site, trial, &mut finding).await,
    };
    if tried.is_err() || !finding.violations().is_empty() {
        site.keep();
    }
    tried.map(|()| finding)
}
