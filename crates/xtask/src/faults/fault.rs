//! The list of faults.

use std::time::Duration;

use clap::ValueEnum;

use super::bed::Bed;
use super::finding::Finding;
use super::storage::StorageFault;
use super::{dying, excess, setting_up, stuck};
use crate::failure::Failure;

/// Something that a plugin or an operator does, or that happens to a disk; they are tried in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Fault {
    /// No fault: what the others compare with
    Nothing,
    /// A slow synchronous trigger that writes back, under load
    SlowWrites,
    /// 200 concurrent requests to a sleeping request trigger
    SleepingRequests,
    /// A `table:` trigger before its table
    TableLater,
    /// Zero and sub-millisecond intervals; `every:1ms`
    Intervals,
    /// Disabled during a 60 s run while tables are created
    DisableInRun,
    /// An endless loop in Python
    LoopInPython,
    /// An endless loop in C that holds the interpreter lock
    LoopInC,
    /// A catastrophic regular expression
    LoopInARegularExpression,
    /// `os._exit` in every run
    Exit,
    /// A segmentation fault in every run
    Segfault,
    /// 4 GiB of allocations under a memory limit of 256 MB
    Memory,
    /// 10 million log lines
    LogFlood,
    /// A response of 1 GB
    Response,
    /// Forked children that would outlive their plugin
    Orphans,
    /// `sys.exit`, `KeyboardInterrupt`, `SystemExit` in a thread
    Exits,
    /// Every file descriptor closed
    ClosedDescriptors,
    /// A module that fails to import, then is fixed
    BrokenImport,
    /// A package upgraded under a running trigger
    PackageUpgrade,
    /// Two triggers that feed one another
    Feedback,
    /// `kill -9` of workers, of the server, of both, at random
    KillAtRandom,
    /// `kill -9` while snapshots write files
    KillInSnapshot,
    /// `kill -9` while compaction writes files
    KillInCompaction,
    /// A disk of 24 MB fills up and is enlarged
    FullDisk,
    /// A damaged data file
    DamagedFile,
    /// An object store that is gone for a while
    StoreGone,
}

impl Fault {
    /// As in `--only`; also the mark of the rows that are written meanwhile.
    pub(super) fn name(self) -> String {
        self.value().get_name().to_owned()
    }

    /// What the table calls it.
    pub(super) fn title(self) -> String {
        self.value()
            .get_help()
            .map_or_else(String::new, ToString::to_string)
    }

    fn value(self) -> clap::builder::PossibleValue {
        self.to_possible_value().expect("no fault is hidden")
    }

    /// The fault of storage that it is, if it is one.
    pub(super) fn of_storage(self) -> Option<StorageFault> {
        match self {
            Fault::KillInSnapshot => Some(StorageFault::KillInSnapshot),
            Fault::KillInCompaction => Some(StorageFault::KillInCompaction),
            Fault::FullDisk => Some(StorageFault::FullDisk),
            Fault::DamagedFile => Some(StorageFault::DamagedFile),
            Fault::StoreGone => Some(StorageFault::StoreGone),
            _ => None,
        }
    }

    /// Lets it happen to a server, except for what needs servers of its own.
    pub(super) async fn run(self, bed: &mut Bed) -> Result<Finding, Failure> {
        match self {
            Fault::Nothing => {
                bed.go_on(Duration::from_secs(5)).await;
                Ok(Finding::default())
            }
            Fault::SlowWrites => stuck::slow_writes(bed).await,
            Fault::SleepingRequests => stuck::sleeping_requests(bed).await,
            Fault::TableLater => setting_up::table_later(bed).await,
            Fault::Intervals => setting_up::intervals(bed).await,
            Fault::DisableInRun => stuck::disable_in_run(bed).await,
            Fault::LoopInPython => stuck::endless_loop(bed, "in_python").await,
            Fault::LoopInC => stuck::endless_loop(bed, "in_c").await,
            Fault::LoopInARegularExpression => stuck::endless_loop(bed, "in_a_regular_expression").await,
            Fault::Exit => dying::death(bed, "by_exit", &["exited with code 3"]).await,
            Fault::Segfault => {
                let causes = ["SIGSEGV", "Segmentation fault", "in by_segmentation_fault"];
                dying::death(bed, "by_segmentation_fault", &causes).await
            }
            Fault::Memory => excess::memory(bed).await,
            Fault::LogFlood => excess::log_flood(bed).await,
            Fault::Response => excess::response(bed).await,
            Fault::Orphans => dying::orphans(bed).await,
            Fault::Exits => dying::exits(bed).await,
            Fault::ClosedDescriptors => dying::closed_descriptors(bed).await,
            Fault::BrokenImport => setting_up::broken_import(bed).await,
            Fault::PackageUpgrade => setting_up::package_upgrade(bed).await,
            Fault::Feedback => excess::feedback(bed).await,
            Fault::KillAtRandom
            | Fault::KillInSnapshot
            | Fault::KillInCompaction
            | Fault::FullDisk
            | Fault::DamagedFile
            | Fault::StoreGone => Ok(Finding::skipped("it needs servers of its own")),
        }
    }
}
