"""Writes a row for every call of a schedule."""


def process_scheduled_call(influxdb3_local, call_time, args=None):
    influxdb3_local.write(LineBuilder("ticks").int64_field("one", 1))  # noqa: F821
