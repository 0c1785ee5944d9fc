//! `install package`

use clap::{Args, Subcommand};
use tidemill_client::{Install, Wanted};

use crate::{connection::Connection, failure::CommandError, print};

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
  tidemill install package --requirements /srv/plugins/requirements.txt
  tidemill install package --offline --find-links /srv/wheels my-package";

#[derive(Debug, Args)]
#[command(after_help = PACKAGE_HELP)]
pub(crate) struct PackageArgs {
    /// Packages, with or without a version
    #[arg(value_name = "PACKAGE", required_unless_present = "requirements")]
    packages: Vec<String>,

    /// Requirements file on the server, or its URL
    #[arg(short, long, value_name = "PATH", conflicts_with = "packages")]
    requirements: Option<String>,

    /// Directory on the server, or URL of a page, to look for packages in; may be repeated
    #[arg(short, long, value_name = "DIR|URL")]
    find_links: Vec<String>,

    /// Ask no package index: take packages from --find-links alone
    #[arg(long, visible_alias = "no-index")]
    offline: bool,

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
        let install = Install {
            wanted: match self.requirements {
                Some(location) => Wanted::Requirements(location),
                None => Wanted::Packages(self.packages),
            },
            find_links: self.find_links,
            offline: self.offline,
        };
        Ok(client.install(&install, print::error).await?)
    }
}
