"""Recordings: that they are read as they were written, and plugins run on them."""

from __future__ import annotations

import contextlib
import io
import json
import math
import tempfile
import unittest
from pathlib import Path
from typing import Any

from tidemill.testing import Recording, RecordingError, Trigger
from tidemill.testing.__main__ import main

HEAD = {
    "format": "tidemill-recording",
    "version": 1,
    "database": "weather",
    "trigger_name": "alert",
    "trigger_specification": "all_tables",
    "plugin_filename": "alert.py",
    "trigger_arguments": {"limit": "30"},
    "position": 0,
}

COLUMNS = [
    ["z", "tag"],
    ["f", "float"],
    ["i", "integer"],
    ["u", "uinteger"],
    ["s", "string"],
    ["b", "boolean"],
    ["time", "time"],
]

RUNS: list[dict[str, Any]] = [
    {
        "position": 5,
        "run_id": "w-1-2-0-5",
        "read_at": "2026-01-01T12:00:00.500000Z",
        "tables": [
            {
                "table_name": "air",
                "batches": [
                    {
                        "columns": COLUMNS,
                        "rows": [
                            ["a b", 1.0, -(2**63), 2**64 - 1, "", True, -1],
                            [None, "NaN", None, None, None, None, 0],
                            ["c", "-inf", 0, 0, '"', False, 2**63 - 1],
                        ],
                    },
                    {"columns": [["time", "time"], ["f", "float"]], "rows": [[7, 0.1]]},
                ],
            }
        ],
    },
    {
        "position": 6,
        "run_id": "w-1-2-5-6",
        "read_at": "2026-01-01T12:00:01Z",
        "tables": [{"table_name": "sea", "batches": [{"columns": [["f", "float"]], "rows": [[2.5]]}]}],
    },
]

PLUGIN = """
def process_writes(influxdb3_local, table_batches, args=None):
    print("noise")
    seen = influxdb3_local.state.get("seen", 0) + 1
    influxdb3_local.state.put("seen", seen)
    influxdb3_local.info(influxdb3_local.run_id, seen, args)
    for batch in table_batches:
        if batch["table_name"] == "sea":
            raise ValueError("no sea")
        for row in batch["rows"]:
            influxdb3_local.write(LineBuilder("out").float64_field("f", 1.0).time_ns(row["time"]))
"""


class Recorded(unittest.TestCase):
    """A folder with a recording and a plugin."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.file("r.jsonl", "".join(json.dumps(line) + "\n" for line in [HEAD, *RUNS]))

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def run_main(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["replay", *arguments])
        return code, out.getvalue(), err.getvalue()


class Reading(Recorded):
    """What comes out of a file."""

    def test_rows_keep_their_types_their_keys_and_the_order_of_these(self) -> None:
        first = next(iter(Recording(self.path)))
        rows = first.table_batches()[0]["rows"]
        self.assertEqual(list(rows[0]), ["z", "f", "i", "u", "s", "b", "time"])
        self.assertEqual(list(rows[0].values()), ["a b", 1.0, -(2**63), 2**64 - 1, "", True, -1])
        self.assertIs(type(rows[0]["f"]), float)
        self.assertIs(rows[0]["b"], True)
        self.assertEqual(list(rows[1]), ["f", "time"])
        self.assertTrue(math.isnan(rows[1]["f"]))
        self.assertEqual(rows[2]["f"], -math.inf)
        self.assertEqual(list(rows[3]), ["time", "f"])
        self.assertEqual((first.run_id, first.row_count), ("w-1-2-0-5", 4))

    def test_a_recording_is_read_again_and_rows_are_new(self) -> None:
        recording = Recording(self.path)
        for _ in range(2):
            for run in recording:
                for batch in run.table_batches():
                    self.assertNotIn("mark", batch["rows"][0])
                    batch["rows"][0]["mark"] = 1
                self.assertNotIn("mark", run.table_batches()[0]["rows"][0])

    def test_what_is_no_recording_is_refused_with_its_place(self) -> None:
        good = json.dumps(HEAD) + "\n"
        for text, expected in (
            ("", "line 1: this is no recording"),
            ("air f=1\n", "line 1: not JSON"),
            ("[]\n", "line 1: this is no recording"),
            (json.dumps({**HEAD, "version": 2}) + "\n", "line 1: the recording has version 2, expected 1"),
            (good + json.dumps(RUNS[0])[:-9], "line 2: not JSON"),
            (good + '{"run_id": "w"}\n', "line 2: not a recorded run: KeyError: 'tables'"),
            (good + json.dumps({**RUNS[1], "read_at": "soon"}) + "\n", "line 2: not a recorded run"),
            (good + json.dumps(RUNS[1]).replace("[2.5]", "[2.5, 1]") + "\n", "2 values for 1 columns"),
            (good + json.dumps(RUNS[1]).replace('"float"', '"colour"') + "\n", "KeyError: 'colour'"),
        ):
            with self.subTest(expected), self.assertRaises(RecordingError) as raised:
                list(Recording(self.file("bad.jsonl", text)))
            self.assertIn(expected, str(raised.exception))
        cut = self.file("bad.jsonl", good + "{")
        with self.assertRaisesRegex(RecordingError, "cut off"):
            list(Recording(cut))

    def test_a_unit_test_runs_on_a_recording(self) -> None:
        trigger = Trigger(self.file("alert.py", PLUGIN))
        with contextlib.redirect_stdout(io.StringIO()):
            run = trigger.run_writes(next(iter(Recording(self.path))))
        self.assertEqual(len(run.writes["test"]), 4)
        self.assertEqual(run.local.run_id, "w-1-2-0-5")


class Replaying(Recorded):
    """The command."""

    def test_every_run_is_reported(self) -> None:
        plugin = self.file("alert.py", PLUGIN)
        code, out, err = self.run_main(self.path, "--path", plugin)
        report = json.loads(out)
        self.assertEqual((code, err), (1, "noise\nnoise\n"))
        self.assertEqual((report["runs"], report["rows"]), (2, 5))
        # The second run sees the state of the first.
        self.assertEqual(
            report["log_lines"],
            ["INFO: w-1-2-0-5 1 {'limit': '30'}", "INFO: w-1-2-5-6 2 {'limit': '30'}"],
        )
        self.assertEqual(report["database_writes"]["weather"][0], "out f=1.0 -1")
        (error,) = report["errors"]
        self.assertTrue(error.startswith("w-1-2-5-6: Traceback"), error)
        self.assertIn(f'File "{plugin}", line 9, in process_writes', error)
        self.assertTrue(error.endswith("ValueError: no sea"), error)
        self.assertNotIn("trigger.py", error)

    def test_arguments_and_answers_are_given(self) -> None:
        plugin = self.file(
            "asks.py",
            "def process_writes(api, batches, args):\n    api.info(args, api.query('SELECT  1 AS n'))\n",
        )
        queries = self.file("answers.json", '{"SELECT 1 AS n": [{"n": 1}]}')
        code, out, _ = self.run_main(
            self.path, "--path", plugin, "--queries", queries, "--argument", "a=b,c=d"
        )
        self.assertEqual(code, 0, out)
        self.assertEqual(json.loads(out)["log_lines"][0], "INFO: {'a': 'b,c=d'} [{'n': 1}]")
        code, out, _ = self.run_main(self.path, "--path", plugin, "--no-arguments")
        self.assertEqual(code, 1)
        self.assertIn("the test has no answer for a query", json.loads(out)["errors"][0])

    def test_a_plugin_that_cannot_be_loaded_is_one_error(self) -> None:
        code, out, _ = self.run_main(self.path, "--path", self.file("bad.py", "import nothing_of_the_kind\n"))
        report = json.loads(out)
        self.assertEqual((code, report["runs"], len(report["errors"])), (1, 0, 1))
        self.assertIn("No module named 'nothing_of_the_kind'", report["errors"][0])

    def test_without_a_recording_nothing_runs(self) -> None:
        plugin = self.file("alert.py", PLUGIN)
        code, out, err = self.run_main(str(self.folder / "none"), "--path", plugin)
        self.assertEqual((code, out), (2, ""))
        self.assertIn("No such file", err)
        for text in ("[]", '{"SELECT 1": [1]}', "{"):
            code, _, err = self.run_main(self.path, "--path", plugin, "--queries", self.file("q.json", text))
            self.assertEqual(code, 2)
            self.assertIn("q.json: ", err)
