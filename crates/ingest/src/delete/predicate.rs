//! The language of predicates: conditions on tags and times, joined by `AND`.
//!
//! ```text
//! predicate = [ factor { AND factor } ]
//! factor    = "(" predicate ")" | name test
//! test      = ( "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=" ) value
//!           | [ NOT ] IN "(" value { "," value } ")"
//! value     = 'text' | "text" | integer
//! name      = letters, digits, "_" and "." | "text"
//! ```
//!
//! Keywords may have any case; names are taken as they are written. Inside of single quotes a quote is written twice, as in
//! SQL; inside of double quotes it has a backslash before it, as in the older interface. What stands on the right of an
//! operator is a value whichever quotes it has, so that both `host = 'a'` and `host="a"` mean what their writers mean.

use std::str::Chars;

/// Why a text is no predicate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the predicate at character {position}: {reason}")]
pub struct PredicateError {
    /// Where, counted in characters from 1.
    pub position: usize,
    /// What is wrong there.
    pub reason: String,
}

/// A condition on one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) column: String,
    pub(crate) test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Test {
    Compare(Operator, Value),
    In { negated: bool, values: Vec<Value> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    SingleQuoted(String),
    DoubleQuoted(String),
    Operator(Operator),
    Open,
    Close,
    Comma,
    End,
}

impl Token {
    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("'{word}'"),
            Self::SingleQuoted(text) | Self::DoubleQuoted(text) => format!("the text '{text}'"),
            Self::Operator(_) => "an operator".to_owned(),
            Self::Open => "'('".to_owned(),
            Self::Close => "')'".to_owned(),
            Self::Comma => "','".to_owned(),
            Self::End => "the end".to_owned(),
        }
    }
}

/// The conditions of a predicate, all of which must hold; none for a blank text.
///
/// # Errors
/// Where the text is none, and why.
pub(crate) fn parse(text: &str) -> Result<Vec<Condition>, PredicateError> {
    let mut tokens = Tokens::new(text)?;
    let mut conditions = Vec::new();
    if tokens.current == Token::End {
        return Ok(conditions);
    }
    let mut open_count = 0_usize;
    loop {
        while tokens.take(&Token::Open)? {
            open_count += 1;
        }
        conditions.push(tokens.condition()?);
        while open_count > 0 && tokens.take(&Token::Close)? {
            open_count -= 1;
        }
        if tokens.current == Token::End && open_count == 0 {
            return Ok(conditions);
        }
        if !tokens.take_keyword("and")? {
            let expected = if open_count > 0 { "AND or ')'" } else { "AND" };
            return Err(tokens.expected(expected));
        }
    }
}

struct Tokens<'a> {
    rest: Chars<'a>,
    /// Characters that were taken from `rest`.
    taken: usize,
    current: Token,
    /// Where `current` begins.
    position: usize,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Result<Self, PredicateError> {
        let mut tokens = Self {
            rest: text.chars(),
            taken: 0,
            current: Token::End,
            position: 1,
        };
        tokens.advance()?;
        Ok(tokens)
    }

    fn condition(&mut self) -> Result<Condition, PredicateError> {
        let (Token::Word(column) | Token::DoubleQuoted(column)) = self.current.clone() else {
            return Err(self.expected("the name of a column"));
        };
        self.advance()?;
        let test = if let Token::Operator(operator) = self.current {
            self.advance()?;
            Test::Compare(operator, self.value()?)
        } else {
            let negated = self.take_keyword("not")?;
            if !self.take_keyword("in")? {
                return Err(self.expected("=, !=, <, <=, >, >=, IN or NOT IN"));
            }
            let values = self.list()?;
            Test::In { negated, values }
        };
        Ok(Condition { column, test })
    }

    fn list(&mut self) -> Result<Vec<Value>, PredicateError> {
        if !self.take(&Token::Open)? {
            return Err(self.expected("'('"));
        }
        let mut values = vec![self.value()?];
        while self.take(&Token::Comma)? {
            values.push(self.value()?);
        }
        if self.take(&Token::Close)? {
            Ok(values)
        } else {
            Err(self.expected("',' or ')'"))
        }
    }

    fn value(&mut self) -> Result<Value, PredicateError> {
        let value = match self.current.clone() {
            Token::SingleQuoted(text) | Token::DoubleQuoted(text) => Some(Value::Text(text)),
            Token::Word(word) => word.parse().ok().map(Value::Integer),
            _ => None,
        };
        let value = value.ok_or_else(|| self.expected("a value in quotes"))?;
        self.advance()?;
        Ok(value)
    }

    /// Goes past the token if it is this one.
    fn take(&mut self, token: &Token) -> Result<bool, PredicateError> {
        let is_taken = self.current == *token;
        if is_taken {
            self.advance()?;
        }
        Ok(is_taken)
    }

    fn take_keyword(&mut self, keyword: &str) -> Result<bool, PredicateError> {
        let is_taken = self.current.is_keyword(keyword);
        if is_taken {
            self.advance()?;
        }
        Ok(is_taken)
    }

    fn expected(&self, what: &str) -> PredicateError {
        self.error(format!("expected {what}, found {}", self.current.describe()))
    }

    fn error(&self, reason: impl Into<String>) -> PredicateError {
        PredicateError {
            position: self.position,
            reason: reason.into(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.taken += usize::from(next.is_some());
        next
    }

    fn next_if(&mut self, wanted: char) -> bool {
        let is_next = self.peek() == Some(wanted);
        if is_next {
            self.next();
        }
        is_next
    }

    /// Goes to the next token.
    fn advance(&mut self) -> Result<(), PredicateError> {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
        self.position = self.taken + 1;
        self.current = self.read()?;
        Ok(())
    }

    fn read(&mut self) -> Result<Token, PredicateError> {
        let Some(first) = self.next() else {
            return Ok(Token::End);
        };
        Ok(match first {
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '=' => {
                self.next_if('=');
                Token::Operator(Operator::Equal)
            }
            '!' if self.next_if('=') => Token::Operator(Operator::NotEqual),
            '<' if self.next_if('>') => Token::Operator(Operator::NotEqual),
            '<' if self.next_if('=') => Token::Operator(Operator::LessOrEqual),
            '<' => Token::Operator(Operator::Less),
            '>' if self.next_if('=') => Token::Operator(Operator::GreaterOrEqual),
            '>' => Token::Operator(Operator::Greater),
            '\'' => Token::SingleQuoted(self.quoted('\'')?),
            '"' => Token::DoubleQuoted(self.quoted('"')?),
            first if is_of_word(first) || first == '-' => {
                let mut word = String::from(first);
                while let Some(next) = self.peek().filter(|next| is_of_word(*next)) {
                    word.push(next);
                    self.next();
                }
                Token::Word(word)
            }
            other => return Err(self.error(format!("unexpected '{other}'"))),
        })
    }

    /// The text up to the closing quote.
    fn quoted(&mut self, quote: char) -> Result<String, PredicateError> {
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(self.error(format!("the text has no closing {quote}"))),
                Some('\\') if quote == '"' => match self.next() {
                    Some(escaped @ ('"' | '\\')) => text.push(escaped),
                    _ => {
                        return Err(self.error("a backslash stands only before a quote or another backslash"));
                    }
                },
                Some(next) if next == quote => {
                    if !self.next_if(quote) {
                        return Ok(text);
                    }
                    text.push(quote);
                }
                Some(next) => text.push(next),
            }
        }
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn compare(column: &str, operator: Operator, value: Value) -> Condition {
        Condition {
            column: column.to_owned(),
            test: Test::Compare(operator, value),
        }
    }

    fn one_of(column: &str, negated: bool, values: &[&str]) -> Condition {
        Condition {
            column: column.to_owned(),
            test: Test::In {
                negated,
                values: values.iter().map(|value| text(value)).collect(),
            },
        }
    }

    #[test]
    fn both_ways_of_writing_it_are_read() {
        use Operator::{Equal, GreaterOrEqual, Less, NotEqual};
        assert_eq!(parse(" \n"), Ok(Vec::new()));
        assert_eq!(
            parse(r#"_measurement="cpu" AND host="a \"b\" \\""#),
            Ok(vec![
                compare("_measurement", Equal, text("cpu")),
                compare("host", Equal, text(r#"a "b" \"#)),
            ])
        );
        assert_eq!(
            parse(
                r#"(host != 'it''s' and ("my tag" not in ('a', 'b'))) AND time>=-5 and time < '2024-01-01'"#
            ),
            Ok(vec![
                compare("host", NotEqual, text("it's")),
                one_of("my tag", true, &["a", "b"]),
                compare("time", GreaterOrEqual, Value::Integer(-5)),
                compare("time", Less, text("2024-01-01")),
            ])
        );
        assert_eq!(
            parse("größe IN('a')AND host<>'\\'"),
            Ok(vec![
                one_of("größe", false, &["a"]),
                compare("host", NotEqual, text("\\")),
            ])
        );
    }

    #[test]
    fn errors_name_the_place() {
        let check = |predicate: &str, position: usize, reason: &str| {
            let expected = PredicateError {
                position,
                reason: reason.to_owned(),
            };
            assert_eq!(parse(predicate), Err(expected), "{predicate}");
        };
        check(
            "host",
            5,
            "expected =, !=, <, <=, >, >=, IN or NOT IN, found the end",
        );
        check("host = a", 8, "expected a value in quotes, found 'a'");
        check("host = 'a", 8, "the text has no closing '");
        check("host = 'a' OR x = 'b'", 12, "expected AND, found 'OR'");
        check(
            "host = 'a' AND",
            15,
            "expected the name of a column, found the end",
        );
        check(
            "'host' = 'a'",
            1,
            "expected the name of a column, found the text 'host'",
        );
        check("(host = 'a'", 12, "expected AND or ')', found the end");
        check("host = 'a')", 11, "expected AND, found ')'");
        check("host IN ()", 10, "expected a value in quotes, found ')'");
        check("host IN ('a' 'b')", 14, "expected ',' or ')', found the text 'b'");
        check("host ~ 'a'", 6, "unexpected '~'");
        check("host ! 'a'", 6, "unexpected '!'");
        check(
            r#"host = "\n""#,
            8,
            "a backslash stands only before a quote or another backslash",
        );
        check(
            "host = 99999999999999999999",
            8,
            "expected a value in quotes, found '99999999999999999999'",
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            ".{0,8}".prop_map(Value::Text),
            any::<i64>().prop_map(Value::Integer)
        ]
    }

    fn any_condition() -> impl Strategy<Value = Condition> {
        use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let operator =
            prop::sample::select(vec![Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual]);
        let values = prop::collection::vec(any_value(), 1..4);
        let test = prop_oneof![
            (operator, any_value()).prop_map(|(operator, value)| Test::Compare(operator, value)),
            (any::<bool>(), values).prop_map(|(negated, values)| Test::In { negated, values }),
        ];
        (".{0,8}", test).prop_map(|(column, test)| Condition { column, test })
    }

    fn write_value(value: &Value, doubly: bool) -> String {
        match value {
            Value::Text(text) if doubly => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Value::Integer(number) => number.to_string(),
        }
    }

    fn write(condition: &Condition, doubly: bool) -> String {
        let column = write_value(&text(&condition.column), true);
        match &condition.test {
            Test::Compare(operator, value) => {
                let operator = match operator {
                    Operator::Equal => "=",
                    Operator::NotEqual => "!=",
                    Operator::Less => "<",
                    Operator::LessOrEqual => "<=",
                    Operator::Greater => ">",
                    Operator::GreaterOrEqual => ">=",
                };
                format!("{column}{operator}{}", write_value(value, doubly))
            }
            Test::In { negated, values } => {
                let values: Vec<String> = values.iter().map(|value| write_value(value, doubly)).collect();
                let not = if *negated { "NOT " } else { "" };
                format!("{column} {not}IN ({})", values.join(","))
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(conditions in prop::collection::vec(any_condition(), 1..5), doubly in any::<bool>()) {
            let written: Vec<String> = conditions.iter().map(|condition| write(condition, doubly)).collect();
            prop_assert_eq!(parse(&written.join(" AND ")), Ok(conditions.clone()));
            prop_assert_eq!(parse(&format!("(({}))", written.join(") and ("))), Ok(conditions));
        }

        #[test]
        fn any_text_is_read_or_refused(predicate in r#"([a-z=<>!'"\\(), 0-9]|AND|NOT|IN|.){0,40}"#) {
            let _ = parse(&predicate);
        }
    }
}
