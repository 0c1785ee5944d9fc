//! What a server has on disk, by its own account and by the folder's; and waiting until it has brought everything there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::api::Api;
use crate::failure::{During, Failure};
use crate::process_info::cpu_seconds_of_tree;
use crate::waiting::wait_until;

const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Files that have stayed the same for so long, in a server at rest, are those that stay.
const QUIET: Duration = Duration::from_millis(1500);
/// A server that keeps less than this many cores busy is at rest.
const REST_CORES: f64 = 0.1;

/// The data files of a database, by path.
pub(crate) type DataFiles = BTreeMap<String, DataFile>;

/// A file, as `system.parquet_files` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataFile {
    pub table: String,
    pub size_bytes: u64,
    pub rows: u64,
}

/// The data files of a database.
pub(crate) async fn data_files(api: &mut Api, database: &str) -> Result<DataFiles, Failure> {
    const SQL: &str = "SELECT table_name, path, size_bytes, row_count FROM system.parquet_files";
    let rows = api.query(database, SQL).await?;
    let files = rows.iter().map(|row| {
        let file = DataFile {
            table: row.get("table_name")?.as_str()?.to_owned(),
            size_bytes: row.get("size_bytes")?.as_u64()?,
            rows: row.get("row_count")?.as_u64()?,
        };
        Some((row.get("path")?.as_str()?.to_owned(), file))
    });
    files.collect::<Option<DataFiles>>().ok_or_else(|| {
        Failure::new("system.parquet_files has a row without table, path, size or number of rows")
    })
}

/// Rows of all files together; a point that is in two files counts twice.
pub(crate) fn rows_in(files: &DataFiles) -> u64 {
    files.values().map(|file| file.rows).sum()
}

/// Bytes of all files together.
pub(crate) fn bytes_in(files: &DataFiles) -> u64 {
    files.values().map(|file| file.size_bytes).sum()
}

/// Waits until the files of a database have at least so many rows, and neither they nor the server have changed for a while: what
/// there was to write and to compact is done. How long that took, and the files.
pub(crate) async fn until_compacted(
    api: &mut Api,
    server_pid: u32,
    database: &str,
    rows: u64,
    limit: Duration,
) -> Result<(Duration, DataFiles), Failure> {
    let started = Instant::now();
    let mut files = DataFiles::new();
    let mut changed = Instant::now();
    let mut cpu_before_s = cpu_seconds_of_tree(server_pid);
    while started.elapsed() < limit {
        let now = data_files(api, database).await?;
        if now != files || rows_in(&now) < rows {
            files = now;
            changed = Instant::now();
            cpu_before_s = cpu_seconds_of_tree(server_pid);
        }
        if changed.elapsed() >= QUIET {
            let cpu_s = cpu_seconds_of_tree(server_pid) - cpu_before_s;
            if cpu_s < REST_CORES * changed.elapsed().as_secs_f64() {
                return Ok((changed.duration_since(started), files));
            }
            // It is still at work on something that the list does not show yet.
            changed = Instant::now();
            cpu_before_s = cpu_seconds_of_tree(server_pid);
        }
        sleep(LOOK_PAUSE).await;
    }
    Err(Failure::new(format!(
        "after {} s the {} files of {database} have {} rows of {rows}, or still change",
        limit.as_secs(),
        files.len(),
        rows_in(&files)
    )))
}

/// Waits until the files of a database have at least so many rows, compacted or not.
pub(crate) async fn until_in_files(
    api: &mut Api,
    database: &str,
    rows: u64,
    limit: Duration,
) -> Result<DataFiles, Failure> {
    let started = Instant::now();
    loop {
        let files = data_files(api, database).await?;
        if rows_in(&files) >= rows {
            return Ok(files);
        }
        if started.elapsed() >= limit {
            return Err(Failure::new(format!(
                "after {} s the files of {database} have {} rows of {rows}",
                limit.as_secs(),
                rows_in(&files)
            )));
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// Waits until a database has at most so many files, as compaction makes them fewer.
pub(crate) async fn until_fewer_files(
    api: &mut Api,
    database: &str,
    count_max: usize,
    limit: Duration,
) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        let count = data_files(api, database).await?.len();
        if count <= count_max {
            return Ok(());
        }
        if started.elapsed() >= limit {
            return Err(Failure::new(format!(
                "after {} s of compaction {database} still has {count} files, more than {count_max}",
                limit.as_secs()
            )));
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// Everything below a folder that is, or is about to become, a Parquet file.
pub(crate) fn parquet_paths(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // A folder may go while it is looked at.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if entry.file_name().to_string_lossy().contains(".parquet") {
                found.insert(path);
            }
        }
    }
    found
}

/// Waits, to the millisecond, until a Parquet file that was not there before begins to be written. False where none is.
pub(crate) async fn until_new_parquet(
    folder: &Path,
    known: &BTreeSet<PathBuf>,
    limit: Duration,
) -> Result<bool, Failure> {
    wait_until(limit, Duration::from_millis(1), async || {
        Ok(parquet_paths(folder).difference(known).next().is_some())
    })
    .await
}

/// Bytes below a folder.
#[derive(Clone, Copy, Default)]
pub(crate) struct OnDisk {
    /// Of Parquet files.
    pub data_bytes: u64,
    /// Of everything else: log, manifest, catalog.
    pub other_bytes: u64,
}

/// What lies below a folder. Files that go meanwhile do not count.
pub(crate) fn on_disk(folder: &Path) -> Result<OnDisk, Failure> {
    let mut sum = OnDisk::default();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).during(format!("cannot read {}", folder.display())),
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|end| end == "parquet") {
                sum.data_bytes += metadata.len();
            } else {
                sum.other_bytes += metadata.len();
            }
        }
    }
    Ok(sum)
}

/// Flags of `serve` that bring about in seconds what takes minutes otherwise.
pub(crate) mod flags {
    /// Rows become files seconds after they were written, as soon as the server looks.
    pub(crate) fn eager_snapshots() -> Vec<String> {
        words(&["--wal-snapshot-size", "1"])
    }

    /// A second of load fills the memory for rows, so that files are written all the time.
    pub(crate) fn small_buffer() -> Vec<String> {
        let limit = ["--force-snapshot-mem-threshold", "4MB"];
        [eager_snapshots(), words(&limit)].concat()
    }

    /// Files stay as they are.
    pub(crate) fn no_compaction() -> Vec<String> {
        words(&["--compaction-cpu-share", "0"])
    }

    /// Memory for rows that are in no file.
    pub(crate) fn buffer_limit(size: &str) -> Vec<String> {
        words(&["--force-snapshot-mem-threshold", size])
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_and_the_rest_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/1.parquet"), [0; 7]).unwrap();
        fs::write(folder.path().join("a/log"), [0; 3]).unwrap();
        fs::write(folder.path().join("manifest"), [0; 2]).unwrap();
        let sum = on_disk(folder.path()).unwrap();
        assert_eq!((sum.data_bytes, sum.other_bytes), (7, 5));
    }
}
