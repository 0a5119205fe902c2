"""Costs: of options, of expectations and of fixed networks, as equalities."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from sk_deploy.errors import ConfigError
from sk_search.config import NetConfig, StructureConfig
from sk_search.cost import CostModel
from sk_search.feasibility import feasibility
from sk_search.lut import LatencyTable, sites
from sk_search.nets import SUPERKERNELS, build_supernet, superconvs
from sk_search.superkernel import Choice

KERNELS, FILTERS = (1, 3, 5), (4, 6, 14)
NET = NetConfig(widths=(8, 12, 16), kernels=(3, 5), growth=(0.25, 0.5, 1.0), round_to=2)
LEARNED = ("joint", "factorized", "filterwise", "filterwise-attention")


def superkernel(kind):
    """With decided and undecided logits, in float64."""
    torch.manual_seed(0)
    made = SUPERKERNELS[kind](KERNELS, FILTERS)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made.double()


def test_options_of_a_joint_superkernel_are_its_softmax():
    joint = superkernel("joint")
    expected = torch.softmax(joint.logits.flatten(), 0).view(3, 3)
    assert torch.allclose(joint.options(joint.probabilities()), expected, rtol=0, atol=1e-15)


def test_options_of_a_factorized_superkernel_are_the_product():
    factorized = superkernel("factorized")
    expected = torch.outer(factorized.kernel_logits.softmax(0), factorized.filter_logits.softmax(0))
    assert torch.allclose(factorized.options(factorized.probabilities()), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", ["filterwise", "filterwise-attention"])
def test_options_of_single_filters_keep_the_expected_count(kind):
    filterwise = superkernel(kind)
    p = filterwise.probabilities().detach()
    options = filterwise.options(p).detach()
    assert torch.allclose(options.sum(1), filterwise.kernel_probabilities().detach(), rtol=0, atol=1e-15)
    assert float(options.sum(0) @ filterwise.counts) == pytest.approx(float(p.sum()), abs=1e-14)
    assert (options > 0).any(0).sum() == 2


@pytest.mark.parametrize("kind", LEARNED)
@pytest.mark.parametrize(
    ("count", "shares"),
    [
        (4, (1, 0, 0)),
        (6, (0, 1, 0)),
        (14, (0, 0, 1)),
        (5, (0.5, 0.5, 0)),
        (8, (0, 0.75, 0.25)),
        (1, (1, 0, 0)),
    ],
)
def test_options_of_a_hard_choice(kind, count, shares):
    made = superkernel(kind)
    made.choose(Choice(3, tuple(range(count))))
    expected = torch.zeros(3, 3, dtype=torch.float64)
    expected[1] = torch.tensor(shares)
    assert torch.allclose(made.options(made.weights), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", LEARNED)
def test_options_are_differentiable(kind):
    made = superkernel(kind)
    (made.options(made.probabilities()) * torch.rand(3, 3, dtype=torch.float64)).sum().backward()
    assert all((p.grad != 0).any() for p in made.parameters())


def random_table(net=NET):
    """As if measured: every option has some latency."""
    rng = np.random.default_rng(0)
    blocks = {}
    for site in sites(net).values():
        side = (len(net.kernels), len(net.filter_counts(site.width)))
        blocks[site] = rng.uniform(1, 9, side + side)
    return LatencyTable(net, (1024, 1024), 20.0, blocks, {})


def undecided(kind, net=NET):
    """A supernet in float64 with random logits."""
    torch.manual_seed(0)
    supernet = build_supernet(net, StructureConfig(type=kind))
    for conv in superconvs(supernet).values():
        for parameter in conv.superkernel.parameters():
            torch.nn.init.normal_(parameter)
    return supernet.double()


@pytest.mark.parametrize("arch", ["skipinit-unet", "attention-unet"])
def test_expected_latency_is_the_mean_over_all_choices(arch):
    net = replace(NET, arch=arch, widths=(8, 12))
    table, supernet = random_table(net), undecided("joint", net)
    expected = table.skeleton_ms
    convs = superconvs(supernet)
    for name, site in sites(net).items():
        options = list(itertools.product(net.kernels, net.filter_counts(site.width)))
        p1, p2 = (convs[f"{name}.conv{i}"].superkernel.logits.flatten().softmax(0).tolist() for i in (1, 2))
        for (a, first), (b, second) in itertools.product(enumerate(options), enumerate(options)):
            expected += p1[a] * p2[b] * table.block_ms(site, (first, second))
    assert float(CostModel(supernet, table)().latency_ms.detach()) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("kind", LEARNED)
@pytest.mark.parametrize("measured", [True, False])
def test_latency_of_a_choice_is_what_the_table_says(kind, measured):
    table, supernet = random_table(), undecided(kind)
    choose = torch.Generator().manual_seed(1)
    options = []
    for name, site in sites(NET).items():
        option = []
        for conv in ("conv1", "conv2"):
            superkernel = superconvs(supernet)[f"{name}.{conv}"].superkernel
            counts = superkernel.filters if measured else range(1, site.width + 1)
            kernel = NET.kernels[int(torch.randint(2, (), generator=choose))]
            count = counts[int(torch.randint(len(counts), (), generator=choose))]
            superkernel.choose(Choice(kernel, tuple(range(count))))
            option.append((kernel, count))
        options.append(tuple(option))
    cost = CostModel(supernet, table)(chosen=True)
    # the shares of counts between two that were measured are float32 in a superkernel
    assert float(cost.latency_ms) == pytest.approx(table.network_ms(options), rel=1e-14 if measured else 1e-6)


@pytest.mark.parametrize("kind", LEARNED)
def test_expected_latency_reaches_every_superkernel(kind):
    supernet = undecided(kind)
    CostModel(supernet, random_table())().latency_ms.backward()
    for conv in superconvs(supernet).values():
        assert all(p.grad is not None and (p.grad != 0).any() for p in conv.superkernel.parameters())


def test_costs_are_those_without_a_table_but_for_the_latency():
    supernet = undecided("joint")
    without, with_table = CostModel(supernet)(), CostModel(supernet, random_table())()
    assert without.latency_ms is None
    assert torch.equal(without.macs_per_mp, with_table.macs_per_mp)
    assert torch.equal(without.parameters, with_table.parameters)


def test_a_table_of_another_space_is_refused():
    with pytest.raises(ConfigError, match="5 blocks, this network has 3"):
        CostModel(undecided("joint", replace(NET, widths=(8, 12))), random_table())
    with pytest.raises(ConfigError, match=r"\(2, 3, 2, 3\) options.*\(2, 2, 2, 2\)"):
        CostModel(undecided("joint", replace(NET, growth=(0.5, 1.0))), random_table())


@pytest.mark.parametrize("kind", LEARNED)
def test_range_encloses_every_choice_and_leaves_the_choice_alone(kind):
    supernet = undecided(kind)
    model = CostModel(supernet, random_table())
    generator = torch.Generator().manual_seed(0)
    ranges = model.range()
    for _ in range(20):
        for conv in superconvs(supernet).values():
            conv.superkernel.draw(1.0, generator, hard=True)
        before = model(chosen=True)
        assert model.range() == ranges
        assert model(chosen=True) == before
        for name, (least, most) in ranges.items():
            assert least <= float(getattr(before, name).detach()) <= most


def test_range_is_reached():
    model = CostModel(undecided("joint"))
    smallest, largest = undecided("joint"), undecided("none")
    for conv in superconvs(smallest).values():
        conv.superkernel.choose(conv.superkernel.smallest())
    for name, figures in model.range().items():
        ends = getattr(CostModel(smallest)(chosen=True), name), getattr(CostModel(largest)(), name)
        assert figures == pytest.approx([float(end) for end in ends])


def test_feasibility_is_a_line_for_each_cost():
    table = random_table()
    least, most = table.range_ms()
    model = CostModel(undecided("joint"), table)
    lines = feasibility(model, {"latency_ms": most - 1, "parameters": 1e9})
    assert lines[0] == (
        f"latency: {least:.4g} to {most:.4g} ms in this search space, target {most - 1:.4g} can be met"
    )
    assert "GMAC/MP" in lines[1]
    assert lines[1].endswith("no target")
    assert lines[2].endswith("target 1e+06 can be met by every network")
    with pytest.raises(ConfigError, match=f"target of {least - 1:.4g} ms: the smallest has {least:.4g}"):
        feasibility(model, {"latency_ms": least - 1})


def test_a_target_in_milliseconds_needs_a_table():
    with pytest.raises(ConfigError, match="skdn profile --lut"):
        feasibility(CostModel(undecided("joint")), {"latency_ms": 50})


@pytest.mark.gpu
@pytest.mark.parametrize("kind", LEARNED)
def test_a_cost_never_waits_for_the_device(kind):
    supernet = undecided(kind).float().cuda()
    model = CostModel(supernet, random_table())
    model().latency_ms.backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for chosen in (False, True):
            model(chosen)
        model().latency_ms.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
