//! How much of the machine compaction takes.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What a throttle looks at.
pub(crate) trait Probe: Send + Sync {
    /// Time since some moment.
    fn wall(&self) -> Duration;
    /// CPU time of compaction's threads; `None` where it is not known.
    fn cpu(&self) -> Option<Duration>;
    /// CPU time that nobody used, of all cores together, since some moment.
    fn idle(&self) -> Option<Duration>;
}

/// Looked at no more often than this.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Spare time is taken from so long a while: the system counts it in steps of 10 ms.
const IDLE_WINDOW: Duration = Duration::from_millis(300);
/// Nothing waits longer at once.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Of the cores' spare time so much stays free.
const RESERVE: f64 = 0.25;

/// Tells compaction when to pause.
pub(crate) struct Throttle {
    /// Part of one core while the machine is busy.
    cpu_share: f64,
    io_bytes_per_second: u64,
    probe: Box<dyn Probe>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    looked_at: Duration,
    cpu: Duration,
    io_bytes: u64,
    spare: SpareTime,
}

/// The cores that are free for compaction, with what it uses itself.
#[derive(Default)]
struct SpareTime {
    since: Duration,
    cpu: Duration,
    idle: Duration,
    cores: f64,
}

impl Throttle {
    /// `cpu_share` of one core is always allowed, and more where cores are idle.
    pub(crate) fn new(cpu_share: f64, io_bytes_per_second: u64, probe: Box<dyn Probe>) -> Self {
        let state = State {
            looked_at: probe.wall(),
            cpu: probe.cpu().unwrap_or_default(),
            io_bytes: 0,
            spare: SpareTime {
                since: probe.wall(),
                cpu: probe.cpu().unwrap_or_default(),
                idle: probe.idle().unwrap_or_default(),
                cores: 0.0,
            },
        };
        Self {
            cpu_share: cpu_share.max(0.01),
            io_bytes_per_second: io_bytes_per_second.max(1),
            probe,
            state: Mutex::new(state),
        }
    }

    /// Counts bytes that were read or written.
    pub(crate) fn count_io(&self, bytes: u64) {
        self.state.lock().io_bytes += bytes;
    }

    /// How long to do nothing now, so that CPU and I/O stay within their shares.
    pub(crate) fn pause(&self) -> Duration {
        let mut state = self.state.lock();
        let wall = self.probe.wall();
        let elapsed = wall.saturating_sub(state.looked_at);
        if elapsed < LOOK_EVERY {
            return Duration::ZERO;
        }
        // Where CPU time is not known all time that was not a pause is taken for it.
        let cpu = self.probe.cpu().unwrap_or(state.cpu + elapsed);
        let allowed = self
            .cpu_share
            .max(self.spare_cores(&mut state.spare, wall, cpu) - RESERVE);
        let for_cpu = cpu.saturating_sub(state.cpu).div_f64(allowed);
        let for_io = Duration::from_secs_f64(state.io_bytes as f64 / self.io_bytes_per_second as f64);
        let pause = for_cpu.max(for_io).saturating_sub(elapsed).min(PAUSE_MAX);
        state.looked_at = wall + pause;
        state.cpu = cpu;
        state.io_bytes = 0;
        pause
    }

    fn spare_cores(&self, spare: &mut SpareTime, wall: Duration, cpu: Duration) -> f64 {
        let window = wall.saturating_sub(spare.since);
        if window >= IDLE_WINDOW
            && let Some(idle) = self.probe.idle()
        {
            let free = idle.saturating_sub(spare.idle) + cpu.saturating_sub(spare.cpu);
            *spare = SpareTime {
                since: wall,
                cpu,
                idle,
                cores: free.div_duration_f64(window),
            };
        }
        spare.cores
    }

    /// Waits as long as [`Self::pause`] says.
    pub(crate) async fn pace(&self) {
        let pause = self.pause();
        if pause > Duration::ZERO {
            tokio::time::sleep(pause).await;
        }
    }
}

/// The machine as Linux shows it, and the threads that were [registered](Self::register).
#[derive(Clone)]
pub(crate) struct MachineProbe {
    start: Instant,
    threads: Arc<Mutex<Threads>>,
}

#[derive(Default)]
struct Threads {
    running: Vec<i32>,
    /// CPU time of those that have ended.
    ended: Duration,
}

impl MachineProbe {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            threads: Arc::default(),
        }
    }

    /// Counts the CPU time of the calling thread from now on.
    pub(crate) fn register(&self) {
        let id = rustix::thread::gettid().as_raw_nonzero().get();
        self.threads.lock().running.push(id);
    }

    /// The calling thread ends.
    pub(crate) fn unregister(&self) {
        let id = rustix::thread::gettid().as_raw_nonzero().get();
        let mut threads = self.threads.lock();
        threads.ended += thread_cpu(id).unwrap_or_default();
        threads.running.retain(|running| *running != id);
    }
}

impl Probe for MachineProbe {
    fn wall(&self) -> Duration {
        self.start.elapsed()
    }

    fn cpu(&self) -> Option<Duration> {
        let threads = self.threads.lock();
        let running: Option<Vec<Duration>> = threads.running.iter().map(|id| thread_cpu(*id)).collect();
        Some(threads.ended + running?.iter().sum())
    }

    fn idle(&self) -> Option<Duration> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let ticks = text.lines().next()?.split_ascii_whitespace().nth(4)?;
        // User space sees hundredths of a second on every Linux.
        Some(Duration::from_millis(ticks.parse::<u64>().ok()? * 10))
    }
}

fn thread_cpu(id: i32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/self/task/{id}/schedstat")).ok()?;
    let nanoseconds = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct FakeMachine(Arc<Mutex<(Duration, Duration, Option<Duration>)>>);

    impl FakeMachine {
        /// Compaction works alone on its core for a while.
        fn work(&self, wall: u64, cpu: u64, idle: u64) {
            let mut times = self.0.lock();
            times.0 += Duration::from_millis(wall);
            times.1 += Duration::from_millis(cpu);
            times.2 = times.2.map(|total| total + Duration::from_millis(idle));
        }

        fn sleep(&self, pause: Duration, idle_cores: f64) {
            let mut times = self.0.lock();
            times.0 += pause;
            times.2 = times.2.map(|total| total + pause.mul_f64(idle_cores));
        }
    }

    impl Probe for FakeMachine {
        fn wall(&self) -> Duration {
            self.0.lock().0
        }

        fn cpu(&self) -> Option<Duration> {
            Some(self.0.lock().1)
        }

        fn idle(&self) -> Option<Duration> {
            self.0.lock().2
        }
    }

    /// The part of a core that compaction has used at the end of ten seconds.
    fn share_used(
        machine: &FakeMachine,
        throttle: &Throttle,
        idle_while_working: f64,
        idle_while_pausing: f64,
    ) -> f64 {
        let (start, used) = (machine.wall(), machine.cpu().unwrap());
        while machine.wall() < start + Duration::from_secs(10) {
            machine.work(50, 50, (50.0 * idle_while_working) as u64);
            machine.sleep(throttle.pause(), idle_while_pausing);
        }
        let used = machine.cpu().unwrap().saturating_sub(used);
        used.div_duration_f64(machine.wall().saturating_sub(start))
    }

    #[test]
    fn takes_its_share_of_a_busy_machine() {
        let machine = FakeMachine::default();
        machine.0.lock().2 = Some(Duration::ZERO);
        let throttle = Throttle::new(0.25, u64::MAX, Box::new(machine.clone()));
        let used = share_used(&machine, &throttle, 0.0, 0.0);
        assert!((0.2..=0.3).contains(&used), "{used}");
    }

    #[test]
    fn takes_most_of_what_nobody_else_wants() {
        let machine = FakeMachine::default();
        machine.0.lock().2 = Some(Duration::ZERO);
        let throttle = Throttle::new(0.25, u64::MAX, Box::new(machine.clone()));
        // One of two cores is busy with other things.
        let used = share_used(&machine, &throttle, 0.0, 1.0);
        assert!((0.6..=0.8).contains(&used), "{used}");
        // Both are free.
        let used = share_used(&machine, &throttle, 1.0, 2.0);
        assert!(used > 0.95, "{used}");
    }

    #[test]
    fn without_knowledge_of_the_machine_it_takes_its_share() {
        let machine = FakeMachine::default();
        let throttle = Throttle::new(0.5, u64::MAX, Box::new(machine.clone()));
        let used = share_used(&machine, &throttle, 0.0, 0.0);
        assert!((0.45..=0.55).contains(&used), "{used}");
    }

    #[test]
    fn bytes_are_paced_too() {
        let machine = FakeMachine::default();
        let throttle = Throttle::new(1.0, 1_000_000, Box::new(machine.clone()));
        let mut bytes = 0;
        while machine.wall() < Duration::from_secs(10) {
            machine.work(50, 1, 0);
            throttle.count_io(200_000);
            bytes += 200_000;
            machine.sleep(throttle.pause(), 0.0);
        }
        assert!((9_000_000..=11_000_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn the_cpu_time_of_threads_is_seen() {
        let probe = MachineProbe::new();
        probe.register();
        let before = probe.cpu();
        let mut sum = 0u64;
        while probe.wall() < Duration::from_millis(50) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(probe.cpu() > before || before.is_none());
        probe.unregister();
    }
}
