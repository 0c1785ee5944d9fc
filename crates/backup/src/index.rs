//! `backup.json`: what a backup consists of. It is written last, so that a backup without it was not finished.

use serde::{Deserialize, Serialize};

use crate::stream::{Checksum, StreamHead};

/// Name of the object, below the folder of the backup.
pub(crate) const INDEX_NAME: &str = "backup.json";
/// Version of backups that is written, and the newest that is read.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// What a backup consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupIndex {
    /// Version of the format.
    pub format: u32,
    /// What the backup is of.
    #[serde(flatten)]
    pub head: StreamHead,
    /// When it began, for people: RFC 3339.
    pub created: String,
    /// How many objects there are.
    pub object_count: u64,
    /// Bytes of all objects.
    pub byte_count: u64,
    /// CRC-32/ISCSI of [`objects`](Self::objects), each as a line with its path, bytes and checksum.
    pub objects_checksum: u32,
    /// The objects by path.
    pub objects: Vec<BackupObject>,
}

/// An object of a backup.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BackupObject {
    /// Its path below the folder of the backup, which is that below the node too.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its CRC-32/ISCSI.
    pub checksum: u32,
}

impl BackupIndex {
    /// The index of these objects.
    pub(crate) fn new(head: StreamHead, mut objects: Vec<BackupObject>) -> Self {
        objects.sort();
        Self {
            format: FORMAT_VERSION,
            created: chrono::DateTime::from_timestamp_nanos(head.created_ns)
                .to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            head,
            object_count: objects.len() as u64,
            byte_count: objects.iter().map(|object| object.bytes).sum(),
            objects_checksum: checksum(&objects),
            objects,
        }
    }

    /// The bytes of the object.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("names and numbers are JSON");
        json.push(b'\n');
        json
    }

    /// Reads an index.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        // Alone first: another version may have another form.
        let not_understood = |error| format!("its content is not understood: {error}");
        let Format { format } = serde_json::from_slice(json).map_err(not_understood)?;
        if format == 0 || format > FORMAT_VERSION {
            return Err(format!(
                "it has format {format}, this program reads up to {FORMAT_VERSION}: use the program that made it"
            ));
        }
        let index: Self = serde_json::from_slice(json).map_err(not_understood)?;
        let bytes = index
            .objects
            .iter()
            .try_fold(0_u64, |sum, object| sum.checked_add(object.bytes));
        let is_whole = index.objects_checksum == checksum(&index.objects)
            && index.object_count == index.objects.len() as u64
            && Some(index.byte_count) == bytes;
        is_whole
            .then_some(index)
            .ok_or_else(|| "its checksum does not match".to_owned())
    }
}

fn checksum(objects: &[BackupObject]) -> u32 {
    let mut checksum = Checksum::new();
    for BackupObject {
        path,
        bytes,
        checksum: of_object,
    } in objects
    {
        checksum.update(format!("{path} {bytes} {of_object}\n").as_bytes());
    }
    checksum.value()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index() -> BackupIndex {
        let head = StreamHead {
            program_version: "0.1.0".to_owned(),
            node_id: "node0".to_owned(),
            created_ns: 1_700_000_000_000_000_000,
            snapshot_lsn: 3,
            log_first: 4,
            log_last: 9,
            bytes_expected: 12,
        };
        let object = |path: &str, bytes| BackupObject {
            path: path.to_owned(),
            bytes,
            checksum: 0xabcd,
        };
        BackupIndex::new(head, vec![object("wal/1", 5), object("manifest.json", 7)])
    }

    #[test]
    fn an_index_is_read_as_it_was_written() {
        let index = index();
        assert_eq!((index.object_count, index.byte_count), (2, 12));
        assert_eq!(index.created, "2023-11-14T22:13:20Z");
        assert_eq!(BackupIndex::parse(&index.to_json()), Ok(index));
    }

    #[test]
    fn a_newer_format_is_named() {
        let error = BackupIndex::parse(br#"{"format": 9, "other": []}"#).unwrap_err();
        assert!(error.contains("format 9"), "{error}");
    }

    proptest! {
        /// A change of an object in the index is noticed; one of a number that nothing depends on may not be.
        #[test]
        fn changes_are_noticed(at in any::<prop::sample::Index>(), bits in 1_u8..) {
            let index = index();
            let mut json = index.to_json();
            let at = at.index(json.len());
            json[at] ^= bits;
            if let Ok(read) = BackupIndex::parse(&json) {
                prop_assert_eq!(read.objects, index.objects);
            }
        }

        #[test]
        fn anything_is_taken_without_a_panic(json in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(BackupIndex::parse(&json).is_err());
        }
    }
}
