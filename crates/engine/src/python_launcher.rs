//! Workers in the server's virtual environment.

use std::path::PathBuf;
use std::sync::{Arc, Once};

use async_trait::async_trait;
use tidemill_worker::{
    EnvironmentOptions, PythonEnvironment, PythonStatus, SandboxProfile, Worker, WorkerCommand, WorkerEvents,
    extension_path, worker_environment,
};
use tracing::{info, warn};

use crate::launcher::{LaunchError, Launcher, WorkerHandle};
use crate::memory_limit::MemoryLimit;

/// Starts workers with the interpreter of the virtual environment.
pub(crate) struct PythonLauncher {
    environment: Option<PythonEnvironment>,
    plugin_dir: PathBuf,
    /// Variables that are passed although the server reads credentials from them.
    passed_variables: Vec<String>,
    /// What a worker takes from itself.
    sandbox: SandboxProfile,
    /// What has become of it is the same for all workers, and said once.
    sandbox_reported: Once,
}

impl PythonLauncher {
    /// `environment` is `None` where the server has no plugin directory.
    pub(crate) fn new(
        environment: Option<PythonEnvironment>,
        plugin_dir: Option<PathBuf>,
        passed_variables: Vec<String>,
        sandbox: SandboxProfile,
    ) -> Self {
        // Plugins look for files by this path, wherever they have changed to.
        let plugin_dir = plugin_dir
            .map(|dir| std::path::absolute(&dir).unwrap_or(dir))
            .unwrap_or_default();
        Self {
            environment,
            plugin_dir,
            passed_variables,
            sandbox,
            sandbox_reported: Once::new(),
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
        });
        let mut command = WorkerCommand::new(python.python.clone(), extension, variables, label);
        command.sandbox = SandboxProfile {
            memory_limit_bytes: memory_limit.bytes_max,
            ..self.sandbox.clone()
        };
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
        // An environment that will never change again will never be there.
        if changes
            .wait_for(|status| matches!(status, PythonStatus::Ready(_)))
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}
