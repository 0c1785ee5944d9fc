"""`influxdb3_local` without a server (`spec/engine.md` 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tidemill.interface import Arguments, ArrowTable, PluginApi, Request, Row, Writable
from tidemill.testing.cache import FakeCache
from tidemill.testing.failures import UnexpectedQuery
from tidemill.testing.line_protocol import Line
from tidemill.testing.parameters import parameters
from tidemill.testing.queries import Answers, Query, answer_rows, answer_table
from tidemill.testing.state import FakeState
from tidemill.testing.writes import Writes
from tidemill.testing.written_tables import TableKeywords, is_table, written_text


class FakeLocal(PluginApi):
    """The API object of one run, which notes what the plugin does with it.

    Give it to a helper function of a plugin that takes `influxdb3_local`; whole runs are what `Trigger` is for.

    >>> local = FakeLocal(database="metrics")
    >>> local.info("seen", 3)
    >>> local.write("seen n=3i 5")
    >>> local.logs, local.writes
    (['INFO: seen 3'], {'metrics': [<seen n=3i 5>]})
    """

    def __init__(
        self,
        *,
        database: str = "test",
        trigger_name: str = "test",
        run_id: str = "run-1",
        args: Mapping[str, str] | None = None,
        queries: Answers | None = None,
        cache: FakeCache | None = None,
        state: FakeState | None = None,
        request: Request | None = None,
    ) -> None:
        """The API object of a trigger in `database`, which answers queries from `queries`."""
        self.logs: list[str] = []
        """Logged lines, as the server's test commands show them: `INFO: …`, `WARN: …`, `ERROR: …`."""
        self.queries: list[Query] = []
        """The queries that were asked."""
        self.unexpected: UnexpectedQuery | None = None
        """The first query that had no answer; kept, since plugins catch what a query raises."""
        self._database = database
        self._trigger_name = trigger_name
        self._run_id = run_id
        self._args = None if args is None else dict(args)
        self._answers = queries
        self._cache = cache or FakeCache()
        self._state = FakeState() if state is None else state
        self._state.begin()
        self._request = request
        self._writes = Writes()
        self._is_open = True

    @property
    def writes(self) -> dict[str, list[Line]]:
        """The lines by database: what was written at once, then what is to be written when the run succeeds.

        Raises `LineProtocolError` for a queued line that the database would refuse.
        """
        return self._writes.with_queued()

    def commit(self) -> None:
        """Ends the run as one that succeeded. Raises `RunFailed` if what it wrote is refused; nothing is written then."""
        self._state.check()
        self._writes.commit()
        self._state.commit()
        self._is_open = False

    def discard(self) -> None:
        """Ends the run as one that failed: what it queued, and what it changed in its state, is gone."""
        self._writes.discard()
        self._state.discard()
        self._is_open = False

    def info(self, *args: object) -> None:
        """See `tidemill.PluginApi`."""
        self._log("INFO", args)

    def warn(self, *args: object) -> None:
        """See `tidemill.PluginApi`."""
        self._log("WARN", args)

    def error(self, *args: object) -> None:
        """See `tidemill.PluginApi`."""
        self._log("ERROR", args)

    def query(
        self, query: str, args: Mapping[str, Any] | None = None, database: str | None = None
    ) -> list[Row]:
        """See `tidemill.PluginApi`."""
        asked = self._ask(query, args, database)
        with self._noticing_the_unexpected():
            return answer_rows(asked, self._answers)

    def query_arrow(
        self, query: str, args: Mapping[str, Any] | None = None, database: str | None = None
    ) -> ArrowTable:
        """See `tidemill.PluginApi`. Reading the table, other than by its `rows()`, needs pyarrow.

        Texts of an answer are tags only where the test answers with line protocol.
        """
        asked = self._ask(query, args, database)
        with self._noticing_the_unexpected():
            return answer_table(asked, self._answers)

    def write(
        self,
        line_builder: Writable,
        *,
        table: str | None = None,
        tags: Sequence[str] | None = None,
        time: str | None = "time",
    ) -> None:
        """See `tidemill.PluginApi`. Writing a table of another package needs pyarrow."""
        self.write_to_db(self._database, line_builder, table=table, tags=tags, time=time)

    def write_to_db(
        self,
        db_name: str,
        line_builder: Writable,
        *,
        table: str | None = None,
        tags: Sequence[str] | None = None,
        time: str | None = "time",
    ) -> None:
        """See `tidemill.PluginApi`."""
        text = written_text(line_builder, TableKeywords(table, tags, time))
        if self._is_open:
            self._writes.queue(db_name, text)
        else:
            # There is no run any more that the lines could be committed with.
            self._write_now(db_name, line_builder, text)

    def write_sync(
        self,
        line_builder: Writable,
        no_sync: bool,
        *,
        table: str | None = None,
        tags: Sequence[str] | None = None,
        time: str | None = "time",
    ) -> None:
        """See `tidemill.PluginApi`."""
        self.write_sync_to_db(self._database, line_builder, no_sync, table=table, tags=tags, time=time)

    def write_sync_to_db(
        self,
        db_name: str,
        line_builder: Writable,
        no_sync: bool,
        *,
        table: str | None = None,
        tags: Sequence[str] | None = None,
        time: str | None = "time",
    ) -> None:
        """See `tidemill.PluginApi`."""
        if type(no_sync).__name__ not in ("bool", "bool_"):
            raise TypeError(f"'{type(no_sync).__name__}' object is not an instance of 'bool'")
        text = written_text(line_builder, TableKeywords(table, tags, time))
        self._write_now(db_name, line_builder, text)

    @property
    def cache(self) -> FakeCache:
        """See `tidemill.PluginApi`."""
        return self._cache

    @property
    def state(self) -> FakeState:
        """See `tidemill.PluginApi`."""
        return self._state

    @property
    def trigger_name(self) -> str:
        """See `tidemill.PluginApi`."""
        return self._trigger_name

    @property
    def database(self) -> str:
        """See `tidemill.PluginApi`."""
        return self._database

    @property
    def run_id(self) -> str:
        """See `tidemill.PluginApi`."""
        return self._run_id

    @property
    def request(self) -> Request | None:
        """See `tidemill.PluginApi`."""
        return self._request

    @property
    def args(self) -> Arguments:
        """See `tidemill.PluginApi`."""
        return self._args

    def _ask(self, query: str, args: Mapping[str, Any] | None, database: str | None) -> Query:
        asked = Query(query, parameters(args), self._database if database is None else database)
        self.queries.append(asked)
        return asked

    @contextmanager
    def _noticing_the_unexpected(self) -> Iterator[None]:
        try:
            yield
        except UnexpectedQuery as unexpected:
            if self.unexpected is None:
                self.unexpected = unexpected
            raise

    def _write_now(self, db_name: str, written: Writable, text: str) -> None:
        if text or not is_table(written):
            self._writes.write_now(db_name, text)

    def _log(self, level: str, args: tuple[object, ...]) -> None:
        self.logs.append(f"{level}: {' '.join(map(str, args))}")
