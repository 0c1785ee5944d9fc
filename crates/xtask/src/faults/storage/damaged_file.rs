//! Data files that somebody has damaged: whoever asks for them is told which, everything else is answered, and nothing false is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tidemill_write_model::{Writer, points_sql};

use super::check;
use super::site::{DATABASE, Site, TABLE};
use crate::api::{Api, query_request};
use crate::failure::{During, Failure};
use crate::faults::finding::Finding;
use crate::storage::{DataFiles, flags, until_compacted};

const WRITERS: u32 = 2;
const BATCH_ROWS: u64 = 500;
const BATCHES: u64 = 40;
const OTHER: &str = "other";
const OTHER_ROWS: u64 = 100;
const TENTHS: usize = 10;
const FLIPPED_BYTES: usize = 64;
const LIMIT: Duration = Duration::from_mins(1);

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Some bytes, so many tenths into it.
    Flipped(usize),
    /// Its second half is gone.
    Cut,
    /// It is gone.
    Removed,
}

pub(super) async fn run(site: &mut Site, finding: &mut Finding) -> Result<(), Failure> {
    site.start(flags::eager_snapshots()).await?;
    site.make_table().await?;
    let mut api = site.api()?;
    for number in 0..OTHER_ROWS {
        let time_s = 1_767_225_600 + number;
        let line = format!("{OTHER},host=a number={number}i {time_s}000000000");
        api.write(DATABASE, &line).await?;
    }
    let clients = site.write((0..WRITERS).map(Writer::new).collect(), BATCH_ROWS)?;
    clients.until_acknowledged(BATCHES, LIMIT).await;
    let account = clients.finish().await?;
    // The row that made the table counts too.
    let rows = account.writers.iter().map(Writer::points).sum::<u64>() + 1 + OTHER_ROWS;
    let (_, files) = until_compacted(&mut api, site.pid()?, DATABASE, rows, LIMIT).await?;
    let victim = largest(&files, &site.data_dir())?;
    let whole = fs::read(&victim).during(format!("cannot read {}", victim.display()))?;
    let flips = (1..TENTHS).map(Damage::Flipped);
    for damage in flips.chain([Damage::Cut, Damage::Removed]) {
        site.stop().await?;
        damage.inflict(&victim, &whole)?;
        site.start(Vec::new()).await?;
        require_told(&mut site.api()?, finding, damage, &victim, &account.writers).await?;
        site.stop().await?;
        fs::write(&victim, &whole).during(format!("cannot write {}", victim.display()))?;
        site.start(Vec::new()).await?;
        let when = format!("{damage:?} and restored");
        check::require_digests(&mut site.api()?, finding, &account.writers, &when).await?;
    }
    if finding.violations().is_empty() {
        finding.tell(
            "bytes flipped in nine places, cut, removed: each time the server starts, what is answered is right, any other query \
             names the file, and other tables are answered; with the file restored every answer is right",
        );
    }
    Ok(())
}

/// The largest file of the table, where it lies.
fn largest(files: &DataFiles, data_dir: &Path) -> Result<PathBuf, Failure> {
    let of_table = files.iter().filter(|(_, file)| file.table == TABLE);
    let (path, _) = of_table
        .max_by_key(|(_, file)| file.size_bytes)
        .ok_or_else(|| Failure::new(format!("no file has rows of {TABLE}")))?;
    let place = data_dir.join(path.trim_start_matches('/'));
    if place.is_file() {
        return Ok(place);
    }
    Err(Failure::new(format!(
        "{path} of system.parquet_files is not in {}",
        data_dir.display()
    )))
}

impl Damage {
    /// Whether its error is worth a place in the table: those of flipped bytes are much alike.
    fn is_exemplary(self) -> bool {
        !matches!(self, Damage::Flipped(2..))
    }

    fn inflict(self, path: &Path, whole: &[u8]) -> Result<(), Failure> {
        let outcome = match self {
            Damage::Flipped(tenths) => {
                let mut flipped = whole.to_vec();
                let start = whole.len() * tenths / TENTHS;
                for byte in flipped[start..].iter_mut().take(FLIPPED_BYTES) {
                    *byte = !*byte;
                }
                fs::write(path, flipped)
            }
            Damage::Cut => fs::write(path, &whole[..whole.len() / 2]),
            Damage::Removed => fs::remove_file(path),
        };
        outcome.during(format!("cannot damage {}", path.display()))
    }
}

/// Requires that whoever reads what is damaged is told so, that nothing false is answered, and that other tables are.
async fn require_told(
    api: &mut Api,
    finding: &mut Finding,
    damage: Damage,
    victim: &Path,
    writers: &[Writer],
) -> Result<(), Failure> {
    let name = victim
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut was_told = false;
    for writer in writers {
        for part in writer.parts() {
            let sql = points_sql(TABLE, writer.id(), &part);
            let answer = api
                .exchange(&query_request(api.endpoint(), DATABASE, &sql))
                .await?;
            if answer.is_success() {
                let found: Vec<Value> =
                    serde_json::from_slice(&answer.body).during("cannot read an answer")?;
                finding.require(
                    found == writer.rows(&part),
                    format!("{damage:?}: points that are not those that were written are answered"),
                );
                continue;
            }
            let text = answer.text();
            finding.require(
                text.contains(&name),
                format!(
                    "{damage:?}: the error does not name {name}: {}: {text}",
                    answer.status
                ),
            );
            if !was_told && damage.is_exemplary() {
                finding.tell(format!("{damage:?}: {}: {}", answer.status, text.trim()));
            }
            was_told = true;
        }
    }
    // Some flipped bytes are in what need not be read.
    finding.require(
        was_told || matches!(damage, Damage::Flipped(_)),
        format!("{damage:?}: every point is answered as if nothing had happened"),
    );
    let counted = format!("SELECT count(*) AS n FROM {OTHER}");
    let rows = api.query(DATABASE, &counted).await?;
    let found = rows.first().and_then(|row| row.get("n")?.as_u64());
    finding.require(
        found == Some(OTHER_ROWS),
        format!("{damage:?}: another table has {found:?} rows of {OTHER_ROWS}"),
    );
    Ok(())
}
