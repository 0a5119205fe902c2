"""What is kept of a trained supernet: argmax, within a budget, or the best of samples."""

from dataclasses import replace

import pytest
import torch

from sk_deploy.errors import ConfigError
from sk_search.config import MosaicConfig, NetConfig, StructureConfig
from sk_search.cost import CostModel
from sk_search.nets import build_supernet, superconvs
from sk_search.presets import tiny
from sk_search.strategies import argmax_choices, choose, default_strategy

NET = NetConfig(widths=(8, 16), kernels=(1, 3, 5), growth=(0.25, 0.5, 1.0), round_to=2)


def trained(kind, **settings):
    """A supernet with random logits, and the configuration of its run."""
    config = replace(
        tiny(),
        net=NET,
        scenes=10,
        mosaic=MosaicConfig(patch_px=32),
        structure=StructureConfig(type=kind, **settings),
    )
    torch.manual_seed(0)
    net = build_supernet(NET, config.structure)
    for conv in superconvs(net).values():
        for parameter in conv.superkernel.parameters():
            torch.nn.init.normal_(parameter)
    return net, config


@torch.no_grad()
def macs(net, choices):
    for name, choice in choices.items():
        superconvs(net)[name].superkernel.choose(choice)
    return float(CostModel(net)(chosen=True).macs_per_mp)


@pytest.mark.parametrize("kind", ["joint", "factorized", "filterwise", "filterwise-attention", "coupled"])
def test_budget_meets_a_target_that_the_argmax_misses(kind):
    net, config = trained(kind)
    kept = argmax_choices(net, 2)
    target = 0.8 * macs(net, kept)
    config = replace(config, structure=replace(config.structure, target_macs_per_mp=target))
    within = choose(net, config, default_strategy(config), 2)
    assert 0.85 * target < macs(net, within) <= target
    assert 0 < sum(within[name] != kept[name] for name in kept) < len(kept)
    assert all(len(choice.filters) % 2 == 0 for choice in within.values())


def test_budget_is_the_argmax_where_that_fits_and_is_decided():
    net, config = trained("joint")
    with torch.no_grad():
        for conv in superconvs(net).values():
            conv.superkernel.logits *= 100
    target = 1.05 * macs(net, argmax_choices(net, 2))
    config = replace(config, structure=replace(config.structure, target_macs_per_mp=target))
    assert choose(net, config, "budget", 2) == argmax_choices(net, 2)


def test_budget_is_spent_on_what_is_nearly_as_likely():
    """Undecided between all options, a network fills its target; it would else be chance how far."""
    net, config = trained("joint")
    with torch.no_grad():
        for conv in superconvs(net).values():
            conv.superkernel.logits.zero_()
    target = 1.6 * macs(net, argmax_choices(net, 2))
    config = replace(config, structure=replace(config.structure, target_macs_per_mp=target))
    assert 0.95 * target < macs(net, choose(net, config, "budget", 2)) <= target


def test_budget_takes_the_likelier_of_two_savings():
    """Two superkernels could save alike: the one that minds less gives way."""
    net, config = trained("joint")
    names = list(superconvs(net))
    with torch.no_grad():
        for conv in superconvs(net).values():
            conv.superkernel.logits.fill_(-20.0)
            conv.superkernel.logits[1, -1] = 0.0
        willing = superconvs(net)[names[4]].superkernel
        willing.logits[0, -1] = -0.5
    kept = argmax_choices(net, 2)
    config = replace(config, structure=replace(config.structure, target_macs_per_mp=macs(net, kept) - 1))
    within = choose(net, config, "budget", 2)
    assert [name for name in names if within[name] != kept[name]] == [names[4]]


def test_sampling_keeps_the_best_on_validation(monkeypatch):
    """Validation that likes small kernels finds a sample with more of them than the argmax has."""
    net, config = trained("joint")

    def likes_small(clean_like, noisy, levels):
        kernels = [conv.superkernel.chosen().kernel for conv in superconvs(net).values()]
        return noisy + sum(kernels) / 1000

    monkeypatch.setattr("sk_search.strategies.denoise_mosaic", likes_small)
    chosen = choose(net, config, "sample:12", 2)
    assert sum(c.kernel for c in chosen.values()) < sum(c.kernel for c in argmax_choices(net, 2).values())


def test_sampling_measures_real_networks():
    net, config = trained("filterwise")
    chosen = choose(net, config, "sample:2", 2)
    assert set(chosen) == set(superconvs(net))


@pytest.mark.parametrize("strategy", ["best", "sample", "sample:0", "sample:x"])
def test_unknown_strategy_is_one_line(strategy):
    net, config = trained("joint")
    with pytest.raises(ConfigError, match="expected argmax, budget or sample:N"):
        choose(net, config, strategy, 2)
