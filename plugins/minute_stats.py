"""Derive per-minute statistics from whatever is written, and raise alerts.

Entry point: process_writes. Needs no packages.

    influxdb3 create trigger --database metrics --path minute_stats.py \\
        --trigger-spec "all_tables" \\
        --trigger-arguments "table=cpu,field=usage_percent,threshold=80" minute_stats

    --trigger-spec "table:cpu" looks at one table only.

Statistics. For every table T that is written, the table T_1m gets one row per minute
and series, with T's tags and, for every numeric field F of T, F_count, F_min, F_max
and F_mean. The time of the row is the beginning of the minute.

A batch only says *which* minutes have changed. Their statistics are then computed
from the database, which already shows the batch in hand, and written over the old
row. So late data, corrected points and a restart of the server need no special care,
and running twice on the same batch changes nothing.

Alerts. With the arguments

    threshold  a number
    field      the field that must not exceed it
    table      the table to watch; default: every table that has the field

a row goes into the table `alerts` and a warning into the trigger's log when a series
rises above the threshold. It has to come back to the threshold, or below, before it
can raise the next alert. The row has the series' tags, the tags `source_table` and
`source_field`, the fields `value`, `threshold` and `message`, and the time of the
point that was too high.

This plugin skips the tables it writes (*_1m and `alerts`). Without that, a trigger on
`all_tables` would be fed with its own output, for ever.
"""

SUFFIX = "_1m"
ALERTS_TABLE = "alerts"
MINUTE_NS = 60 * 1_000_000_000
STATISTICS = {"count": "count", "min": "min", "max": "max", "mean": "avg"}
TAG_TYPE = "Dictionary(Int32, Utf8)"
SCHEMA_CACHE_SECONDS = 60


def process_writes(influxdb3_local, table_batches, args=None):
    alert = alert_rule(args or {})
    for batch in table_batches:
        table = batch["table_name"]
        if is_derived(table) or not is_buildable(table):
            continue
        rows = batch["rows"]
        tags = tag_names(influxdb3_local, table, rows)
        derive_minutes(influxdb3_local, table, rows, tags)
        if alert and alert["table"] in (None, table):
            raise_alerts(influxdb3_local, table, rows, tags, alert)


def is_derived(table):
    return table == ALERTS_TABLE or table.endswith(SUFFIX)


def is_buildable(name):
    """Names with these characters are legal in the database but refused by LineBuilder."""
    return not any(character in name for character in " ,=")


def tag_names(influxdb3_local, table, rows):
    """Which keys of the rows are tags. A tag and a text field are both `str` in a row; the schema knows."""
    key = f"tags of {table}"
    known = influxdb3_local.cache.get(key)
    keys = {name for row in rows for name in row}
    if known is None or not keys <= known["columns"]:
        columns = influxdb3_local.query(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = 'iox' AND table_name = $table",
            {"table": table},
        )
        known = {
            "columns": {column["column_name"] for column in columns},
            "tags": sorted(
                column["column_name"]
                for column in columns
                if column["data_type"] == TAG_TYPE and is_buildable(column["column_name"])
            ),
        }
        influxdb3_local.cache.put(key, known, ttl=SCHEMA_CACHE_SECONDS)
    return known["tags"]


# ---- statistics


def derive_minutes(influxdb3_local, table, rows, tags):
    fields = numeric_fields(rows)
    minutes = {row["time"] // MINUTE_NS * MINUTE_NS for row in rows}
    if not fields:
        return
    for found in influxdb3_local.query(minutes_sql(table, tags, fields, min(minutes), max(minutes))):
        if found["minute"] in minutes:
            line = minute_line(table, tags, fields, found)
            if line is not None:
                influxdb3_local.write(line)


def numeric_fields(rows):
    """Names of the fields with numbers; `bool` is a kind of `int` in Python and not meant."""
    return sorted(
        {
            key
            for row in rows
            for key, value in row.items()
            if key != "time" and isinstance(value, (int, float)) and not isinstance(value, bool)
            if is_buildable(key)
        }
    )


def minutes_sql(table, tags, fields, first_minute, last_minute):
    minute = "date_bin(INTERVAL '1 minute', time)"
    keys = [f"{minute} AS minute", *map(quoted, tags)]
    values = [
        f"{function}({quoted(field)}) AS {quoted(f'{field}_{name}')}"
        for field in fields
        for name, function in STATISTICS.items()
    ]
    return (
        f"SELECT {', '.join(keys + values)} FROM {quoted(table)} "
        f"WHERE time >= {timestamp(first_minute)} AND time < {timestamp(last_minute + MINUTE_NS)} "
        f"GROUP BY {', '.join([minute, *map(quoted, tags)])}"
    )


def quoted(identifier):
    escaped = identifier.replace('"', '""')
    return f'"{escaped}"'


def timestamp(time_ns):
    return f"to_timestamp_nanos({time_ns})"


def minute_line(table, tags, fields, found):
    """The derived row, or None where the series has no numbers in this minute."""
    line = LineBuilder(table + SUFFIX)  # noqa: F821 (provided by the server)
    add_tags(line, {tag: found[tag] for tag in tags})
    has_numbers = False
    for field in fields:
        count = found[f"{field}_count"]
        if not count:
            continue
        has_numbers = True
        line.int64_field(f"{field}_count", count)
        for name in ("min", "max", "mean"):
            line.float64_field(f"{field}_{name}", float(found[f"{field}_{name}"]))
    return line.time_ns(found["minute"]) if has_numbers else None


def add_tags(line, values):
    for tag, value in values.items():
        if value:  # a series need not have every tag
            line.tag(tag, value)


# ---- alerts


def alert_rule(args):
    """The rule from the trigger's arguments, None where there is none; half a rule is an error."""
    if "threshold" not in args and "field" not in args:
        return None
    if "threshold" not in args or "field" not in args:
        raise ValueError("an alert needs both arguments: field=NAME and threshold=NUMBER")
    try:
        threshold = float(args["threshold"])
    except ValueError:
        raise ValueError(f"the argument threshold is no number: {args['threshold']!r}") from None
    return {"field": args["field"], "threshold": threshold, "table": args.get("table")}


def raise_alerts(influxdb3_local, table, rows, tags, alert):
    field, threshold = alert["field"], alert["threshold"]
    key = f"series of {table} above the threshold"
    above = set(influxdb3_local.cache.get(key) or ())
    for row in rows:
        value = row.get(field)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        series = tuple((tag, row[tag]) for tag in tags if tag in row)
        if value <= threshold:
            above.discard(series)
        elif series not in above:
            above.add(series)
            raise_alert(influxdb3_local, table, series, row["time"], value, alert)
    influxdb3_local.cache.put(key, above)


def raise_alert(influxdb3_local, table, series, time_ns, value, alert):
    where = ", ".join(f"{tag}={tag_value}" for tag, tag_value in series) or "all"
    message = f"{table}.{alert['field']} is {value:g}, above {alert['threshold']:g} ({where})"
    line = LineBuilder(ALERTS_TABLE)  # noqa: F821 (provided by the server)
    line.tag("source_table", table).tag("source_field", alert["field"])
    add_tags(line, dict(series))
    line.float64_field("value", float(value))
    line.float64_field("threshold", alert["threshold"])
    line.string_field("message", message)
    influxdb3_local.write(line.time_ns(time_ns))
    influxdb3_local.warn(message)
