"""`python -m tidemill.testing replay RECORDING --path PLUGIN`: runs a plugin on a recording, without a server.

Prints a report like that of `tidemill test wal_plugin`. Exits with 1 if a run failed, with 2 if there is nothing to run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.testing.clock import Clock, nanoseconds
from tidemill.testing.failures import RunFailed, UnexpectedQuery
from tidemill.testing.plugin import publish_builtins
from tidemill.testing.recording import RecordedRun, Recording, RecordingError
from tidemill.testing.trigger import Trigger

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass
class Report:
    """What all runs together have done."""

    runs: int = 0
    rows: int = 0
    log_lines: list[str] = field(default_factory=list)
    database_writes: dict[str, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def replay(
    recording: Recording,
    plugin: str,
    arguments: Mapping[str, str] | None,
    queries: Mapping[str, Any] | None = None,
) -> Report:
    """Runs the plugin at a path on every recorded run in order, with one cache and state. A run that fails does not end it."""
    report = Report()
    clock = Clock()
    try:
        trigger = Trigger(
            plugin,
            arguments,
            database=recording.database,
            trigger_name=recording.trigger_name,
            queries=queries,
            clock=clock,
        )
    except (Exception, SystemExit) as error:
        report.errors.append(_described(error))
        return report
    for recorded in recording:
        _replay_run(trigger, recorded, clock, report)
    return report


def _replay_run(trigger: Trigger, recorded: RecordedRun, clock: Clock, report: Report) -> None:
    clock.now_ns = nanoseconds(recorded.read_at)
    run = trigger.run_writes(recorded, check=False)
    report.runs += 1
    report.rows += recorded.row_count
    report.log_lines.extend(run.logs)
    for database, lines in run.writes.items():
        report.database_writes.setdefault(database, []).extend(map(str, lines))
    if run.error is not None:
        report.errors.append(f"{recorded.run_id}: {_described(run.error)}")


def _described(error: BaseException) -> str:
    """The traceback, without the frames of this package."""
    if isinstance(error, (RunFailed, UnexpectedQuery)):
        return str(error)
    found = traceback.TracebackException.from_exception(error)
    frames = [
        frame
        for frame in found.stack
        if not frame.filename.startswith((_PACKAGE + os.sep, "<frozen importlib"))
    ]
    found.stack = traceback.StackSummary.from_list(frames)
    return "".join(found.format()).rstrip()


def main(given: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(given)
    publish_builtins()
    try:
        recording = Recording(options.recording)
        queries = None if options.queries is None else _queries(options.queries)
        arguments = recording.arguments
        if options.argument or options.no_arguments:
            arguments = dict(options.argument) or None
        # What the plugin prints is not part of the report.
        with contextlib.redirect_stdout(sys.stderr):
            report = replay(recording, options.path, arguments, queries)
    except (RecordingError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        print(json.dumps(vars(report), indent=2, ensure_ascii=False), flush=True)
    except BrokenPipeError:
        # Whoever read the report has gone, as `head` does. What is left of it must not fail when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if report.errors else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tidemill.testing", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("replay", help="run a plugin on a recording, without a server")
    command.add_argument("recording", help="file of `tidemill record trigger`")
    command.add_argument("--path", required=True, help="the plugin: a file, or a folder with __init__.py")
    command.add_argument(
        "--argument",
        action="append",
        default=[],
        type=_pair,
        metavar="KEY=VALUE",
        help="an argument of the plugin; if any is given, those that the trigger had are left out",
    )
    command.add_argument("--no-arguments", action="store_true", help="leave out those that the trigger had")
    command.add_argument("--queries", help="JSON file: the rows by the text of the query")
    return parser


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    return key, value


def _queries(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        try:
            answers = json.load(file)
        except ValueError as error:
            raise RecordingError(f"{path}: not JSON: {error}") from None
    is_answers = isinstance(answers, dict) and all(
        isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in answers.values()
    )
    if not is_answers:
        raise RecordingError(f"{path}: expected an object with a list of rows for the text of each query")
    return dict(answers)


if __name__ == "__main__":
    sys.exit(main())
