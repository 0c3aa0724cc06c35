"""A worker's store, damaged in one place after the other, and what an audit says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pipeline.codec.records import Codec
from pipeline.domain.events import Cancellation, CancellationRange, MeterEvent
from pipeline.domain.fold import Journal
from pipeline.domain.limits import MINUTE_MS, FoldRules
from pipeline.replay.audit_fold import AuditFold
from pipeline.replay.audit_state import compare_state
from pipeline.stream.batch import RecordBatch
from pipeline.worker import layout
from pipeline.worker.inspection import StoreInspection
from pipeline.worker.partition import Origin, Partition
from pipeline.worker.store import Store
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

    def __init__(self, path: Path) -> None:
        self.path = path / "partition-0"
        self.audited = AuditFold(JOURNAL, CODEC)

    def fold(self, *records: tuple[int, bytes]) -> None:
        """(appended_at_ms, value) of the records that come next."""
        start = self.audited.next_offset
        offsets = range(start, start + len(records))
        self.audited.fold_all([Message(at, one[1], one[0]) for at, one in zip(offsets, records, strict=True)])
        values = [value for _, value in records]
        moments = np.array([at_ms for at_ms, _ in records])
        batch = RecordBatch("j", 0, start, offsets.stop, np.array(offsets), moments, [None] * len(values), values)
        store = Store(self.path)
        partition = Partition(JOURNAL, Origin("j", "id", 0, 1, JOURNAL.rules.version), store, CODEC)
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
