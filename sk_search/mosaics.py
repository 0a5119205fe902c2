"""Clean Bayer mosaics from linear RGB scenes, on the training device: crop, turn, blur, "photograph", mosaic.

Design §4.3. The camera is that of T. Brooks et al., *Unprocessing Images for Learned Raw Denoising* (CVPR
2019): a random colour matrix, white balance and exposure. All draws come from the generator, which lives on
the device of the scenes; nothing waits for the host.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F

from sk_deploy.errors import ConfigError
from sk_deploy.srgb import SRGB_TO_XYZ

from .config import MosaicConfig

# Four cameras' XYZ -> camera matrices: Brooks et al. 2019, released code (Apache-2.0).
_XYZ_TO_CAMERA = (
    ((1.0234, -0.2969, -0.2266), (-0.5625, 1.6328, -0.0469), (-0.0703, 0.2188, 0.6406)),
    ((0.4913, -0.0541, -0.0202), (-0.6130, 1.3513, 0.2906), (-0.1564, 0.2151, 0.7183)),
    ((0.8380, -0.2630, -0.0639), (-0.2887, 1.0725, 0.2496), (-0.0627, 0.1427, 0.5438)),
    ((0.6596, -0.2079, -0.0562), (-0.4782, 1.3016, 0.1933), (-0.0970, 0.1581, 0.5181)),
)


def pack(mosaic: torch.Tensor) -> torch.Tensor:
    """RGGB mosaics [B,1,H,W] -> planes R, Gr, Gb, B [B,4,H/2,W/2], as `sk_deploy.bayer.pack`."""
    return F.pixel_unshuffle(mosaic, 2)


def unpack(planes: torch.Tensor) -> torch.Tensor:
    """Planes R, Gr, Gb, B [B,4,H/2,W/2] -> RGGB mosaics [B,1,H,W]; the inverse of `pack`."""
    return F.pixel_shuffle(planes, 2)


def sample_mosaics(
    scenes: torch.Tensor, batch: int, generator: torch.Generator, config: MosaicConfig
) -> torch.Tensor:
    """A batch of clean RGGB mosaics, float32 [batch,1,P,P] in [0,1], from random places of the scenes.

    `scenes`: linear sRGB [N,3,S,S] of any float type, on the generator's device. Each sample is turned by one
    of the eight dihedral transforms before the mosaic, so the Bayer pattern is exact. Raises ConfigError when
    S < P.
    """
    if scenes.shape[-1] < config.patch_px:
        raise ConfigError(
            f"scenes are {scenes.shape[-1]} px wide, patches {config.patch_px} px: "
            "use larger scenes or smaller patches"
        )
    margin = math.ceil(3 * config.blur_px[1])
    rgb = _random_crops(scenes, batch, config.patch_px, margin, generator)  # [B,3,P+2m,P+2m]
    rgb = _blur(rgb, _blur_sigma(batch, generator, config), margin)  # [B,3,P,P]
    return _photograph(rgb, generator, config)


def augment_mosaic(mosaic: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """RGGB mosaics [B,C,P+2,P+2] -> randomly flipped and transposed RGGB mosaics [B,C,P,P].

    The frame of one pixel lets a flipped sample start on the other phase, so every site keeps its colour;
    transposition exchanges Gr and Gb. Channels (say noisy and clean) are turned alike.
    """
    batch, channels, size, _ = mosaic.shape
    flip = _coins((2, batch), generator)
    start = 2 * _coins((2, batch), generator)
    i = torch.arange(size - 2, device=mosaic.device)
    # Both i + 0 (or 2) and P - i have the parity of i.
    rows, columns = (
        torch.where(f[:, None] > 0, size - 2 - i, i + s[:, None]) for f, s in zip(flip, start, strict=True)
    )
    row, column = _site_grid(rows, columns, _coins((batch,), generator))
    flat = (row * size + column).view(batch, 1, -1).expand(-1, channels, -1)
    return mosaic.reshape(batch, channels, -1).gather(2, flat).view(batch, channels, size - 2, size - 2)


def _random_crops(
    scenes: torch.Tensor, batch: int, patch_px: int, margin: int, generator: torch.Generator
) -> torch.Tensor:
    """[B,3,P+2m,P+2m] float32, each turned at random; beyond a scene's edge its mirror image."""
    count, _, size, _ = scenes.shape
    device = scenes.device
    scene = torch.randint(count, (batch, 1, 1), generator=generator, device=device)
    corner = torch.randint(size - patch_px + 1, (2, batch, 1), generator=generator, device=device)
    i = torch.arange(-margin, patch_px + margin, device=device)
    flip = _coins((2, batch, 1), generator)
    i = torch.where(flip > 0, patch_px - 1 - i, i)  # [2,B,P+2m]
    rows, columns = (size - 1 - (size - 1 - (corner + i).abs()).abs()).unbind()
    # Whole lines, then the sites in them: a CPU copies the first at once and has the second in its cache.
    line = (scene * 3 + torch.arange(3, device=device)[:, None]) * size + rows.clamp_min(0)[:, None]
    lines = scenes.reshape(-1, size).index_select(0, line.flatten()).view(batch, 3, -1)  # [B,3,(P+2m)·S]
    nth = torch.arange(rows.shape[1], device=device).expand(batch, -1)
    row, column = _site_grid(nth, columns, _coins((batch,), generator))
    flat = (row * size + column.clamp_min(0)).view(batch, 1, -1).expand(-1, 3, -1)
    return lines.gather(2, flat).view(batch, 3, *row.shape[1:]).float()


def _site_grid(
    rows: torch.Tensor, columns: torch.Tensor, transpose: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Source rows and columns [B,P] -> those of each target pixel [B,P,P], transposed where asked [B]."""
    t = transpose.view(-1, 1, 1) > 0
    row = torch.where(t, rows[:, None, :], rows[:, :, None])
    column = torch.where(t, columns[:, :, None], columns[:, None, :])
    return row, column


def _blur_sigma(batch: int, generator: torch.Generator, config: MosaicConfig) -> torch.Tensor:
    """[B] in sensor pixels; 0 for the samples that stay sharp."""
    u = uniform((2, batch), generator)
    low, high = config.blur_px
    return torch.where(u[0] < config.blur_fraction, low + u[1] * (high - low), 0.0)


def _blur(rgb: torch.Tensor, sigma: torch.Tensor, margin: int) -> torch.Tensor:
    """Gaussian of each sample's own sigma [B]; [B,3,P+2m,P+2m] -> [B,3,P,P]."""
    batch, channels, size, _ = rgb.shape
    offset = torch.arange(-margin, margin + 1, device=rgb.device)
    kernel = torch.exp(-0.5 * (offset / sigma.clamp_min(1e-3)[:, None]).square())
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # [B*3,2m+1]
    groups = batch * channels
    x = F.conv2d(rgb.reshape(1, groups, size, size), kernel[:, None, :, None], groups=groups)
    x = F.conv2d(x, kernel[:, None, None, :], groups=groups)
    return x.view(batch, channels, size - 2 * margin, size - 2 * margin)


def _photograph(rgb: torch.Tensor, generator: torch.Generator, config: MosaicConfig) -> torch.Tensor:
    """Linear sRGB [B,3,P,P] -> RGGB mosaic [B,1,P,P] of a random camera, clipped at black and white.

    Camera colours are computed at the sites that record them only.
    """
    batch, _, size, _ = rgb.shape
    exposed = _saturate(rgb, generator, config) * _exposure(batch, generator, config)
    exposed = exposed.clamp_max(1.0)
    camera = _camera_matrix(batch, generator)  # [B,3,3]
    recorded = torch.cat((camera[:, :2], camera[:, 1:]), dim=1)  # R, Gr, Gb, B [B,4,3]
    sites = F.pixel_unshuffle(exposed, 2).view(batch, 3, 4, -1)  # colour, site
    colour = (recorded.transpose(1, 2)[..., None] * sites).sum(1)  # [B,4,P*P/4]
    luminance = (camera.mean(1)[..., None, None] * sites).sum(1)  # [B,4,P*P/4]
    # Near white the gains fade out, so that clipped highlights stay white (Brooks et al.).
    gain = _inverse_gains(batch, generator, config)  # [B,4,1]
    fade = ((luminance - 0.9) / 0.1).clamp(0, 1).square()
    planes = colour * torch.maximum(fade + (1 - fade) * gain, gain)
    return unpack(planes.clamp(0, 1).view(batch, 4, size // 2, size // 2))


def _saturate(rgb: torch.Tensor, generator: torch.Generator, config: MosaicConfig) -> torch.Tensor:
    """[B,3,P,P] -> the same, each sample's colours moved away from or towards grey; never negative."""
    low, high = config.saturation
    scale = low + uniform((len(rgb), 1, 1, 1), generator) * (high - low)
    return torch.lerp(rgb.mean(1, keepdim=True), rgb, scale).clamp_min(0)


def _exposure(batch: int, generator: torch.Generator, config: MosaicConfig) -> torch.Tensor:
    """[B,1,1,1]."""
    u = uniform((2, batch, 1, 1, 1), generator)
    low, high = math.log(config.exposure[0]), math.log(config.exposure[1])
    return torch.where(u[0] < config.unscaled_share, 1.0, torch.exp(low + u[1] * (high - low)))


def _camera_matrix(batch: int, generator: torch.Generator) -> torch.Tensor:
    """Linear sRGB -> camera [B,3,3]: a random convex mixture of four; rows sum to 1, so grey stays grey."""
    weights = -uniform((batch, 4), generator).clamp_min(1e-12).log()  # flat on the simplex once normalised
    camera = torch.einsum("bk,kij->bij", weights, _rgb_to_camera(generator.device))
    return camera / camera.sum(-1, keepdim=True)


@lru_cache
def _rgb_to_camera(device: torch.device) -> torch.Tensor:
    """Linear sRGB -> each of the four cameras [4,3,3]. Kept, because copying to a device waits for it."""
    to_xyz = torch.tensor(SRGB_TO_XYZ, dtype=torch.float32, device=device)
    return torch.tensor(_XYZ_TO_CAMERA, device=device) @ to_xyz


def _inverse_gains(batch: int, generator: torch.Generator, config: MosaicConfig) -> torch.Tensor:
    """What white balance would undo, at R, Gr, Gb, B: [B,4,1]."""
    u = uniform((2, batch), generator)
    red = 1 / (config.red_gain[0] + u[0] * (config.red_gain[1] - config.red_gain[0]))
    blue = 1 / (config.blue_gain[0] + u[1] * (config.blue_gain[1] - config.blue_gain[0]))
    green = torch.ones_like(red)
    return torch.stack((red, green, green, blue), dim=1)[..., None]


def _coins(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randint(2, shape, generator=generator, device=generator.device)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Draws from [0,1), float32, on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device)
