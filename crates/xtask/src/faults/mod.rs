//! `faults`: plugins do their worst to a real server, one fault after the other, and meanwhile others use it. Each row of
//! the table says what these others noticed and what became of the faulty trigger; each has limits, and the task fails
//! where one is not kept.
//!
//! Everything goes through the HTTP interface and the command line, and through signals to processes: what a plugin's
//! author, a client and an operator can do.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::bystanders::Bystanders;
use crate::compile;
use crate::failure::{During, Failure};
use crate::interruption::interrupted;
use crate::prerequisites;
use crate::workspace::Workspace;

mod abilities;
mod bed;
mod checker;
mod dying;
mod excess;
mod fault;
mod finding;
mod kills;
mod limits;
mod neighbours;
mod report;
mod setting_up;
mod storage;
mod stuck;
mod writers;

use bed::Bed;
use fault::Fault;
use finding::Finding;
use limits::Noticed;
use report::{Report, Row};
use storage::Trial;

/// Kills that must hit snapshots, or compactions, are aimed; they need so much less time than those at random.
const STORAGE_KILL_SHARE: u64 = 4;

/// Options of `cargo xtask faults`.
#[derive(Args)]
pub(crate) struct FaultOptions {
    /// Try this program instead of building the one of this checkout; the workers' extension must lie beside it.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Try only these faults.
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',', value_enum)]
    only: Vec<Fault>,
    /// Try all but these faults.
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',', value_enum, conflicts_with = "only")]
    without: Vec<Fault>,
    /// For how long processes are killed at random; servers that write files, a quarter of it.
    #[arg(long, value_name = "N", default_value_t = 120)]
    seconds: u64,
    /// The seed of what is killed, and when.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Write the table to this file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

impl FaultOptions {
    fn faults(&self) -> Vec<Fault> {
        let wanted = |fault: &Fault| {
            (self.only.is_empty() || self.only.contains(fault)) && !self.without.contains(fault)
        };
        Fault::value_variants().iter().copied().filter(wanted).collect()
    }
}

/// Tries the faults, prints what came of them and writes the table. Fails where a limit was not kept.
pub(crate) async fn run(workspace: &Workspace, options: &FaultOptions) -> Result<(), Failure> {
    prerequisites::ensure()?;
    let program = compile::named_or_release(workspace, options.program.as_deref())?;
    let mut report = Report::new(workspace, &program)?;
    let bystanders = Bystanders::watch();
    tokio::select! {
        tried = try_all(workspace, &program, options, &mut report) => tried?,
        // What was started is stopped as the other branch is dropped.
        interruption = interrupted() => {
            interruption?;
            return Err(Failure::new("interrupted"));
        }
    }
    report.set_bystander_cores(bystanders.cores());
    if let Some(path) = &options.markdown {
        std::fs::write(path, report.to_markdown()).during(format!("cannot write {}", path.display()))?;
    }
    let violations = report.violations();
    if violations.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "limits were not kept:\n{}",
        violations.join("\n")
    )))
}

async fn try_all(
    workspace: &Workspace,
    program: &Path,
    options: &FaultOptions,
    report: &mut Report,
) -> Result<(), Failure> {
    let plugins = workspace.fault_plugins();
    let trial = Trial {
        workspace,
        program,
        plugins: &plugins,
        kill_for: Duration::from_secs(options.seconds / STORAGE_KILL_SHARE),
        seed: options.seed,
    };
    let mut shared: Option<Bed> = None;
    for fault in options.faults() {
        let started = Instant::now();
        let row = if fault == Fault::KillAtRandom {
            kills::run(program, &plugins, options.seconds, options.seed)
                .await
                .unwrap_or_else(|failure| (failed(&failure), None))
        } else if let Some(fault) = fault.of_storage() {
            let tried = storage::run(fault, &trial).await;
            (tried.unwrap_or_else(|failure| failed(&failure)), None)
        } else {
            let mut bed = match shared.take() {
                Some(bed) => bed,
                None => Bed::make(program, &plugins).await?,
            };
            let row = try_one(&mut bed, fault).await?;
            if bed.ended().is_some() {
                let kept = bed.keep().await?;
                eprintln!("  the files of the server that ended are in {}", kept.display());
            } else {
                bed.clear().await?;
                shared = Some(bed);
            }
            row
        };
        let (finding, noticed) = row;
        let row = Row {
            fault,
            finding,
            noticed,
        };
        row.print(started.elapsed());
        report.add(row);
    }
    if let Some(mut bed) = shared {
        let mut afterwards = Finding::default();
        limits::require_nothing_doubled(&mut bed, &mut afterwards).await?;
        report.add_afterwards(afterwards);
        if report.violations().is_empty() {
            bed.close().await?;
        } else {
            let kept = bed.keep().await?;
            eprintln!("the server's log and data are kept in {}", kept.display());
        }
    }
    Ok(())
}

/// One fault, and what the neighbours noticed meanwhile. Only an error that makes further faults pointless is returned.
async fn try_one(bed: &mut Bed, fault: Fault) -> Result<(Finding, Option<Noticed>), Failure> {
    let neighbours = bed.neighbours(&fault.name())?;
    let tried = fault.run(bed).await;
    let observed = neighbours.finish()?;
    let mut finding = tried.unwrap_or_else(|failure| failed(&failure));
    if let Some(status) = bed.ended() {
        finding.require(false, format!("the server ended with {status}"));
        return Ok((finding, None));
    }
    // A fault that could not even be set up was over before anybody noticed anything.
    if finding.skip_reason().is_some() || observed.writes.answered() == 0 && !finding.violations().is_empty()
    {
        return Ok((finding, None));
    }
    let noticed = Noticed::judge(bed, &fault.name(), &observed, &mut finding).await?;
    Ok((finding, Some(noticed)))
}

fn failed(failure: &Failure) -> Finding {
    let mut finding = Finding::default();
    finding.require(false, failure.to_string());
    finding
}
