//! A medium whose flushes the test sees begin and decides the end of: slow in exactly the way the test wants.

use std::sync::{Arc, Mutex, mpsc};

use tidemill_wal::{DurableLog, Lsn, Medium, Record, Recovery, Visitor, WalConfig, WalError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What the medium is asked to make durable.
#[derive(Debug, PartialEq, Eq)]
pub struct Flush {
    pub first: Lsn,
    pub payloads: Vec<Vec<u8>>,
}

pub struct GatedMedium {
    begun: UnboundedSender<Flush>,
    ends: mpsc::Receiver<Result<(), WalError>>,
}

/// The test's side.
pub struct Gate {
    begun: UnboundedReceiver<Flush>,
    ends: mpsc::Sender<Result<(), WalError>>,
    /// Flushes that have begun and were not ended.
    under_way: Arc<Mutex<usize>>,
}

pub fn gated_medium() -> (Box<GatedMedium>, Gate) {
    let (begun_sender, begun) = unbounded_channel();
    let (ends_sender, ends) = mpsc::channel();
    let gate = Gate {
        begun,
        ends: ends_sender,
        under_way: Arc::default(),
    };
    (
        Box::new(GatedMedium {
            begun: begun_sender,
            ends,
        }),
        gate,
    )
}

impl Gate {
    /// Waits for the next flush to begin.
    pub async fn begun(&mut self) -> Flush {
        let flush = self.begun.recv().await.expect("the log thread runs");
        *self.under_way.lock().unwrap() += 1;
        flush
    }

    /// Whether a flush has begun that the test has not seen.
    pub fn has_begun(&mut self) -> bool {
        !self.begun.is_empty()
    }

    /// Ends the flush that was seen last.
    pub fn end(&self, result: Result<(), WalError>) {
        let mut under_way = self.under_way.lock().unwrap();
        assert_eq!(*under_way, 1, "one flush at a time");
        *under_way -= 1;
        self.ends.send(result).expect("the log thread runs");
    }

    /// Ends every flush from now on at once, with success.
    pub fn open(self, flushes: usize) {
        for _ in 0..flushes {
            let _ = self.ends.send(Ok(()));
        }
    }
}

impl Medium for GatedMedium {
    fn recover(&mut self, _: &WalConfig, _: &mut Visitor<'_>) -> Result<Recovery, WalError> {
        Ok(Recovery::default())
    }

    fn append(&mut self, first: Lsn, group: &[Record]) -> Result<(), WalError> {
        let payloads = group.iter().map(|record| record.payload().to_vec()).collect();
        let _ = self.begun.send(Flush { first, payloads });
        self.ends.recv().unwrap_or(Ok(()))
    }

    fn durable_log(&self) -> Arc<dyn DurableLog> {
        Arc::new(Nothing)
    }
}

struct Nothing;

impl DurableLog for Nothing {
    fn first_lsn(&self) -> Option<Lsn> {
        None
    }

    fn segments(&self) -> Vec<(Lsn, u64)> {
        Vec::new()
    }

    fn read(&self, _: Lsn, _: Lsn, _: usize) -> Result<Vec<(Lsn, Vec<u8>)>, WalError> {
        Ok(Vec::new())
    }

    fn remove_before(&self, _: Lsn) -> Result<usize, WalError> {
        Ok(0)
    }
}
