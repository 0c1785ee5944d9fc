"""Runs: their arguments, what is kept between them, and what becomes of what they do."""

from __future__ import annotations

import asyncio
import unittest
from datetime import datetime, timedelta, timezone
from typing import Any

from tidemill import Arguments, PluginApi, RunTimeout
from tidemill.testing import (
    Clock,
    GlobalCache,
    RunFailed,
    Trigger,
    UnexpectedQuery,
    lines,
    run_request,
    run_scheduled,
    run_writes,
)


class GivenArguments(unittest.TestCase):
    """What the plugin is called with."""

    def test_args_are_a_new_dictionary_each_time(self) -> None:
        def plugin(api: PluginApi, call_time: datetime, args: Arguments) -> None:
            api.info(args, api.args)
            if args is not None:
                args["x"] = "1"

        for given, logged in ((None, "None None"), ({}, "{} {}"), ({"a": "1"}, "{'a': '1'} {'a': '1'}")):
            trigger = Trigger(plugin, given)
            for _ in range(2):
                self.assertEqual(trigger.run_scheduled().logs, [f"INFO: {logged}"])

    def test_the_request_itself(self) -> None:
        def plugin(api: PluginApi, parameters: Any, headers: Any, body: bytes, args: Arguments) -> Any:
            request = api.request
            assert request is not None
            return [request.method, request.path, request.query_string, request.headers]

        headers = {"X-A": "1", "Authorization": "secret"}
        for run, expected in (
            (run_request(plugin, "a=1&b", headers), ["GET", "a=1&b"]),
            (run_request(plugin, {"a": "1 2"}, headers, "body"), ["POST", "a=1+2"]),
            (run_request(plugin, headers=headers, method="DELETE"), ["DELETE", ""]),
        ):
            assert run.response is not None
            method, query_string = expected
            path = "/api/v3/engine/test"
            self.assertEqual(run.response.json(), [method, path, query_string, [["x-a", "1"]]])
        scheduled = run_scheduled(lambda api, call_time, args: api.info(api.request))
        self.assertEqual(scheduled.logs, ["INFO: None"])

    def test_the_scheduled_time_is_naive_utc(self) -> None:
        def plugin(api: PluginApi, call_time: datetime, args: Arguments) -> None:
            api.info(repr(call_time))

        tokyo = timezone(timedelta(hours=9))
        clock = Clock(datetime(2026, 1, 1, 9, 0, 5, 100200, tokyo))
        expected = ["INFO: datetime.datetime(2026, 1, 1, 0, 0, 5, 100200)"]
        self.assertEqual(run_scheduled(plugin, clock=clock).logs, expected)
        self.assertEqual(run_scheduled(plugin, clock.now()).logs, expected)
        self.assertEqual(run_scheduled(plugin, datetime(2026, 1, 1, 9, 0, 5, 100200, tokyo)).logs, expected)

    def test_a_request_has_parameters_headers_and_a_body(self) -> None:
        def plugin(
            api: PluginApi, parameters: dict[str, str], headers: dict[str, str], body: bytes, args: Arguments
        ) -> list[Any]:
            return [parameters, headers, list(body), args]

        headers = {"X-Y": "z", "Authorization": "Bearer secret"}
        run = run_request(plugin, "a=1&b=&a=2&c=x+y%2Fz&d", headers, "é")
        assert run.response is not None
        parameters = {"a": "2", "b": "", "c": "x y/z", "d": ""}
        self.assertEqual(run.response.json(), [parameters, {"x-y": "z"}, [0xC3, 0xA9], None])
        run = run_request(plugin, {"a": "1"}, body=b"\x00", args={"k": "v"})
        assert run.response is not None
        self.assertEqual(run.response.json(), [{"a": "1"}, {}, [0], {"k": "v"}])

    def test_runs_are_named(self) -> None:
        trigger = Trigger(
            lambda api, call_time, args: api.info(api.trigger_name, api.database, api.run_id),
            database="tides",
            trigger_name="gauge",
        )
        self.assertEqual(trigger.run_scheduled().logs, ["INFO: gauge tides run-1"])
        self.assertEqual(trigger.run_scheduled().logs, ["INFO: gauge tides run-2"])


class KeptBetweenRuns(unittest.TestCase):
    """Cache, state, event loop."""

    def test_the_cache_holds_live_objects(self) -> None:
        def plugin(api: PluginApi, call_time: datetime, args: Arguments) -> None:
            api.cache.get("seen").append(1)

        seen: list[int] = []
        trigger = Trigger(plugin, cache={"seen": seen})
        trigger.run_scheduled()
        self.assertEqual(trigger.run_scheduled().cache, {"seen": [1, 1]})
        self.assertEqual(seen, [1, 1])

    def test_the_clock_ends_times_to_live(self) -> None:
        def plugin(api: PluginApi, call_time: datetime, args: Arguments) -> None:
            if api.cache.get("k") is None:
                api.cache.put("k", str(call_time.time()), ttl=60)

        trigger = Trigger(plugin)
        self.assertEqual(trigger.run_scheduled().cache, {"k": "00:00:00"})
        trigger.clock.advance(59)
        self.assertEqual(trigger.run_scheduled().cache, {"k": "00:00:00"})
        trigger.clock.advance(1)
        self.assertEqual(trigger.run_scheduled().cache, {"k": "00:01:00"})

    def test_triggers_share_the_global_cache(self) -> None:
        def plugin(api: PluginApi, call_time: datetime, args: Arguments) -> None:
            api.cache.put("n", api.cache.get("n", 0, use_global=True) + 1, use_global=True)

        shared = GlobalCache()
        Trigger(plugin, global_cache=shared).run_scheduled()
        run = Trigger(plugin, global_cache=shared).run_scheduled()
        self.assertEqual((shared.get("n"), run.cache), (2, {}))

    def test_coroutines_share_a_loop(self) -> None:
        loops = []

        async def plugin(api: PluginApi, call_time: datetime, args: Arguments) -> None:
            await asyncio.sleep(0)
            loops.append(asyncio.get_running_loop())
            api.write("m f=1")

        trigger = Trigger(plugin)
        for _ in range(2):
            self.assertEqual(trigger.run_scheduled().writes, {"test": lines("m f=1")})
        self.assertIs(loops[0], loops[1])

    def test_answers_may_be_replaced(self) -> None:
        trigger = Trigger(lambda api, call_time, args: api.info(api.query("q")), queries={"q": []})
        self.assertEqual(trigger.run_scheduled().logs, ["INFO: []"])
        trigger.queries = {"q": [{"a": 1}]}
        self.assertEqual(trigger.run_scheduled().logs, ["INFO: [{'a': 1}]"])


class FailedRuns(unittest.TestCase):
    """`spec/engine.md` 3.3 and 2.8."""

    @staticmethod
    def failing(api: PluginApi, *arguments: object) -> None:
        """Does a bit of everything, then raises."""
        api.info("begun")
        api.write("queued f=1 1")
        api.write_to_db("other", "queued f=1 1")
        api.write_sync("kept f=1 1", no_sync=False)
        api.cache.put("kept", 1)
        api.state.put("lost", 1)
        api.state.delete("deleted")
        raise ValueError("on purpose")

    def test_what_the_plugin_raises_is_raised(self) -> None:
        with self.assertRaisesRegex(ValueError, "on purpose"):
            run_writes(self.failing, "")
        with self.assertRaisesRegex(ValueError, "on purpose"):
            run_scheduled(self.failing)

    def test_what_was_queued_is_discarded(self) -> None:
        trigger = Trigger(self.failing, state={"deleted": 1})
        run = trigger.run_scheduled(check=False)
        self.assertIsInstance(run.error, ValueError)
        self.assertEqual(run.writes, {"test": lines("kept f=1 1")})
        self.assertEqual((run.logs, run.cache, run.state), (["INFO: begun"], {"kept": 1}, {"deleted": 1}))
        self.assertIsNone(run.response)

    def test_a_request_is_answered_with_the_failure(self) -> None:
        response = run_request(self.failing, check=False).response
        assert response is not None
        self.assertEqual(
            (response.status, response.headers, response.text),
            (
                500,
                [("Content-Type", "application/json")],
                '{"error":"Python function call failed: ValueError: on purpose"}',
            ),
        )

    def test_a_generator_belongs_to_the_run(self) -> None:
        def plugin(api: PluginApi, *arguments: object) -> Any:
            def pieces() -> Any:
                api.write("m f=1")
                yield "a"
                if len(arguments[0]) > 0:  # type: ignore[arg-type]
                    raise KeyError("k")

            return pieces()

        self.assertEqual(run_request(plugin).writes, {"test": lines("m f=1")})
        run = run_request(plugin, "fail", check=False)
        assert run.response is not None
        self.assertEqual((run.writes, run.response.text), ({}, '{"error":"KeyError: \'k\'"}'))

    def test_a_refused_write_back_fails_the_run(self) -> None:
        text = "error writing back lines to test: Cannot write: line protocol parse failed: No fields were provided"

        def plugin(api: PluginApi, *arguments: object) -> str:
            api.write("m f=1\nm f=nan")
            return "done"

        with self.assertRaises(RunFailed) as caught:
            run_request(plugin)
        self.assertEqual(str(caught.exception), text)
        run = run_request(plugin, check=False)
        assert run.response is not None
        self.assertEqual((run.writes, run.response.status, run.response.json()), ({}, 500, {"error": text}))

    def test_exits_are_failures(self) -> None:
        run = run_scheduled(lambda *arguments: exit(3), check=False)
        self.assertIsInstance(run.error, SystemExit)

    def test_a_wrong_signature_is_a_failure(self) -> None:
        def process_writes(api: object, table_batches: object) -> None: ...

        with self.assertRaisesRegex(TypeError, "takes 2 positional arguments but 3 were given"):
            run_writes(process_writes, "m f=1")

    def test_a_caught_query_without_an_answer_still_fails(self) -> None:
        def plugin(api: PluginApi, call_time: datetime, args: Arguments) -> None:
            try:
                api.query("SELECT 1")
            except Exception as error:
                api.error(error)

        with self.assertRaises(UnexpectedQuery):
            run_scheduled(plugin)
        run = run_scheduled(plugin, check=False)
        self.assertIsInstance(run.error, UnexpectedQuery)
        self.assertEqual(len(run.logs), 1)

    def test_a_time_limit_can_be_played(self) -> None:
        def plugin(api: PluginApi, call_time: datetime, args: Arguments) -> None:
            raise RunTimeout

        with self.assertRaisesRegex(TimeoutError, "the run was ended"):
            run_scheduled(plugin)

    def test_the_next_run_is_a_new_one(self) -> None:
        def plugin(api: PluginApi, call_time: datetime, args: Arguments) -> None:
            api.write("m f=1")
            if api.run_id == "run-1":
                raise ValueError

        trigger = Trigger(plugin)
        trigger.run_scheduled(check=False)
        self.assertEqual(trigger.run_scheduled().writes, {"test": lines("m f=1")})

    def test_an_object_that_is_kept_writes_at_once(self) -> None:
        kept: list[PluginApi] = []
        run = run_scheduled(lambda api, call_time, args: kept.append(api))
        kept[0].write("m f=1")
        kept[0].info("later")
        self.assertEqual((run.writes, run.logs), ({"test": lines("m f=1")}, ["INFO: later"]))


if __name__ == "__main__":
    unittest.main()
