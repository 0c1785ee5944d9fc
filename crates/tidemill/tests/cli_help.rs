//! The help of every command: a changed text is a reviewed difference.

mod support;

use support::Cli;

#[test]
fn help_of_every_command() {
    const COMMANDS: [&str; 45] = [
        "",
        "serve",
        "query",
        "write",
        "create",
        "create database",
        "create table",
        "create plugin",
        "create trigger",
        "show",
        "show databases",
        "show packages",
        "show plugins",
        "show triggers",
        "show dead-letters",
        "show summary",
        "show retention",
        "show storage",
        "show system",
        "show system table",
        "logs trigger",
        "update",
        "update database",
        "update table",
        "update trigger",
        "delete database",
        "delete table",
        "delete rows",
        "delete trigger",
        "undelete database",
        "undelete table",
        "enable trigger",
        "disable trigger",
        "drop dead-letters",
        "record trigger",
        "replay",
        "replay trigger",
        "replay plugin",
        "test wal_plugin",
        "test schedule_plugin",
        "test request_plugin",
        "install package",
        "backup",
        "restore",
        "verify",
    ];
    let cli = Cli::new();
    for command in COMMANDS {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let name = format!("help {command}").trim().replace(' ', "_");
        insta::assert_snapshot!(name, cli.run(&arguments));
    }
}

#[test]
fn a_pipe_gets_no_colours() {
    let cli = Cli::new();
    for arguments in [&["--help"][..], &["serve"], &["nonsense"]] {
        let output = cli.run(arguments);
        assert!(!output.contains('\u{1b}'), "{output}");
    }
}

#[test]
fn the_version_names_what_it_is_compatible_with() {
    insta::assert_snapshot!(Cli::new().run(&["-V"]).replace(env!("CARGO_PKG_VERSION"), "[version]"), @r"
    exit code 0
    --- stdout
    tidemill [version] (compatible with InfluxDB 3 Core 3.10)
    ");
}

#[test]
fn all_help_is_reachable_as_users_know_it() {
    let cli = Cli::new();
    assert_eq!(cli.run(&["--help-all"]), cli.run(&["--help"]));
    assert_eq!(cli.run(&["serve", "--help-all"]), cli.run(&["serve", "--help"]));
}
