//! Names, parameters, functions and errors of SQL, as clients see them.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt;
use tidemill_catalog::Transaction;
use tidemill_query::{
    ParamValue, Params, QueryConfig, QueryError, QueryErrorKind, SystemRows, SystemScan, SystemTables,
};

use crate::support::{DATABASE, Fixture, rows};

const LINES: &str = "\
cpu,host=a,region=eu usage=1.5,count=1i,up=t,state=\"ok\" 1000000000
cpu,host=b usage=2.5,count=2i,total=7u 2000000000
cpu,host=a,region=eu usage=3.5,count=3i,up=f 61000000000";

async fn filled() -> Fixture {
    let mut fixture = Fixture::new().await;
    fixture.write(LINES).await;
    fixture
}

#[tokio::test]
async fn select_star_is_ordered_by_column_name() {
    let fixture = filled().await;
    fixture
        .check(
            "SELECT * FROM cpu ORDER BY time",
            "
            +-------+------+--------+-------+---------------------+-------+-------+-------+
            | count | host | region | state | time                | total | up    | usage |
            +-------+------+--------+-------+---------------------+-------+-------+-------+
            | 1     | a    | eu     | ok    | 1970-01-01T00:00:01 |       | true  | 1.5   |
            | 2     | b    |        |       | 1970-01-01T00:00:02 | 7     |       | 2.5   |
            | 3     | a    | eu     |       | 1970-01-01T00:01:01 |       | false | 3.5   |
            +-------+------+--------+-------+---------------------+-------+-------+-------+",
        )
        .await;
}

#[tokio::test]
async fn fields_carry_their_types() {
    let fixture = filled().await;
    let output = fixture
        .engine
        .sql(DATABASE, "SELECT * FROM cpu", Params::new())
        .await
        .unwrap();
    let fields: Vec<(&str, String, bool, &str)> = output
        .schema
        .fields()
        .iter()
        .map(|field| {
            let column_type = field.metadata().get("iox::column::type").unwrap();
            (
                field.name().as_str(),
                field.data_type().to_string(),
                field.is_nullable(),
                column_type.as_str(),
            )
        })
        .collect();
    let expected = [
        ("count", "Int64", true, "iox::column_type::field::integer"),
        ("host", "Dictionary(Int32, Utf8)", true, "iox::column_type::tag"),
        ("region", "Dictionary(Int32, Utf8)", true, "iox::column_type::tag"),
        ("state", "Utf8", true, "iox::column_type::field::string"),
        ("time", "Timestamp(ns)", false, "iox::column_type::timestamp"),
        ("total", "UInt64", true, "iox::column_type::field::uinteger"),
        ("up", "Boolean", true, "iox::column_type::field::boolean"),
        ("usage", "Float64", true, "iox::column_type::field::float"),
    ];
    assert_eq!(
        fields,
        expected.map(|(name, data_type, nullable, iox)| (name, data_type.to_owned(), nullable, iox))
    );
}

#[tokio::test]
async fn the_catalog_can_be_listed() {
    let mut fixture = filled().await;
    fixture.write("mem free=1 1").await;
    fixture
        .check(
            "SHOW TABLES",
            "
            +---------------+--------------------+-----------------+------------+
            | table_catalog | table_schema       | table_name      | table_type |
            +---------------+--------------------+-----------------+------------+
            | public        | iox                | cpu             | BASE TABLE |
            | public        | iox                | mem             | BASE TABLE |
            | public        | system             | influxdb_schema | BASE TABLE |
            | public        | information_schema | tables          | VIEW       |
            | public        | information_schema | views           | VIEW       |
            | public        | information_schema | columns         | VIEW       |
            | public        | information_schema | df_settings     | VIEW       |
            | public        | information_schema | schemata        | VIEW       |
            | public        | information_schema | routines        | VIEW       |
            | public        | information_schema | parameters      | VIEW       |
            +---------------+--------------------+-----------------+------------+",
        )
        .await;
    fixture
        .check(
            "SELECT column_name, ordinal_position, is_nullable, data_type FROM information_schema.columns \
             WHERE table_name = 'cpu' AND table_schema = 'iox'",
            "
            +-------------+------------------+-------------+-------------------------+
            | column_name | ordinal_position | is_nullable | data_type               |
            +-------------+------------------+-------------+-------------------------+
            | count       | 0                | YES         | Int64                   |
            | host        | 1                | YES         | Dictionary(Int32, Utf8) |
            | region      | 2                | YES         | Dictionary(Int32, Utf8) |
            | state       | 3                | YES         | Utf8                    |
            | time        | 4                | NO          | Timestamp(ns)           |
            | total       | 5                | YES         | UInt64                  |
            | up          | 6                | YES         | Boolean                 |
            | usage       | 7                | YES         | Float64                 |
            +-------------+------------------+-------------+-------------------------+",
        )
        .await;
    fixture
        .check(
            "SELECT schema_name FROM information_schema.schemata ORDER BY schema_name",
            "
            +-------------+
            | schema_name |
            +-------------+
            | iox         |
            | system      |
            +-------------+",
        )
        .await;
    for sql in [
        "SHOW COLUMNS FROM mem",
        "DESCRIBE mem",
        "EXPLAIN SELECT * FROM mem",
        "EXPLAIN ANALYZE SELECT * FROM mem",
    ] {
        let answer = fixture.answer(sql, Params::new()).await;
        assert!(answer.starts_with('+'), "{sql}: {answer}");
    }
}

#[tokio::test]
async fn system_tables_show_the_catalog() {
    let mut fixture = Fixture::new().await;
    fixture.write("mem,host=a,rack=1 free=1 1").await;
    fixture
        .check(
            "SELECT * FROM system.influxdb_schema",
            "
            +-------------+------+-----------+
            | measurement | key  | data_type |
            +-------------+------+-----------+
            | mem         | time | time      |
            | mem         | host | tag       |
            | mem         | rack | tag       |
            | mem         | free | float     |
            +-------------+------+-----------+",
        )
        .await;
    let internal = async |sql: &str| {
        let output = fixture.engine.sql("_internal", sql, Params::new()).await.unwrap();
        let batches: Vec<RecordBatch> = output.batches.map(Result::unwrap).collect().await;
        rows(&batches)
    };
    assert_eq!(
        internal("SELECT * FROM system.databases ORDER BY database_name").await,
        [
            ["_internal", "604800000000000", "false", "-"],
            ["db", "-", "false", "-"]
        ]
    );
    assert_eq!(
        internal("SELECT * FROM system.tables").await,
        [["db", "mem", "4", "host, rack", "0", "0", "false", "-", "-"]]
    );
    fixture
        .check(
            "SELECT * FROM system.databases",
            "Error during planning: table 'public.system.databases' not found",
        )
        .await;
}

struct Greetings;

impl SystemTables for Greetings {
    fn tables(&self, _database: &str) -> Vec<(&'static str, SchemaRef)> {
        vec![(
            "greetings",
            Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)])),
        )]
    }

    fn scan(&self, database: &str, _table: &str, scan: SystemScan) -> SystemRows {
        let (_, schema) = self.tables(database).remove(0);
        let text = Arc::new(StringArray::from(vec![
            format!("hello {database}"),
            "bye".to_owned(),
        ]));
        scan.answer(RecordBatch::try_new(schema, vec![text]).map_err(|error| error.to_string()))
    }
}

#[tokio::test]
async fn other_sources_add_system_tables() {
    let fixture = Fixture::with(QueryConfig::default(), vec![Arc::new(Greetings)]).await;
    fixture
        .check(
            "SELECT upper(text) AS loud FROM system.greetings WHERE text LIKE 'h%'",
            "
            +----------+
            | loud     |
            +----------+
            | HELLO DB |
            +----------+",
        )
        .await;
}

#[tokio::test]
async fn a_table_name_may_stand_in_any_quotes_or_in_a_parameter() {
    let mut fixture = Fixture::new().await;
    fixture.write("My\\ Table v=1 1").await;
    let expected = "
        +-----+
        | v   |
        +-----+
        | 1.0 |
        +-----+";
    fixture.check("SELECT v FROM 'My Table'", expected).await;
    fixture.check("SELECT v FROM \"My Table\"", expected).await;
    fixture.check("SELECT v FROM iox.\"My Table\"", expected).await;
    let params = Params::from([
        ("table".to_owned(), ParamValue::String("My Table".to_owned())),
        ("threshold".to_owned(), ParamValue::Integer(0)),
    ]);
    fixture
        .check_with("SELECT v FROM $table WHERE v > $threshold", params, expected)
        .await;
    let injection = Params::from([(
        "table".to_owned(),
        ParamValue::String("x; DROP TABLE y".to_owned()),
    )]);
    fixture
        .check_with(
            "SELECT v FROM $table",
            injection,
            "Error during planning: table 'public.iox.x; DROP TABLE y' not found",
        )
        .await;
}

#[tokio::test]
async fn parameters_of_every_type() {
    let fixture = filled().await;
    let count = async |condition: &str, value: ParamValue| {
        let params = Params::from([("p".to_owned(), value), ("unused".to_owned(), ParamValue::Null)]);
        let sql = format!("SELECT count(*) FROM cpu WHERE {condition}");
        let batches = fixture.batches(&sql, params).await.unwrap();
        rows(&batches)[0][0].clone()
    };
    assert_eq!(count("host = $p", ParamValue::String("a".to_owned())).await, "2");
    assert_eq!(
        count("host IN ($p, 'b')", ParamValue::String("a".to_owned())).await,
        "3"
    );
    assert_eq!(
        count("state = $p", ParamValue::String("ok".to_owned())).await,
        "1"
    );
    assert_eq!(count("count >= $p", ParamValue::Integer(2)).await, "2");
    assert_eq!(count("total = $p", ParamValue::UInteger(7)).await, "1");
    assert_eq!(count("usage > $p", ParamValue::Float(1.5)).await, "2");
    assert_eq!(count("up = $p", ParamValue::Boolean(true)).await, "1");
    assert_eq!(count("host = $p", ParamValue::Null).await, "0");
    assert_eq!(
        count("time >= $p", ParamValue::TimestampNs(2_000_000_000)).await,
        "2"
    );
    assert_eq!(
        count(
            "time >= $p",
            ParamValue::String("1970-01-01T00:00:02Z".to_owned())
        )
        .await,
        "2"
    );
    assert_eq!(
        count("time > to_timestamp($p)", ParamValue::Integer(2_000_000_000)).await,
        "1"
    );
    assert_eq!(
        count(
            "arrow_cast(state, 'Binary') = $p",
            ParamValue::Bytes(b"ok".to_vec())
        )
        .await,
        "1"
    );
    fixture
        .check_with(
            "SELECT $p AS x, host FROM cpu ORDER BY time LIMIT $p",
            Params::from([("p".to_owned(), ParamValue::Integer(1))]),
            "
            +---+------+
            | x | host |
            +---+------+
            | 1 | a    |
            +---+------+",
        )
        .await;
}

#[tokio::test]
async fn time_is_compared_and_binned() {
    let mut fixture = Fixture::new().await;
    let now = chrono::Utc::now().timestamp_nanos_opt().unwrap();
    let minutes_ago = |minutes: i64| now - minutes * 60_000_000_000;
    fixture
        .write(&format!(
            "t v=1 {}\nt v=2 {}\nt v=3 {}",
            minutes_ago(90),
            minutes_ago(30),
            minutes_ago(1)
        ))
        .await;
    fixture.write("fixed,h=a v=1 1704067200000000000\nfixed,h=a v=3 1704067230000000000\nfixed,h=a v=5 1704067260000000000").await;
    fixture
        .check(
            "SELECT count(*) AS n FROM t WHERE time >= now() - INTERVAL '1 hour'",
            "
            +---+
            | n |
            +---+
            | 2 |
            +---+",
        )
        .await;
    fixture
        .check(
            "SELECT DATE_BIN(INTERVAL '1 minute', time) AS minute, avg(v) AS mean, count(DISTINCT v) AS d FROM fixed \
             WHERE time >= '2024-01-01T00:00:00Z' AND time < '2024-01-01 00:02:00' GROUP BY 1 ORDER BY 1",
            "
            +---------------------+------+---+
            | minute              | mean | d |
            +---------------------+------+---+
            | 2024-01-01T00:00:00 | 2.0  | 2 |
            | 2024-01-01T00:01:00 | 5.0  | 1 |
            +---------------------+------+---+",
        )
        .await;
    fixture
        .check(
            "SELECT h, first_value(v ORDER BY time) AS f, last_value(v ORDER BY time) AS l, median(v) AS m, \
             approx_median(v) AS am, stddev(v) AS s, approx_distinct(CAST(v AS BIGINT)) AS ad FROM fixed GROUP BY h",
            "
            +---+-----+-----+-----+-----+-----+----+
            | h | f   | l   | m   | am  | s   | ad |
            +---+-----+-----+-----+-----+-----+----+
            | a | 1.0 | 5.0 | 3.0 | 3.0 | 2.0 | 3  |
            +---+-----+-----+-----+-----+-----+----+",
        )
        .await;
    fixture
        .check(
            "SELECT to_timestamp(1704067200000000001) AS a, to_timestamp('2024-01-01T00:00:00.000000001Z') AS b, \
             arrow_typeof(to_timestamp('2024-01-01')) AS t, to_timestamp_nanos(arrow_cast(5, 'Int64')) AS c",
            "
            +-------------------------------+-------------------------------+---------------+-------------------------------+
            | a                             | b                             | t             | c                             |
            +-------------------------------+-------------------------------+---------------+-------------------------------+
            | 2024-01-01T00:00:00.000000001 | 2024-01-01T00:00:00.000000001 | Timestamp(ns) | 1970-01-01T00:00:00.000000005 |
            +-------------------------------+-------------------------------+---------------+-------------------------------+",
        )
        .await;
    fixture
        .check(
            "SELECT time, v, lag(v) OVER (PARTITION BY h ORDER BY time) AS before FROM fixed ORDER BY time LIMIT 2",
            "
            +---------------------+-----+--------+
            | time                | v   | before |
            +---------------------+-----+--------+
            | 2024-01-01T00:00:00 | 1.0 |        |
            | 2024-01-01T00:00:30 | 3.0 | 1.0    |
            +---------------------+-----+--------+",
        )
        .await;
}

#[tokio::test]
async fn strings_are_never_views() {
    let fixture = filled().await;
    let expressions = [
        "host",
        "state",
        "concat(host, state)",
        "upper(host)",
        "substr(state, 1, 1)",
        "coalesce(state, 'none')",
        "host || '-' || region",
        "replace(host, 'a', 'b')",
        "'literal'",
        "CAST(count AS VARCHAR)",
        "split_part(host, 'a', 1)",
        "regexp_replace(host, 'a', 'b')",
        "max(state)",
        "string_agg(state, ',')",
        "to_char(time, '%Y')",
        "md5(host)",
        "CASE WHEN up THEN host ELSE state END",
        "trim(state)",
        "left(state, 1)",
        "arrow_typeof(host)",
        "first_value(host)",
    ];
    for expression in expressions {
        let sql = format!("SELECT {expression} AS x FROM cpu");
        let output = fixture.engine.sql(DATABASE, &sql, Params::new()).await.unwrap();
        let data_type = output.schema.field(0).data_type().to_string();
        assert!(!data_type.contains("View"), "{expression}: {data_type}");
    }
}

#[tokio::test]
async fn errors_keep_their_texts() {
    let fixture = filled().await;
    let cases = [
        (
            "",
            QueryErrorKind::Invalid,
            "Error during planning: No SQL statements were provided in the query string",
        ),
        (
            "SELECT 1; SELECT 2",
            QueryErrorKind::NotImplemented,
            "This feature is not implemented: The context currently only supports a single SQL statement",
        ),
        (
            "selec 1",
            QueryErrorKind::Invalid,
            r#"SQL error: ParserError("Expected: an SQL statement, found: selec at Line: 1, Column: 1")"#,
        ),
        (
            "SELECT * FROM nope",
            QueryErrorKind::Invalid,
            "Error during planning: table 'public.iox.nope' not found",
        ),
        (
            "SELECT nosuch(1)",
            QueryErrorKind::Invalid,
            "Error during planning: Invalid function 'nosuch'.\nDid you mean 'cosh'?",
        ),
        (
            "SELECT missing FROM (SELECT host, usage FROM cpu) AS cpu",
            QueryErrorKind::Invalid,
            "Schema error: No field named missing. Valid fields are cpu.host, cpu.usage.",
        ),
        (
            "SELECT * FROM cpu WHERE host = $h",
            QueryErrorKind::Invalid,
            "Error during planning: No value found for placeholder with name $h",
        ),
        (
            "SELECT * FROM $h",
            QueryErrorKind::Invalid,
            "Error during planning: No value found for placeholder with name $h",
        ),
        (
            "CREATE TABLE x AS SELECT 1",
            QueryErrorKind::Invalid,
            "Error during planning: DDL not supported: CreateMemoryTable",
        ),
        (
            "DROP TABLE cpu",
            QueryErrorKind::Invalid,
            "Error during planning: DDL not supported: DropTable",
        ),
        (
            "INSERT INTO cpu SELECT * FROM cpu",
            QueryErrorKind::Invalid,
            "Error during planning: DML not supported: Insert Into",
        ),
        (
            "DELETE FROM cpu",
            QueryErrorKind::Invalid,
            "Error during planning: DML not supported: Delete",
        ),
        (
            "COPY cpu TO '/tmp/x.parquet'",
            QueryErrorKind::Invalid,
            "Error during planning: DML not supported: COPY",
        ),
        (
            "SET datafusion.execution.batch_size = 1",
            QueryErrorKind::Invalid,
            "Error during planning: Statement not supported: SetVariable",
        ),
    ];
    for (sql, kind, text) in cases {
        let Err(error) = fixture.batches(sql, Params::new()).await else {
            panic!("{sql} must fail");
        };
        assert_eq!((error.to_string().as_str(), error.kind()), (text, kind), "{sql}");
    }
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM cpu WHERE time > 'garbage'",
        "EXPLAIN INSERT INTO cpu SELECT * FROM cpu",
    ] {
        let error = fixture.batches(sql, Params::new()).await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Invalid, "{sql}: {error}");
    }
}

#[tokio::test]
async fn unknown_and_deleted_databases_are_not_found() {
    let fixture = filled().await;
    let error = async |name: &str| {
        let answer = fixture.engine.sql(name, "SELECT 1", Params::new()).await;
        answer.err().expect("the database must not be found")
    };
    let unknown = error("nodb").await;
    assert_eq!(unknown.to_string(), "database not found: nodb");
    assert_eq!(unknown.kind(), QueryErrorKind::DatabaseNotFound);

    let delete =
        |transaction: &mut Transaction| transaction.soft_delete_database(DATABASE, chrono::Utc::now(), None);
    fixture.catalog.transact(delete).await.unwrap();
    assert_eq!(error(DATABASE).await.to_string(), "database not found: db");
}

#[tokio::test]
async fn a_query_ends_at_its_deadline() {
    let config = QueryConfig {
        timeout: Duration::from_millis(50),
        threads: 2,
        ..QueryConfig::default()
    };
    let fixture = Fixture::with(config, Vec::new()).await;
    let sql = "SELECT sum(a.value * b.value) FROM generate_series(1, 1000000) AS a, generate_series(1, 1000000) AS b";
    let answer = fixture.answer(sql, Params::new()).await;
    assert_eq!(
        answer,
        "Execution error: the query was stopped at its time limit of 0.05 s"
    );
}

#[tokio::test]
async fn a_reader_who_stops_reading_does_not_keep_a_query_beyond_its_deadline() {
    let timeout = Duration::from_millis(100);
    let config = QueryConfig {
        timeout,
        threads: 1,
        ..QueryConfig::default()
    };
    let fixture = Fixture::with(config, Vec::new()).await;
    let sql = "SELECT a.value FROM generate_series(1, 1000000) AS a, generate_series(1, 1000000) AS b";
    let mut output = fixture.engine.sql(DATABASE, sql, Params::new()).await.unwrap();
    output.batches.next().await.unwrap().unwrap();
    // The time limit itself is what is waited for.
    tokio::time::sleep(timeout).await;
    let rest: Vec<Result<RecordBatch, QueryError>> = output.batches.collect().await;
    // What was computed ahead is still given, then comes the error: half an answer is not taken for a whole one.
    assert!(rest.len() <= 4, "{} batches after the deadline", rest.len());
    assert!(
        matches!(rest.last(), Some(Err(QueryError::DeadlineExceeded(limit))) if *limit == timeout),
        "{:?}",
        rest.last()
    );
}

#[tokio::test]
async fn an_abandoned_query_stops() {
    let fixture = Fixture::with(
        QueryConfig {
            threads: 1,
            ..QueryConfig::default()
        },
        Vec::new(),
    )
    .await;
    let endless = "SELECT a.value FROM generate_series(1, 1000000) AS a, generate_series(1, 1000000) AS b";
    for _ in 0..20 {
        let mut output = fixture
            .engine
            .sql(DATABASE, endless, Params::new())
            .await
            .unwrap();
        output.batches.next().await.unwrap().unwrap();
    }
    let aggregate = "SELECT sum(a.value + b.value) FROM generate_series(1, 1000000) AS a, generate_series(1, 1000000) AS b";
    for _ in 0..20 {
        let mut output = fixture
            .engine
            .sql(DATABASE, aggregate, Params::new())
            .await
            .unwrap();
        assert!(futures::poll!(output.batches.next()).is_pending());
    }
    // On the only thread this would wait for ever behind a query that goes on.
    fixture
        .check(
            "SELECT 1 AS one",
            "
            +-----+
            | one |
            +-----+
            | 1   |
            +-----+",
        )
        .await;
}

#[tokio::test]
async fn memory_is_limited() {
    let config = QueryConfig {
        memory_bytes_max: 1 << 20,
        spill_bytes_max: 0,
        threads: 1,
        ..QueryConfig::default()
    };
    let fixture = Fixture::with(config, Vec::new()).await;
    let sql = "SELECT value FROM generate_series(1, 1000000) ORDER BY value % 7919";
    let error = fixture.batches(sql, Params::new()).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Exhausted, "{error}");
}

#[tokio::test]
async fn one_call_of_a_function_does_not_take_all_memory() {
    let fixture = filled().await;
    for expression in [
        "range(0, 100000000000)",
        "range(100000000000)",
        "generate_series(100000000000, 0, -1)",
        "range(TIMESTAMP '1970-01-01', TIMESTAMP '2020-01-01', INTERVAL '1 millisecond')",
        "range(DATE '0001-01-01', DATE '9999-01-01', INTERVAL '1 second')",
        "repeat('xy', 1000000000)",
        "repeat(host, 1000000000)",
        "repeat(state, count * 1000000000)",
        "lpad(host, 2000000000)",
        "rpad('x', 2000000000, 'abc')",
        "array_repeat(1, 2000000000)",
        "list_repeat([1, 2, 3], 100000000)",
        "array_resize([1], 10000000000)",
        "replace(repeat('a', 100000), 'a', repeat('b', 100000))",
    ] {
        let sql = format!("SELECT {expression} AS x FROM cpu");
        let error = fixture.batches(&sql, Params::new()).await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Exhausted, "{expression}: {error}");
    }
    fixture
        .check(
            "SELECT range(2, 8, 3) AS a, generate_series(count) AS b, repeat(host, 3) AS c, lpad('x', 3, '-') AS d, \
             array_repeat(host, 2) AS e, array_resize([1], 2, 7) AS f, replace('a.b', '.', '::') AS g, \
             list_repeat(NULL, 1) AS h, rpad(state, NULL) AS i, \
             range(DATE '2024-01-01', DATE '2024-01-03', INTERVAL '1 day') AS j FROM cpu WHERE host = 'b'",
            "
            +--------+-----------+-----+-----+--------+--------+------+----+---+--------------------------+
            | a      | b         | c   | d   | e      | f      | g    | h  | i | j                        |
            +--------+-----------+-----+-----+--------+--------+------+----+---+--------------------------+
            | [2, 5] | [0, 1, 2] | bbb | --x | [b, b] | [1, 7] | a::b | [] |   | [2024-01-01, 2024-01-02] |
            +--------+-----------+-----+-----+--------+--------+------+----+---+--------------------------+",
        )
        .await;
}

#[tokio::test]
async fn no_statement_overflows_the_stack() {
    let fixture = filled().await;
    let long = |count: usize| {
        [
            format!("SELECT usage{} FROM cpu", " + usage".repeat(count)),
            format!("SELECT usage{} FROM cpu", " IS NULL".repeat(count)),
            format!(
                "SELECT * FROM cpu WHERE host = 'x'{}",
                " OR host = 'y'".repeat(count)
            ),
            format!("SELECT 1{}", "::int".repeat(count)),
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(count)),
            format!("SELECT 1 FROM cpu{}", ", cpu".repeat(count)),
            format!("SELECT 1 FROM cpu{}", " NATURAL JOIN cpu".repeat(count)),
            format!("SELECT {}1", "NOT ".repeat(count)),
            format!("SELECT {}1", "- ".repeat(count)),
            format!("SELECT {}'1'", "INTERVAL ".repeat(count)),
            format!("SELECT CAST(1 AS {}", "STRUCT(a ".repeat(count)),
            format!("SELECT CAST(1 AS {}", "ARRAY<".repeat(count)),
            format!("{}SELECT 1", "EXPLAIN FORMAT indent ".repeat(count)),
            format!("SELECT {}1{}", "(".repeat(count), ")".repeat(count)),
            format!(
                "SELECT {}1{}",
                "CASE WHEN true THEN ".repeat(count),
                " END".repeat(count)
            ),
        ]
    };
    for sql in long(100_000) {
        let error = fixture.batches(&sql, Params::new()).await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Invalid, "{}: {error}", &sql[..50]);
    }
    // The longest that pass. They would end the process on a stack of the usual size.
    let allowed = [
        format!("SELECT usage{} FROM cpu", " IS NULL".repeat(1_900)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(1_000)),
        format!("SELECT 1{}", "::int".repeat(2_000)),
        format!(
            "SELECT * FROM cpu WHERE host = 'x'{}",
            " OR host = 'y'".repeat(1_900)
        ),
    ];
    for sql in allowed {
        let answer = fixture.batches(&sql, Params::new()).await;
        assert!(answer.is_ok(), "{}: {}", &sql[..50], answer.unwrap_err());
    }
    let names: Vec<String> = (0..50_000).map(|name| format!("'h{name}'")).collect();
    let sql = format!(
        "SELECT count(*) AS n FROM cpu WHERE host NOT IN ({})",
        names.join(", ")
    );
    let batches = fixture.batches(&sql, Params::new()).await.unwrap();
    assert_eq!(rows(&batches), [["3"]]);
}

#[tokio::test]
async fn retention_hides_old_rows_at_once() {
    let mut fixture = Fixture::new().await;
    let now = chrono::Utc::now().timestamp_nanos_opt().unwrap();
    fixture
        .write(&format!(
            "t v=1 {}\nt v=2 {now}\nt v=3 {}",
            now - 7_200_000_000_000,
            now + 1
        ))
        .await;
    let hour = Some(3_600_000_000_000);
    fixture
        .catalog
        .transact(|transaction| transaction.set_retention(DATABASE, hour))
        .await
        .unwrap();
    let batches = fixture
        .batches("SELECT v FROM t ORDER BY v", Params::new())
        .await
        .unwrap();
    assert_eq!(rows(&batches), [["2.0"], ["3.0"]]);
    let batches = fixture
        .batches("SELECT count(*) FROM t", Params::new())
        .await
        .unwrap();
    assert_eq!(rows(&batches), [["2"]]);
}
