//! From the text of a query to one statement, with parameters in table position bound.
//!
//! SQL has no parameters for names, so `FROM $table` is a syntax error to the parser. Text substitution would be an
//! injection; instead the *token* of such a parameter is handed to the parser as an identifier, and in the syntax
//! tree, where it is certain what is a table, it becomes the quoted name. One that turns out to stand in an
//! expression (`extract(hour FROM $t)`) becomes a placeholder again.

use std::ops::ControlFlow;

use datafusion::common::{not_impl_err, plan_datafusion_err, plan_err};
use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart, Value, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};

use crate::complexity;
use crate::params::{ParamValue, Params};

/// How deep expressions and sub-queries may be nested.
const RECURSION_LIMIT: usize = 50;

/// Parses `sql`, which must hold exactly one statement.
///
/// Errors: `SQL` for a syntax error, `Plan` for an empty or too complex text or an unusable parameter in table position,
/// `NotImplemented` for several statements.
pub(crate) fn parse(sql: &str, params: &Params) -> Result<Statement, DataFusionError> {
    complexity::check_length(sql)?;
    let dialect = GenericDialect {};
    let mut tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(ParserError::from)?;
    complexity::check_tokens(&tokens)?;
    let table_parameters = mark_table_parameters(&mut tokens);

    let mut statements = DFParserBuilder::new(tokens)
        .with_dialect(&dialect)
        .with_recursion_limit(RECURSION_LIMIT)
        .build()?
        .parse_statements()?;
    if statements.len() > 1 {
        return not_impl_err!("The context currently only supports a single SQL statement");
    }
    let Some(mut statement) = statements.pop_front() else {
        return plan_err!("No SQL statements were provided in the query string");
    };
    complexity::check_statement(&statement)?;
    if copies(&statement) {
        return plan_err!("DML not supported: COPY");
    }
    if table_parameters {
        bind_table_parameters(&mut statement, params)?;
    }
    Ok(statement)
}

/// `COPY` is refused here; planning would complain about the file format first.
fn copies(statement: &Statement) -> bool {
    match statement {
        Statement::CopyTo(_) => true,
        Statement::Explain(explain) => copies(&explain.statement),
        _ => false,
    }
}

/// Turns every `$name` token that may stand for a table into an identifier token; true if there was one.
fn mark_table_parameters(tokens: &mut [TokenWithSpan]) -> bool {
    let mut found = false;
    let mut may_name_table = false;
    for token in tokens {
        if let Token::Placeholder(name) = &token.token
            && may_name_table
        {
            let value = name.clone();
            // No identifier that a user can write starts with `$` without quotes: this is the mark.
            token.token = Token::Word(Word {
                value,
                quote_style: None,
                keyword: Keyword::NoKeyword,
            });
            found = true;
        }
        match &token.token {
            Token::Whitespace(_) => {}
            Token::Word(word) => {
                may_name_table = matches!(
                    word.keyword,
                    Keyword::FROM | Keyword::JOIN | Keyword::DESCRIBE | Keyword::TABLE
                );
            }
            Token::Comma | Token::Period => may_name_table = true,
            _ => may_name_table = false,
        }
    }
    found
}

fn bind_table_parameters(statement: &mut Statement, params: &Params) -> Result<(), DataFusionError> {
    match statement {
        Statement::Statement(statement) => match statement.visit(&mut TableParameterBinder { params }) {
            ControlFlow::Break(error) => Err(*error),
            ControlFlow::Continue(()) => Ok(()),
        },
        Statement::Explain(explain) => bind_table_parameters(&mut explain.statement, params),
        // The others write, so they are refused after planning.
        _ => Ok(()),
    }
}

struct TableParameterBinder<'a> {
    params: &'a Params,
}

impl VisitorMut for TableParameterBinder<'_> {
    type Break = Box<DataFusionError>;

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Self::Break> {
        for part in &mut relation.0 {
            if let ObjectNamePart::Identifier(ident) = part
                && let Some(name) = marked_name(ident)
            {
                match self.params.get(name) {
                    Some(ParamValue::String(table)) => *ident = Ident::with_quote('"', table.clone()),
                    Some(_) => {
                        return ControlFlow::Break(Box::new(plan_datafusion_err!(
                            "The value of ${name} stands in the place of a table and must be a string"
                        )));
                    }
                    None => {
                        return ControlFlow::Break(Box::new(plan_datafusion_err!(
                            "No value found for placeholder with name ${name}"
                        )));
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let Expr::Identifier(ident) = expr
            && marked_name(ident).is_some()
        {
            *expr = Expr::value(Value::Placeholder(std::mem::take(&mut ident.value)));
        }
        ControlFlow::Continue(())
    }
}

/// The parameter's name if this identifier was made by [`mark_table_parameters`].
fn marked_name(ident: &Ident) -> Option<&str> {
    match ident.quote_style {
        None => ident.value.strip_prefix('$'),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &str) {
        let params = Params::from([
            ("t".to_owned(), ParamValue::String("My \"table".to_owned())),
            ("u".to_owned(), ParamValue::String("cpu".to_owned())),
            ("n".to_owned(), ParamValue::Integer(1)),
        ]);
        let parsed = match parse(sql, &params) {
            Ok(statement) => statement.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(parsed, expected);
    }

    #[test]
    fn a_parameter_in_table_position_is_a_quoted_name() {
        check(
            "SELECT * FROM $t WHERE a > $n",
            r#"SELECT * FROM "My ""table" WHERE a > $n"#,
        );
        check(
            "SELECT * FROM a, $u AS b JOIN $t ON 1=1",
            r#"SELECT * FROM a, "cpu" AS b JOIN "My ""table" ON 1 = 1"#,
        );
        check("SELECT * FROM iox . $u", r#"SELECT * FROM iox."cpu""#);
        check("EXPLAIN SELECT * FROM $u", r#"EXPLAIN SELECT * FROM "cpu""#);
        check(
            "SELECT (SELECT max(a) FROM $u)",
            r#"SELECT (SELECT max(a) FROM "cpu")"#,
        );
        check("DESCRIBE $u", r#"DESCRIBE "cpu""#);
    }

    #[test]
    fn a_parameter_in_an_expression_stays_one() {
        check("SELECT f(a, $n), $u FROM b", "SELECT f(a, $n), $u FROM b");
        check(
            "SELECT extract(hour FROM $u) FROM b",
            "SELECT EXTRACT(HOUR FROM $u) FROM b",
        );
        check("SELECT '$u' FROM b -- FROM $t", "SELECT '$u' FROM b");
    }

    #[test]
    fn the_value_must_be_there_and_be_a_name() {
        check(
            "SELECT 1 FROM $x",
            "Error during planning: No value found for placeholder with name $x",
        );
        check(
            "SELECT 1 FROM $n",
            "Error during planning: The value of $n stands in the place of a table and must be a string",
        );
    }

    #[test]
    fn one_statement_and_only_one() {
        check(
            " ;",
            "Error during planning: No SQL statements were provided in the query string",
        );
        check(
            "SELECT 1; SELECT 2",
            "This feature is not implemented: The context currently only supports a single SQL statement",
        );
        check("SELECT 1;", "SELECT 1");
        check(
            "selec 1",
            r#"SQL error: ParserError("Expected: an SQL statement, found: selec at Line: 1, Column: 1")"#,
        );
    }
}
