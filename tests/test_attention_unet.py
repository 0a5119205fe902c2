"""The multi-attentional residual U-Net: its blocks and gates as equalities, and its tiles."""

from dataclasses import replace

import numpy as np
import onnx
import onnxsim
import pytest
import torch
import torch.nn.functional as F
from skdn_cli.search import _configuration
from torch import nn

from sk_deploy.denoiser import Denoiser
from sk_deploy.errors import ConfigError
from sk_deploy.genotype import genes
from sk_deploy.noise import NoiseProfile
from sk_deploy.spec import METADATA_KEY, ModelSpec
from sk_search.channel_attention import ChannelAttention, local_mean
from sk_search.config import MosaicConfig, NetConfig, StructureConfig
from sk_search.dead_leaves import dead_leaves
from sk_search.distil import cut, describe
from sk_search.export import to_onnx
from sk_search.halo import measure_halo
from sk_search.layers import Block, ConvReLU
from sk_search.nets import ARCHS, build_network, build_supernet, superconvs
from sk_search.presets import PRESETS, tiny
from sk_search.report_architecture import draw_architecture
from sk_search.strategies import argmax_choices
from sk_search.structure import Structure
from sk_search.superkernel import Choice

QUARTER_STEP = 0.25 / (2**14 - 1)
NET = NetConfig("attention-unet", widths=(8, 12, 16), kernels=(1, 3), round_to=4, window=16)
RUN = replace(tiny(), net=NET, mosaic=MosaicConfig(patch_px=32))


def attention(channels=24, window=4, cell=2):
    torch.manual_seed(0)
    return ChannelAttention(channels, window, cell).double()


@pytest.mark.parametrize("subnetworks", [1, 3, 6])
def test_paper_networks_search_two_convolutions_a_block(subnetworks):
    """Four encoder levels with the bottom and three decoder levels: seven blocks in a subnetwork."""
    config = PRESETS[f"paper-attention{subnetworks}"]()
    with torch.device("meta"):
        found = superconvs(build_supernet(config.net, config.structure))
    assert len(found) == 14 * subnetworks
    for name, conv in found.items():
        side, level = name.split(".")[2:4]
        width = 512 if side == "bottom" else 64 * 2 ** int(level) * (2 if side == "decoder" else 1)
        assert conv.superkernel.kernels == (3, 5, 7)
        assert conv.superkernel.filters == (width // 4, width // 2, width)


def test_block_is_figure_3():
    torch.manual_seed(0)
    block = Block("b", 6, lambda name, channels_in, width: ConvReLU(channels_in, 4, 3), 3, "dense")
    x = torch.randn(1, 6, 5, 7)
    first = F.relu(F.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1))
    second = F.relu(F.conv2d(torch.cat([x, first], 1), block.conv2.weight, block.conv2.bias, padding=1))
    out = F.relu(F.conv2d(torch.cat([x, first, second], 1), block.out.weight, block.out.bias, padding=1))
    torch.testing.assert_close(block(x), x + out)
    assert len(list(block.parameters())) == 6  # no SkipInit scalar


@pytest.mark.parametrize(("height", "width"), [(13, 21), (9, 5), (5, 4), (3, 2), (1, 11)])
def test_local_mean_is_over_a_window_that_moves_inside_at_borders(height, width):
    radius = 2
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    expected = torch.empty_like(x)
    for i in range(height):
        for j in range(width):
            top = max(0, min(i - radius, height - 2 * radius - 1))
            left = max(0, min(j - radius, width - 2 * radius - 1))
            expected[:, :, i, j] = x[:, :, top : top + 5, left : left + 5].mean((2, 3))
    torch.testing.assert_close(local_mean(x, radius), expected, rtol=0, atol=1e-14)


def test_gates_are_those_of_rcan():
    layer = attention()
    x = torch.randn(2, 24, 8, 8, dtype=torch.float64)
    squeeze, expand = layer.squeeze.weight[:, :, 0, 0], layer.expand.weight[:, :, 0, 0]
    hidden = F.relu(x.mean((2, 3)) @ squeeze.T + layer.squeeze.bias)
    gates = torch.sigmoid(hidden @ expand.T + layer.expand.bias)
    torch.testing.assert_close(layer(x), x * gates[:, :, None, None], rtol=0, atol=1e-14)
    assert squeeze.shape == (4, 24)


def test_deployed_equals_trained_on_a_training_patch():
    """At every pixel, so validation on patches judges the network that was trained."""
    torch.manual_seed(0)
    net = build_supernet(replace(NET, subnetworks=2), StructureConfig()).double()
    x = torch.rand(2, 4, 16, 16, dtype=torch.float64)
    noise = torch.tensor([[1e-3, 1e-5]], dtype=torch.float64)
    assert (net.train()(x, noise) - net.eval()(x, noise)).abs().max() < 1e-14
    wide = torch.cat([x, torch.rand(2, 4, 16, 48, dtype=torch.float64)], 3)
    assert (net.train()(wide, noise) - net.eval()(wide, noise)).abs().max() > 1e-9


def test_a_gate_ends_with_its_window():
    layer = attention().eval()
    x = torch.randn(1, 24, 64, 64, dtype=torch.float64)
    y = x.clone()
    y[:, :, :, 40:] += 10
    change = (layer(x) - layer(y)).abs().amax((0, 1, 2))  # [64]
    reach = 2 * layer.radius + 2  # half a window of cells, and the interpolation between them
    assert change[: 40 - reach].max() == 0
    assert change[40 - reach : 40].max() > 0


@pytest.mark.parametrize("preset", ["tiny", "nano", "small", "base"])
@pytest.mark.parametrize("arch", ARCHS)
def test_presets_take_every_architecture(preset, arch):
    """A preset's targets are for its own: no ConfigError."""
    config = _configuration(preset, None, None, arch, False, {})
    Structure(build_supernet(config.net, config.structure), config.structure)


def test_bad_configuration_is_one_line():
    with pytest.raises(ConfigError, match="only an attention-unet"):
        NetConfig(subnetworks=3)
    with pytest.raises(ConfigError, match="0 subnetworks"):
        NetConfig("attention-unet", subnetworks=0)
    with pytest.raises(ConfigError, match=r"window 64.* needs 32"):
        replace(RUN, net=replace(NET, window=64), mosaic=MosaicConfig(patch_px=64))


def test_every_subnetwork_is_drawn():
    config = replace(RUN, net=replace(NET, subnetworks=3))
    net = build_supernet(config.net, config.structure)
    with torch.no_grad():
        choices = argmax_choices(net, 4)
        genotype = describe(net, cut(net, choices), choices, config, round_to=4)
    found = genes(genotype)
    assert len(found) == len(superconvs(net)) == 3 * 10
    networks = list(dict.fromkeys(gene.place.network for gene in found))
    assert networks == [f"subnetworks.{i}" for i in range(3)]
    drawing = draw_architecture(genotype)
    assert all(gene.name in drawing for gene in found)
    assert "features of 3 subnetworks" in drawing
    assert "input + residual" not in drawing  # which is of the sum, not of each


@pytest.fixture(scope="module", params=[pytest.param(1, marks=pytest.mark.slow), 3])
def exported(request, tmp_path_factory):
    """A fixed network with gates far apart, and its model file."""
    torch.manual_seed(0)
    config = replace(RUN, net=replace(NET, widths=(8, 12), subnetworks=request.param))
    supernet = build_supernet(config.net, config.structure)
    net = build_network(config.net, {name: Choice(3, (0, 1, 2, 3)) for name in superconvs(supernet)}).eval()
    for layer in net.modules():
        if isinstance(layer, ChannelAttention):  # as after training; at their initial values gates are alike
            nn.init.normal_(layer.squeeze.weight)
            nn.init.normal_(layer.expand.weight)
    model, _ = onnxsim.simplify(to_onnx(net, blind=False))
    spec = ModelSpec(
        name="attention",
        licence="CC0-1.0",
        multiple=config.net.multiple,
        halo=measure_halo(net, config),
        conditioning=config.net.conditioning,
        macs_per_mp=1e9,
        parameters=1,
    )
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    path = tmp_path_factory.mktemp("attention") / "model.onnx"
    onnx.save(model, path)
    return net, path


def test_tiles_equal_the_whole(exported):
    """Within a quarter of a 14-bit step, on a mosaic of many windows; with one mean a tile they would not."""
    net, path = exported
    side_px, level = 512, NoiseProfile(2e-3, 1e-5)
    rng = np.random.default_rng(0)
    clean = dead_leaves(1, side_px, seed=5).float().mean(1)[0].numpy()
    clean[:, side_px // 2 :] *= 0.2  # a step in brightness, as at a window frame
    sigma = np.sqrt(level.shot * clean + level.read)
    noisy = (clean + rng.normal(size=clean.shape) * sigma).astype(np.float32)

    whole = Denoiser.from_file(path, provider="cpu", tile=side_px)
    tile_px = 2 * (2 * whole.spec.halo + 2 * NET.window)
    tiled = Denoiser.from_file(path, provider="cpu", tile=tile_px)
    assert 2 * NET.window < tile_px < side_px
    expected = whole(noisy, level)
    assert np.abs(expected - noisy).max() > 1e-2
    assert 0 < np.abs(tiled(noisy, level) - expected).max() <= QUARTER_STEP

    def mean_of_a_tile(planes, noise):
        with torch.no_grad():
            return net.train()(torch.from_numpy(planes), torch.from_numpy(noise)).numpy()

    whole.session.run = tiled.session.run = mean_of_a_tile
    assert np.abs(tiled(noisy, level) - whole(noisy, level)).max() > 10 * QUARTER_STEP


@pytest.mark.parametrize("size", [(4, 8), (16, 64), (100, 36)])
def test_exported_equals_torch_at_every_size(exported, size):
    """Also where the image is smaller than the window."""
    net, path = exported
    x, noise = torch.rand(1, 4, *size), torch.tensor([[1e-3, 1e-5]])
    with torch.no_grad():
        expected = net.eval()(x, noise).numpy()
    found = Denoiser.from_file(path, provider="cpu").session.run(x.numpy(), noise.numpy())
    assert np.abs(found - expected).max() < 1e-5
