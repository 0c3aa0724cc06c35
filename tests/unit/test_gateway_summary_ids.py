"""Ids of summaries: they say which one it is, and nobody else can make one."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.gateway.parts import Secrets
from pipeline.gateway.summary_ids import SummaryName, summary_id, summary_name

SECRETS = Secrets({"new": b"n" * 32, "old": b"o" * 32})
NAME = SummaryName("mtr_test_1", "cus_1", 1_772_323_200_000, 1_772_326_800_000)

names = st.builds(
    SummaryName,
    st.from_regex(r"mtr_[A-Za-z0-9]{1,24}", fullmatch=True),
    st.text(st.characters(blacklist_categories=("Cc", "Cs")), min_size=1, max_size=100),
    st.integers(0, 10**10).map(lambda s: s * 1000),
    st.integers(0, 10**10).map(lambda s: s * 1000),
)


@given(names, st.booleans())
def test_an_id_names_its_summary_in_its_mode_alone(name: SummaryName, livemode: bool) -> None:
    made = summary_id(name, livemode=livemode, secrets=SECRETS)
    assert made == summary_id(name, livemode=livemode, secrets=SECRETS)
    assert summary_name(made, livemode=livemode, secrets=SECRETS) == name
    assert summary_name(made, livemode=not livemode, secrets=SECRETS) is None


def test_an_id_of_a_former_secret_stands() -> None:
    before = summary_id(NAME, livemode=False, secrets=Secrets({"old": b"o" * 32}))
    assert summary_name(before, livemode=False, secrets=SECRETS) == NAME
    assert summary_name(before, livemode=False, secrets=Secrets({"other": b"x" * 32})) is None


def test_neighbours_differ_in_their_tails() -> None:
    here = summary_id(NAME, livemode=False, secrets=SECRETS)
    there = summary_id(NAME._replace(start_ms=NAME.end_ms), livemode=False, secrets=SECRETS)
    assert here != there
    assert here[:30] == there[:30]


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "mtrusg_test_",
        "mtrusg_test_A",
        "mtrusg_test_====",
        "mtrusg_test_\u00e9",
        "mtrusg_test_QUJDREVGR0hJSktMTU5P",
        "x",
    ],
)
def test_what_is_no_id_names_nothing(wrong: str) -> None:
    assert summary_name(wrong, livemode=False, secrets=SECRETS) is None


def test_no_bit_of_an_id_can_be_changed() -> None:
    made = summary_id(NAME, livemode=False, secrets=SECRETS)
    prefix = "mtrusg_test_"
    packed = bytearray(base64.urlsafe_b64decode(made.removeprefix(prefix) + "=="))
    for place in range(len(packed)):
        packed[place] ^= 1
        forged = prefix + base64.urlsafe_b64encode(packed).decode().rstrip("=")
        assert summary_name(forged, livemode=False, secrets=SECRETS) is None
        packed[place] ^= 1
