//! Arrow tables and the packages that people use them with: `to_arrow()`, `query_arrow()`, and tables as the argument of `write`
//! (`spec/engine.md` 0.24, 0.26).

use serde_json::{Value, json};
use tidemill_testkit::{ServerOptions, TestServer, eventually, venv_with};

use crate::PROGRAM;

pub(crate) const PACKAGES: [&str; 4] = ["pyarrow", "polars", "pandas", "duckdb"];

/// Reads the batch and a query with each package, and writes what each of them has made of it.
const PLUGIN: &str = r#"
import duckdb, pandas, polars, pyarrow

def readers():
    return {
        "pyarrow": lambda source: pyarrow.table(source),
        "polars": lambda source: polars.DataFrame(source),
        "pandas": lambda source: pyarrow.table(source).to_pandas(),
        "duckdb": lambda source: duckdb.sql("SELECT * FROM source"),
    }

def process_writes(influxdb3_local, table_batches, args=None):
    written = table_batches[0].to_arrow()
    found = influxdb3_local.query_arrow("SELECT * FROM m WHERE n > $least ORDER BY time", {"least": 1})
    for name, read in readers().items():
        # duckdb has no categories: its tags are text.
        tags = ["host"] if name == "duckdb" else None
        influxdb3_local.write(read(written), table=f"written_{name}", tags=tags)
        influxdb3_local.write(read(found), table=f"found_{name}", tags=tags)
        if name != "duckdb":
            influxdb3_local.write(LineBuilder("lengths").tag("name", name).int64_field("n", len(read(found))))
    means = polars.DataFrame(found).group_by("host").agg(polars.col("f").mean(), polars.col("time").max())
    influxdb3_local.write_to_db("means", means, table="means")
    frame = pyarrow.table(written).to_pandas().set_index("time")[["f", "host"]]
    influxdb3_local.write_sync(frame[frame["f"] > 1], table="indexed", no_sync=False)
"#;

async fn rows(server: &TestServer, sql: &str) -> Vec<Value> {
    server.query("d", sql).await
}

#[tokio::test]
async fn packages_read_tables_and_what_they_make_is_written() {
    let Some(venv) = venv_with(&PACKAGES) else { return };
    let venv = venv
        .to_str()
        .expect("the target folder has a plain name")
        .to_owned();
    let options = ServerOptions {
        own_venv: true,
        arguments: vec!["--virtual-env-location".to_owned(), venv],
        ..ServerOptions::default()
    };
    let server = TestServer::start_with(PROGRAM, options).await;
    server.create_database("d").await;
    server.put_plugin("tables.py", PLUGIN);
    server
        .create_trigger("d", "tables", "tables.py", "table:m", json!({}))
        .await;
    let lines = "m,host=a\\ b f=1.5,n=1i,u=18446744073709551615u,b=t,s=\"x, \\\"y\\\"\" 1700000000000000001\n\
                 m,host=c f=0.1,n=2i,u=2u,b=f,s=\"\\\\\" 1700000000000000002\n\
                 m f=1e300,n=3i,u=3u,b=t,s=\"ü\" 1700000000000000003\n\
                 m,host=c n=4i,u=4u,b=f,s=\"f is null\" 1700000000000000004";
    server.write("d", lines).await;
    let is_written =
        async || (server.try_query("means", "SELECT * FROM means").await.status == 200).then_some(());
    let failed = "SELECT log_text FROM system.processing_engine_logs WHERE log_level = 'ERROR'";
    let ended = async || {
        let errors = rows(&server, failed).await;
        assert!(errors.is_empty(), "{errors:#?}");
        is_written().await
    };
    eventually("the run is committed", ended).await;

    let select = |table: &str, condition: &str| {
        format!("SELECT host, f, n, u, b, s, time FROM {table} {condition} ORDER BY time")
    };
    let all = rows(&server, &select("m", "")).await;
    let later = rows(&server, &select("m", "WHERE n > 1")).await;
    assert_eq!((all.len(), later.len()), (4, 3));
    for package in PACKAGES {
        assert_eq!(
            rows(&server, &select(&format!("written_{package}"), "")).await,
            all,
            "{package}"
        );
        assert_eq!(
            rows(&server, &select(&format!("found_{package}"), "")).await,
            later,
            "{package}"
        );
    }
    let types = "SELECT DISTINCT column_name, data_type FROM information_schema.columns \
                 WHERE table_schema = 'iox' AND table_name LIKE '%n_%' AND column_name IN ('host', 'n', 'u')";
    let mut types = rows(&server, types).await;
    types.sort_by_key(ToString::to_string);
    assert_eq!(
        types,
        [
            json!({"column_name": "host", "data_type": "Dictionary(Int32, Utf8)"}),
            json!({"column_name": "n", "data_type": "Int64"}),
            json!({"column_name": "u", "data_type": "UInt64"}),
        ]
    );
    let lengths = rows(&server, "SELECT name FROM lengths WHERE n = 3 ORDER BY name").await;
    assert_eq!(
        lengths,
        [
            json!({"name": "pandas"}),
            json!({"name": "polars"}),
            json!({"name": "pyarrow"})
        ]
    );
    let means = server
        .query("means", "SELECT host, f FROM means ORDER BY f")
        .await;
    assert_eq!(means, [json!({"host": "c", "f": 0.1}), json!({"f": 1e300})]);
    let indexed = rows(&server, "SELECT host, f, time FROM indexed ORDER BY time").await;
    let above_one = rows(&server, "SELECT host, f, time FROM m WHERE f > 1 ORDER BY time").await;
    assert_eq!(indexed, above_one);
}
