"""Loads plugins the way the server does, and finds their entry points (`spec/engine.md` 2.1)."""

from __future__ import annotations

import builtins
import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeAlias, Union

import tidemill
from tidemill.testing.awaiting import EventLoop
from tidemill.testing.failures import RunFailed

Plugin: TypeAlias = Union[ModuleType, str, "os.PathLike[str]", Callable[..., Any]]
"""A module, the path of a plugin's file or folder, or an entry point itself."""

_BUILTINS = (
    "LineBuilder",
    "QueryError",
    "InfluxDBError",
    "InvalidMeasurementError",
    "InvalidKeyError",
    "InvalidLineError",
)
_PRIVATE_PREFIX = "tidemill_plugin_"
_SIGNATURES = {
    "process_writes": "(influxdb3_local, table_batches, args=None)",
    "process_scheduled_call": "(influxdb3_local, call_time, args=None)",
    "process_request": "(influxdb3_local, query_parameters, request_headers, request_body, args=None) "
    "-> Tuple[str, Optional[Dict[str, str]]]",
}


def publish_builtins() -> None:
    """Makes `LineBuilder` and the exceptions builtins, as they are in the server."""
    for name in _BUILTINS:
        setattr(builtins, name, getattr(tidemill, name))


def load_plugin(path: str | os.PathLike[str]) -> ModuleType:
    """Executes a plugin's file, or the package in its folder, as a new module.

    Its folder, and for a package the one around it, go to the end of `sys.path`. The module's name is that of the file or folder;
    one that another module has gets a prefix, so that a plugin called `json` does not become everybody's `json`.
    """
    location = Path(path).resolve()
    is_package = location.is_dir()
    file = location / "__init__.py" if is_package else location
    if not file.is_file():
        raise FileNotFoundError(f"there is no plugin at {os.fspath(path)}: {file} is missing")
    for folder in (str(file.parent), str(location.parent)):
        if folder not in sys.path:
            sys.path.append(folder)
    name = _choose_name(location.name if is_package else location.stem, file)
    spec = importlib.util.spec_from_file_location(
        name,
        file,
        loader=_SourceLoader(name, str(file)),
        submodule_search_locations=[str(location)] if is_package else None,
    )
    assert spec is not None and spec.loader is not None, "a file with a loader has a spec"
    module = importlib.util.module_from_spec(spec)
    _unload(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        _unload(name)
        raise
    return module


def entry_point(plugin: ModuleType | Callable[..., Any], name: str, loop: EventLoop) -> Callable[..., Any]:
    """The function of this name, or the plugin itself if it is one. Raises `RunFailed` with the server's text."""
    if not isinstance(plugin, ModuleType):
        return plugin
    function: Callable[..., Any] | None = getattr(plugin, name, None)
    if function is None and name == "process_writes" and hasattr(plugin, "on_write"):
        return _by_table(plugin.on_write, loop)
    if function is None:
        raise RunFailed(
            f"the {name} function is not present in the plugin. Should be defined as: {name}{_SIGNATURES[name]}"
        )
    return function


def _by_table(on_write: Callable[..., Any], loop: EventLoop) -> Callable[..., Any]:
    """The legacy entry point `on_write(self, database, table_name, batch)` as `process_writes` (`spec/engine.md` 0.8)."""

    def process_writes(influxdb3_local: Any, table_batches: Any, args: Any) -> None:
        for batch in table_batches:
            database, table = influxdb3_local.database, batch["table_name"]
            loop.awaited(on_write(influxdb3_local, database, table, batch["rows"]))

    return process_writes


class _SourceLoader(SourceFileLoader):
    """Compiles from source: a bytecode file knows an edit by second and length only."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _choose_name(stem: str, file: Path) -> str:
    loaded = sys.modules.get(stem)
    is_own = loaded is not None and getattr(loaded, "__file__", None) == str(file)
    if "." not in stem and (is_own or not _is_taken(stem, file)):
        return stem
    return _PRIVATE_PREFIX + "".join(letter if letter.isalnum() else "_" for letter in stem)


def _is_taken(name: str, file: Path) -> bool:
    if name in sys.modules or name in sys.stdlib_module_names:
        return True
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin != str(file)


def _unload(name: str) -> None:
    for loaded in list(sys.modules):
        if loaded == name or loaded.startswith(f"{name}."):
            del sys.modules[loaded]
