"""Recordings: what a trigger on writes was given, as `tidemill record trigger` saves it, to run plugins on.

A recording is a text file with one JSON object a line: what was recorded, then one run a line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from tidemill.interface import Row, TableBatch
from tidemill.testing.arrow import ColumnType
from tidemill.testing.clock import naive_utc
from tidemill.testing.tables import FakeTableBatch

_FORMAT = "tidemill-recording"
_VERSION = 1
_TYPES = {
    "tag": ColumnType.TAG,
    "float": ColumnType.FLOAT,
    "integer": ColumnType.INTEGER,
    "uinteger": ColumnType.UNSIGNED,
    "boolean": ColumnType.BOOLEAN,
    "string": ColumnType.STRING,
    "time": ColumnType.TIME,
}


class RecordingError(ValueError):
    """A file that is no recording, or is damaged. The text names the file and the line."""


@dataclass(frozen=True)
class RecordedRun:
    """What one run of the trigger was given."""

    run_id: str
    """The id that the run had, or would have had, in the server."""
    read_at: datetime
    """When the server read it; naive, in UTC."""
    row_count: int
    _tables: list[tuple[str, list[Row], dict[str, ColumnType]]]

    def table_batches(self) -> list[TableBatch]:
        """New objects for every call, so that a plugin may change them."""
        return [FakeTableBatch(name, rows, types) for name, rows, types in self._tables]


class Recording:
    """A recording in a file. Iterating over it reads the runs one by one, as often as you like.

    >>> import tempfile
    >>> file = tempfile.NamedTemporaryFile("w", suffix=".jsonl")
    >>> _ = file.write('{"format": "tidemill-recording", "version": 1, "database": "weather", "trigger_name": "alert",'
    ... ' "trigger_specification": "table:air", "plugin_filename": "alert.py", "trigger_arguments": {"limit": "30"}}\\n'
    ... '{"run_id": "w-1-1-0-1", "read_at": "2026-01-01T00:00:00Z", "tables": [{"table_name": "air", "batches": [{"columns":'
    ... ' [["room", "tag"], ["celsius", "float"], ["time", "time"]], "rows": [["oven", 91.5, 10], [null, 20.0, 11]]}]}]}\\n')
    >>> file.flush()
    >>> recording = Recording(file.name)
    >>> recording.trigger_name, recording.arguments
    ('alert', {'limit': '30'})
    >>> for run in recording:
    ...     run.table_batches()[0]["rows"]
    [{'room': 'oven', 'celsius': 91.5, 'time': 10}, {'celsius': 20.0, 'time': 11}]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens a recording. Raises `RecordingError` if the file is none, and `OSError` if it cannot be read."""
        self.path = os.fspath(path)
        head = next(self._objects(), (1, None))[1]
        if not isinstance(head, dict) or head.get("format") != _FORMAT:
            self._refuse(1, "this is no recording of `tidemill record trigger`")
        if head.get("version") != _VERSION:
            self._refuse(1, f"the recording has version {head.get('version')}, expected {_VERSION}")
        try:
            self.database: str = head["database"]
            self.trigger_name: str = head["trigger_name"]
            self.trigger_specification: str = head["trigger_specification"]
            self.plugin_filename: str = head["plugin_filename"]
            self.arguments: dict[str, str] | None = head["trigger_arguments"]
            """The arguments that the trigger had."""
        except KeyError as missing:
            self._refuse(1, f"the recording has no {missing}")

    def __iter__(self) -> Iterator[RecordedRun]:
        for number, line in self._objects():
            if number > 1:
                yield self._run(number, line)

    def _objects(self) -> Iterator[tuple[int, Any]]:
        with open(self.path, encoding="utf-8") as file:
            try:
                for number, line in enumerate(file, 1):
                    try:
                        yield number, json.loads(line)
                    except json.JSONDecodeError as error:
                        cut = "" if line.endswith("\n") else "; the file seems to be cut off"
                        self._refuse(number, f"not JSON: {error}{cut}")
            except UnicodeDecodeError as error:
                self._refuse(1, f"not a text file: {error}")

    def _run(self, number: int, line: Any) -> RecordedRun:
        try:
            tables = [_table(table) for table in line["tables"]]
            # Python 3.10 does not read the letter.
            read_at = naive_utc(datetime.fromisoformat(line["read_at"].replace("Z", "+00:00")))
            row_count = sum(len(rows) for _, rows, _ in tables)
            return RecordedRun(line["run_id"], read_at, row_count, tables)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._refuse(number, f"not a recorded run: {type(error).__name__}: {error}")

    def _refuse(self, number: int, reason: str) -> NoReturn:
        raise RecordingError(f"{self.path}, line {number}: {reason}") from None


def _table(table: Any) -> tuple[str, list[Row], dict[str, ColumnType]]:
    rows: list[Row] = []
    types: dict[str, ColumnType] = {}
    for batch in table["batches"]:
        columns = [(name, _TYPES[column_type]) for name, column_type in batch["columns"]]
        types.update(columns)
        for values in batch["rows"]:
            if len(values) != len(columns):
                raise ValueError(f"a row has {len(values)} values for {len(columns)} columns")
            rows.append(
                {
                    # JSON has no infinities; they are written as text.
                    name: float(value) if column_type is ColumnType.FLOAT else value
                    for (name, column_type), value in zip(columns, values)
                    if value is not None
                }
            )
    return table["table_name"], rows, types
