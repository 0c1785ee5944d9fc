"""Answers every row with one row of the table `into`. Each has a time of its own, so that one derived twice is two rows.

`run_takes`, where given, are the seconds that every run takes at least; `run_dawdles` those that it takes at most, so that
asynchronous runs end in another order than they began in.
"""

import itertools
import random
import time

# Whatever process comes after this one starts at a later time than this one has counted to.
times = itertools.count(time.time_ns())


def process_writes(influxdb3_local, table_batches, args=None):
    time.sleep(float(args.get("run_takes", 0)) + random.random() * float(args.get("run_dawdles", 0)))
    for batch in table_batches:
        for row in batch["rows"]:
            line = LineBuilder(args["into"]).tag("writer", row["writer"]).int64_field("number", row["number"])  # noqa: F821
            line.int64_field("delay_ns", time.time_ns() - row["time"])
            influxdb3_local.write(line.time_ns(next(times)))
