"""Where events are sent, as the settings say it: one line for each endpoint.

    URL SECRET [live|test] [TYPE ...]

Types are names of events, or beginnings of names that end in ``*``; without any, all are sent. Lines are separated by
``;`` or line ends; what begins with ``#`` is left out.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from pipeline.domain.core_events import CoreEvent

SECRET_CHARS_MIN = 16
ENDPOINTS_MAX = 16

_URL = re.compile(
    r"https?://[A-Za-z0-9._-]+(?::[0-9]{1,5})?(?:[/?][!-~]*)?|https?://\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?(?:[/?][!-~]*)?"
)
_TYPE = re.compile(r"[a-z0-9_.]+\*?|\*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events are sent. ``types``: names, or beginnings that end in ``*``; none: all. ``livemode`` None: both."""

    url: str
    secret: str = field(repr=False)
    livemode: bool | None = None
    types: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For groups and logs: a URL may hold a secret of its own."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:12]

    def wants(self, event: CoreEvent) -> bool:
        if self.livemode is not None and event.livemode != self.livemode:
            return False
        return not self.types or any(
            event.type.startswith(kind[:-1]) if kind.endswith("*") else event.type == kind for kind in self.types
        )


def read_endpoints(text: str) -> tuple[Endpoint, ...]:
    """The endpoints that the setting says. Raises ValueError that names the line, and never repeats a secret."""
    found: list[Endpoint] = []
    for number, line in enumerate(re.split(r"[;\n]", text), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 2 or not _URL.fullmatch(words[0]) or len(words[1]) < SECRET_CHARS_MIN:
            raise ValueError(f"in line {number} a URL and a secret of at least {SECRET_CHARS_MIN} characters")
        mode, types = {"live": True, "test": False}.get(words[2]) if len(words) > 2 else None, words[2:]
        types = types if mode is None else types[1:]
        if not all(_TYPE.fullmatch(kind) for kind in types):
            raise ValueError(f"in line {number} live or test, and types as in plan.created or billing.meter.*")
        found.append(Endpoint(words[0], words[1], mode, tuple(types)))
    if len(found) > ENDPOINTS_MAX or len({endpoint.name for endpoint in found}) < len(found):
        raise ValueError(f"at most {ENDPOINTS_MAX} endpoints, each URL once")
    return tuple(found)
