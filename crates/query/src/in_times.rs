//! A predicate: the time is in one of many spans.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Schema, TimestampNanosecondType};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_plan::PhysicalExpr;

use crate::intervals::Intervals;

/// True where `time` lies in `times`. As comparisons this would be as many as there are spans.
#[derive(Debug, Eq)]
pub(crate) struct InTimes {
    time: Arc<dyn PhysicalExpr>,
    times: Arc<Intervals>,
}

impl InTimes {
    /// `time` is a timestamp in nanoseconds without nulls.
    pub(crate) fn new(time: Arc<dyn PhysicalExpr>, times: Arc<Intervals>) -> Self {
        Self { time, times }
    }
}

impl PartialEq for InTimes {
    fn eq(&self, other: &Self) -> bool {
        self.time.eq(&other.time) && self.times == other.times
    }
}

impl Hash for InTimes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.time.hash(state);
        for span in self.times.as_slice() {
            (span.first, span.last).hash(state);
        }
    }
}

impl fmt::Display for InTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} IN ({} spans)", self.time, self.times.as_slice().len())
    }
}

impl PhysicalExpr for InTimes {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let times = self.time.evaluate(batch)?.into_array(batch.num_rows())?;
        let Some(times) = times.as_primitive_opt::<TimestampNanosecondType>() else {
            return internal_err!("time is {}", times.data_type());
        };
        let times = times.values();
        let is_in = BooleanBuffer::collect_bool(times.len(), |row| self.times.contains(times[row]));
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(is_in, None))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.time]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let (Some(time), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("InTimes has one child");
        };
        Ok(Arc::new(Self::new(time, Arc::clone(&self.times))))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
