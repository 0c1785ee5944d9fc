//! Damage to the objects of a log of records and checkpoints: what the tests and the fuzz targets of such logs have in common.

use std::sync::Arc;

use futures::StreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// Where the payload of an object begins, and the two numbers before it that depend on it.
const PAYLOAD: usize = 48;
const LENGTH: usize = 36;
const CHECKSUM: usize = 44;

/// Takes numbers of a recipe one after the other; zeros when it is used up.
pub(crate) fn numbers(recipe: &[u8]) -> impl FnMut() -> u8 {
    let mut numbers = recipe.iter().copied();
    move || numbers.next().unwrap_or(0)
}

/// Changes one to three of the objects. Returns whether some of them say that they are whole all the same: a checksum was
/// made for what they hold now.
pub(crate) async fn mutate(objects: &Arc<InMemory>, next: &mut impl FnMut() -> u8) -> bool {
    let listed = objects
        .list(None)
        .map(|object| object.expect("memory lists").location);
    let mut paths: Vec<Path> = listed.collect().await;
    paths.sort_unstable();
    let mut is_mended = false;
    for _ in 0..=next() % 3 {
        let path = &paths[usize::from(next()) % paths.len()];
        let read = async { objects.get(path).await?.bytes().await };
        let mut bytes = read.await.expect("memory reads").to_vec();
        let position = (usize::from(next()) << 8 | usize::from(next())) % bytes.len().max(1);
        let action = next();
        match action % 5 {
            0 => bytes.truncate(position),
            1 => bytes.push(next()),
            2 => bytes.insert(position, next()),
            _ if bytes.is_empty() => {}
            3 => bytes[position] ^= next(),
            _ => bytes[position] = next(),
        }
        if action >= 128 && bytes.len() > PAYLOAD {
            mend(&mut bytes);
            is_mended = true;
        }
        objects.put(path, bytes.into()).await.expect("memory writes");
    }
    is_mended
}

/// Enters the length and the checksum of what is there now.
fn mend(object: &mut [u8]) {
    let length = (object.len() - PAYLOAD) as u64;
    object[LENGTH..CHECKSUM].copy_from_slice(&length.to_le_bytes());
    let covered = [&object[..CHECKSUM], &object[PAYLOAD..]].concat();
    let checksum = crc_fast::crc32_iscsi(&covered);
    object[CHECKSUM..PAYLOAD].copy_from_slice(&checksum.to_le_bytes());
}
