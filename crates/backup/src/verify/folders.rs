//! Folders whose objects stand for themselves.

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use crate::verify::{Damage, FolderReport, Part, Verification, VerifyError};

/// How the objects of a folder are checked.
pub struct FolderCheck {
    /// Name of the folder below the node.
    pub name: &'static str,
    /// What is in it, in words.
    pub content: &'static str,
    /// What it means when one is damaged.
    pub consequence: &'static str,
    /// Checks an object, given its name and content; what is wrong with it, if anything is.
    pub check: fn(&str, &[u8]) -> Result<(), String>,
}

impl Verification<'_> {
    pub(crate) async fn check_folder(&mut self, check: &FolderCheck) -> Result<(), VerifyError> {
        let folder = Path::from(self.node_id).join(check.name);
        let listed: Vec<ObjectMeta> = self
            .objects
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(VerifyError::object("list", &folder))?;
        let mut report = FolderReport {
            name: check.name.to_owned(),
            content: check.content.to_owned(),
            objects: 0,
            damaged: 0,
        };
        for ObjectMeta { location, .. } in listed {
            let read = async { self.objects.get(&location).await?.bytes().await };
            let bytes = match read.await {
                Ok(bytes) => bytes,
                // Settled, or merged into another, by a running server.
                Err(object_store::Error::NotFound { .. }) => continue,
                Err(error) => return Err(VerifyError::object("read", location)(error)),
            };
            report.objects += 1;
            self.read(1, bytes.len() as u64);
            let name = location.filename().unwrap_or_default();
            if let Err(reason) = (check.check)(name, &bytes) {
                report.damaged += 1;
                let damage = Damage::new(Part::Folder, location.to_string(), reason, check.consequence);
                self.report.damages.push(damage);
            }
        }
        self.report.folders.push(report);
        Ok(())
    }
}
