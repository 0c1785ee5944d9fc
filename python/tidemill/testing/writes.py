"""What a plugin writes: queued until its run succeeds, or at once (`spec/engine.md` 3.3 and 3.4)."""

from __future__ import annotations

from typing import Any

from tidemill.interface import Writable
from tidemill.testing.failures import RunFailed
from tidemill.testing.line_protocol import Line, LineProtocolError, lines

_DATABASE_NAME_BYTES_MAX = 511


class Writes:
    """The lines by database."""

    def __init__(self) -> None:
        self.written: dict[str, list[Line]] = {}
        """What is in the databases."""
        self._queued: dict[str, list[str]] = {}

    def with_queued(self) -> dict[str, list[Line]]:
        """What will be in the databases if the run succeeds. Raises `LineProtocolError` for a line that is refused."""
        together = {database: list(found) for database, found in self.written.items()}
        for database, text in self._queued_texts().items():
            together.setdefault(database, []).extend(lines(text))
        return together

    def queue(self, database: str, written: Writable) -> None:
        """Keeps lines for the end of the run."""
        if text := line_protocol(written):
            self._queued.setdefault(database, []).append(text)

    def write_now(self, database: str, written: Writable) -> None:
        """Writes lines, all or none. Raises `Exception` with the server's text."""
        try:
            found = _accepted(database, line_protocol(written))
        except _Refused as refused:
            # No class of our own: plugins that look at the type find this one in the server.
            raise Exception(f"error writing line protocol to {database}: {refused}") from refused
        self.written.setdefault(database, []).extend(found)

    def commit(self) -> None:
        """Writes what is queued, all or nothing. Raises `RunFailed` with the server's text."""
        accepted = {}
        for database, text in self._queued_texts().items():
            try:
                accepted[database] = _accepted(database, text)
            except _InvalidDatabaseName as refused:
                raise RunFailed(f"invalid database name: {database}") from refused
            except _Refused as refused:
                raise RunFailed(f"error writing back lines to {database}: {refused}") from refused
        for database, found in accepted.items():
            self.written.setdefault(database, []).extend(found)
        self._queued.clear()

    def discard(self) -> None:
        """Forgets what is queued."""
        self._queued.clear()

    def _queued_texts(self) -> dict[str, str]:
        return {database: "\n".join(texts) for database, texts in self._queued.items()}


def line_protocol(written: Writable) -> str:
    """Line protocol of what a plugin writes. Raises as the server does for what cannot be written."""
    elements = written if isinstance(written, (list, tuple)) else [written]
    return "\n".join(text for element in elements if (text := _text(element)))


def _text(element: Any) -> str:
    text = element if isinstance(element, str) else element.build()
    if not isinstance(text, str):
        raise TypeError(f"build() must return str, not {type(text).__name__}")
    text.encode()  # UTF-8 has no lone surrogates: a UnicodeEncodeError
    return text.removesuffix("\n")


class _Refused(Exception):
    """Why the database does not take the lines, in the server's words."""


class _InvalidDatabaseName(_Refused):
    """Why the database cannot have its name."""


def _accepted(database: str, text: str) -> list[Line]:
    """The lines that a database takes."""
    if reason := _why_invalid(database):
        raise _InvalidDatabaseName(f"invalid database name: {reason}")
    try:
        found = lines(text)
    except LineProtocolError as error:
        raise _Refused(f"Cannot write: line protocol parse failed: {error.message}") from error
    if not found:
        raise _Refused("Cannot write: incoming write was empty")
    return found


def _why_invalid(database: str) -> str | None:
    """What is wrong with a database's name, if anything is."""
    if not database:
        return "db name cannot be empty"
    if len(database.encode()) > _DATABASE_NAME_BYTES_MAX:
        return f"db name too long: max {_DATABASE_NAME_BYTES_MAX}"
    if not all(character.isalnum() or character in "/_-" for character in database):
        return (
            "invalid character in database or rp name: "
            "must be ASCII, containing only letters, numbers, underscores, or hyphens"
        )
    return None
