"""A request trigger that answers with a small JSON object."""


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    return {"status": "ok", "answer": 42, "names": ["a", "b"]}
