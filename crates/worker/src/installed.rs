//! What is installed in the virtual environment, and the lock file that says so.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tokio::process::Command;

use crate::{PythonEnvironment, python::answer};

/// Name of the lock file, which lies in the plugin directory.
const LOCK_FILE: &str = "requirements.lock";

/// Its beginning.
const LOCK_HEAD: &str = "\
# The packages of the plugins' environment, written by Tidemill after every change.
# To install the same elsewhere: tidemill install package --requirements THIS_FILE
";

/// Prints name, version and requirement of every package in the environment. The requirement is worded as pip words it (PEP
/// 508, PEP 610), and `null` for the tools that environments are made with.
const LIST: &str = r##"
import importlib.metadata, json, re, sys, sysconfig
tools = {"pip"} if sys.version_info >= (3, 12) else {"pip", "setuptools", "wheel", "distribute"}
found = {}
for package in importlib.metadata.distributions(path=[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]):
    name, version = package.metadata["Name"], package.version
    key = re.sub(r"[-_.]+", "-", name or "").lower()
    if not key or not version or key in found:
        continue
    requirement = name + "==" + version
    direct = json.loads(package.read_text("direct_url.json") or "null")
    if direct:
        url, fragments = direct["url"], []
        if "vcs_info" in direct:
            url = direct["vcs_info"]["vcs"] + "+" + url + "@" + direct["vcs_info"]["commit_id"]
        hashes = direct.get("archive_info", {}).get("hashes", {})
        fragments += [algorithm + "=" + digest for algorithm, digest in sorted(hashes.items())][:1]
        if direct.get("subdirectory"):
            fragments.append("subdirectory=" + direct["subdirectory"])
        url += "#" + "&".join(fragments) if fragments else ""
        requirement = "-e " + url if direct.get("dir_info", {}).get("editable") else name + " @ " + url
    found[key] = {"name": name, "version": version, "requirement": None if key in tools else requirement}
print(json.dumps([found[key] for key in sorted(found)]))
"##;

/// A package of the virtual environment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InstalledPackage {
    /// Its name, as it spells it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The line that installs exactly it; `None` for the tools that environments are made with.
    pub(crate) requirement: Option<String>,
}

/// The packages of an environment, by name. Waits for the environment.
pub(crate) async fn list(environment: &PythonEnvironment) -> io::Result<Vec<InstalledPackage>> {
    let python = environment.ready().await.map_err(io::Error::other)?;
    let mut command = Command::new(&python.python);
    command.args(["-I", "-c", LIST]).env_remove("PYTHONHOME");
    let output = answer(command, environment.user()).await?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().last().unwrap_or_default().trim().to_owned();
        let python = python.python.display();
        io::Error::other(format!(
            "{python} does not tell its packages ({}): {last}",
            output.status
        ))
    })
}

/// Writes the lock file whole or not at all. Says whether its content is another than before.
pub(crate) fn write_lock(plugin_dir: &Path, packages: &[InstalledPackage]) -> io::Result<bool> {
    let mut text = LOCK_HEAD.to_owned();
    for requirement in packages.iter().filter_map(|package| package.requirement.as_ref()) {
        text.push_str(requirement);
        text.push('\n');
    }
    let path = plugin_dir.join(LOCK_FILE);
    if fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(false);
    }
    let staged = Staged(plugin_dir.join(format!(".{LOCK_FILE}.{}", std::process::id())));
    // What a crash has left. What is there otherwise, such as a link, is not followed.
    let _ = fs::remove_file(&staged.0);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(&staged.0)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&staged.0, &path)?;
    fs::File::open(plugin_dir)?.sync_all()?;
    Ok(true)
}

/// A file that is removed unless it was renamed.
struct Staged(PathBuf);

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, requirement: Option<&str>) -> InstalledPackage {
        InstalledPackage {
            name: name.to_owned(),
            version: "1.0".to_owned(),
            requirement: requirement.map(str::to_owned),
        }
    }

    #[test]
    fn the_lock_file_has_a_line_a_package_and_replaces_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let packages = [
            package("ebb", Some("ebb==1.0")),
            package("pip", None),
            package("flow", Some("flow @ file:///srv/flow.whl#sha256=ab")),
        ];
        assert!(write_lock(dir.path(), &packages).unwrap());
        let lock = dir.path().join(LOCK_FILE);
        let text = fs::read_to_string(&lock).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, ["ebb==1.0", "flow @ file:///srv/flow.whl#sha256=ab"]);
        assert!(!write_lock(dir.path(), &packages).unwrap(), "nothing has changed");
        assert!(write_lock(dir.path(), &packages[..1]).unwrap());
        assert!(!fs::read_to_string(&lock).unwrap().contains("flow"));
        let names = fs::read_dir(dir.path()).unwrap();
        assert_eq!(names.count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_that_somebody_has_put_there_is_replaced_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        fs::write(&target, "precious").unwrap();
        for name in [
            LOCK_FILE.to_owned(),
            format!(".{LOCK_FILE}.{}", std::process::id()),
        ] {
            std::os::unix::fs::symlink(&target, dir.path().join(name)).unwrap();
        }
        write_lock(dir.path(), &[]).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        let lock = fs::symlink_metadata(dir.path().join(LOCK_FILE)).unwrap();
        assert!(lock.is_file());
    }
}
