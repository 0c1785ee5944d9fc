//! The write path on a real log and a real catalog: what is accepted is there, in the buffer, in the tail and after a
//! restart; what is refused leaves nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tidemill_catalog::{Catalog, DatabaseId, Limits, TableId};
use tidemill_ingest::{
    DatabaseLines, Ingest, IngestConfig, Lsn, NameRule, TableFilter, TriggerKey, TriggerProgress, WriteError,
    WriteOutcome, WriteRequest,
};
use tidemill_lineproto::Precision;
use tidemill_store::{Store, StoreConfig};
use tidemill_wal::{FileMedium, WalConfig};

const RECEIVED_NS: i64 = 1_000;

struct Fixture {
    objects: Arc<InMemory>,
    folder: tempfile::TempDir,
    limits: Limits,
    ingest: Arc<Ingest>,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(Limits::default(), 1 << 20).await
    }

    async fn with(limits: Limits, tail_bytes_max: usize) -> Self {
        let objects = Arc::new(InMemory::new());
        let folder = tempfile::tempdir().unwrap();
        let ingest = open(
            Arc::clone(&objects),
            folder.path().into(),
            limits.clone(),
            tail_bytes_max,
        )
        .await;
        Self {
            objects,
            folder,
            limits,
            ingest,
        }
    }

    async fn reopen(&mut self) {
        self.ingest.shutdown().await;
        self.ingest = open(
            Arc::clone(&self.objects),
            self.folder.path().into(),
            self.limits.clone(),
            1 << 20,
        )
        .await;
    }

    async fn write(
        &self,
        database: &str,
        body: &str,
        accept_partial: bool,
    ) -> Result<WriteOutcome, WriteError> {
        let request = WriteRequest {
            database: database.into(),
            body: body.to_owned().into(),
            precision: Precision::Nanosecond,
            accept_partial,
            no_sync: false,
            received_ns: RECEIVED_NS,
            name_rule: NameRule::Strict,
        };
        self.ingest.write(request).await
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

async fn open(
    objects: Arc<InMemory>,
    folder: std::path::PathBuf,
    limits: Limits,
    tail_bytes_max: usize,
) -> Arc<Ingest> {
    let catalog = Catalog::open(objects as Arc<dyn ObjectStore>, "node", limits)
        .await
        .unwrap();
    let config = IngestConfig {
        wal: WalConfig::default(),
        tail_bytes_max,
    };
    let open = move || {
        let medium = Box::new(FileMedium::open(folder).unwrap());
        Ingest::open(
            medium,
            config,
            Arc::new(catalog),
            Arc::new(Store::new(StoreConfig::default())),
        )
        .unwrap()
    };
    Arc::new(tokio::task::spawn_blocking(open).await.unwrap())
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
    fixture.reopen().await;
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
async fn limits_refuse_lines_and_keep_the_rest() {
    let limits = Limits {
        columns_per_table_max: 2,
        tables_per_database_max: 1,
        ..Limits::default()
    };
    let fixture = Fixture::with(limits, 1 << 20).await;
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
    assert_eq!(fixture.columns("db", "m"), ["a:float", "time:time", "b:float"]);
}

#[tokio::test]
async fn readers_find_the_same_in_the_tail_and_in_the_log() {
    // A tail of one byte keeps only the newest commit, so all but the last read go to the log.
    for tail_bytes_max in [1 << 20, 1] {
        let fixture = Fixture::with(Limits::default(), tail_bytes_max).await;
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
                .read_after(cursor, &filter, 3, 1 << 20)
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
            .read_after(cursor, &filter, 3, 1 << 20)
            .await
            .unwrap();
        assert!(read.batches.is_empty() && read.next == cursor);
    }
}

#[tokio::test]
async fn a_run_commits_its_rows_and_its_cursor_together() {
    let mut fixture = Fixture::new().await;
    fixture.write("db", "m v=1 1", false).await.unwrap();
    let trigger = TriggerKey {
        database: DatabaseId(1),
        trigger_id: 7,
    };
    let lines = |database: &str, lines: &str| DatabaseLines {
        database: database.into(),
        lines: lines.to_owned().into(),
    };
    let writes = vec![lines("db", "derived v=2 1"), lines("elsewhere", "copy v=2 1")];
    let progress = TriggerProgress {
        trigger,
        cursor: Lsn(1),
    };
    let lsn = fixture
        .ingest
        .commit_run(writes, progress, RECEIVED_NS)
        .await
        .unwrap();
    assert_eq!(lsn, Some(Lsn(2)));
    let bad = vec![
        lines("db", "derived v=3 2"),
        lines("elsewhere", "copy v=\"text\" 2"),
    ];
    let (database, error) = fixture
        .ingest
        .commit_run(
            bad,
            TriggerProgress {
                trigger,
                cursor: Lsn(2),
            },
            RECEIVED_NS,
        )
        .await
        .unwrap_err();
    assert_eq!(database, "elsewhere");
    assert!(
        error
            .to_string()
            .starts_with("line protocol parse failed: invalid column type"),
        "{error}"
    );
    for _ in 0..2 {
        assert_eq!(fixture.ingest.cursor(trigger), Some(Lsn(1)));
        assert_eq!(fixture.rows("db", "derived"), ["v=2.0 time=1"]);
        assert_eq!(fixture.rows("elsewhere", "copy"), ["v=2.0 time=1"]);
        fixture.reopen().await;
    }
}
