//! How complex a statement may be.
//!
//! `a OR b OR c …` becomes a tree as deep as the chain is long, and whoever walks, copies or frees such a tree recurses as
//! deep: a long enough chain would overflow the stack, which ends the whole process, and planning takes time with
//! the square of the length. What makes a tree deep is therefore counted in the tokens, before there is a tree, and what
//! makes a plan deep in the tree, before there is a plan. The threads that plan have stacks for what passes
//! ([`STACK_BYTES`]).

use std::ops::ControlFlow;

use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Query, Select, Visit, Visitor};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Stack of a thread that plans queries. What passes needs less than 16 MiB; what is not used costs nothing.
pub(crate) const STACK_BYTES: usize = 64 << 20;

/// Bytes of a statement: its tokens take a hundred times that.
const SQL_BYTES_MAX: usize = 4 << 20;
/// Operators in one expression, along its deepest path through brackets: `a = b OR c = d` has three.
const OPERATORS_MAX: usize = 4_000;
/// `UNION` and its like in a statement.
const SET_OPERATIONS_MAX: usize = 1_000;
/// Joins of one `SELECT`, those by comma included.
const JOINS_MAX: usize = 100;
/// Sub-queries and those of `WITH` in a statement.
const QUERIES_MAX: usize = 1_000;
/// Dots in `catalog.schema.table.column`; more are accesses to fields of structures.
const NAME_PERIODS_MAX: usize = 3;

/// Refuses text that is too long to be looked at.
pub(crate) fn check_length(sql: &str) -> Result<()> {
    if sql.len() > SQL_BYTES_MAX {
        return plan_err!("The statement is longer than {SQL_BYTES_MAX} bytes");
    }
    Ok(())
}

/// Refuses tokens whose tree would be too deep.
pub(crate) fn check_tokens(tokens: &[TokenWithSpan]) -> Result<()> {
    let depth = TreeDepth::of(tokens.iter().map(|token| &token.token));
    if depth.operators > OPERATORS_MAX {
        return plan_err!(
            "An expression has more than {OPERATORS_MAX} operators, use IN or a join with VALUES instead"
        );
    }
    if depth.set_operations > SET_OPERATIONS_MAX {
        return plan_err!("The statement has more than {SET_OPERATIONS_MAX} UNION, EXCEPT or INTERSECT");
    }
    Ok(())
}

/// Refuses a statement whose plan would be too deep.
pub(crate) fn check_statement(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Statement(statement) => {
            let mut counter = PlanCounter::default();
            // It never breaks off.
            let _ = statement.visit(&mut counter);
            if counter.joins_max > JOINS_MAX {
                return plan_err!("A SELECT has more than {JOINS_MAX} joins");
            }
            if counter.queries > QUERIES_MAX {
                return plan_err!("The statement has more than {QUERIES_MAX} sub-queries");
            }
            Ok(())
        }
        Statement::Explain(explain) => check_statement(&explain.statement),
        // The others write, so they are refused after planning.
        _ => Ok(()),
    }
}

#[derive(Default)]
struct PlanCounter {
    joins_max: usize,
    queries: usize,
}

impl Visitor for PlanCounter {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let tables: usize = select.from.iter().map(|table| 1 + table.joins.len()).sum();
        self.joins_max = self.joins_max.max(tables.saturating_sub(1));
        ControlFlow::Continue(())
    }
}

/// Upper bounds of how deep a tree will be.
#[derive(Debug, Default, PartialEq, Eq)]
struct TreeDepth {
    operators: usize,
    set_operations: usize,
}

/// What stands between a pair of brackets.
#[derive(Default)]
struct Level {
    /// Operators since the last comma; a pair of brackets counts as one with the deepest that is in it.
    operators: usize,
    operators_max: usize,
}

impl Level {
    fn end_expression(&mut self) {
        self.operators_max = self.operators_max.max(self.operators);
        self.operators = 0;
    }

    /// This level after the brackets around `inner` were closed.
    fn around(mut self, mut inner: Self) -> Self {
        inner.end_expression();
        self.operators = self.operators.max(inner.operators_max) + 1;
        self
    }
}

impl TreeDepth {
    /// Only brackets and commas separate: any word may be the name of a column, so a word can only add. What cannot be
    /// told from an operator counts as one.
    fn of<'a>(tokens: impl Iterator<Item = &'a Token>) -> Self {
        let mut outer: Vec<Level> = Vec::new();
        let mut level = Level::default();
        let mut set_operations = 0;
        let mut periods = 0;
        let mut follows_keyword = false;
        for token in tokens.filter(|token| !matches!(token, Token::Whitespace(_))) {
            let keyword = match token {
                Token::Word(word) => Some(word.keyword).filter(|keyword| *keyword != Keyword::NoKeyword),
                _ => None,
            };
            match token {
                Token::LParen | Token::LBracket | Token::LBrace => outer.push(std::mem::take(&mut level)),
                Token::RParen | Token::RBracket | Token::RBrace => {
                    level = outer.pop().unwrap_or_default().around(level);
                }
                Token::Comma | Token::SemiColon => level.end_expression(),
                Token::Period => {
                    periods += 1;
                    level.operators += usize::from(periods > NAME_PERIODS_MAX);
                }
                Token::Word(_) => {
                    let is_operator = keyword.is_some_and(is_operator);
                    // Prefixes such as `INTERVAL INTERVAL '1'` nest with nothing between them.
                    let is_in_row = keyword.is_some() && follows_keyword;
                    level.operators += usize::from(is_operator || is_in_row);
                    set_operations += usize::from(keyword.is_some_and(is_set_operation));
                }
                token if is_value(token) => {}
                _ => level.operators += 1,
            }
            if !matches!(token, Token::Word(_) | Token::Period) {
                periods = 0;
            }
            follows_keyword = keyword.is_some();
        }
        while let Some(around) = outer.pop() {
            level = around.around(level);
        }
        level.end_expression();
        Self {
            operators: level.operators_max,
            set_operations,
        }
    }
}

/// A word after which the expression, or the statement before it, goes on one level deeper.
fn is_operator(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::AND
            | Keyword::AT
            | Keyword::BETWEEN
            | Keyword::COLLATE
            | Keyword::DESC
            | Keyword::DESCRIBE
            | Keyword::DIV
            | Keyword::EXPLAIN
            | Keyword::ILIKE
            | Keyword::IN
            | Keyword::IS
            | Keyword::LIKE
            | Keyword::MATCH
            | Keyword::MEMBER
            | Keyword::NOT
            | Keyword::NOTNULL
            | Keyword::OPERATOR
            | Keyword::OR
            | Keyword::OVERLAPS
            | Keyword::REGEXP
            | Keyword::RLIKE
            | Keyword::SIMILAR
            | Keyword::XOR
    )
}

fn is_set_operation(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS
    )
}

/// A token that stands for itself; all others that are not words are operators.
fn is_value(token: &Token) -> bool {
    matches!(
        token,
        Token::EOF
            | Token::Number(..)
            | Token::Char(_)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::Placeholder(_)
    )
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn check(sql: &str, operators: usize) {
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap();
        assert_eq!(TreeDepth::of(tokens.iter()).operators, operators, "{sql}");
    }

    #[test]
    fn chains_are_counted_along_the_deepest_path() {
        check("SELECT 1 + 1 + 1", 2);
        check("SELECT a = b OR c = d", 3);
        check("SELECT (a = b) OR (c = d) OR (e = f)", 6);
        check("SELECT a::int::text", 2);
        check("SELECT ((1 + 1) + 1) + 1", 5);
        check("SELECT f(1 + 1, 2 + 2 + 2, 3) + 1", 4);
        check("SELECT l[1][1][1]", 3);
        check("SELECT a.b.c.d, s.a.b.c.d.e", 2);
        check("SELECT INTERVAL INTERVAL '1'", 2);
        check("(((((", 5);
        check("1 + 1 + 1)))", 5);
    }

    #[test]
    fn what_is_flat_does_not_count() {
        check("SELECT a + 1, b + 1, c + 1, d", 1);
        check("SELECT a FROM t WHERE a IN (1, 2, 3, 4, 5, 6)", 2);
        check("VALUES (1, -1), (2, -2), (3, -3)", 2);
        check("SELECT ',+' -- + + +", 0);
    }

    #[test]
    fn words_that_are_names_cannot_hide_a_chain() {
        for name in [
            "case", "end", "then", "where", "order", "union", "t.limit", "\"from\"",
        ] {
            let sql = format!("SELECT {name}{}", format!(" + {name}").repeat(99));
            let tokens = Tokenizer::new(&GenericDialect {}, &sql).tokenize().unwrap();
            assert!(TreeDepth::of(tokens.iter()).operators >= 99, "{sql}");
        }
    }

    #[test]
    fn set_operations_are_counted_as_a_whole() {
        let sql = "SELECT 1, 2 UNION SELECT 3, 4 UNION ALL (SELECT 5, 6 EXCEPT TABLE t)";
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap();
        assert_eq!(TreeDepth::of(tokens.iter()).set_operations, 3);
    }
}
