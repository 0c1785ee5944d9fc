"""Answers with the version of a package, imported as every package is: at the top, once."""

import tidemill_fault_package


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    return tidemill_fault_package.VERSION
