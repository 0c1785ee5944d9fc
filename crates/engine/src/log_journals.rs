//! Keeps the logs of plugins across restarts (engine.md 0.32).
//!
//! Once a second, what plugins have logged and what went wrong with them is copied from memory into a journal, one a
//! database; at start the newest lines come back. The engine's own lines about the beginning and the end of runs stay in
//! memory: a request trigger makes tens of thousands of them a second. A plugin that talks without end has a limited share of
//! the journal, so that it cannot push out its neighbours' lines.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampNanosecondType};
use object_store::ObjectStore;
use object_store::path::Path;
use tidemill_catalog::{Catalog, DatabaseId};
use tidemill_journal::{Journal, JournalConfig, JournalError};
use tidemill_worker_proto::LogLevel;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::plugin_logs::{DatabaseLog, LogEntry, LogText, PluginLogs, level_name, now_ns};

/// How often lines are copied; what was logged since then is lost with a crash.
const COPY_INTERVAL: Duration = Duration::from_secs(1);
/// How long the last lines may take to be written when the server stops.
const LAST_FLUSH_MAX: Duration = Duration::from_secs(5);
/// Bytes that a trigger may put into the journal at once.
const SHARE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that it may put there at each copy, on average.
const SHARE_BYTES_PER_COPY: usize = 16 * 1024;

/// The journals of all databases' plugin logs.
pub struct LogJournals {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    config: JournalConfig,
    logs: Arc<PluginLogs>,
    /// `None` where a journal cannot be opened: that log lives in memory only.
    journals: Mutex<HashMap<DatabaseId, Option<DatabaseJournal>>>,
    stop: CancellationToken,
}

/// The journal of one database.
struct DatabaseJournal {
    journal: Arc<Journal>,
    /// Writes out and merges.
    _upkeep: AbortOnDropHandle<()>,
    /// The place in the log up to which lines were copied.
    copied: u64,
    shares: HashMap<Arc<str>, Share>,
}

/// How much a trigger may still put into the journal.
struct Share {
    bytes: usize,
    refused: u64,
}

impl LogJournals {
    /// Reads the newest lines of every database back into `logs`, and keeps what is logged from now on below the folder of
    /// the node until [`Self::shutdown`]. Lines older than `retention` go. A journal that cannot be read is reported and
    /// left alone: logs are no reason not to start.
    pub async fn start(
        store: Arc<dyn ObjectStore>,
        node_id: &str,
        retention: Duration,
        catalog: &Catalog,
        logs: Arc<PluginLogs>,
    ) -> Arc<Self> {
        let config = JournalConfig {
            age_max: Some(retention),
            ..JournalConfig::default()
        };
        let journals = Arc::new(Self {
            store,
            folder: Path::from(node_id).join("plugin_logs"),
            config,
            logs,
            journals: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let state = catalog.state();
        let live = state.databases().filter(|database| database.deleted.is_none());
        let live: HashSet<DatabaseId> = live.map(|database| database.id).collect();
        if let Err(error) = journals.restore(&live).await {
            tracing::warn!(%error, "could not read the logs of plugins from before");
        }
        tokio::spawn(Arc::clone(&journals).run());
        journals
    }

    /// Writes out what was logged last. Nothing is kept from then on.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.copy().await;
        let journals = self.journals.lock().await;
        let flushes = journals.values().flatten().map(|kept| kept.journal.flush());
        let flushed = futures::future::join_all(flushes);
        if tokio::time::timeout(LAST_FLUSH_MAX, flushed).await.is_err() {
            tracing::warn!("the last lines of plugins' logs could not be written in time");
        }
    }

    async fn run(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(COPY_INTERVAL) => self.copy().await,
            }
        }
    }

    /// Brings back the logs of databases that are there, and removes those of others.
    async fn restore(&self, live: &HashSet<DatabaseId>) -> Result<(), object_store::Error> {
        let listed = self.store.list_with_delimiter(Some(&self.folder)).await?;
        let ids = listed.common_prefixes.iter().filter_map(Path::filename);
        for id in ids.filter_map(|name| name.parse().ok()).map(DatabaseId) {
            if !live.contains(&id) {
                self.remove(id).await;
                continue;
            }
            let mut opened = self.open(id).await;
            if let Some(opened) = &mut opened {
                opened
                    .read_back(&self.logs.of_database(id), self.logs.entries_max())
                    .await;
            }
            self.journals.lock().await.insert(id, opened);
        }
        Ok(())
    }

    async fn open(&self, id: DatabaseId) -> Option<DatabaseJournal> {
        match self.try_open(id).await {
            Ok(opened) => Some(opened),
            Err(error) => {
                tracing::warn!(%error, database = id.0, "the logs of this database's plugins are not kept across restarts");
                None
            }
        }
    }

    async fn try_open(&self, id: DatabaseId) -> Result<DatabaseJournal, JournalError> {
        let journal = Arc::new(self.journal(id).await?);
        Ok(DatabaseJournal {
            _upkeep: AbortOnDropHandle::new(tokio::spawn(Arc::clone(&journal).run())),
            journal,
            copied: 0,
            shares: HashMap::new(),
        })
    }

    /// Copies what is new. Databases that have gone take their journals with them.
    async fn copy(&self) {
        let mut journals = self.journals.lock().await;
        let logs: HashMap<DatabaseId, Arc<DatabaseLog>> = self.logs.all().into_iter().collect();
        let gone: Vec<DatabaseId> = journals
            .keys()
            .filter(|id| !logs.contains_key(id))
            .copied()
            .collect();
        for id in gone {
            journals.remove(&id);
            self.remove(id).await;
        }
        for (id, log) in logs {
            let kept = match journals.entry(id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.open(id).await),
            };
            if let Some(kept) = kept {
                kept.copy(&log);
            }
        }
    }

    /// Removes the journal of a database, which nobody writes to any more.
    async fn remove(&self, id: DatabaseId) {
        let removed = async { self.journal(id).await?.clear().await };
        if let Err(error) = removed.await {
            tracing::warn!(%error, database = id.0, "could not remove the logs of a deleted database's plugins");
        }
    }

    async fn journal(&self, id: DatabaseId) -> Result<Journal, JournalError> {
        let folder = self.folder.clone().join(id.0.to_string());
        let (store, config) = (Arc::clone(&self.store), self.config.clone());
        Journal::open(store, folder.as_ref(), schema(), config, Arc::new(now_ns)).await
    }
}

impl DatabaseJournal {
    /// Puts the newest lines into the log of the database, which is empty.
    async fn read_back(&mut self, log: &DatabaseLog, entries_max: usize) {
        match self.journal.scan_newest(entries_max).await {
            Ok(batches) => batches
                .iter()
                .flat_map(entries_of)
                .for_each(|entry| log.push(entry)),
            Err(error) => tracing::warn!(%error, "could not read a plugin log from before"),
        }
        self.copied = log.entries_from(u64::MAX).1;
    }

    /// Appends what is new in the log of the database.
    fn copy(&mut self, log: &DatabaseLog) {
        let (entries, next) = log.entries_from(self.copied);
        self.copied = next;
        for share in self.shares.values_mut() {
            share.bytes = (share.bytes + SHARE_BYTES_PER_COPY).min(SHARE_BYTES_MAX);
        }
        let mut kept = Vec::new();
        for entry in entries {
            let LogText::Text(text) = &entry.text else {
                continue;
            };
            let share = self
                .shares
                .entry(Arc::clone(&entry.trigger_name))
                .or_insert(Share {
                    bytes: SHARE_BYTES_MAX,
                    refused: 0,
                });
            let Some(left) = share.bytes.checked_sub(text.len()) else {
                share.refused += 1;
                continue;
            };
            share.bytes = left;
            let refused = std::mem::take(&mut share.refused);
            if refused > 0 {
                kept.push(LogEntry {
                    level: LogLevel::Warn,
                    text: LogText::Text(format!("{refused} lines were too much to be kept").into()),
                    ..entry.clone()
                });
            }
            kept.push(entry);
        }
        self.shares
            .retain(|_, share| share.bytes < SHARE_BYTES_MAX || share.refused > 0);
        if !kept.is_empty() {
            self.journal.append(&batch_of(&kept));
        }
    }
}

fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, false);
    let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
    Arc::new(Schema::new(vec![
        Field::new("event_time", time, false),
        text("trigger_name"),
        text("log_level"),
        text("log_text"),
    ]))
}

fn batch_of(entries: &[LogEntry]) -> RecordBatch {
    let times = entries.iter().map(|entry| entry.time_ns);
    let names = entries.iter().map(|entry| &*entry.trigger_name);
    let levels = entries.iter().map(|entry| level_name(entry.level));
    let texts = entries.iter().map(|entry| entry.text.render());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from_iter_values(times)),
        Arc::new(StringArray::from_iter_values(names)),
        Arc::new(StringArray::from_iter_values(levels)),
        Arc::new(StringArray::from_iter_values(texts)),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns are made as the schema says")
}

/// The entries of a batch of the journal, which has its schema.
fn entries_of(batch: &RecordBatch) -> impl Iterator<Item = LogEntry> {
    let times = batch.column(0).as_primitive::<TimestampNanosecondType>();
    let texts = [1, 2, 3].map(|column| batch.column(column).as_string::<i32>());
    (0..batch.num_rows()).map(move |row| {
        let [name, level, text] = texts.map(|column| column.value(row));
        let levels = [LogLevel::Info, LogLevel::Warn, LogLevel::Error];
        let level = levels.into_iter().find(|known| level_name(*known) == level);
        LogEntry {
            time_ns: times.value(row),
            trigger_name: name.into(),
            level: level.unwrap_or(LogLevel::Info),
            text: LogText::Text(text.into()),
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::memory::InMemory;
    use tidemill_catalog::Limits;

    use super::*;
    use crate::plugin_logs::TriggerLog;

    const RETENTION: Duration = Duration::from_hours(1);

    async fn catalog(store: &Arc<InMemory>) -> (Catalog, DatabaseId) {
        let catalog = Catalog::open(Arc::clone(store) as _, "n", Limits::default())
            .await
            .unwrap();
        if catalog.state().database("d").is_none() {
            catalog
                .transact(|transaction| transaction.create_database("d", None))
                .await
                .unwrap();
        }
        let id = catalog.state().database("d").unwrap().id;
        (catalog, id)
    }

    async fn start(store: &Arc<InMemory>, catalog: &Catalog) -> (Arc<LogJournals>, Arc<PluginLogs>) {
        let logs = Arc::new(PluginLogs::new(100));
        let store = Arc::clone(store) as _;
        let journals = LogJournals::start(store, "n", RETENTION, catalog, Arc::clone(&logs)).await;
        (journals, logs)
    }

    fn texts(logs: &PluginLogs, id: DatabaseId) -> Vec<String> {
        let entries = logs.of_database(id).entries();
        entries.iter().map(|entry| entry.text.render()).collect()
    }

    #[tokio::test]
    async fn what_plugins_log_comes_back_after_a_restart_and_only_once() {
        let store = Arc::new(InMemory::new());
        let (catalog, id) = catalog(&store).await;
        let (journals, logs) = start(&store, &catalog).await;
        let trigger = TriggerLog::new("t".into(), logs.of_database(id));
        trigger.push(
            LogLevel::Info,
            LogText::Static("starting execution of wal plugin."),
        );
        trigger.warn("first".to_owned());
        journals.copy().await;
        trigger.error("second".to_owned());
        journals.shutdown().await;

        for _ in 0..2 {
            let (journals, logs) = start(&store, &catalog).await;
            assert_eq!(texts(&logs, id), ["first", "second"]);
            let entries = logs.of_database(id).entries();
            assert_eq!(
                (entries[1].level, &*entries[1].trigger_name),
                (LogLevel::Error, "t")
            );
            journals.shutdown().await;
        }
    }

    #[tokio::test]
    async fn a_plugin_that_talks_without_end_has_a_share() {
        let store = Arc::new(InMemory::new());
        let (catalog, id) = catalog(&store).await;
        let (journals, logs) = start(&store, &catalog).await;
        let loud = TriggerLog::new("loud".into(), logs.of_database(id));
        let quiet = TriggerLog::new("quiet".into(), logs.of_database(id));
        for _ in 0..40 {
            loud.warn("x".repeat(60_000));
        }
        quiet.warn("a word".to_owned());
        journals.copy().await;
        for _ in 0..4 {
            journals.copy().await;
        }
        loud.warn("the last".to_owned());
        journals.shutdown().await;

        let (_journals, logs) = start(&store, &catalog).await;
        let texts = texts(&logs, id);
        let long = texts.iter().filter(|text| text.len() == 60_000).count();
        assert_eq!(long, SHARE_BYTES_MAX / 60_000);
        let others: Vec<&str> = texts
            .iter()
            .map(String::as_str)
            .filter(|text| text.len() < 60_000)
            .collect();
        let refused = format!("{} lines were too much to be kept", 40 - long);
        assert_eq!(others, ["a word", &refused, "the last"]);
    }

    #[tokio::test]
    async fn a_deleted_database_takes_its_logs_with_it() {
        let store = Arc::new(InMemory::new());
        let (catalog, id) = catalog(&store).await;
        for deleted_while_running in [true, false] {
            let (journals, logs) = start(&store, &catalog).await;
            TriggerLog::new("t".into(), logs.of_database(id)).warn("line".to_owned());
            if deleted_while_running {
                journals.copy().await;
                logs.retain(|_| false);
            }
            journals.shutdown().await;
            let objects = async || {
                let listed = store.list(Some(&Path::from("n/plugin_logs")));
                listed.try_collect::<Vec<_>>().await.unwrap().len()
            };
            assert_eq!(objects().await == 0, deleted_while_running);
            if !deleted_while_running {
                catalog
                    .transact(|transaction| transaction.soft_delete_database("d", chrono::Utc::now(), None))
                    .await
                    .unwrap();
                start(&store, &catalog).await.0.shutdown().await;
                assert_eq!(objects().await, 0);
            }
        }
    }
}
