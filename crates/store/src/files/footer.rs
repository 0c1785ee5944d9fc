//! What a file says of itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use crate::files::blocks::Blocks;
use crate::{DataFile, FileDamage};

/// The parsed end of a file.
#[derive(Debug)]
pub(crate) struct Footer {
    /// With the page index.
    pub(crate) metadata: Arc<ParquetMetaData>,
    /// Absent from files of versions that wrote no checksums.
    pub(crate) blocks: Option<Blocks>,
}

/// What came of an attempt to parse the end of a file.
pub(crate) enum Parsed {
    Footer(Footer),
    /// It begins earlier: so many bytes are needed.
    TooShort(u64),
}

impl Footer {
    /// Parses the last bytes of a file, after their check if there is a checksum of them.
    pub(crate) fn parse(file: &DataFile, end: &Bytes) -> Result<Parsed, FileDamage> {
        let blocks = file.tail.map(|tail| Blocks::read(file, tail, end)).transpose()?;
        let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
        let parse = || {
            reader.try_parse_sized(end, file.byte_size)?;
            reader.finish()
        };
        // Where nothing was checked, Parquet may stumble over anything.
        match catch_unwind(AssertUnwindSafe(parse)) {
            Ok(Ok(metadata)) => Ok(Parsed::Footer(Self {
                metadata: Arc::new(metadata),
                blocks,
            })),
            Ok(Err(ParquetError::NeedMoreData(needed))) => Ok(Parsed::TooShort(needed as u64)),
            Ok(Err(error)) => Err(FileDamage::Undecodable(error.to_string())),
            Err(payload) => Err(FileDamage::from_panic(&*payload)),
        }
    }

    /// Memory that it takes.
    pub(crate) fn memory_size(&self) -> usize {
        self.metadata.memory_size() + self.blocks.as_ref().map_or(0, Blocks::memory_size)
    }
}
