"""The search language: what it finds, and that whatever is asked is found or explained."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.catalog import Product
from pipeline.gateway.problems import Problem
from pipeline.gateway.product_search import read_query

GOLD = Product(
    id="gold", livemode=True, created_ms=1_700_000_000_000, updated_ms=1_700_000_500_999, version=1, name="Gold Ünit",
    metadata={"tier": "1", 'a"b': "x"}, url="https://example.com/gold",
)  # fmt: skip
PARTS = [
    "name",
    "metadata",
    '["tier"]',
    ":",
    "~",
    ">",
    '"gold"',
    "'1'",
    "null",
    "AND",
    "OR",
    "-",
    " ",
    "1700000000",
    "x",
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ('name:"GOLD ÜNIT"', True),
        ('name:"gold"', False),
        ('name~"ld ü"', True),
        ("metadata['tier']:'1'", True),
        ("metadata['tier']:'2'", False),
        ("metadata['none']:null", True),
        ("-metadata['none']:null", False),
        ("""metadata['a"b']:"x\"""", True),
        ("description:null", True),
        ('description:""', False),
        ('shippable:null AND active:"true"', True),
        ("created:1700000000", True),
        ("created>=1700000000 created<=1700000000", True),
        ("created>1700000000", False),
        ("updated:1700000500", True),
        ("created < 1700000001", True),
        ('name:"x" OR url~"example"', True),
        ('name:"x" or -name:"y"', True),
        ('  name~"gold"  ', True),
    ],
)
def test_a_query_finds(query, found):
    assert read_query(query)(GOLD) is found


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PARTS), max_size=12).map("".join)))
def test_whatever_is_asked_is_found_or_explained(query):
    said: Problem | None = None
    try:
        assert read_query(query)(GOLD) in (True, False)
    except Problem as problem:
        said = problem
    assert said is None or ((said.status, said.param) == (400, "query") and len(said.message) < 500)


def test_a_long_query_is_read_in_no_time():
    """FAULTS S12: no pattern that takes longer than the text is long."""
    for part in ('"', "\\", "name:", "- ", "metadata[", 'name:"' + "\\\\" * 100):
        with pytest.raises(Problem):
            read_query((part * 5_000)[:5_000])


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(["Gold Ünit", "other"])), min_size=1, max_size=5), st.booleans()
)
def test_clauses_combine_as_they_say(clauses, every):
    query = (" AND " if every else " OR ").join(f'{"-" if negated else ""}name:"{name}"' for negated, name in clauses)
    each = [(name == GOLD.name) != negated for negated, name in clauses]
    assert read_query(query)(GOLD) is (all(each) if every or len(each) == 1 else any(each))


def test_a_product_without_a_text_contains_nothing():
    bare = dataclasses.replace(GOLD, url=None)
    for query in itertools.product(("url", "description"), ('~"exa"', ':"exa"')):
        assert read_query("".join(query))(bare) is False
