"""Runs the examples of the README and of the docstrings."""

from __future__ import annotations
import __future__

import doctest
import importlib
import pkgutil
import re
import unittest
from pathlib import Path

import tidemill

README = Path(__file__).parent.parent / "README.md"
FENCED = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def load_tests(
    loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None
) -> unittest.TestSuite:
    """Adds the examples to the tests of this module, by the protocol of `unittest`."""
    tests.addTest(doctest.DocTestCase(readme_examples()))
    for module in pkgutil.walk_packages(tidemill.__path__, "tidemill."):
        tests.addTests(doctest.DocTestSuite(importlib.import_module(module.name)))
    return tests


def readme_examples() -> doctest.DocTest:
    """All examples of the README as one test, since later ones build on earlier ones."""
    # Everything else becomes blank lines, so that a failure is reported at its line.
    text = README.read_text()
    kept = ["\n"] * text.count("\n")
    for fenced in FENCED.finditer(text):
        first = text.count("\n", 0, fenced.start(1))
        block = fenced[1].splitlines(keepends=True)
        kept[first : first + len(block)] = block
    # `doctest` looks for imports from `__future__` before the first example runs.
    names = {"annotations": __future__.annotations}
    return doctest.DocTestParser().get_doctest("".join(kept), names, "README.md", str(README), 0)


class Documentation(unittest.TestCase):
    """That the examples are found at all."""

    def test_the_readme_has_examples(self) -> None:
        self.assertGreater(len(readme_examples().examples), 30)
