//! The write path itself.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_catalog::{Catalog, CatalogError, CatalogState, Transaction, validate_database_name};
use tidemill_lineproto::{LineError, ParseOptions, ParsedBody, Precision, parse};
use tidemill_store::{Frozen, Storage, Store, TableBatch};
use tidemill_triggers::Position;
use tidemill_wal::{Lsn, Medium, Pending, Wal, WalConfig, WalError};
use tokio::sync::watch;

use crate::progress::{TriggerKey, TriggerProgress, Triggers};
use crate::progress_image::{self, ProgressImageError};
use crate::record::{self, Commit};
use crate::replay::{ReplayError, decode_known};
use crate::replay_room::ReplayRoom;
use crate::resolve::Resolution;
use crate::snapshot_config::SnapshotConfig;
use crate::snapshots::Snapshots;
use crate::tail::{Backlog, ReadLimits, TableFilter, Tail, TailRead};
use crate::write::{DatabaseLines, NameRule, RunCommit, WriteError, WriteOutcome, WriteRequest};

/// Bodies up to this size are parsed where they are: the hand-over to the blocking pool costs more than the parsing.
const INLINE_BYTES_MAX: usize = 8 * 1024;

/// Longest string, tag or name in line protocol (`spec/database.md` 3.4).
const STRING_BYTES_MAX: usize = 1024 * 1024;

/// Largest state of one trigger: it is in memory, and part of every snapshot.
const STATE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of the log that are looked at in one piece in search of an instant.
const SEARCH_BYTES: usize = 8 * 1024 * 1024;

/// Settings of the write path.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// Settings of the log.
    pub wal: WalConfig,
    /// Bytes of recent commits kept decoded for triggers.
    pub tail_bytes_max: usize,
    /// When the buffer becomes files, and how much of the log is kept.
    pub snapshot: SnapshotConfig,
}

impl Default for IngestConfig {
    /// 64 MiB of recent commits, and the defaults of the parts.
    fn default() -> Self {
        Self {
            wal: WalConfig::default(),
            tail_bytes_max: 64 * 1024 * 1024,
            snapshot: SnapshotConfig::default(),
        }
    }
}

/// Why the write path cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The log cannot be opened or is damaged.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The progress of the triggers is damaged.
    #[error(transparent)]
    Progress(#[from] ProgressImageError),
}

/// The write path: shared by everything that writes.
pub struct Ingest {
    catalog: Arc<Catalog>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) wal: Wal<Arc<Commit>>,
    pub(crate) published: Arc<Published>,
    pub(crate) snapshots: Arc<Snapshots>,
    /// Bytes of records that were replayed when the log was opened.
    replayed_bytes: u64,
}

/// What the publish step maintains.
pub(crate) struct Published {
    store: Arc<Store>,
    tail: Tail,
    triggers: Triggers,
    /// The newest commit in all of these; held while one is made visible, so that whoever holds it sees whole commits.
    last: Mutex<Lsn>,
}

impl Published {
    /// Makes one commit visible. Called in log order: by the replay, then by the log's thread.
    fn commit(&self, lsn: Lsn, commit: &Arc<Commit>) {
        let mut last = self.last.lock();
        for delete in &commit.deletes {
            self.store.apply_delete(&delete.at(lsn));
        }
        for batch in &commit.tables {
            self.store.apply(lsn.0, batch);
        }
        for progress in &commit.progress {
            self.triggers.advance(progress);
        }
        self.tail.push(lsn, Arc::clone(commit));
        *last = lsn;
    }

    /// The newest commit.
    pub(crate) fn last(&self) -> Lsn {
        *self.last.lock()
    }

    /// Freezes the buffer and copies the progress of the triggers, both as of the same place in the log.
    pub(crate) fn freeze(&self) -> (Frozen, Vec<TriggerProgress>) {
        let last = self.last.lock();
        (self.store.freeze(last.0), self.triggers.image())
    }

    /// Takes over positions that have become durable with a snapshot.
    pub(crate) fn merge_cursors(&self, image: &[TriggerProgress]) {
        self.triggers.merge_cursors(image);
    }
}

/// Line protocol of one database.
struct Lines {
    database: String,
    body: Bytes,
    precision: Precision,
    received_ns: i64,
    name_rule: NameRule,
}

impl Lines {
    fn parse(self) -> Result<Parsed, WriteError> {
        let options = ParseOptions {
            precision: self.precision,
            default_time_ns: self.received_ns,
            string_bytes_max: STRING_BYTES_MAX,
        };
        let body = parse(std::str::from_utf8(&self.body)?, &options);
        if body.line_count == 0 {
            return Err(WriteError::Empty);
        }
        Ok(Parsed {
            database: self.database,
            text: self.body,
            body,
        })
    }
}

/// Parsed lines of one database on their way into a commit.
struct Parsed {
    database: String,
    text: Bytes,
    body: ParsedBody,
}

impl Parsed {
    /// The rows that the resolution keeps, as batches of the schema in `state`, and the bad lines in order; an error
    /// where there are bad ones and all must be good.
    fn accept(
        mut self,
        state: &CatalogState,
        resolution: &Resolution,
        accept_partial: bool,
    ) -> Result<Accepted, WriteError> {
        let rejected_count = self.rejected_count(resolution);
        let rejected = self.take_rejected(resolution, accept_partial)?;
        let rows = resolution.kept_rows();
        let batches = match state.database(&self.database) {
            Some(database) if rows > 0 => resolution.batches(database, self.body.tables)?,
            _ if rows > 0 => return Err(CatalogError::DatabaseNotFound(self.database).into()),
            _ => Vec::new(),
        };
        Ok(Accepted {
            batches,
            rows,
            rejected,
            rejected_count,
        })
    }

    /// The bad lines in order; an error where there are any and all must be good.
    fn take_rejected(
        &mut self,
        resolution: &Resolution,
        accept_partial: bool,
    ) -> Result<Vec<LineError>, WriteError> {
        if self.rejected_count(resolution) == 0 {
            return Ok(Vec::new());
        }
        let text = std::str::from_utf8(&self.text)?;
        let unparsed = std::mem::take(&mut self.body.errors);
        let rejected = resolution.rejections.describe(text, unparsed);
        if accept_partial {
            Ok(rejected)
        } else {
            Err(WriteError::Rejected(rejected))
        }
    }

    /// How many lines could not be parsed or do not fit the schema.
    fn rejected_count(&self, resolution: &Resolution) -> usize {
        self.body.rejected_count + resolution.rejections.count()
    }
}

/// Lines that fit the schema, or that need it changed first.
enum Prepared {
    Accepted(Accepted),
    SchemaChange(NeedsSchema),
}

/// Lines that need another schema, with what they need where the catalog is still in `state`.
struct NeedsSchema {
    parsed: Parsed,
    state: Arc<CatalogState>,
    resolution: Resolution,
}

/// Rows of one database that fit the schema, and the lines that do not.
struct Accepted {
    batches: Vec<Arc<TableBatch>>,
    rows: usize,
    rejected: Vec<LineError>,
    rejected_count: usize,
}

impl Ingest {
    /// Opens the log, replays what is in no file, and starts taking writes. Blocks while it reads, and while it writes files:
    /// what is replayed never takes much more memory than the buffer may have. For these it needs a tokio runtime, which
    /// it is not to be called on.
    pub fn open(
        medium: Box<dyn Medium>,
        config: IngestConfig,
        catalog: Arc<Catalog>,
        storage: Arc<Storage>,
    ) -> Result<Self, OpenError> {
        let IngestConfig {
            mut wal,
            tail_bytes_max,
            snapshot,
        } = config;
        let snapshot_lsn = Lsn(storage.snapshot_lsn());
        wal.replay_after = wal.replay_after.max(snapshot_lsn);
        let store = Arc::clone(storage.store());
        let published = Arc::new(Published {
            store: Arc::clone(&store),
            tail: Tail::new(tail_bytes_max, wal.replay_after),
            triggers: Triggers::default(),
            last: Mutex::new(wal.replay_after),
        });
        if let Some(image) = storage.take_progress() {
            for progress in progress_image::decode(snapshot_lsn, &image)? {
                published.triggers.advance(&progress);
            }
        }
        let state = catalog.state();
        let mut replay_room = ReplayRoom::new(&storage, &published, &state, &snapshot);
        let replaying = Arc::clone(&published);
        let replay = |lsn: Lsn, payload: &[u8]| -> Result<(), ReplayError> {
            replaying.commit(lsn, &Arc::new(decode_known(payload, &state)?));
            replay_room.make(payload.len())
        };
        let snapshots = Arc::new(Snapshots::new(snapshot.clone()));
        let (publishing, watching) = (Arc::clone(&published), Arc::clone(&snapshots));
        let publish = move |group: &mut Vec<(Lsn, Arc<Commit>)>| {
            for (lsn, commit) in group.drain(..) {
                publishing.commit(lsn, &commit);
            }
            watching.note_buffer(store.total_bytes());
        };
        let wal = Wal::open(medium, wal, replay, publish)?;
        let replayed_bytes = replay_room.bytes_since_snapshot();
        published.triggers.retain_known(&catalog.state());
        Ok(Self {
            catalog,
            storage,
            wal,
            published,
            snapshots,
            replayed_bytes,
        })
    }

    /// The catalog that writes resolve against.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The memory buffer that commits become visible in.
    pub fn store(&self) -> &Arc<Store> {
        self.storage.store()
    }

    /// Everything that holds rows: the buffer, the files and the manifest.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// Bytes of the log in no snapshot when it was opened, and written since.
    pub(crate) fn log_bytes_written(&self) -> u64 {
        self.replayed_bytes + self.wal.stats().bytes
    }

    /// Waits until something has reached its limit, so that [`snapshot_once`](Self::snapshot_once) has something to do.
    pub async fn until_asked_for_snapshot(&self) {
        self.snapshots.asked().await;
    }

    /// Notes that a trigger has run, or passed over, everything up to a record, and that what its runs wrote is durable. The
    /// next snapshot makes this durable too, and lets the log go.
    pub fn note_read(&self, trigger: TriggerKey, through: Lsn) {
        self.published.triggers.note_seen(trigger, through.0);
    }

    /// The newest visible commit; changes wake triggers.
    pub fn committed(&self) -> watch::Receiver<Lsn> {
        self.wal.committed()
    }

    /// What a trigger has run, as its committed runs say.
    pub fn cursor(&self, trigger: TriggerKey) -> Option<Position> {
        self.published.triggers.cursor(trigger)
    }

    /// The latest instant that a committed run of a scheduled trigger was for, in nanoseconds since the epoch.
    pub fn last_scheduled(&self, trigger: TriggerKey) -> Option<i64> {
        self.published.triggers.scheduled_ns(trigger)
    }

    /// A committed value of a trigger's state.
    pub fn state_value(&self, trigger: TriggerKey, key: &str) -> Option<Bytes> {
        self.published.triggers.value(trigger, key)
    }

    /// The keys in a trigger's state that begin with a text, in order.
    pub fn state_keys(&self, trigger: TriggerKey, prefix: &str) -> Vec<String> {
        self.published.triggers.keys_with_prefix(trigger, prefix)
    }

    /// The newest record that is not in the log any more: where a reader of all that is there begins.
    pub fn log_start(&self) -> Lsn {
        Lsn(self.wal.first_lsn().0.saturating_sub(1))
    }

    /// The newest record before the rows that arrived at `time_ns` or later, as far back as the log goes: where a reader
    /// of those rows begins. Reads the log; the clock may have been set back, then it is the first such record.
    pub async fn position_before(self: &Arc<Self>, time_ns: i64) -> Result<Lsn, WriteError> {
        let ingest = Arc::clone(self);
        let search = move || ingest.search_log(time_ns);
        tokio::task::spawn_blocking(search)
            .await
            .map_err(|_| WriteError::ShuttingDown)?
    }

    /// Waits until everything that is in order now is durable, and so in [`cursor`](Self::cursor), or has failed.
    pub async fn settled(&self) {
        // The log decides in order: when it has decided about one more record, it has about all before that. Either answer
        // is a decision, and where it takes no more, nothing can be committed twice either.
        let _ = self.claim().await;
    }

    /// Appends a record without content and waits until it is durable. From then on another process that takes itself for
    /// the same node cannot append to this log, whatever it knew before.
    pub async fn claim(&self) -> Result<(), WriteError> {
        let pending = self.append(Commit::default()).await?;
        pending.durable().await?;
        Ok(())
    }

    /// Forgets a deleted trigger's progress and state.
    pub fn forget_cursor(&self, trigger: TriggerKey) {
        self.published.triggers.forget(trigger);
    }

    /// Writes line protocol. Returns when it is durable and visible, or with `no_sync` when it is in order.
    pub async fn write(&self, request: WriteRequest) -> Result<WriteOutcome, WriteError> {
        let WriteRequest {
            database,
            body,
            precision,
            accept_partial,
            no_sync,
            received_ns,
            name_rule,
            depth,
        } = request;
        let lines = Lines {
            database,
            body,
            precision,
            received_ns,
            name_rule,
        };
        self.until_there_is_room().await?;
        let Accepted {
            batches,
            rows,
            rejected,
            rejected_count,
        } = self.accept(lines, accept_partial).await?;
        let outcome = WriteOutcome {
            lsn: None,
            rows,
            rejected,
            rejected_count,
        };
        if rows == 0 {
            return Ok(outcome);
        }
        let pending = self
            .append(Commit {
                tables: batches,
                time_ns: received_ns,
                depth,
                ..Commit::default()
            })
            .await?;
        let lsn = if no_sync {
            None
        } else {
            Some(self.durable(pending).await?)
        };
        Ok(WriteOutcome { lsn, ..outcome })
    }

    /// Commits what one run of a trigger wrote together with its progress and its state, as one record. Returns when it is
    /// durable and visible; a run that wrote nothing and keeps nothing returns as soon as its progress is in order.
    ///
    /// The error names the database whose lines were refused; nothing was written then, and the progress stays.
    pub async fn commit_run(&self, run: RunCommit) -> Result<WriteOutcome, (String, WriteError)> {
        let RunCommit {
            writes,
            progress,
            depth,
            received_ns,
        } = run;
        let has_state = !progress.state.is_empty();
        if has_state {
            let triggers = &self.published.triggers;
            let bytes = triggers.state_bytes_after(progress.trigger, &progress.state);
            let bytes_max = STATE_BYTES_MAX;
            if bytes > bytes_max {
                return Err((String::new(), WriteError::StateTooLarge { bytes, bytes_max }));
            }
        }
        let writes = joined_by_database(writes);
        if !writes.is_empty() {
            let room = self.until_there_is_room().await;
            room.map_err(|error| (String::new(), error))?;
        }
        if writes.len() > 1 {
            // The schema of one database must not change for lines that another one's refusal takes back.
            for write in &writes {
                self.check(write, received_ns)
                    .await
                    .map_err(|error| (write.database.clone(), error))?;
            }
        }
        let mut tables: Vec<Arc<TableBatch>> = Vec::new();
        let mut outcome = WriteOutcome::default();
        for DatabaseLines { database, lines } in writes {
            let name = database.clone();
            let lines = Lines {
                database,
                body: lines,
                precision: Precision::Nanosecond,
                received_ns,
                name_rule: NameRule::Weak,
            };
            let accepted = self.accept(lines, false).await;
            let accepted = accepted.map_err(|error| (name, error))?;
            outcome.rows += accepted.rows;
            tables.extend(accepted.batches);
        }
        let wrote = !tables.is_empty();
        let commit = Commit {
            tables,
            progress: vec![progress],
            time_ns: received_ns,
            depth,
            ..Commit::default()
        };
        let log_failed = |error| (String::new(), error);
        let pending = self.append(commit).await.map_err(log_failed)?;
        if !wrote && !has_state {
            return Ok(outcome);
        }
        match self.durable(pending).await {
            Ok(lsn) => Ok(WriteOutcome {
                lsn: Some(lsn),
                ..outcome
            }),
            Err(error) => Err(log_failed(error)),
        }
    }

    /// Waits a little for room in the buffer, where there is none.
    async fn until_there_is_room(&self) -> Result<(), WriteError> {
        let (snapshots, store) = (&self.snapshots, self.store());
        if snapshots.room.is_there(store) {
            return Ok(());
        }
        snapshots.ask();
        snapshots.room.wait(store, || snapshots.is_failing()).await
    }

    async fn durable(&self, pending: Pending) -> Result<Lsn, WriteError> {
        Ok(pending
            .durable()
            .await
            .inspect_err(|error| self.snapshots.note_log_failure(error))?)
    }

    /// What a reader at `cursor` has yet to read, told from the tail: costs little however much it is.
    pub fn backlog_after(&self, cursor: Lsn, filter: &TableFilter) -> Backlog {
        let end = *self.committed().borrow();
        self.published.tail.backlog_after(cursor, end, filter)
    }

    /// What a reader at `cursor` has not seen, from the tail or, where that does not reach back so far, from the log. Always
    /// at least one commit if there is one.
    pub async fn read_after(
        self: &Arc<Self>,
        cursor: Lsn,
        filter: &TableFilter,
        limits: ReadLimits,
    ) -> Result<TailRead, WriteError> {
        if let Some(read) = self.published.tail.read_after(cursor, filter, limits) {
            return Ok(read);
        }
        let ingest = Arc::clone(self);
        let filter = filter.clone();
        let read = move || ingest.read_log(cursor, &filter, limits);
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| WriteError::ShuttingDown)?
    }

    /// Flushes what is pending and stops the log. Later writes fail.
    pub async fn shutdown(&self) {
        self.wal.shutdown().await;
    }

    fn read_log(
        &self,
        cursor: Lsn,
        filter: &TableFilter,
        mut limits: ReadLimits,
    ) -> Result<TailRead, WriteError> {
        let mut read = TailRead {
            batches: Vec::new(),
            next: cursor,
        };
        for (lsn, payload) in self.wal.read(cursor, limits.bytes)? {
            let commit = decode_logged(lsn, &payload)?;
            if read.take(lsn, &commit, filter, &mut limits).is_break() {
                break;
            }
        }
        Ok(read)
    }

    fn search_log(&self, time_ns: i64) -> Result<Lsn, WriteError> {
        let end = *self.wal.committed().borrow();
        let mut before = self.log_start();
        while before < end {
            let records = self.wal.read(before, SEARCH_BYTES)?;
            if records.is_empty() {
                break;
            }
            for (lsn, payload) in records {
                let commit = decode_logged(lsn, &payload)?;
                if commit.time_ns >= time_ns && !commit.tables.is_empty() {
                    return Ok(before);
                }
                before = lsn;
            }
        }
        Ok(before)
    }

    /// Whether all lines would be accepted as things are; changes nothing.
    async fn check(&self, write: &DatabaseLines, received_ns: i64) -> Result<(), WriteError> {
        let lines = Lines {
            database: write.database.clone(),
            body: write.lines.clone(),
            precision: Precision::Nanosecond,
            received_ns,
            name_rule: NameRule::Weak,
        };
        self.check_database(&lines)?;
        let body_bytes = lines.body.len();
        let catalog = Arc::clone(&self.catalog);
        let resolve = move || {
            let mut parsed = lines.parse()?;
            let resolution = Resolution::new(
                &catalog.state(),
                catalog.limits(),
                &parsed.database,
                &parsed.body.tables,
            );
            parsed.take_rejected(&resolution, false).map(|_| ())
        };
        offload(body_bytes, resolve).await?
    }

    /// Refuses names that break the rule and databases that are marked for deletion.
    fn check_database(&self, lines: &Lines) -> Result<(), WriteError> {
        validate_database_name(&lines.database, lines.name_rule)?;
        if let Some(database) = self.catalog.state().database(&lines.database) {
            database.check_writable()?;
        }
        Ok(())
    }

    pub(crate) async fn append(&self, commit: Commit) -> Result<Pending, WriteError> {
        let commit = Arc::new(commit);
        let encoding = Arc::clone(&commit);
        let payload = offload(commit.memory_bytes(), move || record::encode(&encoding)).await?;
        match self.wal.append(payload, commit).await {
            Err(WalError::Closed) => Err(WriteError::ShuttingDown),
            appended => Ok(appended?),
        }
    }

    /// Parses lines and takes what fits the schema. Changes the schema where the lines need it and nothing forbids it.
    async fn accept(&self, lines: Lines, accept_partial: bool) -> Result<Accepted, WriteError> {
        self.check_database(&lines)?;
        let body_bytes = lines.body.len();
        let catalog = Arc::clone(&self.catalog);
        let prepare = move || -> Result<Prepared, WriteError> {
            let parsed = lines.parse()?;
            let state = catalog.state();
            let resolution = Resolution::new(&state, catalog.limits(), &parsed.database, &parsed.body.tables);
            let is_refused = !accept_partial && parsed.rejected_count(&resolution) > 0;
            if resolution.changes_schema() && !is_refused {
                Ok(Prepared::SchemaChange(NeedsSchema {
                    parsed,
                    state,
                    resolution,
                }))
            } else {
                parsed
                    .accept(&state, &resolution, accept_partial)
                    .map(Prepared::Accepted)
            }
        };
        match offload(body_bytes, prepare).await?? {
            Prepared::Accepted(accepted) => Ok(accepted),
            Prepared::SchemaChange(lines) => self.change_schema(lines, accept_partial).await,
        }
    }

    async fn change_schema(&self, lines: NeedsSchema, accept_partial: bool) -> Result<Accepted, WriteError> {
        let NeedsSchema {
            parsed,
            state,
            resolution,
        } = lines;
        let limits = self.catalog.limits();
        let apply = |transaction: &mut Transaction| {
            // Resolved anew only where another request has changed the schema since: no other can while this goes on.
            let resolution = if Arc::ptr_eq(transaction.state(), &state) {
                resolution
            } else {
                Resolution::new(transaction.state(), limits, &parsed.database, &parsed.body.tables)
            };
            if accept_partial || parsed.rejected_count(&resolution) == 0 {
                resolution.apply(transaction, &parsed.database, &parsed.body.tables)?;
            }
            // The ids of this very state: in a later one the table may be another of the same name.
            Ok((resolution, Arc::clone(transaction.state())))
        };
        let changed = self.catalog.transact(apply).await;
        let (resolution, state) = changed.inspect_err(|error| {
            if error.is_out_of_room() {
                self.snapshots.note_disk_full();
            }
        })?;
        let body_bytes = parsed.text.len();
        offload(body_bytes, move || {
            parsed.accept(&state, &resolution, accept_partial)
        })
        .await?
    }
}

/// One entry a database: of two, each would be judged without the other, and the first change the schema for nothing.
fn joined_by_database(writes: Vec<DatabaseLines>) -> Vec<DatabaseLines> {
    let mut joined: Vec<DatabaseLines> = Vec::with_capacity(writes.len());
    for write in writes {
        match joined.iter_mut().find(|other| other.database == write.database) {
            Some(other) => other.lines = [&other.lines[..], &write.lines[..]].join(&b'\n').into(),
            None => joined.push(write),
        }
    }
    joined
}

/// Runs work at once where it is small, else on the blocking pool, so that no connection waits behind a large body.
async fn offload<R: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, WriteError> {
    if bytes <= INLINE_BYTES_MAX {
        return Ok(work());
    }
    // The pool refuses only while the runtime ends; a panic of the parser would be a defect that must not pass silently.
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(WriteError::ShuttingDown),
    }
}

/// A record as it was read from the log again.
fn decode_logged(lsn: Lsn, payload: &[u8]) -> Result<Commit, WalError> {
    record::decode(payload).map_err(|error| WalError::Replay {
        lsn,
        source: Arc::new(error),
    })
}
