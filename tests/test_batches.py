"""Resident mosaics and what is sampled from them: exact values, colours at their sites, turned alike."""

import numpy as np
import pytest
import torch

from sk_deploy.bayer import PHASES
from sk_deploy.errors import ConfigError
from sk_deploy.noise import NoiseProfile
from sk_search.batches import CleanBatches, MixedBatches, PairBatches, SceneBatches
from sk_search.config import MosaicConfig, NoiseConfig
from sk_search.mosaic_set import MosaicSet, Shot, restore, store
from sk_search.mosaics import pack

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coded(shape: tuple[int, int], phase: str, number: int) -> np.ndarray:
    """A mosaic whose tenths name the colour, whose hundredths its number, whose rest the place."""
    row, column = PHASES[phase]
    colour = np.array([[0, 1], [2, 3]])[np.ix_((np.arange(2) - row) % 2, (np.arange(2) - column) % 2)]
    height, width = shape
    tiled = np.tile(colour, (height // 2 + 1, width // 2 + 1))[:height, :width]
    place = np.arange(height * width).reshape(shape) / (height * width) * 0.009
    return (tiled / 10 + number / 100 + place + 0.001).astype(np.float32)


def shot(number: int, shape: tuple[int, int], phase: str, *, paired: bool = False) -> Shot:
    clean = coded(shape, phase, number)
    if not paired:
        return Shot(f"scene {number}", "", store(clean, phase))
    level = NoiseProfile(number * 1e-3, number * 1e-5)
    return Shot(f"scene {number}", "", store(clean, phase), store(clean - 0.25, phase), level)


SHAPES = ((30, 22), (41, 57), (26, 80))


def mosaic_set(*, paired: bool = False, least_px: int = 18) -> MosaicSet:
    phases = ("GBRG", "BGGR", "RGGB")
    shots = [shot(i + 1, s, p, paired=paired) for i, (s, p) in enumerate(zip(SHAPES, phases, strict=True))]
    return MosaicSet(shots, least_px, CPU)


def colours_of(mosaic: torch.Tensor) -> torch.Tensor:
    """[B,4]: the colour that every plane of RGGB mosaics [B,1,P,P] holds; it must hold one only."""
    colours = (pack(mosaic) * 10).floor().flatten(2)
    assert (colours == colours[..., :1]).all()
    return colours[..., 0].long()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("shape", [(20, 30), (21, 31)])
def test_stored_mosaics_begin_at_red_and_keep_a_tenth_of_a_count(phase: str, shape: tuple[int, int]) -> None:
    mosaic = np.random.default_rng(0).uniform(-0.3, 1.29, shape).astype(np.float32)
    row, column = PHASES[phase]
    kept = restore(store(mosaic, phase)).numpy()
    height, width = kept.shape
    assert height % 2 == width % 2 == 0
    assert height >= shape[0] - 2
    np.testing.assert_allclose(
        kept, mosaic[row : row + height, column : column + width], atol=0.5 / 40_960 + 1e-7
    )
    assert restore(store(np.array([[0.0, 1.0], [5.0, -5.0]], np.float32), "RGGB"))[0].tolist() == [0, 1]


def test_crops_lie_inside_their_mosaic_at_even_places() -> None:
    mosaics = mosaic_set()
    crops, index = mosaics.crops(500, 18, generator())
    assert crops.shape == (500, 1, 18, 18)
    aligned = [
        restore(store(coded(s, p, i + 1), p))
        for i, (s, p) in enumerate(zip(SHAPES, ("GBRG", "BGGR", "RGGB"), strict=True))
    ]
    windows = [a.unfold(0, 18, 2).unfold(1, 18, 2).reshape(-1, 18, 18) for a in aligned]
    for crop, number in zip(crops[:, 0], index.tolist(), strict=True):
        assert any(torch.equal(crop, window) for window in windows[number])
    areas = torch.tensor([a.numel() for a in aligned])
    shares = torch.bincount(index, minlength=3) / 500
    torch.testing.assert_close(shares, areas / areas.sum(), atol=0.07, rtol=0)


def test_a_mosaic_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"scene 1: a mosaic of 22×28 px: patches need 130 px a side"):
        mosaic_set(least_px=130)


def test_pairs_are_turned_alike_and_carry_their_level() -> None:
    batches = PairBatches(mosaic_set(paired=True), torch.tensor([[1e-3, 1], [2e-3, 2], [3e-3, 3]]), 16)
    clean, noisy, levels = batches.sample(300, generator())
    assert clean.shape == noisy.shape == (300, 1, 16, 16)
    torch.testing.assert_close(noisy, clean - 0.25, atol=5e-5, rtol=0)  # negatives are kept
    colours = colours_of(clean)
    assert (colours[:, 0] == 0).all()
    assert (colours[:, 3] == 3).all()
    greens = {tuple(row) for row in colours[:, 1:3].tolist()}
    assert greens == {(1, 2), (2, 1)}  # transposition exchanges them
    number = (clean[:, 0].mean((1, 2)) * 100 % 10).floor()  # the mean colour is 0.15
    assert len(set(levels[:, 1].tolist())) == 3
    torch.testing.assert_close((number - 5) % 10, levels[:, 1] % 10)


def test_clean_mosaics_get_noise_of_the_level_that_is_stated() -> None:
    grey = Shot("", "", store(np.full((200, 200), 0.4, np.float32), "RGGB"))
    noise = NoiseConfig(row_share=0, hot_share=0, level_error=0)
    batches = CleanBatches(MosaicSet([grey], 130, CPU), 128, noise)
    clean, noisy, levels = batches.sample(32, generator())
    assert torch.equal(clean, torch.full_like(clean, clean[0, 0, 0, 0]))
    variance = (noisy - clean).square().mean((1, 2, 3))
    expected = levels[:, 0] * 0.4 + levels[:, 1]
    torch.testing.assert_close(variance, expected, rtol=0.06, atol=3e-7)


class Fixed:
    """Batches whose samples are all one number."""

    device = CPU

    def __init__(self, value: float) -> None:
        self.value = value

    def sample(self, batch: int, generator: torch.Generator) -> tuple:
        picture = torch.full((batch, 1, 4, 4), self.value)
        return picture, picture + 100, torch.full((batch, 2), self.value)


@pytest.mark.parametrize(("batch", "least"), [(6, 2), (8, 2), (7, 2), (2, 0)])
def test_a_mixture_gives_every_part_its_share(batch: int, least: int) -> None:
    mixed = MixedBatches([Fixed(0), Fixed(1), Fixed(2)])
    draws, totals = generator(), torch.zeros(3)
    for _ in range(300):
        clean, noisy, levels = mixed.sample(batch, draws)
        assert clean.shape == (batch, 1, 4, 4)
        assert torch.equal(clean + 100, noisy)
        assert torch.equal(levels, clean[:, 0, 0, :2])
        counts = torch.bincount(levels[:, 0].long(), minlength=3)
        assert counts.min() >= least
        totals += counts
    torch.testing.assert_close(totals / (300 * batch), torch.full((3,), 1 / 3), atol=0.04, rtol=0)


def test_the_generator_decides_everything() -> None:
    levels = torch.zeros((3, 2))
    scenes = SceneBatches(
        torch.rand((2, 3, 32, 32), generator=generator()), MosaicConfig(patch_px=16), NoiseConfig()
    )
    mixed = MixedBatches(
        [
            scenes,
            CleanBatches(mosaic_set(), 16, NoiseConfig()),
            PairBatches(mosaic_set(paired=True), levels, 16),
        ]
    )
    once, again, other = (mixed.sample(7, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[1], other[1])


@pytest.mark.gpu
def test_no_sample_waits_for_the_host() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    device = torch.device("cuda")
    clean = MosaicSet([shot(i, (60, 70), "RGGB") for i in range(3)], 18, device)
    pairs = MosaicSet([shot(i, (60, 70), "RGGB", paired=True) for i in (1, 2)], 18, device)
    levels = torch.full((2, 2), 1e-3, device=device)
    mixed = MixedBatches([CleanBatches(clean, 16, NoiseConfig()), PairBatches(pairs, levels, 16)])
    draws = torch.Generator(device).manual_seed(0)
    mixed.sample(5, draws)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert mixed.sample(5, draws)[1].shape == (5, 1, 16, 16)
    finally:
        torch.cuda.set_sync_debug_mode("default")
