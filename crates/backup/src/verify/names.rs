//! Identities and instants as people know them.

use chrono::{DateTime, SecondsFormat};
use tidemill_catalog::{CatalogState, DatabaseId, TableId};

/// The names of a database and a table; a number where the catalog does not know it.
pub(crate) fn names(
    catalog: Option<&CatalogState>,
    database: DatabaseId,
    table: TableId,
) -> (String, String) {
    let database_name = catalog.and_then(|catalog| Some(catalog.database_by_id(database)?.name.to_string()));
    let table_name = catalog.and_then(|catalog| Some(catalog.table_by_id(table)?.name.to_string()));
    (
        database_name.unwrap_or_else(|| format!("number {database}")),
        table_name.unwrap_or_else(|| format!("number {table}")),
    )
}

/// An instant in RFC 3339.
pub(crate) fn instant(time_ns: i64) -> String {
    DateTime::from_timestamp_nanos(time_ns).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
