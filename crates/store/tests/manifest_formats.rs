//! Every version of the manifest's format that was released is read: what it wrote is kept in `tests/fixtures`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tidemill_catalog::{ColumnId, DatabaseId, TableId};
use tidemill_store::{
    DataFile, Edit, Effort, FileId, FileTail, Manifest, ManifestState, RowDelete, TagCondition,
};
use tidemill_testkit::{load_objects, save_objects};

/// Bytes of an object that tell its format: magic and version.
const FORMAT_BYTES: usize = 12;

fn fixture(name: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn file(id: u64, table: u32) -> DataFile {
    DataFile {
        id: FileId(id),
        database: DatabaseId(1),
        table: TableId(table),
        path: format!("node/data/1/{table}/{id:010}.parquet").into(),
        byte_size: 1_000_000 + id,
        checksum: 0xfeed_beef,
        row_count: 4_000_000,
        time_min: i64::MIN,
        time_max: 1_700_000_000_000_000_000 + id as i64,
        lsn_first: 10 + id,
        lsn_last: 20 + id,
        deletes_through: 9,
        effort: Effort::High,
        tail: Some(FileTail {
            start: 1_000,
            checksum: 8,
        }),
    }
}

fn delete(lsn: u64, table: u32) -> RowDelete {
    RowDelete {
        lsn,
        database: DatabaseId(1),
        table: TableId(table),
        time_first: -5,
        time_last: i64::MAX,
        conditions: vec![TagCondition {
            column: ColumnId(2),
            negated: true,
            values: vec!["a".into(), "größe".into()],
        }],
    }
}

/// Every kind of change, in the records in which the fixture has them after the one that an opening writes.
fn records() -> [Vec<Edit>; 3] {
    [
        (0..5)
            .map(|id| Edit::AddFile(file(id, (id % 3) as u32)))
            .chain([Edit::Snapshot {
                lsn: 25,
                progress: Some("node/snapshots/25.progress".into()),
            }])
            .collect(),
        vec![
            Edit::AddDelete(delete(40, 0)),
            Edit::AddDelete(delete(41, 1)),
            Edit::RemoveFile { id: FileId(0) },
            Edit::RemoveFile { id: FileId(3) },
            Edit::AddFile(file(5, 0)),
            Edit::DropTable { table: TableId(1) },
        ],
        vec![
            Edit::ForgetGarbage { id: FileId(0) },
            Edit::ReserveFileIds { below: 1 << 33 },
            Edit::Snapshot {
                lsn: 30,
                progress: None,
            },
        ],
    ]
}

fn expected() -> ManifestState {
    let reserved = Edit::ReserveFileIds { below: 1 << 32 };
    let edits: Vec<Edit> = std::iter::once(reserved).chain(records().concat()).collect();
    ManifestState::default().after(&edits).unwrap()
}

/// A manifest with these records; with a checkpoint before the last of them, if one is wanted.
async fn written(with_checkpoint: bool) -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let manifest = Manifest::open(Arc::clone(&store) as _, "node").await.unwrap();
    let [first, second, third] = records();
    manifest.commit(first).await.unwrap();
    manifest.commit(second).await.unwrap();
    if with_checkpoint {
        manifest.checkpoint().await.unwrap();
    }
    manifest.commit(third).await.unwrap();
    store
}

#[tokio::test]
async fn records_and_a_checkpoint_of_version_1_are_read() {
    let expected = expected();
    assert_eq!(
        (
            expected.files().len(),
            expected.garbage().len(),
            expected.deletes().len()
        ),
        (2, 3, 1),
        "there is something of everything"
    );
    for name in ["version1.records", "version1.checkpoint"] {
        let store = Arc::new(load_objects(&fixture(name)).await) as Arc<dyn ObjectStore>;
        let state = Manifest::read(Arc::clone(&store), "node").await.unwrap();
        assert_eq!(*state, expected, "{name}");
        // And it goes on from there.
        let manifest = Manifest::open(store, "node").await.unwrap();
        let id = manifest.allocate_file_id();
        let state = manifest.commit(vec![Edit::AddFile(file(id.0, 7))]).await.unwrap();
        assert!(state.file(id).is_some());
    }
}

#[tokio::test]
async fn what_is_written_has_the_version_of_the_newest_fixture() {
    let format = async |store: &InMemory, path: &str| {
        let object = store.get(&Path::from(path)).await.unwrap();
        object.bytes().await.unwrap().slice(..FORMAT_BYTES)
    };
    let kept = load_objects(&fixture("version1.checkpoint")).await;
    let store = written(true).await;
    for object in [
        format!("node/manifest/log/{:020}", 4),
        format!("node/manifest/checkpoint/{:020}", 3),
        "node/manifest/current".to_owned(),
    ] {
        assert_eq!(
            format(&store, &object).await,
            format(&kept, &object).await,
            "{object}: a new version needs a fixture of its own"
        );
    }
}

/// Makes the fixtures of the present version; those of later ones get other names, and these stay.
#[tokio::test]
#[ignore = "changes files of the repository"]
async fn write_the_fixtures() {
    save_objects(&*written(false).await, &fixture("version1.records")).await;
    save_objects(&*written(true).await, &fixture("version1.checkpoint")).await;
}
