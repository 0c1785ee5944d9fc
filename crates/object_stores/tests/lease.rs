//! Two processes that want one lease.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidemill_object_stores::{LeaseClock, LeaseError, NodeLease, ProcessIdentity, SystemClock};
use tidemill_testkit::{Fault, FaultyStore};

type Hook = Box<dyn Fn(Duration) + Send + Sync>;

/// Time passes when somebody sleeps. What happens meanwhile is up to the test.
#[derive(Default)]
struct TestClock {
    now_ms: AtomicU64,
    meanwhile: Mutex<Option<Hook>>,
}

#[async_trait]
impl LeaseClock for TestClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms.load(Ordering::Relaxed))
    }

    async fn sleep(&self, duration: Duration) {
        self.now_ms
            .fetch_add(duration.as_millis() as u64, Ordering::Relaxed);
        if let Some(meanwhile) = &*self.meanwhile.lock() {
            meanwhile(self.now());
        }
        // Others get their turn, as while a real clock goes on.
        tokio::task::yield_now().await;
    }
}

async fn acquire(store: &FaultyStore, holder: ProcessIdentity) -> Result<NodeLease, LeaseError> {
    acquire_with(store, holder, Arc::new(TestClock::default())).await
}

async fn acquire_with(
    store: &FaultyStore,
    holder: ProcessIdentity,
    clock: Arc<TestClock>,
) -> Result<NodeLease, LeaseError> {
    NodeLease::acquire(store.object_store(), "node", holder, clock).await
}

/// The identity of a process with something changed.
fn identity(change: &[(&str, Value)]) -> ProcessIdentity {
    let mut value = serde_json::to_value(ProcessIdentity::current()).unwrap();
    for (name, changed) in change {
        value[*name] = changed.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn elsewhere() -> ProcessIdentity {
    identity(&[
        ("host", json!("far-away")),
        ("pid", json!(7)),
        ("machine", json!("another boot")),
    ])
}

/// A process of this machine that has ended.
fn dead() -> ProcessIdentity {
    identity(&[("start_ticks", json!(1))])
}

#[tokio::test]
async fn a_second_process_is_refused_with_the_name_of_the_first() {
    let store = FaultyStore::new();
    let first = ProcessIdentity::current();
    let text = format!(
        "node id 'node' is in use: process {} on host {} serves it from this object store; \
         stop that server, or start this one with another --node-id",
        first.pid, first.host
    );
    let mut lease = acquire(&store, first).await.unwrap();
    let Err(refused) = acquire(&store, ProcessIdentity::current()).await else {
        panic!("two have the lease");
    };
    assert_eq!(refused.to_string(), text);
    assert!(lease.renew().await.unwrap().is_none());
    lease.release().await.unwrap();
    acquire(&store, ProcessIdentity::current()).await.unwrap();
}

#[tokio::test]
async fn a_dead_process_of_this_machine_is_followed_at_once() {
    let store = FaultyStore::new();
    let mut dead = acquire(&store, dead()).await.unwrap();
    let clock = Arc::new(TestClock::default());
    let mut next = acquire_with(&store, ProcessIdentity::current(), Arc::clone(&clock))
        .await
        .unwrap();
    assert_eq!(clock.now(), Duration::ZERO);
    let lost = dead.renew().await.unwrap().expect("it was not dead after all");
    let this = ProcessIdentity::current();
    assert_eq!(
        lost.to_string(),
        format!(
            "node id 'node' was taken over by process {} on host {}: this server must not go on",
            this.pid, this.host
        )
    );
    assert!(next.renew().await.unwrap().is_none());
}

#[tokio::test]
async fn a_silent_process_of_another_machine_is_waited_for() {
    let store = FaultyStore::new();
    drop(acquire(&store, elsewhere()).await.unwrap());
    let clock = Arc::new(TestClock::default());
    acquire_with(&store, ProcessIdentity::current(), Arc::clone(&clock))
        .await
        .unwrap();
    assert_eq!(clock.now(), Duration::from_secs(30));
}

#[tokio::test]
async fn a_process_of_another_machine_that_renews_is_not_followed() {
    let store = FaultyStore::new();
    let holder = Mutex::new(acquire(&store, elsewhere()).await.unwrap());
    let clock = Arc::new(TestClock::default());
    *clock.meanwhile.lock() = Some(Box::new(move |now| {
        if now == Duration::from_secs(10) {
            let mut holder = holder.lock();
            let renewed = futures::executor::block_on(holder.renew());
            assert!(renewed.unwrap().is_none());
        }
    }));
    let Err(refused) = acquire_with(&store, ProcessIdentity::current(), Arc::clone(&clock)).await else {
        panic!("two have the lease");
    };
    assert!(
        refused.to_string().contains("process 7 on host far-away"),
        "{refused}"
    );
    assert_eq!(clock.now(), Duration::from_secs(10));
}

#[tokio::test]
async fn of_two_that_wait_one_gets_it() {
    let store = FaultyStore::new();
    drop(acquire(&store, elsewhere()).await.unwrap());
    let (one, other) = tokio::join!(acquire(&store, elsewhere()), acquire(&store, elsewhere()));
    assert_ne!(one.is_ok(), other.is_ok());
}

#[tokio::test]
async fn answers_that_are_lost_do_no_harm() {
    let store = FaultyStore::new();
    let mut lease = acquire(&store, ProcessIdentity::current()).await.unwrap();
    for _ in 0..3 {
        store.fail_next_put(Fault::LoseAnswer);
        lease.renew().await.map(|_| ()).unwrap_err();
        assert!(lease.renew().await.unwrap().is_none());
    }
    store.fail_next_put(Fault::Refuse);
    lease.renew().await.map(|_| ()).unwrap_err();
    assert!(lease.renew().await.unwrap().is_none());
    store.memory().delete(&Path::from("node/lease")).await.unwrap();
    assert!(lease.renew().await.unwrap().is_none(), "removed by hand");
}

#[tokio::test]
async fn a_store_that_is_gone_for_long_does_not_cost_the_lease() {
    let store = FaultyStore::new();
    let clock = Arc::new(TestClock::default());
    let mut lease = acquire_with(&store, dead(), Arc::clone(&clock)).await.unwrap();
    store.die_after(0, Fault::Refuse);
    *clock.meanwhile.lock() = Some({
        let store = store.clone();
        Box::new(move |now| {
            if now == Duration::from_mins(10) {
                store.repair();
            }
            if now == Duration::from_mins(20) {
                let next = futures::executor::block_on(acquire(&store, ProcessIdentity::current()));
                drop(next.unwrap());
            }
        })
    });
    let lost = lease.keep().await;
    assert_eq!(clock.now(), Duration::from_mins(20));
    assert_eq!(lost.holder.pid, std::process::id());
}

#[tokio::test]
async fn what_is_no_lease_is_refused() {
    let store = FaultyStore::new();
    let path = Path::from("node/lease");
    store.memory().put(&path, "{}".into()).await.unwrap();
    let holder = ProcessIdentity::current();
    let clock = Arc::new(SystemClock::default());
    let acquired = NodeLease::acquire(store.object_store(), "node", holder, clock).await;
    let Err(error) = acquired else {
        panic!("a lease was read from nothing");
    };
    assert!(
        error
            .to_string()
            .starts_with("lease 'node/lease' is unusable: missing field"),
        "{error}"
    );
}
