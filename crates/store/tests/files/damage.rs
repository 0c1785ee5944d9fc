//! Whatever byte of a file is another: what is read is what was written, or an error that names the file and the place.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use tidemill_store::{DataFile, FileDamage, FileError, FileSchema, FileStore, FileStoreConfig, scan_file};

use crate::storage::{file_store, write_groups};
use crate::tables::{Fields, Row, table};

/// A file with every kind of column.
struct Written {
    file: Arc<DataFile>,
    schema: SchemaRef,
    bytes: Bytes,
    rows: Vec<RecordBatch>,
}

impl Written {
    async fn new(row_count: u64) -> Self {
        let (table, store) = (table().await, file_store());
        let row = |number: u64| {
            let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Row {
                lsn: 1 + number / 1000,
                tags: [Some(format!("h{}", noise % 20)), Some("r".to_owned()), None],
                time: (number * 10) as i64,
                fields: Fields {
                    load: Some((noise as f64).to_bits()),
                    count: Some((noise % 7) as i64),
                    total: Some(noise >> 20),
                    note: number.is_multiple_of(3).then(|| format!("note {}", noise % 1000)),
                    up: Some(noise.is_multiple_of(2)),
                },
            }
        };
        let commits: Vec<Vec<Row>> = (0..row_count)
            .collect::<Vec<_>>()
            .chunks(1000)
            .map(|numbers| numbers.iter().map(|number| row(*number)).collect())
            .collect();
        let file = write_groups(&store, &table, &[&commits]).await.remove(0);
        let path = Path::parse(&*file.path).unwrap();
        let bytes = store.objects().get(&path).await.unwrap().bytes().await.unwrap();
        let schema = Arc::clone(FileSchema::new(&table, |_| true).arrow());
        let mut written = Self {
            file,
            schema,
            bytes,
            rows: Vec::new(),
        };
        let all = Arc::clone(&written.schema);
        written.rows = written.read(written.bytes.clone(), &all, None).await.unwrap();
        assert_eq!(
            written.rows.iter().map(RecordBatch::num_rows).sum::<usize>(),
            row_count as usize
        );
        written
    }

    /// What is read when the object is these bytes.
    async fn read(
        &self,
        bytes: Bytes,
        schema: &SchemaRef,
        time: Option<(i64, i64)>,
    ) -> Result<Vec<RecordBatch>, FileError> {
        let objects = Arc::new(InMemory::new());
        let path = Path::parse(&*self.file.path).unwrap();
        objects.put(&path, bytes.into()).await.unwrap();
        let files = Arc::new(FileStore::new(objects, FileStoreConfig::default()));
        let rows = scan_file(&files, &self.file, Arc::clone(schema), time, &[]);
        rows.try_collect().await
    }

    fn flipped(&self, at: usize, mask: u8) -> Bytes {
        let mut bytes = self.bytes.to_vec();
        bytes[at] ^= mask;
        bytes.into()
    }

    /// The schema with only some of the columns.
    fn project(&self, is_wanted: impl Fn(usize) -> bool) -> SchemaRef {
        let fields = self.schema.fields().iter().enumerate();
        let is_needed = |position: usize, name: &str| {
            name == "time" || name == tidemill_store::CHUNK_ORDER_COLUMN || is_wanted(position)
        };
        let fields = fields.filter(|(position, field)| is_needed(*position, field.name()));
        Arc::new(Schema::new(
            fields.map(|(_, field)| Arc::clone(field)).collect::<Vec<_>>(),
        ))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// One that is fetched as a whole, and one that is not.
const ROW_COUNTS: [u64; 2] = [1000, 30_000];

#[test]
fn no_flipped_byte_is_read_as_a_value() {
    let runtime = runtime();
    for row_count in ROW_COUNTS {
        let written = runtime.block_on(Written::new(row_count));
        let config = ProptestConfig::with_cases(300);
        let flips = (
            any::<prop::sample::Index>(),
            1_u8..,
            any::<u16>(),
            any::<prop::sample::Index>(),
        );
        proptest!(config, |((at, mask, columns, half) in flips)| {
            let at = at.index(written.bytes.len());
            let schema = written.project(|position| columns >> (position % 16) & 1 == 1);
            let last = (row_count * 10) as i64;
            let time = Some((0, half.index(row_count as usize) as i64 * 10)).filter(|(_, end)| *end < last);
            let expected = runtime.block_on(written.read(written.bytes.clone(), &schema, time)).unwrap();
            match runtime.block_on(written.read(written.flipped(at, mask), &schema, time)) {
                Ok(rows) => prop_assert!(rows == expected, "byte {}", at),
                Err(FileError::Damaged { path, damage: FileDamage::Checksum(range) }) => {
                    prop_assert_eq!(&*path, &*written.file.path);
                    prop_assert!(range.contains(&(at as u64)), "{:?} and byte {}", range, at);
                }
                Err(other) => prop_assert!(false, "byte {}: {}", at, other),
            }
        });
    }
}

/// Every byte of a small file, so that none is in a place that was not thought of.
#[tokio::test]
async fn only_what_is_not_read_may_be_damaged_unnoticed() {
    let written = Written::new(50).await;
    let tail = written.file.tail.unwrap().start as usize;
    let mut unnoticed = 0;
    for at in 0..written.bytes.len() {
        match written
            .read(written.flipped(at, 0x10), &written.schema, None)
            .await
        {
            Ok(rows) => {
                assert_eq!(rows, written.rows, "byte {at}");
                unnoticed += 1;
            }
            Err(error) => assert!(error.to_string().contains(&*written.file.path), "{error}"),
        }
        assert!(unnoticed == 0 || at < tail, "byte {at}");
    }
    assert_eq!(unnoticed, 0, "a small file is read as a whole");
}

/// Files of versions that had no checksums of blocks: such damage is found where it cannot be decoded.
#[test]
fn without_checksums_damage_is_an_error_of_the_file_and_no_panic() {
    let runtime = runtime();
    for row_count in ROW_COUNTS {
        let mut written = runtime.block_on(Written::new(row_count));
        let old = DataFile {
            tail: None,
            ..DataFile::clone(&written.file)
        };
        written.file = Arc::new(old);
        let sound = runtime.block_on(written.read(written.bytes.clone(), &written.schema, None));
        assert_eq!(sound.unwrap(), written.rows);
        let config = ProptestConfig::with_cases(300);
        // Half of them among what describes the rows.
        let flips = (any::<prop::sample::Index>(), 1_u8.., any::<bool>());
        proptest!(config, |((at, mask, is_near_end) in flips)| {
            let near_end = written.bytes.len().min(4000);
            let from = if is_near_end { written.bytes.len() - near_end } else { 0 };
            let at = from + at.index(written.bytes.len() - from);
            let read = runtime.block_on(written.read(written.flipped(at, mask), &written.schema, None));
            if let Err(error) = read {
                let is_named = error.to_string().contains(&*written.file.path);
                prop_assert!(is_named || matches!(error, FileError::Arrow(_) | FileError::Columns(_)), "{error}");
            }
        });
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_in_words_and_counted_once() {
    let written = Written::new(1000).await;
    let length = written.bytes.len();
    let tail = written.file.tail.unwrap().start as usize;
    let cases = [
        (
            written.flipped(5, 1),
            "its checksum does not match at bytes 0..8192".to_owned(),
        ),
        (
            written.flipped(length - 20, 1),
            format!("its checksum does not match at bytes {tail}..{length}"),
        ),
        (
            written.bytes.slice(..length / 2),
            format!("it has {} bytes instead of {length}", length / 2),
        ),
        (Bytes::new(), format!("it has 0 bytes instead of {length}")),
    ];
    let advice = "'tidemill verify' says what else is, and a backup has the file as it was";
    for (bytes, reason) in cases {
        let error = written
            .read(bytes.clone(), &written.schema, None)
            .await
            .unwrap_err();
        let path = &written.file.path;
        assert_eq!(
            error.to_string(),
            format!("file '{path}' is damaged: {reason}; {advice}")
        );
        let checked = tidemill_store::check_bytes(&written.file, &bytes).unwrap_err();
        assert_eq!(
            checked.to_string(),
            reason,
            "whoever checks the whole file says the same"
        );
    }

    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let files = FileStore::new(objects, FileStoreConfig::default());
    for _ in 0..2 {
        let error = files.metadata(&written.file).await.unwrap_err();
        assert!(error.to_string().contains("it is missing"), "{error}");
    }
    assert_eq!(files.stats().damaged_files, 1);
}
