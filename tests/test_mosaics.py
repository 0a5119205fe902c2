"""The batch source: every sample keeps the Bayer pattern, and the camera it draws is a plausible one."""

import numpy as np
import pytest
import torch

from sk_deploy import bayer
from sk_deploy.errors import ConfigError
from sk_search.config import MosaicConfig, NoiseConfig
from sk_search.mosaics import augment_mosaic, pack, sample_mosaics, unpack
from sk_search.noise_synthesis import add_noise, sample_noise_levels

PLAIN = {
    "blur_fraction": 0.0,
    "unscaled_share": 1.0,
    "red_gain": (1.0, 1.0),
    "blue_gain": (1.0, 1.0),
}
"""A camera that changes grey scenes in nothing but the mosaic."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def colour_coded(size: int, batch: int = 1) -> torch.Tensor:
    """RGGB mosaics whose values name their site: colour in the thousands, position below."""
    colour = torch.tensor([[0, 1000], [2000, 3000]]).repeat(size // 2, size // 2)
    return (colour + torch.arange(size)[:, None] * 29 + torch.arange(size)).float().expand(batch, 1, -1, -1)


def test_pack_and_unpack_agree_with_the_deployed_ones() -> None:
    mosaic = torch.rand((3, 1, 10, 14), generator=generator())
    planes = pack(mosaic)
    for sample, expected in zip(planes, mosaic, strict=True):
        np.testing.assert_array_equal(sample.numpy(), bayer.pack(expected[0].numpy()))
    assert torch.equal(unpack(planes), mosaic)


def test_augmentation_reaches_all_eight_turns_and_keeps_every_colour_at_its_sites() -> None:
    size, batch = 12, 400
    mosaic = colour_coded(size + 2, batch)
    turned = augment_mosaic(mosaic, generator())
    assert turned.shape == (batch, 1, size, size)
    colours = pack(turned) // 1000
    assert (colours[:, 0] == 0).all()
    assert (colours[:, 3] == 3).all()
    # Transposition exchanges the two greens, plane for plane; nothing else happens to them.
    green = colours[:, 1:3].flatten(2)
    assert ((green[:, 0] == 1) & (green[:, 1] == 2) | (green[:, 0] == 2) & (green[:, 1] == 1)).all()

    expected = set()
    for transpose in (False, True):
        for rows in _axis(size):
            for columns in _axis(size):
                window = mosaic[0, 0][rows][:, columns]
                expected.add((window.T if transpose else window).numpy().tobytes())
    seen = {sample.contiguous().numpy().tobytes() for sample in turned[:, 0]}
    assert seen == expected


def _axis(size: int) -> list[list[int]]:
    """What one axis may show: forwards from either even start, or backwards from the odd one."""
    return [list(range(size)), list(range(2, size + 2)), list(range(size, 0, -1))]


def test_augmentation_turns_the_channels_of_a_sample_alike() -> None:
    mosaic = colour_coded(10, 32)
    turned = augment_mosaic(torch.cat((mosaic, -mosaic), dim=1), generator(3))
    assert torch.equal(turned[:, 0], -turned[:, 1])


def test_samples_are_dihedral_windows_of_a_scene() -> None:
    size, patch = 12, 8
    grey = torch.rand((size, size), generator=generator()) * 0.8
    config = MosaicConfig(patch_px=patch, **PLAIN)
    samples = sample_mosaics(grey.expand(1, 3, -1, -1), 600, generator(), config)
    # Grey stays grey in any camera, so the mosaic of a grey scene is the scene.
    windows = [grey[i : i + patch, j : j + patch] for i in range(5) for j in range(5)]
    turns = [torch.rot90(t, k) for w in windows for t in (w, w.T) for k in range(4)]
    distance = torch.cdist(samples.flatten(1).double(), torch.stack(turns).flatten(1).double())
    assert distance.min(1).values.max() < 1e-4
    assert len(distance.argmin(1).unique()) > 150  # of 200


def test_red_green_and_blue_are_recorded_at_their_sites() -> None:
    config = MosaicConfig(patch_px=16, **PLAIN)
    for colour, loudest in ((0, 0), (2, 3)):
        scene = torch.zeros((1, 3, 32, 32))
        scene[:, colour] = 0.5
        planes = pack(sample_mosaics(scene, 20, generator(), config)).mean((2, 3))
        assert (planes.argmax(1) == loudest).all()
        torch.testing.assert_close(planes[:, 1], planes[:, 2])  # Gr and Gb share their row


def test_gains_are_undone_but_clipped_highlights_stay_white() -> None:
    config = MosaicConfig(
        patch_px=16, blur_fraction=0, unscaled_share=1, red_gain=(2.0, 2.0), blue_gain=(1.6, 1.6)
    )
    grey = sample_mosaics(torch.full((1, 3, 16, 16), 0.4), 4, generator(), config)
    expected = torch.tensor([0.2, 0.4, 0.4, 0.25]).expand(4, -1)
    torch.testing.assert_close(pack(grey).mean((2, 3)), expected, atol=1e-5, rtol=1e-5)
    white = sample_mosaics(torch.ones((1, 3, 16, 16)), 4, generator(), config)
    torch.testing.assert_close(white, torch.ones_like(white), atol=1e-4, rtol=0)


def test_exposures_spread_below_white_with_a_share_unscaled() -> None:
    config = MosaicConfig(patch_px=2, blur_fraction=0, red_gain=(1, 1), blue_gain=(1, 1))
    level = sample_mosaics(torch.full((1, 3, 2, 2), 0.5), 4000, generator(), config).mean((1, 2, 3)) / 0.5
    assert ((level - 1).abs() < 1e-3).float().mean().item() == pytest.approx(0.4, abs=0.05)
    assert level.min().item() == pytest.approx(0.03, rel=0.05)
    assert level.max().item() == pytest.approx(2.0, rel=0.05)
    assert (level < 0.245).float().mean().item() == pytest.approx(0.3, abs=0.05)  # half of the scaled


def test_blur_is_gaussian_and_leaves_the_sharp_share_alone() -> None:
    scene = torch.zeros((1, 3, 33, 33))
    scene[..., 16, 16] = 1
    config = MosaicConfig(patch_px=32, **(PLAIN | {"blur_fraction": 1.0}), blur_px=(1.2, 1.2))
    mosaic = sample_mosaics(scene, 8, generator(), config)
    # Grey in, so the mosaic is the picture. UPI's highlight fade is out of reach once the point has spread.
    torch.testing.assert_close(mosaic.sum((1, 2, 3)), torch.ones(8), atol=2e-3, rtol=0)
    assert mosaic.amax((1, 2, 3)).tolist() == pytest.approx([1 / (2 * torch.pi * 1.2**2)] * 8, rel=0.02)
    half = MosaicConfig(patch_px=32, **(PLAIN | {"blur_fraction": 0.5}))
    peaks = sample_mosaics(scene, 400, generator(), half).amax((1, 2, 3))
    assert (peaks > 0.99).float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_scenes_as_small_as_the_patch_serve_and_smaller_ones_are_refused() -> None:
    scene = torch.rand((2, 3, 32, 32), generator=generator()).half()
    mosaic = sample_mosaics(scene, 3, generator(), MosaicConfig(patch_px=32))
    assert mosaic.shape == (3, 1, 32, 32)
    assert mosaic.dtype == torch.float32
    assert 0 <= mosaic.min() <= mosaic.max() <= 1
    with pytest.raises(ConfigError, match="32 px wide, patches 64"):
        sample_mosaics(scene, 3, generator(), MosaicConfig(patch_px=64))


def test_the_generator_decides_everything() -> None:
    scene = torch.rand((4, 3, 48, 48), generator=generator())
    config = MosaicConfig(patch_px=32)
    once, again, other = (sample_mosaics(scene, 8, generator(seed), config) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


@pytest.mark.parametrize("setting", [{"patch_px": 127}, {"exposure": (1.0, 0.1)}, {"blur_fraction": 1.5}])
def test_impossible_settings_are_refused(setting: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        MosaicConfig(**setting)


@pytest.mark.gpu
def test_no_step_waits_for_the_host() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    scenes = torch.rand((8, 3, 160, 160), device="cuda").half()
    device_generator = torch.Generator("cuda").manual_seed(0)

    def step() -> torch.Tensor:
        clean = sample_mosaics(scenes, 4, device_generator, MosaicConfig(patch_px=130))
        clean = augment_mosaic(clean, device_generator)
        levels = sample_noise_levels(4, device_generator, NoiseConfig())
        return add_noise(clean, levels, device_generator, NoiseConfig())

    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert step().shape == (4, 1, 128, 128)
    finally:
        torch.cuda.set_sync_debug_mode("default")
