//! `bench`: a load generator and the measurements that the project's speed is judged by.
//!
//! Everything goes through the HTTP interface, so the same run measures any server that speaks it; two servers are
//! measured one after the other and compared. The load is the same in every run: it comes from a seed, and it is
//! rendered before the clock starts.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::compile;
use crate::failure::{During, Failure};
use crate::interruption::interrupted;
use crate::prerequisites;
use crate::workspace::Workspace;

mod budget;
pub(crate) mod load;
mod measure;
mod report;
mod subject;
mod unit;
mod workloads;
pub(crate) mod writing;

use crate::bystanders::Bystanders;
use load::{CpuLoad, Order, STEP_S};
pub(crate) use measure::budgets;
use report::Report;
use subject::{Address, Subject};
use workloads::Workload;

/// Options of `cargo xtask bench`; the help ends with what [`budgets`] says.
#[derive(Args)]
pub(crate) struct BenchOptions {
    /// Measure the server at this address instead of starting one; given twice, both are measured and compared.
    #[arg(long, value_name = "http://HOST:PORT")]
    url: Vec<String>,
    /// Token for the server at the same position of --url; give an empty one to skip a position.
    #[arg(long, requires = "url")]
    token: Vec<String>,
    /// Process id of the server at the same position of --url, for its CPU time; 0 skips a position.
    #[arg(long, requires = "url")]
    pid: Vec<u32>,
    /// Measure this program instead of building the one of this checkout; given twice, both are measured and compared.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    program: Vec<PathBuf>,
    /// Run only these workloads.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Workload>,
    /// Rows of the table that is written and queried; each takes about 400 bytes of this process's memory.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
    /// Hosts that report, each every 10 s.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    hosts: u32,
    /// How rows are dealt out to the connections.
    #[arg(long, value_enum, default_value_t = Order::Host)]
    order: Order,
    /// Lines of one write request.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    batch_lines: u32,
    /// Connections that write, or call a request trigger, at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Seconds for which the request trigger is called.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often each query runs; its median is reported.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..))]
    query_runs: u32,
    /// Run every workload so often and report the medians.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// The seed of the load.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Compare the request trigger with applications on Granian, which pip installs for the time of the run.
    #[arg(long)]
    compare_granian: bool,
    /// Fail where a figure misses its budget; where several servers are measured, a figure of the first.
    #[arg(long)]
    check: bool,
    /// Write machine, commit and figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl BenchOptions {
    fn load(&self) -> CpuLoad {
        CpuLoad {
            seed: self.seed,
            hosts: self.hosts,
            rows: self.rows as usize,
            step_s: STEP_S,
            batch_lines: self.batch_lines as usize,
            connections: self.connections as usize,
            order: self.order,
        }
    }

    fn workloads(&self) -> Vec<Workload> {
        let wanted = |w: &Workload| self.only.is_empty() || self.only.contains(w);
        Workload::value_variants()
            .iter()
            .copied()
            .filter(wanted)
            .collect()
    }
}

/// Measures, prints a table, writes the JSON file. Fails where a workload failed, after all of them were tried, and
/// where that was asked for, when a budget was missed.
pub(crate) async fn run(workspace: &Workspace, options: &BenchOptions) -> Result<(), Failure> {
    let addresses = addresses(workspace, options)?;
    let mut report = Report::new(workspace, options);
    tokio::select! {
        measured = measure(addresses, options, &mut report) => measured?,
        // What was started is stopped as the other branch is dropped.
        interruption = interrupted() => {
            interruption?;
            return Err(Failure::new("interrupted"));
        }
    }
    print!("{report}");
    if let Some(path) = &options.json {
        std::fs::write(path, report.to_json()).during(format!("cannot write {}", path.display()))?;
    }
    let problems = report.problems();
    if !problems.is_empty() {
        let list = problems.join("\n");
        return Err(Failure::new(format!("some workloads failed:\n{list}")));
    }
    let missed = report.missed_budgets();
    if options.check && !missed.is_empty() {
        let list = missed.join("\n");
        return Err(Failure::new(format!("some budgets were missed:\n{list}")));
    }
    Ok(())
}

async fn measure(
    addresses: Vec<Address>,
    options: &BenchOptions,
    report: &mut Report,
) -> Result<(), Failure> {
    let all_are_ours = addresses
        .iter()
        .all(|address| matches!(address, Address::Program(_)));
    let bystanders = Bystanders::watch();
    for address in addresses {
        eprintln!("measuring {address}");
        let mut subject = Subject::open(address).await?;
        let outcome = workloads::run(&mut subject, options).await;
        subject.close().await?;
        report.add(outcome);
    }
    // A server that we did not start would count as a bystander.
    if all_are_ours {
        report.set_bystander_cores(bystanders.cores());
    }
    Ok(())
}

fn addresses(workspace: &Workspace, options: &BenchOptions) -> Result<Vec<Address>, Failure> {
    let at = |list: &[String], position: usize| list.get(position).filter(|text| !text.is_empty()).cloned();
    if !options.url.is_empty() {
        return Ok(options
            .url
            .iter()
            .enumerate()
            .map(|(position, url)| Address::Running {
                url: url.clone(),
                token: at(&options.token, position),
                pid: options.pid.get(position).copied().filter(|pid| *pid != 0),
            })
            .collect());
    }
    if options.program.is_empty() {
        prerequisites::ensure()?;
        compile::release(workspace)?;
        return Ok(vec![Address::Program(workspace.program())]);
    }
    options
        .program
        .iter()
        .map(|path| {
            let path = path
                .canonicalize()
                .during(format!("cannot find {}", path.display()))?;
            Ok(Address::Program(path))
        })
        .collect()
}
