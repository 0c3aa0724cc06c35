"""Whether this gateway lives, and whether it is ready; for load balancers, and for ``meterline up``."""

from __future__ import annotations

from pipeline.gateway.calls import Call
from pipeline.gateway.operations import Answer, Operation
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import unavailable

_STATE = {
    "type": "object",
    "properties": {
        "object": {"type": "string", "enum": ["health"]},
        "status": {"type": "string", "enum": ["live", "ready", "not_ready"]},
        "parts": {"type": "object", "additionalProperties": {"type": "string", "enum": ["ready", "waiting"]}},
    },
    "required": ["object", "status"],
}


def waiting_for(parts: Parts) -> list[str]:
    """Names of the needed services that are not ready."""
    return [one.name for one in parts.services if getattr(one, "needed", True) and one.not_ready() is not None]


class Opening:
    """Before everything was ready once, nothing that needs a key can be answered: keys are not known yet."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._opened = False

    def check(self) -> None:
        """Raises Problem 503 while the gateway is starting. Later troubles are the handlers' to tell."""
        if self._opened:
            return
        if waiting_for(self._parts):
            raise unavailable(1, "The gateway is starting. Nothing was done: try again in a moment.")
        self._opened = True


async def live(parts: Parts, call: Call) -> Answer:
    """The process answers."""
    return Answer({"object": "health", "status": "live"})


async def ready(parts: Parts, call: Call) -> Answer:
    """200 when requests can be served, else 503. What a part waits for in detail is in our log."""
    states = {one.name: "ready" if one.not_ready() is None else "waiting" for one in parts.services}
    waiting = waiting_for(parts)
    body = {"object": "health", "status": "not_ready" if waiting else "ready", "parts": states}
    return Answer(body, 503 if waiting else 200, {"retry-after": "1"} if waiting else {})


OPERATIONS = (
    Operation(
        name="get_health_live",
        method="GET",
        path="/health/live",
        face="meterline",
        scope=None,
        handler=live,
        summary="Whether the process answers.",
        answer=_STATE,
    ),
    Operation(
        name="get_health_ready",
        method="GET",
        path="/health/ready",
        face="meterline",
        scope=None,
        handler=ready,
        summary="Whether requests can be served; ClickHouse is not needed for events.",
        answer=_STATE,
    ),
)
