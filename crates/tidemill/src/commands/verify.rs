//! `verify`: reads everything back that a node has stored.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use object_store::ObjectStore;
use tidemill_backup::ReadableBytes;
use tidemill_backup::verify::{FolderCheck, VerifyConfig, VerifyError, VerifyReport, Words, verify};
use tidemill_engine::stored_folders;
use tidemill_object_stores::open;

use super::storage_args::StorageArgs;
use crate::failure::CommandError;
use crate::progress_line::ProgressLine;
use crate::{environment, print};

const AFTER_HELP: &str = "\
Reads the catalog, the manifest, every record of the log, every row of every Parquet file, how far triggers have read, dead
letters, and what plugins logged; and checks checksums, lengths, counts, times and order, that nothing is missing and that
nothing contradicts anything else. Then it says what is damaged, which rows that affects, and what is safe. It changes nothing,
and may run beside the server. It ends with 0 where nothing is damaged and with 1 where something is.

Examples:
  tidemill verify --node-id node0 --data-dir ./data
  tidemill verify --node-id node0 --object-store s3 --bucket data --format json";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// Words to read
    Text,
    /// One JSON object
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct VerifyArgs {
    /// Name of the node
    #[arg(long, env = environment::NODE_ID, value_name = "PREFIX")]
    node_id: String,

    /// Form of the report
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    format: ReportFormat,

    /// Say nothing about how far it is
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    storage: StorageArgs,
}

impl VerifyArgs {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        let config = self.storage.config()?;
        if let Some(data_dir) = config.data_dir()
            && !data_dir.is_dir()
        {
            return Err(CommandError::message(format!(
                "there is no directory {}",
                data_dir.display()
            )));
        }
        let opened = open(&config).map_err(|error| CommandError::message(error.to_string()))?;
        let in_files = config.data_dir().is_some();
        let report = check_node(&opened.objects, &self.node_id, in_files, self.quiet).await?;
        match self.format {
            ReportFormat::Text => print::line(&Words(&report).to_string())?,
            ReportFormat::Json => {
                let json = serde_json::to_string_pretty(&report);
                print::line(&json.expect("names, numbers and texts are JSON"))?;
            }
        }
        match report.damages.len() {
            0 => Ok(()),
            1 => Err(CommandError::message("something is damaged")),
            count => Err(CommandError::message(format!("{count} things are damaged"))),
        }
    }
}

/// Reads back what a node has stored. `in_files`: it is in local files.
pub(super) async fn check_node(
    objects: &Arc<dyn ObjectStore>,
    node_id: &str,
    in_files: bool,
    is_quiet: bool,
) -> Result<VerifyReport, VerifyError> {
    let folders = stored_folders().map(|folder| FolderCheck {
        name: folder.name,
        content: folder.content,
        consequence: folder.consequence,
        check: folder.check,
    });
    let config = VerifyConfig {
        log_in_files: in_files,
        check_progress: |bytes| tidemill_ingest::check_progress(bytes).map_err(|error| error.to_string()),
        folders: folders.into(),
        other_names: vec!["lease".to_owned(), tidemill_backup::RESTORE_MARK.to_owned()],
    };
    let mut line = ProgressLine::new(is_quiet);
    let mut on_progress = |report: &VerifyReport| {
        line.show(|| {
            format!(
                "{} in {} objects read",
                ReadableBytes(report.bytes),
                report.objects
            )
        });
    };
    verify(Arc::clone(objects), node_id, &config, &mut on_progress).await
}
