"""`LineBuilder` renders, and complains, exactly as the server's native class does.

The vectors are those of `spec/engine.md` 4 and of `crates/worker_py/tests/worker/line_builder.rs`.
"""

from __future__ import annotations

import copy
import functools
import unittest
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tidemill import (
    InfluxDBError,
    InvalidKeyError,
    InvalidLineError,
    InvalidMeasurementError,
    LineBuilder,
)


class ShortFloat(float):
    """A float with a text of its own."""

    def __str__(self) -> str:
        return "short"


def line(measurement: str = "m") -> LineBuilder:
    return LineBuilder(measurement)


class GoldenVectors(unittest.TestCase):
    """The literal vectors of `spec/engine.md` 4."""

    def test_all_types(self) -> None:
        built = (
            line("metrics")
            .tag("host", "server01")
            .tag("region", "us-west")
            .int64_field("cpu", 42)
            .uint64_field("memory_bytes", 8_589_934_592)
            .float64_field("load", 86.5)
            .string_field("status", "online")
            .bool_field("healthy", True)
            .time_ns(1_609_459_200_000_000_000)
            .build()
        )
        self.assertEqual(
            built,
            "metrics,host=server01,region=us-west "
            'cpu=42i,memory_bytes=8589934592u,load=86.5,status="online",healthy=t 1609459200000000000',
        )

    def test_tag_values_are_escaped(self) -> None:
        for value, rendered in (
            (r"C:\Program Files\App", r"C:\\Program\ Files\\App"),
            ("y=mx+b", r"y\=mx+b"),
            ("web,app,db", r"web\,app\,db"),
        ):
            with self.subTest(value):
                self.assertEqual(line().tag("t", value).bool_field("f", 0).build(), f"m,t={rendered} f=f")

    def test_measurements_are_escaped(self) -> None:
        self.assertEqual(
            line("complex,measurement").int64_field("f", 1).build(), r"complex\,measurement f=1i"
        )

    def test_strings_are_escaped(self) -> None:
        for value, rendered in (
            ('User said "Hello World"', r'"User said \"Hello World\""'),
            (r"Windows\Unix paths", r'"Windows\\Unix paths"'),
        ):
            with self.subTest(value):
                self.assertEqual(line().string_field("f", value).build(), f"m f={rendered}")


class Rendering(unittest.TestCase):
    """What becomes of values, keys and order."""

    def check(self, builder: LineBuilder, expected: str) -> None:
        self.assertEqual(builder.build(), expected)

    def test_values_become_text_as_python_writes_them(self) -> None:
        self.check(
            line().tag("t", None).tag("n", 3).tag("f", 1.50).int64_field("f", 1), "m,t=None,n=3,f=1.5 f=1i"
        )
        self.check(
            line().int64_field("a", 3.7).int64_field("b", True).int64_field("c", 10**30),
            "m a=3.7i,b=Truei,c=1000000000000000000000000000000i",
        )
        self.check(
            line().uint64_field("a", 2**64 - 1).uint64_field("b", True).uint64_field("c", 2.5),
            "m a=18446744073709551615u,b=Trueu,c=2.5u",
        )
        self.check(line().uint64_field("a", -0.0), "m a=-0.0u")

    def test_floats(self) -> None:
        for value, rendered in (
            (3, "3.0"),
            (Decimal("2.50"), "2.50"),
            (Decimal("2.00"), "2.0"),
            (1e-07, "1e-07"),
            (-0.0, "0.0"),
            (1e16, "10000000000000000.0"),
            (1e300, f"{int(1e300)}.0"),
            (float("nan"), "nan"),
            (float("-inf"), "-inf"),
            (Fraction(1, 3), "1/3"),
            (True, "1.0"),
            (ShortFloat(2.5), "short"),
            (ShortFloat(2), "2.0"),
        ):
            with self.subTest(value):
                self.check(line().float64_field("f", value), f"m f={rendered}")

    def test_truth(self) -> None:
        self.check(line().bool_field("a", []).bool_field("b", "x").bool_field("c", 0), "m a=f,b=t,c=f")

    def test_times(self) -> None:
        self.check(line().int64_field("f", 1).time_ns("x"), "m f=1i x")
        self.check(line().int64_field("f", 1).time_ns(1).time_ns(None), "m f=1i")
        self.check(line().int64_field("f", 1).time_ns(-5), "m f=1i -5")

    def test_setting_again_replaces_in_place(self) -> None:
        self.check(
            line()
            .tag("b", 1)
            .tag("a", 2)
            .tag("b", 3)
            .int64_field("y", 1)
            .int64_field("x", 2)
            .bool_field("y", 1),
            "m,b=3,a=2 y=t,x=2i",
        )

    def test_only_field_keys_are_escaped(self) -> None:
        self.check(line().tag("a\\b", "v").int64_field("a\\b", 1), r"m,a\b=v a\\b=1i")

    def test_line_breaks_and_empty_values_are_kept(self) -> None:
        self.check(
            line().tag("t", "a\nb").tag("e", "").string_field("f", "two\nlines"),
            'm,t=a\nb,e= f="two\nlines"',
        )

    def test_values_may_use_the_builder_while_they_become_text(self) -> None:
        builder = line()

        class Value:
            def __str__(self) -> str:
                return str(builder.int64_field("f", 1).fields)

        self.check(builder.tag("t", Value()), r"m,t={'f':\ '1i'} f=1i")


class Mistakes(unittest.TestCase):
    """Which exception says what."""

    def check(self, attempt: Callable[[], Any], kind: type[Exception], text: str) -> None:
        with self.assertRaises(kind) as caught:
            attempt()
        self.assertIs(type(caught.exception), kind)
        self.assertEqual(str(caught.exception), text)

    def test_measurements(self) -> None:
        self.check(lambda: line("a b"), InvalidMeasurementError, "Measurement name cannot contain spaces")
        self.check(lambda: LineBuilder(5), TypeError, "'int' object is not an instance of 'str'")  # type: ignore[arg-type]
        self.assertEqual(line("").int64_field("f", 1).build(), " f=1i")

    def test_lines_without_fields(self) -> None:
        self.check(
            lambda: line("some_table").build(),
            InvalidLineError,
            "At least one field is required: some_table",
        )
        self.check(
            lambda: line().tag("t", "a b").build(),
            InvalidLineError,
            r"At least one field is required: m,t=a\ b",
        )

    def test_keys(self) -> None:
        for key, text in (
            ("", "key cannot be empty"),
            ("a b", "key 'a b' cannot contain spaces"),
            ("a,b", "key 'a,b' cannot contain commas"),
            ("a=b", "key 'a=b' cannot contain equals signs"),
            ("=, ", "key '=, ' cannot contain spaces"),
        ):
            setters: list[tuple[str, Callable[[str], LineBuilder]]] = [
                ("tag", lambda key: line().tag(key, "v")),
                ("field", lambda key: line().int64_field(key, 1)),
                ("field", lambda key: line().uint64_field(key, -1)),
                ("field", lambda key: line().float64_field(key, 1)),
                ("field", lambda key: line().string_field(key, "v")),
                ("field", lambda key: line().bool_field(key, True)),
            ]
            for kind, set_it in setters:
                with self.subTest(key=key, kind=kind):
                    self.check(functools.partial(set_it, key), InvalidKeyError, f"{kind} {text}")

    def test_values(self) -> None:
        negative = "uint64 field 'f' cannot be negative"
        self.check(lambda: line().uint64_field("f", -1), ValueError, negative)
        self.check(lambda: line().uint64_field("f", -(10**30)), ValueError, negative)
        self.check(
            lambda: line().uint64_field("f", "x"),
            TypeError,
            "'<' not supported between instances of 'str' and 'int'",
        )
        self.check(
            lambda: line().string_field("f", 5),  # type: ignore[arg-type]
            AttributeError,
            "'int' object has no attribute 'replace'",
        )
        self.check(
            lambda: line().string_field("f", b"x"),  # type: ignore[arg-type]
            TypeError,
            "'bytes' object is not an instance of 'str'",
        )
        self.check(
            lambda: line().float64_field("f", "x"),
            TypeError,
            "not all arguments converted during string formatting",
        )

    def test_lone_surrogates_cannot_be_stored(self) -> None:
        attempts: list[Callable[[], LineBuilder]] = [
            lambda: line().tag("t", "\ud800"),
            lambda: line().string_field("f", "\ud800"),
            lambda: line("\ud800"),
        ]
        for attempt in attempts:
            with self.assertRaises(UnicodeEncodeError):
                attempt()

    def test_a_mistake_leaves_the_builder_as_it_was(self) -> None:
        builder = line().int64_field("f", 1)
        with self.assertRaises(InfluxDBError):
            builder.tag("", 1)
        with self.assertRaises(ValueError):
            builder.uint64_field("f", -1)
        self.assertEqual(builder.build(), "m f=1i")


class Parts(unittest.TestCase):
    """The attributes that plugins use, and copies."""

    def test_parts_can_be_read(self) -> None:
        builder = (
            line("a,b").tag("t", "a b").tag("u", 1).tag("t", 2).int64_field("i", 1).string_field("s", "x")
        )
        self.assertEqual(builder.measurement, "a,b")
        self.assertEqual(builder.tags, {"t": "2", "u": "1"})
        self.assertEqual(builder.fields, {"i": "1i", "s": '"x"'})
        self.assertIsNone(builder._timestamp_ns)
        self.assertEqual(builder.time_ns(7)._timestamp_ns, 7)
        self.assertEqual(builder.time_ns(2**63)._timestamp_ns, str(2**63))
        self.assertEqual(builder.time_ns("now")._timestamp_ns, "now")

    def test_parts_cannot_be_changed_from_outside(self) -> None:
        builder = line().int64_field("f", 1)
        builder.fields["g"] = "2i"
        builder.tags["t"] = "v"
        with self.assertRaises(AttributeError):
            builder.measurement = "other"  # type: ignore[misc]
        self.assertEqual(builder.build(), "m f=1i")

    def test_copies_are_independent(self) -> None:
        duplicates: list[Callable[[LineBuilder], LineBuilder]] = [copy.copy, copy.deepcopy]
        for duplicate in duplicates:
            builder = line().int64_field("f", 1).time_ns(5)
            self.assertEqual(duplicate(builder).tag("t", 1).int64_field("g", 2).build(), "m,t=1 f=1i,g=2i 5")
            self.assertEqual(builder.build(), "m f=1i 5")

    def test_setters_keep_the_class(self) -> None:
        class Named(LineBuilder):
            def name(self, name: str) -> Named:
                return self.tag("name", name)

        self.assertEqual(Named("m").int64_field("f", 1).name("x").build(), "m,name=x f=1i")


if __name__ == "__main__":
    unittest.main()
