"""What running an ONNX graph may take, read out of its bytes: whether that is bounded by the shapes of what goes in.

In a process that others need, a graph is run only where every operator's work and output follow from the shapes of its
inputs. A loop, or a tensor as large as a number in the request says, is for the sandbox, which has a deadline and a
bound on memory. The list names what may: an operator that comes later is strange until somebody has looked at it.
"""

from collections.abc import Collection, Iterable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_BY_ELEMENT = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil
    Celu Clip Cos Cosh DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Floor Gelu Greater
    GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish
    Mod Mul Neg Not Or PRelu Pow QuantizeLinear Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus
    Softsign Sqrt Sub Sum Tan Tanh ThresholdedRelu Where Xor
"""
_OF_A_WHOLE = """
    ArgMax ArgMin BatchNormalization CumSum Gemm Hardmax LayerNormalization LogSoftmax LpNormalization MatMul
    MatMulInteger MeanVarianceNormalization ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare Softmax
"""
_OF_NETWORKS = """
    AveragePool Conv ConvInteger ConvTranspose DepthToSpace GRU GlobalAveragePool GlobalLpPool GlobalMaxPool
    GroupNormalization InstanceNormalization LRN LSTM LpPool MaxPool QLinearConv QLinearMatMul RMSNormalization RNN
    SpaceToDepth
"""
"""What they do beyond the shapes of their inputs (strides, edges, directions) stands in the graph, and the catalog has
run it within bounds."""
_NO_LARGER = """
    Compress Concat Constant Flatten Gather GatherElements GatherND NonZero Reshape ScatterElements ScatterND
    Shape Size Slice Split Squeeze StringNormalizer TfIdfVectorizer TopK Transpose Trilu Unsqueeze
"""
"""Than what goes in together: whatever the numbers say, they choose among elements that are there."""
_BRANCHING = "If"
"""One of two graphs, which are looked at as well."""
_OF_TABLES = """
    ArrayFeatureExtractor Binarizer CategoryMapper DictVectorizer FeatureVectorizer Imputer LabelEncoder
    LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble
    TreeEnsembleClassifier TreeEnsembleRegressor ZipMap
"""
_BOUNDED = frozenset(
    [("", name) for name in f"{_BY_ELEMENT} {_OF_A_WHOLE} {_OF_NETWORKS} {_NO_LARGER} {_BRANCHING}".split()]
    + [("ai.onnx.ml", name) for name in _OF_TABLES.split()]
)
_SIZED = {"ConstantOfShape": (0,), "Expand": (1,), "OneHot": (1,), "Pad": (1,), "Range": (0, 1, 2), "Tile": (1,)}
"""As large as these inputs say: bounded where they are constants, as the catalog has run the model within bounds."""

# Of onnx.proto, what is looked at. Names are bytes: what is no UTF-8 is found strange, and not an error.
_FIELDS = {
    "Model": (("graph", 7, "Graph"), ("functions", 25, "[]Function")),
    "Graph": (
        ("node", 1, "[]Node"), ("initializer", 5, "[]Tensor"), ("input", 11, "[]Value"),
    ),
    "Function": (("name", 1, "bytes"),),
    "Node": (
        ("input", 1, "[]bytes"), ("output", 2, "[]bytes"), ("op_type", 4, "bytes"), ("attribute", 5, "[]Attribute"),
        ("domain", 7, "bytes"),
    ),
    "Attribute": (("g", 6, "Graph"), ("graphs", 11, "[]Graph")),
    "Tensor": (("name", 8, "bytes"),),
    "Value": (("name", 1, "bytes"),),
}  # fmt: skip


def unbounded(model: bytes) -> str:
    """The operator for which a model needs the sandbox; empty where every one's work is bounded by the shapes of its
    inputs. Bytes that cannot be read are not; nor is a function of the model's own, whatever it does: the runtime takes
    it for an operator only where it knows none of that name, and which it knows is the runtime's to say."""
    try:
        said = _model().FromString(model)
    except DecodeError:
        return "a part that cannot be read"
    if said.functions:
        return f"function {_text(said.functions[0].name)[:80]}"
    return _of_graph(said.graph, frozenset())


def _of_graph(graph: Any, around: frozenset[bytes]) -> str:
    given = {each.name for each in graph.input}
    return _within(graph.node, (around | {each.name for each in graph.initializer}) - given)


def _within(nodes: Iterable[Any], constants: frozenset[bytes]) -> str:
    nodes = list(nodes)
    made = [name for node in nodes if node.op_type == b"Constant" and not node.domain for name in node.output]
    constants |= frozenset(made)
    for node in nodes:
        place = _domain(node.domain), _text(node.op_type)
        if place not in _BOUNDED and not _is_sized_by(node, place, constants):
            return place[1][:80]
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                if found := _of_graph(graph, constants):
                    return found
    return ""


def _is_sized_by(node: Any, place: tuple[str, str], constants: Collection[bytes]) -> bool:
    domain, name = place
    if domain or name not in _SIZED:
        return False
    return all(node.input[at] in constants for at in _SIZED[name] if at < len(node.input))


def _domain(said: bytes) -> str:
    return "" if said == b"ai.onnx" else _text(said)


def _text(said: bytes) -> str:
    return said.decode(errors="replace")


def _described() -> descriptor_pb2.FileDescriptorProto:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="fairlead/onnx.proto", package="graph", syntax="proto3")
    for message, fields in _FIELDS.items():
        made = file.message_type.add(name=message)
        for name, number, kind in fields:
            label = field.LABEL_REPEATED if kind.startswith("[]") else field.LABEL_OPTIONAL
            plain = kind.removeprefix("[]")
            if plain == "bytes":
                made.field.add(name=name, number=number, label=label, type=field.TYPE_BYTES)
            else:
                made.field.add(
                    name=name, number=number, label=label, type=field.TYPE_MESSAGE, type_name=f".graph.{plain}"
                )
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_described())


def _model() -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName("graph.Model"))
