//! The commands about rows, tables and databases that go and come back, against a real server.

mod support;

use insta::assert_snapshot;
use support::Cli;
use tidemill_testkit::{ServerOptions, TestServer};

async fn start() -> (TestServer, Cli) {
    let options = ServerOptions {
        in_memory: true,
        without_plugins: true,
        ..ServerOptions::default()
    };
    let server = TestServer::start_with(env!("CARGO_BIN_EXE_tidemill"), options).await;
    let cli = Cli::new()
        .with("INFLUXDB3_HOST_URL", &server.url())
        .with("INFLUXDB3_DATABASE_NAME", "weather");
    let lines = "air,site=pier t=1 1\nair,site=gate t=2 2\nair,site=pier t=3 3";
    let written = cli.run(&["write", "-q", "-p", "s", lines]);
    assert_eq!(written, "exit code 0");
    (server, cli)
}

const ROWS: &str = "SELECT site, t FROM air ORDER BY time";

#[tokio::test]
async fn rows_are_deleted_after_a_question() {
    let (_server, cli) = start().await;
    let rows = || cli.run(&["query", "--format", "csv", ROWS]);
    let of_pier = [
        "delete",
        "rows",
        "-t",
        "air",
        "--where",
        "site = 'pier'",
        "--stop",
        "1970-01-01T00:00:02Z",
    ];
    assert_snapshot!(cli.run_with_input(&of_pier, "no\n"), @r#"
    exit code 1
    --- stderr
    Are you sure you want to delete the rows of "weather"."air" to 1970-01-01T00:00:02Z where site = 'pier'? Enter 'yes' or 'y' to confirm
    Delete command failed: Cannot proceed without confirmation
    "#);
    assert_snapshot!(cli.run_with_input(&of_pier, "y\n"), @r#"
    exit code 0
    --- stdout
    Rows of "weather"."air" deleted successfully
    --- stderr
    Are you sure you want to delete the rows of "weather"."air" to 1970-01-01T00:00:02Z where site = 'pier'? Enter 'yes' or 'y' to confirm
    "#);
    assert_snapshot!(rows(), @r"
    exit code 0
    --- stdout
    site,t
    gate,2.0
    pier,3.0
    ");
    assert_snapshot!(cli.run(&["delete", "rows", "-t", "air", "--where", "t = '1'", "-y"]), @r#"
    exit code 1
    --- stderr
    Delete command failed: server responded with error [400 Bad Request]: {"error":"column 't' of table 'air' is a field: rows are deleted by tags and time only"}
    "#);
    assert_snapshot!(cli.run_with_input(&["delete", "rows", "-t", "air"], ""), @r#"
    exit code 1
    --- stderr
    Are you sure you want to delete all rows of "weather"."air"? Enter 'yes' or 'y' to confirm
    Delete command failed: Cannot proceed without confirmation
    "#);
    assert_snapshot!(cli.run(&["delete", "rows", "-t", "air", "--start", "-5", "-y"]), @r#"
    exit code 0
    --- stdout
    Rows of "weather"."air" deleted successfully
    "#);
    assert!(!rows().contains("pier"), "{}", rows());
}

#[tokio::test]
async fn tables_and_databases_come_back() {
    let (_server, cli) = start().await;
    assert_snapshot!(cli.run(&["undelete", "table", "air"]), @r#"
    exit code 1
    --- stderr
    Undelete command failed: server responded with error [404 Not Found]: {"error":"there is no deleted table 'air'"}
    "#);
    cli.run(&["delete", "table", "air", "-y"]);
    assert_snapshot!(cli.run(&["undelete", "table", "air"]), @r#"
    exit code 0
    --- stdout
    Table "weather"."air" undeleted successfully
    "#);
    cli.run(&["delete", "database", "weather", "-y"]);
    assert_snapshot!(cli.run(&["undelete", "database", "weather", "--new-name", "climate"]), @r#"
    exit code 0
    --- stdout
    Database "climate" undeleted successfully
    "#);
    assert_snapshot!(cli.run(&["query", "-d", "climate", "--format", "csv", "SELECT count(*) AS n FROM air"]), @r"
    exit code 0
    --- stdout
    n
    3
    ");
}

#[tokio::test]
async fn retention_is_set_and_shown() {
    let (_server, cli) = start().await;
    let updated = cli.run(&["update", "database", "-r", "30d"]);
    assert!(updated.starts_with("exit code 0"), "{updated}");
    assert_snapshot!(cli.run(&["update", "table", "air", "-r", "36h"]), @r#"
    exit code 0
    --- stdout
    Table "weather"."air" updated successfully
    "#);
    cli.run(&[
        "create",
        "table",
        "sea",
        "--fields",
        "t:float64",
        "--retention-period",
        "infinite",
    ]);
    cli.run(&["create", "table", "sky", "--fields", "t:float64"]);
    cli.run(&["create", "database", "other"]);
    assert_snapshot!(cli.run(&["show", "retention", "--format", "csv"]), @r"
    exit code 0
    --- stdout
    database_name,retention_period
    _internal,7.0000d
    other,infinite
    weather,30.0000d
    ");
    assert_snapshot!(cli.run(&["show", "retention", "-d", "weather", "--tables", "--format", "csv"]), @r"
    exit code 0
    --- stdout
    database_name,table_name,retention_period
    weather,air,1.5000d
    weather,sea,infinite
    weather,sky,30.0000d
    ");
    let bad = cli.run(&["update", "table", "air", "-r", "soon"]);
    assert!(
        bad.starts_with(
            "exit code 1\n--- stderr\nUpdate command failed: server responded with error [400 Bad Request]: "
        ),
        "{bad}"
    );
}

#[tokio::test]
async fn storage_is_shown_by_database_and_by_table() {
    let (_server, cli) = start().await;
    let of_databases = cli.run(&["show", "storage", "--format", "csv"]);
    let columns = "database_name,tables,buffer_rows,buffer_bytes,files,file_rows,file_bytes,pending_deletes,min_time,max_time";
    assert!(of_databases.contains(columns), "{of_databases}");
    assert!(of_databases.contains("\nweather,1,3,"), "{of_databases}");
    let of_tables = cli.run(&["show", "storage", "-d", "weather", "--format", "json"]);
    assert!(
        of_tables.contains(r#""table_name":"air","buffer_rows":3"#),
        "{of_tables}"
    );
}
