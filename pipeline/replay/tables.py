"""Filling ClickHouse's tables once more from the topics, beside the sinks that go on with what is new.

Rows are absolute and carry versions, so two sinks that insert the same do no harm. What the topics do not hold any more
(dispositions of more than 90 days ago) only a rebuild brings back.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.clickhouse import tables
from pipeline.clickhouse.connection import connect, translated
from pipeline.domain.generations import Generation
from pipeline.kafka import admin
from pipeline.kafka.asking import admin_client
from pipeline.kafka.lag import LagReader
from pipeline.kafka.reading import partitions_of
from pipeline.kafka.start_offsets import commit_start_offsets
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
    group = f"{names.sink_group}-tables"
    admin.delete(ground.kafka, (), [group])
    places = [(topic, number) for topic in topics for number in partitions_of(ground.kafka, topic)]
    commit_start_offsets(admin_client(ground.kafka), group, places)
    reader = LagReader(ground.kafka)
    with muster(one, group) as crew, watch.step("into ClickHouse", measured=True) as tell:
        goal = sum(lag.appended for lag in reader.lag(group, topics).values())
        done = -1
        while done < goal:
            crew.tend()
            done = sum(lag.appended - lag.behind for lag in reader.lag(group, topics).values())
            tell(min(done, goal), goal, "")
            time.sleep(LOOK_EVERY_S)
    admin.delete(ground.kafka, (), [group])


def log_is_lost(ground: Ground) -> bool:
    """Whether the event log is empty."""
    with translated(ground.server), connect(ground.server) as client:
        return int(str(client.command(f"SELECT count() FROM {tables.JOURNALED[0]}"))) == 0
