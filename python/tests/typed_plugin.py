"""A plugin that uses all of the interface, for the type checker: `mypy --strict` accepts it as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tidemill import LineBuilder

if TYPE_CHECKING:
    from datetime import datetime

    from tidemill import (
        Answer,
        Arguments,
        PluginApi,
        ProcessRequest,
        ProcessScheduledCall,
        ProcessWrites,
        TableBatch,
    )


def process_writes(
    influxdb3_local: PluginApi, table_batches: list[TableBatch], args: Arguments = None
) -> None:
    for batch in table_batches:
        table: str = batch["table_name"]
        rows: list[dict[str, Any]] = batch["rows"]
        assert len(batch.to_arrow()) == len(rows)
        line = LineBuilder("seen").tag("table", table).int64_field("rows", len(rows))
        influxdb3_local.write(line)
        influxdb3_local.write_to_db("other", [line, line.build()])
        influxdb3_local.write_sync("seen n=1", no_sync=True)
        influxdb3_local.write_sync_to_db("other", (line,), False)
        influxdb3_local.write_to_db("copy", batch.to_arrow(), table=table, tags=["host"], time="time")


async def process_scheduled_call(
    influxdb3_local: PluginApi, call_time: datetime, args: Arguments = None
) -> None:
    rows = influxdb3_local.query("SELECT $a", {"a": call_time}, database="other")
    table = influxdb3_local.query_arrow("SELECT 1")
    seen: int = influxdb3_local.cache.get("seen", 0, use_global=True)
    influxdb3_local.cache.put("seen", seen + len(rows), ttl=1.5)
    influxdb3_local.state.put("seen", len(table))
    if influxdb3_local.cache.delete("gone") or influxdb3_local.state.delete("gone"):
        influxdb3_local.warn(influxdb3_local.trigger_name, influxdb3_local.database, influxdb3_local.run_id)


def process_request(
    influxdb3_local: PluginApi,
    query_parameters: dict[str, str],
    request_headers: dict[str, str],
    request_body: bytes,
    args: Arguments = None,
) -> Answer:
    def pieces() -> Iterator[str]:
        yield from query_parameters

    if request_body:
        return {"bytes": len(request_body)}, 201, {"X": "y"}
    if request_headers:
        return "headers", {"Content-Type": "text/plain"}
    return pieces() if query_parameters else ("nothing", 404)


if TYPE_CHECKING:
    writes: ProcessWrites = process_writes
    scheduled: ProcessScheduledCall = process_scheduled_call
    request: ProcessRequest = process_request
