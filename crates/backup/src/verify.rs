//! Reads everything back that a node has stored, and says what is damaged and what is safe.
//!
//! Nothing is written, so that it may run beside the server. What the server changes meanwhile is looked at again; where that
//! does not help, the report says that it is not the whole picture.

mod files;
mod folders;
mod log;
mod names;
mod parquet;
mod report;
mod words;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tidemill_catalog::{Catalog, CatalogState};
use tidemill_checkpoint_log::{DamagedObject, Inspection, LogError};
use tidemill_store::{Manifest, ManifestState};

pub use folders::FolderCheck;
pub use report::{Damage, FolderReport, LogReport, Orphans, Part, TableReport, VerifyReport};
pub use words::Words;

/// What a node has beside catalog, manifest, log and Parquet files, and how that is checked.
pub struct VerifyConfig {
    /// Whether the log is in files that are appended to: then, and only then, its end may be torn.
    pub log_in_files: bool,
    /// Checks the triggers' progress as of a snapshot.
    pub check_progress: fn(&[u8]) -> Result<(), String>,
    /// Folders whose objects are checked one by one.
    pub folders: Vec<FolderCheck>,
    /// Names below the node that belong there and need no check.
    pub other_names: Vec<String>,
}

/// Why nothing can be said about a node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The store failed.
    #[error("cannot {action} '{object}': {source}")]
    Object {
        /// What was tried.
        action: &'static str,
        /// Path of the object.
        object: String,
        /// The store's reason.
        source: object_store::Error,
    },
    /// There is nothing under that name.
    #[error("there is no node '{node_id}' in this store{}", others(nodes))]
    NoNode {
        /// The name.
        node_id: String,
        /// Names that are there.
        nodes: Vec<String>,
    },
    /// A catalog or a manifest cannot be read for a reason that is no damage.
    #[error("{0}")]
    Unreadable(String),
}

fn others(nodes: &[String]) -> String {
    if nodes.is_empty() {
        return ", nor any other".to_owned();
    }
    format!(": there is {}", nodes.join(", "))
}

impl VerifyError {
    pub(crate) fn object(
        action: &'static str,
        object: impl ToString,
    ) -> impl FnOnce(object_store::Error) -> Self {
        let object = object.to_string();
        move |source| Self::Object {
            action,
            object,
            source,
        }
    }
}

/// A check that is going on.
struct Verification<'a> {
    objects: Arc<dyn ObjectStore>,
    node_id: &'a str,
    config: &'a VerifyConfig,
    catalog: Option<Arc<CatalogState>>,
    report: VerifyReport,
    /// Something of the log was missing each time it was looked for.
    log_may_have_changed: bool,
    on_progress: &'a mut (dyn FnMut(&VerifyReport) + Send),
}

/// Reads back everything that a node has stored. `on_progress` is called with what is known so far, after each object of
/// some size.
///
/// # Errors
/// [`VerifyError::NoNode`]; [`VerifyError::Object`] when the store fails. Damage is no error: it is in the report.
pub async fn verify(
    objects: Arc<dyn ObjectStore>,
    node_id: &str,
    config: &VerifyConfig,
    on_progress: &mut (dyn FnMut(&VerifyReport) + Send),
) -> Result<VerifyReport, VerifyError> {
    let mut verification = Verification {
        objects,
        node_id,
        config,
        catalog: None,
        report: VerifyReport::new(node_id),
        log_may_have_changed: false,
        on_progress,
    };
    verification.run().await?;
    let mut report = verification.report;
    report.sound = report.damages.is_empty();
    Ok(report)
}

impl Verification<'_> {
    async fn run(&mut self) -> Result<(), VerifyError> {
        self.expect_node().await?;
        let manifest = self.check_manifest().await?;
        let tables_in_log = self.check_log(manifest.as_deref()).await?;
        // After what refers to it.
        self.check_catalog().await?;
        self.check_tables_in_log(&tables_in_log);
        if let Some(manifest) = &manifest {
            self.check_progress(manifest).await?;
            self.check_files(manifest).await?;
        }
        let config = self.config;
        for folder in &config.folders {
            self.check_folder(folder).await?;
        }
        self.look_for_orphans(manifest.as_deref()).await
    }

    async fn expect_node(&self) -> Result<(), VerifyError> {
        let listed = self.objects.list_with_delimiter(None).await;
        let listed = listed.map_err(VerifyError::object("list", "the store"))?;
        let nodes = listed.common_prefixes.iter().map(ToString::to_string);
        let nodes: Vec<String> = nodes.collect();
        if nodes.iter().any(|node| node == Path::from(self.node_id).as_ref()) {
            return Ok(());
        }
        Err(VerifyError::NoNode {
            node_id: self.node_id.to_owned(),
            nodes,
        })
    }

    async fn check_manifest(&mut self) -> Result<Option<Arc<ManifestState>>, VerifyError> {
        let inspection = Manifest::inspect(Arc::clone(&self.objects), self.node_id).await;
        let inspection = inspection.map_err(|error| VerifyError::Unreadable(error.to_string()))?;
        self.report.manifest_records = inspection.sequence;
        let consequence = "the server does not start, and nobody knows which Parquet files count; they are not checked here";
        Ok(self.take_inspection(Part::Manifest, inspection, consequence))
    }

    async fn check_catalog(&mut self) -> Result<(), VerifyError> {
        let inspection = Catalog::inspect(Arc::clone(&self.objects), self.node_id).await;
        let inspection = inspection.map_err(|error| VerifyError::Unreadable(error.to_string()))?;
        let is_missing = inspection.sequence == 0 && inspection.state.is_ok() && inspection.objects == 0;
        let consequence =
            "the server does not start, and nobody knows the names of databases, tables and columns";
        self.report.catalog_records = inspection.sequence;
        let state = self.take_inspection(Part::Catalog, inspection, consequence);
        if is_missing {
            let object = Path::from(self.node_id).join("catalog").to_string();
            let damage = Damage::new(Part::Catalog, object, "it is missing".to_owned(), consequence);
            self.report.damages.push(damage);
        } else if let Some(state) = state {
            let live = state.databases().filter(|database| database.deleted.is_none());
            self.report.databases = live.count() as u64;
            self.catalog = Some(state);
        }
        Ok(())
    }

    /// Enters what was found of a log with checkpoints, and returns the state if there is one.
    fn take_inspection<S>(
        &mut self,
        part: Part,
        inspection: Inspection<S>,
        consequence: &'static str,
    ) -> Option<Arc<S>> {
        let Inspection {
            state,
            objects,
            bytes,
            damaged,
            ..
        } = inspection;
        self.read(objects, bytes);
        let starts = state.is_ok();
        for DamagedObject { path, reason } in damaged {
            if path.ends_with("/current") {
                let note = format!("{path}: {reason}; harmless: what it says is found without it");
                self.report.notes.push(note);
                continue;
            }
            let harmless = "none for now: a start does not need it, it is kept to fall back to";
            let consequence = if starts { harmless } else { consequence };
            self.report
                .damages
                .push(Damage::new(part, path, reason, consequence));
        }
        match state {
            Ok(state) => Some(state),
            Err(LogError::Corrupt { object, reason }) => {
                let is_known = self.report.damages.iter().any(|damage| damage.object == object);
                if !is_known {
                    let damage = Damage::new(part, object, reason, consequence);
                    self.report.damages.push(damage);
                }
                None
            }
            Err(error) => {
                let object = self.node_id.to_owned();
                let damage = Damage::new(part, object, error.to_string(), consequence);
                self.report.damages.push(damage);
                None
            }
        }
    }

    async fn check_progress(&mut self, manifest: &ManifestState) -> Result<(), VerifyError> {
        let Some(path) = manifest.progress() else {
            return Ok(());
        };
        let location = Path::from(&**path);
        let read = async { self.objects.get(&location).await?.bytes().await };
        let checked = match read.await {
            Ok(bytes) => {
                self.read(1, bytes.len() as u64);
                (self.config.check_progress)(&bytes)
            }
            Err(object_store::Error::NotFound { .. }) => {
                if self.present_manifest().await?.progress() != Some(path) {
                    // A newer snapshot has another.
                    return Ok(());
                }
                Err("it is missing".to_owned())
            }
            Err(error) => return Err(VerifyError::object("read", location)(error)),
        };
        if let Err(reason) = checked {
            let consequence =
                "the server does not start; how far triggers have read, and their state, is lost";
            let damage = Damage::new(Part::Progress, location.to_string(), reason, consequence);
            self.report.damages.push(damage);
        }
        Ok(())
    }

    /// The manifest as a running server may have changed it meanwhile.
    async fn present_manifest(&self) -> Result<Arc<ManifestState>, VerifyError> {
        let read = Manifest::read(Arc::clone(&self.objects), self.node_id).await;
        read.map_err(|error| VerifyError::Unreadable(error.to_string()))
    }

    /// Counts what lies below the node and belongs to nothing.
    async fn look_for_orphans(&mut self, known_manifest: Option<&ManifestState>) -> Result<(), VerifyError> {
        let folder = Path::from(self.node_id);
        let listed: Vec<ObjectMeta> = self
            .objects
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(VerifyError::object("list", &folder))?;
        let Some(known_manifest) = known_manifest else {
            return Ok(());
        };
        // After the listing: what is in it and not here was not yet, or is not any more.
        let manifest = self.present_manifest().await?;
        if *manifest != *known_manifest {
            self.report.complete = !self.log_may_have_changed;
            let note = "a server is running on this node; what it changed meanwhile was looked at again";
            self.report.notes.push(note.to_owned());
        }
        let known: HashSet<&str> = manifest
            .files()
            .chain(manifest.garbage())
            .map(|file| &*file.path)
            .chain(manifest.progress().map(|path| &**path))
            .collect();
        let mut foreign: BTreeMap<String, u64> = BTreeMap::new();
        for object in &listed {
            let Some(name) = object
                .location
                .prefix_match(&folder)
                .and_then(|mut parts| parts.next())
            else {
                continue;
            };
            let name = name.as_ref();
            let is_checked = ["catalog", "manifest", "wal"].contains(&name)
                || self.config.other_names.iter().any(|other| other == name)
                || self.config.folders.iter().any(|folder| folder.name == name);
            let path = object.location.as_ref();
            if is_checked || known.contains(path) {
                continue;
            }
            let extension = object.location.extension();
            if extension.is_some_and(|extension| ["parquet", "progress"].contains(&extension)) {
                self.report.orphans.objects += 1;
                self.report.orphans.bytes += object.size;
            } else {
                *foreign.entry(name.to_owned()).or_default() += 1;
            }
        }
        for (name, objects) in foreign {
            let note = format!("{folder}/{name}: {objects} objects that this program does not know");
            self.report.notes.push(note);
        }
        Ok(())
    }

    fn read(&mut self, objects: u64, bytes: u64) {
        self.report.objects += objects;
        self.report.bytes += bytes;
        (self.on_progress)(&self.report);
    }
}
