"""The request of a run without a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

PATH = "/api/v3/engine/test"


@dataclass(frozen=True)
class FakeRequest:
    """What a plugin finds in `influxdb3_local.request`; see `tidemill.Request`."""

    method: str = "GET"
    path: str = PATH
    query_string: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        query: Mapping[str, str] | str,
        headers: Mapping[str, str] | None,
        has_body: bool,
        method: str | None,
    ) -> FakeRequest:
        """The request with these parameters (or query string) and headers; with a body it is a `POST`, if nothing else is said."""
        shown = [(name.lower(), value) for name, value in (headers or {}).items()]
        return cls(
            method=method or ("POST" if has_body else "GET"),
            query_string=query if isinstance(query, str) else urlencode(query),
            headers=[pair for pair in shown if pair[0] != "authorization"],
        )

    @property
    def query_parameters(self) -> dict[str, str]:
        """The decoded parameters, of equal names the last."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))
