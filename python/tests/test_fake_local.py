"""What a plugin does with `influxdb3_local`."""

from __future__ import annotations

import threading
import unittest
from datetime import datetime
from typing import Any

from tidemill import LineBuilder, QueryError
from tidemill.testing import FakeLocal, FakeState, LineProtocolError, Rows, RunFailed, UnexpectedQuery, lines


class Several:
    """A batch of lines, as plugins of the official library make."""

    def build(self) -> str:
        return "m f=3\nm f=4"


class Odd:
    """Builds something that is no line."""

    def build(self) -> int:
        return 5


class Attributes(unittest.TestCase):
    """The object itself."""

    def test_it_knows_its_run(self) -> None:
        local = FakeLocal(database="tides", trigger_name="gauge", run_id="r-7", args={"a": "1"})
        self.assertEqual(
            (local.database, local.trigger_name, local.run_id, local.args),
            ("tides", "gauge", "r-7", {"a": "1"}),
        )
        self.assertIsNone(FakeLocal().args)

    def test_logging(self) -> None:
        local = FakeLocal()
        local.info("a", 1, None)
        local.warn()
        local.error([2])
        self.assertEqual(local.logs, ["INFO: a 1 None", "WARN: ", "ERROR: [2]"])
        with self.assertRaises(TypeError):
            local.info(text="x")  # type: ignore[call-arg]


class Writing(unittest.TestCase):
    """`write` and its siblings."""

    def setUp(self) -> None:
        self.local = FakeLocal(database="tides")

    def test_every_form(self) -> None:
        self.local.write(LineBuilder("m").int64_field("f", 1))
        self.local.write_to_db("other", "m f=2\n")
        self.local.write(Several())
        self.local.write_to_db("tides", ["m f=5", LineBuilder("m").int64_field("f", 6)])
        self.local.write_to_db("other", (Several(),))
        self.local.write("")
        expected = {
            "tides": lines("m f=1i\nm f=3\nm f=4\nm f=5\nm f=6i"),
            "other": lines("m f=2\nm f=3\nm f=4"),
        }
        self.assertEqual(self.local.writes, expected)
        self.local.commit()
        self.assertEqual(self.local.writes, expected)

    def test_what_cannot_be_written(self) -> None:
        attempts: list[tuple[Any, str, str]] = [
            (5, "AttributeError", "'int' object has no attribute 'build'"),
            (None, "AttributeError", "'NoneType' object has no attribute 'build'"),
            (Odd(), "TypeError", "build() must return str, not int"),
            ([["m f=1"]], "AttributeError", "'list' object has no attribute 'build'"),
            (LineBuilder("m"), "InvalidLineError", "At least one field is required: m"),
        ]
        for written, kind, text in attempts:
            for write in (self.local.write, lambda written: self.local.write_sync(written, no_sync=True)):
                with self.assertRaises(Exception) as caught:
                    write(written)
                self.assertEqual((type(caught.exception).__name__, str(caught.exception)), (kind, text))
        with self.assertRaises(UnicodeEncodeError):
            self.local.write('m f="\ud800"')
        self.assertEqual(self.local.writes, {})

    def test_synchronous_writes(self) -> None:
        self.local.write("m f=1")
        self.local.write_sync("m f=2", no_sync=False)
        self.local.write_sync_to_db("other", LineBuilder("m").int64_field("f", 3), True)
        self.assertEqual(self.local.writes, {"tides": lines("m f=2\nm f=1"), "other": lines("m f=3i")})
        self.local.discard()
        self.assertEqual(self.local.writes, {"tides": lines("m f=2"), "other": lines("m f=3i")})
        with self.assertRaises(TypeError):
            self.local.write_sync("m f=1")  # type: ignore[call-arg]
        with self.assertRaises(TypeError):
            self.local.write_sync("m f=1", no_sync=1)  # type: ignore[arg-type]

    def test_refused_synchronous_writes(self) -> None:
        no_space = "Expected at least one space character, got end of input"
        for database, written, text in (
            ("tides", "bad", f"Cannot write: line protocol parse failed: {no_space}"),
            ("tides", "m f=1\nbad", f"Cannot write: line protocol parse failed: {no_space}"),
            ("tides", "", "Cannot write: incoming write was empty"),
            ("", "m f=1", "invalid database name: db name cannot be empty"),
            ("x" * 512, "m f=1", "invalid database name: db name too long: max 511"),
            (
                "a b",
                "m f=1",
                "invalid database name: invalid character in database or rp name: "
                "must be ASCII, containing only letters, numbers, underscores, or hyphens",
            ),
        ):
            with self.assertRaises(Exception) as caught:
                self.local.write_sync_to_db(database, written, no_sync=False)
            self.assertIs(type(caught.exception), Exception)
            self.assertEqual(str(caught.exception), f"error writing line protocol to {database}: {text}")
        self.assertEqual(self.local.writes, {})

    def test_a_refused_write_back_writes_nothing(self) -> None:
        for database, written, text in (
            ("a b", "m f=1", "invalid database name: a b"),
            (
                "other",
                "bad",
                "error writing back lines to other: Cannot write: line protocol parse failed: "
                "Expected at least one space character, got end of input",
            ),
            (
                "other",
                "# nothing",
                "error writing back lines to other: Cannot write: incoming write was empty",
            ),
        ):
            local = FakeLocal(state=FakeState({"n": 1}))
            local.write("m f=1")
            local.write_to_db(database, written)
            local.state.put("n", 2)
            with self.assertRaises(RunFailed) as caught:
                local.commit()
            self.assertEqual(str(caught.exception), text)
            local.discard()
            self.assertEqual((local.writes, local.state.values()), ({}, {"n": 1}))

    def test_looking_at_refused_lines_says_what_is_wrong(self) -> None:
        self.local.write("m f=1\nbad")
        with self.assertRaises(LineProtocolError) as caught:
            _ = self.local.writes
        self.assertEqual(caught.exception.line_number, 2)

    def test_after_the_run_writes_are_committed_at_once(self) -> None:
        self.local.commit()
        thread = threading.Thread(target=self.local.write, args=("m f=1",))
        thread.start()
        thread.join()
        self.local.discard()
        self.assertEqual(self.local.writes, {"tides": lines("m f=1")})


class Querying(unittest.TestCase):
    """`query` and `query_arrow`."""

    def test_answers_by_text(self) -> None:
        answers: dict[str, Rows | Exception] = {
            "SELECT a FROM m WHERE b = $b": [{"a": 1}],
            "SELECT c": QueryError("error: no c"),
        }
        local = FakeLocal(database="tides", queries=answers)
        sql = "SELECT a\n  FROM m\n  WHERE b = $b"
        self.assertEqual(local.query(sql, {"b": 2}, "other"), [{"a": 1}])
        self.assertEqual(local.queries, [(sql, {"b": 2}, "other")])
        with self.assertRaisesRegex(QueryError, "no c"):
            local.query("SELECT c")
        self.assertEqual(local.queries[1].database, "tides")

    def test_answers_by_a_function(self) -> None:
        local = FakeLocal(queries=lambda query: [{"n": query.parameters["n"]}] if query.parameters else None)
        self.assertEqual(local.query("SELECT $n AS n", {"n": 3}), [{"n": 3}])
        with self.assertRaises(UnexpectedQuery):
            local.query("SELECT 1")

    def test_rows_belong_to_the_plugin(self) -> None:
        answers = {"q": [{"a": 1}]}
        local = FakeLocal(queries=answers)
        local.query("q")[0]["a"] = 2
        self.assertEqual(local.query("q"), [{"a": 1}])

    def test_a_query_without_an_answer(self) -> None:
        local = FakeLocal(database="tides")
        with self.assertRaises(UnexpectedQuery) as caught:
            local.query("SELECT 1")
        self.assertEqual(
            str(caught.exception), "the test has no answer for a query in database 'tides': SELECT 1"
        )
        self.assertIs(local.unexpected, caught.exception)

    def test_parameters(self) -> None:
        class Index:
            def __index__(self) -> int:
                return 7

        class Real:
            def __float__(self) -> float:
                return 0.5

        moment = datetime(2026, 1, 1)
        given = {
            "s": "x",
            "i": -(2**63),
            "u": 2**64 - 1,
            "f": 1.5,
            "b": True,
            "n": None,
            "y": b"x",
            "a": bytearray(b"y"),
            "t": moment,
            "index": Index(),
            "real": Real(),
        }
        local = FakeLocal(queries={"q": []})
        local.query("q", given)
        self.assertEqual(local.queries[0].parameters, {**given, "a": b"y", "index": 7, "real": 0.5})
        self.assertIs(type(local.queries[0].parameters["a"]), bytes)

    def test_parameters_of_no_known_type(self) -> None:
        local = FakeLocal(queries={"q": []})
        unsupported = "query parameter 'p' has unsupported type list: use str, int, float, bool, None, bytes or datetime"
        attempts: list[tuple[Any, type[Exception], str]] = [
            ({"p": []}, TypeError, unsupported),
            ({1: "x"}, TypeError, "query parameter names must be str, not int"),
            ({"p": 2**64}, OverflowError, "query parameter 'p' does not fit 64 bits"),
        ]
        for given, kind, text in attempts:
            with self.assertRaises(kind) as caught:
                local.query("q", given)
            self.assertEqual(str(caught.exception), text)
        self.assertEqual(local.queries, [])

    def test_arrow_rows_need_no_pyarrow(self) -> None:
        table = FakeLocal(queries={"q": [{"a": 1}, {"b": 2}]}).query_arrow("q")
        self.assertEqual((len(table), table.rows()), (2, [{"a": 1, "b": None}, {"a": None, "b": 2}]))


class Keeping(unittest.TestCase):
    """`state`."""

    def test_values_are_copies(self) -> None:
        local = FakeLocal(state=FakeState({"seen": [1]}))
        local.state.get("seen").append(2)
        self.assertEqual(local.state.get("seen"), [1])
        self.assertEqual((local.state.get("x"), local.state.get("x", 5)), (None, 5))
        self.assertEqual((local.state.delete("seen"), local.state.delete("seen")), (True, False))

    def test_changes_are_committed_or_not_at_all(self) -> None:
        state = FakeState({"kept": 1, "deleted": 1})
        state.put("kept", 2)
        state.put("added", 3)
        state.delete("deleted")
        state.discard()
        self.assertEqual(state.values(), {"kept": 1, "deleted": 1})
        state.delete("deleted")
        state.commit()
        state.discard()
        self.assertEqual(state.values(), {"kept": 1})

    def test_outside_a_run_changes_are_durable_at_once(self) -> None:
        state = FakeState({"n": 1})
        local = FakeLocal(state=state)
        local.state.put("n", 2)
        local.discard()
        self.assertEqual(local.state.get("n"), 1)
        local.state.put("n", 3)
        FakeLocal(state=state).discard()
        self.assertEqual(state.values(), {"n": 3})

    def test_there_are_limits(self) -> None:
        state = FakeState()
        for key, message in (
            ("", "a key of the state must not be empty"),
            ("\0run", "a key of the state must not begin with a NUL character"),
            ("k" * 1025, "a key of the state has at most 1024 bytes; this one has 1025"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                state.put(key, 1)
        with self.assertRaisesRegex(ValueError, "the value for 'k' has 9437193 bytes when it is pickled"):
            state.put("k", bytes(9 << 20))
        local = FakeLocal(state=state)
        for key in "abc":
            local.state.put(key, bytes(7 << 20))
        local.write("m f=1")
        with self.assertRaisesRegex(RunFailed, "the state of the trigger would take 22020"):
            local.commit()
        local.discard()
        self.assertEqual((local.writes, state.values()), ({}, {}))

    def test_mistakes(self) -> None:
        with self.assertRaisesRegex(
            TypeError, "the value for 'lock' cannot be pickled, which the state needs"
        ):
            FakeState().put("lock", threading.Lock())
        with self.assertRaises(TypeError):
            FakeState().get(1)  # type: ignore[arg-type]


if __name__ == "__main__":
    unittest.main()
