"""Half precision: the convolutions of a model but the first, and what lies between them, in float16.

What comes up to the first convolution stays float32, because half precision has no room for a noise level:
the variances that the Anscombe transform adds up at base ISO (shot 1e-5 squared, read 1e-8) lie below its
smallest number, 6e-8, and the planes that come out of it reach hundreds, of which the first convolution
takes differences. What follows the last one stays too: there the residual is added to the input, which
half precision would round to four steps of a 14-bit raw. ONNX Runtime's own converter
(`onnxruntime.transformers.float16`) rounds inputs and outputs even where it leaves them float32. So the
pipeline feeds and reads the same as before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BOUND = 64.0
"""Features are cut at this magnitude on their way into float16, whose largest number is 65504. At the noise
levels of training none is larger, at the scale that an export gives them (a 64th of planes that reach
hundreds); far below them (an artificial picture without noise) the layers behind it would overflow."""
_BOUNDS = (("half_low", -BOUND), ("half_high", BOUND))
_STAYS_FLOAT = {"Resize": (1, 2)}
"""Operator -> inputs that are float32 whatever the type of the data."""


def to_half(model: Any) -> Any:
    """A copy of an ONNX model: float16 behind its first convolution, up to its last; float32 in and out."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    named = onnx.ModelProto()
    named.CopyFrom(model)
    _name_the_end(named.graph)
    model = onnx.shape_inference.infer_shapes(named, strict_mode=True)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    half = _between_convolutions(graph.node, weights)
    made_half = {name for index in half for name in graph.node[index].output}
    floats = {
        value.name
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    } | {name for name, tensor in weights.items() if tensor.data_type == TensorProto.FLOAT}

    nodes: list[Any] = []
    tensors = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in _BOUNDS]
    converted: set[str] = set()

    def convert(name: str, into_half: bool) -> str:
        """The tensor in the other type, cast where it is first asked for."""
        new = f"{name}_{'half' if into_half else 'float'}"
        if new not in converted:
            converted.add(new)
            if name in weights:
                tensors.append(_half_weights(weights[name], new))
            elif into_half:
                nodes.append(helper.make_node("Clip", [name, "half_low", "half_high"], [f"{new}_bound"]))
                nodes.append(helper.make_node("Cast", [f"{new}_bound"], [new], to=TensorProto.FLOAT16))
            else:
                nodes.append(helper.make_node("Cast", [name], [new], to=TensorProto.FLOAT))
        return new

    for index, node in enumerate(graph.node):
        stays = _STAYS_FLOAT.get(node.op_type, ())
        for position, name in enumerate(node.input):
            wanted_half = index in half and position not in stays
            if name in floats and wanted_half != (name in made_half):
                node.input[position] = convert(name, wanted_half)
        nodes.append(node)

    used = {name for node in nodes for name in node.input}
    tensors = [tensor for tensor in (*graph.initializer, *tensors) if tensor.name in used]
    result = helper.make_model(
        helper.make_graph(nodes, graph.name, graph.input, graph.output, tensors),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
    )
    result.metadata_props.extend(model.metadata_props)
    onnx.checker.check_model(result, full_check=True)
    return result


def _name_the_end(graph: Any) -> None:
    """An Identity in front of the output, so that a convolution that ends a model can be float16 too."""
    from onnx import helper

    for node in graph.node:
        for position, name in enumerate(node.output):
            if name == graph.output[0].name and node.op_type == "Conv":
                node.output[position] = f"{name}_inner"
                graph.node.append(helper.make_node("Identity", [f"{name}_inner"], [name]))
                return


def _between_convolutions(nodes: Any, weights: dict[str, Any]) -> set[int]:
    """Indices of the convolutions behind the first, and of what leads to them; nodes come in order.

    Those that take a mean are not meant: behind the last layer they make the contrast mask.
    """
    layers = {i for i, node in enumerate(nodes) if node.op_type == "Conv" and not _is_mean(node, weights)}
    after: set[str] = set()
    reached = set()
    for index, node in enumerate(nodes):
        if not after.isdisjoint(node.input):
            reached.add(index)
        if index in layers or index in reached:
            after.update(node.output)
    before: set[str] = set()
    leads = set()
    for index in reversed(range(len(nodes))):
        node = nodes[index]
        if index in layers or not before.isdisjoint(node.output):
            leads.add(index)
            before.update(node.input)
    return reached & leads


def _is_mean(node: Any, weights: dict[str, Any]) -> bool:
    """Whether all weights of a convolution are one number."""
    from onnx import numpy_helper

    tensor = weights.get(node.input[1])
    return tensor is not None and np.ptp(numpy_helper.to_array(tensor)) == 0


def _half_weights(tensor: Any, name: str) -> Any:
    from onnx import numpy_helper

    with np.errstate(over="ignore"):  # an infinite weight does not pass the measurement
        return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name)
