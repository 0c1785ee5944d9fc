//! Arrow IPC streams as record batches; buffers are shared with the frame wherever their alignment allows.

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::buffer::Buffer;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use bytes::Bytes;
use std::sync::Arc;

/// The name of the column that stands last in a row.
const TIME_COLUMN: &str = "time";

/// Record batches, and the schema also where there is none.
#[derive(Clone)]
pub(crate) struct Batches {
    pub(crate) schema: SchemaRef,
    /// Their schemas may lack columns of each other.
    pub(crate) batches: Vec<RecordBatch>,
}

/// Buffers within a stream begin at multiples of this, in bytes.
const STREAM_ALIGNMENT: usize = 8;

/// Decodes self-contained streams, in order.
pub(crate) fn decode(streams: &[Bytes]) -> Result<Batches, ArrowError> {
    let mut schema: Option<SchemaRef> = None;
    let mut batches = Vec::new();
    for stream in streams {
        let mut decoder = StreamDecoder::new();
        let mut buffer = aligned(stream);
        while let Some(batch) = decoder.decode(&mut buffer)? {
            batches.push(batch);
        }
        decoder.finish()?;
        if let (None, Some(first)) = (&schema, decoder.schema()) {
            schema = Some(first);
        }
    }
    Ok(Batches {
        schema: schema.unwrap_or_else(|| Arc::new(Schema::empty())),
        batches,
    })
}

/// A stream where Arrow can use it. It lies anywhere in a message, and Arrow would copy buffer by buffer what needs another
/// place, but not the offsets of unions: so it is moved as a whole.
fn aligned(stream: &Bytes) -> Buffer {
    if stream.as_ptr().align_offset(STREAM_ALIGNMENT) == 0 {
        Buffer::from(stream.clone())
    } else {
        Buffer::from_slice_ref(stream)
    }
}

impl Batches {
    /// The same rows under one schema that has every column: in order of appearance, `time` last. What a batch lacks is null.
    pub(crate) fn unified(self) -> Result<Self, ArrowError> {
        if self
            .batches
            .iter()
            .all(|batch| batch.schema_ref().fields() == self.schema.fields())
        {
            return Ok(self);
        }
        let mut fields: Vec<Field> = Vec::new();
        for batch in &self.batches {
            for field in batch.schema_ref().fields() {
                if fields.iter().all(|known| known.name() != field.name()) {
                    fields.push(field.as_ref().clone().with_nullable(true));
                }
            }
        }
        // Stable: only `time` moves.
        fields.sort_by_key(|field| field.name() == TIME_COLUMN);
        let schema = Arc::new(Schema::new(fields));
        let batches = self
            .batches
            .iter()
            .map(|batch| widened(batch, &schema))
            .collect::<Result<_, _>>()?;
        Ok(Self { schema, batches })
    }
}

fn widened(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |field: &Arc<Field>| -> ArrayRef {
        match batch.column_by_name(field.name()) {
            Some(column) => Arc::clone(column),
            None => new_null_array(field.data_type(), batch.num_rows()),
        }
    };
    RecordBatch::try_new(Arc::clone(schema), schema.fields().iter().map(column).collect())
}
