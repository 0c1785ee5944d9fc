//! What a transaction allows and refuses, with the texts that clients know.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use object_store::memory::InMemory;
use tidemill_catalog::{
    Catalog, CatalogError, ColumnId, DatabaseId, INTERNAL_DATABASE, KEPT_FOR_EVER_NS, Limits, TableId,
    Transaction,
};
use tidemill_lineproto::ColumnType;
use tidemill_triggers::{TriggerDefinition, TriggerSettings, TriggerSpec};

async fn open(limits: Limits) -> Catalog {
    Catalog::open(Arc::new(InMemory::new()), "node", limits)
        .await
        .unwrap()
}

/// Runs a transaction that must fail and gives its text.
async fn refusal<R>(
    catalog: &Catalog,
    f: impl FnOnce(&mut Transaction) -> Result<R, CatalogError>,
) -> String {
    let before = catalog.state();
    let result = catalog.transact(|transaction| f(transaction).map(|_| ())).await;
    assert!(
        Arc::ptr_eq(&before, &catalog.state()),
        "a refused transaction changes nothing"
    );
    result.expect_err("the transaction is refused").to_string()
}

fn columns(columns: &[(&str, ColumnType)]) -> Vec<(String, ColumnType)> {
    columns
        .iter()
        .map(|(name, column_type)| ((*name).to_owned(), *column_type))
        .collect()
}

fn trigger(name: &str, spec: &str) -> TriggerDefinition {
    TriggerDefinition {
        trigger_id: 77,
        trigger_name: name.to_owned(),
        plugin_filename: "plugin.py".to_owned(),
        database_name: "elsewhere".to_owned(),
        spec: TriggerSpec::parse(spec).unwrap(),
        settings: TriggerSettings::default(),
        arguments: Some(BTreeMap::from([("a".to_owned(), "1".to_owned())])),
        disabled: false,
        disabled_reason: None,
        created_at_lsn: 5,
    }
}

fn at(time: &str) -> DateTime<Utc> {
    time.parse().unwrap()
}

#[tokio::test]
async fn the_internal_database_is_there_and_protected() {
    let catalog = open(Limits::default()).await;
    let state = catalog.state();
    let internal = state.database(INTERNAL_DATABASE).unwrap();
    assert_eq!(internal.retention_ns, Some(7 * 86_400 * 1_000_000_000));
    assert!(internal.is_internal());
    assert!(!catalog.uuid().is_nil());

    let now = at("2026-11-21T06:05:37Z");
    let delete = refusal(&catalog, |t| t.soft_delete_database(INTERNAL_DATABASE, now, None)).await;
    assert_eq!(delete, "cannot delete internal db");
    let remove = refusal(&catalog, |t| t.remove_database(internal.id)).await;
    assert_eq!(remove, "cannot delete internal db");
    let add_trigger = refusal(&catalog, |t| {
        t.create_trigger(INTERNAL_DATABASE, trigger("t", "request:x"))
    })
    .await;
    assert_eq!(add_trigger, "cannot modify internal db");
    let create = refusal(&catalog, |t| t.create_database(INTERNAL_DATABASE, None)).await;
    assert_eq!(create, "attempted to create a resource that already exists");
}

#[tokio::test]
async fn a_table_has_time_and_keeps_its_column_types() {
    let catalog = open(Limits::default()).await;
    let (database, table) = catalog
        .transact(|t| {
            let database = t.create_database("db", None)?;
            let table = t.create_table(
                database,
                "cpu",
                columns(&[("host", ColumnType::Tag), ("v", ColumnType::Float)]),
            )?;
            assert!(
                t.state().table_by_id(table).is_some(),
                "a transaction sees its own changes"
            );
            Ok((database, table))
        })
        .await
        .unwrap();
    let cpu = Arc::clone(catalog.state().database("db").unwrap().table("cpu").unwrap());
    let names: Vec<&str> = cpu.columns.iter().map(|column| &*column.name).collect();
    assert_eq!(names, ["host", "v", "time"]);
    assert_eq!(cpu.time_column().id, ColumnId(2));
    assert_eq!((cpu.id, cpu.database_id), (table, database));

    let ids = catalog
        .transact(|t| {
            let wanted = [
                ("w", ColumnType::Integer),
                ("host", ColumnType::Tag),
                ("w", ColumnType::Integer),
            ];
            t.add_columns(table, columns(&wanted))
        })
        .await
        .unwrap();
    assert_eq!(ids, [ColumnId(3), ColumnId(0), ColumnId(3)]);
    let state = catalog.state();
    let widened = state.table_by_id(table).unwrap();
    assert_eq!(widened.column("w").unwrap().id, ColumnId(3));
    assert_eq!(
        widened.column_by_id(ColumnId(3)).unwrap().column_type,
        ColumnType::Integer
    );
    assert!(Arc::ptr_eq(
        widened,
        state.database_by_id(database).unwrap().table("cpu").unwrap()
    ));
    assert_eq!(cpu.columns.len(), 3, "a state once taken does not change");

    let conflict = refusal(&catalog, |t| {
        t.add_columns(table, columns(&[("v", ColumnType::String)]))
    })
    .await;
    assert_eq!(
        conflict,
        "invalid column type for column 'v', expected iox::column_type::field::float, got iox::column_type::field::string"
    );
    let time = refusal(&catalog, |t| {
        t.add_columns(table, columns(&[("time", ColumnType::Tag)]))
    })
    .await;
    assert_eq!(
        time,
        "invalid column type for column 'time', expected iox::column_type::timestamp, got iox::column_type::tag"
    );
    let new_table = |name: &'static str, wanted: &'static [(&'static str, ColumnType)]| {
        refusal(&catalog, move |t| t.create_table(database, name, columns(wanted)))
    };
    assert_eq!(
        new_table("t", &[("time", ColumnType::Float)]).await,
        "'time' is a reserved column"
    );
    assert_eq!(
        new_table("t", &[("__chunk_order", ColumnType::Float)]).await,
        "'__chunk_order' is a reserved column"
    );
    assert_eq!(
        new_table("t", &[("a", ColumnType::Tag), ("a", ColumnType::Tag)]).await,
        "duplicate column 'a'"
    );
    assert_eq!(
        new_table("cpu", &[]).await,
        "attempted to create a resource that already exists"
    );
    assert_eq!(new_table("", &[]).await, "name cannot be empty");
    let missing = refusal(&catalog, |t| t.create_table(DatabaseId(9), "t", Vec::new())).await;
    assert_eq!(missing, "the requested resource was not found: 9");
    let missing = refusal(&catalog, |t| t.add_columns(TableId(9), Vec::new())).await;
    assert_eq!(missing, "the requested resource was not found: table id 9");
}

#[tokio::test]
async fn limits_are_refused_with_the_known_texts() {
    let limits = Limits {
        databases_max: Some(2),
        tables_per_database_max: 2,
        columns_per_table_max: 3,
    };
    let catalog = open(limits).await;
    let four = [
        ("a", ColumnType::Tag),
        ("b", ColumnType::Float),
        ("c", ColumnType::Float),
        ("d", ColumnType::Float),
    ];
    let (db1, table) = catalog
        .transact(|t| {
            let db1 = t.create_database("db1", None)?;
            t.create_database("db2", None)?;
            let table = t.create_table(db1, "t1", columns(&four[..3]))?;
            t.create_table(db1, "t2", Vec::new())?;
            Ok((db1, table))
        })
        .await
        .unwrap();

    let database = refusal(&catalog, |t| t.create_database("db3", None)).await;
    assert_eq!(
        database,
        "Adding a new database would exceed limit of 2 databases"
    );
    let third_table = refusal(&catalog, |t| t.create_table(db1, "t3", Vec::new())).await;
    assert_eq!(
        third_table,
        "Update to schema would exceed number of tables limit: attempted to create table but already have 2 table(s) (limit: 2)"
    );
    let columns_text = "Update to schema would exceed number of columns per table limit of 3 columns";
    assert_eq!(
        refusal(&catalog, |t| t.add_columns(table, columns(&four[3..]))).await,
        columns_text
    );
    let now = at("2026-11-21T06:05:37Z");
    let recreated = refusal(&catalog, |t| {
        t.soft_delete_table("db1", "t2", now, None)?;
        t.create_table(db1, "t2", columns(&four))
    });
    assert_eq!(recreated.await, columns_text);

    // What is deleted does not count, and a name is free at once.
    catalog
        .transact(|t| {
            t.soft_delete_table("db1", "t2", now, None)?;
            t.create_table(db1, "t2", columns(&four[..3]))?;
            t.soft_delete_database("db2", now, None)?;
            t.create_database("db2", None)
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_soft_deleted_database_is_renamed_with_all_its_tables_and_its_triggers_stop() {
    let catalog = open(Limits::default()).await;
    let (now, later) = (at("2026-11-21T06:05:37.5Z"), at("2026-11-24T06:05:37.5Z"));
    let (database, table) = catalog
        .transact(|t| {
            let database = t.create_database("d2", Some(5))?;
            let table = t.create_table(database, "cpu", Vec::new())?;
            t.create_trigger("d2", trigger("on", "all_tables"))?;
            t.create_trigger("d2", trigger("off", "every:1s"))?;
            t.set_trigger_disabled("d2", "off", true, None)?;
            Ok((database, table))
        })
        .await
        .unwrap();
    let deleted = catalog
        .transact(|t| t.soft_delete_database("d2", now, Some(later)))
        .await
        .unwrap();
    assert_eq!(deleted, database);

    let state = catalog.state();
    assert!(state.database("d2").is_none());
    let stored = state.database("d2-20261121T060537").unwrap();
    assert_eq!(stored.id, database);
    assert_eq!(
        stored.check_writable().unwrap_err().to_string(),
        "cannot write to soft-deleted database 'd2-20261121T060537' - it is marked for deletion"
    );
    let deletion = stored.deleted.as_ref().unwrap();
    assert_eq!((&*deletion.original_name, deletion.deleted_at), ("d2", now));
    assert_eq!(deletion.hard_delete_at, Some(later));
    let renamed_table = stored.table("cpu-20261121T060537").unwrap();
    assert_eq!(renamed_table.id, table);
    assert!(renamed_table.deleted.is_some() && stored.table("cpu").is_none());
    let reasons: Vec<_> = stored
        .triggers()
        .map(|t| (t.disabled, t.disabled_reason.as_deref()))
        .collect();
    assert_eq!(reasons, [(true, None), (true, Some("its database was deleted"))]);

    let again = refusal(&catalog, |t| t.soft_delete_database("d2", now, None)).await;
    assert_eq!(again, "the requested resource was not found: d2");
    let by_stored_name = refusal(&catalog, |t| {
        t.soft_delete_database("d2-20261121T060537", now, None)
    })
    .await;
    assert_eq!(
        by_stored_name,
        "the requested resource was not found: d2-20261121T060537"
    );
    let write = refusal(&catalog, |t| t.create_table(database, "t", Vec::new())).await;
    assert_eq!(
        write,
        "cannot write to soft-deleted database 'd2-20261121T060537' - it is marked for deletion"
    );

    // The same name deleted twice within a second.
    let second = catalog
        .transact(|t| {
            let second = t.create_database("d2", None)?;
            t.soft_delete_database("d2", now, None)?;
            Ok(second)
        })
        .await
        .unwrap();
    assert_ne!(second, database);
    assert_eq!(
        catalog.state().database("d2-20261121T060537-2").unwrap().id,
        second
    );

    catalog.transact(|t| t.remove_database(database)).await.unwrap();
    assert!(catalog.state().database_by_id(database).is_none());
    assert!(catalog.state().table_by_id(table).is_none());
}

#[tokio::test]
async fn tables_are_deleted_by_name_and_removed_by_id() {
    let catalog = open(Limits::default()).await;
    let now = at("2026-01-02T03:04:05Z");
    let table = catalog
        .transact(|t| {
            let database = t.create_database("db", None)?;
            let table = t.create_table(database, "cpu", Vec::new())?;
            t.soft_delete_table("db", "cpu", now, None)
                .map(|deleted| assert_eq!(deleted, table))?;
            Ok(table)
        })
        .await
        .unwrap();
    let state = catalog.state();
    assert_eq!(&*state.table_by_id(table).unwrap().name, "cpu-20260102T030405");
    let unknown = refusal(&catalog, |t| t.soft_delete_table("db", "zz", now, None)).await;
    assert_eq!(unknown, "Table zz not in DB schema for db");
    let deleted = refusal(&catalog, |t| {
        t.soft_delete_table("db", "cpu-20260102T030405", now, None)
    })
    .await;
    assert_eq!(deleted, "Table cpu-20260102T030405 not in DB schema for db");
    let unknown = refusal(&catalog, |t| t.soft_delete_table("nope", "cpu", now, None)).await;
    assert_eq!(unknown, "the requested resource was not found: nope");

    catalog.transact(|t| t.remove_table(table)).await.unwrap();
    assert!(catalog.state().table_by_id(table).is_none());
    assert_eq!(catalog.state().database("db").unwrap().tables().len(), 0);
    let gone = refusal(&catalog, |t| t.remove_table(table)).await;
    assert_eq!(
        gone,
        format!("the requested resource was not found: table id {table}")
    );
    let database = catalog.state().database("db").unwrap().id;
    let next = catalog
        .transact(|t| t.create_table(database, "cpu", Vec::new()))
        .await
        .unwrap();
    assert!(next > table, "ids are not reused");
}

#[tokio::test]
async fn triggers_keep_what_the_catalog_must_remember() {
    let catalog = open(Limits::default()).await;
    let id = catalog
        .transact(|t| {
            t.create_database("db", None)?;
            t.create_database("other", None)?;
            t.create_trigger("db", trigger("api", "request:status"))
        })
        .await
        .unwrap();
    let created = Arc::clone(catalog.state().database("db").unwrap().trigger("api").unwrap());
    assert_eq!(
        (
            created.trigger_id,
            &*created.database_name,
            created.created_at_lsn
        ),
        (id, "db", 5)
    );

    let twice = refusal(&catalog, |t| t.create_trigger("db", trigger("api", "every:1s"))).await;
    assert_eq!(twice, "attempted to create a resource that already exists");
    let taken = refusal(&catalog, |t| {
        t.create_trigger("other", trigger("x", "request:status"))
    })
    .await;
    assert_eq!(
        taken,
        "request path 'status' is taken by trigger 'api' of database 'db'"
    );
    let nameless = refusal(&catalog, |t| t.create_trigger("db", trigger("", "every:1s"))).await;
    assert_eq!(nameless, "name cannot be empty");
    let unknown = refusal(&catalog, |t| t.create_trigger("nope", trigger("x", "every:1s"))).await;
    assert_eq!(unknown, "Database not found nope");
    let running = refusal(&catalog, |t| t.delete_trigger("db", "api", false)).await;
    assert_eq!(
        running,
        "Cannot delete running plugin api. Disable it first or use --force."
    );
    let unknown = refusal(&catalog, |t| t.set_trigger_disabled("db", "nope", true, None)).await;
    assert_eq!(unknown, "the requested resource was not found: nope");

    catalog
        .transact(|t| {
            t.set_trigger_disabled("db", "api", true, Some("crashed".to_owned()))?;
            t.update_trigger("db", "api", |trigger| {
                trigger.plugin_filename = "other.py".to_owned();
                trigger.trigger_id = 1234;
                trigger.created_at_lsn = 0;
            })
        })
        .await
        .unwrap();
    let updated = Arc::clone(catalog.state().database("db").unwrap().trigger("api").unwrap());
    assert_eq!((updated.trigger_id, updated.created_at_lsn), (id, 5));
    assert_eq!(
        (updated.disabled, updated.disabled_reason.as_deref()),
        (true, Some("crashed"))
    );
    assert_eq!(updated.plugin_filename, "other.py");

    let next = catalog
        .transact(|t| {
            t.set_trigger_disabled("db", "api", false, Some("ignored".to_owned()))?;
            t.delete_trigger("db", "api", true)?;
            t.create_trigger("other", trigger("api", "request:status"))
        })
        .await
        .unwrap();
    assert!(next > id, "trigger ids are not reused");
    assert_eq!(catalog.state().database("db").unwrap().triggers().len(), 0);
}

#[tokio::test]
async fn a_savepoint_undoes_what_came_after_it() {
    let catalog = open(Limits::default()).await;
    catalog
        .transact(|t| {
            t.create_database("kept", None)?;
            let savepoint = t.savepoint();
            let undone = t.create_database("undone", None)?;
            t.create_table(undone, "t", Vec::new())?;
            t.roll_back_to(savepoint);
            assert_eq!(t.create_database("after", None)?, undone, "ids are given back");
            Ok(())
        })
        .await
        .unwrap();
    let names: Vec<String> = catalog
        .state()
        .databases()
        .map(|database| database.name.to_string())
        .collect();
    assert_eq!(names, ["_internal", "after", "kept"]);
}

#[tokio::test]
async fn watchers_see_each_change_and_nothing_else() {
    let catalog = open(Limits::default()).await;
    let mut changes = catalog.changes();
    assert_eq!(*changes.borrow_and_update(), 1);
    catalog
        .transact(|t| t.set_retention(INTERNAL_DATABASE, Some(7 * 86_400 * 1_000_000_000)))
        .await
        .unwrap();
    assert!(
        !changes.has_changed().unwrap(),
        "nothing was changed, nothing is written"
    );
    catalog
        .transact(|t| t.set_retention(INTERNAL_DATABASE, None))
        .await
        .unwrap();
    assert_eq!(*changes.borrow_and_update(), 2);
    assert_eq!(catalog.state().sequence(), 2);
    assert_eq!(
        catalog.state().database(INTERNAL_DATABASE).unwrap().retention_ns,
        None
    );
    let unknown = refusal(&catalog, |t| t.set_retention("nope", None)).await;
    assert_eq!(unknown, "the requested resource was not found: nope");
}

/// A database with a table.
async fn with_table(catalog: &Catalog, database: &str, table: &str) -> TableId {
    let create = |t: &mut Transaction| {
        let id = match t.state().database(database) {
            Some(database) => database.id,
            None => t.create_database(database, None)?,
        };
        t.create_table(id, table, columns(&[("host", ColumnType::Tag)]))
    };
    catalog.transact(create).await.unwrap()
}

#[tokio::test]
async fn a_table_keeps_rows_as_long_as_it_says_and_otherwise_as_its_database_does() {
    let catalog = open(Limits::default()).await;
    let table = with_table(&catalog, "db", "cpu").await;
    let set = async |database: Option<u64>, own: Option<u64>| {
        let set = |t: &mut Transaction| {
            t.set_retention("db", database)?;
            t.set_table_retention("db", "cpu", own)
        };
        catalog.transact(set).await.unwrap();
        catalog.state().retention_of(table)
    };
    assert_eq!(set(None, None).await, None);
    assert_eq!(set(Some(9), None).await, Some(9));
    assert_eq!(set(Some(9), Some(20)).await, Some(20));
    assert_eq!(set(None, Some(20)).await, Some(20));
    assert_eq!(set(Some(9), Some(KEPT_FOR_EVER_NS)).await, None);
    assert_eq!(catalog.state().retention_of(TableId(99)), None);
    let sequence = catalog.state().sequence();
    set(Some(9), Some(KEPT_FOR_EVER_NS)).await;
    assert_eq!(catalog.state().sequence(), sequence, "what stays is not written");
    let unknown = refusal(&catalog, |t| t.set_table_retention("db", "zz", None)).await;
    assert_eq!(unknown, "Table zz not in DB schema for db");
}

#[tokio::test]
async fn what_was_deleted_softly_comes_back_with_what_was_deleted_with_it() {
    let catalog = open(Limits::default()).await;
    let cpu = with_table(&catalog, "db", "cpu").await;
    let old = with_table(&catalog, "db", "old").await;
    let now = at("2026-11-21T06:05:37Z");
    let delete = |t: &mut Transaction| {
        t.create_trigger("db", trigger("t", "all_tables"))?;
        t.soft_delete_table("db", "old", now, None)?;
        t.soft_delete_database("db", now + chrono::TimeDelta::minutes(1), Some(now))
    };
    catalog.transact(delete).await.unwrap();

    let none = refusal(&catalog, |t| t.undelete_database("nope", None)).await;
    assert_eq!(none, "there is no deleted database 'nope'");
    let in_deleted = refusal(&catalog, |t| t.undelete_table("db", "old", None)).await;
    assert_eq!(in_deleted, "the requested resource was not found: db");
    let restored = catalog
        .transact(|t| t.undelete_database("db", None))
        .await
        .unwrap();
    assert_eq!(&*restored, "db");
    let state = catalog.state();
    let database = state.database("db").unwrap();
    assert!(database.deleted.is_none());
    assert_eq!(database.table("cpu").unwrap().id, cpu);
    assert!(
        database.table("old").is_none(),
        "it was deleted by itself, before"
    );
    assert!(state.table_by_id(old).unwrap().deleted.is_some());
    assert!(database.trigger("t").unwrap().disabled);

    let later = now + chrono::TimeDelta::minutes(2);
    let delete = |t: &mut Transaction| t.soft_delete_database("db", later, None);
    catalog.transact(delete).await.unwrap();
    let renamed = catalog.transact(|t| t.undelete_database("db", Some("db2"))).await;
    assert_eq!(&*renamed.unwrap(), "db2");
    let state = catalog.state();
    assert_eq!(
        state.database("db2").unwrap().trigger("t").unwrap().database_name,
        "db2"
    );
    assert!(state.database("db").is_none());

    // By the present name, and under another one.
    let renamed = |t: &mut Transaction| t.undelete_table("db2", "old-20261121T060537", Some("older"));
    assert_eq!(&*catalog.transact(renamed).await.unwrap(), "older");
    assert_eq!(
        catalog
            .state()
            .database("db2")
            .unwrap()
            .table("older")
            .unwrap()
            .id,
        old
    );
}

#[tokio::test]
async fn an_undelete_that_is_not_clear_or_comes_too_late_is_refused() {
    let catalog = open(Limits {
        databases_max: Some(1),
        ..Limits::default()
    })
    .await;
    let now = at("2026-11-21T06:05:37Z");
    for second in 0..2 {
        with_table(&catalog, "db", "cpu").await;
        let now = now + chrono::TimeDelta::seconds(second);
        let delete = |t: &mut Transaction| t.soft_delete_table("db", "cpu", now, Some(now));
        catalog.transact(delete).await.unwrap();
    }
    assert_eq!(
        refusal(&catalog, |t| t.undelete_table("db", "cpu", None)).await,
        "several deleted tables were called 'cpu', name one of them: cpu-20261121T060537, cpu-20261121T060538"
    );
    with_table(&catalog, "db", "cpu").await;
    let first = "cpu-20261121T060537";
    assert_eq!(
        refusal(&catalog, |t| t.undelete_table("db", first, None)).await,
        "there is another table 'cpu' now: delete it first, or undelete under another name"
    );
    assert_eq!(
        refusal(&catalog, |t| t.undelete_table("db", first, Some(""))).await,
        "name cannot be empty"
    );
    let id = catalog.state().database("db").unwrap().table(first).unwrap().id;
    assert!(catalog.state().keeps_data_of(id));
    for _ in 0..2 {
        catalog.transact(|t| t.give_up_table(id, now)).await.unwrap();
    }
    assert!(!catalog.state().keeps_data_of(id));
    assert_eq!(
        refusal(&catalog, |t| t.undelete_table("db", first, Some("x"))).await,
        "the data of table 'cpu-20261121T060537' is gone, it cannot be undeleted"
    );
    let live = catalog.state().database("db").unwrap().table("cpu").unwrap().id;
    assert_eq!(
        refusal(&catalog, |t| t.give_up_table(live, now)).await,
        "there is no deleted table 'cpu'"
    );

    catalog
        .transact(|t| t.soft_delete_database("db", now, None))
        .await
        .unwrap();
    with_table(&catalog, "other", "m").await;
    assert_eq!(
        refusal(&catalog, |t| t.undelete_database("db", None)).await,
        "Adding a new database would exceed limit of 1 databases"
    );
    let id = catalog.state().database("db-20261121T060537").unwrap().id;
    catalog.transact(|t| t.give_up_database(id, now)).await.unwrap();
    assert_eq!(
        refusal(&catalog, |t| t.undelete_database("db", Some("db2"))).await,
        "the data of database 'db-20261121T060537' is gone, it cannot be undeleted"
    );
    assert_eq!(
        refusal(&catalog, |t| t.give_up_database(DatabaseId(99), now)).await,
        "the requested resource was not found: 99"
    );
}
