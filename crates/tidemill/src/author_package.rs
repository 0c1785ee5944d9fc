//! The Python package for authors (`python/tidemill`), compiled into the program: it runs plugins without a server.

use std::fs;

use tempfile::TempDir;

use crate::failure::CommandError;

/// Names the files of the package, and includes them.
macro_rules! sources {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../../python/tidemill/", $path)))),*]
    };
}

const SOURCES: [(&str, &str); 26] = sources![
    "__init__.py",
    "exceptions.py",
    "interface.py",
    "line_builder.py",
    "testing/__init__.py",
    "testing/__main__.py",
    "testing/arrow.py",
    "testing/awaiting.py",
    "testing/cache.py",
    "testing/clock.py",
    "testing/failures.py",
    "testing/fake_local.py",
    "testing/line_protocol.py",
    "testing/parameters.py",
    "testing/pickling.py",
    "testing/plugin.py",
    "testing/queries.py",
    "testing/recording.py",
    "testing/request.py",
    "testing/response.py",
    "testing/run.py",
    "testing/state.py",
    "testing/tables.py",
    "testing/trigger.py",
    "testing/writes.py",
    "testing/written_tables.py",
];

/// Python runs a folder by this file, with the folder first in its search path: whatever package of our name is installed, or
/// lies in the working directory, ours is found.
const MAIN: &str = "\
import sys

if sys.version_info < (3, 10):
    sys.stderr.write('this is Python %d.%d; plugins need 3.10 or newer\\n' % sys.version_info[:2])
    sys.exit(2)

from tidemill.testing.__main__ import main

sys.exit(main())
";

/// Puts the package into a folder that Python can run. It is removed with the answer.
pub(crate) fn unpack() -> Result<TempDir, CommandError> {
    let in_temporary = || CommandError::file(std::env::temp_dir());
    let folder = tempfile::Builder::new()
        .prefix("tidemill-")
        .tempdir()
        .map_err(in_temporary())?;
    fs::create_dir_all(folder.path().join("tidemill/testing")).map_err(in_temporary())?;
    fs::write(folder.path().join("__main__.py"), MAIN).map_err(in_temporary())?;
    for (path, source) in SOURCES {
        fs::write(folder.path().join("tidemill").join(path), source).map_err(in_temporary())?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_whole_package_is_there() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/tidemill");
        let mut files = BTreeSet::new();
        for folder in ["", "testing"] {
            for entry in fs::read_dir(package.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "py") {
                    let relative = path.strip_prefix(&package).unwrap();
                    files.insert(relative.to_str().unwrap().to_owned());
                }
            }
        }
        let embedded: BTreeSet<String> = SOURCES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(embedded, files);
    }
}
