"""Brokers whose clients come through gates that a test shuts, jams or slows down, one set for each kind of client.

A broker has one more listener for each set and advertises the gate in front of it, so that a client which asked its way
through a gate stays behind gates. The brokers themselves, and whoever watches, use none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.local import ports
from pipeline.local.kafka import Cluster
from tests.gate import Gate

SETS = ("EDGE", "INNER")
"""Gateways and services; workers and sinks."""


@dataclass(frozen=True)
class GatedCluster(Cluster):
    """``behind``: by set, the port of each broker's own listener; ``gates``: by set, the gate in front of it."""

    behind: dict[str, list[int]] = field(default_factory=dict)
    gates: dict[str, list[Gate]] = field(default_factory=dict)

    def through(self, name: str) -> str:
        """Bootstrap servers behind the gates of a set."""
        return ",".join(gate.address for gate in self.gates[name])

    def _configure(self, node: int, data: Path) -> Path:
        path = super()._configure(node, data)
        own = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
        mine = [f"{name}://127.0.0.1:{self.behind[name][node - 1]}" for name in SETS]
        shown = [f"{name}://{self.gates[name][node - 1].address}" for name in SETS]
        protocols = [f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", *SETS)]
        with path.open("a") as file:
            file.write(f"listeners={','.join([own['listeners'], *mine])}\n")
            file.write(f"advertised.listeners={','.join([own['advertised.listeners'], *shown])}\n")
            file.write(f"listener.security.protocol.map={','.join(protocols)}\n")
        return path


@contextlib.contextmanager
def gated_cluster(home: Path, logs: Path, brokers: int = 3) -> Iterator[GatedCluster]:
    """Its gates work for as long as the ``with`` lasts; starting its programs is the caller's."""
    with contextlib.ExitStack() as open_gates:
        behind = {name: ports.choose((0,) * brokers) for name in SETS}
        gates = {
            name: [open_gates.enter_context(Gate(f"http://127.0.0.1:{port}")) for port in numbers]
            for name, numbers in behind.items()
        }
        own, controllers = ports.choose((0,) * brokers), ports.choose((0,) * brokers)
        yield GatedCluster(home, logs, tuple(own), tuple(controllers), behind, gates)
