"""The answer of `bench_request.py` from an RSGI application, with nothing between it and the server."""

import json


async def application(scope, protocol):
    body = json.dumps({"status": "ok", "answer": 42, "names": ["a", "b"]})
    protocol.response_str(200, [("content-type", "application/json")], body)
