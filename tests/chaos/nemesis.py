"""Does one fault after the other in every lane, from one seed, and times how long each takes to be over.

So many kills of each kind of process must come: each way of killing once, then by weight, and the lane's other faults
between them.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import TypeVar

from tests.chaos.faults import LANES, Done, Fault
from tests.chaos.site import Site
from tests.chaos.watch import Watch

RECOVERS_WITHIN_S = 180.0
WHOLE_WITHIN_S = 180.0
LOOK_EVERY_S = 0.05
PAUSE_S = (0.1, 0.8)
KINDS = {"kafka": "broker"}
"""Where a process's name does not say what it is."""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Struck:
    """A fault that was done, in seconds of the monotonic clock."""

    lane: str
    fault: str
    kills: str
    recovery: str
    victims: tuple[str, ...]
    struck_at: float
    counted_from: float
    recovered_at: float

    @property
    def recovery_s(self) -> float:
        return self.recovered_at - self.counted_from


class Nemesis:
    """``kills``: by kind of process, how many at least; they are spread over ``spread_s`` seconds. ``others``: the
    share of the faults that fulfil no quota."""

    def __init__(
        self, site: Site, watch: Watch, seed: int, kills: Mapping[str, int], spread_s: float, others: float
    ) -> None:
        self._site, self._watch, self._kills = site, watch, kills
        self._spread_s, self._others = spread_s, others
        self._began = time.monotonic()
        self.struck: list[Struck] = []
        self.failed: list[BaseException] = []
        self._over = threading.Event()
        self._gives_up = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(lane, Random(f"{seed} {lane}")), daemon=True)
            for lane, faults in LANES.items()
            if any(kills.get(fault.kills) for fault in faults)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Return when every fault is over, and recovered from."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def give_up(self) -> None:
        """Return when no fault is done any more, recovered from or not."""
        self._gives_up.set()
        self.end()

    def kills(self) -> Counter[str]:
        """By kind of process."""
        return Counter(
            KINDS.get(name.partition("-")[0], name.partition("-")[0])
            for one in list(self.struck)
            if one.kills
            for name in one.victims
        )

    def done(self) -> bool:
        """Whether every quota is fulfilled."""
        made = self.kills()
        return all(made[kind] >= count for kind, count in self._kills.items())

    def _run(self, lane: str, random: Random) -> None:
        try:
            first = [fault for fault in LANES[lane] if fault.kills in self._kills]
            random.shuffle(first)
            while not (self._is_done(lane) or self._over.wait(self._pause_s(lane, random))):
                self._strike(lane, first.pop() if first else self._chosen(lane, random), random)
        except BaseException as error:  # raised again where the run is watched
            self.failed.append(error)

    def _is_done(self, lane: str) -> bool:
        """Whether its time is over, and its quota is fulfilled."""
        wanted = self._kills.get(lane, 0)
        return time.monotonic() > self._began + self._spread_s and self.kills()[lane] >= wanted

    def _pause_s(self, lane: str, random: Random) -> float:
        """Until the lane's next fault is due."""
        if lane == "everything":
            return random.uniform(0.3, 0.5) * self._spread_s
        share = self.kills()[lane] / self._kills[lane]
        return max(random.uniform(*PAUSE_S), self._began + share * self._spread_s - time.monotonic())

    def _chosen(self, lane: str, random: Random) -> Fault:
        faults = LANES[lane]
        others = [fault for fault in faults if fault.kills not in self._kills]
        wanted = [fault for fault in faults if fault.kills in self._kills]
        pool = others if others and random.random() < self._others else wanted
        return random.choices(pool, [fault.weight for fault in pool])[0]

    def _strike(self, lane: str, fault: Fault, random: Random) -> None:
        if fault.whole:
            self._awaited(lambda: self._site.is_whole() or None, WHOLE_WITHIN_S, "every replica in sync")
            if self._over.is_set():
                return
        struck_at = time.monotonic()
        done = fault.act(self._site, random)
        recovered_at = self._awaited(
            lambda: self._recovered_at(fault, done),
            RECOVERS_WITHIN_S,
            f"recovery after: {fault.name} of {', '.join(done.victims)}",
        )
        self.struck.append(
            Struck(lane, fault.name, fault.kills, fault.recovery, done.victims, struck_at, done.began, recovered_at)
        )

    def _awaited(self, ask: Callable[[], T | None], within_s: float, what: str) -> T:
        deadline = time.monotonic() + within_s
        while (found := ask()) is None:
            assert not self._gives_up.is_set(), f"given up while waiting for: {what}"
            assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
            time.sleep(LOOK_EVERY_S)
        return found

    def _recovered_at(self, fault: Fault, done: Done) -> float | None:
        """As the watch has seen it."""
        if not fault.recovery.startswith("gateway"):
            return self._watch.advanced_after(fault.recovery, done.began)
        numbers = [int(name.rpartition("-")[2]) - 1 for name in done.victims if fault.recovery == "gateway"]
        ports = [self._site.gateway_ports[number] for number in numbers] or self._site.gateway_ports
        return self._watch.answered_after(ports, done.began)
