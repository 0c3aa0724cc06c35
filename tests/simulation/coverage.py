"""What a set of runs must have reached, or it proves less than it seems to: faults, dispositions, ways of recovery."""

from __future__ import annotations

from tests.simulation.plan import EFFECTS, OPERATOR_EFFECTS, SINK_EFFECTS

FAULTS = (
    "worker killed",
    "worker frozen",
    "sink killed",
    "sink frozen",
    "crew killed",
    "stopped by",
    "a worker more",
    "rebalance of several: chance",
    "rebalance of several: session timeout",
    "a clock leapt ahead",
    "a clock stepped back",
    "a disk with state was lost",
    "committed offsets were lost",
    "records were deleted",
    "a log was compacted",
    "a publisher gave up",
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
"""As they take effect: that a plan has drawn one says nothing."""

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
    "cancellation rejected",
    "range_cancellation cancelled",
    "range_cancellation duplicate",
    "range_cancellation rejected",
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
    "rebuild was killed",
    "compared",
    "rebuild came to its end",
    "rollback came to its end",
    "drop came to its end",
    "tables came to its end",
    "left for another generation",
    "left alone",
)

STOPPED = tuple(f"{when} {name}" for name in (*EFFECTS, *SINK_EFFECTS) for when in ("before", "after"))
"""A process died or froze there."""

COMMAND_KILLED = tuple(f"operator at {name}" for name in OPERATOR_EFFECTS)

MUST_BE_REACHED = frozenset((*FAULTS, *DISPOSITIONS, *RECOVERY, *GENERATIONS, *STOPPED, *COMMAND_KILLED))
