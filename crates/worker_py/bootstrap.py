# Run as `python -u -c BOOTSTRAP EXTENSION_PATH FD SANDBOX_PROFILE`: loads the extension by its path, whatever it is called, and hands the
# process over to it. `-c` puts the current directory first in sys.path, where any file could shadow a library: out with it.
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec

extension, connection, sandbox = sys.argv[1], int(sys.argv[2]), sys.argv[3]
del sys.argv[1:]
if sys.path and sys.path[0] == "":
    del sys.path[0]
loader = ExtensionFileLoader("tidemill_worker", extension)
module = loader.create_module(ModuleSpec("tidemill_worker", loader, origin=extension))
loader.exec_module(module)
module.main(connection, sandbox)
