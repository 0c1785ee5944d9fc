//! What to tell the operator to install.

use std::fs;

/// Families of systems by their package tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PackageTool {
    Apt,
    Dnf,
    Apk,
    Pacman,
    Zypper,
    Unknown,
}

impl PackageTool {
    /// That of this machine.
    pub(crate) fn detect() -> Self {
        fs::read_to_string("/etc/os-release").map_or(Self::Unknown, |text| Self::from_os_release(&text))
    }

    fn from_os_release(text: &str) -> Self {
        let ids: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
            .flat_map(|value| value.trim_matches('"').split_whitespace())
            .collect();
        let is_any = |names: &[&str]| ids.iter().any(|id| names.contains(id));
        if is_any(&["debian", "ubuntu"]) {
            Self::Apt
        } else if is_any(&["fedora", "rhel", "centos", "amzn"]) {
            Self::Dnf
        } else if is_any(&["alpine"]) {
            Self::Apk
        } else if is_any(&["arch"]) {
            Self::Pacman
        } else if is_any(&["suse", "opensuse"]) {
            Self::Zypper
        } else {
            Self::Unknown
        }
    }

    /// How to get an interpreter that can make virtual environments.
    pub(crate) fn python_hint(self) -> &'static str {
        match self {
            Self::Apt => "install it with `apt-get install python3 python3-venv`",
            Self::Dnf => "install it with `dnf install python3`",
            Self::Apk => "install it with `apk add python3`",
            Self::Pacman => "install it with `pacman -S python`",
            Self::Zypper => "install it with `zypper install python3`",
            Self::Unknown => "install Python 3.10 or later with its venv and ensurepip modules",
        }
    }

    /// How to get the modules that an interpreter lacks to make virtual environments.
    pub(crate) fn venv_hint(self) -> &'static str {
        match self {
            Self::Apt => "install it with `apt-get install python3-venv`",
            Self::Dnf => "install it with `dnf install python3-pip`",
            Self::Apk => "install it with `apk add py3-pip`",
            Self::Pacman | Self::Zypper | Self::Unknown => {
                "install the venv and ensurepip modules of this Python"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_told_by_their_family() {
        let ubuntu = "NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n";
        let rocky = "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n";
        assert_eq!(PackageTool::from_os_release(ubuntu), PackageTool::Apt);
        assert_eq!(PackageTool::from_os_release(rocky), PackageTool::Dnf);
        assert_eq!(PackageTool::from_os_release("ID=alpine\n"), PackageTool::Apk);
        assert_eq!(PackageTool::from_os_release(""), PackageTool::Unknown);
        assert!(
            PackageTool::Apt
                .venv_hint()
                .contains("apt-get install python3-venv")
        );
    }
}
