"""Tests of the package, run by `python3 -m unittest discover -s python/tests -t python`."""
