"""What this gateway says of itself: the OpenAPI document and the page. Both are made at its start."""

from __future__ import annotations

from pipeline.gateway.calls import Call
from pipeline.gateway.operations import Answer, Operation
from pipeline.gateway.page import CONTENT_SECURITY
from pipeline.gateway.parts import Parts

HTML = "text/html; charset=utf-8"


async def get_document(parts: Parts, call: Call) -> Answer:
    """The document, for programs."""
    return Answer(parts.document)


async def get_page(parts: Parts, call: Call) -> Answer:
    """The page, for people."""
    headers = {"content-security-policy": CONTENT_SECURITY, "x-content-type-options": "nosniff"}
    return Answer(parts.page, headers=headers, media_type=HTML)


OPERATIONS = (
    Operation(
        name="get_document",
        method="GET",
        path="/meterline/v1/openapi.json",
        face="meterline",
        scope=None,
        handler=get_document,
        summary="This API as an OpenAPI document.",
        answer={"type": "object"},
    ),
    Operation(
        name="get_page",
        method="GET",
        path="/",
        face="meterline",
        scope=None,
        handler=get_page,
        summary="This API as a page for people.",
        answer={"type": "string"},
        media_type=HTML,
    ),
)
