"""Tests a plugin without a server.

`run_writes`, `run_scheduled` and `run_request` run a plugin once and give what it has done; a `Trigger` runs it several times
and keeps its cache and state. `FakeLocal` is the `influxdb3_local` alone, for a plugin's helper functions.

It **is** the server's rules for calling a plugin, and for what becomes of what it does (`spec/engine.md` 2 and 3).
It **is not** a database: queries are answered by the test, and a written line is checked by itself, not against a table's schema.

Importing this module makes `LineBuilder` and its exceptions builtins, as they are in the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tidemill.testing.cache import FakeCache, GlobalCache
from tidemill.testing.clock import Clock
from tidemill.testing.failures import RunFailed, UnexpectedQuery
from tidemill.testing.fake_local import FakeLocal
from tidemill.testing.line_protocol import FieldValue, Line, LineProtocolError, UnsignedInt, lines
from tidemill.testing.plugin import Plugin, load_plugin, publish_builtins
from tidemill.testing.queries import Answers, Query, Rows
from tidemill.testing.recording import RecordedRun, Recording, RecordingError
from tidemill.testing.request import FakeRequest
from tidemill.testing.response import Response
from tidemill.testing.run import Run
from tidemill.testing.state import FakeState
from tidemill.testing.tables import FakeTableBatch, Written
from tidemill.testing.trigger import Trigger

__all__ = [
    "Answers",
    "Clock",
    "FakeCache",
    "FakeLocal",
    "FakeRequest",
    "FakeState",
    "FakeTableBatch",
    "FieldValue",
    "GlobalCache",
    "Line",
    "LineProtocolError",
    "Plugin",
    "Query",
    "RecordedRun",
    "Recording",
    "RecordingError",
    "Response",
    "Rows",
    "Run",
    "RunFailed",
    "Trigger",
    "UnexpectedQuery",
    "UnsignedInt",
    "Written",
    "lines",
    "load_plugin",
    "run_request",
    "run_scheduled",
    "run_writes",
]

publish_builtins()


def run_writes(
    plugin: Plugin,
    written: Written | RecordedRun,
    args: Mapping[str, str] | None = None,
    *,
    database: str = "test",
    queries: Answers | None = None,
    cache: Mapping[str, object] | None = None,
    state: Mapping[str, object] | None = None,
    clock: Clock | None = None,
    check: bool = True,
) -> Run:
    """Runs `process_writes` once. See `Trigger`, and `Trigger.run_writes`.

    >>> def process_writes(influxdb3_local, table_batches, args):
    ...     for batch in table_batches:
    ...         count = len(batch["rows"])
    ...         influxdb3_local.write(LineBuilder("counts").tag("of", batch["table_name"]).int64_field("rows", count))
    >>> run_writes(process_writes, "cpu usage=1 1\\ncpu usage=2 2").writes
    {'test': [<counts,of=cpu rows=2i>]}
    """
    trigger = Trigger(plugin, args, database=database, queries=queries, cache=cache, state=state, clock=clock)
    return trigger.run_writes(written, check=check)


def run_scheduled(
    plugin: Plugin,
    call_time: datetime | None = None,
    args: Mapping[str, str] | None = None,
    *,
    database: str = "test",
    queries: Answers | None = None,
    cache: Mapping[str, object] | None = None,
    state: Mapping[str, object] | None = None,
    clock: Clock | None = None,
    check: bool = True,
) -> Run:
    """Runs `process_scheduled_call` once. See `Trigger`, and `Trigger.run_scheduled`."""
    trigger = Trigger(plugin, args, database=database, queries=queries, cache=cache, state=state, clock=clock)
    return trigger.run_scheduled(call_time, check=check)


def run_request(
    plugin: Plugin,
    query_parameters: Mapping[str, str] | str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes | str = b"",
    args: Mapping[str, str] | None = None,
    *,
    database: str = "test",
    queries: Answers | None = None,
    cache: Mapping[str, object] | None = None,
    state: Mapping[str, object] | None = None,
    clock: Clock | None = None,
    method: str | None = None,
    check: bool = True,
) -> Run:
    """Runs `process_request` once. See `Trigger`, and `Trigger.run_request`."""
    trigger = Trigger(plugin, args, database=database, queries=queries, cache=cache, state=state, clock=clock)
    return trigger.run_request(query_parameters, headers, body, method=method, check=check)
