"""How aiokafka joins a group under a name: not before ``NamedPlace`` allows it.

aiokafka 0.14.0 knows names only where it joins. It has no request that shows who has a name, and takes the answer that
somebody else has ours for an unknown error; both are mended here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka import errors
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.group import JoinGroupRequest
from aiokafka.protocol.types import Array, Boolean, Bytes, Int16, Int32, Schema, String

from pipeline.errors import Refusal
from pipeline.stream.place import NamedPlace

AGAIN_S = 0.2
UNKNOWN = JoinGroupRequest.UNKNOWN_MEMBER_ID
FENCED_INSTANCE_ID = 82
_MOVED = (errors.GroupCoordinatorNotAvailableError, errors.NotCoordinatorForGroupError)


def join_by_name(consumer: Any, place: NamedPlace, end: Callable[[BaseException], Any]) -> None:
    """Have this aiokafka consumer, started, look at its ``place`` before it joins; ``end`` hears why it may not."""
    coordinator = consumer._coordinator
    send, rejoin = coordinator._send_req, coordinator._do_rejoin_group

    async def hearing_send(request: Any) -> Any:
        anew = isinstance(request, JoinGroupRequest) and request._member_id == UNKNOWN
        if anew:
            place.joining()
        answer = await send(request)
        error_code = getattr(answer, "error_code", None)
        if anew and error_code in (errors.NoError.errno, FENCED_INSTANCE_ID):
            place.answered(answer.member_id)
        if error_code == FENCED_INSTANCE_ID:
            answer.error_code = errors.UnknownMemberIdError.errno  # which it is, and has aiokafka join anew
        return answer

    async def look() -> str | None:
        """None also when the consumer is about to close."""
        while not coordinator._closing.done():
            try:
                await coordinator.ensure_coordinator_known()
                return _named(await send(DescribeGroupsRequest(place.group)), place.name)
            except errors.KafkaError as error:
                if not error.retriable:
                    raise
                if isinstance(error, _MOVED):
                    coordinator.coordinator_dead()
            await asyncio.sleep(AGAIN_S)
        return None

    async def rejoin_by_name(subscription: Any) -> Any:
        if coordinator.member_id == UNKNOWN and coordinator._group_instance_id is not None:
            try:
                await place.may_join(look)
            except Refusal as refusal:
                end(refusal)
        return await rejoin(subscription)

    coordinator._send_req = hearing_send
    coordinator._do_rejoin_group = rejoin_by_name


def _named(answer: Any, name: str) -> str | None:
    ((error_code, _group, _state, _type, _protocol, members, _operations),) = answer.groups
    if error_code != errors.NoError.errno:
        raise errors.for_code(error_code)
    return next((member_id for member_id, named, *_ in members if named == name), None)


class DescribeGroupsResponse_v4(Response):  # type: ignore[misc]  # noqa: N801  # as aiokafka calls the others
    API_KEY = 15
    API_VERSION = 4
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            Array(
                ("error_code", Int16),
                ("group", String("utf-8")),
                ("state", String("utf-8")),
                ("protocol_type", String("utf-8")),
                ("protocol", String("utf-8")),
                (
                    "members",
                    Array(
                        ("member_id", String("utf-8")),
                        ("group_instance_id", String("utf-8")),
                        ("client_id", String("utf-8")),
                        ("client_host", String("utf-8")),
                        ("member_metadata", Bytes),
                        ("member_assignment", Bytes),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
    )


class DescribeGroupsRequest_v4(RequestStruct):  # type: ignore[misc]  # noqa: N801
    API_KEY = 15
    API_VERSION = 4
    RESPONSE_TYPE = DescribeGroupsResponse_v4
    SCHEMA = Schema(("groups", Array(String("utf-8"))), ("include_authorized_operations", Boolean))


class DescribeGroupsRequest(Request[DescribeGroupsRequest_v4]):  # type: ignore[misc]
    """Who is in a group, with the names of its members. Since Kafka 2.4."""

    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[DescribeGroupsRequest_v4]) -> DescribeGroupsRequest_v4:
        return request_struct_class([self._group], False)
