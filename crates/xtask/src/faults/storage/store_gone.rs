//! An object store that is gone for a while: the server waits for it, and loses nothing.

use std::time::Duration;

use tidemill_write_model::Writer;
use tokio::time::sleep;

use super::site::Site;
use super::{Trial, check};
use crate::failure::Failure;
use crate::faults::finding::{Finding, seconds};
use crate::s3::S3;
use crate::storage::flags;

const WRITERS: u32 = 4;
const BATCH_ROWS: u64 = 100;
const BATCHES: u64 = 40;
const ABSENCE: Duration = Duration::from_secs(5);
const ABSENCES: u32 = 3;
const LIMIT: Duration = Duration::from_mins(1);

pub(super) async fn run(site: &mut Site, trial: &Trial<'_>, finding: &mut Finding) -> Result<(), Failure> {
    let store = match S3::start(trial.workspace, site.directory()).await {
        Ok(store) => store,
        Err(failure) => {
            finding.merge(Finding::skipped(format!(
                "there is no object store to try it with: {failure}"
            )));
            return Ok(());
        }
    };
    site.set_object_store(store.arguments());
    site.start(flags::small_buffer()).await?;
    site.make_table().await?;
    let mut writers: Vec<Writer> = (0..WRITERS).map(Writer::new).collect();
    let mut slowest = Duration::ZERO;
    let mut refused = 0;
    for absence in 1..=ABSENCES {
        let clients = site.write(writers, BATCH_ROWS)?;
        require_written(clients.until_acknowledged(BATCHES, LIMIT).await)?;
        store.shut();
        sleep(ABSENCE).await;
        store.reopen();
        match clients.until_acknowledged(1, LIMIT).await {
            Some(took) => slowest = slowest.max(took),
            None => finding.require(
                false,
                format!(
                    "no write is acknowledged within {} s of its return",
                    LIMIT.as_secs()
                ),
            ),
        }
        clients.until_acknowledged(BATCHES, LIMIT).await;
        let account = clients.finish().await?;
        refused += account.refused;
        writers = account.writers;
        let mut api = site.api()?;
        check::settle(&mut api, finding, &mut writers).await?;
        let when = format!("after absence {absence}");
        check::require_digests(&mut api, finding, &writers, &when).await?;
    }
    finding.tell(format!(
        "{ABSENCES} absences of {} each; {refused} writes refused meanwhile; acknowledged again after {} at the slowest",
        seconds(ABSENCE),
        seconds(slowest)
    ));
    site.kill().await?;
    site.start(flags::small_buffer()).await?;
    let mut api = site.api()?;
    check::require_digests(&mut api, finding, &writers, "after kill -9").await?;
    check::require_points(&mut api, finding, &writers, "after kill -9").await?;
    let points: u64 = writers.iter().map(Writer::points).sum();
    if finding.violations().is_empty() {
        finding.tell(format!("all {points} points are there, also after kill -9"));
    }
    // While the object store is still there.
    site.stop().await
}

fn require_written(took: Option<Duration>) -> Result<(), Failure> {
    match took {
        Some(_) => Ok(()),
        None => Err(Failure::new(format!(
            "{BATCHES} batches were not written within {} s",
            LIMIT.as_secs()
        ))),
    }
}
