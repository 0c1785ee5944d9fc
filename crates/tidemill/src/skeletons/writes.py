"""NAME: runs when data is written.

Put it into the server's plugin directory, try it on a line without writing anything, then let it run:

    tidemill test wal_plugin --database DATABASE --lp "weather,site=pier temperature=20" NAME.py
    tidemill create trigger --database DATABASE --path NAME.py --trigger-spec table:weather NAME

`table:TABLE` names the table whose rows it gets, `all_tables` stands for every table of the database.
"""


def process_writes(influxdb3_local, table_batches, args=None):
    """Called with everything that was written since the last call, one batch a table.

    A batch is {"table_name": str, "rows": [...]}; a row is a dict of the tags and fields that were
    written, and "time" in nanoseconds. `args` has the trigger's arguments as text, or is None.
    What `write` collects is committed when the function returns, together with how far the trigger has
    read: once and only once, whatever crashes. If it raises, nothing is written.
    """
    factor = float((args or {}).get("factor", 1))
    for batch in table_batches:
        rows = batch["rows"]
        influxdb3_local.info("got", len(rows), "rows of", batch["table_name"])
        for row in rows:
            # A row has only what its line had: look before you take.
            if "temperature" not in row:
                continue
            line = LineBuilder("NAME").tag("source", batch["table_name"])
            line.float64_field("temperature", row["temperature"] * factor)
            line.time_ns(row["time"])
            influxdb3_local.write(line)
