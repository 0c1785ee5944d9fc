//! The log in an object store, also one that fails or does not get its answers through.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tidemill_wal::{Lsn, Medium, ObjectMedium, Wal, WalConfig, WalError};
use tokio::runtime::Runtime;

use support::log_file::{Records, group, recover};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PutFault {
    /// Nothing is written.
    Lost,
    /// It is written, but the answer does not come through.
    AnswerLost,
    /// Refused for a reason that does not pass.
    Denied,
}

/// Puts faults in front of a store in memory; each is used once.
#[derive(Debug, Default)]
struct FaultyStore {
    inner: InMemory,
    put_faults: Mutex<VecDeque<PutFault>>,
}

impl FaultyStore {
    fn fail(&self, faults: impl IntoIterator<Item = PutFault>) {
        self.put_faults.lock().unwrap().extend(faults);
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty store")
    }
}

fn connection_reset() -> Error {
    Error::Generic {
        store: "faulty",
        source: "connection reset".into(),
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = self.put_faults.lock().unwrap().pop_front();
        match fault {
            None => self.inner.put_opts(path, payload, options).await,
            Some(PutFault::Lost) => Err(connection_reset()),
            Some(PutFault::AnswerLost) => {
                self.inner.put_opts(path, payload, options).await?;
                Err(connection_reset())
            }
            Some(PutFault::Denied) => Err(Error::PermissionDenied {
                path: path.to_string(),
                source: "denied".into(),
            }),
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

struct Place {
    runtime: Runtime,
    store: Arc<FaultyStore>,
}

impl Place {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self {
            runtime,
            store: Arc::default(),
        }
    }

    fn medium(&self) -> ObjectMedium {
        let store = Arc::clone(&self.store) as Arc<dyn ObjectStore>;
        ObjectMedium::new(store, "node1/wal", self.runtime.handle().clone())
    }

    fn opened(&self) -> (ObjectMedium, Records) {
        let mut medium = self.medium();
        let (_, records) = recover(&mut medium, &WalConfig::default()).unwrap();
        (medium, records)
    }

    fn names(&self) -> Vec<String> {
        let prefix = Path::from("node1/wal");
        let listed = self
            .runtime
            .block_on(self.store.list_with_delimiter(Some(&prefix)))
            .unwrap();
        let mut names: Vec<String> = listed
            .objects
            .iter()
            .map(|object| object.location.to_string())
            .collect();
        names.sort();
        names
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = Path::from(name);
        self.runtime.block_on(async {
            let mut bytes = self
                .store
                .get(&path)
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap()
                .to_vec();
            change(&mut bytes);
            self.store.put(&path, bytes.into()).await.unwrap();
        });
    }
}

#[test]
fn a_group_is_an_object_and_is_replayed() {
    let place = Place::new();
    let (mut medium, records) = place.opened();
    assert_eq!(records, []);
    medium.append(Lsn(1), &group(&["one", "two", ""])).unwrap();
    medium.append(Lsn(4), &group(&["four"])).unwrap();
    assert_eq!(
        place.names(),
        [
            "node1/wal/00000000000000000001.wal",
            "node1/wal/00000000000000000004.wal"
        ]
    );
    let (medium, records) = place.opened();
    let expected: Records = ["one", "two", "", "four"]
        .iter()
        .zip(1..)
        .map(|(text, lsn)| (Lsn(lsn), text.as_bytes().to_vec()))
        .collect();
    assert_eq!(records, expected);
    let log = medium.durable_log();
    assert_eq!(log.read(Lsn::ZERO, Lsn(4), usize::MAX).unwrap(), expected);
    assert_eq!(log.read(Lsn(1), Lsn(4), 3).unwrap(), expected[1..3]);
    assert_eq!(log.read(Lsn(1), Lsn(4), 0).unwrap(), expected[1..2]);
    assert_eq!(log.read(Lsn(1), Lsn(2), usize::MAX).unwrap(), expected[1..2]);
    assert_eq!(log.read(Lsn(4), Lsn(4), usize::MAX).unwrap(), []);
}

#[test]
fn the_second_process_with_the_same_node_id_is_stopped_for_good() {
    let place = Place::new();
    let (mut first, _) = place.opened();
    let second = place.medium();
    let wal = Wal::open(
        Box::new(second),
        WalConfig::default(),
        |_, _| Ok::<_, String>(()),
        |_: &mut Vec<(Lsn, ())>| {},
    );
    let wal = wal.unwrap();
    // The same bytes, even: it is another process all the same.
    first.append(Lsn(1), &group(&["same"])).unwrap();
    let text = "object node1/wal/00000000000000000001.wal exists already: \
        another process writes to the log with the same node id";
    place.runtime.block_on(async {
        let error = wal
            .append(b"same".to_vec(), ())
            .await
            .unwrap()
            .durable()
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), text);
        let error = wal.append(b"later".to_vec(), ()).await.unwrap_err();
        assert_eq!(error.to_string(), text);
        wal.shutdown().await;
    });
    first.append(Lsn(2), &group(&["first goes on"])).unwrap();
    assert_eq!(place.opened().1.len(), 2);
}

#[test]
fn a_write_is_repeated_when_the_store_fails() {
    let place = Place::new();
    let (mut medium, _) = place.opened();
    place.store.fail([PutFault::Lost, PutFault::Lost]);
    medium.append(Lsn(1), &group(&["one"])).unwrap();
    assert_eq!(place.opened().1, [(Lsn(1), b"one".to_vec())]);
}

#[test]
fn a_write_whose_answer_was_lost_is_recognised() {
    let place = Place::new();
    let (mut medium, _) = place.opened();
    place.store.fail([PutFault::AnswerLost]);
    medium.append(Lsn(1), &group(&["one", "two"])).unwrap();
    medium.append(Lsn(3), &group(&["three"])).unwrap();
    assert_eq!(place.opened().1.len(), 3);
}

#[test]
fn what_a_failed_group_left_is_replaced() {
    let place = Place::new();
    let (medium, _) = place.opened();
    let mut medium = medium.with_retry_for(Duration::ZERO);
    place.store.fail([PutFault::AnswerLost]);
    let error = medium
        .append(Lsn(1), &group(&["failed", "also failed"]))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot write object node1/wal/00000000000000000001.wal: "),
        "{error}"
    );
    assert!(!error.is_final());
    medium.append(Lsn(1), &group(&["good"])).unwrap();
    assert_eq!(place.opened().1, [(Lsn(1), b"good".to_vec())]);
}

#[test]
fn a_refusal_is_not_repeated_but_the_next_group_is_tried() {
    let place = Place::new();
    let (mut medium, _) = place.opened();
    place.store.fail([PutFault::Denied]);
    assert!(matches!(
        medium.append(Lsn(1), &group(&["denied"])),
        Err(WalError::ObjectStore { action: "write", .. })
    ));
    medium.append(Lsn(1), &group(&["good"])).unwrap();
    assert_eq!(place.opened().1, [(Lsn(1), b"good".to_vec())]);
}

#[test]
fn damage_and_gaps_are_refused_by_name() {
    let place = Place::new();
    let (mut medium, _) = place.opened();
    for lsn in 1..=3 {
        medium.append(Lsn(lsn), &group(&["payload"])).unwrap();
    }
    let names = place.names();
    let refusal = || {
        recover(&mut place.medium(), &WalConfig::default())
            .unwrap_err()
            .to_string()
    };
    place.change(&names[2], |bytes| bytes[50] ^= 1);
    assert_eq!(
        refusal(),
        format!(
            "{} is damaged at byte 32: the checksum of a record header does not match",
            names[2]
        )
    );
    place.change(&names[2], |bytes| bytes[50] ^= 1);
    place.change(&names[2], |bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(
        refusal(),
        format!("{} is damaged at byte 32: it ends within a record", names[2])
    );
    place.change(&names[2], |bytes| bytes.truncate(3));
    assert_eq!(
        refusal(),
        format!(
            "{} is damaged at byte 0: it ends within the file header",
            names[2]
        )
    );
    place
        .runtime
        .block_on(place.store.delete(&Path::from(names[1].as_str())))
        .unwrap();
    assert_eq!(
        refusal(),
        format!(
            "{} starts with record 3 but record 2 should come first: a segment is missing",
            names[2]
        )
    );
}

#[test]
fn objects_before_a_record_are_removed() {
    let place = Place::new();
    let (mut medium, _) = place.opened();
    for first in [1, 3, 5, 7] {
        medium.append(Lsn(first), &group(&["a", "b"])).unwrap();
    }
    let log = medium.durable_log();
    assert_eq!(log.remove_before(Lsn(6)).unwrap(), 2);
    assert_eq!(log.first_lsn(), Some(Lsn(5)));
    assert!(matches!(
        log.read(Lsn(1), Lsn(8), usize::MAX),
        Err(WalError::Removed {
            after: Lsn(1),
            first: Lsn(5)
        })
    ));
    assert_eq!(log.read(Lsn(4), Lsn(8), usize::MAX).unwrap().len(), 4);
    let config = WalConfig {
        replay_after: Lsn(5),
        ..WalConfig::default()
    };
    let (recovery, records) = recover(&mut place.medium(), &config).unwrap();
    assert_eq!(
        records.iter().map(|(lsn, _)| lsn.0).collect::<Vec<_>>(),
        [6, 7, 8]
    );
    assert_eq!(recovery.last, Lsn(8));
    let config = WalConfig {
        replay_after: Lsn(9),
        ..WalConfig::default()
    };
    let error = recover(&mut place.medium(), &config).unwrap_err();
    assert!(
        matches!(
            error,
            WalError::EndsEarly {
                last: Lsn(8),
                expected: Lsn(9),
                ..
            }
        ),
        "{error}"
    );
}
