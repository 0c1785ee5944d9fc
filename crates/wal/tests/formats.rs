//! Every version of the format that was released is read: segments that it wrote are kept in `tests/fixtures`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use tidemill_wal::{Lsn, Medium, ObjectMedium, WalConfig};
use tokio::runtime::Runtime;

use support::log_file::{Records, group, numbered, recover, recover_directory, write_groups};

const SEGMENT: &str = "00000000000000000001.wal";
/// Bytes of the header that tell the format: magic and version.
const FORMAT_BYTES: usize = 12;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// What the fixtures hold, group by group: texts, no bytes at all, all bytes there are.
fn groups() -> Vec<Vec<Vec<u8>>> {
    vec![vec![b"first".to_vec(), Vec::new()], vec![(0..=u8::MAX).collect()]]
}

fn records() -> Records {
    numbered(&groups().concat())
}

/// The first segment that the present program writes into a directory.
fn written_file() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    write_groups(directory.path(), &WalConfig::default(), &groups());
    fs::read(directory.path().join(SEGMENT)).unwrap()
}

/// The first object that the present program writes: one is a group.
fn written_object(runtime: &Runtime) -> Vec<u8> {
    let store = Arc::new(InMemory::new());
    let mut medium = ObjectMedium::new(Arc::clone(&store) as _, "node/wal", runtime.handle().clone());
    recover(&mut medium, &WalConfig::default()).unwrap();
    medium.append(Lsn(1), &group(&groups().concat())).unwrap();
    let read = async { store.get(&object_path()).await?.bytes().await };
    runtime.block_on(read).unwrap().to_vec()
}

fn object_path() -> ObjectPath {
    ObjectPath::from(format!("node/wal/{SEGMENT}"))
}

#[test]
fn a_segment_file_of_version_1_is_read_and_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    fs::copy(fixture("version1.file.wal"), directory.path().join(SEGMENT)).unwrap();
    let (recovery, found) = recover_directory(directory.path()).unwrap();
    assert_eq!(found, records());
    assert_eq!((recovery.last, recovery.segments), (Lsn(3), 1));

    write_groups(
        directory.path(),
        &WalConfig::default(),
        &[vec![b"later".to_vec()]],
    );
    let (_, found) = recover_directory(directory.path()).unwrap();
    let expected = [records(), vec![(Lsn(4), b"later".to_vec())]].concat();
    assert_eq!(found, expected);
}

#[test]
fn a_segment_object_of_version_1_is_read() {
    let runtime = Runtime::new().unwrap();
    let store = Arc::new(InMemory::new());
    let bytes = fs::read(fixture("version1.object.wal")).unwrap();
    runtime.block_on(store.put(&object_path(), bytes.into())).unwrap();
    let store = store as Arc<dyn ObjectStore>;
    let mut medium = ObjectMedium::new(store, "node/wal", runtime.handle().clone());
    let (_, found) = recover(&mut medium, &WalConfig::default()).unwrap();
    assert_eq!(found, records());
}

#[test]
fn what_is_written_has_the_version_of_the_newest_fixture() {
    for (written, newest) in [
        (written_file(), "version1.file.wal"),
        (written_object(&Runtime::new().unwrap()), "version1.object.wal"),
    ] {
        let kept = fs::read(fixture(newest)).unwrap();
        assert_eq!(
            written[..FORMAT_BYTES],
            kept[..FORMAT_BYTES],
            "a new version needs a fixture of its own"
        );
        assert_eq!(written.len(), kept.len());
    }
}

/// Makes the fixtures of the present version; those of later ones get other names, and these stay.
#[test]
#[ignore = "changes files of the repository"]
fn write_the_fixtures() {
    fs::write(fixture("version1.file.wal"), written_file()).unwrap();
    let object = written_object(&Runtime::new().unwrap());
    fs::write(fixture("version1.object.wal"), object).unwrap();
}
