"""What `process_request` may return, as an HTTP answer (`spec/engine.md` 2.6 and 2.7, and 0.27).

The forms are tried in the order of the specification. What the server streams is joined here; an iterator that fails in the
middle fails its run, which in the server breaks the connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tidemill.testing.awaiting import EventLoop
from tidemill.testing.failures import RunFailed

_HTML = "text/html"
_JSON = "application/json"
_TEXT = "text/plain"
_BINARY = "application/octet-stream"

_STATUSES = range(200, 600)
_NAME = re.compile(r"[0-9A-Za-z!#$%&'*+\-.^_`|~]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_STATUS_MAX = 2**16 - 1


@dataclass(frozen=True)
class Response:
    """A complete answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body, parsed as JSON."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first header of this name, whatever its case."""
        values = (value for given, value in self.headers if given.lower() == name.lower())
        return next(values, None)


def response(returned: Any, loop: EventLoop) -> Response:
    """The answer that a return value stands for. Raises `RunFailed`, or what Python does, for one that is none."""
    if isinstance(returned, tuple) and 1 <= len(returned) <= 3:
        return _of_tuple(returned, loop)
    found = _of_object(returned)
    if found is not None:
        return found
    body = _plain_body(returned) or _iterated_body(returned, loop)
    if body is None:
        raise RunFailed("Unsupported return type from Python function")
    return body.with_status(200)


def failure(text: str) -> Response:
    """The answer for a run that failed."""
    body = json.dumps({"error": text}, separators=(",", ":"), ensure_ascii=False)
    return Response(500, [("Content-Type", _JSON)], body.encode(errors="replace"))


@dataclass(frozen=True)
class _TypedBody:
    """A body with the content type that it has by itself."""

    content_type: str
    content: bytes

    def with_status(self, status: int) -> Response:
        return Response(status, [("Content-Type", self.content_type)], self.content)


def _of_tuple(returned: tuple[Any, ...], loop: EventLoop) -> Response:
    status: int | None = None
    explicit: list[tuple[str, str]] = []
    if len(returned) > 1:
        if hasattr(returned[1], "__index__"):
            status = _checked_status(returned[1].__index__())
        elif isinstance(returned[1], dict):
            explicit += _headers(returned[1])
    if len(returned) > 2:
        if not isinstance(returned[2], dict):
            raise RunFailed("expected a dictionary in header item")
        explicit += _headers(returned[2])
    answer = _of_object(returned[0]) or _element_body(returned[0], loop).with_status(200)
    status = answer.status if status is None else status
    named = {name.lower() for name, _ in explicit}
    by_default = [(name, value) for name, value in answer.headers if name.lower() not in named]
    return Response(status, by_default + explicit, answer.body)


def _of_object(returned: Any) -> Response | None:
    """Response objects: those that say so (`__flask_response__`), and those of Flask and Werkzeug."""
    if type(returned) in (dict, str, list):
        return None
    marker = getattr(returned, "__flask_response__", None)
    if marker is None or marker() is not True:
        if not all(hasattr(returned, name) for name in ("status_code", "headers", "get_data")):
            return None
    status = _checked_status(returned.status_code)
    if marker is None and getattr(returned, "is_streamed", None) is True:
        # Werkzeug's response of a generator or a file, which does not know its length.
        data = b"".join(returned.iter_encoded())
        returned.close()
    else:
        data = returned.get_data()
    if not isinstance(data, (str, bytes)):
        raise TypeError(f"'{type(data).__name__}' object is not an instance of 'bytes'")
    body = data.encode() if isinstance(data, str) else data
    return Response(status, _headers(returned.headers), body)


def _element_body(element: Any, loop: EventLoop) -> _TypedBody:
    """The body of a tuple: everything has a text, and iterators have items."""
    body = _plain_body(element)
    if body is None and (hasattr(element, "__next__") or hasattr(element, "__anext__")):
        body = _iterated_body(element, loop)
    return body or _TypedBody(_TEXT, str(element).encode())


def _plain_body(value: Any) -> _TypedBody | None:
    """What is a body wherever it stands."""
    if isinstance(value, str):
        return _TypedBody(_HTML, value.encode())
    if isinstance(value, (dict, list)):
        return _TypedBody(_JSON, json.dumps(value).encode())
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _TypedBody(_BINARY, bytes(value))
    return None


def _iterated_body(value: Any, loop: EventLoop) -> _TypedBody | None:
    """The joined items of anything that can be iterated; items that are neither text nor bytes are left out."""
    if hasattr(value, "__aiter__"):
        items: Iterable[Any] = loop.collected(value)
    elif hasattr(value, "__iter__"):
        items = value
    else:
        return None
    pieces = (item.encode() if isinstance(item, str) else item for item in items)
    kept = [bytes(piece) for piece in pieces if isinstance(piece, (bytes, bytearray, memoryview))]
    return _TypedBody(_HTML, b"".join(kept))


def _checked_status(status: int) -> int:
    if not 0 <= status <= _STATUS_MAX:
        raise OverflowError("out of range integral type conversion attempted")
    if status not in _STATUSES:
        raise ValueError(f"{status} is not an HTTP status")
    return status


def _headers(headers: Any) -> list[tuple[str, str]]:
    """Headers of a `dict` or of Werkzeug's multi-dictionary; a list as value repeats the header."""
    pairs = [
        (str(name), str(one))
        for name, value in headers.items()
        for one in (value if isinstance(value, (list, tuple)) else [value])
    ]
    for name, text in pairs:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{_quoted(name)} cannot be the name of a header")
        if _CONTROL.search(text):
            raise ValueError(
                f"the value of header {name} has characters that a header cannot carry: {_quoted(text)}"
            )
    return pairs


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
