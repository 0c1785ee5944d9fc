//! The course of a simulation: lives of processes, one after the other, on one machine.

use std::time::Duration;

use tidemill_simulation::{Faults, Random, Restart, SimDisk, SimObjectStore};

use crate::model::{Model, Operation};
use crate::process::{Failure, Process};
use crate::workload::Workload;

const LIVES: usize = 5;
const STEPS_OF_A_LIFE: usize = 40;
const SECOND_NS: i64 = 1_000_000_000;
/// 2026-01-01.
const START_NS: i64 = 1_767_225_600 * SECOND_NS;
/// How often it is looked whether the power is still there, while something is awaited.
const CRASH_POLL: Duration = Duration::from_millis(1);

/// Everything that outlives a process.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) disk: SimDisk,
    pub(crate) objects: SimObjectStore,
    pub(crate) model: Model,
    pub(crate) workload: Workload,
    pub(crate) now_ns: i64,
    /// What happened, for the report of a failure.
    pub(crate) history: Vec<String>,
}

/// What the machine brings about, unless its power goes before.
async fn with_power<T>(disk: &SimDisk, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let power_goes = async {
        while !disk.crashed() {
            tokio::time::sleep(CRASH_POLL).await;
        }
    };
    tokio::select! {
        outcome = work => outcome,
        () = power_goes => Err("the power has gone".into()),
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        Self {
            random: Random::new(seed),
            objects: SimObjectStore::new(disk.clone()),
            disk,
            model: Model::default(),
            workload: Workload::new(),
            now_ns: START_NS,
            history: Vec::new(),
        }
    }

    /// Several lives that end badly, and one without faults in which everything settles.
    pub(crate) async fn run(&mut self) {
        for _ in 0..=self.random.below(LIVES) {
            let faults = self.random_faults();
            self.note(format!("life with {faults:?}"));
            self.disk.set_faults(faults);
            self.live().await;
            let restart = if self.random.one_in(3) {
                Restart::Kill
            } else {
                Restart::PowerLoss
            };
            self.note(format!("{restart:?}"));
            self.disk.restart(restart);
            self.objects.restart(&self.disk, restart);
        }
        self.settle().await;
    }

    async fn live(&mut self) {
        let disk = self.disk.clone();
        let process = match with_power(&disk, Process::open(self)).await {
            Ok(process) => process,
            Err(error) => return self.must_be_a_fault("opening", &error),
        };
        // What has come back of the life before must be known before anything is written behind it.
        let steps = if self.check(&process).await {
            STEPS_OF_A_LIFE
        } else {
            1
        };
        for _ in 0..self.random.below(steps) {
            if self.disk.crashed() {
                break;
            }
            self.now_ns += self.random.below(120) as i64 * SECOND_NS;
            self.step(&process).await;
        }
        let _ = with_power(&self.disk, process.abandon()).await;
    }

    async fn step(&mut self, process: &Process) {
        match self.random.below(20) {
            0..9 => self.write(process).await,
            9 => {
                let operation = self.workload.delete(&mut self.random);
                self.carry_out(process, operation).await;
            }
            10..13 => {
                let outcome = with_power(&self.disk, process.snapshot(self.now_ns)).await;
                self.attempt("snapshot", outcome);
            }
            13..15 => {
                let outcome = with_power(&self.disk, process.compact(self.now_ns)).await;
                self.attempt("compaction", outcome);
            }
            15 => {
                let outcome = with_power(&self.disk, process.checkpoint()).await;
                self.attempt("checkpoint", outcome);
            }
            16 => {
                let outcome = with_power(&self.disk, process.collect_garbage()).await;
                self.attempt("garbage", outcome);
            }
            17 | 18 => self.run_trigger(process).await,
            _ => drop(self.check(process).await),
        }
    }

    async fn write(&mut self, process: &Process) {
        let operation = self.workload.write(&mut self.random);
        self.carry_out(process, operation).await;
    }

    async fn carry_out(&mut self, process: &Process, operation: Operation) {
        let outcome = with_power(&self.disk, process.carry_out(&operation, self.now_ns)).await;
        self.note(format!("{operation:?}: {outcome:?}"));
        match outcome {
            Ok(()) => self.model.acknowledge(&operation),
            Err(error) => {
                self.must_be_a_fault("writing", &error);
                self.model.doubt(operation);
            }
        }
    }

    async fn run_trigger(&mut self, process: &Process) {
        let rows = 1 + self.random.below(50);
        let run = with_power(&self.disk, process.run_trigger(self.now_ns, rows)).await;
        self.attempt("trigger", run);
    }

    /// A life without faults, at the end of which everything is compacted, every row was passed on once, and nothing is
    /// left lying about.
    async fn settle(&mut self) {
        self.note("last life".to_owned());
        let process = match Process::open(self).await {
            Ok(process) => process,
            Err(error) => self.fail(&format!("cannot be opened: {error}")),
        };
        self.check(&process).await;
        self.model.forget_doubts();
        self.write(&process).await;
        let outcome = process.snapshot(self.now_ns).await;
        self.attempt("snapshot", outcome);
        // Long enough for everything to be cold.
        self.now_ns += 100 * 3600 * SECOND_NS;
        let mut jobs = 0;
        while process
            .compact(self.now_ns)
            .await
            .unwrap_or_else(|error| self.fail(&format!("compaction: {error}")))
        {
            self.now_ns += 3600 * SECOND_NS;
            jobs += 1;
            if jobs > 200 {
                self.fail("compaction does not come to an end");
            }
        }
        self.check(&process).await;
        while process
            .run_trigger(self.now_ns, 1000)
            .await
            .unwrap_or_else(|error| self.fail(&format!("trigger: {error}")))
        {}
        self.check_derived(&process, true).await;
        let garbage = process.collect_garbage().await;
        self.attempt("garbage", garbage);
        let strays = process.strays(&self.objects.paths());
        if !strays.is_empty() {
            self.fail(&format!("objects that nothing names: {strays:?}"));
        }
        let _ = process.abandon().await;
        // And once more, from what is there now.
        self.disk.restart(Restart::PowerLoss);
        self.objects.restart(&self.disk, Restart::PowerLoss);
        match Process::open(self).await {
            Ok(process) => {
                self.check(&process).await;
                self.check_derived(&process, true).await;
                let _ = process.abandon().await;
            }
            Err(error) => self.fail(&format!("cannot be opened again: {error}")),
        }
    }

    /// No value was passed on twice, none that was never durable, and in the end every one.
    async fn check_derived(&mut self, process: &Process, is_end: bool) {
        let mut derived = match process.derived().await {
            Ok(derived) => derived,
            Err(error) => return self.must_be_a_fault("reading what the trigger wrote", &error),
        };
        derived.sort_unstable();
        if let Some([twice, _]) = derived.windows(2).find(|pair| pair[0] == pair[1]) {
            self.fail(&format!("the trigger has passed on {twice} twice"));
        }
        let written = self.model.written();
        if let Some(strange) = derived.iter().find(|value| !written.contains(value)) {
            self.fail(&format!(
                "the trigger has passed on {strange}, which was not written"
            ));
        }
        if is_end && derived.len() < written.len() {
            let missed = written.iter().find(|value| derived.binary_search(value).is_err());
            self.fail(&format!("the trigger has missed {missed:?}"));
        }
    }

    /// Content against the model, unless a fault keeps it from being read.
    /// Whether it could.
    pub(crate) async fn check(&mut self, process: &Process) -> bool {
        let points = match process.points().await {
            Ok(points) => points,
            Err(error) => {
                self.must_be_a_fault("reading", &error);
                return false;
            }
        };
        if let Err(contradiction) = self.model.resolve(&points) {
            self.fail(&contradiction.to_string());
        }
        if let Err(broken) = process.check_file_order() {
            self.fail(&broken);
        }
        self.check_derived(process, false).await;
        true
    }

    fn attempt<T: std::fmt::Debug>(&mut self, what: &str, outcome: Result<T, Failure>) {
        self.note(format!("{what}: {outcome:?}"));
        if let Err(error) = outcome {
            self.must_be_a_fault(what, &error);
        }
    }

    /// An error without a fault is a defect.
    pub(crate) fn must_be_a_fault(&mut self, what: &str, error: &Failure) {
        self.note(format!("{what}: {error}"));
        if !self.disk.fault_fired() {
            self.fail(&format!("{what} failed without any fault: {error}"));
        }
    }

    pub(crate) fn fail(&self, what: &str) -> ! {
        let history = self.history.join("\n  ");
        panic!("{what}\nhistory:\n  {history}");
    }

    pub(crate) fn note(&mut self, text: String) {
        self.history.push(text);
    }

    fn random_faults(&mut self) -> Faults {
        let random = &mut self.random;
        let crash_in_steps = (!random.one_in(4)).then(|| random.below(150) as u64);
        let fail_one_in = random.one_in(2).then(|| 5 + random.below(40));
        Faults {
            crash_in_steps,
            fail_one_in,
            ..Faults::default()
        }
    }
}
