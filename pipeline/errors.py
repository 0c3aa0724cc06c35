"""The errors of Meterline, by who is to blame and what helps.

MeterlineError
├── UsageError          the caller's fault: fix the input (exit code 2)
│   └── SettingsError   the environment's settings, all faults at once
├── UndecodableRecord   a record nobody can read: becomes a disposition and a dead letter
├── Refusal             fail closed: going on would risk the numbers; the message names the command that mends it
├── PublishFailed       Kafka refused a record for good: nothing that depends on it may be committed
├── Unavailable         a dependency is away: try again
│   └── Closed          a topic is on the move: try again in a moment
└── Overloaded          too much is under way here: nothing was done, try again
"""

from __future__ import annotations


class MeterlineError(Exception):
    """Base of all; never raised itself."""

    exit_code = 1


class UsageError(MeterlineError):
    """The caller's fault. The message says what to do instead."""

    exit_code = 2


class SettingsError(UsageError):
    """One or more settings are missing or wrong; the message lists them all."""


class UndecodableRecord(MeterlineError):
    """These bytes are no record of this topic. ``reason`` is a stable snake_case code."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Refusal(MeterlineError):
    """The worker or a command refuses to go on because the answer could be wrong (invariant 8)."""


class PublishFailed(MeterlineError):
    """Kafka refused one or more records for good, or gave them up after the delivery timeout."""


class Unavailable(MeterlineError):
    """Kafka or ClickHouse could not be reached or did not answer in time."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Closed(Unavailable):
    """A topic takes nothing for now, because it moves: nothing of this was written, or an earlier part of it."""


class Overloaded(MeterlineError):
    """There is no room for this now. Nothing of it was done."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
