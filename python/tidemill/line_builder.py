"""`LineBuilder`: one line of line protocol, piece by piece (`spec/engine.md` 4).

The server has a native class of this name that behaves the same, to the letter; `tests/test_line_builder.py` holds the vectors
that both are tested with.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tidemill.exceptions import InvalidKeyError, InvalidLineError, InvalidMeasurementError

if TYPE_CHECKING:
    # Type checkers know this module without it being installed.
    from typing_extensions import Self

_FORBIDDEN_IN_KEYS = ((" ", "spaces"), (",", "commas"), ("=", "equals signs"))
_MEASUREMENT_ESCAPES = re.compile("[, ]")
_NAME_ESCAPES = re.compile(r"[\\,= ]")
_STRING_ESCAPES = re.compile(r'[\\"]')


class LineBuilder:
    """Builds one line of line protocol. All setters return the builder.

    Tags and fields keep the order in which they were first set; setting one again replaces its value in place.

    >>> LineBuilder("cpu").tag("host", "web 1").float64_field("usage", 12.5).time_ns(1_700_000_000_000_000_000).build()
    'cpu,host=web\\\\ 1 usage=12.5 1700000000000000000'

    Line breaks are never escaped. A tag value that is empty, or ends with a backslash, makes a line that the database rejects.
    """

    __slots__ = ("_fields", "_measurement", "_tags", "_timestamp")

    def __init__(self, measurement: str) -> None:
        """Begins a line of `measurement`. Raises `InvalidMeasurementError` if it contains a space."""
        _check_text(measurement)
        if " " in measurement:
            raise InvalidMeasurementError("Measurement name cannot contain spaces")
        self._measurement = measurement
        self._tags: dict[str, str] = {}
        self._fields: dict[str, str] = {}
        self._timestamp: str | None = None

    @property
    def measurement(self) -> str:
        """The measurement, unescaped."""
        return self._measurement

    @property
    def tags(self) -> dict[str, str]:
        """The tags, unescaped, in their order. A copy: changing it does not change the line."""
        return dict(self._tags)

    @property
    def fields(self) -> dict[str, str]:
        """The fields in their order, as line protocol. A copy: changing it does not change the line."""
        return dict(self._fields)

    @property
    def _timestamp_ns(self) -> int | str | None:
        """The time in nanoseconds, `None` if it is not set, and the text itself if it is no 64-bit integer."""
        if self._timestamp is not None and re.fullmatch("[+-]?[0-9]+", self._timestamp):
            number = int(self._timestamp)
            if -(2**63) <= number < 2**63:
                return number
        return self._timestamp

    def tag(self, key: str, value: object) -> Self:
        """Sets a tag to `str(value)`. Like all setters with a key, raises `InvalidKeyError` for one that is not allowed."""
        _check_text(key)
        text = str(value)
        _check_text(text)
        _check_key("tag", key)
        self._tags[key] = text
        return self

    def int64_field(self, key: str, value: object) -> Self:
        """Sets a signed integer field to `f"{value}i"`."""
        return self._field(key, f"{value}i")

    def uint64_field(self, key: str, value: Any) -> Self:
        """Sets an unsigned integer field to `f"{value}u"`. Raises `ValueError` for a negative value."""
        is_negative = value < 0
        text = f"{value}u"
        _check_field_key(key)
        if is_negative:
            raise ValueError(f"uint64 field '{key}' cannot be negative")
        return self._field(key, text)

    def float64_field(self, key: str, value: Any) -> Self:
        """Sets a float field: `f"{int(value)}.0"` for a whole number, else `str(value)`."""
        return self._field(key, f"{int(value)}.0" if value % 1 == 0 else str(value))

    def string_field(self, key: str, value: str) -> Self:
        """Sets a string field."""
        value.replace  # noqa: B018 (what has none is no string: an AttributeError, as Python words it)
        _check_text(value)
        return self._field(key, f'"{_escape(_STRING_ESCAPES, value)}"')

    def bool_field(self, key: str, value: object) -> Self:
        """Sets a boolean field to whether the value is true."""
        return self._field(key, "t" if value else "f")

    def time_ns(self, timestamp_ns: object) -> Self:
        """Sets the time, in nanoseconds since 1970 UTC, to `str(timestamp_ns)`; `None` unsets it."""
        self._timestamp = None if timestamp_ns is None else str(timestamp_ns)
        return self

    def build(self) -> str:
        """The line, without a line end. Raises `InvalidLineError` if it has no field."""
        tags = "".join(f",{key}={_escape(_NAME_ESCAPES, value)}" for key, value in self._tags.items())
        series = _escape(_MEASUREMENT_ESCAPES, self._measurement) + tags
        if not self._fields:
            raise InvalidLineError(f"At least one field is required: {series}")
        fields = ",".join(f"{_escape(_NAME_ESCAPES, key)}={value}" for key, value in self._fields.items())
        time = "" if self._timestamp is None else f" {self._timestamp}"
        return f"{series} {fields}{time}"

    def __copy__(self) -> LineBuilder:
        copy = LineBuilder(self._measurement)
        copy._tags = self.tags
        copy._fields = self.fields
        copy._timestamp = self._timestamp
        return copy

    def __deepcopy__(self, memo: object) -> LineBuilder:
        return self.__copy__()

    def _field(self, key: str, text: str) -> Self:
        _check_field_key(key)
        _check_text(text)
        self._fields[key] = text
        return self


def _check_text(value: object) -> None:
    """Refuses what is no string, and lone surrogates (`UnicodeEncodeError`), which UTF-8 cannot carry to the database."""
    if not isinstance(value, str):
        raise TypeError(f"'{type(value).__name__}' object is not an instance of 'str'")
    value.encode()


def _check_field_key(key: str) -> None:
    _check_text(key)
    _check_key("field", key)


def _check_key(kind: str, key: str) -> None:
    if not key:
        raise InvalidKeyError(f"{kind} key cannot be empty")
    for character, plural in _FORBIDDEN_IN_KEYS:
        if character in key:
            raise InvalidKeyError(f"{kind} key '{key}' cannot contain {plural}")


def _escape(characters: re.Pattern[str], text: str) -> str:
    return characters.sub(r"\\\g<0>", text)
