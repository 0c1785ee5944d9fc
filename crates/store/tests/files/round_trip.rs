//! Rows through files and merges.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use proptest::prelude::*;
use tidemill_catalog::Table;
use tidemill_store::{
    DataFile, Effort, FileId, FileSchema, FileStore, FileStoreConfig, SortedRows, SortedStream, WriteSpec,
    merge_sorted, scan_file, write_file,
};

use crate::model::{Model, commits, rows_of};
use crate::tables::{Row, batch, table};

fn file_store() -> Arc<FileStore> {
    Arc::new(FileStore::new(
        Arc::new(InMemory::new()),
        FileStoreConfig::default(),
    ))
}

async fn write(
    files: &FileStore,
    table: &Table,
    id: u64,
    lsns: (u64, u64),
    rows: SortedStream,
) -> Option<Arc<DataFile>> {
    let spec = WriteSpec {
        table,
        path_prefix: &Path::from("node/data"),
        node_id: "node",
        lsn_first: lsns.0,
        lsn_last: lsns.1,
        deletes_through: 0,
        effort: Effort::Low,
    };
    let written = write_file(files, &spec, rows, || FileId(id)).await.unwrap();
    written.map(Arc::new)
}

/// Writes each group of commits as a file.
async fn write_groups(files: &FileStore, table: &Table, groups: &[&[Vec<Row>]]) -> Vec<Arc<DataFile>> {
    let mut written = Vec::new();
    for (position, group) in groups.iter().enumerate() {
        let batches: Vec<_> = group.iter().map(|rows| batch(table, rows)).collect();
        let lsns = (batches[0].lsn_first, batches[batches.len() - 1].lsn_last);
        let rows = SortedRows::new(table, &batches).unwrap().into_stream();
        written.extend(write(files, table, position as u64, lsns, rows).await);
    }
    written
}

proptest! {
    #[test]
    fn files_merge_into_the_points_of_all_rows(commits in commits(), group_size in 1_usize..5, seed in 0_i64..5) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let table = table().await;
            let store = file_store();
            let groups: Vec<&[Vec<Row>]> = commits.chunks(group_size).collect();
            let files = write_groups(&store, &table, &groups).await;
            for file in &files {
                let rows: Vec<Row> = groups[file.id.0 as usize].concat();
                assert_eq!(file.row_count as usize, Model::of(&rows).rows().len());
                assert_eq!(file.time_min, rows.iter().map(|row| row.time).min().unwrap());
                assert_eq!(file.time_max, rows.iter().map(|row| row.time).max().unwrap());
            }
            let mut columns = Vec::new();
            for file in &files {
                columns.extend(store.columns(file).await.unwrap());
            }
            let schema = FileSchema::new(&table, |id| columns.contains(&id));
            let all = commits.concat();

            let scan = |time| files.iter().map(|file| scan_file(&store, file, Arc::clone(schema.arrow()), time, &[])).collect();
            let merge = |inputs| merge_sorted(Arc::clone(schema.arrow()), schema.key_columns(), inputs);
            let merged: Vec<_> = merge(scan(None)).try_collect().await.unwrap();
            assert_eq!(rows_of(&merged), Model::of(&all).rows());

            let again = write(&store, &table, 99, (0, 99), merge(scan(None))).await.unwrap();
            let read: Vec<_> = scan_file(&store, &again, Arc::clone(schema.arrow()), None, &[]).try_collect().await.unwrap();
            assert_eq!(rows_of(&read), Model::of(&all).rows());

            let span = (seed, seed + 2);
            let inside: Vec<Row> = all.into_iter().filter(|row| (span.0..=span.1).contains(&row.time)).collect();
            let merged: Vec<_> = merge(scan(Some(span))).try_collect().await.unwrap();
            assert_eq!(rows_of(&merged), Model::of(&inside).rows());
        });
    }
}

#[tokio::test]
async fn no_rows_are_no_file() {
    let (table, store) = (table().await, file_store());
    let none = write(&store, &table, 1, (1, 1), Box::pin(futures::stream::empty())).await;
    assert!(none.is_none());
    assert_eq!(
        store.objects().list(None).try_collect::<Vec<_>>().await.unwrap(),
        []
    );
}
