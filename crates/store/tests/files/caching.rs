//! What is read again is not fetched again, and the caches stay as small as they should.

#![expect(clippy::single_range_in_vec_init, reason = "a range is what is read")]

use std::ops::Range;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::async_reader::AsyncFileReader;
use tidemill_store::{DataFile, FileError, FileSchema, FileStore, FileStoreConfig, scan_file};

use crate::storage::{file_store, write_groups};
use crate::tables::{Row, table};

/// A file of so many bytes, of which the one at position `p` is `p % 251`; no Parquet.
async fn plain_file(length: usize, data_cache_bytes: usize) -> (Arc<FileStore>, Arc<DataFile>) {
    let table = table().await;
    let row = Row::default();
    let file = write_groups(&file_store(), &table, &[&[vec![row]]])
        .await
        .remove(0);
    let objects = Arc::new(InMemory::new());
    let bytes: Vec<u8> = (0..length).map(|position| (position % 251) as u8).collect();
    objects
        .put(&Path::from(&*file.path), PutPayload::from(bytes))
        .await
        .unwrap();
    let config = FileStoreConfig {
        metadata_cache_bytes: 0,
        data_cache_bytes,
    };
    let file = DataFile {
        byte_size: length as u64,
        tail: None,
        ..(*file).clone()
    };
    (Arc::new(FileStore::new(objects, config)), Arc::new(file))
}

async fn read(store: &Arc<FileStore>, file: &Arc<DataFile>, ranges: &[Range<u64>]) {
    let parts = store.reader(file).get_byte_ranges(ranges.to_vec()).await.unwrap();
    for (range, part) in ranges.iter().zip(parts) {
        assert!(
            part.iter()
                .copied()
                .eq(range.clone().map(|position| (position % 251) as u8)),
            "{range:?}"
        );
    }
}

#[tokio::test]
async fn what_was_read_is_not_fetched_again() {
    let (store, file) = plain_file(4_000_000, 16_000_000).await;
    read(&store, &file, &[100..200, 1_000_000..1_200_000, 150..300]).await;
    let first = store.stats();
    assert_eq!((first.fetches, first.data.hits, first.data.misses), (1, 0, 3));
    assert_eq!(
        first.fetched_bytes,
        200 + 200_000,
        "neighbours are fetched as one"
    );

    read(&store, &file, &[1_050_000..1_060_000, 100..300, 0..0]).await;
    assert_eq!(
        (store.stats().fetches, store.stats().data.hits),
        (1, 2),
        "parts of what is there are there"
    );
    store.forget(file.id);
    assert_eq!((store.stats().data.bytes, store.stats().data.entries), (0, 0));
    read(&store, &file, &[100..300]).await;
    assert_eq!(store.stats().fetches, 2);
}

#[tokio::test]
async fn a_small_file_is_fetched_whole() {
    let (store, file) = plain_file(50_000, 16_000_000).await;
    read(&store, &file, &[10..20]).await;
    read(&store, &file, &[40_000..50_000, 0..50_000]).await;
    assert_eq!((store.stats().fetches, store.stats().fetched_bytes), (1, 50_000));
}

#[tokio::test]
async fn the_cache_stays_below_its_bound_and_keeps_what_is_used() {
    let (store, file) = plain_file(4_000_000, 100_000).await;
    let hot = 0..5_000;
    for round in 0..300_u64 {
        let start = 100_000 + round * 10_000;
        read(&store, &file, &[start..start + 4_000]).await;
        read(&store, &file, std::slice::from_ref(&hot)).await;
        assert!(store.stats().data.bytes <= 100_000);
    }
    assert_eq!(store.stats().fetches, 301, "what is used all the time stays");
    read(&store, &file, &[0..4_000_000]).await;
    read(&store, &file, std::slice::from_ref(&hot)).await;
    assert_eq!(store.stats().fetches, 302, "a large scan drives nothing out");
}

#[tokio::test]
async fn no_cache_is_no_harm() {
    let (store, file) = plain_file(400_000, 0).await;
    read(&store, &file, &[0..10, 200_000..300_000]).await;
    read(&store, &file, &[0..10, 200_000..300_000]).await;
    assert_eq!((store.stats().fetches, store.stats().data.bytes), (2, 0));
}

#[tokio::test]
async fn footers_are_parsed_once() {
    let (table, store) = (table().await, file_store());
    let row = Row::default();
    let file = write_groups(&store, &table, &[&[vec![row]]]).await.remove(0);
    for _ in 0..3 {
        store.metadata(&file).await.unwrap();
    }
    let stats = store.stats().metadata;
    assert_eq!((stats.misses, stats.hits, stats.entries), (1, 2, 1));
    assert!(stats.bytes > 0);
    let tail_bytes = file.byte_size - file.tail.unwrap().start;
    assert_eq!(
        (store.stats().fetches, store.stats().fetched_bytes),
        (1, tail_bytes)
    );
}

#[tokio::test]
async fn damage_and_absence_are_told_with_the_path() {
    let (table, store) = (table().await, file_store());
    let row = Row::default();
    let file = write_groups(&store, &table, &[&[vec![row]]]).await.remove(0);
    let schema = FileSchema::new(&table, |_| true);
    let scan = async |store: &Arc<FileStore>| {
        let rows = scan_file(store, &file, Arc::clone(schema.arrow()), None, &[]);
        rows.try_collect::<Vec<_>>().await.unwrap_err()
    };
    let path = Path::parse(&*file.path).unwrap();
    let whole = store.objects().get(&path).await.unwrap().bytes().await.unwrap();
    let damages: [Vec<u8>; 3] = [
        Vec::new(),
        whole[..whole.len() / 2].to_vec(),
        whole.iter().map(|byte| byte ^ 0x55).collect(),
    ];
    for damaged in damages {
        let other = FileStore::new(Arc::clone(store.objects()), FileStoreConfig::default());
        other
            .objects()
            .put(&path, PutPayload::from(damaged))
            .await
            .unwrap();
        let error = scan(&Arc::new(other)).await;
        assert!(matches!(error, FileError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(&*file.path), "{error}");
    }
    let other = FileStore::new(Arc::clone(store.objects()), FileStoreConfig::default());
    other.objects().delete(&path).await.unwrap();
    let error = scan(&Arc::new(other)).await;
    assert!(matches!(error, FileError::Damaged { .. }), "{error:?}");
}
