"""Plugins are loaded and called as the server does it."""

from __future__ import annotations

import builtins
import functools
import sys
import tempfile
import types
import unittest
from collections.abc import Callable
from pathlib import Path

import tidemill
from tidemill.testing import RunFailed, Trigger, load_plugin, run_request, run_scheduled, run_writes


class Folder(unittest.TestCase):
    """A test with a folder for plugins, after which the import system is as it was."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        path, modules = list(sys.path), dict(sys.modules)

        def restore() -> None:
            sys.path[:] = path
            for name in set(sys.modules) - set(modules):
                del sys.modules[name]

        self.addCleanup(restore)

    def file(self, name: str, source: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        return path


class Loading(Folder):
    """Files and folders."""

    def test_a_file_is_a_module(self) -> None:
        path = self.file("gauge.py", "class Thing: pass\n")
        module = load_plugin(path)
        self.assertEqual((module.__name__, module.__file__), ("gauge", str(path)))
        self.assertEqual(module.Thing.__module__, "gauge")
        self.assertIs(sys.modules["gauge"], module)
        self.assertEqual(sys.path[-1], str(self.folder))

    def test_an_edit_takes_effect(self) -> None:
        for number in (1, 2, 3):
            path = self.file("gauge.py", f"number = {number}\n")
            self.assertEqual(load_plugin(str(path)).number, number)

    def test_a_folder_is_a_package(self) -> None:
        self.file("several/__init__.py", "from .part import number\nfrom . import part\n")
        self.file("several/part.py", "number = 1\n")
        first = load_plugin(self.folder / "several")
        second = load_plugin(self.folder / "several")
        self.assertEqual((second.__name__, second.number), ("several", 1))
        self.assertIsNot(first.part, second.part)

    def test_helpers_beside_it_can_be_imported(self) -> None:
        self.file("helper_beside.py", "number = 7\n")
        self.assertEqual(load_plugin(self.file("gauge.py", "from helper_beside import number")).number, 7)
        self.file("several/__init__.py", "from helper_around import number")
        self.file("helper_around.py", "number = 8\n")
        self.assertEqual(load_plugin(self.folder / "several").number, 8)

    def test_a_taken_name_stays_whose_it_is(self) -> None:
        import json

        module = load_plugin(self.file("json.py", "mine = True\n"))
        self.assertEqual((module.__name__, module.mine), ("tidemill_plugin_json", True))
        self.assertIs(sys.modules["json"], json)
        self.assertEqual(load_plugin(self.file("tidemill.py", "")).__name__, "tidemill_plugin_tidemill")
        self.assertEqual(load_plugin(self.file("a.b c.py", "")).__name__, "tidemill_plugin_a_b_c")

    def test_the_name_of_another_plugin_is_taken(self) -> None:
        first = load_plugin(self.file("one/gauge.py", "number = 1"))
        second = load_plugin(self.file("two/gauge.py", "number = 2"))
        self.assertEqual((first.number, second.number), (1, 2))
        self.assertIs(sys.modules["gauge"], first)

    def test_what_the_module_raises_is_raised(self) -> None:
        path = self.file("gauge.py", "raise ValueError('at import')")
        with self.assertRaisesRegex(ValueError, "at import"):
            load_plugin(path)
        self.assertNotIn("gauge", sys.modules)

    def test_missing_files(self) -> None:
        (self.folder / "empty").mkdir()
        for name, missing in (("absent.py", "absent.py"), ("empty", "__init__.py")):
            with self.assertRaisesRegex(FileNotFoundError, f"there is no plugin at .*{missing} is missing"):
                load_plugin(self.folder / name)

    def test_the_builder_and_its_exceptions_are_builtins(self) -> None:
        names = (
            "LineBuilder QueryError InfluxDBError InvalidMeasurementError InvalidKeyError InvalidLineError"
        )
        for name in names.split():
            self.assertIs(getattr(builtins, name), getattr(tidemill, name))
        module = load_plugin(self.file("gauge.py", "line = LineBuilder('m').int64_field('f', 1).build()"))
        self.assertEqual(module.line, "m f=1i")


class EntryPoints(Folder):
    """Which function is called, and with what."""

    def test_a_module_a_path_and_a_function_will_do(self) -> None:
        path = self.file("gauge.py", "def process_scheduled_call(api, call_time, args): api.info(__name__)\n")
        module = load_plugin(path)
        for plugin in (module, path, str(path), module.process_scheduled_call):
            self.assertEqual(run_scheduled(plugin).logs, ["INFO: gauge"])

    def test_a_path_is_loaded_anew(self) -> None:
        path = self.file(
            "gauge.py",
            "runs = []\ndef process_scheduled_call(api, call_time, args): runs.append(1); api.info(len(runs))\n",
        )
        trigger = Trigger(path)
        self.assertEqual([trigger.run_scheduled().logs for _ in range(2)], [["INFO: 1"], ["INFO: 2"]])
        self.assertEqual(Trigger(path).run_scheduled().logs, ["INFO: 1"])
        assert isinstance(trigger.plugin, types.ModuleType)
        self.assertEqual(trigger.plugin.runs, [1, 1])

    def test_any_callable_will_do(self) -> None:
        module = types.ModuleType("plugin")

        def answer(word: str, *arguments: object) -> str:
            return word

        module.process_request = functools.partial(answer, "partial")  # type: ignore[attr-defined]
        response = run_request(module).response
        assert response is not None
        self.assertEqual(response.text, "partial")

    def test_a_missing_function_is_named(self) -> None:
        module = types.ModuleType("plugin")
        attempts: list[tuple[Callable[[types.ModuleType], object], str]] = [
            (
                lambda module: run_writes(module, ""),
                "the process_writes function is not present in the plugin. "
                "Should be defined as: process_writes(influxdb3_local, table_batches, args=None)",
            ),
            (
                run_scheduled,
                "the process_scheduled_call function is not present in the plugin. "
                "Should be defined as: process_scheduled_call(influxdb3_local, call_time, args=None)",
            ),
            (
                run_request,
                "the process_request function is not present in the plugin. Should be defined as: "
                "process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None) "
                "-> Tuple[str, Optional[Dict[str, str]]]",
            ),
        ]
        for run, text in attempts:
            with self.assertRaises(RunFailed) as caught:
                run(module)
            self.assertEqual(str(caught.exception), text)

    def test_on_write_is_called_once_a_table(self) -> None:
        for definition in ("def", "async def"):
            source = f"{definition} on_write(self, database, table_name, batch):\n"
            path = self.file("gauge.py", source + "    self.info(database, table_name, batch, self.args)\n")
            run = run_writes(path, "a f=1i 1\nb f=1i 1\nb f=2i 2", {"k": "v"}, database="tides")
            self.assertEqual(
                run.logs,
                [
                    "INFO: tides a [{'f': 1, 'time': 1}] {'k': 'v'}",
                    "INFO: tides b [{'f': 1, 'time': 1}, {'f': 2, 'time': 2}] {'k': 'v'}",
                ],
            )

    def test_on_write_may_run_a_loop_of_its_own(self) -> None:
        source = """
import asyncio
async def work(): return 3
def on_write(self, database, table_name, batch): self.info(asyncio.run(work()))
"""
        self.assertEqual(run_writes(self.file("gauge.py", source), "m f=1").logs, ["INFO: 3"])


if __name__ == "__main__":
    unittest.main()
