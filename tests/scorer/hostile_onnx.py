"""ONNX models behind the classifier's schema whose inputs, not their shapes, say what they take."""

import numpy as np
from onnx import FunctionProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper


def _value(name: str, kind: int, shape: list[int | None]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _counting() -> GraphProto:
    """A loop's body: once more."""
    return helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["goes_on_too"]), helper.make_node("Add", ["sum", "one"], ["more"])],
        "body",
        [_value("turn", TensorProto.INT64, []), _value("goes_on", TensorProto.BOOL, []),
         _value("sum", TensorProto.FLOAT, [1])],
        [_value("goes_on_too", TensorProto.BOOL, []), _value("more", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )  # fmt: skip


def _model(nodes: list[NodeProto], *functions: FunctionProto) -> bytes:
    """`nodes` make `taken`, shape [1], of `count`: the largest number of the request, a whole number, at least 1."""
    given = {
        "first": np.array(1.0, np.float32), "true": np.array(True), "zero": np.zeros(1, np.float32),
        "axis": np.array([1]), "start": np.array([0]), "zeros": np.zeros((3, 2), np.float32), "flat": np.array([1]),
        "endless": np.array(2**62),
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["X"], ["largest"], keepdims=0),
            helper.make_node("Max", ["largest", "first"], ["positive"]),
            helper.make_node("Cast", ["positive"], ["count"], to=TensorProto.INT64),
            *nodes,
            helper.make_node("Mul", ["taken", "zero"], ["nothing"]),
            helper.make_node("ReduceSum", ["X", "axis"], ["sum"], keepdims=0),
            helper.make_node("Add", ["sum", "nothing"], ["said"]),
            helper.make_node("Cast", ["said"], ["label"], to=TensorProto.INT64),
            helper.make_node("MatMul", ["X", "zeros"], ["probabilities"]),
        ],
        "hostile",
        [_value("X", TensorProto.FLOAT, [None, 3])],
        [_value("label", TensorProto.INT64, [None]), _value("probabilities", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(values, name) for name, values in given.items()],
    )
    sets = {domain: 18 if domain in ("", "ai.onnx") else 1 for domain in ("", *(each.domain for each in functions))}
    opsets = [helper.make_opsetid(domain, version) for domain, version in sets.items()]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=9).SerializeToString()


def looping() -> bytes:
    """As many turns as the request says."""
    return _model([helper.make_node("Loop", ["count", "true", "zero"], ["taken"], body=_counting())])


def endless() -> bytes:
    """It never ends, whatever the request says."""
    return _model([helper.make_node("Loop", ["endless", "true", "zero"], ["taken"], body=_counting())])


def hungry() -> bytes:
    """As many numbers as the request says."""
    return _model([
        helper.make_node("Reshape", ["count", "flat"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["much"]),
        helper.make_node("ReduceSum", ["much", "start"], ["taken"], keepdims=1),
    ])  # fmt: skip


def disguised(domain: str = "") -> bytes:
    """As `hungry`, with a harmless function under the name of the operator: the runtime runs the operator."""
    harmless = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    sets = [helper.make_opsetid("", 18)]
    return _model(
        [
            helper.make_node("Reshape", ["count", "flat"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["much"], domain=domain),
            helper.make_node("ReduceSum", ["much", "start"], ["taken"], keepdims=1),
        ],
        helper.make_function(domain, "ConstantOfShape", ["x"], ["y"], [harmless], sets),
    )


def composed() -> bytes:
    """No hostile one: a function of its own, as PyTorch's exporter leaves them."""
    domain, sets = "pkg.onnxscript.torch_lib", [helper.make_opsetid("", 18)]
    nothing = helper.make_node("Sub", ["x", "x"], ["y"])
    flat = helper.make_node("Reshape", ["positive", "flat"], ["one"])
    return _model(
        [flat, helper.make_node("aten_sub", ["one"], ["taken"], domain=domain)],
        helper.make_function(domain, "aten_sub", ["x"], ["y"], [nothing], sets),
    )
