//! The manifest on an object store that fails, and after crashes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use tidemill_catalog::{DatabaseId, TableId};
use tidemill_store::{DataFile, Edit, Effort, FileId, Manifest, ManifestError, ManifestState};
use tidemill_testkit::{Fault, FaultyStore};

fn file(id: FileId, table: u32) -> DataFile {
    let FileId(number) = id;
    DataFile {
        id,
        database: DatabaseId(1),
        table: TableId(table),
        path: format!("node/data/1/{table}/2026-01-01/{number:020}.parquet").into(),
        byte_size: 1_000_000 + number,
        checksum: number as u32,
        row_count: 4_000_000,
        time_min: 1_700_000_000_000_000_000,
        time_max: 1_700_000_100_000_000_000,
        lsn_first: number,
        lsn_last: number,
        deletes_through: 0,
        effort: Effort::High,
        tail: None,
    }
}

async fn open(store: &FaultyStore) -> Manifest {
    Manifest::open(store.object_store(), "node").await.unwrap()
}

fn live(state: &ManifestState) -> BTreeSet<FileId> {
    state.files().map(|file| file.id).collect()
}

#[tokio::test]
async fn what_is_committed_is_there_after_a_start() {
    let store = FaultyStore::new();
    let manifest = open(&store).await;
    let (kept, removed) = (manifest.allocate_file_id(), manifest.allocate_file_id());
    let edits = vec![
        Edit::AddFile(file(kept, 1)),
        Edit::AddFile(file(removed, 2)),
        Edit::Snapshot {
            lsn: 17,
            progress: Some("node/snapshots/17.progress".into()),
        },
    ];
    let state = manifest.commit(edits).await.unwrap();
    assert_eq!((state.snapshot_lsn(), state.files().len()), (17, 2));
    let state = manifest
        .commit(vec![Edit::DropTable { table: TableId(2) }])
        .await
        .unwrap();
    assert_eq!(live(&state), BTreeSet::from([kept]));

    for _ in 0..2 {
        let read = Manifest::read(store.object_store(), "node").await.unwrap();
        assert_eq!(read, manifest.state());
        assert_eq!(read.garbage().map(|file| file.id).collect::<Vec<_>>(), [removed]);
        assert_eq!(
            read.progress().map(|path| &**path),
            Some("node/snapshots/17.progress")
        );
        manifest.checkpoint().await.unwrap();
    }
    let other_node = Manifest::read(store.object_store(), "other").await.unwrap();
    assert_eq!(*other_node, ManifestState::default());
}

#[tokio::test]
async fn identities_are_not_given_twice_even_if_they_were_never_committed() {
    let store = FaultyStore::new();
    let mut given = BTreeSet::new();
    for _ in 0..5 {
        let manifest = open(&store).await;
        for _ in 0..10 {
            assert!(given.insert(manifest.allocate_file_id()));
        }
        let id = manifest.allocate_file_id();
        assert!(given.insert(id));
        manifest.commit(vec![Edit::AddFile(file(id, 1))]).await.unwrap();
        // The process ends here, without a word.
    }
}

#[tokio::test]
async fn edits_that_do_not_fit_change_nothing() {
    let store = FaultyStore::new();
    let manifest = open(&store).await;
    let id = manifest.allocate_file_id();
    manifest.commit(vec![Edit::AddFile(file(id, 1))]).await.unwrap();
    let before = manifest.state();
    let sequence = manifest.sequence();

    let half = vec![Edit::RemoveFile { id }, Edit::RemoveFile { id }];
    let refused = manifest.commit(half).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("manifest: file {id} is removed but is not live")
    );
    let twice = manifest
        .commit(vec![Edit::AddFile(file(id, 1))])
        .await
        .unwrap_err();
    assert_eq!(twice.to_string(), format!("manifest: file {id} is added twice"));
    assert!(Arc::ptr_eq(&before, &manifest.state()));
    manifest.commit(Vec::new()).await.unwrap();
    assert_eq!(manifest.sequence(), sequence, "no edits, no record");
}

#[tokio::test]
async fn a_process_that_still_runs_loses_to_the_one_that_started() {
    let store = FaultyStore::new();
    let old = open(&store).await;
    let id = old.allocate_file_id();
    let new = open(&store).await;
    let lost = old.commit(vec![Edit::AddFile(file(id, 1))]).await.unwrap_err();
    assert_eq!(
        lost.to_string(),
        "manifest record 2 was written by another process: is a second server running with this node id?"
    );
    assert_eq!(old.state().files().len(), 0);
    let id = new.allocate_file_id();
    new.commit(vec![Edit::AddFile(file(id, 1))]).await.unwrap();
    let read = Manifest::read(store.object_store(), "node").await.unwrap();
    assert_eq!(live(&read), BTreeSet::from([id]));
}

#[tokio::test]
async fn damage_is_named() {
    let store = FaultyStore::new();
    let manifest = open(&store).await;
    let id = manifest.allocate_file_id();
    manifest.commit(vec![Edit::AddFile(file(id, 1))]).await.unwrap();
    let record = Path::from(format!("node/manifest/log/{:020}", 1));
    store.memory().delete(&record).await.unwrap();
    let Err(error) = Manifest::open(store.object_store(), "node").await else {
        panic!("a manifest with a gap was opened");
    };
    assert!(matches!(error, ManifestError::Corrupt { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "manifest object '{record}' is unusable: it is missing, but node/manifest/log/{:020} is there",
            2
        )
    );
}

#[tokio::test]
async fn a_full_disk_is_told_at_once() {
    let store = FaultyStore::new();
    let manifest = open(&store).await;
    store.fail_next_put(Fault::DiskFull);
    let id = manifest.allocate_file_id();
    let full = manifest
        .commit(vec![Edit::AddFile(file(id, 1))])
        .await
        .unwrap_err();
    assert!(matches!(full, ManifestError::Store(_)), "{full}");
    assert_eq!(manifest.state().files().len(), 0);
}

/// The written form of every edit: what was written once must stay readable.
#[tokio::test]
async fn the_written_form_is_stable() {
    let store = FaultyStore::new();
    let manifest = open(&store).await;
    let text = r#"[{"reserve_file_ids":{"below":4294967300}},
        {"add_file":{"id":4294967296,"database":1,"table":2,"path":"p","byte_size":3,"checksum":4,"row_count":5,
            "time_min":-6,"time_max":7,"lsn_first":8,"lsn_last":9,"deletes_through":10}},
        {"add_file":{"id":4294967297,"database":1,"table":2,"path":"p2","byte_size":3,"checksum":4,"row_count":5,
            "time_min":-6,"time_max":7,"lsn_first":8,"lsn_last":9,"deletes_through":10,"effort":"low"}},
        {"add_file":{"id":4294967298,"database":1,"table":3,"path":"r","byte_size":3,"checksum":4,"row_count":5,
            "time_min":-6,"time_max":7,"lsn_first":8,"lsn_last":9,"deletes_through":10,"tail":{"start":1,"checksum":2}}},
        {"add_delete":{"lsn":11,"database":1,"table":2,"time_first":-1,"time_last":1,
            "conditions":[{"column":3,"negated":true,"values":["a","b"]}]}},
        {"snapshot":{"lsn":12,"progress":"q"}},{"snapshot":{"lsn":12,"progress":null}},
        {"remove_file":{"id":4294967296}},{"forget_garbage":{"id":4294967296}},{"drop_table":{"table":2}}]"#;
    let edits: Vec<Edit> = serde_json::from_str(text).unwrap();
    let efforts = edits.iter().filter_map(|edit| match edit {
        Edit::AddFile(file) => Some(file.effort),
        _ => None,
    });
    assert_eq!(
        efforts.collect::<Vec<_>>(),
        [Effort::High, Effort::Low, Effort::High]
    );
    manifest.commit(edits).await.unwrap();
    let path = Path::from(format!("node/manifest/log/{:020}", 2));
    let bytes = store.memory().get(&path).await.unwrap().bytes().await.unwrap();
    let (head, payload) = bytes.split_at(48);
    assert_eq!(&head[..20], b"TMMANLOG\x01\0\0\0\x02\0\0\0\0\0\0\0");
    let written: serde_json::Value = serde_json::from_slice(payload).unwrap();
    let expected: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(written, expected);
}

/// Ten thousand files, a checkpoint and a tail: the time that a start takes is far from being noticed.
#[tokio::test]
async fn a_large_manifest_opens_quickly() {
    let store = Arc::new(InMemory::new());
    let objects = Arc::clone(&store) as Arc<dyn ObjectStore>;
    let manifest = Manifest::open(Arc::clone(&objects), "node").await.unwrap();
    let mut ids = Vec::new();
    let edits = (0..10_000).map(|number| {
        let id = manifest.allocate_file_id();
        ids.push(id);
        Edit::AddFile(file(id, number % 100))
    });
    manifest.commit(edits.collect()).await.unwrap();
    manifest.checkpoint().await.unwrap();
    for id in &ids[..90] {
        manifest.commit(vec![Edit::RemoveFile { id: *id }]).await.unwrap();
    }
    let started = Instant::now();
    let read = Manifest::read(objects, "node").await.unwrap();
    let elapsed = started.elapsed();
    assert_eq!(read, manifest.state());
    let size = store
        .head(&Path::from(format!("node/manifest/checkpoint/{:020}", 2)))
        .await
        .unwrap()
        .size;
    println!(
        "a manifest of {} files, {size} bytes, was read in {elapsed:?}",
        read.files().len()
    );
    // Generous: the machine may be busy. Ten times as long would still be the log's business, not the manifest's.
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
}

/// What one process does before it dies.
#[derive(Clone, Copy, Debug)]
enum Step {
    Add(u32),
    /// Replaces some live file by two.
    Compact(usize),
    Checkpoint,
}

/// One process, and after how many requests the store does not answer it any more.
#[derive(Clone, Debug)]
struct Life {
    steps: Vec<Step>,
    dies_after: usize,
    last_fault: Fault,
}

fn life() -> impl Strategy<Value = Life> {
    let fault = prop_oneof![Just(Fault::Refuse), Just(Fault::LoseAnswer)];
    (prop::collection::vec(step(), 1..20), 0..30usize, fault).prop_map(|(steps, dies_after, last_fault)| {
        Life {
            steps,
            dies_after,
            last_fault,
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u32).prop_map(Step::Add),
        3 => (0..100usize).prop_map(Step::Compact),
        1 => Just(Step::Checkpoint),
    ]
}

/// Files by table as the model has them.
type Model = BTreeMap<FileId, u32>;

fn edits_of(step: Step, model: &Model, manifest: &Manifest) -> (Vec<Edit>, Model) {
    let mut after = model.clone();
    let mut edits = Vec::new();
    let add = |table: u32, after: &mut Model, edits: &mut Vec<Edit>| {
        let id = manifest.allocate_file_id();
        after.insert(id, table);
        edits.push(Edit::AddFile(file(id, table)));
    };
    match step {
        Step::Add(table) => add(table, &mut after, &mut edits),
        Step::Compact(number) if !model.is_empty() => {
            let (&id, &table) = model.iter().nth(number % model.len()).unwrap();
            after.remove(&id);
            edits.push(Edit::RemoveFile { id });
            add(table, &mut after, &mut edits);
            add(table, &mut after, &mut edits);
        }
        _ => {}
    }
    (edits, after)
}

fn model_of(state: &ManifestState) -> Model {
    state.files().map(|file| (file.id, file.table.0)).collect()
}

/// Runs processes that die after some request to the store. The last commit of each, whose outcome nobody learned, may have
/// happened or not; every other one has.
fn run(lives: &[Life]) {
    let store = FaultyStore::new();
    let mut possible = vec![Model::new()];
    for life in lives {
        store.repair();
        // What a process has begun ends with its runtime.
        possible = runtime().block_on(live_and_die(&store, life, possible));
    }
    store.repair();
    let model = runtime().block_on(async { model_of(&open(&store).await.state()) });
    assert!(possible.contains(&model), "{model:?} is none of {possible:?}");
}

/// Returns what the next process may find.
async fn live_and_die(store: &FaultyStore, life: &Life, possible: Vec<Model>) -> Vec<Model> {
    let manifest = open(store).await;
    let mut model = model_of(&manifest.state());
    assert!(possible.contains(&model), "{model:?} is none of {possible:?}");
    store.die_after(life.dies_after, life.last_fault);
    for step in &life.steps {
        if matches!(step, Step::Checkpoint) {
            drop(manifest.checkpoint().await);
            continue;
        }
        let (edits, after) = edits_of(*step, &model, &manifest);
        let commit = tokio::spawn({
            let manifest = manifest.clone();
            async move { manifest.commit(edits).await }
        });
        // A commit waits for a store that does not answer: the process dies meanwhile.
        while !commit.is_finished() {
            if store.is_dead() {
                return vec![model, after];
            }
            tokio::task::yield_now().await;
        }
        let state = commit.await.unwrap().unwrap();
        assert_eq!(model_of(&state), after);
        model = after;
    }
    vec![model]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_between_any_two_requests_leaves_the_manifest_before_or_after_a_commit(
        lives in prop::collection::vec(life(), 1..5)
    ) {
        run(&lives);
    }
}
