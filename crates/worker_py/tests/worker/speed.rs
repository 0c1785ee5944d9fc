//! Measurements; see `main.rs` for how to run them.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use arrow::array::{DictionaryArray, Float64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::Int32Type;
use tidemill_worker_proto::{EntryPoint, FrameDecoder, FromWorker, RunId, ToWorker, Work, encode_frame};

use crate::harness::{Finished, Session, array, batch, request_work, stream_of, writes_work};

const ROWS: usize = 100_000;

/// 10 tags, 10 floats and the time, as the project's bench writes them.
fn cpu_batches(rows: usize, batch_rows: usize) -> Vec<RecordBatch> {
    let names: Vec<String> = (0..10).map(|column| format!("tag_number_{column}")).collect();
    let fields: Vec<String> = (0..10).map(|column| format!("usage_field_{column}")).collect();
    let mut batches = Vec::new();
    for start in (0..rows).step_by(batch_rows) {
        let range = start..rows.min(start + batch_rows);
        let mut columns = Vec::new();
        for (column, name) in names.iter().enumerate() {
            let values: Vec<String> = range
                .clone()
                .map(|row| format!("value_{}", (row * 7 + column) % 100))
                .collect();
            let tags: DictionaryArray<Int32Type> = values.iter().map(|value| Some(value.as_str())).collect();
            columns.push((name.as_str(), array(tags)));
        }
        for (column, name) in fields.iter().enumerate() {
            let values = range.clone().map(|row| (row * 31 + column) as f64 / 10.0);
            columns.push((name.as_str(), array(values.map(Some).collect::<Float64Array>())));
        }
        let times = range.map(|row| Some(1_700_000_000_000_000_000 + row as i64));
        columns.push(("time", array(times.collect::<TimestampNanosecondArray>())));
        batches.push(batch(columns));
    }
    batches
}

fn rate(count: usize, took: Duration) -> String {
    format!(
        "{:.0}/s, {:.2} µs each",
        count as f64 / took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / count as f64
    )
}

#[test]
#[ignore = "measurement"]
fn speed_of_rows() {
    let mut session = Session::with_plugin(
        EntryPoint::Writes,
        "
import time
def process_writes(api, table_batches, args):
    begun = time.thread_time()
    rows = table_batches[0]['rows']
    built = time.thread_time()
    total = 0.0
    for row in rows:
        total += row['usage_field_1'] + row['usage_field_7']
        host = row['tag_number_3']
    api.info(f'{built - begun:.4f} {time.thread_time() - built:.4f}')
",
    );
    for batch_rows in [ROWS, 8_192, 500] {
        let (work, blob) = writes_work(&[("cpu", cpu_batches(ROWS, batch_rows))]);
        for _ in 0..3 {
            let begun = Instant::now();
            let finished = session.run(work.clone(), &blob);
            let took = begun.elapsed();
            let times: Vec<f64> = finished.logged()[0]
                .split(' ')
                .map(|time| time.parse().unwrap())
                .collect();
            println!(
                "rows in batches of {batch_rows}: whole run {}; built in {:.2} µs a row, walked in {:.2}",
                rate(ROWS, took),
                times[0] * 1e6 / ROWS as f64,
                times[1] * 1e6 / ROWS as f64
            );
        }
    }
}

#[test]
#[ignore = "measurement"]
fn speed_of_queries() {
    let mut session = Session::with_plugin(
        EntryPoint::ScheduledCall,
        "
import time
def process_scheduled_call(api, call_time, args):
    begun = time.thread_time()
    rows = api.query('q')
    api.info(len(rows), time.thread_time() - begun)
",
    );
    let parts: Vec<Vec<u8>> = cpu_batches(ROWS, 8_192).iter().map(stream_of).collect();
    for _ in 0..3 {
        let finished = session.run_answering(Work::Schedule { time_ns: 0 }, &[], |message, _| {
            let FromWorker::Query { call, .. } = message else {
                panic!("{message:?}");
            };
            let call = *call;
            let mut answers: Vec<_> = parts
                .iter()
                .map(|part| (ToWorker::QueryPart { call }, part.clone()))
                .collect();
            answers.push((
                ToWorker::QueryDone {
                    call,
                    outcome: Ok(()),
                },
                vec![],
            ));
            answers
        });
        println!("query: {:?}", finished.logged());
    }
}

const QUICK: &str = "
def process_request(api, parameters, headers, body, args):
    return {'status': 'ok', 'n': parameters.get('n'), 'values': [1, 2, 3]}
";

#[test]
#[ignore = "measurement"]
fn speed_of_requests() {
    for concurrency in [1, 16] {
        for in_flight in [1, 8, 32] {
            let mut session = Session::start();
            session.write_file("plugin.py", QUICK);
            let mut load = session.load_of(EntryPoint::Request, "plugin.py");
            load.concurrency = concurrency;
            session.load(load);
            let (rate, latencies) = requests(&mut session, in_flight, 60_000);
            let percentile =
                |share: f64| latencies[(latencies.len() as f64 * share) as usize].as_secs_f64() * 1e3;
            println!(
                "requests, {concurrency} threads, {in_flight} in flight: {rate}; p50 {:.3} ms, p99 {:.3} ms",
                percentile(0.5),
                percentile(0.99)
            );
        }
    }
}

/// Keeps runs in flight, as so many connections would, and writes and reads what is there at once, as the server does.
fn requests(session: &mut Session, in_flight: usize, count: usize) -> (String, Vec<Duration>) {
    let headers = [
        ("host", "localhost:8181"),
        ("user-agent", "bench"),
        ("accept", "*/*"),
        ("content-type", "application/json"),
    ];
    let work = request_work(&[("n", "5")], &headers);
    let body = br#"{"some": "body", "n": 5}"#;
    let mut begun = vec![Instant::now(); count];
    let mut latencies = Vec::with_capacity(count);
    let mut decoder = FrameDecoder::new();
    let mut chunk = vec![0; 1 << 16];
    let mut sent = 0;
    let start = Instant::now();
    while latencies.len() < count {
        let mut out = Vec::new();
        while sent < count && sent - latencies.len() < in_flight {
            begun[sent] = Instant::now();
            let message = ToWorker::Run {
                run: RunId(sent as u64),
                run_id: format!("run-{sent}"),
                work: work.clone(),
            };
            encode_frame(&message, &[body], &mut out).unwrap();
            sent += 1;
        }
        session.stream().write_all(&out).unwrap();
        let read = session.stream().read(&mut chunk).unwrap();
        decoder.buffer().extend_from_slice(&chunk[..read]);
        while let Some(frame) = decoder.next::<FromWorker>().unwrap() {
            if let FromWorker::Finished { run, .. } = frame.head {
                latencies.push(begun[run.0 as usize].elapsed());
            }
        }
    }
    let took = start.elapsed();
    latencies.sort();
    (rate(count, took), latencies)
}

#[test]
#[ignore = "measurement"]
fn speed_of_starting() {
    let mut resident = String::new();
    let mut took = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let mut session = Session::with_plugin(EntryPoint::Request, QUICK);
        let finished: Finished = session.request();
        took = took.min(begun.elapsed());
        finished.returned();
        let status = std::fs::read_to_string(format!("/proc/{}/status", session.pid())).unwrap();
        resident = status
            .lines()
            .filter(|line| line.starts_with("Rss") || line.starts_with("VmRSS"))
            .collect::<Vec<_>>()
            .join(" ");
    }
    println!("start, load and first answer: {took:?}; {resident}");
}

#[test]
#[ignore = "measurement"]
fn speed_of_written_tables() {
    let mut session = Session::with_plugin(
        EntryPoint::Writes,
        "
import time
def process_writes(api, table_batches, args):
    table = table_batches[0].to_arrow()
    begun = time.monotonic()
    api.write(table, table='copy')
    api.info(f'{time.monotonic() - begun:.4f}')
",
    );
    let (work, blob) = writes_work(&[("cpu", cpu_batches(ROWS, 8_192))]);
    for _ in 0..3 {
        let finished = session.run(work.clone(), &blob);
        let seconds: f64 = finished.logged()[0].parse().unwrap();
        println!(
            "rows of tables as lines: {}",
            rate(ROWS, Duration::from_secs_f64(seconds))
        );
    }
}
