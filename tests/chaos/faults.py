"""The table of faults: how often each, what it does, which row of FAULTS it is, and whose recovery it asks for.

A fault does its work and returns when nothing of it is left, but for the recovery. ``Recovery`` says who has to be seen
working again: the workers' or the sink's group past everything that had been appended, a gateway or all of them
answering a probe that reaches every partition.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.chaos.kept import Kept, Surprise
from tests.chaos.site import Site
from tests.gate import Door, Gate

BRIEFLY_S = (1.0, 3.0)
SWALLOWED_WITHIN_S = 5.0
STEP_S = 0.01
AGAIN_S = (0.5, 4.0)
"""After a kill: while the process starts, joins its group, or has just begun to work."""


class Done(NamedTuple):
    """What a fault did. ``began``: from when on its recovery is counted."""

    began: float
    victims: tuple[str, ...]


class Fault(NamedTuple):
    name: str
    weight: int
    rows: tuple[str, ...]
    act: Callable[[Site, Random], Done]
    recovery: str
    """worker, sink, gateway (the victims) or gateways (all)."""
    kills: str = ""
    """The kind of process that it kills with -9."""
    whole: bool = False
    """Whether no broker may be away or behind before it."""


def _kill(kind: str) -> Callable[[Site, Random], Done]:
    def act(site: Site, random: Random) -> Done:
        victim = random.choice(site.keeper.of(kind))
        began = time.monotonic()
        victim.kill()
        return Done(began, (victim.name,))

    return act


def _kill_twice(kind: str) -> Callable[[Site, Random], Done]:
    """Once more while it recovers from the first time."""

    def act(site: Site, random: Random) -> Done:
        victim = random.choice(site.keeper.of(kind))
        victim.kill()
        time.sleep(random.uniform(*AGAIN_S))
        began = time.monotonic()
        victim.kill()
        return Done(began, (victim.name, victim.name))

    return act


def _kill_broker(site: Site, random: Random) -> Done:
    victim = random.choice(site.keeper.of("broker"))
    began = time.monotonic()
    victim.kill(away_s=random.uniform(0.0, 4.0))
    return Done(began, (victim.name,))


def _stop(kind: str) -> Callable[[Site, Random], Done]:
    def act(site: Site, random: Random) -> Done:
        victim = random.choice(site.keeper.of(kind))
        began = time.monotonic()
        code = victim.stop()
        # Whoever has not even begun knows no better way to go than by the signal itself.
        if code not in (0, -signal.SIGTERM):
            site.keeper.note(Surprise(victim.name, code, "it was asked to go"))
        return Done(began, (victim.name,))

    return act


def _freeze_out(kind: str) -> Callable[[Site, Random], Done]:
    """Long enough for its group to forget it."""

    def act(site: Site, random: Random) -> Done:
        session_s = site.shape.session_s
        return _freeze(kind, 1.5 * session_s, 2.0 * session_s)(site, random)

    return act


def _freeze(kind: str, shortest_s: float, longest_s: float) -> Callable[[Site, Random], Done]:
    def act(site: Site, random: Random) -> Done:
        victim = random.choice(site.keeper.of(kind))
        began = time.monotonic()
        victim.freeze()
        time.sleep(random.uniform(shortest_s, longest_s))
        victim.thaw()
        # A lone process cannot recover while it sleeps; of several the others take over.
        alone = len(site.keeper.of(kind)) == 1 or kind == "gateway"
        return Done(time.monotonic() if alone else began, (victim.name,))

    return act


def _doors(name: str, door: Door, *, every: bool = False) -> Callable[[Site, Random], Done]:
    """The way of one set of clients to one broker, or to all."""

    def act(site: Site, random: Random) -> Done:
        gates = site.cluster.gates[name]
        chosen = gates if every else [random.choice(gates)]
        _set(chosen, door)
        time.sleep(random.uniform(*BRIEFLY_S))
        _set(chosen, Door.OPEN)
        return Done(time.monotonic(), (f"{name.lower()}: {door.name.lower()}",))

    return act


def _clickhouse(door: Door) -> Callable[[Site, Random], Done]:
    def act(site: Site, random: Random) -> Done:
        _set([site.clickhouse_gate], door)
        time.sleep(random.uniform(*BRIEFLY_S))
        _set([site.clickhouse_gate], Door.OPEN)
        return Done(time.monotonic(), (f"clickhouse: {door.name.lower()}",))

    return act


def _set(gates: list[Gate], door: Door) -> None:
    for gate in gates:
        gate.set(door)


def _kill_unanswered(kind: str, gates: Callable[[Site], list[Gate]]) -> Callable[[Site, Random], Done]:
    """Kill it between the deed and the word: what it asked for was done, and it never hears so."""

    def act(site: Site, random: Random) -> Done:
        doors = gates(site)
        victim = random.choice(site.keeper.of(kind))
        _set(doors, Door.MUTE)
        before = sum(gate.answers_swallowed for gate in doors)
        deadline = time.monotonic() + SWALLOWED_WITHIN_S
        while sum(gate.answers_swallowed for gate in doors) == before and time.monotonic() < deadline:
            time.sleep(STEP_S)
        began = time.monotonic()
        victim.kill()
        _set(doors, Door.OPEN)
        return Done(began, (victim.name,))

    return act


def _kill_all_of_ours(site: Site, random: Random) -> Done:
    victims: list[Kept] = [one for kind in ("gateway", "worker", "sink") for one in site.keeper.of(kind)]
    began = time.monotonic()
    for victim in victims:
        victim.kill()
    return Done(began, tuple(victim.name for victim in victims))


LANES: dict[str, tuple[Fault, ...]] = {
    "gateway": (
        Fault("kill gateway", 8, ("A1", "A2", "A3"), _kill("gateway"), "gateway", "gateway"),
        Fault(
            "kill gateway before it hears Kafka",
            2,
            ("A1",),
            _kill_unanswered("gateway", lambda site: site.cluster.gates["EDGE"]),
            "gateway",
            "gateway",
        ),
        Fault("stop gateway", 1, ("A12",), _stop("gateway"), "gateway"),
        Fault("freeze gateway", 1, ("A3",), _freeze("gateway", 1.0, 4.0), "gateway"),
    ),
    "worker": (
        Fault("kill worker", 8, ("A4", "A5", "A6", "A8", "B5"), _kill("worker"), "worker", "worker"),
        Fault("kill worker twice", 4, ("A10",), _kill_twice("worker"), "worker", "worker"),
        Fault(
            "kill worker before it hears Kafka",
            2,
            ("A7", "A9"),
            _kill_unanswered("worker", lambda site: site.cluster.gates["INNER"]),
            "worker",
            "worker",
        ),
        Fault("stop worker", 1, ("A12",), _stop("worker"), "worker"),
        Fault("freeze worker", 1, ("B1",), _freeze_out("worker"), "worker"),
    ),
    "sink": (
        Fault("kill sink", 8, ("A11",), _kill("sink"), "sink", "sink"),
        Fault("kill sink twice", 4, ("A11",), _kill_twice("sink"), "sink", "sink"),
        Fault(
            "kill sink before it hears ClickHouse",
            2,
            ("A11", "D3"),
            _kill_unanswered("sink", lambda site: [site.clickhouse_gate]),
            "sink",
            "sink",
        ),
        Fault("stop sink", 1, ("A12",), _stop("sink"), "sink"),
        Fault("freeze sink", 1, ("B6",), _freeze_out("sink"), "sink"),
        Fault("kill ClickHouse", 1, ("D11",), _kill("clickhouse"), "sink", "clickhouse"),
        Fault("ClickHouse away", 1, ("D1",), _clickhouse(Door.SHUT), "sink"),
        Fault("ClickHouse hangs", 1, ("D2",), _clickhouse(Door.JAMMED), "sink"),
        Fault("ClickHouse answers 500", 1, ("D1",), _clickhouse(Door.FAILING), "sink"),
        Fault("ClickHouse does and does not say", 1, ("D3", "D6"), _clickhouse(Door.MUTE), "sink"),
    ),
    "broker": (
        Fault("kill broker", 8, ("C1", "C8"), _kill_broker, "gateways", "broker", whole=True),
        Fault("freeze broker", 1, ("C5",), _freeze("broker", 5.0, 8.0), "gateways", whole=True),
        Fault("cut gateways from a broker", 1, ("C7",), _doors("EDGE", Door.SHUT), "gateways"),
        Fault("gateways reach a broker and nothing comes back", 1, ("C7",), _doors("EDGE", Door.JAMMED), "gateways"),
        Fault("gateways' acknowledgements are lost", 1, ("C6",), _doors("EDGE", Door.MUTE, every=True), "gateways"),
        Fault("workers' acknowledgements are lost", 1, ("C6",), _doors("INNER", Door.MUTE, every=True), "worker"),
        Fault("cut workers from a broker", 1, ("C7",), _doors("INNER", Door.SHUT), "worker"),
        Fault("a slow way to Kafka", 1, (), _doors("INNER", Door.SLOW, every=True), "worker"),
    ),
    "everything": (Fault("kill all of ours", 1, ("A4", "A11"), _kill_all_of_ours, "worker", "worker"),),
}
"""By lane: those of one lane come one after the other, lanes side by side."""
