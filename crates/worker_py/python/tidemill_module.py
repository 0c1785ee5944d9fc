"""What `import tidemill` gives in a plugin's process: the extension's classes, and the types of `python/tidemill/interface.py`.

The types are made when a plugin first asks for one. Most name them for their type checker only, and `typing` takes milliseconds
to import.
"""

from importlib.machinery import ModuleSpec
from types import ModuleType


def make(classes, interface_source):
    """A module with these attributes, to which the public names of the interface are added on demand."""
    module = ModuleType("tidemill")
    module.__spec__ = ModuleSpec("tidemill", None, origin="tidemill worker")
    vars(module).update(classes)

    def __getattr__(name):
        if not name.startswith("_") and "_interface" not in vars(module):
            interface = {"__name__": "tidemill"}
            exec(compile(interface_source, "<tidemill interface>", "exec"), interface)
            module._interface = interface
            for public in interface["__all__"]:
                vars(module).setdefault(public, interface[public])
        if name in vars(module):
            return vars(module)[name]
        raise AttributeError(f"module 'tidemill' has no attribute {name!r}")

    module.__getattr__ = __getattr__
    return module
