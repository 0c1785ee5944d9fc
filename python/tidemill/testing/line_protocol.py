"""Lines as the database reads them (`spec/database.md` 3.5): parsed, comparable, and refused for the same reasons."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeAlias, TypeVar

FieldValue: TypeAlias = str | int | float | bool
"""A field's value; an unsigned one is an `UnsignedInt`."""

_T = TypeVar("_T")

_STRING_BYTES_MAX = 1024 * 1024
_EXCERPT_BYTES_MAX = 256
_RESERVED = "__chunk_order"

_BOOLEAN = re.compile("(?P<true>true|True|TRUE|t|T)|false|False|FALSE|f|F")
_INTEGER = re.compile("(?P<number>-?[0-9]+)i")
_UNSIGNED = re.compile("(?P<number>[0-9]+)u")
_FLOAT = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TIME = re.compile("-?[0-9]+")
_STRING = re.compile(r'"(?P<text>[^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
# Whatever a backslash stands before, a pair is passed over together; a line break cannot be escaped.
_UP_TO_COMMA = re.compile(r"(?:\\[^\n]|[^\\\n, ])*\\?")
_UP_TO_EQUALS = re.compile(r"(?:\\[^\n]|[^\\\n,= ])*\\?")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class LineProtocolError(ValueError):
    """A line that the database refuses.

    `message` is the database's text, `line_number` counts from 1, `original_line` is the beginning of the line.
    """

    def __init__(self, line_number: int, message: str, original_line: str) -> None:
        super().__init__(f"line {line_number}: {message}: {original_line}")
        self.line_number = line_number
        self.message = message
        self.original_line = original_line


class UnsignedInt(int):
    """The value of an unsigned field: a number like any other, which remembers that it is written with a `u`."""


@dataclass(frozen=True, eq=False)
class Line:
    """A line of line protocol.

    Two lines are equal if the database stores the same for both: the order of tags and fields does not count, types do.

    >>> lines("cpu,host=a,rack=1 usage=1,n=2i 5") == lines("cpu,rack=1,host=a n=2i,usage=1.0 5")
    True
    >>> lines("cpu n=2i 5") == lines("cpu n=2u 5")
    False
    """

    table: str
    tags: Mapping[str, str]
    fields: Mapping[str, FieldValue]
    time: int | None = None
    """Nanoseconds since 1970 UTC; `None` where the line leaves it to the database."""

    def __str__(self) -> str:
        """The line in the one form that equal lines share."""
        tags = "".join(f",{_name(key)}={_name(value)}" for key, value in sorted(self.tags.items()))
        fields = ",".join(f"{_name(key)}={_field_text(value)}" for key, value in sorted(self.fields.items()))
        time = "" if self.time is None else f" {self.time}"
        return re.sub("[, ]", r"\\\g<0>", self.table) + f"{tags} {fields}{time}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, Line) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))


def lines(text: str) -> list[Line]:
    """The lines of a text. Raises `LineProtocolError` at the first that the database would refuse.

    >>> lines("cpu,host=web\\\\ 1 usage=12.5,n=3i,note=\\"hot\\" 1700000000000000000")[0].fields
    {'usage': 12.5, 'n': 3, 'note': 'hot'}
    """
    return _Parser(text).lines()


class _Refused(Exception):
    """Why the line in hand is refused."""


class _Parser:
    """Reads a text from `at` on."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def lines(self) -> list[Line]:
        found = []
        while self.at < len(self.text):
            indented = self.at
            self.skip(" \t")
            start = self.at
            if not self.is_line_end() and not self.next_is("#"):
                try:
                    found.append(self.line())
                except _Refused as refused:
                    line_number = self.text.count("\n", 0, start) + 1
                    original_line = _excerpt(self.text[indented : self.line_end(self.at)])
                    raise LineProtocolError(line_number, str(refused), original_line) from None
            self.at = self.text.find("\n", self.at) + 1 or len(self.text)
        return found

    def line(self) -> Line:
        raw = self.take(_UP_TO_COMMA)
        if not raw:
            raise _Refused("Invalid measurement was provided")
        table = _unescaped(raw, ", ")
        tags: dict[str, str] = {}
        while self.next_is(","):
            self.at += 1
            self.tag(tags)
        if not self.next_is(" "):
            raise _Refused("Expected at least one space character, got end of input")
        self.skip(" ")
        fields = self.fields(tags)
        return Line(table, tags, fields, self.time())

    def tag(self, tags: dict[str, str]) -> None:
        start = self.at
        raw = self.take(_UP_TO_EQUALS)
        if not raw:
            self.refuse_rest("Expected tag key, got ", start)
        key = _unescaped(raw, ",= ")
        if not self.next_is("="):
            self.refuse_rest("Tag set malformed: could not find equals sign in ", start)
        _check_column(key, "tag")
        self.at += 1
        raw = self.take(_UP_TO_COMMA)
        if not raw:
            self.refuse_rest("Expected tag value, got ", self.at)
        value = _unescaped(raw, ",= ")
        if key in tags:
            raise _Refused(f"invalid line protocol - multiple instances of '{_excerpt(key)}' tag found")
        tags[key] = value

    def fields(self, tags: Mapping[str, str]) -> dict[str, FieldValue]:
        fields: dict[str, FieldValue] = {}
        while True:
            start = self.at
            raw = self.take(_UP_TO_EQUALS)
            key = _unescaped(raw, ",= ")
            value = None
            if raw and self.next_is("="):
                self.at += 1
                value = self.value()
            if value is None:
                if not fields:
                    raise _Refused("No fields were provided")
                self.refuse_rest("Could not parse entire line. Found trailing content: ", start - 1)
            _check_column(key, _type_name(value))
            if key in fields:
                raise _Refused(f"invalid line protocol - multiple instances of '{_excerpt(key)}' field found")
            if key in tags:
                raise _Refused(_type_conflict(key, "tag", _type_name(value)))
            fields[key] = value
            if not self.next_is(","):
                return fields
            self.at += 1

    def value(self) -> FieldValue | None:
        """The longest value here; `None` if there is none."""
        if found := self.match(_STRING):
            return _checked(_unescape(found["text"], '"\\'))
        if found := self.match(_BOOLEAN):
            return found["true"] is not None
        if found := self.match(_INTEGER):
            return _number(int, found["number"], "integer", lambda value: -(2**63) <= value < 2**63)
        if found := self.match(_UNSIGNED):
            return _number(UnsignedInt, found["number"], "unsigned integer", lambda value: value < 2**64)
        if found := self.match(_FLOAT):
            return _number(float, found[0], "floating-point", lambda value: abs(value) != float("inf"))
        return None

    def time(self) -> int | None:
        """The rest of the line behind its fields."""
        trailing = "Could not parse entire line. Found trailing content: "
        fields_end = self.at
        self.skip(" ")
        if self.is_line_end():
            return None
        found = self.match(_TIME) if self.at > fields_end else None
        if not found:
            self.refuse_rest(trailing, fields_end)
        self.skip(" ")
        if not self.is_line_end():
            self.refuse_rest(trailing, self.at)
        return _number(int, found[0], "timestamp", lambda value: -(2**63) <= value < 2**63)

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def take(self, pattern: re.Pattern[str]) -> str:
        """A name or a tag value as it is written; the carriage return of a line end is no part of it."""
        found = pattern.match(self.text, self.at)
        raw = found[0] if found else ""
        self.at += len(raw)
        if raw.endswith("\r") and (self.at == len(self.text) or self.next_is("\n")):
            self.at -= 1
            return raw[:-1]
        return raw

    def skip(self, characters: str) -> None:
        while self.at < len(self.text) and self.text[self.at] in characters:
            self.at += 1

    def next_is(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def is_line_end(self) -> bool:
        return self.text[self.at : self.at + 2] in ("", "\r", "\r\n") or self.next_is("\n")

    def line_end(self, start: int) -> int:
        newline = self.text.find("\n", start)
        end = len(self.text) if newline < 0 else newline
        return end - 1 if end > start and self.text[end - 1] == "\r" else end

    def refuse_rest(self, message: str, start: int) -> NoReturn:
        rest = self.text[start : self.line_end(start)]
        raise _Refused(message + (f"`{_excerpt(rest)}`" if rest else "end of input"))


def _unescaped(raw: str, escapable: str) -> str:
    """The name or tag value that `raw` spells."""
    if raw.endswith("\\"):
        raise _Refused("Measurements, tag keys and values, and field keys may not end with a backslash")
    return _checked(_unescape(raw, escapable))


def _unescape(raw: str, escapable: str) -> str:
    return _ESCAPED.sub(lambda pair: pair[1] if pair[1] in escapable else pair[0], raw)


def _checked(text: str) -> str:
    if len(text.encode()) > _STRING_BYTES_MAX:
        raise _Refused("String is greater than 1MB")
    return text


def _number(kind: Callable[[str], _T], text: str, name: str, fits: Callable[[_T], bool]) -> _T:
    try:
        value = kind(text)
    except ValueError:  # more digits than Python converts
        value = None
    if value is None or not fits(value):
        raise _Refused(f"Unable to parse {name} value `{_excerpt(text)}`")
    return value


def _check_column(key: str, type_name: str) -> None:
    if key == "time":
        raise _Refused(_type_conflict(key, "timestamp", type_name))
    if key == _RESERVED:
        raise _Refused(f"invalid line protocol - the column name '{key}' is reserved")


def _type_conflict(key: str, expected: str, got: str) -> str:
    return (
        f"invalid column type for column '{_excerpt(key)}', "
        f"expected iox::column_type::{expected}, got iox::column_type::{got}"
    )


def _type_name(value: FieldValue) -> str:
    for kind, name in (
        (bool, "boolean"),
        (UnsignedInt, "uinteger"),
        (int, "integer"),
        (float, "float"),
        (str, "string"),
    ):
        if isinstance(value, kind):
            return f"field::{name}"
    raise TypeError(f"{type(value).__name__} is no type of a field")


def _name(text: str) -> str:
    return re.sub("[,= ]", r"\\\g<0>", text)


def _field_text(value: FieldValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, UnsignedInt):
        return f"{int(value)}u"
    if isinstance(value, int):
        return f"{value}i"
    if isinstance(value, float):
        return repr(value)
    return '"' + re.sub(r'[\\"]', r"\\\g<0>", value) + '"'


def _excerpt(text: str) -> str:
    """The beginning of a text that may be long."""
    return text.encode()[:_EXCERPT_BYTES_MAX].decode(errors="ignore")
