"""Answers with what it is asked for: `bytes` of body in one piece or, with `pieces`, from a generator; or `allocate` bytes of
memory, all of them touched."""


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    if "allocate" in query_parameters:
        return str(len(b"x" * int(query_parameters["allocate"])))
    length = int(query_parameters.get("bytes", 4))
    if "pieces" in query_parameters:
        return (b"x" * (1 << 20) for _ in range(length >> 20))
    return b"x" * length
