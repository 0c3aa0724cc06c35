"""Page tokens of usage: whoever asks can write one by hand, and whatever is in it is a page or a 400."""

from __future__ import annotations

import json

import pytest

from pipeline.clickhouse.queries import After, SummaryQuery
from pipeline.clickhouse.windows import Bucket
from pipeline.gateway.lists import page_token
from pipeline.gateway.meter_usage import _after
from pipeline.gateway.problems import Problem

MARK = "0123456789abcdef"
ASKED = SummaryQuery(livemode=True, event_name="calls", start_ms=0, end_ms=60_000, group_by=("region",))


def test_a_token_names_the_row_that_it_goes_on_behind() -> None:
    for customer, region in (("cus_1", "eu"), ("\U0001f642", None)):
        token = page_token(json.dumps([MARK, 5, 6, customer, region]))
        assert _after(token, MARK, ASKED) == After(Bucket(5, 6), customer, (region,))


@pytest.mark.parametrize(
    "position",
    [
        "[" * 1_100,
        "[" * 5_000 + "]" * 5_000,
        '{"a":' * 2_000,
        f'["{MARK}", 5, 6, "\\ud800", "eu"]',
        f'["{MARK}", 5, 6, "cus_1", "\\udfff"]',
        f'["{MARK}", 5, 6, ["cus_1"], "eu"]',
        f'["{MARK}", 5, 6, "cus_1"]',
        f'["{MARK}", 5.5, 6, "cus_1", "eu"]',
        f'["{MARK}", NaN, 6, "cus_1", "eu"]',
        f'["{MARK}", {"9" * 5_000}, 6, "cus_1", "eu"]',
        f'["{MARK}", 5, {2**63}, "cus_1", "eu"]',
        '["another question", 5, 6, "cus_1", "eu"]',
        "null",
        "",
    ],
    ids=lambda position: position[:30],
)
def test_s13_a_token_that_is_none_is_a_400(position: str) -> None:
    with pytest.raises(Problem, match="page") as refused:
        _after(page_token(position), MARK, ASKED)
    assert (refused.value.status, refused.value.param) == (400, "page")
