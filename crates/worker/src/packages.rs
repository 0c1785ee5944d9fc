//! Installs packages into the virtual environment.

use std::{io, path::PathBuf, process::ExitStatus, str::FromStr, sync::Arc};

use tokio::{
    process::Command,
    sync::{Mutex, oneshot, watch},
};

use crate::{
    InstalledPackage, Need, Python, PythonEnvironment, PythonStatus, Unavailable, Unreadable,
    environment::{EnvironmentOptions, worker_environment},
    installed,
    python::{answer, find_on_path, is_executable},
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
    /// A place for packages that the tool would take for an option, or that is none.
    #[error("'{place}' is not a directory or URL to find packages in")]
    InvalidLinks {
        /// As given.
        place: String,
    },
    /// The user of the plugins may not change the environment.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The packages of the environment cannot be told.
    #[error("cannot list the packages: {0}")]
    List(io::Error),
    /// The installation was given up.
    #[error("the installation was interrupted: {0}")]
    Interrupted(String),
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
    #[error("{tool} failed with {status}")]
    Failed {
        /// The program.
        tool: &'static str,
        /// Its exit status.
        status: ExitStatus,
        /// The last lines that it printed.
        output: String,
    },
}

/// What is to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Packages by name, with or without a version (`numpy`, `pandas==2.2.3`).
    Packages(Vec<String>),
    /// What a requirements file names: a path on this machine, or a URL.
    Requirements(String),
}

/// What is to be installed, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallRequest {
    /// What it is.
    pub wanted: Wanted,
    /// Directories on this machine, or URLs of pages, where packages are looked for beside the index.
    pub find_links: Vec<String>,
    /// Whether no index is asked.
    pub offline: bool,
}

impl InstallRequest {
    fn check(&self) -> Result<(), InstallError> {
        match &self.wanted {
            Wanted::Packages(names) => {
                if names.is_empty() {
                    return Err(InstallError::Nothing);
                }
                if let Some(name) = names.iter().find(|name| !is_operand(name)) {
                    return Err(InstallError::InvalidName { name: name.clone() });
                }
            }
            Wanted::Requirements(location) if !is_operand(location) => {
                return Err(InstallError::InvalidLocation {
                    location: location.clone(),
                });
            }
            Wanted::Requirements(_) => {}
        }
        match self.find_links.iter().find(|place| !is_operand(place)) {
            Some(place) => Err(InstallError::InvalidLinks { place: place.clone() }),
            None => Ok(()),
        }
    }

    fn arguments(&self) -> Vec<String> {
        let links = self.find_links.iter();
        let mut arguments: Vec<String> = links
            .map(|place| format!("--find-links={}", place.trim()))
            .collect();
        if self.offline {
            arguments.push("--no-index".to_owned());
        }
        match &self.wanted {
            Wanted::Requirements(location) => {
                arguments.extend(["-r".to_owned(), location.trim().to_owned()]);
            }
            Wanted::Packages(names) => {
                // Behind `--` nothing is an option, whatever the check above misses.
                arguments.push("--".to_owned());
                arguments.extend(names.iter().map(|name| name.trim().to_owned()));
            }
        }
        arguments
    }
}

/// The packages of the virtual environment. One installation runs at a time. Clones are handles to one.
#[derive(Debug, Clone)]
pub struct Packages {
    environment: PythonEnvironment,
    manager: PackageManager,
    plugin_dir: PathBuf,
    running: Arc<Mutex<()>>,
    changes: watch::Sender<u64>,
}

impl Packages {
    /// Packages of an environment. The tool gets the same variables and the same user as plugins, since it runs foreign code
    /// too.
    pub fn new(environment: PythonEnvironment, manager: PackageManager, plugin_dir: PathBuf) -> Self {
        Self {
            environment,
            manager,
            plugin_dir,
            running: Arc::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Counts the changes of the environment that were made here. A process that was started before the last one may run
    /// modules that are no longer there.
    pub fn changes(&self) -> watch::Sender<u64> {
        self.changes.clone()
    }

    /// The packages of the environment, by name. Waits for the environment.
    pub async fn list(&self) -> Result<Vec<InstalledPackage>, InstallError> {
        self.environment.ready().await?;
        installed::list(&self.environment)
            .await
            .map_err(InstallError::List)
    }

    /// Installs packages, and writes the lock file. Waits for the environment and for an installation that is running. What is
    /// going on, and the lines that the tool prints, are given to `on_line` as they come. Dropping the future stops the tool;
    /// that the environment may have changed is noticed in any case.
    pub async fn install(
        &self,
        request: InstallRequest,
        on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<(), InstallError> {
        if self.manager == PackageManager::Disabled {
            return Err(InstallError::Disabled);
        }
        request.check()?;
        let (_wanted, unwanted) = oneshot::channel();
        let packages = self.clone();
        let installing = tokio::spawn(async move { packages.run(request, unwanted, on_line).await });
        match installing.await {
            Ok(installed) => installed,
            Err(error) => Err(InstallError::Interrupted(error.to_string())),
        }
    }

    async fn run(
        self,
        request: InstallRequest,
        unwanted: oneshot::Receiver<()>,
        mut on_line: impl FnMut(&str) + Send,
    ) -> Result<(), InstallError> {
        if matches!(self.environment.status(), PythonStatus::Preparing) {
            on_line("waiting for the virtual environment to be made");
        }
        let python = self.environment.ready().await?;
        let _running = if let Ok(running) = self.running.try_lock() {
            running
        } else {
            on_line("waiting for another installation to end");
            self.running.lock().await
        };
        if let Some(user) = self.environment.user() {
            user.check(&[(python.virtual_env.clone(), Need::Write)])?;
        }
        let installed = tokio::select! {
            installed = self.install_here(&python, &request, &mut on_line) => installed,
            // The sender sends nothing: it is dropped.
            _ = unwanted => Err(InstallError::Interrupted("whoever asked for it has left".to_owned())),
        };
        self.note_changes(installed.is_ok()).await;
        installed
    }

    async fn install_here(
        &self,
        python: &Python,
        request: &InstallRequest,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(), InstallError> {
        let tool = self.tool(python);
        if matches!(tool, Tool::Pip) && !self.has_pip(python).await {
            on_line("the virtual environment has no pip, installing it");
            let mut command = Command::new(&python.python);
            command.args(["-I", "-m", "ensurepip", "--default-pip"]);
            self.run_tool("ensurepip", command, python, on_line).await?;
        }
        let arguments = request.arguments();
        tracing::info!(tool = tool.name(), ?arguments, "installing packages");
        on_line(&format!("{} install {}", tool.name(), arguments.join(" ")));
        let mut command = tool.command(python);
        command.args(arguments);
        self.run_tool(tool.name(), command, python, on_line).await
    }

    async fn run_tool(
        &self,
        tool: &'static str,
        mut command: Command,
        python: &Python,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(), InstallError> {
        let user = self.environment.user();
        command.env_clear().envs(worker_environment(&EnvironmentOptions {
            virtual_env: python.virtual_env.clone(),
            plugin_dir: self.plugin_dir.clone(),
            passed: Vec::new(),
            user: user.cloned(),
        }));
        if user.is_some_and(|user| !user.home().is_dir()) {
            // Their place would be in the home directory.
            command.env("PIP_NO_CACHE_DIR", "1").env("UV_NO_CACHE", "1");
        }
        let run = run_tool(command, user.cloned(), on_line)
            .await
            .map_err(|source| InstallError::Tool {
                tool: tool.to_owned(),
                source,
            })?;
        if run.status.success() {
            return Ok(());
        }
        Err(InstallError::Failed {
            tool,
            status: run.status,
            output: run.output,
        })
    }

    /// Writes the lock file and tells of the change. After a failure, too, something may have changed.
    async fn note_changes(&self, has_succeeded: bool) {
        let listed = installed::list(&self.environment).await;
        let plugin_dir = self.plugin_dir.clone();
        let write = move || listed.and_then(|packages| installed::write_lock(&plugin_dir, &packages));
        let written = tokio::task::spawn_blocking(write).await;
        let has_changed = match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(has_changed) => has_changed,
            Err(error) => {
                tracing::warn!(%error, "cannot write the lock file of the virtual environment");
                false
            }
        };
        if has_succeeded || has_changed {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Environments that were made where nothing was to be installed have none.
    async fn has_pip(&self, python: &Python) -> bool {
        const FIND: &str = "import importlib.util, sys; sys.exit(importlib.util.find_spec('pip') is None)";
        let mut command = Command::new(&python.python);
        command.args(["-I", "-c", FIND]).env_remove("PYTHONHOME");
        let found = answer(command, self.environment.user()).await;
        found.is_ok_and(|output| output.status.success())
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
            user: None,
        });
        Packages::new(environment, manager, dir.to_owned())
    }

    fn request(names: &[&str]) -> InstallRequest {
        InstallRequest {
            wanted: Wanted::Packages(names.iter().map(|&name| name.to_owned()).collect()),
            find_links: Vec::new(),
            offline: false,
        }
    }

    /// Installs and gives what was said meanwhile.
    async fn lines_of(
        packages: &Packages,
        request: InstallRequest,
    ) -> (Result<(), InstallError>, Vec<String>) {
        let (sender, lines) = std::sync::mpsc::channel();
        let installed = packages
            .install(request, move |line| drop(sender.send(line.to_owned())))
            .await;
        (installed, lines.try_iter().collect())
    }

    #[tokio::test]
    async fn pip_installs_into_the_environment_and_its_lines_are_handed_on() {
        let dir = tempfile::tempdir().unwrap();
        let packages = packages(dir.path(), PackageManager::Pip, 0);
        packages.environment.ready().await.unwrap();
        let (installed, mut lines) = lines_of(&packages, request(&["numpy", "pandas==2.2.3"])).await;
        installed.unwrap();
        lines.sort();
        assert_eq!(
            lines,
            [
                "args: -m pip install --no-input --disable-pip-version-check -- numpy pandas==2.2.3",
                "oops",
                "pip install -- numpy pandas==2.2.3",
                "token: ",
            ]
        );
        assert_eq!(*packages.changes().borrow(), 1);
    }

    #[tokio::test]
    async fn packages_can_come_from_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let packages = packages(dir.path(), PackageManager::Pip, 0);
        let elsewhere = InstallRequest {
            find_links: vec!["/srv/wheels".to_owned(), "https://example.org/wheels".to_owned()],
            offline: true,
            ..request(&["numpy"])
        };
        let expected = "--find-links=/srv/wheels --find-links=https://example.org/wheels --no-index -- numpy";
        let (installed, lines) = lines_of(&packages, elsewhere).await;
        installed.unwrap();
        assert!(lines.contains(&format!("pip install {expected}")), "{lines:?}");
    }

    #[tokio::test]
    async fn a_failure_carries_the_output_of_the_tool() {
        let dir = tempfile::tempdir().unwrap();
        let packages = packages(dir.path(), PackageManager::Pip, 3);
        let requirements = InstallRequest {
            wanted: Wanted::Requirements("requirements.txt".to_owned()),
            ..request(&[])
        };
        let error = lines_of(&packages, requirements).await.0.unwrap_err();
        assert_eq!(error.to_string(), "pip failed with exit status: 3");
        let InstallError::Failed { output, .. } = error else {
            panic!("{error}");
        };
        assert!(output.contains("-r requirements.txt"), "{output}");
        assert!(output.contains("oops"), "{output}");
        assert_eq!(
            *packages.changes().borrow(),
            0,
            "nothing is known to have changed"
        );
    }

    #[tokio::test]
    async fn options_are_not_names() {
        let dir = tempfile::tempdir().unwrap();
        let packages = packages(dir.path(), PackageManager::Pip, 0);
        let refused = async |request| packages.install(request, |_| {}).await.unwrap_err();
        for name in ["--index-url=http://evil", "-e", " -r", "", "a\nb"] {
            let error = refused(request(&["numpy", name])).await;
            assert!(
                matches!(error, InstallError::InvalidName { .. }),
                "{name:?}: {error}"
            );
            let links = InstallRequest {
                find_links: vec![name.to_owned()],
                ..request(&["numpy"])
            };
            let error = refused(links).await;
            assert!(
                matches!(error, InstallError::InvalidLinks { .. }),
                "{name:?}: {error}"
            );
        }
        let location = InstallRequest {
            wanted: Wanted::Requirements("--pre".to_owned()),
            ..request(&[])
        };
        assert!(matches!(
            refused(location).await,
            InstallError::InvalidLocation { .. }
        ));
        assert!(matches!(refused(request(&[])).await, InstallError::Nothing));
    }

    #[tokio::test]
    async fn uv_is_used_where_it_is_found_and_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let first_line = async |manager| {
            let packages = packages(dir.path(), manager, 0);
            let (installed, lines) = lines_of(&packages, request(&["numpy"])).await;
            installed.unwrap();
            let tools = lines.into_iter().find(|line| line.contains("numpy"));
            tools.unwrap()
        };
        // Somebody's own uv on the search path would be found first.
        if find_on_path("uv").is_none() {
            for manager in [PackageManager::Discover, PackageManager::Uv] {
                assert_eq!(first_line(manager).await, "pip install -- numpy", "{manager:?}");
            }
        }
        let uv = dir.path().join("venv/bin/uv");
        fs::write(&uv, "#!/bin/sh\necho uv: $*\n").unwrap();
        fs::set_permissions(&uv, fs::Permissions::from_mode(0o755)).unwrap();
        for manager in [PackageManager::Discover, PackageManager::Uv] {
            assert_eq!(first_line(manager).await, "uv install -- numpy", "{manager:?}");
        }
        assert_eq!(first_line(PackageManager::Pip).await, "pip install -- numpy");
    }

    /// Whoever has asked is gone: the tool is, too, with all that it has started.
    #[tokio::test]
    async fn an_installation_that_nobody_waits_for_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let packages = packages(dir.path(), PackageManager::Pip, 0);
        packages.environment.ready().await.unwrap();
        let script = "#!/bin/sh\nif [ \"$1\" = -I ]; then echo 3.12.0; exit; fi\nsetsid sleep 1000 & echo child $!; wait\n";
        fs::write(dir.path().join("venv/bin/python"), script).unwrap();
        let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
        let installing = packages.install(request(&["numpy"]), move |line| {
            drop(sender.send(line.to_owned()));
        });
        let mut installing = Box::pin(installing);
        let child = loop {
            tokio::select! {
                line = lines.recv() => if let Some(pid) = line.unwrap().strip_prefix("child ") {
                    break pid.to_owned();
                },
                _ = &mut installing => panic!("it ended"),
            }
        };
        let process = PathBuf::from(format!("/proc/{child}"));
        assert!(process.exists());
        drop(installing);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while process.exists() {
            assert!(std::time::Instant::now() < deadline);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn disabled_is_refused_with_the_known_text() {
        let dir = tempfile::tempdir().unwrap();
        let packages = packages(dir.path(), PackageManager::Disabled, 0);
        let error = packages.install(request(&["numpy"]), |_| {}).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "Package installation has been disabled. Contact your administrator for more information."
        );
    }

    /// A wheel that holds one module, which has its version in it.
    fn make_wheel(dir: &Path, name: &str, version: &str) {
        const MAKE: &str = "
import sys, zipfile
place, name, version = sys.argv[1:]
info = f'{name}-{version}.dist-info'
with zipfile.ZipFile(f'{place}/{name}-{version}-py3-none-any.whl', 'w') as wheel:
    wheel.writestr(f'{name}.py', f'VERSION = {version!r}\\n')
    wheel.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n')
    wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(f'{info}/RECORD', '')
";
        let made = std::process::Command::new("python3")
            .args(["-c", MAKE])
            .arg(dir)
            .args([name, version])
            .status();
        assert!(made.unwrap().success());
    }

    /// The real pip, without a network: what was installed is listed, locked, and comes back from the lock file. An
    /// environment that was made where installing was disabled gets its pip then.
    #[tokio::test]
    async fn what_is_installed_is_listed_and_comes_back_from_the_lock_file() {
        let dir = tempfile::tempdir().unwrap();
        let wheels = dir.path().join("wheels");
        fs::create_dir(&wheels).unwrap();
        make_wheel(&wheels, "ebb_and_flow", "1.0");
        make_wheel(&wheels, "ebb_and_flow", "2.0");
        let packages_in = |plugin_dir: &Path| {
            let environment = PythonEnvironment::start(PythonConfig {
                plugin_dir: plugin_dir.to_owned(),
                virtual_env_location: None,
                package_manager: PackageManager::Disabled,
                user: None,
            });
            Packages::new(environment, PackageManager::Pip, plugin_dir.to_owned())
        };
        let offline = |wanted| InstallRequest {
            wanted,
            find_links: vec![wheels.display().to_string()],
            offline: true,
        };
        let versions = async |packages: &Packages| -> Vec<(String, String)> {
            let listed = packages.list().await.unwrap().into_iter();
            let ours = listed.filter(|package| package.requirement.is_some());
            ours.map(|package| (package.name, package.version)).collect()
        };
        let first = packages_in(&dir.path().join("first"));
        for wanted in ["ebb_and_flow==1.0", "ebb_and_flow"] {
            let wanted = Wanted::Packages(vec![wanted.to_owned()]);
            first.install(offline(wanted), |_| {}).await.unwrap();
        }
        assert_eq!(versions(&first).await, [("ebb_and_flow".into(), "1.0".into())]);
        let lock = dir.path().join("first/requirements.lock");
        assert!(
            fs::read_to_string(&lock)
                .unwrap()
                .ends_with("\nebb_and_flow==1.0\n")
        );

        let second = packages_in(&dir.path().join("second"));
        let locked = Wanted::Requirements(lock.display().to_string());
        second.install(offline(locked), |_| {}).await.unwrap();
        assert_eq!(versions(&second).await, versions(&first).await);

        // Directly from a file.
        let file = wheels
            .join("ebb_and_flow-2.0-py3-none-any.whl")
            .display()
            .to_string();
        second
            .install(offline(Wanted::Packages(vec![file.clone()])), |_| {})
            .await
            .unwrap();
        let text = fs::read_to_string(dir.path().join("second/requirements.lock")).unwrap();
        assert!(
            text.contains(&format!("\nebb_and_flow @ file://{file}")),
            "{text}"
        );
    }

    #[test]
    fn managers_are_parsed() {
        assert_eq!("uv".parse(), Ok(PackageManager::Uv));
        assert_eq!("disabled".parse(), Ok(PackageManager::Disabled));
        assert!("conda".parse::<PackageManager>().is_err());
    }
}
