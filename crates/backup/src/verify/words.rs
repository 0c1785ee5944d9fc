//! A report as a person wants to read it.

use std::fmt;

use crate::ReadableBytes;
use crate::verify::{Damage, Part, TableReport, VerifyReport};

/// Damaged objects that are named one by one; the JSON form names all.
const NAMED_MAX: usize = 20;

/// Shows a report in plain words.
pub struct Words<'a>(pub &'a VerifyReport);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        let read = ReadableBytes(report.bytes);
        writeln!(
            f,
            "node '{}': {} objects with {read} were read back",
            report.node_id, report.objects
        )?;
        writeln!(f)?;
        self.part(
            f,
            "catalog",
            Part::Catalog,
            &format!("{} databases", report.databases),
        )?;
        self.part(f, "manifest", Part::Manifest, &self.manifest())?;
        self.part(f, "log", Part::Log, &self.log())?;
        self.part(
            f,
            "triggers",
            Part::Progress,
            "how far they have read, and their state",
        )?;
        self.part(f, "files", Part::Files, &self.files())?;
        for folder in &report.folders {
            let state = if folder.damaged == 0 { "sound" } else { "DAMAGED" };
            let (content, objects, damaged) = (&folder.content, folder.objects, folder.damaged);
            match damaged {
                0 => writeln!(f, "{:<10} {state:<8} {content}: {objects}", "other")?,
                _ => writeln!(f, "{:<10} {state:<8} {content}: {damaged} of {objects}", "other")?,
            }
        }
        if report.orphans.objects > 0 {
            let bytes = ReadableBytes(report.orphans.bytes);
            writeln!(
                f,
                "{:<10} {:<8} {} objects with {bytes} belong to nothing; the server removes them by itself",
                "garbage", "harmless", report.orphans.objects
            )?;
        }
        for note in &report.notes {
            writeln!(f, "{:<10} {:<8} {note}", "note", "harmless")?;
        }
        writeln!(f)?;
        self.verdict(f)
    }
}

impl Words<'_> {
    fn damages(&self, part: Part) -> impl Iterator<Item = &Damage> {
        self.0.damages.iter().filter(move |damage| damage.part == part)
    }

    fn part(&self, f: &mut fmt::Formatter<'_>, name: &str, part: Part, content: &str) -> fmt::Result {
        let is_sound = self.damages(part).next().is_none();
        let state = if is_sound { "sound" } else { "DAMAGED" };
        writeln!(f, "{name:<10} {state:<8} {content}")
    }

    fn manifest(&self) -> String {
        let files: u64 = self.0.tables.iter().map(|table| table.files).sum();
        let snapshot = self.0.log.snapshot;
        format!("{files} files; all rows up to record {snapshot} are in them")
    }

    fn log(&self) -> String {
        let log = &self.0.log;
        let torn = match log.torn_bytes {
            0 => String::new(),
            bytes => format!("; {bytes} bytes of an unfinished write at its end are cut at the next start"),
        };
        if log.records == 0 {
            return format!("no records{torn}");
        }
        format!(
            "{} records, {} to {}, in {} segments{torn}",
            log.records, log.first, log.last, log.segments
        )
    }

    fn files(&self) -> String {
        let tables = &self.0.tables;
        let files: u64 = tables.iter().map(|table| table.files).sum();
        let damaged: u64 = tables.iter().map(|table| table.damaged_files).sum();
        let rows: u64 = tables.iter().map(|table| table.rows).sum();
        match damaged {
            0 => format!("{files} of {} tables with {rows} rows", tables.len()),
            _ => format!("{damaged} of {files}"),
        }
    }

    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        if !report.complete {
            writeln!(
                f,
                "The server changed things while they were read: this is not the whole picture."
            )?;
        }
        if report.sound {
            return write!(f, "Nothing is damaged.");
        }
        for table in report.tables.iter().filter(|table| table.damaged_files > 0) {
            table_in_words(f, table)?;
        }
        for damage in report.damages.iter().take(NAMED_MAX) {
            writeln!(f, "  {}: {}", damage.object, damage.reason)?;
            writeln!(f, "    {}", damage.consequence)?;
        }
        let unnamed = report.damages.len().saturating_sub(NAMED_MAX);
        if unnamed > 0 {
            writeln!(f, "  and {unnamed} more; --format json names all")?;
        }
        write!(f, "Everything else is intact.")
    }
}

fn table_in_words(f: &mut fmt::Formatter<'_>, table: &TableReport) -> fmt::Result {
    let TableReport {
        database,
        table: name,
        files,
        damaged_files,
        damaged_rows,
        ..
    } = table;
    let (first, last) = (
        table.damaged_first.as_deref().unwrap_or_default(),
        table.damaged_last.as_deref().unwrap_or_default(),
    );
    let are = if *damaged_files == 1 { "is" } else { "are" };
    writeln!(
        f,
        "table {name} of database {database}: {damaged_files} of {files} files {are} damaged; rows between {first} and \
         {last} are affected, {damaged_rows} at most"
    )
}
