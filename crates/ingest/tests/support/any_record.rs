//! The check behind the fuzz target of log records: any bytes are a record or an error, and a record can be written again.

use tidemill_ingest::{check_progress, record};

/// Bytes in memory for a byte of the record: a bit becomes a value, a dictionary's value the value of many rows.
const GROWTH_MAX: usize = 4_096;

/// Decodes the bytes, as a record and as the progress that a snapshot leaves.
pub(crate) fn check_record(bytes: &[u8]) {
    let _ = check_progress(bytes);
    let Ok(commit) = record::decode(bytes) else { return };
    assert!(
        commit.memory_bytes() <= (bytes.len() + 1) * GROWTH_MAX,
        "{} bytes of {}",
        commit.memory_bytes(),
        bytes.len()
    );
    for batch in &commit.tables {
        for (id, column) in &batch.columns {
            assert_eq!(column.len(), batch.row_count, "column {id}");
        }
    }
    let again = record::encode(&commit);
    let again = record::decode(&again).expect("what was encoded is a record");
    assert_eq!(again.progress, commit.progress);
    assert_eq!(again.deletes, commit.deletes);
    assert_eq!(again.tables.len(), commit.tables.len());
}
