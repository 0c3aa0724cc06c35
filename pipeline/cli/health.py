"""``meterline health``: whether a part of the pipeline makes progress; what a container's health check calls."""

from __future__ import annotations

import enum
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import wiring
from pipeline.errors import Unavailable

if TYPE_CHECKING:
    from pipeline.kafka.progress import Progress
    from pipeline.settings import Settings

GATEWAY_TIMEOUT_S = 5.0


class Part(enum.StrEnum):
    """What can be asked."""

    WORKER = "worker"
    SINK = "sink"
    GATEWAY = "gateway"


def health(
    part: Annotated[Part, typer.Argument(help="The part that runs on this machine or in this container.")],
) -> None:
    """Tell whether the part that runs here makes progress.

    A worker or sink is well when it is a member of its group and either has
    done everything or has done something since the last look; its looks are
    remembered in the directory for temporary files. A gateway is well when it
    is ready. Exit code 0: well; 1: not, and a line says why.

    \b
    Example:
      docker run --health-cmd "meterline health worker" meterline worker
    """
    settings = wiring.load_settings()
    if part is Part.GATEWAY:
        _ask_gateway(settings)
        return
    from pipeline.kafka.progress import own_progress
    from pipeline.stream.slots import names_here

    wiring.await_kafka(settings)
    topics = wiring.live_topics(settings)
    names = names_here(settings.state, settings.instance)
    progress = own_progress(wiring.quiet_kafka(settings), topics.group(part.value), names)
    if progress is None:
        raise Unavailable(f"the {part.value} has no settled place in its group {topics.group(part.value)}")
    seen = _Looks(Path(tempfile.gettempdir()) / f"meterline-health-{settings.namespace}-{part.value}.json")
    if seen.stuck_at(progress):
        raise Unavailable(
            f"the {part.value} is {progress.behind:,} records behind and has done none since the last look"
        )
    typer.echo(f"{progress.behind:,} records behind in {len(progress.partitions)} partitions")


class _Looks:
    """The last look, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def stuck_at(self, now: Progress) -> bool:
        """Whether records waited at the last look, wait now, and none was done between; remembers this look."""
        before = self._read()
        look: dict[str, Any] = {"partitions": list(now.partitions), "done": now.done, "waiting": now.behind > 0}
        self._path.write_text(json.dumps(look))
        return now.behind > 0 and before == look

    def _read(self) -> Any:
        try:
            return json.loads(self._path.read_text())
        except (OSError, ValueError):
            return None


def _ask_gateway(settings: Settings) -> None:
    import http.client

    host, port = settings.gateway_listen
    # What listens on every address is reached on this one.
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on
    connection = http.client.HTTPConnection(here, port, timeout=GATEWAY_TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        said = answer.read(1_000).decode(errors="replace").strip()
    except OSError as error:
        raise Unavailable(f"the gateway at {here}:{port} does not answer: {error}") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise Unavailable(f"the gateway at {here}:{port} is not ready: {said}")
    typer.echo("ready")
