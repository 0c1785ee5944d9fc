"""What `process_request` may return: the cases of `crates/worker_py/tests/worker/responses.rs`."""

from __future__ import annotations

import asyncio
import collections
import http
import unittest
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from tidemill.testing import Response, RunFailed, run_request


def answer(returned: Callable[[], Any]) -> Response:
    """The answer of a plugin whose function returns this."""
    response = run_request(lambda api, parameters, headers, body, args: returned()).response
    assert response is not None
    return response


class Answers(unittest.TestCase):
    """Return values that are answers."""

    def check(self, returned: Any, status: int, headers: str, body: str | bytes) -> None:
        found = answer(returned if callable(returned) else lambda: returned)
        shown = "; ".join(f"{name}: {value}" for name, value in found.headers)
        self.assertEqual((found.status, shown), (status, headers))
        self.assertEqual(found.text if isinstance(body, str) else found.body, body)

    def test_plain_values(self) -> None:
        json, binary = "Content-Type: application/json", "Content-Type: application/octet-stream"
        self.check("hi ü", 200, "Content-Type: text/html", "hi ü")
        self.check({"a": [1, None, "ü"]}, 200, json, '{"a": [1, null, "\\u00fc"]}')
        self.check([1.5, float("nan")], 200, json, "[1.5, NaN]")
        self.check(collections.OrderedDict(a=1), 200, json, '{"a": 1}')
        self.check({}, 200, json, "{}")
        self.check(b"\x00raw", 200, binary, b"\x00raw")
        self.check(bytearray(b"ab"), 200, binary, b"ab")
        self.check(memoryview(b"ab"), 200, binary, b"ab")

    def test_tuples(self) -> None:
        html = "Content-Type: text/html"
        self.check(("a",), 200, html, "a")
        self.check(("a", 201), 201, html, "a")
        self.check(({"a": 1}, 404, {"X": "y"}), 404, "Content-Type: application/json; X: y", '{"a": 1}')
        self.check(("a", {"X": "y"}), 200, f"{html}; X: y", "a")
        self.check(("a", 200, {"content-type": "text/csv"}), 200, "content-type: text/csv", "a")
        cookies = {"Set-Cookie": ["a=1", "b=2"]}
        self.check(("a", cookies), 200, f"{html}; Set-Cookie: a=1; Set-Cookie: b=2", "a")
        self.check((3, 200), 200, "Content-Type: text/plain", "3")
        self.check((None, 204), 204, "Content-Type: text/plain", "None")
        self.check((b"hi", 200), 200, "Content-Type: application/octet-stream", "hi")
        self.check(("a", "ignored"), 200, html, "a")
        self.check(("a", 200.0), 200, html, "a")
        self.check(("a", http.HTTPStatus.CREATED), 201, html, "a")
        self.check(lambda: ((piece for piece in ["a", "b"]), 202), 202, html, "ab")
        self.check((1, 2, 3, "a"), 200, html, "a")
        self.check((), 200, html, "")

    def test_iterables(self) -> None:
        def pieces() -> Iterator[object]:
            yield "a"
            yield b"b\xff"
            yield 3
            yield "c"

        async def later() -> AsyncIterator[object]:
            yield "x"
            await asyncio.sleep(0)
            yield b"y"

        self.check(pieces, 200, "Content-Type: text/html", b"ab\xffc")
        self.check({"only"}, 200, "Content-Type: text/html", "only")
        self.check(later, 200, "Content-Type: text/html", "xy")

    def test_response_objects(self) -> None:
        class Marked:
            status_code = 418
            headers = {"X": "y"}

            def get_data(self) -> str:
                return "tea"

            def __flask_response__(self) -> bool:
                return True

        class Headers:
            def items(self) -> Iterator[tuple[str, str]]:
                return iter([("Content-Type", "text/csv"), ("A", "1"), ("A", "2")])

        class LikeWerkzeug:
            status_code = 202
            headers = Headers()

            def get_data(self) -> bytes:
                return b"a,b"

        class Streamed(LikeWerkzeug):
            is_streamed = True
            is_closed = False

            def iter_encoded(self) -> Iterator[bytes]:
                yield b"a"
                yield b"b"

            def close(self) -> None:
                self.is_closed = True

        self.check(Marked(), 418, "X: y", "tea")
        self.check((Marked(), 200, {"x": "z"}), 200, "x: z", "tea")
        streamed = Streamed()
        self.check(streamed, 202, "Content-Type: text/csv; A: 1; A: 2", "ab")
        self.assertTrue(streamed.is_closed)
        self.check(LikeWerkzeug(), 202, "Content-Type: text/csv; A: 1; A: 2", "a,b")

    def test_coroutines(self) -> None:
        async def later() -> tuple[str, int]:
            await asyncio.sleep(0)
            return "late", 202

        self.check(later, 202, "Content-Type: text/html", "late")


class NoAnswers(unittest.TestCase):
    """Return values that are none."""

    def check(self, returned: Callable[[], Any], kind: type[Exception], text: str) -> None:
        run = run_request(lambda api, parameters, headers, body, args: returned(), check=False)
        self.assertIs(type(run.error), kind)
        assert run.response is not None
        self.assertEqual((run.response.status, run.response.json()), (500, {"error": text}))
        self.assertEqual(run.response.header("content-type"), "application/json")

    def test_texts(self) -> None:
        unsupported = "Unsupported return type from Python function"
        self.check(lambda: None, RunFailed, unsupported)
        self.check(lambda: 5, RunFailed, unsupported)
        self.check(lambda: (200, {"X": "y"}, "body"), RunFailed, "expected a dictionary in header item")
        self.check(lambda: {"a": {1}}, TypeError, "TypeError: Object of type set is not JSON serializable")
        self.check(lambda: ("a", 99), ValueError, "ValueError: 99 is not an HTTP status")
        self.check(
            lambda: ("a", {"bad name": "x"}),
            ValueError,
            'ValueError: "bad name" cannot be the name of a header',
        )
        self.check(
            lambda: ("a", {"X": ["fine", "a\r\nb"]}),
            ValueError,
            'ValueError: the value of header X has characters that a header cannot carry: "a\\r\\nb"',
        )
        self.check(lambda: ("a", 600), ValueError, "ValueError: 600 is not an HTTP status")

    def test_exceptions_of_what_is_returned(self) -> None:
        def breaking() -> Iterator[str]:
            yield "a"
            raise KeyError("k")

        self.check(breaking, KeyError, "KeyError: 'k'")
        for returned, kind in ((("a", -1), OverflowError), ("\ud800", UnicodeEncodeError)):
            with self.assertRaises(kind):
                answer(lambda: returned)  # noqa: B023 (called at once)


if __name__ == "__main__":
    unittest.main()
