"""Loads a plugin as an ordinary module, and loads it again after an edit.

What lies in the plugin directory is compiled from its source each time it is loaded: a bytecode file knows an edit by second
and length only, which is too coarse for "takes effect at the next run".
"""

import _thread
import importlib
import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, ModuleSpec, SourceFileLoader

PRIVATE_PREFIX = "tidemill_plugin_"


class Plugin:
    """One plugin on disk. It is itself the import hook that knows the plugin's module, and only that module."""

    def __init__(self, path, is_package, plugin_dir, watch):
        """`watch` is the extension's list of files whose change means that the plugin must be loaded again."""
        path = path.rstrip(os.sep)
        plugin_dir = plugin_dir.rstrip(os.sep)
        self._is_package = is_package
        self._file = os.path.join(path, "__init__.py") if is_package else path
        self._folder = path if is_package else os.path.dirname(path)
        self._roots = tuple(root + os.sep for root in {self._folder, plugin_dir})
        self._watch = watch
        self._lock = _thread.allocate_lock()
        self._module = None
        self._module_names = set()
        for folder in (self._folder, plugin_dir):
            if folder not in sys.path:
                sys.path.append(folder)
        self._loader_class = type("PluginSourceLoader", (SourceLoader,), {"plugin": self})
        self._finder_of = FileFinder.path_hook((ExtensionFileLoader, EXTENSION_SUFFIXES), (self._loader_class, [".py"]))
        sys.path_hooks.insert(0, self._path_hook)
        self._forget_folders()
        self.display_name = os.path.basename(path)
        self.name = self._choose_name(self.display_name if is_package else os.path.splitext(self.display_name)[0])
        sys.meta_path.insert(0, self)

    def remove(self):
        """Undoes what the constructor did to the import system, before another plugin takes its place."""
        with self._lock:
            sys.meta_path.remove(self)
            sys.path_hooks.remove(self._path_hook)
            self._unload()
            self._forget_folders()

    def module(self):
        """The plugin's module, loaded (again) if it never was, or if a file changed. Raises what the plugin raises."""
        with self._lock:
            if self._module is None or self._watch.changed():
                self._unload()
                self._watch.clear()
                self._module = importlib.import_module(self.name)
            return self._module

    def owns(self, path):
        """Whether a source file belongs to the plugins, not to Python or to an installed package."""
        return (
            path.startswith(self._roots)
            and "site-packages" not in path
            and not (sys.prefix.startswith(self._roots) and path.startswith(sys.prefix))
        )

    def note(self, module_name, path):
        """Called for each module of the plugin, before its source is read: so no later edit is ever missed."""
        self._module_names.add(module_name)
        self._watch.add_file(path)
        if self._is_package and path.startswith(self._folder):
            self._watch.add_folder(os.path.dirname(path))

    def find_spec(self, fullname, path=None, target=None):
        """Part of the import protocol."""
        if fullname != self.name:
            return None
        loader = self._loader_class(fullname, self._file)
        spec = ModuleSpec(fullname, loader, origin=self._file, is_package=self._is_package)
        spec.has_location = True
        if self._is_package:
            spec.submodule_search_locations = [self._folder]
        return spec

    def _path_hook(self, folder):
        if not self.owns(os.path.join(folder, "")):
            raise ImportError("not a folder of plugins", path=folder)
        return self._finder_of(folder)

    def _unload(self):
        self._module = None
        for name in self._module_names | self._namespaces():
            sys.modules.pop(name, None)
        self._module_names.clear()
        self._forget_folders()

    def _namespaces(self):
        """Folders without an `__init__.py` that modules of the plugin lie in: nobody loads them, so nobody has noted them, but
        they hold the modules as attributes."""
        names = {name[:at] for name in self._module_names for at, letter in enumerate(name) if letter == "."}
        return {name for name in names if self._owns_all(getattr(sys.modules.get(name), "__path__", ()))}

    def _owns_all(self, folders):
        return all(self.owns(os.path.join(folder, "")) for folder in folders)

    def _forget_folders(self):
        # Finders remember listings for as long as a folder's time stamp stands still, which may be longer than an edit
        # takes; a package that was just installed must be found too. All of them are cheap to make again.
        sys.path_importer_cache.clear()

    def _choose_name(self, stem):
        # A plugin called `json` must neither become everybody's `json` nor be given the real one.
        if "." not in stem and not self._is_taken(stem):
            return stem
        return PRIVATE_PREFIX + "".join(letter if letter.isalnum() else "_" for letter in stem)

    def _is_taken(self, name):
        if name in sys.modules or name in sys.stdlib_module_names:
            return True
        for finder in sys.meta_path:
            spec = finder.find_spec(name, None) if hasattr(finder, "find_spec") else None
            if spec is not None:
                return spec.origin != self._file
        return False


class SourceLoader(SourceFileLoader):
    """Compiles from source, never from a bytecode file, and tells the plugin which files it consists of."""

    plugin = None

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        self.plugin.note(fullname, path)
        return self.source_to_code(self.get_data(path), path)
