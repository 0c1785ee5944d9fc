"""Lines are read, compared and refused as the database does (`crates/lineproto/tests/parser/lines.rs`)."""

from __future__ import annotations

import unittest

from tidemill import LineBuilder
from tidemill.testing import FieldValue, Line, LineProtocolError, UnsignedInt, lines


class Reading(unittest.TestCase):
    """What lines say."""

    def check(self, text: str, *expected: Line) -> None:
        self.assertEqual(lines(text), list(expected))

    def test_all_types(self) -> None:
        found = lines('m,t=x f=1.5,i=-2i,u=3u,s="text",b=t 17')
        fields: dict[str, FieldValue] = {"f": 1.5, "i": -2, "u": UnsignedInt(3), "s": "text", "b": True}
        self.assertEqual(found, [Line("m", {"t": "x"}, fields, 17)])
        self.assertEqual(
            [type(value) for value in found[0].fields.values()], [float, int, UnsignedInt, str, bool]
        )

    def test_nothing(self) -> None:
        for text in ("", "\n\r\n  \n\t\n", '# a comment\n   # another, with a "\n'):
            with self.subTest(text):
                self.check(text)

    def test_spaces_and_line_ends(self) -> None:
        self.check(
            "  m,t=x   v=1   1  \n\tm v=2\n", Line("m", {"t": "x"}, {"v": 1.0}, 1), Line("m", {}, {"v": 2.0})
        )
        self.check(
            'm v=1 1\r\nm v=2\r\n\r\nm s="x" \r\nm b=t 3\r',
            Line("m", {}, {"v": 1.0}, 1),
            Line("m", {}, {"v": 2.0}),
            Line("m", {}, {"s": "x"}),
            Line("m", {}, {"b": True}, 3),
        )
        self.check("m,t=x\ry v\r=1 1", Line("m", {"t": "x\ry"}, {"v\r": 1.0}, 1))

    def test_escapes(self) -> None:
        self.check(
            r"my\ table\,x=y\z,tag\ key=a\,b\ c\=d,p=C:\dir fi\eld\ \,\==1 1",
            Line(r"my table,x=y\z", {"tag key": "a,b c=d", "p": r"C:\dir"}, {r"fi\eld ,=": 1.0}, 1),
        )
        self.check(
            r'm,t=a=b,u="q" s="a \"quoted\" \\ \x, = end" 1',
            Line("m", {"t": "a=b", "u": '"q"'}, {"s": 'a "quoted" \\ \\x, = end'}, 1),
        )
        self.check("m,t=\\\\\\,x v=1 1", Line("m", {"t": "\\\\,x"}, {"v": 1.0}, 1))
        self.check('größe,stadt=köln wärme="漢字" 1', Line("größe", {"stadt": "köln"}, {"wärme": "漢字"}, 1))

    def test_line_breaks_in_strings(self) -> None:
        self.check(
            'm s="a\nb\n" 1\nm s="c\r\nd",v=2 3',
            Line("m", {}, {"s": "a\nb\n"}, 1),
            Line("m", {}, {"s": "c\r\nd", "v": 2.0}, 3),
        )

    def test_numbers(self) -> None:
        for text, value in (
            ("-0", -0.0),
            ("1e3", 1000.0),
            ("-1.25E-2", -0.0125),
            ("1e+2", 100.0),
            ("9007199254740993", 9007199254740992.0),
            ("-9223372036854775808i", -(2**63)),
            ("18446744073709551615u", UnsignedInt(2**64 - 1)),
        ):
            with self.subTest(text):
                self.check(f"m v={text}", Line("m", {}, {"v": value}))

    def test_booleans(self) -> None:
        for value, words in ((True, "t T true True TRUE"), (False, "f F false False FALSE")):
            for word in words.split():
                self.check(f"m v={word}", Line("m", {}, {"v": value}))


class Comparing(unittest.TestCase):
    """Which lines are the same."""

    def test_order_does_not_count(self) -> None:
        self.assertEqual(lines("m,a=1,b=2 x=1,y=2 5"), lines("m,b=2,a=1 y=2,x=1.0 5"))
        self.assertEqual(len(set(lines("m,a=1,b=2 x=1 5\nm,b=2,a=1 x=1 5"))), 1)

    def test_types_and_times_do(self) -> None:
        different = [
            "m v=1 5",
            "m v=1i 5",
            "m v=1u 5",
            "m v=t 5",
            'm v="1" 5',
            "m v=1",
            "n v=1 5",
            "m,v=1 w=1 5",
        ]
        self.assertEqual(len(set(lines("\n".join(different)))), len(different))
        self.assertNotEqual(lines("m v=1")[0], "m v=1")

    def test_what_a_builder_writes_is_read_back(self) -> None:
        builder = (
            LineBuilder("a,b")
            .tag("t", "a b,c=d")
            .string_field("s", 'say "\\"')
            .uint64_field("u", 1)
            .float64_field("f", 1e-7)
            .int64_field("i", -1)
            .bool_field("b", False)
            .time_ns(-5)
        )
        fields: dict[str, FieldValue] = {"s": 'say "\\"', "u": UnsignedInt(1), "f": 1e-7, "i": -1, "b": False}
        line = Line("a,b", {"t": "a b,c=d"}, fields, -5)
        self.assertEqual(lines(builder.build()), [line])
        self.assertEqual(lines(str(line)), [line])
        self.assertEqual(repr(line), r'<a\,b,t=a\ b\,c\=d b=false,f=1e-07,i=-1i,s="say \"\\\"",u=1u -5>')


class Refusing(unittest.TestCase):
    """The database's texts for lines that it refuses."""

    def check(self, line: str, message: str) -> None:
        with self.subTest(line), self.assertRaises(LineProtocolError) as caught:
            lines(line)
        self.assertEqual(caught.exception.message, message)

    def test_the_series(self) -> None:
        no_space = "Expected at least one space character, got end of input"
        self.check(",t=x v=1", "Invalid measurement was provided")
        for line in ("cpu", "cpu,t=x", "cpu,t=x\r\n"):
            self.check(line, no_space)
        malformed = "Tag set malformed: could not find equals sign in "
        self.check("cpu,t v=1", malformed + "`t v=1`")
        self.check("cpu,a=b,t v=1", malformed + "`t v=1`")
        self.check("cpu,t", malformed + "`t`")
        self.check("cpu, v=1", "Expected tag key, got ` v=1`")
        self.check("cpu,=x v=1", "Expected tag key, got `=x v=1`")
        self.check("cpu,a=b, v=1", "Expected tag key, got ` v=1`")
        self.check("cpu,", "Expected tag key, got end of input")
        self.check("cpu,t= v=1", "Expected tag value, got ` v=1`")
        self.check("cpu,t=,a=b v=1\n", "Expected tag value, got `,a=b v=1`")
        self.check("cpu,t=", "Expected tag value, got end of input")
        self.check("cpu,t=x,t=x v=1", "invalid line protocol - multiple instances of 't' tag found")
        self.check("cpu,t\\,=x,t\\,=y v=1", "invalid line protocol - multiple instances of 't,' tag found")
        self.check(
            "cpu,time=x v=1",
            "invalid column type for column 'time', expected iox::column_type::timestamp, "
            "got iox::column_type::tag",
        )
        self.check(
            "cpu,__chunk_order=x v=1",
            "invalid line protocol - the column name '__chunk_order' is reserved",
        )

    def test_backslashes(self) -> None:
        for line in (
            "cpu\\",
            "cpu\\\r\n",
            "cpu\\\\ v=1",
            "cpu,t\\",
            "cpu,t\\\\=x v=1",
            "cpu,t=x\\",
            "cpu,t=x\\\\ v=1",
            "cpu,t=x\\\\,u=y v=1",
            "cpu v\\",
            "cpu v\\\\=1",
            "cpu v=1,w\\",
        ):
            self.check(line, "Measurements, tag keys and values, and field keys may not end with a backslash")

    def test_fields(self) -> None:
        for rest in ("", " ", "v", "=1", "v=", "v=bad", "v=+1", "v=.5", "v=nan", "v=inf", "v=-", 'v="open'):
            self.check(f"cpu {rest}", "No fields were provided")
        for line, trailing in (
            ("cpu v=1.", "."),
            ("cpu v=1,", ","),
            ("cpu v=1,w", ",w"),
            ("cpu v=1,w=x 5", ",w=x 5"),
            ("cpu v=1,=2", ",=2"),
            ("cpu v=1x", "x"),
            ("cpu v=tr", "r"),
            ('cpu v="s"x', "x"),
            ("cpu v=-5u", "u"),
            ("cpu v=1.5i", "i"),
            ("cpu v=1\ry", "\ry"),
        ):
            self.check(line, f"Could not parse entire line. Found trailing content: `{trailing}`")
        self.check("cpu v=9223372036854775808i", "Unable to parse integer value `9223372036854775808`")
        self.check("cpu v=-9223372036854775809i", "Unable to parse integer value `-9223372036854775809`")
        self.check(
            "cpu v=18446744073709551616u", "Unable to parse unsigned integer value `18446744073709551616`"
        )
        self.check("cpu v=1e999", "Unable to parse floating-point value `1e999`")
        self.check(f"cpu v={'9' * 5000}i", f"Unable to parse integer value `{'9' * 256}`")
        for line in ("m usage=1,usage=1", "m usage=1,usage=2i", "m a=1,usage=t,usage=f"):
            self.check(line, "invalid line protocol - multiple instances of 'usage' field found")
        self.check(
            "m,a=x a=1",
            "invalid column type for column 'a', expected iox::column_type::tag, "
            "got iox::column_type::field::float",
        )
        self.check(
            "m time=1i",
            "invalid column type for column 'time', expected iox::column_type::timestamp, "
            "got iox::column_type::field::integer",
        )
        self.check("m __chunk_order=1", "invalid line protocol - the column name '__chunk_order' is reserved")

    def test_the_time(self) -> None:
        for line, trailing in (
            ("cpu v=1 abc", " abc"),
            ("cpu v=1 -", " -"),
            ("cpu v=1 5x", "x"),
            ("cpu v=1 5 6", "6"),
            ("cpu v=1 5.5", ".5"),
        ):
            self.check(line, f"Could not parse entire line. Found trailing content: `{trailing}`")
        self.check("cpu v=1 99999999999999999999", "Unable to parse timestamp value `99999999999999999999`")

    def test_lengths(self) -> None:
        long = "x" * (1024 * 1024 + 1)
        for line in (f"{long} v=1", f"m,{long}=x v=1", f"m,t={long} v=1", f"m {long}=1", f'm v="{long}"'):
            with self.assertRaises(LineProtocolError) as caught:
                lines(line)
            self.assertEqual(caught.exception.message, "String is greater than 1MB")
            self.assertEqual(len(caught.exception.original_line), 256)

    def test_the_line_is_named(self) -> None:
        with self.assertRaises(LineProtocolError) as caught:
            lines('# one\nm s="a\nb" 1\n  bad\nm v=1')
        error = caught.exception
        self.assertEqual((error.line_number, error.original_line), (4, "  bad"))
        self.assertEqual(str(error), "line 4: Expected at least one space character, got end of input:   bad")

    def test_the_line_ends_behind_its_strings(self) -> None:
        with self.assertRaises(LineProtocolError) as caught:
            lines('m s="a\nb" x\nm v=1')
        self.assertEqual(caught.exception.original_line, 'm s="a\nb" x')


if __name__ == "__main__":
    unittest.main()
