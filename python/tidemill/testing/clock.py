"""The time that a test sets: nothing in the harness looks at the real one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1)
_NS_PER_S = 1_000_000_000


class Clock:
    """A clock that stands still until it is told otherwise.

    >>> clock = Clock(datetime(2026, 1, 1, 12))
    >>> clock.advance(1.5)
    >>> clock.now()
    datetime.datetime(2026, 1, 1, 12, 0, 1, 500000)
    >>> clock.now_ns
    1767268801500000000
    """

    def __init__(self, now: datetime = datetime(2026, 1, 1)) -> None:
        """A clock that shows `now`; a naive `datetime` is UTC."""
        self.now_ns = nanoseconds(now)
        """The time in nanoseconds since 1970 UTC; may be set."""

    def now(self) -> datetime:
        """The time as plugins are given it: naive, in UTC, with microseconds."""
        return _EPOCH + timedelta(microseconds=self.now_ns // 1_000)

    def advance(self, seconds: float) -> None:
        """Moves the clock forward."""
        self.now_ns += round(seconds * _NS_PER_S)


def naive_utc(moment: datetime) -> datetime:
    """The instant as plugins are given it. A naive `datetime` is UTC already."""
    return moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment


def nanoseconds(moment: datetime) -> int:
    """Nanoseconds since 1970 UTC. A naive `datetime` is UTC."""
    return (naive_utc(moment) - _EPOCH) // timedelta(microseconds=1) * 1_000
