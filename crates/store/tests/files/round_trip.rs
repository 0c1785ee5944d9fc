//! Rows through files and merges.

use std::sync::Arc;

use futures::TryStreamExt;
use proptest::prelude::*;
use tidemill_store::{FileSchema, merge_sorted, scan_file};

use crate::model::{Model, commits, rows_of};
use crate::storage::{file_store, write, write_groups};
use crate::tables::{Row, table};

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
