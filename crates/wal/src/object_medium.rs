//! The log as objects, `{prefix}/{first lsn:020}.wal`, one a group, each written only if it does not exist.
//!
//! Two processes that take themselves for the same node both want to write the object with the next number: the
//! store lets one of them, the other stops for good. An object that is already there may also be our own, if the
//! store did not get its answer to us: the salt in its header tells.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::frame::{RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, group_headers, random_salt};
use crate::frame_reader::{FrameReader, Position};
use crate::segments::{SegmentIndex, replay_start, segment_name, segments_among};
use crate::{DurableLog, Lsn, Medium, Record, Recovery, Visitor, WalConfig, WalError};

/// How many objects are fetched ahead of the replay.
const PREFETCHED_OBJECTS: usize = 4;
/// How long a write is repeated while the store fails.
const RETRY_FOR: Duration = Duration::from_secs(10);
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// One object a group, in an object store.
pub struct ObjectMedium {
    log: Arc<ObjectLog>,
    /// Marks the objects of this process.
    salt: u64,
    retry_for: Duration,
}

struct ObjectLog {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    runtime: Handle,
    /// The length of each object.
    index: SegmentIndex<u64>,
    removal: Mutex<()>,
    /// The object read last: a reader with a small budget comes back for the rest of it.
    last_read: Mutex<Option<(Lsn, Bytes)>>,
}

impl ObjectMedium {
    /// The log below `prefix` (for example `node1/wal`). The calls of the medium wait for futures on `runtime`,
    /// which needs its time driver, and must not be made from asynchronous code.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str, runtime: Handle) -> Self {
        let log = ObjectLog {
            store,
            prefix: Path::from(prefix),
            runtime,
            index: SegmentIndex::new(),
            removal: Mutex::new(()),
            last_read: Mutex::new(None),
        };
        Self {
            log: Arc::new(log),
            salt: random_salt(),
            retry_for: RETRY_FOR,
        }
    }

    /// How long a write is repeated while the store fails, before its writers get the error. Default 10 s.
    #[must_use]
    pub fn with_retry_for(mut self, retry_for: Duration) -> Self {
        self.retry_for = retry_for;
        self
    }
}

impl Medium for ObjectMedium {
    fn recover(&mut self, config: &WalConfig, visit: &mut Visitor<'_>) -> Result<Recovery, WalError> {
        let log = &*self.log;
        let listed = log.list()?;
        let firsts: Vec<Lsn> = listed.iter().map(|(first, _)| *first).collect();
        let start = replay_start(&firsts, config.replay_after, |name| log.display_path(name))?;
        for &(first, bytes) in &listed {
            log.index.insert(first, bytes);
        }
        let mut recovery = Recovery {
            last: config.replay_after,
            segments: firsts.len(),
            ..Recovery::default()
        };
        let mut expected = firsts.get(start).copied();
        let mut objects =
            stream::iter(&firsts[start..]).map(|&first| async move { (first, log.fetch(first).await) });
        let mut objects = objects.by_ref().buffered(PREFETCHED_OBJECTS);
        while let Some((first, object)) = log.runtime.block_on(objects.next()) {
            if let Some(expected) = expected.filter(|&expected| expected != first) {
                let path = log.display_path(&segment_name(first));
                return Err(WalError::Gap {
                    path,
                    expected,
                    found: first,
                });
            }
            let next = log.for_each_record(first, &object?, |lsn, payload| {
                if lsn > config.replay_after {
                    recovery.records += 1;
                    recovery.payload_bytes += payload.len() as u64;
                    visit(lsn, payload)?;
                }
                Ok(true)
            })?;
            recovery.last = Lsn(next.0 - 1);
            expected = Some(next);
        }
        match firsts.last() {
            Some(&last_segment) if recovery.last < config.replay_after => Err(WalError::EndsEarly {
                path: log.display_path(&segment_name(last_segment)),
                last: recovery.last,
                expected: config.replay_after,
            }),
            _ => Ok(recovery),
        }
    }

    fn append(&mut self, first: Lsn, group: &[Record]) -> Result<(), WalError> {
        let object = self.encode(first, group);
        let bytes = object.content_length() as u64;
        self.log.runtime.block_on(self.put(first, object))?;
        self.log.index.insert(first, bytes);
        Ok(())
    }

    fn durable_log(&self) -> Arc<dyn DurableLog> {
        Arc::clone(&self.log) as Arc<dyn DurableLog>
    }
}

/// What is there instead of the object that was to be written.
enum Existing {
    /// The same bytes: an earlier attempt succeeded.
    Written,
    /// Left by a group of this process that failed.
    OfFailedGroup,
    Foreign,
    Nothing,
}

impl ObjectMedium {
    /// The object of a group, made of the payloads without copying them.
    fn encode(&self, first: Lsn, group: &[Record]) -> PutPayload {
        let segment_header = SegmentHeader {
            first,
            salt: self.salt,
        }
        .encode();
        let headers: Bytes = group_headers(self.salt, first, group)
            .flatten()
            .collect::<Vec<u8>>()
            .into();
        let mut parts = Vec::with_capacity(1 + 2 * group.len());
        parts.push(Bytes::copy_from_slice(&segment_header));
        for (index, record) in group.iter().enumerate() {
            parts.push(headers.slice(index * RECORD_HEADER_BYTES..(index + 1) * RECORD_HEADER_BYTES));
            parts.push(record.payload().clone());
        }
        parts.into_iter().collect()
    }

    async fn put(&self, first: Lsn, object: PutPayload) -> Result<(), WalError> {
        let path = self.log.path(&segment_name(first));
        let started = Instant::now();
        let mut mode = PutMode::Create;
        loop {
            let put = self
                .log
                .store
                .put_opts(&path, object.clone(), mode.clone().into())
                .await;
            let error = match put {
                Ok(_) => return Ok(()),
                Err(error @ (StoreError::AlreadyExists { .. } | StoreError::Precondition { .. })) => {
                    match self.look_at_existing(&path, first, &object).await {
                        Ok(Existing::Written) => return Ok(()),
                        Ok(Existing::Foreign) => {
                            return Err(WalError::ForeignWriter {
                                path: path.to_string(),
                            });
                        }
                        Ok(Existing::OfFailedGroup) => {
                            mode = PutMode::Overwrite;
                            continue;
                        }
                        // The store saw another request at the same moment; it may have been ours.
                        Ok(Existing::Nothing) => error,
                        Err(error) => error,
                    }
                }
                Err(error @ StoreError::Generic { .. }) => error,
                Err(error) => return Err(WalError::object("write", &path)(error)),
            };
            if started.elapsed() + RETRY_PAUSE > self.retry_for {
                return Err(WalError::object("write", &path)(error));
            }
            tracing::warn!(%path, %error, "cannot write to the object store, trying again");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn look_at_existing(
        &self,
        path: &Path,
        first: Lsn,
        wanted: &PutPayload,
    ) -> Result<Existing, StoreError> {
        let bytes = match self.log.store.get(path).await {
            Ok(found) => found.bytes().await?,
            Err(StoreError::NotFound { .. }) => return Ok(Existing::Nothing),
            Err(error) => return Err(error),
        };
        let is_ours = SegmentHeader::decode(&bytes, first).is_ok_and(|header| header.salt == self.salt);
        if !is_ours {
            return Ok(Existing::Foreign);
        }
        let is_wanted = bytes.iter().eq(wanted.iter().flatten());
        Ok(if is_wanted {
            Existing::Written
        } else {
            Existing::OfFailedGroup
        })
    }
}

impl ObjectLog {
    fn path(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    fn display_path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.path(name).to_string())
    }

    /// The first record and the length of each object, in order.
    fn list(&self) -> Result<Vec<(Lsn, u64)>, WalError> {
        let listed = self
            .runtime
            .block_on(self.store.list_with_delimiter(Some(&self.prefix)));
        let listed = listed.map_err(WalError::object("list", &self.prefix))?;
        let names: Vec<String> = listed
            .objects
            .iter()
            .filter_map(|object| object.location.filename().map(str::to_owned))
            .collect();
        let firsts = segments_among(&names, |name| self.display_path(name))?;
        let bytes: HashMap<&str, u64> = listed
            .objects
            .iter()
            .filter_map(|object| Some((object.location.filename()?, object.size)))
            .collect();
        let bytes_of = |first: Lsn| bytes.get(&*segment_name(first)).copied().unwrap_or(0);
        Ok(firsts.into_iter().map(|first| (first, bytes_of(first))).collect())
    }

    fn removed(&self, wanted: Lsn) -> WalError {
        WalError::Removed {
            after: Lsn(wanted.0 - 1),
            first: self.first_lsn().unwrap_or(wanted),
        }
    }

    async fn fetch(&self, first: Lsn) -> Result<Bytes, WalError> {
        let path = self.path(&segment_name(first));
        let fetched = async { self.store.get(&path).await?.bytes().await };
        match fetched.await {
            Ok(bytes) => Ok(bytes),
            Err(StoreError::NotFound { .. }) if !self.index.contains(first) => Err(self.removed(first)),
            Err(error) => Err(WalError::object("read", &path)(error)),
        }
    }

    /// The object that starts with `first`, from the cache or the store.
    fn object(&self, first: Lsn) -> Result<Bytes, WalError> {
        if let Some((cached, object)) = &*self.last_read.lock()
            && *cached == first
        {
            return Ok(object.clone());
        }
        let object = self.runtime.block_on(self.fetch(first))?;
        *self.last_read.lock() = Some((first, object.clone()));
        Ok(object)
    }

    /// Calls `visit` until it returns false or the object ends. Returns the number after the last record visited.
    fn for_each_record(
        &self,
        first: Lsn,
        object: &[u8],
        mut visit: impl FnMut(Lsn, &[u8]) -> Result<bool, WalError>,
    ) -> Result<Lsn, WalError> {
        let path = || self.display_path(&segment_name(first));
        let header = SegmentHeader::decode(object, first)
            .map_err(|damage| WalError::Damaged { path: path(), damage })?;
        let start = Position {
            offset: SEGMENT_HEADER_BYTES as u64,
            lsn: first,
        };
        let records = &object[SEGMENT_HEADER_BYTES..];
        let mut reader = FrameReader::new(records, start, object.len() as u64, header.salt);
        while let Some((lsn, payload)) = reader.next().map_err(|error| error.into_wal_error(&path()))? {
            if !visit(lsn, payload)? {
                return Ok(lsn);
            }
        }
        Ok(reader.position().lsn)
    }
}

impl DurableLog for ObjectLog {
    fn first_lsn(&self) -> Option<Lsn> {
        self.index.first()
    }

    fn segments(&self) -> Vec<(Lsn, u64)> {
        self.index.map(|bytes| *bytes)
    }

    fn read(&self, after: Lsn, until: Lsn, bytes_max: usize) -> Result<Vec<(Lsn, Vec<u8>)>, WalError> {
        let mut records: Vec<(Lsn, Vec<u8>)> = Vec::new();
        let mut bytes = 0;
        let mut next = after.next();
        while next <= until {
            let Some(first) = self.index.look_up(next, |first, _| first) else {
                return Err(self.removed(next));
            };
            let mut is_full = false;
            let reached = self.for_each_record(first, &self.object(first)?, |lsn, payload| {
                if lsn < next {
                    return Ok(true);
                }
                is_full = lsn > until || (!records.is_empty() && bytes + payload.len() > bytes_max);
                if !is_full {
                    bytes += payload.len();
                    records.push((lsn, payload.to_vec()));
                }
                Ok(!is_full)
            })?;
            if is_full {
                break;
            }
            if reached <= next && reached <= until {
                let path = self.display_path(&segment_name(first));
                return Err(WalError::EndsEarly {
                    path,
                    last: Lsn(reached.0 - 1),
                    expected: until,
                });
            }
            next = reached;
        }
        Ok(records)
    }

    fn remove_before(&self, lsn: Lsn) -> Result<usize, WalError> {
        let _one_at_a_time = self.removal.lock();
        let mut removed = 0;
        while let Some(first) = self.index.removable(lsn) {
            let path = self.path(&segment_name(first));
            // Out of the index first: a reader that misses the object then knows why.
            let bytes = self.index.remove(first).unwrap_or(0);
            match self.runtime.block_on(self.store.delete(&path)) {
                Ok(()) | Err(StoreError::NotFound { .. }) => removed += 1,
                Err(error) => {
                    self.index.insert(first, bytes);
                    return Err(WalError::object("remove", &path)(error));
                }
            }
        }
        Ok(removed)
    }
}
