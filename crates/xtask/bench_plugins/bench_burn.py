"""Keeps one core busy in pure Python for as many rounds as the request's parameter says."""


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    value = 1
    for _ in range(int(query_parameters["rounds"])):
        value = (value * 1103515245 + 12345) % 2147483648
    return {"value": value}
