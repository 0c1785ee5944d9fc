"""What a run of a plugin has done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidemill.testing.fake_local import FakeLocal
from tidemill.testing.line_protocol import Line
from tidemill.testing.queries import Query
from tidemill.testing.response import Response


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    local: FakeLocal
    """The `influxdb3_local` of the run; what the plugin's own threads do with it later shows here too."""
    error: BaseException | None = None
    """Why the run failed; `None` if it succeeded."""
    response: Response | None = None
    """The answer to a request, also where the run failed."""

    @property
    def logs(self) -> list[str]:
        """Logged lines: `INFO: …`, `WARN: …`, `ERROR: …`."""
        return self.local.logs

    @property
    def writes(self) -> dict[str, list[Line]]:
        """The lines by database: what was written at once, then what was written when the run succeeded."""
        return self.local.writes

    @property
    def queries(self) -> list[Query]:
        """The queries that were asked."""
        return self.local.queries

    @property
    def cache(self) -> dict[str, Any]:
        """The live values of the trigger's cache, as they are now."""
        return self.local.cache.values()

    @property
    def state(self) -> dict[str, Any]:
        """Copies of the trigger's durable values, as they are now."""
        return self.local.state.values()
