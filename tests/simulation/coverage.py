"""What a set of runs must have reached, or it proves less than it seems to: faults, dispositions, ways of recovery."""

from __future__ import annotations

from tests.simulation.plan import EFFECTS, SINK_EFFECTS

FAULTS = (
    "kill",
    "kill_at",
    "freeze",
    "freeze_at",
    "rebalance",
    "storm",
    "stop",
    "join",
    "skew",
    "leap",
    "leader",
    "lose_disk",
    "lose_commits",
    "damage_snapshot",
    "gives_up",
    "database_away",
    "database_unsure",
    "kill_sink",
    "freeze_sink",
    "retention",
    "killed",
    "frozen for",
    "stopped by",
    "a producer sent again, not knowing",
    "acknowledgement lost after the append",
    "appended after its sender's death",
    "publish waited for a leader",
    "commit lost",
    "commit's answer lost",
    "commit refused: another generation",
    "insert applied without an answer",
    "insert applied in part",
    "database away",
    "snapshot failed",
)

DISPOSITIONS = (
    "event duplicate",
    "event duplicate_differs",
    "event cancelled",
    "event rejected",
    "event rerouted",
    "unknown undecodable",
    "cancellation pending",
    "cancellation cancelled",
    "cancellation already_cancelled",
    "cancellation too_late",
    "cancellation not_found",
    "cancellation duplicate",
    "cancellation rerouted",
    "range_cancellation cancelled",
    "range_cancellation duplicate",
)

RECOVERY = (
    "took over a local store",
    "took over without a local store",
    "restored a snapshot",
    "snapshots away",
    "took a snapshot",
    "passed over a damaged snapshot",
    "set a store aside",
    "a crash lost writes",
    "left in peace",
    "expelled a zombie",
    "zombie notices",
    "rebalanced again during a take over",
    "fetch behind the start of the log",
    "refused",
)

GENERATIONS = (
    "kill_operator",
    "kill_crew",
    "rebuild was killed",
    "compared",
    "rebuild came to its end",
    "rollback came to its end",
    "drop came to its end",
    "tables came to its end",
    "compact",
    "left for another generation",
    "left alone",
)

STOPPED = tuple(f"{when} {name}" for name in (*EFFECTS, *SINK_EFFECTS) for when in ("before", "after"))
"""A process died or froze there."""

MUST_BE_REACHED = frozenset((*FAULTS, *DISPOSITIONS, *RECOVERY, *GENERATIONS, *STOPPED))
