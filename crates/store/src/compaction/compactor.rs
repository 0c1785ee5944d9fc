//! What is to be done next in all tables, one step at a time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use object_store::path::Path;
use parking_lot::Mutex;
use tidemill_catalog::{Catalog, CatalogState, Table, TableId};
use tokio::runtime::Handle;

use crate::compaction::history::History;
use crate::compaction::paced_objects::PacedObjects;
use crate::compaction::plan::{Plan, PlanInput, plan};
use crate::compaction::run::{JobContext, JobOutcome, run_job};
use crate::compaction::throttle::Throttle;
use crate::compaction::{
    CompactionConfig, CompactionError, CompactionPolicy, CompactionRecord, CompactionStats,
};
use crate::{
    DataFile, Edit, FileError, FileId, FileStore, FileStoreConfig, ManifestError, ManifestState, RowDelete,
    Storage, TableFiles,
};

const MINUTE_NS: i64 = 60_000_000_000;
/// A table is looked at again after so long even when its files are the same: time makes files cold and rows expire.
const LOOK_AGAIN_NS: i64 = 5 * MINUTE_NS;
/// A table whose job failed is left alone for so long.
const RETRY_NS: i64 = MINUTE_NS;
/// A damaged file is left alone for so long: somebody may have put it back.
const RETRY_DAMAGED_NS: i64 = 60 * MINUTE_NS;
/// The footers of a job's inputs, which are read once a slice; and small files, which are fetched whole.
const CACHES: FileStoreConfig = FileStoreConfig {
    metadata_cache_bytes: 8 * 1024 * 1024,
    data_cache_bytes: 8 * 1024 * 1024,
};

/// Compaction, retention and the removal of objects for one node. Each `…_once` does one step.
pub struct Compactor {
    pub(super) storage: Arc<Storage>,
    catalog: Arc<Catalog>,
    pub(super) policy: CompactionPolicy,
    /// Retention is looked at so often.
    retention_interval_ns: i64,
    pub(super) path_prefix: Path,
    /// Access for jobs, apart from that of queries, whose caches must not be filled with what is on its way out.
    pub(super) files: Arc<FileStore>,
    pub(super) throttle: Option<Arc<Throttle>>,
    /// The server's runtime.
    io: Option<Handle>,
    /// Nothing is rewritten.
    only_removes: bool,
    /// Files with lesser identities were written by earlier processes.
    pub(super) first_own_file: FileId,
    pub(super) history: History,
    tables: Mutex<HashMap<TableId, TableView>>,
    /// Files that could not be read, and until when they are left alone.
    damaged: Mutex<HashMap<FileId, i64>>,
}

/// What was seen of a table when it was last looked at.
struct TableView {
    seen: TableFiles,
    /// When each file and each delete was first seen.
    file_seen: HashMap<FileId, i64>,
    delete_seen: HashMap<u64, i64>,
    plan: Option<Plan>,
    /// Until then `plan` holds if files and deletes are the same.
    valid_until: i64,
    not_before: i64,
}

/// The job that comes first.
struct Urgent {
    table: TableId,
    plan: Plan,
    /// All that the table's files await.
    deletes: Arc<[Arc<RowDelete>]>,
}

impl Compactor {
    /// For tests and where another paces the steps: nothing runs by itself, and nothing is held back.
    pub fn new(storage: Arc<Storage>, catalog: Arc<Catalog>, policy: CompactionPolicy) -> Self {
        let files = Arc::new(FileStore::new(Arc::clone(storage.files().objects()), CACHES));
        let path_prefix = Path::from(storage.node_id()).join("files");
        let first_own_file = storage.manifest().first_file_id();
        Self {
            storage,
            catalog,
            policy,
            retention_interval_ns: LOOK_AGAIN_NS,
            path_prefix,
            files,
            throttle: None,
            io: None,
            only_removes: false,
            first_own_file,
            history: History::default(),
            tables: Mutex::default(),
            damaged: Mutex::default(),
        }
    }

    /// The same, held back by a throttle, with the requests to the object store made on `io`.
    pub(super) fn throttled(
        mut self,
        throttle: Arc<Throttle>,
        io: Handle,
        config: &CompactionConfig,
    ) -> Self {
        let objects = Arc::clone(self.storage.files().objects());
        let paced = Arc::new(PacedObjects::new(objects, Arc::clone(&throttle), io.clone()));
        self.files = Arc::new(FileStore::new(paced, CACHES));
        self.throttle = Some(throttle);
        self.io = Some(io);
        self.only_removes = config.cpu_share <= 0.0;
        self.retention_interval_ns =
            i64::try_from(config.retention_check_interval.as_nanos()).unwrap_or(i64::MAX);
        self
    }

    /// Changes the manifest and what queries see.
    pub(super) async fn commit(&self, edits: Vec<Edit>) -> Result<Arc<ManifestState>, ManifestError> {
        let Some(io) = &self.io else {
            return self.storage.commit(edits).await;
        };
        // Others wait for it, so it is not done at compaction's low priority.
        let storage = Arc::clone(&self.storage);
        let committing = io.spawn(async move { storage.commit(edits).await });
        committing
            .await
            .unwrap_or_else(|_| Err(ManifestError::Refused("the server is stopping".to_owned())))
    }

    /// Writes a checkpoint of the manifest, so that the next start is quick.
    pub async fn checkpoint_once(&self) {
        let manifest = self.storage.manifest().clone();
        let write = async move { manifest.checkpoint().await };
        let written = match &self.io {
            None => write.await,
            Some(io) => match io.spawn(write).await {
                Ok(written) => written,
                Err(_) => return,
            },
        };
        if let Err(error) = written {
            tracing::warn!(%error, "manifest got no checkpoint, will be tried again");
        }
    }

    /// The last jobs, oldest first; at most 1000.
    pub fn history(&self) -> Vec<CompactionRecord> {
        self.history.records()
    }

    /// What was done since the process began.
    pub fn stats(&self) -> CompactionStats {
        CompactionStats {
            damaged_files: self.files.stats().damaged_files,
            ..self.history.stats()
        }
    }

    /// Does the most urgent job of all tables. `None`: there is none.
    ///
    /// # Errors
    /// Any [`CompactionError`]; nothing was changed then, and the table is left alone for a minute. If it was damage,
    /// only the damaged file is, for an hour.
    pub async fn compact_once(&self, now_ns: i64) -> Result<Option<CompactionRecord>, CompactionError> {
        // Files before the catalog: so it knows every column that they have.
        self.look_at_tables(now_ns);
        let catalog = self.catalog.state();
        while let Some(Urgent { table, plan, deletes }) = self.most_urgent(now_ns) {
            let Some(table) = catalog
                .table_by_id(table)
                .filter(|_| catalog.keeps_data_of(table))
            else {
                // Its files are going as they are.
                self.leave_alone(table, now_ns);
                continue;
            };
            let started = Instant::now();
            let job = JobContext {
                compactor: self,
                table,
                deletes: &deletes,
                keep_from: keep_from(&catalog, table.id, now_ns),
            };
            match run_job(&job, &plan).await {
                Ok(JobOutcome::Done(outputs)) => {
                    let record = CompactionRecord {
                        duration: started.elapsed(),
                        ..record_of(table, &plan, &outputs, now_ns)
                    };
                    tracing::debug!(
                        table = %table.name, reason = plan.reason.as_str(), files_in = record.files_in,
                        files_out = record.files_out, bytes_out = record.bytes_out, "compacted"
                    );
                    self.history.add(record.clone());
                    // What is known of the table keeps the inputs, whose objects are to go.
                    self.look_at_tables(now_ns);
                    return Ok(Some(record));
                }
                // What took the files away will show in the lists soon.
                Ok(JobOutcome::Superseded) => self.leave_alone(table.id, now_ns),
                Err(error) => {
                    if !self.leave_damaged_alone(&error, &plan, now_ns) {
                        self.leave_alone(table.id, now_ns);
                    }
                    self.history.update(|stats| stats.failures += 1);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Plans anew for tables whose files or deletes have changed.
    fn look_at_tables(&self, now_ns: i64) {
        let state = self.storage.manifest().state();
        let with_files: HashSet<TableId> = state.files().map(|file| file.table).collect();
        let catalog = self.catalog.state();
        let damaged = {
            let mut damaged = self.damaged.lock();
            damaged.retain(|_, until_ns| now_ns < *until_ns);
            damaged.keys().copied().collect()
        };
        let mut tables = self.tables.lock();
        tables.retain(|table, _| with_files.contains(table));
        for table in with_files {
            // Not those of the manifest: a file that the snapshot has not handed over yet must stay as it is.
            let seen = self.storage.store().files_of(table);
            let before = tables.get(&table);
            let is_same = before.is_some_and(|view| {
                Arc::ptr_eq(&view.seen.files, &seen.files)
                    && Arc::ptr_eq(&view.seen.deletes, &seen.deletes)
                    && now_ns < view.valid_until
            });
            if is_same {
                continue;
            }
            let mut view = TableView::new(seen, before, now_ns);
            view.plan(&self.policy, keep_from(&catalog, table, now_ns), &damaged, now_ns);
            view.valid_until = now_ns + LOOK_AGAIN_NS.min(self.retention_interval_ns);
            tables.insert(table, view);
        }
    }

    fn most_urgent(&self, now_ns: i64) -> Option<Urgent> {
        let tables = self.tables.lock();
        let ready = tables.iter().filter(|(_, view)| view.not_before <= now_ns);
        let (table, view, plan) = ready
            .filter_map(|(table, view)| Some((table, view, view.plan.as_ref()?)))
            .filter(|(_, _, plan)| plan.is_removal || !self.only_removes)
            .max_by(|(a_table, _, a), (b_table, _, b)| {
                let by_value = a.reason.cmp(&b.reason).then(a.value.total_cmp(&b.value));
                by_value.then(b_table.cmp(a_table))
            })?;
        Some(Urgent {
            table: *table,
            plan: plan.clone(),
            deletes: Arc::clone(&view.seen.deletes),
        })
    }

    /// Whether it was damage that a job failed of, which was not known. Then the next plan of the table goes without the
    /// damaged file.
    fn leave_damaged_alone(&self, error: &CompactionError, plan: &Plan, now_ns: i64) -> bool {
        let CompactionError::File(FileError::Damaged { path, .. }) = error else {
            return false;
        };
        let Some(file) = plan.inputs.iter().find(|file| *file.path == **path) else {
            return false;
        };
        let known = self.damaged.lock().insert(file.id, now_ns + RETRY_DAMAGED_NS);
        if known.is_some() {
            return false;
        }
        if let Some(view) = self.tables.lock().get_mut(&file.table) {
            view.valid_until = now_ns;
        }
        true
    }

    fn leave_alone(&self, table: TableId, now_ns: i64) {
        if let Some(view) = self.tables.lock().get_mut(&table) {
            view.not_before = now_ns + RETRY_NS;
        }
    }
}

impl TableView {
    fn new(seen: TableFiles, before: Option<&Self>, now_ns: i64) -> Self {
        let file_seen = seen.files.iter().map(|file| {
            let known = before.and_then(|view| view.file_seen.get(&file.id).copied());
            (file.id, known.unwrap_or(now_ns))
        });
        let delete_seen = seen.deletes.iter().map(|delete| {
            let known = before.and_then(|view| view.delete_seen.get(&delete.lsn).copied());
            (delete.lsn, known.unwrap_or(now_ns))
        });
        let (file_seen, delete_seen) = (file_seen.collect(), delete_seen.collect());
        Self {
            seen,
            file_seen,
            delete_seen,
            plan: None,
            valid_until: now_ns,
            not_before: before.map_or(i64::MIN, |view| view.not_before),
        }
    }

    fn plan(&mut self, policy: &CompactionPolicy, keep_from: i64, damaged: &HashSet<FileId>, now_ns: i64) {
        let age = |seen: Option<&i64>| seen.map_or(0, |seen| now_ns - seen);
        let due_deletes: Vec<Arc<RowDelete>> = self
            .seen
            .deletes
            .iter()
            .filter(|delete| age(self.delete_seen.get(&delete.lsn)) >= policy.delete_delay_ns)
            .cloned()
            .collect();
        let input = PlanInput {
            files: &self.seen.files,
            due_deletes: &due_deletes,
            keep_from,
            age_ns: &|id| age(self.file_seen.get(&id)),
            is_damaged: &|id| damaged.contains(&id),
        };
        self.plan = plan(&input, policy);
    }
}

/// The first instant that the retention of a table keeps; `i64::MIN` without one.
fn keep_from(catalog: &CatalogState, table: TableId, now_ns: i64) -> i64 {
    let retention_ns = catalog.retention_of(table);
    retention_ns.map_or(i64::MIN, |retention_ns| {
        now_ns.saturating_sub_unsigned(retention_ns)
    })
}

fn record_of(table: &Table, plan: &Plan, outputs: &[Arc<DataFile>], now_ns: i64) -> CompactionRecord {
    let sum = |files: &[Arc<DataFile>], value: fn(&DataFile) -> u64| -> u64 {
        files.iter().map(|file| value(file)).sum()
    };
    CompactionRecord {
        finished_ns: now_ns,
        database: table.database_id,
        table: table.id,
        reason: plan.reason,
        files_in: plan.inputs.len() as u64,
        files_out: outputs.len() as u64,
        bytes_in: sum(&plan.inputs, |file| file.byte_size),
        bytes_out: sum(outputs, |file| file.byte_size),
        rows_in: sum(&plan.inputs, |file| file.row_count),
        rows_out: sum(outputs, |file| file.row_count),
        duration: std::time::Duration::ZERO,
    }
}
