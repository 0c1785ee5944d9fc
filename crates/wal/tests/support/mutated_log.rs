//! The check behind the fuzz target of the log reader: whatever happens to the bytes of a log, opening it either
//! fails or gives a prefix of what was written.

use std::ops::ControlFlow;
use std::sync::Arc;

use tidemill_simulation::SimDisk;
use tidemill_wal::{Disk, FileMedium, Lsn, Medium, WalConfig, WalError, read_segment};

use super::log_file::{group, recover};

/// `input` is a recipe: first groups to write, then changes to the bytes of the segments.
pub fn check_mutated_log(input: &[u8]) {
    let mut recipe = input.iter().copied();
    let disk = SimDisk::new(1);
    let config = WalConfig {
        segment_bytes_max: 256,
        ..WalConfig::default()
    };
    let written = write(&disk, &config, &mut recipe);
    mutate(&disk, &mut recipe);

    let mut visited = Vec::new();
    let mut medium = FileMedium::on(Arc::new(disk));
    let result = medium.recover(&config, &mut |lsn, payload| {
        visited.push((lsn, payload.to_vec()));
        Ok(())
    });
    let is_prefix = written.starts_with(&visited);
    assert!(is_prefix, "visited {visited:?} of {written:?}");
    match result {
        Ok(recovery) => {
            assert_eq!(recovery.last.0, visited.len() as u64);
            let next = recovery.last.next();
            medium
                .append(next, &group(&[b"after"]))
                .expect("a log that opened can be appended to");
            let read = medium
                .durable_log()
                .read(Lsn::ZERO, next, usize::MAX)
                .expect("and be read");
            visited.push((next, b"after".to_vec()));
            assert_eq!(read, visited);
        }
        Err(WalError::Damaged { .. } | WalError::Gap { .. }) => {}
        Err(error) => panic!("unexpected error: {error}"),
    }
}

/// Any bytes as a segment: it says what it found in them, and that is no more than there is.
pub fn check_segment(segment: &[u8]) {
    for is_last in [false, true] {
        let (mut records, mut bytes) = (0, 0);
        let content = read_segment(Lsn(1), segment, is_last, |lsn, payload| {
            records += 1;
            bytes += payload.len();
            assert_eq!(lsn, Lsn(records));
            ControlFlow::Continue(())
        });
        assert_eq!(content.next, Lsn(records + 1));
        assert!(bytes + content.torn_bytes as usize <= segment.len());
        let is_whole = content.torn_bytes == 0 && content.damage.is_none();
        // A header of a segment and one of each record.
        assert!(!is_whole || bytes + 32 * (1 + records as usize) == segment.len());
        assert!(content.resumes.is_none_or(|resumes| resumes > content.next));
    }
}

fn write(disk: &SimDisk, config: &WalConfig, recipe: &mut impl Iterator<Item = u8>) -> Vec<(Lsn, Vec<u8>)> {
    let mut medium = FileMedium::on(Arc::new(disk.clone()));
    recover(&mut medium, config).expect("an empty log opens");
    let mut written = Vec::new();
    for _ in 0..recipe.next().unwrap_or(0) % 8 {
        let payloads: Vec<Vec<u8>> = (0..=recipe.next().unwrap_or(0) % 3)
            .map(|_| {
                let length = usize::from(recipe.next().unwrap_or(0));
                recipe.by_ref().take(length).collect()
            })
            .collect();
        let next = Lsn(written.len() as u64 + 1);
        medium.append(next, &group(&payloads)).expect("the disk works");
        written.extend((next.0..).map(Lsn).zip(payloads));
    }
    written
}

fn mutate(disk: &SimDisk, recipe: &mut impl Iterator<Item = u8>) {
    let names = disk.names().expect("the disk works");
    while let Some(action) = recipe.next() {
        let mut byte = || usize::from(recipe.next().unwrap_or(0));
        let Some(name) = names.get(byte() % names.len().max(1)) else {
            return;
        };
        let mut bytes = disk.bytes_of(name);
        let place = (byte() << 8 | byte()) % (bytes.len() + 1);
        match action % 4 {
            0 => bytes.truncate(place),
            1 => bytes.extend((0..place % 64).map(|index| index as u8)),
            _ => {
                if let Some(target) = bytes.get_mut(place) {
                    *target ^= (byte() as u8).max(1);
                }
            }
        }
        disk.put(name, bytes);
    }
}
