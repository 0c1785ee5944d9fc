"""Sleeps: `seconds` long, in a request or in a run on written rows."""

import time


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    time.sleep(float(args["seconds"]))
    return "slept"


def process_writes(influxdb3_local, table_batches, args=None):
    time.sleep(float(args["seconds"]))
