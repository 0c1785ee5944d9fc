//! Data-write triggers: a reader of the log that stands behind the commit (engine.md 0.11, 0.23, 5.2, 5.3; design.md 6).
//!
//! What a run wrote and the cursor after it are one record, so after a crash no run that wrote is lost or repeated. Where
//! asynchronous runs end before earlier ones, the cursor names them beyond its position, and they are left out when the
//! trigger starts anew. A run that wrote nothing is recorded a while later, and may be repeated after a crash.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tidemill_catalog::{CatalogState, DatabaseId};
use tidemill_ingest::{
    CommittedBatch, Lsn, ReadLimits, TableFilter, TriggerKey, TriggerProgress, WalError, WriteError,
};
use tidemill_triggers::{Cursor, LogRange, Position, RunTicket, TriggerSpec};
use tidemill_worker_proto::Work;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::effects;
use crate::error_behavior::{RunOutcome, run_to_the_end};
use crate::plugin_logs::LogText;
use crate::row_batches::{EncodedRows, encode_committed};
use crate::run_execution::{Committed, RunRequest};
use crate::services::Services;
use crate::trigger_task::RunnerExit;
use crate::worker_session::Session;

/// Batches above this size are encoded on the blocking pool: below it, the hand-over costs more than the encoding.
const INLINE_ROWS_MAX: usize = 2_000;
/// How long the progress over runs that wrote nothing may stay unrecorded; after a crash those runs are repeated.
const PROGRESS_DELAY: Duration = Duration::from_secs(1);
/// Rows up to this part of the greatest depth are merged whatever their depths are: enough for chains of triggers that
/// somebody wants, and far from where a loop is seen.
const JOINED_DEPTH_DIVISOR: u16 = 4;
/// A loop of triggers is reported at most this often.
const LOOP_REPORT_INTERVAL: Duration = Duration::from_mins(1);
/// Bytes that a trigger reads first after its start.
const FIRST_READ_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long to wait before the log is read again after it could not be read.
const READ_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Reads the log from the trigger's cursor on and runs the plugin on what it finds, until `stop`.
pub(crate) async fn run(session: &Arc<Session>, stop: &CancellationToken) -> RunnerExit {
    let reader = tokio::select! {
        () = stop.cancelled() => return RunnerExit::Stopped,
        reader = LogReader::open(session) => reader,
    };
    let concurrency = session.concurrency();
    let mut recorded = reader.position();
    let mut committed = session.services.ingest.committed();
    let mut in_flight = FuturesUnordered::new();
    let mut unrecorded_since: Option<Instant> = None;
    let mut caught_up = false;

    let exit = loop {
        while !caught_up && in_flight.len() < concurrency {
            committed.mark_unchanged();
            match reader.next_run().await {
                Ok(Found::Run(ticket, request)) => in_flight.push(run_one(session, &reader, ticket, request)),
                Ok(Found::Nothing) => caught_up = true,
                Err(reason) => {
                    tracing::error!(
                        trigger = session.definition.trigger_name,
                        reason,
                        "could not read what was written"
                    );
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(READ_RETRY_DELAY) => {}
                    }
                }
            }
            if stop.is_cancelled() {
                break;
            }
        }
        let read_through = reader.cursor.lock().position().through();
        session.stats.set_position(read_through);
        session.services.ingest.note_read(session.key, Lsn(read_through));
        let record_at = unrecorded_since.map(|since| since + PROGRESS_DELAY);
        tokio::select! {
            () = stop.cancelled() => break RunnerExit::Stopped,
            Some(outcome) = in_flight.next(), if !in_flight.is_empty() => match outcome {
                RunOutcome::Disable(reason) => break RunnerExit::Disable(reason),
                RunOutcome::Stopped => break RunnerExit::Stopped,
                outcome => {
                    note_recorded(&mut recorded, &outcome);
                    unrecorded_since = if reader.position() == recorded {
                        None
                    } else {
                        unrecorded_since.or_else(|| Some(Instant::now()))
                    };
                }
            },
            changed = committed.changed(), if caught_up => match changed {
                Ok(()) => caught_up = false,
                Err(_) => break RunnerExit::Stopped,
            },
            () = tokio::time::sleep_until(record_at.unwrap_or_else(Instant::now)), if record_at.is_some() => {
                reader.record_progress(&mut recorded).await;
                unrecorded_since = None;
            }
        }
    };

    // What is in flight gets the grace period to end; what does not is repeated when the trigger comes back.
    let drained = async {
        while let Some(outcome) = in_flight.next().await {
            note_recorded(&mut recorded, &outcome);
        }
    };
    let _ = tokio::time::timeout(session.services.config.stop_grace, drained).await;
    drop(in_flight);
    let position = reader.position();
    let is_recorded = position == recorded;
    session.services.positions.lock().insert(session.key, position);
    if !is_recorded {
        reader.record_progress(&mut recorded).await;
    }
    exit
}

/// Adds what a run has put on record.
fn note_recorded(recorded: &mut Position, outcome: &RunOutcome) {
    if let RunOutcome::Succeeded(Committed::WithProgress(cursor)) | RunOutcome::SetAside(cursor) = outcome {
        recorded.merge(cursor);
    }
}

/// One run with all its attempts; the cursor passes over it unless the trigger stops first.
async fn run_one(
    session: &Arc<Session>,
    reader: &LogReader,
    ticket: RunTicket,
    request: Box<RunRequest>,
) -> RunOutcome {
    let outcome = run_to_the_end(session, &request, || reader.progress_after(ticket)).await;
    if matches!(
        outcome,
        RunOutcome::Succeeded(_) | RunOutcome::GivenUp | RunOutcome::SetAside(_)
    ) {
        reader.cursor.lock().finish_run(ticket);
    }
    outcome
}

enum Found {
    Run(RunTicket, Box<RunRequest>),
    /// Everything committed so far has been looked at.
    Nothing,
}

/// The position of a trigger in the log and the way from there to its next run.
struct LogReader {
    session: Arc<Session>,
    cursor: Mutex<Cursor>,
    /// The tables to read, and the state of the catalog that they are from.
    filter: Mutex<Option<(Arc<CatalogState>, TableFilter)>>,
    loop_reported: Mutex<Option<Instant>>,
    /// What is read at once; it grows from a little up to what a run may be given. So a server that comes up with many
    /// triggers that lag does not read a large part of the log for each of them first.
    read_bytes_max: AtomicUsize,
}

impl LogReader {
    /// A reader that begins with what the trigger has not run yet.
    async fn open(session: &Arc<Session>) -> Self {
        let ingest = &session.services.ingest;
        let left_at = session.services.positions.lock().get(&session.key).cloned();
        if left_at.is_some() {
            // Runs that had to end with the trigger may have left records that are still on their way into the log.
            ingest.settled().await;
        }
        // A position beyond the end is of a log that is gone; waiting for it would skip rows.
        let end = ingest.committed().borrow().0;
        let mut position = Position::at(session.definition.created_at_lsn.min(end));
        for known in [ingest.cursor(session.key), left_at].into_iter().flatten() {
            position.merge(&known);
        }
        Self {
            session: Arc::clone(session),
            cursor: Mutex::new(Cursor::new(position)),
            filter: Mutex::new(None),
            loop_reported: Mutex::new(None),
            read_bytes_max: AtomicUsize::new(FIRST_READ_BYTES_MAX.min(session.services.config.run_bytes_max)),
        }
    }

    /// Everything that has been run.
    fn position(&self) -> Position {
        self.cursor.lock().position().clone()
    }

    fn progress_after(&self, ticket: RunTicket) -> TriggerProgress {
        TriggerProgress::at(self.session.key, self.cursor.lock().position_after(ticket))
    }

    /// Records the position where no run's writes carry it, and adds it to what is recorded.
    async fn record_progress(&self, recorded: &mut Position) {
        let cursor = self.position();
        let progress = TriggerProgress::at(self.session.key, cursor.clone());
        match effects::commit(&self.session.services.ingest, Vec::new(), progress, 0).await {
            Ok(_) => recorded.merge(&cursor),
            Err(reason) => tracing::warn!(
                trigger = self.session.definition.trigger_name,
                reason,
                "could not record progress"
            ),
        }
    }

    /// Reads on until there is something to run or the end is reached.
    async fn next_run(&self) -> Result<Found, String> {
        loop {
            let after = self.cursor.lock().started_through();
            let (state, mut batches, next) = match self.read_after(Lsn(after)).await {
                Ok(read) => read,
                Err(WriteError::Wal(WalError::Removed { first, .. })) if first.0 > after + 1 => {
                    self.skip_removed(after, first.0 - 1);
                    continue;
                }
                Err(error) => return Err(error.to_string()),
            };
            if next.0 <= after {
                return Ok(Found::Nothing);
            }
            // What a run has finished before the trigger started anew is not run again.
            let through = self.cursor.lock().run_end(next.0);
            batches.retain(|committed| committed.lsn.0 <= through);
            if batches.is_empty() {
                self.cursor.lock().skip_through(through);
                continue;
            }
            let depth = batches.iter().map(|committed| committed.depth).max().unwrap_or(0);
            if depth >= self.session.services.config.trigger_depth_max {
                self.report_loop(batches.iter().map(|committed| committed.batch.row_count).sum());
                self.cursor.lock().skip_through(through);
                continue;
            }
            let rows = encode(state, batches).await?;
            if rows.tables.is_empty() {
                // All of it was of tables that are gone.
                self.cursor.lock().skip_through(through);
                continue;
            }
            let range = LogRange { after, through };
            let ticket = self
                .cursor
                .lock()
                .start_run(range)
                .expect("one reader starts runs, each where the last ended");
            let request = self.request(range, rows, depth + 1);
            return Ok(Found::Run(ticket, Box::new(request)));
        }
    }

    /// What was written after a position.
    async fn read_after(&self, after: Lsn) -> Result<LogRead, WriteError> {
        let bytes_max = self.read_bytes_max.load(Ordering::Relaxed);
        let bounds = ReadBounds {
            bytes_max,
            // Runs that are in flight together share the bounds of one.
            share: self.session.concurrency(),
        };
        let read = read_log(&self.session.services, after, bounds, |state| self.filter(state)).await?;
        let grown = bytes_max
            .saturating_mul(2)
            .min(self.session.services.config.run_bytes_max);
        self.read_bytes_max.store(grown, Ordering::Relaxed);
        Ok(read)
    }

    /// Goes on behind records that are not in the log any more, and says so: here, and in the log of the server.
    fn skip_removed(&self, after: u64, through: u64) {
        let records = through - after;
        let text = format!(
            "{records} records of the log, {} to {through}, were removed before this trigger had read them, because it \
             lagged by more than the server keeps (--trigger-backlog-limit) or the disk was full; it goes on with the next one",
            after + 1
        );
        tracing::warn!(
            trigger = self.session.definition.trigger_name,
            database = self.session.definition.database_name,
            records,
            through,
            "a trigger skips records that were removed from the log before it had read them"
        );
        self.session.stats.records_skipped(records, text.as_str().into());
        self.session.log.error(text);
        self.cursor.lock().skip_through(through);
    }

    fn filter(&self, state: &Arc<CatalogState>) -> TableFilter {
        let mut cached = self.filter.lock();
        if let Some((of_state, filter)) = cached.as_ref()
            && Arc::ptr_eq(of_state, state)
        {
            return filter.clone();
        }
        let filter = table_filter(state, self.session.key.database, &self.session.definition.spec);
        *cached = Some((Arc::clone(state), filter.clone()));
        filter
    }

    /// Says that rows are not run because triggers feed one another.
    fn report_loop(&self, rows: usize) {
        let depth_max = self.session.services.config.trigger_depth_max;
        let mut reported = self.loop_reported.lock();
        if reported.is_some_and(|at| at.elapsed() < LOOP_REPORT_INTERVAL) {
            return;
        }
        *reported = Some(Instant::now());
        let text = format!(
            "triggers feed one another: {rows} rows have come through {depth_max} triggers and are not processed any more; \
             let the plugin pass over what it or another trigger has written, or raise --max-trigger-depth"
        );
        tracing::warn!(
            trigger = self.session.definition.trigger_name,
            database = self.session.definition.database_name,
            rows,
            depth_max,
            "triggers feed one another, their rows are not processed any more"
        );
        self.session.log.error(text);
    }

    fn request(&self, range: LogRange, rows: EncodedRows, depth: u16) -> RunRequest {
        RunRequest {
            run_id: run_id(self.session.key, range),
            work: Work::Writes { tables: rows.tables },
            blob: rows.blob,
            start_row: LogText::Static("starting execution of wal plugin."),
            depth,
            rows: rows.rows,
            settles: None,
        }
    }
}

/// Committed batches with a state of the catalog that knows their tables, and where to read on.
pub(crate) type LogRead = (Arc<CatalogState>, Vec<CommittedBatch>, Lsn);

/// How much is read at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadBounds {
    /// Bytes after which no further commit is read.
    pub(crate) bytes_max: usize,
    /// How many share these bytes, and the rows of a run.
    pub(crate) share: usize,
}

/// What one run may be given of what was written after a position, read with a filter that knows every table in it.
pub(crate) async fn read_log(
    services: &Services,
    after: Lsn,
    bounds: ReadBounds,
    filter: impl Fn(&Arc<CatalogState>) -> TableFilter,
) -> Result<LogRead, WriteError> {
    let limits = ReadLimits {
        rows: (services.config.run_rows_max / bounds.share).max(1),
        bytes: (bounds.bytes_max / bounds.share).max(1),
        joined_depth_max: services.config.trigger_depth_max / JOINED_DEPTH_DIVISOR,
    };
    let catalog = services.catalog();
    let mut state = catalog.state();
    loop {
        let read = services.ingest.read_after(after, &filter(&state), limits).await?;
        // A table is in the catalog before its first row is in the log: if the catalog has not changed since the
        // filter was made, the read has missed none.
        let state_after = catalog.state();
        if Arc::ptr_eq(&state, &state_after) {
            return Ok((state, read.batches, read.next));
        }
        state = state_after;
    }
}

/// The name of the run over a part of the log.
pub(crate) fn run_id(key: TriggerKey, range: LogRange) -> String {
    format!(
        "w-{}-{}-{}-{}",
        key.database.0, key.trigger_id, range.after, range.through
    )
}

async fn encode(state: Arc<CatalogState>, batches: Vec<CommittedBatch>) -> Result<EncodedRows, String> {
    let rows: usize = batches.iter().map(|committed| committed.batch.row_count).sum();
    let encoded = if rows <= INLINE_ROWS_MAX {
        encode_committed(&state, &batches)
    } else {
        let encoding = tokio::task::spawn_blocking(move || encode_committed(&state, &batches));
        encoding.await.map_err(|error| error.to_string())?
    };
    encoded.map_err(|error| error.to_string())
}

/// The tables that a trigger reads, as the catalog is at that moment.
pub(crate) fn table_filter(state: &CatalogState, database: DatabaseId, spec: &TriggerSpec) -> TableFilter {
    let Some(database) = state.database_by_id(database) else {
        return TableFilter::AnyOf(Arc::default());
    };
    match spec {
        TriggerSpec::Table { table } => match database.table(table) {
            Some(table) => TableFilter::One(table.id),
            None => TableFilter::AnyOf(Arc::default()),
        },
        _ => TableFilter::AnyOf(Arc::new(
            database.tables().map(|table| table.id).collect::<HashSet<_>>(),
        )),
    }
}
