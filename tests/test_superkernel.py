"""Superkernels: samples, probabilities, and the mask trick of eq. 4."""

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from sk_search.layers import CONVOLUTIONS, SuperConvReLU
from sk_search.nets import SUPERKERNELS
from sk_search.prefix import JointSuperkernel
from sk_search.relax import gumbel_softmax, temperature
from sk_search.superkernel import Choice

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


def scattered(kind, **options):
    """A superkernel of that type with logits that prefer something."""
    torch.manual_seed(4)
    superkernel = SUPERKERNELS[kind](KERNELS, FILTERS, **options)
    for parameter in superkernel.parameters():
        torch.nn.init.normal_(parameter)
    return superkernel


SEARCHED = [kind for kind in SUPERKERNELS if kind != "none"]


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


@pytest.mark.parametrize("kind", SEARCHED)
def test_expected_sample_is_the_probability(kind, generator):
    superkernel = scattered(kind).requires_grad_(False)
    mean = torch.stack([superkernel.sample(0.5, generator, hard=True) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, superkernel.probabilities(), atol=0.03, rtol=0)
    torch.testing.assert_close(
        superkernel.probabilities().sum(0).amax(), mean.sum(0).amax(), atol=0.03, rtol=0
    )


@pytest.mark.parametrize("kind", SEARCHED)
@pytest.mark.parametrize("mode", CONVOLUTIONS)
def test_gradient_reaches_every_parameter(kind, mode, generator):
    """In float64: the gradient of an attention key may be small."""
    superkernel = scattered(kind).double()
    conv = CONVOLUTIONS[mode](3, superkernel).double()
    superkernel.draw(1.0, generator)
    conv(torch.randn(1, 3, 12, 12, dtype=torch.float64)).square().sum().backward()
    for name, parameter in conv.named_parameters():
        assert torch.all(parameter.grad != 0), name


@pytest.mark.parametrize("kind", SEARCHED)
def test_argmax_is_the_likeliest_choice(kind, generator):
    """Of the choices that 4000 samples make, and as often as its confidence says."""
    superkernel = scattered(kind).requires_grad_(False)
    drawn = Counter()
    for _ in range(4000):
        kernel, kept = (superkernel.sample(0.5, generator, hard=True) > 0.5).nonzero(as_tuple=True)
        if len(kept):
            drawn[Choice(superkernel.kernels[int(kernel[0])], tuple(kept.tolist()))] += 1
    choice, times = drawn.most_common(1)[0]
    assert superkernel.argmax() == choice
    assert times / 4000 == pytest.approx(float(superkernel.confidence()), abs=0.03)


def test_entropy_of_independent_parts_adds_up():
    superkernel = scattered("filterwise").requires_grad_(False)
    p, k = torch.sigmoid(superkernel.base_logits), superkernel.kernel_probabilities()
    bits = -(k * k.log2()).sum() - (p * p.log2() + (1 - p) * (1 - p).log2()).sum()
    torch.testing.assert_close(superkernel.entropy(), bits / (math.log2(3) + 8))


def test_factorized_mask_is_an_outer_product(generator):
    superkernel = scattered("factorized").requires_grad_(False)
    assert torch.linalg.matrix_rank(superkernel.sample(1.0, generator)) == 1


def test_attention_is_equation_1():
    """θ = softmax(V Vᵀ) θᵇ, written out; and its keys neither merge all filters nor part them."""
    superkernel = SUPERKERNELS["filterwise-attention"]((3,), (64,)).double().requires_grad_(False)
    torch.nn.init.normal_(superkernel.base_logits)
    v, base = superkernel.keys, superkernel.base_logits
    for i in range(64):
        scores = torch.exp(torch.stack([v[i] @ v[j] for j in range(64)]))
        expected = (scores * base).sum() / scores.sum()
        assert abs(float(superkernel.filter_logits()[i] - expected)) < 1e-12
    assert 0.2 < superkernel.diagnostics()["self_weight"] < 0.95


@pytest.mark.parametrize("kind", ["filterwise", "filterwise-attention"])
def test_one_filter_is_always_kept(kind):
    superkernel = SUPERKERNELS[kind](KERNELS, FILTERS).requires_grad_(False)
    superkernel.base_logits.fill_(-3.0)
    assert len(superkernel.argmax().filters) == 1


def test_paper_keeps_filters_of_logits_above_one_half():
    for keep_above, kept in ((0.0, (1, 2, 3)), (0.5, (2, 3))):
        superkernel = SUPERKERNELS["filterwise"]((3,), (4,), keep_above=keep_above).requires_grad_(False)
        superkernel.base_logits.copy_(torch.tensor([-0.1, 0.4, 0.6, 2.0]))
        assert superkernel.argmax().filters == kept


@pytest.mark.parametrize("rule", ["marginal", "paper"])
@pytest.mark.parametrize("kind", SEARCHED)
def test_separate_equals_full_at_a_hard_sample(kind, rule, generator):
    superkernel = scattered(kind).double().requires_grad_(False)
    full, separate = (CONVOLUTIONS[mode](3, superkernel, rule).double() for mode in ("full", "separate"))
    separate.load_state_dict(full.state_dict())
    x = torch.randn(2, 3, 10, 10, dtype=torch.float64)
    for _ in range(5):
        superkernel.weights = (superkernel.sample(1.0, generator, hard=True) > 0.5).double()
        assert (full(x) - separate(x)).abs().max() < 1e-13


def test_separate_is_the_sum_over_all_slices(generator):
    """The left side of eq. 5, n_k·n_f convolutions, against n_k of them; `full` only approximates it."""
    superkernel = scattered("joint").double().requires_grad_(False)
    conv = CONVOLUTIONS["separate"](3, superkernel).double()
    full = CONVOLUTIONS["full"](3, superkernel).double()
    full.load_state_dict(conv.state_dict())
    sample = gumbel_softmax(superkernel.logits, 1.0, generator)
    superkernel.weights = sample @ superkernel.prefix
    x = torch.randn(2, 3, 10, 10, dtype=torch.float64)
    total = torch.zeros(2, 8, 10, 10, dtype=torch.float64)
    for i, k in enumerate(KERNELS):
        for j, f in enumerate(FILTERS):
            cut = (7 - k) // 2
            weight = conv.weight[:f, :, cut : cut + k, cut : cut + k]
            total[:, :f] += sample[i, j] * F.relu(F.conv2d(x, weight, conv.bias[:f], padding=k // 2))
    assert (conv(x) - total).abs().max() < 1e-13
    assert (full(x) - total).abs().max() > 1e-3


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
