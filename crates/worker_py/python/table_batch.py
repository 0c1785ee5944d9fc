"""The elements of `table_batches`: real dictionaries whose `rows` are built when somebody looks at them.

The stable ABI that the extension is built for cannot subclass `dict` natively, so the class is Python. The entry `rows` is
absent at first; every way in which Python code reads a dictionary is overridden to put it there before going on. Two things
make that watertight for C code as well: `__missing__` serves plain subscripts, and a class with its own `__iter__` is copied
(`dict(batch)`, `{**batch}`) and encoded (`json.dumps`) through its methods, not through its insides.
"""


class TableBatch(dict):
    """`{"table_name": str, "rows": list[dict]}`, with `to_arrow()` for those who do not want dictionaries."""

    __slots__ = ("_source", "_is_pending")

    def __init__(self, table_name, source):
        dict.__init__(self, table_name=table_name)
        self._source = source
        self._is_pending = True

    def to_arrow(self):
        """The rows as an object with the Arrow PyCapsule interface (`__arrow_c_stream__`); nothing is copied."""
        return self._source.to_arrow()

    def __missing__(self, key):
        if key != "rows" or not self._is_pending:
            raise KeyError(key)
        rows = self._source.rows()
        self._is_pending = False
        dict.__setitem__(self, "rows", rows)
        return rows

    def _complete(self):
        if self._is_pending:
            self["rows"]
        return self

    def __setitem__(self, key, value):
        self._complete()
        dict.__setitem__(self, key, value)

    def get(self, key, default=None):
        if key == "rows":
            self._complete()
        return dict.get(self, key, default)

    def __contains__(self, key):
        return dict.__contains__(self._complete() if key == "rows" else self, key)

    def __delitem__(self, key):
        self._complete()
        dict.__delitem__(self, key)

    def pop(self, key, *default):
        self._complete()
        return dict.pop(self, key, *default)

    def popitem(self):
        return dict.popitem(self._complete())

    def clear(self):
        self._is_pending = False
        dict.clear(self)

    def update(self, *others, **entries):
        dict.update(self._complete(), *others, **entries)

    def setdefault(self, key, default=None):
        return dict.setdefault(self._complete(), key, default)

    def keys(self):
        return dict.keys(self._complete())

    def values(self):
        return dict.values(self._complete())

    def items(self):
        return dict.items(self._complete())

    def copy(self):
        return dict(self.items())

    def __iter__(self):
        return dict.__iter__(self._complete())

    def __reversed__(self):
        return dict.__reversed__(self._complete())

    def __len__(self):
        return dict.__len__(self._complete())

    def __eq__(self, other):
        return dict(self.items()) == other

    def __ne__(self, other):
        return not self == other

    __hash__ = None

    def __or__(self, other):
        return dict(self.items()) | other

    def __ror__(self, other):
        return other | dict(self.items())

    def __ior__(self, other):
        self.update(other)
        return self

    def __repr__(self):
        return dict.__repr__(self._complete())

    def __reduce__(self):
        return dict, (self.copy(),)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        import copy

        return copy.deepcopy(self.copy(), memo)
