//! Answers that leave while they are made (`spec/engine.md` 0.27): the items of a generator, of another iterator, or of a
//! streamed Werkzeug response, each as soon as it is there.
//!
//! The head leaves with the first item, as WSGI has it: what fails before is an error like any other. The iterator is closed
//! in every case, so that its `finally` blocks run when the client leaves.

use std::time::Instant;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use tidemill_worker_proto::{FromWorker, RESPONSE_WINDOW_BYTES, ResponseHead};

use crate::executor::FLUSH_INTERVAL;
use crate::failure::RunError;
use crate::response::{Body, Response, item_body};
use crate::runs::{ActiveRun, interruption};
use crate::window::Room;
use crate::worker::{Worker, too_long};

/// Longer items are sent in parts of this size.
const PART_BYTES_MAX: usize = RESPONSE_WINDOW_BYTES / 4;

/// An answer whose items are still to be made.
pub(crate) struct Streamed<'py> {
    pub(crate) head: ResponseHead,
    pub(crate) items: Items<'py>,
}

/// Where the items come from.
pub(crate) enum Items<'py> {
    /// An iterator, and what is to be closed after it.
    Iterator(Bound<'py, PyIterator>, Bound<'py, PyAny>),
    /// An asynchronous iterator.
    Asynchronous(Bound<'py, PyAny>),
}

impl<'py> Items<'py> {
    /// The items of a generator, of another iterator, or of anything that gives an asynchronous one; `None` for all else.
    pub(crate) fn of(value: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let py = value.py();
        if value.hasattr(intern!(py, "__next__"))? {
            return Ok(Some(Self::Iterator(value.try_iter()?, value.clone())));
        }
        if value.hasattr(intern!(py, "__aiter__"))? {
            let items = value.call_method0(intern!(py, "__aiter__"))?;
            return Ok(Some(Self::Asynchronous(items)));
        }
        Ok(None)
    }

    fn next(&mut self, worker: &Worker) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self {
            Self::Iterator(items, _) => items.next().transpose(),
            Self::Asynchronous(items) => worker.python.next_item(items),
        }
    }

    fn close(self, worker: &Worker) -> PyResult<()> {
        match self {
            Self::Iterator(_, source) => {
                let close = source.getattr_opt(intern!(source.py(), "close"))?;
                close.map_or(Ok(()), |close| close.call0().map(drop))
            }
            Self::Asynchronous(items) => {
                let close = items.getattr_opt(intern!(items.py(), "aclose"))?;
                let closing = close.map(|close| close.call0()).transpose()?;
                closing.map_or(Ok(()), |closing| worker.python.wait_for(closing).map(drop))
            }
        }
    }
}

impl Streamed<'_> {
    /// Sends the items. An answer that has none is given back, to be sent as a whole.
    pub(crate) fn send(
        self,
        py: Python<'_>,
        worker: &Worker,
        run: &ActiveRun,
    ) -> Result<Option<Response>, RunError> {
        let Self { head, mut items } = self;
        let mut sending = Sending {
            py,
            worker,
            run,
            head: Some(head),
            flushed: None,
        };
        let sent = sending.send_all(&mut items);
        let head = sending.head;
        let closed = items.close(worker);
        // What is raised by the closing of an iterator that has failed says less than its failure.
        sent.and(closed).map_err(RunError::BadReturn)?;
        Ok(head.map(|head| Response {
            head,
            body: Body::Joined(Vec::new()),
        }))
    }
}

/// An answer on its way.
struct Sending<'a, 'py> {
    py: Python<'py>,
    worker: &'a Worker,
    run: &'a ActiveRun,
    /// `None` once it has left.
    head: Option<ResponseHead>,
    flushed: Option<Instant>,
}

impl Sending<'_, '_> {
    fn send_all(&mut self, items: &mut Items<'_>) -> PyResult<()> {
        while let Some(item) = items.next(self.worker)? {
            let Some(body) = item_body(&item)? else { continue };
            let mut rest = body.bytes();
            // An empty item makes the head leave, if it is the first.
            while self.head.is_some() || !rest.is_empty() {
                let (part, after) = rest.split_at(rest.len().min(PART_BYTES_MAX));
                self.send_part(part)?;
                rest = after;
            }
        }
        Ok(())
    }

    fn send_part(&mut self, part: &[u8]) -> PyResult<()> {
        let (worker, run) = (self.worker, self.run);
        let mut room = run.window.try_take(part.len());
        if room == Room::Full {
            room = self.py.detach(|| {
                worker.output.flush();
                run.window.take(part.len())
            });
        }
        if room == Room::Closed {
            return Err(interruption(self.py));
        }
        let run = run.run;
        let message = match self.head.take() {
            Some(response) => FromWorker::ResponseBegun { run, response },
            None => FromWorker::ResponsePart { run },
        };
        worker.output.push(&message, &[part]).map_err(too_long)?;
        // A slow iterator's items leave at once, a fast one's together.
        if self
            .flushed
            .is_none_or(|flushed| flushed.elapsed() > FLUSH_INTERVAL)
        {
            worker.output.flush();
            self.flushed = Some(Instant::now());
        } else {
            worker.output.flush_soon();
        }
        Ok(())
    }
}
