"""The searched networks as ONNX graphs, made without PyTorch: what a latency table is measured on.

The same operators in the same order as `skdn export` leaves after simplification, so ONNX Runtime fuses them
alike; the weights are random. So a device that will run a model can be measured where PyTorch is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
_ASYMMETRIC = {"coordinate_transformation_mode": "asymmetric"}


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

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """x as [shape]; 0 keeps an axis as it is."""
        return self.op("Reshape", x, self.constant(np.array(shape, np.int64)))

    def conv(
        self, x: str, channels: int, filters: int, kernel: int, stride: int = 1, padding: int | None = None
    ) -> str:
        """k×k convolution of `channels` channels; random weights that keep the variance.

        padding: zeros on each side; None keeps the size at stride 1 and adds none at stride 2.
        """
        if padding is None:
            padding = kernel // 2 if stride == 1 else 0
        shape = (filters, channels, kernel, kernel)
        return self._convolution("Conv", x, shape, np.sqrt(channels) * kernel, filters, stride, padding)

    def conv_transpose(self, x: str, channels: int, filters: int) -> str:
        """2×2 transposed convolution of stride 2, to twice the size; weights as those of `conv`."""
        shape = (channels, filters, 2, 2)
        return self._convolution("ConvTranspose", x, shape, np.sqrt(channels), filters, 2, 0)

    def _convolution(
        self, kind: str, x: str, shape: Sequence[int], scale: float, filters: int, stride: int, padding: int
    ) -> str:
        """Weights of `shape`, divided by `scale`, and biases."""
        weights = self._random.standard_normal(shape, np.float32) / np.float32(scale)
        bias = self._random.standard_normal(filters, np.float32)
        return self.op(
            kind,
            x,
            self.constant(weights),
            self.constant(bias),
            kernel_shape=list(shape[2:]),
            pads=[padding] * 4,
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

    def mean(self, x: str, channels: int, kernel: int) -> str:
        """The mean over kernel×kernel and all channels, as a convolution; beyond an edge is 0."""
        weights = np.full((1, channels, kernel, kernel), 1 / (channels * kernel**2), np.float32)
        pads = [kernel // 2] * 4
        return self.op("Conv", x, self.constant(weights), kernel_shape=[kernel, kernel], pads=pads)

    def block(self, x: str, site: Site, option: Option) -> str:
        """layers.Block as it is exported, its scalar folded into the last convolution."""
        channels, features = site.width, x
        for kernel, filters in option:
            c = self.op("Relu", self.conv(features, channels, filters, kernel))
            if site.kind == "chain":
                features, channels = c, filters
            else:
                features, channels = self.op("Concat", features, c, axis=1), channels + filters
        residual = self.conv(features, channels, site.width, site.projection)
        return self.op("Add", x, self.op("Relu", residual) if site.kind == "dense" else residual)

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

    size: height and width in packed pixels, which pixel shuffle and channel attention's windows are fixed to.
    """
    graph, remaining = Graph(), iter(options)
    features, channels, restore = _condition(graph, net.conditioning)
    residual = _NETWORKS[net.arch](graph, net, features, channels, remaining, size)
    restore(residual)
    inputs = {"input": _PLANES} | ({} if net.conditioning == "none" else {"noise": ("batch", 2)})
    return graph.model(inputs, _PLANES)


def _condition(graph: Graph, kind: str) -> tuple[str, int, Callable[[str], str]]:
    """conditioning.py: the features that the network reads, their channels, what its residual becomes."""
    op, number = graph.op, graph.number

    def added(residual: str) -> str:
        return op("Add", "input", residual)

    if kind == "none":
        return "input", 4, added
    axes = graph.constant(np.array([-1, 1, 1, 1], np.int64))
    shot, read = (
        op("Reshape", op("Gather", "noise", graph.constant(np.array(i, np.int64)), axis=1), axes, allowzero=1)
        for i in (0, 1)
    )
    if kind == "map":
        mean = op("ReduceMean", "input", graph.constant(np.array([1], np.int64)), keepdims=1)
        variance = op("Add", op("Mul", shot, op("Clip", mean, number(0))), read)
        return op("Concat", "input", op("Sqrt", variance), axis=1), 5, added
    if kind == "k-sigma":
        gain = op("Mul", op("Reciprocal", op("Clip", shot, number(1e-8))), number(3.5e-3))
        scaled = op("Mul", "input", gain)
        offset = op("Sub", op("Mul", read, op("Pow", gain, number(2))), number(4.5e-5))
        z = op("Add", scaled, op("Div", offset, number(3.5e-3)))
        return z, 4, lambda residual: added(op("Mul", residual, op("Reciprocal", gain)))
    shot = op("Div", op("Clip", shot, number(1e-9)), number(4))
    few = op("Mul", op("Pow", shot, number(2)), number(1.5))
    c = op("Add", few, op("Mul", read, number(0.25)))
    s = op("Sqrt", op("Max", op("Add", op("Mul", shot, "input"), c), op("Mul", c, number(0.25))))
    z = op("Div", "input", op("Add", s, op("Sqrt", c)))

    def restore(residual: str) -> str:
        curved = op("Mul", op("Mul", shot, number(0.25)), residual)
        bright = added(op("Add", op("Mul", residual, op("Add", s, curved)), shot))
        dark = op("Div", c, shot)
        above = op("Max", op("Add", bright, dark), op("Mul", dark, number(0.25)))
        return op("Sub", bright, op("Div", few, above))

    return z, 4, restore


def _first(graph: Graph, net: NetConfig, x: str, channels: int) -> str:
    """conditioning.Stem, or the paper's first convolution."""
    if net.conditioning == "none" and net.stride == 1:
        return graph.conv(x, channels, net.widths[0], 3)
    border = net.stride
    pads = graph.constant(np.array([0, 0, border, border] * 2, np.int64))
    x = graph.op("Pad", x, pads, mode="reflect")
    return graph.conv(x, channels, net.widths[0], 3 * net.stride, net.stride, padding=0)


def _down(
    graph: Graph, net: NetConfig, features: str, channels: int, options: Iterator[tuple[Site, Option]]
) -> tuple[str, list[str]]:
    """Encoder and bottom of a network of one path: the bottom's output, and what each level passes across."""
    h, skips = _first(graph, net, features, channels), []
    for i in range(net.depth):
        skips.append(_blocks(graph, net, h, options))
        h = graph.conv(skips[-1], net.widths[i], net.widths[i + 1], 2, stride=2)
    return _blocks(graph, net, h, options), skips


def _compact_unet(
    graph: Graph,
    net: NetConfig,
    features: str,
    channels: int,
    options: Iterator[tuple[Site, Option]],
    size: tuple[int, int],
) -> str:
    """compact_unet.py: the residual of the features."""
    widths, levels = net.widths, range(net.depth)
    h, skips = _down(graph, net, features, channels, options)
    for i in reversed(levels):
        h = _up(graph, net, h, widths[i + 1], widths[i])
        h = _blocks(graph, net, graph.op("Add", skips[i], h), options)
    h = graph.conv(h, widths[0], 16, 3)
    if net.masked:
        h = graph.op("Mul", h, _contrast_mask(graph, features))
    height, width = size
    h = graph.reshape(h, (0, 8, 2, height * width // 4))
    h = graph.reshape(graph.op("Transpose", h, perm=[0, 1, 3, 2]), (0, 4, 2, height // 2, width))
    return graph.reshape(graph.op("Transpose", h, perm=[0, 1, 3, 2, 4]), (0, 4, height, width))


def _contrast_mask(graph: Graph, features: str) -> str:
    """conditioning.ContrastMask; its weights take as long whatever they are."""
    weights = graph.constant(np.ones((16, 4, 4, 4), np.float32))
    above = graph.op("Relu", graph.op("Conv", features, weights, kernel_shape=[4, 4], strides=[2, 2]))
    contrast = graph.mean(graph.mean(above, 16, 1), 1, 2)
    return graph.op("Reciprocal", graph.op("Add", graph.op("Mul", contrast, contrast), graph.number(1)))


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
    h, skips = _down(graph, net, features, channels, options)
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
        for i in levels:
            h = graph.conv(h, widths[i - 1], widths[i], 3) if i else _first(graph, net, h, channels)
            h = graph.op("Relu", h)
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


def _up(graph: Graph, net: NetConfig, h: str, channels: int, width: int) -> str:
    """compact_unet.UPS."""
    if net.up == "transposed":
        return graph.op("MaxPool", graph.conv_transpose(h, channels, width), kernel_shape=[1, 1])
    h = graph.conv(h, channels, width, 1)
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    return graph.op("Resize", h, "", scales, mode="nearest", nearest_mode="floor", **_ASYMMETRIC)


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


_NETWORKS = {
    "compact-unet": _compact_unet,
    "skipinit-unet": _skipinit_unet,
    "attention-unet": _attention_unet,
}
"""`--arch` -> what builds its graph."""
