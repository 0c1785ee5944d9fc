"""Awaits what plugins return, on an event loop that is kept from run to run, as in the server."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterable
from typing import Any


class EventLoop:
    """A loop that is made when it is first needed, and closed when nobody needs it any more."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def awaited(self, returned: Any) -> Any:
        """The value itself, or what it gives when it is awaited (`async def`)."""
        return self._run(returned) if hasattr(returned, "__await__") else returned

    def collected(self, items: AsyncIterable[Any]) -> list[Any]:
        """The items of an asynchronous iterator."""

        async def collect() -> list[Any]:
            return [item async for item in items]

        found: list[Any] = self._run(collect())
        return found

    def _run(self, awaitable: Any) -> Any:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            weakref.finalize(self, self._loop.close)
        return self._loop.run_until_complete(awaitable)
