//! The series of many batches, numbered in order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::Int32Type;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tidemill_catalog::ColumnId;

use crate::{FileError, StoredBatch};

/// The series of all rows of some batches, without comparing the text of any row: the values of each tag are ranked, a row
/// has a tuple of ranks, and tuples are numbered.
#[derive(Debug)]
pub(crate) struct SeriesRanks {
    /// Number of each row's series, batch after batch.
    pub(crate) series_of_row: Vec<u32>,
    /// One a tag.
    pub(crate) tags: Vec<RankedTag>,
    pub(crate) series_count: usize,
}

/// A tag of all series.
#[derive(Debug)]
pub(crate) struct RankedTag {
    /// All values, ascending.
    pub(crate) values: Arc<StringArray>,
    /// For each series the position of its value, or -1.
    pub(crate) keys: Vec<i32>,
}

/// 0 for an absent tag, else one more than the position of the value among all values.
type Rank = u32;

impl SeriesRanks {
    pub(crate) fn new(batches: &[Arc<StoredBatch>], tags: &[ColumnId]) -> Result<Self, FileError> {
        let ranked: Vec<RankedValues> = tags
            .iter()
            .map(|tag| RankedValues::new(batches, *tag))
            .collect::<Result<_, _>>()?;
        let row_count = batches.iter().map(|batch| batch.row_count).sum();
        let mut numbering = SeriesNumbering::new(&ranked);
        let mut series_of_row: Vec<u32> = Vec::with_capacity(row_count);
        for (position, batch) in batches.iter().enumerate() {
            let ranks: Vec<Vec<Rank>> = ranked
                .iter()
                .map(|values| values.ranks_of_rows(position, batch))
                .collect::<Result<_, _>>()?;
            numbering.number(&ranks, batch.row_count, &mut series_of_row)?;
        }

        let mut ordered: Vec<u32> = (0..numbering.count as u32).collect();
        ordered.sort_unstable_by(|a, b| numbering.ranks(*a).cmp(numbering.ranks(*b)));
        let mut new_numbers = vec![0_u32; ordered.len()];
        for (new, old) in ordered.iter().enumerate() {
            new_numbers[*old as usize] = new as u32;
        }
        for series in &mut series_of_row {
            *series = new_numbers[*series as usize];
        }
        let keys_of = |tag: usize| {
            ordered
                .iter()
                .map(|old| numbering.ranks(*old)[tag] as i32 - 1)
                .collect()
        };
        let keys: Vec<Vec<i32>> = (0..ranked.len()).map(keys_of).collect();
        let tags = ranked.into_iter().zip(keys).map(|(values, keys)| RankedTag {
            values: Arc::new(values.values),
            keys,
        });
        Ok(Self {
            series_of_row,
            tags: tags.collect(),
            series_count: ordered.len(),
        })
    }
}

/// The values of a tag in all batches.
struct RankedValues {
    tag: ColumnId,
    /// Distinct, ascending.
    values: StringArray,
    /// For each batch the rank of each of its dictionary's values; empty where the batch does not have the tag.
    rank_of_key: Vec<Vec<Rank>>,
}

impl RankedValues {
    fn new(batches: &[Arc<StoredBatch>], tag: ColumnId) -> Result<Self, FileError> {
        let dictionaries: Vec<Option<&StringArray>> = batches
            .iter()
            .map(|batch| batch.column(tag).map(dictionary_values).transpose())
            .collect::<Result<_, _>>()?;
        let mut numbers: HashMap<&str, u32, RandomState> = HashMap::default();
        let mut distinct: Vec<&str> = Vec::new();
        // First by order of appearance, 0 for null; then by rank.
        let mut rank_of_key: Vec<Vec<Rank>> = Vec::with_capacity(batches.len());
        for dictionary in &dictionaries {
            let values = dictionary.iter().flat_map(|dictionary| dictionary.iter());
            let number = |value: Option<_>| {
                value.map_or(0, |value| {
                    *numbers.entry(value).or_insert_with(|| {
                        distinct.push(value);
                        distinct.len() as u32
                    })
                })
            };
            rank_of_key.push(values.map(number).collect());
        }
        let byte_count: usize = distinct.iter().map(|value| value.len()).sum();
        if i32::try_from(byte_count).is_err() || i32::try_from(distinct.len()).is_err() {
            let message = format!("{} values of a tag with {byte_count} bytes", distinct.len());
            return Err(FileError::TooMuch(message));
        }
        let mut ordered: Vec<u32> = (0..distinct.len() as u32).collect();
        ordered.sort_unstable_by_key(|number| distinct[*number as usize]);
        let mut ranks: Vec<Rank> = vec![0; distinct.len() + 1];
        for (position, number) in ordered.iter().enumerate() {
            ranks[*number as usize + 1] = position as Rank + 1;
        }
        for rank in rank_of_key.iter_mut().flatten() {
            *rank = ranks[*rank as usize];
        }
        Ok(Self {
            tag,
            values: ordered
                .iter()
                .map(|number| Some(distinct[*number as usize]))
                .collect(),
            rank_of_key,
        })
    }

    fn ranks_of_rows(&self, position: usize, batch: &StoredBatch) -> Result<Vec<Rank>, FileError> {
        let Some(array) = batch.column(self.tag) else {
            return Ok(vec![0; batch.row_count]);
        };
        let keys = array
            .as_dictionary_opt::<Int32Type>()
            .ok_or_else(|| wrong_type(array))?
            .keys();
        let rank_of_key = &self.rank_of_key[position];
        // A key under a null may be anything.
        let rank = |key: &i32| rank_of_key.get(*key as usize).copied().unwrap_or(0);
        let mut ranks: Vec<Rank> = keys.values().iter().map(rank).collect();
        if let Some(nulls) = keys.nulls() {
            for (rank, is_valid) in ranks.iter_mut().zip(nulls.iter()) {
                *rank *= Rank::from(is_valid);
            }
        }
        Ok(ranks)
    }
}

fn dictionary_values(array: &ArrayRef) -> Result<&StringArray, FileError> {
    let dictionary = array.as_dictionary_opt::<Int32Type>();
    let values = dictionary.and_then(|dictionary| dictionary.values().as_string_opt::<i32>());
    values.ok_or_else(|| wrong_type(array))
}

fn wrong_type(array: &ArrayRef) -> FileError {
    FileError::Columns(format!("a tag is of type {}", array.data_type()))
}

/// Numbers tuples of ranks in order of first appearance.
struct SeriesNumbering {
    tag_count: usize,
    /// How many ranks each tag has, and whether what the tags before it make must become a smaller number first.
    cardinalities: Vec<(u64, bool)>,
    /// For each of those tags the numbers of the codes before it.
    prefixes: Vec<HashMap<u64, u64, RandomState>>,
    series_of_code: HashMap<u64, u32, RandomState>,
    /// The ranks of each series, `tag_count` a series.
    ranks: Vec<Rank>,
    count: usize,
}

impl SeriesNumbering {
    fn new(tags: &[RankedValues]) -> Self {
        let mut product: u64 = 1;
        let mut cardinalities = Vec::with_capacity(tags.len());
        for tag in tags {
            let cardinality = tag.values.len() as u64 + 1;
            let multiplied = product.checked_mul(cardinality);
            // A prefix has fewer numbers than there are rows, which are counted with 32 bits.
            product = multiplied.unwrap_or(cardinality << 32);
            cardinalities.push((cardinality, multiplied.is_none()));
        }
        let prefix_count = cardinalities.iter().filter(|(_, overflows)| *overflows).count();
        Self {
            tag_count: tags.len(),
            cardinalities,
            prefixes: vec![HashMap::default(); prefix_count],
            series_of_code: HashMap::default(),
            ranks: Vec::new(),
            count: 0,
        }
    }

    fn ranks(&self, series: u32) -> &[Rank] {
        let start = series as usize * self.tag_count;
        &self.ranks[start..start + self.tag_count]
    }

    /// Appends the number of the series of each row.
    fn number(
        &mut self,
        ranks: &[Vec<Rank>],
        row_count: usize,
        series_of_row: &mut Vec<u32>,
    ) -> Result<(), FileError> {
        let codes = self.codes(ranks, row_count);
        let mut last: Option<(u64, u32)> = None;
        for (row, code) in codes.into_iter().enumerate() {
            let series = match last {
                Some((last_code, series)) if last_code == code => series,
                _ => match self.series_of_code.get(&code) {
                    Some(series) => *series,
                    None => self.add(code, ranks, row)?,
                },
            };
            last = Some((code, series));
            series_of_row.push(series);
        }
        Ok(())
    }

    /// A number for each row that tells its tuple from all others.
    fn codes(&mut self, ranks: &[Vec<Rank>], row_count: usize) -> Vec<u64> {
        let mut codes = vec![0_u64; row_count];
        let mut prefixes = self.prefixes.iter_mut();
        for (ranks, (cardinality, overflows)) in ranks.iter().zip(&self.cardinalities) {
            if *overflows && let Some(numbers) = prefixes.next() {
                for code in &mut codes {
                    let next = numbers.len() as u64;
                    *code = *numbers.entry(*code).or_insert(next);
                }
            }
            for (code, rank) in codes.iter_mut().zip(ranks) {
                *code = *code * *cardinality + u64::from(*rank);
            }
        }
        codes
    }

    fn add(&mut self, code: u64, ranks: &[Vec<Rank>], row: usize) -> Result<u32, FileError> {
        let series =
            u32::try_from(self.count).map_err(|_| FileError::TooMuch("series of a table".to_owned()))?;
        self.count += 1;
        self.series_of_code.insert(code, series);
        self.ranks.extend(ranks.iter().map(|ranks| ranks[row]));
        Ok(series)
    }
}
