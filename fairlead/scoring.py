"""Scoring requests and answers in the terms of the Open Inference Protocol V2."""

from collections.abc import Mapping
from typing import Any

import httpx

from .answers import Endpoint, ModelVersion, Scores
from .errors import Failed, Forbidden, Invalid
from .flows import part, read
from .rows import InputSpec, Signature
from .wire import Flow


def model_path(endpoint: str, version: int | None) -> str:
    """Where an endpoint, or one version behind it, answers. Raises `Invalid` for what is no name."""
    path = f"/v2/models/{part(endpoint)}"
    return path if version is None else f"{path}/versions/{version}"


def catalog_columns(endpoint: str, version: int | None) -> Flow[tuple[str, ...]]:
    """The columns by name, where the scorer's metadata does not tell them."""
    try:
        serving = yield from read(Endpoint, f"/v1/endpoints/{part(endpoint)}")
        number = version or serving.version
        found = yield from read(ModelVersion, f"/v1/models/{part(serving.model or '')}/versions/{number}")
    except Forbidden as error:
        raise Invalid(
            "rows: the endpoint takes a matrix, and this token may not read its column names; "
            "give lists or an array in the matrix's order",
            field="rows",
        ) from error
    return tuple(column.name for column in found.model_schema.columns) if found.model_schema else ()


def columns(metadata: Mapping[str, Any]) -> list[str]:
    """The names of the columns of a matrix, as an endpoint's metadata tells them; empty where it does not."""
    told = (metadata.get("parameters") or {}).get("columns") or []
    return [column["name"] if isinstance(column, dict) else str(column) for column in told]


def signature_of(answer: httpx.Response) -> Signature:
    """What an endpoint's metadata says it takes. Raises `Failed` for an answer of something else."""
    try:
        metadata = answer.json()
        inputs = tuple(InputSpec(i["name"], i["datatype"], tuple(i["shape"])) for i in metadata["inputs"])
        nullable = frozenset(map(str, (metadata.get("parameters") or {}).get("nullable") or []))
        return Signature(inputs, tuple(columns(metadata)), nullable)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _no_scorer(answer) from error


def scores(answer: httpx.Response) -> Scores:
    """What was decided, row by row. Raises `Failed` for an answer of something else."""
    try:
        said = answer.json()
        return Scores(
            inference_id=said["parameters"]["inference_id"],
            endpoint=said["model_name"],
            version=int(said["model_version"]),
            variant=said["parameters"].get("variant"),
            outputs={tensor["name"]: _by_row(tensor) for tensor in said["outputs"]},
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _no_scorer(answer) from error


def _no_scorer(answer: httpx.Response) -> Failed:
    url = answer.request.url
    return Failed(f"what answers at {url} does not speak the Open Inference Protocol", status=answer.status_code)


def _by_row(tensor: Mapping[str, Any]) -> list[Any]:
    """A tensor's data row by row, whether it came flat or nested."""
    shape, data = tensor["shape"], tensor["data"]
    if len(shape) < 2 or (data and isinstance(data[0], list)):
        return list(data)
    width = len(data) // shape[0] if shape[0] else 0
    return [data[row * width : (row + 1) * width] for row in range(shape[0])]
