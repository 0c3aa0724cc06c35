"""A place in a consumer group that goes with a name, and the one process that may have it.

Whoever joins under a name gets the place of the one who has it: so a process that was killed comes back. To the other
one Kafka says that it does not know this member, as it does after a session that ran out, and after a coordinator that
died before it had written down who is who. Whoever joined again at that word would take the place back, and two living
processes of one name would do so for ever. So a process looks who has its name before it joins again:

* Nobody, itself, or one that had the name before it: it joins. A coordinator may well remember who was before.
* Somebody that came later: that one goes on alone, and this process ends. It leaves a mark, and its next start joins
  only when the one that it had to yield to is gone: a supervisor would otherwise start the two in turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from pipeline.errors import Refusal

LOOK_AGAIN_S = 0.5
BEYOND_SESSION_S = 3.0
"""A dead member may stay this much longer in its group than its session lasts."""
MARK = "name-taken-by"

log = logging.getLogger("meterline")

Look = Callable[[], Awaitable[str | None]]
"""The id of the member that has the name at the moment; a process that joins again is another member.

Where that one runs is not known: to a member that takes a place over Kafka gives the address of the one before.
"""


class NamedPlace:
    """The place that goes with ``name`` in ``group``, as one process knows it. ``directory`` outlives the process."""

    def __init__(self, name: str, group: str, session_s: float, directory: Path) -> None:
        self.name = name
        self.group = group
        self._session_s = session_s
        self._mark = directory / MARK
        self._joined_before = False
        self._not_later: set[str] = set()
        """Members that this process was, and those that had the name before it."""
        self._unanswered = False

    def joining(self) -> None:
        """A request to join anew is on its way. Should its answer get lost, we may be a member and not know which."""
        self._unanswered = True

    def answered(self, member_id: str) -> None:
        """It was answered: ``member_id`` is who we are, or were for as long as it waited."""
        self._unanswered = False
        self._not_later.add(member_id)

    async def may_join(self, look: Look) -> None:
        """Return when nothing speaks against joining as a new member. Raises Refusal when another one has the name."""
        holder = await look()
        if not self._joined_before:
            self._joined_before = True
            holder = await self._outlast(holder, look)
        elif holder is not None and holder not in self._not_later and not self._unanswered:
            with contextlib.suppress(OSError):  # then the next start takes the name, and the other one yields
                self._mark.write_text(holder)
            raise self._refusal(holder)
        if holder is not None:
            self._not_later.add(holder)

    async def _outlast(self, holder: str | None, look: Look) -> str | None:
        """Wait for as long as a dead member keeps its place, if it is the one that the process before us yielded to."""
        stronger = self._stronger()
        if holder and holder == stronger:
            log.warning("waiting whether the other process called %s still lives", self.name)
        deadline = time.monotonic() + self._session_s + BEYOND_SESSION_S
        while holder and holder == stronger:
            if time.monotonic() > deadline:
                raise self._refusal(holder)
            await asyncio.sleep(LOOK_AGAIN_S)
            holder = await look()
        if stronger:
            self._mark.unlink(missing_ok=True)
        return holder

    def _stronger(self) -> str:
        try:
            return self._mark.read_text(errors="replace")
        except OSError:
            return ""

    def _refusal(self, holder: str) -> Refusal:
        return Refusal(
            f"another living process is called {self.name} (METERLINE_INSTANCE), too: it has joined the group "
            f"{self.group} after this one, as member {holder}, and goes on alone. "
            f"Give every worker and every sink a METERLINE_INSTANCE of its own"
        )
