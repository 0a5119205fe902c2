"""Channel attention (RCAN, Zhang et al. 2018) whose mean is local once the network is deployed.

A gate for each channel from the mean of all: sigmoid(expand(relu(squeeze(mean(x))))).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_REDUCTION, _LEAST = 16, 4


class ChannelAttention(nn.Module):
    """x [B,C,h,w] times its gates.

    Training: one mean for the whole patch. Evaluation (validation, gates, export): the mean over a window of
    the patch's size around each place, or a tile would not equal the whole image, and a photograph's mean is
    none that training has seen ("TLC", Chu et al. 2022). As in TLC the window stays whole at a border: it
    moves inside. So on a patch of the window's size both modes give the same, at every pixel.

    Here the windows are centred on cells of `cell`×`cell` pixels, one pixel of the U-Net's bottom, and the
    gates are interpolated between them, because in ONNX Runtime a mean around every pixel costs more than the
    3×3 convolution beside it, and this a small part of it. Tiles begin on that grid.

    channels: C; window: the side of a training patch, in cells; cell: pixels of x, a divisor of h and w.
    """

    def __init__(self, channels: int, window: int, cell: int) -> None:
        super().__init__()
        hidden = max(channels // _REDUCTION, _LEAST)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.radius, self.cell = window // 2, cell

    @property
    def window_px(self) -> int:
        """Pixels of x on a side of the window."""
        return (2 * self.radius + 1) * self.cell

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x * self.gates(self.squeeze(x.mean((2, 3), keepdim=True)))
        cells = self.squeeze(F.avg_pool2d(x, self.cell))  # linear, so its mean is that of the mean
        gates = self.gates(local_mean(cells, self.radius))  # [B,C,h/cell,w/cell]
        return x * F.interpolate(gates, scale_factor=self.cell, mode="bilinear")

    def gates(self, squeezed: Tensor) -> Tensor:
        return torch.sigmoid(self.expand(F.relu(squeezed)))


def local_mean(x: Tensor, radius: int) -> Tensor:
    """The mean of x [B,C,h,w] over 2·radius + 1 rows and columns around each pixel, of the same shape.

    At a border the window moves inside; where it is longer than x, it is all of x.
    """
    side = 2 * radius + 1
    x = F.avg_pool2d(x, (1, side), stride=1, padding=(0, radius), count_include_pad=False)
    x = F.avg_pool2d(x, (side, 1), stride=1, padding=(radius, 0), count_include_pad=False)
    rows, columns = (_centres(size, radius, x.device) for size in x.shape[2:])
    return x.index_select(2, rows).index_select(3, columns)


def _centres(size: int, radius: int, device: torch.device) -> Tensor:
    """The centre of the window of each of `size` pixels; of any that covers all, where it is that long."""
    centres = torch.arange(size, device=device).clamp(min=radius)
    return centres.clamp(max=size - 1 - radius).clamp(min=0)
