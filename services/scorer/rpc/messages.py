"""The messages and calls of V2's gRPC service, as the protocol names and numbers them.

Open Inference Protocol V2, `inference.GRPCInferenceService`; built here from one table, so no code is generated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
CALLS = (
    "ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer", "RepositoryIndex",
)  # fmt: skip

Fields = Sequence[tuple[str, int, str]]
"""Name, number, type; `[]` before the type: repeated; `{}`: a map from strings."""

_NAMED = (("name", 1, "string"), ("version", 2, "string"))
_TENSOR = (
    ("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "[]int64"), ("parameters", 4, "{}InferParameter"),
    ("contents", 5, "InferTensorContents"),
)  # fmt: skip
_ASKED = (
    ("model_name", 1, "string"), ("model_version", 2, "string"), ("id", 3, "string"),
    ("parameters", 4, "{}InferParameter"),
)  # fmt: skip
_MESSAGES: Mapping[str, Fields] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": (("live", 1, "bool"),),
    "ServerReadyRequest": (),
    "ServerReadyResponse": (("ready", 1, "bool"),),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (*_NAMED, ("extensions", 3, "[]string")),
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": (("ready", 1, "bool"),),
    "ModelMetadataRequest": _NAMED,
    "ModelMetadataResponse": (
        ("name", 1, "string"), ("versions", 2, "[]string"), ("platform", 3, "string"),
        ("inputs", 4, "[]ModelMetadataResponse.TensorMetadata"),
        ("outputs", 5, "[]ModelMetadataResponse.TensorMetadata"),
    ),
    "ModelMetadataResponse.TensorMetadata": (("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "[]int64")),
    "InferParameter": (
        ("bool_param", 1, "bool"), ("int64_param", 2, "int64"), ("string_param", 3, "string"),
        ("double_param", 4, "double"), ("uint64_param", 5, "uint64"),
    ),
    "InferTensorContents": (
        ("bool_contents", 1, "[]bool"), ("int_contents", 2, "[]int32"), ("int64_contents", 3, "[]int64"),
        ("uint_contents", 4, "[]uint32"), ("uint64_contents", 5, "[]uint64"), ("fp32_contents", 6, "[]float"),
        ("fp64_contents", 7, "[]double"), ("bytes_contents", 8, "[]bytes"),
    ),
    "ModelInferRequest": (
        *_ASKED, ("inputs", 5, "[]ModelInferRequest.InferInputTensor"),
        ("outputs", 6, "[]ModelInferRequest.InferRequestedOutputTensor"), ("raw_input_contents", 7, "[]bytes"),
    ),
    "ModelInferRequest.InferInputTensor": _TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": (("name", 1, "string"), ("parameters", 2, "{}InferParameter")),
    "ModelInferResponse": (
        *_ASKED, ("outputs", 5, "[]ModelInferResponse.InferOutputTensor"), ("raw_output_contents", 6, "[]bytes"),
    ),
    "ModelInferResponse.InferOutputTensor": _TENSOR,
    "RepositoryIndexRequest": (("repository_name", 1, "string"), ("ready", 2, "bool")),
    "RepositoryIndexResponse": (("models", 1, "[]RepositoryIndexResponse.ModelIndex"),),
    "RepositoryIndexResponse.ModelIndex": (
        ("name", 1, "string"), ("version", 2, "string"), ("state", 3, "string"), ("reason", 4, "string"),
    ),
}  # fmt: skip
_ONE_OF = {"InferParameter": "parameter_choice"}
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {name: getattr(_FIELD, f"TYPE_{name.upper()}") for name in
            ("string", "bool", "int32", "int64", "uint32", "uint64", "float", "double", "bytes")}  # fmt: skip


def _described() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="fairlead/inference.proto", package="inference", syntax="proto3")
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name in sorted(_MESSAGES, key=lambda each: each.count(".")):
        outer, _, own = name.rpartition(".")
        made[name] = (made[outer].nested_type if outer else file.message_type).add(name=own)
    for name, fields in _MESSAGES.items():
        if choice := _ONE_OF.get(name):
            made[name].oneof_decl.add(name=choice)
        for field in fields:
            _add(made[name], *field, one_of=name in _ONE_OF, within=name)
    return file


def _add(
    message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str, *, one_of: bool, within: str
) -> None:
    field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
    if kind.startswith(("[]", "{}")):
        field.label = _FIELD.LABEL_REPEATED
    if one_of:
        field.oneof_index = 0
    plain = kind.lstrip("[]{}")
    if kind.startswith("{}"):
        entry = "".join(part.capitalize() for part in name.split("_")) + "Entry"
        pair = message.nested_type.add(name=entry)
        pair.options.map_entry = True
        _add(pair, "key", 1, "string", one_of=False, within=within)
        _add(pair, "value", 2, plain, one_of=False, within=within)
        plain = f"{within}.{entry}"
    if plain in _SCALARS:
        field.type = _SCALARS[plain]
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".inference.{plain}"


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_described())


def message(name: str) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"inference.{name}"))
