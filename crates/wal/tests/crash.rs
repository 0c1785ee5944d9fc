//! Whatever fails, and whenever the power goes: what was answered is there, in order, without a gap, and nothing
//! is there that was not written.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidemill_simulation::{Faults, Random, Restart, SimDisk};
use tidemill_wal::{FileMedium, Lsn, Medium, Wal, WalConfig};

use support::log_file::{Records, group, recover};

/// What a log must hold, and what it may hold.
#[derive(Default)]
struct Expected {
    acknowledged: Vec<Vec<u8>>,
    /// Groups that were tried behind these and failed. A power loss may bring back the beginning of one of them.
    failed_groups: Vec<Vec<Vec<u8>>>,
    /// Up to here the records are stored elsewhere.
    replay_after: u64,
}

impl Expected {
    fn next(&self) -> Lsn {
        Lsn(self.acknowledged.len() as u64 + 1)
    }

    fn acknowledge(&mut self, payloads: Vec<Vec<u8>>) {
        self.acknowledged.extend(payloads);
        self.failed_groups.clear();
    }

    /// Compares, and takes what was brought back as written.
    fn check_replayed(&mut self, replayed: &Records) {
        let lsns: Vec<u64> = replayed.iter().map(|(lsn, _)| lsn.0).collect();
        let without_gap: Vec<u64> = (self.replay_after + 1..).take(replayed.len()).collect();
        assert_eq!(lsns, without_gap);
        let payloads: Vec<Vec<u8>> = replayed.iter().map(|(_, payload)| payload.clone()).collect();
        let owed = &self.acknowledged[self.replay_after as usize..];
        assert!(
            payloads.starts_with(owed),
            "{} records replayed, {} owed",
            payloads.len(),
            owed.len()
        );
        let brought_back = payloads[owed.len()..].to_vec();
        let is_known = self
            .failed_groups
            .iter()
            .any(|group| group.starts_with(&brought_back));
        assert!(
            brought_back.is_empty() || is_known,
            "{} records invented",
            brought_back.len()
        );
        self.acknowledge(brought_back);
    }
}

fn config(random: &mut Random, expected: &Expected) -> WalConfig {
    WalConfig {
        segment_bytes_max: 200 + random.below(2000) as u64,
        replay_after: Lsn(expected.replay_after),
        ..WalConfig::default()
    }
}

fn random_faults(random: &mut Random) -> Faults {
    let crash_in_steps = Some(random.below(60) as u64);
    match random.below(3) {
        0 => Faults {
            crash_in_steps,
            ..Faults::default()
        },
        1 => Faults {
            fail_one_in: Some(2 + random.below(10)),
            ..Faults::default()
        },
        _ => Faults {
            crash_in_steps,
            fail_one_in: Some(3 + random.below(20)),
            ..Faults::default()
        },
    }
}

/// One process: opens the log, then appends, reads and removes until the power goes or it is done.
fn live(disk: &SimDisk, faults: Faults, random: &mut Random, expected: &mut Expected) {
    disk.set_faults(faults);
    let mut medium = FileMedium::on(Arc::new(disk.clone()));
    match recover(&mut medium, &config(random, expected)) {
        Ok((_, replayed)) => expected.check_replayed(&replayed),
        Err(error) => {
            assert!(disk.fault_fired(), "a log without damage is refused: {error}");
            return;
        }
    }
    for _ in 0..random.below(30) {
        let payloads: Vec<Vec<u8>> = (0..=random.below(4))
            .map(|_| {
                let length = random.below(200);
                random.bytes(length)
            })
            .collect();
        match medium.append(expected.next(), &group(&payloads)) {
            Ok(()) => expected.acknowledge(payloads),
            Err(error) => {
                assert!(disk.fault_fired(), "{error}");
                expected.failed_groups.push(payloads);
            }
        }
        if disk.crashed() {
            return;
        }
        if random.one_in(4) {
            check_read(&medium, random, expected);
        }
        if random.one_in(10) {
            let span = expected.acknowledged.len() + 1 - expected.replay_after as usize;
            expected.replay_after += random.below(span) as u64;
            // Failures are allowed; what is left is checked by the next process.
            let _ = medium
                .durable_log()
                .remove_before(Lsn(expected.replay_after).next());
        }
    }
}

fn check_read(medium: &FileMedium, random: &mut Random, expected: &Expected) {
    let last = expected.acknowledged.len();
    let after = expected.replay_after as usize + random.below(last + 1 - expected.replay_after as usize);
    let bytes_max = random.below(1000);
    let records = medium
        .durable_log()
        .read(Lsn(after as u64), Lsn(last as u64), bytes_max)
        .unwrap();
    assert_eq!(records.is_empty(), after == last);
    for (index, (lsn, payload)) in records.iter().enumerate() {
        assert_eq!(lsn.0 as usize, after + index + 1);
        assert_eq!(payload, &expected.acknowledged[after + index]);
    }
    let bytes: usize = records.iter().map(|(_, payload)| payload.len()).sum();
    assert!(records.len() <= 1 || bytes <= bytes_max);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn acknowledged_records_survive(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let mut disk = SimDisk::new(random.next());
        let mut expected = Expected::default();
        for _ in 0..=random.below(6) {
            let faults = random_faults(&mut random);
            live(&disk, faults, &mut random, &mut expected);
            disk.restart(if random.one_in(3) { Restart::Kill } else { Restart::PowerLoss });
        }
        // A process without faults opens what the others left, and loses nothing at the next power loss.
        live(&disk, Faults::default(), &mut random, &mut expected);
        expected.failed_groups.clear();
        disk.restart(Restart::PowerLoss);
        live(&disk, Faults::default(), &mut random, &mut expected);
    }

    /// A disk that drops syncs can lose records; still no record is invented, changed or put in another place.
    #[test]
    fn a_disk_that_lies_can_lose_but_not_invent(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let mut disk = SimDisk::new(random.next());
        let mut written: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        for _ in 0..4 {
            disk.set_faults(Faults {
                lie_one_in: Some(2 + random.below(5)),
                crash_in_steps: Some(random.below(60) as u64),
                ..Faults::default()
            });
            let mut medium = FileMedium::on(Arc::new(disk.clone()));
            let mut replayed = Records::new();
            let result = medium.recover(&config(&mut random, &Expected::default()), &mut |lsn, payload| {
                replayed.push((lsn, payload.to_vec()));
                Ok(())
            });
            for (index, (lsn, payload)) in replayed.iter().enumerate() {
                prop_assert_eq!(lsn.0, index as u64 + 1);
                prop_assert!(written[&lsn.0].contains(payload));
            }
            let mut next = replayed.len() as u64 + 1;
            while result.is_ok() && !disk.crashed() {
                let length = random.below(100);
                let payload = random.bytes(length);
                written.entry(next).or_default().push(payload.clone());
                if medium.append(Lsn(next), &group(&[payload])).is_ok() {
                    next += 1;
                }
            }
            disk.restart(Restart::PowerLoss);
        }
    }
}

/// The same for the whole log: tasks append at the same time, the power goes under the running thread.
fn crash_under_concurrent_appends(seed: u64) {
    const TASKS: u64 = 6;
    let mut random = Random::new(seed);
    let mut disk = SimDisk::new(random.next());
    let faults = Faults {
        crash_in_steps: Some(5 + random.below(40) as u64),
        ..Faults::default()
    };
    let config = WalConfig {
        segment_bytes_max: 1000,
        pending_bytes_max: 700,
        ..WalConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();

    let medium = Box::new(FileMedium::on(Arc::new(disk.clone())));
    let wal = Wal::<()>::open(medium, config.clone(), |_, _| Ok::<_, String>(()), Vec::clear).unwrap();
    let wal = Arc::new(wal);
    disk.set_faults(faults);
    let acknowledged = runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let wal = Arc::clone(&wal);
                tokio::spawn(append_until_it_fails(wal, task))
            })
            .collect();
        let mut acknowledged = BTreeMap::new();
        for task in tasks {
            for (lsn, payload) in task.await.unwrap() {
                assert_eq!(acknowledged.insert(lsn, payload), None, "{lsn} was given twice");
            }
        }
        wal.shutdown().await;
        acknowledged
    });
    assert!(disk.crashed());
    assert_eq!(wal.durable_lsn().0, acknowledged.len() as u64);

    disk.restart(Restart::PowerLoss);
    let (_, replayed) = recover(&mut FileMedium::on(Arc::new(disk)), &config).unwrap();
    let replayed: BTreeMap<Lsn, Vec<u8>> = replayed.into_iter().collect();
    for (lsn, payload) in &acknowledged {
        assert_eq!(replayed.get(lsn), Some(payload));
    }
    // At most what the tasks had under way comes back in addition.
    assert!(replayed.len() as u64 <= acknowledged.len() as u64 + TASKS);
}

async fn append_until_it_fails(wal: Arc<Wal<()>>, task: u64) -> Records {
    let mut acknowledged = Records::new();
    for number in 0_u64.. {
        let payload = format!("task {task} record {number}")
            .repeat(1 + (number % 4) as usize)
            .into_bytes();
        let Ok(pending) = wal.append(payload.clone(), ()).await else {
            break;
        };
        let Ok(lsn) = pending.durable().await else { break };
        acknowledged.push((lsn, payload));
    }
    acknowledged
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn acknowledged_records_of_concurrent_tasks_survive(seed in any::<u64>()) {
        crash_under_concurrent_appends(seed);
    }
}
