"""Serve the current state of the machines as JSON, and a page with live charts.

Entry point: process_request. Needs no packages. Shows what the plugins system_metrics
and minute_stats have written into the trigger's database.

    influxdb3 create trigger --database metrics --path live_status \\
        --trigger-spec "request:status" live_status

    GET /api/v3/engine/status              the state as JSON
    GET /api/v3/engine/status?view=page    the page, which asks for the JSON every second

Parameters of the request:

    host     only this machine; default: the one that was heard of last
    seconds  length of the history, 1 to 3600; default 120
    view     `json` (default) or `page`

The JSON, where a part that nothing was written for yet is an empty list:

    {"host": "web-1", "hosts": ["web-1"], "seconds": 120,
     "cpu":     [{"time_ms": 1767225600000, "percent": 12.5}, ...],
     "memory":  [{"time_ms": ..., "percent": ...}, ...],
     "network": [{"time_ms": ..., "received_bytes_per_s": ..., "sent_bytes_per_s": ...}, ...],
     "disks":   [{"path": "/", "used_percent": 41.2}, ...],
     "minutes": [{"time_ms": ..., "count": ..., "min": ..., "mean": ..., "max": ...}, ...],
     "alerts":  [{"time_ms": ..., "message": "..."}, ...]}
"""

from .page import PAGE
from .state import DEFAULT_SECONDS, current_state, newest_host

HTML = {"Content-Type": "text/html; charset=utf-8"}
SECONDS_MAX = 3600


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    view = query_parameters.get("view", "json")
    if view == "page":
        return PAGE, 200, HTML
    if view != "json":
        return {"error": "view must be json or page"}, 400
    try:
        seconds = history_seconds(query_parameters)
    except ValueError as error:
        return {"error": str(error)}, 400
    host = query_parameters.get("host") or newest_host(influxdb3_local)
    return current_state(influxdb3_local, host, seconds)


def history_seconds(query_parameters):
    text = query_parameters.get("seconds", str(DEFAULT_SECONDS))
    if not text.isdecimal() or not 1 <= int(text) <= SECONDS_MAX:
        raise ValueError(f"seconds must be a whole number from 1 to {SECONDS_MAX}")
    return int(text)
