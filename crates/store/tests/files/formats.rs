//! Every version of the format of data files that was released is read: one that it wrote is kept in `tests/fixtures`.

use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use tidemill_store::{DataFile, FileSchema, FileStore, merge_sorted, scan_file};

use crate::model::{Model, rows_of};
use crate::storage::{file_store, write_groups};
use crate::tables::{Fields, Row, table};

fn fixture(name: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Rows with every type of column, with and without each value, and some points that are written twice.
fn rows() -> Vec<Row> {
    let tag = |value: &str| Some(value.to_owned());
    let row = |number: i64| Row {
        lsn: 10 + number as u64,
        tags: [
            tag(["a", "b", "größe", ""][number as usize % 4]),
            (number % 3 > 0).then(|| format!("r{}", number % 5)),
            None,
        ],
        time: [0, 1_700_000_000_000_000_000, i64::MIN, i64::MAX, -1][number as usize % 5],
        fields: Fields {
            load: (number % 2 == 0).then(|| (number as f64 / 7.0).to_bits()),
            count: (number % 3 == 0).then_some(i64::MIN + number),
            total: (number % 4 == 0).then_some(u64::MAX - number as u64),
            note: (number % 5 != 0).then(|| format!("note\n{number}")),
            up: (number % 7 != 0).then_some(number % 2 == 0),
        },
    };
    let special = [f64::NAN, f64::INFINITY, -0.0, f64::MIN_POSITIVE];
    let special = special.into_iter().zip(200..).map(|(value, number)| Row {
        fields: Fields {
            load: Some(value.to_bits()),
            ..Fields::default()
        },
        ..row(number)
    });
    (0..200).map(row).chain(special).collect()
}

async fn written() -> (Arc<FileStore>, Arc<DataFile>) {
    let (table, store) = (table().await, file_store());
    let files = write_groups(&store, &table, &[&[rows()]]).await;
    let file = Arc::clone(&files[0]);
    (store, file)
}

async fn content(store: &FileStore, file: &DataFile) -> Bytes {
    let object = store.objects().get(&Path::from(&*file.path)).await.unwrap();
    object.bytes().await.unwrap()
}

/// What the file says of its format.
fn format(content: Bytes) -> Option<String> {
    let reader = SerializedFileReader::new(content).unwrap();
    let entries = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let entry = entries.iter().find(|entry| entry.key == "tidemill.format");
    entry?.value.clone()
}

#[tokio::test]
async fn a_file_of_version_1_is_read() {
    let file: DataFile = serde_json::from_slice(&fs::read(fixture("version1.file.json")).unwrap()).unwrap();
    let content = Bytes::from(fs::read(fixture("version1.file.parquet")).unwrap());
    assert_eq!(file.byte_size, content.len() as u64);
    assert_eq!(file.checksum, crc_fast::crc32_iscsi(&content));
    let store = file_store();
    let path = Path::from(&*file.path);
    store.objects().put(&path, content.into()).await.unwrap();

    let file = Arc::new(file);
    let expected = Model::of(&rows()).rows();
    assert_eq!(file.row_count as usize, expected.len());
    let table = table().await;
    let columns = store.columns(&file).await.unwrap();
    let schema = FileSchema::new(&table, |id| columns.contains(&id));
    let scan = || scan_file(&store, &file, Arc::clone(schema.arrow()), None, &[]);
    let read: Vec<_> = scan().try_collect().await.unwrap();
    assert_eq!(rows_of(&read), expected);

    // Together with a file of now.
    let newer = vec![Row {
        lsn: 1_000,
        time: 5,
        ..rows()[0].clone()
    }];
    let all = [rows(), newer.clone()].concat();
    // In a store of its own, since the identities of its files begin anew.
    let store_now = file_store();
    let written = write_groups(&store_now, &table, &[&[newer]]).await;
    let new = scan_file(&store_now, &written[0], Arc::clone(schema.arrow()), None, &[]);
    let merged = merge_sorted(
        Arc::clone(schema.arrow()),
        schema.key_columns(),
        vec![scan(), new],
    );
    let merged: Vec<_> = merged.try_collect().await.unwrap();
    assert_eq!(rows_of(&merged), Model::of(&all).rows());
}

#[tokio::test]
async fn what_is_written_has_the_version_of_the_newest_fixture() {
    let (store, file) = written().await;
    let kept = Bytes::from(fs::read(fixture("version1.file.parquet")).unwrap());
    let format_kept = format(kept);
    assert_eq!(format_kept.as_deref(), Some("1"));
    assert_eq!(
        format(content(&store, &file).await),
        format_kept,
        "a new version needs a fixture of its own"
    );
}

/// Makes the fixture of the present version; those of later ones get other names, and this one stays.
#[tokio::test]
#[ignore = "changes files of the repository"]
async fn write_the_fixture() {
    let (store, file) = written().await;
    let json = serde_json::to_vec_pretty(&*file).unwrap();
    fs::write(fixture("version1.file.json"), json).unwrap();
    fs::write(fixture("version1.file.parquet"), content(&store, &file).await).unwrap();
}
