//! `serve`, and the server that is started without any argument.

use std::{
    ffi::OsString,
    io::{self, IsTerminal},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgGroup, Args, FromArgMatches, ValueEnum, builder::FalseyValueParser};
use tidemill_catalog::Limits;
use tidemill_engine::EngineConfig;
use tidemill_object_stores::Location;
use tidemill_plugin_repo::DEFAULT_URL;
use tidemill_server::ServerConfig;
use tidemill_triggers::{ByteSize, CatchUp, PluginType, RetryPolicy};
use tidemill_worker::{PackageManager, SandboxLevel, SandboxProfile};
use tracing_subscriber::EnvFilter;

use super::serve_deletion::DeletionArgs;
use super::settings::{
    any_path, home, parse_address, parse_duration, parse_memory, parse_output_limit, present,
};
use super::snapshot_settings::SnapshotArgs;
use super::storage_args::StorageArgs;
use crate::{environment, failure::CommandError, print};

const AFTER_HELP: &str = "\
Examples:
  tidemill serve --node-id node0 --data-dir ./data --plugin-dir ./plugins --http-bind 127.0.0.1:8181
  tidemill serve --node-id scratch --object-store memory --http-bind 127.0.0.1:0
  tidemill serve --node-id node0 --data-dir ./data --without-auth";

const DEFAULT_PORT: u16 = 8181;
const DEFAULT_LOG_FILTER: &str = "info";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TriggerType {
    /// Triggers for written rows
    #[value(alias = "wal_flush")]
    Wal,
    /// Triggers on a schedule
    Schedule,
    /// Triggers for HTTP requests
    Request,
}

impl From<TriggerType> for PluginType {
    fn from(trigger_type: TriggerType) -> Self {
        match trigger_type {
            TriggerType::Wal => Self::WalRows,
            TriggerType::Schedule => Self::Schedule,
            TriggerType::Request => Self::Request,
        }
    }
}

/// Options of `serve`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, group = ArgGroup::new("node").required(true))]
pub(crate) struct ServeArgs {
    /// Name of this server in its object store; everything it stores is under this name
    #[arg(long, alias = "host-id", env = environment::NODE_ID, value_name = "PREFIX", group = "node")]
    node_id: Option<String>,

    /// Environment variable to take the name from
    #[arg(long, env = environment::NODE_ID_FROM_ENV, value_name = "FROM_ENV_VAR", group = "node")]
    node_id_from_env: Option<String>,

    #[command(flatten)]
    storage: StorageArgs,

    /// How often the log is made durable [default: 1s; on files as soon as a writer waits]
    #[arg(long, env = environment::WAL_FLUSH_INTERVAL, value_parser = parse_duration, value_name = "DURATION", help_heading = "Storage")]
    wal_flush_interval: Option<Duration>,

    #[command(flatten)]
    snapshot: SnapshotArgs,

    #[command(flatten)]
    deletion: DeletionArgs,

    /// Address and port to listen on [default: 0.0.0.0:8181]
    #[arg(long, env = environment::HTTP_BIND_ADDR, value_parser = parse_address, value_name = "ADDRESS", help_heading = "HTTP")]
    http_bind: Option<SocketAddr>,

    /// Let everyone who reaches the address do everything
    #[arg(long, env = environment::WITHOUT_AUTH, value_parser = FalseyValueParser::new(), help_heading = "HTTP")]
    without_auth: bool,

    /// Largest request body in bytes, compressed and decompressed
    #[arg(long, env = environment::MAX_HTTP_REQUEST_SIZE, default_value = "10485760", value_parser = parse_memory, value_name = "BYTES", help_heading = "HTTP")]
    max_http_request_size: usize,

    /// How long open connections get to finish when the server stops
    #[arg(long, env = environment::SHUTDOWN_TIMEOUT, default_value = "30s", value_parser = parse_duration, value_name = "DURATION", help_heading = "HTTP")]
    shutdown_timeout: Duration,

    /// File to write the address to once the server listens
    #[arg(long, env = environment::TCP_LISTENER_FILE_PATH, value_name = "FILE", help_heading = "HTTP")]
    tcp_listener_file_path: Option<PathBuf>,

    /// Memory that all queries may use together: bytes, or a part of the machine's memory
    #[arg(long, alias = "exec-mem-pool-size", env = environment::EXEC_MEM_POOL_BYTES, default_value = "20%", value_parser = parse_memory, value_name = "SIZE", help_heading = "Queries")]
    exec_mem_pool_bytes: usize,

    /// Longest duration of a query
    #[arg(long, env = environment::QUERY_TIMEOUT, default_value = "5m", value_parser = parse_duration, value_name = "DURATION", help_heading = "Queries")]
    query_timeout: Duration,

    /// Directory of plugins; turns the processing engine on
    #[arg(long, env = environment::PLUGIN_DIR, value_parser = any_path(), value_name = "DIR", help_heading = "Processing engine")]
    plugin_dir: Option<PathBuf>,

    /// Virtual environment of plugins [default: .venv or venv in the plugin directory, made if missing]
    #[arg(long, env = environment::VIRTUAL_ENV, value_parser = any_path(), value_name = "DIR", help_heading = "Processing engine")]
    virtual_env_location: Option<PathBuf>,

    /// What packages are installed with: discover (uv if found, else pip), pip, uv, disabled
    #[arg(long, env = environment::PACKAGE_MANAGER, default_value = "discover", value_name = "MANAGER", help_heading = "Processing engine")]
    package_manager: PackageManager,

    /// Where plugins named gh:PATH come from: an http, https or file URL
    #[arg(long, env = environment::PLUGIN_REPO, default_value = DEFAULT_URL, hide_env_values = true, value_name = "URL", help_heading = "Processing engine")]
    plugin_repo: String,

    /// How long lines of plugins' logs are kept
    #[arg(long, env = environment::PLUGIN_LOG_RETENTION, default_value = "7d", value_parser = parse_duration, value_name = "DURATION", help_heading = "Processing engine")]
    plugin_log_retention: Duration,

    /// Variables that plugins get although the server reads credentials from them
    #[arg(long, env = environment::PLUGIN_ENV, value_delimiter = ',', value_name = "NAME,…", help_heading = "Processing engine")]
    plugin_env: Vec<String>,

    /// Types of triggers that may be created; all if not given
    #[arg(long, env = environment::RESTRICT_PLUGIN_TRIGGERS_TO, value_enum, value_delimiter = ',', value_name = "TYPE,…", help_heading = "Processing engine")]
    restrict_plugin_triggers_to: Vec<TriggerType>,

    /// Runs of one asynchronous trigger that may go on at the same time
    #[arg(long, env = environment::ASYNC_TRIGGER_CONCURRENCY_LIMIT, default_value = "16", value_parser = clap::value_parser!(u16).range(1..), value_name = "N", help_heading = "Processing engine")]
    async_trigger_concurrency_limit: u16,

    /// Longest duration of a run [default: 10m, for requests 1m]
    #[arg(long, env = environment::RUN_TIMEOUT, value_parser = parse_duration, value_name = "DURATION", help_heading = "Processing engine")]
    run_timeout: Option<Duration>,

    /// Attempts at a run of a trigger with `--error-behavior retry`; then its batch becomes a dead letter
    #[arg(long, env = environment::MAX_ATTEMPTS, default_value = "20", value_parser = clap::value_parser!(u32).range(1..), value_name = "N", help_heading = "Processing engine")]
    max_attempts: u32,

    /// Triggers that rows may come through, one after another; then a loop is behind them and they are not processed any more
    #[arg(long, env = environment::MAX_TRIGGER_DEPTH, default_value = "16", value_parser = clap::value_parser!(u16).range(1..), value_name = "N", help_heading = "Processing engine")]
    max_trigger_depth: u16,

    /// Memory that a plugin's process may have: bytes, or a part of the machine's memory [default: 50%]
    #[arg(long, env = environment::MEMORY_LIMIT, value_parser = parse_memory, value_name = "SIZE", help_heading = "Processing engine")]
    memory_limit: Option<usize>,

    /// Largest output of a run, its answer and the lines that it writes; up to 256MB
    #[arg(long, env = environment::OUTPUT_LIMIT, default_value = "256MB", value_parser = parse_output_limit, value_name = "SIZE", help_heading = "Processing engine")]
    output_limit: ByteSize,

    /// Bytes of a trigger's log that are kept across restarts, on average a second
    #[arg(long, env = environment::PLUGIN_LOG_LIMIT, default_value = "16KB", value_name = "SIZE", help_heading = "Processing engine")]
    plugin_log_limit: ByteSize,

    /// What becomes of instants of a schedule that were missed: none, latest, all
    #[arg(long, env = environment::CATCH_UP, default_value = "none", value_name = "WHICH", help_heading = "Processing engine")]
    catch_up: CatchUp,

    /// What plugins are kept from: off, standard (the data directory, other processes, administration), strict (the network too)
    #[arg(long, env = environment::PLUGIN_SANDBOX, default_value = "standard", value_name = "LEVEL", help_heading = "Processing engine")]
    plugin_sandbox: SandboxLevel,

    /// User that plugins run as, by name or number; only root can choose [default: the server's own]
    #[arg(long, env = environment::PLUGIN_USER, value_name = "USER", help_heading = "Processing engine")]
    plugin_user: Option<String>,

    /// What is logged, for example debug or `info,tidemill_engine=trace`
    #[arg(long, env = environment::LOG_FILTER, default_value = DEFAULT_LOG_FILTER, value_name = "FILTER", help_heading = "Logging")]
    log_filter: String,

    /// Nothing is ever uploaded; accepted for existing scripts
    #[arg(long, env = environment::DISABLE_TELEMETRY_UPLOAD, value_parser = FalseyValueParser::new(), hide = true)]
    disable_telemetry_upload: bool,
    #[arg(long, hide = true)]
    telemetry_endpoint: Option<String>,
    #[arg(long, hide = true)]
    serve_invocation_method: Option<String>,
}

/// Runs a server until it is told to stop.
pub(crate) fn run(args: ServeArgs) -> Result<(), CommandError> {
    start_log(&args.log_filter)?;
    serve(args.config(&|name| std::env::var(name).ok())?)
}

/// Runs a server with what is set in the environment and otherwise with what suits somebody who tries things out: data
/// and plugins under the home directory, for this machine only.
pub(crate) fn quick_start() -> Result<(), CommandError> {
    let mut args = quick_start_args()?;
    let home = home()?;
    let root = home.join(".tidemill");
    args.plugin_dir = present(args.plugin_dir.take()).or_else(|| Some(root.join("plugins")));
    args.http_bind
        .get_or_insert_with(|| (Ipv4Addr::LOCALHOST, DEFAULT_PORT).into());
    start_log(&args.log_filter)?;
    let config = args.config(&|name| std::env::var(name).ok())?;
    print::line(&welcome(&config))?;
    serve(config)
}

/// The options as the environment has them, with a name for the server where it has none.
fn quick_start_args() -> Result<ServeArgs, CommandError> {
    let command = ServeArgs::augment_args(clap::Command::new("tidemill"));
    let mut command = environment::with_all_names(command);
    let mut arguments = vec![OsString::from("tidemill")];
    let is_named = command
        .get_arguments()
        .filter(|argument| matches!(argument.get_id().as_str(), "node_id" | "node_id_from_env"))
        .filter_map(clap::Arg::get_env)
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if !is_named {
        let node_id = generated_node_id();
        print::error(&format!(
            "Using auto-generated node id: {node_id}. For production deployments, explicitly set --node-id"
        ));
        arguments.push("--node-id".into());
        arguments.push(node_id.into());
    }
    // Only a variable can be wrong here: the usual error names it.
    let matches = command
        .try_get_matches_from_mut(arguments)
        .unwrap_or_else(|error| error.exit());
    ServeArgs::from_arg_matches(&matches).map_err(|error| CommandError::message(error.to_string()))
}

fn generated_node_id() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    // A host without a name, or with one that no node can have, is still somebody's machine.
    let name = if check_node_id(name).is_ok() {
        name
    } else {
        "local"
    };
    format!("{name}-node")
}

fn welcome(config: &ServerConfig) -> String {
    let plugins = config
        .plugin_dir
        .as_deref()
        .map(Path::display)
        .map(|path| path.to_string())
        .unwrap_or_default();
    let port = config.http_bind.port();
    let host = if port == DEFAULT_PORT {
        String::new()
    } else {
        format!(" --host http://127.0.0.1:{port}")
    };
    format!(
        "\
Starting Tidemill on http://{bind}
  data     {data}
  plugins  {plugins}

In another terminal, type:
  tidemill write{host} --database weather 'air,site=pier temperature=11.5'
  tidemill query{host} --database weather 'SELECT * FROM air'

Ctrl-C stops the server. `tidemill serve --help` shows how to run one in earnest.
",
        bind = config.http_bind,
        data = config.object_store,
    )
}

fn serve(config: ServerConfig) -> Result<(), CommandError> {
    use_small_pages();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::message(format!("cannot start threads: {error}")))?;
    Ok(runtime.block_on(tidemill_server::run(config))?)
}

/// Keeps the kernel from handing out huge pages, which the allocator asks for: each is cleared whole when its first byte is
/// touched, which doubles the memory of an idle server and the processor time of ingest. Plugins' processes undo it.
fn use_small_pages() {
    // Fails only where the kernel has no huge pages to hand out.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

fn start_log(filter: &str) -> Result<(), CommandError> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| CommandError::message(format!("invalid log filter '{filter}': {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stdout().is_terminal())
        .init();
    Ok(())
}

impl ServeArgs {
    fn config(self, variable: &dyn Fn(&str) -> Option<String>) -> Result<ServerConfig, CommandError> {
        let node_id = self.node_id(variable)?;
        let object_store = self.storage.config()?;
        let flush_interval = match object_store.location {
            // Local: nothing is gained by letting a writer wait.
            Location::File { .. } | Location::Memory => Duration::ZERO,
            // Each flush is an object.
            _ => Duration::from_secs(1),
        };
        let engine = EngineConfig::default();
        let wal_flush_interval = self.wal_flush_interval.unwrap_or(flush_interval);
        let any_address = || (Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into();
        Ok(ServerConfig {
            node_id,
            object_store,
            http_bind: self.http_bind.unwrap_or_else(any_address),
            without_auth: self.without_auth,
            wal_flush_interval,
            snapshot: self.snapshot.config(wal_flush_interval),
            request_bytes_max: self.max_http_request_size,
            tcp_listener_file: self.tcp_listener_file_path,
            plugin_dir: present(self.plugin_dir),
            plugin_log_retention: self.plugin_log_retention,
            plugin_repo: self.plugin_repo,
            virtual_env: present(self.virtual_env_location),
            plugin_user: self.plugin_user.filter(|user| !user.is_empty()),
            deletion: self.deletion.config(),
            limits: Limits::default(),
            query_memory_bytes_max: self.exec_mem_pool_bytes,
            query_timeout: self.query_timeout,
            engine: EngineConfig {
                restrict_plugin_triggers_to: self
                    .restrict_plugin_triggers_to
                    .into_iter()
                    .map(PluginType::from)
                    .collect(),
                async_concurrency_max: self.async_trigger_concurrency_limit.into(),
                worker_memory_bytes_max: self.memory_limit.map(|bytes| bytes as u64),
                output_bytes_max: self.output_limit.0,
                log_bytes_per_second: self.plugin_log_limit.0,
                catch_up: self.catch_up,
                run_timeout: self.run_timeout.unwrap_or(engine.run_timeout),
                request_timeout: self.run_timeout.unwrap_or(engine.request_timeout),
                trigger_depth_max: self.max_trigger_depth,
                retry: RetryPolicy {
                    attempts_max: Some(self.max_attempts),
                    ..engine.retry
                },
                package_manager: self.package_manager,
                passed_variables: self.plugin_env,
                sandbox: SandboxProfile {
                    level: self.plugin_sandbox,
                    ..engine.sandbox
                },
                ..engine
            },
            shutdown_timeout: self.shutdown_timeout,
        })
    }

    fn node_id(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, CommandError> {
        let node_id = match (&self.node_id, &self.node_id_from_env) {
            (Some(node_id), _) => node_id.clone(),
            (None, Some(name)) => variable(name).ok_or_else(|| {
                CommandError::message(format!("--node-id-from-env: the variable {name} is not set"))
            })?,
            (None, None) => String::new(),
        };
        check_node_id(&node_id)?;
        Ok(node_id)
    }
}

/// The name is a folder of the store.
fn check_node_id(node_id: &str) -> Result<(), CommandError> {
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    let is_usable = !node_id.is_empty()
        && node_id.chars().all(is_allowed)
        && !node_id.starts_with('.')
        && node_id.len() <= 128;
    if is_usable {
        return Ok(());
    }
    Err(CommandError::message(format!(
        "invalid node id '{node_id}': use letters, digits, hyphens, underscores and dots, not first a dot"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<ServerConfig, String> {
        let command = ServeArgs::augment_args(clap::Command::new("serve"));
        // The variables of whoever runs the tests are of no interest.
        let command = command.mut_args(|argument| argument.env(None::<&str>));
        let matches = command
            .try_get_matches_from([&["serve"], arguments].concat())
            .map_err(|error| error.to_string())?;
        let args = ServeArgs::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        let variable = |name: &str| (name == "POD").then(|| "pod-7".to_owned());
        args.config(&variable).map_err(|error| error.to_string())
    }

    #[test]
    fn the_usual_options_become_a_configuration() {
        let config = parse(&[
            "--node-id",
            "node0",
            "--object-store",
            "file",
            "--data-dir",
            "/data",
            "--plugin-dir",
            "/plugins",
            "--http-bind",
            "127.0.0.1:9000",
            "--wal-flush-interval",
            "100ms",
            "--restrict-plugin-triggers-to",
            "wal_flush,request",
        ])
        .unwrap();
        assert_eq!(config.node_id, "node0");
        let data_dir = PathBuf::from("/data");
        assert_eq!(config.object_store.location, Location::File { data_dir });
        assert_eq!(config.plugin_dir, Some("/plugins".into()));
        assert_eq!(config.http_bind.to_string(), "127.0.0.1:9000");
        assert_eq!(config.wal_flush_interval, Duration::from_millis(100));
        assert_eq!(
            config.engine.restrict_plugin_triggers_to,
            [PluginType::WalRows, PluginType::Request]
        );
        assert!(!config.without_auth);
    }

    #[test]
    fn defaults_are_those_of_the_interface() {
        let config = parse(&["--host-id", "node0"]).unwrap();
        assert_eq!(config.http_bind.to_string(), "0.0.0.0:8181");
        assert_eq!(config.wal_flush_interval, Duration::ZERO);
        assert_eq!(config.request_bytes_max, 10_485_760);
        assert_eq!(config.plugin_dir, None);
        let Location::File { data_dir } = config.object_store.location else {
            panic!("the file store is the default");
        };
        assert!(data_dir.ends_with(".tidemill/data"));
    }

    #[test]
    fn the_log_on_a_store_far_away_is_flushed_every_second() {
        let interval = |arguments: &[&str]| {
            let config = parse(&[&["--node-id", "a"], arguments].concat());
            config.unwrap().wal_flush_interval
        };
        let s3 = ["--object-store", "s3", "--bucket", "b"];
        assert_eq!(interval(&s3), Duration::from_secs(1));
        let given = [&s3[..], &["--wal-flush-interval", "50ms"]].concat();
        assert_eq!(interval(&given), Duration::from_millis(50));
        assert_eq!(interval(&["--object-store", "memory"]), Duration::ZERO);
    }

    #[test]
    fn one_run_timeout_is_for_all_triggers() {
        let timeouts = |arguments: &[&str]| {
            let engine = parse(&[&["--node-id", "a"], arguments].concat()).unwrap().engine;
            (engine.run_timeout, engine.request_timeout)
        };
        assert_eq!(timeouts(&[]), (Duration::from_mins(10), Duration::from_mins(1)));
        let given = Duration::from_mins(5);
        assert_eq!(timeouts(&["--run-timeout", "5m"]), (given, given));
    }

    #[test]
    fn limits_of_plugins_are_sizes() {
        let engine = |arguments: &[&str]| {
            let config = parse(&[&["--node-id", "a"], arguments].concat());
            config.map(|config| config.engine)
        };
        let default = engine(&[]).unwrap();
        assert_eq!(default.worker_memory_bytes_max, None);
        assert_eq!(default.output_bytes_max, 256 << 20);
        assert_eq!(default.log_bytes_per_second, 16 << 10);
        assert_eq!(default.catch_up, CatchUp::None);
        let given = engine(&[
            "--memory-limit",
            "256MB",
            "--output-limit",
            "1k",
            "--catch-up",
            "all",
        ])
        .unwrap();
        assert_eq!(given.worker_memory_bytes_max, Some(256 << 20));
        assert_eq!(given.output_bytes_max, 1024);
        assert_eq!(given.catch_up, CatchUp::All);
        for (arguments, expected) in [
            (
                ["--memory-limit", "lots"],
                "'lots' is not a size, expected bytes, for example 67108864 or 64MB, or 20%",
            ),
            (["--output-limit", "1GB"], "it may be up to 256MiB"),
            (["--catch-up", "some"], "expected one of none, latest, all"),
        ] {
            let error = engine(&arguments).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_memory_for_rows_and_their_age_are_bounded() {
        let snapshot = |arguments: &[&str]| {
            let config = parse(&[&["--node-id", "a"], arguments].concat()).unwrap();
            config.snapshot
        };
        let given = snapshot(&[
            "--force-snapshot-mem-size",
            "512MB",
            "--wal-flush-interval",
            "100ms",
        ]);
        assert_eq!(
            (given.buffer_bytes_max, given.buffer_bytes_soft),
            (512 << 20, 256 << 20)
        );
        assert_eq!(given.age_max, Duration::from_mins(10));
        let given = snapshot(&[
            "--wal-flush-interval",
            "2s",
            "--wal-files-per-snapshot",
            "30",
            "--trigger-backlog-limit",
            "1GB",
            "--snapshotted-wal-files-to-keep",
            "3",
            "--snapshot-concurrency-limit",
            "1",
        ]);
        assert_eq!(given.age_max, Duration::from_mins(1));
        assert_eq!(
            (given.backlog_bytes_max, given.segments_kept, given.concurrency),
            (1 << 30, 3, 1)
        );
        // Of the reference, with nothing to set here.
        snapshot(&[
            "--gen1-duration",
            "10m",
            "--gen1-lookback-duration",
            "1d",
            "--wal-max-buffered-writes",
            "5",
            "--wal-replay-fail-on-error",
            "--wal-replay-concurrency-limit",
            "4",
            "--checkpoint-interval",
            "1h",
        ]);
    }

    #[test]
    fn the_sandbox_of_plugins_has_three_levels() {
        let level = |arguments: &[&str]| {
            let config = parse(&[&["--node-id", "a"], arguments].concat());
            config.map(|config| config.engine.sandbox.level)
        };
        assert_eq!(level(&[]), Ok(SandboxLevel::Standard));
        assert_eq!(level(&["--plugin-sandbox", "off"]), Ok(SandboxLevel::Off));
        assert_eq!(level(&["--plugin-sandbox", "strict"]), Ok(SandboxLevel::Strict));
        let error = level(&["--plugin-sandbox", "full"]).unwrap_err();
        assert!(
            error.contains("the levels are off, standard and strict"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_path_is_none() {
        let config = parse(&["--node-id", "a", "--plugin-dir", "", "--virtual-env-location", ""]).unwrap();
        assert_eq!(config.plugin_dir, None);
        assert_eq!(config.virtual_env, None);
    }

    #[test]
    fn a_node_needs_a_name() {
        let error = parse(&[]).unwrap_err();
        assert!(
            error.contains("<--node-id <PREFIX>|--node-id-from-env <FROM_ENV_VAR>>"),
            "{error}"
        );
        assert_eq!(parse(&["--node-id-from-env", "POD"]).unwrap().node_id, "pod-7");
        let error = parse(&["--node-id-from-env", "NONE"]).unwrap_err();
        assert!(error.contains("NONE is not set"), "{error}");
        for node_id in ["", "a/b", "..", "a b"] {
            let error = parse(&["--node-id", node_id]).unwrap_err();
            assert!(error.contains("invalid node id"), "{node_id}: {error}");
        }
        check_node_id(&generated_node_id()).unwrap();
    }
}
