//! The rows of a running query on their way to the caller.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::{FutureExt, Stream};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use crate::error::QueryError;

/// Batches in the order they are computed. After an error there is nothing more; dropping it stops the query.
pub type BatchStream = Pin<Box<dyn Stream<Item = Result<RecordBatch, QueryError>> + Send>>;

/// The answer to a query.
pub struct QueryOutput {
    /// The columns; every batch has this schema.
    pub schema: SchemaRef,
    /// The rows. There may be no batch at all.
    pub batches: BatchStream,
}

/// A query at work: ends when it is no longer wanted.
pub(crate) struct QueryTask(JoinHandle<Result<(), QueryError>>);

impl QueryTask {
    pub(crate) fn new(task: JoinHandle<Result<(), QueryError>>) -> Self {
        Self(task)
    }

    /// Waits for its end.
    ///
    /// Errors: what the query failed with.
    pub(crate) async fn outcome(mut self) -> Result<(), QueryError> {
        outcome((&mut self.0).await)
    }
}

impl Drop for QueryTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a query's task sends, as a stream that owns the task.
pub(crate) struct TaskBatches {
    task: QueryTask,
    batches: mpsc::Receiver<RecordBatch>,
    finished: bool,
}

impl TaskBatches {
    pub(crate) fn new(task: QueryTask, batches: mpsc::Receiver<RecordBatch>) -> Self {
        Self {
            task,
            batches,
            finished: false,
        }
    }
}

impl Stream for TaskBatches {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.finished {
            return Poll::Ready(None);
        }
        if let Some(batch) = ready!(self.batches.poll_recv(context)) {
            return Poll::Ready(Some(Ok(batch)));
        }
        // The channel also closes when the query fails; half an answer must not look like a whole one.
        let ended = ready!(self.task.0.poll_unpin(context));
        self.finished = true;
        Poll::Ready(outcome(ended).err().map(Err))
    }
}

/// How a task ended, those that did not run to their end included.
fn outcome(ended: Result<Result<(), QueryError>, JoinError>) -> Result<(), QueryError> {
    match ended {
        Ok(outcome) => outcome,
        Err(failure) if failure.is_panic() => Err(QueryError::execution(
            "the query failed unexpectedly; the server's log has the details",
        )),
        Err(_) => Err(QueryError::execution(
            "the query was stopped because the server shuts down",
        )),
    }
}
