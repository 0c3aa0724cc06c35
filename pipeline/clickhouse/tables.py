"""The names of tables and views. They are state: renaming one loses what stands under the old name.

Tables with a generation hold what the worker derived; the view of the plain name shows the live one. Tables without
hold what was sent.
"""

from __future__ import annotations

FIRST_GENERATION = 1
"""The one that migrations create and show."""

DERIVED = ("summary_shards", "dispositions")
"""Views over the table of the live generation, ``{name}_g{generation}``."""

SENT = ("meter_events", "cancellations", "adjustments", "meters", "products", "plans")

ZONES = "zones"
MIGRATIONS = "migrations"
SUMMARIES_VIEW = "meter_event_summaries"


def derived(name: str, generation: int = FIRST_GENERATION) -> str:
    """The table that a generation of ``name`` is written to."""
    assert name in DERIVED, name
    return f"{name}_g{generation}"
