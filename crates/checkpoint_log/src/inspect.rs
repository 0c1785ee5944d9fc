//! Looks at everything that a log has stored, and not only at what a start reads.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::objects::{LogObjects, ObjectKind};
use crate::{LogConfig, LogError, LogState};

/// How often what is read again that a running server changed meanwhile.
const TRIES_MAX: usize = 5;

/// What was found of a log.
pub struct Inspection<S> {
    /// The state after the newest record, or why a start would fail.
    pub state: Result<Arc<S>, LogError>,
    /// Number of the newest record; 0: there is none, or it cannot be read.
    pub sequence: u64,
    /// How many objects were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The objects that are damaged, whether or not a start reads them.
    pub damaged: Vec<DamagedObject>,
}

/// An object that does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedObject {
    /// Its path in the store.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads all objects of a log, and what they add up to. Writes nothing; a server may be running.
///
/// # Errors
/// When the store fails. What is wrong with an object is in the inspection.
pub async fn inspect<S: LogState>(
    store: Arc<dyn ObjectStore>,
    config: &LogConfig,
) -> Result<Inspection<S>, Error> {
    let objects = LogObjects::new(Arc::clone(&store), config);
    let mut inspection = Inspection {
        state: Ok(Arc::new(S::empty())),
        sequence: 0,
        objects: 0,
        bytes: 0,
        damaged: Vec::new(),
    };
    let listed: Vec<ObjectMeta> = store.list(Some(&config.folder)).try_collect().await?;
    for ObjectMeta { location, .. } in listed {
        let read = async { store.get(&location).await?.bytes().await };
        let bytes = match read.await {
            Ok(bytes) => bytes,
            // A checkpoint has made it superfluous.
            Err(Error::NotFound { .. }) => continue,
            Err(error) => return Err(error),
        };
        inspection.objects += 1;
        inspection.bytes += bytes.len() as u64;
        if let Err(reason) = check::<S>(&objects, &config.folder, &location, &bytes) {
            inspection.damaged.push(DamagedObject {
                path: location.to_string(),
                reason,
            });
        }
    }
    for _ in 0..TRIES_MAX {
        match objects.load::<S>().await {
            Ok(loaded) => {
                inspection.sequence = loaded.sequence;
                inspection.state = Ok(Arc::new(loaded.state));
                break;
            }
            Err(LogError::Store(error)) if !matches!(error, Error::NotFound { .. }) => return Err(error),
            // Of a running server it may be that something went while it was read.
            Err(error) => inspection.state = Err(error),
        }
    }
    Ok(inspection)
}

fn check<S: LogState>(
    objects: &LogObjects,
    folder: &Path,
    location: &Path,
    bytes: &[u8],
) -> Result<(), String> {
    let below: Vec<String> = location
        .prefix_match(folder)
        .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect())
        .unwrap_or_default();
    let below: Vec<&str> = below.iter().map(String::as_str).collect();
    let number = |name: &str| {
        name.parse::<u64>()
            .map_err(|_| "its name is not a number".to_owned())
    };
    match below[..] {
        ["log", name] => objects.check::<S>(ObjectKind::Record, number(name)?, bytes),
        ["checkpoint", name] => objects.check::<S>(ObjectKind::Checkpoint, number(name)?, bytes),
        ["current"] => objects.check::<S>(ObjectKind::Pointer, 0, bytes),
        _ => Ok(()),
    }
}
