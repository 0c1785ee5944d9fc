//! Which tables have rows, in memory and in files, and how these go for ever.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use tidemill_catalog::TableId;

use crate::{Storage, TableData};

#[async_trait]
impl TableData for Arc<Storage> {
    fn tables_with_data(&self) -> BTreeSet<TableId> {
        let in_memory = self.store().stats().tables;
        let in_memory = in_memory
            .iter()
            .filter(|table| table.rows > 0)
            .map(|table| table.table);
        let state = self.manifest().state();
        in_memory.chain(state.files().map(|file| file.table)).collect()
    }

    async fn drop_table_data(&self, table: TableId) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.drop_table(table).await?)
    }
}
