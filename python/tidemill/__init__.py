"""Tidemill for authors of plugins: `LineBuilder`, its exceptions, and the types of everything that a plugin is given.

It **is** what a plugin's tests and type checkers need; `tidemill.testing` runs a plugin without a server.
It **is not** what runs in the server: there, `import tidemill` gives the server's own native module, installed or not.
"""

from tidemill.exceptions import (
    InfluxDBError,
    InvalidKeyError,
    InvalidLineError,
    InvalidMeasurementError,
    QueryError,
    RunTimeout,
)
from tidemill.interface import (
    Answer,
    Arguments,
    ArrowStream,
    ArrowTable,
    Body,
    Buildable,
    Cache,
    Headers,
    Parameter,
    PluginApi,
    ProcessRequest,
    ProcessScheduledCall,
    ProcessWrites,
    Request,
    ResponseObject,
    Row,
    State,
    TableBatch,
    Writable,
)
from tidemill.line_builder import LineBuilder

__all__ = [
    "Answer",
    "Arguments",
    "ArrowStream",
    "ArrowTable",
    "Body",
    "Buildable",
    "Cache",
    "Headers",
    "InfluxDBError",
    "InvalidKeyError",
    "InvalidLineError",
    "InvalidMeasurementError",
    "LineBuilder",
    "Parameter",
    "PluginApi",
    "ProcessRequest",
    "ProcessScheduledCall",
    "ProcessWrites",
    "QueryError",
    "Request",
    "ResponseObject",
    "Row",
    "RunTimeout",
    "State",
    "TableBatch",
    "Writable",
]
