//! The commands against a real server: what they print, and what is there afterwards.

mod support;

use std::fs;

use insta::assert_snapshot;
use support::Cli;
use tidemill_testkit::{ServerOptions, TestServer};

/// A server with a plugin directory, for which nothing is installed, and a command line that talks to it.
async fn start() -> (TestServer, Cli) {
    let cli = Cli::new();
    let plugins = cli.folder().join("plugins").display().to_string();
    let options = ServerOptions {
        in_memory: true,
        without_plugins: true,
        arguments: ["--plugin-dir", &plugins, "--package-manager", "disabled"]
            .map(str::to_owned)
            .to_vec(),
        ..ServerOptions::default()
    };
    let server = TestServer::start_with(env!("CARGO_BIN_EXE_tidemill"), options).await;
    let cli = cli
        .with("INFLUXDB3_HOST_URL", &server.url())
        .with("INFLUXDB3_DATABASE_NAME", "weather");
    (server, cli)
}

#[tokio::test]
async fn databases_and_tables_come_and_go() {
    let (_server, cli) = start().await;
    assert_snapshot!(cli.run(&["create", "database", "weather"]), @r#"
    exit code 0
    --- stdout
    Database "weather" created successfully
    "#);
    assert_snapshot!(cli.run(&["create", "database", "weather"]), @r#"
    exit code 1
    --- stderr
    Create command failed: server responded with error [409 Conflict]: {"error":"attempted to create a resource that already exists"}
    "#);
    assert_snapshot!(cli.run(&["create", "table", "air", "--tags", "site", "--fields", "temperature:float64"]), @r#"
    exit code 0
    --- stdout
    Table "weather"."air" created successfully
    "#);
    assert_snapshot!(cli.run(&["update", "database", "-r", "30d"]), @r#"
    exit code 0
    --- stdout
    Database "weather" updated successfully
    "#);
    assert_snapshot!(cli.run(&["show", "databases", "--format", "csv"]), @r"
    exit code 0
    --- stdout
    iox::database
    _internal
    weather
    ");
    assert_snapshot!(cli.run_with_input(&["delete", "table", "air"], "yes\n"), @r#"
    exit code 0
    --- stdout
    Table "weather"."air" deleted successfully
    --- stderr
    Are you sure you want to delete "air"? Enter 'yes' or 'y' to confirm
    "#);
    assert_snapshot!(cli.run(&["delete", "database", "weather", "-y"]), @r#"
    exit code 0
    --- stdout
    Database "weather" deleted successfully
    "#);
}

#[tokio::test]
async fn what_is_written_is_queried() {
    let (_server, cli) = start().await;
    let lines = "air,site=pier temperature=11.5 1700000000\nair,site=gate temperature=12 1700000060";
    assert_snapshot!(cli.run(&["write", "--quiet", "--precision", "s", lines]), @"exit code 0");
    let gzipped =
        "air,site=pier temperature=9 1700000120\n# a comment\nair,site=pier note=\"two\nlines\" 1700000120";
    assert_eq!(
        cli.run_with_input(
            &["write", "-q", "--gzip", "-p", "s", "--max-request-size", "40"],
            gzipped
        ),
        "exit code 0"
    );
    let summary = cli.run(&["write", "-p", "s", "air,site=quay temperature=1 1700000000"]);
    assert!(summary.starts_with("exit code 0\n--- stderr\n"), "{summary}");
    assert!(summary.contains(": 1 request ("), "{summary}");

    let rows = "SELECT site, temperature, note, time FROM air ORDER BY time, site";
    assert_snapshot!("query_pretty", cli.run(&["query", rows]));
    fs::write(cli.folder().join("count.sql"), "SELECT count(*) AS n FROM air").unwrap();
    assert_snapshot!(cli.run(&["query", "--format", "json", "--file", "count.sql"]), @r#"
    exit code 0
    --- stdout
    [{"n":4}]
    "#);
    assert_snapshot!(cli.run_with_input(&["q", "--format", "csv"], "SELECT count(*) AS n FROM air"), @r"
    exit code 0
    --- stdout
    n
    4
    ");
    let parquet = cli.run(&[
        "query",
        "--format",
        "parquet",
        "-o",
        "air.parquet",
        "SELECT * FROM air",
    ]);
    assert_eq!(parquet, "exit code 0");
    let bytes = fs::read(cli.folder().join("air.parquet")).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));

    assert_snapshot!(cli.run(&["query", "SELECT * FROM sea"]), @r#"
    exit code 1
    --- stderr
    Query command failed: server responded with error [400 Bad Request]: {"error":"Error during planning: table 'public.iox.sea' not found"}
    "#);
    assert_snapshot!("write_a_bad_line", cli.run(&["write", "air,site=pier"]));
}

#[tokio::test]
async fn triggers_are_created_and_switched() {
    let (server, cli) = start().await;
    cli.run(&["create", "database", "weather"]);
    fs::write(
        cli.folder().join("alert.py"),
        "def process_writes(api, batches, args): pass\n",
    )
    .unwrap();
    let create = [
        "create",
        "trigger",
        "alert",
        "--path",
        "alert.py",
        "--upload",
        "--trigger-spec",
        "every:90s",
        "--trigger-arguments",
        "threshold=30,sites=pier,gate",
        "--disabled",
    ];
    assert_snapshot!(cli.run(&create), @r"
    exit code 0
    --- stdout
    Trigger alert created successfully
    ");
    let rows = server
        .query("weather", "SELECT * FROM system.processing_engine_triggers")
        .await;
    assert_eq!(rows[0]["plugin_filename"], "alert.py");
    assert_eq!(rows[0]["disabled"], true);
    let rows = server
        .query(
            "weather",
            "SELECT argument_key, argument_value FROM system.processing_engine_trigger_arguments ORDER BY argument_key",
        )
        .await;
    assert_eq!(rows[0]["argument_value"], "pier,gate");
    assert_eq!(rows[1]["argument_value"], "30");

    assert_snapshot!("create_trigger_again", cli.run(&create));
    assert_snapshot!(cli.run(&["update", "trigger", "-t", "alert", "-p", "alert.py"]), @r"
    exit code 0
    --- stdout
    Trigger 'alert' updated successfully
    ");
    assert_snapshot!("show_summary", cli.run(&["show", "summary"]));
    assert_snapshot!(
        "show_summary_json",
        cli.run(&["show", "summary", "--format", "json"])
    );
    assert_snapshot!(cli.run(&["enable", "trigger", "alert"]), @r"
    exit code 0
    --- stdout
    Trigger alert enabled successfully
    ");
    assert_snapshot!("delete_enabled_trigger", cli.run(&["delete", "trigger", "alert"]));
    assert_snapshot!(cli.run(&["disable", "trigger", "alert"]), @r"
    exit code 0
    --- stdout
    Trigger alert disabled successfully
    ");
    assert_snapshot!(cli.run(&["delete", "trigger", "alert"]), @r"
    exit code 0
    --- stdout
    Trigger alert deleted successfully
    ");
    assert_snapshot!(cli.run(&["enable", "trigger", "alert"]), @r#"
    exit code 1
    --- stderr
    Enable command failed: server responded with error [404 Not Found]: {"error":"the requested resource was not found: alert"}
    "#);
    assert_snapshot!(cli.run(&["install", "package", "psutil"]), @r#"
    exit code 1
    --- stderr
    Install command failed: server responded with error [403 Forbidden]: {"error":"Package installation has been disabled. Contact your administrator for more information."}
    "#);
}

#[tokio::test]
async fn system_tables_are_shown() {
    let (_server, cli) = start().await;
    cli.run(&["create", "database", "weather"]);
    let list = cli.run(&["show", "system", "table-list", "--format", "csv"]);
    assert!(list.contains("processing_engine_triggers,"), "{list}");
    let table = cli.run(&[
        "show",
        "system",
        "table",
        "processing_engine_triggers",
        "--format",
        "json",
    ]);
    assert_eq!(table, "exit code 0\n--- stdout\n[]");
    let unknown = cli.run(&["show", "system", "table", "air"]);
    let expected = "exit code 1\n--- stderr\nShow command failed: system table 'air' not found: please use a valid \
                    system table name: [\"";
    assert!(unknown.starts_with(expected), "{unknown}");
    let summary = cli.run(&["show", "system", "summary"]);
    assert!(
        summary.contains("\nprocessing_engine_logs summary:\n"),
        "{summary}"
    );
    assert_snapshot!(cli.run(&["show", "plugins", "--format", "json"]), @r"
    exit code 0
    --- stdout
    []
    ");
}

#[tokio::test]
async fn settings_are_given_changed_and_taken_back() {
    let (server, cli) = start().await;
    cli.run(&["create", "database", "weather"]);
    fs::write(cli.folder().join("plugins/p.py"), "").unwrap();
    let create = |name: &str, spec: &str, more: &[&str]| {
        let arguments = [
            "create",
            "trigger",
            name,
            "--path",
            "p.py",
            "--disabled",
            "--trigger-spec",
            spec,
        ];
        cli.run(&[&arguments, more].concat())
    };
    let limits = [
        "--run-timeout",
        "30s",
        "--memory-limit",
        "256MB",
        "--catch-up",
        "latest",
    ];
    assert_snapshot!(create("report", "every:90s", &limits), @r"
    exit code 0
    --- stdout
    Trigger report created successfully
    ");
    let update = [
        "update",
        "trigger",
        "-t",
        "report",
        "--run-asynchronous",
        "--memory-limit",
        "default",
    ];
    assert_snapshot!(cli.run(&update), @r"
    exit code 0
    --- stdout
    Trigger 'report' updated successfully
    ");
    assert_snapshot!(cli.run(&["update", "trigger", "-t", "report", "--workers", "2"]), @r#"
    exit code 1
    --- stderr
    Update command failed: server responded with error [400 Bad Request]: {"error":"the setting 'workers' is for HTTP endpoints (request:); this trigger runs on a schedule"}
    "#);
    assert_snapshot!(cli.run(&["update", "trigger", "-t", "report", "--workers", "default"]), @r"
    exit code 0
    --- stdout
    Trigger 'report' updated successfully
    ");
    // Clients that do not check are refused too.
    let body = serde_json::json!({
        "db": "weather", "trigger_name": "t", "plugin_filename": "p.py", "disabled": true,
        "trigger_specification": "table:air", "trigger_settings": { "catch_up": "all" },
    });
    let answer = server
        .post_json("/api/v3/configure/processing_engine_trigger", &body)
        .await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json()["error"],
        "the setting 'catch_up' is for schedules (every:, cron:); this trigger runs on writes"
    );
}

#[tokio::test]
async fn a_folder_is_uploaded_with_all_that_belongs_to_it() {
    let (_server, cli) = start().await;
    cli.run(&["create", "database", "weather"]);
    let (source, target) = (cli.folder().join("pack"), cli.folder().join("plugins/pack"));
    fs::create_dir_all(source.join("data")).unwrap();
    fs::create_dir_all(source.join(".git")).unwrap();
    fs::write(source.join("__init__.py"), "").unwrap();
    fs::write(source.join("data/limits.toml"), "limit = 30").unwrap();
    fs::write(source.join("data/logo.png"), [0x89, b'P', 0xff, 0]).unwrap();
    fs::write(source.join(".git/config"), "").unwrap();
    let created = cli.run(&[
        "create",
        "trigger",
        "pack",
        "--path",
        "pack",
        "--upload",
        "--trigger-spec",
        "all_tables",
        "--disabled",
    ]);
    assert_eq!(
        created,
        "exit code 0\n--- stdout\nTrigger pack created successfully"
    );
    assert_eq!(
        fs::read(target.join("data/logo.png")).unwrap(),
        [0x89, b'P', 0xff, 0]
    );
    assert_eq!(fs::read(target.join("data/limits.toml")).unwrap(), b"limit = 30");
    assert!(!target.join(".git").exists());

    fs::remove_file(source.join("data/limits.toml")).unwrap();
    fs::write(source.join("data/logo.png"), [0xfe]).unwrap();
    assert_snapshot!(cli.run(&["update", "trigger", "-t", "pack", "-p", "pack"]), @r"
    exit code 0
    --- stdout
    Trigger 'pack' updated successfully (atomic directory replacement)
    ");
    assert_eq!(fs::read(target.join("data/logo.png")).unwrap(), [0xfe]);
    assert!(!target.join("data/limits.toml").exists());

    fs::write(source.join("large.bin"), vec![0xff; 9 << 20]).unwrap();
    let refused = cli.run(&["update", "trigger", "-t", "pack", "-p", "pack"]);
    assert!(
        refused.contains("413 Payload Too Large") && refused.contains("--max-http-request-size"),
        "{refused}"
    );
}
