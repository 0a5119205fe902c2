"""Where the time goes inside a network: one row an operator, one a node, from ONNX Runtime's own profile.

It times every node on the CPU's clock. Nodes that a GPU computes are only launched by then: there, the table
says what launching costs, not what computing does.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .denoiser import Denoiser
from .models import find_model
from .profile import NOISE, noisy_ramp
from .session import Session

WARMUPS = 3
RUNS = 10


@dataclass(frozen=True)
class Cost:
    """Of one node, or of all nodes of an operator, for one mosaic: all of its tiles and passes."""

    name: str
    operator: str
    """As ONNX Runtime runs it: fused, and with the layout changes (Reorder…) that it adds."""
    provider: str
    nodes: int
    ms: float
    """Median over the runs; for an operator, the sum of its nodes' medians."""
    share: float
    """Of the whole network."""
    gmacs: float | None
    """10⁹ multiply-accumulates, halos and filled-up channels included; None where the operator does few."""
    gmacs_per_s: float | None


@dataclass(frozen=True)
class OperatorTable:
    """The network's time, split up; the costliest first."""

    runs: int
    network_ms: float
    """Median over the runs, traced: a little slower than untraced."""
    between_ms: float
    """Spent in no node."""
    operators: list[Cost]
    nodes: list[Cost]

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def operator_table(
    model: str | Path,
    provider: str,
    width_px: int,
    height_px: int,
    tile_px: int | None = None,
    ensemble: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> OperatorTable:
    """Trace a model, a shipped one's name or a file, on a noisy mosaic of width_px × height_px sensor pixels.

    Raises ModelError, ProviderError or ConfigError.
    """
    mosaic = noisy_ramp(height_px, width_px)
    with tempfile.TemporaryDirectory() as folder:
        denoiser = Denoiser(Session(find_model(model), provider, trace=Path(folder) / "trace"), tile_px)
        for run in range(WARMUPS + RUNS):
            denoiser(mosaic, NOISE, ensemble=ensemble)
            progress((run + 1) / (WARMUPS + RUNS))
        events = json.loads(denoiser.session.end_trace().read_bytes())
    return _table(events)


def _table(events: list[dict[str, Any]]) -> OperatorTable:
    """From all events of WARMUPS + RUNS mosaics, each of them the same number of network runs."""
    traced: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            traced[name, event["args"]["node_index"]].append(event)
    network_ms = _median_ms([event for event in events if event["name"] == "model_run"])
    nodes = [_node(name, same, network_ms) for (name, _), same in traced.items()]
    by_operator: dict[tuple[str, str], list[Cost]] = defaultdict(list)
    for node in nodes:
        by_operator[node.operator, node.provider].append(node)
    operators = [
        _cost(operator, operator, provider, len(same), sum(n.ms for n in same), network_ms, _sum_gmacs(same))
        for (operator, provider), same in by_operator.items()
    ]
    return OperatorTable(
        runs=RUNS,
        network_ms=network_ms,
        between_ms=network_ms - sum(node.ms for node in nodes),
        operators=sorted(operators, key=lambda cost: -cost.ms),
        nodes=sorted(nodes, key=lambda cost: -cost.ms),
    )


def _node(name: str, same: list[dict[str, Any]], network_ms: float) -> Cost:
    """One node from its events."""
    arguments = same[-1]["args"]
    operator, provider = arguments["op_name"], arguments["provider"].removesuffix("ExecutionProvider").lower()
    mosaic = same[-(len(same) // (WARMUPS + RUNS)) :]  # a border's tile has the shape of any other
    macs = [_macs(event["args"]) for event in mosaic]
    gmacs = None if None in macs else sum(count for count in macs if count is not None) / 1e9
    return _cost(name, operator, provider, 1, _median_ms(same), network_ms, gmacs)


def _cost(
    name: str, operator: str, provider: str, nodes: int, ms: float, network_ms: float, gmacs: float | None
) -> Cost:
    rate = None if gmacs is None else 1e3 * gmacs / max(ms, 1e-3)  # ONNX Runtime counts whole microseconds
    return Cost(name, operator, provider, nodes, ms, ms / network_ms, gmacs, rate)


def _sum_gmacs(nodes: list[Cost]) -> float | None:
    known = [node.gmacs for node in nodes if node.gmacs is not None]
    return sum(known) if known else None


def _median_ms(same: list[dict[str, Any]]) -> float:
    """Milliseconds a mosaic; the warm-ups are left out."""
    runs = len(same) // (WARMUPS + RUNS)  # a mosaic; the first may take more, to give memory back
    durations = np.array([event["dur"] for event in same[-runs * (WARMUPS + RUNS) :]])
    per_mosaic = durations.reshape(WARMUPS + RUNS, runs).sum(1) / 1e3
    return float(np.median(per_mosaic[WARMUPS:]))


def _macs(arguments: dict[str, Any]) -> int | None:
    """Multiply-accumulates of one call of a node, from the shapes that it met."""
    inputs: list[list[int]] = [list(*kind.values()) for kind in arguments["input_type_shape"]]
    output: list[int] = list(*arguments["output_type_shape"][0].values())
    if arguments["op_name"] in ("Conv", "FusedConv", "NhwcFusedConv"):
        return math.prod(output) * math.prod(inputs[1][1:])  # weight [O,…]: channels first or last
    if arguments["op_name"] == "ConvTranspose":  # [N,I,h,w], weight [I,O/groups,k,k]
        return inputs[0][0] * math.prod(inputs[0][2:]) * math.prod(inputs[1])
    if arguments["op_name"] in ("MatMul", "FusedMatMul"):
        return math.prod(output) * inputs[0][-1]
    return None
