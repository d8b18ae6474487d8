"""The scorer's OpenAPI document: written by hand, since its routes are bare ASGI."""

from typing import Any

from services.kit.openapi import TAKES_KEY, Problem

_ENDPOINT = {"name": "endpoint", "in": "path", "required": True, "schema": {"type": "string"}}
_NUMBER = {"type": "integer", "minimum": 1}
_VERSION = {"name": "version", "in": "path", "required": True, "schema": _NUMBER}
_ERROR = {
    "description": "What is wrong, naming the tensor or the column",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}

_PROBLEM = {
    "description": "Refused: `detail` says why",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_BATCH = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
_FILE = {"schema": {"type": "string", "format": "binary"}}

_PLACE = {"type": "object", "properties": {"connection": {"type": "string"}, "path": {"type": "string"}}}

BATCH_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["endpoint", "file"],
                "properties": {
                    "endpoint": {"type": "string"},
                    "file": {"type": "string", "format": "binary"},
                    "version": _NUMBER,
                },
            }
        },
        "application/vnd.apache.parquet": _FILE,
        "text/csv": _FILE,
        "application/x-ndjson": _FILE,
        "application/vnd.apache.arrow.file": _FILE,
        "application/vnd.apache.arrow.stream": _FILE,
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["endpoint"],
                "properties": {
                    "endpoint": {"type": "string"},
                    "version": _NUMBER,
                    "rows": {"type": "array", "minItems": 1, "items": {"type": "object"}},
                    "input": _PLACE,
                    "output": _PLACE,
                },
            }
        },
    },
}
"""A file to score: in a form, as the body itself (then with `?endpoint=`), or a few rows as JSON."""

BATCH_QUERY: list[dict[str, Any]] = [
    {
        "name": name,
        "in": "query",
        "required": False,
        "schema": schema,
        "description": f"Where the file is the body: {said}",
    }
    for name, schema, said in (
        ("endpoint", {"type": "string"}, "the endpoint to score at"),
        ("file_name", {"type": "string"}, "what to call it"),
        ("version", _NUMBER, "the endpoint's version to ask; else its champion"),
    )
]

_SCHEMAS: dict[str, Any] = {
    "Problem": Problem.model_json_schema(),
    "Any": {},
    "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    "Tensor": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        },
    },
    "ExplanationAsk": {
        "type": "object",
        "required": ["inference_id"],
        "additionalProperties": False,
        "properties": {
            "inference_id": {"type": "string", "minLength": 1, "maxLength": 100},
            "row": {"type": "integer", "minimum": 0, "exclusiveMaximum": 1000, "default": 0},
            "immutable": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 200}},
            "budget_s": {"type": "number", "exclusiveMinimum": 0, "maximum": 30, "default": 5},
        },
    },
    "Explanation": {
        "type": "object",
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "method": {"enum": ["trees", "linear", "exact", "sampled"]},
            "scale": {"enum": ["probability", "log-odds", "value"]},
            "output": {"type": "string"},
            "base": {"type": "number"},
            "value": {"type": "number"},
            "contributions": {"type": "array", "items": {"type": "object"}},
            "counterfactual": {"type": ["array", "null"], "items": {"type": "object"}},
        },
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "outputs": {"type": "array", "items": {"type": "object"}},
        },
    },
    "InferResponse": {
        "type": "object",
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": {"type": "object", "properties": {"inference_id": {"type": "string"}}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        },
    },
}


_TIMEOUT: dict[str, Any] = {
    "name": "Fairlead-Timeout", "in": "header", "required": False,
    "schema": {"type": "number", "exclusiveMinimum": 0},
    "description": "Seconds that the request may wait for its model; then 504",
}  # fmt: skip


def _operation(summary: str, *parameters: dict[str, Any], takes: str = "", gives: str = "Any") -> dict[str, Any]:
    def content(name: str) -> dict[str, Any]:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    said: dict[str, Any] = {
        "summary": summary,
        "parameters": list(parameters),
        "responses": {"200": {"description": "Done", "content": content(gives)}, "4XX": _ERROR, "503": _ERROR},
    }
    return said | ({"requestBody": {"required": True, "content": content(takes)}} if takes else {})


def _batches() -> dict[str, Any]:
    """As the service behind the workers does them."""

    def told(summary: str, *parameters: dict[str, Any], takes: str = "") -> dict[str, Any]:
        said = _operation(summary, *parameters, takes=takes)
        return said | {"responses": said["responses"] | {"4XX": _PROBLEM, "503": _PROBLEM}}

    submit = told("Score a file", *BATCH_QUERY, *TAKES_KEY["parameters"]) | {"requestBody": BATCH_BODY}
    submit["responses"]["202"] = submit["responses"].pop("200")
    result = told("The result as Parquet", _BATCH)
    result["responses"]["200"] = {"description": "Done", "content": {"application/vnd.apache.parquet": _FILE}}
    return {
        "/v1/batches/schedules": {
            "post": told("Score at times, or files that arrive", takes="Any"),
            "get": told("Schedules, the newest first"),
        },
        "/v1/batches/schedules/{id}": {
            "get": told("A schedule and its latest runs", _BATCH),
            "delete": told("End a schedule", _BATCH),
        },
        "/v1/batches/schedules/{id}/pause": {"post": told("Pause a schedule", _BATCH)},
        "/v1/batches/schedules/{id}/resume": {"post": told("Go on with a schedule", _BATCH)},
        "/v1/batches": {"post": submit, "get": told("Batches, the newest first")},
        "/v1/batches/{id}": {"get": told("How far a batch is", _BATCH)},
        "/v1/batches/{id}/cancel": {"post": told("Score no more of a batch", _BATCH)},
        "/v1/batches/{id}/result": {"get": result},
    }


def _explanations() -> dict[str, Any]:
    """As the service behind the workers makes them."""

    def told(summary: str, *parameters: dict[str, Any], takes: str = "", gives: str = "Explanation") -> dict[str, Any]:
        said = _operation(summary, *parameters, takes=takes, gives=gives)
        return said | {"responses": said["responses"] | {"4XX": _PROBLEM, "503": _PROBLEM}}

    explain = told("Explain a decision", *TAKES_KEY["parameters"], takes="ExplanationAsk")
    explain["responses"]["201"] = explain["responses"].pop("200")
    of = {"name": "inference_id", "in": "query", "required": True, "schema": {"type": "string", "maxLength": 100}}
    return {
        "/v1/explanations": {"post": explain, "get": told("Explanations of a decision", of, gives="Any")},
        "/v1/explanations/{id}": {"get": told("An explanation that was made before", _BATCH)},
    }


def _imports() -> dict[str, Any]:
    """As the service behind the workers takes them."""

    def told(summary: str, *parameters: dict[str, Any], takes: str = "") -> dict[str, Any]:
        said = _operation(summary, *parameters, takes=takes, gives="Any")
        return said | {"responses": said["responses"] | {"4XX": _PROBLEM, "503": _PROBLEM}}

    half, version = (
        "One half of an inference, as KServe's logger sends it",
        _VERSION | {"in": "query", "required": False},
    )
    return {
        "/v1/inferences/kserve": {"post": told(half, version, takes="Any")},
        "/v1/inferences/kserve/{endpoint}": {
            "post": told(half, _ENDPOINT, version, takes="Any"),
            "get": told("How the halves of an endpoint fared", _ENDPOINT),
        },
    }


def document(version: str) -> dict[str, Any]:
    """Open Inference Protocol V2, MLflow's protocol, batches, explanations and imports."""
    infer = _operation("Score rows", _ENDPOINT, _TIMEOUT, takes="InferRequest", gives="InferResponse")
    invoke = _operation("Score rows as MLflow clients do", _ENDPOINT, _TIMEOUT, takes="Any")
    for scoring in (infer, invoke):
        scoring["responses"]["504"] = _ERROR
    invoke["requestBody"]["content"]["text/csv"] = _FILE
    model, one = "/v2/models/{endpoint}", "/v2/models/{endpoint}/versions/{version}"
    return {
        "openapi": "3.1.0",
        "info": {"title": "Fairlead scorer", "version": version},
        "security": [{"bearer": []}],
        "paths": {
            "/v2": {"get": _operation("What this server can do")},
            "/v2/health/live": {"get": _operation("Whether the process answers")},
            "/v2/health/ready": {"get": _operation("Whether it serves what it should")},
            model: {"get": _operation("An endpoint's tensors", _ENDPOINT)},
            f"{model}/ready": {"get": _operation("Whether an endpoint answers: else 503 with the reason", _ENDPOINT)},
            f"{model}/infer": {"post": infer},
            one: {"get": _operation("A version's tensors", _ENDPOINT, _VERSION)},
            f"{one}/ready": {
                "get": _operation("Whether a version answers: else 503 with the reason", _ENDPOINT, _VERSION)
            },
            f"{one}/infer": {"post": infer | {"parameters": [_ENDPOINT, _VERSION, _TIMEOUT]}},
            "/v2/repository/index": {"post": _operation("What the caller can use, its state, and why it is not ready")},
            "/invocations/{endpoint}": {"post": invoke},
            "/v1/models/{endpoint}:predict": {"post": invoke},
            "/v1/models": {"get": _operation("The endpoints that the caller can use, by their names")},
            "/v1/models/{endpoint}": {
                "get": _operation("Whether an endpoint answers: else 503 with the reason", _ENDPOINT)
            },
            **_batches(),
            **_explanations(),
            **_imports(),
        },
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": _SCHEMAS,
        },
    }
