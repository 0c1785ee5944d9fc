//! What is on disk: reopening, checkpoints, damage, a store that fails, a second writer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use chrono::DateTime;
use futures::{FutureExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tidemill_catalog::{Catalog, CatalogError, Limits};
use tidemill_lineproto::ColumnType;
use tidemill_object_stores::DurableLocalStore;
use tidemill_testkit::{Fault, FaultyStore};
use tidemill_triggers::{TriggerDefinition, TriggerSettings, TriggerSpec};

async fn open(store: Arc<dyn ObjectStore>) -> Result<Catalog, CatalogError> {
    Catalog::open(store, "node", Limits::default()).await
}

async fn names(store: &dyn ObjectStore, folder: &str) -> Vec<String> {
    let listing = store.list(Some(&Path::from(format!("node/catalog/{folder}"))));
    let mut names: Vec<String> = listing
        .map_ok(|object| object.location.filename().unwrap().to_owned())
        .try_collect()
        .await
        .unwrap();
    names.sort();
    names
}

fn name(sequence: u64) -> String {
    format!("{sequence:020}")
}

#[tokio::test]
async fn a_failed_put_changes_nothing_and_the_next_transaction_works() {
    let store = Arc::new(FaultyStore::new());
    let catalog = open(Arc::clone(&store) as _).await.unwrap();
    let before = catalog.state();
    store.fail_next_put(Fault::Refuse);
    let error = catalog
        .transact(|t| t.create_database("lost", None))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "catalog store: Generic faulty error: no answer"
    );
    assert!(Arc::ptr_eq(&before, &catalog.state()));

    catalog
        .transact(|t| t.create_database("kept", None))
        .await
        .unwrap();
    let reopened = open(store as _).await.unwrap();
    assert_eq!(reopened.state(), catalog.state());
    assert!(catalog.state().database("lost").is_none());
}

#[tokio::test]
async fn on_a_full_disk_nothing_changes_and_it_goes_on_when_there_is_room() {
    let store = Arc::new(FaultyStore::new());
    let catalog = open(Arc::clone(&store) as _).await.unwrap();
    let with_table = async |database: &str| {
        let (columns, name) = (vec![("host".to_owned(), ColumnType::Tag)], database.to_owned());
        catalog
            .transact(|t| {
                let database = t.create_database(&name, None)?;
                t.create_table(database, "m", columns)
            })
            .await
    };
    with_table("first").await.unwrap();
    let (before, names_before) = (catalog.state(), names(&store, "log").await);
    for _ in 0..2 {
        store.fail_next_put(Fault::DiskFull);
        let error = with_table("second").await.unwrap_err();
        assert!(error.is_out_of_room(), "{error}");
        assert!(Arc::ptr_eq(&before, &catalog.state()));
        assert_eq!(names(&store, "log").await, names_before);
    }
    store.fail_next_put(Fault::Refuse);
    assert!(!with_table("second").await.unwrap_err().is_out_of_room());

    with_table("third").await.unwrap();
    with_table("second").await.unwrap();
    let reopened = open(store as _).await.unwrap();
    assert_eq!(reopened.state(), catalog.state());
    assert!(catalog.state().database("second").unwrap().table("m").is_some());
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_takes_effect_before_the_next_one() {
    let store = Arc::new(FaultyStore::new());
    let catalog = open(Arc::clone(&store) as _).await.unwrap();
    store.fail_next_put(Fault::LoseAnswer);
    catalog
        .transact(|t| t.create_database("in_doubt", None))
        .await
        .unwrap_err();
    assert!(catalog.state().database("in_doubt").is_none());

    let exists = catalog
        .transact(|t| t.create_database("in_doubt", None))
        .await
        .unwrap_err();
    assert!(matches!(exists, CatalogError::AlreadyExists), "{exists}");
    catalog
        .transact(|t| t.create_database("next", None))
        .await
        .unwrap();
    assert_eq!(open(store as _).await.unwrap().state(), catalog.state());
}

#[tokio::test]
async fn a_change_that_arrives_late_is_never_overwritten() {
    let store = Arc::new(FaultyStore::new());
    let catalog = open(Arc::clone(&store) as _).await.unwrap();
    store.fail_next_put(Fault::Delay);
    catalog
        .transact(|t| t.create_database("late", None))
        .await
        .unwrap_err();

    // It arrives after the next transaction has looked for it in vain, and before that one's own put.
    let superseded = catalog
        .transact(|t| {
            store.deliver().now_or_never().expect("memory needs no waiting");
            t.create_database("next", None)
        })
        .await
        .unwrap_err();
    assert!(matches!(superseded, CatalogError::Superseded), "{superseded}");
    assert!(catalog.state().database("late").is_some());
    assert!(catalog.state().database("next").is_none());

    catalog
        .transact(|t| t.create_database("next", None))
        .await
        .unwrap();
    assert_eq!(open(store as _).await.unwrap().state(), catalog.state());
}

#[tokio::test]
async fn a_record_of_another_process_is_a_conflict_and_stays() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let first = open(Arc::clone(&store)).await.unwrap();
    let second = open(Arc::clone(&store)).await.unwrap();
    first
        .transact(|t| t.create_database("first", None))
        .await
        .unwrap();
    let conflict = second
        .transact(|t| t.create_database("second", None))
        .await
        .unwrap_err();
    assert!(
        matches!(conflict, CatalogError::Conflict { sequence: 2 }),
        "{conflict}"
    );
    assert!(second.state().database("second").is_none());
    assert_eq!(open(store).await.unwrap().state(), first.state());
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_its_change() {
    let store = Arc::new(InMemory::new());
    let catalog = open(Arc::clone(&store) as _).await.unwrap();
    let mut changes = catalog.changes();
    {
        let mut transaction = Box::pin(catalog.transact(|t| t.create_database("db", None)));
        assert!(
            futures::poll!(&mut transaction).is_pending(),
            "the commit runs in a task of its own"
        );
    }
    changes.wait_for(|sequence| *sequence == 2).await.unwrap();
    assert!(catalog.state().database("db").is_some());
}

#[tokio::test]
async fn damage_is_refused_with_the_name_of_the_object() {
    let store = Arc::new(InMemory::new());
    let catalog = open(Arc::clone(&store) as _).await.unwrap();
    for name in ["a", "b", "c"] {
        catalog.transact(|t| t.create_database(name, None)).await.unwrap();
    }
    let record = |sequence| Path::from(format!("node/catalog/log/{}", name(sequence)));
    let refusal = async |damaged: InMemory| match open(Arc::new(damaged)).await {
        Ok(_) => panic!("a damaged catalog was opened"),
        Err(error) => error.to_string(),
    };

    let damaged = store.fork();
    let mut bytes = damaged
        .get(&record(2))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap()
        .to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    damaged.put(&record(2), bytes.clone().into()).await.unwrap();
    assert_eq!(
        refusal(damaged).await,
        format!(
            "catalog object '{}' is unusable: its checksum does not match",
            record(2)
        )
    );

    let torn = store.fork();
    torn.put(&record(4), bytes[..30].to_vec().into()).await.unwrap();
    assert_eq!(
        refusal(torn).await,
        format!("catalog object '{}' is unusable: 30 bytes are too few", record(4))
    );

    let gap = store.fork();
    gap.delete(&record(3)).await.unwrap();
    assert_eq!(
        refusal(gap).await,
        format!(
            "catalog object '{}' is unusable: it is missing, but {} is there",
            record(3),
            record(4)
        )
    );

    let swapped = store.fork();
    swapped.copy(&record(2), &record(5)).await.unwrap();
    assert_eq!(
        refusal(swapped).await,
        format!("catalog object '{}' is unusable: it holds number 2", record(5))
    );

    let foreign = store.fork();
    foreign
        .put(&Path::from("node/catalog/log/zzz"), "x".into())
        .await
        .unwrap();
    assert_eq!(
        refusal(foreign).await,
        "catalog object 'node/catalog/log/zzz' is unusable: its name is not a number"
    );

    catalog.checkpoint().await.unwrap();
    let checkpoint = Path::from(format!("node/catalog/checkpoint/{}", name(4)));
    store.put(&checkpoint, "nonsense".into()).await.unwrap();
    let text = refusal(store.fork()).await;
    assert_eq!(
        text,
        format!("catalog object '{checkpoint}' is unusable: 8 bytes are too few")
    );
}

/// Format version 1 as it is on disk: what was written once must stay readable.
#[tokio::test]
async fn the_written_form_is_stable() {
    let store = Arc::new(InMemory::new());
    let catalog = open(Arc::clone(&store) as _).await.unwrap();
    catalog
        .transact(|t| {
            let database = t.create_database("db", Some(3))?;
            let every_type = [
                ("a", ColumnType::Tag),
                ("b", ColumnType::Float),
                ("c", ColumnType::Integer),
                ("d", ColumnType::UInteger),
                ("e", ColumnType::String),
                ("f", ColumnType::Boolean),
            ];
            let columns = every_type.map(|(name, column_type)| (name.to_owned(), column_type));
            t.create_table(database, "t", columns.into())?;
            t.create_trigger("db", trigger("tr", "every:5m"))?;
            t.soft_delete_table("db", "t", DateTime::UNIX_EPOCH, None)
        })
        .await
        .unwrap();
    let path = Path::from(format!("node/catalog/log/{}", name(2)));
    let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
    let (head, payload) = bytes.split_at(48);
    assert_eq!(&head[..20], b"TMCATLOG\x01\0\0\0\x02\0\0\0\0\0\0\0");
    assert_eq!(
        std::str::from_utf8(payload).unwrap(),
        concat!(
            r#"[{"create_database":{"id":1,"name":"db","retention_ns":3}},"#,
            r#"{"create_table":{"id":0,"database":1,"name":"t","columns":["#,
            r#"{"id":0,"name":"a","type":"tag"},{"id":1,"name":"b","type":"float"},"#,
            r#"{"id":2,"name":"c","type":"integer"},{"id":3,"name":"d","type":"uinteger"},"#,
            r#"{"id":4,"name":"e","type":"string"},{"id":5,"name":"f","type":"boolean"},"#,
            r#"{"id":6,"name":"time","type":"time"}]}},"#,
            r#"{"put_trigger":{"database":1,"trigger":{"trigger_id":0,"trigger_name":"tr","plugin_filename":"p.py","#,
            r#""database_name":"db","spec":"every:5m","settings":{"run_async":false,"error_behavior":"log"},"#,
            r#""arguments":null,"disabled":false,"disabled_reason":null,"created_at_lsn":0}}},"#,
            r#"{"soft_delete_table":{"table":0,"new_name":"t-19700101T000000","deletion":{"original_name":"t","#,
            r#""deleted_at":"1970-01-01T00:00:00Z","hard_delete_at":null}}}]"#,
        )
    );
}

#[tokio::test]
async fn checkpoints_come_by_themselves_and_old_records_go() {
    let store = Arc::new(InMemory::new());
    let catalog = open(Arc::clone(&store) as _).await.unwrap();
    // A checkpoint runs beside the transactions, so that its exact place is not fixed.
    for count in 0..350u64 {
        catalog
            .transact(|t| t.set_retention("_internal", Some(count)))
            .await
            .unwrap();
        tokio::task::yield_now().await;
    }
    catalog.checkpoint().await.unwrap();
    let checkpoints = names(&*store, "checkpoint").await;
    assert_eq!(checkpoints.len(), 2, "{checkpoints:?}");
    assert_eq!(checkpoints[1], name(351));
    let records = names(&*store, "log").await;
    assert!(records.len() < 150, "{} records are left", records.len());
    assert!(
        records.iter().all(|record| *record > checkpoints[0]),
        "{records:?}"
    );

    let reopened = open(Arc::clone(&store) as _).await.unwrap();
    assert_eq!(reopened.state(), catalog.state());
    assert_eq!(reopened.uuid(), catalog.uuid());
    reopened
        .transact(|t| t.create_database("next", None))
        .await
        .unwrap();
    assert_eq!(open(store as _).await.unwrap().state(), reopened.state());
}

#[tokio::test]
async fn a_failed_checkpoint_is_no_failure_of_the_catalog() {
    let store = Arc::new(FaultyStore::new());
    let catalog = open(Arc::clone(&store) as _).await.unwrap();
    store.fail_next_put(Fault::Refuse);
    catalog.checkpoint().await.unwrap_err();
    catalog.transact(|t| t.create_database("db", None)).await.unwrap();
    catalog.checkpoint().await.unwrap();
    assert_eq!(names(&*store, "checkpoint").await, [name(2)]);
    assert_eq!(open(store as _).await.unwrap().state(), catalog.state());
}

#[tokio::test]
async fn local_files_hold_the_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let store = || Arc::new(DurableLocalStore::open(&folder.path().join("data")).unwrap());
    let catalog = open(store()).await.unwrap();
    catalog
        .transact(|t| t.create_database("db", Some(1)))
        .await
        .unwrap();
    catalog.checkpoint().await.unwrap();
    catalog.transact(|t| t.set_retention("db", None)).await.unwrap();
    let reopened = open(store()).await.unwrap();
    assert_eq!(reopened.state(), catalog.state());
    let second_writer = catalog.transact(|t| t.create_database("x", None)).await;
    second_writer.unwrap();
    let conflict = reopened
        .transact(|t| t.create_database("y", None))
        .await
        .unwrap_err();
    assert!(
        matches!(conflict, CatalogError::Conflict { sequence: 4 }),
        "{conflict}"
    );
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
