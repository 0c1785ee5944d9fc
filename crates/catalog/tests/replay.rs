//! Whatever happens to a catalog, reopening it gives the same state, from checkpoints and from all its records.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use tidemill_catalog::{Catalog, CatalogError, DatabaseId, Limits, TableId, Transaction};
use tidemill_lineproto::ColumnType;
use tidemill_triggers::{TriggerDefinition, TriggerSettings, TriggerSpec};

async fn open(store: Arc<dyn ObjectStore>) -> Result<Catalog, CatalogError> {
    Catalog::open(store, "node", Limits::default()).await
}

fn trigger(name: &str, spec: &str) -> TriggerDefinition {
    TriggerDefinition {
        trigger_id: 0,
        trigger_name: name.to_owned(),
        plugin_filename: "p.py".to_owned(),
        database_name: String::new(),
        spec: TriggerSpec::parse(spec).unwrap(),
        settings: TriggerSettings::default(),
        arguments: None,
        disabled: false,
        disabled_reason: None,
        created_at_lsn: 0,
    }
}

#[derive(Clone, Debug)]
enum Step {
    CreateDatabase(u8),
    SetRetention(u8, Option<u64>),
    DeleteDatabase(u8),
    RemoveDatabase(u8),
    CreateTable(u8, u8),
    AddColumns(u32, Vec<(u8, bool)>),
    DeleteTable(u8, u8),
    RemoveTable(u32),
    SetTableRetention(u8, u8, Option<u64>),
    UndeleteDatabase(u8),
    UndeleteTable(u8, u8, bool),
    GiveUpDatabase(u8),
    GiveUpTable(u32),
    CreateTrigger(u8, u8),
    DisableTrigger(u8, u8),
    DeleteTrigger(u8, u8),
    Checkpoint,
}

fn any_step() -> impl Strategy<Value = Step> {
    let database = 0u8..3;
    let table = 0u8..3;
    prop_oneof![
        4 => database.clone().prop_map(Step::CreateDatabase),
        1 => (database.clone(), any::<Option<u64>>()).prop_map(|(d, r)| Step::SetRetention(d, r)),
        1 => database.clone().prop_map(Step::DeleteDatabase),
        1 => (0u8..6).prop_map(Step::RemoveDatabase),
        6 => (database.clone(), table.clone()).prop_map(|(d, t)| Step::CreateTable(d, t)),
        6 => (0u32..8, prop::collection::vec((0u8..5, any::<bool>()), 0..4)).prop_map(|(t, c)| Step::AddColumns(t, c)),
        2 => (database.clone(), table.clone()).prop_map(|(d, t)| Step::DeleteTable(d, t)),
        1 => (0u32..8).prop_map(Step::RemoveTable),
        2 => (database.clone(), table.clone(), any::<Option<u64>>())
            .prop_map(|(d, t, r)| Step::SetTableRetention(d, t, r)),
        2 => database.clone().prop_map(Step::UndeleteDatabase),
        2 => (database.clone(), table.clone(), any::<bool>()).prop_map(|(d, t, r)| Step::UndeleteTable(d, t, r)),
        1 => (0u8..6).prop_map(Step::GiveUpDatabase),
        1 => (0u32..8).prop_map(Step::GiveUpTable),
        3 => (database.clone(), table.clone()).prop_map(|(d, t)| Step::CreateTrigger(d, t)),
        1 => (database.clone(), table.clone()).prop_map(|(d, t)| Step::DisableTrigger(d, t)),
        1 => (database, table).prop_map(|(d, t)| Step::DeleteTrigger(d, t)),
        1 => Just(Step::Checkpoint),
    ]
}

fn take(step: &Step, t: &mut Transaction) -> Result<(), CatalogError> {
    let database = |number: &u8| format!("db{number}");
    let now = DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap();
    match step {
        Step::CreateDatabase(d) => t.create_database(&database(d), None).map(|_| ()),
        Step::SetRetention(d, retention) => t.set_retention(&database(d), *retention),
        Step::DeleteDatabase(d) => t.soft_delete_database(&database(d), now, Some(now)).map(|_| ()),
        Step::RemoveDatabase(d) => t.remove_database(DatabaseId(u32::from(*d))),
        Step::CreateTable(d, table) => {
            let id = t
                .state()
                .database(&database(d))
                .map_or(DatabaseId(99), |found| found.id);
            t.create_table(
                id,
                &format!("t{table}"),
                vec![("tag".to_owned(), ColumnType::Tag)],
            )
            .map(|_| ())
        }
        Step::AddColumns(table, columns) => {
            let column = |(number, is_tag): &(u8, bool)| {
                let column_type = if *is_tag {
                    ColumnType::Tag
                } else {
                    ColumnType::Float
                };
                (format!("c{number}"), column_type)
            };
            t.add_columns(TableId(*table), columns.iter().map(column).collect())
                .map(|_| ())
        }
        Step::DeleteTable(d, table) => t
            .soft_delete_table(&database(d), &format!("t{table}"), now, None)
            .map(|_| ()),
        Step::RemoveTable(table) => t.remove_table(TableId(*table)),
        Step::SetTableRetention(d, table, retention) => {
            t.set_table_retention(&database(d), &format!("t{table}"), *retention)
        }
        Step::UndeleteDatabase(d) => t.undelete_database(&database(d), None).map(|_| ()),
        Step::UndeleteTable(d, table, renames) => {
            let new_name = renames.then_some("renamed");
            t.undelete_table(&database(d), &format!("t{table}"), new_name)
                .map(|_| ())
        }
        Step::GiveUpDatabase(d) => t.give_up_database(DatabaseId(u32::from(*d)), now),
        Step::GiveUpTable(table) => t.give_up_table(TableId(*table), now),
        Step::CreateTrigger(d, number) => t
            .create_trigger(&database(d), trigger(&format!("tr{number}"), "all_tables"))
            .map(|_| ()),
        Step::DisableTrigger(d, number) => {
            t.set_trigger_disabled(&database(d), &format!("tr{number}"), true, Some("why".to_owned()))
        }
        Step::DeleteTrigger(d, number) => t.delete_trigger(&database(d), &format!("tr{number}"), true),
        Step::Checkpoint => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reopening_gives_the_same_state_from_checkpoints_and_from_all_records(
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = Arc::new(InMemory::new());
            let catalog = open(Arc::clone(&store) as _).await.unwrap();
            // All records are remembered, since checkpoints remove them.
            let mut records: Vec<(Path, Bytes)> = Vec::new();
            let newest_record = async || {
                let path = Path::from(format!("node/catalog/log/{:020}", catalog.state().sequence()));
                let record = store.get(&path).await.ok()?.bytes().await.unwrap();
                Some((path, record))
            };
            records.extend(newest_record().await);
            for step in &steps {
                let before = catalog.state();
                let result = catalog.transact(|t| take(step, t)).await;
                if result.is_err() {
                    assert!(Arc::ptr_eq(&before, &catalog.state()), "{step:?}");
                }
                records.extend(newest_record().await);
                if matches!(step, Step::Checkpoint) {
                    catalog.checkpoint().await.unwrap();
                }
                let reopened = open(Arc::clone(&store) as _).await.unwrap();
                assert_eq!(reopened.state(), catalog.state(), "{step:?}");
            }
            let replayed = InMemory::new();
            for (path, record) in records {
                replayed.put(&path, record.into()).await.unwrap();
            }
            assert_eq!(open(Arc::new(replayed)).await.unwrap().state(), catalog.state());
        });
    }
}
