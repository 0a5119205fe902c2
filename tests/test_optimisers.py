"""Muon: its update is nearly the nearest orthogonal matrix, whatever the gradient's scale."""

import pytest
import torch
from torch import nn

from sk_search.optimisers import Muon, optimisers, orthogonalised


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shape", [(3, 16, 144), (2, 96, 32), (1, 1, 9)])
def test_singular_values_move_to_one(shape: tuple[int, int, int]) -> None:
    x = torch.randn(shape, generator=generator(), dtype=torch.float64)
    y = orthogonalised(x)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    moved = torch.linalg.svdvals(y)
    assert moved.min() > 0.65
    assert moved.max() < 1.25
    # The singular vectors stay: in their frame the update is diagonal.
    inside = u.mT @ y @ v.mT
    torch.testing.assert_close(
        inside, torch.diag_embed(inside.diagonal(dim1=-2, dim2=-1)), rtol=0, atol=1e-10
    )


def test_what_has_no_gradient_gets_no_step() -> None:
    gradient = torch.randn((1, 8, 18), generator=generator())
    gradient[:, 5:] = 0  # filters that a mask has dropped
    assert (orthogonalised(gradient)[:, 5:] == 0).all()
    assert (orthogonalised(torch.zeros(1, 4, 9)) == 0).all()


def test_a_step_has_the_size_of_one_of_adams_and_forgets_the_gradients_scale() -> None:
    steps = []
    for scale in (1e-4, 1e4):
        weight = nn.Parameter(torch.zeros(16, 8, 3, 3))
        weight.grad = scale * torch.randn(weight.shape, generator=generator())
        Muon([weight], lr=1e-2).step()
        steps.append(weight.detach())
    torch.testing.assert_close(steps[0], steps[1], rtol=0, atol=2e-5)
    assert 1e-3 < steps[0].square().mean().sqrt() < 4e-3


def test_a_weight_decays_by_a_tenth_of_the_learning_rate() -> None:
    weight = nn.Parameter(torch.ones(4, 2, 3, 3))
    weight.grad = torch.zeros_like(weight)
    Muon([weight], lr=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full_like(weight, 0.95))


def test_weights_of_one_shape_are_stepped_as_if_alone() -> None:
    together = [nn.Parameter(torch.zeros(4, 2, 3, 3)) for _ in range(3)]
    alone = [nn.Parameter(torch.zeros(4, 2, 3, 3)) for _ in range(3)]
    for a, b in zip(together, alone, strict=True):
        a.grad = torch.randn(a.shape)
        b.grad = a.grad.clone()
        Muon([b], lr=1e-2).step()
    Muon(together, lr=1e-2).step()
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)


def test_convolutions_go_to_muon_and_everything_to_adam_where_asked() -> None:
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 4, 1))
    muon, adam = optimisers("muon", list(net.parameters()), 1e-3, (0.9, 0.99))
    assert [p.ndim for p in muon.param_groups[0]["params"]] == [4, 4]
    assert [p.ndim for p in adam.param_groups[0]["params"]] == [1, 1]
    (adam,) = optimisers("adam", list(net.parameters()), 1e-3, (0.9, 0.99))
    assert len(adam.param_groups[0]["params"]) == 4
