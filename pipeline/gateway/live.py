"""Which generation is live: the journal that events go to, and the rules they are held to.

Looked up before the first event is taken and followed from then on: a journal that was given more partitions has
another name (kafka/topics.py), and an event in the old one would be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from pipeline.domain.limits import FoldRules
from pipeline.gateway.problems import unavailable
from pipeline.kafka.generations import GenerationLedger
from pipeline.kafka.topics import Topics, topics_of_generation

LOOK_EVERY_S: Final = 1.0

_log = logging.getLogger(__name__)


class LiveGeneration:
    """A Service (parts.py). ``rules`` are the settings': those of a generation for which none are written down."""

    name = "generation"

    def __init__(self, ledger: GenerationLedger, namespace: str, rules: FoldRules) -> None:
        self._ledger, self._namespace = ledger, namespace
        self._settings_rules = rules
        self._seen: int | None = None
        self._topics: Topics | None = None
        self._journals: set[str] = set()
        self._rules = rules
        self._task: asyncio.Task[None] | None = None

    @property
    def journal(self) -> str:
        """The journal's topic. Raises Problem 503 while it is not known: nothing was done then."""
        if self._topics is None:
            raise unavailable(message="The gateway is starting and has not reached Kafka yet. Nothing was done.")
        return self._topics.journal

    @property
    def topics(self) -> Topics | None:
        """The names as the live generation sees them; None while it is not known."""
        return self._topics

    def present(self, topic: str) -> str:
        """Where records for this topic go now: another one when it is a journal that has moved."""
        return self.journal if topic in self._journals else topic

    @property
    def rules(self) -> FoldRules:
        return self._rules

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="follows generations")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def not_ready(self) -> str | None:
        return None if self._topics is not None else "asking which generation is live"

    async def _follow(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._look)
            except Exception as error:
                if self._topics is None:
                    _log.warning("which generation is live is not known yet: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    def _look(self) -> None:
        end = self._ledger.end()
        if end == self._seen:
            return
        live = self._ledger.read().live
        topics = topics_of_generation(self._namespace, live)
        if self._topics is not None and topics.journal != self._topics.journal:
            _log.info("events go to %s from now on", topics.journal)
        self._journals.add(topics.journal)
        self._rules = FoldRules.of_version(live.fold) if live.fold else self._settings_rules
        self._topics, self._seen = topics, end
