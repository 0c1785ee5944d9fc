"""Says whether plugins have durable state here."""


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    return "yes" if hasattr(influxdb3_local, "state") else "no"
