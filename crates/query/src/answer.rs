//! The rows of a running query on their way to the caller.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::{FutureExt, Stream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

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

/// A task that ends when it is no longer wanted.
pub(crate) struct QueryTask(JoinHandle<()>);

impl QueryTask {
    pub(crate) fn new(task: JoinHandle<()>) -> Self {
        Self(task)
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
    batches: mpsc::Receiver<Result<RecordBatch, QueryError>>,
    finished: bool,
}

impl TaskBatches {
    pub(crate) fn new(task: QueryTask, batches: mpsc::Receiver<Result<RecordBatch, QueryError>>) -> Self {
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
            self.finished = batch.is_err();
            return Poll::Ready(Some(batch));
        }
        // The channel also closes when the task dies; half an answer must not look like a whole one.
        let ended = ready!(self.task.0.poll_unpin(context));
        self.finished = true;
        Poll::Ready(ended.err().map(|failure| Err(task_failure(&failure))))
    }
}

/// The error for a task that did not run to its end.
pub(crate) fn task_failure(failure: &tokio::task::JoinError) -> QueryError {
    if failure.is_panic() {
        QueryError::execution("the query failed unexpectedly; the server's log has the details")
    } else {
        QueryError::execution("the query was stopped because the server shuts down")
    }
}
