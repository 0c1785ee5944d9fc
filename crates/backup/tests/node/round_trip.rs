//! A node, its backup, and the node that is made of that.

use std::convert::Infallible;
use std::sync::Arc;

use crate::support::{LOG_LAST, SNAPSHOT, TestNode, check};
use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tidemill_backup::export::export;
use tidemill_backup::{BackupError, BackupIndex, BackupPlace, check_restored, import, restore};
use tidemill_catalog::{Catalog, Limits};
use tidemill_store::{DataFile, Manifest};

pub(crate) fn place(store: &Arc<InMemory>) -> BackupPlace {
    BackupPlace::new(
        Arc::clone(store) as Arc<dyn ObjectStore>,
        Path::from("backups/monday"),
        "monday",
    )
}

pub(crate) async fn stream_of(node: &TestNode) -> Vec<Bytes> {
    export(node.source("node0"), node.holds(), 1_700_000_000_000_000_000)
        .await
        .unwrap()
        .collect()
        .await
}

pub(crate) async fn take(pieces: Vec<Bytes>, place: &BackupPlace) -> Result<BackupIndex, BackupError> {
    import(
        stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)),
        place,
        |_| {},
    )
    .await
}

pub(crate) async fn restored(place: &BackupPlace, store: &Arc<dyn ObjectStore>) -> Result<(), BackupError> {
    let check = async |_: &BackupIndex| Ok(());
    restore(place, Arc::clone(store), "copy", |_| {}, check)
        .await
        .map(drop)
}

#[tokio::test]
async fn a_restored_node_is_the_one_that_was_backed_up() {
    let node = TestNode::new("node0").await;
    let backups = Arc::new(InMemory::new());
    let place = place(&backups);
    let index = take(stream_of(&node).await, &place).await.unwrap();
    assert_eq!(Arc::strong_count(&node.log.hold), 1, "the log is free again");
    assert_eq!(index.head.node_id, "node0");
    assert_eq!(
        (index.head.snapshot_lsn, index.head.log_last),
        (SNAPSHOT, LOG_LAST)
    );
    assert_eq!(
        index.head.log_first, 18,
        "what a trigger has still to read comes along"
    );
    assert_eq!(place.index().await.unwrap(), index);

    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    restored(&place, &store).await.unwrap();
    check_restored(&store, "copy").await.unwrap();
    let report = check(&store, "copy").await;
    assert!(report.sound, "{report:#?}");
    assert_eq!((report.log.first, report.log.last), (18, LOG_LAST));
    assert_eq!(
        (report.notes.len(), report.orphans.objects),
        (0, 0),
        "{report:#?}"
    );

    let catalog = Catalog::open(Arc::clone(&store), "copy", Limits::default())
        .await
        .unwrap();
    assert_eq!(*catalog.state(), *node.catalog.state());
    let manifest = Manifest::read(Arc::clone(&store), "copy").await.unwrap();
    let original = node.manifest.state();
    let moved = |file: &Arc<DataFile>| DataFile {
        path: file.path.replacen("node0/", "copy/", 1).into(),
        ..DataFile::clone(file)
    };
    let expected: Vec<DataFile> = original.files().map(moved).collect();
    let found: Vec<DataFile> = manifest.files().map(|file| DataFile::clone(file)).collect();
    assert_eq!(found, expected);
    assert_eq!(manifest.deletes(), original.deletes());
    assert!(manifest.next_file_id() >= original.next_file_id());
    assert_eq!(manifest.snapshot_lsn(), SNAPSHOT);
}

#[tokio::test]
async fn neither_a_backup_nor_a_node_is_overwritten() {
    let node = TestNode::new("node0").await;
    let backups = Arc::new(InMemory::new());
    let place = place(&backups);
    let pieces = stream_of(&node).await;
    take(pieces.clone(), &place).await.unwrap();
    let again = take(pieces, &place).await.unwrap_err();
    assert!(
        matches!(again, BackupError::DestinationNotEmpty { .. }),
        "{again}"
    );

    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    store.put(&Path::from("copy/wal/lock"), "7".into()).await.unwrap();
    let refused = restored(&place, &store).await.unwrap_err();
    assert!(matches!(refused, BackupError::NodeNotEmpty { .. }), "{refused}");
    assert!(check_restored(&store, "copy").await.is_ok());
}

#[tokio::test]
async fn a_restore_that_did_not_end_well_leaves_no_node_that_starts() {
    let node = TestNode::new("node0").await;
    let backups = Arc::new(InMemory::new());
    let place = place(&backups);
    take(stream_of(&node).await, &place).await.unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let check = async |_: &BackupIndex| Err("something is damaged".to_owned());
    let failed = restore(&place, Arc::clone(&store), "copy", |_| {}, check)
        .await
        .unwrap_err();
    assert!(matches!(failed, BackupError::NotSound(_)), "{failed}");
    for refused in [
        check_restored(&store, "copy").await.unwrap_err(),
        restored(&place, &store).await.unwrap_err(),
    ] {
        assert!(
            matches!(refused, BackupError::UnfinishedRestore { .. }),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_damaged_file_stops_a_backup_and_is_named() {
    let node = TestNode::new("node0").await;
    let state = node.manifest.state();
    let file = state.files().next().unwrap();
    let path = Path::from(&*file.path);
    let mut bytes = node
        .objects
        .get(&path)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap()
        .to_vec();
    bytes[100] ^= 1;
    node.objects.put(&path, bytes.into()).await.unwrap();
    let backups = Arc::new(InMemory::new());
    let place = place(&backups);
    let error = take(stream_of(&node).await, &place)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(".parquet") && error.contains("checksum"),
        "{error}"
    );
    let unfinished = place.index().await.unwrap_err();
    assert!(matches!(unfinished, BackupError::NoBackup { .. }), "{unfinished}");
}

/// Every object of a backup that is cut or changed is noticed by the restore.
#[tokio::test]
async fn a_damaged_backup_is_not_restored() {
    let node = TestNode::new("node0").await;
    let backups = Arc::new(InMemory::new());
    let place = place(&backups);
    let index = take(stream_of(&node).await, &place).await.unwrap();
    for object in &index.objects {
        let path = Path::from(format!("backups/monday/{}", object.path));
        let bytes = backups.get(&path).await.unwrap().bytes().await.unwrap();
        let mut flipped = bytes.to_vec();
        flipped[bytes.len() / 2] ^= 0x20;
        for damaged in [Bytes::from(flipped), bytes.slice(..bytes.len() - 1)] {
            backups.put(&path, damaged.into()).await.unwrap();
            let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let error = restored(&place, &store).await.unwrap_err();
            let BackupError::Damaged { object: named, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(named, &object.path);
            assert!(check_restored(&store, "copy").await.is_err());
        }
        backups.delete(&path).await.unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        assert!(matches!(
            restored(&place, &store).await,
            Err(BackupError::Damaged { .. })
        ));
        backups.put(&path, bytes.into()).await.unwrap();
    }
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    restored(&place, &store).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However the connection ends or changes what it carries: there is a whole backup or none.
    #[test]
    fn a_broken_connection_leaves_no_backup(
        at in any::<prop::sample::Index>(), bits in 1_u8.., cuts in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let node = TestNode::new("node0").await;
            let mut bytes = stream_of(&node).await.concat();
            let at = at.index(bytes.len());
            if cuts {
                bytes.truncate(at);
            } else {
                bytes[at] ^= bits;
            }
            let backups = Arc::new(InMemory::new());
            let place = place(&backups);
            let pieces = bytes.chunks(1000).map(Bytes::copy_from_slice).collect();
            prop_assert!(take(pieces, &place).await.is_err());
            prop_assert!(matches!(place.index().await, Err(BackupError::NoBackup { .. })), "an index is there");
            Ok::<_, TestCaseError>(())
        })?;
    }
}
