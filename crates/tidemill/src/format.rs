//! Formats of answers.

use clap::ValueEnum;

/// Formats of query results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table to read
    Pretty,
    /// One JSON array
    Json,
    /// One JSON object a line
    #[value(alias = "json_lines")]
    Jsonl,
    /// Comma-separated values
    Csv,
    /// A Parquet file
    Parquet,
}

impl Format {
    /// The name that the server knows it by.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pretty => "pretty",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    pub(crate) fn is_text(self) -> bool {
        self != Self::Parquet
    }
}

/// Those that are text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextFormat {
    /// A table to read
    Pretty,
    /// One JSON array
    Json,
    /// One JSON object a line
    #[value(alias = "json_lines")]
    Jsonl,
    /// Comma-separated values
    Csv,
}

impl From<TextFormat> for Format {
    fn from(format: TextFormat) -> Self {
        match format {
            TextFormat::Pretty => Self::Pretty,
            TextFormat::Json => Self::Json,
            TextFormat::Jsonl => Self::Jsonl,
            TextFormat::Csv => Self::Csv,
        }
    }
}
