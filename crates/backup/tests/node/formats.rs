//! Every version of the formats of backups that was released is read: one that it made is kept in `tests/fixtures`.

use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tidemill_backup::check_restored;
use tidemill_backup::stream::{Decoder, Event};
use tidemill_catalog::{Catalog, Limits};
use tidemill_store::Manifest;

use crate::round_trip::{place, restored, stream_of, take};
use crate::support::{LOG_LAST, SNAPSHOT, TestNode, check};

/// Bytes of a stream that tell its format: magic and version.
const FORMAT_BYTES: usize = 12;

fn fixture(name: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn read(name: &str) -> Bytes {
    fs::read(fixture(name)).unwrap().into()
}

/// A place in which nothing but this index is.
async fn place_with_index(index: Bytes) -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let path = Path::from("backups/monday/backup.json");
    store.put(&path, index.into()).await.unwrap();
    store
}

#[tokio::test]
async fn a_stream_and_an_index_of_version_1_are_read() {
    let backups = Arc::new(InMemory::new());
    let taken = place(&backups);
    let index = take(vec![read("version1.node.backup")], &taken).await.unwrap();
    // It names every object with its length and checksum.
    let kept = place(&place_with_index(read("version1.node.index.json")).await);
    assert_eq!(kept.index().await.unwrap(), index);
    assert_eq!(index.format, 1);
    assert_eq!(
        (index.head.snapshot_lsn, index.head.log_first, index.head.log_last),
        (SNAPSHOT, 18, LOG_LAST)
    );
    assert!(index.objects.len() >= 6, "something of everything: {index:?}");

    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    restored(&taken, &store).await.unwrap();
    check_restored(&store, "copy").await.unwrap();
    let report = check(&store, "copy").await;
    assert!(report.sound, "{report:#?}");
    assert_eq!((report.log.first, report.log.last), (18, LOG_LAST));
    let catalog = Catalog::open(Arc::clone(&store), "copy", Limits::default());
    let state = catalog.await.unwrap().state();
    let table = state.database("d").unwrap().table("cpu").unwrap();
    let names: Vec<&str> = table.columns.iter().map(|column| &*column.name).collect();
    assert_eq!(names, ["host", "v", "time"]);
    let manifest = Manifest::read(store, "copy").await.unwrap();
    let rows: u64 = manifest.files().map(|file| file.row_count).sum();
    assert_eq!((manifest.files().len(), rows), (2, 4_000));
}

#[tokio::test]
async fn what_is_written_has_the_version_of_the_newest_fixture() {
    let node = TestNode::new("node0").await;
    let stream = stream_of(&node).await.concat();
    let kept = read("version1.node.backup");
    assert_eq!(
        stream[..FORMAT_BYTES],
        kept[..FORMAT_BYTES],
        "a new version needs a fixture of its own"
    );
    let head = |stream: &[u8]| {
        let mut decoder = Decoder::new();
        decoder.push(stream);
        match decoder.next_event() {
            Ok(Some(Event::Head(head))) => head,
            other => panic!("no head: {other:?}"),
        }
    };
    let (new, old) = (head(&stream), head(&kept));
    assert_eq!((new.node_id, new.log_last), (old.node_id, old.log_last));

    let backups = Arc::new(InMemory::new());
    let index = take(vec![stream.into()], &place(&backups)).await.unwrap();
    let kept = place(&place_with_index(read("version1.node.index.json")).await);
    assert_eq!(index.format, kept.index().await.unwrap().format);
}

/// Makes the fixtures of the present version; those of later ones get other names, and these stay.
#[tokio::test]
#[ignore = "changes files of the repository"]
async fn write_the_fixtures() {
    let stream = stream_of(&TestNode::new("node0").await).await.concat();
    fs::write(fixture("version1.node.backup"), &stream).unwrap();
    let backups = Arc::new(InMemory::new());
    take(vec![stream.into()], &place(&backups)).await.unwrap();
    let path = Path::from("backups/monday/backup.json");
    let index = backups.get(&path).await.unwrap().bytes().await.unwrap();
    fs::write(fixture("version1.node.index.json"), index).unwrap();
}
