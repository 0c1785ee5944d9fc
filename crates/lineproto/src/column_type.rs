//! The kinds of column a table can have.

use arrow::datatypes::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

/// The kind of a column: a tag, one of the five field types, or the time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// Part of the series key; text.
    Tag,
    /// 64 bit float field.
    Float,
    /// Signed 64 bit integer field.
    Integer,
    /// Unsigned 64 bit integer field.
    UInteger,
    /// Text field.
    String,
    /// True or false field.
    Boolean,
    /// The time of the row, in nanoseconds since 1970 UTC.
    Time,
}

impl ColumnType {
    /// The name that error texts use, such as `iox::column_type::field::float`.
    pub fn iox_name(self) -> &'static str {
        match self {
            Self::Tag => "iox::column_type::tag",
            Self::Float => "iox::column_type::field::float",
            Self::Integer => "iox::column_type::field::integer",
            Self::UInteger => "iox::column_type::field::uinteger",
            Self::String => "iox::column_type::field::string",
            Self::Boolean => "iox::column_type::field::boolean",
            Self::Time => "iox::column_type::timestamp",
        }
    }

    /// The Arrow type of the column's arrays.
    pub fn arrow_type(self) -> DataType {
        match self {
            Self::Tag => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Self::Float => DataType::Float64,
            Self::Integer => DataType::Int64,
            Self::UInteger => DataType::UInt64,
            Self::String => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
            Self::Time => DataType::Timestamp(TimeUnit::Nanosecond, None),
        }
    }

    /// The name in schema listings: `tag`, `float`, `integer`, `uinteger`, `string`, `boolean` or `time`.
    pub fn schema_name(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::Float => "float",
            Self::Integer => "integer",
            Self::UInteger => "uinteger",
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Time => "time",
        }
    }
}
