"""The OpenAPI document of every service says what the service does."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from services.kit.service import router
from services.scorer.openapi import document as scorer_document

from .conftest import Edge
from .test_odd_input import filled, operations

PROBLEM = "application/problem+json"
WITHOUT_TOKEN = ("/.well-known/",)


def check_document(document: dict[str, Any]) -> None:
    """What a validator of OpenAPI 3.1 looks for first."""
    assert document["openapi"].startswith("3.1")
    assert set(document["info"]) >= {"title", "version"}
    named = [o["operationId"] for o in _operations(document) if "operationId" in o]
    assert len(named) == len(set(named))
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in _references(document):
        _resolved(document, reference)
    for path, methods in document["paths"].items():
        wanted = set(re.findall(r"{(\w+)}", path))
        for operation in methods.values():
            parameters = operation.get("parameters", [])
            assert {p["name"] for p in parameters if p["in"] == "path"} == wanted, path
            assert len({(p["in"], p["name"].lower()) for p in parameters}) == len(parameters), path
            assert operation["responses"] and all(r["description"] for r in operation["responses"].values()), path


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)


def _resolved(document: dict[str, Any], reference: str) -> Any:
    node: Any = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def validator(document: dict[str, Any], response: dict[str, Any], kind: str) -> jsonschema.Draft202012Validator:
    schema = response["content"][kind]["schema"]
    return jsonschema.Draft202012Validator({**schema, "components": document["components"]})


async def test_a_document_is_sound(edge: Edge) -> None:
    check_document(edge.document)


def test_the_scorers_own_document_is_sound() -> None:
    check_document(scorer_document("1"))


async def test_a_refusal_is_as_the_document_says(edge: Edge) -> None:
    token = edge.http.headers["authorization"]
    for method, path, operation in operations(edge):
        if not operation.get("security") or path == "/v1/events":
            continue
        for authorization in ("Bearer wrong", token):
            headers = {"authorization": authorization, "content-type": "application/json"}
            answer = await edge.http.request(method, filled(path, "é"), content=b"{", headers=headers)
            if answer.is_success:
                continue
            told = operation["responses"][f"{answer.status_code // 100}XX"]
            validator(edge.document, told, answer.headers["content-type"]).validate(answer.json())


async def test_no_document_tells_of_errors_that_nobody_sends(edge: Edge) -> None:
    assert "HTTPValidationError" not in edge.document["components"]["schemas"]
    for _, path, operation in operations(edge):
        assert "422" not in operation["responses"], path
        assert set(operation["responses"]["4XX"]["content"]) == {PROBLEM}


async def test_a_document_says_which_operations_take_a_token(edge: Edge) -> None:
    assert edge.document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    del edge.http.headers["authorization"]
    for method, path, operation in operations(edge):
        if path.startswith(WITHOUT_TOKEN):
            assert "security" not in operation
            continue
        assert operation["security"] == [{"bearer": []}], path
        assert (await edge.http.request(method, filled(path))).status_code in (401, 422), path


async def test_a_document_says_which_writes_take_an_idempotency_key(edge: Edge) -> None:
    for method, path, operation in operations(edge):
        named = [p for p in operation.get("parameters", []) if p["name"] == "Idempotency-Key"]
        if method == "GET" or path == "/v1/dead-letters/replay":  # a replay has no second effect anyway
            assert not named, path
        else:
            assert [p["in"] for p in named] == ["header"], path


@pytest.mark.parametrize("path", ["/v1/models", "/v1/batches"])
async def test_an_upload_is_told_as_a_form(edge: Edge, path: str) -> None:
    if post := edge.document["paths"].get(path, {}).get("post"):
        form = post["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert form["required"] and form["properties"][form["required"][-1]]["format"] == "binary"


def test_the_scorers_own_document_tells_of_batches_as_their_service_does() -> None:
    paths = scorer_document("1")["paths"]
    post = paths["/v1/batches"]["post"]
    assert {"multipart/form-data", "application/json", "application/vnd.apache.parquet"} <= set(
        post["requestBody"]["content"]
    )
    assert PROBLEM in post["responses"]["4XX"]["content"]
    assert "application/json" in paths["/v2/models/{endpoint}/infer"]["post"]["responses"]["4XX"]["content"]
    assert "/v1/batches/{id}/result" in paths


def test_a_router_of_the_kit_takes_a_key_on_writes_alone() -> None:
    made = router()
    made.add_api_route("/things", lambda: None, methods=["GET"])
    made.add_api_route("/things", lambda: None, methods=["PUT"])
    assert [bool(route.openapi_extra) for route in made.routes] == [False, True]  # pyright: ignore
