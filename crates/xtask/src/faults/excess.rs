//! Plugins that ask for too much: memory, log lines, an answer without bounds, each other.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::bed::{Bed, DATABASE};
use super::finding::{Finding, seconds};
use crate::api::Api;
use crate::failure::Failure;

const GOES_ON: Duration = Duration::from_secs(5);
const MEBIBYTE: f64 = (1 << 20) as f64;
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
const RECOVERY_LIMIT: Duration = Duration::from_secs(10);
const HOG: &str = "/api/v3/engine/hog";

/// Four gibibytes, all touched, under a limit of 256 MB.
pub(super) async fn memory(bed: &mut Bed) -> Result<Finding, Failure> {
    const PEAK_MIB_MAX: f64 = 1024.0;
    if !bed.abilities.memory_limit() {
        return Ok(Finding::skipped("this server has no `--memory-limit`"));
    }
    let settings = json!({ "memory_limit": "256MB" });
    bed.create("hog", "hog.py", "request:hog", settings, Value::Null)
        .await?;
    bed.until_answers(HOG, RECOVERY_LIMIT).await?;
    let mut finding = Finding::default();
    let mut client = Api::new(bed.api.endpoint().clone());
    let request = client.endpoint().get(&format!("{HOG}?allocate={}", 4_u64 << 30));
    let asked = Instant::now();
    let mut peak_bytes = 0;
    let answer = tokio::select! {
        answer = timeout(ANSWER_LIMIT, client.exchange(&request)) => answer,
        () = watch_memory(bed, &mut peak_bytes) => unreachable!("it watches for ever"),
    };
    let Ok(answer) = answer else {
        finding.require(false, "the request was not answered");
        return Ok(finding);
    };
    let answer = answer?;
    finding.tell(format!(
        "answered {} after {}: {}",
        answer.status,
        seconds(asked.elapsed()),
        answer.text()
    ));
    finding.require(
        answer.status == 500,
        format!("the allocation succeeded: {}", answer.text()),
    );
    let peak_mib = peak_bytes as f64 / MEBIBYTE;
    finding.tell(format!("its process had {peak_mib:.0} MiB at most"));
    finding.at_most("its process", peak_mib, PEAK_MIB_MAX, "MiB");
    let back = bed.until_answers(HOG, RECOVERY_LIMIT).await?;
    finding.tell(format!("the next call is answered after {}", seconds(back)));
    bed.go_on(GOES_ON).await;
    bed.delete(&mut finding, "hog").await?;
    Ok(finding)
}

async fn watch_memory(bed: &Bed, peak_bytes: &mut u64) {
    loop {
        *peak_bytes = (*peak_bytes).max(bed.faulty_bytes());
        sleep(Duration::from_millis(10)).await;
    }
}

/// One gibibyte as the answer to a request, in one piece and from a generator.
pub(super) async fn response(bed: &mut Bed) -> Result<Finding, Failure> {
    const BYTES: usize = 1 << 30;
    bed.create("hog", "hog.py", "request:hog", json!({}), Value::Null)
        .await?;
    bed.until_answers(HOG, RECOVERY_LIMIT).await?;
    let mut finding = Finding::default();
    for (form, more) in [("in one piece", ""), ("from a generator", "&pieces=1")] {
        let mut client = Api::new(bed.api.endpoint().clone());
        let request = client.endpoint().get(&format!("{HOG}?bytes={BYTES}{more}"));
        let asked = Instant::now();
        match timeout(ANSWER_LIMIT, client.exchange(&request)).await {
            Ok(Ok(answer)) if answer.status == 200 => {
                finding.tell(format!("{form}: sent after {}", seconds(asked.elapsed())));
                finding.require(answer.body.len() == BYTES, format!("{form}: cut short"));
            }
            Ok(Ok(answer)) => {
                finding.tell(format!(
                    "{form}: {} after {}: {}",
                    answer.status,
                    seconds(asked.elapsed()),
                    answer.text()
                ));
                finding.require(
                    answer.status == 500,
                    format!("{form}: answered {}", answer.status),
                );
            }
            // A broken connection is how a client learns that the rest of a body does not come.
            Ok(Err(failure)) => finding.tell(format!(
                "{form}: broken off after {}: {failure}",
                seconds(asked.elapsed())
            )),
            Err(_) => finding.require(false, format!("{form}: no end within a minute")),
        }
        let back = bed.until_answers(HOG, RECOVERY_LIMIT).await?;
        finding.tell(format!("the next call is answered after {}", seconds(back)));
    }
    bed.go_on(Duration::from_secs(1)).await;
    bed.delete(&mut finding, "hog").await?;
    Ok(finding)
}

/// Ten million lines from one run.
pub(super) async fn log_flood(bed: &mut Bed) -> Result<Finding, Failure> {
    const LINES: u64 = 10_000_000;
    const END_LIMIT: Duration = Duration::from_secs(90);
    const DISK_MIB_MAX: f64 = 100.0;
    let disk_before = bytes_on_disk(&bed.data_dir());
    let arguments = json!({ "lines": LINES.to_string() });
    bed.create("flood", "flood.py", "every:1s", json!({}), arguments)
        .await?;
    let mut finding = Finding::default();
    let ended = bed
        .until_number("SELECT max(lines) AS n FROM flood", LINES, END_LIMIT)
        .await?;
    match ended {
        Some(took) => finding.tell(format!(
            "logged in {}, {:.0} lines/s",
            seconds(took),
            LINES as f64 / took.as_secs_f64()
        )),
        None => finding.require(false, format!("not logged within {}", seconds(END_LIMIT))),
    }
    let disk_mib = (bytes_on_disk(&bed.data_dir()) - disk_before) as f64 / MEBIBYTE;
    finding.tell(format!("the data directory grew by {disk_mib:.1} MiB"));
    finding.at_most("the data directory grew", disk_mib, DISK_MIB_MAX, "MiB");
    bed.delete(&mut finding, "flood").await?;
    Ok(finding)
}

/// Bytes of all files below a directory; what vanishes meanwhile does not count.
fn bytes_on_disk(directory: &Path) -> i64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, metadata)| {
            if metadata.is_dir() {
                bytes_on_disk(&path)
            } else {
                metadata.len() as i64
            }
        })
        .sum()
}

/// Two triggers, each of which answers the other's rows.
pub(super) async fn feedback(bed: &mut Bed) -> Result<Finding, Failure> {
    const DEPTH_MAX: u64 = 16;
    if !bed.abilities.trigger_depth_max() {
        return Ok(Finding::skipped("this server has no `--max-trigger-depth`"));
    }
    for (name, from, into) in [("feed_a", "fed_a", "fed_b"), ("feed_b", "fed_b", "fed_a")] {
        let specification = format!("table:{from}");
        bed.create(
            name,
            "feed.py",
            &specification,
            json!({}),
            json!({ "into": into }),
        )
        .await?;
    }
    let mut finding = Finding::default();
    bed.api.write(DATABASE, "fed_a number=0i 1").await?;
    bed.go_on(GOES_ON).await;
    let deepest = bed
        .number("SELECT max(number) AS n FROM (SELECT number FROM fed_a UNION ALL SELECT number FROM fed_b)")
        .await?;
    finding.tell(format!("one row was handed on {deepest} times"));
    finding.require(
        (1..=DEPTH_MAX + 1).contains(&deepest),
        format!("one row was handed on {deepest} times, the limit is {DEPTH_MAX}"),
    );
    let is_told = bed.log_has("feed_a", "depth").await? || bed.log_has("feed_b", "depth").await?;
    finding.require(is_told, "no log line says that the loop was stopped");
    bed.api.delete_trigger(DATABASE, "feed_a").await?;
    bed.delete(&mut finding, "feed_b").await?;
    Ok(finding)
}
