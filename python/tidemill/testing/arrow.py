"""Arrow tables for tests. Only their PyCapsules need pyarrow, and only if somebody asks for one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from tidemill.interface import ArrowTable, Row


class ColumnType(Enum):
    """The type of a column, where it is known."""

    TAG = "tag"
    FLOAT = "float"
    INTEGER = "integer"
    UNSIGNED = "unsigned"
    BOOLEAN = "boolean"
    STRING = "string"
    TIME = "time"


class FakeArrowTable(ArrowTable):
    """Rows with the Arrow PyCapsule interface."""

    def __init__(
        self,
        rows: Sequence[Row],
        types: Mapping[str, ColumnType] | None = None,
        table_name: str | None = None,
    ) -> None:
        """A table of `rows`. Columns without a type in `types` get the one that pyarrow finds for their values, except `time`,
        which is always a timestamp. `table_name` is the table that the rows were written to, where they come from one."""
        self.table_name = table_name
        names = {name: None for row in rows for name in row}
        self._rows = [{name: row.get(name) for name in names} for row in rows]
        self.types = {"time": ColumnType.TIME, **(types or {})}
        """The types of the columns, where they are known."""
        self.names = list(names)
        """The names of the columns."""

    def __arrow_c_schema__(self) -> object:
        return self._table().schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table().__arrow_c_stream__(requested_schema)

    def rows(self) -> list[Row]:
        """The rows, with every column."""
        return [dict(row) for row in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def _table(self) -> Any:
        pyarrow = _pyarrow()
        columns = {
            name: pyarrow.array(
                [row[name] for row in self._rows], type=_arrow_type(pyarrow, self.types.get(name))
            )
            for name in self.names
        }
        return pyarrow.table(columns)


def _pyarrow() -> Any:
    try:
        return importlib.import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "reading an Arrow table in a test needs pyarrow: pip install pyarrow", name="pyarrow"
        ) from error


def _arrow_type(pyarrow: Any, column_type: ColumnType | None) -> Any:
    """The type that the server gives such a column; `None` lets pyarrow find one."""
    if column_type is None:
        return None
    if column_type is ColumnType.TAG:
        return pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    if column_type is ColumnType.TIME:
        return pyarrow.timestamp("ns")
    plain = {
        ColumnType.FLOAT: pyarrow.float64,
        ColumnType.INTEGER: pyarrow.int64,
        ColumnType.UNSIGNED: pyarrow.uint64,
        ColumnType.BOOLEAN: pyarrow.bool_,
        ColumnType.STRING: pyarrow.string,
    }
    return plain[column_type]()
