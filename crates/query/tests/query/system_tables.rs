//! System tables in the order of time: what a query asks of their source.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampNanosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use futures::{StreamExt, TryStreamExt, stream};
use tidemill_query::{Params, QueryConfig, SystemRows, SystemScan, SystemTables};

use crate::support::{DATABASE, Fixture, rows};

const ROWS: i64 = 100_000;
const BATCH_ROWS: i64 = 100;

/// A row each nanosecond, whose number is ten times its time. Notes what it is asked for, and how many batches it had to
/// give.
#[derive(Default)]
struct Ticks {
    scans: Mutex<Vec<SystemScan>>,
    batches: Arc<AtomicUsize>,
}

fn batch(first: i64, newest_first: bool) -> RecordBatch {
    let mut times: Vec<i64> = (first..first + BATCH_ROWS).collect();
    if newest_first {
        times.reverse();
    }
    let numbers = times.iter().map(|time| time * 10).collect::<Vec<_>>();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from(times)),
        Arc::new(Int64Array::from(numbers)),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
    Arc::new(Schema::new(vec![
        Field::new("event_time", time, false),
        Field::new("number", DataType::Int64, false),
    ]))
}

struct SharedTicks(Arc<Ticks>);

impl SystemTables for SharedTicks {
    fn tables(&self, _database: &str) -> Vec<(&'static str, SchemaRef)> {
        vec![("ticks", schema())]
    }

    fn scan(&self, _database: &str, _table: &str, scan: SystemScan) -> SystemRows {
        self.0.scans.lock().unwrap().push(scan.clone());
        let batches = Arc::clone(&self.0.batches);
        let mut firsts: Vec<i64> = (0..ROWS).step_by(BATCH_ROWS as usize).collect();
        if scan.newest_first {
            firsts.reverse();
        }
        let rows = stream::iter(firsts).map(move |first| {
            batches.fetch_add(1, Ordering::SeqCst);
            let rows = batch(first, scan.newest_first).project(&scan.columns);
            rows.map_err(|error| error.to_string())
        });
        rows.boxed()
    }
}

/// The answer to a query as text, what was asked of the source, and how many batches it gave.
async fn asked(sql: &str) -> (Vec<Vec<String>>, SystemScan, usize) {
    let ticks = Arc::new(Ticks::default());
    let system: Vec<Arc<dyn SystemTables>> = vec![Arc::new(SharedTicks(Arc::clone(&ticks)))];
    let fixture = Fixture::with(QueryConfig::default(), system).await;
    let output = fixture.engine.sql(DATABASE, sql, Params::new()).await.unwrap();
    let batches: Vec<RecordBatch> = output.batches.try_collect().await.unwrap();
    let answer = rows(&batches);
    let scans = ticks.scans.lock().unwrap().clone();
    assert_eq!(scans.len(), 1, "{sql}");
    (answer, scans[0].clone(), ticks.batches.load(Ordering::SeqCst))
}

#[tokio::test]
async fn the_newest_rows_are_taken_from_the_end() {
    let (answer, scan, batches) =
        asked("SELECT number FROM system.ticks ORDER BY event_time DESC LIMIT 3").await;
    assert_eq!(answer, [["999990"], ["999980"], ["999970"]]);
    assert!(scan.newest_first);
    assert_eq!(batches, 1, "the others are not asked for");

    let (answer, _, batches) = asked("SELECT number FROM system.ticks ORDER BY event_time LIMIT 2").await;
    assert_eq!(
        (answer, batches),
        (vec![vec!["0".to_owned()], vec!["10".to_owned()]], 1)
    );

    let sql =
        "SELECT number FROM system.ticks WHERE number % 500 = 0 ORDER BY event_time DESC, number LIMIT 2";
    let (answer, scan, _) = asked(sql).await;
    assert_eq!(answer, [["999500"], ["999000"]]);
    assert!(scan.newest_first);

    // The first ones of a limit stay the first ones, whatever is done with them.
    let sql = "SELECT number FROM (SELECT * FROM system.ticks LIMIT 3) ORDER BY event_time DESC";
    assert_eq!(asked(sql).await.0, [["20"], ["10"], ["0"]]);
}

#[tokio::test]
async fn a_filter_does_not_hide_the_order() {
    let sql = "SELECT event_time FROM system.ticks WHERE number % 5000 = 10 ORDER BY event_time DESC LIMIT 2";
    let (answer, scan, batches) = asked(sql).await;
    assert_eq!(
        answer,
        [
            ["1970-01-01T00:00:00.000099501"],
            ["1970-01-01T00:00:00.000099001"]
        ]
    );
    assert_eq!(
        (scan.columns, scan.newest_first, scan.rows_max),
        (vec![0, 1], true, None)
    );
    assert_eq!(batches, 10, "as many as it takes");

    let (answer, _, batches) = asked("SELECT number FROM system.ticks WHERE number >= 2000 LIMIT 1").await;
    assert_eq!((answer, batches), (vec![vec!["2000".to_owned()]], 3));
    let (answer, scan, _) = asked("SELECT count(*) FROM system.ticks WHERE number < 50").await;
    assert_eq!((answer, scan.columns), (vec![vec!["5".to_owned()]], vec![1]));
}

#[tokio::test]
async fn bounds_columns_and_limits_reach_the_source() {
    let bounded = "SELECT number FROM system.ticks WHERE event_time >= '1970-01-01T00:00:00.000000010' \
                   AND event_time < '1970-01-01T00:00:00.000000012'";
    let (answer, scan, _) = asked(bounded).await;
    assert_eq!(
        answer,
        [["100"], ["110"]],
        "the bounds are exact whatever the source gives"
    );
    assert_eq!((scan.times, scan.newest_first), (10..=11, false));

    let (answer, scan, batches) = asked("SELECT number FROM system.ticks LIMIT 5").await;
    assert_eq!(answer.len(), 5);
    assert_eq!((scan.columns, scan.rows_max, batches), (vec![1], Some(5), 1));

    let (answer, _, batches) = asked("SELECT count(*) FROM system.ticks").await;
    assert_eq!((answer[0][0].as_str(), batches), ("100000", 1_000));
}
