//! `nodes` and `generation_durations`, which InfluxDB's tools look for (`spec/database.md` 5.7).

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field, SchemaRef};
use tidemill_catalog::INTERNAL_DATABASE;
use tidemill_query::{SystemRows, SystemScan, SystemTables};

use super::{TIMESTAMP, answer, instants, numbers, schema, strings};

const NODES: &str = "nodes";
const GENERATION_DURATIONS: &str = "generation_durations";

/// What a server says of itself.
#[derive(Debug, Clone)]
pub(crate) struct NodeInfo {
    pub(crate) node_id: String,
    /// Of this process; another one after each start.
    pub(crate) instance_id: String,
    pub(crate) core_count: u64,
    /// Nanoseconds since the epoch.
    pub(crate) started_ns: i64,
    /// Settings without secrets, a JSON object.
    pub(crate) settings: String,
}

/// Two tables in `_internal`.
pub(crate) struct NodeTables {
    node: NodeInfo,
}

impl NodeTables {
    pub(crate) fn new(node: NodeInfo) -> Self {
        Self { node }
    }

    fn nodes(&self) -> Vec<ArrayRef> {
        let node = &self.node;
        let one = std::iter::once::<&str>;
        vec![
            strings(one(&node.node_id)),
            numbers(std::iter::once(0)),
            strings(one(&node.instance_id)),
            Arc::new(modes()),
            numbers(std::iter::once(node.core_count)),
            strings(one("running")),
            instants(std::iter::once(Some(node.started_ns))),
            strings(one(&node.settings)),
        ]
    }
}

/// One list of one mode.
fn modes() -> ListArray {
    let mut modes = ListBuilder::new(StringBuilder::new());
    modes.values().append_value("core");
    modes.append(true);
    modes.finish()
}

impl SystemTables for NodeTables {
    fn tables(&self, database: &str) -> Vec<(&'static str, SchemaRef)> {
        if database != INTERNAL_DATABASE {
            return Vec::new();
        }
        let modes = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
        vec![
            (
                NODES,
                schema(&[
                    ("node_id", DataType::Utf8, false),
                    ("node_catalog_id", DataType::UInt64, false),
                    ("instance_id", DataType::Utf8, false),
                    ("mode", modes, false),
                    ("core_count", DataType::UInt64, false),
                    ("state", DataType::Utf8, false),
                    ("updated_at", TIMESTAMP, false),
                    ("cli_params", DataType::Utf8, false),
                ]),
            ),
            (
                GENERATION_DURATIONS,
                schema(&[
                    ("level", DataType::UInt64, false),
                    ("duration_seconds", DataType::UInt64, false),
                ]),
            ),
        ]
    }

    fn scan(&self, database: &str, table: &str, scan: SystemScan) -> SystemRows {
        let columns = match table {
            NODES => self.nodes(),
            // Here files have no generations, and no span of time that all of them keep to.
            GENERATION_DURATIONS => vec![numbers(std::iter::empty()), numbers(std::iter::empty())],
            _ => Vec::new(),
        };
        answer(self.tables(database), table, &scan, columns)
    }
}
