"""Walks every row of one table and reports how far it is.

Arguments: `table`, the table to walk; `release`, the table to wait for; `progress`, the table to report in.

The first run waits until the table `release` exists. So a backlog can be written first, and what is measured is how
fast the trigger works it off, not how fast it is filled.
"""

import time


def process_writes(influxdb3_local, table_batches, args=None):
    totals = influxdb3_local.cache.get("totals")
    if totals is None:
        wait_for(influxdb3_local, args["release"])
        totals = {"rows": 0, "seconds": 0.0, "usage": 0.0, "hosts": {}}
    rows_before = totals["rows"]
    for batch in table_batches:
        if batch["table_name"] == args["table"]:
            walk(batch, totals)
    influxdb3_local.cache.put("totals", totals)
    if totals["rows"] > rows_before:
        line = LineBuilder(args["progress"]).int64_field("rows", totals["rows"])  # noqa: F821
        influxdb3_local.write(line.float64_field("seconds", totals["seconds"]).time_ns(time.time_ns()))


def walk(batch, totals):
    started = time.perf_counter()
    usage = 0.0
    hosts = totals["hosts"]
    rows = 0
    for row in batch["rows"]:
        rows += 1
        usage += row["usage_user"] + row["usage_system"]
        host = row["hostname"]
        if hosts.get(host, 0) < row["time"]:
            hosts[host] = row["time"]
    totals["rows"] += rows
    totals["usage"] += usage
    totals["seconds"] += time.perf_counter() - started


def wait_for(influxdb3_local, table):
    influxdb3_local.info(f"waiting for {table}")
    while True:
        try:
            if influxdb3_local.query(f"SELECT * FROM {table} LIMIT 1"):
                return
        except Exception as error:
            if "not found" not in str(error):
                raise
        time.sleep(0.002)
