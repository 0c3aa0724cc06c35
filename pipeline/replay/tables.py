"""Filling ClickHouse's tables once more from the topics, beside the sinks that go on with what is new.

Rows are absolute and carry versions, so two sinks that insert the same do no harm. What the topics do not hold any more
(dispositions of more than 90 days ago) only a rebuild brings back.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.domain.generations import Generation
from pipeline.replay.coverage import LOOK_EVERY_S
from pipeline.replay.crew import Crew
from pipeline.replay.ground import Ground
from pipeline.replay.rebuild import Watch

Muster = Callable[[Generation, str], Crew]
"""Makes a crew of one sink in a consumer group of its own."""


def fill(ground: Ground, muster: Muster, watch: Watch, *, event_log: bool) -> None:
    """Copy everything that the live generation's topics hold now. Killed on the way, it begins anew.

    Raises Refusal while another one does the same.
    """
    one = ground.ledger.read().live
    ground.restore_tables(one)
    names = ground.topics(one)
    topics = [names.summaries, names.dispositions, names.adjustments, names.catalog]
    topics += [names.journal] if event_log else []
    group = ground.filling_group
    ground.want_filled(one)
    reader = ground.lag_reader()
    with muster(one, group) as crew, watch.step("into ClickHouse", measured=True) as tell:
        ends = reader.ends(topics)
        goal = left = reader.left(group, ends)
        while left:
            crew.tend()
            time.sleep(LOOK_EVERY_S)
            left = reader.left(group, ends)
            tell(goal - left, goal, "")
    ground.delete((), [group])
