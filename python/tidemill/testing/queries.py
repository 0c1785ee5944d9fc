"""Queries of a plugin, and the answers that a test has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from tidemill.interface import Parameter, Row
from tidemill.testing.arrow import FakeArrowTable
from tidemill.testing.failures import UnexpectedQuery
from tidemill.testing.line_protocol import lines
from tidemill.testing.tables import column_types


class Query(NamedTuple):
    """A query that the plugin asked."""

    sql: str
    parameters: dict[str, Parameter]
    database: str


Rows: TypeAlias = Sequence[Mapping[str, object]] | str
"""Rows, or line protocol of one table, which also says which columns are tags: a difference to `query_arrow` only."""

Answers: TypeAlias = Mapping[str, Rows | Exception] | Callable[[Query], Rows | None]
"""Rows by SQL text, where white space does not count, or a function that gives them. An exception in place of rows is raised; a
query with no entry, or for which the function gives `None`, fails the test."""


def answer_rows(query: Query, answers: Answers | None) -> list[Row]:
    """New rows for every call, so that a plugin may change them. Raises `UnexpectedQuery` if there is no answer."""
    found = _answer(query, answers)
    return _table(found).rows() if isinstance(found, str) else [dict(row) for row in found]


def answer_table(query: Query, answers: Answers | None) -> FakeArrowTable:
    """The rows as a table. Raises `UnexpectedQuery` if there is no answer."""
    found = _answer(query, answers)
    return _table(found) if isinstance(found, str) else FakeArrowTable([dict(row) for row in found])


def _table(text: str) -> FakeArrowTable:
    """The rows of line protocol, with a time where a line has one."""
    found = lines(text)
    if len({line.table for line in found}) > 1:
        raise ValueError("the lines of an answer belong to one table")
    rows = [
        {**line.tags, **line.fields, **({} if line.time is None else {"time": line.time})} for line in found
    ]
    return FakeArrowTable(rows, column_types(found))


def _answer(query: Query, answers: Answers | None) -> Rows:
    found = answers(query) if callable(answers) else _look_up(query, answers or {})
    if isinstance(found, Exception):
        raise found
    if found is None:
        raise UnexpectedQuery(
            f"the test has no answer for a query in database '{query.database}': {query.sql}"
        )
    return found


def _look_up(query: Query, answers: Mapping[str, Rows | Exception]) -> Rows | Exception | None:
    wanted = _without_layout(query.sql)
    return next((rows for sql, rows in answers.items() if _without_layout(sql) == wanted), None)


def _without_layout(sql: str) -> str:
    return " ".join(sql.split())
