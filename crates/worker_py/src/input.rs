//! The reading half of the connection: a thread that cuts the stream into frames and hands each to whoever waits for it.
//!
//! It never takes the interpreter lock, so that an answer, a cancellation and the end of the server arrive whatever the
//! plugin does.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use bytes::BufMut;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tidemill_worker_proto::{
    Failure, FailureKind, Frame, FrameDecoder, FromWorker, Outcome, ProtocolError, RunId, ToWorker,
};

use crate::exit::{DONE, PROTOCOL_BROKEN, exit_disconnected, exit_now};
use crate::queue::{Job, RunJob};
use crate::worker::Worker;

/// Room offered to one read; a longer frame makes its own.
const READ_BYTES: usize = 64 << 10;

/// Reads until the server is gone, then ends the process.
pub(crate) fn run_reader(socket: &OwnedFd, worker: &Arc<Worker>) -> ! {
    let mut decoder = FrameDecoder::new();
    let mut jobs = Vec::new();
    loop {
        if read_some(socket, &mut decoder) == 0 {
            exit_now(DONE);
        }
        if let Err(error) = dispatch_all(&mut decoder, worker, &mut jobs) {
            // Standard error is the only way to say something that does not go through the broken connection.
            let _ = writeln!(io::stderr(), "broken connection to the server: {error}");
            exit_now(PROTOCOL_BROKEN);
        }
        if !jobs.is_empty() {
            worker.queue.push_all(&mut jobs);
        }
    }
}

/// Appends what the socket has to the decoder; 0 at the end of the stream.
fn read_some(socket: &OwnedFd, decoder: &mut FrameDecoder) -> usize {
    let buffer = decoder.buffer();
    if buffer.capacity() - buffer.len() < READ_BYTES / 4 {
        buffer.reserve(READ_BYTES);
    }
    loop {
        let read = match recv(socket, buffer.spare_capacity_mut(), RecvFlags::empty()) {
            Ok((_, bytes)) => bytes,
            Err(Errno::INTR) => continue,
            Err(error) => exit_disconnected(error),
        };
        // SAFETY: `recv` has initialised the first `read` bytes of the spare capacity.
        unsafe { buffer.advance_mut(read) };
        return read;
    }
}

fn dispatch_all(
    decoder: &mut FrameDecoder,
    worker: &Arc<Worker>,
    jobs: &mut Vec<Job>,
) -> Result<(), ProtocolError> {
    let received = Instant::now();
    while let Some(Frame { head, blob }) = decoder.next::<ToWorker>()? {
        match head {
            ToWorker::Load(load) => jobs.push(Job::Load(load)),
            ToWorker::Run { run, run_id, work } => jobs.push(Job::Run(Box::new(RunJob {
                run,
                run_id,
                work,
                blob,
                received,
            }))),
            ToWorker::QueryPart { call } => worker.calls.add_part(call, blob),
            ToWorker::QueryDone { call, outcome } => worker.calls.finish_query(call, outcome),
            ToWorker::WriteDone { call, outcome } => worker.calls.finish_write(call, outcome),
            ToWorker::CacheDone { call, reply } => worker.calls.finish_cache(call, reply, blob),
            ToWorker::StateDone { call, reply } => worker.calls.finish_state(call, reply, blob),
            ToWorker::Cancel { run, reason } => {
                worker.queue.push_all(jobs);
                cancel(worker, run, reason)?;
            }
            ToWorker::ResponseTaken { run, bytes } => {
                if let Some(active) = worker.runs.get(run) {
                    active.window.give_back(bytes);
                }
            }
            ToWorker::Shutdown => exit_now(DONE),
        }
    }
    Ok(())
}

/// Answers for a run that has not begun; a thread of its own waits for the interpreter lock to raise in one that has.
fn cancel(worker: &Arc<Worker>, run: RunId, reason: String) -> Result<(), ProtocolError> {
    if worker.queue.remove_run(run) {
        let failure = Failure {
            kind: FailureKind::Raised,
            message: format!("RunTimeout: {reason}"),
            traceback: None,
        };
        let outcome = Outcome::Failed(failure);
        return worker
            .output
            .push_soon(&FromWorker::Finished { run, outcome }, &[]);
    }
    let worker = Arc::clone(worker);
    std::thread::spawn(move || worker.interrupt(run, reason));
    Ok(())
}
