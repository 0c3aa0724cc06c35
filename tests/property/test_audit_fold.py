"""The audit's fold answers as the specification does, however a partition is cut into pieces and whatever it holds."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.codec.digests import key_bytes, row_bytes
from pipeline.domain.events import Identity, MeterEvent
from pipeline.domain.ledger import Remembered
from pipeline.domain.partitioning import partition_of
from pipeline.domain.state import PlainState
from pipeline.replay.audit_facts import AuditState, entry_of
from pipeline.replay.audit_fold import AuditFold
from pipeline.replay.audit_plain import plain_events
from tests.swarm import CODEC, HOME, JOURNAL, T0, Swarm, records, specified

SIZES = st.lists(st.integers(1, 60), max_size=8)
READ = (CODEC.prefixes("MeterEvent"), JOURNAL)
Journal = list[tuple[bytes, int, int]]


class Message:
    """A record as confluent-kafka hands it out."""

    def __init__(self, offset: int, appended_at_ms: int, value: bytes) -> None:
        self._fields = offset, appended_at_ms, value

    def offset(self) -> int:
        return self._fields[0]

    def timestamp(self) -> tuple[int, int]:
        return 2, self._fields[1]

    def value(self) -> bytes:
        return self._fields[2]


def pieces(journal: Journal, sizes: list[int]) -> Iterator[list[Message]]:
    """The last one takes all that is left."""
    messages = [Message(*record) for record in records(journal)]
    for size in [*sizes, len(messages)]:
        yield messages[:size]
        messages = messages[size:]


def damaged(journal: Journal, random: Random) -> Journal:
    """Some of the records with a byte changed, lost or too many."""
    return [(_damaged(value, random) if random.random() < 0.3 else value, *rest) for value, *rest in journal]


def _damaged(value: bytes, random: Random) -> bytes:
    if not value:
        return value
    at = random.randrange(len(value))
    return random.choice(
        [
            value[:at] + bytes([random.randrange(256)]) + value[at + 1 :],
            value[:at] + bytes([value[at] ^ 1 << random.randrange(8)]) + value[at + 1 :],
            value[:at],
            value + value[at:],
            value[:at] + value[at + 1 :],
        ]
    )


def remembered(state: AuditState) -> dict[Identity, Remembered]:
    found = {}
    for (livemode, event_name), ledger in state.ledgers.items():
        for identifier in ledger:
            identity = Identity(livemode, event_name, identifier.decode())
            one = state.find(identity)
            assert one is not None
            found[identity] = one
    return found


def agree(fold: AuditFold, state: PlainState) -> None:
    assert fold.rows() == {key_bytes(key): row_bytes(tally) for key, tally in state.tallies.items()}
    assert fold.state.clock_ms == state.clock_ms
    assert {name: one for name, one in fold.state.accounts.items() if any(one)} == {
        name: one for name, one in state.accounts.items() if any(one)
    }
    assert remembered(fold.state) == state.ledger
    facts = {cell.packed_key: sorted(map(entry_of, cell.facts.values())) for cell in fold.state.cells()}
    assert facts == {key_bytes(key): sorted(entries.values()) for key, entries in state.entries.items()}
    assert fold.unbalanced() == []


@given(st.integers(0, 2**32), SIZES)
@settings(max_examples=300, deadline=None)
def test_however_it_is_cut_the_audit_answers_as_the_specification(seed: int, sizes: list[int]) -> None:
    journal = Swarm(seed).journal()
    if seed % 2:
        journal = damaged(journal, Random(seed))
    state, decided, shards = specified(journal)
    fold = AuditFold(JOURNAL, CODEC)
    rows, decisions = {}, {}
    for piece in pieces(journal, sizes):
        fold.fold_all(piece)
        some_rows, some_decisions = fold.settled()
        rows |= some_rows
        decisions |= some_decisions
    agree(fold, state)
    assert decisions == {one.offset: one for one in decided}
    assert rows == {key_bytes(one.key): row_bytes(one) for one in shards}
    assert fold.records == len(journal)


@given(st.integers(0, 2**32), SIZES, st.integers(0, 8))
@settings(max_examples=150, deadline=None)
def test_versions_that_are_kept_are_those_of_every_record(seed: int, sizes: list[int], keep_from: int) -> None:
    journal = Swarm(seed).journal()
    fold, slow = AuditFold(JOURNAL, CODEC), AuditFold(JOURNAL, CODEC)
    for number, piece in enumerate(pieces(journal, sizes)):
        if number == keep_from:
            fold.keep_versions()
            slow.keep_versions()
        fold.fold_all(piece)
        for message in piece:
            slow.fold(message)
    assert (fold.versions, fold.late_decisions) == (slow.versions, slow.late_decisions)
    assert (fold.holes, fold.checksums, fold.next_offset) == (slow.holes, slow.checksums, slow.next_offset)
    assert fold.settled() == slow.settled()


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_forgetting_what_no_rule_can_reach_changes_no_answer(seed: int) -> None:
    journal = Swarm(seed).journal()
    state, decided, _ = specified(journal)
    fold, decisions = AuditFold(JOURNAL, CODEC), {}
    for piece in pieces(journal, [7] * 20):
        fold.fold_all(piece)
        fold.state.drop_identities(JOURNAL.rules)
        decisions |= fold.settled()[1]
    assert fold.rows() == {key_bytes(key): row_bytes(tally) for key, tally in state.tallies.items()}
    assert decisions == {one.offset: one for one in decided}


@given(st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_what_is_plain_is_what_the_strict_decoder_reads(seed: int) -> None:
    random = Random(seed)
    journal = damaged(Swarm(seed).journal(), random)
    values = [value for value, _, _ in journal]
    events = plain_events(values, [T0] * len(values), *READ)
    for value, plain, start, names, units, moment, tail, end, timestamp_ms in zip(values, *events[1:], strict=True):
        if not plain:
            continue
        try:
            event = CODEC.decode_journal_strictly(value)
        except Exception:  # names or dimensions that nobody can read: no series comes of them
            continue
        buffer = events.buffer
        assert event.identifier == buffer[start:names].decode()
        assert partition_of(event.identifier, JOURNAL.partitions) == JOURNAL.partition
        assert event.value == int.from_bytes(buffer[units + 1 : moment], "big", signed=True)
        assert (event.timestamp_ms, end - tail > 0) == (timestamp_ms, True)


def test_whatever_bit_is_wrong_the_audit_answers_as_the_specification() -> None:
    identifiers = (f"w?_{number}" for number in range(99))
    identifier = next(
        one for one in identifiers if {partition_of(one, 2), partition_of(one.replace("?", "\x1f"), 2)} == {0}
    )
    event = MeterEvent(identifier, "n", "c1", 10**12, T0, (("k", "v"),), True)
    known = CODEC.encode_event(event._replace(identifier=HOME[0]))
    value = CODEC.encode_event(event)
    for bit in range(8 * len(value)):
        wrong = bytearray(value)
        wrong[bit // 8] ^= 1 << bit % 8
        journal: Journal = [(known, 0, 1), (bytes(wrong), 0, 1)]
        fold = AuditFold(JOURNAL, CODEC)
        for piece in pieces(journal, []):
            fold.fold_all(piece)
        agree(fold, specified(journal)[0])


def test_the_borders_of_what_is_acceptable_are_those_of_the_rules() -> None:
    rules = JOURNAL.rules
    for timestamp_ms, is_plain in (
        (T0 - rules.max_past_ms - 1, False),
        (T0 - rules.max_past_ms, True),
        (T0 + rules.max_ahead_ms, True),
        (T0 + rules.max_ahead_ms + 1, False),
    ):
        assert plain(MeterEvent(HOME[0], "n", "c1", 1, timestamp_ms, (), True), T0) == is_plain
    moment = CODEC.encode_event(MeterEvent(HOME[0], "n", "c1", 1, 5, (), True))
    assert not any(plain_events([moment, moment[:-3] + b"\x8a\x80\x80\x80\x80\x00" + moment[-2:]], [5, 5], *READ).plain)


def plain(event: MeterEvent, clock_ms: int) -> bool:
    return plain_events([CODEC.encode_event(event)], [clock_ms], *READ).plain == [True]


def test_nearly_all_records_are_plain() -> None:
    """Else the audit is right, and takes three times as long."""
    swarm = Swarm(0)
    values = [swarm.tame() for _ in range(500)]
    plain = plain_events(values, [T0] * len(values), *READ).plain
    assert sum(plain) > 300, "but for values that are too long for it"
