"""The searched networks as ONNX graphs, made without PyTorch: what a latency table is measured on.

The same operators in the same order as `skdn export` leaves after simplification, so ONNX Runtime fuses them
alike; the weights are random. So a device that will run a model can be measured where PyTorch is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .config import NetConfig
from .lut import Option, Site

OPSET = 20
_IR_VERSION = 10
_PLANES = ("batch", 4, "height", "width")


class Graph:
    """An ONNX graph in the making: every method adds nodes and returns the name of the last one's output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One operator with one output."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, values: NDArray[Any]) -> str:
        """A tensor that is part of the model."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def number(self, value: float) -> str:
        """A scalar of the model."""
        return self.constant(np.array(value, np.float32))

    def conv(self, x: str, channels: int, filters: int, kernel: int, stride: int = 1) -> str:
        """k×k convolution of `channels` channels; random weights that keep the variance, zero padding."""
        shape = (filters, channels, kernel, kernel)
        weights = self._random.standard_normal(shape, np.float32) / np.float32(np.sqrt(channels) * kernel)
        bias = self._random.standard_normal(filters, np.float32)
        return self.op(
            "Conv",
            x,
            self.constant(weights),
            self.constant(bias),
            kernel_shape=[kernel, kernel],
            pads=[kernel // 2 if stride == 1 else 0] * 4,
            strides=[stride, stride],
        )

    def pool(self, x: str, kernel: tuple[int, int], stride: int = 1) -> str:
        """The mean over kernel[0]×kernel[1]; what lies beyond an edge is not counted."""
        pads = [side // 2 if stride == 1 else 0 for side in kernel]
        return self.op(
            "AveragePool",
            x,
            kernel_shape=kernel,
            pads=[*pads, *pads],
            strides=[stride, stride],
            count_include_pad=0,
        )

    def block(self, x: str, site: Site, option: Option) -> str:
        """layers.DenseBlock as it is exported, its scalar folded into the last convolution."""
        channels, features = site.width, x
        for kernel, filters in option:
            c = self.op("Relu", self.conv(features, channels, filters, kernel))
            features = self.op("Concat", features, c, axis=1)
            channels += filters
        residual = self.conv(features, channels, site.width, site.projection)
        return self.op("Add", x, residual if site.skipinit else self.op("Relu", residual))

    def model(self, inputs: dict[str, Sequence[int | str]], shape: Sequence[int | str]) -> bytes:
        """The finished model: its inputs with their shapes, and that of its output, the last operator's."""
        self.nodes[-1].output[:] = ["output"]
        graph = helper.make_graph(
            self.nodes,
            "skdn",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString()


def chain(site: Site, option: Option, length: int) -> bytes:
    """`length` equal blocks after one another, between cheap ends: input [1,1,h,w], output [1,C,1,1]."""
    graph = Graph()
    x = graph.conv("input", 1, site.width, 1)
    for _ in range(length):
        x = graph.block(x, site, option)
    graph.op("GlobalAveragePool", x)
    return graph.model({"input": ("batch", 1, "height", "width")}, ("batch", site.width, 1, 1))


def network(net: NetConfig, options: Sequence[tuple[Site, Option]], size: tuple[int, int]) -> bytes:
    """A whole network that chose `options`, in forward order: inputs and output as in a model file.

    size: height and width in packed pixels, which the windows of channel attention are fixed to.
    """
    graph, remaining = Graph(), iter(options)
    features, channels, scale = _condition(graph, net.conditioning)
    build = _skipinit_unet if net.arch == "skipinit-unet" else _attention_unet
    residual = build(graph, net, features, channels, remaining, size)
    if scale is not None:
        residual = graph.op("Mul", scale, residual)
    graph.op("Add", "input", residual)
    inputs = {"input": _PLANES} | ({} if net.conditioning == "none" else {"noise": ("batch", 2)})
    return graph.model(inputs, _PLANES)


def _condition(graph: Graph, kind: str) -> tuple[str, int, str | None]:
    """conditioning.py: the features that the network reads, their channels, the scale of its residual."""
    op, number = graph.op, graph.number
    if kind == "none":
        return "input", 4, None
    axes = graph.constant(np.array([-1, 1, 1, 1], np.int64))
    shot, read = (
        op("Reshape", op("Gather", "noise", graph.constant(np.array(i, np.int64)), axis=1), axes, allowzero=1)
        for i in (0, 1)
    )

    def variance(x: str, offset: str) -> str:
        return op("Add", op("Mul", shot, x), offset)

    def positive(x: str) -> str:
        return op("Clip", x, number(0))

    if kind == "map":
        mean = op("ReduceMean", "input", graph.constant(np.array([1], np.int64)), keepdims=1)
        return op("Concat", "input", op("Sqrt", variance(positive(mean), read)), axis=1), 5, None
    if kind == "k-sigma":
        gain = op("Mul", op("Reciprocal", op("Clip", shot, number(1e-8))), number(3.5e-3))
        scaled = op("Mul", "input", gain)
        offset = op("Sub", op("Mul", read, op("Pow", gain, number(2))), number(4.5e-5))
        return op("Add", scaled, op("Div", offset, number(3.5e-3))), 4, op("Reciprocal", gain)
    c = op("Add", op("Mul", op("Pow", shot, number(2)), number(0.375)), read)
    doubled = op("Mul", "input", number(2))
    root = op("Sqrt", positive(variance("input", c)))
    z = op("Div", doubled, op("Add", root, op("Sqrt", c)))
    base = graph.pool(z, (3, 3))
    sigma = op("Sqrt", variance(positive(graph.pool("input", (3, 3))), c))
    detail = op("Sub", z, base)
    return op("Concat", detail, op("Mul", base, number(1 / 32)), axis=1), 8, sigma


def _skipinit_unet(
    graph: Graph,
    net: NetConfig,
    features: str,
    channels: int,
    options: Iterator[tuple[Site, Option]],
    size: tuple[int, int],
) -> str:
    """skipinit_unet.py: the residual of the features."""
    widths, levels = net.widths, range(net.depth)
    h, skips = graph.conv(features, channels, widths[0], 3), []
    for i in levels:
        skips.append(_blocks(graph, net, h, options))
        h = graph.conv(skips[-1], widths[i], widths[i + 1], 2, stride=2)
    h = _blocks(graph, net, h, options)
    for i in reversed(levels):
        h = _join(graph, h, widths[i + 1], widths[i], skips[i])
        h = _blocks(graph, net, graph.conv(h, 2 * widths[i], widths[i], net.projection), options)
    return graph.conv(h, widths[0], 4, 3)


def _attention_unet(
    graph: Graph,
    net: NetConfig,
    features: str,
    channels: int,
    options: Iterator[tuple[Site, Option]],
    size: tuple[int, int],
) -> str:
    """attention_unet.py: the residual of the features."""
    widths, levels = net.widths, range(net.depth)
    below = [*(2 * w for w in widths[1:-1]), widths[-1]]
    outputs = []
    for _ in range(net.subnetworks):
        h, skips = features, []
        for i, entering in zip(levels, (channels, *widths), strict=False):
            h = graph.op("Relu", graph.conv(h, entering, widths[i], 3))
            skips.append(_blocks(graph, net, h, options))
            h = graph.conv(skips[-1], widths[i], widths[i], 2, stride=2)
        h = graph.op("Relu", graph.conv(h, widths[-2], widths[-1], 3))
        h = _blocks(graph, net, h, options)
        for i in reversed(levels):
            h = _join(graph, h, below[i], widths[i], skips[i])
            h = _blocks(graph, net, _attend(graph, net, h, 2 * widths[i], i, size), options)
        outputs.append(h)
    channels = 2 * widths[0] * net.subnetworks
    h = graph.op("Concat", *outputs, axis=1) if len(outputs) > 1 else outputs[0]
    return graph.conv(_attend(graph, net, h, channels, 0, size), channels, 4, 3)


def _blocks(graph: Graph, net: NetConfig, h: str, options: Iterator[tuple[Site, Option]]) -> str:
    for _ in range(net.blocks):
        h = graph.block(h, *next(options))
    return h


def _join(graph: Graph, h: str, channels: int, width: int, skip: str) -> str:
    """Up to the next level, and together with what was there."""
    h = graph.conv(h, channels, 4 * width, 1)
    return graph.op("Concat", graph.op("DepthToSpace", h, blocksize=2, mode="CRD"), skip, axis=1)


def _attend(graph: Graph, net: NetConfig, x: str, channels: int, level: int, size: tuple[int, int]) -> str:
    """channel_attention.py as deployed: gates from the mean of a window around each cell."""
    cell, hidden = net.multiple >> level, max(channels // 16, 4)
    radius = net.window // net.multiple // 2
    side = 2 * radius + 1
    cells = graph.conv(graph.pool(x, (cell, cell), stride=cell), channels, hidden, 1)
    means = graph.pool(graph.pool(cells, (1, side)), (side, 1))
    for axis, length in enumerate(size, start=2):
        count = length // net.multiple
        inside = np.arange(count).clip(min=radius).clip(max=count - 1 - radius).clip(min=0)
        means = graph.op("Gather", means, graph.constant(inside), axis=axis)
    gates = graph.op("Sigmoid", graph.conv(graph.op("Relu", means), hidden, channels, 1))
    scales = graph.constant(np.array([1, 1, cell, cell], np.float32))
    return graph.op("Mul", x, graph.op("Resize", gates, "", scales, mode="linear"))
