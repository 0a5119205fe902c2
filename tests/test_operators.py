"""The operator table: every multiply-accumulate is found, and the parts make up the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_models as models
import pytest
from onnx import helper

from sk_deploy.operators import RUNS, WARMUPS, _macs, _table, operator_table
from sk_deploy.peak import matmul_peak_gmacs_per_s


def network(path: Path) -> Path:
    """Two convolutions, 4 -> 16 -> 16 at half the size, and up again; no channels to be filled up."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w1"], ["b"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("DepthToSpace", ["b"], ["output"], blocksize=2),
    ]
    weights = {f"w{n}": rng.normal(0, 0.1, (16, c, 3, 3)).astype(np.float32) for n, c in ((0, 4), (1, 16))}
    return models.save(path, nodes, weights, models.spec(multiple=2))


def macs(h: int, w: int) -> int:
    """Of that network on packed planes [4,h,w]."""
    return 9 * (4 * 16 * h * w + 16 * 16 * h * w // 4)


def test_counts_what_the_network_computes(tmp_path: Path) -> None:
    table = operator_table(network(tmp_path / "m.onnx"), "cpu", 48, 64)
    assert sum(node.gmacs or 0 for node in table.nodes) == pytest.approx(macs(32, 24) / 1e9)
    (convolutions,) = (cost for cost in table.operators if cost.operator == "Conv")
    assert convolutions.nodes == 2
    assert convolutions.gmacs == pytest.approx(macs(32, 24) / 1e9)
    assert {cost.operator for cost in table.operators} >= {"Conv", "DepthToSpace"}
    assert table.facts()["nodes"][0]["ms"] == max(node.ms for node in table.nodes)


def test_tiles_and_passes_add_up(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx")
    tiled = operator_table(path, "cpu", 64, 64, tile_px=32)
    assert sum(cost.gmacs or 0 for cost in tiled.operators) == pytest.approx(4 * macs(16, 16) / 1e9)
    ensemble = operator_table(path, "cpu", 64, 64, ensemble=True)  # flips are padded by a pixel each side
    assert 8 <= sum(cost.gmacs or 0 for cost in ensemble.operators) / (macs(32, 32) / 1e9) < 10


def test_medians_without_warmups_make_up_the_whole() -> None:
    def event(name: str, category: str, dur: int, node: str = "") -> dict:
        arguments = {
            "op_name": "Add",
            "node_index": node,
            "provider": "CPUExecutionProvider",
            "input_type_shape": [{"float": [1]}, {"float": []}],
            "output_type_shape": [{"float": [1]}],
        }
        return {"name": name, "cat": category, "dur": dur, "args": arguments if node else {}}

    events = [event("session_initialization", "Session", 9)]
    for run in range(WARMUPS + RUNS):
        slow = 1000 * (run < WARMUPS)
        for _tile in range(2):
            events += [
                event("a_kernel_time", "Node", 10 + slow, "0"),
                event("a_fence_before", "Node", 7, "0"),
            ]
            events += [
                event("b_kernel_time", "Node", 30 + slow, "1"),
                event("model_run", "Session", 50 + slow),
            ]
    table = _table(events)
    assert table.network_ms == pytest.approx(0.1)
    assert [(node.name, node.ms, node.share) for node in table.nodes] == [
        ("b", pytest.approx(0.06), pytest.approx(0.6)),
        ("a", pytest.approx(0.02), pytest.approx(0.2)),
    ]
    assert [(cost.name, cost.nodes, cost.gmacs, cost.gmacs_per_s) for cost in table.operators] == [
        ("Add", 2, None, None)
    ]
    assert table.between_ms == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("operator", "inputs", "output", "macs"),
    [
        ("Conv", [[2, 4, 8, 6], [16, 4, 3, 3]], [2, 16, 8, 6], 2 * 48 * 16 * 4 * 9),
        ("Conv", [[1, 4, 8, 6], [4, 1, 3, 3], [4]], [1, 4, 4, 3], 12 * 4 * 9),
        ("ConvTranspose", [[1, 8, 4, 3], [8, 4, 2, 2]], [1, 4, 8, 6], 12 * 8 * 4 * 4),
        ("MatMul", [[2, 5, 7], [7, 3]], [2, 5, 3], 2 * 5 * 3 * 7),
        ("Relu", [[2, 5]], [2, 5], None),
    ],
)
def test_multiply_accumulates(operator: str, inputs: list, output: list, macs: int | None) -> None:
    arguments = {
        "op_name": operator,
        "input_type_shape": [{"float": shape} for shape in inputs],
        "output_type_shape": [{"float": output}],
    }
    assert _macs(arguments) == macs


def test_the_peak_is_plausible() -> None:
    assert 0.1 < matmul_peak_gmacs_per_s("cpu", 1) < 1e5
