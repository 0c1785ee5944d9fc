"""The state of one machine, read from the tables of system_metrics and minute_stats."""

DEFAULT_SECONDS = 120
MINUTES_SHOWN = 10
ALERTS_SHOWN = 10


def newest_host(influxdb3_local):
    """The machine with the newest row, None where nothing was written yet."""
    rows = select(influxdb3_local, "SELECT host FROM memory ORDER BY time DESC LIMIT 1")
    return rows[0]["host"] if rows else None


def current_state(influxdb3_local, host, seconds):
    of_host = {"host": host or ""}
    # Only `seconds` goes into the text, and it is an int; what a client sent as text is a parameter.
    recent = f"host = $host AND time >= now() - INTERVAL '{int(seconds)} seconds'"

    def read(sql):
        return [with_milliseconds(row) for row in select(influxdb3_local, sql, of_host)]

    return {
        "host": host,
        "hosts": [row["host"] for row in select(influxdb3_local, "SELECT DISTINCT host FROM memory ORDER BY host")],
        "seconds": seconds,
        "cpu": read(f"SELECT time, usage_percent AS percent FROM cpu WHERE cpu = 'total' AND {recent} ORDER BY time"),
        "memory": read(f"SELECT time, used_percent AS percent FROM memory WHERE {recent} ORDER BY time"),
        "network": read(
            "SELECT time, sum(received_bytes_per_s) AS received_bytes_per_s, sum(sent_bytes_per_s) AS sent_bytes_per_s "
            f"FROM network WHERE interface <> 'lo' AND {recent} GROUP BY time ORDER BY time"
        ),
        "disks": read(
            "SELECT path, last_value(used_percent ORDER BY time) AS used_percent "
            f"FROM disk WHERE path IS NOT NULL AND {recent} GROUP BY path ORDER BY path"
        ),
        "minutes": read(
            'SELECT time, usage_percent_count AS "count", usage_percent_min AS "min", '
            'usage_percent_mean AS "mean", usage_percent_max AS "max" '
            f"FROM cpu_1m WHERE cpu = 'total' AND host = $host ORDER BY time DESC LIMIT {MINUTES_SHOWN}"
        ),
        "alerts": read(f"SELECT time, message FROM alerts WHERE host = $host ORDER BY time DESC LIMIT {ALERTS_SHOWN}"),
    }


def select(influxdb3_local, sql, parameters=None):
    """Rows of a query, none where the table does not exist yet."""
    try:
        return influxdb3_local.query(sql, parameters or {})
    except Exception as error:  # the server's QueryError cannot be imported, only recognised
        if "not found" in str(error):
            return []
        raise


def with_milliseconds(row):
    """`time` in nanoseconds does not fit a JavaScript number."""
    if "time" not in row:
        return row
    return {"time_ms": row["time"] // 1_000_000, **{key: value for key, value in row.items() if key != "time"}}
