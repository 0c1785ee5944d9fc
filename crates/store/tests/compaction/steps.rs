//! Single steps that are easy to say.

use std::sync::Arc;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use tidemill_catalog::{Catalog, TableId};
use tidemill_store::compaction::{
    BackgroundCompaction, CompactionConfig, CompactionPolicy, CompactionReason,
};
use tidemill_store::{DataFile, Edit};

use crate::node::{Node, Rows, catalog};

const HOUR: i64 = 3_600_000_000_000;

async fn empty_node(catalog: &Arc<Catalog>, table: TableId) -> Node {
    Node::open(
        Arc::new(InMemory::new()),
        catalog,
        table,
        CompactionPolicy::default(),
    )
    .await
}

fn hour_of_rows(hour: i64, count: i64) -> Rows {
    (0..count)
        .map(|n| ((1, hour * HOUR + n), (Some(1), None)))
        .collect()
}

#[tokio::test]
async fn files_whose_rows_have_expired_are_removed_without_being_read() {
    let (catalog, table) = catalog(Some(10 * HOUR as u64)).await;
    let node = empty_node(&catalog, table).await;
    for hour in 0..3 {
        node.snapshot(&hour_of_rows(hour, 10), hour as u64 + 1, &[]).await;
    }
    let record = node.compactor.compact_once(11 * HOUR).await.unwrap().unwrap();
    assert_eq!(node.compactor.history(), std::slice::from_ref(&record));
    assert_eq!(
        (record.reason, record.files_in, record.files_out),
        (CompactionReason::Retention, 1, 0)
    );
    assert_eq!(node.compactor.stats().jobs, 1);
    assert_eq!(node.rows().await.len(), 20);
    assert_eq!(node.compactor.collect_garbage_once().await.unwrap(), 1);
}

#[tokio::test]
async fn a_delete_is_applied_after_a_while() {
    let (catalog, table) = catalog(None).await;
    let node = empty_node(&catalog, table).await;
    node.snapshot(&hour_of_rows(0, 10), 1, &[]).await;
    let delete = node.row_delete(2, None, (0, 4));
    node.storage.store().await_delete(&delete);
    assert_eq!(node.compactor.compact_once(0).await.unwrap(), None);
    let record = node.compactor.compact_once(HOUR).await.unwrap().unwrap();
    assert_eq!(
        (record.reason, record.rows_in, record.rows_out),
        (CompactionReason::Deletes, 10, 5)
    );
    assert!(node.files().deletes.is_empty());
    assert_eq!(node.rows().await.len(), 5);
}

#[tokio::test]
async fn what_is_read_is_not_removed() {
    let (catalog, table) = catalog(None).await;
    let node = empty_node(&catalog, table).await;
    for hour in 0..4 {
        node.snapshot(&hour_of_rows(hour, 10), hour as u64 + 1, &[]).await;
    }
    let reader = node.files();
    node.compactor.compact_once(0).await.unwrap().unwrap();
    assert_eq!(node.compactor.collect_garbage_once().await.unwrap(), 0);
    assert_eq!(node.rows_of(&reader, node.storage.files()).await.len(), 40);
    drop(reader);
    assert_eq!(node.compactor.collect_garbage_once().await.unwrap(), 4);
    assert_eq!(node.files().files.len(), 1);
}

#[tokio::test]
async fn the_progress_of_earlier_snapshots_is_swept() {
    let (catalog, table) = catalog(None).await;
    let objects = Arc::new(InMemory::new());
    let node = Node::open(
        Arc::clone(&objects) as _,
        &catalog,
        table,
        CompactionPolicy::default(),
    )
    .await;
    let path = |lsn: u64| Path::from(format!("node/snapshots/{lsn:020}.progress"));
    for lsn in [3, 5, 7] {
        objects.put(&path(lsn), "progress".into()).await.unwrap();
    }
    let foreign = Path::from("node/snapshots/1.txt");
    objects.put(&foreign, "mine".into()).await.unwrap();
    let snapshot = Edit::Snapshot {
        lsn: 5,
        progress: Some(path(5).as_ref().into()),
    };
    node.storage.commit(vec![snapshot]).await.unwrap();
    assert_eq!(node.compactor.sweep_orphans_once().await.unwrap(), 1);
    assert!(objects.head(&path(3)).await.is_err());
    for kept in [path(5), path(7), foreign] {
        objects.head(&kept).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_overtaken_is_told_so_by_compaction() {
    let (catalog, table) = catalog(None).await;
    let objects = Arc::new(InMemory::new());
    let open = || {
        Node::open(
            Arc::clone(&objects) as _,
            &catalog,
            table,
            CompactionPolicy::default(),
        )
    };
    let node = open().await;
    for hour in 0..5 {
        node.snapshot(&hour_of_rows(hour, 100), hour as u64 + 1, &[])
            .await;
    }
    let mut is_overtaken = node.storage.is_overtaken();
    let successor = open().await;
    let config = CompactionConfig::default();
    let background =
        BackgroundCompaction::start(Arc::clone(&node.storage), Arc::clone(&catalog), config).unwrap();
    is_overtaken.wait_for(|is_overtaken| *is_overtaken).await.unwrap();
    background.stop().await;
    assert_eq!(successor.rows().await.len(), 500, "no file of it was removed");
    assert!(!*successor.storage.is_overtaken().borrow());
    assert!(successor.compactor.compact_once(0).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_background_thread_compacts_and_stops() {
    let (catalog, table) = catalog(None).await;
    let node = empty_node(&catalog, table).await;
    for hour in 0..5 {
        node.snapshot(&hour_of_rows(hour, 2000), hour as u64 + 1, &[])
            .await;
    }
    let config = CompactionConfig::default();
    let background = BackgroundCompaction::start(Arc::clone(&node.storage), catalog, config).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    // What is counted is counted after it was done.
    while node.files().files.len() > 1 || background.compactor().stats().garbage_removed < 5 {
        assert!(std::time::Instant::now() < deadline, "nothing happens");
        tokio::task::yield_now().await;
    }
    assert_eq!(background.compactor().stats().files_in, 5);
    assert_eq!(background.compactor().stats().garbage_removed, 5);
    background.stop().await;
    assert_eq!(node.rows().await.len(), 10_000);
}

/// Changes a byte in the middle of an object.
async fn damage(node: &Node, file: &DataFile) {
    let path = Path::parse(&*file.path).unwrap();
    let objects = node.storage.files().objects();
    let mut bytes = objects.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    objects.put(&path, bytes.into()).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_left_alone_and_others_are_compacted() {
    const MINUTE: i64 = HOUR / 60;
    let (catalog, table) = catalog(Some(100 * HOUR as u64)).await;
    let node = empty_node(&catalog, table).await;
    for hour in 0..9 {
        node.snapshot(&hour_of_rows(hour, 10), hour as u64 + 1, &[]).await;
    }
    let victim = Arc::clone(
        node.files()
            .files
            .iter()
            .find(|file| file.time_min == 4 * HOUR)
            .unwrap(),
    );
    let path = Path::parse(&*victim.path).unwrap();
    let objects = Arc::clone(node.storage.files().objects());
    let whole = objects.get(&path).await.unwrap().bytes().await.unwrap();
    damage(&node, &victim).await;

    let error = node.compactor.compact_once(10 * HOUR).await.unwrap_err();
    assert!(error.to_string().contains(&*victim.path), "{error}");
    let record = node.compactor.compact_once(10 * HOUR).await.unwrap().unwrap();
    assert_eq!(
        (record.files_in, record.files_out),
        (4, 1),
        "those before or after it"
    );
    for minute in 0..59 {
        let now = 10 * HOUR + minute * MINUTE;
        while let Some(record) = node.compactor.compact_once(now).await.unwrap() {
            assert_eq!(record.files_in, 4);
        }
        node.compactor.collect_garbage_once().await.unwrap();
    }
    let stats = node.compactor.stats();
    assert_eq!((stats.failures, stats.damaged_files), (1, 1), "it is read once");
    node.check_files();
    assert_eq!(node.files().files.len(), 3);
    assert!(
        objects.head(&path).await.is_ok(),
        "what may be mended is not removed"
    );

    objects.put(&path, whole.into()).await.unwrap();
    assert_eq!(node.rows().await.len(), 90);
    // A delete makes it rewrite the file as soon as it looks again.
    let delete = node.row_delete(20, None, (4 * HOUR, 4 * HOUR + 4));
    node.storage.store().await_delete(&delete);
    let look = |now: i64| node.compactor.compact_once(now);
    assert_eq!(look(10 * HOUR + 59 * MINUTE).await.unwrap(), None);
    let record = look(11 * HOUR + 59 * MINUTE).await.unwrap().unwrap();
    assert_eq!((record.reason, record.rows_out), (CompactionReason::Deletes, 5));
    assert_eq!(node.rows().await.len(), 85);
}

/// What a version without checksums of blocks has written is not given new checksums before it is checked.
#[tokio::test]
async fn damage_of_an_old_file_is_not_rewritten() {
    let (catalog, table) = catalog(None).await;
    let node = empty_node(&catalog, table).await;
    for hour in 0..4 {
        node.snapshot(&hour_of_rows(hour, 10), hour as u64 + 1, &[]).await;
    }
    let mut edits = Vec::new();
    for file in node.files().files.iter() {
        let id = node.storage.manifest().allocate_file_id();
        let old = DataFile {
            id,
            tail: None,
            ..DataFile::clone(file)
        };
        edits.extend([Edit::RemoveFile { id: file.id }, Edit::AddFile(old)]);
    }
    node.storage.commit(edits).await.unwrap();
    let victim = Arc::clone(&node.files().files[0]);
    damage(&node, &victim).await;
    let error = node.compactor.compact_once(10 * HOUR).await.unwrap_err();
    let told = format!("its checksum does not match at bytes 0..{}", victim.byte_size);
    assert!(error.to_string().contains(&told), "{error}");
    assert_eq!(node.compactor.compact_once(10 * HOUR).await.unwrap(), None);
}

#[tokio::test]
async fn a_damaged_file_is_not_tried_again_for_any_reason() {
    let (catalog, table) = catalog(None).await;
    let policy = CompactionPolicy {
        rewrite_after_ns: HOUR,
        rewrite_bytes_min: 0,
        ..CompactionPolicy::default()
    };
    let node = Node::open(Arc::new(InMemory::new()), &catalog, table, policy).await;
    node.snapshot(&hour_of_rows(0, 10), 1, &[]).await;
    let file = Arc::clone(&node.files().files[0]);
    damage(&node, &file).await;
    assert_eq!(node.compactor.compact_once(0).await.unwrap(), None);
    let error = node.compactor.compact_once(HOUR).await.unwrap_err();
    assert!(error.to_string().contains(&*file.path), "{error}");
    assert_eq!(node.compactor.compact_once(HOUR).await.unwrap(), None);
    let delete = node.row_delete(2, None, (0, 4));
    node.storage.store().await_delete(&delete);
    assert_eq!(node.compactor.compact_once(HOUR + 1).await.unwrap(), None);
    let later = 2 * HOUR - 1;
    assert_eq!(node.compactor.compact_once(later).await.unwrap(), None);
    assert_eq!(node.compactor.stats().failures, 1);
}
