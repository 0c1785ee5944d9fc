//! `backup`: everything that a server stores, into a directory or a bucket, while the server works on.

use std::collections::BTreeMap;

use clap::Args;
use tidemill_backup::{BackupIndex, Progress, ReadableBytes, import};
use tidemill_client::{ClientError, QueryAnswer};

use super::backup_place::PlaceName;
use super::storage_args::RemoteArgs;
use crate::connection::Connection;
use crate::failure::CommandError;
use crate::print;
use crate::progress_line::ProgressLine;

const AFTER_HELP: &str = "\
The server works on meanwhile. Whatever it had answered before the command began is in the backup: rows, names, triggers with
their state and how far they have read, dead letters, and what plugins logged. Files of plugins are not: keep a copy of the
plugin directory too.

A backup is a folder of its own, which must not exist yet or be empty. It ends with the file backup.json; without that it was
not finished, and is of no use. On a URL the options for S3, Google and Azure, or their variables, say who you are.

Examples:
  tidemill backup /backups/2026-01-31
  tidemill backup s3://bucket/tidemill/2026-01-31 --aws-default-region eu-central-1
  tidemill backup ./copy --host http://db.example:8181 --quiet
  tidemill restore /backups/2026-01-31 --node-id node0 --data-dir ./data";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct BackupArgs {
    /// Where the backup goes: a directory, or a URL that begins with file, s3, gs or az
    #[arg(value_name = "DIR|URL")]
    place: PlaceName,

    /// Say nothing about how far it is
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    connection: Connection,

    #[command(flatten)]
    remote: RemoteArgs,
}

impl BackupArgs {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        let place = self.place.create(&self.remote)?;
        // Before the server is asked: it makes a snapshot first.
        place.expect_empty().await?;
        let answer = self.connection.client()?.backup().await?;
        let mut line = ProgressLine::new(self.quiet);
        let on_progress = |progress: Progress| line.show(|| in_words("written", progress));
        let index = import(chunks(answer), &place, on_progress).await?;
        line.clear();
        print::line(&summary(&index, &place.to_string()))
    }
}

fn chunks(answer: QueryAnswer) -> impl futures::Stream<Item = Result<bytes::Bytes, ClientError>> {
    futures::stream::try_unfold(answer, async |mut answer| {
        let chunk = answer.chunk().await?;
        Ok(chunk.map(|chunk| (chunk, answer)))
    })
}

/// How far a copy is.
pub(crate) fn in_words(done: &str, progress: Progress) -> String {
    let (bytes, objects) = (progress.done.bytes, progress.done.objects);
    let expected = progress.bytes_expected.max(bytes);
    format!(
        "{} of about {} {done}, {objects} objects",
        ReadableBytes(bytes),
        ReadableBytes(expected)
    )
}

fn summary(index: &BackupIndex, place: &str) -> String {
    // By the first part of the path, which is what an object belongs to.
    let mut folders: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for object in &index.objects {
        let folder = object
            .path
            .split_once('/')
            .map_or(&*object.path, |(folder, _)| folder);
        let (objects, bytes) = folders.entry(folder).or_default();
        *objects += 1;
        *bytes += object.bytes;
    }
    let mut lines = vec![format!(
        "{place} holds node '{}' as of {}: {} objects with {}",
        index.head.node_id,
        index.created,
        index.object_count,
        ReadableBytes(index.byte_count)
    )];
    let width = folders.keys().map(|folder| folder.len()).max().unwrap_or(0);
    for (folder, (objects, bytes)) in folders {
        let bytes = ReadableBytes(bytes).to_string();
        lines.push(format!("  {folder:<width$}  {objects:>8} objects  {bytes:>10}"));
    }
    lines.join("\n")
}
