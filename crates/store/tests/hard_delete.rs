//! What was deleted softly goes when its time has come, its name later, and nothing else goes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use object_store::memory::InMemory;
use parking_lot::Mutex;
use proptest::prelude::*;
use tidemill_catalog::{Catalog, CatalogError, DatabaseId, Limits, TableId, Transaction};
use tidemill_lineproto::ColumnType;
use tidemill_store::{HardDeleteError, HardDeleted, TableData, hard_delete_due, next_hard_delete};

const GRACE: TimeDelta = TimeDelta::hours(24);

/// Tables with data, of which some cannot be dropped for the moment.
#[derive(Default)]
struct Tables {
    with_data: Mutex<BTreeSet<TableId>>,
    stuck: Mutex<BTreeSet<TableId>>,
}

#[async_trait]
impl TableData for Tables {
    fn tables_with_data(&self) -> BTreeSet<TableId> {
        self.with_data.lock().clone()
    }

    async fn drop_table_data(&self, table: TableId) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.stuck.lock().contains(&table) {
            return Err("no answer from the store".into());
        }
        self.with_data.lock().remove(&table);
        Ok(())
    }
}

struct Fixture {
    catalog: Catalog,
    tables: Tables,
}

impl Fixture {
    async fn new() -> Self {
        let objects = Arc::new(InMemory::new());
        Self {
            catalog: Catalog::open(objects, "node", Limits::default()).await.unwrap(),
            tables: Tables::default(),
        }
    }

    async fn change<R>(&self, f: impl FnOnce(&mut Transaction) -> Result<R, CatalogError>) -> R {
        self.catalog.transact(f).await.unwrap()
    }

    /// A table with data.
    async fn table(&self, database: &str, name: &str) -> TableId {
        let create = |t: &mut Transaction| {
            let known = t.state().database(database).map(|database| database.id);
            let id = match known {
                Some(id) => id,
                None => t.create_database(database, None)?,
            };
            t.create_table(id, name, vec![("v".to_owned(), ColumnType::Float)])
        };
        let table = self.change(create).await;
        self.tables.with_data.lock().insert(table);
        table
    }

    async fn step(&self, hour: i64) -> HardDeleted {
        self.try_step(hour).await.unwrap()
    }

    async fn try_step(&self, hour: i64) -> Result<HardDeleted, HardDeleteError> {
        hard_delete_due(&self.catalog, &self.tables, GRACE, at(hour)).await
    }

    fn next(&self) -> Option<DateTime<Utc>> {
        next_hard_delete(&self.catalog.state(), GRACE)
    }
}

fn at(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + hour * 3600, 0).unwrap()
}

#[tokio::test]
async fn data_goes_when_it_is_due_and_the_name_after_the_grace_period() {
    let fixture = Fixture::new().await;
    let (kept, gone) = (
        fixture.table("db", "kept").await,
        fixture.table("db", "gone").await,
    );
    assert_eq!(
        (fixture.step(0).await, fixture.next()),
        (HardDeleted::default(), None)
    );
    fixture
        .change(|t| t.soft_delete_table("db", "gone", at(0), Some(at(72))))
        .await;
    assert_eq!(fixture.next(), Some(at(72)));
    assert_eq!(fixture.step(71).await, HardDeleted::default());
    let done = fixture.step(73).await;
    assert_eq!((done.data_of, done.tables), (vec![gone], Vec::new()));
    assert_eq!(fixture.tables.tables_with_data(), BTreeSet::from([kept]));
    assert_eq!(fixture.next(), Some(at(73 + 24)));

    // A write that was under way when it was deleted.
    fixture.tables.with_data.lock().insert(gone);
    assert_eq!(fixture.step(74).await.data_of, [gone]);
    assert!(fixture.catalog.state().table_by_id(gone).is_some());
    assert_eq!(fixture.step(97).await.tables, [gone]);
    assert!(fixture.catalog.state().table_by_id(gone).is_none());
    assert!(fixture.catalog.state().table_by_id(kept).is_some());
    // And one that the catalog does not know any more.
    fixture.tables.with_data.lock().insert(gone);
    assert_eq!(fixture.step(98).await.data_of, [gone]);
    // The data of a later catalog is not touched.
    fixture.tables.with_data.lock().insert(TableId(1000));
    assert_eq!(fixture.step(99).await, HardDeleted::default());
    assert_eq!(fixture.next(), None);
}

#[tokio::test]
async fn a_database_goes_with_all_its_tables() {
    let fixture = Fixture::new().await;
    let (first, second) = (fixture.table("db", "a").await, fixture.table("db", "b").await);
    let other = fixture.table("other", "a").await;
    // Never by itself, but with its database.
    fixture
        .change(|t| t.soft_delete_table("db", "a", at(0), None))
        .await;
    let database = fixture
        .change(|t| t.soft_delete_database("db", at(1), Some(at(1))))
        .await;
    fixture.tables.stuck.lock().insert(second);
    let error = fixture.try_step(2).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!("the data of deleted table {second} cannot be removed: no answer from the store")
    );
    let undelete = fixture
        .catalog
        .transact(|t| t.undelete_database("db", None))
        .await;
    assert!(matches!(undelete, Err(CatalogError::DataRemoved { .. })));
    assert!(
        fixture.try_step(2 + 24).await.is_err(),
        "the name stays as long as data does"
    );
    assert!(fixture.catalog.state().database_by_id(database).is_some());
    fixture.tables.stuck.lock().clear();
    let done = fixture.step(27).await;
    assert_eq!((done.data_of, done.databases), (vec![second], vec![database]));
    assert!(fixture.catalog.state().table_by_id(first).is_none());
    assert_eq!(fixture.tables.tables_with_data(), BTreeSet::from([other]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is deleted and undeleted at whatever time: data is there exactly as long as it can be asked for again.
    #[test]
    fn what_is_not_due_stays_and_what_is_due_goes(
        steps in prop::collection::vec((0u8..5, 0usize..3, 0i64..6, prop::option::of(0i64..40)), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new().await;
            let mut hour = 0;
            for (action, number, hours, delay) in steps {
                hour += hours;
                let name = format!("t{number}");
                let hard_delete_at = delay.map(|delay| at(hour + delay));
                let transact = async |f: &dyn Fn(&mut Transaction) -> Result<(), CatalogError>| {
                    // Refusals are as good as successes here.
                    let _ = fixture.catalog.transact(f).await;
                };
                match action {
                    0 => {
                        let state = fixture.catalog.state();
                        let database = state.database("db");
                        if database.is_none_or(|database| database.table(&name).is_none()) {
                            fixture.table("db", &name).await;
                        }
                    }
                    1 => transact(&|t| t.soft_delete_table("db", &name, at(hour), hard_delete_at).map(drop)).await,
                    2 => transact(&|t| t.undelete_table("db", &name, None).map(drop)).await,
                    3 => transact(&|t| t.soft_delete_database("db", at(hour), hard_delete_at).map(drop)).await,
                    _ => transact(&|t| t.undelete_database("db", None).map(drop)).await,
                }
                fixture.step(hour).await;
                let state = fixture.catalog.state();
                let with_data = fixture.tables.tables_with_data();
                let mut expected = BTreeSet::new();
                for database in state.databases() {
                    let database_is_due = database.deleted.as_ref().is_some_and(|deletion| deletion.is_due(at(hour)));
                    for table in database.tables() {
                        let is_due = table.deleted.as_ref().is_some_and(|deletion| deletion.is_due(at(hour)));
                        if !is_due && !database_is_due {
                            expected.insert(table.id);
                        }
                    }
                }
                assert_eq!(with_data, expected);
                assert!(next_hard_delete(&state, GRACE).is_none_or(|next| next > at(hour)));
            }
            // In the end nothing is left of what has a date.
            fixture.step(hour + 100).await;
            fixture.step(hour + 200).await;
            let state = fixture.catalog.state();
            let is_dated = |deletion: Option<&tidemill_catalog::Deletion>| {
                deletion.is_some_and(|deletion| deletion.hard_delete_at.is_some())
            };
            assert!(state.databases().all(|database| !is_dated(database.deleted.as_ref())));
            assert!(state.database_by_id(DatabaseId(0)).is_some(), "the internal one stays");
        });
    }
}
