"""A trigger without a server: runs one plugin, again and again, and keeps between runs what the server keeps."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from types import ModuleType
from typing import Any

from tidemill.testing.awaiting import EventLoop
from tidemill.testing.cache import FakeCache, GlobalCache
from tidemill.testing.clock import Clock, naive_utc
from tidemill.testing.failures import RunFailed
from tidemill.testing.fake_local import FakeLocal
from tidemill.testing.plugin import Plugin, entry_point, load_plugin
from tidemill.testing.queries import Answers
from tidemill.testing.recording import RecordedRun
from tidemill.testing.request import FakeRequest
from tidemill.testing.response import Response, failure, response
from tidemill.testing.run import Run
from tidemill.testing.state import FakeState
from tidemill.testing.tables import Written, table_batches

_Call = Callable[[Callable[..., Any], FakeLocal, "dict[str, str] | None"], Any]


class Trigger:
    """A plugin with its arguments, database, cache, state and clock.

    Each `run_…` gives the `Run`. A run that fails raises what the plugin raised, or `RunFailed`; with `check=False` it is given
    like one that succeeded, with its `error`. What a failed run queued and what it changed in `state` is gone, as in the server.

    >>> def process_scheduled_call(influxdb3_local, call_time, args):
    ...     count = influxdb3_local.cache.get("count", 0) + 1
    ...     influxdb3_local.cache.put("count", count)
    >>> trigger = Trigger(process_scheduled_call)
    >>> trigger.run_scheduled().cache, trigger.run_scheduled().cache
    ({'count': 1}, {'count': 2})
    """

    def __init__(
        self,
        plugin: Plugin,
        args: Mapping[str, str] | None = None,
        *,
        database: str = "test",
        trigger_name: str = "test",
        queries: Answers | None = None,
        cache: Mapping[str, object] | None = None,
        state: Mapping[str, object] | None = None,
        clock: Clock | None = None,
        global_cache: GlobalCache | None = None,
    ) -> None:
        """A trigger for a plugin: a module, the path of its file or folder, which is loaded anew, or an entry point itself.

        `cache` and `state` are what earlier runs have left behind; `global_cache` may be shared by several triggers.
        """
        self.clock = clock or Clock()
        self.queries = queries
        """The answers to the plugin's queries; may be replaced between runs."""
        self._plugin = load_plugin(plugin) if isinstance(plugin, (str, os.PathLike)) else plugin
        self._args = args
        self._database = database
        self._trigger_name = trigger_name
        self._cache = FakeCache(cache, clock=self.clock, global_cache=global_cache)
        self._state = FakeState(state)
        self._loop = EventLoop()
        self._runs = 0

    @property
    def plugin(self) -> ModuleType | Callable[..., Any]:
        """The plugin's module, or its entry point."""
        return self._plugin

    def run_writes(self, written: Written | RecordedRun, *, check: bool = True) -> Run:
        """Runs `process_writes` for data that was written: line protocol, builders, rows by table, or a run of a `Recording`.

        Lines without a time get that of the clock. A recorded run keeps its `run_id`.
        """
        run_id: str | None = None
        if isinstance(written, RecordedRun):
            batches, run_id = written.table_batches(), written.run_id
        else:
            batches = table_batches(written, self.clock.now_ns)
        return self._run(
            "process_writes",
            lambda function, local, args: function(local, batches, args),
            check,
            run_id=run_id,
        )

    def run_scheduled(self, call_time: datetime | None = None, *, check: bool = True) -> Run:
        """Runs `process_scheduled_call` for an instant, by default that of the clock. A naive `datetime` is UTC."""
        moment = self.clock.now() if call_time is None else naive_utc(call_time)
        return self._run(
            "process_scheduled_call", lambda function, local, args: function(local, moment, args), check
        )

    def run_request(
        self,
        query_parameters: Mapping[str, str] | str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
        *,
        method: str | None = None,
        check: bool = True,
    ) -> Run:
        """Runs `process_request`; the answer is the run's `response`. The parameters may be a query string.

        The method is `POST` for a request with a body, else `GET`, unless another is given.
        """
        content = body.encode() if isinstance(body, str) else body
        request = FakeRequest.of(query_parameters, headers, bool(content), method)
        parameters, shown = request.query_parameters, dict(request.headers)
        return self._run(
            "process_request",
            lambda function, local, args: function(local, parameters, shown, content, args),
            check,
            request=request,
        )

    def _run(
        self,
        name: str,
        call: _Call,
        check: bool,
        *,
        request: FakeRequest | None = None,
        run_id: str | None = None,
    ) -> Run:
        local = self._new_local(request, run_id)
        answer: Response | None = None
        error: BaseException | None = None
        # What the plugin's function raises is reported in other words than what comes after it.
        is_called = False
        try:
            function = entry_point(self._plugin, name, self._loop)
            is_called = True
            returned = self._loop.awaited(call(function, local, self._new_args()))
            is_called = False
            if name == "process_request":
                answer = response(returned, self._loop)
            local.commit()
        except (Exception, SystemExit) as raised:
            local.discard()
            error = raised
            if name == "process_request":
                answer = failure(_failure_text(raised, is_called))
        error = local.unexpected if error is None else error
        if check and error is not None:
            raise error
        return Run(local, error, answer)

    def _new_local(self, request: FakeRequest | None, run_id: str | None) -> FakeLocal:
        self._runs += 1
        return FakeLocal(
            database=self._database,
            trigger_name=self._trigger_name,
            run_id=run_id or f"run-{self._runs}",
            args=self._args,
            queries=self.queries,
            cache=self._cache,
            state=self._state,
            request=request,
        )

    def _new_args(self) -> dict[str, str] | None:
        return None if self._args is None else dict(self._args)


def _failure_text(error: BaseException, by_function: bool) -> str:
    """What the server tells the client of a request (`spec/engine.md` 2.8)."""
    if isinstance(error, RunFailed):
        return str(error)
    text = f"{type(error).__qualname__}: {error}"
    return f"Python function call failed: {text}" if by_function else text
