"""`influxdb3_local.state` (`spec/engine.md` 0.29): values that are committed with a run, or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

from tidemill.interface import State
from tidemill.testing.pickling import check_key, pickled


class FakeState(State):
    """Durable values of a trigger.

    Values are kept pickled, as they are on disk: what `get` returns is a copy, and what cannot be pickled is a `TypeError`.
    """

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        """The state that earlier runs have committed."""
        self._current: dict[str, bytes] = {}
        for key, value in (values or {}).items():
            self.put(key, value)
        self.commit()

    def values(self) -> dict[str, Any]:
        """Copies of all values as they are now."""
        return {key: pickle.loads(value) for key, value in self._current.items()}

    def put(self, key: str, value: object) -> None:
        """See `tidemill.State`."""
        check_key(key)
        self._current[key] = pickled(key, value, "state")

    def get(self, key: str, default: Any = None) -> Any:
        """See `tidemill.State`."""
        check_key(key)
        return pickle.loads(self._current[key]) if key in self._current else default

    def delete(self, key: str) -> bool:
        """See `tidemill.State`."""
        check_key(key)
        return self._current.pop(key, None) is not None

    def commit(self) -> None:
        """Makes the changes since the last commit durable."""
        self._committed = dict(self._current)

    def discard(self) -> None:
        """Undoes the changes since the last commit."""
        self._current = dict(self._committed)
