//! How fast the disk under a server makes an append durable: no durable write can be answered sooner.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{During, Failure};

const APPENDS: usize = 200;
/// About the size of a log record of one point.
const APPEND_BYTES: usize = 200;

/// The quickest of many appends with their `fdatasync` in `directory`, in milliseconds. Not the median: on a busy machine
/// that is the time until this process gets its turn again.
pub(crate) fn sync_ms(directory: &Path) -> Result<f64, Failure> {
    let complaint = format!("cannot write in {}", directory.display());
    let mut file = tempfile::tempfile_in(directory).during(&complaint)?;
    let mut quickest_ms = f64::INFINITY;
    for _ in 0..APPENDS {
        quickest_ms = quickest_ms.min(append_and_sync(&mut file).during(&complaint)?);
    }
    Ok(quickest_ms)
}

/// Milliseconds of appends with their `fdatasync` in `directory`, one after the other with pauses, until told to stop: what
/// others do to the disk meanwhile is in them. Keeps the calling thread.
pub(crate) fn watch_sync_ms(
    directory: &Path,
    pause: Duration,
    stop: &AtomicBool,
) -> Result<Vec<f64>, Failure> {
    let complaint = format!("cannot write in {}", directory.display());
    let mut file = tempfile::tempfile_in(directory).during(&complaint)?;
    let mut milliseconds = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        milliseconds.push(append_and_sync(&mut file).during(&complaint)?);
        thread::sleep(pause);
    }
    Ok(milliseconds)
}

fn append_and_sync(file: &mut File) -> std::io::Result<f64> {
    let started = Instant::now();
    file.write_all(&[b'x'; APPEND_BYTES])?;
    file.sync_data()?;
    Ok(started.elapsed().as_secs_f64() * 1000.0)
}
