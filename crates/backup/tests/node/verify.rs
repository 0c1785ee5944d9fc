//! Every kind of damage is found and named, and nothing else is said to be damaged.

use std::sync::Arc;

use crate::support::{TestNode, check, parquet, rows};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tidemill_backup::verify::{Part, VerifyReport, Words};
use tidemill_store::{DataFile, Edit};

/// A node to be damaged.
struct Patient {
    node: TestNode,
    objects: Arc<dyn ObjectStore>,
}

impl Patient {
    async fn new() -> Self {
        let node = TestNode::new("n").await;
        let objects = Arc::clone(&node.objects) as Arc<dyn ObjectStore>;
        Self { node, objects }
    }

    async fn bytes(&self, path: &str) -> Bytes {
        self.objects
            .get(&Path::from(path))
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()
    }

    async fn put(&self, path: &str, bytes: impl Into<Bytes>) {
        self.objects
            .put(&Path::from(path), bytes.into().into())
            .await
            .unwrap();
    }

    async fn flip(&self, path: &str, at: usize) {
        let mut bytes = self.bytes(path).await.to_vec();
        bytes[at] ^= 4;
        self.put(path, bytes).await;
    }

    async fn remove(&self, path: &str) {
        self.objects.delete(&Path::from(path)).await.unwrap();
    }

    /// The Parquet files in the order of the log.
    fn files(&self) -> Vec<Arc<DataFile>> {
        self.node.manifest.state().files().cloned().collect()
    }

    async fn check(&self) -> VerifyReport {
        check(&self.objects, "n").await
    }

    /// Expects exactly one damage: of this part and object, with this in its reason.
    async fn expect_one(&self, part: Part, object: &str, reason: &str) -> VerifyReport {
        let report = self.check().await;
        let [damage] = &report.damages[..] else {
            panic!("{report:#?}");
        };
        assert_eq!((damage.part, &*damage.object), (part, object), "{report:#?}");
        assert!(damage.reason.contains(reason), "{damage:?}");
        report
    }
}

const FIRST_SEGMENT: &str = "n/wal/00000000000000000016.wal";
const LAST_SEGMENT: &str = "n/wal/00000000000000000020.wal";

#[tokio::test]
async fn a_sound_node_is_sound() {
    let patient = Patient::new().await;
    let report = patient.check().await;
    assert!(report.sound && report.complete, "{report:#?}");
    assert_eq!(report.notes, [] as [String; 0]);
    assert_eq!(
        (report.tables.len(), report.tables[0].files, report.tables[0].rows),
        (1, 2, 4000)
    );
    assert_eq!(
        (report.log.first, report.log.last, report.log.records),
        (16, 25, 10)
    );
    assert_eq!((report.folders[0].objects, report.orphans.objects), (1, 0));
    let words = Words(&report).to_string();
    assert!(words.ends_with("Nothing is damaged."), "{words}");
}

#[tokio::test]
async fn a_damaged_and_a_missing_file_are_named_with_their_rows() {
    let patient = Patient::new().await;
    let files = patient.files();
    patient.flip(&files[1].path, 1000).await;
    let report = patient.expect_one(Part::Files, &files[1].path, "checksum").await;
    let words = Words(&report).to_string();
    let expected = "table cpu of database d: 1 of 2 files is damaged; rows between 1970-01-01T00:00:00.000000500Z and \
                    1970-01-01T00:00:00.000001499Z are affected";
    assert!(words.contains(expected), "{words}");
    assert!(words.ends_with("Everything else is intact."), "{words}");

    patient.remove(&files[0].path).await;
    let report = patient.check().await;
    let reasons: Vec<&str> = report.damages.iter().map(|damage| &*damage.reason).collect();
    let mismatch = format!("its checksum does not match at bytes 0..{}", files[1].byte_size);
    assert_eq!(reasons, ["it is missing", &*mismatch]);
    assert_eq!(
        (report.tables[0].damaged_files, report.tables[0].damaged_rows),
        (2, 4000)
    );
}

#[tokio::test]
async fn a_file_of_another_length_is_damaged() {
    let patient = Patient::new().await;
    let path = patient.files()[0].path.clone();
    let bytes = patient.bytes(&path).await;
    patient.put(&path, bytes.slice(..bytes.len() - 7)).await;
    patient.expect_one(Part::Files, &path, "bytes instead of").await;
}

/// Replaces the first file by one that the manifest describes wrongly.
async fn with_file(content: Bytes, change: impl FnOnce(&mut DataFile)) -> (Patient, String) {
    let patient = Patient::new().await;
    let manifest = &patient.node.manifest;
    let old = patient.files()[0].clone();
    let id = manifest.allocate_file_id();
    let path = format!("n/data/{id}.parquet");
    patient.put(&path, content.clone()).await;
    let mut file = DataFile {
        id,
        path: path.clone().into(),
        byte_size: content.len() as u64,
        checksum: crc_fast::crc32_iscsi(&content),
        ..DataFile::clone(&old)
    };
    change(&mut file);
    let edits = vec![Edit::RemoveFile { id: old.id }, Edit::AddFile(file)];
    manifest.commit(edits).await.unwrap();
    (patient, path)
}

#[tokio::test]
async fn files_are_checked_against_what_the_manifest_says() {
    type Change = fn(&mut DataFile);
    let content = parquet(&rows(&(1..11), &(0..1000)));
    let cases: [(Change, &str); 5] = [
        (|_| {}, ""),
        (|file| file.row_count = 7, "it has 2000 rows instead of 7"),
        (|file| file.time_max = 1200, "other times"),
        (|file| file.lsn_last = 5, "of record 6"),
        (|file| file.lsn_first = 3, "of record 1"),
    ];
    for (change, reason) in cases {
        let (patient, path) = with_file(content.clone(), change).await;
        if reason.is_empty() {
            let report = patient.check().await;
            assert!(report.sound, "{report:#?}");
        } else {
            patient.expect_one(Part::Files, &path, reason).await;
        }
    }
}

#[tokio::test]
async fn rows_out_of_order_are_found() {
    let sorted = rows(&(1..11), &(0..1000));
    let halves = [sorted.slice(1000, 1000), sorted.slice(0, 1000)];
    let unsorted = arrow::compute::concat_batches(&sorted.schema(), &halves).unwrap();
    let (patient, path) = with_file(parquet(&unsorted), |_| {}).await;
    patient.expect_one(Part::Files, &path, "not in the order").await;
}

#[tokio::test]
async fn a_file_that_is_no_parquet_is_found() {
    let (patient, path) = with_file(Bytes::from_static(b"PAR1 nothing of the kind PAR1"), |_| {}).await;
    patient.expect_one(Part::Files, &path, "footer").await;
}

#[tokio::test]
async fn files_that_overlap_in_time_and_log_are_found() {
    let content = parquet(&rows(&(1..11), &(0..1000)));
    let (patient, _) = with_file(content, |file| file.lsn_last = 12).await;
    let later = patient.files()[0].path.clone();
    patient
        .expect_one(Part::Manifest, &later, "records 11 to 12")
        .await;
}

#[tokio::test]
async fn a_cut_record_of_the_manifest_is_named() {
    let patient = Patient::new().await;
    let path = "n/manifest/log/00000000000000000002";
    let bytes = patient.bytes(path).await;
    patient.put(path, bytes.slice(..bytes.len() / 2)).await;
    patient.expect_one(Part::Manifest, path, "it holds").await;
}

#[tokio::test]
async fn a_missing_record_of_the_catalog_is_named() {
    let patient = Patient::new().await;
    patient.remove("n/catalog/log/00000000000000000001").await;
    patient
        .expect_one(
            Part::Catalog,
            "n/catalog/log/00000000000000000001",
            "it is missing",
        )
        .await;
}

#[tokio::test]
async fn a_catalog_that_is_gone_is_noticed() {
    let patient = Patient::new().await;
    let folder = Path::from("n/catalog");
    let objects: Vec<_> = patient.objects.list(Some(&folder)).try_collect().await.unwrap();
    for object in objects {
        patient.objects.delete(&object.location).await.unwrap();
    }
    patient
        .expect_one(Part::Catalog, "n/catalog", "it is missing")
        .await;
}

#[tokio::test]
async fn a_pointer_that_is_damaged_is_harmless() {
    let patient = Patient::new().await;
    patient.node.manifest.checkpoint().await.unwrap();
    patient.put("n/manifest/current", "x").await;
    let report = patient.check().await;
    assert!(report.sound, "{report:#?}");
    assert_eq!(report.notes.len(), 1);
}

#[tokio::test]
async fn a_gap_in_the_log_is_named() {
    let patient = Patient::new().await;
    patient.remove(FIRST_SEGMENT).await;
    let report = patient.check().await;
    assert!(report.sound, "the rows are in files: {report:#?}");

    let patient = Patient::new().await;
    patient.remove(LAST_SEGMENT).await;
    patient
        .expect_one(Part::Log, FIRST_SEGMENT, "ends with record 19")
        .await;

    let patient = Patient::new().await;
    let bytes = patient.bytes(LAST_SEGMENT).await;
    patient.remove(LAST_SEGMENT).await;
    let later = "n/wal/00000000000000000024.wal";
    let record = tidemill_wal::Record::new(patient.node.log.records[8].clone()).unwrap();
    patient
        .put(
            later,
            tidemill_wal::encode_segment(tidemill_wal::Lsn(24), &[record]),
        )
        .await;
    patient
        .expect_one(Part::Log, later, "records 20 to 23 are missing")
        .await;
    patient.remove(later).await;
    patient.put(LAST_SEGMENT, bytes).await;
    assert!(patient.check().await.sound);
}

#[tokio::test]
async fn damage_in_the_log_is_told_from_a_torn_write() {
    let patient = Patient::new().await;
    let bytes = patient.bytes(LAST_SEGMENT).await;
    patient.put(LAST_SEGMENT, bytes.slice(..bytes.len() - 5)).await;
    let report = patient.check().await;
    assert!(report.sound && report.log.torn_bytes > 0, "{report:#?}");
    assert_eq!(report.log.last, 24);

    // The second record: 21, which is in no file.
    let record = (bytes.len() - 32) / 6;
    patient.put(LAST_SEGMENT, bytes).await;
    patient.flip(LAST_SEGMENT, 32 + record + 40).await;
    let report = patient
        .expect_one(Part::Log, LAST_SEGMENT, "checksum of a record")
        .await;
    assert!(
        report.damages[0].consequence.contains("record 21 cannot be read"),
        "{report:#?}"
    );
}

#[tokio::test]
async fn what_triggers_need_is_checked() {
    let patient = Patient::new().await;
    patient.put("n/dead_letters/1/1/run", "x").await;
    patient
        .expect_one(Part::Folder, "n/dead_letters/1/1/run", "none")
        .await;
    let patient = Patient::new().await;
    let progress = "n/snapshots/00000000000000000020.progress";
    patient.put(progress, "x").await;
    patient.expect_one(Part::Progress, progress, "none").await;
    patient.remove(progress).await;
    patient.expect_one(Part::Progress, progress, "missing").await;
}

#[tokio::test]
async fn what_a_crash_left_over_is_harmless() {
    let patient = Patient::new().await;
    patient.put("n/data/77.parquet", "half of a file").await;
    patient.put("n/something", "else").await;
    let report = patient.check().await;
    assert!(report.sound, "{report:#?}");
    assert_eq!((report.orphans.objects, report.orphans.bytes), (1, 14));
    assert_eq!(
        report.notes,
        ["n/something: 1 objects that this program does not know"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever byte of whatever object is changed, or wherever it is cut: the check ends, and says something of it.
    #[test]
    fn any_damage_is_noticed(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bits in 1_u8..,
        cuts in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let patient = Patient::new().await;
            let listed: Vec<_> = patient.objects.list(None).try_collect().await.unwrap();
            let path = listed[which.index(listed.len())].location.to_string();
            let mut bytes = patient.bytes(&path).await.to_vec();
            let at = at.index(bytes.len());
            if cuts {
                bytes.truncate(at);
            } else {
                bytes[at] ^= bits;
            }
            patient.put(&path, bytes).await;
            let report = patient.check().await;
            let is_torn = path == LAST_SEGMENT && report.log.torn_bytes > 0;
            let is_cut_between_records = path == LAST_SEGMENT && cuts && report.log.last < 25;
            prop_assert!(!report.sound || is_torn || is_cut_between_records, "{path} at {at}: {report:#?}");
            Ok::<_, TestCaseError>(())
        })?;
    }
}
