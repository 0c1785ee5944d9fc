"""Walks every row of one table and reports how far it is.

Arguments: `through`, how to walk: `rows` one by one, or `arrow` for the whole table; `table`, the table to walk;
`release`, the table to wait for; `progress`, the table to report in.

The first run walks what woke it, so that everything is loaded, and then waits until the table `release` exists. So a
backlog can be written first, and what is measured is how fast the trigger works it off, not how fast it is filled.

Either way the same is computed, which the bench checks against SQL: the sum of two columns, and the last time of every
host. `seconds` is the time that walking takes. With `rows` that includes the making of the dictionaries, which happens
when they are touched; with `arrow` it begins where pyarrow has the table.
"""

import time


def process_writes(influxdb3_local, table_batches, args=None):
    walk = {"rows": walk_rows, "arrow": walk_table}[args["through"]]
    totals = influxdb3_local.cache.get("totals")
    is_first = totals is None
    if is_first:
        totals = {"rows": 0, "seconds": 0.0, "usage": 0.0, "hosts": {}}
    rows_before = totals["rows"]
    for batch in table_batches:
        if batch["table_name"] == args["table"]:
            if walk is walk_table and not hasattr(batch, "to_arrow"):
                influxdb3_local.info(f"no Arrow tables for {args['release']}")
                return
            walk(batch, totals)
    if is_first:
        totals["seconds"] = 0.0
        wait_for(influxdb3_local, args["release"])
    influxdb3_local.cache.put("totals", totals)
    if totals["rows"] > rows_before:
        line = LineBuilder(args["progress"])  # noqa: F821
        line.int64_field("rows", totals["rows"]).float64_field("seconds", totals["seconds"])
        line.float64_field("usage", totals["usage"]).int64_field("hosts", len(totals["hosts"]))
        influxdb3_local.write(line.time_ns(time.time_ns()))


def walk_rows(batch, totals):
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


def walk_table(batch, totals):
    import pyarrow
    from pyarrow import compute

    table = pyarrow.table(batch.to_arrow())
    started = time.perf_counter()
    usage = compute.sum(table["usage_user"]).as_py() + compute.sum(table["usage_system"]).as_py()
    times = table.select(["hostname", "time"]).unify_dictionaries().group_by("hostname").aggregate([("time", "max")])
    hosts = totals["hosts"]
    for host, last in zip(times["hostname"].to_pylist(), times["time_max"].cast("int64").to_pylist()):
        if hosts.get(host, 0) < last:
            hosts[host] = last
    totals["rows"] += table.num_rows
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
