"""Holding a worker's state to the audit's own fold, at the same offset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from pipeline.codec.digests import key_of
from pipeline.domain.ledger import Awaited
from pipeline.domain.state import tally_is_garbage
from pipeline.domain.tally import Entry
from pipeline.domain.values import value_text
from pipeline.replay.audit_findings import Compared, Difference
from pipeline.replay.audit_fold import AuditFold
from pipeline.replay.audit_kept import Expected
from pipeline.replay.audit_memory import compare_memory
from pipeline.replay.audit_shards import compare_rows, kept_shards


class StateImage(Protocol):
    """A worker's state of one partition, as of ``cursor``: its store, or a snapshot."""

    where: str
    fault: str
    """Why it cannot be looked into, or nothing; then only ``where`` and ``cursor`` are there."""
    topic_id: str
    fold_version: str
    partitions: int
    cursor: int
    clock_ms: int
    digest: str
    """Of every shard that it ever had; empty where the store does not say."""
    accounts: dict[str, tuple[int, int]]

    def tallies(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, packed row) of every tally that has not become garbage."""

    def entries(self) -> Iterator[tuple[bytes, list[Entry]]]:
        """(key, the events it is made of) of these tallies."""

    def ledger(self) -> Iterator[tuple[bytes, tuple[bool, str], Awaited | tuple[int, int, int, str | None]]]:
        """(identifier, (livemode, event name), what is remembered of it).

        That is, of one that counted, (offset, appended_at_ms, clock_ms, cancelled_by).
        """

    def bodies(self) -> Iterator[tuple[int, bytes]]:
        """(offset, value) of the journal records that are remembered."""

    def awaiting(self) -> Iterator[tuple[bytes, tuple[bool, str]]]:
        """(identifier, (livemode, event name)) of every event that is marked as awaited."""

    def ranges(self) -> Iterator[tuple[bytes, int]]:
        """(adjustment id, the clock when it was applied) of every range."""


def compare_state(image: StateImage, fold: AuditFold, topic_id: str) -> Compared:
    """What differs between an image and a fold that stands at its cursor."""
    assert fold.next_offset == image.cursor, f"the fold stands at {fold.next_offset}, the image at {image.cursor}"
    side = Compared(image.where, image.cursor)
    journal, state = fold.journal, fold.state
    origin = (
        ("the journal's topic id", topic_id, image.topic_id),
        ("the fold's version", journal.rules.version, image.fold_version),
        ("the journal's partitions", str(journal.partitions), str(image.partitions)),
    )
    foreign = tuple(one for one in origin if one[1] != one[2])
    if foreign:
        side.differ(Difference(side.where, journal.partition, "broken", "it is the state of something else", foreign))
        return side
    if state.clock_ms != image.clock_ms:
        clocks = (("clock", str(state.clock_ms), str(image.clock_ms)),)
        side.differ(Difference(side.where, journal.partition, "differs", "the fold's clock", clocks))
    for name in sorted({*state.accounts, *image.accounts}):
        records, value = state.accounts.get(name, [0, 0])
        found = image.accounts.get(name, (0, 0))
        if (records, value) != found:
            numbers = (
                ("records", str(records), str(found[0])),
                ("value", value_text(value), value_text(found[1])),
            )
            side.differ(Difference(side.where, journal.partition, "differs", f"the account {name}", numbers))
    kept = kept_shards(journal.partition)
    kept.put(fold.rows())
    expected = Expected(image.cursor, kept, {})
    found_rows = dict(image.tallies())
    side.items = len(found_rows)
    living = (
        key
        for key in expected.things
        if not tally_is_garbage(key_of(key).window_start_ms, state.clock_ms, journal.rules)
    )
    compare_rows(side, journal.partition, expected, found_rows, living)
    _compare_digest(side, journal.partition, str(kept.digest()), image)
    compare_memory(side, image, fold)
    return side


def _compare_digest(side: Compared, partition: int, wanted: str, image: StateImage) -> None:
    """The digest that the worker kept, tally by tally, as it went."""
    side.digest = image.digest
    if image.digest and image.digest != wanted:
        numbers = (("digest", wanted, image.digest),)
        side.differ(Difference(side.where, partition, "differs", "the digest that the worker kept", numbers))
