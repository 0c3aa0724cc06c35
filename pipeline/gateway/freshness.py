"""How fresh an answer is: per journal partition the offset below which everything can be seen, and what cannot yet.

Looked at once a second in the background (kafka/visibility.py says why the order of the numbers matters), so an answer
is never older than it says, and at most a second fresher.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from pipeline.gateway.moments import rfc_3339
from pipeline.kafka.reading import partitions_of
from pipeline.kafka.topics import Topics
from pipeline.kafka.visibility import Look, Offsets, VisibilityReader

LOOK_EVERY_S: Final = 1.0
READ_OLDEST_EVERY_S: Final = 5.0
"""How often the oldest record that cannot be seen is read, to know its age, while it is older than a look."""
OWED_MAX: Final = 3_600
OLD_AFTER_MS: Final = 10_000
"""A look of so long ago says nothing of now."""

_log = logging.getLogger(__name__)


class Covered(NamedTuple):
    """What was known after a look."""

    looked_at_ms: int
    """When the look began: what had been appended by then is in ``ends``."""
    seen: Offsets
    """Below these everything can be seen."""
    ends: Offsets
    newest_unseen_ms: int | None
    """When the newest record that cannot be seen was appended; None when all can be seen."""
    oldest_unseen_ms: int | None
    """When the oldest one was, or earlier; None also while that is not known, as of a record that cannot be read."""
    beside: int
    """As ``Look`` says."""


class Progress:
    """What follows from looks, one after the other. No I/O."""

    def __init__(self) -> None:
        self._owed: dict[int, collections.deque[tuple[int, int]]] = {}
        """By partition: (end of the summaries, what can be seen once the sink has come so far)."""
        self._before: Look | None = None
        self._looked_at_ms = 0
        self.seen: Offsets = {}

    def after(self, look: Look, now_ms: int, appended_at_ms: Callable[[int, int], int | None]) -> Covered:
        """``now_ms``: when the look began. ``appended_at_ms``: tells when the record at (partition, offset) was
        appended; asked for what is old.
        """
        for number, folded in look.folded.items():
            owed = self._owed.setdefault(number, collections.deque(maxlen=OWED_MAX))
            owed.append((look.summaries_end[number], folded))
            while owed and owed[0][0] <= look.copied[number]:
                self.seen[number] = max(self.seen.get(number, 0), owed.popleft()[1])
        unseen = [number for number, end in look.journal_end.items() if self.seen.get(number, 0) < end]
        newest = [look.newest_ms[number] for number in unseen if number in look.newest_ms]
        oldest = [self._oldest_ms(number, appended_at_ms) for number in unseen]
        self._before, self._looked_at_ms = look, now_ms
        return Covered(
            now_ms,
            {number: self.seen.get(number, 0) for number in look.journal_end},
            look.journal_end,
            max(newest, default=None),
            _first(oldest),
            look.beside,
        )

    def _oldest_ms(self, number: int, appended_at_ms: Callable[[int, int], int | None]) -> int | None:
        before = self._before
        if before is not None and self.seen.get(number, 0) >= before.journal_end.get(number, 0):
            return self._looked_at_ms  # it has come since the look before
        return appended_at_ms(number, self.seen.get(number, 0))


class Freshness:
    """A Service (parts.py). ``topics``: the names of the generation that answers are made of, or None while that is not
    known, or is about to change: what is known then stays as it was. ``event_log``: whether the sink copies it.
    """

    name = "freshness"

    def __init__(
        self,
        config: Mapping[str, Any],
        topics: Callable[[], Topics | None],
        clock: Callable[[], int],
        *,
        event_log: bool = True,
    ) -> None:
        self._config = config
        self._topics = topics
        self._clock = clock
        self._event_log = event_log
        self._reader: VisibilityReader | None = None
        self._progress = Progress()
        self._covered: Covered | None = None
        self._oldest: dict[int, _Read] = {}
        self._task: asyncio.Task[None] | None = None
        self._under_way: asyncio.Future[None] | None = None
        self.partitions: int | None = None
        """Of the journal; None while it is not known."""

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="looks how fresh answers are")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._under_way is not None:  # a connection that is in use cannot be closed
            await asyncio.wait([self._under_way])
        if self._reader is not None:
            self._reader.close()

    def not_ready(self) -> str | None:
        """Always ready: an answer without freshness is an answer."""
        return None

    def as_of(self) -> dict[str, Any] | None:
        """For an answer: ages in ms, or None; offsets per journal partition. None while nothing is known."""
        found, now_ms = self._covered, self._clock()
        if found is None:
            return None
        return {
            "looked_at": rfc_3339(found.looked_at_ms),
            "records_not_visible": _not_visible(found),
            "newest_not_visible_age_ms": _age(found.newest_unseen_ms, now_ms),
            "oldest_not_visible_age_ms": _age(found.oldest_unseen_ms, now_ms),
            "partitions": [
                {"partition": number, "visible_below": found.seen[number], "end": end}
                for number, end in sorted(found.ends.items())
            ],
        }

    def records_behind(self) -> int | None:
        """Records that an explanation may lack, of every topic that it is made of; 0: it has all that was there at the
        last look. None while that is not known, or has not been for long.
        """
        found = self._covered
        if found is None or self._clock() - found.looked_at_ms > OLD_AFTER_MS:
            return None
        return _not_visible(found) + found.beside

    async def _follow(self) -> None:
        said = ""
        while True:
            try:
                self._under_way = asyncio.ensure_future(asyncio.to_thread(self._look))
                await asyncio.shield(self._under_way)
                said = ""
            except Exception as error:
                if str(error) != said:
                    said = str(error)
                    _log.warning("how fresh answers are is not known: %s", said)
            await asyncio.sleep(LOOK_EVERY_S)

    def _look(self) -> None:
        topics = self._topics()
        if topics is None:
            return
        if self._reader is None or self._reader.topics != topics:
            if self._reader is not None:
                self._reader.close()
            self.partitions = len(partitions_of(self._config, topics.journal))
            adjustments = len(partitions_of(self._config, topics.adjustments))
            self._reader = VisibilityReader(
                self._config, topics, self.partitions, adjustments, event_log=self._event_log
            )
            self._progress, self._oldest = Progress(), {}
        now_ms = self._clock()  # before the look: of what comes while it goes on, it knows nothing
        self._covered = self._progress.after(self._reader.look(), now_ms, self._appended_at_ms)

    def _appended_at_ms(self, partition: int, offset: int) -> int | None:
        """Read, now and then; in between what was read last, which is older, or not known."""
        assert self._reader is not None
        known = self._oldest.get(partition)
        if known is None or (
            (known.offset != offset or known.appended_at_ms is None)
            and time.monotonic() - known.read_at_s > READ_OLDEST_EVERY_S
        ):
            appended_ms = self._reader.appended_at_ms(partition, offset)
            known = self._oldest[partition] = _Read(offset, appended_ms, time.monotonic())
        return known.appended_at_ms


class _Read(NamedTuple):
    """When a record was appended, and when that was looked up."""

    offset: int
    appended_at_ms: int | None
    read_at_s: float


def _not_visible(found: Covered) -> int:
    """Journal records that answers do not know of yet."""
    return sum(end - found.seen[number] for number, end in found.ends.items())


def _first(moments_ms: list[int | None]) -> int | None:
    """The first of them; None when there is none, or one is not known: that might be the first."""
    known = [moment for moment in moments_ms if moment is not None]
    return min(known, default=None) if len(known) == len(moments_ms) else None


def _age(moment_ms: int | None, now_ms: int) -> int | None:
    return None if moment_ms is None else max(0, now_ms - moment_ms)
