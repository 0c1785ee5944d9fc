//! A journal: opening, appending and flushing.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use object_store::ObjectStore;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::folder::Folder;
use crate::layout::{self, Layout};
use crate::object::Object;
use crate::object_name::ObjectName;
use crate::recovery::recover;
use crate::state::State;
use crate::{Clock, JournalConfig, JournalError, codec};

/// A journal. It is shared by its writers, its readers and the one task that [runs](Self::run) it.
///
/// Dropping it is what a crash is: rows that were not flushed are lost, and nothing else.
pub struct Journal {
    pub(crate) folder: Folder,
    pub(crate) config: JournalConfig,
    pub(crate) clock: Clock,
    pub(crate) layout: Layout,
    pub(crate) state: Mutex<State>,
    /// Held while rows are written for the first time: their numbers must be in order.
    flushing: tokio::sync::Mutex<()>,
    /// Held while objects are replaced or let go. Taken before `flushing`.
    pub(crate) rewriting: tokio::sync::Mutex<()>,
    pub(crate) appended: Notify,
    /// There is so much to be flushed that more need not be waited for.
    pub(crate) full: Notify,
}

/// What a journal holds. Bytes are those of the rows in memory, see [`JournalConfig`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Objects in the store.
    pub objects: usize,
    /// Size of their rows.
    pub bytes: usize,
    /// Rows in memory only.
    pub unflushed_rows: usize,
    /// Size of those rows.
    pub unflushed_bytes: usize,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("prefix", &self.folder.prefix().as_ref())
            .field("stored", &self.stored())
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal below a prefix that no other one has, for example `node1/journal/3/logs`. Lists the objects there,
    /// reads none, and changes nothing.
    ///
    /// # Errors
    /// [`JournalError::Schema`] unless the first column is a timestamp in nanoseconds, without nulls, and all can be
    /// stored; [`JournalError::Store`] when the objects cannot be listed.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        schema: SchemaRef,
        config: JournalConfig,
        clock: Clock,
    ) -> Result<Self, JournalError> {
        let layout = Layout::new(schema)?;
        codec::encode(layout.schema().clone(), &[]).map_err(|reason| JournalError::Schema { reason })?;
        let folder = Folder::new(store, prefix);
        let recovered = recover(folder.list().await?);
        Ok(Self {
            folder,
            config,
            clock,
            layout,
            state: Mutex::new(State::new(recovered)),
            flushing: tokio::sync::Mutex::default(),
            rewriting: tokio::sync::Mutex::default(),
            appended: Notify::new(),
            full: Notify::new(),
        })
    }

    /// Appends rows, which scans see at once. Never waits for the store and never fails: see [`Self::dropped`]. Small
    /// batches are fine; single rows by the ten thousand a second are better put together before.
    pub fn append(&self, batch: &RecordBatch) {
        if batch.num_rows() == 0 {
            return;
        }
        let fitted = match self.layout.fit(batch) {
            Ok(fitted) => fitted,
            Err(error) => {
                tracing::error!(prefix = %self.folder.prefix(), %error, "rows of another schema are dropped");
                self.state.lock().count_dropped(batch.num_rows());
                return;
            }
        };
        let (is_full, drops_begin) = {
            let mut state = self.state.lock();
            let drops_begin = state.append(fitted, self.config.unflushed_bytes_max);
            (state.unflushed_bytes() >= self.config.flush_bytes(), drops_begin)
        };
        if drops_begin {
            let unflushed_bytes_max = self.config.unflushed_bytes_max;
            tracing::warn!(prefix = %self.folder.prefix(), unflushed_bytes_max,
                "the store is slower than the journal, the oldest rows are dropped");
        }
        self.appended.notify_one();
        if is_full {
            self.full.notify_one();
        }
    }

    /// Appends rows and returns when they are durable; scans see them from then on. Rows appended before are flushed first.
    ///
    /// # Errors
    /// [`JournalError::Store`]: the rows are not in the journal, and the caller still has them to try again. Like after
    /// a call that was not awaited to its end, a crash may yet show that the store had them.
    pub async fn append_durably(&self, batch: &RecordBatch) -> Result<(), JournalError> {
        let fitted = self.layout.fit(batch).map_err(|error| JournalError::Schema {
            reason: error.to_string(),
        })?;
        let _flushing = self.flushing.lock().await;
        self.flush_waiting().await?;
        let rows = vec![fitted];
        let Some(times) = layout::time_range(&rows) else {
            return Ok(());
        };
        let number = self.next_number();
        let memory_bytes = layout::size_bytes(&rows[0]);
        let (object, content) = self
            .encode(number..=number, number, times, memory_bytes, rows)
            .await?;
        self.put_or_discard(&object, content).await?;
        self.state.lock().push_object(object);
        Ok(())
    }

    /// Returns when all rows that were appended before the call are durable, or were dropped.
    ///
    /// # Errors
    /// When the store fails. The rows stay in memory and are written later, or the call is repeated.
    pub async fn flush(&self) -> Result<(), JournalError> {
        let _flushing = self.flushing.lock().await;
        self.flush_waiting().await
    }

    async fn flush_waiting(&self) -> Result<(), JournalError> {
        let wanted = self.state.lock().appended_rows();
        loop {
            let begun = {
                let mut state = self.state.lock();
                let settled = state.appended_rows() - state.unflushed_rows() as u64;
                // Rows leave in order, but for those that are dropped behind a flush that failed.
                if settled >= wanted && !state.has_begun_flush() {
                    return Ok(());
                }
                state.begin_flush((self.clock)(), self.config.flush_bytes())
            };
            let Some((number, memory_bytes, rows)) = begun else {
                return Ok(());
            };
            let times = layout::time_range(&rows).unwrap_or(0..=0);
            let encoded = self
                .encode(number..=number, number, times, memory_bytes, rows)
                .await;
            let (object, content) = encoded.inspect_err(|error| {
                if matches!(error, JournalError::Encode { .. }) {
                    tracing::error!(prefix = %self.folder.prefix(), %error, "rows are dropped");
                    self.state.lock().drop_flush();
                }
            })?;
            self.folder.put(&object.name, content).await?;
            self.state.lock().finish_flush(object);
        }
    }

    /// How many rows were dropped since the opening, because the store failed or was too slow.
    pub fn dropped(&self) -> u64 {
        self.state.lock().dropped_rows()
    }

    /// How much there is.
    pub fn stored(&self) -> Stored {
        let state = self.state.lock();
        Stored {
            objects: state.live().len(),
            bytes: state.stored_bytes(),
            unflushed_rows: state.unflushed_rows(),
            unflushed_bytes: state.unflushed_bytes(),
        }
    }

    pub(crate) async fn lock_flushing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.flushing.lock().await
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.state.lock().next_number((self.clock)())
    }

    /// Rows as an object that is yet to be written.
    pub(crate) async fn encode(
        &self,
        flushes: RangeInclusive<u64>,
        version: u64,
        times: RangeInclusive<i64>,
        memory_bytes: usize,
        rows: Vec<RecordBatch>,
    ) -> Result<(Arc<Object>, Bytes), JournalError> {
        let schema = self.layout.schema().clone();
        let encoded = self.blocking(move || codec::encode(schema, &rows)).await?;
        let content = encoded.map_err(|reason| JournalError::Encode { reason })?;
        let object = Object::whole(ObjectName {
            flushes,
            version,
            times,
            memory_bytes,
            stored_bytes: content.len() as u64,
        });
        Ok((object, content))
    }

    /// Writes an object. If that fails, it may be there nevertheless, and is to be removed.
    pub(crate) async fn put_or_discard(
        &self,
        object: &Arc<Object>,
        content: Bytes,
    ) -> Result<(), JournalError> {
        let put = self.folder.put(&object.name, content).await;
        put.inspect_err(|_| self.state.lock().discard(Arc::clone(object)))
    }

    /// Does what would hold up others. A panic, which damaged objects might cause, is a failure of the work.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<Result<T, String>, JournalError> {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => Ok(done),
            Err(panic) if panic.is_panic() => Ok(Err(panic.to_string())),
            Err(source) => {
                let error = object_store::Error::JoinError { source };
                Err(JournalError::store("work on", self.folder.prefix())(error))
            }
        }
    }
}
