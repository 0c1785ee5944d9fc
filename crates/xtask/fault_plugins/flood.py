"""Logs `lines` lines in its first run, and then says so in the table `flood`."""

is_done = False


def process_scheduled_call(influxdb3_local, call_time, args=None):
    global is_done
    if is_done:
        return
    is_done = True
    for number in range(int(args["lines"])):
        influxdb3_local.info("line", number)
    influxdb3_local.write(LineBuilder("flood").int64_field("lines", number + 1))  # noqa: F821
