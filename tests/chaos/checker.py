"""Whether what is stored is what the clients' ledger says, and by which name what is not is called.

Nothing of the product is used: sets, sums and the topics' own bytes. No order of folding plays a part: an event counts
once when it is in the journal, unless somebody asked to take it back.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.chaos.ledger import FAIL, OK, Book, Identity, One, Range, Target, Usage

MINUTE_MS = 60_000
SHOWN = 20

LOST = "lost write"
"""It was acknowledged, and is not there or does not count."""
DUPLICATE = "duplicate"
ABORTED = "aborted read"
"""It was refused, and is there."""
PHANTOM = "phantom"
"""Nobody sent it."""
ALTERED = "altered"
UNSEEN = "unseen"
"""It is in the journal, and a reader of the tables does not see it."""
REVIVED = "counts though taken back"
WRONGED = "taken back though nobody asked"
DIGITS = "digits"
"""A window's count or sum is another."""
NON_MONOTONIC = "non-monotonic"
"""What a reader saw before has gone, or the group's offset went back."""
UNEQUAL = "rebuild differs"
AUDIT = "audit differs"


class Anomaly(NamedTuple):
    kind: str
    what: str


class Window(NamedTuple):
    livemode: bool
    event_name: str
    customer: str
    start_ms: int


class Sum(NamedTuple):
    count: int = 0
    units: int = 0

    def __str__(self) -> str:
        return f"{self.count} events, {self.units} units"


class Appended(NamedTuple):
    """An event as the journal has it."""

    partition: int
    offset: int
    appended_at_ms: int
    usage: Usage


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Everything that is there to be compared."""

    book: Book
    journal: list[Appended]
    """By partition, in order."""
    requests: list[tuple[Target, int]]
    """The adjustments topic: what to take back, and when that was appended."""
    decided: dict[tuple[int, int], str]
    """By place in the journal: the disposition of an event that does not simply count."""
    logged: set[tuple[int, int]]
    """Places of the journal that the event log in ClickHouse has."""
    summaries: dict[Window, Sum]


def check(found: Evidence) -> list[Anomaly]:
    """All anomalies, in no order that means anything."""
    firsts = _firsts(found.journal)
    gone = taken_back(firsts.values(), found.requests)
    return [
        *_durability(found.book, firsts),
        *_requests(found.book, found.requests),
        *_standing(found, firsts, gone),
        *(Anomaly(UNSEEN, f"{one.partition}:{one.offset} {one.usage.identity}") for one in _unseen(found)),
        *_digits(expected(firsts, gone, found.book), found.summaries),
    ]


def _firsts(journal: Iterable[Appended]) -> dict[Identity, Appended]:
    """The first copy of each event. All copies are in one partition: the identifier decides which."""
    firsts: dict[Identity, Appended] = {}
    for one in journal:
        firsts.setdefault(one.usage.identity, one)
    return firsts


def taken_back(events: Iterable[Appended], requests: Iterable[tuple[Target, int]]) -> set[Identity]:
    """Single events whenever they were asked for; ranges reach what was appended before them."""
    ones: set[Identity] = set()
    ranges: defaultdict[tuple[bool, str, str], list[tuple[Range, int]]] = defaultdict(list)
    for target, appended_at_ms in requests:
        if isinstance(target, One):
            ones.add(target.identity)
        else:
            ranges[target.livemode, target.event_name, target.customer].append((target, appended_at_ms))
    for one in events:
        identity, customer, _, timestamp_ms = one.usage
        for wanted, asked_at_ms in ranges.get((identity.livemode, identity.event_name, customer), ()):
            if wanted.start_ms <= timestamp_ms < wanted.end_ms and one.appended_at_ms <= asked_at_ms:
                ones.add(identity)
    return ones


def expected(firsts: dict[Identity, Appended], gone: set[Identity], book: Book) -> dict[Window, Sum]:
    """By the ledger's own words; the journal says only whether what nobody knows of came in."""
    sums: defaultdict[Window, Sum] = defaultdict(Sum)
    for identity, (status, usage) in book.events.items():
        if identity in gone or (status != OK and identity not in firsts):
            continue
        start_ms = usage.timestamp_ms - usage.timestamp_ms % MINUTE_MS
        window = Window(identity.livemode, identity.event_name, usage.customer, start_ms)
        count, units = sums[window]
        sums[window] = Sum(count + 1, units + usage.units)
    return dict(sums)


def _durability(book: Book, firsts: dict[Identity, Appended]) -> Iterator[Anomaly]:
    for identity, (status, usage) in book.events.items():
        first = firsts.get(identity)
        if status == OK and first is None:
            yield Anomaly(LOST, f"{identity} was acknowledged and is not in the journal")
        elif status == FAIL and first is not None:
            yield Anomaly(ABORTED, f"{identity} was refused and is at {first.partition}:{first.offset}")
        elif first is not None and first.usage != usage:
            yield Anomaly(ALTERED, f"{identity} was sent as {usage} and is {first.usage}")
    for identity in firsts.keys() - book.events.keys():
        yield Anomaly(PHANTOM, f"{identity}")


def _requests(book: Book, requests: Iterable[tuple[Target, int]]) -> Iterator[Anomaly]:
    present = {target for target, _ in requests}
    for target, status in book.adjustments.items():
        if status == OK and target not in present:
            yield Anomaly(LOST, f"{target} was acknowledged and is not in its topic")
        elif status == FAIL and target in present:
            yield Anomaly(ABORTED, f"{target} was refused and is in its topic")
    for target in present - book.adjustments.keys():
        yield Anomaly(PHANTOM, f"{target}")


def _standing(found: Evidence, firsts: dict[Identity, Appended], gone: set[Identity]) -> Iterator[Anomaly]:
    """Of all copies of an event one counts or was taken back, and the others are duplicates."""
    standing: Counter[Identity] = Counter()
    cancelled = set()
    for one in found.journal:
        decision = found.decided.get((one.partition, one.offset), "counted")
        if decision in ("counted", "cancelled"):
            standing[one.usage.identity] += 1
            if decision == "cancelled":
                cancelled.add(one.usage.identity)
    for identity in firsts:
        if standing[identity] != 1:
            kind = DUPLICATE if standing[identity] > 1 else LOST
            yield Anomaly(kind, f"{identity} stands {standing[identity]} times")
    for identity in (gone & firsts.keys()) - cancelled:
        yield Anomaly(REVIVED, f"{identity}")
    for identity in cancelled - gone:
        yield Anomaly(WRONGED, f"{identity}")


def _unseen(found: Evidence) -> Iterator[Appended]:
    return (one for one in found.journal if (one.partition, one.offset) not in found.logged)


def _digits(wanted: dict[Window, Sum], summaries: dict[Window, Sum]) -> Iterator[Anomaly]:
    for window in sorted(wanted.keys() | summaries.keys()):
        must, is_ = wanted.get(window, Sum()), summaries.get(window, Sum())
        if must != is_:
            yield Anomaly(DIGITS, f"{window} must be {must} and is {is_}")


def told(anomalies: list[Anomaly]) -> str:
    """For a person: how many of each kind, and the first of them."""
    if not anomalies:
        return "none"
    kinds = Counter(one.kind for one in anomalies)
    heads = [f"{count} {kind}" for kind, count in kinds.most_common()]
    return "\n".join([", ".join(heads), *(f"  {one.kind}: {one.what}" for one in anomalies[:SHOWN])])
