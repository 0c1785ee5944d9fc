//! `--trigger-arguments key=value,key2=value2` (engine.md 0.2).

use std::collections::BTreeMap;

/// An argument that does not have the form `key=value`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid argument '{0}', expected key=value")]
pub struct ArgumentsError(pub String);

/// Reads the values of a repeatable option. Each is split at commas and each piece at its first `=`; a piece without
/// `=` continues the value before it, comma included. Of equal keys the last one wins.
pub fn parse_trigger_arguments(given: &[String]) -> Result<BTreeMap<String, String>, ArgumentsError> {
    let mut arguments = BTreeMap::new();
    for option in given {
        let mut current: Option<(String, String)> = None;
        for piece in option.split(',') {
            match (piece.split_once('='), &mut current) {
                (Some((key, value)), _) => {
                    let key = key.trim();
                    if key.is_empty() {
                        return Err(ArgumentsError(piece.to_owned()));
                    }
                    arguments.extend(current.replace((key.to_owned(), value.to_owned())));
                }
                (None, Some((_, value))) => {
                    value.push(',');
                    value.push_str(piece);
                }
                (None, None) => return Err(ArgumentsError(piece.to_owned())),
            }
        }
        arguments.extend(current);
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[&str], expected: &[(&str, &str)]) {
        let given: Vec<String> = given.iter().map(ToString::to_string).collect();
        let expected = expected
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        assert_eq!(parse_trigger_arguments(&given), Ok(expected), "{given:?}");
    }

    #[test]
    fn pieces_without_an_equals_sign_continue_the_value() {
        check(&[], &[]);
        check(&["a=1"], &[("a", "1")]);
        check(&["a=1,b=2"], &[("a", "1"), ("b", "2")]);
        check(&["exclude_tables=a,b,c"], &[("exclude_tables", "a,b,c")]);
        check(
            &["exclude_tables=a,b,c,level=warn"],
            &[("exclude_tables", "a,b,c"), ("level", "warn")],
        );
        check(&["a=1", "b=x,y"], &[("a", "1"), ("b", "x,y")]);
        check(&["a=1=2"], &[("a", "1=2")]);
        check(&["a="], &[("a", "")]);
        check(&["a=1,a=2"], &[("a", "2")]);
        check(&["a=1, b=2"], &[("a", "1"), ("b", "2")]);
    }

    #[test]
    fn a_piece_without_a_key_is_refused() {
        for given in ["novalue", "=x", "", ",a=1"] {
            assert!(parse_trigger_arguments(&[given.to_owned()]).is_err(), "{given}");
        }
        // A repeated option does not continue the one before it.
        assert_eq!(
            parse_trigger_arguments(&["a=1".to_owned(), "b".to_owned()]),
            Err(ArgumentsError("b".to_owned()))
        );
    }
}
