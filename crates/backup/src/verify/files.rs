//! The manifest against the store: every file that counts is there, and is what the manifest says it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use tidemill_catalog::{Table, TableId};
use tidemill_store::{DataFile, FileDamage, ManifestState};

use crate::verify::names::{instant, names};
use crate::verify::parquet::check_content;
use crate::verify::{Damage, Part, TableReport, Verification, VerifyError};

/// Files that are checked at the same time: each is in memory as a whole.
const FILES_AT_ONCE: usize = 2;

/// What was found of a file.
enum Outcome {
    Sound,
    Missing,
    Damaged(String),
}

/// What was found of the files of a table.
struct FilesOfTable {
    report: TableReport,
    /// First and last time of the rows that damaged files should have.
    damaged_times: Option<(i64, i64)>,
}

impl Verification<'_> {
    pub(crate) async fn check_files(&mut self, manifest: &ManifestState) -> Result<(), VerifyError> {
        let mut by_table: BTreeMap<TableId, FilesOfTable> = BTreeMap::new();
        for file in manifest.files() {
            let of_table = by_table
                .entry(file.table)
                .or_insert_with(|| self.files_of_table(file));
            of_table.report.files += 1;
            of_table.report.rows += file.row_count;
        }
        let objects = Arc::clone(&self.objects);
        let catalog = self.catalog.clone();
        let checks = manifest.files().map(|file| {
            let table = catalog
                .as_ref()
                .and_then(|catalog| catalog.table_by_id(file.table));
            check_file(Arc::clone(&objects), Arc::clone(file), table.cloned())
        });
        let mut checks = stream::iter(checks).buffered(FILES_AT_ONCE);
        while let Some(checked) = checks.next().await {
            let (file, outcome) = checked?;
            let reason = match outcome {
                Outcome::Sound => {
                    self.read(1, file.byte_size);
                    continue;
                }
                Outcome::Missing if self.present_manifest().await?.file(file.id).is_none() => continue,
                Outcome::Missing => FileDamage::Missing.to_string(),
                Outcome::Damaged(reason) => {
                    self.read(1, file.byte_size);
                    reason
                }
            };
            let of_table = by_table
                .get_mut(&file.table)
                .expect("every file was counted with its table");
            self.report.damages.push(of_table.damaged(&file, reason));
        }
        drop(checks);
        self.check_order(manifest);
        self.report.tables = by_table.into_values().map(FilesOfTable::into_report).collect();
        self.report
            .tables
            .sort_by(|a, b| (&a.database, &a.table).cmp(&(&b.database, &b.table)));
        Ok(())
    }

    fn files_of_table(&mut self, file: &DataFile) -> FilesOfTable {
        let catalog = self.catalog.as_deref();
        let (database, table) = names(catalog, file.database, file.table);
        if let Some(catalog) = catalog
            && catalog.table_by_id(file.table).is_none()
        {
            if catalog.has_had_table(file.table) {
                let note = format!("table {table} was deleted; the server is still to remove its files");
                self.report.notes.push(note);
            } else {
                let reason = format!("the catalog does not know its table, number {}", file.table);
                let consequence =
                    "the catalog is older than the manifest: nobody knows the names of these rows";
                let damage = Damage::new(Part::Catalog, file.path.to_string(), reason, consequence);
                self.report.damages.push(damage);
            }
        }
        FilesOfTable {
            report: TableReport {
                database,
                table,
                files: 0,
                rows: 0,
                damaged_files: 0,
                damaged_rows: 0,
                damaged_first: None,
                damaged_last: None,
            },
            damaged_times: None,
        }
    }

    /// Of two files of a table that overlap in time, one must be wholly later in the log.
    fn check_order(&mut self, manifest: &ManifestState) {
        for mut files in manifest.files_by_table().into_values() {
            files.sort_by_key(|file| (file.time_min, file.id));
            let mut open: Vec<&Arc<DataFile>> = Vec::new();
            for file in &files {
                open.retain(|other| other.time_max >= file.time_min);
                for other in open.iter().filter(|other| other.overlaps_in_log(file)) {
                    let (database, table) = names(self.catalog.as_deref(), file.database, file.table);
                    let reason = format!(
                        "it and {} overlap in time and in the log, records {} to {}",
                        other.path,
                        file.lsn_first.max(other.lsn_first),
                        file.lsn_last.min(other.lsn_last)
                    );
                    let consequence = "of points that were written twice, an older value may win";
                    let damage = Damage {
                        database: Some(database),
                        table: Some(table),
                        time_first: Some(instant(file.time_min)),
                        time_last: Some(instant(file.time_max.min(other.time_max))),
                        ..Damage::new(Part::Manifest, file.path.to_string(), reason, consequence)
                    };
                    self.report.damages.push(damage);
                }
                open.push(file);
            }
        }
    }
}

impl FilesOfTable {
    fn damaged(&mut self, file: &DataFile, reason: String) -> Damage {
        self.report.damaged_files += 1;
        self.report.damaged_rows += file.row_count;
        let (first, last) = self.damaged_times.unwrap_or((file.time_min, file.time_max));
        self.damaged_times = Some((first.min(file.time_min), last.max(file.time_max)));
        let consequence = format!(
            "{} rows are affected; queries of these times fail, or miss them",
            file.row_count
        );
        Damage {
            database: Some(self.report.database.clone()),
            table: Some(self.report.table.clone()),
            time_first: Some(instant(file.time_min)),
            time_last: Some(instant(file.time_max)),
            ..Damage::new(Part::Files, file.path.to_string(), reason, consequence)
        }
    }

    fn into_report(self) -> TableReport {
        TableReport {
            damaged_first: self.damaged_times.map(|(first, _)| instant(first)),
            damaged_last: self.damaged_times.map(|(_, last)| instant(last)),
            ..self.report
        }
    }
}

async fn check_file(
    objects: Arc<dyn ObjectStore>,
    file: Arc<DataFile>,
    table: Option<Arc<Table>>,
) -> Result<(Arc<DataFile>, Outcome), VerifyError> {
    let location = Path::from(&*file.path);
    let object = match objects.get(&location).await {
        Ok(object) => object,
        Err(Error::NotFound { .. }) => return Ok((file, Outcome::Missing)),
        Err(error) => return Err(VerifyError::object("read", location)(error)),
    };
    if object.meta.size != file.byte_size {
        let damage = FileDamage::Length {
            found: object.meta.size,
            expected: file.byte_size,
        };
        return Ok((file, Outcome::Damaged(damage.to_string())));
    }
    let bytes = object
        .bytes()
        .await
        .map_err(VerifyError::object("read", &location))?;
    let checked = Arc::clone(&file);
    let check = move || check_content(bytes, &checked, table.as_deref());
    let outcome = match tokio::task::spawn_blocking(check).await {
        Ok(Ok(())) => Outcome::Sound,
        Ok(Err(reason)) => Outcome::Damaged(reason),
        // What a library makes of damaged bytes is no reason to stop looking.
        Err(error) => {
            let panic = error.try_into_panic();
            let panic = panic.map_or_else(
                |error| FileDamage::Panic(error.to_string()),
                |payload| FileDamage::from_panic(&*payload),
            );
            Outcome::Damaged(panic.to_string())
        }
    };
    Ok((file, outcome))
}
