//! Every point once, its last write winning field by field.

use std::fmt::Write;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tidemill_query::{Params, QueryConfig, QueryErrorKind};

use crate::model::{FIRST, Model, Row, any_commits, check_queries, line};
use crate::support::{DATABASE, Fixture, rows};

async fn select(fixture: &Fixture, sql: &str) -> Vec<Vec<String>> {
    rows(&fixture.batches(sql, Params::new()).await.unwrap())
}

#[tokio::test]
async fn the_last_write_wins_within_a_batch_and_across() {
    let mut fixture = Fixture::new().await;
    fixture.write("m,h=a v=1 10\nm,h=a v=2 10\nm,h=b v=3 10").await;
    assert_eq!(
        select(&fixture, "SELECT h, v FROM m ORDER BY h").await,
        [["a", "2.0"], ["b", "3.0"]]
    );
    fixture.write("m,h=a v=4 10").await;
    fixture.write("m,h=b v=5 11\nm,h=a v=6 10").await;
    assert_eq!(
        select(&fixture, "SELECT h, time, v FROM m ORDER BY h, time").await,
        [
            ["a", "1970-01-01T00:00:00.000000010", "6.0"],
            ["b", "1970-01-01T00:00:00.000000010", "3.0"],
            ["b", "1970-01-01T00:00:00.000000011", "5.0"],
        ]
    );
}

#[tokio::test]
async fn fields_of_one_point_are_united() {
    let mut fixture = Fixture::new().await;
    fixture.write("m,h=a x=1,y=\"old\" 10").await;
    fixture.write("m,h=a y=\"new\",z=3i 10").await;
    fixture.write("m,h=a x=2 10").await;
    fixture.write("m,h=a q=t 11").await;
    assert_eq!(
        select(&fixture, "SELECT x, y, z, q FROM m ORDER BY time").await,
        [["2.0", "new", "3", "-"], ["-", "-", "-", "true"]]
    );
    assert_eq!(select(&fixture, "SELECT z FROM m WHERE y = 'new'").await, [["3"]]);
    // The old value must not come back because the filter hides the new one.
    assert_eq!(
        select(&fixture, "SELECT z FROM m WHERE y = 'old'").await,
        Vec::<Vec<String>>::new()
    );
    assert_eq!(select(&fixture, "SELECT sum(x) FROM m").await, [["2.0"]]);
}

#[tokio::test]
async fn a_missing_tag_is_an_identity() {
    let mut fixture = Fixture::new().await;
    fixture
        .write("m v=1 10\nm,h=a v=2 10\nm,h=a,r=x v=3 10\nm,r=x v=4 10")
        .await;
    fixture.write("m v=5 10\nm,r=x v=6 10").await;
    assert_eq!(
        select(&fixture, "SELECT h, r, v FROM m ORDER BY v").await,
        [
            ["a", "-", "2.0"],
            ["a", "x", "3.0"],
            ["-", "-", "5.0"],
            ["-", "x", "6.0"]
        ]
    );
    assert_eq!(
        select(&fixture, "SELECT v FROM m WHERE h IS NULL ORDER BY v").await,
        [["5.0"], ["6.0"]]
    );
}

#[tokio::test]
async fn columns_may_come_later() {
    let mut fixture = Fixture::new().await;
    fixture.write("m,h=a v=1 10").await;
    fixture.write("m,h=a,r=x v=2,w=7 10").await;
    fixture.write("m,h=a w=8 10").await;
    assert_eq!(
        select(&fixture, "SELECT * FROM m ORDER BY r").await,
        [
            ["a", "x", "1970-01-01T00:00:00.000000010", "2.0", "7.0"],
            ["a", "-", "1970-01-01T00:00:00.000000010", "1.0", "8.0"],
        ]
    );
}

#[tokio::test]
async fn keys_need_not_be_projected() {
    let mut fixture = Fixture::new().await;
    fixture.write("m,h=a v=1 10\nm,h=b v=1 10").await;
    fixture.write("m,h=a v=2 10").await;
    assert_eq!(
        select(&fixture, "SELECT v FROM m ORDER BY v").await,
        [["1.0"], ["2.0"]]
    );
    assert_eq!(select(&fixture, "SELECT count(*) FROM m").await, [["2"]]);
    assert_eq!(
        select(&fixture, "SELECT count(1) FROM m WHERE h = 'a'").await,
        [["1"]]
    );
    assert_eq!(
        select(&fixture, "SELECT max(time), min(time), count(v) FROM m")
            .await
            .len(),
        1
    );
}

#[tokio::test]
async fn an_empty_table_has_no_rows() {
    let fixture = Fixture::new().await;
    fixture.table("m").await;
    assert_eq!(
        select(&fixture, "SELECT * FROM m").await,
        Vec::<Vec<String>>::new()
    );
    assert_eq!(
        select(&fixture, "SELECT count(*), max(time) FROM m").await,
        [["0", "-"]]
    );
}

#[tokio::test]
async fn only_late_windows_are_deduplicated() {
    let mut fixture = Fixture::new().await;
    fixture.write("m,h=a v=1 10\nm,h=a v=2 20\nm,h=a v=3 30").await;
    let plan = fixture.plan("SELECT v FROM m").await;
    assert!(!plan.contains("DeduplicateExec"), "{plan}");

    fixture.write("m,h=a v=4 20").await;
    let plan = fixture.plan("SELECT v FROM m").await;
    assert!(
        plan.contains("DeduplicateExec: key=[h, time], slices=1") && plan.contains("UnionExec"),
        "{plan}"
    );
    for sql in [
        "SELECT v FROM m WHERE time > arrow_cast(20, 'Timestamp(ns)')",
        "SELECT v FROM m WHERE time < arrow_cast(20, 'Timestamp(ns)')",
    ] {
        let plan = fixture.plan(sql).await;
        assert!(!plan.contains("DeduplicateExec"), "{plan}");
    }
    assert_eq!(
        select(&fixture, "SELECT v FROM m ORDER BY v").await,
        [["1.0"], ["3.0"], ["4.0"]]
    );
}

#[tokio::test]
async fn statistics_answer_only_where_they_are_exact() {
    let mut fixture = Fixture::new().await;
    fixture.write("m,h=a v=1 10\nm,h=a w=2 20\nm,h=a v=3 30").await;
    let sql = "SELECT count(*), min(time), max(time), count(v) FROM m";
    let answer = [[
        "3",
        "1970-01-01T00:00:00.000000010",
        "1970-01-01T00:00:00.000000030",
        "2",
    ]];
    let plan = fixture.plan(sql).await;
    assert!(
        plan.contains("PlaceholderRowExec") && !plan.contains("BufferScanExec"),
        "{plan}"
    );
    assert_eq!(select(&fixture, sql).await, answer);

    let filtered = "SELECT count(*) FROM m WHERE time >= arrow_cast(5, 'Timestamp(ns)')";
    let plan = fixture.plan(filtered).await;
    assert!(
        !plan.contains("BufferScanExec"),
        "the filter takes whole batches: {plan}"
    );
    assert_eq!(select(&fixture, filtered).await, [["3"]]);
    let filtered = "SELECT count(*) FROM m WHERE time > arrow_cast(10, 'Timestamp(ns)')";
    assert_eq!(select(&fixture, filtered).await, [["2"]]);
    assert_eq!(
        select(&fixture, "SELECT count(*) FROM m WHERE h = 'b'").await,
        [["0"]]
    );

    fixture.write("m,h=a v=4 20").await;
    let plan = fixture.plan(sql).await;
    assert!(plan.contains("BufferScanExec"), "{plan}");
    assert_eq!(
        select(&fixture, sql).await,
        [[
            "3",
            "1970-01-01T00:00:00.000000010",
            "1970-01-01T00:00:00.000000030",
            "3"
        ]]
    );
}

#[tokio::test]
async fn many_late_rows_are_cut_into_slices() {
    let mut fixture = Fixture::new().await;
    let lines = |value: i64| {
        let mut lines = String::new();
        for time in 0..400 {
            for host in 0..100 {
                writeln!(lines, "m,h=h{host} v={value} {time}").unwrap();
            }
        }
        lines
    };
    fixture.write(&lines(1)).await;
    fixture.write(&lines(2)).await;
    let plan = fixture.plan("SELECT v FROM m").await;
    assert!(plan.contains("slices=2"), "{plan}");
    assert_eq!(
        select(
            &fixture,
            "SELECT count(*), sum(v), count(DISTINCT h), count(DISTINCT time) FROM m"
        )
        .await,
        [["40000", "80000.0", "100", "400"]]
    );
    assert_eq!(
        select(&fixture, "SELECT count(*), sum(v) FROM m WHERE h = 'h7'").await,
        [["400", "800.0"]]
    );
}

#[tokio::test]
async fn scans_of_one_query_read_the_same_rows() {
    let mut fixture = Fixture::new().await;
    fixture.write("m,h=a v=1 10\nm,h=b v=2 10").await;
    assert_eq!(
        select(
            &fixture,
            "SELECT a.h, b.v FROM m a JOIN m b ON a.h = b.h WHERE a.h = 'b'"
        )
        .await,
        [["b", "2.0"]]
    );
    assert_eq!(
        select(
            &fixture,
            "SELECT h FROM m WHERE v = (SELECT max(v) FROM m) AND h IN (SELECT h FROM m)"
        )
        .await,
        [["b"]]
    );
    assert_eq!(
        select(
            &fixture,
            "WITH x AS (SELECT h, v FROM m) SELECT h FROM x UNION ALL SELECT h FROM x ORDER BY h"
        )
        .await,
        [["a"], ["a"], ["b"], ["b"]]
    );
}

#[tokio::test]
async fn deduplication_stays_within_its_memory() {
    let config = QueryConfig {
        memory_bytes_max: 1 << 20,
        threads: 1,
        ..QueryConfig::default()
    };
    let mut fixture = Fixture::with(config, Vec::new()).await;
    let lines: Vec<String> = (0..40_000).map(|host| format!("m,h=h{host} v=1 5")).collect();
    let lines = lines.join("\n");
    fixture.write(&lines).await;
    fixture.write(&lines).await;
    let error = fixture
        .batches("SELECT sum(v) FROM m", Params::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Exhausted, "{error}");
    assert!(error.to_string().contains("DeduplicateExec"), "{error}");
    assert_eq!(
        select(&fixture, "SELECT sum(v) FROM m WHERE h = 'h7'").await,
        [["1.0"]]
    );
}

#[tokio::test]
async fn tags_are_grouped_by_value() {
    let mut fixture = Fixture::new().await;
    fixture
        .write("m,h=a,r=x v=1 10\nm,h=b,r=x v=2 10\nm,r=y v=3 10")
        .await;
    fixture
        .write("m,h=b,r=y v=4 20\nm,h=c v=5 20\nm,h=a,r=x v=6 20")
        .await;
    let cases: [(&str, &[&[&str]]); 9] = [
        (
            "SELECT h, sum(v) FROM m GROUP BY h ORDER BY h",
            &[&["a", "7.0"], &["b", "6.0"], &["c", "5.0"], &["-", "3.0"]],
        ),
        (
            "SELECT r, h, max(v) FROM m GROUP BY h, r ORDER BY r, h",
            &[
                &["x", "a", "6.0"],
                &["x", "b", "2.0"],
                &["y", "b", "4.0"],
                &["y", "-", "3.0"],
                &["-", "c", "5.0"],
            ],
        ),
        (
            "SELECT DISTINCT h FROM m ORDER BY h",
            &[&["a"], &["b"], &["c"], &["-"]],
        ),
        (
            "SELECT count(DISTINCT h), count(DISTINCT r) FROM m",
            &[&["3", "2"]],
        ),
        (
            "SELECT h AS host, count(*) FROM m GROUP BY host HAVING host = 'a' OR count(*) < 2 ORDER BY host",
            &[&["a", "2"], &["c", "1"], &["-", "1"]],
        ),
        (
            "SELECT h, r, sum(v) FROM m WHERE h IN ('a', 'b') GROUP BY ROLLUP (h, r) ORDER BY h, r",
            &[
                &["a", "x", "7.0"],
                &["a", "-", "7.0"],
                &["b", "x", "2.0"],
                &["b", "y", "4.0"],
                &["b", "-", "6.0"],
                &["-", "-", "13.0"],
            ],
        ),
        (
            "SELECT upper(h) AS u, sum(s) FROM (SELECT h, r, sum(v) AS s FROM m GROUP BY h, r) \
             WHERE h = 'b' GROUP BY u",
            &[&["B", "6.0"]],
        ),
        (
            "SELECT h FROM m AS outer_m WHERE v = (SELECT max(v) FROM m WHERE m.h = outer_m.h) ORDER BY h",
            &[&["a"], &["b"], &["c"]],
        ),
        (
            "SELECT h, s, rank() OVER (ORDER BY s) FROM (SELECT h, sum(v) AS s FROM m GROUP BY h) ORDER BY s LIMIT 2",
            &[&["-", "3.0", "1"], &["c", "5.0", "2"]],
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(select(&fixture, sql).await, expected, "{sql}");
    }
    let output = fixture
        .engine
        .sql(DATABASE, "SELECT h, count(*) FROM m GROUP BY h", Params::new())
        .await
        .unwrap();
    let tag = output.schema.field(0);
    assert_eq!(tag.name(), "h");
    assert_eq!(tag.data_type().to_string(), "Dictionary(Int32, Utf8)");
    assert_eq!(
        tag.metadata().get("iox::column::type").map(String::as_str),
        Some("iox::column_type::tag")
    );
}

struct World {
    runtime: tokio::runtime::Runtime,
    fixture: tokio::sync::Mutex<(Fixture, usize)>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fixture = runtime.block_on(Fixture::new());
    World {
        runtime,
        fixture: tokio::sync::Mutex::new((fixture, 0)),
    }
});

async fn agree(commits: &[Vec<Row>], from: i64, settle: bool) -> Result<(), TestCaseError> {
    let mut world = WORLD.fixture.lock().await;
    let (fixture, case) = &mut *world;
    *case += 1;
    let table = format!("t{case}");
    let mut model = Model::default();
    fixture.write(&line(&table, &FIRST)).await;
    model.write(&FIRST);
    for commit in commits {
        let lines: Vec<String> = commit.iter().map(|row| line(&table, row)).collect();
        fixture.write(&lines.join("\n")).await;
        for row in commit {
            model.write(row);
        }
    }
    if settle {
        fixture.store.settle();
    }
    check_queries(fixture, &table, &model, from).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn queries_agree_with_a_plain_model(commits in any_commits(), from in 0..16i64, settle in any::<bool>()) {
        WORLD.runtime.block_on(agree(&commits, from, settle))?;
    }
}
