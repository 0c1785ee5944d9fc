//! Measures how long a snapshot of many small tables takes on a local disk.
//!
//! ```text
//! cargo run --release -p tidemill-ingest --example many_tables -- [TABLES] [ROWS] [FOLDER]
//! ```
//!
//! The second snapshot finds the folders of the tables there already.
#![expect(clippy::print_stdout, reason = "it prints its results")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use object_store::ObjectStore;
use tidemill_catalog::{Catalog, Limits};
use tidemill_ingest::{Ingest, IngestConfig, NameRule, SnapshotStep, WriteRequest};
use tidemill_lineproto::Precision;
use tidemill_object_stores::DurableLocalStore;
use tidemill_store::{FileStoreConfig, Storage, StoreConfig};
use tidemill_wal::FileMedium;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().collect();
    let number =
        |position: usize, default: usize| arguments.get(position).map_or(Ok(default), |text| text.parse());
    let (tables, rows) = (number(1, 10_000)?, number(2, 1)?);
    let parent = arguments.get(3).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(parent)?;

    let objects: Arc<dyn ObjectStore> = Arc::new(DurableLocalStore::open(folder.path())?);
    let limits = Limits {
        tables_per_database_max: tables,
        ..Limits::default()
    };
    let catalog = Arc::new(Catalog::open(Arc::clone(&objects), "node", limits).await?);
    let storage = Storage::open(
        StoreConfig::default(),
        FileStoreConfig::default(),
        objects,
        "node",
    )
    .await?;
    let (log, storage) = (folder.path().join("log"), Arc::new(storage));
    let open = move || -> Result<Ingest, AnyError> {
        let medium = Box::new(FileMedium::open(log)?);
        Ok(Ingest::open(medium, IngestConfig::default(), catalog, storage)?)
    };
    let ingest = Arc::new(tokio::task::spawn_blocking(open).await??);

    for round in 0..2 {
        let mut lines = String::new();
        for table in 0..tables {
            for row in 0..rows {
                writeln!(lines, "table_{table},host=h{row} v={row} {}", round * rows + row)?;
            }
        }
        let request = WriteRequest {
            database: "db".to_owned(),
            body: lines.into(),
            precision: Precision::Nanosecond,
            accept_partial: false,
            no_sync: false,
            received_ns: 0,
            name_rule: NameRule::Strict,
            depth: 0,
        };
        ingest.write(request).await?;
        let started = Instant::now();
        let SnapshotStep::Done(report) = ingest.snapshot_now(0).await else {
            return Err("no snapshot was made".into());
        };
        println!(
            "{} files of {} rows: {:.2} s",
            report.files,
            report.rows,
            started.elapsed().as_secs_f64()
        );
    }
    ingest.shutdown().await;
    Ok(())
}
