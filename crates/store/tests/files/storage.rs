//! Files in memory.

use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use tidemill_catalog::Table;
use tidemill_store::{
    DataFile, Effort, FileId, FileStore, FileStoreConfig, SortedRows, SortedStream, WriteSpec, write_file,
};

use crate::tables::{Row, batch};

pub(crate) fn file_store() -> Arc<FileStore> {
    Arc::new(FileStore::new(
        Arc::new(InMemory::new()),
        FileStoreConfig::default(),
    ))
}

pub(crate) async fn write(
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
pub(crate) async fn write_groups(
    files: &FileStore,
    table: &Table,
    groups: &[&[Vec<Row>]],
) -> Vec<Arc<DataFile>> {
    let mut written = Vec::new();
    for (position, group) in groups.iter().enumerate() {
        let batches: Vec<_> = group.iter().map(|rows| batch(table, rows)).collect();
        let lsns = (batches[0].lsn_first, batches[batches.len() - 1].lsn_last);
        let rows = SortedRows::new(table, &batches).unwrap().into_stream();
        written.extend(write(files, table, position as u64, lsns, rows).await);
    }
    written
}
