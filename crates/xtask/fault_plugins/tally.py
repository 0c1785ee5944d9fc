"""Counts rows in the trigger's durable state, and writes the count beside the number of rows of each run."""

import itertools
import time

times = itertools.count(time.time_ns())


def process_writes(influxdb3_local, table_batches, args=None):
    rows = sum(len(batch["rows"]) for batch in table_batches)
    total = influxdb3_local.state.get("rows", 0) + rows
    influxdb3_local.state.put("rows", total)
    line = LineBuilder("tally").int64_field("rows", rows).int64_field("total", total)  # noqa: F821
    influxdb3_local.write(line.time_ns(next(times)))
