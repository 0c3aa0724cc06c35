"""What time it is by the brokers, whose clock decides which timestamps count; learned from acknowledgements.

Theory of operation. A record that was handed over at H and reported at R, both by this machine's clock, was appended
in between; its acknowledgement says when, by the broker's clock. So how far the brokers are ahead lies between
``appended - R`` and ``appended - H``. What was believed before stays where it is possible, else it moves as little as
it must: a slow acknowledgement says little and changes nothing, a clock that was set anew is noticed by the next one.
A clock that is right is never corrected.
"""

from __future__ import annotations

import logging
import time
from typing import Final

HEARD_FOR_S: Final = 60.0
"""How long an acknowledgement vouches for this machine's clock, which somebody may set."""
DOUBT_MS: Final = 24 * 3_600_000
"""A clock that nobody vouches for is rarely more wrong than this."""
WARN_MS: Final = 30_000

_log = logging.getLogger(__name__)


def here_ms() -> int:
    """Milliseconds since the epoch by this machine's clock."""
    return time.time_ns() // 1_000_000


class BrokersClock:
    """Call it for milliseconds since the epoch. Until an acknowledgement was heard it is this machine's clock."""

    def __init__(self) -> None:
        self.ahead_ms = 0
        """How far the brokers are ahead of this machine; negative when they are behind."""
        self._heard_s: float | None = None

    def __call__(self) -> int:
        return here_ms() + self.ahead_ms

    @property
    def doubt_ms(self) -> int:
        """How wrong it may be: 0 when an acknowledgement was heard lately."""
        vouched = self._heard_s is not None and time.monotonic() - self._heard_s < HEARD_FOR_S
        return 0 if vouched else DOUBT_MS

    def heard(self, first_ms: int, last_ms: int, handed_over_ms: int) -> None:
        """Records that were handed over then, by ``here_ms``, were appended from ``first_ms`` to ``last_ms``."""
        before_ms = self.ahead_ms
        self.ahead_ms = min(max(before_ms, last_ms - here_ms()), first_ms - handed_over_ms)
        self._heard_s = time.monotonic()
        if abs(before_ms) < WARN_MS <= abs(self.ahead_ms):
            word = "behind" if self.ahead_ms > 0 else "ahead of"
            _log.warning(
                "this machine's clock is %.1f s %s the brokers', which is followed for usage; set it right:"
                " keys and sessions end by it",
                abs(self.ahead_ms) / 1000,
                word,
            )
