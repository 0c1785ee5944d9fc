"""Arrow tables that a plugin writes. Where pyarrow is not installed, only those of the harness itself."""

from __future__ import annotations

import importlib
import importlib.util
import unittest
from collections.abc import Sequence
from datetime import date, datetime, timezone
from typing import Any

from tidemill import Arguments, LineBuilder, PluginApi, TableBatch
from tidemill.testing import FakeLocal, lines, run_writes
from tidemill.testing.arrow import ColumnType

has_pyarrow = importlib.util.find_spec("pyarrow") is not None
pa: Any = importlib.import_module("pyarrow") if has_pyarrow else None


def table(**columns: Any) -> Any:
    return pa.table(columns)


class OwnTables(unittest.TestCase):
    """What `to_arrow` gives knows its table, its tags and its types."""

    def test_a_batch_is_written_as_it_came(self) -> None:
        def plugin(api: PluginApi, batches: list[TableBatch], args: Arguments) -> None:
            for batch in batches:
                api.write_to_db("copy", batch.to_arrow())
                api.write_sync(batch.to_arrow(), False, table="other", tags=[])
                with self.assertRaisesRegex(
                    ValueError, "a column 'time' can only hold the times of the rows"
                ):
                    api.write(batch.to_arrow(), time=None)

        written = 'm,host=a\\ b f=1.5,i=2i,u=3u,b=t,s="x \\"y\\"" 1\nm f=2 -2'
        untagged = 'other host="a b",f=1.5,i=2i,u=3u,b=t,s="x \\"y\\"" 1\nother f=2 -2'
        run = run_writes(plugin, written)
        self.assertEqual(run.writes, {"copy": lines(written), "test": lines(untagged)})

    def test_tags_that_line_protocol_cannot_hold_are_refused(self) -> None:
        for host, reason in (
            ("a\nb", "it has a line break"),
            ("a\\", "it ends with a backslash"),
            ("a\\ b", "a backslash stands before a comma, a space or an equals sign"),
        ):
            table = FakeLocal(queries=lambda query: [{"f": 1, "host": host}]).query_arrow("q")
            table.types.update(f=ColumnType.INTEGER, host=ColumnType.TAG)  # type: ignore[attr-defined]
            with self.assertRaisesRegex(
                ValueError, f"row 0, column 'host': the tag .* cannot be written: {reason}"
            ):
                FakeLocal().write(table, table="m", time=None)

    def test_an_answer_of_line_protocol_has_tags(self) -> None:
        hourly = "air,site=pier hottest=212.0 3600000000000\nair,site=quay hottest=160.0 3600000000000"
        local = FakeLocal(queries={"q": hourly, "n": "c n=1i", "two": "a f=1\nb f=1"})
        local.write(local.query_arrow("q"), table="hourly")
        self.assertEqual(local.writes, {"test": lines(hourly.replace("air", "hourly"))})
        self.assertEqual(local.query("q")[1], {"site": "quay", "hottest": 160.0, "time": 3_600_000_000_000})
        self.assertEqual(local.query("n"), [{"n": 1}])
        with self.assertRaisesRegex(ValueError, "the lines of an answer belong to one table"):
            local.query("two")

    def test_keywords_are_for_tables(self) -> None:
        local = FakeLocal()
        keywords: Sequence[dict[str, Any]] = ({"table": "m"}, {"tags": []}, {"time": None})
        for given in keywords:
            with self.assertRaisesRegex(TypeError, "table=, tags= and time= are for Arrow tables only"):
                local.write("m f=1", **given)
        self.assertEqual(local.writes, {})


@unittest.skipUnless(has_pyarrow, "pyarrow is not installed")
class Tables(unittest.TestCase):
    """Tables of other packages."""

    def setUp(self) -> None:
        self.local = FakeLocal()

    def check_refused(self, message: str, *, name: str = "m", **columns: Any) -> None:
        with self.assertRaisesRegex(ValueError, message):
            self.local.write(table(**columns), table=name, time="time" if "time" in columns else None)

    def test_every_kind_of_column(self) -> None:
        self.local.write(
            table(
                host=pa.array(["a", None, ""]).dictionary_encode(),
                i=pa.array([1, -2, None], pa.int8()),
                u=pa.array([3, None, None], pa.uint16()),
                f=pa.array([0.5, None, None], pa.float32()),
                b=[True, False, None],
                s=pa.array(["x", None, None], pa.large_string()),
                when=pa.array([datetime(1970, 1, 1, 0, 0, 1), None, None]),
                none=pa.nulls(3),
                time=pa.array([1, 2, 3], pa.timestamp("us", "UTC")),
            ),
            table="m",
        )
        expected = 'm,host=a i=1i,u=3u,f=0.5,b=t,s="x",when=1000000000i 1000\nm i=-2i,b=f 2000'
        self.assertEqual(self.local.writes, {"test": lines(expected)})

    def test_tags_and_time_can_be_named(self) -> None:
        kind = pa.array(["k"]).dictionary_encode()
        written = table(host=["a"], rack=[7], kind=kind, when=[date(1970, 1, 2)])
        self.local.write(written, table="m", tags=["host", "rack"], time="when")
        self.local.write(table(f=[1], t=[5]), table="n", time="t")
        expected = 'm,host=a,rack=7 kind="k" 86400000000000\nn f=1i 5'
        self.assertEqual(self.local.writes, {"test": lines(expected)})

    def test_an_empty_table_is_nothing(self) -> None:
        empty = table(f=pa.array([], pa.float64()))
        self.local.write(empty, table="m", time=None)
        self.local.write_sync(empty, False, table="m", time=None)
        self.assertEqual(self.local.writes, {})

    def test_what_cannot_be_written_is_refused(self) -> None:
        with self.assertRaisesRegex(TypeError, "pass table="):
            self.local.write(table(f=[1]))
        with self.assertRaisesRegex(ValueError, "the table has no column 'time': name the one"):
            self.local.write(table(f=[1]), table="m")
        with self.assertRaisesRegex(ValueError, "the table has no column 'x' that could be a tag"):
            self.local.write(table(f=[1]), table="m", tags=["x"], time=None)
        self.check_refused("row 1, column 'f': NaN cannot be written", f=[1.0, float("nan")])
        self.check_refused("row 0, column 'f': -inf cannot be written", f=[float("-inf")])
        self.check_refused("row 0 has no time: its 'time' is null", f=[1], time=pa.array([None], pa.int64()))
        self.check_refused("column 'f' is of type list<item: int64>, which no field can hold", f=[[1]])
        self.check_refused("column 'time' is of type string, and a time is", f=[1], time=["now"])
        self.assertEqual(self.local.writes, {})

    def test_a_result_of_a_query_is_written(self) -> None:
        moment = int(datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp()) * 10**9
        rows = [{"host": "a", "mean": 1.5, "time": moment}]
        local = FakeLocal(queries=lambda query: rows)
        local.write(local.query_arrow("q"), table="m", tags=["host"])
        expected = LineBuilder("m").tag("host", "a").float64_field("mean", 1.5).time_ns(moment)
        self.assertEqual(local.writes, {"test": lines(expected.build())})


if __name__ == "__main__":
    unittest.main()
