"""How long a query's rows take to reach a plugin as dictionaries. The argument `rows` says how many."""

import time


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    started = time.perf_counter()
    rows = influxdb3_local.query(f"SELECT * FROM cpu LIMIT {int(args['rows'])}")
    seconds = time.perf_counter() - started
    return {"rows": len(rows), "columns": len(rows[0]) if rows else 0, "seconds": seconds}
