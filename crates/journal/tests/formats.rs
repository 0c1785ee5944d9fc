//! Every form of a journal's objects that was released is read: those that it wrote are kept in `tests/fixtures`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use support::{PREFIX, TestClock, rows, schema};
use tidemill_journal::{Journal, JournalConfig};
use tidemill_testkit::{load_objects, save_objects};

fn fixture(name: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

async fn open(store: &Arc<InMemory>) -> Journal {
    let clock = TestClock::default().clock();
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    Journal::open(store, PREFIX, schema(), JournalConfig::default(), clock)
        .await
        .unwrap()
}

/// What the fixture holds, object by object.
fn flushes() -> [RecordBatch; 3] {
    [rows(0..3, 10, 5), rows([i64::MAX, -1], 7, 0), rows(3..40, 20, 30)]
}

async fn written() -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let journal = open(&store).await;
    for rows in flushes() {
        journal.append(&rows);
        journal.flush().await.unwrap();
    }
    store
}

/// Names of objects without the last part, the size in the store, which the library that compresses decides.
async fn names(store: &InMemory) -> Vec<String> {
    let objects: Vec<_> = store.list(Some(&Path::from(PREFIX))).try_collect().await.unwrap();
    let mut names: Vec<String> = objects
        .iter()
        .map(|object| {
            let name = object.location.filename().unwrap();
            name.rsplit_once('_').unwrap().0.to_owned()
        })
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn objects_of_version_1_are_read() {
    let store = Arc::new(load_objects(&fixture("version1")).await);
    let journal = open(&store).await;
    assert_eq!(journal.scan(..).await.unwrap(), flushes());
    let within: Vec<RecordBatch> = journal.scan(8..15).await.unwrap();
    assert_eq!(within, flushes()[..1]);

    // And it goes on from there.
    journal.append(&rows([99], 30, 1));
    journal.flush().await.unwrap();
    let again = open(&store).await.scan(..).await.unwrap();
    assert_eq!(again.last(), Some(&rows([99], 30, 1)));
    assert_eq!(again.len(), 4);
}

#[tokio::test]
async fn what_is_written_has_the_form_of_the_newest_fixture() {
    let (written, kept) = (written().await, load_objects(&fixture("version1")).await);
    let is = "a new form needs a fixture of its own";
    assert_eq!(names(&written).await, names(&kept).await, "{is}");
    let schema = async |store: &InMemory| {
        let objects: Vec<_> = store.list(Some(&Path::from(PREFIX))).try_collect().await.unwrap();
        let object = store.get(&objects[0].location).await.unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(object.bytes().await.unwrap());
        reader.unwrap().parquet_schema().root_schema().clone()
    };
    assert_eq!(schema(&written).await, schema(&kept).await, "{is}");
}

/// Makes the fixture of the present form; those of later ones get other names, and this one stays.
#[tokio::test]
#[ignore = "changes files of the repository"]
async fn write_the_fixture() {
    save_objects(&*written().await, &fixture("version1")).await;
}
