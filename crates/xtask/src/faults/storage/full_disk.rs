//! A disk that fills up under load and is enlarged again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tidemill_write_model::Writer;

use super::check;
use super::site::Site;
use crate::failure::{During, Failure};
use crate::faults::finding::{Finding, seconds};
use crate::storage::flags;

const SIZE: &str = "24m";
const ENLARGED: &str = "256m";
const WRITERS: u32 = 4;
const BATCH_ROWS: u64 = 1_000;
const FULL_LIMIT: Duration = Duration::from_mins(2);
/// The server writes by itself again when there is room.
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);
const BATCHES_AFTERWARDS: u64 = 40;

pub(super) async fn run(site: &mut Site, finding: &mut Finding) -> Result<(), Failure> {
    let mounted = match Mounted::tmpfs(site.directory().join("disk")) {
        Ok(mounted) => mounted,
        Err(failure) => {
            finding.merge(Finding::skipped(format!(
                "a small disk cannot be made here: {failure}"
            )));
            return Ok(());
        }
    };
    site.set_data_dir(mounted.path.clone());
    let tried = fill_and_enlarge(site, &mounted, finding).await;
    // A file system in use stays.
    let killed = if site.pid().is_ok() {
        site.kill().await
    } else {
        Ok(())
    };
    tried.and(killed)
}

async fn fill_and_enlarge(site: &mut Site, disk: &Mounted, finding: &mut Finding) -> Result<(), Failure> {
    site.start(flags::small_buffer()).await?;
    site.make_table().await?;
    let writers = (0..WRITERS).map(Writer::new).collect();
    let clients = site.write(writers, BATCH_ROWS)?;
    let Some(took) = clients.until_all_refused(FULL_LIMIT).await else {
        return Err(Failure::new(format!(
            "a disk of {SIZE} is not full after {} s",
            FULL_LIMIT.as_secs()
        )));
    };
    let mut account = clients.finish().await?;
    let rows: u64 = account.writers.iter().map(Writer::rows_written).sum();
    finding.tell(format!(
        "full after {} and {rows} acknowledged rows; writers are told {}",
        seconds(took),
        account.refusals.first().map_or("nothing", String::as_str)
    ));
    let mut api = site.api()?;
    check::settle(&mut api, finding, &mut account.writers).await?;
    check::require_digests(&mut api, finding, &account.writers, "while the disk is full").await?;

    disk.resize(ENLARGED)?;
    let clients = site.write(account.writers, BATCH_ROWS)?;
    match clients.until_acknowledged(1, RECOVERY_LIMIT).await {
        Some(took) => finding.tell(format!(
            "enlarged: a write is acknowledged after {}",
            seconds(took)
        )),
        None => finding.require(
            false,
            format!(
                "no write is acknowledged within {} s of its enlargement",
                RECOVERY_LIMIT.as_secs()
            ),
        ),
    }
    clients
        .until_acknowledged(BATCHES_AFTERWARDS, RECOVERY_LIMIT)
        .await;
    let mut account = clients.finish().await?;
    check::settle(&mut site.api()?, finding, &mut account.writers).await?;
    check::require_digests(
        &mut site.api()?,
        finding,
        &account.writers,
        "after it was enlarged",
    )
    .await?;

    site.kill().await?;
    site.start(flags::small_buffer()).await?;
    let mut api = site.api()?;
    check::require_digests(&mut api, finding, &account.writers, "after kill -9").await?;
    check::require_points(&mut api, finding, &account.writers, "after kill -9").await?;
    let points: u64 = account.writers.iter().map(Writer::points).sum();
    if finding.violations().is_empty() {
        finding.tell(format!(
            "all acknowledged points were readable while it was full, and all {points} are after kill -9"
        ));
    }
    Ok(())
}

/// A file system of a given size. It goes when this is dropped.
struct Mounted {
    path: PathBuf,
}

impl Mounted {
    fn tmpfs(path: PathBuf) -> Result<Self, Failure> {
        std::fs::create_dir_all(&path).during(format!("cannot make {}", path.display()))?;
        run_command(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "tmpfs"])
                .arg(&path),
        )?;
        Ok(Mounted { path })
    }

    fn resize(&self, size: &str) -> Result<(), Failure> {
        run_command(
            Command::new("mount")
                .args(["-o", &format!("remount,size={size}")])
                .arg(&self.path),
        )
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a server that is just being killed may have files open.
        if let Err(failure) = run_command(Command::new("umount").arg("--lazy").arg(&self.path)) {
            eprintln!("{failure}");
        }
    }
}

fn run_command(command: &mut Command) -> Result<(), Failure> {
    let name = Path::new(command.get_program()).display().to_string();
    let output = command.output().during(format!("cannot start {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!(
        "{name} ended with {}: {}",
        output.status,
        text.trim()
    )))
}
