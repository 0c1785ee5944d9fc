//! Which names databases, tables, columns and triggers may have (`spec/database.md` 3.6, `spec/engine.md` 3.3).

use thiserror::Error;

/// The database that exists from the first start and belongs to the system.
pub const INTERNAL_DATABASE: &str = "_internal";
/// The name of the time column, which every table has.
pub const TIME_COLUMN: &str = "time";
/// Longest database name, in bytes.
pub const DATABASE_NAME_BYTES_MAX: usize = 511;
/// Longest name of a table, column or trigger, in bytes.
pub const NAME_BYTES_MAX: usize = 1024 * 1024;

const RESERVED_COLUMNS: [&str; 2] = [TIME_COLUMN, "__chunk_order"];

/// True for the column names that no client may create.
pub fn is_reserved_column(name: &str) -> bool {
    RESERVED_COLUMNS.contains(&name)
}

/// Which of the two rules for database names applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// What comes in over HTTP: ASCII letters, digits, `_`, `-`, starting with a letter or digit, and at most one `/`
    /// before a retention policy name.
    Strict,
    /// What a plugin writes to: letters and digits of any script and `/`, `_`, `-`, in any order.
    Weak,
}

/// Why a database name is refused; the texts are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DatabaseNameError {
    /// No name at all.
    #[error("db name cannot be empty")]
    Empty,
    /// More than [`DATABASE_NAME_BYTES_MAX`] bytes.
    #[error("db name too long: max {DATABASE_NAME_BYTES_MAX}")]
    TooLong,
    /// The first character is neither a digit nor a letter.
    #[error("db name did not start with a number or letter")]
    InvalidStart,
    /// A character outside the rule.
    #[error(
        "invalid character in database or rp name: must be ASCII, containing only letters, numbers, underscores, or hyphens"
    )]
    InvalidCharacter,
    /// More than one `/`, or nothing after it.
    #[error(
        "db name with invalid retention policy, if providing a retention policy name, must be of form '<db_name>/<rp_name>'"
    )]
    InvalidRetentionPolicy,
}

/// Checks a database name against the rule of the place where it came in.
pub fn validate_database_name(name: &str, strictness: Strictness) -> Result<(), DatabaseNameError> {
    if name.is_empty() {
        return Err(DatabaseNameError::Empty);
    }
    if name.len() > DATABASE_NAME_BYTES_MAX {
        return Err(DatabaseNameError::TooLong);
    }
    match strictness {
        Strictness::Strict => validate_strictly(name),
        Strictness::Weak => {
            let allowed = |c: char| c.is_alphanumeric() || matches!(c, '/' | '_' | '-');
            if name.chars().all(allowed) {
                Ok(())
            } else {
                Err(DatabaseNameError::InvalidCharacter)
            }
        }
    }
}

fn validate_strictly(name: &str) -> Result<(), DatabaseNameError> {
    let bytes = name.as_bytes();
    if bytes[0].is_ascii() && !bytes[0].is_ascii_alphanumeric() {
        return Err(DatabaseNameError::InvalidStart);
    }
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/');
    if !bytes.iter().all(allowed) {
        return Err(DatabaseNameError::InvalidCharacter);
    }
    let has_second_slash = name.find('/') != name.rfind('/');
    if has_second_slash || name.ends_with('/') {
        return Err(DatabaseNameError::InvalidRetentionPolicy);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, strict: Result<(), DatabaseNameError>, weak: Result<(), DatabaseNameError>) {
        assert_eq!(
            validate_database_name(name, Strictness::Strict),
            strict,
            "strict: {name:?}"
        );
        assert_eq!(
            validate_database_name(name, Strictness::Weak),
            weak,
            "weak: {name:?}"
        );
    }

    #[test]
    fn names_by_both_rules() {
        use DatabaseNameError::{Empty, InvalidCharacter, InvalidRetentionPolicy, InvalidStart, TooLong};
        check("metrics", Ok(()), Ok(()));
        check("0-a_B", Ok(()), Ok(()));
        check("db/autogen", Ok(()), Ok(()));
        check(&"x".repeat(511), Ok(()), Ok(()));
        check("", Err(Empty), Err(Empty));
        check(&"x".repeat(512), Err(TooLong), Err(TooLong));
        check("_internal", Err(InvalidStart), Ok(()));
        check("-a", Err(InvalidStart), Ok(()));
        check("/rp", Err(InvalidStart), Ok(()));
        check("a b", Err(InvalidCharacter), Err(InvalidCharacter));
        check("a.b", Err(InvalidCharacter), Err(InvalidCharacter));
        check("größe", Err(InvalidCharacter), Ok(()));
        check("ä", Err(InvalidCharacter), Ok(()));
        check("a/b/c", Err(InvalidRetentionPolicy), Ok(()));
        check("a/", Err(InvalidRetentionPolicy), Ok(()));
    }

    #[test]
    fn texts_are_those_clients_know() {
        let texts: Vec<String> = [
            DatabaseNameError::Empty,
            DatabaseNameError::TooLong,
            DatabaseNameError::InvalidStart,
            DatabaseNameError::InvalidCharacter,
            DatabaseNameError::InvalidRetentionPolicy,
        ]
        .iter()
        .map(ToString::to_string)
        .collect();
        assert_eq!(
            texts,
            [
                "db name cannot be empty",
                "db name too long: max 511",
                "db name did not start with a number or letter",
                "invalid character in database or rp name: must be ASCII, containing only letters, numbers, underscores, or hyphens",
                "db name with invalid retention policy, if providing a retention policy name, must be of form '<db_name>/<rp_name>'",
            ]
        );
    }
}
