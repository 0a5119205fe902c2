"""Superkernels: samples, probabilities, and the mask trick of eq. 4."""

import math

import pytest
import torch
import torch.nn.functional as F

from sk_search.layers import SuperConvReLU
from sk_search.relax import gumbel_softmax, temperature
from sk_search.superkernel import SUPERKERNELS, Choice, JointSuperkernel

KERNELS, FILTERS = (3, 5, 7), (4, 8)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(1)


def test_temperature_falls_exponentially():
    assert temperature(0, 5, 0.1) == 5
    assert temperature(1, 5, 0.1) == pytest.approx(0.1)
    assert temperature(0.5, 5, 0.1) == pytest.approx(math.sqrt(5 * 0.1))


def test_gumbel_softmax_samples_in_proportion(generator):
    logits = torch.tensor([0.0, 1.0, 2.0])
    hard = torch.stack([gumbel_softmax(logits, 1.0, generator, hard=True) for _ in range(4000)])
    assert torch.all((hard == 0) | (hard == 1))
    torch.testing.assert_close(hard.mean(0), torch.softmax(logits, 0), atol=0.03, rtol=0)


def test_cold_samples_are_nearly_one_hot(generator):
    soft = torch.stack([gumbel_softmax(torch.zeros(6), 0.1, generator) for _ in range(200)])
    torch.testing.assert_close(soft.sum(1), torch.ones(200))
    assert soft.amax(1).mean() > 0.9


@pytest.mark.parametrize("kind", SUPERKERNELS)
def test_weights_of_every_type(kind, generator):
    superkernel = SUPERKERNELS[kind](KERNELS, FILTERS).requires_grad_(False)
    n_k = len(superkernel.kernels)
    for weights in (superkernel.sample(1.0, generator), superkernel.probabilities()):
        assert weights.shape == (n_k, superkernel.max_filters)
        assert weights.min() >= 0
        assert weights.sum(0).max() <= 1 + 1e-6
    superkernel.choose(superkernel.argmax())
    assert set(superkernel.weights.unique().tolist()) <= {0.0, 1.0}
    assert 0 <= float(superkernel.entropy()) <= 1


def test_expected_sample_is_the_probability(generator):
    superkernel = JointSuperkernel(KERNELS, FILTERS)
    torch.nn.init.normal_(superkernel.logits)
    mean = torch.stack([superkernel.sample(0.5, generator, hard=True) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, superkernel.probabilities(), atol=0.03, rtol=0)


def test_gradient_reaches_every_logit(generator):
    superkernel = JointSuperkernel(KERNELS, FILTERS)
    conv = SuperConvReLU(3, superkernel)
    superkernel.draw(1.0, generator)
    conv(torch.rand(1, 3, 9, 9)).square().sum().backward()
    assert torch.all(superkernel.logits.grad != 0)


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_mask_trick_equals_the_sum_over_slices(padding, generator):
    """Eq. 4, in float64: one convolution with the masked superkernel = the weighted sum over all slices."""
    superkernel = JointSuperkernel(KERNELS, FILTERS).double()
    weight = torch.randn(8, 3, 7, 7, dtype=torch.float64)
    sample = gumbel_softmax(superkernel.logits.detach(), 1.0, generator)
    superkernel.weights = sample @ superkernel.prefix
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    mode = "constant" if padding == "zeros" else "reflect"
    masked = F.conv2d(F.pad(x, (3,) * 4, mode=mode), weight * superkernel.kernel_mask())
    total = torch.zeros_like(masked)
    for i, k in enumerate(KERNELS):
        for j, f in enumerate(FILTERS):
            cut = (7 - k) // 2
            part = weight[:f, :, cut : cut + k, cut : cut + k]
            total[:, :f] += sample[i, j] * F.conv2d(F.pad(x, (k // 2,) * 4, mode=mode), part)
    assert (masked - total).abs().max() < 1e-13


@pytest.mark.parametrize("rule", ["marginal", "paper"])
@pytest.mark.parametrize(
    "choice", [Choice(3, (0, 1, 2, 3)), Choice(5, (1, 4, 7)), Choice(7, tuple(range(8)))]
)
def test_distilled_convolution_equals_the_hard_choice(rule, choice):
    """Any subset of filters, any kernel, both bias rules (§4.5.4): exact in float64."""
    conv = SuperConvReLU(6, JointSuperkernel(KERNELS, FILTERS), rule).double()
    kept = [0, 2, 3]
    fixed = conv.distil(kept, choice)
    x = torch.zeros(2, 6, 10, 10, dtype=torch.float64)
    x[:, kept] = torch.randn(2, 3, 10, 10, dtype=torch.float64)
    conv.superkernel.choose(choice)
    expected = conv(x)
    dropped = [f for f in range(8) if f not in choice.filters]
    assert (fixed(x[:, kept]) - expected[:, list(choice.filters)]).abs().max() < 1e-13
    assert not dropped or expected[:, dropped].abs().max() == 0
    assert fixed.kernel_size == (choice.kernel,) * 2


def test_paper_bias_rule_scales_by_the_area():
    conv = SuperConvReLU(2, JointSuperkernel((3, 7), (4,)), "paper")
    conv.superkernel.choose(Choice(3, (0, 1, 2, 3)))
    torch.testing.assert_close(conv.bias_mask(conv.superkernel.kernel_mask()), torch.full((4,), 9 / 49))
