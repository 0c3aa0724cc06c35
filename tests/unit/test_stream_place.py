"""Of two living processes of one name the one that was first ends; whoever is alone is never ended."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest

from pipeline.errors import Refusal
from pipeline.stream import place as places
from pipeline.stream.joining import DescribeGroupsRequest, join_by_name
from pipeline.stream.place import MARK, NamedPlace

FENCED = 82
OTHER = "w1-other"


class Coordinator:
    """A group of one name, as its broker's coordinator keeps it."""

    def __init__(self) -> None:
        self.holder: str | None = None
        self.overtakes = False
        """Whether somebody else joins under the name while a join waits for the rest of the group."""
        self.describing: list[int] = []
        """Error codes that it will answer with when it is asked who is in the group."""
        self._number = itertools.count(1)

    def answer(self, request: Any) -> Any:
        if isinstance(request, DescribeGroupsRequest):
            code = self.describing.pop(0) if self.describing else 0
            members = [("other-1", "w2", "meterline-b", "/10.0.0.2", b"", b"")]
            if self.holder is not None:
                members.append((self.holder, "w1", "meterline-a", "/10.0.0.1", b"", b""))
            return SimpleNamespace(groups=[(code, "group", "Stable", "consumer", "range", members, -1)])
        if isinstance(request, JoinGroupRequest):
            if not request._member_id:
                self.holder = f"w1-{next(self._number)}"
                if self.overtakes:
                    joined, self.holder = self.holder, OTHER
                    return SimpleNamespace(error_code=FENCED, member_id=joined)
                return SimpleNamespace(error_code=0, member_id=self.holder)
            assert request._member_id != self.holder
        return SimpleNamespace(error_code=FENCED, member_id=request._member_id)


class Member:
    """aiokafka's side of it, as far as joining goes."""

    def __init__(self, broker: Coordinator) -> None:
        self.broker = broker
        self.member_id = ""
        self.lost: list[type[errors.KafkaError]] = []
        """What becomes of its next joins in place of an answer."""
        self.moves = 0
        self._group_instance_id: str | None = "w1"
        self._closing = asyncio.get_running_loop().create_future()

    async def ensure_coordinator_known(self) -> None:
        """It is."""

    def coordinator_dead(self) -> None:
        self.moves += 1

    async def _send_req(self, request: Any) -> Any:
        answer = self.broker.answer(request)
        if self.lost and isinstance(request, JoinGroupRequest):
            raise self.lost.pop(0)
        return answer

    async def _do_rejoin_group(self, _subscription: Any) -> bool:
        request = JoinGroupRequest("group", 1, 1, self.member_id, "w1", "consumer", [])
        try:
            answer = await self._send_req(request)
        except errors.KafkaError:
            return False
        self.member_id = answer.member_id if answer.error_code == 0 else ""
        return answer.error_code == 0

    async def join(self, *, anew: bool = True) -> bool:
        self.member_id = "" if anew else self.member_id
        return await self._do_rejoin_group(None)


class Ended(Exception):
    """The end of the process."""


def end(error: BaseException) -> None:
    raise Ended(str(error))


def named(broker: Coordinator, directory: Path, session_s: float = 0.0) -> Member:
    member = Member(broker)
    join_by_name(SimpleNamespace(_coordinator=member), NamedPlace("w1", "group", session_s, directory), end)
    return member


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "LOOK_AGAIN_S", 0.001)
    monkeypatch.setattr(places, "BEYOND_SESSION_S", 0.05)


def test_who_starts_takes_the_place_of_who_was_there(tmp_path: Path) -> None:
    async def run() -> None:
        broker = Coordinator()
        broker.holder = "w1-killed"
        member = named(broker, tmp_path)
        assert await member.join()
        assert broker.holder == member.member_id

    asyncio.run(run())


def test_who_finds_its_name_taken_ends_and_the_other_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        broker = Coordinator()
        first, second = named(broker, tmp_path), named(broker, tmp_path / "another")
        assert await first.join()
        assert await second.join()
        with pytest.raises(Ended, match=rf"w1 \(METERLINE_INSTANCE\).* group .*{second.member_id}.*of its own"):
            await first.join()
        assert broker.holder == second.member_id
        assert await second.join(), "what it finds is itself"

    asyncio.run(run())


def test_who_joins_for_a_rebalance_and_hears_that_it_is_fenced_ends(tmp_path: Path) -> None:
    """And aiokafka, which does not know this answer, takes it for one that it knows."""

    async def run() -> None:
        broker = Coordinator()
        first, second = named(broker, tmp_path), named(broker, tmp_path)
        assert await first.join()
        assert await second.join()
        answer = await first._send_req(SyncGroupRequest("group", 1, first.member_id, "w1", []))
        assert answer.error_code == errors.UnknownMemberIdError.errno
        assert not await first.join(anew=False)
        with pytest.raises(Ended):
            await first.join()

    asyncio.run(run())


def test_who_is_overtaken_while_its_join_waits_for_the_group_ends(tmp_path: Path) -> None:
    """Two that overtake each other so would not come to an end before the group's rebalance does."""

    async def run() -> None:
        broker = Coordinator()
        member = named(broker, tmp_path)
        broker.overtakes = True
        assert not await member.join()
        with pytest.raises(Ended):
            await member.join()

    asyncio.run(run())


def test_nobody_ends_because_a_coordinator_has_forgotten_it(tmp_path: Path) -> None:
    """It died before it had written down who had joined: now it names nobody, who was before, or an earlier self."""

    async def run() -> None:
        broker = Coordinator()
        broker.holder = "w1-killed"
        member = named(broker, tmp_path)
        assert await member.join()
        selves = [member.member_id]
        for remembered in (None, "w1-killed", None, "w1-killed", selves[0]):
            broker.holder = remembered
            assert await member.join()
            selves.append(member.member_id)
        assert len(set(selves)) == 6

    asyncio.run(run())


@pytest.mark.parametrize("lost", [1, 3])
def test_nobody_ends_because_the_answer_to_its_own_join_got_lost(tmp_path: Path, lost: int) -> None:
    async def run() -> None:
        member = named(Coordinator(), tmp_path)
        assert await member.join()
        member.lost = [errors.KafkaConnectionError] * lost
        for _ in range(lost):
            assert not await member.join()
        assert await member.join()
        assert await member.join()

    asyncio.run(run())


def test_a_join_that_got_lost_excuses_nobody_for_ever(tmp_path: Path) -> None:
    async def run() -> None:
        broker = Coordinator()
        member = named(broker, tmp_path)
        member.lost = [errors.KafkaConnectionError]
        assert not await member.join()
        assert await member.join()
        broker.holder = OTHER
        with pytest.raises(Ended):
            await member.join()

    asyncio.run(run())


def test_a_coordinator_that_is_young_or_not_the_one_is_asked_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("pipeline.stream.joining.AGAIN_S", 0.001)

    async def run() -> None:
        broker = Coordinator()
        member = named(broker, tmp_path)
        assert await member.join()
        broker.holder = OTHER
        broker.describing = [14, 15, 16]
        with pytest.raises(Ended):
            await member.join()
        assert member.moves == 2

    asyncio.run(run())


def test_who_is_about_to_close_asks_nobody_for_long(tmp_path: Path) -> None:
    async def run() -> None:
        broker = Coordinator()
        broker.describing = [14] * 1_000_000
        member = named(broker, tmp_path)
        member._closing.set_result(None)
        await asyncio.wait_for(member.join(), 30)

    asyncio.run(run())


def test_who_has_given_up_its_name_joins_without_it(tmp_path: Path) -> None:
    async def run() -> None:
        broker = Coordinator()
        member = named(broker, tmp_path)
        assert await member.join()
        broker.holder, member._group_instance_id = OTHER, None
        assert await member.join()

    asyncio.run(run())


def test_who_had_to_yield_yields_again_for_as_long_as_the_other_is_there(tmp_path: Path) -> None:
    """A supervisor starts it again; what it finds is no predecessor."""

    async def run() -> None:
        broker = Coordinator()
        first = named(broker, tmp_path)
        assert await first.join()
        broker.holder = OTHER
        with pytest.raises(Ended):
            await first.join()
        assert (tmp_path / MARK).read_text() == OTHER
        for _ in range(2):
            with pytest.raises(Ended):
                await named(broker, tmp_path).join()
        assert broker.holder == OTHER

        again = named(broker, tmp_path, session_s=60)
        waiting = asyncio.ensure_future(again.join())
        await asyncio.sleep(0.02)
        assert not waiting.done()
        broker.holder = None
        assert await waiting
        assert broker.holder == again.member_id
        assert not (tmp_path / MARK).exists()

    asyncio.run(run())


def test_a_mark_says_nothing_of_others(tmp_path: Path) -> None:
    async def run() -> None:
        broker = Coordinator()
        (tmp_path / MARK).write_text("w1-long-gone")
        broker.holder = "w1-killed"
        assert await named(broker, tmp_path, session_s=60).join()
        assert not (tmp_path / MARK).exists()

    asyncio.run(run())


def test_who_cannot_leave_a_mark_still_ends(tmp_path: Path) -> None:
    async def run() -> None:
        place = NamedPlace("w1", "group", 1.0, tmp_path / "nowhere")

        async def nobody() -> None:
            return None

        async def somebody() -> str:
            return OTHER

        await place.may_join(nobody)
        with pytest.raises(Refusal):
            await place.may_join(somebody)

    asyncio.run(run())
