//! What a plugin asks of the server while it runs: queries and immediate writes (engine.md 3.2, 3.4).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tidemill_catalog::Strictness;
use tidemill_ingest::{Ingest, WriteRequest};
use tidemill_lineproto::Precision;
use tidemill_query::{Params, QueryEngine, QueryError, QueryErrorKind};
use tidemill_worker_proto::{CallId, ParamValue, ToWorker};
use tokio_util::sync::CancellationToken;

use crate::effects::refusal;
use crate::launcher::WorkerHandle;
use crate::plugin_logs::now_ns;
use crate::row_batches::append_stream;

/// Bytes of batches that are joined into one part of an answer: enough to make the schema in front of it cheap.
const PART_BYTES: usize = 1 << 20;

/// A query of a plugin.
pub(crate) struct PluginQuery {
    pub(crate) call: CallId,
    pub(crate) database: String,
    pub(crate) sql: String,
    pub(crate) params: Vec<(String, ParamValue)>,
}

/// The queries of one worker process that are being executed.
#[derive(Default)]
pub(crate) struct RunningQueries {
    by_call: Mutex<HashMap<u64, CancellationToken>>,
}

impl RunningQueries {
    /// Executes a query for a worker, in a task of its own. Gives up when the worker abandons it or ends: then nobody waits
    /// for it, and it may be a long one.
    pub(crate) fn begin(
        self: &Arc<Self>,
        query_engine: Arc<QueryEngine>,
        worker: Arc<dyn WorkerHandle>,
        query: PluginQuery,
    ) {
        let call = query.call;
        let abandoned = CancellationToken::new();
        self.by_call.lock().insert(call.0, abandoned.clone());
        let queries = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = answer_query(&query_engine, worker.as_ref(), query) => {}
                () = abandoned.cancelled() => {}
                _ = worker.wait() => {}
            }
            queries.by_call.lock().remove(&call.0);
        });
    }

    /// The worker does not wait for this query any more.
    pub(crate) fn abandon(&self, call: CallId) {
        if let Some(abandoned) = self.by_call.lock().remove(&call.0) {
            abandoned.cancel();
        }
    }
}

/// Executes a query and sends its result to the worker part by part, at the pace at which the worker takes it.
async fn answer_query(query_engine: &QueryEngine, worker: &dyn WorkerHandle, query: PluginQuery) {
    let PluginQuery {
        call,
        database,
        sql,
        params,
    } = query;
    let outcome = match stream_parts(query_engine, worker, call, &database, &sql, params).await {
        Ok(()) => Ok(()),
        Err(Unanswered::WorkerGone) => return,
        Err(Unanswered::Failed(reason)) => {
            Err(format!("error: {reason} executing query on {database}: {sql}"))
        }
        Err(Unanswered::InvalidDatabase(reason)) => Err(reason),
    };
    // The worker may have ended meanwhile; then nobody waits for the answer.
    let _ = worker.send(ToWorker::QueryDone { call, outcome }, Bytes::new());
}

enum Unanswered {
    WorkerGone,
    InvalidDatabase(String),
    Failed(String),
}

impl From<QueryError> for Unanswered {
    fn from(error: QueryError) -> Self {
        Self::Failed(match error {
            QueryError::DatabaseNotFound(database) => format!("database not found: {database}"),
            other if other.kind() == QueryErrorKind::Invalid => {
                format!("error while planning query: {other}")
            }
            other => other.to_string(),
        })
    }
}

async fn stream_parts(
    query_engine: &QueryEngine,
    worker: &dyn WorkerHandle,
    call: CallId,
    database: &str,
    sql: &str,
    params: Vec<(String, ParamValue)>,
) -> Result<(), Unanswered> {
    if let Some(reason) = invalid_database_name(database) {
        return Err(Unanswered::InvalidDatabase(reason));
    }
    let params: Params = params
        .into_iter()
        .map(|(name, value)| (name, query_param(value)))
        .collect();
    let mut output = query_engine.sql(database, sql, params).await?;
    let mut waiting: Vec<RecordBatch> = Vec::new();
    let mut waiting_bytes = 0;
    let mut parts_sent = 0;
    loop {
        let batch = output.batches.next().await.transpose()?;
        let at_end = batch.is_none();
        if let Some(batch) = batch.filter(|batch| batch.num_rows() > 0) {
            waiting_bytes += batch.get_array_memory_size();
            waiting.push(batch);
        }
        // An empty result has one part too: its schema.
        let part_is_due = waiting_bytes >= PART_BYTES || (at_end && (!waiting.is_empty() || parts_sent == 0));
        if part_is_due {
            let mut part = Vec::new();
            append_stream(&output.schema, &waiting, &mut part)
                .map_err(|error| Unanswered::Failed(error.to_string()))?;
            worker
                .send(ToWorker::QueryPart { call }, part.into())
                .map_err(|_| Unanswered::WorkerGone)?;
            worker.room().await.map_err(|_| Unanswered::WorkerGone)?;
            parts_sent += 1;
            waiting.clear();
            waiting_bytes = 0;
        }
        if at_end {
            return Ok(());
        }
    }
}

/// The text of engine.md 3.2 for a name that no database can have.
fn invalid_database_name(database: &str) -> Option<String> {
    let allowed = |character: char| character.is_alphanumeric() || matches!(character, '/' | '_' | '-');
    let position = database.chars().position(|character| !allowed(character))?;
    Some(format!(
        "invalid database name provided: database name '{database}' contains invalid character, \
         character number {position} is not allowed"
    ))
}

fn query_param(value: ParamValue) -> tidemill_query::ParamValue {
    use tidemill_query::ParamValue as Param;
    match value {
        ParamValue::Null => Param::Null,
        ParamValue::Boolean(value) => Param::Boolean(value),
        ParamValue::Integer(value) => Param::Integer(value),
        ParamValue::UInteger(value) => Param::UInteger(value),
        ParamValue::Float(value) => Param::Float(value),
        ParamValue::String(value) => Param::String(value),
        ParamValue::Bytes(value) => Param::Bytes(value),
        ParamValue::TimestampNs(value) => Param::TimestampNs(value),
    }
}

/// Writes lines at once. The error is the text of the Python exception.
pub(crate) async fn write_now(
    ingest: &Arc<Ingest>,
    database: String,
    lines: Bytes,
    no_sync: bool,
    depth: u16,
) -> Result<(), String> {
    let request = WriteRequest {
        database: database.clone(),
        // A copy, since the bytes are part of a read buffer that the commit would keep as a whole.
        body: Bytes::copy_from_slice(&lines),
        precision: Precision::Nanosecond,
        accept_partial: false,
        no_sync,
        received_ns: now_ns(),
        name_rule: Strictness::Weak,
        depth,
    };
    match ingest.write(request).await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "error writing line protocol to {database}: {}",
            refusal(error)
        )),
    }
}
