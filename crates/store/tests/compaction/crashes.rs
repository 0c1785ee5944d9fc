//! Random writes, deletes and steps; the process is lost at any request to the object store.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use proptest::prelude::*;
use tidemill_catalog::{Catalog, TableId};
use tidemill_store::compaction::CompactionPolicy;
use tidemill_store::{FileStore, FileStoreConfig, RowDelete, TableFiles};
use tidemill_testkit::{Fault, FaultyStore};

use crate::node::{Fields, Node, Point, Rows, catalog, overwrite};

const MINUTE: i64 = 60_000_000_000;

#[derive(Debug, Clone)]
enum Action {
    Write(Vec<(Point, Fields)>),
    Delete {
        host: Option<u8>,
        span: (i64, i64),
    },
    /// Steps until there is nothing to do, or so many.
    Compact {
        steps: u8,
    },
    Wait {
        minutes: u16,
    },
    CollectGarbage,
    Sweep,
    /// Somebody begins to read what there is.
    BeginToRead,
    /// And reads it.
    EndReading,
    /// The process is lost after so many requests of the next steps.
    Crash {
        after: usize,
        fault: Fault,
    },
    Restart,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let field = || prop::option::weighted(0.7, any::<i8>());
    let row = ((0u8..4, 0i64..400), (field(), field()));
    let in_order = (0i64..40, prop::collection::vec(row.clone(), 1..30)).prop_map(|(start, rows)| {
        let near = rows
            .into_iter()
            .map(|((host, time), fields)| ((host, start * 10 + time % 10), fields));
        near.collect::<Vec<_>>()
    });
    let write = prop_oneof![prop::collection::vec(row, 1..30), in_order].prop_map(Action::Write);
    let delete =
        (prop::option::of(0u8..4), 0i64..400, 0i64..200).prop_map(|(host, first, length)| Action::Delete {
            host,
            span: (first, first + length),
        });
    let fault = prop_oneof![Just(Fault::Refuse), Just(Fault::LoseAnswer)];
    let action = prop_oneof![
        8 => write,
        1 => delete,
        4 => (1u8..6).prop_map(|steps| Action::Compact { steps }),
        2 => (1u16..600).prop_map(|minutes| Action::Wait { minutes }),
        2 => Just(Action::CollectGarbage),
        1 => Just(Action::Sweep),
        1 => Just(Action::BeginToRead),
        1 => Just(Action::EndReading),
        2 => (0usize..40, fault).prop_map(|(after, fault)| Action::Crash { after, fault }),
        1 => Just(Action::Restart),
    ];
    prop::collection::vec(action, 1..60)
}

/// What survives a crash.
struct World {
    objects: FaultyStore,
    catalog: Arc<Catalog>,
    table: TableId,
    rows: Rows,
    lsn: u64,
    now: i64,
    /// Deletes that are in the log only.
    deletes: Vec<Arc<RowDelete>>,
}

struct Reader {
    list: TableFiles,
    expected: Rows,
}

fn policy() -> CompactionPolicy {
    CompactionPolicy {
        target_rows: 40,
        inputs_max: 8,
        ..CompactionPolicy::default()
    }
}

impl World {
    async fn start(&self) -> Node {
        self.objects.repair();
        let node = Node::open(self.objects.object_store(), &self.catalog, self.table, policy()).await;
        for delete in &self.deletes {
            node.storage.store().await_delete(delete);
        }
        self.check(&node).await;
        node
    }

    async fn check(&self, node: &Node) {
        self.objects.pause_faults(true);
        node.check_files();
        assert_eq!(node.rows().await, self.rows);
        self.objects.pause_faults(false);
    }

    /// Runs until the process is lost or there is nothing more to do; returns the actions that are left.
    async fn live<'a>(&mut self, mut actions: &'a [Action]) -> &'a [Action] {
        let node = self.start().await;
        let mut readers: Vec<Reader> = Vec::new();
        while let Some((action, rest)) = actions.split_first() {
            actions = rest;
            match action {
                Action::Write(rows) => {
                    self.lsn += 1;
                    let mut written = Rows::new();
                    for (point, fields) in rows {
                        overwrite(&mut written, &Rows::from([(*point, *fields)]));
                    }
                    overwrite(&mut self.rows, &written);
                    let deletes = std::mem::take(&mut self.deletes);
                    node.snapshot(&written, self.lsn, &deletes).await;
                }
                Action::Delete { host, span } => {
                    self.lsn += 1;
                    let delete = node.row_delete(self.lsn, *host, *span);
                    node.storage.store().await_delete(&delete);
                    self.deletes.push(delete);
                    let is_deleted = |point: &Point| {
                        host.is_none_or(|host| host == point.0) && (span.0..=span.1).contains(&point.1)
                    };
                    self.rows.retain(|point, _| !is_deleted(point));
                }
                Action::Compact { steps } => {
                    for _ in 0..*steps {
                        if node.compactor.compact_once(self.now).await.unwrap().is_none() {
                            break;
                        }
                        self.check(&node).await;
                    }
                }
                Action::Wait { minutes } => self.now += i64::from(*minutes) * MINUTE,
                Action::CollectGarbage => drop(node.compactor.collect_garbage_once().await.unwrap()),
                Action::Sweep => drop(node.compactor.sweep_orphans_once().await.unwrap()),
                Action::BeginToRead => readers.push(Reader {
                    list: node.files(),
                    expected: self.rows.clone(),
                }),
                Action::EndReading => {
                    for reader in readers.drain(..) {
                        // One that has nothing in its cache.
                        let files = FileStore::new(self.objects.object_store(), FileStoreConfig::default());
                        assert_eq!(
                            node.rows_of(&reader.list, &Arc::new(files)).await,
                            reader.expected
                        );
                    }
                }
                Action::Crash { after, fault } => {
                    self.objects.die_after(*after, *fault);
                    let steps = async {
                        loop {
                            let has_worked =
                                matches!(node.compactor.compact_once(self.now).await, Ok(Some(_)));
                            let has_removed = matches!(node.compactor.collect_garbage_once().await, Ok(1..));
                            if !has_worked && !has_removed {
                                break;
                            }
                        }
                    };
                    let death = async {
                        while !self.objects.is_dead() {
                            tokio::task::yield_now().await;
                        }
                    };
                    tokio::select! {
                        () = steps => {}
                        () = death => {}
                    }
                    return actions;
                }
                Action::Restart => return actions,
            }
            self.check(&node).await;
        }
        actions
    }

    /// A process that does everything that is to be done.
    async fn settle(&mut self) {
        let node = self.start().await;
        node.compactor.sweep_orphans_once().await.unwrap();
        let mut steps = 0;
        for _ in 0..2 {
            while node.compactor.compact_once(self.now).await.unwrap().is_some() {
                steps += 1;
                assert!(steps < 1000, "compaction does not end");
            }
            self.now += 10 * MINUTE;
        }
        self.check(&node).await;
        assert!(node.files().deletes.is_empty(), "all deletes have been applied");
        while node.compactor.collect_garbage_once().await.unwrap() > 0 {}
        let state = node.storage.manifest().state();
        assert_eq!(state.garbage().len(), 0);
        let live: BTreeSet<String> = state.files().map(|file| file.path.to_string()).collect();
        let mut objects = BTreeSet::new();
        let mut folders = vec!["node/files".to_owned()];
        while let Some(folder) = folders.pop() {
            let folder = Path::from(folder);
            let listed = self
                .objects
                .memory()
                .list_with_delimiter(Some(&folder))
                .await
                .unwrap();
            objects.extend(listed.objects.iter().map(|object| object.location.to_string()));
            folders.extend(listed.common_prefixes.iter().map(ToString::to_string));
        }
        assert_eq!(objects, live, "objects and live files");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn content_survives_everything(actions in actions()) {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let keeper = runtime();
        let (catalog, table) = keeper.block_on(catalog(None));
        let mut world = World {
            objects: FaultyStore::new(),
            catalog,
            table,
            rows: Rows::new(),
            lsn: 0,
            now: 0,
            deletes: Vec::new(),
        };
        let mut rest = &actions[..];
        while !rest.is_empty() {
            // What a process had begun ends with its runtime.
            rest = runtime().block_on(world.live(rest));
        }
        runtime().block_on(world.settle());
    }
}
