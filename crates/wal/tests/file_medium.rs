//! Appending, reading and removing, on disks that work and on disks that do not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use tidemill_simulation::{Faults, Restart, SimDisk};
use tidemill_wal::{Disk, FileMedium, Lsn, Medium, Wal, WalConfig, WalError};

use support::log_file::{Records, group, recover, segment_paths};

fn small_segments() -> WalConfig {
    WalConfig {
        segment_bytes_max: 200,
        ..WalConfig::default()
    }
}

fn on(disk: &SimDisk, config: &WalConfig) -> (FileMedium, Records) {
    let mut medium = FileMedium::on(Arc::new(disk.clone()));
    let (_, records) = recover(&mut medium, config).unwrap();
    (medium, records)
}

fn segment_names(disk: &SimDisk) -> Vec<String> {
    disk.names().unwrap()
}

#[test]
fn a_group_is_never_split_over_segments() {
    let directory = tempfile::tempdir().unwrap();
    let mut medium = FileMedium::open(directory.path()).unwrap();
    recover(&mut medium, &small_segments()).unwrap();
    medium
        .append(Lsn(1), &group(&[[1; 90], [2; 90], [3; 90]]))
        .unwrap();
    medium.append(Lsn(4), &group(&[[4; 10]])).unwrap();
    medium.append(Lsn(5), &group(&[[5; 90]])).unwrap();
    medium.append(Lsn(6), &group(&[[6; 90]])).unwrap();
    let sizes: Vec<u64> = segment_paths(directory.path())
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .collect();
    assert_eq!(sizes, [32 + 3 * (32 + 90), 32 + 42 + 122, 32 + 122]);
}

#[test]
fn a_large_group_of_many_records_is_written_whole() {
    // More parts than one system call takes, some of them empty.
    let payloads: Vec<Vec<u8>> = (0..5000).map(|index| vec![index as u8; index % 3]).collect();
    let directory = tempfile::tempdir().unwrap();
    let mut medium = FileMedium::open(directory.path()).unwrap();
    recover(&mut medium, &WalConfig::default()).unwrap();
    medium.append(Lsn(1), &group(&payloads)).unwrap();
    let read = medium
        .durable_log()
        .read(Lsn::ZERO, Lsn(5000), usize::MAX)
        .unwrap();
    assert!(read.into_iter().map(|(_, payload)| payload).eq(payloads));
}

#[test]
fn a_reader_gets_what_it_asks_for() {
    let disk = SimDisk::new(1);
    let (mut medium, _) = on(&disk, &small_segments());
    for number in 1..=20_u8 {
        medium
            .append(Lsn(u64::from(number)), &group(&[[number; 20]]))
            .unwrap();
    }
    assert!(segment_names(&disk).len() > 3);
    let log = medium.durable_log();
    let lsns = |after: u64, until: u64, bytes_max: usize| -> Vec<u64> {
        log.read(Lsn(after), Lsn(until), bytes_max)
            .unwrap()
            .iter()
            .map(|(lsn, _)| lsn.0)
            .collect()
    };
    assert_eq!(lsns(0, 20, usize::MAX), (1..=20).collect::<Vec<u64>>());
    assert_eq!(lsns(7, 20, 60), [8, 9, 10]);
    assert_eq!(lsns(7, 20, 79), [8, 9, 10]);
    assert_eq!(lsns(7, 20, 0), [8], "one record at least");
    assert_eq!(lsns(7, 9, usize::MAX), [8, 9], "nothing that is not durable");
    assert_eq!(lsns(20, 20, usize::MAX), [0_u64; 0]);
    assert_eq!(lsns(25, 20, usize::MAX), [0_u64; 0]);
}

#[test]
fn a_reader_starts_near_the_record_it_wants() {
    // Several places to start at in one segment, found by the writer and by the replay.
    let disk = SimDisk::new(1);
    let (mut medium, _) = on(&disk, &WalConfig::default());
    for number in 1..=100_u64 {
        medium
            .append(Lsn(number), &group(&[vec![number as u8; 20_000]]))
            .unwrap();
    }
    let check = |medium: &FileMedium| {
        for after in 0..100 {
            let read = medium.durable_log().read(Lsn(after), Lsn(100), 1).unwrap();
            assert_eq!(read, [(Lsn(after + 1), vec![after as u8 + 1; 20_000])]);
        }
    };
    check(&medium);
    drop(medium);
    let (medium, _) = on(&disk, &WalConfig::default());
    check(&medium);
}

#[test]
fn whole_segments_before_a_record_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let mut medium = FileMedium::open(directory.path()).unwrap();
    recover(&mut medium, &small_segments()).unwrap();
    for number in 1..=8 {
        medium.append(Lsn(number), &group(&[[0; 40]])).unwrap();
    }
    let log = medium.durable_log();
    let firsts = || -> Vec<String> {
        segment_paths(directory.path())
            .iter()
            .map(|path| {
                path.file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .trim_start_matches('0')
                    .to_owned()
            })
            .collect()
    };
    assert_eq!(firsts(), ["1", "3", "5", "7"]);
    assert_eq!(log.remove_before(Lsn(2)).unwrap(), 0);
    assert_eq!(log.remove_before(Lsn(3)).unwrap(), 1);
    assert_eq!(log.remove_before(Lsn(6)).unwrap(), 1);
    assert_eq!(firsts(), ["5", "7"]);
    assert_eq!(log.first_lsn(), Some(Lsn(5)));
    let error = log.read(Lsn(2), Lsn(8), usize::MAX).unwrap_err();
    assert_eq!(
        error.to_string(),
        "records after 2 were removed from the log: the first one left is 5"
    );
    assert_eq!(log.read(Lsn(4), Lsn(8), usize::MAX).unwrap().len(), 4);
    assert_eq!(log.remove_before(Lsn(100)).unwrap(), 1);
    assert_eq!(firsts(), ["7"], "the last one holds the place in the numbering");
}

#[test]
fn readers_and_removals_run_beside_appends() {
    const RECORDS: u64 = 3000;
    let directory = tempfile::tempdir().unwrap();
    let medium = Box::new(FileMedium::open(directory.path()).unwrap());
    let config = WalConfig {
        segment_bytes_max: 2000,
        ..WalConfig::default()
    };
    let wal = Wal::open(
        medium,
        config,
        |_, _| Ok::<_, String>(()),
        |group: &mut Vec<(Lsn, ())>| group.clear(),
    );
    let wal = &wal.unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut cursor = Lsn::ZERO;
            while cursor < Lsn(RECORDS) {
                for (lsn, payload) in wal.read(cursor, 3000).unwrap() {
                    assert_eq!(lsn, cursor.next());
                    assert_eq!(payload, lsn.0.to_string().into_bytes());
                    cursor = lsn;
                }
                wal.truncate_before(cursor).unwrap();
            }
        });
        runtime.block_on(async {
            for number in 1..=RECORDS {
                let pending = wal.append(number.to_string().into_bytes(), ()).await.unwrap();
                if number % 10 == 0 {
                    pending.durable().await.unwrap();
                }
            }
            wal.shutdown().await;
        });
        reader.join().unwrap();
    });
    assert!(segment_paths(directory.path()).len() <= 2);
}

#[test]
fn on_a_full_disk_a_group_fails_and_the_next_one_that_fits_succeeds() {
    let mut disk = SimDisk::new(3);
    let (mut medium, _) = on(&disk, &WalConfig::default());
    medium.append(Lsn(1), &group(&[b"before"])).unwrap();
    let name = segment_names(&disk)[0].clone();
    let length = disk.bytes_of(&name).len();
    disk.set_faults(Faults {
        room_bytes: Some(50),
        ..Faults::default()
    });
    let error = medium.append(Lsn(2), &group(&[[9; 100]])).unwrap_err();
    let WalError::Io { action, path, source } = &error else {
        panic!("{error}")
    };
    assert_eq!((*action, path), ("write to", &disk.path(&name)));
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(disk.bytes_of(&name).len(), length, "the torn bytes are cut off");
    assert!(medium.append(Lsn(2), &group(&[b"still full"])).is_err());
    disk.set_faults(Faults::default());
    medium.append(Lsn(2), &group(&[b"after"])).unwrap();
    assert_eq!(segment_names(&disk), [name], "the segment is still good");
    disk.restart(Restart::PowerLoss);
    let (_, records) = on(&disk, &WalConfig::default());
    assert_eq!(
        records,
        [(Lsn(1), b"before".to_vec()), (Lsn(2), b"after".to_vec())]
    );
}

#[test]
fn after_a_failed_sync_the_log_goes_on_in_a_new_segment() {
    let mut disk = SimDisk::new(4);
    let (mut medium, _) = on(&disk, &WalConfig::default());
    medium.append(Lsn(1), &group(&[b"before"])).unwrap();
    // The write works, its sync fails.
    disk.set_faults(Faults {
        fail_in_steps: Some(1),
        ..Faults::default()
    });
    let error = medium.append(Lsn(2), &group(&[b"lost"])).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot sync sim/00000000000000000001.wal: "),
        "{error}"
    );
    medium.append(Lsn(2), &group(&[b"after"])).unwrap();
    assert_eq!(
        segment_names(&disk),
        ["00000000000000000001.wal", "00000000000000000002.wal"]
    );
    disk.restart(Restart::PowerLoss);
    let (_, records) = on(&disk, &WalConfig::default());
    assert_eq!(
        records,
        [(Lsn(1), b"before".to_vec()), (Lsn(2), b"after".to_vec())]
    );
}

#[test]
fn each_step_of_starting_a_segment_may_fail_once() {
    for step in 0..8 {
        let mut disk = SimDisk::new(step);
        let config = WalConfig {
            segment_bytes_max: 1,
            ..WalConfig::default()
        };
        let (mut medium, _) = on(&disk, &config);
        medium.append(Lsn(1), &group(&[b"before"])).unwrap();
        disk.set_faults(Faults {
            fail_in_steps: Some(step),
            ..Faults::default()
        });
        let failed = medium.append(Lsn(2), &group(&[b"failed"])).is_err();
        assert_eq!(failed, step < 7, "it takes seven steps");
        disk.set_faults(Faults::default());
        let next = if failed { Lsn(2) } else { Lsn(3) };
        medium.append(next, &group(&[b"after"])).unwrap();
        disk.restart(Restart::PowerLoss);
        let (_, records) = on(&disk, &config);
        assert_eq!(records.last(), Some(&(next, b"after".to_vec())), "step {step}");
        assert_eq!(records.len() as u64, next.0);
    }
}

#[test]
fn every_append_fails_until_the_segment_can_be_cut_back() {
    let disk = SimDisk::new(5);
    let (mut medium, _) = on(&disk, &WalConfig::default());
    medium.append(Lsn(1), &group(&[b"before"])).unwrap();
    disk.set_faults(Faults {
        fail_one_in: Some(1),
        ..Faults::default()
    });
    for _ in 0..3 {
        medium.append(Lsn(2), &group(&[b"failed"])).unwrap_err();
    }
    disk.set_faults(Faults::default());
    medium.append(Lsn(2), &group(&[b"after"])).unwrap();
    let read = medium.durable_log().read(Lsn::ZERO, Lsn(2), usize::MAX).unwrap();
    assert_eq!(read, [(Lsn(1), b"before".to_vec()), (Lsn(2), b"after".to_vec())]);
}

#[test]
fn a_removal_that_fails_is_repeated() {
    let disk = SimDisk::new(6);
    let (mut medium, _) = on(&disk, &small_segments());
    for number in 1..=8 {
        medium.append(Lsn(number), &group(&[[0; 40]])).unwrap();
    }
    let log = medium.durable_log();
    for failing_step in 0..2 {
        disk.set_faults(Faults {
            fail_in_steps: Some(failing_step),
            ..Faults::default()
        });
        log.remove_before(Lsn(5)).unwrap_err();
    }
    assert_eq!(log.first_lsn(), Some(Lsn(1)));
    disk.set_faults(Faults::default());
    assert_eq!(log.remove_before(Lsn(5)).unwrap(), 2);
    assert_eq!(log.first_lsn(), Some(Lsn(5)));
    assert_eq!(segment_names(&disk).len(), 2);
}
