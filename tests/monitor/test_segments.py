"""Columns that move within a group of a segment are told of that group, however the rows were split."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from contracts import ModelSchema, Profile, Service
from services.kit.groups import OTHER
from services.kit.objects import Objects
from services.kit.profiles import build_profile
from services.kit.segments import Segmenter
from services.kit.service import application
from services.kit.settings import Settings
from services.kit.signing import canonical
from services.kit.testing import eventually
from services.monitor.domain.latency import LatencyCounts
from services.monitor.domain.segments import Moved, by_group
from services.monitor.domain.windows import Part, Sums
from services.monitor.settings import MonitorSettings
from services.monitor.usecases.versions import Watched

from . import streams
from .saying import deployment, fresh, logged, say_deployment, say_logged
from .test_handlers import running

Speaker = Callable[[Service], Settings]


def schema(*segments: str) -> ModelSchema:
    plain = streams.schema()
    columns = tuple(c.model_copy(update={"segment": c.name in segments}) for c in plain.columns)
    return plain.model_copy(update={"columns": columns})


def profile(rows: int = 6_000, *segments: str) -> Profile:
    made = streams.World(np.random.default_rng(1)).rows(rows)
    table = pa.table({name: made[:, i] for i, name in enumerate((*streams.NAMES, "label"))})
    return build_profile(table, schema(*segments))


def counts(made: Profile, rows: np.ndarray) -> np.ndarray:
    watched = Watched.of("m", schema("a", "colour"), made)
    bins = streams.binner_of(watched).bin({n: rows[:, i] for i, n in enumerate((*streams.NAMES, "label"))}, len(rows))
    assert watched.segmenter is not None
    return watched.segmenter.count(bins)


def test_a_baseline_without_segments_is_what_it_was_byte_by_byte() -> None:
    assert b"segmented" not in canonical(profile())
    made = profile(6_000, "a", "colour")
    assert made.model_copy(update={"segmented": None}) == profile()
    assert Profile.model_validate_json(canonical(made)) == made


def test_groups_are_quarters_of_numbers_and_common_classes_and_hold_every_counted_row_once() -> None:
    made = profile(6_000, "a", "colour")
    assert made.segmented is not None
    quarters, colours = made.segmented.segments
    assert len(quarters.groups) == 4 and quarters.groups[0].startswith("up to")
    assert colours.groups == ("0", "1", "2", "3", OTHER)
    for segment in (quarters, colours):
        rows = np.array(segment.counts).sum(axis=2)
        assert (rows == rows[:, :1]).all() and rows[:, 0].sum() == made.counted
    assert np.array(quarters.counts)[:, 0].sum(axis=1) / made.counted == pytest.approx([0.25] * 4, abs=0.03)


def test_live_rows_are_counted_in_the_same_groups_and_rows_without_a_value_in_none() -> None:
    made = profile(6_000, "a", "colour")
    rows = np.array([[-99.0, 0, 0, 0, 3, 1], [99.0, np.nan, 0, 0, 7, 1], [np.nan, 0, 0, 0, np.nan, 0]])
    found = counts(made, rows)
    segmenter = Segmenter(made)
    assert found.shape == segmenter.shape == (4 + 5, 6, 12)
    by_name = {group: found[place] for place, (_, group) in enumerate(segmenter.groups)}
    assert found[:, 0].sum() == 4 and by_name["3"].sum() == 6 and by_name[OTHER].sum() == 6
    low, high = found[0], found[3]
    assert low[0, 0] == 1 and high[0, 9] == 1, "beyond the reference is the outermost tenth"
    assert high[1, 10] == 1, "a missing value of another column"
    assert by_name[OTHER][4, 11] == 1, "a class that the reference does not have"


def test_too_many_cells_leave_out_the_segments_that_do_not_fit() -> None:
    made = streams.World(np.random.default_rng(1)).rows(400)
    many = {f"n{n}": made[:, 0] for n in range(1_100)}
    columns = {"colour": made[:, 4], "a": made[:, 0], **many, "label": made[:, 5]}
    plain = schema("colour", "a")
    named = [c for c in plain.columns if c.name in ("colour", "a")]
    wide = plain.model_copy(update={"columns": (*named, *(named[0].model_copy(update={"name": n, "segment": False})
                                                          for n in many))})  # fmt: skip
    found = build_profile(pa.table(columns), wide).segmented
    assert found is not None and [segment.name for segment in found.segments] == ["a"]


def test_merged_parts_hold_the_sum_and_are_stored_as_they_are() -> None:
    made = profile(6_000, "a", "colour")
    rows = streams.World(np.random.default_rng(2)).rows(300)

    def part(some: np.ndarray) -> Part:
        made_of = Part(1, len(some), (), Sums.zero(0), LatencyCounts({}), segments=counts(made, some))
        return Part.from_bytes(made_of.to_bytes())

    both = part(rows[:100]).merge(Part(1, 0, (), Sums.zero(0), LatencyCounts({}))).merge(part(rows[100:]))
    assert both.segments is not None and (both.segments == counts(made, rows)).all()
    other = Watched.of("m", schema("colour"), profile(6_000, "colour"))
    assert other.fitting(both).segments is None and other.fitting(both).rows == 300


def moved(rows: np.ndarray) -> dict[tuple[str, str], list[Moved]]:
    made = profile(20_000, "a", "colour")
    assert made.segmented is not None
    before = np.concatenate([np.array(segment.counts) for segment in made.segmented.segments])
    names = [column.name for column in made.columns]
    found = by_group(Segmenter(made).groups, names, before, counts(made, rows))
    return {(each.segment, each.group): list(each.columns) for each in found}


def test_a_column_that_moves_in_one_group_is_told_of_that_group_alone() -> None:
    rows = streams.World(np.random.default_rng(3)).rows(12_000)
    rows[rows[:, 4] == 2, 1] += 1.5
    found = moved(rows)
    beyond = {(group, each.column) for (segment, group), columns in found.items() if segment == "colour"
              for each in columns if each.low > 0.1}  # fmt: skip
    assert beyond == {("2", "b")}
    first = found["colour", "2"][0]
    assert first.column == "b" and first.low < first.size < first.high and first.size > 0.5
    assert found["colour", OTHER] == [], "no rows of other colours"
    assert "colour" not in {each.column for each in found["colour", "2"]}


def test_where_nothing_moved_no_interval_is_away_from_nothing() -> None:
    for seed in range(20):
        found = moved(streams.World(np.random.default_rng(100 + seed)).rows(3_000))
        assert [each for columns in found.values() for each in columns if each.low > 0] == []


async def test_the_newest_windows_tell_what_moved_in_which_group(
    monitor_settings: MonitorSettings, speaker: Speaker
) -> None:
    endpoint, objects = fresh(), Objects(monitor_settings)
    digest = await objects.put(canonical(profile(6_000, "colour")))
    await say_deployment(speaker("deployer"), deployment(endpoint, schema("colour"), digest))
    plain = fresh()
    await say_deployment(speaker("deployer"), deployment(plain, streams.schema(), None))
    rows = streams.World(np.random.default_rng(4)).rows(4_000)
    rows[rows[:, 4] == 1, 2] -= 1.5
    start = datetime.now(UTC) - timedelta(minutes=10)
    records = [
        logged(endpoint, rows[at : at + 100], at // 100 + 1, start + timedelta(seconds=at / 100))
        for at in range(0, len(rows), 100)
    ]
    async with running(monitor_settings) as parts:
        app = application(parts)

        async def ask(path: str, who: str = "engineer") -> httpx.Response:
            token = (monitor_settings.home / "tokens" / f"{who}.jwt").read_text().strip()
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://monitor") as client:
                return await client.get(f"/v1/monitors/{path}", headers={"authorization": f"Bearer {token}"})

        await say_logged(speaker("scorer"), records)

        async def there() -> dict[str, Any] | None:
            answer = await ask(f"{endpoint}/drift/segments")
            return answer.json() if answer.status_code == 200 and answer.json()["rows"] == 4_000 else None

        told = await eventually(there, within=40)
        groups = {each["group"]: each for each in told["groups"]}
        assert groups["1"]["rows"] == int((rows[:, 4] == 1).sum()) and told["windows"] >= 4
        first = groups["1"]["columns"][0]
        assert first["name"] == "c" and first["beyond"] and first["interval"][0] < first["effect"]
        assert [c["beyond"] for c in groups["0"]["columns"]] == [False] * 5
        assert groups[OTHER]["columns"] == [] and "fewer than 100 rows" in groups[OTHER]["why"]
        one = (await ask(f"{endpoint}/drift/segments?windows=1&limit=1")).json()
        assert one["windows"] == 1 and one["rows"] < 4_000

        answer = await ask(f"{plain}/drift/segments")
        assert answer.status_code == 409 and "no baseline with segments" in answer.text
        for query, named in (("windows=0", "windows"), ("limit=none", "limit")):
            answer = await ask(f"{endpoint}/drift/segments?{query}")
            assert answer.status_code == 422 and named in answer.text
        assert (await ask(f"{endpoint}/drift/segments", "other-unit")).status_code == 404
        assert (await ask(f"{endpoint}/drift/segments", "application")).status_code == 403
