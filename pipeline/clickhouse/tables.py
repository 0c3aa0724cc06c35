"""The names of tables and views. They are state: renaming one loses what stands under the old name.

Tables with a generation hold what the worker derived, those with a journal what was sent to it; the views of the plain
names show what stands. Tables without a number hold what was sent beside the journal.
"""

from __future__ import annotations

FIRST_GENERATION = 1
"""The one that migrations create and show."""

DERIVED = ("summary_shards", "dispositions")
"""Views over the table of the live generation, ``{name}_g{generation}``."""

JOURNALED = ("meter_events", "cancellations")
"""The event log: views over the tables of the journal that stands, ``{name}_j{journal}``."""

SENT = ("adjustments", "meters", "products", "plans")

ZONES = "zones"
MIGRATIONS = "migrations"
SUMMARIES_VIEW = "meter_event_summaries"


def derived(name: str, generation: int = FIRST_GENERATION) -> str:
    """The table that a generation of ``name`` is written to."""
    assert name in DERIVED, name
    return f"{name}_g{generation}"


def table_of(name: str, generation: int = FIRST_GENERATION, journal: int = FIRST_GENERATION) -> str:
    """The table behind a view, or the one that has this name itself."""
    if name in JOURNALED:
        return f"{name}_j{journal}"
    return derived(name, generation) if name in DERIVED else name
