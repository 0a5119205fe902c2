"""Costs: of options, of expectations and of fixed networks, as equalities."""

import pytest
import torch

from sk_search.nets import SUPERKERNELS
from sk_search.superkernel import Choice

KERNELS, FILTERS = (1, 3, 5), (4, 6, 14)
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
