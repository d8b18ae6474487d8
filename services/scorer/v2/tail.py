"""The bytes behind the JSON part of a request, as the binary extension has them: which tensor claims which of them."""

from typing import Any

from contracts import TensorSpec

from .errors import BadInput, called


def split(body: bytes, json_length: int | None) -> tuple[bytes, memoryview | None]:
    """The JSON part, and what follows it: None where the extension was not spoken. Raises BadInput."""
    if json_length is None:
        return body, None
    if not 0 < json_length <= len(body):
        raise BadInput("Inference-Header-Content-Length is not within the body")
    return body[:json_length], memoryview(body)[json_length:]


def refuse_rest(tail: memoryview | None, at: int) -> None:
    """Raises BadInput where bytes are left that no tensor claimed."""
    if tail is not None and at != len(tail):
        raise BadInput(f"{len(tail) - at} bytes follow the JSON part that no tensor claims")


def piece(spec: TensorSpec, one: dict[str, Any], size: object, tail: memoryview | None, at: int) -> memoryview:
    """The next bytes of a request, of the size that a tensor states. Raises BadInput."""
    name = called(spec.name)
    if type(size) is not int or size < 0:
        raise BadInput(f"tensor {name}: `binary_data_size` must be a whole number", spec.name)
    if "data" in one:
        raise BadInput(f"tensor {name} has both `data` and `binary_data_size`", spec.name)
    if tail is None:
        raise BadInput(f"tensor {name} is binary, but there is no header Inference-Header-Content-Length", spec.name)
    if at + size > len(tail):
        raise BadInput(f"tensor {name} claims {size} bytes, {len(tail) - at} are left", spec.name)
    return tail[at : at + size]
