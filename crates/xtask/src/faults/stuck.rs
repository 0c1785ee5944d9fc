//! Plugins that do not come back: slow ones, sleeping ones, endless loops.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::bed::{Bed, DATABASE};
use super::finding::{Finding, seconds};
use super::neighbours::{SOURCE, now_ns};
use crate::api::Api;
use crate::failure::{During, Failure};

const GOES_ON: Duration = Duration::from_secs(5);

/// A trigger on a busy table that takes half a second a run and writes a row back for each: it must neither hold the
/// writers up nor lose or double a row, also where it is disabled in the middle and enabled again.
pub(super) async fn slow_writes(bed: &mut Bed) -> Result<Finding, Failure> {
    const LINES: usize = 1_000;
    const BATCH_EVERY: Duration = Duration::from_millis(20);
    const CATCH_UP_LIMIT: Duration = Duration::from_secs(30);
    let arguments = json!({ "into": "bulk_back", "run_takes": "0.5" });
    let settings = json!({ "error_behavior": "retry" });
    bed.create("slow", "derive.py", "table:bulk", settings, arguments)
        .await?;
    let mut finding = Finding::default();
    let mut writer = Api::new(bed.api.endpoint().clone());
    let mut ticks = interval(BATCH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started = Instant::now();
    let mut written = 0;
    while started.elapsed() < GOES_ON {
        ticks.tick().await;
        let lines: String = (written..written + LINES)
            .map(|number| format!("bulk,writer=w{} number={number}i {}\n", number % 10, now_ns()))
            .collect();
        writer.write(DATABASE, &lines).await?;
        written += LINES;
    }
    let rate = written as f64 / started.elapsed().as_secs_f64();
    let counted = "SELECT count(*) AS n FROM bulk_back";
    let back_before = bed.number(counted).await?;
    bed.disable(&mut finding, "slow").await?;
    bed.api.enable_trigger(DATABASE, "slow").await?;
    let caught_up = bed.until_number(counted, written as u64, CATCH_UP_LIMIT).await?;
    let back = bed.number(counted).await?;
    let distinct = bed
        .number("SELECT count(DISTINCT number) AS n FROM bulk_back")
        .await?;
    finding.tell(format!(
        "{written} rows at {rate:.0}/s, {back_before} of them written back by then; after enable the rest within {}",
        caught_up.map_or_else(|| "never".to_owned(), seconds)
    ));
    finding.require(
        back == written as u64 && distinct == back,
        format!("of {written} rows {distinct} were written back, in {back} rows"),
    );
    bed.delete(&mut finding, "slow").await?;
    Ok(finding)
}

/// Two hundred clients at once call a trigger that takes its time.
pub(super) async fn sleeping_requests(bed: &mut Bed) -> Result<Finding, Failure> {
    const CLIENTS: usize = 200;
    let settings = json!({ "run_async": true });
    let arguments = json!({ "seconds": "0.5" });
    bed.create("sleeper", "sleep.py", "request:sleeper", settings, arguments)
        .await?;
    let mut finding = Finding::default();
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut api = Api::new(bed.api.endpoint().clone());
        calls.spawn(async move {
            let request = api.endpoint().get("/api/v3/engine/sleeper");
            let answer = timeout(Duration::from_secs(90), api.exchange(&request)).await;
            answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.text() == "slept"))
        });
    }
    let mut answered = 0;
    while let Some(call) = calls.join_next().await {
        answered += usize::from(call.during("a client broke down")?);
    }
    finding.tell(format!(
        "{answered} of {CLIENTS} clients answered after {}",
        seconds(started.elapsed())
    ));
    finding.require(
        answered == CLIENTS,
        format!("only {answered} of {CLIENTS} were answered"),
    );
    bed.delete(&mut finding, "sleeper").await?;
    Ok(finding)
}

/// A trigger is disabled in the middle of a long run, while tables are created.
pub(super) async fn disable_in_run(bed: &mut Bed) -> Result<Finding, Failure> {
    const TABLE_EVERY: Duration = Duration::from_millis(5);
    const TABLE_LIMIT: Duration = Duration::from_millis(500);
    let arguments = json!({ "seconds": "60" });
    bed.create(
        "long",
        "sleep.py",
        &format!("table:{SOURCE}"),
        json!({}),
        arguments,
    )
    .await?;
    bed.until_started("long").await?;
    let mut finding = Finding::default();
    let mut creator = Api::new(bed.api.endpoint().clone());
    let tables = async {
        let started = Instant::now();
        let (mut slowest, mut count) = (Duration::ZERO, 0);
        let mut ticks = interval(TABLE_EVERY);
        while started.elapsed() < GOES_ON {
            ticks.tick().await;
            let asked = Instant::now();
            creator
                .write(DATABASE, &format!("made_{count},a=b c=1 1"))
                .await?;
            slowest = slowest.max(asked.elapsed());
            count += 1;
        }
        Ok::<_, Failure>((slowest, count))
    };
    let (tables, disabled) = tokio::join!(tables, async {
        bed.go_on(Duration::from_secs(1)).await;
        bed.disable(&mut finding, "long").await
    });
    disabled?;
    let (slowest, count) = tables?;
    finding.tell(format!("{count} tables made meanwhile"));
    finding.within("the slowest table was there", slowest, TABLE_LIMIT);
    bed.delete(&mut finding, "long").await?;
    Ok(finding)
}

/// Something that never ends, by the name of its function in the plugin.
pub(super) async fn endless_loop(bed: &mut Bed, how: &str) -> Result<Finding, Failure> {
    let has_limit = bed.abilities.run_timeout();
    let settings = if has_limit {
        json!({ "run_timeout": "2s", "error_behavior": "log" })
    } else {
        json!({})
    };
    let specification = format!("table:{SOURCE}");
    bed.create("loop", "loop.py", &specification, settings, json!({ "how": how }))
        .await?;
    bed.until_started("loop").await?;
    let mut finding = Finding::default();
    bed.go_on(GOES_ON).await;
    if has_limit {
        let text = "exceeded its time limit of 2s";
        let ended = bed.until_logged("loop", text, GOES_ON).await?;
        finding.require(ended.is_some(), "no run was ended by its time limit of 2 s");
        let traced = bed.log_has("loop", &format!("in {how}")).await?;
        finding.require(traced, "the log does not say where the plugin was");
        finding.tell("ended by its time limit of 2 s, the Python stack is in its log");
    }
    bed.disable(&mut finding, "loop").await?;
    bed.api.enable_trigger(DATABASE, "loop").await?;
    bed.go_on(Duration::from_secs(1)).await;
    finding.require(!bed.faulty().is_empty(), "enable did not start it again");
    bed.delete(&mut finding, "loop").await?;
    Ok(finding)
}
