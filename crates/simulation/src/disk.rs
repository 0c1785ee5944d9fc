//! A disk in memory that keeps apart what a program sees and what a power loss leaves.
//!
//! - Written bytes are dirty until a sync. A power loss keeps a random part of the dirty sectors and a length
//!   somewhere between the old and the new one.
//! - A failed sync writes a random part and *drops* the rest: the program still sees it, a later sync does not
//!   write it. That is what Linux does.
//! - Names change at once for the program; a power loss keeps a prefix of the changes since the last sync of names,
//!   and of the removals behind it any.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tidemill_wal::{Disk, DiskFile};

use crate::Random;

/// What goes wrong, and when. A step is one changing operation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The power goes in the middle of this step, counted from now; everything fails from then on.
    pub crash_in_steps: Option<u64>,
    /// This step, counted from now, fails.
    pub fail_in_steps: Option<u64>,
    /// So many times on average a step fails.
    pub fail_one_in: Option<usize>,
    /// So many times on average a sync claims success and does nothing.
    pub lie_one_in: Option<usize>,
    /// Bytes that can still be written.
    pub room_bytes: Option<usize>,
}

/// How the process before ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// It was killed: the page cache survives.
    Kill,
    /// The power went: what was not synced is lost in part.
    PowerLoss,
}

/// The disk as one process sees it; clones are the same process's.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// Which process this is, counted by restarts: what an earlier one has left running can do nothing.
    process: u64,
}

#[derive(Debug)]
struct State {
    random: Random,
    sector_bytes: usize,
    files: HashMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    faults: Faults,
    step: u64,
    crashed: bool,
    fault_fired: bool,
    sync_failed: bool,
    /// The process that runs; see [`SimDisk::process`].
    process: u64,
}

#[derive(Debug, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    dirty_sectors: BTreeSet<usize>,
}

#[derive(Debug)]
enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to) => {
                let file = names
                    .remove(from)
                    .expect("a change is made only to names that exist");
                names.insert(to.clone(), file);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Outcome {
    Works,
    Fails,
    Lies,
}

/// What becomes of a change of an object store that shares the machine with this disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ObjectFate {
    /// It is made and answered.
    Works,
    /// It is not made, and fails.
    Refused,
    /// It is made, and fails all the same.
    AnswerLost,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let sector_bytes = [8, 64, 512][random.below(3)];
        let state = State {
            random,
            sector_bytes,
            files: HashMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            faults: Faults::default(),
            step: 0,
            crashed: false,
            fault_fired: false,
            sync_failed: false,
            process: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            process: 0,
        }
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.state();
        state.faults = faults;
        state.step = 0;
        state.fault_fired = false;
    }

    /// Whether the power has gone: everything fails until [`restart`](Self::restart).
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Whether a fault happened since they were set.
    pub fn fault_fired(&self) -> bool {
        self.state().fault_fired
    }

    /// The next process finds what the last one left. Faults are off; from now on this is the new process's disk, and
    /// everything fails on clones from before.
    pub fn restart(&mut self, restart: Restart) {
        self.set_faults(Faults::default());
        let mut state = self.state();
        // What a failed sync dropped can't be told from what is durable by a process that comes later.
        if restart == Restart::PowerLoss || state.sync_failed {
            state.lose_power();
        }
        state.crashed = false;
        state.sync_failed = false;
        state.process += 1;
        let process = state.process;
        drop(state);
        self.process = process;
    }

    /// The content of a file as the program sees it.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn bytes_of(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.files[&state.names[name]].seen.clone()
    }

    /// Puts a durable file in place, as it is.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let id = state.files.len() as u64;
        let content = Content {
            seen: bytes.clone(),
            durable: bytes,
            dirty_sectors: BTreeSet::new(),
        };
        state.files.insert(id, content);
        state.names.insert(name.to_owned(), id);
        state.durable_names.insert(name.to_owned(), id);
    }

    /// A changing request to an object store is a step as any other: decides its fate.
    pub(crate) fn object_step(&self) -> io::Result<ObjectFate> {
        let mut state = self.state();
        Ok(match state.step(self.process, false)? {
            Outcome::Works => ObjectFate::Works,
            Outcome::Fails | Outcome::Lies if state.random.one_in(2) => ObjectFate::Refused,
            Outcome::Fails | Outcome::Lies => ObjectFate::AnswerLost,
        })
    }

    /// A request to an object store that changes nothing: fails as steps do, without being one.
    pub(crate) fn object_read(&self) -> io::Result<()> {
        let mut state = self.state();
        state.alive(self.process)?;
        let fail_one_in = state.faults.fail_one_in;
        if fail_one_in.is_some_and(|n| state.random.one_in(n)) {
            state.fault_fired = true;
            return Err(broken_disk());
        }
        Ok(())
    }

    /// Whether something that happens to an unsynced change by chance happens.
    pub(crate) fn toss(&self) -> bool {
        self.state().random.one_in(2)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the disk")
    }

    fn file(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state();
        state.alive(self.process)?;
        let id = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            id,
        }))
    }
}

fn full_disk() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

fn broken_disk() -> io::Error {
    io::Error::other("simulated failure of the disk")
}

impl State {
    fn alive(&self, process: u64) -> io::Result<()> {
        if self.crashed || self.process != process {
            Err(io::Error::other("simulated power loss"))
        } else {
            Ok(())
        }
    }

    /// Counts a step and decides its fate.
    fn step(&mut self, process: u64, is_sync: bool) -> io::Result<Outcome> {
        self.alive(process)?;
        let step = self.step;
        self.step += 1;
        if self.faults.crash_in_steps == Some(step) {
            self.crashed = true;
            self.fault_fired = true;
            return Ok(Outcome::Fails);
        }
        let fails_by_chance = self.faults.fail_one_in.is_some_and(|n| self.random.one_in(n));
        if self.faults.fail_in_steps == Some(step) || fails_by_chance {
            self.fault_fired = true;
            return Ok(Outcome::Fails);
        }
        if is_sync && self.faults.lie_one_in.is_some_and(|n| self.random.one_in(n)) {
            self.fault_fired = true;
            return Ok(Outcome::Lies);
        }
        Ok(Outcome::Works)
    }

    fn change_names(&mut self, process: u64, change: NameChange) -> io::Result<()> {
        let works = self.step(process, false)? == Outcome::Works;
        // In a crash the change may or may not have been made.
        if works || (self.crashed && self.random.one_in(2)) {
            change.apply(&mut self.names);
            self.unsynced_names.push(change);
        }
        if works { Ok(()) } else { Err(broken_disk()) }
    }

    fn make_names_durable(&mut self, count: usize) {
        for change in self.unsynced_names.drain(..count) {
            change.apply(&mut self.durable_names);
        }
    }

    fn lose_power(&mut self) {
        let survivors = self.random.below(self.unsynced_names.len() + 1);
        self.make_names_durable(survivors);
        for change in std::mem::take(&mut self.unsynced_names) {
            if matches!(change, NameChange::Remove(_)) && self.random.one_in(2) {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        let Self {
            files,
            random,
            sector_bytes,
            ..
        } = self;
        // In the order of creation, so that the seed repeats it.
        let mut ids: Vec<u64> = files.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let content = files.get_mut(&id).expect("it was just listed");
            content.lose_power(random, *sector_bytes);
        }
    }
}

impl Content {
    fn write_sector(&mut self, sector: usize, sector_bytes: usize) {
        let start = sector * sector_bytes;
        let end = (start + sector_bytes).min(self.seen.len());
        if start >= end {
            return;
        }
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.seen[start..end]);
    }

    fn lose_power(&mut self, random: &mut Random, sector_bytes: usize) {
        let shorter = self.seen.len().min(self.durable.len());
        let longer = self.seen.len().max(self.durable.len());
        let length = shorter + random.below(longer - shorter + 1);
        for sector in std::mem::take(&mut self.dirty_sectors) {
            if random.one_in(2) {
                self.write_sector(sector, sector_bytes);
            }
        }
        self.durable.resize(length, 0);
        self.seen.clone_from(&self.durable);
    }
}

impl Disk for SimDisk {
    fn path(&self, name: &str) -> PathBuf {
        Path::new("sim").join(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive(self.process)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let id = {
            let mut state = self.state();
            let id = state.files.len() as u64;
            state.change_names(self.process, NameChange::Create(name.to_owned(), id))?;
            state.files.insert(id, Content::default());
            id
        };
        Ok(Box::new(SimFile {
            disk: self.clone(),
            id,
        }))
    }

    fn open_append(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.file(name)
    }

    fn open_read(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.file(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        assert!(
            state.crashed || state.names.contains_key(from),
            "rename of a file that is not there"
        );
        state.change_names(self.process, NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.crashed && !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(self.process, NameChange::Remove(name.to_owned()))
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        let outcome = state.step(self.process, true)?;
        let pending = state.unsynced_names.len();
        match outcome {
            Outcome::Works => state.make_names_durable(pending),
            Outcome::Lies => {}
            Outcome::Fails => {
                let survivors = state.random.below(pending + 1);
                state.make_names_durable(survivors);
                return Err(broken_disk());
            }
        }
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    id: u64,
}

impl SimFile {
    fn with<R>(&self, operate: impl FnOnce(&mut State, &mut Content) -> io::Result<R>) -> io::Result<R> {
        let mut state = self.disk.state();
        state.alive(self.disk.process)?;
        let mut content = state.files.remove(&self.id).unwrap_or_default();
        let result = operate(&mut state, &mut content);
        state.files.insert(self.id, content);
        result
    }
}

impl DiskFile for SimFile {
    fn length(&self) -> io::Result<u64> {
        self.with(|_, content| Ok(content.seen.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|_, content| {
            let rest = content.seen.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        })
    }

    fn append(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let process = self.disk.process;
        self.with(|state, content| {
            let mut count = bytes.len();
            if state.step(process, false)? != Outcome::Works {
                count = state.random.below(bytes.len() + 1);
            }
            let mut is_full = false;
            if let Some(room) = &mut state.faults.room_bytes {
                is_full = *room < count;
                count = count.min(*room);
                *room -= count;
            }
            let start = content.seen.len();
            content.seen.extend_from_slice(&bytes[..count]);
            let sectors = start / state.sector_bytes..content.seen.len().div_ceil(state.sector_bytes);
            content.dirty_sectors.extend(sectors);
            // A write that got everything to the disk before it failed has failed all the same.
            if state.crashed || count < bytes.len() || state.faults.fail_in_steps == Some(state.step - 1) {
                return Err(if is_full { full_disk() } else { broken_disk() });
            }
            Ok(())
        })
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let process = self.disk.process;
        self.with(|state, content| {
            let works = state.step(process, false)? == Outcome::Works;
            if works || (state.crashed && state.random.one_in(2)) {
                let length = length as usize;
                content.seen.truncate(length);
                let sectors = length.div_ceil(state.sector_bytes);
                content.dirty_sectors.retain(|&sector| sector < sectors);
                content.dirty_sectors.extend(sectors.checked_sub(1));
            }
            if works { Ok(()) } else { Err(broken_disk()) }
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        let process = self.disk.process;
        self.with(|state, content| {
            let outcome = state.step(process, true)?;
            if outcome == Outcome::Lies {
                return Ok(());
            }
            let works = outcome == Outcome::Works;
            if works || state.random.one_in(2) {
                content.durable.resize(content.seen.len(), 0);
            }
            if state.crashed {
                // What is on its way when the power goes stays dirty: the power loss decides.
                return Err(broken_disk());
            }
            for sector in std::mem::take(&mut content.dirty_sectors) {
                if works || state.random.one_in(2) {
                    content.write_sector(sector, state.sector_bytes);
                }
            }
            if works {
                return Ok(());
            }
            state.sync_failed = true;
            Err(broken_disk())
        })
    }
}
