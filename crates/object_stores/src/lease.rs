//! One server of a name at a time, in a store that several machines reach.
//!
//! `{node_id}/lease` names the process that may write. It is replaced only by whoever has seen its present version (`ETag`),
//! so that of two processes that want it one gets it. The holder renews it; a process that wants it takes it over when the
//! holder has given it back, is known to be dead, or has not renewed it for as long as a lease lasts, by the clock of the
//! one that waits: clocks of two machines are never compared.
//!
//! The lease is there to tell an operator early and clearly. It does not fence: a process that was suspended does not know
//! that it lost it. That is what the log, the catalog and the manifest are for, which each refuse the first record of a
//! process that another one has overtaken. For that reason, too, a holder that cannot renew goes on: as long as nobody has
//! taken the lease, nothing is wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutResult, UpdateVersion};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ProcessIdentity;

/// How long a lease lasts after it was renewed.
const DURATION: Duration = Duration::from_secs(30);
/// The holder renews it so often.
const RENEWAL: Duration = Duration::from_secs(10);
/// Whoever waits for it looks so often.
const LOOK: Duration = Duration::from_secs(2);

/// Why a server may not use its store.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Another server has it and is alive. Stop that one, or give this one another name.
    #[error(
        "node id '{node_id}' is in use: {holder} serves it from this object store; \
         stop that server, or start this one with another --node-id"
    )]
    Held {
        /// The name that both want.
        node_id: String,
        /// Who has it.
        holder: Box<ProcessIdentity>,
    },
    /// The lease is there but is not understood: a newer version wrote it, or somebody else.
    #[error("lease '{path}' is unusable: {reason}; if no server of this node runs, remove the object")]
    Unusable {
        /// Path of the object.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store failed.
    #[error("cannot use the object store: {0}")]
    Store(#[from] Error),
}

/// Another process has taken the lease: this one must stop.
#[derive(Debug, Error)]
#[error("node id '{node_id}' was taken over by {holder}: this server must not go on")]
pub struct LeaseLost {
    /// The name.
    pub node_id: String,
    /// Who has it now.
    pub holder: Box<ProcessIdentity>,
}

/// Time as the lease needs it.
#[async_trait]
pub trait LeaseClock: Send + Sync {
    /// Time that has passed since some fixed moment; never goes back.
    fn now(&self) -> Duration;

    /// Waits.
    async fn sleep(&self, duration: Duration);
}

/// Time of the operating system.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

#[async_trait]
impl LeaseClock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The object. It changes with every renewal, so that others see that the holder lives.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LeaseRecord {
    holder: ProcessIdentity,
    renewals: u64,
    /// The holder has stopped and given it back.
    is_released: bool,
}

/// The object as it was seen, and its version.
struct Seen {
    record: LeaseRecord,
    version: UpdateVersion,
}

/// A lease that this process holds.
pub struct NodeLease {
    objects: Arc<dyn ObjectStore>,
    clock: Arc<dyn LeaseClock>,
    path: Path,
    node_id: String,
    own: LeaseRecord,
    version: UpdateVersion,
}

impl NodeLease {
    /// Takes the lease of a node. While it does not know whether the holder lives it waits, up to 30 s.
    ///
    /// # Errors
    /// [`LeaseError::Held`] when another process has it; [`LeaseError::Unusable`]; [`LeaseError::Store`].
    pub async fn acquire(
        objects: Arc<dyn ObjectStore>,
        node_id: &str,
        holder: ProcessIdentity,
        clock: Arc<dyn LeaseClock>,
    ) -> Result<Self, LeaseError> {
        let mut lease = Self {
            objects,
            clock,
            path: Path::from(node_id).join("lease"),
            node_id: node_id.to_owned(),
            own: LeaseRecord {
                holder,
                renewals: 0,
                is_released: false,
            },
            version: UpdateVersion {
                e_tag: None,
                version: None,
            },
        };
        let mode = match lease.look().await? {
            None => PutMode::Create,
            Some(seen) => PutMode::Update(lease.await_end(seen).await?),
        };
        match lease.put(mode).await {
            Ok(()) => Ok(lease),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => match lease.look().await? {
                // The store client tried twice, and the first try had succeeded.
                Some(seen) if seen.record.holder.run == lease.own.holder.run => {
                    lease.version = seen.version;
                    Ok(lease)
                }
                Some(seen) => Err(lease.held(seen)),
                None => Err(LeaseError::Unusable {
                    path: lease.path.to_string(),
                    reason: "it is there and it is not".to_owned(),
                }),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// The version to replace, once its holder is known not to live.
    async fn await_end(&self, mut seen: Seen) -> Result<UpdateVersion, LeaseError> {
        match seen.record.holder.is_running() {
            _ if seen.record.is_released => return Ok(seen.version),
            Some(false) => {
                tracing::info!(holder = %seen.record.holder, "the server that had this node id has ended, taking over");
                return Ok(seen.version);
            }
            Some(true) => return Err(self.held(seen)),
            None => {}
        }
        tracing::warn!(
            holder = %seen.record.holder,
            wait_s = DURATION.as_secs(),
            "another server had this node id and did not give it back, waiting to see whether it still runs"
        );
        let until = self.clock.now() + DURATION;
        while self.clock.now() < until {
            self.clock.sleep(LOOK).await;
            let Some(now) = self.look().await? else {
                // Somebody has removed it by hand; what is seen next decides.
                return Ok(seen.version);
            };
            if now.record.is_released {
                return Ok(now.version);
            }
            let is_same = now.record.holder.run == seen.record.holder.run
                && now.record.renewals == seen.record.renewals;
            if !is_same {
                return Err(self.held(now));
            }
            seen = now;
        }
        tracing::warn!(holder = %seen.record.holder, "it does not renew its lease, taking over");
        Ok(seen.version)
    }

    fn held(&self, seen: Seen) -> LeaseError {
        LeaseError::Held {
            node_id: self.node_id.clone(),
            holder: Box::new(seen.record.holder),
        }
    }

    /// Renews the lease until another process has taken it. Failures of the store are logged, and it is tried again.
    pub async fn keep(&mut self) -> LeaseLost {
        let mut renewed_at = self.clock.now();
        loop {
            self.clock.sleep(RENEWAL).await;
            match self.renew().await {
                Ok(None) => renewed_at = self.clock.now(),
                Ok(Some(lost)) => return lost,
                Err(error) => {
                    let seconds = self.clock.now().saturating_sub(renewed_at).as_secs();
                    tracing::warn!(%error, unrenewed_s = seconds, "cannot renew the lease of this node id, trying again");
                }
            }
        }
    }

    /// Renews it once. Returns the loss if another process has it.
    ///
    /// # Errors
    /// When the store fails: whether it was renewed is not known.
    pub async fn renew(&mut self) -> Result<Option<LeaseLost>, LeaseError> {
        self.own.renewals += 1;
        match self.put(PutMode::Update(self.version.clone())).await {
            Ok(()) => return Ok(None),
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. } | Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        match self.look().await? {
            // An earlier try had succeeded, and its answer was lost.
            Some(seen) if seen.record.holder.run == self.own.holder.run => {
                self.version = seen.version;
                Ok(None)
            }
            Some(seen) => Ok(Some(LeaseLost {
                node_id: self.node_id.clone(),
                holder: Box::new(seen.record.holder),
            })),
            // Somebody has removed it by hand: it is made again, unless another one is faster.
            None => {
                self.put(PutMode::Create).await?;
                Ok(None)
            }
        }
    }

    /// Gives it back, so that the next process need not wait.
    ///
    /// # Errors
    /// When the store fails: the next process may have to wait.
    pub async fn release(mut self) -> Result<(), LeaseError> {
        self.own.is_released = true;
        match self.put(PutMode::Update(self.version.clone())).await {
            Ok(()) => return Ok(()),
            Err(Error::Precondition { .. } | Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        match self.look().await? {
            // A renewal was interrupted, and had succeeded.
            Some(seen) if seen.record.holder.run == self.own.holder.run && !seen.record.is_released => {
                Ok(self.put(PutMode::Update(seen.version)).await?)
            }
            // It is not ours any more, or was given back and the answer was lost.
            _ => Ok(()),
        }
    }

    async fn look(&self) -> Result<Option<Seen>, LeaseError> {
        let object = match self.objects.get(&self.path).await {
            Ok(object) => object,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let version = UpdateVersion {
            e_tag: object.meta.e_tag.clone(),
            version: object.meta.version.clone(),
        };
        let content = object.bytes().await?;
        let record = serde_json::from_slice(&content).map_err(|error| LeaseError::Unusable {
            path: self.path.to_string(),
            reason: error.to_string(),
        })?;
        Ok(Some(Seen { record, version }))
    }

    async fn put(&mut self, mode: PutMode) -> Result<(), Error> {
        let content = serde_json::to_vec(&self.own).map_err(|source| Error::Generic {
            store: "lease",
            source: Box::new(source),
        })?;
        let PutResult { e_tag, version } = self
            .objects
            .put_opts(&self.path, content.into(), mode.into())
            .await?;
        self.version = UpdateVersion { e_tag, version };
        Ok(())
    }
}
