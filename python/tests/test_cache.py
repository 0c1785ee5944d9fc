"""The cache of the harness keeps and forgets as the server's does."""

from __future__ import annotations

import threading
import unittest

from tidemill.testing import Clock, FakeCache, GlobalCache


class OwnNamespace(unittest.TestCase):
    """The trigger's own values."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.cache = FakeCache(clock=self.clock)

    def test_holds_live_objects(self) -> None:
        held: list[int] = []
        self.cache.put("held", held)
        self.assertIs(self.cache.get("held"), held)
        self.assertEqual(
            (self.cache.get("x"), self.cache.get("x", 5), self.cache.get("x", default=6)), (None, 5, 6)
        )

    def test_a_stored_none_is_a_value(self) -> None:
        self.cache.put("none", None)
        self.assertIsNone(self.cache.get("none", 7))
        self.assertEqual((self.cache.delete("none"), self.cache.delete("none")), (True, False))
        self.assertEqual(self.cache.get("none", 7), 7)

    def test_time_to_live(self) -> None:
        self.cache.put("gone", 1, ttl=0)
        self.cache.put("far", 2, ttl=3600)
        self.cache.put("short", 3, 0.5)
        self.assertEqual(self.cache.values(), {"far": 2, "short": 3})
        self.assertFalse(self.cache.delete("gone"))
        self.clock.advance(0.499)
        self.assertEqual(self.cache.get("short"), 3)
        self.clock.advance(0.001)
        self.assertIsNone(self.cache.get("short"))
        self.clock.advance(3600)
        self.assertEqual(self.cache.values(), {})

    def test_putting_again_replaces_the_time_to_live(self) -> None:
        self.cache.put("k", 1, ttl=1)
        self.cache.put("k", 2)
        self.clock.advance(10)
        self.assertEqual(self.cache.get("k"), 2)

    def test_mistakes(self) -> None:
        for ttl in (-1, float("nan"), 1e300, float("inf"), 10**400):
            with self.subTest(ttl), self.assertRaises(ValueError) as caught:
                self.cache.put("k", 1, ttl=ttl)
            self.assertEqual(
                str(caught.exception),
                "ttl must be a number of seconds that is not negative and not too large",
            )
        with self.assertRaises(TypeError):
            self.cache.put("k", 1, ttl="1")  # type: ignore[arg-type]
        for key in (1, None, b"k"):
            for use in (
                self.cache.get,
                self.cache.delete,
                lambda key: self.cache.put(key, 1),
                lambda key: self.cache.get(key, use_global=True),
            ):
                with self.assertRaises(TypeError):
                    use(key)  # type: ignore[arg-type]


class GlobalNamespace(unittest.TestCase):
    """The values that triggers share."""

    def test_holds_copies_for_all(self) -> None:
        shared = GlobalCache()
        first, second = FakeCache(global_cache=shared), FakeCache(global_cache=shared)
        value = [1]
        first.put("k", value, use_global=True)
        value.append(2)
        self.assertEqual(second.get("k", use_global=True), [1])
        self.assertIsNone(second.get("k"))
        self.assertEqual(shared.values(), {"k": [1]})
        self.assertTrue(second.delete("k", use_global=True))
        self.assertEqual(first.get("k", 7, use_global=True), 7)

    def test_time_to_live(self) -> None:
        clock = Clock()
        cache = FakeCache(clock=clock)
        cache.put("k", 1, ttl=1, use_global=True)
        clock.advance(1)
        self.assertIsNone(cache.get("k", use_global=True))

    def test_what_cannot_be_pickled_is_refused(self) -> None:
        with self.assertRaises(TypeError) as caught:
            FakeCache().put("lock", threading.Lock(), use_global=True)
        self.assertEqual(
            str(caught.exception),
            "the value for 'lock' cannot be pickled, which the global cache needs: "
            "TypeError: cannot pickle '_thread.lock' object; keep it in the trigger's own cache (use_global=False)",
        )


if __name__ == "__main__":
    unittest.main()
