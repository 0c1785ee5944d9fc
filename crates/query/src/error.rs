//! The error of this crate, and the one place where DataFusion's errors become ours.

use std::time::Duration;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use tidemill_store::FileError;

/// What the caller should make of a [`QueryError`]: each kind is one status of each protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueryErrorKind {
    /// The database does not exist (404).
    DatabaseNotFound,
    /// The statement or its parameters are wrong: the caller must change them (400).
    Invalid,
    /// The statement is understood but not supported (405).
    NotImplemented,
    /// Memory or spill space for queries is used up: the same query may pass later (500).
    Exhausted,
    /// The query failed while it ran (500).
    Execution,
}

/// Why a query has no (further) answer. `Display` is the text that clients see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// There is no database of this name, or it has been deleted.
    #[error("database not found: {0}")]
    DatabaseNotFound(String),
    /// The query ran longer than [`QueryConfig::timeout`](crate::QueryConfig::timeout). Its work has been stopped.
    #[error("Execution error: the query was stopped at its time limit of {} s", .0.as_secs_f64())]
    DeadlineExceeded(Duration),
    /// A data file is damaged: the text names it, says where, and what to do. Queries that need not read it are answered.
    #[error("Execution error: {0}")]
    DamagedFile(String),
    /// Planning or execution failed; the text names DataFusion's error class first.
    #[error("{message}")]
    Failed {
        /// What the caller should make of it.
        kind: QueryErrorKind,
        /// The whole text; several causes stand on lines of their own, joined by `caused by`.
        message: String,
    },
}

impl QueryError {
    /// The class of this error.
    pub fn kind(&self) -> QueryErrorKind {
        match self {
            Self::DatabaseNotFound(_) => QueryErrorKind::DatabaseNotFound,
            Self::DeadlineExceeded(_) | Self::DamagedFile(_) => QueryErrorKind::Execution,
            Self::Failed { kind, .. } => *kind,
        }
    }

    /// An error found before the first row was asked for. What only the statement's own constants can have
    /// caused (a cast, a division) is then the statement's fault.
    pub(crate) fn from_planning(error: DataFusionError) -> Self {
        Self::from_datafusion(error, Phase::Planning)
    }

    /// An error raised while rows were computed.
    pub(crate) fn from_execution(error: DataFusionError) -> Self {
        Self::from_datafusion(error, Phase::Execution)
    }

    /// A failure of our own while rows were computed.
    pub(crate) fn execution(message: impl std::fmt::Display) -> Self {
        Self::Failed {
            kind: QueryErrorKind::Execution,
            message: format!("Execution error: {message}"),
        }
    }

    fn from_datafusion(error: DataFusionError, phase: Phase) -> Self {
        if let Some(damage) = damage(&error) {
            return Self::DamagedFile(damage.to_string());
        }
        let kind = kind_of(&error, phase);
        let message = for_our_users(error.to_string());
        Self::Failed { kind, message }
    }
}

/// The innermost cause if it is a damaged file.
pub(crate) fn damage<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a FileError> {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<FileError>())
        .find(|error| matches!(error, FileError::Damaged { .. }))
}

/// The text in the form that is documented, without advice that only programmers of DataFusion can follow.
fn for_our_users(mut message: String) -> String {
    const REPORT: &str = ".\nThis issue was likely caused by a bug in DataFusion";
    const SETTING: &str = " or disable the datafusion.sql_parser.enable_ident_normalization configuration";
    if let Some(end) = message.find(REPORT) {
        message.truncate(end);
    }
    message
        .replace(SETTING, "")
        .replace("\nValid fields are", " Valid fields are")
}

#[derive(Clone, Copy)]
enum Phase {
    Planning,
    Execution,
}

fn kind_of(error: &DataFusionError, phase: Phase) -> QueryErrorKind {
    let of_the_phase = match phase {
        Phase::Planning => QueryErrorKind::Invalid,
        Phase::Execution => QueryErrorKind::Execution,
    };
    match error {
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Configuration(_) => QueryErrorKind::Invalid,
        DataFusionError::NotImplemented(_) => QueryErrorKind::NotImplemented,
        DataFusionError::ResourcesExhausted(_) => QueryErrorKind::Exhausted,
        DataFusionError::Execution(_) => of_the_phase,
        DataFusionError::ArrowError(arrow, _) => kind_of_arrow(arrow, phase, of_the_phase),
        DataFusionError::Context(_, cause) | DataFusionError::Diagnostic(_, cause) => kind_of(cause, phase),
        DataFusionError::Shared(cause) => kind_of(cause, phase),
        DataFusionError::Collection(causes) => causes
            .first()
            .map_or(QueryErrorKind::Execution, |cause| kind_of(cause, phase)),
        DataFusionError::ParquetError(error) => match &**error {
            ParquetError::External(cause) => kind_of_cause(&**cause, phase, of_the_phase),
            _ => QueryErrorKind::Execution,
        },
        DataFusionError::External(cause) => kind_of_cause(&**cause, phase, of_the_phase),
        _ => QueryErrorKind::Execution,
    }
}

fn kind_of_cause(
    cause: &(dyn std::error::Error + 'static),
    phase: Phase,
    of_the_phase: QueryErrorKind,
) -> QueryErrorKind {
    if let Some(cause) = cause.downcast_ref::<DataFusionError>() {
        kind_of(cause, phase)
    } else if let Some(cause) = cause.downcast_ref::<ArrowError>() {
        kind_of_arrow(cause, phase, of_the_phase)
    } else {
        QueryErrorKind::Execution
    }
}

fn kind_of_arrow(error: &ArrowError, phase: Phase, of_the_phase: QueryErrorKind) -> QueryErrorKind {
    match error {
        ArrowError::NotYetImplemented(_) => QueryErrorKind::NotImplemented,
        ArrowError::CastError(_)
        | ArrowError::ParseError(_)
        | ArrowError::ComputeError(_)
        | ArrowError::DivideByZero
        | ArrowError::ArithmeticOverflow(_)
        | ArrowError::InvalidArgumentError(_) => of_the_phase,
        ArrowError::ExternalError(cause) => cause
            .downcast_ref::<DataFusionError>()
            .map_or(QueryErrorKind::Execution, |cause| kind_of(cause, phase)),
        _ => QueryErrorKind::Execution,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_that_of_the_innermost_cause() {
        let cause = DataFusionError::NotImplemented("SLIMIT or SOFFSET".to_owned());
        let error = QueryError::from_planning(cause.context("rewriting statement"));
        assert_eq!(error.kind(), QueryErrorKind::NotImplemented);
        assert_eq!(
            error.to_string(),
            "rewriting statement\ncaused by\nThis feature is not implemented: SLIMIT or SOFFSET"
        );
    }

    #[test]
    fn a_damaged_file_is_named_wherever_it_is_found() {
        let damaged = || FileError::Damaged {
            path: "n/files/1/2/3.parquet".to_owned(),
            damage: tidemill_store::FileDamage::Checksum(8192..16_384),
        };
        let parquet = ParquetError::External(Box::new(damaged()));
        let wrapped = DataFusionError::ParquetError(Box::new(parquet)).context("reading");
        let errors = [wrapped, DataFusionError::External(Box::new(damaged()))];
        for error in errors {
            let error = QueryError::from_planning(DataFusionError::Shared(std::sync::Arc::new(error)));
            assert_eq!(error.kind(), QueryErrorKind::Execution);
            assert_eq!(
                error.to_string(),
                "Execution error: file 'n/files/1/2/3.parquet' is damaged: its checksum does not match at bytes \
                 8192..16384; 'tidemill verify' says what else is, and a backup has the file as it was"
            );
        }
    }

    #[test]
    fn a_failing_constant_is_the_statements_fault_only_while_planning() {
        let division = || DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        assert_eq!(
            QueryError::from_planning(division()).kind(),
            QueryErrorKind::Invalid
        );
        assert_eq!(
            QueryError::from_execution(division()).kind(),
            QueryErrorKind::Execution
        );
    }

    #[test]
    fn an_internal_error_keeps_its_text_and_loses_the_report_address() {
        let error = QueryError::from_execution(DataFusionError::Internal("lost a column".to_owned()));
        assert_eq!(error.to_string(), "Internal error: lost a column");
    }
}
