"""The harness offers what the interface promises, and the typed sample plugin runs on it."""

from __future__ import annotations

import unittest
from datetime import datetime
from typing import Any

import tidemill
from tests import typed_plugin
from tidemill import interface
from tidemill.testing import FakeLocal, lines, run_request, run_scheduled, run_writes


class Interface(unittest.TestCase):
    """What a plugin sees."""

    def test_the_api_has_all_that_the_specification_names(self) -> None:
        named = (
            "info warn error query query_arrow write write_to_db write_sync write_sync_to_db cache state "
            "trigger_name database run_id request args"
        ).split()
        promised = [name for name in vars(tidemill.PluginApi) if not name.startswith("_")]
        self.assertEqual(sorted(promised), sorted(named))
        local = FakeLocal()
        for name in named:
            self.assertTrue(hasattr(local, name), name)

    def test_all_public_names_exist(self) -> None:
        for name in tidemill.__all__:
            self.assertTrue(hasattr(tidemill, name), name)
        self.assertLessEqual(set(interface.__all__), set(tidemill.__all__))


class TypedPlugin(unittest.TestCase):
    """The sample that mypy checks."""

    def test_writes(self) -> None:
        written = "m,host=a f=1 1\nm,host=b f=2 2"
        run = run_writes(typed_plugin, written)
        seen = "seen,table=m rows=2i"
        self.assertEqual(
            run.writes,
            {
                "test": lines(f"seen n=1\n{seen}"),
                "other": lines(f"{seen}\n{seen}\n{seen}"),
                "copy": lines(written),
            },
        )

    def test_schedule(self) -> None:
        answers: dict[str, Any] = {"SELECT $a": [{"a": 1}], "SELECT 1": [{"n": 1}, {"n": 2}]}
        run = run_scheduled(typed_plugin, datetime(2026, 1, 1), queries=answers)
        self.assertEqual((run.cache, run.state), ({"seen": 1}, {"seen": 2}))
        self.assertEqual(run.queries[0], ("SELECT $a", {"a": datetime(2026, 1, 1)}, "other"))

    def test_request(self) -> None:
        for run, status, text in (
            (run_request(typed_plugin, body=b"abc"), 201, '{"bytes": 3}'),
            (run_request(typed_plugin, headers={"a": "b"}), 200, "headers"),
            (run_request(typed_plugin, "a&b"), 200, "ab"),
            (run_request(typed_plugin), 404, "nothing"),
        ):
            response = run.response
            assert response is not None
            self.assertEqual((response.status, response.text), (status, text))


if __name__ == "__main__":
    unittest.main()
