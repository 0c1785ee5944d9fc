"""Answers every row with a row of the table `into`, which another trigger answers with a row of this one's."""


def process_writes(influxdb3_local, table_batches, args=None):
    for batch in table_batches:
        for row in batch["rows"]:
            influxdb3_local.write(LineBuilder(args["into"]).int64_field("number", row["number"] + 1))  # noqa: F821
