"""What clients send, read strictly: JSON, forms, parameters. Every refusal is a 400 that says what is wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.gateway.forms import DEPTH_MAX as FORM_DEPTH_MAX
from pipeline.gateway.forms import PAIRS_MAX, read_form
from pipeline.gateway.moments import moment_ms, rfc_3339
from pipeline.gateway.parameters import (
    Boolean,
    Choice,
    DecimalText,
    Either,
    Field,
    Integer,
    ListOf,
    Metadata,
    Moment,
    Object,
    Text,
    TextMap,
    read,
)
from pipeline.gateway.problems import Problem
from pipeline.gateway.request_body import BODY_BYTES_MAX, Gone, parse_body, read_body
from pipeline.gateway.strict_json import DEPTH_MAX, Number, read_json

WHOLE = st.integers(-(10**30), 10**30)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | WHOLE | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def depth(document: Any) -> int:
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(DOCUMENTS, st.booleans())
def test_good_json_is_read_as_it_was_written(document: Any, escaped: bool) -> None:
    body = json.dumps(document, ensure_ascii=escaped).encode()
    if depth(document) <= DEPTH_MAX:
        assert read_json(body) == document
    else:
        with pytest.raises(Problem):
            read_json(body)


REFUSED_JSON = {
    "a duplicate key": b'{"a": 1, "a": 2}',
    "a duplicate key, spelled otherwise": b'{"a": 1, "\\u0061": 2}',
    "a duplicate key deep inside": b'{"events": [{"payload": {"v": "1", "v": "1"}}]}',
    "NaN": b'{"a": NaN}',
    "Infinity": b"[Infinity]",
    "minus Infinity": b"[-Infinity]",
    "a lone high surrogate": b'"\\ud800"',
    "a lone low surrogate as a key": b'{"\\uDFFF": 1}',
    "surrogates in the wrong order": b'"\\udc00\\ud800"',
    "bytes that are not UTF-8": b'"\xff"',
    "surrogates as UTF-8": b'"\xed\xa0\x80"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "trailing bytes": b"{} {}",
    "a trailing comma": b'{"a": 1,}',
    "a comment": b"{} // x",
    "single quotes": b"{'a': 1}",
    "a control character": b'"a\x01b"',
    "a leading zero": b"[01]",
    "a plus sign": b"[+1]",
    "a point without digits": b"[1.]",
    "hexadecimal": b"[0x10]",
    "a word": b"yes",
    "nothing but space": b"  ",
    "half of it": b'{"a": [1, 2',
    "too many digits": b"9" * 5_000,
    "nine levels": b"[" * 9 + b"]" * 9,
    "a hundred thousand levels": b"[" * 100_000,
    "a hundred thousand levels of objects": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("body", REFUSED_JSON.values(), ids=REFUSED_JSON.keys())
def test_s13_bad_json_is_a_400(body: bytes) -> None:
    with pytest.raises(Problem) as refused:
        read_json(body)
    assert refused.value.status == 400
    assert len(refused.value.message) < 300


@pytest.mark.parametrize("digits", ["1.50", "0.1", "1E5", "-0.0", "1e400", "0." + "1" * 40])
def test_numbers_keep_their_digits(digits: str) -> None:
    found = read_json(f'{{"value": {digits}}}'.encode())["value"]
    assert isinstance(found, Number)
    assert found == digits


FORMS = {
    "a=1&b=two+words&c=%C3%A4": {"a": "1", "b": "two words", "c": "ä"},
    "payload[value]=5&payload[stripe_customer_id]=cus": {"payload": {"value": "5", "stripe_customer_id": "cus"}},
    "tiers[0][up_to]=inf&tiers[1][up_to]=3": {"tiers": {"0": {"up_to": "inf"}, "1": {"up_to": "3"}}},
    "expand[]=a&expand[]=b": {"expand": ["a", "b"]},
    "p[images][]=a&p[images][]=b": {"p": {"images": ["a", "b"]}},
    "a%5Bb%5D=1": {"a": {"b": "1"}},
    "&&a=1&": {"a": "1"},
    "a": {"a": ""},
    "a=b=c": {"a": "b=c"},
}


@pytest.mark.parametrize(("body", "expected"), FORMS.items())
def test_brackets_mean_what_stripes_mean(body: str, expected: dict[str, Any]) -> None:
    assert read_form(body.encode()) == expected


REFUSED_FORMS = {
    "twice": b"a=1&a=2",
    "twice, spelled otherwise": b"a=1&%61=2",
    "as a whole and in parts": b"a=1&a[b]=2",
    "in parts and as a whole": b"a[b]=2&a=1",
    "a list and a map": b"a[]=1&a[0]=2",
    "a map and a list": b"a[0]=1&a[]=2",
    "an open bracket": b"a[b=1",
    "text behind a bracket": b"a[b]c=1",
    "no name": b"=1",
    "no name before a bracket": b"[a]=1",
    "brackets in the middle": b"a[][b]=1",
    "brackets twice": b"a[][]=1",
    "a key that is bytes": b"%ff=1",
    "text that is bytes": b"a=%ff",
    "too many pairs": b"&".join(b"a%d=1" % number for number in range(PAIRS_MAX + 1)),
    "too deep": b"a" + b"[b]" * FORM_DEPTH_MAX + b"=1",
}


@pytest.mark.parametrize("body", REFUSED_FORMS.values(), ids=REFUSED_FORMS.keys())
def test_s13_bad_forms_are_a_400(body: bytes) -> None:
    with pytest.raises(Problem) as refused:
        read_form(body)
    assert refused.value.status == 400


@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="[]"), min_size=1), TEXT))
def test_any_text_goes_through_a_form(fields: dict[str, str]) -> None:
    assert read_form(urlencode(fields).encode()) == fields


def refusal_of(reader: Callable[[bytes], Any], body: bytes) -> int | None:
    """The status of the refusal, if it is one."""
    try:
        reader(body)
    except Problem as problem:
        return problem.status
    return None


@given(st.binary(max_size=60))
@example(b"a[\n]=1")
def test_no_bytes_are_worse_than_a_400(body: bytes) -> None:
    for reader in (read_form, read_json):
        assert refusal_of(reader, body) in (None, 400)


FIELDS = {
    "name": Field(Text(10), required=True),
    "note": Field(Text(100, prose=True), clearable=True),
    "count": Field(Integer(0, 9)),
    "amount": Field(DecimalText(2)),
    "mode": Field(Choice("live", "test")),
    "on": Field(Boolean()),
    "at": Field(Moment()),
    "product": Field(Either(Object({"name": Field(Text(5), required=True)}), Text())),
    "tiers": Field(ListOf(Object({"up_to": Field(Either(Choice("inf"), Integer(1)), required=True)}), 3, 1)),
    "payload": Field(TextMap(2, 4, 4)),
    "metadata": Field(Metadata(), clearable=True),
}

TAKEN_IN_FORMS: dict[str, tuple[Any, Any]] = {
    "note": ("two\nlines", "two\nlines"),
    "count": ("9", 9),
    "amount": ("12.50", Decimal("12.50")),
    "mode": ("test", "test"),
    "on": ("false", False),
    "at": ("1700000000", 1_700_000_000_000),
    "product": ({"name": "p"}, {"name": "p"}),
    "tiers": ({"0": {"up_to": "5"}, "1": {"up_to": "inf"}}, [{"up_to": 5}, {"up_to": "inf"}]),
    "payload": ({"v": "1"}, {"v": "1"}),
    "metadata": ({"a": "1", "b": ""}, {"a": "1", "b": None}),
}
TAKEN_IN_JSON: dict[str, tuple[Any, Any]] = {
    "note": (None, None),
    "count": (9, 9),
    "amount": (Number("12.50"), Decimal("12.50")),
    "on": (False, False),
    "at": ("2023-11-14T22:13:20.5Z", 1_700_000_000_500),
    "product": ("prod_1", "prod_1"),
    "tiers": ([{"up_to": 5}], [{"up_to": 5}]),
    "payload": ({"v": 1, "w": Number("1.50")}, {"v": "1", "w": "1.50"}),
    "metadata": ({"a": None}, {"a": None}),
}


@pytest.mark.parametrize(("name", "taken"), TAKEN_IN_FORMS.items())
def test_forms_are_read(name: str, taken: tuple[Any, Any]) -> None:
    assert read(FIELDS, {"name": "n", name: taken[0]})[name] == taken[1]


@pytest.mark.parametrize(("name", "taken"), TAKEN_IN_JSON.items())
def test_json_is_read(name: str, taken: tuple[Any, Any]) -> None:
    assert read(FIELDS, {"name": "n", name: taken[0]}, typed=True)[name] == taken[1]


def test_what_did_not_come_is_absent_and_what_was_cleared_is_none() -> None:
    assert read(FIELDS, {"name": "n", "note": "", "metadata": ""}) == {"name": "n", "note": None, "metadata": None}
    assert read(FIELDS, {"name": "n", "count": None}, typed=True) == {"name": "n"}


REFUSED: list[tuple[dict[str, Any], bool, str, str | None]] = [
    ({}, False, "name", "parameter_missing"),
    ({"name": None}, True, "name", "parameter_missing"),
    ({"name": ""}, False, "name", "parameter_invalid_empty"),
    ({"name": "n" * 11}, False, "name", None),
    ({"name": "a\u202eb"}, False, "name", None),
    ({"name": 5}, True, "name", None),
    ({"name": Number("1.5")}, True, "name", None),
    ({"name": "n", "count": "9.0"}, False, "count", "parameter_invalid_integer"),
    ({"name": "n", "count": " 9"}, False, "count", "parameter_invalid_integer"),
    ({"name": "n", "count": "٩"}, False, "count", "parameter_invalid_integer"),
    ({"name": "n", "count": "9"}, True, "count", "parameter_invalid_integer"),
    ({"name": "n", "count": True}, True, "count", "parameter_invalid_integer"),
    ({"name": "n", "count": "10"}, False, "count", None),
    ({"name": "n", "amount": "1.001"}, False, "amount", None),
    ({"name": "n", "amount": "1e-3"}, False, "amount", None),
    ({"name": "n", "amount": "1e99"}, False, "amount", None),
    ({"name": "n", "amount": "-1"}, False, "amount", None),
    ({"name": "n", "mode": "prod"}, False, "mode", None),
    ({"name": "n", "on": "1"}, False, "on", None),
    ({"name": "n", "on": 1}, True, "on", None),
    ({"name": "n", "at": "-1"}, False, "at", None),
    ({"name": "n", "at": "yesterday"}, True, "at", None),
    ({"name": "n", "at": "2023-02-30T00:00:00Z"}, True, "at", None),
    ({"name": "n", "product": {"nam": "p"}}, False, "product[nam]", "parameter_unknown"),
    ({"name": "n", "product": ["p"]}, False, "product", None),
    ({"name": "n", "tiers": {"0": {"up_to": "0"}}}, False, "tiers[0][up_to]", None),
    ({"name": "n", "tiers": {"1": {"up_to": "5"}}}, False, "tiers", None),
    ({"name": "n", "tiers": {"0": {"up_to": "5"}, "x": {}}}, False, "tiers", None),
    ({"name": "n", "tiers": []}, True, "tiers", None),
    ({"name": "n", "tiers": [{"up_to": 1}] * 4}, True, "tiers", None),
    ({"name": "n", "tiers": "5"}, False, "tiers", None),
    ({"name": "n", "payload": {"v": {"w": "1"}}}, False, "payload[v]", None),
    ({"name": "n", "payload": {"v": True}}, True, "payload[v]", None),
    ({"name": "n", "payload": {"v": 12345}}, True, "payload[v]", None),
    ({"name": "n", "payload": {"a": "1", "b": "1", "c": "1"}}, False, "payload", None),
    ({"name": "n", "metadata": {"k" * 41: "1"}}, False, "metadata[" + "k" * 40 + "]", None),
    ({"name": "n", "metadata": {"a]": "1"}}, True, "metadata[a]]", None),
    ({"name": "n", "metadata": {"a": 0}}, True, "metadata[a]", None),
    ({"name": "n", "metadata": {str(n): "1" for n in range(51)}}, False, "metadata", None),
    ({"name": "n", "livemode": "true"}, False, "livemode", "parameter_unknown"),
    ({"name": "n", "created": "1"}, False, "created", "parameter_unknown"),
]


@pytest.mark.parametrize(("raw", "typed", "param", "code"), REFUSED)
def test_s5_refusals_name_the_parameter(raw: dict[str, Any], typed: bool, param: str, code: str | None) -> None:
    """Unknown ones too, and those that only the server writes."""
    with pytest.raises(Problem) as refused:
        read(FIELDS, raw, typed=typed)
    problem = refused.value
    assert (problem.status, problem.param, problem.code) == (400, param, code)
    assert param.partition("[")[0] in problem.message


@given(st.integers(0, 253_402_300_799_999))
def test_moments_come_back(ms: int) -> None:
    assert moment_ms(rfc_3339(ms)) == ms


def test_moments_have_zones() -> None:
    assert moment_ms("1970-01-01T02:00:00+02:00") == 0
    assert moment_ms("1970-01-01T00:00:00") is None
    assert moment_ms("1970-01-01T00:00:00+24:00") is None
    assert moment_ms("1969-12-31T23:59:59Z") is None


def test_e13_a_leap_second_is_no_moment() -> None:
    """Unix time has no place for it; taken for the next second, it would be the next month's."""
    assert moment_ms("2016-12-31T23:59:59.999Z") == 1_483_228_799_999
    assert moment_ms("2017-01-01T00:00:00Z") == 1_483_228_800_000
    for text in ("2016-12-31T23:59:60Z", "2016-12-31T23:59:60.5Z", "2017-01-01T00:59:60+01:00", "2016-12-31T24:00:00Z"):
        assert moment_ms(text) is None, text
    with pytest.raises(Problem) as refused:
        read({"timestamp": Field(Moment())}, {"timestamp": "2016-12-31T23:59:60Z"}, typed=True)
    assert (refused.value.status, refused.value.param) == (400, "timestamp")


class Connection:
    """What a server hands out, piece by piece; None: the client goes away."""

    def __init__(self, *pieces: bytes | None) -> None:
        self._pieces = list(pieces)

    async def __call__(self) -> dict[str, Any]:
        piece = self._pieces.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}


def body_of(*pieces: bytes | None, **headers: str) -> bytes:
    named = {name.replace("_", "-").encode(): text.encode() for name, text in headers.items()}
    coroutine = read_body(Connection(*pieces), named)
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("nothing is waited for here")


def test_h4_a_body_is_cut_before_it_is_gathered() -> None:
    assert body_of(b"a" * BODY_BYTES_MAX) == b"a" * BODY_BYTES_MAX
    assert body_of(b"ab", b"", b"c") == b"abc"
    for pieces in ((b"a" * (BODY_BYTES_MAX + 1),), (b"a" * BODY_BYTES_MAX, b"a"), (b"a" * BODY_BYTES_MAX, b"a", b"")):
        with pytest.raises(Problem, match="larger than") as refused:
            body_of(*pieces)
        assert refused.value.status == 413
    with pytest.raises(Problem, match="larger than"):
        body_of(content_length=str(2**30))


@pytest.mark.parametrize("way", ["at once", "in two", "byte by byte at its end", "declared", "gzip"])
def test_f5_a_body_is_taken_up_to_the_very_limit(way: str) -> None:
    """Read back digit by digit at the limit and one byte below; one byte above is a 413."""

    def sent(body: bytes) -> bytes:
        return {
            "at once": lambda: body_of(body),
            "in two": lambda: body_of(body[:-1], body[-1:]),
            "byte by byte at its end": lambda: body_of(body[:-3], body[-3:-2], body[-2:-1], body[-1:], b""),
            "declared": lambda: body_of(body, content_length=str(len(body))),
            "gzip": lambda: body_of(gzip.compress(body), content_encoding="gzip"),
        }[way]()

    for size in (BODY_BYTES_MAX - 1, BODY_BYTES_MAX):
        body = Random(size).randbytes(size // 2 + 1).hex().encode()[:size]
        assert sent(body) == body
    with pytest.raises(Problem, match="larger than") as refused:
        sent(body + b"0")
    assert refused.value.status == 413


def test_h6_a_body_that_ends_early_is_no_body() -> None:
    for pieces in ((None,), (b"a", None)):
        with pytest.raises(Gone):
            body_of(*pieces)


def test_h4_gzip_is_bounded() -> None:
    small = b'{"a": "' + b"a" * 1_000 + b'"}'
    assert body_of(gzip.compress(small), content_encoding="gzip") == small
    refused = {
        "a bomb": (gzip.compress(b"a" * 2**26), 413),
        "a small bomb": (gzip.compress(b"a" * 2**19), 400),
        "cut": (gzip.compress(small)[:-4], 400),
        "two streams": (gzip.compress(small) * 2, 400),
        "no gzip": (small, 400),
    }
    for name, (body, status) in refused.items():
        with pytest.raises(Problem) as problem:
            body_of(body, content_encoding="gzip")
        assert problem.value.status == status, name
    with pytest.raises(Problem, match="Content-Encoding"):
        body_of(small, content_encoding="br")


def test_types_of_bodies_are_checked() -> None:
    form, document = b"a=1", b'{"a": "1"}'
    assert parse_body("v1", form, {b"content-type": b"application/x-www-form-urlencoded; charset=utf-8"}) == {"a": "1"}
    assert parse_body("v2", document, {b"content-type": b"application/json"}) == {"a": "1"}
    assert parse_body("v2", b"", {}) == {}
    for face, body, said in (("v1", document, b"application/json"), ("v2", form, b"text/plain"), ("v2", document, b"")):
        with pytest.raises(Problem, match="Content-Type") as refused:
            parse_body(face, body, {b"content-type": said})
        assert refused.value.status == 415
    with pytest.raises(Problem, match="JSON object"):
        parse_body("v2", b"[]", {b"content-type": b"application/json"})


def test_a_message_repeats_little_of_what_was_sent() -> None:
    with pytest.raises(Problem) as refused:
        read({"a": Field(Integer())}, {"a": quote("ä" * 4_000)})
    assert len(refused.value.message) < 300
