"""NAME: answers HTTP requests.

Put it into the server's plugin directory, try it, then let it run and call it:

    tidemill test request_plugin --database DATABASE --query site=pier NAME.py
    tidemill create trigger --database DATABASE --path NAME.py --trigger-spec request:NAME NAME
    curl "http://127.0.0.1:8181/api/v3/engine/NAME?site=pier"
"""

import json


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    """Called for every request to /api/v3/engine/NAME.

    `query_parameters` and `request_headers` are dicts of text, header names in lower case;
    `request_body` is bytes. Return a dict or a list for JSON, text for HTML, bytes as they are, or a
    tuple of body, status and headers.
    """
    if request_body:
        try:
            document = json.loads(request_body)
        except ValueError as error:
            return {"error": f"the body is no JSON: {error}"}, 400
        influxdb3_local.info("got a document with", len(document), "entries")
    return {"hello": query_parameters.get("site", "world")}
