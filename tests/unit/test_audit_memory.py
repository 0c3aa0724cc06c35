"""A worker's store, damaged in one place after the other, and what an audit says of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.codec.records import Codec
from pipeline.domain.events import Cancellation, CancellationRange, Identity, MeterEvent
from pipeline.domain.fold import Journal
from pipeline.domain.limits import MINUTE_MS, FoldRules
from pipeline.replay.audit_fold import AuditFold
from pipeline.replay.audit_state import compare_state
from pipeline.stream.batch import RecordBatch
from pipeline.worker import layout
from pipeline.worker.inspection import StoreInspection
from pipeline.worker.partition import Origin, Partition
from pipeline.worker.store import Store
from tests import swarm
from tests.unit.test_audit import Message

CODEC = Codec()
JOURNAL = Journal(0, 1, FoldRules(20 * MINUTE_MS, MINUTE_MS, 5 * MINUTE_MS))
T0 = 1_772_323_200_000


def event(identifier: str, at_ms: int = T0) -> bytes:
    return CODEC.encode_event(MeterEvent(identifier, "n", "c", 5, at_ms, (), True))


def cancellation(adjustment: str, identifier: str) -> bytes:
    return CODEC.encode_cancellation(Cancellation(adjustment, "n", True, identifier, None, T0))


def range_cancellation(adjustment: str) -> bytes:
    taken_back = CancellationRange("nobody", T0, T0 + MINUTE_MS)
    return CODEC.encode_cancellation(Cancellation(adjustment, "n", True, None, taken_back, T0))


class Folded:
    """One journal, folded into a store on disk and by the audit."""

    def __init__(self, path: Path, journal: Journal = JOURNAL) -> None:
        self.path = path / "partition-0"
        self.journal = journal
        self.audited = AuditFold(journal, CODEC)

    def fold(self, *records: tuple[int, bytes]) -> None:
        """(appended_at_ms, value) of the records that come next."""
        self.fold_at([(offset, *one) for offset, one in enumerate(records, self.audited.next_offset)])

    def fold_at(self, records: list[tuple[int, int, bytes]]) -> None:
        """(offset, appended_at_ms, value) of them."""
        start = self.audited.next_offset
        self.audited.fold_all([Message(offset, value, at_ms) for offset, at_ms, value in records])
        offsets, moments, values = zip(*records, strict=True)
        end, no_keys = offsets[-1] + 1, [None] * len(values)
        batch = RecordBatch("j", 0, start, end, np.array(offsets), np.array(moments), no_keys, list(values))
        store = Store(self.path)
        origin = Origin("j", "id", 0, self.journal.partitions, self.journal.rules.version)
        partition = Partition(self.journal, origin, store, CODEC)
        partition.fold(batch)
        store.write(*partition.cut().writes)
        store.flush()
        partition.close()

    def change(self, changes: Mapping[bytes, bytes | None]) -> None:
        store = Store(self.path)
        store.write(changes)
        store.flush()
        store.close()

    def change_meta(self, **changes: object) -> None:
        store = Store(self.path)
        meta = json.loads(store.get(layout.META) or b"")
        store.close()
        self.change({layout.META: json.dumps(meta | changes).encode()})

    def said(self) -> list[tuple[str, str]]:
        """What the audit has to say: (kind, what)."""
        image = StoreInspection(self.path, "store")
        self.audited.settled()
        differences = compare_state(image, self.audited, "id").differences
        image.close()
        return [(one.kind, one.what) for one in differences]


@pytest.fixture
def folded(tmp_path: Path) -> Folded:
    found = Folded(tmp_path)
    found.fold(
        (T0, event("counted")),
        (T0, cancellation("a1", "awaited")),
        (T0 + 1, range_cancellation("r1")),
        (T0 + 2, cancellation("a2", "counted")),
        (T0 + 3, event("another")),
    )
    return found


def test_a_digest_of_another_arithmetic_is_not_compared(folded: Folded) -> None:
    assert folded.said() == []
    folded.change_meta(digest="0" * 32)
    assert folded.said() == [("differs", "the digest that the worker kept")]
    folded.change_meta(digest_version=1)
    assert folded.said() == []
    folded.fold((T0 + 4, event("more")))
    assert folded.said() == [], "whoever goes on with it does not make it one of ours"


RANGE = layout.RANGE + b"r1"
MARKER = layout.AWAITING + layout.ledger_key(Identity(True, "n", "awaited"))
OTHER_MARKER = layout.AWAITING + layout.ledger_key(Identity(True, "n", "counted"))


@pytest.mark.parametrize(
    ("changes", "kind", "what"),
    [
        ({RANGE: None}, "missing", "that the range r1 was applied"),
        ({RANGE: (T0 + 2).to_bytes(8, "big")}, "differs", "that the range r1 was applied"),
        ({layout.RANGE + b"r2": T0.to_bytes(8, "big")}, "unexpected", "that the range r2 was applied"),
        ({MARKER: None}, "missing", "the mark that live n awaited is awaited"),
        ({OTHER_MARKER: b""}, "unexpected", "the mark that live n counted is awaited"),
    ],
)
def test_what_decides_later_numbers_is_looked_at(
    folded: Folded, changes: dict[bytes, bytes | None], kind: str, what: str
) -> None:
    """A range that is not known takes back a second time; what is not marked waits for ever."""
    assert folded.said() == []
    folded.change(changes)
    assert folded.said() == [(kind, what)]


def test_what_no_rule_can_reach_may_be_there_or_not(folded: Folded) -> None:
    window_ms = JOURNAL.rules.cancellation_window_ms
    folded.fold((T0 + 1 + window_ms, event("later")))
    folded.change({RANGE: None})
    assert folded.said() == [("missing", "that the range r1 was applied")], "the window's last millisecond"
    folded.fold((T0 + 2 + window_ms, event("and later")))
    for left in (None, b"", T0.to_bytes(8, "big"), (T0 + 1).to_bytes(8, "big")):
        folded.change({RANGE: left})
        assert folded.said() == []
    folded.audited.state.drop_identities(JOURNAL.rules)
    assert folded.said() == []
    folded.change({RANGE: (T0 + 2 + window_ms).to_bytes(8, "big")})
    assert folded.said() == [("unexpected", "that the range r1 was applied")]


def test_what_was_awaited_is_so_no_more_when_it_came_or_waited_too_long(folded: Folded) -> None:
    folded.fold(
        (T0 + 4, event("awaited")), (T0 + 5, cancellation("a3", "never")), (T0 + 6, cancellation("a4", "never"))
    )
    assert folded.said() == []
    folded.fold((T0 + 6 + JOURNAL.rules.cancellation_window_ms, event("more")))
    assert folded.said() == [], "the second one still waits"
    folded.fold((T0 + 7 + JOURNAL.rules.cancellation_window_ms, event("and more")))
    assert folded.said() == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(25, 60), st.booleans())
def test_no_false_alarm_whatever_the_journal_holds(seed: int, size: int, forgets: bool) -> None:
    rows = list(swarm.records(swarm.Swarm(seed).journal()))
    with tempfile.TemporaryDirectory() as home:
        both = Folded(Path(home), swarm.JOURNAL)
        for place in range(0, len(rows), size):
            both.fold_at(rows[place : place + size])
            if forgets:
                both.audited.state.drop_identities(swarm.JOURNAL.rules)
        assert both.said() == []
