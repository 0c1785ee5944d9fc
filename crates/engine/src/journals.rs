//! The journals of what is kept about triggers, one a database and kind of rows (engine.md 0.32).
//!
//! A task a kind sleeps until rows wait, lets them gather for a second, and appends them. It opens journals in the
//! background: a server with many of them starts no later, and a query waits for them instead.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use tidemill_catalog::{Catalog, DatabaseId};
use tidemill_journal::{Journal, JournalConfig, JournalError};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::kept_rows::{KeptDatabases, KeptRow};
use crate::observations::Observations;
use crate::plugin_logs::{LogEntry, now_ns};
use crate::run_history::RunRow;

/// How long rows gather before they are appended; what came since is lost with a crash.
const COPY_DELAY: Duration = Duration::from_secs(1);
/// How long the last rows may take to be written when the server stops.
const LAST_FLUSH_MAX: Duration = Duration::from_secs(5);
/// How soon journals are tried again that could not be opened.
const RETRY_DELAY: Duration = Duration::from_mins(1);
/// Journals that are opened at once.
const OPENED_AT_ONCE: usize = 16;

/// Keeps what is observed of triggers, until [`Self::shutdown`].
pub struct Journals {
    logs: Arc<JournalsOf<LogEntry>>,
    runs: Arc<JournalsOf<RunRow>>,
}

impl Journals {
    /// Keeps rows below the folder of the node. Rows older than `retention` go. Returns at once; a journal that cannot be read
    /// is reported and left alone: what is observed is no reason not to start.
    pub fn start(
        store: &Arc<dyn ObjectStore>,
        node_id: &str,
        retention: Duration,
        catalog: &Catalog,
        observations: &Observations,
    ) -> Self {
        let config = JournalConfig {
            age_max: Some(retention),
            ..JournalConfig::default()
        };
        let state = catalog.state();
        let live = state.databases().filter(|database| database.deleted.is_none());
        let live: HashSet<DatabaseId> = live.map(|database| database.id).collect();
        let logs = Arc::clone(&observations.logs.kept);
        let runs = Arc::clone(&observations.runs);
        Self {
            logs: JournalsOf::start(store, node_id, config.clone(), live.clone(), logs),
            runs: JournalsOf::start(store, node_id, config, live, runs),
        }
    }

    /// Writes out what came last. Nothing is kept from then on.
    pub async fn shutdown(&self) {
        tokio::join!(self.logs.shutdown(), self.runs.shutdown());
    }
}

struct OpenJournal {
    journal: Arc<Journal>,
    /// Writes out and merges.
    _upkeep: AbortOnDropHandle<()>,
}

/// The journals of one kind of rows.
struct JournalsOf<R> {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    config: JournalConfig,
    kept: Arc<KeptDatabases<R>>,
    open: Mutex<HashMap<DatabaseId, OpenJournal>>,
    /// Held while journals are opened and appended to: never is one opened twice.
    copying: Mutex<()>,
    stop: CancellationToken,
}

impl<R: KeptRow> JournalsOf<R> {
    fn start(
        store: &Arc<dyn ObjectStore>,
        node_id: &str,
        config: JournalConfig,
        live: HashSet<DatabaseId>,
        kept: Arc<KeptDatabases<R>>,
    ) -> Arc<Self> {
        kept.is_restoring.send_replace(true);
        let journals = Arc::new(Self {
            store: Arc::clone(store),
            folder: Path::from(node_id).join(R::FOLDER),
            config,
            kept,
            open: Mutex::default(),
            copying: Mutex::default(),
            stop: CancellationToken::new(),
        });
        tokio::spawn(Arc::clone(&journals).run(live));
        journals
    }

    async fn shutdown(&self) {
        self.stop.cancel();
        self.copy().await;
        let open = self.open.lock().await;
        let flushed = futures::future::join_all(open.values().map(|open| open.journal.flush()));
        if timeout(LAST_FLUSH_MAX, flushed).await.is_err() {
            tracing::warn!(folder = %self.folder, "the last rows of journals could not be written in time");
        }
    }

    async fn run(self: Arc<Self>, live: HashSet<DatabaseId>) {
        let restoring = self.restore(&live);
        let mut is_complete = tokio::select! {
            () = self.stop.cancelled() => return,
            is_complete = restoring => is_complete,
        };
        self.kept.is_restoring.send_replace(false);
        loop {
            let delay_max = if is_complete { Duration::MAX } else { RETRY_DELAY };
            tokio::select! {
                () = self.stop.cancelled() => return,
                // Either way it is time to look.
                _ = timeout(delay_max, self.kept.changed.notified()) => {}
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(COPY_DELAY) => {}
            }
            is_complete = self.copy().await;
        }
    }

    /// Opens the journals of databases that are there, and removes those of others. Answers whether all went well.
    async fn restore(&self, live: &HashSet<DatabaseId>) -> bool {
        let _copying = self.copying.lock().await;
        let listed = match self.store.list_with_delimiter(Some(&self.folder)).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(folder = %self.folder, %error, "could not find the journals from before");
                return true;
            }
        };
        let names = listed.common_prefixes.iter().filter_map(Path::filename);
        let ids: Vec<DatabaseId> = names
            .filter_map(|name| name.parse().ok())
            .map(DatabaseId)
            .collect();
        let opened = futures::stream::iter(ids).map(async |id| {
            if live.contains(&id) {
                self.open(id).await
            } else {
                self.remove(id).await;
                true
            }
        });
        let opened: Vec<bool> = opened.buffer_unordered(OPENED_AT_ONCE).collect().await;
        opened.iter().all(|is_open| *is_open)
    }

    /// Opens the journal of a database. Answers whether that went well.
    async fn open(&self, id: DatabaseId) -> bool {
        match self.journal(id).await {
            Ok(journal) => {
                let journal = Arc::new(journal);
                self.kept.of_database(id).attach(Arc::clone(&journal));
                let upkeep = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&journal).run()));
                let open = OpenJournal {
                    journal,
                    _upkeep: upkeep,
                };
                self.open.lock().await.insert(id, open);
                true
            }
            Err(error) => {
                tracing::warn!(%error, database = id.0, folder = %self.folder,
                    "rows of this database are in memory only, until its journal can be opened");
                false
            }
        }
    }

    /// Appends what waits. Databases that have gone take their journals with them. Answers whether all went well.
    async fn copy(&self) -> bool {
        let _copying = self.copying.lock().await;
        let mut is_complete = true;
        let databases: HashMap<_, _> = self.kept.all().into_iter().collect();
        let known: HashSet<DatabaseId> = self.open.lock().await.keys().copied().collect();
        for id in known.iter().filter(|id| !databases.contains_key(id)) {
            self.open.lock().await.remove(id);
            self.remove(*id).await;
        }
        for (id, rows) in databases {
            if rows.has_waiting() {
                is_complete &= known.contains(&id) || self.open(id).await;
                rows.copy();
            }
        }
        is_complete
    }

    /// Removes the journal of a database, which nobody writes to any more.
    async fn remove(&self, id: DatabaseId) {
        let removed = async { self.journal(id).await?.clear().await };
        if let Err(error) = removed.await {
            tracing::warn!(%error, database = id.0, folder = %self.folder, "could not remove the journal of a deleted database");
        }
    }

    async fn journal(&self, id: DatabaseId) -> Result<Journal, JournalError> {
        let folder = self.folder.clone().join(id.0.to_string());
        let (store, config) = (Arc::clone(&self.store), self.config.clone());
        Journal::open(store, folder.as_ref(), R::schema(), config, Arc::new(now_ns)).await
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, RecordBatch};
    use futures::{FutureExt, TryStreamExt};
    use object_store::memory::InMemory;
    use tidemill_catalog::Limits;
    use tidemill_query::SystemScan;
    use tidemill_worker_proto::LogLevel;

    use super::*;
    use crate::plugin_logs::{KEPT_BYTES_PER_SECOND, LogText, TriggerLog};

    const RETENTION: Duration = Duration::from_hours(1);

    async fn catalog(store: &Arc<dyn ObjectStore>) -> (Catalog, DatabaseId) {
        let catalog = Catalog::open(Arc::clone(store), "n", Limits::default())
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

    fn start(store: &Arc<dyn ObjectStore>, catalog: &Catalog) -> (Journals, Observations) {
        let observations = Observations::new(100);
        let journals = Journals::start(store, "n", RETENTION, catalog, &observations);
        (journals, observations)
    }

    /// The lines of the database's log, as the system table shows them.
    async fn texts(observations: &Observations, id: DatabaseId, newest_first: bool) -> Vec<String> {
        let scan = SystemScan {
            columns: vec![3],
            times: i64::MIN..=i64::MAX,
            newest_first,
            rows_max: None,
        };
        let log = observations.logs.existing(id);
        let in_memory = move || log.map(|log| log.in_memory()).unwrap_or_default();
        let rows = observations.logs.kept.scan(Some(id), in_memory, scan);
        let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
        let texts = batches.iter().flat_map(|batch| {
            let texts = batch.column(0).as_string::<i32>();
            texts
                .iter()
                .map(|text| text.unwrap().to_owned())
                .collect::<Vec<_>>()
        });
        texts.collect()
    }

    #[tokio::test]
    async fn every_line_is_shown_once_wherever_it_is() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (catalog, id) = catalog(&store).await;
        let mut expected: Vec<String> = Vec::new();
        for start_number in 0..3 {
            let (journals, observations) = start(&store, &catalog);
            assert_eq!(
                texts(&observations, id, false).await,
                expected,
                "at once after the start"
            );
            let log = TriggerLog::new(
                "t".into(),
                observations.logs.of_database(id),
                KEPT_BYTES_PER_SECOND,
            );
            let begins = "starting execution of wal plugin.";
            log.push(LogLevel::Info, LogText::Static(begins));
            for number in 0..30 {
                log.warn(format!("line {start_number}-{number}"));
                expected.push(format!("line {start_number}-{number}"));
                // In the store, in the journal's memory, waiting for the journal.
                match number {
                    10 => {
                        journals.logs.copy().await;
                        journals.logs.open.lock().await[&id]
                            .journal
                            .flush()
                            .await
                            .unwrap();
                    }
                    20 => drop(journals.logs.copy().await),
                    _ => {}
                }
            }
            let mut shown = texts(&observations, id, false).await;
            let mut reversed = texts(&observations, id, true).await;
            reversed.reverse();
            assert_eq!(reversed, shown);
            let lines_before = 30 * start_number;
            assert_eq!(shown.remove(lines_before), begins, "in its place");
            assert_eq!(shown, expected);
            journals.shutdown().await;
        }
    }

    #[tokio::test]
    async fn rows_wake_their_journal_and_nothing_else_does() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (catalog, id) = catalog(&store).await;
        let observations = Observations::new(100);
        let log = TriggerLog::new(
            "t".into(),
            observations.logs.of_database(id),
            KEPT_BYTES_PER_SECOND,
        );
        let is_woken = || observations.logs.kept.changed.notified().now_or_never().is_some();
        log.push(
            LogLevel::Info,
            LogText::Static("starting execution of request plugin."),
        );
        assert!(!is_woken(), "what lives in memory needs no journal");
        log.warn("a line".to_owned());
        assert!(is_woken());
        log.warn("another one".to_owned());
        assert!(!is_woken(), "it will come along");

        let journals = Journals::start(&store, "n", RETENTION, &catalog, &observations);
        log.warn("a third one".to_owned());
        // Woken by a row that came when nothing waited.
        journals.logs.copy().await;
        log.warn("a fourth one".to_owned());
        let rows = observations.logs.kept.of_database(id);
        let copied = async {
            while rows.has_waiting() {
                tokio::task::yield_now().await;
            }
        };
        timeout(20 * COPY_DELAY, copied).await.expect("rows are copied");
        assert_eq!(journals.logs.open.lock().await.len(), 1);
        journals.shutdown().await;
    }

    #[tokio::test]
    async fn a_deleted_database_takes_its_journals_with_it() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (catalog, id) = catalog(&store).await;
        let objects = async || {
            let listed = store.list(Some(&Path::from("n/plugin_logs")));
            listed.try_collect::<Vec<_>>().await.unwrap().len()
        };
        for deleted_while_running in [true, false] {
            let (journals, observations) = start(&store, &catalog);
            let log = TriggerLog::new(
                "t".into(),
                observations.logs.of_database(id),
                KEPT_BYTES_PER_SECOND,
            );
            log.warn("line".to_owned());
            journals.logs.copy().await;
            if deleted_while_running {
                observations.retain(|_| false);
            }
            journals.shutdown().await;
            assert_eq!(objects().await == 0, deleted_while_running);
        }
        catalog
            .transact(|transaction| transaction.soft_delete_database("d", chrono::Utc::now(), None))
            .await
            .unwrap();
        let (journals, observations) = start(&store, &catalog);
        assert!(texts(&observations, id, false).await.is_empty());
        journals.shutdown().await;
        assert_eq!(objects().await, 0);
    }
}
