//! Plugins of the checkout, on their way to a server.

use std::fs;
use std::path::Path;

use crate::failure::{During, Failure};

/// Copies the plugins of a folder, folders below it included.
pub(crate) fn copy_plugins(from: &Path, to: &Path) -> Result<(), Failure> {
    let entries = fs::read_dir(from).during(format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry.during(format!("cannot read {}", from.display()))?;
        let source = entry.path();
        let target = to.join(entry.file_name());
        let is_plugin_code = source.extension().is_some_and(|extension| extension == "py");
        if source.is_dir() && entry.file_name() != "__pycache__" {
            fs::create_dir_all(&target).during(format!("cannot make {}", target.display()))?;
            copy_plugins(&source, &target)?;
        } else if is_plugin_code {
            fs::copy(&source, &target).during(format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}
