//! `install package`

use clap::{Args, Subcommand};

use crate::{connection::Connection, failure::CommandError};

#[derive(Debug, Subcommand)]
pub(crate) enum InstallCommand {
    /// Install Python packages into the environment of the server's plugins
    Package(PackageArgs),
}

impl InstallCommand {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        let Self::Package(args) = self;
        args.run().await
    }
}

const PACKAGE_HELP: &str = "\
Examples:
  tidemill install package psutil
  tidemill install package 'pandas==2.3.*' requests
  tidemill install package --requirements /srv/plugins/requirements.txt";

#[derive(Debug, Args)]
#[command(after_help = PACKAGE_HELP)]
pub(crate) struct PackageArgs {
    /// Packages, with or without a version
    #[arg(value_name = "PACKAGE", required_unless_present = "requirements")]
    packages: Vec<String>,

    /// Requirements file on the server, or its URL
    #[arg(short, long, value_name = "PATH", conflicts_with = "packages")]
    requirements: Option<String>,

    #[command(flatten)]
    connection: Connection,

    /// Options of `serve`, taken by existing scripts along; the server has its own
    #[command(flatten)]
    unused: ServeOptions,
}

#[derive(Debug, Args)]
struct ServeOptions {
    #[arg(long, hide = true)]
    plugin_dir: Option<String>,
    #[arg(long, hide = true)]
    virtual_env_location: Option<String>,
    #[arg(long, hide = true)]
    package_manager: Option<String>,
    #[arg(long, hide = true)]
    plugin_repo: Option<String>,
}

impl PackageArgs {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        match self.requirements {
            Some(location) => client.install_requirements(&location).await?,
            None => client.install_packages(&self.packages).await?,
        }
        Ok(())
    }
}
