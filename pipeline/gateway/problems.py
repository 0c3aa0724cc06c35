"""Everything a client can be told went wrong.

A Problem is raised anywhere in a request and rendered once, in the envelope of the request's face:

    v1, meterline   {"error": {"type", "code"?, "message", "param"?, "doc_url"?}}
    v2              {"error": {"code", "message", "type"?, "param"?, "doc_url"?}}

Messages name the parameter and say what is allowed. They never hold a secret, a stack, SQL, a topic or a path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INVALID_REQUEST = "invalid_request_error"
IDEMPOTENCY = "idempotency_error"
API_ERROR = "api_error"

SHOWN_CHARS = 80
"""Most characters of a client's own text that a message repeats."""

_V2_CODES = {
    400: "invalid_fields",
    401: "invalid_api_key",
    403: "insufficient_permissions",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    413: "request_too_large",
    415: "unsupported_media_type",
    429: "rate_limit",
    431: "request_head_too_large",
    503: "service_unavailable",
}
"""v2 always has a code; these stand where nothing said which."""


class Problem(Exception):
    """An answer that is no success. ``param`` is written with brackets, as in ``tiers[0][up_to]``."""

    def __init__(
        self,
        status: int,
        type: str,  # noqa: A002  # the field's name on the wire
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        doc_url: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.message = message
        self.code = code
        self.param = param
        self.headers = headers
        self.doc_url = doc_url

    def body(self, face: str) -> dict[str, Any]:
        """The envelope for ``face``: v1, v2 or meterline (which follows v1)."""
        code = (self.code or _V2_CODES.get(self.status, "internal_error")) if face == "v2" else self.code
        fields = {
            "code": code,
            "doc_url": self.doc_url,
            "message": self.message,
            "param": self.param,
            "type": self.type,
        }
        return {"error": {name: text for name, text in fields.items() if text is not None}}


def shown(text: object) -> str:
    """A client's own text as a message repeats it: quoted, cut, control characters escaped."""
    quoted = repr(str(text))
    return quoted if len(quoted) <= SHOWN_CHARS else quoted[: SHOWN_CHARS - 1] + "…'"


def invalid(param: str | None, message: str, code: str | None = None) -> Problem:
    """400: the request itself is wrong; the same request will be wrong again."""
    return Problem(400, INVALID_REQUEST, message, code, param)


def missing(param: str) -> Problem:
    """400: a required parameter is not there."""
    return invalid(param, f"Missing required parameter: {param}.", "parameter_missing")


def exclusive(first: str, second: str) -> Problem:
    """400: two parameters that say the same thing."""
    return invalid(first, f"Give {first} or {second}, not both.", "parameters_exclusive")


def missing_object(kind: str, id: str, param: str = "id") -> Problem:  # noqa: A002  # the word of the API
    """404: there is no such object for this key; one of the other mode answers exactly the same."""
    return Problem(404, INVALID_REQUEST, f"No such {kind}: {shown(id)}", "resource_missing", param)


def missing_reference(kind: str, id: str, param: str) -> Problem:  # noqa: A002  # the word of the API
    """400: a parameter or a cursor names an object that is not there."""
    return Problem(400, INVALID_REQUEST, f"No such {kind}: {shown(id)}", "resource_missing", param)


def unauthorized(message: str, code: str | None = None) -> Problem:
    """401: no key, or none that stands. Says the same for every key that does not stand."""
    headers = {"www-authenticate": 'Basic realm="Meterline"'}
    return Problem(401, INVALID_REQUEST, message, code, headers=headers)


def forbidden(scope: str) -> Problem:
    """403: the key stands, but may not do this."""
    return Problem(403, INVALID_REQUEST, f"This key lacks the permission {scope} that the request needs.")


def mismatched_repeat(status: int = 400) -> Problem:
    """An idempotency key came again with other parameters: 400 in v1, 409 in v2."""
    message = (
        "This Idempotency-Key was used before with other parameters: repeat the request as it was, or choose a new key."
    )
    return Problem(status, IDEMPOTENCY, message, "idempotency_error" if status == 409 else None)


def too_many(reason: str, retry_after_s: int = 1) -> Problem:
    """429: nothing of the request was done. ``reason`` is Stripe's: global-concurrency, endpoint-rate, …"""
    headers = {
        "retry-after": str(retry_after_s),
        "stripe-rate-limited-reason": reason,
        "stripe-should-retry": "true",
    }
    message = "Too many requests at once. Nothing was done: try again after the pause that Retry-After says."
    return Problem(429, INVALID_REQUEST, message, "rate_limit", headers=headers)


def unavailable(retry_after_s: int = 1, message: str | None = None) -> Problem:
    """503: whether the request was done is not known; repeating it with the same identifiers is safe."""
    said = message or (
        "The request could not be confirmed and may or may not have been done. Repeating it with the same identifiers "
        "or the same Idempotency-Key is safe: nothing counts twice."
    )
    headers = {"retry-after": str(retry_after_s), "stripe-should-retry": "true"}
    return Problem(503, API_ERROR, said, "service_unavailable", headers=headers)


def unexpected(request_id: str) -> Problem:
    """500: our fault. The details are in our log under the request's id, never in the answer."""
    return Problem(500, API_ERROR, f"Something went wrong on our side. The request's id is {request_id}.")
