"""Arrow tables that a plugin writes, as line protocol (`spec/engine.md` 0.26)."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.interface import Writable
from tidemill.testing.arrow import ColumnType, FakeArrowTable
from tidemill.testing.line_protocol import FieldValue, Line, UnsignedInt
from tidemill.testing.writes import line_protocol

_TIME = "time"
_UNNAMED_INDEX_PREFIX = "__index_level_"


@dataclass(frozen=True)
class TableKeywords:
    """The keyword arguments of `write` and its relatives."""

    table: str | None
    tags: Sequence[str] | None
    time: str | None

    def are_given(self) -> bool:
        """Whether one is not what it is by default."""
        return (self.table, self.tags, self.time) != (None, None, _TIME)


@dataclass(frozen=True)
class _Column:
    """A column: its values, and what kind they are of, `None` where line protocol has none for them."""

    name: str
    type_name: str
    kind: ColumnType | None
    values: list[Any]


def is_table(written: object) -> bool:
    """Whether it has the Arrow PyCapsule interface. Its class is asked: data frames have their columns as attributes."""
    return hasattr(type(written), "__arrow_c_stream__")


def written_text(written: Writable, keywords: TableKeywords) -> str:
    """Line protocol of what a plugin writes. Raises as the server does for what cannot be written."""
    if not is_table(written):
        if keywords.are_given():
            raise TypeError("table=, tags= and time= are for Arrow tables only")
        return line_protocol(written)
    own_name = written.table_name if isinstance(written, FakeArrowTable) else None
    table = own_name if keywords.table is None else keywords.table
    if table is None:
        raise TypeError("an Arrow table does not say which table its rows belong to: pass table=")
    columns = _columns(written)
    return "\n".join(map(str, _Writer(table, columns, keywords).lines()))


class _Writer:
    """The lines of one table."""

    def __init__(self, table: str, columns: list[_Column], keywords: TableKeywords) -> None:
        self.table = table
        names = [column.name for column in columns]
        if keywords.time is not None and keywords.time not in names:
            raise ValueError(
                f"the table has no column '{keywords.time}': name the one that holds the times with time=, "
                "or pass time=None for the time of the write"
            )
        for tag in keywords.tags or ():
            if tag not in names:
                raise ValueError(f"the table has no column '{tag}' that could be a tag")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the table has two columns '{name}'")
        self.tags: list[_Column] = []
        self.fields: list[_Column] = []
        self.time: _Column | None = None
        for column in columns:
            self._assign(column, keywords)
        if not self.fields:
            raise ValueError(
                "the table has no column that could be a field: all are tags, the time, or empty"
            )
        self.row_count = len(columns[0].values)

    def _assign(self, column: _Column, keywords: TableKeywords) -> None:
        name, kind = column.name, column.kind
        is_tag = kind is ColumnType.TAG if keywords.tags is None else name in keywords.tags
        if name == keywords.time:
            if is_tag and keywords.tags is not None:
                raise ValueError(f"column '{name}' cannot be both a tag and the time")
            if kind not in (ColumnType.TIME, ColumnType.INTEGER, ColumnType.UNSIGNED):
                raise ValueError(
                    f"column '{name}' is of type {column.type_name}, "
                    "and a time is a timestamp, a date, or an integer of nanoseconds"
                )
            self.time = column
        elif name == _TIME:
            raise ValueError(
                "a column 'time' can only hold the times of the rows: rename it, or leave it out"
            )
        elif is_tag:
            if kind not in (ColumnType.TAG, ColumnType.STRING, ColumnType.INTEGER, ColumnType.UNSIGNED):
                raise ValueError(
                    f"column '{name}' is of type {column.type_name}, and a tag is text or an integer: cast it"
                )
            self.tags.append(column)
        elif name.startswith(_UNNAMED_INDEX_PREFIX) or column.type_name == "null":
            pass
        elif kind is None or column.type_name.startswith("date"):
            raise ValueError(
                f"column '{name}' is of type {column.type_name}, "
                "which no field can hold: cast it, or leave it out"
            )
        else:
            self.fields.append(column)

    def lines(self) -> list[Line]:
        """A line for each row that has a field."""
        found = []
        for row in range(self.row_count):
            fields = {
                column.name: _field(column, row) for column in self.fields if column.values[row] is not None
            }
            if fields:
                found.append(Line(self.table, self._tags(row), fields, self._time(row)))
        return found

    def _tags(self, row: int) -> dict[str, str]:
        tags = {}
        for column in self.tags:
            value = column.values[row]
            if value is not None and value != "":
                text = str(value)
                if reason := _why_no_tag(text):
                    raise ValueError(
                        f"row {row}, column '{column.name}': the tag {text!r} cannot be written: {reason}"
                    )
                tags[column.name] = text
        return tags

    def _time(self, row: int) -> int | None:
        if self.time is None:
            return None
        value = self.time.values[row]
        if value is None:
            raise ValueError(f"row {row} has no time: its '{self.time.name}' is null")
        return int(value)


def _field(column: _Column, row: int) -> FieldValue:
    value = column.values[row]
    if column.kind is ColumnType.FLOAT and not math.isfinite(value):
        text = "NaN" if math.isnan(value) else str(value)
        raise ValueError(
            f"row {row}, column '{column.name}': {text} cannot be written: "
            "put a null in its place, or leave the row out"
        )
    return UnsignedInt(value) if column.kind is ColumnType.UNSIGNED else value


def _why_no_tag(text: str) -> str | None:
    """What is wrong with a tag that line protocol cannot hold."""
    if "\n" in text:
        return "it has a line break"
    if text.endswith("\\"):
        return "it ends with a backslash"
    is_after_odd_backslashes = False
    for character in text:
        if character in ",= " and is_after_odd_backslashes:
            return "a backslash stands before a comma, a space or an equals sign"
        is_after_odd_backslashes = character == "\\" and not is_after_odd_backslashes
    return None


def _columns(written: Any) -> list[_Column]:
    if isinstance(written, FakeArrowTable) and (columns := _plain_columns(written)) is not None:
        return columns
    try:
        pyarrow = importlib.import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "writing an Arrow table in a test needs pyarrow: pip install pyarrow", name="pyarrow"
        ) from error
    table = pyarrow.table(written)
    return [_arrow_column(pyarrow, field.name, column) for field, column in zip(table.schema, table.columns)]


def _plain_columns(table: FakeArrowTable) -> list[_Column] | None:
    """The columns of a table whose types are all known, which pyarrow is not needed for."""
    rows = table.rows()
    columns = []
    for name in table.names:
        kind = table.types.get(name)
        if kind is None:
            return None
        columns.append(_Column(name, kind.value, kind, [row[name] for row in rows]))
    return columns


def _arrow_column(pyarrow: Any, name: str, column: Any) -> _Column:
    types = pyarrow.types
    plain = column.type
    is_dictionary = types.is_dictionary(plain)
    while types.is_dictionary(plain) or types.is_run_end_encoded(plain):
        plain = plain.value_type
    if plain != column.type:
        column = pyarrow.chunked_array(
            [pyarrow.array(chunk.to_pylist(), type=plain) for chunk in column.chunks], type=plain
        )
    kind = None
    if types.is_string(plain) or types.is_large_string(plain) or types.is_string_view(plain):
        kind = ColumnType.TAG if is_dictionary else ColumnType.STRING
    elif types.is_boolean(plain):
        kind = ColumnType.BOOLEAN
    elif types.is_signed_integer(plain):
        kind = ColumnType.INTEGER
    elif types.is_unsigned_integer(plain):
        kind = ColumnType.UNSIGNED
    elif types.is_floating(plain):
        kind = ColumnType.FLOAT
    elif types.is_timestamp(plain) or types.is_date(plain):
        kind = ColumnType.TIME
        column = column.cast(pyarrow.timestamp("ns", getattr(plain, "tz", None))).cast(pyarrow.int64())
    return _Column(name, str(plain), kind, column.to_pylist())
