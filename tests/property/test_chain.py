"""Logs with links and heads: however many write at once, what is done to a record that was followed shows."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from pipeline.codec.records import Codec
from pipeline.domain.catalog import Product
from pipeline.domain.chain import FOLLOWS, NOTHING, Head, extended, head_of, headers_after
from pipeline.kafka.reading import Record
from pipeline.replay.change_readers import UNREADABLE, catalog_reader
from pipeline.replay.changes import Checked, Following

CODEC = Codec()
TOPIC = "t.billing-catalog"


class Written(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, str | bytes | None], ...]


class Step(NamedTuple):
    """One write of one of several writers."""

    writer: int
    behind: int
    """How many of the newest records it has not read yet."""
    product: int
    raced: bool
    """Whether it writes a version that is there already."""
    junk: bool


rarely = st.sampled_from([False] * 9 + [True])
steps = st.lists(
    st.builds(Step, st.integers(0, 2), st.integers(0, 3), st.integers(0, 2), st.booleans(), rarely),
    min_size=1,
    max_size=20,
)


def heads_of(log: list[Written]) -> list[Head]:
    heads = [NOTHING]
    for one in log:
        heads.append(extended(heads[-1], *one))
    return heads


def log_of(told: list[Step]) -> list[Written]:
    """What gateways write that lag behind each other by some records."""
    log: list[Written] = []
    heads, versions, read = [NOTHING], [0, 0, 0], [0, 0, 0]
    for step in told:
        read[step.writer] = max(read[step.writer], len(log) - step.behind, 0)
        headers = headers_after(heads[read[step.writer]], f"writer {step.writer}")
        if step.junk:
            one = Written(None, b"junk", ())
        else:
            if not step.raced or not versions[step.product]:
                versions[step.product] += 1
            product = Product(
                id=f"p{step.product}", livemode=True, created_ms=1, updated_ms=1 + len(log),
                version=versions[step.product], name=f"by {step.writer}",
            )  # fmt: skip
            one = Written(product.id.encode(), CODEC.encode_catalog(product), headers)
        log.append(one)
        heads.append(extended(heads[-1], *one))
    return log


def checked(log: list[Written], kept: list[Head] | None = None) -> Checked:
    following = Following("billing-catalog/0", TOPIC, 0, catalog_reader(CODEC), kept or [], linked=True)
    for offset, one in enumerate(log):
        following.take(Record(0, offset, 1, *one))
    return following.checked(len(log))


def vouched(log: list[Written]) -> int:
    """Of so many records, from the first on, some later one says that its writer has read them."""
    said = [dict(one.headers).get(FOLLOWS) for one in log]
    return max((head_of(bytes(one).decode()).records for one in said if isinstance(one, bytes)), default=0)


@given(steps)
def test_what_racing_writers_wrote_is_whole(told):
    log = log_of(told)
    found = checked(log, heads_of(log))
    assert not found.findings
    assert not found.accepted
    assert found.head == heads_of(log)[-1]
    assert found.unlinked == found.kinds.get(UNREADABLE, 0)


def tampered(log: list[Written], place: int, how: str) -> list[Written]:
    one = log[place]
    match how:
        case "remove":
            return log[:place] + log[place + 1 :]
        case "alter":
            return [*log[:place], one._replace(value=(one.value or b"") + b"x"), *log[place + 1 :]]
        case "key":
            return [*log[:place], one._replace(key=b"another"), *log[place + 1 :]]
        case "header":
            return [*log[:place], one._replace(headers=(*one.headers, ("by", b"nobody"))), *log[place + 1 :]]
        case "insert":
            return [*log[:place], Written(b"p", b"forged", ()), *log[place:]]
        case "move":
            return [*log[:place], *log[place + 1 :], one]
        case _:
            return [*log[:place], *log[place : place + 2][::-1], *log[place + 2 :]]


HOWS = st.sampled_from(["remove", "alter", "key", "header", "insert", "move", "swap"])


@given(steps, st.data(), HOWS)
def test_what_is_done_to_a_record_that_was_followed_shows_without_any_head(told, data, how):
    log = log_of(told)
    below = vouched(log)
    if below == 0:
        return
    place = data.draw(st.integers(0, below - 1))
    other = tampered(log, place, how)
    if heads_of(other)[below : below + 1] == [heads_of(log)[below]]:
        return  # of two equal ones one is gone: what was vouched for stands there
    found = checked(other)
    assert found.findings
    assert all(finding.topic == TOPIC for finding in found.findings)
    assert min(finding.offset for finding in found.findings) >= 0


@given(steps, st.data(), HOWS)
def test_a_head_that_was_kept_shows_whatever_was_done_below_it(told, data, how):
    log = log_of(told)
    heads = heads_of(log)
    kept = data.draw(st.integers(1, len(log)))
    place = data.draw(st.integers(0, kept - 1))
    other = tampered(log, place, how)
    if heads_of(other)[kept : kept + 1] == [heads[kept]]:
        return
    assert checked(other, [heads[kept]]).findings
    assert checked(log[: kept - 1], [heads[kept]]).findings


@given(steps, st.integers(0, 5))
def test_what_was_known_when_a_head_was_kept_is_told_and_fails_no_more(told, count):
    log = log_of(told)
    log = [*log[:count], Written(b"x", b"forged", headers_after(Head(1, bytes(32)), "a forger")), *log[count:]]
    assert checked(log).findings
    found = checked(log, [heads_of(log)[-1]])
    assert not found.findings
    assert found.accepted


@given(
    st.lists(st.tuples(st.none() | st.binary(max_size=4), st.none() | st.binary(max_size=4)), max_size=5, unique=True)
)
def test_no_two_records_have_one_digest(pairs):
    """Also where one's key and value are cut elsewhere than another's."""
    digests = {extended(NOTHING, key, value, ()).digest for key, value in pairs}
    digests |= {extended(NOTHING, key, None, (("n", value),)).digest for key, value in pairs}
    assert len(digests) == 2 * len(pairs)


def test_a_digest_is_what_it_has_always_been():
    """Heads are kept elsewhere for years. Whoever changes this makes all of them worthless."""
    head = extended(NOTHING, b"k", b"value", (("by", b"me"), ("follows", None)))
    assert str(head) == "1:bc6cbb5c0158e81298b0407e542cd7409cfb7c6190626a2f3b7481ccc59d2e3d"
    assert head_of(str(head)) == head
