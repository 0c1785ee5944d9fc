//! Values for the `$name` parameters of a statement.

use std::collections::BTreeMap;
use std::fmt;

use datafusion::common::ParamValues;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::scalar::ScalarValue;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Parameter values by name, without the `$`. Names that the statement does not use are ignored. From JSON they are an
/// object of scalars.
pub type Params = BTreeMap<String, ParamValue>;

/// One value; it enters the plan as a literal of the type named here, so DataFusion's usual coercions apply.
#[derive(Clone, Debug, PartialEq)]
pub enum ParamValue {
    /// `NULL` without a type.
    Null,
    /// `Boolean`.
    Boolean(bool),
    /// `Int64`.
    Integer(i64),
    /// `UInt64`.
    UInteger(u64),
    /// `Float64`.
    Float(f64),
    /// `Utf8`; in table position (`FROM $name`) the name of a table.
    String(String),
    /// `Binary`.
    Bytes(Vec<u8>),
    /// `Timestamp(ns)` without a zone: nanoseconds since the epoch.
    TimestampNs(i64),
}

impl ParamValue {
    fn to_scalar(&self) -> ScalarValue {
        match self {
            Self::Null => ScalarValue::Null,
            Self::Boolean(value) => ScalarValue::Boolean(Some(*value)),
            Self::Integer(value) => ScalarValue::Int64(Some(*value)),
            Self::UInteger(value) => ScalarValue::UInt64(Some(*value)),
            Self::Float(value) => ScalarValue::Float64(Some(*value)),
            Self::String(value) => ScalarValue::Utf8(Some(value.clone())),
            Self::Bytes(value) => ScalarValue::Binary(Some(value.clone())),
            Self::TimestampNs(value) => ScalarValue::TimestampNanosecond(Some(*value), None),
        }
    }
}

/// A JSON scalar: integral numbers become `Integer`, above `i64::MAX` `UInteger`, others `Float`.
impl<'de> Deserialize<'de> for ParamValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = ParamValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, number, boolean or null")
    }

    fn visit_unit<E: Error>(self) -> Result<ParamValue, E> {
        Ok(ParamValue::Null)
    }

    fn visit_none<E: Error>(self) -> Result<ParamValue, E> {
        Ok(ParamValue::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<ParamValue, E> {
        Ok(ParamValue::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<ParamValue, E> {
        Ok(ParamValue::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<ParamValue, E> {
        Ok(i64::try_from(value).map_or(ParamValue::UInteger(value), ParamValue::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<ParamValue, E> {
        Ok(ParamValue::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<ParamValue, E> {
        Ok(ParamValue::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<ParamValue, E> {
        Ok(ParamValue::String(value))
    }
}

/// The parameters as DataFusion takes them.
pub(crate) fn to_datafusion(params: &Params) -> ParamValues {
    let values = params
        .iter()
        .map(|(name, value)| (name.clone(), ScalarAndMetadata::new(value.to_scalar(), None)))
        .collect();
    ParamValues::Map(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_scalars_keep_their_kind() {
        let json =
            r#"{"s": "a", "i": -3, "u": 18446744073709551615, "f": 1.5, "whole": 2.0, "b": true, "n": null}"#;
        let params: Params = serde_json::from_str(json).unwrap();
        let expected = [
            ("b", ParamValue::Boolean(true)),
            ("f", ParamValue::Float(1.5)),
            ("i", ParamValue::Integer(-3)),
            ("n", ParamValue::Null),
            ("s", ParamValue::String("a".to_owned())),
            ("u", ParamValue::UInteger(u64::MAX)),
            ("whole", ParamValue::Float(2.0)),
        ];
        assert_eq!(
            params,
            expected.map(|(name, value)| (name.to_owned(), value)).into()
        );
    }

    #[test]
    fn what_is_not_an_object_of_scalars_is_refused_with_its_place() {
        let text = |json| serde_json::from_str::<Params>(json).unwrap_err().to_string();
        assert_eq!(
            text("[1]"),
            "invalid type: sequence, expected a map at line 1 column 0"
        );
        assert_eq!(
            text(r#"{"a": [1]}"#),
            "invalid type: sequence, expected a string, number, boolean or null at line 1 column 7"
        );
    }
}
