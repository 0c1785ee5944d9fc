//! The virtual environment that workers run in: found, or made in the background while the server already serves.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};
use tokio::{process::Command, sync::watch, time::timeout};

use crate::{
    Need, PackageManager, PluginUser, PythonVersion,
    hint::PackageTool,
    python::{OLDEST, Probe, base_candidates, find_on_path, probe},
    tool::run_tool,
};

const CREATION_TIMEOUT: Duration = Duration::from_mins(5);

/// Where the environment is and what it needs.
#[derive(Debug, Clone)]
pub struct PythonConfig {
    /// The plugin directory; it need not exist yet.
    pub plugin_dir: PathBuf,
    /// The environment's place, where the operator has chosen one (`--virtual-env-location`).
    pub virtual_env_location: Option<PathBuf>,
    /// What packages are going to be installed with; decides whether an environment without pip will do.
    pub package_manager: PackageManager,
    /// Who all Python runs as; `None` for the server's own user.
    pub user: Option<Arc<PluginUser>>,
}

impl PythonConfig {
    /// The environment's directory: the chosen one, else an existing `.venv` or `venv` in the plugin directory, else
    /// `venv` there, which is to be made.
    pub fn virtual_env(&self) -> PathBuf {
        if let Some(location) = &self.virtual_env_location {
            return location.clone();
        }
        let hidden = self.plugin_dir.join(".venv");
        if has_interpreter(&hidden) {
            return hidden;
        }
        self.plugin_dir.join("venv")
    }
}

/// An interpreter that workers can be started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    /// `bin/python` of the environment.
    pub python: PathBuf,
    /// Its version.
    pub version: PythonVersion,
    /// The environment's directory.
    pub virtual_env: PathBuf,
}

/// Why there is no Python for plugins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {hint}")]
pub struct Unavailable {
    /// What is wrong.
    pub reason: String,
    /// What the operator can do about it.
    pub hint: String,
}

/// How far the environment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PythonStatus {
    /// Being looked for or made.
    Preparing,
    /// Workers can be started.
    Ready(Arc<Python>),
    /// There is none; the server runs without plugins until [`PythonEnvironment::prepare`] finds one.
    Unavailable(Arc<Unavailable>),
}

impl fmt::Display for PythonStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preparing => f.write_str("preparing the virtual environment"),
            Self::Ready(python) => write!(f, "Python {} in {}", python.version, python.virtual_env.display()),
            Self::Unavailable(unavailable) => unavailable.fmt(f),
        }
    }
}

/// The environment of all plugins of a server. Clones are handles to one.
#[derive(Debug, Clone)]
pub struct PythonEnvironment {
    config: Arc<PythonConfig>,
    status: watch::Sender<PythonStatus>,
}

impl PythonEnvironment {
    /// Begins to look for the environment, and to make it where there is none, in a background task.
    pub fn start(config: PythonConfig) -> Self {
        let environment = Self {
            config: Arc::new(config),
            status: watch::Sender::new(PythonStatus::Preparing),
        };
        environment.prepare_in_background();
        environment
    }

    /// Who all Python runs as; `None` for the server's own user.
    pub fn user(&self) -> Option<&Arc<PluginUser>> {
        self.config.user.as_ref()
    }

    /// How far it is now.
    pub fn status(&self) -> PythonStatus {
        self.status.borrow().clone()
    }

    /// To wait for changes of the status.
    pub fn changes(&self) -> watch::Receiver<PythonStatus> {
        self.status.subscribe()
    }

    /// Waits until the environment is there, or is known not to be.
    pub async fn ready(&self) -> Result<Arc<Python>, Arc<Unavailable>> {
        let mut changes = self.status.subscribe();
        let decided = changes
            .wait_for(|status| !matches!(status, PythonStatus::Preparing))
            .await;
        match decided.as_deref() {
            Ok(PythonStatus::Ready(python)) => Ok(Arc::clone(python)),
            Ok(PythonStatus::Unavailable(unavailable)) => Err(Arc::clone(unavailable)),
            // The sender is a field of `self`, so the channel is open.
            Ok(PythonStatus::Preparing) | Err(_) => unreachable!("the wait above ends with a decision"),
        }
    }

    /// Looks again, after the operator has installed what was missing. Does nothing unless there is no Python now.
    pub fn prepare(&self) {
        let begins = self.status.send_if_modified(|status| {
            let is_unavailable = matches!(status, PythonStatus::Unavailable(_));
            if is_unavailable {
                *status = PythonStatus::Preparing;
            }
            is_unavailable
        });
        if begins {
            self.prepare_in_background();
        }
    }

    fn prepare_in_background(&self) {
        let config = Arc::clone(&self.config);
        let status = self.status.clone();
        tokio::spawn(async move {
            let found = match prepare(&config).await {
                Ok(python) => {
                    tracing::info!(
                        version = %python.version,
                        virtual_env = %python.virtual_env.display(),
                        "python is ready for plugins"
                    );
                    PythonStatus::Ready(Arc::new(python))
                }
                Err(unavailable) => {
                    tracing::warn!(
                        reason = unavailable.reason,
                        hint = unavailable.hint,
                        "no python for plugins, triggers will not run"
                    );
                    PythonStatus::Unavailable(Arc::new(unavailable))
                }
            };
            status.send_replace(found);
        });
    }
}

async fn prepare(config: &PythonConfig) -> Result<Python, Unavailable> {
    let virtual_env = config.virtual_env();
    // Absolute, since workers and tools may run in another working directory.
    let virtual_env = std::path::absolute(&virtual_env).unwrap_or(virtual_env);
    let user = config.user.as_ref();
    if is_complete(&virtual_env) {
        return existing(virtual_env, user).await;
    }
    let creation = begin_creation(&virtual_env).await.map_err(|error| Unavailable {
        reason: format!(
            "cannot make a virtual environment in {}: {error}",
            virtual_env.display()
        ),
        hint: "make the directory writable, or choose another with --virtual-env-location".to_owned(),
    })?;
    // Another server with the same plugin directory may have made it while we waited for its lock.
    if is_complete(&virtual_env) {
        return existing(virtual_env, user).await;
    }
    create(&virtual_env, config.package_manager, user).await?;
    creation.complete();
    existing(virtual_env, user).await
}

fn interpreter_of(virtual_env: &Path) -> PathBuf {
    virtual_env.join("bin/python")
}

fn has_interpreter(virtual_env: &Path) -> bool {
    // A link to an interpreter that has since been removed counts: the environment is there, and is reported as broken.
    fs::symlink_metadata(interpreter_of(virtual_env)).is_ok()
}

fn is_complete(virtual_env: &Path) -> bool {
    has_interpreter(virtual_env) && !marker_of(virtual_env).exists()
}

async fn existing(virtual_env: PathBuf, user: Option<&Arc<PluginUser>>) -> Result<Python, Unavailable> {
    let python = interpreter_of(&virtual_env);
    if let Some(user) = user {
        let needs = [(virtual_env.clone(), Need::Enter), (python.clone(), Need::Enter)];
        user.check(&needs).map_err(|unreadable| Unavailable {
            reason: unreadable.to_string(),
            hint: format!(
                "or remove {} and restart to have it made for that user",
                virtual_env.display()
            ),
        })?;
    }
    let Probe { version, .. } = probe(&python, user).await.map_err(|error| Unavailable {
        reason: format!("the interpreter {} does not run: {error}", python.display()),
        hint: format!(
            "remove {} and restart to have it made anew",
            virtual_env.display()
        ),
    })?;
    if !version.is_supported() {
        return Err(Unavailable {
            reason: format!(
                "the virtual environment {} has Python {version}, plugins need {}.{} or later",
                virtual_env.display(),
                OLDEST.0,
                OLDEST.1
            ),
            hint: "choose another with --virtual-env-location, or remove it and restart".to_owned(),
        });
    }
    Ok(Python {
        python,
        version,
        virtual_env,
    })
}

/// A creation that is going on. While it is, and after it was interrupted, a marker file stands beside the
/// environment, locked by whoever creates: an environment that somebody else made, and that has no marker, is complete.
struct Creation {
    marker: PathBuf,
    _lock: fs::File,
}

impl Creation {
    fn complete(self) {
        if let Err(error) = fs::remove_file(&self.marker) {
            tracing::warn!(path = %self.marker.display(), %error, "cannot remove marker file");
        }
    }
}

/// A file beside the environment, not in it, since making it anew empties it.
fn marker_of(virtual_env: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(virtual_env.file_name().unwrap_or_default());
    name.push(".incomplete");
    virtual_env.with_file_name(name)
}

async fn begin_creation(virtual_env: &Path) -> io::Result<Creation> {
    let marker = marker_of(virtual_env);
    let locking = tokio::task::spawn_blocking(move || {
        if let Some(parent) = marker.parent() {
            fs::create_dir_all(parent)?;
        }
        let lock = fs::File::create(&marker)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Creation { marker, _lock: lock })
    });
    locking.await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

/// How the environment is going to be made.
#[derive(Debug, PartialEq, Eq)]
struct Base {
    python: PathBuf,
    version: PythonVersion,
    has_venv: bool,
}

/// The best interpreter to make an environment from.
async fn choose_base(
    candidates: &[PathBuf],
    needs_pip: bool,
    user: Option<&Arc<PluginUser>>,
) -> Result<Base, Unavailable> {
    let mut best_failure: Option<(u8, String, &str)> = None;
    for python in candidates {
        let failure = match probe(python, user).await {
            Ok(Probe { version, .. }) if !version.is_supported() => {
                let reason = format!(
                    "{} is Python {version}, plugins need {}.{} or later",
                    python.display(),
                    OLDEST.0,
                    OLDEST.1
                );
                (1, reason, PackageTool::detect().python_hint())
            }
            Ok(Probe {
                version,
                has_venv: false,
            }) if needs_pip => {
                let reason = format!(
                    "{} (Python {version}) has no venv and ensurepip modules, which a virtual environment is made with",
                    python.display()
                );
                (2, reason, PackageTool::detect().venv_hint())
            }
            Ok(Probe { version, has_venv }) => {
                return Ok(Base {
                    python: python.clone(),
                    version,
                    has_venv,
                });
            }
            Err(error) => {
                let reason = format!("{} does not run: {error}", python.display());
                (0, reason, PackageTool::detect().python_hint())
            }
        };
        if best_failure.as_ref().is_none_or(|(rank, ..)| *rank < failure.0) {
            best_failure = Some(failure);
        }
    }
    let (_, reason, hint) = best_failure.unwrap_or_else(|| {
        let reason = "python3 was not found on the search path".to_owned();
        (0, reason, PackageTool::detect().python_hint())
    });
    Err(Unavailable {
        reason,
        hint: hint.to_owned(),
    })
}

async fn create(
    virtual_env: &Path,
    package_manager: PackageManager,
    user: Option<&Arc<PluginUser>>,
) -> Result<(), Unavailable> {
    let needs_pip = match package_manager {
        PackageManager::Pip => true,
        // uv installs into an environment from outside.
        PackageManager::Discover | PackageManager::Uv => find_on_path("uv").is_none(),
        PackageManager::Disabled => false,
    };
    let base = choose_base(&base_candidates(), needs_pip, user).await?;
    if let Some(user) = user {
        give(virtual_env, user).map_err(|error| Unavailable {
            reason: format!(
                "cannot give {} to the user {}: {error}",
                virtual_env.display(),
                user.name()
            ),
            hint: "choose another place with --virtual-env-location".to_owned(),
        })?;
    }
    tracing::info!(
        virtual_env = %virtual_env.display(),
        python = %base.python.display(),
        version = %base.version,
        "creating virtual environment"
    );
    let started = Instant::now();
    let mut command = Command::new(&base.python);
    command
        .args(["-I", "-m", "venv", "--clear"])
        .env_remove("PYTHONHOME");
    // Where nothing will be installed the seconds for installing pip are saved.
    if !base.has_venv || package_manager == PackageManager::Disabled {
        command.arg("--without-pip");
    }
    command.arg(virtual_env);
    let mut log = |line: &str| tracing::debug!(line, "venv");
    let failure = match timeout(CREATION_TIMEOUT, run_tool(command, user.cloned(), &mut log)).await {
        Ok(Ok(run)) if run.status.success() => {
            tracing::info!(
                elapsed_ms = started.elapsed().as_millis(),
                "virtual environment created"
            );
            return Ok(());
        }
        Ok(Ok(run)) => format!("{}: {}", run.status, run.output),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("not done after {} s", CREATION_TIMEOUT.as_secs()),
    };
    Err(Unavailable {
        reason: format!(
            "making the virtual environment {} failed: {failure}",
            virtual_env.display()
        ),
        hint: PackageTool::detect().venv_hint().to_owned(),
    })
}

/// Makes the directory of the environment, for a user that may not make it beside the plugins.
fn give(virtual_env: &Path, user: &PluginUser) -> io::Result<()> {
    fs::create_dir_all(virtual_env)?;
    user.own(virtual_env)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config(plugin_dir: &Path) -> PythonConfig {
        PythonConfig {
            plugin_dir: plugin_dir.to_owned(),
            virtual_env_location: None,
            package_manager: PackageManager::Disabled,
            user: None,
        }
    }

    fn script(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn fake_python(path: &Path, version: &str, has_venv: &str) {
        script(path, &format!("#!/bin/sh\necho {version}\necho {has_venv}\n"));
    }

    #[test]
    fn an_existing_hidden_environment_is_preferred() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        assert_eq!(config.virtual_env(), dir.path().join("venv"));
        fake_python(&dir.path().join(".venv/bin/python"), "3.12.1", "yes");
        assert_eq!(config.virtual_env(), dir.path().join(".venv"));
        config.virtual_env_location = Some("/elsewhere".into());
        assert_eq!(config.virtual_env(), Path::new("/elsewhere"));
    }

    #[tokio::test]
    async fn one_is_made_where_there_is_none_and_made_anew_when_that_was_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let plugin_dir = dir.path().join("plugins");
        let environment = PythonEnvironment::start(config(&plugin_dir));
        let python = environment.ready().await.unwrap();
        assert_eq!(python.python, plugin_dir.join("venv/bin/python"));
        assert!(python.version.is_supported());
        assert!(matches!(environment.status(), PythonStatus::Ready(_)));
        let names: Vec<_> = fs::read_dir(&plugin_dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["venv"], "no marker is left");

        // As a crash leaves it.
        fs::write(plugin_dir.join(".venv.incomplete"), "").unwrap();
        fs::rename(
            plugin_dir.join(".venv.incomplete"),
            marker_of(&plugin_dir.join("venv")),
        )
        .unwrap();
        fs::write(plugin_dir.join("venv/half-written"), "").unwrap();
        let environment = PythonEnvironment::start(config(&plugin_dir));
        environment.ready().await.unwrap();
        assert!(!plugin_dir.join("venv/half-written").exists());
        assert!(!marker_of(&plugin_dir.join("venv")).exists());
    }

    #[tokio::test]
    async fn an_existing_one_is_used_as_it_is_or_reported() {
        let dir = tempfile::tempdir().unwrap();
        let python = dir.path().join("venv/bin/python");
        fake_python(&python, "3.13.2", "no");
        let environment = PythonEnvironment::start(config(dir.path()));
        let found = environment.ready().await.unwrap();
        assert_eq!(found.version.to_string(), "3.13.2");

        fake_python(&python, "3.8.10", "no");
        let environment = PythonEnvironment::start(config(dir.path()));
        let unavailable = environment.ready().await.unwrap_err();
        assert!(unavailable.reason.contains("has Python 3.8.10"), "{unavailable}");

        // Looking again finds what has been repaired.
        fake_python(&python, "3.10.0", "no");
        environment.prepare();
        assert_eq!(environment.ready().await.unwrap().version.minor, 10);

        fs::remove_file(&python).unwrap();
        std::os::unix::fs::symlink("/nonexistent", &python).unwrap();
        let environment = PythonEnvironment::start(config(dir.path()));
        let unavailable = environment.ready().await.unwrap_err();
        assert!(unavailable.reason.contains("does not run"), "{unavailable}");
        assert!(unavailable.hint.contains("remove"), "{unavailable}");
    }

    #[tokio::test]
    async fn the_reason_names_what_came_closest() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old");
        let bare = dir.path().join("bare");
        let good = dir.path().join("good");
        fake_python(&old, "3.9.2", "yes");
        fake_python(&bare, "3.11.2", "no");
        fake_python(&good, "3.12.3", "yes");

        let unavailable = choose_base(&[], true, None).await.unwrap_err();
        assert!(unavailable.reason.contains("not found"), "{unavailable}");
        let unavailable = choose_base(std::slice::from_ref(&old), true, None)
            .await
            .unwrap_err();
        assert!(unavailable.reason.contains("is Python 3.9.2"), "{unavailable}");
        let unavailable = choose_base(&[old.clone(), bare.clone()], true, None)
            .await
            .unwrap_err();
        assert!(unavailable.reason.contains("has no venv"), "{unavailable}");
        let base = choose_base(&[old.clone(), bare.clone()], false, None)
            .await
            .unwrap();
        assert_eq!(base.python, bare);
        let base = choose_base(&[old, bare, good.clone()], true, None).await.unwrap();
        assert_eq!(base.python, good);
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let environment = PythonEnvironment::start(config(&file));
        let unavailable = environment.ready().await.unwrap_err();
        assert!(unavailable.reason.contains("cannot make"), "{unavailable}");
        assert!(
            unavailable.hint.contains("--virtual-env-location"),
            "{unavailable}"
        );
    }
}
