//! Sorting; what takes long, on a thread of its own, which leaves the processor to requests.

use std::sync::Arc;

use futures::stream;
use tidemill_catalog::Table;
use tokio::sync::mpsc;

use crate::priority::{SOMEWHAT_LOWER, lower_priority};
use crate::storage::parts::Part;
use crate::{FileError, SortedRows, SortedStream, StoredBatch};

/// Sorting fewer rows than this is not worth another thread.
const BACKGROUND_ROWS_MIN: usize = 512;

/// Sorted batches that wait to be encoded.
const WAITING_BATCHES: usize = 2;

/// The rows of a part in the order of their points, each point once.
pub(super) fn sorted(part: Part) -> Result<SortedStream, FileError> {
    if part.row_count < BACKGROUND_ROWS_MIN {
        return Ok(SortedRows::new(&part.table, &part.batches)?.into_stream());
    }
    sort_in_background(part.table, part.batches).map_err(|error| FileError::Input(Box::new(error)))
}

/// A thread with low priority sorts the rows and ends when the stream does, or is dropped.
fn sort_in_background(table: Arc<Table>, batches: Vec<Arc<StoredBatch>>) -> std::io::Result<SortedStream> {
    let (sender, receiver) = mpsc::channel(WAITING_BATCHES);
    let sort = move || {
        lower_priority(SOMEWHAT_LOWER);
        let rows = match SortedRows::new(&table, &batches) {
            Ok(rows) => rows,
            Err(error) => {
                // Nobody listens any more.
                let _ = sender.blocking_send(Some(Err(error)));
                return;
            }
        };
        for batch in rows {
            if sender.blocking_send(Some(batch)).is_err() {
                return;
            }
        }
        let _ = sender.blocking_send(None);
    };
    std::thread::Builder::new()
        .name("store-sort".to_owned())
        .spawn(sort)?;
    let stream = stream::unfold(Some(receiver), |receiver| async {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Some(Ok(batch))) => Some((Ok(batch), Some(receiver))),
            Some(Some(Err(error))) => Some((Err(error), None)),
            Some(None) => None,
            // What has come so far must not be taken for all.
            None => {
                let reason = "the thread that sorted the rows has ended early".to_owned();
                Some((Err(FileError::Input(reason.into())), None))
            }
        }
    });
    Ok(Box::pin(stream))
}
