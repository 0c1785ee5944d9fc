//! Checksums of the blocks of a file, so that every part of it can be checked without the rest.
//!
//! A file is `rows | block checksums | page indexes and footer`. All that comes after the rows is the *tail*, which is read
//! as a whole, and whose place and checksum are in the manifest ([`FileTail`]). The rows (pages, dictionaries, bloom filters)
//! are checked block by block against the tail:
//!
//! ```text
//! block bytes  u32 LE
//! checksums    u32 LE each   CRC-32/ISCSI of each block; the last block may be shorter
//! ```
//!
//! Other readers of Parquet see bytes that nothing refers to.

use std::ops::Range;

use crc_fast::{CrcAlgorithm, Digest, crc32_iscsi};

use crate::{DataFile, FileDamage, FileTail};

/// What is checked at once, and so what is read at least. A page has four times as many bytes, so reading one takes a
/// quarter more; and of a file, half of a thousandth are checksums.
const BLOCK_BYTES: u32 = 8 * 1024;
const CHECKSUM_LEN: usize = size_of::<u32>();

/// Makes the checksums while a file is written.
pub(crate) struct BlockChecksums {
    /// Of the whole blocks.
    done: Vec<u32>,
    open: Digest,
    open_bytes: usize,
}

impl Default for BlockChecksums {
    fn default() -> Self {
        Self {
            done: Vec::new(),
            open: Digest::new(CrcAlgorithm::Crc32Iscsi),
            open_bytes: 0,
        }
    }
}

impl BlockChecksums {
    /// Takes the next bytes of the file.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES as usize - self.open_bytes));
            self.open.update(now);
            self.open_bytes += now.len();
            if self.open_bytes == BLOCK_BYTES as usize {
                self.done.push(self.open.finalize() as u32);
                self.open.reset();
                self.open_bytes = 0;
            }
            bytes = later;
        }
    }

    /// How many bytes there were.
    pub(crate) fn byte_count(&self) -> u64 {
        self.done.len() as u64 * u64::from(BLOCK_BYTES) + self.open_bytes as u64
    }

    /// What the tail begins with.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let last = (self.open_bytes > 0).then(|| self.open.finalize() as u32);
        let checksums = self.done.iter().copied().chain(last);
        let words = std::iter::once(BLOCK_BYTES).chain(checksums);
        words.flat_map(u32::to_le_bytes).collect()
    }
}

/// What the bytes of a file are checked against.
#[derive(Debug)]
pub(crate) struct Blocks {
    file_bytes: u64,
    tail: FileTail,
    block_bytes: u64,
    checksums: Vec<u32>,
}

impl Blocks {
    /// Reads them from a file's tail, which is checked.
    pub(crate) fn read(file: &DataFile, tail: FileTail, bytes: &[u8]) -> Result<Self, FileDamage> {
        let place = tail.start..file.byte_size;
        if crc32_iscsi(bytes) != tail.checksum {
            return Err(FileDamage::Checksum(place));
        }
        let no_checksums = || FileDamage::Undecodable("it has no checksums".to_owned());
        let (block_bytes, rest) = bytes.split_first_chunk().ok_or_else(no_checksums)?;
        let block_bytes = u64::from(u32::from_le_bytes(*block_bytes));
        if block_bytes == 0 {
            return Err(no_checksums());
        }
        let count = usize::try_from(tail.start.div_ceil(block_bytes)).map_err(|_| no_checksums())?;
        let (words, _) = rest.as_chunks::<CHECKSUM_LEN>();
        let words = words.get(..count).ok_or_else(no_checksums)?;
        Ok(Self {
            file_bytes: file.byte_size,
            tail,
            block_bytes,
            checksums: words.iter().map(|word| u32::from_le_bytes(*word)).collect(),
        })
    }

    /// The least range that can be checked and has all of `range`, which must be one of the file.
    pub(crate) fn around(&self, range: &Range<u64>) -> Range<u64> {
        let begin = |at: u64| at / self.block_bytes * self.block_bytes;
        let start = if range.start < self.tail.start {
            begin(range.start)
        } else {
            self.tail.start
        };
        let end = if range.end <= self.tail.start {
            (begin(range.end - 1) + self.block_bytes).min(self.tail.start)
        } else {
            self.file_bytes
        };
        start..end
    }

    /// Checks bytes that begin at `start`, which with their end is as [`Self::around`] says.
    ///
    /// # Errors
    /// [`FileDamage::Checksum`] with the first damaged blocks.
    pub(crate) fn check(&self, start: u64, bytes: &[u8]) -> Result<(), FileDamage> {
        let row_bytes = bytes.len().min(self.tail.start.saturating_sub(start) as usize);
        let (rows, tail) = bytes.split_at(row_bytes);
        let first = (start / self.block_bytes) as usize;
        let blocks = rows.chunks(self.block_bytes as usize).enumerate();
        let mut damaged = blocks
            .filter(|(index, block)| self.checksums.get(first + index) != Some(&crc32_iscsi(block)))
            .map(|(index, block)| {
                let from = start + index as u64 * self.block_bytes;
                from..from + block.len() as u64
            });
        if let Some(mut span) = damaged.next() {
            for next in damaged
                .take_while(|next| next.start == span.end)
                .collect::<Vec<_>>()
            {
                span.end = next.end;
            }
            return Err(FileDamage::Checksum(span));
        }
        if !tail.is_empty() && crc32_iscsi(tail) != self.tail.checksum {
            return Err(FileDamage::Checksum(self.tail.start..self.file_bytes));
        }
        Ok(())
    }

    /// Memory that it takes.
    pub(crate) fn memory_size(&self) -> usize {
        size_of::<Self>() + self.checksums.len() * CHECKSUM_LEN
    }
}

/// Checks a whole object against what the manifest says of the file.
///
/// # Errors
/// What is wrong first, and where, as well as the file can tell.
pub fn check_bytes(file: &DataFile, bytes: &[u8]) -> Result<(), FileDamage> {
    if bytes.len() as u64 != file.byte_size {
        return Err(FileDamage::Length {
            found: bytes.len() as u64,
            expected: file.byte_size,
        });
    }
    if let Some(tail) = file.tail {
        let start = usize::try_from(tail.start).ok();
        let tail_bytes = start.and_then(|start| bytes.get(start..));
        let tail_bytes = tail_bytes.ok_or_else(|| FileDamage::beyond_end(tail.start, file))?;
        Blocks::read(file, tail, tail_bytes)?.check(0, bytes)?;
    }
    if crc32_iscsi(bytes) != file.checksum {
        return Err(FileDamage::Checksum(0..file.byte_size));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemill_catalog::{DatabaseId, TableId};

    use super::*;
    use crate::{Effort, FileId};

    /// Rows of some bytes, with a tail of some more beside the checksums; written in pieces.
    fn written(row_bytes: usize, tail_bytes: usize, piece: usize) -> (DataFile, Vec<u8>) {
        let mut bytes: Vec<u8> = (0..row_bytes).map(|at| (at * at % 253) as u8).collect();
        let mut checksums = BlockChecksums::default();
        for piece in bytes.chunks(piece) {
            checksums.update(piece);
        }
        assert_eq!(checksums.byte_count(), row_bytes as u64);
        let encoded = checksums.encode();
        assert_eq!(encoded.len(), 4 + 4 * row_bytes.div_ceil(BLOCK_BYTES as usize));
        bytes.extend(encoded);
        bytes.extend((0..tail_bytes).map(|at| at as u8));
        let file = DataFile {
            id: FileId(1),
            database: DatabaseId(1),
            table: TableId(1),
            path: "f".into(),
            byte_size: bytes.len() as u64,
            checksum: crc32_iscsi(&bytes),
            row_count: 1,
            time_min: 0,
            time_max: 0,
            lsn_first: 1,
            lsn_last: 1,
            deletes_through: 0,
            tail: Some(FileTail {
                start: row_bytes as u64,
                checksum: crc32_iscsi(&bytes[row_bytes..]),
            }),
            effort: Effort::Low,
        };
        (file, bytes)
    }

    proptest! {
        #[test]
        fn every_range_is_checked_and_a_flipped_bit_is_placed(
            row_bytes in 0_usize..50_000,
            tail_bytes in 0_usize..100,
            piece in 1_usize..20_000,
            ends in any::<(prop::sample::Index, prop::sample::Index)>(),
            flipped in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let (file, mut bytes) = written(row_bytes, tail_bytes, piece);
            let tail = file.tail.unwrap();
            let blocks = Blocks::read(&file, tail, &bytes[row_bytes..]).unwrap();
            prop_assert_eq!(check_bytes(&file, &bytes), Ok(()));

            let (a, b) = (ends.0.index(bytes.len()), ends.1.index(bytes.len()));
            let range = a.min(b) as u64..a.max(b) as u64 + 1;
            let around = blocks.around(&range);
            prop_assert!(around.start <= range.start && range.end <= around.end);
            prop_assert!(around.end <= file.byte_size);
            prop_assert_eq!(blocks.around(&around), around.clone());
            let part = around.start as usize..around.end as usize;
            prop_assert_eq!(blocks.check(around.start, &bytes[part.clone()]), Ok(()));

            let at = flipped.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let is_inside = part.contains(&at);
            match blocks.check(around.start, &bytes[part]) {
                Ok(()) => prop_assert!(!is_inside),
                Err(FileDamage::Checksum(span)) => prop_assert!(is_inside && span.contains(&(at as u64))),
                Err(other) => prop_assert!(false, "{}", other),
            }
            match check_bytes(&file, &bytes) {
                Err(FileDamage::Checksum(span)) => prop_assert!(span.contains(&(at as u64))),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn neighbouring_damaged_blocks_are_one_span() {
        let (file, mut bytes) = written(50_000, 10, 50_000);
        for at in [9_000, 17_000, 40_000] {
            bytes[at] ^= 1;
        }
        assert_eq!(
            check_bytes(&file, &bytes),
            Err(FileDamage::Checksum(8192..24_576))
        );
    }
}
