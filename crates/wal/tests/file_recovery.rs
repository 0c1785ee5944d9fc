//! What is cut, what is refused, and what the refusal says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidemill_wal::{DamageKind, FileMedium, Lsn, Medium, WalConfig, WalError};

use support::log_file::{group, numbered, recover, recover_directory, segment_paths, write_groups};

const SEGMENT_HEADER_BYTES: usize = 32;
const RECORD_HEADER_BYTES: usize = 32;

/// A log with these groups in one segment, and the path of that.
fn log_of(groups: &[Vec<Vec<u8>>]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    write_groups(directory.path(), &WalConfig::default(), groups);
    let paths = segment_paths(directory.path());
    assert_eq!(paths.len(), 1);
    (directory, paths[0].clone())
}

/// Each payload is a group.
fn lone(payloads: &[&[u8]]) -> Vec<Vec<Vec<u8>>> {
    payloads.iter().map(|payload| vec![payload.to_vec()]).collect()
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

fn error_of(directory: &Path) -> WalError {
    recover_directory(directory).expect_err("the log must be refused")
}

/// Three segments of two records each.
fn three_segments() -> (TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let config = WalConfig {
        segment_bytes_max: 120,
        ..WalConfig::default()
    };
    write_groups(
        directory.path(),
        &config,
        &lone(&[b"one", b"two", b"three", b"four", b"five", b"six"]),
    );
    let paths = segment_paths(directory.path());
    let names: Vec<_> = paths
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "00000000000000000001.wal",
            "00000000000000000003.wal",
            "00000000000000000005.wal"
        ]
    );
    (directory, paths)
}

#[test]
fn an_empty_directory_is_an_empty_log() {
    let directory = tempfile::tempdir().unwrap();
    let nested = directory.path().join("node/wal");
    let (recovery, records) = recover_directory(&nested).unwrap();
    assert_eq!(recovery.last, Lsn::ZERO);
    assert_eq!(records, []);
}

#[test]
fn what_was_written_is_replayed_across_segments_and_reopenings() {
    let (directory, _) = three_segments();
    write_groups(
        directory.path(),
        &WalConfig::default(),
        &[vec![b"seven".to_vec(), Vec::new()]],
    );
    let (recovery, records) = recover_directory(directory.path()).unwrap();
    let payloads = ["one", "two", "three", "four", "five", "six", "seven", ""];
    assert_eq!(
        records,
        numbered(&payloads.map(|payload| payload.as_bytes().to_vec()))
    );
    assert_eq!(
        (recovery.last, recovery.records, recovery.segments),
        (Lsn(8), 8, 3)
    );
    assert_eq!(recovery.payload_bytes, 27);
    assert_eq!(recovery.cut_bytes, 0);
}

#[test]
fn a_torn_tail_is_cut_at_every_byte_of_the_last_record() {
    let payloads: [&[u8]; 3] = [b"first", b"second", b"the last record"];
    let (directory, path) = log_of(&lone(&payloads));
    let whole = fs::read(&path).unwrap();
    let last_record = whole.len() - RECORD_HEADER_BYTES - payloads[2].len();
    for length in last_record..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let (recovery, records) = recover_directory(directory.path()).unwrap();
        assert_eq!(
            records,
            numbered(&payloads[..2].iter().map(|p| p.to_vec()).collect::<Vec<_>>())
        );
        assert_eq!(
            recovery.cut_bytes as usize,
            length - last_record,
            "cut at {length}"
        );
        assert_eq!(
            fs::read(&path).unwrap(),
            whole[..last_record],
            "the file itself is cut"
        );
        // The numbering goes on as if the record had never been.
        write_groups(directory.path(), &WalConfig::default(), &lone(&[b"another"]));
        let (_, records) = recover_directory(directory.path()).unwrap();
        assert_eq!(records[2], (Lsn(3), b"another".to_vec()));
    }
}

#[test]
fn a_last_record_with_any_byte_wrong_is_cut() {
    let payloads: [&[u8]; 2] = [b"first", b"the last record"];
    let (directory, path) = log_of(&lone(&payloads));
    let whole = fs::read(&path).unwrap();
    let last_record = whole.len() - RECORD_HEADER_BYTES - payloads[1].len();
    for offset in last_record..whole.len() {
        fs::write(&path, &whole).unwrap();
        flip(&path, offset);
        let (recovery, records) = recover_directory(directory.path()).unwrap();
        assert_eq!(records.len(), 1, "byte {offset}");
        assert_eq!(recovery.last, Lsn(1));
        assert_eq!(fs::metadata(&path).unwrap().len() as usize, last_record);
    }
}

#[test]
fn a_tail_of_zeros_or_noise_is_cut() {
    let (directory, path) = log_of(&lone(&[b"first"]));
    let whole = fs::read(&path).unwrap();
    for tail in [
        vec![0; 3_000_000],
        vec![0xff; 31],
        (0..=255).cycle().take(70_000).collect(),
    ] {
        fs::write(&path, [whole.clone(), tail.clone()].concat()).unwrap();
        let (recovery, records) = recover_directory(directory.path()).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(recovery.cut_bytes as usize, tail.len());
    }
}

#[test]
fn any_wrong_byte_before_the_last_group_is_refused_with_file_and_offset() {
    let payloads: [&[u8]; 3] = [b"first", b"second", b"third"];
    let (directory, path) = log_of(&lone(&payloads));
    let whole = fs::read(&path).unwrap();
    let second_record = SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES + payloads[0].len();
    let last_record = second_record + RECORD_HEADER_BYTES + payloads[1].len();
    for offset in SEGMENT_HEADER_BYTES..last_record {
        fs::write(&path, &whole).unwrap();
        flip(&path, offset);
        let error = error_of(directory.path());
        let WalError::Damaged { path: named, damage } = &error else {
            panic!("byte {offset}: {error}")
        };
        assert_eq!(*named, path);
        let record = if offset < second_record {
            SEGMENT_HEADER_BYTES
        } else {
            second_record
        };
        assert_eq!(damage.offset as usize, record, "byte {offset}");
        let start = format!(
            "{} is damaged at byte {record}: the checksum of a record ",
            path.display()
        );
        assert!(error.to_string().starts_with(&start), "{error}");
    }
    assert_eq!(
        fs::read(&path).unwrap().len(),
        whole.len(),
        "a refused log stays as it is"
    );
}

#[test]
fn damage_far_before_the_next_group_is_still_seen() {
    // The next record lies several windows of the scan behind the bad one.
    let (directory, path) = log_of(&[vec![vec![7; 5_000_000]], vec![b"later".to_vec()]]);
    flip(&path, SEGMENT_HEADER_BYTES + 6);
    assert!(matches!(error_of(directory.path()), WalError::Damaged { .. }));
}

#[test]
fn an_intact_record_behind_a_torn_one_of_the_same_group_is_cut_with_it() {
    let last_group = vec![b"aaa".to_vec(), b"bbb".to_vec(), b"ccc".to_vec()];
    let (directory, path) = log_of(&[vec![b"kept".to_vec()], last_group]);
    let group_start = SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES + 4;
    flip(&path, group_start + RECORD_HEADER_BYTES + 3 + 10);
    let (recovery, records) = recover_directory(directory.path()).unwrap();
    assert_eq!(records, numbered(&[b"kept".to_vec(), b"aaa".to_vec()]));
    assert_eq!(recovery.cut_bytes as usize, 2 * (RECORD_HEADER_BYTES + 3));
}

#[test]
fn a_payload_that_contains_a_log_is_not_taken_for_one() {
    let (_other, other_path) = log_of(&lone(&[b"1", b"2", b"3", b"4"]));
    let stolen = fs::read(other_path).unwrap();
    let (directory, path) = log_of(&[vec![b"first".to_vec()], vec![stolen.clone(), stolen]]);
    let second_record = SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES + 5;
    flip(&path, second_record);
    let (_, records) = recover_directory(directory.path()).unwrap();
    assert_eq!(records.len(), 1);
}

#[test]
fn a_torn_end_of_a_segment_that_is_not_the_last_is_refused() {
    let (directory, paths) = three_segments();
    let whole = fs::read(&paths[1]).unwrap();
    let last_record = whole.len() - RECORD_HEADER_BYTES - 4;
    for length in last_record + 1..whole.len() {
        fs::write(&paths[1], &whole[..length]).unwrap();
        let error = error_of(directory.path());
        assert!(
            matches!(&error, WalError::Damaged { path, damage }
                if *path == paths[1] && damage.offset as usize == last_record
                && matches!(damage.kind, DamageKind::RecordHeaderCut | DamageKind::PayloadCut)),
            "{error}"
        );
    }
}

#[test]
fn a_missing_record_at_the_end_of_a_segment_is_a_gap() {
    let (directory, paths) = three_segments();
    let whole = fs::read(&paths[0]).unwrap();
    fs::write(&paths[0], &whole[..whole.len() - RECORD_HEADER_BYTES - 3]).unwrap();
    assert_eq!(
        error_of(directory.path()).to_string(),
        format!(
            "{} starts with record 3 but record 2 should come first: a segment is missing",
            paths[1].display()
        )
    );
}

#[test]
fn a_missing_segment_is_named_by_the_one_behind_it() {
    let (directory, paths) = three_segments();
    fs::remove_file(&paths[1]).unwrap();
    let error = error_of(directory.path());
    assert!(
        matches!(&error, WalError::Gap { path, expected: Lsn(3), found: Lsn(5) } if *path == paths[2]),
        "{error}"
    );
}

#[test]
fn a_missing_first_segment_is_a_gap_unless_its_records_are_stored() {
    let (directory, paths) = three_segments();
    fs::remove_file(&paths[0]).unwrap();
    let error = error_of(directory.path());
    assert!(
        matches!(
            error,
            WalError::Gap {
                expected: Lsn(1),
                found: Lsn(3),
                ..
            }
        ),
        "{error}"
    );

    let config = WalConfig {
        replay_after: Lsn(4),
        ..WalConfig::default()
    };
    let mut medium = FileMedium::open(directory.path()).unwrap();
    let (recovery, records) = recover(&mut medium, &config).unwrap();
    assert_eq!(records, [(Lsn(5), b"five".to_vec()), (Lsn(6), b"six".to_vec())]);
    assert_eq!(recovery.last, Lsn(6));
    // What was not replayed can be read all the same.
    let read = medium.durable_log().read(Lsn(2), Lsn(6), usize::MAX).unwrap();
    assert_eq!(read.len(), 4);
    assert_eq!(read[0], (Lsn(3), b"three".to_vec()));
}

#[test]
fn replay_starts_in_the_middle_of_a_segment() {
    let (directory, _) = three_segments();
    let config = WalConfig {
        replay_after: Lsn(3),
        ..WalConfig::default()
    };
    let (_, records) = recover(&mut FileMedium::open(directory.path()).unwrap(), &config).unwrap();
    assert_eq!(
        records.iter().map(|(lsn, _)| lsn.0).collect::<Vec<_>>(),
        [4, 5, 6]
    );
}

#[test]
fn a_log_that_ends_before_what_is_stored_is_refused() {
    let (directory, paths) = three_segments();
    let config = WalConfig {
        replay_after: Lsn(9),
        ..WalConfig::default()
    };
    let error = recover(&mut FileMedium::open(directory.path()).unwrap(), &config).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} ends with record 6 but records up to 9 were durable: segments are missing",
            paths[2].display()
        )
    );
}

#[test]
fn an_empty_log_goes_on_behind_what_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let config = WalConfig {
        replay_after: Lsn(9),
        ..WalConfig::default()
    };
    let mut medium = FileMedium::open(directory.path()).unwrap();
    let (recovery, _) = recover(&mut medium, &config).unwrap();
    assert_eq!(recovery.last, Lsn(9));
    medium.append(Lsn(10), &group(&[b"ten"])).unwrap();
    drop(medium);
    let (_, records) = recover(&mut FileMedium::open(directory.path()).unwrap(), &config).unwrap();
    assert_eq!(records, [(Lsn(10), b"ten".to_vec())]);
}

#[test]
fn a_segment_header_with_any_byte_wrong_is_refused() {
    let (directory, path) = log_of(&lone(&[b"first"]));
    let whole = fs::read(&path).unwrap();
    for offset in 0..SEGMENT_HEADER_BYTES {
        fs::write(&path, &whole).unwrap();
        flip(&path, offset);
        let error = error_of(directory.path());
        let WalError::Damaged { path: named, damage } = error else {
            panic!("byte {offset}: {error}")
        };
        assert_eq!((named, damage.offset), (path.clone(), 0));
        let is_expected = match offset {
            0..8 => damage.kind == DamageKind::Magic,
            8..12 => matches!(damage.kind, DamageKind::FormatVersion(_)),
            _ => damage.kind == DamageKind::SegmentHeaderChecksum,
        };
        assert!(is_expected, "byte {offset}: {}", damage.kind);
    }
    fs::write(&path, &whole[..10]).unwrap();
    let error = error_of(directory.path());
    assert!(
        error
            .to_string()
            .ends_with("is damaged at byte 0: it ends within the file header"),
        "{error}"
    );
}

#[test]
fn a_renamed_segment_and_a_strange_file_are_refused() {
    let (directory, paths) = three_segments();
    let strange = directory.path().join("copy of 1.wal");
    fs::write(&strange, b"").unwrap();
    assert_eq!(
        error_of(directory.path()).to_string(),
        format!(
            "{} is not a segment of the log: its name is not a record number",
            strange.display()
        )
    );
    fs::remove_file(strange).unwrap();
    fs::rename(&paths[2], directory.path().join("00000000000000000007.wal")).unwrap();
    let error = error_of(directory.path());
    assert!(
        matches!(
            error,
            WalError::Gap {
                expected: Lsn(5),
                found: Lsn(7),
                ..
            }
        ),
        "{error}"
    );
    fs::rename(directory.path().join("00000000000000000007.wal"), &paths[2]).unwrap();
    fs::copy(&paths[0], &paths[1]).unwrap();
    let error = error_of(directory.path());
    assert!(
        error
            .to_string()
            .ends_with("its header says that it starts with record 1"),
        "{error}"
    );
}

#[test]
fn an_unfinished_segment_is_removed() {
    let (directory, _) = log_of(&lone(&[b"first"]));
    let unfinished = directory.path().join("next.tmp");
    fs::write(&unfinished, b"half a hea").unwrap();
    let (recovery, _) = recover_directory(directory.path()).unwrap();
    assert_eq!(recovery.last, Lsn(1));
    assert!(!unfinished.exists());
}

#[test]
fn the_second_process_is_told_who_holds_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = FileMedium::open(directory.path()).unwrap();
    let Err(error) = FileMedium::open(directory.path()) else {
        panic!("opened twice")
    };
    assert_eq!(
        error.to_string(),
        format!(
            "the log directory {} is in use by another process (process {})",
            directory.path().display(),
            std::process::id()
        )
    );
    drop(first);
    FileMedium::open(directory.path()).unwrap();
}

#[test]
fn a_record_the_callback_refuses_ends_the_replay() {
    let (directory, _) = three_segments();
    let medium = Box::new(FileMedium::open(directory.path()).unwrap());
    let refuse_four = |lsn: Lsn, _: &[u8]| {
        if lsn == Lsn(4) {
            Err("not this one")
        } else {
            Ok(())
        }
    };
    let result = tidemill_wal::Wal::<()>::open(medium, WalConfig::default(), refuse_four, Vec::clear);
    let Err(error) = result else { panic!("opened") };
    assert_eq!(error.to_string(), "cannot replay record 4: not this one");
}
