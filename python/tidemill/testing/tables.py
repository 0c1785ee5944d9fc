"""`table_batches`: what was written, by table (`spec/engine.md` 2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from tidemill.interface import ArrowTable, Buildable, Row, TableBatch
from tidemill.testing.arrow import ColumnType, FakeArrowTable
from tidemill.testing.line_protocol import FieldValue, Line, UnsignedInt, lines
from tidemill.testing.writes import line_protocol

Written: TypeAlias = (
    str | Buildable | Line | Sequence[str | Buildable | Line] | Mapping[str, Sequence[Mapping[str, Any]]]
)
"""Data that a trigger sees: line protocol, builders or lines, or rows by table.

Line protocol knows tags from strings, which makes a difference to `to_arrow()` only; in rows every `str` is a string."""


class FakeTableBatch(TableBatch):
    """An element of `table_batches`."""

    def __init__(
        self,
        table_name: str,
        rows: Iterable[Mapping[str, Any]] = (),
        types: Mapping[str, ColumnType] | None = None,
    ) -> None:
        """The rows of a table; `types` are those of its columns that their values do not tell."""
        super().__init__(table_name=table_name, rows=[dict(row) for row in rows])
        self._written = [dict(row) for row in self["rows"]]
        self._types = dict(types or {})
        self._table_name = table_name

    def to_arrow(self) -> ArrowTable:
        """The rows as they were written, whatever has become of `self["rows"]`."""
        return FakeArrowTable(self._written, self._types, self._table_name)


def table_batches(written: Written, now_ns: int) -> list[TableBatch]:
    """What a trigger is given for data written at `now_ns`. Raises `LineProtocolError` for a line that the database refuses."""
    if isinstance(written, Mapping):
        return [FakeTableBatch(table, [_row(row, now_ns) for row in rows]) for table, rows in written.items()]
    by_table: dict[str, list[Line]] = {}
    for line in _lines(written):
        by_table.setdefault(line.table, []).append(line)
    return [_batch(table, found, now_ns) for table, found in by_table.items()]


def _lines(written: str | Buildable | Line | Sequence[str | Buildable | Line]) -> list[Line]:
    elements = [written] if isinstance(written, (str, Line)) or not isinstance(written, Sequence) else written
    return lines("\n".join(str(one) if isinstance(one, Line) else line_protocol(one) for one in elements))


def _batch(table: str, found: Sequence[Line], now_ns: int) -> TableBatch:
    rows: list[Row] = []
    for line in found:
        fields = {
            name: int(value) if isinstance(value, UnsignedInt) else value
            for name, value in line.fields.items()
        }
        rows.append({**line.tags, **fields, "time": now_ns if line.time is None else line.time})
    return FakeTableBatch(table, rows, column_types(found))


def column_types(found: Iterable[Line]) -> dict[str, ColumnType]:
    """The types of the columns that lines of one table have."""
    types: dict[str, ColumnType] = {}
    for line in found:
        types.update(dict.fromkeys(line.tags, ColumnType.TAG))
        types.update({name: _column_type(value) for name, value in line.fields.items()})
    return types


def _row(row: Mapping[str, Any], now_ns: int) -> Row:
    for name, value in row.items():
        if not isinstance(value, (str, int, float, bool)):
            raise TypeError(
                f"column '{name}' of a written row is a {type(value).__name__}: "
                "values are str, int, float or bool, and what was not written has no key"
            )
    return {**row, "time": row.get("time", now_ns)}


def _column_type(value: FieldValue) -> ColumnType:
    if isinstance(value, bool):
        return ColumnType.BOOLEAN
    if isinstance(value, UnsignedInt):
        return ColumnType.UNSIGNED
    if isinstance(value, int):
        return ColumnType.INTEGER
    return ColumnType.FLOAT if isinstance(value, float) else ColumnType.STRING
