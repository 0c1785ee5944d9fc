//! One life of a database process on the simulated machine: opened, driven step by step, and ended at any moment.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use object_store::ObjectStore;
use tidemill_catalog::{Catalog, CatalogError, DatabaseId, Limits, TableId, Transaction};
use tidemill_ingest::{
    DatabaseLines, DeleteError, DeleteRequest, Ingest, IngestConfig, Lsn, NameRule, ReadLimits, RunCommit,
    SnapshotConfig, SnapshotStep, TableFilter, TailRead, TriggerKey, TriggerProgress, WriteRequest,
};
use tidemill_lineproto::Precision;
use tidemill_store::compaction::{CompactionPolicy, Compactor};
use tidemill_store::{DataFile, FileStoreConfig, Storage, StoreConfig, TableBatch};
use tidemill_triggers::{TriggerDefinition, TriggerSettings, TriggerSpec};
use tidemill_wal::{FileMedium, WalConfig};

use crate::contents::read_table;
use crate::life::World;
use crate::model::{Operation, Points};

/// Where clients write.
const DATABASE: &str = "sim";
/// Where the trigger writes what it has seen: a tag for the value, a time that no other run uses.
const DERIVED: &str = "derived";
const NODE: &str = "node";
const TRIGGER: &str = "every_row";

/// Why a step did not succeed; whether it may is for the caller to judge.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An open database.
pub(crate) struct Process {
    catalog: Arc<Catalog>,
    storage: Arc<Storage>,
    ingest: Arc<Ingest>,
    compactor: Compactor,
    trigger: TriggerKey,
}

impl Process {
    /// Opens what the machine holds, and makes what is missing.
    pub(crate) async fn open(world: &mut World) -> Result<Self, Failure> {
        let objects: Arc<dyn ObjectStore> = Arc::new(world.objects.clone());
        let catalog = Arc::new(Catalog::open(Arc::clone(&objects), NODE, Limits::default()).await?);
        let storage =
            Storage::open(StoreConfig::default(), FileStoreConfig::default(), objects, NODE).await?;
        let storage = Arc::new(storage);
        let medium = Box::new(FileMedium::on(Arc::new(world.disk.clone())));
        let config = IngestConfig {
            wal: WalConfig {
                segment_bytes_max: 500 + world.random.below(5000) as u64,
                ..WalConfig::default()
            },
            // Small, so that the trigger reads the log itself.
            tail_bytes_max: 20_000,
            // In the order of the seed.
            snapshot: SnapshotConfig {
                concurrency: 1,
                ..SnapshotConfig::default()
            },
        };
        let (opened_catalog, opened_storage) = (Arc::clone(&catalog), Arc::clone(&storage));
        let open = move || Ingest::open(medium, config, opened_catalog, opened_storage);
        let ingest = Arc::new(tokio::task::spawn_blocking(open).await??);
        let compactor = Compactor::new(
            Arc::clone(&storage),
            Arc::clone(&catalog),
            CompactionPolicy::default(),
        );
        let database = create_databases(&catalog).await?;
        let trigger = create_trigger(&catalog, database).await?;
        Ok(Self {
            catalog,
            storage,
            ingest,
            compactor,
            trigger,
        })
    }

    /// Ends as a killed process does; what it has left running can do nothing after the restart.
    pub(crate) async fn abandon(self) -> Result<(), Failure> {
        self.ingest.shutdown().await;
        Ok(())
    }

    /// A write or a delete, until it is durable.
    pub(crate) async fn carry_out(&self, operation: &Operation, now_ns: i64) -> Result<(), Failure> {
        match operation {
            Operation::Write(_) => {
                let lines = operation.lines().expect("a write has lines");
                self.ingest.write(request(lines, now_ns)).await?;
                Ok(())
            }
            Operation::Delete {
                table,
                time_first,
                time_last,
                host,
            } => {
                let request = DeleteRequest {
                    database: DATABASE.to_owned(),
                    table: Some(table.clone()),
                    start_ns: Some(*time_first),
                    stop_ns: Some(*time_last),
                    predicate: host
                        .as_ref()
                        .map(|host| format!("host = '{host}'"))
                        .unwrap_or_default(),
                    received_ns: now_ns,
                };
                match self.ingest.delete_rows(&request).await {
                    Ok(_) => Ok(()),
                    // Nothing was written that it could delete.
                    Err(
                        DeleteError::UnknownColumn { .. }
                        | DeleteError::Catalog(CatalogError::NotFound(_) | CatalogError::TableNotFound { .. }),
                    ) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    pub(crate) async fn snapshot(&self, now_ns: i64) -> Result<String, Failure> {
        match self.ingest.snapshot_now(now_ns).await {
            SnapshotStep::Failed(error) => Err(error.into()),
            step => Ok(format!("{step:?}")),
        }
    }

    pub(crate) async fn compact(&self, now_ns: i64) -> Result<bool, Failure> {
        Ok(self.compactor.compact_once(now_ns).await?.is_some())
    }

    /// Removes objects that nothing names any more, and those that a crash has left.
    pub(crate) async fn collect_garbage(&self) -> Result<usize, Failure> {
        let collected = self.compactor.collect_garbage_once().await?;
        Ok(collected + self.compactor.sweep_orphans_once().await?)
    }

    pub(crate) async fn checkpoint(&self) -> Result<(), Failure> {
        self.storage.manifest().checkpoint().await?;
        Ok(self.catalog.checkpoint().await?)
    }

    /// What clients wrote, as it is there.
    pub(crate) async fn points(&self) -> Result<Points, Failure> {
        self.points_of(DATABASE).await
    }

    /// How often the trigger has passed on each value.
    pub(crate) async fn derived(&self) -> Result<Vec<i64>, Failure> {
        let points = self.points_of(DERIVED).await?;
        let value = |tags: &std::collections::BTreeMap<String, String>| tags["value"].parse::<i64>();
        Ok(points
            .keys()
            .map(|key| value(&key.tags))
            .collect::<Result<_, _>>()?)
    }

    async fn points_of(&self, database: &str) -> Result<Points, Failure> {
        let mut points = Points::new();
        let state = self.catalog.state();
        for table in state
            .database(database)
            .into_iter()
            .flat_map(|database| database.tables())
        {
            let snapshot = self.storage.store().scan(table.id);
            // Columns are in the catalog before they are in rows.
            let state = self.catalog.state();
            let table = state.table_by_id(table.id).expect("no table is removed");
            read_table(self.storage.files(), table, &snapshot, &mut points).await?;
        }
        Ok(points)
    }

    /// Passes on some of what the trigger has not seen; false if that was nothing.
    pub(crate) async fn run_trigger(&self, now_ns: i64, rows: usize) -> Result<bool, Failure> {
        let cursor = self.ingest.cursor(self.trigger).unwrap_or_default().through();
        let state = self.catalog.state();
        let database = state.database(DATABASE).expect("it was made at the start");
        let tables: HashSet<TableId> = database.tables().map(|table| table.id).collect();
        let limits = ReadLimits {
            rows,
            bytes: usize::MAX,
            joined_depth_max: u16::MAX,
        };
        let read = self
            .ingest
            .read_after(Lsn(cursor), &TableFilter::AnyOf(Arc::new(tables)), limits)
            .await?;
        // What it commits itself is a record too, and not one to run for.
        if read.batches.is_empty() {
            return Ok(false);
        }
        let run = RunCommit {
            writes: vec![DatabaseLines {
                database: DERIVED.to_owned(),
                lines: derived_lines(&read).into(),
            }],
            progress: TriggerProgress::through(self.trigger, read.next),
            depth: 1,
            received_ns: now_ns,
        };
        let run = RunCommit {
            writes: run
                .writes
                .into_iter()
                .filter(|write| !write.lines.is_empty())
                .collect(),
            ..run
        };
        self.ingest.commit_run(run).await.map_err(|(_, error)| error)?;
        self.ingest.settled().await;
        Ok(true)
    }

    /// Two files of a table that overlap in time must be apart in the log.
    pub(crate) fn check_file_order(&self) -> Result<(), String> {
        for files in self.storage.manifest().state().files_by_table().values() {
            for (position, file) in files.iter().enumerate() {
                let clash =
                    |other: &&Arc<DataFile>| file.overlaps_in_time(other) && file.overlaps_in_log(other);
                if let Some(other) = files[position + 1..].iter().find(clash) {
                    return Err(format!(
                        "files overlap in time and in the log: {file:?} and {other:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Objects with rows that are neither in the manifest nor to be removed.
    pub(crate) fn strays(&self, objects: &[object_store::path::Path]) -> Vec<String> {
        let state = self.storage.manifest().state();
        let known: HashSet<&str> = state
            .files()
            .chain(state.garbage())
            .map(|file| &*file.path)
            .collect();
        let paths = objects.iter().map(AsRef::as_ref);
        paths
            .filter(|path: &&str| path.ends_with(".parquet") && !known.contains(path))
            .map(str::to_owned)
            .collect()
    }
}

/// A line for each value that was written: a value has a time of its own in each record, so that a second passing on
/// would be seen as a second point.
fn derived_lines(read: &TailRead) -> String {
    let mut lines = String::new();
    for committed in &read.batches {
        for value in values(&committed.batch) {
            // The place in the log and the position where the run stopped tell runs apart.
            let time = committed.lsn.0 * 1_000_000 + read.next.0;
            writeln!(lines, "seen,value={value} run={}i {time}", read.next.0)
                .expect("a string takes everything");
        }
    }
    lines
}

fn values(batch: &TableBatch) -> Vec<i64> {
    let fields = batch
        .columns
        .iter()
        .filter_map(|(_, array)| array.as_primitive_opt::<Int64Type>());
    fields
        .flat_map(|values| values.iter().flatten().collect::<Vec<_>>())
        .collect()
}

async fn create_databases(catalog: &Catalog) -> Result<DatabaseId, Failure> {
    for name in [DATABASE, DERIVED] {
        if catalog.state().database(name).is_none() {
            catalog
                .transact(|transaction: &mut Transaction| transaction.create_database(name, None))
                .await?;
        }
    }
    Ok(catalog
        .state()
        .database(DATABASE)
        .expect("it was made just now")
        .id)
}

async fn create_trigger(catalog: &Catalog, database: DatabaseId) -> Result<TriggerKey, Failure> {
    let known = |catalog: &Catalog| {
        let state = catalog.state();
        state
            .database_by_id(database)?
            .trigger(TRIGGER)
            .map(|trigger| trigger.trigger_id)
    };
    if known(catalog).is_none() {
        let definition = TriggerDefinition {
            trigger_id: 0,
            trigger_name: TRIGGER.to_owned(),
            plugin_filename: "plugin.py".to_owned(),
            database_name: DATABASE.to_owned(),
            spec: TriggerSpec::AllTables,
            settings: TriggerSettings::default(),
            arguments: None,
            disabled: false,
            disabled_reason: None,
            created_at_lsn: 0,
        };
        catalog
            .transact(|transaction: &mut Transaction| transaction.create_trigger(DATABASE, definition))
            .await?;
    }
    let trigger_id = known(catalog).expect("it was made just now");
    Ok(TriggerKey { database, trigger_id })
}

fn request(lines: String, now_ns: i64) -> WriteRequest {
    WriteRequest {
        database: DATABASE.to_owned(),
        body: lines.into(),
        precision: Precision::Nanosecond,
        accept_partial: false,
        no_sync: false,
        received_ns: now_ns,
        name_rule: NameRule::Strict,
        depth: 0,
    }
}
