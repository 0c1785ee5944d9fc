//! Every version of the format that was released is read: catalogs that it wrote are kept in `tests/fixtures`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tidemill_catalog::{Catalog, CatalogState, Deletion, Limits, Transaction};
use tidemill_lineproto::ColumnType;
use tidemill_testkit::{load_objects, save_objects};
use tidemill_triggers::{TriggerDefinition, TriggerSettings, TriggerSpec};

/// Bytes of an object that tell its format: magic and version.
const FORMAT_BYTES: usize = 12;
/// The record that the checkpoint of the fixture includes.
const CHECKPOINT: u64 = 3;

fn fixture(name: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

async fn open(store: InMemory) -> Catalog {
    let store = Arc::new(store) as Arc<dyn ObjectStore>;
    Catalog::open(store, "node", Limits::default()).await.unwrap()
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn columns(columns: &[(&str, ColumnType)]) -> Vec<(String, ColumnType)> {
    let owned = columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind));
    owned.collect()
}

fn trigger(name: &str, spec: &str) -> TriggerDefinition {
    TriggerDefinition {
        trigger_id: 0,
        trigger_name: name.to_owned(),
        plugin_filename: "p.py".to_owned(),
        database_name: String::new(),
        spec: TriggerSpec::parse(spec).unwrap(),
        settings: TriggerSettings::default(),
        arguments: Some([("a".to_owned(), "1".to_owned())].into()),
        disabled: false,
        disabled_reason: None,
        created_at_lsn: 7,
    }
}

/// Every kind of change, in the records in which the fixture has them; the first record is that of a new catalog.
async fn fill(store: &Arc<InMemory>) {
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    let catalog = Catalog::open(store, "node", Limits::default()).await.unwrap();
    let commit = async |change: fn(&mut Transaction)| {
        let changed = catalog.transact(|transaction| {
            change(transaction);
            Ok::<_, tidemill_catalog::CatalogError>(())
        });
        changed.await.unwrap();
    };
    commit(|t| {
        let database = t.create_database("kept", Some(3_600_000_000_000)).unwrap();
        let every_type = [
            ("tag", ColumnType::Tag),
            ("float", ColumnType::Float),
            ("integer", ColumnType::Integer),
            ("unsigned", ColumnType::UInteger),
            ("text", ColumnType::String),
            ("flag", ColumnType::Boolean),
        ];
        t.create_table(database, "wide", columns(&every_type)).unwrap();
        t.create_table(database, "later", columns(&[])).unwrap();
        t.create_trigger("kept", trigger("clock", "every:5m")).unwrap();
        t.create_trigger("kept", trigger("rows", "table:wide")).unwrap();
        t.create_trigger("kept", trigger("gone", "request:gone")).unwrap();
    })
    .await;
    commit(|t| {
        let other = t.create_database("other", None).unwrap();
        for name in ["x", "back", "away"] {
            t.create_table(other, name, columns(&[("h", ColumnType::Tag)]))
                .unwrap();
        }
        for name in ["removed", "undone"] {
            t.create_database(name, None).unwrap();
        }
    })
    .await;
    commit(|t| {
        let later = t.state().database("kept").unwrap().table("later").unwrap().id;
        t.add_columns(
            later,
            columns(&[("größe", ColumnType::Float), ("k", ColumnType::Tag)]),
        )
        .unwrap();
        t.set_retention("kept", Some(7_200_000_000_000)).unwrap();
        t.set_table_retention("kept", "wide", Some(60_000_000_000))
            .unwrap();
        t.set_trigger_disabled("kept", "rows", true, Some("it failed too often".to_owned()))
            .unwrap();
        t.delete_trigger("kept", "gone", true).unwrap();
    })
    .await;
    commit(|t| {
        t.soft_delete_table("other", "x", time(1_000_000_000), Some(time(1_000_086_400)))
            .unwrap();
        t.soft_delete_table("other", "back", time(1_000_000_000), None)
            .unwrap();
        t.undelete_table("other", "back", None).unwrap();
        t.soft_delete_table("other", "away", time(1_000_000_000), None)
            .unwrap();
        let state = Arc::clone(t.state());
        let other = state.database("other").unwrap();
        let of_table = |name: &str| {
            other
                .tables()
                .find(|table| table.name.starts_with(name))
                .unwrap()
                .id
        };
        t.give_up_table(of_table("x"), time(1_000_090_000)).unwrap();
        t.remove_table(of_table("away")).unwrap();
        t.soft_delete_database("undone", time(1_000_000_000), None)
            .unwrap();
        t.undelete_database("undone", None).unwrap();
        t.soft_delete_database("undone", time(1_100_000_000), None)
            .unwrap();
        let undone = state.database("undone").unwrap().id;
        t.give_up_database(undone, time(1_100_090_000)).unwrap();
        let removed = state.database("removed").unwrap().id;
        t.soft_delete_database("removed", time(1_000_000_000), None)
            .unwrap();
        t.remove_database(removed).unwrap();
    })
    .await;
}

/// A catalog as text: one line a database, table, trigger and column.
fn listing(state: &CatalogState) -> Vec<String> {
    let deletion = |deletion: &Option<Deletion>| {
        deletion.as_ref().map_or(String::new(), |deletion| {
            format!(
                " deleted as {} at {} until {:?} data {:?}",
                deletion.original_name,
                deletion.deleted_at,
                deletion.hard_delete_at.map(|at| at.to_string()),
                deletion.data_removed_at.map(|at| at.to_string()),
            )
        })
    };
    let mut lines = Vec::new();
    for database in state.databases() {
        lines.push(format!(
            "{} {} {:?}{}",
            database.id,
            database.name,
            database.retention_ns,
            deletion(&database.deleted)
        ));
        for table in database.tables() {
            let columns: Vec<String> = table
                .columns
                .iter()
                .map(|column| format!("{}:{}:{:?}", column.id, column.name, column.column_type))
                .collect();
            lines.push(format!(
                "  {} {} {:?} {}{}",
                table.id,
                table.name,
                table.retention_ns,
                columns.join(" "),
                deletion(&table.deleted)
            ));
        }
        for trigger in database.triggers() {
            lines.push(format!(
                "  {}",
                serde_json::to_string(&**trigger).expect("a definition is JSON")
            ));
        }
    }
    lines
}

const VERSION_1: &str = include_str!("fixtures/version1.txt");

#[tokio::test]
async fn records_and_a_checkpoint_of_version_1_are_read() {
    let expected: Vec<&str> = VERSION_1.lines().collect();
    let all_records = open(load_objects(&fixture("version1.records")).await).await;
    assert_eq!(listing(&all_records.state()), expected);
    assert_eq!(all_records.state().sequence(), 5);

    let store = load_objects(&fixture("version1.checkpoint")).await;
    let checkpoint = Path::from(format!("node/catalog/checkpoint/{CHECKPOINT:020}"));
    store.head(&checkpoint).await.unwrap();
    let from_checkpoint = open(store).await;
    assert_eq!(from_checkpoint.state(), all_records.state());

    // And it goes on from there.
    let commit = from_checkpoint.transact(|t| t.create_database("next", None));
    commit.await.unwrap();
    assert_eq!(from_checkpoint.state().sequence(), 6);
}

#[tokio::test]
async fn what_is_written_has_the_version_of_the_newest_fixture() {
    let store = Arc::new(InMemory::new());
    fill(&store).await;
    let filled = open(store.fork()).await;
    let expected: Vec<&str> = VERSION_1.lines().collect();
    assert_eq!(listing(&filled.state()), expected);
    filled.checkpoint().await.unwrap();

    let format = async |store: &InMemory, path: &str| {
        let object = store.get(&Path::from(path)).await.unwrap();
        object.bytes().await.unwrap().slice(..FORMAT_BYTES)
    };
    let record = format!("node/catalog/log/{:020}", 5);
    let kept = load_objects(&fixture("version1.records")).await;
    let is = "a new version needs a fixture of its own";
    assert_eq!(
        format(&store, &record).await,
        format(&kept, &record).await,
        "{is}"
    );

    let fork = Arc::new(store.fork());
    let catalog = Catalog::open(Arc::clone(&fork) as _, "node", Limits::default());
    catalog.await.unwrap().checkpoint().await.unwrap();
    let kept = load_objects(&fixture("version1.checkpoint")).await;
    let old = format!("node/catalog/checkpoint/{CHECKPOINT:020}");
    let new = format!("node/catalog/checkpoint/{:020}", 5);
    assert_eq!(format(&fork, &new).await, format(&kept, &old).await, "{is}");
}

/// Makes the fixtures of the present version; those of later ones get other names, and these stay.
#[tokio::test]
#[ignore = "changes files of the repository"]
async fn write_the_fixtures() {
    let store = Arc::new(InMemory::new());
    fill(&store).await;
    save_objects(&*store, &fixture("version1.records")).await;
    let state = open(store.fork()).await.state();
    let mut text = listing(&state).join("\n");
    text.push('\n');
    std::fs::write(fixture("version1.txt"), text).unwrap();

    // A catalog that had no more records yet writes the checkpoint; then come the others.
    let record = |number: u64| Path::from(format!("node/catalog/log/{number:020}"));
    let early = Arc::new(store.fork());
    for number in CHECKPOINT + 1..=5 {
        early.delete(&record(number)).await.unwrap();
    }
    let catalog = Catalog::open(Arc::clone(&early) as _, "node", Limits::default());
    catalog.await.unwrap().checkpoint().await.unwrap();
    for number in 1..=CHECKPOINT {
        // The checkpoint has removed them already.
        let _ = early.delete(&record(number)).await;
    }
    for number in CHECKPOINT + 1..=5 {
        let bytes = store.get(&record(number)).await.unwrap().bytes().await.unwrap();
        early.put(&record(number), bytes.into()).await.unwrap();
    }
    save_objects(&*early, &fixture("version1.checkpoint")).await;
}
