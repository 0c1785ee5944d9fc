"""Queries of a plugin, and the answers that a test has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from tidemill.interface import Parameter, Row
from tidemill.testing.failures import UnexpectedQuery


class Query(NamedTuple):
    """A query that the plugin asked."""

    sql: str
    parameters: dict[str, Parameter]
    database: str


Rows: TypeAlias = Sequence[Mapping[str, object]]

Answers: TypeAlias = Mapping[str, Rows | Exception] | Callable[[Query], Rows | None]
"""Rows by SQL text, where white space does not count, or a function that gives them. An exception in place of rows is raised; a
query with no entry, or for which the function gives `None`, fails the test."""


def answer(query: Query, answers: Answers | None) -> list[Row]:
    """New rows for every call, so that a plugin may change them. Raises `UnexpectedQuery` if there is no answer."""
    found = answers(query) if callable(answers) else _look_up(query, answers or {})
    if isinstance(found, Exception):
        raise found
    if found is None:
        raise UnexpectedQuery(
            f"the test has no answer for a query in database '{query.database}': {query.sql}"
        )
    return [dict(row) for row in found]


def _look_up(query: Query, answers: Mapping[str, Rows | Exception]) -> Rows | Exception | None:
    wanted = _without_layout(query.sql)
    return next((rows for sql, rows in answers.items() if _without_layout(sql) == wanted), None)


def _without_layout(sql: str) -> str:
    return " ".join(sql.split())
