//! Starting with 10,000 files: as many tables, with one row each, in files.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Findings, milliseconds};
use crate::bench::load::START_S;
use crate::bench::measure::Measure;
use crate::bench::subject::OwnServer;
use crate::failure::Failure;
use crate::statistics::median;
use crate::storage::{flags, until_in_files};

/// Below the limit of tables that a database has by default.
const DATABASES: [&str; 2] = ["many_a", "many_b"];
const TABLES_EACH: u64 = 5_000;
const TABLES_PER_WRITE: u64 = 500;
const IN_FILES_LIMIT: Duration = Duration::from_mins(2);
const STARTS: usize = 3;

pub(super) async fn measure(program: &Path) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let own = OwnServer::start(program).await?;
    let mut api = own.api();
    for database in DATABASES {
        api.create_database(database).await?;
        for first in (0..TABLES_EACH).step_by(TABLES_PER_WRITE as usize) {
            let mut lines = String::new();
            for table in first..(first + TABLES_PER_WRITE).min(TABLES_EACH) {
                let _infallible = writeln!(lines, "table_{table},host=a value=1 {START_S}000000000");
            }
            api.write(database, &lines).await?;
        }
    }
    let mut own = own.restart_with(flags::eager_snapshots()).await?;
    let started = Instant::now();
    let mut api = own.api();
    for database in DATABASES {
        until_in_files(&mut api, database, TABLES_EACH, IN_FILES_LIMIT).await?;
    }
    findings.add(Measure::ManyFilesTime, started.elapsed().as_secs_f64());

    own.setup.set_arguments(Vec::new());
    let mut starts_ms = Vec::new();
    for _ in 0..STARTS {
        (_, own) = own.restart_after_stop().await?;
        starts_ms.push(milliseconds(own.server.time_to_healthy()));
    }
    findings.add(Measure::ManyFilesStart, median(&mut starts_ms));
    let last = TABLES_EACH - 1;
    let sql = format!("SELECT value FROM table_{last}");
    for database in DATABASES {
        let rows = own.api().query(database, &sql).await?;
        if rows.len() != 1 {
            return Err(Failure::new(format!(
                "table_{last} of {database} must have a row, it has {}",
                rows.len()
            )));
        }
    }
    own.server.stop().await?;
    Ok(findings)
}
