//! Lines that are committed together with their run.

use tidemill_worker_proto::DatabaseWrites;

/// Line protocol by database, in the order in which the databases were first written to.
#[derive(Default)]
pub(crate) struct Collected {
    databases: Vec<(Option<String>, Vec<u8>)>,
    bytes: u64,
}

impl Collected {
    /// Adds lines for a database; `None` is the trigger's. Returns whether there was room for them.
    pub(crate) fn add(&mut self, database: Option<&str>, lines: &[u8], bytes_max: u64) -> bool {
        if lines.is_empty() {
            return true;
        }
        // With a line end where the last lines had none.
        let bytes = self.bytes + lines.len() as u64 + 1;
        if bytes > bytes_max {
            return false;
        }
        self.bytes = bytes;
        let at = self
            .databases
            .iter()
            .position(|(name, _)| name.as_deref() == database);
        let at = at.unwrap_or_else(|| {
            self.databases.push((database.map(str::to_owned), Vec::new()));
            self.databases.len() - 1
        });
        let body = &mut self.databases[at].1;
        if !body.is_empty() && !body.ends_with(b"\n") {
            body.push(b'\n');
        }
        body.extend_from_slice(lines);
        true
    }

    /// The heads for the wire.
    pub(crate) fn heads(&self) -> Vec<DatabaseWrites> {
        let heads = self.databases.iter().map(|(database, body)| DatabaseWrites {
            database: database.clone(),
            bytes: body.len() as u64,
        });
        heads.collect()
    }

    /// The lines, in the order of the heads.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        self.databases.iter().map(|(_, body)| body.as_slice())
    }
}
