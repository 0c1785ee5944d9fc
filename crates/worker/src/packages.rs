//! Installs packages into the virtual environment.

use std::{io, path::PathBuf, process::ExitStatus, str::FromStr, sync::Arc};

use tokio::{process::Command, sync::Mutex};

use crate::{
    Python, PythonEnvironment, Unavailable,
    environment::{EnvironmentOptions, worker_environment},
    python::{find_on_path, is_executable},
    tool::run_tool,
};

/// What packages are installed with (`--package-manager`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PackageManager {
    /// `uv` if it is found, else pip.
    #[default]
    Discover,
    /// The environment's pip.
    Pip,
    /// `uv` if it is found, else pip with a warning.
    Uv,
    /// Nothing: installing is refused. What is installed stays importable.
    Disabled,
}

impl FromStr for PackageManager {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "discover" => Ok(Self::Discover),
            "pip" => Ok(Self::Pip),
            "uv" => Ok(Self::Uv),
            "disabled" => Ok(Self::Disabled),
            _ => Err(format!(
                "unknown package manager '{text}', expected discover, pip, uv or disabled"
            )),
        }
    }
}

/// Why packages were not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The operator has disabled it.
    #[error("Package installation has been disabled. Contact your administrator for more information.")]
    Disabled,
    /// Nothing was named.
    #[error("no package was named")]
    Nothing,
    /// A name that the tool would take for an option, or that is none.
    #[error("'{name}' is not the name of a package")]
    InvalidName {
        /// As given.
        name: String,
    },
    /// A requirements file that the tool would take for an option, or that is none.
    #[error("'{location}' is not the location of a requirements file")]
    InvalidLocation {
        /// As given.
        location: String,
    },
    /// There is no environment to install into.
    #[error("there is no Python to install packages for: {0}")]
    Unavailable(#[from] Arc<Unavailable>),
    /// The tool could not be started.
    #[error("could not run {tool}: {source}")]
    Tool {
        /// The program.
        tool: String,
        /// What the system said.
        source: io::Error,
    },
    /// The tool ran and failed.
    #[error("{tool} failed with {status}:\n{output}")]
    Failed {
        /// The program.
        tool: &'static str,
        /// Its exit status.
        status: ExitStatus,
        /// The last lines that it printed.
        output: String,
    },
}

/// The packages of the virtual environment. One installation runs at a time.
#[derive(Debug)]
pub struct Packages {
    environment: PythonEnvironment,
    manager: PackageManager,
    plugin_dir: PathBuf,
    running: Mutex<()>,
}

impl Packages {
    /// Packages of an environment. The tool gets the same variables as plugins, since it runs foreign code too.
    pub fn new(environment: PythonEnvironment, manager: PackageManager, plugin_dir: PathBuf) -> Self {
        Self {
            environment,
            manager,
            plugin_dir,
            running: Mutex::new(()),
        }
    }

    /// Installs packages by name, with or without a version (`numpy`, `pandas==2.2.3`). Waits for the environment and
    /// for an installation that is running. Lines that the tool prints are given to `on_line` as they come. Dropping the
    /// future stops the tool.
    pub async fn install(
        &self,
        names: &[String],
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(), InstallError> {
        self.check_enabled()?;
        if names.is_empty() {
            return Err(InstallError::Nothing);
        }
        if let Some(name) = names.iter().find(|name| !is_operand(name)) {
            return Err(InstallError::InvalidName { name: name.clone() });
        }
        // Behind `--` nothing is an option, whatever the check above misses.
        let mut arguments = vec!["--".to_owned()];
        arguments.extend(names.iter().map(|name| name.trim().to_owned()));
        self.run(&arguments, on_line).await
    }

    /// Installs what a requirements file names: a path on this machine, or a URL. Otherwise like
    /// [`Packages::install`].
    pub async fn install_requirements(
        &self,
        location: &str,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(), InstallError> {
        self.check_enabled()?;
        if !is_operand(location) {
            return Err(InstallError::InvalidLocation {
                location: location.to_owned(),
            });
        }
        let arguments = ["-r".to_owned(), location.trim().to_owned()];
        self.run(&arguments, on_line).await
    }

    fn check_enabled(&self) -> Result<(), InstallError> {
        match self.manager {
            PackageManager::Disabled => Err(InstallError::Disabled),
            PackageManager::Discover | PackageManager::Pip | PackageManager::Uv => Ok(()),
        }
    }

    async fn run(
        &self,
        arguments: &[String],
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(), InstallError> {
        let python = self.environment.ready().await?;
        let _running = self.running.lock().await;
        let tool = self.tool(&python);
        tracing::info!(tool = tool.name(), ?arguments, "installing packages");
        let mut command = tool.command(&python);
        command
            .args(arguments)
            .env_clear()
            .envs(worker_environment(&EnvironmentOptions {
                virtual_env: python.virtual_env.clone(),
                plugin_dir: self.plugin_dir.clone(),
                passed: Vec::new(),
            }));
        let run = run_tool(command, on_line)
            .await
            .map_err(|source| InstallError::Tool {
                tool: tool.name().to_owned(),
                source,
            })?;
        if run.status.success() {
            return Ok(());
        }
        Err(InstallError::Failed {
            tool: tool.name(),
            status: run.status,
            output: run.output,
        })
    }

    fn tool(&self, python: &Python) -> Tool {
        if self.manager == PackageManager::Pip {
            return Tool::Pip;
        }
        let own = python.virtual_env.join("bin/uv");
        let found = find_on_path("uv").or_else(|| is_executable(&own).then_some(own));
        if found.is_none() && self.manager == PackageManager::Uv {
            tracing::warn!("uv was not found on the search path, using pip");
        }
        found.map_or(Tool::Pip, Tool::Uv)
    }
}

#[derive(Debug)]
enum Tool {
    Pip,
    Uv(PathBuf),
}

impl Tool {
    fn name(&self) -> &'static str {
        match self {
            Self::Pip => "pip",
            Self::Uv(_) => "uv",
        }
    }

    fn command(&self, python: &Python) -> Command {
        match self {
            Self::Pip => {
                let mut command = Command::new(&python.python);
                command.args([
                    "-m",
                    "pip",
                    "install",
                    "--no-input",
                    "--disable-pip-version-check",
                ]);
                command
            }
            Self::Uv(uv) => {
                let mut command = Command::new(uv);
                command.args(["pip", "install", "--python"]).arg(&python.python);
                command
            }
        }
    }
}

/// Whether a tool takes this for a name or a place, not for an option.
fn is_operand(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;
    use crate::PythonConfig;

    /// An environment whose interpreter prints its arguments, as pip would its progress, and ends with `code`.
    fn packages(dir: &Path, manager: PackageManager, code: u8) -> Packages {
        let python = dir.join("venv/bin/python");
        fs::create_dir_all(python.parent().unwrap()).unwrap();
        let text = format!(
            "#!/bin/sh\nif [ \"$1\" = -I ]; then echo 3.12.0; exit; fi\n\
             echo \"args: $*\"; echo \"token: $INFLUXDB3_AUTH_TOKEN\"; echo oops >&2; exit {code}\n"
        );
        fs::write(&python, text).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        let environment = PythonEnvironment::start(PythonConfig {
            plugin_dir: dir.to_owned(),
            virtual_env_location: None,
            package_manager: manager,
        });
        Packages::new(environment, manager, dir.to_owned())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[tokio::test]
    async fn pip_installs_into_the_environment_and_its_lines_are_handed_on() {
        let dir = tempfile::tempdir().unwrap();
        let packages = packages(dir.path(), PackageManager::Pip, 0);
        let mut lines = Vec::new();
        packages
            .install(&names(&["numpy", "pandas==2.2.3"]), &mut |line| {
                lines.push(line.to_owned());
            })
            .await
            .unwrap();
        lines.sort();
        assert_eq!(
            lines,
            [
                "args: -m pip install --no-input --disable-pip-version-check -- numpy pandas==2.2.3",
                "oops",
                "token: "
            ]
        );
    }

    #[tokio::test]
    async fn a_failure_carries_the_output_of_the_tool() {
        let dir = tempfile::tempdir().unwrap();
        let packages = packages(dir.path(), PackageManager::Pip, 3);
        let error = packages
            .install_requirements("requirements.txt", &mut |_| {})
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("pip failed with exit status: 3"), "{error}");
        assert!(error.contains("-r requirements.txt"), "{error}");
        assert!(error.contains("oops"), "{error}");
    }

    #[tokio::test]
    async fn options_are_not_names() {
        let dir = tempfile::tempdir().unwrap();
        let packages = packages(dir.path(), PackageManager::Pip, 0);
        for name in ["--index-url=http://evil", "-e", " -r", "", "a\nb"] {
            let error = packages
                .install(&names(&["numpy", name]), &mut |_| {})
                .await
                .unwrap_err();
            assert!(
                matches!(error, InstallError::InvalidName { .. }),
                "{name:?}: {error}"
            );
        }
        let error = packages
            .install_requirements("--pre", &mut |_| {})
            .await
            .unwrap_err();
        assert!(matches!(error, InstallError::InvalidLocation { .. }));
        let error = packages.install(&[], &mut |_| {}).await.unwrap_err();
        assert!(matches!(error, InstallError::Nothing));
    }

    #[tokio::test]
    async fn disabled_is_refused_with_the_known_text() {
        let dir = tempfile::tempdir().unwrap();
        let packages = packages(dir.path(), PackageManager::Disabled, 0);
        let error = packages
            .install(&names(&["numpy"]), &mut |_| {})
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "Package installation has been disabled. Contact your administrator for more information."
        );
    }

    #[test]
    fn managers_are_parsed() {
        assert_eq!("uv".parse(), Ok(PackageManager::Uv));
        assert_eq!("disabled".parse(), Ok(PackageManager::Disabled));
        assert!("conda".parse::<PackageManager>().is_err());
    }
}
