//! The check behind the fuzz target of the manifest: whatever happens to the bytes of its objects, opening it either fails
//! or gives a state that it once had. Where the damage has right checksums, it may be another state, but no panic.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use tidemill_catalog::{ColumnId, DatabaseId, TableId};
use tidemill_store::{
    DataFile, Edit, Effort, FileId, FileTail, Manifest, ManifestState, RowDelete, TagCondition,
};

use super::mutated_objects::{mutate, numbers};

const NODE: &str = "node";
const RECORDS_MAX: u8 = 12;

/// `input` is a recipe: first records to write, then changes to the bytes of the objects.
pub(crate) fn check_mutated_manifest(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(check(input));
}

async fn check(input: &[u8]) {
    let mut next = numbers(input);
    let objects: Arc<InMemory> = Arc::default();
    let states = write(&objects, &mut next).await;
    let is_mended = mutate(&objects, &mut next).await;
    if let Ok(manifest) = Manifest::open(objects, NODE).await {
        let state = manifest.state();
        // Each opening takes identities of its own, so these differ.
        let is_same = |known: &Arc<ManifestState>| {
            known.snapshot_lsn() == state.snapshot_lsn()
                && known.files().eq(state.files())
                && known.garbage().eq(state.garbage())
        };
        assert!(
            is_mended || states.iter().any(is_same),
            "a state that it never had: {state:?}"
        );
    }
}

/// Writes what the recipe says; all states that the manifest had.
async fn write(objects: &Arc<InMemory>, next: &mut impl FnMut() -> u8) -> Vec<Arc<ManifestState>> {
    let store = Arc::clone(objects) as Arc<dyn ObjectStore>;
    let manifest = Manifest::open(store, NODE).await.expect("memory does not fail");
    let mut states = vec![manifest.state()];
    for record in 0..=next() % RECORDS_MAX {
        let choice = next();
        let live = manifest.state().files().next().map(|file| file.id);
        let edits = match live {
            Some(id) if choice.is_multiple_of(4) => vec![Edit::RemoveFile { id }],
            _ if choice % 8 == 1 => vec![Edit::Snapshot {
                lsn: manifest.state().snapshot_lsn() + u64::from(record),
                progress: Some("node/snapshots/1.progress".into()),
            }],
            _ if choice % 8 == 5 => vec![Edit::AddDelete(delete(choice))],
            _ if choice % 16 == 2 => vec![Edit::DropTable { table: TableId(1) }],
            _ => vec![Edit::AddFile(file(manifest.allocate_file_id(), choice))],
        };
        states.push(manifest.commit(edits).await.expect("memory does not fail"));
        if choice > 200 {
            manifest.checkpoint().await.expect("memory does not fail");
        }
    }
    states
}

fn file(id: FileId, choice: u8) -> DataFile {
    DataFile {
        id,
        database: DatabaseId(1),
        table: TableId(u32::from(choice % 3)),
        path: format!("node/data/{id}").into(),
        byte_size: u64::from(choice),
        checksum: 7,
        row_count: 1,
        time_min: 0,
        time_max: i64::from(choice),
        lsn_first: id.0,
        lsn_last: id.0,
        deletes_through: 0,
        effort: Effort::High,
        tail: choice.is_multiple_of(2).then_some(FileTail {
            start: u64::from(choice / 2),
            checksum: 8,
        }),
    }
}

fn delete(choice: u8) -> RowDelete {
    RowDelete {
        lsn: u64::from(choice) + 1_000,
        database: DatabaseId(1),
        table: TableId(u32::from(choice % 3)),
        time_first: -1,
        time_last: i64::from(choice),
        conditions: vec![TagCondition {
            column: ColumnId(0),
            negated: choice > 100,
            values: vec!["a".into()],
        }],
    }
}
