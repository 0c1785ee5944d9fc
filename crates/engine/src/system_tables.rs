//! The engine's tables in the schema `system` (engine.md 10).

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_catalog::{Catalog, DatabaseId, INTERNAL_DATABASE};
use tidemill_ingest::Ingest;
use tidemill_query::{SystemRows, SystemScan, SystemTables};
use tidemill_triggers::TriggerDefinition;

use crate::dead_letters::{DeadLetter, DeadLetters};
use crate::kept_rows::KeptRow;
use crate::observations::Observations;
use crate::plugin_files::{FileOnDisk, PluginFiles};
use crate::plugin_logs::LogEntry;
use crate::run_history::RunRow;
use crate::trigger_report::{TriggerReport, status_rows, status_schema};

const TRIGGERS: &str = "processing_engine_triggers";
const TRIGGER_ARGUMENTS: &str = "processing_engine_trigger_arguments";
const LOGS: &str = "processing_engine_logs";
const DEAD_LETTERS: &str = "processing_engine_dead_letters";
const RUNS: &str = "processing_engine_runs";
const STATUS: &str = "processing_engine_trigger_status";
const PLUGIN_FILES: &str = "plugin_files";

/// The system tables of the processing engine. Made before the query engine that shows them.
pub struct EngineTables {
    ingest: Arc<Ingest>,
    observations: Arc<Observations>,
    dead_letters: Arc<DeadLetters>,
    files: PluginFiles,
}

impl EngineTables {
    /// Tables over the catalog, what is observed of triggers, the dead letters and the plugin directory, if there is one.
    pub fn new(
        ingest: Arc<Ingest>,
        observations: Arc<Observations>,
        dead_letters: Arc<DeadLetters>,
        plugin_dir: Option<PathBuf>,
    ) -> Self {
        Self {
            ingest,
            observations,
            dead_letters,
            files: PluginFiles::new(plugin_dir),
        }
    }

    fn catalog(&self) -> &Catalog {
        self.ingest.catalog()
    }

    fn triggers_of(&self, database: &str) -> Vec<Arc<TriggerDefinition>> {
        let state = self.catalog().state();
        state
            .database(database)
            .map(|database| database.triggers().cloned().collect())
            .unwrap_or_default()
    }

    fn triggers(&self, database: &str) -> Vec<ArrayRef> {
        let triggers = self.triggers_of(database);
        vec![
            strings(triggers.iter().map(|trigger| &trigger.trigger_name)),
            strings(triggers.iter().map(|trigger| &trigger.plugin_filename)),
            strings(triggers.iter().map(|trigger| trigger.spec.catalog_json())),
            Arc::new(
                triggers
                    .iter()
                    .map(|trigger| Some(trigger.disabled))
                    .collect::<BooleanArray>(),
            ),
            strings(
                triggers
                    .iter()
                    .map(|trigger| trigger.settings.error_behavior.name()),
            ),
        ]
    }

    fn trigger_arguments(&self, database: &str) -> Vec<ArrayRef> {
        let triggers = self.triggers_of(database);
        let arguments: Vec<(&String, &String, &String)> = triggers
            .iter()
            .flat_map(|trigger| {
                let arguments = trigger.arguments.iter().flatten();
                arguments.map(move |(key, value)| (&trigger.trigger_name, key, value))
            })
            .collect();
        vec![
            strings(arguments.iter().map(|(trigger, _, _)| trigger)),
            strings(arguments.iter().map(|(_, key, _)| key)),
            strings(arguments.iter().map(|(_, _, value)| value)),
        ]
    }

    /// The log of a database: what is kept of it, and what lives in memory only.
    fn logs(&self, database: &str, scan: SystemScan) -> SystemRows {
        let id = self.database_id(database);
        let log = id.and_then(|id| self.observations.logs.existing(id));
        let in_memory = move || log.map(|log| log.in_memory()).unwrap_or_default();
        self.observations.logs.kept.scan(id, in_memory, scan)
    }

    fn database_id(&self, database: &str) -> Option<DatabaseId> {
        let state = self.catalog().state();
        state.database(database).map(|database| database.id)
    }

    fn status(&self, database: &str) -> RecordBatch {
        let state = self.catalog().state();
        let reports = state
            .database(database)
            .map(|database| TriggerReport::of_database(&self.ingest, &self.observations, database));
        status_rows(&reports.unwrap_or_default())
    }

    fn dead_letters(&self, database: &str) -> Vec<ArrayRef> {
        let state = self.catalog().state();
        let Some(database) = state.database(database) else {
            return arrays_of_dead_letters(&[]);
        };
        let name_of = |trigger_id: u32| {
            let found = database
                .triggers()
                .find(|trigger| trigger.trigger_id == trigger_id);
            found.map(|trigger| trigger.trigger_name.clone())
        };
        let letters = self.dead_letters.of_database(database.id).into_iter();
        let named = letters.filter_map(|letter| Some((name_of(letter.trigger.trigger_id)?, letter)));
        arrays_of_dead_letters(&named.collect::<Vec<_>>())
    }

    fn plugin_files(&self) -> Vec<ArrayRef> {
        let state = self.catalog().state();
        let files: Vec<(Arc<TriggerDefinition>, FileOnDisk)> = state
            .databases()
            .flat_map(|database| database.triggers())
            .flat_map(|trigger| {
                let files = self.files.list(&trigger.plugin_filename).into_iter();
                files.map(|file| (Arc::clone(trigger), file))
            })
            .collect();
        vec![
            strings(files.iter().map(|(trigger, _)| &trigger.trigger_name)),
            strings(files.iter().map(|(_, file)| &file.file_name)),
            strings(files.iter().map(|(_, file)| file.path.to_string_lossy())),
            Arc::new(Int64Array::from_iter_values(
                files.iter().map(|(_, file)| file.size_bytes),
            )),
            Arc::new(Int64Array::from_iter_values(
                files.iter().map(|(_, file)| file.last_modified_ms),
            )),
        ]
    }
}

impl SystemTables for EngineTables {
    fn tables(&self, database: &str) -> Vec<(&'static str, SchemaRef)> {
        let mut tables = vec![
            (
                TRIGGERS,
                schema(&[
                    ("trigger_name", DataType::Utf8),
                    ("plugin_filename", DataType::Utf8),
                    ("trigger_specification", DataType::Utf8),
                    ("disabled", DataType::Boolean),
                    ("error_behavior", DataType::Utf8),
                ]),
            ),
            (
                TRIGGER_ARGUMENTS,
                schema(&[
                    ("trigger_name", DataType::Utf8),
                    ("argument_key", DataType::Utf8),
                    ("argument_value", DataType::Utf8),
                ]),
            ),
            (LOGS, LogEntry::schema()),
            (RUNS, RunRow::schema()),
            (STATUS, status_schema()),
        ];
        tables.push((
            DEAD_LETTERS,
            schema(&[
                ("event_time", DataType::Timestamp(TimeUnit::Nanosecond, None)),
                ("trigger_name", DataType::Utf8),
                ("run_id", DataType::Utf8),
                ("kind", DataType::Utf8),
                ("attempts", DataType::Int64),
                ("rows", DataType::Int64),
                ("bytes", DataType::Int64),
                ("error", DataType::Utf8),
            ]),
        ));
        if database == INTERNAL_DATABASE {
            tables.push((
                PLUGIN_FILES,
                schema(&[
                    ("plugin_name", DataType::Utf8),
                    ("file_name", DataType::Utf8),
                    ("file_path", DataType::Utf8),
                    ("size_bytes", DataType::Int64),
                    ("last_modified", DataType::Int64),
                ]),
            ));
        }
        tables
    }

    fn scan(&self, database: &str, table: &str, scan: SystemScan) -> SystemRows {
        let columns = match table {
            LOGS => return self.logs(database, scan),
            RUNS => {
                let id = self.database_id(database);
                return self.observations.runs.scan(id, Vec::new, scan);
            }
            STATUS => return scan.answer(Ok(self.status(database))),
            TRIGGERS => self.triggers(database),
            TRIGGER_ARGUMENTS => self.trigger_arguments(database),
            DEAD_LETTERS => self.dead_letters(database),
            _ => self.plugin_files(),
        };
        let known = self.tables(database).into_iter().find(|(name, _)| *name == table);
        let rows = known
            .ok_or_else(|| format!("there is no table {table}"))
            .and_then(|(_, schema)| RecordBatch::try_new(schema, columns).map_err(|error| error.to_string()));
        scan.answer(rows)
    }
}

/// The columns of dead letters with the names of their triggers.
fn arrays_of_dead_letters(letters: &[(String, DeadLetter)]) -> Vec<ArrayRef> {
    let heads = || letters.iter().map(|(_, letter)| &letter.head);
    let integers = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    vec![
        Arc::new(TimestampNanosecondArray::from_iter_values(
            heads().map(|head| head.time_ns),
        )),
        strings(letters.iter().map(|(name, _)| name)),
        strings(heads().map(|head| &head.run_id)),
        strings(heads().map(|head| head.work.name())),
        integers(heads().map(|head| i64::from(head.attempts)).collect()),
        integers(heads().map(|head| head.rows as i64).collect()),
        integers(letters.iter().map(|(_, letter)| letter.bytes as i64).collect()),
        strings(heads().map(|head| &head.error)),
    ]
}

/// Columns that are never null.
fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields = columns
        .iter()
        .map(|(name, data_type)| Field::new(*name, data_type.clone(), false));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn strings<T: AsRef<str>>(values: impl Iterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}
