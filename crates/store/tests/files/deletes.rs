//! Deleted rows are left out when a file is read for merging.

use std::sync::Arc;

use futures::TryStreamExt;
use proptest::prelude::*;
use tidemill_catalog::Table;
use tidemill_store::{FileSchema, RowDelete, TagCondition, scan_file};

use crate::model::{Model, commits, rows_of};
use crate::storage::{file_store, write_groups};
use crate::tables::{TAGS, table};

/// Which of [`TAGS`], whether negated, and values.
type Condition = (usize, bool, Vec<&'static str>);

fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    let values = prop::collection::vec(prop::sample::select(vec!["a", "b", "x", "1", "nowhere"]), 1..3);
    prop::collection::vec((0..TAGS.len(), any::<bool>(), values), 0..3)
}

fn row_delete(table: &Table, lsn: u64, time_first: i64, length: i64, conditions: &[Condition]) -> RowDelete {
    let condition = |(tag, negated, values): &Condition| TagCondition {
        column: table.column(TAGS[*tag]).unwrap().id,
        negated: *negated,
        values: values.iter().map(|value| Arc::from(*value)).collect(),
    };
    RowDelete {
        lsn,
        database: table.database_id,
        table: table.id,
        time_first,
        time_last: time_first + length,
        conditions: conditions.iter().map(condition).collect(),
    }
}

proptest! {
    #[test]
    fn rows_written_before_a_delete_are_gone(
        commits in commits(),
        (time_first, length) in (-2_i64..6, 0_i64..5),
        conditions in conditions(),
        has_all_columns in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (table, store) = (table().await, file_store());
            let files = write_groups(&store, &table, &[&commits]).await;
            let columns = store.columns(&files[0]).await.unwrap();
            let schema = FileSchema::new(&table, |id| has_all_columns || columns.contains(&id));
            let after = files[0].lsn_last + 1;
            let mut model = Model::of(&commits.concat());
            let delete = row_delete(&table, after, time_first, length, &conditions);
            let tag_of = |column| TAGS.iter().position(|name| table.column(name).unwrap().id.0 == column).unwrap();
            model.delete(&delete, tag_of);

            // Of another table, applied before, and before all rows: these concern nothing.
            let mut elsewhere = row_delete(&table, after, i64::MIN, i64::MAX, &[]);
            elsewhere.table.0 += 1;
            let long_ago = row_delete(&table, files[0].lsn_first, i64::MIN, i64::MAX, &[]);
            let deletes = [delete, elsewhere, long_ago].map(Arc::new);
            let rows = scan_file(&store, &files[0], Arc::clone(schema.arrow()), None, &deletes);
            assert_eq!(rows_of(&rows.try_collect::<Vec<_>>().await.unwrap()), model.rows());
        });
    }
}
