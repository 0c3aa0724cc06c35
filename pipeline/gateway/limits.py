"""How much at once, and for whom. All of it is in this process's memory, and bounded."""

from __future__ import annotations

import time
from collections import OrderedDict

from pipeline.gateway.problems import Problem, too_many

FAILURES_PER_PREFIX = 10
FAILURES_PER_ADDRESS = 100
FAILURES_FORGIVEN_EVERY_S = 6.0
"""One failure of a prefix is forgiven in this time, so a person who mistypes is never kept out for long."""
BUCKETS_MAX = 10_000


class Admission:
    """Requests at once: in all, and fairly between keys.

    A key may hold as many places as are free. So one key that floods takes half of the places and the other half stays
    free for the rest; two that flood leave a third; a key that has none is let in whenever a place is free at all.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.taken = 0
        self._by_key: dict[str, int] = {}

    def enter(self, key: str) -> None:
        """Take a place. Raises Problem 429, before anything of the request was done."""
        held = self._by_key.get(key, 0)
        free = self.places - self.taken
        if held >= free:
            raise too_many("endpoint-concurrency" if held else "global-concurrency")
        self._by_key[key] = held + 1
        self.taken += 1

    def leave(self, key: str) -> None:
        """Give the place back."""
        held = self._by_key[key] - 1
        if held:
            self._by_key[key] = held
        else:
            del self._by_key[key]
        self.taken -= 1


class AuthFailures:
    """Failed keys by address and beginning of the key, and by address. A key that stands is never kept out."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def failed(self, address: str, prefix: str, problem: Problem) -> Problem:
        """What to answer to a failure: ``problem``, or 429 when there were too many."""
        over = self._count(address, prefix, FAILURES_PER_PREFIX, FAILURES_FORGIVEN_EVERY_S)
        pace_s = FAILURES_FORGIVEN_EVERY_S * FAILURES_PER_PREFIX / FAILURES_PER_ADDRESS
        over |= self._count(address, "", FAILURES_PER_ADDRESS, pace_s)
        if not over:
            return problem
        return too_many("endpoint-rate", int(FAILURES_FORGIVEN_EVERY_S))

    def _count(self, address: str, prefix: str, most: int, pace_s: float) -> bool:
        """One more failure in a bucket that leaks one every ``pace_s``; whether it is over the most."""
        now_s = time.monotonic()
        count, since_s = self._buckets.pop((address, prefix), (0.0, now_s))
        count = max(0.0, count - (now_s - since_s) / pace_s)
        over = count + 1 > most
        self._buckets[address, prefix] = (count if over else count + 1, now_s)
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        return over
