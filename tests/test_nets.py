"""The networks, their cost, and distillation as an equality."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sk_deploy.errors import ConfigError
from sk_search import conditioning, config
from sk_search.compact_unet import UPS, pixel_shuffle
from sk_search.conditioning import Anscombe, ContrastMask
from sk_search.config import CONDITIONINGS, NetConfig, RunConfig, StructureConfig, TrainConfig
from sk_search.cost import CostModel, network_cost
from sk_search.distil import choices_of, cut, describe
from sk_search.layers import CONVOLUTIONS, Block
from sk_search.nets import ARCHS, SUPERKERNELS, build_network, build_supernet, superconvs
from sk_search.prefix import JointSuperkernel
from sk_search.presets import PRESETS, tiny
from sk_search.rescale import FEATURE_SCALE, rescale_features
from sk_search.strategies import argmax_choices, round_up
from sk_search.structure import Structure
from sk_search.superkernel import Choice, Superkernel

TYPES = [kind for kind in SUPERKERNELS if kind not in ("uniform", "random")]
"""Those that need no target."""
NOISE = torch.tensor([[1e-3, 1e-5], [2e-2, 1e-4]], dtype=torch.float64)
NET = NetConfig(arch="skipinit-unet", widths=(8, 12, 16), kernels=(3, 5, 7), growth=(0.5, 1.0), round_to=2)
ARCH_NETS = {
    "compact-unet": replace(NET, arch="compact-unet"),
    "skipinit-unet": NET,
    "attention-unet": replace(NET, arch="attention-unet", widths=(4, 6, 8), subnetworks=2, window=16),
}

NEAREST = replace(ARCH_NETS["compact-unet"], up="nearest")


def trained_like(net):
    """Away from initial values: random logits, open SkipInit scalars."""
    for module in net.modules():
        if isinstance(module, Block) and module.alpha is not None:
            torch.nn.init.constant_(module.alpha, 0.5)
        if isinstance(module, Superkernel):
            for parameter in module.parameters():
                torch.nn.init.normal_(parameter)
    return net


@pytest.mark.parametrize(("preset", "count"), [("paper-model1", 28), ("paper-model2", 20)])
def test_paper_models_have_as_many_superkernels_as_the_paper_says(preset, count):
    config = PRESETS[preset]()
    net = build_supernet(config.net, config.structure)
    assert len(superconvs(net)) == count
    first = next(iter(superconvs(net).values())).superkernel
    assert first.kernels == (3, 5)
    assert first.filters == tuple(round(config.net.widths[0] * g) for g in (0.2, 0.4, 0.6))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("mode", CONVOLUTIONS)
@pytest.mark.parametrize("rule", ["marginal", "paper"])
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("arch", ARCHS)
def test_distilled_equals_the_supernet_under_its_hard_choice(arch, kind, mode, rule, conditioning):
    config = replace(ARCH_NETS[arch], conditioning=conditioning)
    torch.manual_seed(0)
    structure = StructureConfig(type=kind, mode=mode, bias_rule=rule)
    net = trained_like(build_supernet(config, structure)).double().eval()
    choices = argmax_choices(net, round_to=2)
    fixed = cut(net, choices)
    for name, conv in superconvs(net).items():
        conv.superkernel.choose(choices[name])
    x = torch.rand(2, 4, 16, 24, dtype=torch.float64)
    y = net(x, NOISE)
    assert y.shape == x.shape
    assert (y - x).abs().max() > 1e-3
    assert (y - fixed(x, NOISE)).abs().max() <= 1e-12


@pytest.mark.parametrize("arch", ARCHS)
def test_network_from_genotype_takes_the_distilled_weights(arch):
    torch.manual_seed(0)
    config = replace(tiny(), net=replace(ARCH_NETS[arch], window=64))
    net = trained_like(build_supernet(config.net, StructureConfig()))
    choices = argmax_choices(net, 2)
    with torch.no_grad():
        fixed = cut(net, choices)
        genotype = describe(net, fixed, choices, config, round_to=2)
    again = build_network(config.net, choices_of(genotype))
    again.load_state_dict(fixed.state_dict())
    x = torch.rand(2, 4, 16, 16)
    assert torch.equal(again(x, NOISE.float()), fixed(x, NOISE.float()))
    assert genotype["parameters"] == sum(p.numel() for p in fixed.parameters())


@pytest.mark.parametrize("arch", ARCHS)
def test_cost_of_a_choice_is_the_cost_of_the_distilled_network(arch):
    net = trained_like(build_supernet(ARCH_NETS[arch], StructureConfig()))
    structure = Structure(net, StructureConfig())
    choices = structure.choose()
    macs_per_mp, parameters = network_cost(cut(net, choices))
    with torch.no_grad():
        cost = structure.cost(chosen=True)
    assert float(cost.macs_per_mp) == pytest.approx(macs_per_mp)
    assert float(cost.parameters) == parameters


@pytest.mark.parametrize("kind", TYPES)
def test_expected_cost_is_the_mean_over_samples(kind):
    torch.manual_seed(3)
    net = trained_like(build_supernet(NET, StructureConfig(type=kind)))
    structure = Structure(net, StructureConfig())
    generator = torch.Generator().manual_seed(0)
    costs = []
    with torch.no_grad():
        for _ in range(300):
            structure.draw(1.0, generator)
            costs.append(float(structure.cost(chosen=True).macs_per_mp))
        expected = float(structure.expected_cost().macs_per_mp)
    assert sum(costs) / len(costs) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("net_config", [*ARCH_NETS.values(), NEAREST], ids=lambda n: f"{n.arch} {n.up}")
def test_macs_are_those_of_the_convolutions_that_run(net_config):
    """Counted again by PyTorch, from the operators that a known input meets, as it runs deployed."""
    net = build_supernet(net_config, StructureConfig(type="none"))
    fixed = cut(net, argmax_choices(net, 2)).eval()
    with FlopCounterMode(display=False) as counter:
        fixed(torch.zeros(1, 4, 40, 40), NOISE[:1].float())
    macs = counter.get_total_flops() / 2
    if net_config.arch == "compact-unet":  # of its mask: no window across an edge, and means are free
        macs += (20**2 - 19**2) * 1024 - 19**2 * 16 - 20**2 * 4
    assert network_cost(fixed)[0] == pytest.approx(macs * 1e6 / (80 * 80))


@pytest.mark.parametrize("arch", ARCHS)
def test_supernet_has_an_expected_cost_only(arch):
    with pytest.raises(TypeError, match="distilled"):
        network_cost(build_supernet(ARCH_NETS[arch], StructureConfig()))


def test_a_target_below_the_smallest_network_is_refused():
    with pytest.raises(ConfigError, match="smallest"):
        Structure(build_supernet(NET, StructureConfig()), StructureConfig(target_macs_per_mp=1e6))


def test_reported_probabilities_are_those_of_the_choices():
    superkernel = JointSuperkernel((3, 5), (2, 8))
    with torch.no_grad():
        superkernel.logits.copy_(torch.tensor([[0.1, 0.2], [0.3, 0.4]]).log())
        torch.testing.assert_close(superkernel.kernel_probabilities(), torch.tensor([0.3, 0.7]))
        torch.testing.assert_close(superkernel.confidence(), torch.tensor(0.4))


def test_structure_follows_the_network_to_its_device():
    net = build_supernet(NET, StructureConfig()).to("meta")
    assert all(conv.superkernel.weights.is_meta for conv in superconvs(net).values())


def test_dual_ascent_moves_the_structure_to_its_target():
    net = build_supernet(NET, StructureConfig())
    with torch.no_grad():
        largest = float(CostModel(build_supernet(NET, StructureConfig(type="none")))().macs_per_mp)
    structure = Structure(net, StructureConfig(target_macs_per_mp=0.4 * largest, learning_rate=0.05))
    for _ in range(300):
        structure.penalty(1.0).backward()
        structure.update(0.5)
    structure.choose()
    assert structure.feasible()


def test_rounding_keeps_the_choice_and_adds_the_most_probable():
    superkernel = JointSuperkernel((3,), (2, 4, 8))
    with torch.no_grad():
        superkernel.logits.copy_(torch.tensor([[3.0, 0.0, -1.0]]))
    assert round_up(superkernel, Choice(3, (0, 1)), 4).filters == (0, 1, 2, 3)
    assert round_up(superkernel, Choice(3, (0, 5)), 1).filters == (0, 5)
    assert round_up(superkernel, Choice(3, (0, 1)), 16).filters == tuple(range(8))


def test_anscombe_gives_unit_noise_at_any_level():
    generator = torch.Generator().manual_seed(0)
    for shot, read in ((1e-5, 1e-8), (1e-3, 1e-5), (2e-2, 1e-3), (1e-7, 1e-3)):
        x = torch.full((1, 4, 64, 64), 0.3)
        noisy = x + (shot * x + read) ** 0.5 * torch.randn(x.shape, generator=generator)
        levels = torch.tensor([[shot, read]])
        z, restore = Anscombe()(noisy, levels)
        assert float(z.std()) == pytest.approx(1, abs=0.06)
        clean, _ = Anscombe()(x, levels)
        exact = restore(2 * (clean - z))  # the algebraic inverse, and what a denoised mean is below it
        few = 3 / 8 * shot**2
        below = shot / 4 * (1 - few / (shot * (x + shot / 4) + few + read))
        torch.testing.assert_close(exact, x + below, rtol=1e-4, atol=0)


def test_a_denoised_anscombe_plane_keeps_its_brightness():
    """Where noise is averaged away in z, the picture must come back as bright: from half an electron on."""
    generator = torch.Generator().manual_seed(0)
    few = ((2e-2, 1e-6, 0.02), (2e-2, 1.2e-4, 0.026), (2e-2, 1.2e-4, 0.01), (7e-3, 1.8e-4, 0.01))
    for shot, read, signal in (*few, (2e-2, 1e-6, 0.2), (1e-2, 1e-3, 0.3), (1e-3, 1e-5, 0.05)):
        counts = torch.full((1, 4, 512, 512), signal / shot)
        x = shot * torch.poisson(counts, generator) + read**0.5 * torch.randn(
            counts.shape, generator=generator
        )
        z, restore = Anscombe()(x, torch.tensor([[shot, read]]))
        bias = float(restore(2 * (z.mean() - z)).mean()) - signal
        assert abs(bias) < 0.15 * shot / 4  # without its correction: all of it


def test_noise_hot_pixels_ramps_and_flat_colours_are_no_contrast():
    noise = torch.randn(4, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    hot = noise.clone()
    hot[:, 2, 20, 21] += 60
    colours = torch.tensor([300.0, 100, 100, 20]).view(1, 4, 1, 1)
    for features, least in ((noise, 0.99), (hot, 0.9), (noise + 20 * row - 15 * column + colours, 0.99)):
        share = ContrastMask(13.0)(features)
        assert share.shape == (4, 1, 32, 32)
        assert float(share[..., 1:-1, 1:-1].min()) > least


@pytest.mark.parametrize("pattern", ["sensor rows", "rows", "columns", "chequers", "diagonals"])
def test_structure_far_above_its_noise_is_left_alone(pattern):
    """Even at the finest frequency of the mosaic, whose rows are of constant planes."""
    noise = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    row, column = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    wave = {
        "sensor rows": torch.tensor([1, 1, -1, -1]).view(4, 1, 1).expand(4, 64, 64),
        "rows": (-1) ** row,
        "columns": (-1) ** column,
        "chequers": (-1) ** (row + column),
        "diagonals": (-1) ** ((row + column) // 2),
    }[pattern]
    shares = [ContrastMask(13.0)(noise + amplitude * wave) for amplitude in (1.0, 10.0, 100.0, 300.0)]
    assert float(shares[0].min()) > 0.95
    for weaker, stronger in itertools.pairwise(shares):
        assert float((stronger - weaker).max()) < 0.01
    inside = shares[-1][..., 1:-1, 1:-1]
    assert float(inside.max()) < 0.02


def test_a_network_is_masked_from_its_own_contrast_on():
    """Where contrast, a mean magnitude, is what the configuration says, half of the residual is left."""
    features = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    for half in (8.0, 13.0):
        contrast = features * half / math.sqrt(2 / math.pi)
        assert float(ContrastMask(half)(contrast)[..., 1:-1, 1:-1].mean()) == pytest.approx(0.5, abs=0.02)
    net = build_supernet(replace(ARCH_NETS["compact-unet"], masked_from=8.0), StructureConfig())
    assert net.mask.half == 8
    with pytest.raises(ConfigError, match="masked_from is 0: expected a contrast above 0"):
        NetConfig(masked_from=0.0)


@torch.no_grad()
def test_training_sees_the_whole_residual():
    """Or a network would not learn to leave alone what it is kept from taking."""
    supernet = build_supernet(ARCH_NETS["compact-unet"], StructureConfig())
    net = cut(supernet, argmax_choices(supernet, 2))
    x, levels = torch.rand(1, 4, 32, 32), torch.tensor([[1e-5, 1e-9]])
    torch.nn.init.normal_(net.tail.weight, std=1e-2)
    learning, deployed = net.train()(x, levels) - x, net.eval()(x, levels) - x
    assert float(deployed.abs().mean()) < 0.1 * float(learning.abs().mean())
    flat = torch.full_like(x, 0.5)
    torch.testing.assert_close(net.train()(flat, levels), net.eval()(flat, levels))


@pytest.mark.parametrize("up", config.UPS)
def test_a_compact_network_comes_up_to_twice_the_size(up):
    """Each pixel of a level below becomes a cell of four: equal ones, or each its own linear map of it."""
    layer = UPS[up](3, 2)
    x = torch.rand(1, 3, 4, 5)
    with torch.no_grad():
        cells = torch.nn.functional.pixel_unshuffle(layer(x), 2).unflatten(1, (2, 4))  # [1,2,4,4,5]
    assert torch.equal(cells, cells[:, :, :1].expand_as(cells)) == (up == "nearest")
    for pixel in range(4):
        weight = (
            layer.weight if up == "nearest" else layer.weight[:, :, pixel // 2, pixel % 2].T[..., None, None]
        )
        expected = torch.nn.functional.conv2d(x, weight, layer.bias)
        torch.testing.assert_close(cells[:, :, pixel], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("arch", config.ARCHS)
def test_folded_factors_change_nothing(arch):
    net = trained_like(build_supernet(ARCH_NETS[arch], StructureConfig())).double().eval()
    folded = copy.deepcopy(net)
    for module in folded.modules():
        if isinstance(module, Block):
            module.fold()
    assert not any(name.endswith("alpha") for name, _ in folded.named_parameters())
    x = torch.rand(2, 4, 16, 24, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(folded(x, NOISE), net(x, NOISE), rtol=0, atol=1e-12)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("net_config", [*ARCH_NETS.values(), NEAREST], ids=lambda n: f"{n.arch} {n.up}")
def test_the_scale_of_features_changes_no_bit(net_config, conditioning):
    net_config = replace(net_config, conditioning=conditioning)
    net = trained_like(build_supernet(net_config, StructureConfig())).eval()
    fixed = cut(net, argmax_choices(net, round_to=2))
    scaled = copy.deepcopy(fixed)
    rescale_features(scaled, FEATURE_SCALE)
    x = torch.rand(2, 4, 16, 24)
    with torch.no_grad():
        assert torch.equal(scaled(x, NOISE.float()), fixed(x, NOISE.float()))
    if net_config.arch != "attention-unet":
        assert not torch.equal(scaled.head.weight, fixed.head.weight)


def test_the_stem_sees_differences_whatever_the_level():
    """A plane of hundreds is a thirty-second of its filters' sums, at the edge too."""
    torch.manual_seed(0)
    stem = conditioning.Stem(4, 16, stride=2).double()
    x = torch.randn(1, 4, 16, 24, dtype=torch.float64)
    lifted = stem(x + 500) - stem(x)  # [1,16,8,12]
    expected = 500 / 32 * stem.sums.sum(1).view(1, -1, 1, 1)
    torch.testing.assert_close(lifted, expected.expand_as(lifted), rtol=0, atol=1e-9)


def test_every_choice_that_is_offered_is_there():
    assert set(config.TYPES) == set(SUPERKERNELS)
    assert set(config.MODES) == set(CONVOLUTIONS)
    assert set(config.ARCHS) == set(ARCHS)
    assert set(config.UPS) == set(UPS)
    assert set(config.CONDITIONINGS) == set(conditioning.CONDITIONINGS)


def test_configuration_survives_json():
    import json

    for preset in PRESETS.values():
        config = preset()
        assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "make",
    [
        lambda: NetConfig(kernels=(3, 4)),
        lambda: NetConfig(widths=(16,)),
        lambda: StructureConfig(bias_rule="none"),
        lambda: TrainConfig(steps=0),
        lambda: replace(tiny(), net=NetConfig(widths=(16,) * 8)),
        lambda: RunConfig.from_dict({"unknown": 1}),
        lambda: RunConfig.from_dict([]),
        lambda: StructureConfig(type="unheard-of"),
        lambda: StructureConfig(type="none", target_parameters=1e5),
    ],
)
def test_bad_configuration_is_one_line(make):
    with pytest.raises(ConfigError) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_two_transposes_are_the_pixel_shuffle():
    x = torch.arange(2 * 16 * 3 * 5).view(2, 16, 3, 5)
    assert torch.equal(pixel_shuffle(x), torch.nn.functional.pixel_shuffle(x, 2))
