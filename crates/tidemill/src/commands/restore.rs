//! `restore`: from a backup into the place of a node whose server does not run.

use clap::Args;
use tidemill_backup::{BackupIndex, Progress, ReadableBytes, restore};
use tidemill_object_stores::open;

use super::backup::in_words;
use super::backup_place::PlaceName;
use super::storage_args::StorageArgs;
use super::verify::check_node;
use crate::failure::CommandError;
use crate::progress_line::ProgressLine;
use crate::{environment, print};

const AFTER_HELP: &str = "\
The node may have another name than the one that the backup is of; it must not have any data yet. Every object is checked
against its checksum on the way, and then the node as a whole, as `tidemill verify` does. A server does not start on a node
whose restore was not finished: remove that, and restore again.

The server then answers as the one that was backed up did, and triggers go on where they were: put their plugins where
--plugin-dir says before it starts. While the first server still runs, both would process the same rows: disable the triggers
of one.

Examples:
  tidemill restore /backups/2026-01-31 --node-id node0 --data-dir ./data
  tidemill restore s3://bucket/tidemill/2026-01-31 --node-id copy --data-dir ./copy
  tidemill restore /backups/2026-01-31 --node-id node0 --object-store s3 --bucket data";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct RestoreArgs {
    /// The backup: a directory, or a URL that begins with file, s3, gs or az
    #[arg(value_name = "DIR|URL")]
    place: PlaceName,

    /// Name that the node will have
    #[arg(long, env = environment::NODE_ID, value_name = "PREFIX")]
    node_id: String,

    /// Say nothing about how far it is
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    storage: StorageArgs,
}

impl RestoreArgs {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        let place = self.place.find(self.storage.remote())?;
        // Before a directory is created for the node.
        place.index().await?;
        let config = self.storage.config()?;
        let opened = open(&config).map_err(|error| CommandError::message(error.to_string()))?;
        let store = opened.objects;
        let mut line = ProgressLine::new(self.quiet);
        let on_progress = |progress: Progress| line.show(|| in_words("restored", progress));
        let is_quiet = self.quiet;
        let check = async |index: &BackupIndex| {
            let report = check_node(&store, &self.node_id, config.data_dir().is_some(), is_quiet).await;
            let report = report.map_err(|error| error.to_string())?;
            if let Some(damage) = report.damages.first() {
                return Err(format!("{}: {}", damage.object, damage.reason));
            }
            let last = report.log.last.max(report.log.snapshot);
            if last != index.head.log_last {
                let expected = index.head.log_last;
                return Err(format!("its log ends with record {last} instead of {expected}"));
            }
            Ok(())
        };
        let restored = restore(&place, store.clone(), &self.node_id, on_progress, check).await?;
        line.clear();
        print::line(&format!(
            "node '{}' in {config} is as node '{}' was at {}: {} objects with {} were copied and checked",
            self.node_id,
            restored.index.head.node_id,
            restored.index.created,
            restored.copied.objects,
            ReadableBytes(restored.copied.bytes),
        ))
    }
}
