//! Frozen rows in parts, each of which becomes one file.

use std::sync::Arc;

use tidemill_catalog::{CatalogState, Table};

use crate::{Frozen, FrozenTable, StoredBatch};

/// Rows of one table, later in the log than those of the parts before it.
pub(super) struct Part {
    pub(super) table: Arc<Table>,
    /// In log order; never empty.
    pub(super) batches: Vec<Arc<StoredBatch>>,
    pub(super) row_count: usize,
    pub(super) byte_size: usize,
}

impl Part {
    fn new(table: &Arc<Table>) -> Self {
        Self {
            table: Arc::clone(table),
            batches: Vec::new(),
            row_count: 0,
            byte_size: 0,
        }
    }

    fn push(&mut self, batch: &Arc<StoredBatch>) {
        self.batches.push(Arc::clone(batch));
        self.row_count += batch.row_count;
        self.byte_size += batch.byte_size;
    }

    /// The places in the log of its first and its last row.
    pub(super) fn lsn_range(&self) -> (u64, u64) {
        let first = self.batches.first().map_or(0, |batch| batch.lsn_first);
        let last = self.batches.last().map_or(0, |batch| batch.lsn_last);
        (first, last)
    }
}

/// All frozen rows of tables that the catalog knows, the largest parts first. A part is not much larger than
/// `bytes_max`, so that several are written at once, each with little memory beside its rows. Since it ends between two
/// places in the log, the files of one table are in log order as those of two snapshots are.
pub(super) fn parts_of(frozen: &Frozen, catalog: &CatalogState, bytes_max: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = frozen
        .tables
        .iter()
        // Of one that was given up or removed for ever nobody will ask.
        .filter(|frozen| catalog.keeps_data_of(frozen.table))
        .filter_map(|frozen| Some((catalog.table_by_id(frozen.table)?, frozen)))
        .flat_map(|(table, frozen)| parts_of_table(table, frozen, bytes_max))
        .collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.byte_size));
    parts
}

fn parts_of_table(table: &Arc<Table>, frozen: &FrozenTable, bytes_max: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for batch in &frozen.batches {
        let goes_on = parts.last().is_some_and(|part: &Part| {
            let (_, lsn_last) = part.lsn_range();
            part.byte_size + batch.byte_size <= bytes_max || batch.lsn_first <= lsn_last
        });
        if !goes_on {
            parts.push(Part::new(table));
        }
        if let Some(part) = parts.last_mut() {
            part.push(batch);
        }
    }
    parts
}
