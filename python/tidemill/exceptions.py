"""Exceptions that plugins see. In the server all but `RunTimeout` are builtins as well."""


class QueryError(Exception):
    """A query failed. The server's text is `error: <reason> executing query on <database>: <sql>`."""


class InfluxDBError(Exception):
    """What `LineBuilder` raises."""


class InvalidMeasurementError(InfluxDBError):
    """The measurement is not allowed."""


class InvalidKeyError(InfluxDBError):
    """The key of a tag or field is not allowed."""


class InvalidLineError(InfluxDBError):
    """The line is not complete."""


class RunTimeout(TimeoutError):
    """Raised in the thread of a run that the server ends: its deadline has passed, or its trigger is stopped."""

    reason = "the run was ended"

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or (self.reason,)))
