"""The fold by columns: the same answers as the fold record by record, for thousands of records at once.

A batch falls into plain rows and rare ones. A plain row is an acceptable event of this partition whose identity
nothing before it speaks of, in the batch, the ledger or the waiting cancellations: it counts. Plain rows
are checked, entered in the ledger and summed per tally as columns. All others go in offset order through the
specification, ``pipeline.domain.fold.step``. What makes that sound: adding to a tally does not care about order, no
rare record in front of a plain row speaks of its identity, and a range takes back only what has a lower offset than
its own.

A batch in which the broker's clock steps back, or leaps ahead by a whole window, is rare as a whole. So is a small one:
columns take milliseconds whatever their length, the specification tens of microseconds a record.
"""

from __future__ import annotations

from decimal import Context
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.codec.columns import decode_events
from pipeline.codec.dimensions import dimensions_of
from pipeline.codec.murmur import home_partitions
from pipeline.domain import outcomes
from pipeline.domain.checks import FORBIDDEN, check_content
from pipeline.domain.events import Cancellation, Disposition, MeterEvent
from pipeline.domain.fold import Undecodable
from pipeline.domain.limits import CUSTOMER_CHARS_MAX, EVENT_NAME_CHARS_MAX, IDENTIFIER_CHARS_MAX, VALUE_SCALE
from pipeline.stream.batch import RecordBatch
from pipeline.worker import layout
from pipeline.worker.grouping import enter_tallies

if TYPE_CHECKING:
    from pipeline.worker.partition import Partition

Mask = npt.NDArray[np.bool_]

_TEXTS = (
    ("identifier", IDENTIFIER_CHARS_MAX),
    ("event_name", EVENT_NAME_CHARS_MAX),
    ("customer", CUSTOMER_CHARS_MAX),
)
_FORBIDDEN = "[" + FORBIDDEN.replace("\ud800-\udfff", "") + "]"
"""Without the surrogates, which no UTF-8 contains."""
_LEDGER_ROW = np.dtype([("kind", "u1"), ("offset", ">u8"), ("appended_at", ">i8"), ("clock", ">i8")])
FEW = 100
"""As many records the specification folds sooner than columns do."""
_KNOWN_DIMENSIONS_MAX = 100_000
_EXACT = Context(prec=60)
_PROBE = MeterEvent("i", "n", "c", 0, 0, (), True)


class DimensionChecks:
    """Which dimensions are acceptable: each distinct one is asked of the specification once."""

    def __init__(self) -> None:
        self._known: dict[bytes, bool] = {b"\0": True}

    def acceptable(self, packed: bytes) -> bool:
        good = self._known.get(packed)
        if good is None:
            if len(self._known) >= _KNOWN_DIMENSIONS_MAX:
                self._known = {b"\0": True}
            good = check_content(_PROBE._replace(dimensions=dimensions_of(packed))) is None
            self._known[packed] = good
        return good


def fold_columns(partition: Partition, batch: RecordBatch, checks: DimensionChecks) -> None:
    """Fold a batch that begins where the partition's fold stands; equal to folding it record by record."""
    if len(batch) <= FEW:
        fold_rows(partition, batch, range(len(batch)), {})
        return
    appended = batch.appended_at_ms
    clock = np.maximum(appended, partition.state.clock_ms)
    window_ms = partition.journal.rules.cancellation_window_ms
    if np.any(np.diff(appended) < 0) or clock[-1] - clock[0] > window_ms:
        # The clock stepped back, or so far ahead that a cancellation of this batch may expire within it.
        fold_rows(partition, batch, range(len(batch)), {})
        return
    frame, rows, rest = decode_events(batch.values, partition.prefixes)
    contents = {int(place): partition.content(batch.values[place]) for place in rest}
    plain = _acceptable(partition, frame, clock[rows], checks)
    plain[np.isin(rows, _expiry_rows(partition, clock))] = False
    keys = _ledger_keys(frame)
    plain &= ~_spoken_of_before(keys, rows, contents)
    alone = plain.copy()
    plain &= keys.is_first_distinct().to_numpy()  # the later ones of an identity find the first in the ledger
    places = np.flatnonzero(plain)
    sorted_keys = keys.gather(places)
    places = places[sorted_keys.arg_sort().to_numpy()]  # RocksDB reads and writes ascending keys much faster
    plain_keys = keys.gather(places).to_list()
    known = np.fromiter((one is not None for one in partition.state.ledger_values(plain_keys)), np.bool_, len(places))
    if known.any():
        plain_keys = [key for key, is_known in zip(plain_keys, known, strict=True) if not is_known]
        plain[places[known]] = False
        places = places[~known]
    if len(places):
        _enter_ledger(partition, batch, rows[places], clock, plain_keys)
        places.sort()
        _keep_bodies(partition, batch, rows[places])
        enter_tallies(partition.state, frame, places, batch.offsets[rows[places]], appended[rows[places]])
    again = np.flatnonzero(alone & ~plain)
    same = _same_again(partition, batch, frame[again], rows[again], clock, keys.gather(again).to_list())
    rare = np.sort(np.concatenate([rest, np.setdiff1d(rows[~plain], same, assume_unique=True)]))
    fold_rows(partition, batch, rare.tolist(), contents)
    partition.state.clock_ms = int(clock[-1])


def _same_again(
    partition: Partition,
    batch: RecordBatch,
    frame: pl.DataFrame,
    rows: npt.NDArray[np.int64],
    clock: npt.NDArray[np.int64],
    keys: list[bytes],
) -> list[int]:
    """Settle the rows that repeat, byte for byte, an event the ledger holds: duplicates. Returns which ones.

    They are acceptable, and no rare record in front of them speaks of their identity: what the ledger says now is what
    it said then, but for cancellations behind them, which change no duplicate.
    """
    state, window_ms = partition.state, partition.journal.rules.dedup_window_ms
    settled, value_sum = [], 0
    for key, row, fields in zip(keys, rows.tolist(), frame.iter_rows(), strict=True):
        packed = state.ledger_value(key)
        if packed is None or packed[0] == layout.AWAITED:
            continue
        first_offset, _, clock_ms, _ = layout.unpack_counted(packed)
        if clock[row] - clock_ms > window_ms or state.body(first_offset) != batch.values[row]:
            continue
        identifier, event_name, customer, value, timestamp_ms, _, livemode = fields
        scaled = int(value.scaleb(VALUE_SCALE, _EXACT))
        settled.append(row)
        value_sum += scaled
        offset = int(batch.offsets[row])
        if offset >= partition.silent_below:
            partition.dispositions.append(
                Disposition(
                    partition.journal.partition,
                    offset,
                    offset,
                    outcomes.EVENT,
                    outcomes.DUPLICATE,
                    None,
                    livemode,
                    event_name,
                    identifier,
                    customer,
                    scaled,
                    timestamp_ms,
                    int(batch.appended_at_ms[row]),
                    first_offset=first_offset,
                )
            )
    state.account(outcomes.DUPLICATE, len(settled), value_sum)
    return settled


def fold_rows(partition: Partition, batch: RecordBatch, places: Any, contents: dict[int, Any]) -> None:
    """Some rows of a batch by the specification, in order."""
    for place in places:
        content = contents.get(place)
        partition.fold_record(batch, place, partition.content(batch.values[place]) if content is None else content)


def _acceptable(
    partition: Partition, frame: pl.DataFrame, clock: npt.NDArray[np.int64], checks: DimensionChecks
) -> Mask:
    """Rows that pass every check of the specification, and live here. A row in doubt is left out."""
    rules = partition.journal.rules
    timestamp = frame["timestamp_ms"].to_numpy()
    good: Mask = (timestamp >= clock - rules.max_past_ms) & (timestamp <= clock + rules.max_ahead_ms)
    for name, chars_max in _TEXTS:
        good &= _are_texts(frame[name], chars_max)
    dimensions = frame["dimensions"]
    bad = [one for one in dimensions.unique().to_list() if not checks.acceptable(one)]
    if bad:
        good &= ~dimensions.is_in(pl.Series(bad, dtype=pl.Binary).implode()).to_numpy()
    homes = home_partitions(frame["identifier"], partition.journal.partitions)
    good &= homes == partition.journal.partition
    return good


def _are_texts(texts: pl.Series, chars_max: int) -> Mask:
    size = texts.str.len_bytes().to_numpy()
    good: Mask = (size > 0) & (size <= chars_max)
    if not good.all():
        good = (size > 0) & (texts.str.len_chars().to_numpy() <= chars_max)
    joined = np.frombuffer(texts.str.join("").item().encode(), np.uint8)
    if len(joined) and (joined.min() < 0x20 or joined.max() > 0x7E):
        good &= ~texts.str.contains(_FORBIDDEN).to_numpy()
    return good


def _ledger_keys(frame: pl.DataFrame) -> pl.Series:
    """``layout.ledger_key`` of every row, as Binary."""
    mode = pl.when(pl.col("livemode")).then(pl.lit("\x001")).otherwise(pl.lit("\x000"))
    text = pl.concat_str(pl.lit(layout.LEDGER.decode()), "identifier", pl.lit("\0"), "event_name", mode)
    return frame.select(text.cast(pl.Binary).alias("key"))["key"]


def _identity_key(content: MeterEvent | Cancellation | Undecodable) -> bytes | None:
    """The ledger key that a rare record speaks of, if it is of one identity."""
    if isinstance(content, Undecodable) or content.identifier is None:
        return None
    mode = "1" if content.livemode else "0"
    return layout.LEDGER + f"{content.identifier}\0{content.event_name}\0{mode}".encode()


def _expiry_rows(partition: Partition, clock: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The rows at which a waiting cancellation expires: decisions of exactly those records."""
    window_ms = partition.journal.rules.cancellation_window_ms
    waiting = partition.state.awaited_before(int(clock[-1]) - window_ms)
    found: npt.NDArray[np.int64] = np.searchsorted(clock, np.array(waiting, np.int64) + window_ms, side="right")
    return found


def _spoken_of_before(keys: pl.Series, rows: npt.NDArray[np.int64], contents: dict[int, Any]) -> Mask:
    """Rows behind a record of the same identity that the specification has to judge: it judges them too."""
    first: dict[bytes, int] = {}
    for place in sorted(contents):
        key = _identity_key(contents[place])
        if key is not None:
            first.setdefault(key, place)
    behind = np.zeros(len(rows), np.bool_)
    if first:
        spoken_of = np.flatnonzero(keys.is_in(pl.Series(list(first), dtype=pl.Binary).implode()).to_numpy())
        for at, key in zip(spoken_of.tolist(), keys.gather(spoken_of).to_list(), strict=True):
            behind[at] = rows[at] > first[key]
    return behind


def _enter_ledger(
    partition: Partition,
    batch: RecordBatch,
    rows: npt.NDArray[np.int64],
    clock: npt.NDArray[np.int64],
    keys: list[bytes],
) -> None:
    packed = np.empty(len(rows), _LEDGER_ROW)
    packed["kind"] = layout.COUNTED
    packed["offset"] = batch.offsets[rows]
    packed["appended_at"] = batch.appended_at_ms[rows]
    packed["clock"] = clock[rows]
    joined, size = packed.tobytes(), _LEDGER_ROW.itemsize
    entries = [joined[at : at + size] for at in range(0, len(joined), size)]
    partition.state.ledger.update(zip(keys, entries, strict=True))


def _keep_bodies(partition: Partition, batch: RecordBatch, rows: npt.NDArray[np.int64]) -> None:
    values: list[Any] = batch.values
    bodies = values if len(rows) == len(values) else [values[row] for row in rows.tolist()]
    partition.state.bodies.update(zip(batch.offsets[rows].tolist(), bodies, strict=True))
