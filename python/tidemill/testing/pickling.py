"""What leaves the process of a plugin is pickled, and has a `str` for a key."""

from __future__ import annotations

import pickle


def check_key(key: object) -> None:
    """Raises `TypeError` for a key that is no `str`."""
    if not isinstance(key, str):
        raise TypeError(f"'{type(key).__name__}' object is not an instance of 'str'")


def pickled(key: str, value: object, needed_by: str, hint: str = "") -> bytes:
    """The pickled value. Raises `TypeError`, which names the key and who needs it, if that is not possible."""
    try:
        return pickle.dumps(value)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise TypeError(
            f"the value for '{key}' cannot be pickled, which the {needed_by} needs: {reason}{hint}"
        ) from error
