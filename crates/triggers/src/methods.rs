//! The HTTP methods that a request trigger answers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Methods by the bit that stands for them.
const NAMES: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];

/// A set of HTTP methods, at least one; by default `GET` and `POST` (engine.md 8.1). Written as their names, separated by
/// commas; read without regard to case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Methods(u8);

impl Default for Methods {
    fn default() -> Self {
        Self(0b11)
    }
}

impl Methods {
    /// Whether the set has a method, given by its name in capitals.
    pub fn contains(self, method: &str) -> bool {
        let bit = NAMES.iter().position(|name| *name == method);
        bit.is_some_and(|bit| self.0 & (1 << bit) != 0)
    }

    /// The names of the methods in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let set = (0..NAMES.len()).filter(move |bit| self.0 & (1 << bit) != 0);
        set.map(|bit| NAMES[bit])
    }
}

/// A list that is not one of methods.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown HTTP method '{0}', expected some of GET, POST, PUT, PATCH, DELETE, HEAD")]
pub struct UnknownMethod(pub String);

impl FromStr for Methods {
    type Err = UnknownMethod;

    fn from_str(list: &str) -> Result<Self, Self::Err> {
        let mut set = 0;
        for method in list.split(',').map(str::trim) {
            let bit = NAMES.iter().position(|name| name.eq_ignore_ascii_case(method));
            set |= 1 << bit.ok_or_else(|| UnknownMethod(method.to_owned()))?;
        }
        Ok(Self(set))
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl Serialize for Methods {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Methods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "methods are a list of names or a text such as \"GET,PUT\""
        )]
        enum Form {
            Text(String),
            List(Vec<String>),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Text(text) => text,
            Form::List(names) => names.join(","),
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_a_list_of_names() {
        assert_eq!(Methods::default().to_string(), "GET,POST");
        let methods: Methods = "delete, Put".parse().unwrap();
        assert_eq!(methods.to_string(), "PUT,DELETE");
        assert_eq!(
            ["PUT", "DELETE", "GET", "OPTIONS"].map(|name| methods.contains(name)),
            [true, true, false, false]
        );
        assert_eq!(
            serde_json::from_str::<Methods>(r#"["PUT","delete"]"#).unwrap(),
            methods
        );
        assert_eq!(
            serde_json::from_str::<Methods>(r#""PUT,DELETE""#).unwrap(),
            methods
        );
        for list in ["", "GET,", "OPTIONS", "GET POST"] {
            assert!(list.parse::<Methods>().is_err(), "{list}");
        }
    }
}
