//! The write path on a real log and a real catalog: what is accepted is there, in the buffer, in the tail and after a
//! restart; what is refused leaves nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use bytes::Bytes;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tidemill_catalog::{Catalog, Limits, TableId, Transaction};
use tidemill_ingest::{
    DatabaseLines, DeleteError, DeleteRequest, Ingest, IngestConfig, Lsn, NameRule, OpenError, ReadLimits,
    RunCommit, StateChange, TableFilter, TriggerKey, TriggerProgress, WriteError, WriteOutcome, WriteRequest,
};
use tidemill_lineproto::{ERRORS_MAX, Precision};
use tidemill_store::Storage;
use tidemill_triggers::{LogRange, Position, TriggerDefinition, TriggerSettings, TriggerSpec};
use tidemill_wal::{FileMedium, WalConfig};

const RECEIVED_NS: i64 = 1_000;

/// What a start needs.
#[derive(Clone)]
struct Settings {
    limits: Limits,
    tail_bytes_max: usize,
    replay_after: Lsn,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            tail_bytes_max: 1 << 20,
            replay_after: Lsn(0),
        }
    }
}

struct Fixture {
    objects: Arc<InMemory>,
    folder: tempfile::TempDir,
    ingest: Arc<Ingest>,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    async fn with(settings: Settings) -> Self {
        let objects = Arc::new(InMemory::new());
        let folder = tempfile::tempdir().unwrap();
        let ingest = open(Arc::clone(&objects), folder.path(), settings).await.unwrap();
        Self {
            objects,
            folder,
            ingest,
        }
    }

    /// Creates a trigger in a database that is there.
    async fn trigger(&self, database: &str, name: &str) -> TriggerKey {
        let definition = TriggerDefinition {
            trigger_id: 0,
            trigger_name: name.to_owned(),
            plugin_filename: "plugin.py".to_owned(),
            database_name: database.to_owned(),
            spec: TriggerSpec::AllTables,
            settings: TriggerSettings::default(),
            arguments: None,
            disabled: false,
            disabled_reason: None,
            created_at_lsn: 0,
        };
        let catalog = self.ingest.catalog();
        let create = |transaction: &mut Transaction| transaction.create_trigger(database, definition);
        let trigger_id = catalog.transact(create).await.unwrap();
        TriggerKey {
            database: catalog.state().database(database).unwrap().id,
            trigger_id,
        }
    }

    /// Ends the write path and starts it again on what it left.
    async fn reopen(self) -> Self {
        self.reopen_with(Settings::default()).await
    }

    async fn reopen_with(self, settings: Settings) -> Self {
        let Self {
            objects,
            folder,
            ingest,
        } = self;
        ingest.shutdown().await;
        drop(ingest);
        let ingest = open(Arc::clone(&objects), folder.path(), settings).await.unwrap();
        Self {
            objects,
            folder,
            ingest,
        }
    }

    async fn write(
        &self,
        database: &str,
        body: &str,
        accept_partial: bool,
    ) -> Result<WriteOutcome, WriteError> {
        self.ingest.write(request(database, body, accept_partial)).await
    }

    fn table(&self, database: &str, table: &str) -> Option<TableId> {
        self.ingest
            .catalog()
            .state()
            .database(database)?
            .table(table)
            .map(|table| table.id)
    }

    fn columns(&self, database: &str, table: &str) -> Vec<String> {
        let state = self.ingest.catalog().state();
        let table = state
            .database(database)
            .and_then(|database| database.table(table))
            .expect("table is there");
        table
            .columns
            .iter()
            .map(|column| format!("{}:{}", column.name, column.column_type.schema_name()))
            .collect()
    }

    /// All rows of a table in log order, each as `column=value` with absent values left out.
    fn rows(&self, database: &str, table: &str) -> Vec<String> {
        let id = self.table(database, table).expect("table is there");
        let state = self.ingest.catalog().state();
        let table = Arc::clone(state.table_by_id(id).unwrap());
        let mut rows = Vec::new();
        for batch in &self.ingest.store().scan(id).batches {
            for row in 0..batch.row_count {
                let cells = table.columns.iter().filter_map(|column| {
                    let array = batch.column(column.id)?;
                    array
                        .is_valid(row)
                        .then(|| format!("{}={}", column.name, render(array, row)))
                });
                rows.push(cells.collect::<Vec<_>>().join(" "));
            }
        }
        rows
    }
}

fn request(database: &str, body: &str, accept_partial: bool) -> WriteRequest {
    WriteRequest {
        database: database.into(),
        body: body.to_owned().into(),
        precision: Precision::Nanosecond,
        accept_partial,
        no_sync: false,
        received_ns: RECEIVED_NS,
        name_rule: NameRule::Strict,
        depth: 0,
    }
}

/// Limits of a reader that takes some commits at once.
fn limits(rows: usize) -> ReadLimits {
    ReadLimits {
        rows,
        bytes: 1 << 20,
        joined_depth_max: 4,
    }
}

fn run(writes: Vec<DatabaseLines>, progress: TriggerProgress) -> RunCommit {
    RunCommit {
        writes,
        progress,
        depth: 1,
        received_ns: RECEIVED_NS,
    }
}

async fn open(objects: Arc<InMemory>, folder: &Path, settings: Settings) -> Result<Arc<Ingest>, OpenError> {
    let catalog = Catalog::open(objects as Arc<dyn ObjectStore>, "node", settings.limits)
        .await
        .unwrap();
    let config = IngestConfig {
        wal: WalConfig {
            replay_after: settings.replay_after,
            ..WalConfig::default()
        },
        tail_bytes_max: settings.tail_bytes_max,
        ..IngestConfig::default()
    };
    let folder = folder.to_owned();
    let storage = Storage::in_memory().await;
    let open = move || {
        let medium = Box::new(FileMedium::open(folder).unwrap());
        Ingest::open(medium, config, Arc::new(catalog), storage).map(Arc::new)
    };
    tokio::task::spawn_blocking(open).await.unwrap()
}

fn render(array: &dyn Array, row: usize) -> String {
    match array.data_type() {
        DataType::Dictionary(_, _) => {
            let tags = array.as_dictionary::<Int32Type>();
            tags.values()
                .as_string::<i32>()
                .value(tags.keys().value(row) as usize)
                .to_owned()
        }
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Int64 => format!("{}i", array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt64 => format!("{}u", array.as_primitive::<UInt64Type>().value(row)),
        DataType::Utf8 => format!("{:?}", array.as_string::<i32>().value(row)),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Timestamp(_, _) => array
            .as_primitive::<TimestampNanosecondType>()
            .value(row)
            .to_string(),
        other => panic!("unexpected column of {other}"),
    }
}

/// 1970 in the type that the catalog has for times.
fn epoch<T: Default>() -> T {
    T::default()
}

const MIXED: &str = "\
cpu,host=a,region=eu usage=1.5,ok=t 1
cpu,host=b usage=2,n=3i,big=18446744073709551615u 2
disk,path=/ free=10i
cpu,host=a,region=eu note=\"two words, a \\\"quote\\\"\" 3
";

#[tokio::test]
async fn rows_survive_a_restart_as_they_were() {
    let mut fixture = Fixture::new().await;
    let outcome = fixture.write("db", MIXED, false).await.unwrap();
    assert_eq!((outcome.lsn, outcome.rows), (Some(Lsn(1)), 4));
    let cpu = [
        "host=a region=eu usage=1.5 ok=true time=1",
        "host=b usage=2.0 n=3i big=18446744073709551615u time=2",
        "host=a region=eu time=3 note=\"two words, a \\\"quote\\\"\"",
    ];
    let normalise = |rows: Vec<String>| -> Vec<HashSet<String>> {
        let cells = |row: String| row.split(' ').map(str::to_owned).collect();
        rows.into_iter().map(cells).collect()
    };
    let expected = normalise(cpu.iter().map(|row| (*row).to_owned()).collect());
    assert_eq!(normalise(fixture.rows("db", "cpu")), expected);
    assert_eq!(fixture.rows("db", "disk"), ["path=/ free=10i time=1000"]);
    fixture = fixture.reopen().await;
    assert_eq!(normalise(fixture.rows("db", "cpu")), expected);
    assert_eq!(fixture.rows("db", "disk"), ["path=/ free=10i time=1000"]);
    assert_eq!(
        fixture
            .write("db", "cpu,host=c usage=1 9", false)
            .await
            .unwrap()
            .lsn,
        Some(Lsn(2))
    );
}

#[tokio::test]
async fn good_lines_are_kept_and_bad_ones_named() {
    let fixture = Fixture::new().await;
    fixture.write("db", "m,host=a usage=1.5 1", false).await.unwrap();
    let body = "m,host=b usage=\"text\" 2\n\n# comment\nm,host=c usage=3 3\nnonsense\nm,usage=x other=1 4\n";
    let outcome = fixture.write("db", body, true).await.unwrap();
    assert_eq!(outcome.rows, 1);
    let rejected: Vec<_> = outcome
        .rejected
        .iter()
        .map(|line| (line.line_number, line.message.as_str()))
        .collect();
    let conflict = "invalid column type for column 'usage', expected iox::column_type::field::float, got iox::column_type::";
    assert_eq!(rejected.len(), 3);
    assert_eq!(rejected[0], (1, format!("{conflict}field::string").as_str()));
    assert_eq!(rejected[1].0, 5);
    assert_eq!(rejected[2], (6, format!("{conflict}tag").as_str()));
    assert_eq!(outcome.rejected[0].original_line, "m,host=b usage=\"text\" 2");
    assert_eq!(
        fixture.rows("db", "m"),
        ["host=a usage=1.5 time=1", "host=c usage=3.0 time=3"]
    );
    assert_eq!(
        fixture.columns("db", "m"),
        ["host:tag", "usage:float", "time:time"]
    );
}

#[tokio::test]
async fn a_refused_request_leaves_no_trace() {
    let fixture = Fixture::new().await;
    let error = fixture
        .write("db", "a x=1 1\nb y=1 2\na x=\"s\" 3\n", false)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, WriteError::Rejected(lines) if lines.len() == 1 && lines[0].line_number == 3),
        "{error}"
    );
    assert!(fixture.ingest.catalog().state().database("db").is_none());
    let outcome = fixture.write("db", "nonsense\n", true).await.unwrap();
    assert_eq!((outcome.rows, outcome.rejected.len()), (0, 1));
    assert!(fixture.ingest.catalog().state().database("db").is_none());
    assert!(matches!(
        fixture.write("db", "\n# nothing\n", true).await,
        Err(WriteError::Empty)
    ));
    assert!(matches!(
        fixture.write("_x", "a x=1", true).await,
        Err(WriteError::InvalidDatabaseName(_))
    ));
}

#[tokio::test]
async fn the_first_accepted_line_fixes_a_type() {
    let fixture = Fixture::new().await;
    fixture.write("db", "m a=1 1", false).await.unwrap();
    // The first line that names `b` is refused because of `a`, so the second one decides.
    let outcome = fixture
        .write("db", "m a=\"x\",b=1i 2\nm b=\"text\" 3\nm b=2i 4", true)
        .await
        .unwrap();
    let lines: Vec<usize> = outcome.rejected.iter().map(|line| line.line_number).collect();
    assert_eq!(lines, [1, 3]);
    assert_eq!(fixture.columns("db", "m"), ["a:float", "time:time", "b:string"]);
}

#[tokio::test]
async fn writers_that_want_another_schema_at_once_agree_on_one() {
    let fixture = Fixture::new().await;
    // Each resolves against the empty catalog; the first to get its change through decides what `v` is.
    let writers: Vec<_> = (0..10)
        .map(|writer| {
            let value = if writer % 2 == 0 { "1i" } else { "1.5" };
            let request = request("db", &format!("m f{writer}=t,v={value} {writer}"), false);
            let ingest = Arc::clone(&fixture.ingest);
            tokio::spawn(async move { ingest.write(request).await })
        })
        .collect();
    let mut written = Vec::new();
    for (writer, task) in writers.into_iter().enumerate() {
        match task.await.unwrap() {
            Ok(_) => written.push(writer),
            Err(error) => assert!(matches!(error, WriteError::Rejected(_)), "{error}"),
        }
    }
    assert_eq!(written.len(), 5, "{written:?}");
    let fixture = fixture.reopen().await;
    let mut fields: Vec<String> = written
        .iter()
        .map(|writer| format!("f{writer}:boolean"))
        .collect();
    fields.extend(["time:time".to_owned(), fixture.columns("db", "m")[1].clone()]);
    fields.sort();
    let mut columns = fixture.columns("db", "m");
    columns.sort();
    assert_eq!(columns, fields);
    assert_eq!(fixture.rows("db", "m").len(), 5);
}

#[tokio::test]
async fn limits_refuse_lines_and_keep_the_rest() {
    let limits = Limits {
        columns_per_table_max: 2,
        tables_per_database_max: 1,
        ..Limits::default()
    };
    let fixture = Fixture::with(Settings {
        limits,
        ..Settings::default()
    })
    .await;
    let outcome = fixture
        .write("db", "m a=1 1\nm b=1,c=2 2\nm b=1 3\nother x=1 4", true)
        .await
        .unwrap();
    assert_eq!(outcome.rows, 2);
    let messages: Vec<_> = outcome
        .rejected
        .iter()
        .map(|line| (line.line_number, line.message.as_str()))
        .collect();
    let columns = "Update to schema would exceed number of columns per table limit of 2 columns";
    assert_eq!(messages[0], (2, columns));
    assert_eq!(messages[1].0, 4);
    assert!(
        messages[1]
            .1
            .starts_with("Update to schema would exceed number of tables limit"),
        "{}",
        messages[1].1
    );
    assert_eq!(fixture.columns("db", "m"), ["a:float", "b:float", "time:time"]);
}

#[tokio::test]
async fn a_limit_that_was_lowered_refuses_only_new_columns() {
    let fixture = Fixture::new().await;
    fixture.write("db", "m a=1,b=1,c=1 1", false).await.unwrap();
    let limits = Limits {
        columns_per_table_max: 2,
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    let fixture = fixture.reopen_with(settings).await;
    let outcome = fixture
        .write("db", "m a=2,b=2,c=2 2\nm d=3 3\nm c=4 4", true)
        .await
        .unwrap();
    let lines: Vec<usize> = outcome.rejected.iter().map(|line| line.line_number).collect();
    assert_eq!((outcome.rows, lines), (2, vec![2]));
}

#[tokio::test]
async fn a_deleted_table_takes_no_rows_under_its_new_name() {
    let fixture = Fixture::new().await;
    fixture.write("db", "m a=1 1", false).await.unwrap();
    let delete = fixture
        .ingest
        .catalog()
        .transact(|transaction| transaction.soft_delete_table("db", "m", epoch(), None));
    delete.await.unwrap();
    let error = fixture
        .write("db", "m-19700101T000000 a=2 2", false)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "line protocol parse failed: cannot write to soft-deleted table 'm-19700101T000000' - it is marked for \
         deletion"
    );
    fixture.write("db", "m a=3 3", false).await.unwrap();
    assert_eq!(fixture.rows("db", "m"), ["a=3.0 time=3"]);
}

#[tokio::test]
async fn very_many_rejected_lines_are_counted_and_the_first_described() {
    let fixture = Fixture::new().await;
    fixture.write("db", "m,host=a v=1 1", false).await.unwrap();
    let bad_count = 5 * ERRORS_MAX;
    let mut body = "m,host=b v=\"text\" 2\n".repeat(bad_count);
    body.push_str("m,host=c v=2 3\nnonsense");
    let outcome = fixture.write("db", &body, true).await.unwrap();
    assert_eq!((outcome.rows, outcome.rejected_count), (1, bad_count + 1));
    assert_eq!(outcome.rejected.len(), ERRORS_MAX);
    let last = outcome.rejected.last().unwrap();
    assert_eq!(
        (last.line_number, last.original_line.as_str()),
        (ERRORS_MAX, "m,host=b v=\"text\" 2")
    );
}

#[tokio::test]
async fn a_rejected_line_leaves_no_tag_value() {
    let fixture = Fixture::new().await;
    fixture
        .write(
            "db",
            "m,host=a v=1 1\nm,host=b v=\"x\" 2\nm v=2 3\nm,host=c v=3 4",
            true,
        )
        .await
        .unwrap();
    assert_eq!(
        fixture.rows("db", "m"),
        ["host=a v=1.0 time=1", "v=2.0 time=3", "host=c v=3.0 time=4"]
    );
    let table = fixture.table("db", "m").unwrap();
    let snapshot = fixture.ingest.store().scan(table);
    let (_, tags) = &snapshot.batches[0].columns[0];
    let values = tags.as_dictionary::<Int32Type>().values().as_string::<i32>();
    assert_eq!(values.iter().flatten().collect::<Vec<_>>(), ["a", "c"]);
}

#[tokio::test]
async fn a_log_that_is_newer_than_the_catalog_is_refused() {
    let fixture = Fixture::new().await;
    let catalog_before = fixture.objects.fork();
    fixture.write("db", "m a=1 1", false).await.unwrap();
    let catalog_without_b = fixture.objects.fork();
    fixture.write("db", "m b=1 2", false).await.unwrap();
    let Fixture { folder, ingest, .. } = fixture;
    ingest.shutdown().await;
    drop(ingest);
    for (catalog, record) in [(catalog_before, 1), (catalog_without_b, 2)] {
        let opened = open(Arc::new(catalog), folder.path(), Settings::default()).await;
        assert_eq!(
            opened.err().unwrap().to_string(),
            format!(
                "cannot replay record {record}: its rows of table 0 do not fit the catalog, which is older than the \
                 log: restore the one that belongs to it"
            )
        );
    }
}

#[tokio::test]
async fn rows_of_a_removed_table_do_not_come_back() {
    let fixture = Fixture::new().await;
    fixture.write("db", "m a=1 1\nother a=1 1", false).await.unwrap();
    let table = fixture.table("db", "m").unwrap();
    let catalog = fixture.ingest.catalog();
    catalog
        .transact(|transaction| transaction.remove_table(table))
        .await
        .unwrap();
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.ingest.store().scan(table).row_count, 0);
    assert_eq!(fixture.rows("db", "other"), ["a=1.0 time=1"]);
}

#[tokio::test]
async fn a_write_that_comes_too_late_says_that_the_server_stops() {
    let fixture = Fixture::new().await;
    fixture.ingest.shutdown().await;
    let error = fixture.write("db", "m a=1 1", false).await.unwrap_err();
    assert!(matches!(error, WriteError::ShuttingDown), "{error}");
}

#[tokio::test]
async fn readers_find_the_same_in_the_tail_and_in_the_log() {
    // A tail of one byte keeps only the newest commit, so all but the last read go to the log.
    for tail_bytes_max in [1 << 20, 1] {
        let settings = Settings {
            tail_bytes_max,
            ..Settings::default()
        };
        let fixture = Fixture::with(settings).await;
        for row in 1..=20 {
            fixture
                .write(
                    "db",
                    &format!("m,host=h{row} v={row}i {row}\nother v={row} {row}"),
                    false,
                )
                .await
                .unwrap();
        }
        let filter = TableFilter::One(fixture.table("db", "m").unwrap());
        let mut cursor = Lsn(0);
        let mut seen = Vec::new();
        while cursor < Lsn(20) {
            let read = fixture
                .ingest
                .read_after(cursor, &filter, limits(3))
                .await
                .unwrap();
            assert!(read.next > cursor, "a reader always gets on");
            seen.extend(
                read.batches
                    .iter()
                    .map(|committed| (committed.lsn, committed.batch.time_min)),
            );
            cursor = read.next;
        }
        let expected: Vec<_> = (1..=20).map(|row| (Lsn(row as u64), row)).collect();
        assert_eq!(seen, expected, "tail of {tail_bytes_max} bytes");
        let read = fixture
            .ingest
            .read_after(cursor, &filter, limits(3))
            .await
            .unwrap();
        assert!(read.batches.is_empty() && read.next == cursor);
    }
}

#[tokio::test]
async fn a_reader_that_lags_behind_the_replay_skips_nothing() {
    let fixture = Fixture::new().await;
    for row in 1..=3 {
        fixture
            .write("db", &format!("m v={row} {row}"), false)
            .await
            .unwrap();
    }
    let settings = Settings {
        replay_after: Lsn(2),
        ..Settings::default()
    };
    let fixture = fixture.reopen_with(settings).await;
    assert_eq!(fixture.rows("db", "m"), ["v=3.0 time=3"]);
    let filter = TableFilter::One(fixture.table("db", "m").unwrap());
    let read = fixture
        .ingest
        .read_after(Lsn(0), &filter, limits(10))
        .await
        .unwrap();
    let times: Vec<i64> = read
        .batches
        .iter()
        .map(|committed| committed.batch.time_min)
        .collect();
    assert_eq!((times, read.next), (vec![1, 2, 3], Lsn(3)));
}

#[tokio::test]
async fn a_run_commits_its_rows_and_its_cursor_together() {
    let mut fixture = Fixture::new().await;
    fixture.write("db", "m v=1 1", false).await.unwrap();
    let trigger = fixture.trigger("db", "t").await;
    let lines = |database: &str, lines: &str| DatabaseLines {
        database: database.into(),
        lines: lines.to_owned().into(),
    };
    let writes = vec![lines("db", "derived v=2 1"), lines("elsewhere", "copy v=2 1")];
    let progress = TriggerProgress::through(trigger, Lsn(1));
    let outcome = fixture.ingest.commit_run(run(writes, progress)).await.unwrap();
    assert_eq!((outcome.lsn, outcome.rows), (Some(Lsn(2)), 2));
    let bad = vec![
        lines("db", "derived v=3 2"),
        lines("elsewhere", "copy v=\"text\" 2"),
    ];
    let (database, error) = fixture
        .ingest
        .commit_run(run(bad, TriggerProgress::through(trigger, Lsn(2))))
        .await
        .unwrap_err();
    assert_eq!(database, "elsewhere");
    assert!(
        error
            .to_string()
            .starts_with("line protocol parse failed: invalid column type"),
        "{error}"
    );
    let at_odds = vec![lines("third", "x v=1 1"), lines("third", "x v=\"text\" 2")];
    let progress = TriggerProgress::through(trigger, Lsn(2));
    let (database, _) = fixture
        .ingest
        .commit_run(run(at_odds, progress))
        .await
        .unwrap_err();
    assert_eq!(database, "third");
    assert!(fixture.ingest.catalog().state().database("third").is_none());
    for _ in 0..2 {
        assert_eq!(fixture.ingest.cursor(trigger), Some(Position::at(1)));
        assert_eq!(fixture.rows("db", "derived"), ["v=2.0 time=1"]);
        assert_eq!(fixture.rows("elsewhere", "copy"), ["v=2.0 time=1"]);
        fixture = fixture.reopen().await;
    }
}

#[tokio::test]
async fn runs_that_finished_beyond_the_cursor_are_known_after_a_restart() {
    let mut fixture = Fixture::new().await;
    let first = fixture
        .write("db", "m v=1 1", false)
        .await
        .unwrap()
        .lsn
        .unwrap()
        .0;
    assert_eq!(first, 1);
    let trigger = fixture.trigger("db", "t").await;
    let range = |after, through| LogRange { after, through };
    // Two runs that overlapped: neither knows the other, and the record of the later one is first.
    for (finished, row) in [(range(6, 8), 2), (range(2, 4), 1)] {
        let writes = vec![DatabaseLines {
            database: "db".into(),
            lines: format!("derived v={row} {row}").into(),
        }];
        let cursor = Position::from_parts(1, vec![finished]).unwrap();
        let progress = TriggerProgress::at(trigger, cursor);
        fixture.ingest.commit_run(run(writes, progress)).await.unwrap();
    }
    for _ in 0..2 {
        let both = Position::from_parts(1, vec![range(2, 4), range(6, 8)]);
        assert_eq!(fixture.ingest.cursor(trigger), both);
        fixture = fixture.reopen().await;
    }
    let progress = TriggerProgress::through(trigger, Lsn(2));
    let recorded = fixture.ingest.commit_run(run(Vec::new(), progress)).await;
    assert_eq!(recorded.unwrap().lsn, None);
    fixture.ingest.settled().await;
    let joined = Position::from_parts(4, vec![range(6, 8)]);
    assert_eq!(fixture.ingest.cursor(trigger), joined);
}

fn change(key: &str, value: Option<&'static str>) -> StateChange {
    StateChange {
        key: key.to_owned(),
        value: value.map(|value| Bytes::from_static(value.as_bytes())),
    }
}

fn keeps(trigger: TriggerKey, state: Vec<StateChange>) -> TriggerProgress {
    TriggerProgress {
        state,
        ..TriggerProgress::in_place(trigger)
    }
}

#[tokio::test]
async fn the_state_of_a_trigger_is_committed_with_its_run() {
    let mut fixture = Fixture::new().await;
    fixture.write("db", "m v=1 1", false).await.unwrap();
    let trigger = fixture.trigger("db", "t").await;
    let gone = TriggerKey {
        trigger_id: trigger.trigger_id + 1,
        ..trigger
    };
    let commit =
        async |fixture: &Fixture, writes, progress| fixture.ingest.commit_run(run(writes, progress)).await;
    let kept = vec![change("count", Some("1")), change("old", Some("x"))];
    let durable = commit(&fixture, vec![], keeps(trigger, kept)).await.unwrap();
    assert!(
        durable.lsn.is_some(),
        "a run that keeps something is durable when it returns"
    );
    let refused = vec![DatabaseLines {
        database: "db".into(),
        lines: "m v=\"text\" 2".into(),
    }];
    let lost = keeps(trigger, vec![change("count", Some("2"))]);
    commit(&fixture, refused, lost).await.unwrap_err();
    let kept = vec![change("count", Some("3")), change("old", None)];
    let scheduled = TriggerProgress {
        scheduled_ns: Some(77),
        ..keeps(trigger, kept)
    };
    commit(&fixture, vec![], scheduled).await.unwrap();
    commit(&fixture, vec![], keeps(gone, vec![change("a", Some("b"))]))
        .await
        .unwrap();
    for restarts in 0..2 {
        let value = |key| fixture.ingest.state_value(trigger, key);
        assert_eq!(value("count").as_deref(), Some(&b"3"[..]));
        assert_eq!(value("old"), None);
        assert_eq!(fixture.ingest.state_keys(trigger, "c"), ["count"]);
        assert_eq!(fixture.ingest.last_scheduled(trigger), Some(77));
        let of_gone = fixture.ingest.state_value(gone, "a");
        assert_eq!(
            of_gone.is_some(),
            restarts == 0,
            "what no trigger has is forgotten by the replay"
        );
        fixture = fixture.reopen().await;
    }
}

#[tokio::test]
async fn a_state_has_a_limit() {
    const HALF: &str = "0123456789abcdef";
    let fixture = Fixture::new().await;
    fixture.write("db", "m v=1 1", false).await.unwrap();
    let trigger = fixture.trigger("db", "t").await;
    let large = |key: &str| StateChange {
        key: key.to_owned(),
        value: Some(HALF.repeat(9 << 16).into()),
    };
    let commit = async |changes| {
        fixture
            .ingest
            .commit_run(run(vec![], keeps(trigger, changes)))
            .await
    };
    commit(vec![large("a")]).await.unwrap();
    commit(vec![large("a")]).await.unwrap();
    let (_, error) = commit(vec![large("b")]).await.unwrap_err();
    assert!(
        error.to_string().ends_with("more than the 16777216 that it may"),
        "{error}"
    );
    commit(vec![change("a", None), large("b")]).await.unwrap();
}

#[tokio::test]
async fn rows_that_have_come_through_more_triggers_are_read_apart() {
    let fixture = Fixture::new().await;
    for (row, depth) in [0, 4, 1, 5, 5, 6, 0].into_iter().enumerate() {
        let request = WriteRequest {
            depth,
            ..request("db", &format!("m v={row} {}", row + 1), false)
        };
        fixture.ingest.write(request).await.unwrap();
    }
    let filter = TableFilter::One(fixture.table("db", "m").unwrap());
    let mut cursor = Lsn(0);
    let mut reads = Vec::new();
    while cursor < Lsn(7) {
        let read = fixture
            .ingest
            .read_after(cursor, &filter, limits(100))
            .await
            .unwrap();
        reads.push(read.batches.iter().map(|batch| batch.depth).collect::<Vec<_>>());
        cursor = read.next;
    }
    assert_eq!(reads, [vec![0, 4, 1], vec![5, 5], vec![6], vec![0]]);
}

#[tokio::test]
async fn a_reader_finds_the_rows_that_arrived_at_an_instant() {
    let fixture = Fixture::new().await;
    for received_ns in [100, 200, 300] {
        let request = WriteRequest {
            received_ns,
            ..request("db", "m v=1", false)
        };
        fixture.ingest.write(request).await.unwrap();
    }
    fixture.ingest.settled().await;
    assert_eq!(fixture.ingest.log_start(), Lsn(0));
    for (instant, expected) in [(0, 0), (100, 0), (101, 1), (300, 2), (301, 4)] {
        let found = fixture.ingest.position_before(instant).await.unwrap();
        assert_eq!(found, Lsn(expected), "rows from {instant} on");
    }
}

impl Fixture {
    async fn delete(&self, table: Option<&str>, predicate: &str) -> Result<Option<Lsn>, DeleteError> {
        let request = DeleteRequest {
            database: "db".to_owned(),
            table: table.map(str::to_owned),
            start_ns: None,
            stop_ns: None,
            predicate: predicate.to_owned(),
            received_ns: RECEIVED_NS,
        };
        self.ingest.delete_rows(&request).await
    }
}

#[tokio::test]
async fn deleted_rows_are_gone_at_once_and_after_a_restart_and_later_ones_stay() {
    let mut fixture = Fixture::new().await;
    let lines = "m,host=a v=1 1\nm,host=b v=2 2\nm,host=a v=3 3\nm v=4 4\nn,host=a w=1 1";
    fixture.write("db", lines, false).await.unwrap();
    let deleted = fixture
        .delete(Some("m"), "host = 'a' AND time < 3")
        .await
        .unwrap();
    assert_eq!(deleted, Some(Lsn(2)));
    let left = ["host=b v=2.0 time=2", "host=a v=3.0 time=3", "v=4.0 time=4"];
    assert_eq!(fixture.rows("db", "m"), left);
    // The same point again is another row.
    fixture.write("db", "m,host=a v=5 1", false).await.unwrap();
    fixture
        .delete(None, r#"_measurement="m" AND host NOT IN ('a')"#)
        .await
        .unwrap();
    let left = ["host=a v=3.0 time=3", "v=4.0 time=4", "host=a v=5.0 time=1"];
    assert_eq!(fixture.rows("db", "m"), left);
    fixture = fixture.reopen().await;
    assert_eq!(fixture.rows("db", "m"), left);
    assert_eq!(fixture.rows("db", "n"), ["host=a w=1.0 time=1"]);

    // In all tables that have the tag; in others no row satisfies the condition.
    fixture.write("db", "untagged x=1 1", false).await.unwrap();
    fixture.delete(None, "host='a'").await.unwrap();
    assert_eq!(fixture.rows("db", "m"), ["v=4.0 time=4"]);
    assert_eq!(fixture.rows("db", "n"), Vec::<String>::new());
    assert_eq!(fixture.rows("db", "untagged"), ["x=1.0 time=1"]);
    assert_eq!(fixture.delete(None, "_measurement = 'none'").await.unwrap(), None);

    // What is deleted of a table that is gone does not matter any more.
    let (database, table) = ("db", fixture.table("db", "n").unwrap());
    let remove = |transaction: &mut Transaction| transaction.remove_table(table);
    fixture.ingest.catalog().transact(remove).await.unwrap();
    fixture = fixture.reopen().await;
    assert_eq!(fixture.rows(database, "m"), ["v=4.0 time=4"]);
}

#[tokio::test]
async fn a_delete_that_is_not_clear_deletes_nothing() {
    let fixture = Fixture::new().await;
    fixture
        .write("db", "m,host=a v=1 1\nn,rack=1 w=1 1", false)
        .await
        .unwrap();
    let refusal = async |table: Option<&str>, predicate: &str| {
        let refused = fixture.delete(table, predicate).await;
        refused.expect_err(predicate).to_string()
    };
    let m = Some("m");
    assert_eq!(
        refusal(m, "v = '1'").await,
        "column 'v' of table 'm' is a field: rows are deleted by tags and time only"
    );
    assert_eq!(
        refusal(m, "rack = '1'").await,
        "there is no column 'rack' in table 'm'"
    );
    assert_eq!(
        refusal(None, "shelf = '1'").await,
        "there is no column 'shelf' in any of the tables"
    );
    assert_eq!(
        refusal(m, "host > 'a'").await,
        "'host' is compared with =, !=, IN or NOT IN: only time has an order here"
    );
    assert_eq!(
        refusal(m, "host = 1").await,
        "'host' is compared with 1: values of tags are texts and stand in quotes"
    );
    assert_eq!(
        refusal(m, "time != 1").await,
        "time is compared with =, <, <=, > or >=, not with !="
    );
    assert_eq!(
        refusal(m, "time > 5 AND time < 6").await,
        "no instant lies in the span of time to delete: it begins after its end"
    );
    assert_eq!(
        refusal(m, "time > 9223372036854775807").await,
        "no instant lies in the span of time to delete: it begins after its end"
    );
    assert!(
        refusal(m, "time > 'noon'")
            .await
            .starts_with("'noon' is no time: ")
    );
    assert!(
        refusal(m, "host = 'a' OR host = 'b'")
            .await
            .starts_with("cannot read the predicate at character 12: ")
    );
    assert_eq!(refusal(Some("zz"), "").await, "Table zz not in DB schema for db");
    assert_eq!(fixture.rows("db", "m"), ["host=a v=1.0 time=1"]);
    let unknown = DeleteRequest {
        database: "nope".to_owned(),
        table: None,
        start_ns: None,
        stop_ns: None,
        predicate: String::new(),
        received_ns: RECEIVED_NS,
    };
    assert_eq!(
        fixture
            .ingest
            .delete_rows(&unknown)
            .await
            .unwrap_err()
            .to_string(),
        "the requested resource was not found: nope"
    );
    assert_eq!(*fixture.ingest.committed().borrow(), Lsn(1), "nothing was logged");
}

#[tokio::test]
async fn readers_of_the_log_pass_over_deletes() {
    for tail_bytes_max in [1 << 20, 1] {
        let fixture = Fixture::with(Settings {
            tail_bytes_max,
            ..Settings::default()
        })
        .await;
        fixture.write("db", "m,host=a v=1 1", false).await.unwrap();
        fixture.delete(Some("m"), "host = 'a'").await.unwrap();
        fixture.write("db", "m,host=a v=2 2", false).await.unwrap();
        let filter = TableFilter::One(fixture.table("db", "m").unwrap());
        let read = fixture
            .ingest
            .read_after(Lsn(0), &filter, limits(100))
            .await
            .unwrap();
        let read_lsns: Vec<Lsn> = read.batches.iter().map(|batch| batch.lsn).collect();
        assert_eq!((read_lsns, read.next), (vec![Lsn(1), Lsn(3)], Lsn(3)));
    }
}
