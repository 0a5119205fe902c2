"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor

_SHIFT_WEIGHT = 0.03
"""Of the planes' means beside the patch: at 0.1 their gradient is as large as that of all the rest."""


def denoising_loss(
    output: Tensor, clean: Tensor, noise: Tensor, taught: Tensor | None = None, teacher_weight: float = 0.0
) -> Tensor:
    """Remaining over original noise power in dB, mean over the batch; lower is better.

    The logarithm gives every noise level the same say, and the square has the mean as its optimum, so planes
    keep their brightness. Half of it weights pixels by their own noise, or shadows would not count; taken at
    the output, because a weight that falls as the clean value rises would pull the mean down.

    A teacher's output is a second target. Its squared error takes its share before the logarithm, so the
    optimum is the mixture of both targets, and a patch keeps its say: two logarithms would let the teacher,
    whose error can vanish, outweigh the clean target, whose error cannot.

    A plane's mean has a say of its own, or a shift of colour would be lost in what is left of the noise: a
    patch averages thousands of pixels, so an error of its mean counts beside what noise alone leaves of that.
    output, clean, taught: planes [B,4,h,w]; noise [B,2].
    """
    shot, read = noise[:, 0].view(-1, 1, 1, 1), noise[:, 1].view(-1, 1, 1, 1)
    error, target = (output - clean).square(), clean
    if taught is not None:
        error = torch.lerp(error, (output - taught).square(), teacher_weight)
        target = torch.lerp(clean, taught, teacher_weight)
    absolute = error.mean((1, 2, 3)) / (shot * clean + read).mean((1, 2, 3))
    relative = (error / (shot * output.detach().clamp_min(0) + read)).mean((1, 2, 3))
    floor = 3e-3  # 25 dB below the noise: a flat patch must not drown the others
    per_patch = 5 * (torch.log10(absolute + floor) + torch.log10(relative + floor)).mean()
    shift = (output - target).mean((2, 3)).square() * clean[0, 0].numel()
    per_plane = 10 * torch.log10(1 + shift / (shot * clean + read).mean((2, 3))).mean()
    return per_patch + _SHIFT_WEIGHT * per_plane
