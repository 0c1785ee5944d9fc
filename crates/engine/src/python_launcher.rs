//! Workers in the server's virtual environment.

use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use tidemill_worker::{
    EnvironmentOptions, PluginUser, PythonEnvironment, PythonStatus, SandboxProfile, Worker, WorkerCommand,
    WorkerEvents, extension_path, worker_environment,
};
use tracing::{info, warn};

use crate::launcher::{LaunchError, Launcher, WorkerHandle};
use crate::memory_limit::MemoryLimit;

/// How often somebody looks for Python while there is none; clients are told to come back then.
pub(crate) const PYTHON_LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// Starts workers with the interpreter of the virtual environment.
pub(crate) struct PythonLauncher {
    environment: Option<PythonEnvironment>,
    plugin_dir: PathBuf,
    /// Variables that are passed although the server reads credentials from them.
    passed_variables: Vec<String>,
    /// What a worker takes from itself.
    sandbox: SandboxProfile,
    /// Who a worker runs as; `None` for the server's own user.
    user: Option<Arc<PluginUser>>,
    /// What has become of it is the same for all workers, and said once.
    sandbox_reported: Once,
    look_interval: Duration,
    /// When Python was looked for last because there was none: all triggers that wait for it share one look.
    looked: Mutex<Instant>,
}

impl PythonLauncher {
    /// `environment` is `None` where the server has no plugin directory.
    pub(crate) fn new(
        environment: Option<PythonEnvironment>,
        plugin_dir: Option<PathBuf>,
        passed_variables: Vec<String>,
        sandbox: SandboxProfile,
        user: Option<Arc<PluginUser>>,
    ) -> Self {
        // Plugins look for files by this path, wherever they have changed to.
        let plugin_dir = plugin_dir
            .map(|dir| std::path::absolute(&dir).unwrap_or(dir))
            .unwrap_or_default();
        Self {
            environment,
            plugin_dir,
            passed_variables,
            sandbox: SandboxProfile {
                uid: user.as_ref().map(|user| user.uid()),
                ..sandbox
            },
            user,
            sandbox_reported: Once::new(),
            look_interval: PYTHON_LOOK_INTERVAL,
            looked: Mutex::new(Instant::now()),
        }
    }

    /// Looks for Python, unless somebody has just done so.
    fn look_again(&self, environment: &PythonEnvironment) {
        let mut looked = self.looked.lock();
        if looked.elapsed() >= self.look_interval {
            *looked = Instant::now();
            environment.prepare();
        }
    }

    fn report_sandbox(&self, worker: &Worker) {
        self.sandbox_reported.call_once(|| {
            let applied = worker.sandbox();
            info!(level = %self.sandbox.level, "sandbox of plugins: {applied}");
            for shortfall in applied.shortfalls() {
                warn!(
                    reason = shortfall.note,
                    "the sandbox of plugins lacks {}",
                    shortfall.measure.name()
                );
            }
        });
    }
}

#[async_trait]
impl Launcher for PythonLauncher {
    async fn decided(&self) {
        if let Some(environment) = &self.environment {
            // What it is that was decided, the launch says.
            let _ = environment.ready().await;
        }
    }

    async fn launch(
        &self,
        label: &str,
        memory_limit: MemoryLimit,
        events: Arc<dyn WorkerEvents>,
    ) -> Result<Arc<dyn WorkerHandle>, LaunchError> {
        let Some(environment) = &self.environment else {
            let reason = "the server has no plugin directory; start it with --plugin-dir";
            return Err(LaunchError::PythonUnavailable(reason.to_owned()));
        };
        // Without effect unless there was none: then the operator may have installed it meanwhile.
        environment.prepare();
        let python = match environment.ready().await {
            Ok(python) => python,
            Err(unavailable) => return Err(LaunchError::PythonUnavailable(unavailable.to_string())),
        };
        let extension = extension_path().map_err(|error| LaunchError::Failed(error.to_string()))?;
        let variables = worker_environment(&EnvironmentOptions {
            virtual_env: python.virtual_env.clone(),
            plugin_dir: self.plugin_dir.clone(),
            passed: self.passed_variables.clone(),
            user: self.user.clone(),
        });
        let mut command = WorkerCommand::new(python.python.clone(), extension, variables, label);
        command.sandbox = SandboxProfile {
            memory_limit_bytes: memory_limit.bytes_max,
            ..self.sandbox.clone()
        };
        command.user = self.user.clone();
        match Worker::start(command, events).await {
            Ok(worker) => {
                self.report_sandbox(&worker);
                Ok(Arc::new(worker))
            }
            Err(error) => Err(LaunchError::Failed(error.to_string())),
        }
    }

    async fn available(&self) {
        let Some(environment) = &self.environment else {
            return std::future::pending().await;
        };
        let mut changes = environment.changes();
        loop {
            let is_there = changes.wait_for(|status| matches!(status, PythonStatus::Ready(_)));
            let seen = tokio::time::timeout(self.look_interval, is_there).await;
            // Without what was seen, which is locked.
            match seen.map(|status| status.map(|_| ())) {
                Ok(Ok(())) => return,
                // An environment that will never change again will never be there.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => self.look_again(environment),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use tidemill_worker::{PackageManager, PythonConfig};

    use super::*;

    #[tokio::test]
    async fn python_that_is_installed_later_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let virtual_env = dir.path().join("venv");
        std::fs::create_dir_all(virtual_env.join("bin")).unwrap();
        let python = virtual_env.join("bin/python");
        symlink("/nowhere/python3", &python).unwrap();
        let environment = PythonEnvironment::start(PythonConfig {
            plugin_dir: dir.path().to_owned(),
            virtual_env_location: Some(virtual_env),
            package_manager: PackageManager::Disabled,
            user: None,
        });
        let mut launcher = PythonLauncher::new(
            Some(environment.clone()),
            None,
            vec![],
            SandboxProfile::default(),
            None,
        );
        launcher.look_interval = Duration::from_millis(20);
        environment.ready().await.unwrap_err();
        let waiting = tokio::spawn(async move { launcher.available().await });
        let installed = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output();
        let installed = String::from_utf8(installed.expect("python3 is on the path").stdout).unwrap();
        std::fs::remove_file(&python).unwrap();
        symlink(installed.trim(), &python).unwrap();
        let noticed = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        noticed.expect("nobody has to say that it is there").unwrap();
        environment.ready().await.unwrap();
    }
}
