"""Answers every row with one row of the table `into`, which names the batch that wrote it. Each has a time of its own, so that
one derived twice is two rows."""

import itertools
import time

times = itertools.count(time.time_ns())


def process_writes(influxdb3_local, table_batches, args=None):
    for batch in table_batches:
        for row in batch["rows"]:
            change = row.get("change")
            line = LineBuilder(args["into"]).tag("writer", row["writer"])  # noqa: F821
            line.int64_field("number", row["number"])
            line.int64_field("batch", row["batch"] if change is None else change)
            influxdb3_local.write(line.time_ns(next(times)))
