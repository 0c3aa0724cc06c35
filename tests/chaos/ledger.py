"""What clients sent and what they were told: ok, fail or info (nobody knows), one line for each attempt, only appended.

It is the oracle's one source of what ought to be. Of several attempts at one thing the surest word stands: once ok it
is in, however often the answer was lost before; it is fail only when every attempt is known to have done nothing.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

OK, INFO, FAIL = "ok", "info", "fail"
SURER = {FAIL: 0, INFO: 1, OK: 2}


class Identity(NamedTuple):
    livemode: bool
    event_name: str
    identifier: str


class Usage(NamedTuple):
    """One event as its sender means it. ``units``: of 10^-12."""

    identity: Identity
    customer: str
    units: int
    timestamp_ms: int


class One(NamedTuple):
    """To take back: one event."""

    identity: Identity


class Range(NamedTuple):
    """To take back: all of a customer's events under a name, within a span."""

    livemode: bool
    event_name: str
    customer: str
    start_ms: int
    end_ms: int


Target = One | Range


class Book(NamedTuple):
    """A ledger, read."""

    events: dict[Identity, tuple[str, Usage]]
    adjustments: dict[Target, str]
    attempts: Counter[str]
    """Of events, by what was answered."""


class Ledger:
    """Writes the file; any thread may."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1 << 16)
        self._lock = threading.Lock()
        self.acknowledged = 0
        """Events, copies included."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()

    def events(self, status: str, sent: Iterable[Usage]) -> None:
        lines = [
            f"event\t{status}\t{one.identity.livemode:d}\t{one.identity.event_name}\t{one.identity.identifier}"
            f"\t{one.customer}\t{one.units}\t{one.timestamp_ms}\n"
            for one in sent
        ]
        with self._lock:
            self._file.writelines(lines)
            if status == OK:
                self.acknowledged += len(lines)

    def adjustment(self, status: str, target: Target) -> None:
        fields = target.identity if isinstance(target, One) else target
        kind = "one" if isinstance(target, One) else "range"
        said = "\t".join(f"{field:d}" if isinstance(field, bool) else str(field) for field in fields)
        with self._lock:
            self._file.write(f"{kind}\t{status}\t{said}\n")


def read(path: Path) -> Book:
    events: dict[Identity, tuple[str, Usage]] = {}
    adjustments: dict[Target, str] = {}
    attempts: Counter[str] = Counter()
    with path.open() as lines:
        for line in lines:
            kind, status, livemode, event_name, *rest = line.rstrip("\n").split("\t")
            if kind == "event":
                attempts[status] += 1
                identity = Identity(livemode == "1", event_name, rest[0])
                known = events.get(identity)
                if known is None:
                    events[identity] = (status, Usage(identity, rest[1], int(rest[2]), int(rest[3])))
                elif SURER[status] > SURER[known[0]]:
                    events[identity] = (status, known[1])
                continue
            target: Target = (
                One(Identity(livemode == "1", event_name, rest[0]))
                if kind == "one"
                else Range(livemode == "1", event_name, rest[0], int(rest[1]), int(rest[2]))
            )
            adjustments[target] = max(adjustments.get(target, FAIL), status, key=SURER.__getitem__)
    return Book(events, adjustments, attempts)
