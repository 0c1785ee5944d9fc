//! The log of writes: every record, and that none is missing.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, RangeInclusive};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use tidemill_catalog::TableId;
use tidemill_ingest::record;
use tidemill_store::ManifestState;
use tidemill_wal::{Damage as Broken, Lsn, read_segment, segment_file_name, segment_first_lsn};

use crate::export::LOG_FOLDER;
use crate::verify::{Damage, LogReport, Part, Verification, VerifyError};

/// How often the log is read again where a running server may have removed a part of it meanwhile.
const TRIES_MAX: usize = 3;

/// What was found of a log.
#[derive(Default)]
struct Findings {
    report: LogReport,
    damages: Vec<Damage>,
    /// Tables that records have rows of.
    tables: BTreeSet<TableId>,
    bytes: u64,
    /// Whether something was missing that may only have been removed while it was looked for.
    may_have_changed: bool,
}

impl Verification<'_> {
    /// Returns the tables that the log has rows of.
    pub(crate) async fn check_log(
        &mut self,
        manifest: Option<&ManifestState>,
    ) -> Result<BTreeSet<TableId>, VerifyError> {
        let mut snapshot = manifest.map(|manifest| Lsn(manifest.snapshot_lsn()));
        let mut findings = self.read_log(snapshot).await?;
        for _ in 1..TRIES_MAX {
            if !findings.may_have_changed {
                break;
            }
            if snapshot.is_some() {
                snapshot = Some(Lsn(self.present_manifest().await?.snapshot_lsn()));
            }
            findings = self.read_log(snapshot).await?;
        }
        self.log_may_have_changed = findings.may_have_changed;
        self.report.log = findings.report;
        self.report.damages.extend(findings.damages);
        self.read(findings.report.segments, findings.bytes);
        Ok(findings.tables)
    }

    /// Says which tables the log has rows of that the catalog never knew.
    pub(crate) fn check_tables_in_log(&mut self, tables: &BTreeSet<TableId>) {
        let Some(catalog) = &self.catalog else {
            return;
        };
        for table in tables.iter().filter(|table| !catalog.has_had_table(**table)) {
            let object = Path::from(self.node_id).join("catalog").to_string();
            let reason = format!("the log has rows of table number {table}, which the catalog does not know");
            let consequence = "the server does not start: the catalog is older than the log";
            self.report
                .damages
                .push(Damage::new(Part::Catalog, object, reason, consequence));
        }
    }

    async fn read_log(&self, snapshot: Option<Lsn>) -> Result<Findings, VerifyError> {
        let folder = Path::from(self.node_id).join(LOG_FOLDER);
        let mut findings = Findings::default();
        findings.report.snapshot = snapshot.unwrap_or_default().0;
        let firsts = self.list_segments(&folder, &mut findings).await?;
        let mut expected = None;
        if let (Some(snapshot), Some(&first)) = (snapshot, firsts.first())
            && first > snapshot.next()
        {
            expected = Some(snapshot.next());
        }
        for (index, &first) in firsts.iter().enumerate() {
            let path = folder.clone().join(segment_file_name(first));
            if let Some(expected) = expected.filter(|expected| *expected != first) {
                findings.gap(&path, expected, first, snapshot);
            }
            let Some(segment) = self.read_segment(&path).await? else {
                findings.may_have_changed = true;
                expected = Some(first);
                continue;
            };
            let following = firsts.get(index + 1).copied();
            let may_be_torn = following.is_none() && self.config.log_in_files;
            expected = findings.segment(&path, first, following, &segment, may_be_torn, snapshot);
        }
        findings.report.first = firsts.first().copied().unwrap_or_default().0;
        if let (Some(snapshot), Some(last)) = (snapshot, firsts.last())
            && findings.report.last < snapshot.0
            && findings.damages.is_empty()
        {
            let path = folder.join(segment_file_name(*last)).to_string();
            let reason = format!(
                "the log ends with record {}, but records up to {snapshot} were durable",
                findings.report.last
            );
            let consequence = "the server does not start; the rows of these records are in Parquet files";
            findings.may_have_changed = true;
            findings
                .damages
                .push(Damage::new(Part::Log, path, reason, consequence));
        }
        Ok(findings)
    }

    async fn list_segments(&self, folder: &Path, findings: &mut Findings) -> Result<Vec<Lsn>, VerifyError> {
        let listed = self.objects.list_with_delimiter(Some(folder)).await;
        let listed = listed.map_err(VerifyError::object("list", folder))?;
        let mut firsts = Vec::new();
        for object in &listed.objects {
            let name = object.location.filename().unwrap_or_default();
            match segment_first_lsn(name) {
                Some(first) => firsts.push(first),
                None if object.location.extension() == Some("wal") => {
                    let reason = "its name is not a record number".to_owned();
                    let consequence = "the server does not start until it is moved away";
                    let object = object.location.to_string();
                    findings
                        .damages
                        .push(Damage::new(Part::Log, object, reason, consequence));
                }
                None => {}
            }
        }
        firsts.sort_unstable();
        Ok(firsts)
    }

    async fn read_segment(&self, path: &Path) -> Result<Option<Bytes>, VerifyError> {
        let read = async { self.objects.get(path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(VerifyError::object("read", path)(error)),
        }
    }
}

impl Findings {
    /// Checks a segment, and returns with which record the next one should begin, if that is certain.
    fn segment(
        &mut self,
        path: &Path,
        first: Lsn,
        following: Option<Lsn>,
        segment: &[u8],
        may_be_torn: bool,
        snapshot: Option<Lsn>,
    ) -> Option<Lsn> {
        let mut malformed = None;
        let content = read_segment(first, segment, may_be_torn, |lsn, payload| {
            match record::decode(payload) {
                Ok(commit) => self.tables.extend(commit.tables.iter().map(|batch| batch.table)),
                Err(error) => drop(malformed.get_or_insert((lsn, error.to_string()))),
            }
            ControlFlow::Continue(())
        });
        self.bytes += segment.len() as u64;
        self.report.segments += 1;
        self.report.records += content.next.0 - first.0;
        self.report.last = self.report.last.max(content.next.0 - 1);
        self.report.torn_bytes += content.torn_bytes;
        if let Some((lsn, reason)) = malformed {
            self.damaged(path, format!("record {lsn}: {reason}"), lsn.0..=lsn.0, snapshot);
        }
        let Some(Broken { offset, kind }) = content.damage else {
            return Some(content.next);
        };
        let resumes = content.resumes.or(following).map(|lsn| lsn.0 - 1);
        let last = resumes.unwrap_or(u64::MAX);
        let reason = format!("at byte {offset}, {kind}");
        self.damaged(path, reason, content.next.0..=last.max(content.next.0), snapshot);
        None
    }

    fn gap(&mut self, path: &Path, expected: Lsn, found: Lsn, snapshot: Option<Lsn>) {
        self.may_have_changed = true;
        if expected < found {
            let reason = format!("records {expected} to {} are missing before it", found.0 - 1);
            self.damaged(path, reason, expected.0..=found.0 - 1, snapshot);
        } else {
            let reason = format!("it begins with record {found}, but record {expected} should follow");
            self.damaged(path, reason, found.0..=expected.0, snapshot);
        }
    }

    /// Notes that records cannot be read; `u64::MAX` is an end that is not known.
    fn damaged(&mut self, path: &Path, reason: String, records: RangeInclusive<u64>, snapshot: Option<Lsn>) {
        let (first, last) = records.into_inner();
        let which = match last {
            u64::MAX => format!("records from {first} on"),
            last if last == first => format!("record {first}"),
            last => format!("records {first} to {last}"),
        };
        let consequence = if snapshot.is_some_and(|snapshot| last <= snapshot.0) {
            format!(
                "{which}: the rows are in Parquet files; only a trigger that has still to read them misses them"
            )
        } else {
            format!(
                "{which} cannot be read, and the server does not start; rows that were written before are not affected"
            )
        };
        let damage = Damage::new(Part::Log, path.to_string(), reason, consequence);
        self.damages.push(damage);
    }
}
