//! The buffer's rows in order.

use proptest::prelude::*;
use tidemill_store::sort_batches;

use crate::model::{Model, commits, rows_of};
use crate::tables::{batch, table};

proptest! {
    #[test]
    fn sorted_batches_are_the_points_of_the_rows(commits in commits(), batch_rows in 1_usize..40) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let table = runtime.block_on(table());
        let rows = commits.concat();
        let batches: Vec<_> = rows.chunks(batch_rows).map(|rows| batch(&table, rows)).collect();
        let sorted = sort_batches(&table, &batches).unwrap();
        prop_assert_eq!(rows_of(&sorted), Model::of(&rows).rows());
    }
}
