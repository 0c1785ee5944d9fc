//! Objects as files of the repository: what an earlier version of the program wrote, for the present one to read.

use std::fs;
use std::path::Path as FilePath;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// The files of a folder and of those in it, as objects whose paths are those below the folder.
pub async fn load_objects(folder: &FilePath) -> InMemory {
    let store = InMemory::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display()));
        for entry in entries {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let below = path.strip_prefix(folder).expect("it lies in the folder");
            let object = Path::from(below.to_str().expect("fixtures have plain names"));
            let content = fs::read(&path).expect("a fixture can be read");
            store
                .put(&object, content.into())
                .await
                .expect("memory does not fail");
        }
    }
    store
}

/// Writes the objects of a store below a folder, in whose place nothing else stays.
pub async fn save_objects(store: &dyn ObjectStore, folder: &FilePath) {
    // An error means that there was none.
    let _ = fs::remove_dir_all(folder);
    let objects: Vec<_> = store
        .list(None)
        .try_collect()
        .await
        .expect("memory does not fail");
    for object in objects {
        let content = async { store.get(&object.location).await?.bytes().await };
        let content = content.await.expect("memory does not fail");
        let path = folder.join(object.location.as_ref());
        fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("the folder is writable");
        fs::write(path, content).expect("the folder is writable");
    }
}
