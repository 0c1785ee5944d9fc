//! What commands say and how they exit when they are used wrongly or cannot do what they should.

mod support;

use std::{fs, process::Command};

use insta::assert_snapshot;
use support::Cli;

/// Nobody listens on this port: connecting to it is refused at once.
const NOBODY: &str = "http://127.0.0.1:1";

fn cli() -> Cli {
    Cli::new().with("INFLUXDB3_HOST_URL", NOBODY)
}

#[test]
fn wrong_usage_exits_with_2() {
    let cli = cli();
    assert_snapshot!("serve_without_a_name", cli.run(&["serve"]));
    assert_snapshot!(
        "serve_with_two_names",
        cli.run(&["serve", "--node-id", "a", "--node-id-from-env", "B"])
    );
    assert_snapshot!(
        "create_trigger_with_a_bad_specification",
        cli.run(&[
            "create",
            "trigger",
            "t",
            "-d",
            "db",
            "--path",
            "p.py",
            "--trigger-spec",
            "evry:1m"
        ])
    );
    assert_snapshot!(
        "create_trigger_with_a_bad_behavior",
        cli.run(&[
            "create",
            "trigger",
            "t",
            "-d",
            "db",
            "--path",
            "p.py",
            "--trigger-spec",
            "all_tables",
            "--error-behavior",
            "panic"
        ])
    );
    let create = [
        "create",
        "trigger",
        "t",
        "-d",
        "db",
        "--path",
        "p.py",
        "--trigger-spec",
    ];
    for (name, more) in [
        (
            "create_trigger_with_a_bad_timeout",
            &["all_tables", "--run-timeout", "0s"][..],
        ),
        (
            "create_trigger_with_a_bad_size",
            &["all_tables", "--memory-limit", "much"],
        ),
        ("create_trigger_without_workers", &["request:a", "--workers", "0"]),
        (
            "create_trigger_with_a_bad_method",
            &["request:a", "--methods", "GET,LOOK"],
        ),
        (
            "create_trigger_with_a_bad_catch_up",
            &["every:1s", "--catch-up", "some"],
        ),
        (
            "create_trigger_with_a_bad_start",
            &["all_tables", "--start-at", "yesterday"],
        ),
        (
            "create_trigger_with_a_misplaced_catch_up",
            &["table:air", "--catch-up", "all"],
        ),
        (
            "create_trigger_with_misplaced_methods",
            &["every:1s", "--methods", "GET"],
        ),
        (
            "create_trigger_with_a_misplaced_start",
            &["every:1s", "--start-at", "beginning"],
        ),
    ] {
        assert_snapshot!(name, cli.run(&[&create, more].concat()));
    }
    assert_snapshot!(
        "update_trigger_with_no_change",
        cli.run(&["update", "trigger", "-d", "db", "-t", "t"])
    );
    assert_snapshot!(
        "create_table_with_a_bad_type",
        cli.run(&["create", "table", "t", "-d", "db", "--fields", "f:int32"])
    );
    assert_snapshot!(
        "write_with_a_bad_precision",
        cli.run(&["write", "-d", "db", "-p", "fake", "m f=1"])
    );
    assert_snapshot!("query_without_a_database", cli.run(&["query", "SELECT 1"]));
    assert_snapshot!("install_nothing", cli.run(&["install", "package"]));
    assert_snapshot!("unknown_command", cli.run(&["shwo", "databases"]));
}

#[test]
fn what_a_command_needs_is_checked_before_anything_is_sent() {
    let cli = cli();
    assert_snapshot!(
        "create_trigger_without_a_path",
        cli.run(&[
            "create",
            "trigger",
            "t",
            "-d",
            "db",
            "--trigger-spec",
            "all_tables"
        ])
    );
    assert_snapshot!(
        "create_trigger_with_bad_arguments",
        cli.run(&[
            "create",
            "trigger",
            "t",
            "-d",
            "db",
            "--path",
            "p.py",
            "--trigger-spec",
            "all_tables",
            "--trigger-arguments",
            "threshold"
        ])
    );
    assert_snapshot!(
        "upload_what_is_not_there",
        cli.run(&[
            "create",
            "trigger",
            "t",
            "-d",
            "db",
            "--path",
            "none.py",
            "--upload",
            "--trigger-spec",
            "all_tables"
        ])
    );
    fs::create_dir(cli.folder().join("empty")).unwrap();
    assert_snapshot!(
        "update_with_an_empty_folder",
        cli.run(&["update", "trigger", "-d", "db", "-t", "t", "-p", "empty"])
    );
    assert_snapshot!(
        "update_with_nothing",
        cli.run(&["update", "trigger", "-d", "db", "-t", "t", "-p", "none"])
    );
    assert_snapshot!(
        "test_wal_plugin_without_input",
        cli.run(&["test", "wal_plugin", "p.py", "-d", "db"])
    );
    assert_snapshot!(
        "delete_without_confirmation",
        cli.run(&["delete", "database", "weather"])
    );
    assert_snapshot!(
        "delete_declined",
        cli.run_with_input(&["delete", "table", "air", "-d", "weather"], "no\n")
    );
    assert_snapshot!(
        "write_a_file_that_is_not_there",
        cli.run(&["write", "-d", "db", "--file", "none.lp"])
    );
    assert_snapshot!(
        "write_nothing",
        cli.run_with_input(&["write", "-d", "db"], "\n# nothing\n")
    );
    assert_snapshot!(
        "host_is_no_url",
        cli.run(&["show", "databases", "-H", "localhost:8181"])
    );
}

#[test]
fn every_command_says_when_nobody_answers() {
    let cli = cli();
    assert_snapshot!("query_nobody", cli.run(&["query", "-d", "db", "SELECT 1"]));
    assert_snapshot!("write_nobody", cli.run(&["write", "-d", "db", "m f=1"]));
    assert_snapshot!(
        "create_trigger_nobody",
        cli.run(&[
            "create",
            "trigger",
            "t",
            "-d",
            "db",
            "--path",
            "p.py",
            "--trigger-spec",
            "all_tables"
        ])
    );
    let commands: [(&str, &[&str]); 13] = [
        ("Create", &["create", "database", "db"]),
        ("Update", &["update", "database", "-d", "db", "-r", "30d"]),
        ("Delete", &["delete", "database", "db", "--yes"]),
        ("Enable", &["enable", "trigger", "t", "-d", "db"]),
        ("Disable", &["disable", "trigger", "t", "-d", "db"]),
        ("Show", &["show", "databases"]),
        ("Show", &["show", "dead-letters", "-d", "db"]),
        ("Drop", &["drop", "dead-letters", "-d", "db", "-t", "t"]),
        ("Replay", &["replay", "trigger", "t", "-d", "db"]),
        ("Record", &["record", "trigger", "t", "-d", "db", "-o", "f"]),
        ("Show", &["show", "system", "-d", "db", "table-list"]),
        (
            "Test",
            &["test", "wal_plugin", "p.py", "-d", "db", "--lp", "m f=1"],
        ),
        ("Install", &["install", "package", "psutil"]),
    ];
    for (verb, arguments) in commands {
        let output = cli.run(arguments);
        let expected = format!("exit code 1\n--- stderr\n{verb} command failed: no answer from {NOBODY}: ");
        assert!(output.starts_with(&expected), "{arguments:?}: {output}");
    }
}

#[test]
fn a_server_that_everyone_reaches_must_be_asked_for() {
    let output = cli().run(&[
        "serve",
        "--node-id",
        "a",
        "--object-store",
        "memory",
        "--http-bind",
        "0.0.0.0:0",
    ]);
    assert_snapshot!("serve_for_everyone", output);
    assert_snapshot!(
        "serve_with_a_bad_filter",
        cli().run(&["serve", "--node-id", "a", "--log-filter", "a=b=c"])
    );
}

#[test]
fn variables_and_dotenv_stand_in_for_options() {
    let refused = |cli: &Cli| cli.run(&["show", "databases"]);
    let own = Cli::new()
        .with("INFLUXDB3_HOST_URL", "http://127.0.0.1:2")
        .with("TIDEMILL_HOST_URL", NOBODY);
    assert!(
        refused(&own).contains("no answer from http://127.0.0.1:1:"),
        "the own name wins"
    );

    let dotenv = Cli::new();
    fs::write(
        dotenv.folder().join(".env"),
        format!("INFLUXDB3_HOST_URL={NOBODY}\n"),
    )
    .unwrap();
    assert!(
        refused(&dotenv).contains("no answer from http://127.0.0.1:1:"),
        "{}",
        refused(&dotenv)
    );

    fs::write(dotenv.folder().join(".env"), "not a variable\n").unwrap();
    let output = refused(&dotenv);
    assert!(
        output.starts_with("exit code 1\n--- stderr\ncannot read .env"),
        "{output}"
    );
}

/// The first look at the program: no argument, nothing set but a free port.
#[test]
fn without_arguments_a_server_starts_under_the_home_directory() {
    let folder = tempfile::tempdir().unwrap();
    let address_file = folder.path().join("address");
    let cli = Cli::new()
        .with("TIDEMILL_HTTP_BIND_ADDR", "127.0.0.1:0")
        .with("TIDEMILL_TCP_LISTENER_FILE_PATH", address_file.to_str().unwrap());
    let server = cli.command(&[]).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !address_file.exists() {
        assert!(std::time::Instant::now() < deadline, "the server does not listen");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = server.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = server.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(cli.folder().join(".tidemill/data").is_dir());
    for expected in [
        "Starting Tidemill on http://127.0.0.1:0",
        ".tidemill/data",
        ".tidemill/plugins",
        "tidemill write",
        "tidemill query",
    ] {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("Using auto-generated node id: "), "{stderr}");
}
