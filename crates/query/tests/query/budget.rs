//! The queries of the budget, measured. Run with
//! `cargo test --release -p tidemill-query --test query budget -- --ignored --nocapture`.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use tidemill_query::Params;
use tidemill_store::{DataFile, Effort, FileId};

use crate::support::{DATABASE, Fixture};

const HOSTS: usize = 1000;
const STEPS: usize = 1000;
const STEPS_PER_BATCH: usize = 5;
const STEP_NS: i64 = 10_000_000_000;
const START_NS: i64 = 1_704_067_200_000_000_000;

/// 1 M rows of 10 tags and 10 fields, 1,000 hosts every 10 s, in 200 commits.
async fn filled(shift_ns: i64, fixture: &mut Fixture) {
    let mut lines = String::new();
    for first_step in (0..STEPS).step_by(STEPS_PER_BATCH) {
        lines.clear();
        for step in first_step..first_step + STEPS_PER_BATCH {
            let time = START_NS + shift_ns + step as i64 * STEP_NS;
            for host in 0..HOSTS {
                write!(lines, "cpu,host=host_{host}").unwrap();
                for tag in 1..10 {
                    write!(lines, ",tag{tag}=value_{}", host % (tag * 7)).unwrap();
                }
                for field in 0..10 {
                    let separator = if field == 0 { ' ' } else { ',' };
                    write!(
                        lines,
                        "{separator}f{field}={}",
                        (host * 31 + step * 17 + field * 7) % 100
                    )
                    .unwrap();
                }
                writeln!(lines, " {time}").unwrap();
            }
        }
        fixture.write(&lines).await;
    }
}

/// The least and the median time of a query to its last row.
async fn measure(fixture: &Fixture, sql: &str) -> (Duration, Duration, usize) {
    let mut times = Vec::new();
    let mut row_count = 0;
    for _ in 0..15 {
        let start = Instant::now();
        let output = fixture.engine.sql(DATABASE, sql, Params::new()).await.unwrap();
        let batches: Vec<_> = output.batches.try_collect().await.unwrap();
        times.push(start.elapsed());
        row_count = batches
            .iter()
            .map(datafusion::arrow::array::RecordBatch::num_rows)
            .sum();
    }
    times.sort_unstable();
    (times[0], times[times.len() / 2], row_count)
}

async fn report(fixture: &Fixture, title: &str) {
    let queries = [
        ("select 1", "SELECT 1".to_owned()),
        ("count(*)", "SELECT count(*) FROM cpu".to_owned()),
        ("max(time)", "SELECT max(time) FROM cpu".to_owned()),
        ("mean of 5", "SELECT avg(f0), avg(f1), avg(f2), avg(f3), avg(f4) FROM cpu".to_owned()),
        (
            "mean of 3 by host and hour",
            "SELECT host, date_bin(INTERVAL '1 hour', time) AS hour, avg(f0), avg(f1), avg(f2) FROM cpu GROUP BY 1, 2".to_owned(),
        ),
        (
            "one host, one hour, by minute",
            "SELECT date_bin(INTERVAL '1 minute', time) AS minute, avg(f0), max(f1) FROM cpu WHERE host = 'host_77' \
             AND time >= '2024-01-01T01:00:00Z' AND time < '2024-01-01T02:00:00Z' GROUP BY 1 ORDER BY 1"
                .to_owned(),
        ),
        ("newest 10 of a host", "SELECT * FROM cpu WHERE host = 'host_77' ORDER BY time DESC LIMIT 10".to_owned()),
        ("100,000 rows of 21 columns", "SELECT * FROM cpu LIMIT 100000".to_owned()),
    ];
    println!("{title}");
    for (name, sql) in queries {
        let (least, median, rows) = measure(fixture, &sql).await;
        println!(
            "  {name:32} {:9.3} ms least {:9.3} ms median, {rows} rows",
            ms(least),
            ms(median)
        );
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[tokio::test]
#[ignore = "a measurement"]
async fn budget() {
    let mut fixture = Fixture::new().await;
    filled(0, &mut fixture).await;
    report(&fixture, "1 M rows, batches as written").await;
    fixture.store.settle();
    report(&fixture, "1 M rows, batches merged").await;
    for sql in [
        "SELECT host, date_bin(INTERVAL '1 hour', time) AS hour, avg(f0) FROM cpu GROUP BY 1, 2",
        "SELECT date_bin(INTERVAL '1 minute', time) AS minute, avg(f0) FROM cpu WHERE host = 'host_77' GROUP BY 1 ORDER BY 1",
        "SELECT avg(f0) FROM cpu",
    ] {
        println!("{}", fixture.plan(sql).await);
    }
    filled(0, &mut fixture).await;
    fixture.store.settle();
    report(&fixture, "the same written a second time: all rows are late").await;
}

/// Thirty days of 1,000 hosts, a file a day.
async fn month(fixture: &mut Fixture) {
    const STEP_S: i64 = 600;
    let mut lines = String::new();
    for day in 0..30 {
        lines.clear();
        for host in 0..HOSTS {
            for step in 0..86_400 / STEP_S {
                let time = START_NS + (day * 86_400 + step * STEP_S) * 1_000_000_000;
                writeln!(lines, "m,host=host_{host} f0={step},f1={host} {time}").unwrap();
            }
        }
        fixture.write(&lines).await;
        fixture.flush().await;
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn budget_of_files() {
    let mut fixture = Fixture::new().await;
    filled(0, &mut fixture).await;
    fixture.flush().await;
    report(&fixture, "1 M rows in one file").await;
    filled(0, &mut fixture).await;
    report(&fixture, "the same again in memory: all rows are merged").await;

    let mut fixture = Fixture::new().await;
    month(&mut fixture).await;
    let first = START_NS + 17 * 86_400 * 1_000_000_000;
    let instant = |time: i64| format!("arrow_cast({time}, 'Timestamp(ns)')");
    let sql = format!(
        "SELECT f0, f1 FROM m WHERE host = 'host_77' AND time >= {} AND time < {}",
        instant(first),
        instant(first + 3_600_000_000_000)
    );
    for title in ["first", "second"] {
        let start = Instant::now();
        let rows = fixture.batches(&sql, Params::new()).await.unwrap();
        let rows: usize = rows
            .iter()
            .map(datafusion::arrow::array::RecordBatch::num_rows)
            .sum();
        println!(
            "one series, one hour of 30 days, {title} time: {:.3} ms, {rows} rows",
            ms(start.elapsed())
        );
    }
    let sql = "SELECT avg(f0) FROM m WHERE host = 'host_77'";
    let (least, median, _) = measure(&fixture, sql).await;
    println!(
        "one series, 30 days: {:.3} ms least {:.3} ms median",
        ms(least),
        ms(median)
    );
}

#[tokio::test]
#[ignore = "a measurement"]
async fn planning_of_many_files() {
    let mut fixture = Fixture::new().await;
    fixture.write("m,h=a v=1 0").await;
    let table = fixture.table("m").await;
    let database = fixture.catalog.state().table_by_id(table).unwrap().database_id;
    let file = |number: u64| {
        Arc::new(DataFile {
            id: FileId(number),
            database,
            table,
            path: Arc::from(format!("node0/files/{number}.parquet")),
            byte_size: 1 << 20,
            checksum: 0,
            row_count: 100_000,
            time_min: number as i64 * 1000,
            time_max: number as i64 * 1000 + 999,
            lsn_first: number,
            lsn_last: number,
            deletes_through: 0,
            effort: Effort::High,
            tail: None,
        })
    };
    let files: Vec<_> = (1..=10_000).map(file).collect();
    fixture.store.install(table, &[], &files);
    for sql in [
        "SELECT count(*) FROM m",
        "SELECT * FROM m WHERE time > arrow_cast(9000500, 'Timestamp(ns)') AND time < arrow_cast(9002500, 'Timestamp(ns)')",
        "SELECT sum(v) FROM m WHERE h = 'a'",
    ] {
        let start = Instant::now();
        for _ in 0..10 {
            fixture.plan(sql).await;
        }
        println!("{:9.3} ms to plan {sql}", ms(start.elapsed()) / 10.0);
    }
}
