"""Drawing, counting and coupling of superkernels, and the architectures that nobody searched."""

import math

import pytest
import torch

from sk_deploy.errors import ConfigError
from sk_search.config import NetConfig, StructureConfig
from sk_search.filterwise import FilterwiseSuperkernel
from sk_search.nets import build_supernet
from sk_search.prefix import CoupledSuperkernel
from sk_search.presets import small, tiny
from sk_search.structure import STIFFNESS, Structure
from sk_search.superkernel import Choice

NET = NetConfig(widths=(16, 32), kernels=(1, 3, 5), growth=(0.25, 0.5, 1.0), round_to=4)


def structure_of(**settings):
    config = StructureConfig(**settings)
    torch.manual_seed(0)
    return Structure(build_supernet(NET, config), config)


def test_warm_up_draws_every_choice_alike():
    """Filters start at 92 % kept, and are still drawn as often as not while the structure is frozen."""
    structure = structure_of(type="filterwise", frozen_share=0.2)
    superkernel = next(iter(structure.superkernels.values()))
    generator = torch.Generator().manual_seed(0)

    def kept(progress):
        weights = []
        for _ in range(400):
            structure.draw(progress, generator)
            weights.append(superkernel.weights.detach().sum(0).mean())
        return float(torch.stack(weights).mean())

    assert kept(0.1) == pytest.approx(0.5, abs=0.02)
    assert kept(0.9) == pytest.approx(0.924, abs=0.02)


def test_uses_are_counted_and_survive_a_checkpoint():
    structure, generator = structure_of(type="joint"), torch.Generator().manual_seed(0)
    for _ in range(30):
        structure.draw(0.95, generator)
    uses = structure.metrics()["uses"]
    assert all(sum(used) == pytest.approx(30, abs=1e-3) for used in uses.values())
    other = structure_of(type="joint")
    other.load_state_dict(structure.state_dict())
    assert other.metrics()["uses"] == uses


def test_coupled_choices_go_together():
    """With θ = 0 and loadings that all favour one choice where z₀ > 0, whole networks agree or disagree."""
    structure, generator = structure_of(type="coupled"), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for superkernel in structure.superkernels.values():
            assert isinstance(superkernel, CoupledSuperkernel)
            superkernel.logits.zero_()
            superkernel.loadings.zero_()
            superkernel.loadings[0, 0, 0] = 1e4
            superkernel.loadings[2, -1, 0] = -1e4
    kernels = []
    for _ in range(40):
        structure.draw(1.0, generator)
        kernels.append({s.chosen().kernel for s in structure.superkernels.values()})
    assert all(len(chosen) == 1 for chosen in kernels)
    assert {1} in kernels
    assert {5} in kernels


def test_coupled_cost_is_the_mean_over_what_couples():
    """The expectation of a product is not the product of expectations when both factors share z."""
    structure, generator = structure_of(type="coupled"), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for superkernel in structure.superkernels.values():
            superkernel.loadings.copy_(
                torch.linspace(-1, 1, 9).view(3, 3, 1)[:, : superkernel.prefix.shape[0]]
            )
        costs = []
        for _ in range(1500):
            structure.draw(1.0, generator)
            costs.append(structure.cost(chosen=True).macs_per_mp)
        expected = structure.expected_cost().macs_per_mp
        independent = structure.cost().macs_per_mp
    sampled = torch.stack(costs).mean()
    assert float(expected / sampled) == pytest.approx(1, abs=0.02)
    assert abs(float(independent / sampled) - 1) > abs(float(expected / sampled) - 1)


def test_candidates_hold_the_likeliest_subsets():
    superkernel = FilterwiseSuperkernel((3, 5), (4,))
    with torch.no_grad():
        superkernel.base_logits.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
        superkernel.kernel_logits.copy_(torch.tensor([0.0, 1.0]))
    found = dict(superkernel.candidates())
    p = torch.sigmoid(superkernel.base_logits.detach())
    expected = superkernel.kernel_probabilities()[1] * p[0] * (1 - p[1]) * (1 - p[2]) * p[3]
    assert found[Choice(5, (0, 3))] == pytest.approx(float(expected.detach().log()), abs=1e-5)
    assert max(found, key=found.get) == superkernel.argmax()


@pytest.mark.parametrize("kind", ["joint", "factorized", "coupled"])
def test_candidates_are_a_distribution(kind):
    structure = structure_of(type=kind)
    for superkernel in structure.superkernels.values():
        logs = torch.tensor([log_p for _, log_p in superkernel.candidates()])
        assert float(logs.exp().sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["uniform", "random"])
def test_baselines_fill_their_target(kind):
    preset = small()
    config = StructureConfig(type=kind, target_macs_per_mp=9e9)
    structure = Structure(build_supernet(preset.net, config), config)
    structure.fix_baseline(1)
    choices = structure.choose()
    assert -0.1 < structure.excess() <= 0
    sizes = {(c.kernel, len(c.filters)) for c in choices.values()}
    kernels = {c.kernel for c in choices.values()}
    assert len(sizes) > 1
    assert len(kernels) <= 2 if kind == "uniform" else kernels == set(preset.net.kernels)


def test_random_networks_follow_their_seed():
    preset = small()
    config = StructureConfig(type="random", target_macs_per_mp=9e9)

    def choices(seed):
        structure = Structure(build_supernet(preset.net, config), config)
        structure.fix_baseline(seed)
        return structure.choose()

    assert choices(1) == choices(1)
    assert choices(1) != choices(2)


def test_a_baseline_is_what_its_weights_say():
    """The architecture is chosen once, when the search begins, and then belongs to the checkpoint."""
    preset = small()
    config = StructureConfig(type="random", target_macs_per_mp=9e9)
    net, other = build_supernet(preset.net, config), build_supernet(preset.net, config)
    structure = Structure(net, config)
    structure.fix_baseline(1)
    other.load_state_dict(net.state_dict())
    assert Structure(other, config).choose() == structure.choose()


def test_a_baseline_without_a_target_is_refused():
    with pytest.raises(ConfigError, match="target"):
        StructureConfig(type="uniform")


@pytest.mark.parametrize("target", [3e9, 5e9, 7e9])
def test_random_networks_come_close_in_a_small_space(target):
    """Six superkernels of four choices each: a descent often ends beside the target."""
    preset = tiny()
    for seed in range(8):
        config = StructureConfig(type="random", target_macs_per_mp=target)
        structure = Structure(build_supernet(preset.net, config), config)
        structure.fix_baseline(seed)
        assert -0.1 < structure.excess() <= 0


@pytest.mark.parametrize("target", [3e9, 1.2e10])
def test_the_budget_goes_to_the_target_by_half_of_the_learning(target):
    """From the undecided supernet's cost, which is above or below. What is not spent pushes as stiffly as
    what is above, but without a multiplier, however large that is."""
    config = StructureConfig(target_macs_per_mp=target)
    structure = Structure(build_supernet(tiny().net, config), config)
    structure.multipliers["macs_per_mp"] += 3.0
    begun = math.log(float(structure.expected_cost().macs_per_mp.detach()) / target)
    assert abs(begun) > 0.2

    def violation(progress):
        penalty = float(structure.penalty(progress).detach())
        found = float(structure.violations["macs_per_mp"].detach())
        expected = STIFFNESS / 2 * found**2 + (3 * found if found > 0 else 0)
        assert penalty == pytest.approx(expected, abs=1e-6)
        return found

    assert violation(0.0) == violation(0.1) == pytest.approx(0, abs=1e-6)
    assert violation(0.325) == pytest.approx(begun / 2, rel=1e-3)
    assert violation(0.55) == violation(1.0) == pytest.approx(begun, rel=1e-5)


def test_one_of_two_budgets_spent_is_enough():
    config = StructureConfig(target_macs_per_mp=3e9, target_parameters=1e9)
    structure = Structure(build_supernet(tiny().net, config), config)
    with torch.no_grad():
        for superkernel in structure.superkernels.values():
            superkernel.choose(superkernel.smallest())
            for logits in superkernel.parameters():
                logits[0, 0] += 50.0  # the cheapest network
        penalty = float(structure.penalty(1.0))
    macs, parameters = (float(v) for v in structure.violations.values())
    assert parameters < macs < 0
    assert penalty == pytest.approx(STIFFNESS / 2 * macs**2)
