"""`influxdb3_local.cache` (`spec/engine.md` 3.5 and 5.8)."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.interface import Cache
from tidemill.testing.clock import Clock
from tidemill.testing.pickling import check_key, pickled

_TTL_S_MAX = 2**63
_USE_OWN_CACHE = "; keep it in the trigger's own cache (use_global=False)"


@dataclass
class _Entry:
    value: Any
    expires_ns: int | None


class _Namespace:
    """Values with their times to live."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._entries: dict[str, _Entry] = {}

    def put(self, key: str, value: object, ttl: float | None) -> None:
        expires_ns = None if ttl is None else self.clock.now_ns + math.ceil(ttl * 1e9)
        self._entries[key] = _Entry(value, expires_ns)

    def find(self, key: str) -> _Entry | None:
        """The entry, unless it has expired."""
        entry = self._entries.get(key)
        if entry and entry.expires_ns is not None and entry.expires_ns <= self.clock.now_ns:
            del self._entries[key]
            return None
        return entry

    def delete(self, key: str) -> bool:
        found = self.find(key) is not None
        self._entries.pop(key, None)
        return found

    def values(self) -> dict[str, Any]:
        live = {key: self.find(key) for key in list(self._entries)}
        return {key: entry.value for key, entry in live.items() if entry}


class GlobalCache:
    """The namespace that all triggers share: give it to several `Trigger`s."""

    def __init__(self, clock: Clock | None = None) -> None:
        """An empty namespace, whose values expire by this clock."""
        self._pickles = _Namespace(clock or Clock())

    def values(self) -> dict[str, Any]:
        """Copies of all values that have not expired."""
        return {key: pickle.loads(value) for key, value in self._pickles.values().items()}

    def put(self, key: str, value: object, ttl: float | None = None) -> None:
        """Keeps a copy of a value, as `cache.put(…, use_global=True)` does."""
        self._pickles.put(key, pickled(key, value, "global cache", _USE_OWN_CACHE), ttl)

    def get(self, key: str, default: Any = None) -> Any:
        """A copy of the value, or `default`."""
        entry = self._pickles.find(key)
        return pickle.loads(entry.value) if entry else default

    def delete(self, key: str) -> bool:
        """Removes a value; tells whether there was one."""
        return self._pickles.delete(key)


class FakeCache(Cache):
    """A cache whose time is a test's.

    >>> clock = Clock()
    >>> cache = FakeCache({"seen": 3}, clock=clock)
    >>> cache.put("token", "secret", ttl=60)
    >>> clock.advance(60)
    >>> cache.get("token", "expired"), cache.get("seen")
    ('expired', 3)
    """

    def __init__(
        self,
        values: Mapping[str, object] | None = None,
        *,
        clock: Clock | None = None,
        global_cache: GlobalCache | None = None,
    ) -> None:
        """A cache whose own namespace holds `values`."""
        clock = clock or Clock()
        self._own = _Namespace(clock)
        self._global = global_cache or GlobalCache(clock)
        for key, value in (values or {}).items():
            self.put(key, value)

    def values(self) -> dict[str, Any]:
        """All values of the trigger's own namespace that have not expired."""
        return self._own.values()

    def put(self, key: str, value: object, ttl: float | None = None, use_global: bool | None = None) -> None:
        """See `tidemill.Cache`."""
        check_key(key)
        if ttl is not None:
            _check_ttl(ttl)
        if use_global:
            self._global.put(key, value, ttl)
        else:
            self._own.put(key, value, ttl)

    def get(self, key: str, default: Any = None, use_global: bool | None = None) -> Any:
        """See `tidemill.Cache`."""
        check_key(key)
        if use_global:
            return self._global.get(key, default)
        entry = self._own.find(key)
        return entry.value if entry else default

    def delete(self, key: str, use_global: bool | None = None) -> bool:
        """See `tidemill.Cache`."""
        check_key(key)
        return (self._global if use_global else self._own).delete(key)


def _check_ttl(ttl: float) -> None:
    # `0 <=` is false for a NaN too; an `int` may be too large to become a float.
    if not 0 <= ttl < _TTL_S_MAX:
        raise ValueError("ttl must be a number of seconds that is not negative and not too large")
