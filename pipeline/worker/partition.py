"""One journal partition: batches of records in, what to publish and what to write out."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from typing import Any, NamedTuple

from pipeline.codec.digests import DIGEST_VERSION, Digest, Hashes, hash_shards
from pipeline.codec.records import Codec
from pipeline.domain import outcomes
from pipeline.domain.events import Cancellation, Disposition, MeterEvent
from pipeline.domain.fold import Journal, Record, Undecodable, step
from pipeline.errors import Refusal, UndecodableRecord
from pipeline.stream.batch import RecordBatch
from pipeline.worker import layout
from pipeline.worker.cell import ChangedTally
from pipeline.worker.columnar import DimensionChecks, fold_columns
from pipeline.worker.edges import OrderedStore
from pipeline.worker.garbage import Sweep
from pipeline.worker.state import StoredState


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Whose state this is. A store of another origin is never continued (invariant 8)."""

    topic: str
    topic_id: str
    partition: int
    partitions: int
    fold: str


class DeadLetter(NamedTuple):
    """A record that nobody can read, as it came."""

    offset: int
    key: bytes | None
    value: bytes | None
    reason: str


class PartitionCut(NamedTuple):
    """What one flush publishes and then writes."""

    partition: int
    cursor: int
    tallies: list[ChangedTally]
    """Those whose shard has to be published."""
    dispositions: list[Disposition]
    dead_letters: list[DeadLetter]
    reroutes: list[tuple[bytes, bytes]]
    """(identifier, value) of records that belong in another partition."""
    writes: tuple[dict[bytes, bytes | None], ...]


class Seen(NamedTuple):
    """How far the partition's summary log is known (summary_log.py)."""

    upto: int
    """Below this offset, no shard's last record is older than an earlier one of it."""
    appended: int | None
    """Records that this worker has appended since; None: somebody else may have, too."""

    def plus(self, appended: int) -> Seen:
        return self if self.appended is None else self._replace(appended=self.appended + appended)


class Partition:
    """The fold of one partition over its store.

    ``next_offset`` is where the fold stands in memory; the store's ``cursor`` follows with every written cut. Outputs
    of records below ``silent_below`` were acknowledged to a worker before, so they are not published again.
    """

    def __init__(self, journal: Journal, origin: Origin, store: OrderedStore, codec: Codec) -> None:
        self.journal = journal
        self.origin = origin
        self._whose = dataclasses.asdict(origin)
        self.store = store
        self.codec = codec
        self.next_offset = 0
        self.cursor = 0
        self._cutting = 0
        self.silent_below = 0
        self.acts_from: int | None = 0
        """From which record on strays are sent on and dead letters written (acts.py); None: that is another's."""
        self.records_held = 0
        self.checks = DimensionChecks()
        self.prefixes = codec.prefixes("MeterEvent")
        self.dispositions: list[Disposition] = []
        self._dead_letters: list[DeadLetter] = []
        self._reroutes: list[tuple[bytes, bytes]] = []
        self.digest = Digest()
        """Of the last shard of every tally that there ever was: those that became garbage stay in it."""
        self.digest_version = DIGEST_VERSION
        """Of the arithmetic that it was begun with: begun with another, it means nothing until all is folded anew."""
        self.summaries = Seen(0, None)
        self._summaries_when_taken_over = self.summaries
        self.state = StoredState(store, codec.decode_accepted_event)
        self.sweep = Sweep(self.state, journal.rules, 0, 0)
        packed = store.get(layout.META)
        if packed is not None:
            self._recover(json.loads(packed))

    def _recover(self, meta: dict[str, Any]) -> None:
        mine, its = self._whose, meta["origin"]
        for name in mine:
            if mine[name] != its[name]:
                raise Refusal(_OTHER_ORIGIN[name].format(mine=mine[name], its=its[name], path=self.store.path))
        if "digest" not in meta:
            raise Refusal(f"the store {self.store.path} was written before digests were kept; {_RESET}")
        self.next_offset = self.cursor = meta["cursor"]
        self.state.clock_ms = meta["clock_ms"]
        self.digest = Digest.read(meta["digest"])
        self.digest_version = meta.get("digest_version", 1)
        self.summaries = self._summaries_when_taken_over = Seen(*meta.get("summaries", self.summaries))
        self.sweep.ledger_mark, self.sweep.tally_mark = meta["ledger_mark"], meta["tally_mark"]
        accounts = {name: [records, int(value)] for name, (records, value) in meta["accounts"].items()}
        self.state.accounts = defaultdict(lambda: [0, 0], accounts)

    @property
    def is_caught_up(self) -> bool:
        """Whether its store has all that was published of it before it was taken over."""
        return self.cursor >= self.silent_below

    def taken_over_again(self, committed: int) -> None:
        """It was assigned to the worker that has it. If the group stands further than its store, it was another's
        meanwhile: then what this worker noted since it had it before, it noted of a log that was not its own.
        """
        if committed > self.cursor:
            self.summaries = Seen(self._summaries_when_taken_over.upto, None)
        self._summaries_when_taken_over = self.summaries
        self.silent_below = max(self.silent_below, committed)

    def sign(self) -> None:
        """Write down whose state this is, for good, before the first cut: killed until then, it would be anybody's."""
        if self.store.get(layout.META) is None:
            self.store.write({layout.META: self._meta()})
            self.store.flush()

    def fold(self, batch: RecordBatch) -> None:
        """Fold a batch that begins where the fold stands."""
        assert batch.start == self.next_offset, f"the fold stands at {self.next_offset}, the batch at {batch.start}"
        if len(batch):
            fold_columns(self, batch, self.checks)
        self.next_offset = batch.next_offset
        self.records_held += len(batch)

    def content(self, value: bytes | None) -> MeterEvent | Cancellation | Undecodable:
        """A journal record, decoded strictly."""
        try:
            return self.codec.decode_journal(value)
        except UndecodableRecord as error:
            return Undecodable(error.reason)

    def fold_record(self, batch: RecordBatch, place: int, content: Any) -> None:
        """Fold one record of a batch by the specification."""
        offset, value = int(batch.offsets[place]), batch.values[place]
        decided = step(self.state, self.journal, Record(offset, int(batch.appended_at_ms[place]), content))
        own = next((one for one in decided if one.offset == offset), None)
        if isinstance(content, MeterEvent) and (own is None or own.disposition == outcomes.CANCELLED):
            assert value is not None
            self.state.bodies[offset] = value
        if offset >= self.silent_below:
            self.dispositions += decided
        if self.acts_from is None or offset < self.acts_from:
            return
        if isinstance(content, Undecodable):
            self._dead_letters.append(DeadLetter(offset, batch.keys[place], value, content.reason))
        elif own is not None and own.disposition == outcomes.REROUTED:
            assert value is not None
            assert content.identifier is not None
            self._reroutes.append((content.identifier.encode(), value))

    def cut(self) -> PartitionCut:
        """Take everything since the last cut, and garbage at twice the speed at which records come."""
        self.sweep.advance(2 + 2 * self.records_held // layout.BODIES_PER_PAGE, self.cursor)
        self._cutting = self.next_offset
        state_cut = self.state.cut()
        self.digest = self.digest.plus(self._hashes(state_cut.tallies)).minus(self._hashes(state_cut.earlier))
        tallies = _changed_since(state_cut.tallies, self.silent_below)
        self.summaries = self.summaries.plus(len(tallies))
        cut = PartitionCut(
            self.journal.partition,
            self.next_offset,
            tallies,
            self.dispositions,
            self._dead_letters,
            self._reroutes,
            (*state_cut.writes, {layout.META: self._meta()}),
        )
        self.dispositions, self._dead_letters, self._reroutes = [], [], []
        self.records_held = 0
        return cut

    def _hashes(self, tallies: list[ChangedTally]) -> Hashes:
        rows = b"".join([packed for _, packed in tallies])
        return hash_shards([key[1:] for key, _ in tallies], rows, self.journal.partition)

    def _meta(self) -> bytes:
        meta = {
            "origin": self._whose,
            "cursor": self.next_offset,
            "clock_ms": self.state.clock_ms,
            "digest": str(self.digest),
            "digest_version": self.digest_version,
            "summaries": self.summaries,
            "ledger_mark": self.sweep.ledger_mark,
            "tally_mark": self.sweep.tally_mark,
            "accounts": {name: [records, str(value)] for name, (records, value) in self.state.accounts.items()},
        }
        return json.dumps(meta).encode()

    def wrote(self) -> None:
        """The last cut is published and written."""
        self.cursor = self._cutting
        self.state.wrote()

    def close(self) -> None:
        """Leave the store as it was last written."""
        self.store.close()


def _changed_since(tallies: list[ChangedTally], offset: int) -> list[ChangedTally]:
    """Those whose version is at or above ``offset``."""
    if offset == 0:
        return tallies
    return [changed for changed in tallies if int.from_bytes(changed[1][:8], "big", signed=True) >= offset]


_RESET = "`meterline worker reset` deletes this worker's local state; it is then folded again from the journal"
NEW_NAMESPACE = "begin a new namespace (METERLINE_NAMESPACE) with `meterline topics create`"
_OTHER_ORIGIN = {
    "topic": "the store {path} holds the state of topic {its}, not of {mine}; " + _RESET,
    "topic_id": "the journal was deleted and created again since the store {path} was written (topic id {its}, now"
    " {mine}): its offsets mean other records, and what was published of the old ones would stand against them."
    " Restore the topic, or " + NEW_NAMESPACE,
    "partition": "the store {path} holds partition {its}, not {mine}; " + _RESET,
    "partitions": "the journal had {its} partitions when the store {path} was written and has {mine} now: identifiers"
    " moved to other partitions, and duplicates would count twice. Restore the topic with {its} partitions, or "
    + NEW_NAMESPACE,
    "fold": "the store {path} was written by another fold ({its}; this one is {mine}): restore the settings"
    " METERLINE_MAX_EVENT_AGE, METERLINE_MAX_EVENT_AHEAD and METERLINE_CANCEL_WINDOW; with other rules, `meterline"
    " rebuild` builds a generation of its own",
}
