"""The repository's example plugins, tested the way their authors would."""

from __future__ import annotations

import unittest
from pathlib import Path

from tidemill import Row
from tidemill.testing import Clock, Query, Trigger, lines, run_request, run_writes

PLUGINS = Path(__file__).parent.parent.parent / "plugins"
MINUTE_NS = 60_000_000_000
TAG_TYPE = "Dictionary(Int32, Utf8)"


@unittest.skipUnless(PLUGINS.is_dir(), "needs the repository around it")
class MinuteStats(unittest.TestCase):
    """`plugins/minute_stats.py`"""

    PLUGIN = PLUGINS / "minute_stats.py"
    ALERTS = {"table": "cpu", "field": "usage", "threshold": "80"}

    @staticmethod
    def answer(query: Query) -> list[Row] | None:
        """A database in which the table `cpu` has the tag `host` and one minute of data."""
        if "information_schema.columns" in query.sql and query.parameters == {"table": "cpu"}:
            types = {"host": TAG_TYPE, "usage": "Float64", "time": "Timestamp(Nanosecond, None)"}
            return [{"column_name": name, "data_type": data_type} for name, data_type in types.items()]
        if 'FROM "cpu"' in query.sql and "date_bin" in query.sql:
            statistics = {"usage_count": 2, "usage_min": 10.0, "usage_max": 90.0, "usage_mean": 50.0}
            return [{"minute": MINUTE_NS, "host": "a", **statistics}]
        return None

    def test_a_minute_is_summed_up(self) -> None:
        run = run_writes(self.PLUGIN, f"cpu,host=a usage=90 {MINUTE_NS + 5}", queries=self.answer)
        line = "cpu_1m,host=a usage_count=2i,usage_min=10,usage_max=90,usage_mean=50"
        self.assertEqual(run.writes, {"test": lines(f"{line} {MINUTE_NS}")})

    def test_its_own_tables_are_left_alone(self) -> None:
        run = run_writes(self.PLUGIN, "cpu_1m usage_min=1\nalerts value=1")
        self.assertEqual((run.writes, run.queries), ({}, []))

    def test_an_alert_is_raised_once(self) -> None:
        trigger = Trigger(self.PLUGIN, self.ALERTS, queries=self.answer)
        usages = (80, 81, 99, 50, 95)
        raised = [len(trigger.run_writes(f"cpu,host=a usage={usage}").logs) for usage in usages]
        self.assertEqual(raised, [0, 1, 0, 0, 1])

    def test_the_schema_is_asked_for_once_a_minute(self) -> None:
        clock = Clock()
        trigger = Trigger(self.PLUGIN, queries=self.answer, clock=clock)
        asked = []
        for _ in range(3):
            run = trigger.run_writes("cpu,host=a usage=1")
            asked.append(sum("information_schema" in query.sql for query in run.queries))
            clock.advance(30)
        self.assertEqual(asked, [1, 0, 1])

    def test_half_a_rule_is_an_error(self) -> None:
        with self.assertRaisesRegex(ValueError, "an alert needs both arguments"):
            run_writes(self.PLUGIN, "cpu usage=1", {"field": "usage"})


@unittest.skipUnless(PLUGINS.is_dir(), "needs the repository around it")
class LiveStatus(unittest.TestCase):
    """`plugins/live_status`, a package"""

    PLUGIN = PLUGINS / "live_status"

    def test_the_page_is_html(self) -> None:
        response = run_request(self.PLUGIN, "view=page").response
        assert response is not None
        self.assertEqual(
            (response.status, response.header("content-type")), (200, "text/html; charset=utf-8")
        )

    def test_wrong_parameters_are_refused(self) -> None:
        for parameters, text in (
            ("view=text", "view must be json or page"),
            ("seconds=0", "seconds must be a whole number from 1 to 3600"),
        ):
            response = run_request(self.PLUGIN, parameters).response
            assert response is not None
            self.assertEqual((response.status, response.json()), (400, {"error": text}))


if __name__ == "__main__":
    unittest.main()
