"""The audit's comparisons without any service: what is as of a cursor, what came later, what is nobody's."""

from __future__ import annotations

import decimal

import pytest

from pipeline.cli.audit_report import metrics_text
from pipeline.cli.explanation_number import harmless
from pipeline.codec.digests import Digest, hash_shards, row_bytes
from pipeline.codec.records import Codec
from pipeline.domain.events import Cancellation, Identity, MeterEvent
from pipeline.domain.fold import Journal
from pipeline.domain.ledger import Awaited, Waiting
from pipeline.domain.limits import VALUE_BOUND, VALUE_UNIT, FoldRules
from pipeline.domain.tally import Tally
from pipeline.errors import Unavailable
from pipeline.replay import audit_holes
from pipeline.replay.audit import audited_partitions
from pipeline.replay.audit_decisions import compare_decisions, kept_decisions
from pipeline.replay.audit_dispositions import StandingDispositions
from pipeline.replay.audit_facts import AuditState
from pipeline.replay.audit_findings import Compared, Difference, PartitionFindings
from pipeline.replay.audit_fold import AuditFold
from pipeline.replay.audit_holes import JournalHoles
from pipeline.replay.audit_kept import Expected, differing_parts
from pipeline.replay.audit_shards import Shards, compare_rows, kept_shards
from pipeline.replay.audit_standing import Share
from pipeline.sink.rows import DISPOSITIONS, Place, row_of
from pipeline.stream.spans import Stretch

NOW_MS = 1_772_323_200_000
CODEC = Codec()


class Message:
    """A record as confluent-kafka hands it out."""

    def __init__(self, offset: int, value: bytes | None, appended_at_ms: int = NOW_MS, key: bytes = b"") -> None:
        self._fields = offset, value, appended_at_ms
        self._key = key

    def key(self) -> bytes:
        return self._key

    def offset(self) -> int:
        return self._fields[0]

    def value(self) -> bytes | None:
        return self._fields[1]

    def timestamp(self) -> tuple[int, int]:
        return 2, self._fields[2]


def event(identifier: str, value: int = 5) -> bytes:
    return CODEC.encode_event(MeterEvent(identifier, "calls", "cus_1", value, NOW_MS, (), True))


def folded(*values: bytes | None, keep_from: int | None = None) -> AuditFold:
    fold = AuditFold(Journal(0, 1, FoldRules()), CODEC)
    for offset, value in enumerate(values):
        if offset == keep_from:
            fold.keep_versions()
        fold.fold(Message(offset, value))
    return fold


def expected_of(cursor: int, rows: dict[bytes, bytes], later: dict[tuple[bytes, int], bytes]) -> Shards:
    kept = kept_shards(0)
    kept.put(rows)
    return Expected(cursor, kept, later)


def kinds(side: Compared) -> list[str]:
    return [one.kind for one in side.differences]


def test_early_rows_must_be_as_of_the_cursor_and_later_ones_any_version_since() -> None:
    as_of = folded(event("a"), event("b"))
    rows = as_of.rows()
    (key,) = rows
    onwards = folded(event("a"), event("b"), event("c"), event("d"), keep_from=2)
    expected = expected_of(2, rows, onwards.versions)
    for version in (2, 3):
        side = Compared("table", 2)
        compare_rows(side, 0, expected, {key: onwards.versions[key, version]})
        assert not side.differences
    side = Compared("table", 2)
    compare_rows(side, 0, expected, rows)
    assert not side.differences
    older = folded(event("a")).rows()
    compare_rows(side, 0, expected, older)
    assert kinds(side) == ["differs"], "below the cursor only the newest will do"
    assert {name for name, _, _ in side.differences[0].numbers} >= {"version", "count", "sum"}


def test_what_is_missing_and_what_is_nobodys() -> None:
    rows = folded(event("a")).rows()
    expected = expected_of(1, rows, {})
    side = Compared("table", 1)
    compare_rows(side, 0, expected, {})
    compare_rows(side, 0, expected, rows | {b"1x\0y\0" + bytes(8) + b"\0": next(iter(rows.values()))})
    compare_rows(side, 0, expected, {next(iter(rows)): row_bytes(Tally(9, 1, 5))})
    assert kinds(side) == ["missing", "unexpected", "differs"]


def test_differences_are_told_up_to_a_bound() -> None:
    side = Compared("table", 1)
    for _ in range(150):
        side.differ(Difference("table", 0, "missing", "x"))
    assert (len(side.differences), side.untold) == (100, 50)
    assert "meterline_audit_differences 150\n" in metrics_text([PartitionFindings(0, compared=[side])], 1)


def test_dispositions_are_compared_one_by_one() -> None:
    _, right = folded(event("a"), event("a"), event("a", 6), None).settled()
    assert [(offset, one.disposition) for offset, one in right.items()] == [
        (1, "duplicate"),
        (2, "duplicate_differs"),
        (3, "undecodable"),
    ]
    kept = kept_decisions()
    kept.put(right)
    decided = Expected(4, kept, {})
    side = Compared("table", 4)
    compare_decisions(side, 0, decided, right, 0)
    assert not side.differences
    wrong = {**right, 2: right[2]._replace(value=7), 0: right[1]}
    del wrong[3]
    compare_decisions(side, 0, decided, wrong, 0)
    assert sorted(kinds(side)) == ["differs", "missing", "unexpected"]
    assert side.differences[0].numbers == (("value", "0.000000000006", "0.000000000007"),)
    side = Compared("table", 4)
    compare_decisions(side, 0, decided, wrong, 0, lambda one: one.disposition == "undecodable")
    assert sorted(kinds(side)) == ["differs", "unexpected"], "what is older than the topic keeps may be gone"


@pytest.mark.parametrize("value", [VALUE_BOUND, -VALUE_BOUND, VALUE_BOUND - 1, 1 - VALUE_BOUND, 10**40])
def test_a_value_that_no_table_holds_is_none_to_the_audit(value: int) -> None:
    """An event that is rejected for what stands before its value keeps it in its disposition, in its topic as well."""
    _, right = folded(event("no\x01control", value)).settled()
    assert right[0].value == value
    kept = kept_decisions()
    kept.put(right)
    decided = Expected(1, kept, {})
    written = row_of(Place(0, 0, NOW_MS), right[0]).values[DISPOSITIONS.get_field_index("value")]
    exact = decimal.Context(prec=60)
    in_table = right[0]._replace(value=None if written is None else int(exact.multiply(written, VALUE_UNIT)))
    for found in (right[0], in_table):
        one = kept_decisions()
        one.put({0: found})
        assert not list(differing_parts(one.as_of(1), decided))
        side = Compared("table", 1)
        compare_decisions(side, 0, decided, {0: found}, 0)
        assert not side.differences


def test_digests_that_are_kept_say_where_something_differs() -> None:
    """Whatever is put, replaced and dropped: as if all of it had been put at once; what is late stands apart."""
    first = folded(event("a"), event("b", 7))
    rows, _ = first.settled()
    (key,) = rows
    later = folded(event("a"), event("b", 7), event("c"), keep_from=2)
    newer = later.versions[key, 2]
    expected = expected_of(2, rows, later.versions)
    other = kept_shards(0)
    other.put({key: newer, b"1n\0c\0" + bytes(8) + b"\0": row_bytes(Tally(1, 1, 5))})
    assert list(differing_parts(other.as_of(2), expected)) == [0], "one is nobody's; the other is late"
    assert other.drop(b"1n\0c\0" + bytes(8) + b"\0")
    assert not list(differing_parts(other.as_of(2), expected))
    other.put(rows)
    assert other.digest() == expected.kept.digest()
    assert not list(differing_parts(other.as_of(2), expected))
    other.put({key: row_bytes(Tally(9, 1, 5))})
    assert list(differing_parts(other.as_of(2), expected)), "late, and never published"
    assert other.drop(key)
    assert not other.drop(key)
    assert list(differing_parts(other.as_of(2), expected)), "missing"


def test_what_makes_no_sense_among_dispositions_is_told() -> None:
    fold = folded(event("a"), event("a"), event("a", 6))
    _, decided = fold.settled()
    first, second = decided[1], decided[2]
    found = StandingDispositions("topic", 0, CODEC)

    def take(offset: int, key: bytes, value: bytes) -> None:
        found.take(Message(offset, value, key=key))

    take(0, b"0:1", CODEC.encode_disposition(first))
    take(1, b"0:1", CODEC.encode_disposition(first))
    take(2, b"0:2", CODEC.encode_disposition(second._replace(decided_offset=9)))
    take(3, b"0:2", CODEC.encode_disposition(second))
    found.settle()
    assert not found.strange, "copies, and older decisions of a worker that folded again, are harmless"
    assert found.kept.things == {1: first, 2: second._replace(decided_offset=9)}
    take(4, b"0:1", CODEC.encode_disposition(first._replace(value=7)))
    take(5, b"0:2", CODEC.encode_disposition(first))
    take(6, b"1:1", CODEC.encode_disposition(first._replace(partition=1)))
    take(7, b"0:1", b"junk")
    assert [one.kind for one in found.strange] == ["differs", "broken", "broken", "broken"]


def test_the_books_balance_and_say_when_they_do_not() -> None:
    cancel = CODEC.encode_cancellation(Cancellation("c", "calls", True, "a", None, NOW_MS))
    fold = folded(event("a"), event("b", 7), event("b", 7), cancel, b"junk", event("", 9))
    assert fold.unbalanced() == []
    assert fold.records == 6
    fold.state.account("duplicate", 0, 1)
    assert fold.unbalanced() == ["value read and value decided: 28 and 29"]


def test_digests_of_the_fold_are_those_of_its_shards() -> None:
    rows = folded(event("a"), event("b", 7)).rows()
    whole = Digest().plus(hash_shards(list(rows), b"".join(rows.values()), 0))
    again = folded(event("b", 7), event("a")).rows()
    other = Digest().plus(hash_shards(list(again), b"".join(again.values()), 0))
    assert other != whole, "last and latest tell which came last"
    assert folded(event("a"), event("b", 7)).rows() == rows


def test_holes_are_found() -> None:
    fold = AuditFold(Journal(0, 1, FoldRules()), CODEC)
    fold.fold(Message(3, event("a")))
    fold.pass_over(6)
    assert (fold.records, fold.holes, fold.next_offset) == (1, [(0, 3), (4, 6)], 6)
    assert list(fold.checksums[:3]) == [0, 0, 0]


def test_holes_are_asked_for_again_when_nobody_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    fold = AuditFold(Journal(0, 1, FoldRules()), CODEC)
    fold.pass_over(6)
    journal = JournalHoles("events", 0)

    def nobody(*_: object) -> list[Stretch]:
        raise Unavailable("Kafka: a broker is away")

    monkeypatch.setattr(audit_holes, "lost", nobody)
    with pytest.raises(Unavailable):
        journal.compared({}, fold)
    monkeypatch.setattr(audit_holes, "lost", lambda kafka, topic, partition, holes: holes)
    for _ in range(2):
        assert kinds(journal.compared({}, fold)) == ["missing"], "also in the next round, when it is not asked again"
        assert (journal.count, fold.holes) == (6, [])


def test_what_expires_is_found_in_its_order_and_once() -> None:
    state = AuditState()
    first, second = Identity(True, "n", "first"), Identity(True, "n", "second")
    state.remember(second, Awaited((Waiting("x", 1, 200),)))
    state.remember(first, Awaited((Waiting("x", 0, 100),)))
    state.remember(first, Awaited((Waiting("x", 0, 100), Waiting("y", 2, 300))))
    assert [identity for identity, _ in state.expired(150)] == [first]
    state.remember(first, Awaited((Waiting("y", 2, 300),)))
    assert [identity for identity, _ in state.expired(250)] == [second]
    assert [identity for identity, _ in state.expired(1_000)] == [first]
    assert state.expired(1_000) == []


def test_a_sample_is_of_whole_partitions() -> None:
    assert audited_partitions(8, [5, 2, 2], 1.0, seed=1) == [2, 5]
    assert audited_partitions(8, [], 1.0, seed=1) == list(range(8))
    quarter = audited_partitions(8, [], 0.25, seed=1)
    assert len(set(quarter)) == 2
    assert len(audited_partitions(8, [], 0.0, seed=1)) == 1


def test_cells_that_begin_like_a_formula_are_text() -> None:
    for cell in ("=1", "+1", "-1", "@x", "\tx", "\rx"):
        assert harmless(cell) == f"'{cell}"
    assert harmless("a=1") == "a=1"


def test_a_share_of_the_time_is_spent_and_no_more() -> None:
    now = [100.0]
    share = Share(0.02, lambda: now[0])
    assert not share.is_left(), "nothing has passed yet"
    now[0] += 100
    assert share.is_left()
    share.spend(3)
    now[0] += 50
    assert not share.is_left(), "a second was saved, three were spent, one has come since"
    now[0] += 51
    assert share.is_left()
    now[0] += 10_000
    assert share.is_left()
    share.spend(1.5)
    assert not share.is_left(), "no more than a second is saved"
