//! The check behind the fuzz target of the manifest: whatever happens to the bytes of its objects, opening it either fails
//! or gives a state that it once had.

use std::sync::Arc;

use futures::StreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tidemill_catalog::{DatabaseId, TableId};
use tidemill_store::{DataFile, Edit, Effort, FileId, FileTail, Manifest, ManifestState};

const NODE: &str = "node";
const RECORDS_MAX: u8 = 12;

/// `input` is a recipe: first records to write, then changes to the bytes of the objects.
pub(crate) fn check_mutated_manifest(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(check(input));
}

async fn check(input: &[u8]) {
    let mut recipe = input.iter().copied();
    let mut next = || recipe.next().unwrap_or(0);
    let objects: Arc<InMemory> = Arc::default();
    let states = write(&objects, &mut next).await;

    let mut paths: Vec<Path> = objects
        .list(None)
        .map(|object| object.expect("memory lists").location)
        .collect()
        .await;
    paths.sort_unstable();
    for _ in 0..=next() % 3 {
        let path = &paths[usize::from(next()) % paths.len()];
        let bytes = objects
            .get(path)
            .await
            .expect("it was listed")
            .bytes()
            .await
            .expect("memory reads");
        let mut bytes = bytes.to_vec();
        let position = (usize::from(next()) << 8 | usize::from(next())) % bytes.len().max(1);
        match next() % 4 {
            0 => bytes.truncate(position),
            1 => bytes.push(next()),
            _ if bytes.is_empty() => {}
            _ => bytes[position] ^= next(),
        }
        objects.put(path, bytes.into()).await.expect("memory writes");
    }
    if let Ok(manifest) = Manifest::open(objects, NODE).await {
        let state = manifest.state();
        // Each opening takes identities of its own, so these differ.
        let is_same = |known: &Arc<ManifestState>| {
            known.snapshot_lsn() == state.snapshot_lsn()
                && known.files().eq(state.files())
                && known.garbage().eq(state.garbage())
        };
        assert!(states.iter().any(is_same), "a state that it never had: {state:?}");
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
            _ if choice % 4 == 1 => vec![Edit::Snapshot {
                lsn: manifest.state().snapshot_lsn() + u64::from(record),
                progress: None,
            }],
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
