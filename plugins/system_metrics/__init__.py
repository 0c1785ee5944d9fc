"""Sample this machine's CPU, memory, disks and network on a schedule.

Entry point: process_scheduled_call. Needs the package psutil.

    influxdb3 install package psutil
    influxdb3 create trigger --database metrics --path system_metrics \\
        --trigger-spec "every:1s" sample_system

Arguments (--trigger-arguments "host=web-1,exclude_tables=disk,network"):

    host            value of the tag `host`; default: this machine's name
    exclude_tables  tables to leave out, separated by commas or spaces

Tables. Every row of one run carries the scheduled instant as its time, so that
figures of different tables can be joined on it.

    cpu      tags host, cpu (`total`, `0`, `1`, ...)
             usage_percent and the share of every kind of CPU time (user_percent,
             system_percent, idle_percent, iowait_percent, ...) since the last run
    memory   tag host
             total_bytes, available_bytes, used_bytes, used_percent,
             swap_total_bytes, swap_used_bytes, swap_used_percent
    disk     space:  tags host, path
                     total_bytes, used_bytes, free_bytes, used_percent
             I/O:    tags host, device
                     read_bytes_per_s, written_bytes_per_s, reads_per_s, writes_per_s
    network  tags host, interface
             received_bytes_per_s, sent_bytes_per_s, received_packets_per_s,
             sent_packets_per_s, errors_per_s, dropped_per_s

The operating system counts CPU time, disk and network traffic since it started.
What a row shows is the difference to the counters of the run before, which the
trigger's cache keeps. The first run after a start therefore writes no such rows.
"""

import re
import socket
from datetime import datetime, timedelta

from . import readings
from .rates import cpu_shares, rates_per_second

TABLES = ("cpu", "memory", "disk", "network")
EPOCH = datetime(1970, 1, 1)


def process_scheduled_call(influxdb3_local, call_time, args=None):
    args = args or {}
    host = args.get("host") or socket.gethostname()
    wanted_tables = set(TABLES) - excluded_tables(args.get("exclude_tables", ""))

    counters = readings.counters()
    previous = influxdb3_local.cache.get("counters")
    influxdb3_local.cache.put("counters", counters)

    rows = []
    if "cpu" in wanted_tables and previous:
        rows += cpu_rows(previous, counters)
    if "memory" in wanted_tables:
        rows.append(("memory", {}, readings.memory()))
    if "disk" in wanted_tables:
        rows += [("disk", {"path": path}, space) for path, space in readings.disk_space().items()]
        if previous:
            rows += rate_rows("disk", "device", previous.disk_io, counters.disk_io, previous, counters)
    if "network" in wanted_tables and previous:
        rows += rate_rows("network", "interface", previous.network, counters.network, previous, counters)

    time_ns = (call_time - EPOCH) // timedelta(microseconds=1) * 1000
    for table, tags, fields in rows:
        influxdb3_local.write(line(table, {"host": host, **tags}, fields, time_ns))


def excluded_tables(text):
    """The set of table names in `text`; a name that is none of ours is an error."""
    names = {name for name in re.split(r"[,\s]+", text) if name}
    unknown = names - set(TABLES)
    if unknown:
        raise ValueError(
            f"exclude_tables names {', '.join(sorted(unknown))}; the tables are {', '.join(TABLES)}"
        )
    return names


def cpu_rows(previous, counters):
    """One row for the whole machine and one for every core."""
    for cpu, times in counters.cpu.items():
        shares = cpu_shares(previous.cpu.get(cpu), times)
        if shares:
            yield "cpu", {"cpu": cpu}, shares


def rate_rows(table, tag, counts_before, counts_now, previous, counters):
    """One row for every device or interface that was there in the run before."""
    seconds = counters.taken_at - previous.taken_at
    for name, counts in counts_now.items():
        rates = rates_per_second(counts_before.get(name), counts, seconds)
        if rates:
            yield table, {tag: name}, rates


def line(table, tags, fields, time_ns):
    """A LineBuilder (the server provides the class, it needs no import)."""
    builder = LineBuilder(table)  # noqa: F821
    for key, value in tags.items():
        builder.tag(key, value)
    for key, value in fields.items():
        if isinstance(value, int):
            builder.int64_field(key, value)
        else:
            builder.float64_field(key, round(value, 3))
    return builder.time_ns(time_ns)
