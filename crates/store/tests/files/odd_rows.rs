//! Rows as nobody expects them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampNanosecondArray, UInt64Array};
use crc_fast::{CrcAlgorithm, checksum};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tidemill_lineproto::ColumnType;
use tidemill_store::{FileError, FileSchema, SortedStream, scan_file, sort_batches};

use crate::model::{Model, rows_of};
use crate::storage::{file_store, write, write_groups};
use crate::tables::{Fields, Row, batch, table, table_with};

/// Writes the rows as a file and reads it with the columns that it has.
async fn written_and_read(rows: &[Row]) -> Vec<Row> {
    let (table, store) = (table().await, file_store());
    let file = write_groups(&store, &table, &[&[rows.to_vec()]]).await.remove(0);
    let columns = store.columns(&file).await.unwrap();
    let schema = FileSchema::new(&table, |id| columns.contains(&id));
    let read = scan_file(&store, &file, Arc::clone(schema.arrow()), None, &[]);
    rows_of(&read.try_collect::<Vec<_>>().await.unwrap())
}

fn row(host: Option<&str>, time: i64, fields: Fields) -> Row {
    Row {
        lsn: 7,
        tags: [host.map(str::to_owned), None, None],
        time,
        fields,
    }
}

#[tokio::test]
async fn extremes_survive() {
    let long = "tag ".repeat(10_000);
    let longer = format!("{long}!");
    let fields = |load: f64, count, total, note: &str| Fields {
        load: Some(load.to_bits()),
        count: Some(count),
        total: Some(total),
        note: Some(note.to_owned()),
        up: Some(true),
    };
    let rows = [
        row(None, i64::MIN, fields(f64::NAN, i64::MIN, 0, "")),
        row(
            None,
            i64::MAX,
            fields(f64::NEG_INFINITY, i64::MAX, u64::MAX, "\u{10ffff}"),
        ),
        row(Some(""), 0, fields(-0.0, 0, 1, &"text ".repeat(400_000))),
        row(
            Some(&long),
            0,
            fields(f64::from_bits(0x7ff8_0000_0000_0001), -1, 2, "x"),
        ),
        row(Some(&longer), -1, fields(f64::MIN_POSITIVE / 2.0, 1, 3, "y")),
    ];
    assert_eq!(written_and_read(&rows).await, Model::of(&rows).rows());
}

#[tokio::test]
async fn rows_without_tags_or_without_fields_are_rows() {
    let rows: Vec<Row> = (0..20_000)
        .map(|time| row(None, time, Fields::default()))
        .collect();
    assert_eq!(written_and_read(&rows).await, rows);
}

#[tokio::test]
async fn more_than_one_row_group_and_more_tags_than_64_bits_can_number() {
    let columns: Vec<(String, ColumnType)> = (0..12)
        .map(|tag| (format!("tag{tag}"), ColumnType::Tag))
        .collect();
    let borrowed: Vec<(&str, ColumnType)> = columns
        .iter()
        .map(|(name, kind)| (name.as_str(), *kind))
        .collect();
    let table = table_with(&borrowed).await;
    // 300 values a tag, 12 tags: 300^12 is far above 2^64.
    let rows = 300_usize;
    let tag_columns = table.tags().enumerate().map(|(position, tag)| {
        let values = (0..rows).map(|row| format!("{:03}", (row * (2 * position + 1)) % rows));
        let values: Vec<String> = values.collect();
        let tags: arrow::array::DictionaryArray<arrow::datatypes::Int32Type> =
            values.iter().map(String::as_str).collect();
        (tag.id, Arc::new(tags) as ArrayRef)
    });
    let mut columns: Vec<_> = tag_columns.collect();
    let times = TimestampNanosecondArray::from_iter_values((0..rows as i64).rev());
    columns.push((table.time_column().id, Arc::new(times)));
    let stored = |lsn| {
        Arc::new(tidemill_store::StoredBatch {
            lsn_first: lsn,
            lsn_last: lsn,
            lsn_runs: vec![(rows as u32, lsn)],
            row_count: rows,
            columns: columns.clone(),
            time_column: table.time_column().id,
            time_min: 0,
            time_max: rows as i64 - 1,
            byte_size: 0,
        })
    };
    let sorted = sort_batches(&table, &[stored(1), stored(2)]).unwrap();
    let firsts: Vec<String> = sorted
        .iter()
        .flat_map(|batch| tag_texts(batch.column(0)))
        .collect();
    assert_eq!(
        firsts,
        (0..rows).map(|row| format!("{row:03}")).collect::<Vec<_>>()
    );
}

fn tag_texts(tags: &ArrayRef) -> Vec<String> {
    use arrow::array::AsArray;
    let tags = tags.as_dictionary::<arrow::datatypes::Int32Type>();
    let tags = tags.downcast_dict::<arrow::array::StringArray>().unwrap();
    tags.into_iter().map(|tag| tag.unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_large_object_comes_in_parts_and_has_its_checksum() {
    let table = table_with(&[("load", ColumnType::Float)]).await;
    let schema = FileSchema::new(&table, |_| true);
    let arrow = Arc::clone(schema.arrow());
    // Numbers that do not compress: about 20 MB in three row groups.
    let batch = move |part: i64| {
        let times = part * 8192..(part + 1) * 8192;
        let noise =
            |time: i64| f64::from_bits((time as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from_iter_values(times.clone())),
            Arc::new(Float64Array::from_iter_values(times.clone().map(noise))),
            Arc::new(UInt64Array::from_iter_values(times.map(|_| 1))),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&arrow), columns).unwrap())
    };
    let rows: SortedStream = futures::stream::iter((0..320).map(batch)).boxed();
    let store = file_store();
    let file = write(&store, &table, 1, (1, 1), rows).await.unwrap();
    let object = store
        .objects()
        .get(&Path::parse(&*file.path).unwrap())
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert!(object.len() > 16 * 1024 * 1024, "{}", object.len());
    assert_eq!(object.len() as u64, file.byte_size);
    assert_eq!(checksum(CrcAlgorithm::Crc32Iscsi, &object) as u32, file.checksum);
    assert_eq!(file.row_count, 320 * 8192);
    assert!(store.metadata(&file).await.unwrap().num_row_groups() > 1);
    let read = scan_file(
        &store,
        &file,
        Arc::clone(schema.arrow()),
        Some((1_000_000, 1_000_099)),
        &[],
    );
    let read: Vec<RecordBatch> = read.try_collect().await.unwrap();
    assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 100);
}

#[tokio::test]
async fn rows_that_fail_or_do_not_fit_leave_no_object() {
    let (table, store) = (table().await, file_store());
    let good = sort_batches(&table, &[batch(&table, &[row(Some("a"), 1, Fields::default())])]).unwrap();
    let failing = good
        .clone()
        .into_iter()
        .map(Ok)
        .chain([Err(FileError::Unsorted("given up".to_owned()))]);
    let strange = RecordBatch::try_from_iter([("time", Arc::clone(good[0].column(1)))]).unwrap();
    let attempts: [SortedStream; 2] = [
        futures::stream::iter(failing.collect::<Vec<_>>()).boxed(),
        futures::stream::iter([Ok(strange)]).boxed(),
    ];
    for rows in attempts {
        let spec = tidemill_store::WriteSpec {
            table: &table,
            path_prefix: &Path::from("node"),
            node_id: "node",
            lsn_first: 1,
            lsn_last: 1,
            deletes_through: 0,
            effort: tidemill_store::Effort::High,
        };
        let error = tidemill_store::write_file(&store, &spec, rows, || tidemill_store::FileId(1))
            .await
            .unwrap_err();
        assert!(
            matches!(error, FileError::Unsorted(_) | FileError::Columns(_)),
            "{error:?}"
        );
    }
    assert_eq!(
        store.objects().list(None).try_collect::<Vec<_>>().await.unwrap(),
        []
    );
}
