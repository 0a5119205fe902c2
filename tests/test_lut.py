"""The latency table: its graphs are what is exported, its figures add up, its file is whole or refused."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from command_line import invoke
from onnxruntime import InferenceSession, SessionOptions

from sk_deploy.errors import ConfigError, SkdnError
from sk_search import lut_measure
from sk_search.config import NetConfig
from sk_search.lut import LatencyTable, sites
from sk_search.lut_graphs import chain, network
from sk_search.lut_measure import Job, fit, left_out, measure_table
from sk_search.presets import nano, tiny

NET = NetConfig(arch="skipinit-unet", widths=(16, 32, 48), kernels=(1, 3), growth=(0.5, 1.0), round_to=8)
NETS = {
    "compact": replace(NET, arch="compact-unet"),
    "compact nearest": replace(NET, arch="compact-unet", up="nearest"),
    "compact blind": replace(NET, arch="compact-unet", conditioning="none"),
    "skipinit": NET,
    "two blocks": replace(NET, blocks=2, projection=3, conditioning="none"),
    "map": replace(NET, conditioning="map"),
    "k-sigma": replace(NET, conditioning="k-sigma"),
    "attention": replace(NET, arch="attention-unet"),
    "subnetworks": replace(NET, arch="attention-unet", subnetworks=2, conditioning="none"),
}


def random_table(net=NET, seed=0):
    """As if measured: every option has some latency."""
    rng = np.random.default_rng(seed)
    blocks = {}
    for site in sites(net).values():
        side = (len(net.kernels), len(net.filter_counts(site.width)))
        blocks[site] = rng.uniform(1, 9, side + side)
    return LatencyTable(net, (1024, 1024), 20.0, blocks, {"provider": "cpu"})


def random_options(net, seed=0):
    choose = random.Random(seed).choice
    return [choose(site.options(net)) for site in sites(net).values()]


def fixed_network(net, options):
    """The same choices as a PyTorch network, its SkipInit scalars open."""
    import torch

    from sk_search.nets import build_network
    from sk_search.superkernel import Choice

    choices = {
        f"{name}.conv{i}": Choice(kernel, tuple(range(filters)))
        for name, option in zip(sites(net), options, strict=True)
        for i, (kernel, filters) in enumerate(option, start=1)
    }
    fixed = build_network(net, choices).eval()
    for name, parameter in fixed.named_parameters():
        if name.endswith(("alpha", "bias")):  # zeros would be simplified away
            torch.nn.init.constant_(parameter, 0.3)
    return fixed


def exported(net, options):
    """The graph that `skdn export` makes of those choices."""
    import onnxsim

    from sk_search.export import to_onnx

    return onnxsim.simplify(to_onnx(fixed_network(net, options), net.conditioning == "none"))[0]


def operators(model):
    """Kind of every operator on features, with the shapes of a convolution's weights.

    Not those on integers, by which an exported graph finds its size; what is timed has one size.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    return [
        (node.op_type, *(shapes[name] for name in node.input[1:] if "Conv" in node.op_type))
        for node in model.graph.node
        if types[node.output[0]] == onnx.TensorProto.FLOAT
    ]


@pytest.mark.parametrize("name", NETS)
def test_sites_are_the_dense_blocks_in_forward_order(name):
    import torch

    from sk_search.layers import Block

    net, seen = NETS[name], []
    fixed = fixed_network(net, random_options(net))
    for block_name, module in fixed.named_modules():
        if isinstance(module, Block):
            module.register_forward_hook(lambda m, i, y, n=block_name: seen.append((n, y.shape[-1], m)))
    fixed(torch.zeros(1, 4, 64, 64), torch.tensor([[1e-3, 1e-5]]))
    assert [name for name, _, _ in seen] == list(sites(net))
    for (_, side, block), site in zip(seen, sites(net).values(), strict=True):
        assert side == 64 >> site.level
        assert (block.width, block.out.kernel_size[0]) == (site.width, site.projection)
        assert block.kind == site.kind


QUICK = ("compact", "compact nearest", "skipinit", "attention")


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in NETS if n not in QUICK)]
)
def test_the_network_that_is_timed_is_the_one_that_is_exported(name):
    net, options = NETS[name], random_options(NETS[name])
    placed = list(zip(sites(net).values(), options, strict=True))
    ours = onnx.load_model_from_string(network(net, placed, (64, 64)))
    onnx.checker.check_model(ours, full_check=True)
    assert operators(ours) == operators(exported(net, options))


@pytest.mark.parametrize("name", ["compact", "compact nearest"])
def test_sums_of_a_decoder_stay_in_the_layout_of_its_convolutions(name, tmp_path):
    net = NETS[name]
    # The largest: their filters fill a processor's blocks, of 8 or 16; others leave the layout anyway.
    placed = [(site, site.options(net)[-1]) for site in sites(net).values()]
    options = SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "as-run.onnx")
    options.log_severity_level = 3  # it warns that such a file is for one machine
    InferenceSession(network(net, placed, (64, 64)), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "as-run.onnx").graph.node
    kinds = Counter(node.op_type for node in nodes)
    if not any(node.domain == "com.microsoft.nchwc" for node in nodes):
        pytest.skip("ONNX Runtime has no blocked layout on this processor")
    ups = kinds["ConvTranspose"]
    assert ups == (net.depth if net.up == "transposed" else 0)
    assert kinds["ReorderInput"] == ups
    assert kinds["ReorderOutput"] == ups + 3  # the residual's, and the contrast mask's two


def test_a_chain_repeats_its_block():
    site = sites(NET)["bottom.0"]
    option = site.options(NET)[-1]
    one, three = (operators(onnx.load_model_from_string(chain(site, option, n))) for n in (1, 3))
    block = one[1:-1]
    assert [kind for kind, *_ in block] == ["Conv", "Relu", "Concat", "Conv", "Relu", "Concat", "Conv", "Add"]
    assert three == [one[0], *block, *block, *block, one[-1]]
    assert block[0][1] == (48, 48, 3, 3)


def test_latency_of_a_network_is_the_sum():
    table = random_table()
    options = random_options(NET)
    expected = 20.0
    for site, ((k1, f1), (k2, f2)) in zip(sites(NET).values(), options, strict=True):
        counts = NET.filter_counts(site.width)
        expected += table.blocks[site][(1, 3).index(k1), counts.index(f1), (1, 3).index(k2), counts.index(f2)]
    assert table.network_ms(options) == pytest.approx(expected, rel=1e-15)


def test_counts_that_were_not_measured_lie_between():
    table, site = random_table(), sites(NET)["bottom.0"]
    assert NET.filter_counts(48) == (24, 48)
    low, high = (table.block_ms(site, ((3, 24), (1, f))) for f in (24, 48))
    assert table.block_ms(site, ((3, 24), (1, 30))) == pytest.approx(0.75 * low + 0.25 * high)
    assert table.block_ms(site, ((3, 24), (1, 8))) == low


def test_range_is_that_of_the_fastest_and_the_slowest_network():
    table = random_table()
    pick = {min: [], max: []}
    for site in sites(NET).values():
        for best, options in pick.items():
            options.append(best(site.options(NET), key=lambda option, s=site: table.block_ms(s, option)))
    assert table.range_ms() == pytest.approx([table.network_ms(options) for options in pick.values()])


def test_file_comes_back(tmp_path):
    table = random_table(NETS["subnetworks"])
    table.write(tmp_path / "lut.json")
    again = LatencyTable.read(tmp_path / "lut.json")
    assert again.to_dict() == table.to_dict()
    assert dataclasses.replace(again, blocks={}) == dataclasses.replace(table, blocks={})
    again.check(NETS["subnetworks"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: {**f, "schema": 3}, "schema 3, expected 2"),
        (lambda f: [], "schema 'list'"),
        (lambda f: {k: v for k, v in f.items() if k != "net"}, "'net'"),
        (lambda f: {**f, "net": {**f["net"], "arch": "vgg"}}, "vgg"),
        (lambda f: {**f, "net": {**f["net"], "colour": 3}}, "colour"),
        (lambda f: {**f, "size_px": 3}, "lacks or garbles"),
        (lambda f: {**f, "blocks": f["blocks"][:1]}, "level 1, width 32"),
        (lambda f: {**f, "blocks": [{**b, "ms": b["ms"][:1]} for b in f["blocks"]]}, "level 0, width 16"),
        (lambda f: {**f, "skeleton_ms": float("nan")}, "not numbers from 0 up"),
        (lambda f: {**f, "skeleton_ms": -1}, "not numbers from 0 up"),
    ],
)
def test_damaged_tables_are_refused_in_one_line(tmp_path, change, reason):
    path = tmp_path / "lut.json"
    path.write_text(json.dumps(change(random_table().to_dict())))
    with pytest.raises(ConfigError, match=reason) as error:
        LatencyTable.read(path)
    assert "skdn profile --lut" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"])
def test_what_is_no_json_is_refused(tmp_path, content):
    (tmp_path / "lut.json").write_bytes(content)
    with pytest.raises(ConfigError, match="not JSON"):
        LatencyTable.read(tmp_path / "lut.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        LatencyTable.read(tmp_path / "nothing.json")


def test_another_search_space_is_named():
    with pytest.raises(ConfigError, match=r"widths \(16, 32, 48\) instead of \(32, 48\).*skdn profile --lut"):
        random_table().check(tiny().net)


def test_fit_finds_the_line():
    blocks = np.array([1.0, 4.0, 9.0, 20.0])
    assert fit(blocks, 7 + 0.9 * blocks) == pytest.approx((7, 0.9))
    measured = 7 + 0.9 * blocks
    assert left_out(blocks, measured) == pytest.approx(measured)
    measured[2] *= 2
    assert left_out(blocks, measured)[2] == pytest.approx(7 + 0.9 * 9)


def test_graphs_are_timed_until_two_passes_agree():
    quiet, noisy, never = iter([10, 10.1]), iter([10, 20, 15, 10.2]), iter([1, 2, 4, 8, 16, 32])
    jobs = [Job("", 1.0, lambda times=times: next(times)) for times in (quiet, noisy, never)]
    shares = []
    passes = lut_measure._time(jobs, lambda what, share: shares.append(share))
    assert passes == [[10, 10.1], [10, 20, 15, 10.2], [1, 2, 4, 8, 16, 32]]
    assert all(0 <= share < 1 for share in shares)


def test_networks_that_calibrate_span_the_space():
    networks = lut_measure._networks(nano().net)
    work = [sum(lut_measure._work(*place) for place in chosen) for chosen in networks]
    assert work[0] == min(work)
    assert work[-1] == max(work)
    assert len({round(w) for w in work}) == len(networks)


@pytest.mark.parametrize("name", ["skipinit", "attention"])
def test_measures_every_option(name, monkeypatch):
    monkeypatch.setattr(lut_measure, "_PASSES", (2, 2))
    monkeypatch.setattr(lut_measure, "_LEAST_S", 0)
    net = replace(NETS[name], widths=(16, 32), growth=(0.5,))
    told = []
    table = measure_table(net, (70, 64), "cpu", runs=1, progress=lambda what, share: told.append(what))
    assert set(table.blocks) == set(sites(net).values())
    for site, ms in table.blocks.items():
        assert ms.size == len(site.options(net))
    facts = table.facts
    assert (facts["provider"], table.size_px) == ("cpu", (70, 64))
    assert facts["versions"].keys() >= {"skdn", "onnxruntime"}
    assert len(facts["calibration"]["networks_ms"]) == 12
    assert table.skeleton_ms >= 0
    assert told[0] == "pass 1: networks"
    LatencyTable.from_dict(json.loads(json.dumps(table.to_dict()))).check(net)


def test_command_needs_no_torch_and_loses_nothing(tmp_path):
    path = tmp_path / "lut.json"
    words = ["profile", "--lut", str(path), "--preset", "tiny", "--size", "32x32", "--runs", "1"]
    code = (
        f"from skdn_cli.main import skdn\nskdn({words!r}, standalone_mode=False)\n"
        "import sys; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("compact-unet on cpu: ")
    assert f"--lut {path}" in done.stdout
    LatencyTable.read(path).check(tiny().net)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["small", "--lut", "lut.json"],
        ["small", "--preset", "tiny"],
        ["small", "--arch", "attention-unet"],
        ["small", "--force"],
        ["--lut", "lut.json", "--ensemble"],
        ["--lut", "lut.json", "--tile", "512"],
    ],
)
def test_either_a_model_or_a_table(words):
    assert invoke("profile", *words).exit_code == 2


def test_what_cannot_be_measured_is_said_before_the_minutes(tmp_path, monkeypatch):
    monkeypatch.setattr(lut_measure, "measure_table", lambda *_: pytest.fail("measured"))
    kept = tmp_path / "lut.json"
    kept.write_text("mine")
    for words, reason in [
        (["--lut", str(kept)], "--force"),
        (["--lut", str(tmp_path / "no" / "lut.json")], "not a folder"),
        (["--lut", str(tmp_path / "new.json"), "--preset", "huge"], "huge"),
        (["--lut", str(tmp_path / "new.json"), "--arch", "vgg"], "vgg"),
    ]:
        with pytest.raises(SkdnError, match=reason):
            invoke("profile", *words)
    assert kept.read_text() == "mine"


@pytest.mark.bench
@pytest.mark.parametrize("arch", ["skipinit-unet", "attention-unet"])
def test_bench_prediction_against_measurement(arch, tmp_path, capsys):
    """Twelve random networks of the compact space, exported, and timed as `skdn profile` times a model."""
    from sk_deploy.denoiser import Denoiser
    from sk_deploy.profile import profile
    from sk_deploy.spec import METADATA_KEY, ModelSpec

    net = replace(nano().net, arch=arch)
    options = [random_options(net, seed) for seed in range(12)]
    for i, chosen in enumerate(options):
        model = exported(net, chosen)
        spec = ModelSpec(f"{i}", "", net.multiple, 0, net.conditioning, macs_per_mp=0, parameters=0)
        onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
        onnx.save(model, tmp_path / f"{i}.onnx")
    table = measure_table(net, (1024, 1024))
    rounds = [
        [
            profile(Denoiser.from_file(tmp_path / f"{i}.onnx"), 1024, 1024, runs=8, seconds=0).network.p50_ms
            for i in range(len(options))
        ]
        for _ in range(3)
    ]
    ratios = np.array([table.network_ms(chosen) for chosen in options]) / np.min(rounds, 0)
    errors = np.abs(ratios - 1)
    with capsys.disabled():
        print(f"\n{arch}: predicted / measured {np.round(ratios, 3)}: off by {errors.mean():.3f} on average, "
              f"{errors.max():.3f} at worst; table {json.dumps(table.facts)}")  # fmt: skip
