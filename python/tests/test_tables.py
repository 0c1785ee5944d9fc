"""`table_batches` for data in every form."""

from __future__ import annotations

import importlib.util
import unittest
from datetime import datetime
from typing import Any

from tidemill import LineBuilder, TableBatch
from tidemill.testing import (
    Clock,
    FakeTableBatch,
    Line,
    LineProtocolError,
    Trigger,
    UnsignedInt,
    Written,
    lines,
)

NOW_NS = 1_767_225_600_000_000_000


def batches(written: Written) -> list[TableBatch]:
    """What a plugin is given for data written at the beginning of 2026."""
    given: list[list[TableBatch]] = []
    trigger = Trigger(lambda api, table_batches, args: given.append(table_batches), clock=Clock())
    trigger.run_writes(written)
    return given[0]


class Rows(unittest.TestCase):
    """The dictionaries."""

    def test_line_protocol(self) -> None:
        found = batches('b,t=x f=1,i=2i,u=3u,s="y",b=t 5\na v=1\nb,u=z f=2 6\n')
        self.assertEqual(
            found,
            [
                {
                    "table_name": "b",
                    "rows": [
                        {"t": "x", "f": 1.0, "i": 2, "u": 3, "s": "y", "b": True, "time": 5},
                        {"u": "z", "f": 2.0, "time": 6},
                    ],
                },
                {"table_name": "a", "rows": [{"v": 1.0, "time": NOW_NS}]},
            ],
        )
        row = found[0]["rows"][0]
        self.assertEqual(list(row), ["t", "f", "i", "u", "s", "b", "time"])
        self.assertIs(type(row["u"]), int)
        self.assertTrue(type(found) is list and type(found[0]["rows"]) is list and type(row) is dict)
        self.assertIsInstance(found[0], dict)

    def test_other_forms(self) -> None:
        builder = LineBuilder("m").int64_field("f", 1).time_ns(5)
        expected = [{"table_name": "m", "rows": [{"f": 1, "time": 5}]}]
        for written in (builder, [builder], lines("m f=1i 5"), Line("m", {}, {"f": 1}, 5), ("m f=1i 5",)):
            with self.subTest(written):
                self.assertEqual(batches(written), expected)
        self.assertEqual(len(batches(["m f=1", builder])[0]["rows"]), 2)
        self.assertEqual(batches(""), [])

    def test_rows_by_table(self) -> None:
        given: dict[str, Any] = {"m": [{"time": 5, "t": "x"}, {"f": 1.5}], "empty": []}
        found = batches(given)
        self.assertEqual(
            found,
            [
                {"table_name": "m", "rows": [{"time": 5, "t": "x"}, {"f": 1.5, "time": NOW_NS}]},
                {"table_name": "empty", "rows": []},
            ],
        )
        found[0]["rows"][0]["t"] = "changed"
        self.assertEqual(given["m"][0]["t"], "x")
        for value in (None, datetime(2026, 1, 1)):
            with self.assertRaisesRegex(TypeError, "column 'f' of a written row"):
                batches({"m": [{"f": value}]})

    def test_lines_that_the_database_refuses(self) -> None:
        with self.assertRaises(LineProtocolError):
            batches("m f=1\nbad")


class Arrow(unittest.TestCase):
    """`to_arrow()`."""

    TEXT = 'm,t=x f=1.5,i=1i,u=2u,s="y",b=t 5\nm f=2 6'

    def test_rows_have_every_column(self) -> None:
        table = batches(self.TEXT)[0].to_arrow()
        self.assertEqual(len(table), 2)
        expected = {"t": None, "f": 2.0, "i": None, "u": None, "s": None, "b": None, "time": 6}
        self.assertEqual(table.rows()[1], expected)

    def test_what_is_done_to_the_rows_does_not_show(self) -> None:
        batch = FakeTableBatch("m", [{"f": 1.5, "time": 5}])
        batch["rows"].clear()
        self.assertEqual(batch.to_arrow().rows(), [{"f": 1.5, "time": 5}])

    @unittest.skipIf(importlib.util.find_spec("pyarrow") is None, "needs pyarrow")
    def test_pyarrow_reads_it(self) -> None:
        pyarrow: Any = importlib.import_module("pyarrow")
        found = pyarrow.table(batches(self.TEXT)[0].to_arrow())
        self.assertEqual(
            {field.name: str(field.type) for field in found.schema},
            {
                "t": "dictionary<values=string, indices=int32, ordered=0>",
                "f": "double",
                "i": "int64",
                "u": "uint64",
                "s": "string",
                "b": "bool",
                "time": "timestamp[ns]",
            },
        )
        self.assertEqual(found.column("t").to_pylist(), ["x", None])
        by_rows = pyarrow.table(FakeTableBatch("m", [{"s": "y", "time": 5}]).to_arrow())
        self.assertEqual([str(field.type) for field in by_rows.schema], ["string", "timestamp[ns]"])
        self.assertEqual(pyarrow.schema(batches(self.TEXT)[0].to_arrow()), found.schema)

    @unittest.skipIf(importlib.util.find_spec("pyarrow"), "pyarrow is there")
    def test_without_pyarrow_it_is_named(self) -> None:
        with self.assertRaisesRegex(ModuleNotFoundError, "pip install pyarrow"):
            batches(self.TEXT)[0].to_arrow().__arrow_c_stream__()


class Numbers(unittest.TestCase):
    """Values of unsigned fields."""

    def test_an_unsigned_number_is_a_number(self) -> None:
        self.assertEqual(UnsignedInt(3) + 1, 4)


if __name__ == "__main__":
    unittest.main()
