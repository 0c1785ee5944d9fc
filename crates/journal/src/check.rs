//! The check of a stored object by itself.

use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::object_name::ObjectName;

/// Checks that an object of any journal is what its name says, and that all of it can be read.
///
/// # Errors
/// What is wrong with it.
pub fn check_object(name: &str, content: &[u8]) -> Result<(), String> {
    let name: ObjectName = name
        .parse()
        .map_err(|_| "its name is none that a journal gives".to_owned())?;
    if content.len() as u64 != name.stored_bytes {
        return Err(format!(
            "it has {} bytes instead of {}",
            content.len(),
            name.stored_bytes
        ));
    }
    let unreadable = |error: &dyn std::fmt::Display| format!("its rows cannot be read: {error}");
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(content));
    let reader = builder.and_then(ParquetRecordBatchReaderBuilder::build);
    for batch in reader.map_err(|error| unreadable(&error))? {
        batch.map_err(|error| unreadable(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray};

    use super::*;
    use crate::codec::encode;

    #[test]
    fn an_object_is_what_its_name_says() {
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1, 2, 3]));
        let rows = RecordBatch::try_from_iter([("time", times)]).unwrap();
        let content = encode(rows.schema(), &[rows]).unwrap();
        let name = ObjectName {
            flushes: 1..=1,
            version: 1,
            times: 1..=3,
            memory_bytes: 24,
            stored_bytes: content.len() as u64,
        };
        let name = name.to_string();
        assert_eq!(check_object(&name, &content), Ok(()));
        assert!(
            check_object("other.parquet", &content)
                .unwrap_err()
                .contains("name")
        );
        let cut = check_object(&name, &content[..content.len() - 1]);
        assert!(cut.unwrap_err().contains("instead of"));
        let mut damaged = content.to_vec();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert!(
            check_object(&name, &damaged)
                .unwrap_err()
                .contains("cannot be read")
        );
    }
}
