"""NAME: runs on a schedule.

Put it into the server's plugin directory, try it without writing anything, then let it run:

    tidemill test schedule_plugin --database DATABASE --schedule "0 * * * * *" NAME.py
    tidemill create trigger --database DATABASE --path NAME.py --trigger-spec every:1m NAME

`every:10s` runs at multiples of ten seconds, "cron:0 0 6 * * mon-fri" at six in the morning (UTC) on
weekdays.
"""


def process_scheduled_call(influxdb3_local, call_time, args=None):
    """Called at every instant of the schedule.

    `call_time` is the scheduled instant, a naive datetime in UTC. `args` has the trigger's arguments as
    text, or is None. What `write` collects is committed when the function returns; if it raises,
    nothing is written.
    """
    tables = influxdb3_local.query(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = $schema",
        {"schema": "iox"},
    )
    influxdb3_local.info("at", call_time, "there are", len(tables), "tables")
    influxdb3_local.write(LineBuilder("NAME").int64_field("tables", len(tables)))
