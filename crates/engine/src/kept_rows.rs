//! Rows about triggers that outlive the server: lines of their logs, runs that have ended (engine.md 0.32).
//!
//! Whoever has a row puts it into memory and goes on. A second later all that wait are appended to the journal of their
//! database ([`crate::journals`]). A query sees both, and each row once: rows move under a lock that it takes too.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::{Mutex, RwLock};
use tidemill_catalog::DatabaseId;
use tidemill_journal::{Journal, OrderedScan};
use tidemill_query::{SystemRows, SystemScan};
use tokio::sync::{Notify, watch};

/// Bytes of rows of one database that may wait for its journal.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A kind of rows.
pub(crate) trait KeptRow: Clone + Send + Sync + 'static {
    /// The folder of their journals.
    const FOLDER: &'static str;

    /// Their columns; the first one is a time in nanoseconds.
    fn schema() -> SchemaRef;

    /// Rows as columns.
    fn batch_of(rows: &[Self]) -> RecordBatch;

    /// About how much memory a row takes.
    fn memory_bytes(&self) -> usize;
}

struct Waiting<R> {
    rows: Vec<R>,
    bytes: usize,
}

/// The rows of one database.
pub(crate) struct KeptRows<R> {
    waiting: Mutex<Waiting<R>>,
    /// Held while rows move there, so that a reader who holds it sees each in one place.
    journal: Mutex<Option<Arc<Journal>>>,
    appended: Arc<Notify>,
}

impl<R: KeptRow> KeptRows<R> {
    fn new(appended: Arc<Notify>) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                rows: Vec::new(),
                bytes: 0,
            }),
            journal: Mutex::default(),
            appended,
        }
    }

    /// Adds a row. Gives it back where there is no room: the journal does not work.
    pub(crate) fn push(&self, row: R) -> Result<(), R> {
        let is_first = {
            let mut waiting = self.waiting.lock();
            let bytes = waiting.bytes + row.memory_bytes();
            if bytes > WAITING_BYTES_MAX {
                return Err(row);
            }
            waiting.bytes = bytes;
            waiting.rows.push(row);
            waiting.rows.len() == 1
        };
        if is_first {
            self.appended.notify_one();
        }
        Ok(())
    }

    /// The rows that wait for the journal.
    pub(crate) fn waiting(&self) -> Vec<R> {
        self.waiting.lock().rows.clone()
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.lock().rows.is_empty()
    }

    /// Rows go to this journal from now on.
    pub(crate) fn attach(&self, journal: Arc<Journal>) {
        *self.journal.lock() = Some(journal);
    }

    /// Appends what waits to the journal, if there is one.
    pub(crate) fn copy(&self) {
        let journal = self.journal.lock();
        let Some(journal) = journal.as_ref() else {
            return;
        };
        let rows = {
            let mut waiting = self.waiting.lock();
            waiting.bytes = 0;
            std::mem::take(&mut waiting.rows)
        };
        if !rows.is_empty() {
            journal.append(&R::batch_of(&rows));
        }
    }

    /// The rows, with `more` that live in memory only.
    fn rows(&self, more: Vec<R>, scan: &SystemScan) -> SystemRows {
        let (snapshot, waiting) = {
            let journal = self.journal.lock();
            (journal.as_ref().map(Journal::snapshot), self.waiting())
        };
        let in_memory = [waiting, more].map(|rows| R::batch_of(&rows));
        let Some(snapshot) = snapshot else {
            let rows = concat_batches(&R::schema(), &in_memory);
            return scan.answer(rows.map_err(|error| error.to_string()));
        };
        let wanted = OrderedScan {
            columns: scan.columns.clone(),
            times: scan.times.clone(),
            newest_first: scan.newest_first,
        };
        let rows = snapshot.in_order(wanted, in_memory.into());
        rows.map_err(|error| error.to_string()).boxed()
    }
}

/// The rows of all databases.
pub(crate) struct KeptDatabases<R> {
    databases: RwLock<HashMap<DatabaseId, Arc<KeptRows<R>>>>,
    /// Rows wait, or a database has gone.
    pub(crate) changed: Arc<Notify>,
    /// Whether rows of before the start may still be missing.
    pub(crate) is_restoring: watch::Sender<bool>,
}

impl<R: KeptRow> Default for KeptDatabases<R> {
    fn default() -> Self {
        Self {
            databases: RwLock::default(),
            changed: Arc::default(),
            is_restoring: watch::Sender::new(false),
        }
    }
}

impl<R: KeptRow> KeptDatabases<R> {
    /// The rows of a database, made where there are none.
    pub(crate) fn of_database(&self, database: DatabaseId) -> Arc<KeptRows<R>> {
        if let Some(rows) = self.databases.read().get(&database) {
            return Arc::clone(rows);
        }
        let new = || Arc::new(KeptRows::new(Arc::clone(&self.changed)));
        Arc::clone(self.databases.write().entry(database).or_insert_with(new))
    }

    /// Forgets the rows of all databases but those that `keep` accepts. Rows that are still pushed go nowhere.
    pub(crate) fn retain(&self, keep: impl Fn(DatabaseId) -> bool) {
        let mut databases = self.databases.write();
        let before = databases.len();
        databases.retain(|database, _| keep(*database));
        if databases.len() < before {
            self.changed.notify_one();
        }
    }

    pub(crate) fn all(&self) -> Vec<(DatabaseId, Arc<KeptRows<R>>)> {
        let databases = self.databases.read();
        databases
            .iter()
            .map(|(id, rows)| (*id, Arc::clone(rows)))
            .collect()
    }

    /// The rows of a database as a system table; `more` are rows of it that live in memory only.
    pub(crate) fn scan(
        self: &Arc<Self>,
        database: Option<DatabaseId>,
        more: impl FnOnce() -> Vec<R> + Send + 'static,
        scan: SystemScan,
    ) -> SystemRows {
        let databases = Arc::clone(self);
        let rows = async move {
            // The sender is part of `databases`.
            let _ = databases
                .is_restoring
                .subscribe()
                .wait_for(|is_restoring| !is_restoring)
                .await;
            let known = database.and_then(|database| databases.databases.read().get(&database).cloned());
            match known {
                Some(rows) => rows.rows(more(), &scan),
                None => scan.answer(Ok(RecordBatch::new_empty(R::schema()))),
            }
        };
        stream::once(rows).flatten().boxed()
    }
}
