//! Compares what a server answers with what the model says.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde_json::Value;
use tidemill_write_model::{
    Digest, Writer, derived_digest_sql, digest_sql, doubled_sql, in_doubt_sql, points_sql,
};

use super::site::{DATABASE, DERIVED, TABLE};
use crate::api::Api;
use crate::failure::Failure;
use crate::faults::finding::{Finding, seconds};
use crate::waiting::wait_until;

const DERIVE_LIMIT: Duration = Duration::from_mins(1);
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Asks for the batches in doubt; each must be there whole or not at all.
pub(super) async fn settle(
    api: &mut Api,
    finding: &mut Finding,
    writers: &mut [Writer],
) -> Result<(), Failure> {
    for writer in writers {
        let Some(batch) = writer.in_doubt() else { continue };
        let rows = api
            .query(DATABASE, &in_doubt_sql(TABLE, writer.id(), batch.number))
            .await?;
        let found = rows.first().and_then(|row| row.get("n")?.as_u64()).unwrap_or(0);
        finding.require(
            found == 0 || found == batch.rows,
            format!(
                "of batch {} of writer {} {found} of {} rows are there",
                batch.number,
                writer.id(),
                batch.rows
            ),
        );
        writer.settle(found > 0);
    }
    Ok(())
}

/// Requires that counts, values and checksums of every writer are right; `when` tells it from other times.
pub(super) async fn require_digests(
    api: &mut Api,
    finding: &mut Finding,
    writers: &[Writer],
    when: &str,
) -> Result<(), Failure> {
    let rows = api.query(DATABASE, &digest_sql(TABLE)).await?;
    for row in &rows {
        let torn = row.get("torn").and_then(Value::as_u64);
        finding.require(torn == Some(0), format!("{when}: torn points: {row:?}"));
    }
    let expected = writers.iter().map(|writer| (writer.id(), writer.digest()));
    require_equal(finding, when, expected, &rows);
    Ok(())
}

fn require_equal(
    finding: &mut Finding,
    when: &str,
    expected: impl Iterator<Item = (u32, Digest)>,
    rows: &[crate::api::Row],
) {
    let found: BTreeMap<&str, Option<Digest>> = rows
        .iter()
        .filter_map(|row| Some((row.get("writer")?.as_str()?, Digest::from_row(row))))
        .collect();
    for (writer, expected) in expected {
        let id = writer.to_string();
        let found = found.get(id.as_str()).copied().flatten().unwrap_or_default();
        finding.require(
            found == expected,
            format!("{when}: writer {writer} must have {expected}, it has {found}"),
        );
    }
}

/// Requires that every point is there with every value, one by one.
pub(super) async fn require_points(
    api: &mut Api,
    finding: &mut Finding,
    writers: &[Writer],
    when: &str,
) -> Result<(), Failure> {
    for writer in writers {
        for part in writer.parts() {
            require_part(api, finding, writer, &part, when).await?;
        }
    }
    Ok(())
}

async fn require_part(
    api: &mut Api,
    finding: &mut Finding,
    writer: &Writer,
    part: &Range<u64>,
    when: &str,
) -> Result<(), Failure> {
    let found = api.query(DATABASE, &points_sql(TABLE, writer.id(), part)).await?;
    let expected = writer.rows(part);
    let differing = expected
        .iter()
        .zip(&found)
        .find(|(expected, found)| expected.as_object() != Some(*found));
    if let Some((expected, found)) = differing {
        let found = Value::Object(found.clone());
        finding.require(false, format!("{when}: {expected} is {found}"));
    }
    finding.require(
        expected.len() == found.len(),
        format!(
            "{when}: of points {part:?} of writer {} there are {}",
            writer.id(),
            found.len()
        ),
    );
    Ok(())
}

/// Waits for the trigger, and requires that it has derived a row from every row written, once.
pub(super) async fn require_derived(
    api: &mut Api,
    finding: &mut Finding,
    writers: &[Writer],
) -> Result<(), Failure> {
    let wanted: u64 = writers.iter().map(Writer::rows_written).sum();
    let counted = format!("SELECT count(*) AS n FROM {DERIVED}");
    let mut count = 0;
    let started = std::time::Instant::now();
    wait_until(DERIVE_LIMIT, LOOK_PAUSE, async || {
        let rows = api.query_or_nothing(DATABASE, &counted).await?;
        count = rows.first().and_then(|row| row.get("n")?.as_u64()).unwrap_or(0);
        Ok(count >= wanted)
    })
    .await?;
    finding.require(count == wanted, format!("of {wanted} rows {count} were derived"));
    let doubled = api.query(DATABASE, &doubled_sql(DERIVED)).await?;
    finding.require(
        doubled.is_empty(),
        format!("rows were derived more than once: {doubled:?}"),
    );
    let rows = api.query(DATABASE, &derived_digest_sql(DERIVED)).await?;
    let expected = writers
        .iter()
        .map(|writer| (writer.id(), writer.derived_digest()));
    require_equal(finding, "derived rows", expected, &rows);
    if count == wanted {
        finding.tell(format!(
            "{wanted} rows derived by a trigger, each once, the last {} after the last restart",
            seconds(started.elapsed())
        ));
    }
    Ok(())
}
