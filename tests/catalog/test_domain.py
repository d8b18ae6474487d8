"""What the catalog decides, without I/O."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts import MonitorSettings, Training, ValueMatrix
from services.catalog import card, manifest
from services.catalog.domain import Granted, Manifest, Retraining, Serving
from services.catalog.lineage import Lineage
from services.catalog.magic import kind_of
from services.catalog.usecases import acting_unit
from services.kit.context import Caller
from services.kit.errors import Conflict, Forbidden, Invalid

from . import making

CENSUS = Path(__file__).parents[2] / "examples" / "census" / "fairlead.yaml"


def test_the_census_manifest_is_read_and_written_back_the_same() -> None:
    said = manifest.parse(CENSUS.read_bytes(), {})
    assert len(said.columns) == 16 and said.columns[15].protected and said.score == "probabilities"
    assert manifest.parse(manifest.dump(said), {}) == said


def test_form_fields_override_the_manifest() -> None:
    said = manifest.parse(CENSUS.read_bytes(), {"name": "other", "tags": ["mine"]})
    assert (said.name, said.tags, said.label) == ("other", ("mine",), "employed")


def test_a_manifest_says_how_its_endpoints_are_watched() -> None:
    text = WATCHED + b"{season_s: 86400, favourable: yes!, value_matrix: {true_positive: 12}, kpis: {hit: 'label'}}"
    said = manifest.parse(text, {})
    assert said.monitor and said.monitor.settings() == MonitorSettings(
        season_s=86_400, favourable="yes!", value_matrix=ValueMatrix(true_positive=12), kpis={"hit": "label"}
    )  # fmt: skip
    assert manifest.parse(manifest.dump(said), {}) == said


WATCHED = b"name: credit\nformat: onnx\nmodel: m.onnx\nmonitor: "
BAD_MANIFESTS = {
    b"": "mapping",
    b"- a": "mapping",
    b"name: [": "not readable YAML",
    b"name: a\nname: b": "twice",
    b"a: &a [x]\nb: [*a, *a]": "aliases",
    b"name: !!python/object/apply:os.system [id]": "not readable YAML",
    b"\xff\xfe\x00": "not readable YAML",
    b"[" * 5000: "nested too deeply",
    b"{a: " * 5000: "nested too deeply",
    b"".join(b"k%d: v\n" % index for index in range(50_000)) + b"k0: v": "k0 is there twice",
    b"name: " + b"x" * manifest.MAX_BYTES: "larger",
    b"name: Credit\nformat: onnx\nmodel: m.onnx": "name",
    b"name: credit\nformat: pickle\nmodel: m.onnx": "format",
    b"name: credit\nformat: onnx\nmodel: ../m.onnx": "model",
    b"name: credit\nformat: onnx\nmodel: m.onnx\nlable: x": "lable",
    b"name: credit\nformat: onnx\nmodel: m.onnx\ncolumns: [{name: A}, {name: A}]": "twice",
    b"name: credit\nformat: onnx\nmodel: m.onnx\ncolumns: [{name: A, minimum: 2, maximum: 1}]": "minimum",
    b"name: credit\nformat: onnx\nmodel: m.onnx\ncolumns: [{name: A, minimum: .nan}]": "minimum",
    b"name: credit\nformat: onnx\nmodel: m.onnx\ncolumns: [{name: A, kind: numeric, categories: [1]}]": "categories",
    b"name: credit\nformat: onnx\nmodel: m.onnx\nlabel: A\ncolumns: [{name: A}]": "label",
    b"name: credit\nformat: onnx\nmodel: m.onnx\nrecipe: /bin/sh": "recipe",
    b"name: credit\nformat: onnx\nmodel: m.onnx\nsegments: [a, b, c, d, e, f, g, h, i]": "segments",
    b"name: credit\nformat: onnx\nmodel: m.onnx\nsegments: age": "segments",
    WATCHED + b"often": "monitor",
    WATCHED + b"{budget: 5000}": "monitor.budget",
    WATCHED + b"{budget_rows: 10}": "monitor.budget_rows",
    WATCHED + b'{tolerance: "0.1"}': "monitor.tolerance",
    WATCHED + b"{season_s: 100, window_s: 10}": "monitor: season_s: .* 24 slots",
    WATCHED + b"{payload_sample: 0.1}": "monitor.payload_sample",
    WATCHED + b"{value_matrix: {true_postive: 1}}": "monitor.value_matrix.true_postive",
    WATCHED + b"{kpis: {profit: 'lable * 2'}}": "monitor.kpis.profit",
    WATCHED + b"{kpis: {profit: 'label +'}}": "monitor.kpis.profit",
    WATCHED + b"{rules: {Limit: {must: 'a > 1.0'}}}": "monitor.rules.Limit",
    WATCHED + b"{rules: {limit: {must: 'a > 1.0', tolerance: 1}}}": "monitor.rules.limit.tolerance",
    WATCHED + b"{rules: {limit: {when: 'a > 1.0'}}}": "monitor.rules.limit",
}


@pytest.mark.parametrize(("text", "named"), BAD_MANIFESTS.items())
def test_a_bad_manifest_is_refused_by_name(text: bytes, named: str) -> None:
    with pytest.raises(Invalid, match=named) as refused:
        manifest.parse(text, {})
    assert len(refused.value.message) < 1000


def test_of_a_huge_manifest_only_the_beginning_is_read(tmp_path: Path) -> None:
    with (tmp_path / "fairlead.yaml").open("wb") as file:
        file.truncate(256 * 1024 * 1024)
    tracemalloc.start()
    try:
        with pytest.raises(Invalid, match="larger"):
            manifest.read(tmp_path / "fairlead.yaml", {})
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_break_the_manifest_reader(data: bytes) -> None:
    with pytest.raises(Invalid):
        manifest.parse(data, {})


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner),
    )
)
def test_no_value_breaks_the_manifest_check(value: object) -> None:
    with pytest.raises(Invalid):
        manifest.validated(Manifest, {"columns": value, "name": value, "metrics": value})


MAGIC = {
    b"\x08\x08\x12\x08skl2onnx": "onnx",
    b"\x1f\x8b\x08": "gzip",
    b"\x80\x04\x95": "a pickle",
    b"\x89HDF\r\n\x1a\n": "Keras",
    b"GGUF": "GGUF",
    b"{}": "JSON",
    b"": "empty",
    b"hello": "no known format",
    b"\x08\x99\x12": "no known format",
}  # fmt: skip


@pytest.mark.parametrize(("head", "kind"), MAGIC.items())
def test_a_file_is_what_its_first_bytes_say(head: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(head)
    if kind in ("onnx", "zip", "gzip"):
        assert kind_of(path) == kind
    else:
        with pytest.raises(Invalid, match=kind):
            kind_of(path)


def test_a_scan_that_is_not_clean_makes_the_version_quarantined_and_still_a_fact() -> None:
    made = making.version(scan="suspicious")
    assert made.state == "quarantined"
    assert made.fact().scan.verdict == "suspicious"


def test_a_version_is_retired_once() -> None:
    retired = making.version().retire("engineer", "too old")
    assert (retired.state, retired.retired_by) == ("retired", "engineer")
    with pytest.raises(Conflict, match="before by engineer"):
        retired.retire("admin", "again")


def test_the_same_use_case_again_is_no_news_and_another_content_is_refused() -> None:
    assert making.use_case().again(making.use_case()) == making.use_case()
    with pytest.raises(Conflict):
        making.use_case().again(making.use_case(owner="Sales"))


@pytest.mark.parametrize("tier", [0, 5, True, "3", 2.0])
def test_risk_tiers_are_whole_numbers_from_1_to_4(tier: object) -> None:
    with pytest.raises(ValidationError):
        making.use_case(risk_tier=tier)


def test_a_unit_is_named_where_the_token_names_several() -> None:
    one = Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"}))
    all_ = Caller("admin", "person", frozenset({"admin"}), frozenset({"*"}))
    assert acting_unit(one, None) == acting_unit(all_, "retail") == "retail"
    with pytest.raises(Invalid, match="unit"):
        acting_unit(all_, None)
    with pytest.raises(Forbidden):
        acting_unit(one, "wealth")


def test_lineage_tells_data_parent_approval_endpoint_and_child() -> None:
    training = Training(rows=5, data_digest="sha256:" + "a" * 64, retraining_id="r1", parent_version=1)
    made = making.version(2, training=training)
    graph = Lineage.of(
        made,
        [Serving("limits", "credit-limits", 2, 5), Serving("old", "credit-limits", 1, 2)],
        [Granted("a1", "limits", 2, "compliance", making.THEN)],
        [
            Retraining("r1", 1, "candidate_won", 2, "sha256:" + "a" * 64, 5),
            Retraining("r2", 2, "champion_kept", None, None, 9),
        ],
    )
    told = {(edge.source, edge.kind, edge.target) for edge in graph.edges}
    assert told == {
        ("data:sha256:" + "a" * 64, "learned_from", "retraining:r1"),
        ("version:credit/1", "parent_of", "retraining:r1"),
        ("retraining:r1", "produced", "version:credit/2"),
        ("approval:a1", "allowed", "version:credit/2"),
        ("version:credit/2", "serves", "endpoint:limits"),
        ("version:credit/2", "parent_of", "retraining:r2"),
    }
    assert {node.id for node in graph.nodes} == {end for edge in told for end in (edge[0], edge[2])}


def test_a_lonely_version_is_a_graph_of_one() -> None:
    graph = Lineage.of(making.version(training=Training()), [], [], [])
    assert [node.id for node in graph.nodes] == ["version:credit/1"] and not graph.edges


def test_the_card_tells_facts_and_carries_no_markup_of_strangers() -> None:
    made = making.version(description="<script>alert(1)</script> [x](http://evil)", tags=["census"])
    text = card.markdown(made, ["limits"])
    assert "# credit, version 1" in text and "| AGEP | numeric | 0 …  |" in text and "| Serves | limits |" in text
    assert "<script>" not in text and "](http" not in text
