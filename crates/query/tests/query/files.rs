//! Files: what of them is read, and what a plan says about it.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::throttle::{ThrottleConfig, ThrottledStore};
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use tidemill_query::{Params, QueryConfig, QueryErrorKind};

use crate::support::{Fixture, rows};

async fn select(fixture: &Fixture, sql: &str) -> Vec<Vec<String>> {
    rows(&fixture.batches(sql, Params::new()).await.unwrap())
}

/// A number in what `EXPLAIN ANALYZE` says.
fn metric(plan: &str, name: &str) -> Vec<String> {
    plan.split(&format!("{name}="))
        .skip(1)
        .map(|rest| {
            rest.split([',', ']', '|'])
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        })
        .collect()
}

async fn analyze(fixture: &Fixture, sql: &str) -> String {
    fixture
        .answer(&format!("EXPLAIN ANALYZE VERBOSE {sql}"), Params::new())
        .await
}

const ALL_TIMES: &str = "SELECT count(*), CAST(min(time) AS BIGINT), CAST(max(time) AS BIGINT) FROM m";

#[tokio::test]
async fn statistics_of_files_answer_where_they_are_exact() {
    let mut fixture = Fixture::new().await;
    fixture.write("m,h=a v=1 10\nm,h=b v=2 15\nm,h=a v=3 20").await;
    fixture.flush().await;
    fixture.write("m,h=a v=1 30\nm,h=b v=2 40").await;
    fixture.flush().await;
    fixture.write("m,h=a v=1 50").await;
    let plan = fixture.plan(ALL_TIMES).await;
    assert!(plan.contains("PlaceholderRowExec"), "{plan}");
    assert_eq!(select(&fixture, ALL_TIMES).await, [["6", "10", "50"]]);

    let later = "SELECT count(*) FROM m WHERE time >= arrow_cast(25, 'Timestamp(ns)')";
    let plan = fixture.plan(later).await;
    assert!(plan.contains("PlaceholderRowExec"), "whole files: {plan}");
    assert_eq!(select(&fixture, later).await, [["3"]]);
    let middle = "SELECT count(*) FROM m WHERE time >= arrow_cast(15, 'Timestamp(ns)')";
    let plan = fixture.plan(middle).await;
    assert!(
        plan.contains("RowCountExec: table=m, files=1 of 2") && plan.contains("files=1 of 2"),
        "only a file that is cut is read: {plan}"
    );
    assert_eq!(select(&fixture, middle).await, [["5"]]);

    // A row that was written again is one point.
    fixture.write("m,h=a w=1 20").await;
    assert_eq!(select(&fixture, ALL_TIMES).await, [["6", "10", "50"]]);
    // Statistics know nothing of rows that were deleted.
    fixture.flush().await;
    fixture.delete_in_files("m", (40, 60), &[]).await;
    assert_eq!(select(&fixture, ALL_TIMES).await, [["4", "10", "30"]]);
}

#[tokio::test]
async fn a_plan_says_what_is_read() {
    let mut fixture = Fixture::new().await;
    for start in [0, 100, 200] {
        fixture
            .write(&format!("m,h=a v=1 {start}\nm,h=b v=2 {}", start + 50))
            .await;
        fixture.flush().await;
    }
    let plan = fixture.plan("SELECT v FROM m WHERE h = 'a'").await;
    assert!(
        plan.contains("DataSourceExec: table=m, files=3 of 3, files_pruned=0, file_bytes=")
            && plan.contains("projection=[v]")
            && plan.contains("predicate=")
            && !plan.contains("MergeExec")
            && !plan.contains("FilterExec"),
        "{plan}"
    );
    let plan = fixture
        .plan("SELECT v FROM m WHERE time > arrow_cast(90, 'Timestamp(ns)') AND time < arrow_cast(160, 'Timestamp(ns)')")
        .await;
    assert!(plan.contains("files=1 of 3, files_pruned=2"), "{plan}");
    let plan = fixture
        .plan("SELECT v FROM m WHERE time > arrow_cast(900, 'Timestamp(ns)')")
        .await;
    assert!(
        plan.contains("BufferScanExec") && plan.contains("files=0 of 3, files_pruned=3"),
        "{plan}"
    );

    fixture.write("m,h=a v=3 100\nm,h=a v=4 300").await;
    let plan = fixture.plan("SELECT v FROM m WHERE v > 1").await;
    assert!(
        plan.contains("MergeExec: table=m, files=2 of 3, files_pruned=0")
            && plan.contains("slices=2, buffer_rows_max=4, key=[h, time]")
            && plan.contains("DataSourceExec: table=m, files=1 of 3")
            && plan.contains("FilterExec"),
        "what overlaps is merged and then filtered: {plan}"
    );
    assert_eq!(
        select(&fixture, "SELECT v FROM m WHERE v > 1 ORDER BY time").await,
        [["2.0"], ["3.0"], ["2.0"], ["2.0"], ["4.0"]]
    );
}

/// Hosts in the order of their names, each with so many points one after the other.
fn lines(host_count: usize, times: std::ops::Range<i64>) -> String {
    let mut lines = String::new();
    for host in 0..host_count {
        for time in times.clone() {
            writeln!(lines, "m,host=h{host:04} v={time},w={host}i {time}").unwrap();
        }
    }
    lines
}

#[tokio::test]
async fn only_pages_of_a_series_are_read() {
    let mut fixture = Fixture::new().await;
    fixture.write(&lines(300, 0..300)).await;
    fixture.flush().await;
    let sql =
        "SELECT sum(v), count(*) FROM m WHERE host = 'h0123' AND time >= arrow_cast(100, 'Timestamp(ns)')";
    assert_eq!(select(&fixture, sql).await, [["39900.0", "200"]]);
    let plan = analyze(&fixture, sql).await;
    let pruned = metric(&plan, "pushdown_rows_pruned");
    let pruned: usize = pruned
        .iter()
        .filter_map(|count| count.parse::<usize>().ok())
        .sum();
    assert!(
        pruned < 45_000,
        "the page index leaves out half of the rows at least: {plan}"
    );
    // No page and no group has such a host, but its name lies between those that are there.
    let sql = "SELECT count(*) FROM m WHERE host = 'h0123x'";
    assert_eq!(select(&fixture, sql).await, [["0"]]);
    let plan = analyze(&fixture, sql).await;
    assert!(
        plan.contains("row_groups_pruned_bloom_filter=1 total → 0 matched"),
        "{plan}"
    );
}

#[tokio::test]
async fn the_newest_rows_are_read_first() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let config = QueryConfig {
        threads: 1,
        ..QueryConfig::default()
    };
    let mut fixture = Fixture::over(objects, config, Vec::new()).await;
    for file in 0..20 {
        fixture.write(&lines(2, file * 10..file * 10 + 10)).await;
        fixture.flush().await;
    }
    let sql = "SELECT CAST(time AS BIGINT) AS instant, host FROM m ORDER BY time DESC, host LIMIT 2";
    let before = fixture.files.stats().metadata.misses;
    assert_eq!(select(&fixture, sql).await.len(), 2);
    let opened = fixture.files.stats().metadata.misses - before;
    assert!(opened <= 3, "{opened} files were opened");
    fixture.write(&lines(2, 200..210)).await;
    let before = fixture.files.stats().metadata.hits;
    assert_eq!(select(&fixture, sql).await, [["209", "h0000"], ["209", "h0001"]]);
    let opened = fixture.files.stats().metadata.hits - before;
    assert!(opened <= 6, "footers were asked for {opened} times");
    assert_eq!(
        select(
            &fixture,
            "SELECT DISTINCT CAST(time AS BIGINT) AS instant FROM m ORDER BY instant DESC LIMIT 3"
        )
        .await,
        [["209"], ["208"], ["207"]]
    );
}

#[tokio::test]
async fn a_missing_object_is_named() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut fixture = Fixture::over(Arc::clone(&objects), QueryConfig::default(), Vec::new()).await;
    fixture.write("m,h=a v=1 10").await;
    fixture.flush().await;
    let path = fixture.snapshot("m").await.files[0].path.to_string();
    objects.delete(&Path::from(path.as_str())).await.unwrap();
    for overlapped in [false, true] {
        if overlapped {
            fixture.write("m,h=a v=2 10").await;
        }
        let error = fixture
            .batches("SELECT v FROM m", Params::new())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Execution);
        assert!(error.to_string().contains(&path), "{error}");
    }
}

#[tokio::test]
async fn the_place_in_the_log_is_not_shown() {
    let mut fixture = Fixture::new().await;
    fixture.write("m,h=a v=1 10").await;
    fixture.flush().await;
    assert_eq!(
        select(&fixture, "SELECT * FROM m").await,
        [["a", "1970-01-01T00:00:00.000000010", "1.0"]]
    );
    assert_eq!(
        select(
            &fixture,
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'm' ORDER BY 1"
        )
        .await,
        [["h"], ["time"], ["v"]]
    );
    let error = fixture
        .batches("SELECT __chunk_order FROM m", Params::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Invalid);
}

#[tokio::test]
async fn columns_have_their_types_whatever_a_file_has() {
    let mut fixture = Fixture::new().await;
    fixture.write("m,h=a v=1 10").await;
    fixture.flush().await;
    fixture.write("m,h=a,r=x v=2,s=\"text\",i=3i,u=4u,b=t 20").await;
    fixture.flush().await;
    fixture.write("m v=3 30").await;
    fixture.flush().await;
    let sql = "SELECT h, r, v, s, i, u, b FROM m ORDER BY time";
    assert_eq!(
        select(&fixture, sql).await,
        [
            ["a", "-", "1.0", "-", "-", "-", "-"],
            ["a", "x", "2.0", "text", "3", "4", "true"],
            ["-", "-", "3.0", "-", "-", "-", "-"],
        ]
    );
    for batch in fixture.batches(sql, Params::new()).await.unwrap() {
        let types: Vec<String> = batch
            .schema()
            .fields()
            .iter()
            .map(|field| field.data_type().to_string())
            .collect();
        assert_eq!(
            types,
            [
                "Dictionary(Int32, Utf8)",
                "Dictionary(Int32, Utf8)",
                "Float64",
                "Utf8",
                "Int64",
                "UInt64",
                "Boolean"
            ]
        );
    }
    assert_eq!(
        select(&fixture, "SELECT v FROM m WHERE r IS NULL ORDER BY v").await,
        [["1.0"], ["3.0"]]
    );
    assert_eq!(select(&fixture, "SELECT v FROM m WHERE r = 'x'").await, [["2.0"]]);
    assert_eq!(
        select(&fixture, "SELECT v FROM m WHERE s = 'text' AND h = 'a'").await,
        [["2.0"]]
    );
    assert_eq!(
        select(
            &fixture,
            "SELECT h, r, count(*) FROM m GROUP BY h, r ORDER BY h, r"
        )
        .await,
        [["a", "x", "1"], ["a", "-", "1"], ["-", "-", "1"]]
    );
}

#[tokio::test]
async fn a_query_over_files_ends_at_its_limit() {
    let slow = ThrottleConfig {
        wait_get_per_call: Duration::from_hours(1),
        ..ThrottleConfig::default()
    };
    let objects: Arc<dyn ObjectStore> = Arc::new(ThrottledStore::new(InMemory::new(), slow));
    let config = QueryConfig {
        timeout: Duration::from_millis(300),
        ..QueryConfig::default()
    };
    let mut fixture = Fixture::over(objects, config, Vec::new()).await;
    fixture.write("m,h=a v=1 10").await;
    fixture.flush().await;
    fixture.write("n,h=a v=1 10").await;
    fixture.flush().await;
    fixture.write("n,h=a v=1 10").await;
    for table in ["m", "n"] {
        let error = fixture
            .batches(&format!("SELECT v FROM {table}"), Params::new())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("time limit"), "{error}");
    }
}

#[tokio::test]
async fn merging_stays_within_its_memory() {
    let config = QueryConfig {
        memory_bytes_max: 1 << 20,
        threads: 1,
        ..QueryConfig::default()
    };
    let mut fixture = Fixture::with(config, Vec::new()).await;
    for _ in 0..8 {
        fixture.write(&lines(20, 0..1000)).await;
        fixture.flush().await;
    }
    let error = fixture
        .batches("SELECT sum(v) FROM m", Params::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Exhausted, "{error}");
}

#[tokio::test]
async fn many_overlapping_files_are_one_table() {
    let mut fixture = Fixture::new().await;
    for value in 0..40 {
        let mut lines = String::new();
        for host in 0..50 {
            writeln!(lines, "m,host=h{host} v={value} {}", value * 10).unwrap();
            writeln!(lines, "m,host=h{host} v={value},w=1 {}", value * 10 + 10).unwrap();
        }
        fixture.write(&lines).await;
        fixture.flush().await;
    }
    assert_eq!(
        select(&fixture, "SELECT count(*), sum(v), count(w) FROM m").await,
        [["2050", "40950.0", "2000"]]
    );
    assert_eq!(
        select(&fixture, "SELECT count(*) FROM m WHERE host = 'h7' AND v = 39").await,
        [["2"]]
    );
    let plan = fixture.plan("SELECT v FROM m").await;
    assert!(plan.contains("MergeExec: table=m, files=40 of 40"), "{plan}");
}

#[tokio::test]
async fn sorting_what_files_hold_spills() {
    let config = QueryConfig {
        memory_bytes_max: 24 << 20,
        threads: 1,
        ..QueryConfig::default()
    };
    let mut fixture = Fixture::with(config, Vec::new()).await;
    let text = "x".repeat(200);
    for first in (0..100_000).step_by(10_000) {
        let mut lines = String::new();
        for time in first..first + 10_000 {
            writeln!(lines, "m,host=h{} s=\"{text}{time}\" {time}", time % 100).unwrap();
        }
        fixture.write(&lines).await;
    }
    fixture.flush().await;
    let sql = "SELECT CAST(time AS BIGINT), s FROM m ORDER BY s DESC";
    let sorted = select(&fixture, sql).await;
    assert_eq!(sorted.len(), 100_000);
    assert_eq!(
        (sorted[0][0].as_str(), sorted[99_999][0].as_str()),
        ("99999", "0")
    );
    let plan = analyze(&fixture, sql).await;
    let spills = metric(&plan, "spill_count");
    assert!(spills.iter().any(|count| count != "0"), "{plan}");
}
