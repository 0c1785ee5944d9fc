"""`influxdb3_local.state` (`spec/engine.md` 0.29): values that are committed with a run, or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

from tidemill.interface import State
from tidemill.testing.failures import RunFailed
from tidemill.testing.pickling import check_key, pickled

_KEY_BYTES_MAX = 1024
_VALUE_BYTES_MAX = 8 << 20
_STATE_BYTES_MAX = 16 << 20


class FakeState(State):
    """Durable values of a trigger.

    Values are kept pickled, as they are on disk: what `get` returns is a copy, and what cannot be pickled is a `TypeError`.

    >>> state = FakeState({"seen": 3})
    >>> state.put("seen", 4)
    >>> state.discard()
    >>> state.get("seen")
    3
    """

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        """The state that earlier runs have committed."""
        self._current: dict[str, bytes] = {}
        self.begin()
        for key, value in (values or {}).items():
            self.put(key, value)
        self.commit()
        self.begin()

    def values(self) -> dict[str, Any]:
        """Copies of all values as they are now."""
        return {key: pickle.loads(value) for key, value in self._current.items()}

    def put(self, key: str, value: object) -> None:
        """See `tidemill.State`."""
        _check_key(key)
        kept = pickled(key, value, "state")
        if len(kept) > _VALUE_BYTES_MAX:
            raise ValueError(
                f"the value for '{key}' has {len(kept)} bytes when it is pickled, "
                f"and a value of the state has at most {_VALUE_BYTES_MAX}"
            )
        self._current[key] = kept
        self._changed()

    def get(self, key: str, default: Any = None) -> Any:
        """See `tidemill.State`."""
        _check_key(key)
        return pickle.loads(self._current[key]) if key in self._current else default

    def delete(self, key: str) -> bool:
        """See `tidemill.State`."""
        _check_key(key)
        found = self._current.pop(key, None) is not None
        self._changed()
        return found

    def begin(self) -> None:
        """Begins a run: until its end, changes are not durable."""
        self._is_in_run = True

    def check(self) -> None:
        """Raises `RunFailed` if the server would refuse to commit so much."""
        size = sum(len(key.encode()) + len(value) for key, value in self._current.items())
        if size > _STATE_BYTES_MAX:
            raise RunFailed(
                f"the state of the trigger would take {size} bytes, more than the {_STATE_BYTES_MAX} that it may"
            )

    def commit(self) -> None:
        """Makes the changes since the last commit durable, and ends the run."""
        self._is_in_run = False
        self._committed = dict(self._current)

    def discard(self) -> None:
        """Undoes the changes since the last commit, and ends the run."""
        self._is_in_run = False
        self._current = dict(self._committed)

    def _changed(self) -> None:
        """Commits a change that belongs to no run at once."""
        if self._is_in_run:
            return
        try:
            self.check()
        except RunFailed as refused:
            self.discard()
            raise Exception(str(refused)) from None
        self.commit()


def _check_key(key: str) -> None:
    check_key(key)
    size = len(key.encode())
    if not key:
        raise ValueError("a key of the state must not be empty")
    if key.startswith("\0"):
        raise ValueError("a key of the state must not begin with a NUL character")
    if size > _KEY_BYTES_MAX:
        raise ValueError(f"a key of the state has at most {_KEY_BYTES_MAX} bytes; this one has {size}")
