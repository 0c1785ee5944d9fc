"""Parameters of queries, as the server converts them (`spec/engine.md` 0.1)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tidemill.interface import Parameter

_INTEGER_MIN = -(2**63)
_INTEGER_MAX = 2**64 - 1


def parameters(args: Mapping[str, Any] | None) -> dict[str, Parameter]:
    """The named parameters, as plain values. Raises `TypeError` and `OverflowError` with the server's texts."""
    return {_checked_name(name): _parameter(name, value) for name, value in (args or {}).items()}


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"query parameter names must be str, not {type(name).__name__}")
    return name


def _parameter(name: str, value: Any) -> Parameter:
    if value is None or isinstance(value, (str, bool, float, bytes, datetime)):
        return value
    if isinstance(value, bytearray):
        return bytes(value)
    # Scalars of NumPy and the like: integers have `__index__`, floats `__float__`, and `bool_` has neither.
    if hasattr(value, "__index__"):
        return _integer(name, value.__index__())
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    if hasattr(value, "__float__"):
        return float(value)
    raise TypeError(
        f"query parameter '{name}' has unsupported type {type(value).__name__}: "
        "use str, int, float, bool, None, bytes or datetime"
    )


def _integer(name: str, value: int) -> int:
    if not _INTEGER_MIN <= value <= _INTEGER_MAX:
        raise OverflowError(f"query parameter '{name}' does not fit 64 bits")
    return value
