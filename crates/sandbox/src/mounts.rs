//! Other names that files have because their file system is mounted more than once.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A line of `/proc/self/mountinfo` (see `proc(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    device: OsString,
    /// What of the file system is mounted.
    root: PathBuf,
    /// Where it is mounted.
    point: PathBuf,
}

/// All mounts that the process sees; later ones lie over earlier ones.
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    /// A container without `/proc` has no table to look at, and is taken to have no mounts.
    pub(crate) fn of_this_process() -> Self {
        Self::parse(&fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Reads the lines of a table; what is not like one is passed over.
    pub(crate) fn parse(table: &[u8]) -> Self {
        Self(table.split(|&byte| byte == b'\n').filter_map(mount).collect())
    }

    /// The other places where `path`, or something in it, can be found. `path` leads over no symbolic link.
    pub(crate) fn aliases(&self, path: &Path) -> BTreeSet<PathBuf> {
        let Some((own, inside)) = self.locate(path) else {
            return BTreeSet::new();
        };
        let same_device = self.0.iter().filter(|mount| mount.device == own.device);
        same_device
            .filter_map(|mount| match inside.strip_prefix(&mount.root) {
                Ok(rest) => Some(joined(&mount.point, rest)),
                Err(_) => mount.root.starts_with(&inside).then(|| mount.point.clone()),
            })
            .filter(|alias| !alias.starts_with(path))
            .collect()
    }

    /// The mount that `path` lies on, and its name inside that file system.
    fn locate(&self, path: &Path) -> Option<(&Mount, PathBuf)> {
        let above = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        // Of equal depth the last one counts, as `max_by_key` has it.
        let mount = above.max_by_key(|mount| mount.point.as_os_str().len())?;
        let rest = path.strip_prefix(&mount.point).ok()?;
        Some((mount, joined(&mount.root, rest)))
    }
}

/// Without the slash at the end that `join` leaves behind an empty rest.
fn joined(path: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() {
        path.to_owned()
    } else {
        path.join(rest)
    }
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ').skip(2);
    Some(Mount {
        device: OsStr::from_bytes(fields.next()?).to_owned(),
        root: unescaped(fields.next()?),
        point: unescaped(fields.next()?),
    })
}

/// Spaces, tabs, line ends and backslashes stand as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, behind)) = rest.split_first() {
        let code = behind.get(..3).filter(|_| first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &behind[3..];
        } else {
            bytes.push(first);
            rest = behind;
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:20 / /proc rw - proc proc rw
24 22 8:2 / /srv rw shared:2 - xfs /dev/sda2 rw
25 22 8:2 /store/data /export rw shared:2 - xfs /dev/sda2 rw
26 22 8:2 /store /mnt/with\\040space rw - xfs /dev/sda2 rw
27 22 8:2 /store/data/sub/deep /deep rw - xfs /dev/sda2 rw
28 22 8:1 /srv /under rw - ext4 /dev/sda1 rw
";

    fn aliases(path: &str) -> Vec<PathBuf> {
        Mounts::parse(TABLE)
            .aliases(Path::new(path))
            .into_iter()
            .collect()
    }

    #[test]
    fn other_mounts_are_other_names() {
        assert_eq!(
            aliases("/srv/store/data"),
            ["/deep", "/export", "/mnt/with space/data"].map(PathBuf::from)
        );
        assert_eq!(
            aliases("/export/sub"),
            ["/deep", "/mnt/with space/data/sub", "/srv/store/data/sub"].map(PathBuf::from)
        );
        assert_eq!(aliases("/var/lib"), [""; 0].map(PathBuf::from));
        assert_eq!(aliases("/proc/self"), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn without_a_table_there_are_none() {
        assert_eq!(Mounts::parse(b"").aliases(Path::new("/srv")), BTreeSet::new());
        assert_eq!(Mounts::parse(b"garbage\n\n").0, []);
    }
}
