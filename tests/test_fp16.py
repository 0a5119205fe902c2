"""Half precision: which part of a graph takes it, what it costs, and that a costly one is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_models as models
import pytest
from command_line import invoke, succeed
from onnx import TensorProto, helper
from training_runs import small_config

from sk_deploy import Denoiser, ModelError, ModelSpec, NoiseProfile
from sk_deploy.convert import convert
from sk_deploy.errors import ConfigError, SkdnError
from sk_deploy.half import BOUND, to_half
from sk_deploy.half_cost import LEVELS, LIMIT_DB, half_cost, rounded_runtime
from sk_deploy.model_file import read_model
from sk_deploy.models import find_model
from sk_deploy.noise import LEAST_READ
from sk_search.search import search


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Tensor -> element type, for the weights and whatever a node makes."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    weights = {tensor.name: tensor.data_type for tensor in inferred.initializer}
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    return weights | {value.name: value.type.tensor_type.elem_type for value in values}


def shipped(name: str = "nano") -> onnx.ModelProto:
    return onnx.load(find_model(name))


def test_convolutions_are_half_and_what_surrounds_them_is_not():
    model = shipped("base")  # weights are most of its file
    half = to_half(model)
    types = types_of(half)
    features = [node for node in half.graph.node if types[node.output[0]] != TensorProto.INT64]  # not sizes
    kinds = {}
    for node in features:
        kinds.setdefault(node.op_type, set()).add(types[node.output[0]])
    layers = [node for node in features if node.op_type == "Conv" and len(node.input) == 3]  # a mean: 2
    convolutions = [types[node.output[0]] for node in layers]
    assert convolutions[0] == TensorProto.FLOAT  # its differences are of planes that reach hundreds
    assert {*convolutions[1:]} == {TensorProto.FLOAT16}
    assert kinds["Sqrt"] == kinds["Div"] == {TensorProto.FLOAT}  # the front end
    last = features.index(layers[-1])
    assert {types[node.output[0]] for node in features[last + 1 :]} == {TensorProto.FLOAT}
    assert [node.op_type for node in half.graph.node].count("Cast") == 2  # in once, out once
    assert {value.type.tensor_type.elem_type for value in (*half.graph.input, *half.graph.output)} == {
        TensorProto.FLOAT
    }
    assert half.ByteSize() < 0.55 * model.ByteSize()
    assert half.metadata_props == model.metadata_props


def test_base_iso_needs_the_front_end_in_float32():
    """Read variance 1e-8 and shot 1e-5 squared are nothing in half precision."""
    assert np.float16(1e-8) == np.float16(1e-10) == 0
    model = shipped()
    cost = half_cost(model, to_half(model), blind=False, multiple=8)
    assert cost.psnr_db > 75
    # Base ISO is the worst: the same rounding, beside a picture that the limited residual made 3.6 dB better.
    assert -LIMIT_DB < cost.cost_db < LIMIT_DB / 2


def test_a_convolution_that_ends_a_model_and_weights_that_two_types_share(tmp_path):
    """`scale` multiplies the input, in float32, and what lies between the convolutions, in float16."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Mul", ["input", "scale"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("ConvTranspose", ["b", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "w"], ["output"], pads=[1, 1, 1, 1]),
    ]
    weights = {"scale": np.array(1.5, np.float32), "w": rng.normal(0, 0.1, (4, 4, 3, 3)).astype(np.float32)}
    model = onnx.load(models.save(tmp_path / "m.onnx", nodes, weights, models.spec()))
    half = to_half(model)
    types = types_of(half)
    assert types["scale"] == types["output"] == types["scaled"] == TensorProto.FLOAT
    assert types["scale_half"] == types["b"] == types["c"] == types["output_inner"] == TensorProto.FLOAT16
    assert types_of(model)["b"] == TensorProto.FLOAT  # the model that was given is left alone


def test_scales_of_a_resize_stay_float32(tmp_path):
    """As in channel attention, whose gates are interpolated."""
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["a"]),
        helper.make_node("AveragePool", ["a"], ["cells"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Resize", ["cells", "", "scales"], ["gates"], mode="linear"),
        helper.make_node("Mul", ["a", "gates"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["c"]),
        helper.make_node("Add", ["input", "c"], ["output"]),
    ]
    weights = {"w": np.eye(4, dtype=np.float32)[..., None, None], "scales": np.float32([1, 1, 2, 2])}
    path = models.save(tmp_path / "m.onnx", nodes, weights, models.spec(multiple=2))
    spec = convert(path, tmp_path / "half.onnx", fp16=True)
    assert spec.parity["float16_psnr_db"] > 60
    assert types_of(onnx.load(tmp_path / "half.onnx"))["gates"] == TensorProto.FLOAT16


def test_far_below_the_training_noise_it_stays_finite():
    """A picture without noise: its features would be 57735 high, and the layers behind would overflow."""
    model = shipped()
    types = types_of(half := to_half(model))
    (clip,) = (n for n in half.graph.node if n.op_type == "Clip" and "half_low" in n.input)
    assert types[clip.output[0]] == TensorProto.FLOAT
    assert 2 / np.sqrt(LEVELS[0][0]) / 64 < BOUND  # nothing is cut where training has been (rescale.py)
    checkers = np.kron(np.indices((32, 32)).sum(0) % 2, np.ones((4, 4)))
    planes = np.broadcast_to(checkers, (1, 4, 128, 128)).astype(np.float32)
    feeds = {"input": planes, "noise": np.float32([[0, LEAST_READ]])}
    assert np.isfinite(rounded_runtime(half).run(None, feeds)[0]).all()


def detour(path: Path, gain: float, offset: float) -> Path:
    """A network that is the identity, by way of features gain · x + offset."""
    nodes = [
        helper.make_node("Conv", ["input", "one"], ["first"]),
        helper.make_node("Conv", ["first", "up", "offset"], ["a"]),
        helper.make_node("Conv", ["a", "down", "back"], ["output"]),
    ]
    one = np.eye(4, dtype=np.float32)[..., None, None]
    weights = {
        "one": one,
        "up": gain * one,
        "down": one / np.float32(gain),
        "offset": np.full(4, offset, np.float32),
    }
    return models.save(path, nodes, weights | {"back": -weights["offset"] / np.float32(gain)}, models.spec())


def test_what_is_measured_is_rounded_after_every_layer(tmp_path):
    """As numpy rounds; what ONNX Runtime makes of it by itself on a CPU is not."""
    model = to_half(onnx.load(detour(tmp_path / "m.onnx", 1, 16)))
    x = np.random.default_rng(0).normal(0.3, 0.2, (1, 4, 16, 16)).astype(np.float32)
    inner = (x.astype(np.float16).astype(np.float32) + 16).astype(np.float16)
    expected = (inner.astype(np.float32) - 16).astype(np.float16)
    (rounded,) = rounded_runtime(model).run(None, {"input": x})
    np.testing.assert_array_equal(rounded, expected)
    assert rounded.dtype == np.float32


@pytest.mark.parametrize(
    ("gain", "offset", "reason"),
    [
        (1e5, 0, r"float16 overflows at noise 1e-05,1e-08: export it without --fp16"),
        (1, 16, r"float16 costs \d+\.\d+ dB, the limit is 0.01 dB"),  # numbers a 64th apart
    ],
)
def test_a_costly_one_is_refused_and_nothing_written(tmp_path, gain, offset, reason):
    path = detour(tmp_path / "m.onnx", gain, offset)
    with pytest.raises(ModelError, match=reason):
        convert(path, tmp_path / "half.onnx", fp16=True)
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_says_so_and_runs_on_the_cpu(tmp_path):
    """Through the same pipeline, tiles as large as the whole and smaller."""
    path = models.unet(tmp_path / "m.onnx")
    spec = convert(path, tmp_path / "half.onnx", fp16=True, name="night")
    stated = read_model(tmp_path / "half.onnx")[1]
    assert stated == spec
    assert (stated.name, stated.precision, read_model(path)[1].precision) == ("night", "float16", "float32")
    assert stated.parity["float16_cost_db"] <= LIMIT_DB
    with pytest.raises(ConfigError, match="float16 already"):
        convert(tmp_path / "half.onnx", tmp_path / "quarter.onnx", fp16=True)
    mosaic = np.random.default_rng(0).normal(0.3, 0.1, (101, 140)).astype(np.float32)
    full, half = (Denoiser.from_file(p, "cpu")(mosaic, phase="BGGR") for p in (path, tmp_path / "half.onnx"))
    assert 0 < np.abs(half - full).max() < 1e-3
    tiled = Denoiser.from_file(tmp_path / "half.onnx", "cpu", tile=64)(mosaic, phase="BGGR")
    np.testing.assert_allclose(tiled, half, atol=1e-3)


def test_shipped_model_in_tiles(tmp_path):
    """The halo holds in half precision as well (on the CPU, which rounds less than a GPU)."""
    convert("nano", tmp_path / "half.onnx", fp16=True)
    noise = NoiseProfile(2e-3, 3e-5)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:400, :300]
    clean = 0.4 + 0.3 * np.sin(x / 17) * np.cos(y / 13)
    mosaic = (clean + rng.normal(size=clean.shape) * np.sqrt(noise.shot * clean + noise.read)).astype(
        np.float32
    )
    whole, tiled = (
        Denoiser.from_file(tmp_path / "half.onnx", "cpu", tile=tile)(mosaic, noise) for tile in (512, 224)
    )
    assert np.abs(whole - mosaic).max() > 0.01
    assert np.abs(whole - tiled).max() <= 0.25 / (2**14 - 1)


def test_metadata_of_before_is_float32():
    facts = json.loads(models.spec().to_json())
    del facts["precision"]
    assert ModelSpec.from_json(json.dumps(facts)).precision == "float32"
    with pytest.raises(ModelError, match="has precision 16"):
        ModelSpec.from_json(json.dumps(facts | {"precision": 16}))


def test_a_run_in_every_form(tmp_path):
    """Proven in float32 first; then half precision; then the package, of the same graph."""
    run = tmp_path / "run"
    search(run, small_config())
    target = tmp_path / "night.onnx"

    with pytest.raises(SkdnError, match="wants a noise level"):
        invoke("export", run, target, "--darktable")
    assert not (run / "genotype.json").exists()  # before the first stage, not after the last
    options = ["--fp16", "--darktable", "--noise", "1e-3,1e-5", "--licence", "CC0-1.0"]
    out = succeed("export", run, target, *options)
    assert "float16_cost_db" in out
    assert f"{target.with_suffix('.dtmodel')}: " in out
    spec = read_model(target)[1]
    assert (spec.precision, spec.licence) == ("float16", "CC0-1.0")
    parity = json.loads((run / "export" / "parity.json").read_text())
    assert parity["limits"]["float16_cost_db"] == LIMIT_DB
    assert all(parity[name] <= limit for name, limit in parity["limits"].items())
    assert parity["float16_psnr_db"] == spec.parity["float16_psnr_db"] > 60
