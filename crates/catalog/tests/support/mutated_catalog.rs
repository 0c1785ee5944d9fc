//! The check behind the fuzz target of the catalog: whatever happens to the bytes of its objects, opening it either fails or
//! gives a state that it once had. Where the damage has right checksums, it may be another state, but no panic.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use tidemill_catalog::{Catalog, CatalogState, Limits, Transaction};
use tidemill_lineproto::ColumnType;

use super::mutated_objects::{mutate, numbers};

const NODE: &str = "node";
const RECORDS_MAX: u8 = 12;
const TYPES: [ColumnType; 6] = [
    ColumnType::Tag,
    ColumnType::Float,
    ColumnType::Integer,
    ColumnType::UInteger,
    ColumnType::String,
    ColumnType::Boolean,
];

/// `input` is a recipe: first records to write, then changes to the bytes of the objects.
pub(crate) fn check_mutated_catalog(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(check(input));
}

async fn check(input: &[u8]) {
    let mut next = numbers(input);
    let objects: Arc<InMemory> = Arc::default();
    let states = write(&objects, &mut next).await;
    let is_mended = mutate(&objects, &mut next).await;
    if let Ok(catalog) = open(&objects).await {
        let state = catalog.state();
        assert!(
            is_mended || states.contains(&state),
            "a state that it never had: {state:?}"
        );
        // What was read can be used: it is changed and read again.
        let created = catalog.transact(|transaction| transaction.create_database("another", None));
        let is_created = created.await.is_ok();
        let again = open(&objects).await.map(|again| again.state());
        let is_same = again.is_ok_and(|again| again == catalog.state());
        assert!(is_mended || (is_created && is_same), "{:?}", catalog.state());
    }
}

async fn open(objects: &Arc<InMemory>) -> Result<Catalog, tidemill_catalog::CatalogError> {
    let objects = Arc::clone(objects) as Arc<dyn ObjectStore>;
    Catalog::open(objects, NODE, Limits::default()).await
}

/// Writes what the recipe says; all states that the catalog had.
async fn write(objects: &Arc<InMemory>, next: &mut impl FnMut() -> u8) -> Vec<Arc<CatalogState>> {
    let catalog = open(objects).await.expect("memory does not fail");
    // Opening an empty place makes a new catalog, with an identity of its own: that it never had.
    let mut states = vec![catalog.state()];
    for _ in 0..=next() % RECORDS_MAX {
        let (choice, which) = (next(), next());
        // A change that does not fit changes nothing.
        let _ = catalog
            .transact(|transaction| change(transaction, choice, which))
            .await;
        states.push(catalog.state());
        if choice > 200 {
            catalog.checkpoint().await.expect("memory does not fail");
        }
    }
    states
}

fn change(
    transaction: &mut Transaction,
    choice: u8,
    which: u8,
) -> Result<(), tidemill_catalog::CatalogError> {
    let database = format!("d{}", which % 3);
    let table = format!("t{}", which % 4);
    let id = transaction.state().database(&database).map(|found| found.id);
    let column = |number: u8| (format!("c{number}"), TYPES[usize::from(number) % TYPES.len()]);
    let columns = (0..which % 4).map(column).collect();
    match (choice % 8, id) {
        (0, _) | (_, None) => transaction.create_database(&database, Some(7)).map(drop),
        (1..4, Some(id)) => transaction.create_table(id, &table, columns).map(drop),
        (4, Some(_)) => transaction.set_table_retention(&database, &table, Some(u64::from(which))),
        (5, Some(_)) => {
            let now = chrono::DateTime::UNIX_EPOCH;
            transaction
                .soft_delete_table(&database, &table, now, Some(now))
                .map(drop)
        }
        (6, Some(_)) => transaction.undelete_table(&database, &table, None).map(drop),
        (_, Some(_)) => transaction.set_retention(&database, None),
    }
}
