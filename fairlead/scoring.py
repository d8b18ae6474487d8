"""Scoring requests and answers in the terms of the Open Inference Protocol V2."""

from collections.abc import Mapping
from typing import Any

from .answers import Endpoint, ModelVersion, Scores
from .errors import Forbidden, Invalid
from .flows import part, read
from .wire import Flow


def model_path(endpoint: str, version: int | None) -> str:
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
    told = (metadata.get("parameters") or {}).get("columns") or []
    return [column["name"] if isinstance(column, dict) else str(column) for column in told]


def scores(answer: Mapping[str, Any]) -> Scores:
    return Scores(
        inference_id=answer["parameters"]["inference_id"],
        endpoint=answer["model_name"],
        version=int(answer["model_version"]),
        outputs={tensor["name"]: _by_row(tensor) for tensor in answer["outputs"]},
    )


def _by_row(tensor: Mapping[str, Any]) -> list[Any]:
    """A tensor's data row by row, whether it came flat or nested."""
    shape, data = tensor["shape"], tensor["data"]
    if len(shape) < 2 or (data and isinstance(data[0], list)):
        return list(data)
    width = len(data) // shape[0] if shape[0] else 0
    return [data[row * width : (row + 1) * width] for row in range(shape[0])]
