"""Failures that are not an exception of the plugin."""


class RunFailed(Exception):
    """A run failed although the plugin raised nothing: it has no such function, what it returned is no answer, or what it wrote
    was refused. The text is the server's."""


class UnexpectedQuery(AssertionError):
    """The plugin asked a query that the test has no answer for."""
