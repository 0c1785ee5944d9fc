//! One life of a database process on the simulated machine: opened, driven step by step, and ended at any moment.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use object_store::ObjectStore;
use tidemill_catalog::{Catalog, Database, Limits, Transaction};
use tidemill_ingest::{
    DatabaseLines, Ingest, IngestConfig, Lsn, NameRule, ReadLimits, RunCommit, TableFilter, TriggerKey,
    TriggerProgress, WriteRequest,
};
use tidemill_lineproto::Precision;
use tidemill_store::{DataFile, FileStoreConfig, Storage, StoreConfig};
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
            ..IngestConfig::default()
        };
        let (opened_catalog, opened_storage) = (Arc::clone(&catalog), Arc::clone(&storage));
        let open = move || Ingest::open(medium, config, opened_catalog, opened_storage);
        let ingest = Arc::new(tokio::task::spawn_blocking(open).await??);
        let trigger = create_trigger(&catalog).await?;
        Ok(Self {
            catalog,
            storage,
            ingest,
            trigger,
        })
    }

    /// Ends without a word, as a killed process does; what it has left running can do nothing after the restart.
    pub(crate) async fn abandon(self) {
        self.ingest.shutdown().await;
    }

    /// A write or a delete, until it is durable.
    pub(crate) async fn carry_out(&self, operation: &Operation, now_ns: i64) -> Result<(), Failure> {
        match operation {
            Operation::Write(_) => {
                let lines = operation.lines().expect("a write has lines");
                self.ingest.write(request(lines, now_ns)).await?;
            }
            Operation::Delete { .. } => self.delete(operation, now_ns).await?,
        }
        Ok(())
    }
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
