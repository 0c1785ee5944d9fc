"""Makes the wheels of two versions of a package in a directory: `make_wheels.py DIRECTORY`."""

import sys
import zipfile

NAME = "tidemill_fault_package"

for version in ("1.0", "2.0"):
    info = f"{NAME}-{version}.dist-info"
    files = {
        f"{NAME}.py": f'VERSION = "{version}"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: faults\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    # A record without hashes is allowed, and is what installers check nothing against.
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(f"{sys.argv[1]}/{NAME}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
