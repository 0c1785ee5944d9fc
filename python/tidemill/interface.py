"""The types of everything that a plugin is given, and of what it may give back (`spec/engine.md` 2 and 3).

They are protocols: the server's own objects and those of `tidemill.testing` both satisfy them. The server's module of this
name has them too, made from this file when a plugin first asks for one, which takes some milliseconds. A plugin that
needs them for its type checker only saves even these:

    from __future__ import annotations
    from typing import TYPE_CHECKING

    if TYPE_CHECKING:
        from tidemill import Arguments, PluginApi, TableBatch
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias, overload

__all__ = [
    "Answer",
    "Arguments",
    "ArrowStream",
    "ArrowTable",
    "Body",
    "Buildable",
    "Cache",
    "Headers",
    "Parameter",
    "PluginApi",
    "ProcessRequest",
    "ProcessScheduledCall",
    "ProcessWrites",
    "Request",
    "ResponseObject",
    "Row",
    "State",
    "TableBatch",
    "Writable",
]

Arguments: TypeAlias = dict[str, str] | None
"""The trigger's arguments; `None` where it has none."""

Row: TypeAlias = dict[str, Any]
"""A row by column. Written rows have the columns that were written, rows of a query have all of them (`None` for a null).
`time` is an `int`: nanoseconds since 1970 UTC."""

Parameter: TypeAlias = str | int | float | bool | bytes | datetime | None
"""The value of a `$name` in a query. A naive `datetime` is UTC."""


class Buildable(Protocol):
    """Lines to write: `LineBuilder`, or anything else whose `build()` gives line protocol."""

    def build(self) -> str:
        """One or more lines of line protocol, separated by line ends."""


class ArrowStream(Protocol):
    """A table with the Arrow PyCapsule interface: `pyarrow.Table`, `polars.DataFrame`, `pandas.DataFrame`, a result of duckdb,
    what `query_arrow` and `to_arrow` give."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


Writable: TypeAlias = str | Buildable | ArrowStream | Sequence[str | Buildable]
"""What can be written: line protocol, a builder, a list or tuple of those, or an Arrow table."""


class ArrowTable(ArrowStream, Protocol):
    """A table that `pyarrow.table(it)`, `polars.DataFrame(it)`, `pandas.DataFrame.from_arrow(it)` and others read without a
    copy."""

    def __arrow_c_schema__(self) -> object: ...

    def rows(self) -> list[Row]:
        """The rows, with every column."""

    def __len__(self) -> int:
        """The number of rows."""


class TableBatch(dict[str, Any]):
    """What was written to one table: `{"table_name": str, "rows": list[Row]}`, with `to_arrow()` beside."""

    @overload
    def __getitem__(self, key: Literal["table_name"], /) -> str: ...
    @overload
    def __getitem__(self, key: Literal["rows"], /) -> list[Row]: ...
    @overload
    def __getitem__(self, key: str, /) -> Any: ...
    def __getitem__(self, key: str, /) -> Any:
        return super().__getitem__(key)

    def to_arrow(self) -> ArrowTable:
        """The rows as an Arrow table."""
        raise NotImplementedError


class Cache(Protocol):
    """Values that are kept between runs, in memory.

    The trigger's own namespace holds references to live objects. The global one (`use_global=True`) is shared by all triggers,
    so its values are pickled: what comes back is a copy, and what cannot be pickled is a `TypeError`.
    """

    def put(self, key: str, value: object, ttl: float | None = None, use_global: bool | None = None) -> None:
        """Keeps a value for `ttl` seconds, or for ever. Raises `ValueError` for a time that is negative or too large."""

    def get(self, key: str, default: Any = None, use_global: bool | None = None) -> Any:
        """The value, or `default` where there is none or it has expired."""

    def delete(self, key: str, use_global: bool | None = None) -> bool:
        """Removes a value; tells whether there was one."""


class State(Protocol):
    """The trigger's values that survive a restart.

    What a run changes is committed with its writes, and lost if it fails; the run itself sees it at once. Changes by the plugin's
    own threads between runs are committed at once. Values are pickled, so a copy comes back. A key has 1 to 1,024 bytes, a pickled
    value up to 8 MiB, all values of a trigger together up to 16 MiB.
    """

    def put(self, key: str, value: object) -> None:
        """Keeps a value. Raises `TypeError` for one that cannot be pickled, `ValueError` for one that is too large."""

    def get(self, key: str, default: Any = None) -> Any:
        """A copy of the value, or `default` where there is none."""

    def delete(self, key: str) -> bool:
        """Removes a value; tells whether there was one."""


class Request(Protocol):
    """The request that a run answers, as far as `process_request` is not passed it."""

    @property
    def method(self) -> str:
        """`GET`, `POST` and so on."""

    @property
    def path(self) -> str:
        """The path of the URL, `/api/v3/engine/…`."""

    @property
    def query_string(self) -> str:
        """What stands behind the question mark, as it came."""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All headers in order, names in lower case, without `authorization`; a repeated header is there repeatedly."""


class PluginApi(Protocol):
    """`influxdb3_local`: what a plugin can do in the database."""

    def info(self, *args: object) -> None:
        """Logs `str()` of the arguments, joined by spaces."""

    def warn(self, *args: object) -> None:
        """Logs `str()` of the arguments, joined by spaces."""

    def error(self, *args: object) -> None:
        """Logs `str()` of the arguments, joined by spaces."""

    def query(
        self, query: str, args: Mapping[str, Parameter] | None = None, database: str | None = None
    ) -> list[Row]:
        """Rows of a SQL query. `args` are the values of `$name`; `database` is the trigger's by default.

        Raises `QueryError` if the query fails, `TypeError` for a value that is no `Parameter`.
        """

    def query_arrow(
        self, query: str, args: Mapping[str, Parameter] | None = None, database: str | None = None
    ) -> ArrowTable:
        """The same as an Arrow table."""

    def write(
        self,
        line_builder: Writable,
        *,
        table: str | None = None,
        tags: Sequence[str] | None = None,
        time: str | None = "time",
    ) -> None:
        """Writes to the trigger's database when the run has succeeded; if it fails, nothing is written.

        The keyword arguments are for Arrow tables. `table` is the table to write to, which only a table from `to_arrow` knows by
        itself. `tags` are the columns that become tags, text or integers; without it those of dictionary-encoded text, as tags
        are in a result of `query_arrow` and categories are in pandas and polars. `time` is the column of the times: timestamps of
        any unit, dates, or integers of nanoseconds; `None` leaves the time to the database. All other columns are fields: integers,
        floats, booleans and text of any width, and timestamps as integers of nanoseconds.

        Nulls and empty tags are left out, and so are rows without a field and pandas' index if it has no name. Raises `ValueError`
        for what cannot be written: NaN and infinity, a row without a time, other types.
        """

    def write_to_db(
        self,
        db_name: str,
        line_builder: Writable,
        *,
        table: str | None = None,
        tags: Sequence[str] | None = None,
        time: str | None = "time",
    ) -> None:
        """Writes to a database, which need not exist yet, when the run has succeeded. See `write`."""

    def write_sync(
        self,
        line_builder: Writable,
        no_sync: bool,
        *,
        table: str | None = None,
        tags: Sequence[str] | None = None,
        time: str | None = "time",
    ) -> None:
        """Writes to the trigger's database now. Raises `Exception` if that fails; what was written stays if the run fails.

        Returns when the lines are durable, or with `no_sync=True` as soon as they are buffered. See `write`.
        """

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
        """Writes to a database, which need not exist yet, now. See `write` and `write_sync`."""

    @property
    def cache(self) -> Cache:
        """Values that are kept between runs, in memory."""

    @property
    def state(self) -> State:
        """Values that survive a restart."""

    @property
    def trigger_name(self) -> str:
        """The name of the trigger."""

    @property
    def database(self) -> str:
        """The database of the trigger."""

    @property
    def run_id(self) -> str:
        """Names the run; the same when the same work is tried again."""

    @property
    def request(self) -> Request | None:
        """The request that the run answers; `None` in runs of other kinds."""

    @property
    def args(self) -> Arguments:
        """The trigger's arguments, for `on_write(self, database, table_name, batch)`, which is not passed them."""


class ResponseObject(Protocol):
    """The response class of Flask or Werkzeug, or one that is like it."""

    status_code: int
    headers: Any

    def get_data(self) -> str | bytes: ...


Body: TypeAlias = str | bytes | dict[str, Any] | list[Any] | Iterable[Any] | AsyncIterable[Any]
"""What `process_request` returns: text, bytes, JSON, or an iterator of text and bytes, whose items are sent as they come."""

Headers: TypeAlias = dict[str, Any]
"""Header values by name; a list repeats the header."""

Answer: TypeAlias = (
    ResponseObject | Body | tuple[Any] | tuple[Any, int] | tuple[Any, Headers] | tuple[Any, int, Headers]
)
"""All that `process_request` may return: a body alone, or with a status, headers, or both (in this order)."""

ProcessWrites: TypeAlias = Callable[[PluginApi, list[TableBatch], Arguments], Awaitable[object] | object]
"""`process_writes(influxdb3_local, table_batches, args)`"""

ProcessScheduledCall: TypeAlias = Callable[[PluginApi, datetime, Arguments], Awaitable[object] | object]
"""`process_scheduled_call(influxdb3_local, call_time, args)`; `call_time` is naive, in UTC, with microseconds."""

ProcessRequest: TypeAlias = Callable[
    [PluginApi, dict[str, str], dict[str, str], bytes, Arguments], Awaitable[Answer] | Answer
]
"""`process_request(influxdb3_local, query_parameters, request_headers, request_body, args)`; header names are lower-case."""
