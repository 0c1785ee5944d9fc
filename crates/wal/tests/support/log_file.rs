//! Short ways to write and read a log in a directory.

use std::path::{Path, PathBuf};

use tidemill_wal::{FileMedium, Lsn, Medium, Record, Recovery, WalConfig, WalError};

pub type Records = Vec<(Lsn, Vec<u8>)>;

pub fn group(payloads: &[impl AsRef<[u8]>]) -> Vec<Record> {
    payloads
        .iter()
        .map(|payload| Record::new(payload.as_ref().to_vec()).unwrap())
        .collect()
}

/// Opens the log and returns what was replayed.
pub fn recover(medium: &mut dyn Medium, config: &WalConfig) -> Result<(Recovery, Records), WalError> {
    let mut records = Records::new();
    let recovery = medium.recover(config, &mut |lsn, payload| {
        records.push((lsn, payload.to_vec()));
        Ok(())
    })?;
    Ok((recovery, records))
}

pub fn recover_directory(directory: &Path) -> Result<(Recovery, Records), WalError> {
    recover(&mut FileMedium::open(directory)?, &WalConfig::default())
}

/// Appends groups to the log in `directory` and closes it again.
pub fn write_groups(directory: &Path, config: &WalConfig, groups: &[Vec<Vec<u8>>]) {
    let mut medium = FileMedium::open(directory).unwrap();
    let (recovery, _) = recover(&mut medium, config).unwrap();
    let mut next = recovery.last.next();
    for payloads in groups {
        medium.append(next, &group(payloads)).unwrap();
        next = Lsn(next.0 + payloads.len() as u64);
    }
}

/// The segment files, in order.
pub fn segment_paths(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    paths.sort();
    paths
}

/// `(lsn, payload)` pairs for payloads numbered from 1.
pub fn numbered<'a>(payloads: impl IntoIterator<Item = &'a Vec<u8>>) -> Records {
    (1..).map(Lsn).zip(payloads.into_iter().cloned()).collect()
}
