"""Windows and the pieces of zones, held to what zoneinfo shows minute by minute. No database: thousands of cases."""

from __future__ import annotations

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.clickhouse.windows import Unit, bucket_of, window_of
from pipeline.clickhouse.zones import BEGINNING_MS, END_MS, known_zones, pieces_of
from pipeline.domain.limits import MINUTE_MS
from tests.property.query_oracle import ZONES, oracle_window

MODERN_MS, FAR_MS = 315_532_800_000, 3_100_000_000_000
"""1980 to 2068. Before, some offsets were no whole minutes; after, rules are no longer written out."""
DAY_S = 86_400


def zones() -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(ZONES), st.sampled_from(known_zones()))


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, int]:
    """A zone and a minute, most often near a change of its clocks."""
    zone = draw(zones())
    changes = [piece.starts_ms for piece in pieces_of(zone) if MODERN_MS < piece.starts_ms < FAR_MS]
    if changes and draw(st.integers(0, 3)):
        around = draw(st.one_of(st.integers(-130, 130), st.integers(-1600, 1600)))
        return zone, (draw(st.sampled_from(changes)) // MINUTE_MS + around) * MINUTE_MS
    return zone, draw(st.integers(MODERN_MS // MINUTE_MS, FAR_MS // MINUTE_MS)) * MINUTE_MS


@settings(max_examples=400, deadline=None)
@example(("America/Goose_Bay", 972_788_400_000), Unit.HOUR)  # an hour that ends after a minute
@example(("America/Goose_Bay", 972_788_400_000), Unit.DAY)  # a day that begins twice
@example(("Australia/Lord_Howe", 1_775_315_400_000), Unit.HOUR)  # half an hour that comes again
@given(moments(), st.sampled_from([Unit.MINUTE, Unit.HOUR, Unit.DAY, Unit.MONTH]))
def test_a_window_is_what_the_clocks_show(moment: tuple[str, int], unit: Unit) -> None:
    zone, ms = moment
    pieces = pieces_of(zone)
    window = window_of(unit, bucket_of(unit, ms, pieces), pieces)
    assert tuple(window) == oracle_window(unit, ms, zone)
    if unit is Unit.HOUR:
        assert window.start_ms <= ms < window.end_ms


@settings(max_examples=200, deadline=None)
@given(moments())
def test_hours_tile_the_time_line(moment: tuple[str, int]) -> None:
    zone, ms = moment
    pieces = pieces_of(zone)
    here = window_of(Unit.HOUR, bucket_of(Unit.HOUR, ms, pieces), pieces)
    after = window_of(Unit.HOUR, bucket_of(Unit.HOUR, here.end_ms, pieces), pieces)
    assert after.start_ms == here.end_ms


@settings(max_examples=15, deadline=None)
@given(zones())
def test_the_pieces_of_a_zone_are_its_whole_time_line(zone: str) -> None:
    """Every day from 1970 to 2069, zoneinfo shows the offset of the piece; and pieces join up."""
    pieces, info, at = pieces_of(zone), ZoneInfo(zone), 0
    assert (pieces[0].starts_ms, pieces[-1].ends_ms) == (BEGINNING_MS, END_MS)
    for before, after in itertools.pairwise(pieces):
        assert before.ends_ms == after.starts_ms
        assert before.offset_ms != after.offset_ms
        assert after.local_starts_ms == after.starts_ms + before.offset_ms
        for second, offset_ms in (
            (after.starts_ms // 1000 - 1, before.offset_ms),
            (after.starts_ms // 1000, after.offset_ms),
        ):
            assert dt.datetime.fromtimestamp(second, info).utcoffset() == dt.timedelta(milliseconds=offset_ms)
    for second in range(0, 3_124_137_600, DAY_S):
        while second * 1000 >= pieces[at].ends_ms:
            at += 1
        assert dt.datetime.fromtimestamp(second, info).utcoffset() == dt.timedelta(milliseconds=pieces[at].offset_ms)
