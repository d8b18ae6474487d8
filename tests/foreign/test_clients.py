"""Clients of the Open Inference Protocol that nobody wrote for us score at a live endpoint as their users would."""

from collections.abc import Callable

import numpy as np
import pytest

from .conftest import Target, Told

pytestmark = pytest.mark.timeout(600)

Ask = Callable[[str], Told]


@pytest.fixture(scope="module")
def triton(ask: Ask) -> Told:
    return ask("triton")


@pytest.fixture(scope="module")
def kserve(ask: Ask) -> Told:
    return ask("kserve")


def decided(answer: Told) -> list[int]:
    """What an answer says of each row: its first output."""
    return next(iter(answer["outputs"].values()))


def test_tritons_client_finds_the_server_and_the_endpoint_ready(triton: Told, target: Target) -> None:
    assert triton["live"] and triton["ready"] and triton["model_ready"]
    assert not triton["unknown_ready"]
    assert "binary_tensor_data" in triton["server"]["extensions"]
    assert triton["metadata"]["name"] == target.endpoint
    assert triton["metadata"]["inputs"][0] == {"name": "X", "datatype": "FP32", "shape": [-1, len(target.rows[0])]}
    assert target.endpoint in triton["index"]


def test_tritons_client_is_answered_the_same_in_json_and_in_binary_tensors(triton: Told, target: Target) -> None:
    assert len(triton["forms"]) == 4
    reference = triton["forms"]["json in, json out"]
    for form, answer in triton["forms"].items():
        assert (answer["id"], answer["model_name"]) == ("a-1", target.endpoint), form
        assert decided(answer) == target.labels, form
        for name, values in answer["outputs"].items():
            assert np.allclose(values, reference["outputs"][name]), (form, name)
    assert len({answer["inference_id"] for answer in triton["forms"].values()}) == 4


@pytest.mark.parametrize("way", ["plain", "gzip", "deflate", "by_name"])
def test_tritons_client_may_name_no_outputs_and_compress_and_name_columns(
    triton: Told, target: Target, way: str
) -> None:
    assert decided(triton[way]) == target.labels


def test_tritons_client_may_ask_for_one_row_and_for_many_at_once(triton: Told, target: Target) -> None:
    assert decided(triton["one_row"]) == target.labels[:1]
    assert [decided(answer) for answer in triton["at_once"]] == [target.labels] * 32
    assert len({answer["inference_id"] for answer in triton["at_once"]}) == 32


@pytest.mark.parametrize(
    ("what", "status", "sentence"),
    [
        ("unknown endpoint", "404", "no-such-endpoint"),
        ("no token", "401", "token"),
        ("wrong token", "401", "token"),
        ("wrong shape", "400", "X"),
        ("wrong datatype", "400", "BYTES"),
    ],
)
def test_tritons_client_can_read_a_refusal(triton: Told, what: str, status: str, sentence: str) -> None:
    refused = triton["refusals"][what]
    assert refused is not None, "it was answered"
    assert refused["status"] == status
    assert sentence in refused["message"]
    assert "decoding the response" not in refused["message"]


def test_kserves_client_finds_the_server_and_the_endpoint_ready(kserve: Told) -> None:
    assert kserve["live"] and kserve["ready"] and kserve["model_ready"]


def test_kserves_client_is_answered_the_same_in_json_and_in_binary_tensors(kserve: Told, target: Target) -> None:
    for form, answer in kserve["forms"].items():
        assert (answer["id"], answer["model_name"]) == ("b-1", target.endpoint), form
        assert decided(answer) == target.labels, form
        for name, values in answer["outputs"].items():
            assert np.allclose(values, kserve["forms"]["json"]["outputs"][name]), (form, name)
    assert decided(kserve["one_row"]) == target.labels[:1]


@pytest.mark.parametrize(
    ("what", "status"), [("unknown endpoint", "404"), ("no token", "401"), ("wrong shape", "400"), ("no inputs", "400")]
)
def test_kserves_client_is_refused_with_the_status_that_says_why(kserve: Told, what: str, status: str) -> None:
    refused = kserve["refusals"][what]
    assert refused is not None, "it was answered"
    assert refused["status"] == status


def test_both_clients_read_the_same_scores(triton: Told, kserve: Told) -> None:
    ours, theirs = triton["forms"]["binary in, binary out"]["outputs"], kserve["forms"]["binary"]["outputs"]
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert np.allclose(theirs[name], ours[name])
