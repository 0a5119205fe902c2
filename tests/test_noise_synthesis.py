"""Synthetic raw noise: its moments, its defects, and that its ranges hold what cameras measure."""

import json
from pathlib import Path

import pytest
import torch

from sk_deploy.errors import ConfigError
from sk_search.config import NoiseConfig
from sk_search.noise_synthesis import add_noise, sample_noise_levels

PURE = NoiseConfig(unquantised_share=1, row_share=0, hot_share=0)
SHARED = Path(__file__).parents[1].parent / "shared"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_of(
    x: float, shot: float, read: float, config: NoiseConfig = PURE, pixels: int = 512
) -> torch.Tensor:
    """Noise of a flat patch [pixels,pixels]."""
    clean = torch.full((1, 1, pixels, pixels), x)
    return (add_noise(clean, torch.tensor([[shot, read]]), generator(), config) - clean)[0, 0]


# White is far away in all of these; the counts span the Poisson and the Gaussian branch.
@pytest.mark.parametrize("x", [0.0, 0.003, 0.05, 0.4])
@pytest.mark.parametrize(("shot", "read"), [(2e-2, 1.2e-4), (2e-3, 1e-5), (1e-4, 3e-7)])
def test_variance_is_shot_times_signal_plus_read_and_the_mean_unbiased(
    x: float, shot: float, read: float
) -> None:
    noise = noise_of(x, shot, read)
    variance = shot * x + read
    # The variance of a sample variance: kurtosis of the Poisson part adds shot / x-ish, well inside 3 %.
    assert noise.var().item() == pytest.approx(variance, rel=0.03)
    assert abs(noise.mean().item()) < 5 * (variance / noise.numel()) ** 0.5


def test_quantisation_is_inside_the_read_variance() -> None:
    config = NoiseConfig(bits=(10, 10), unquantised_share=0, row_share=0, hot_share=0)
    read = 4e-7  # the rounding of 10 bits is 9e-8 of it
    assert noise_of(0.1, 1e-5, read, config).var().item() == pytest.approx(1e-6 + read, rel=0.03)


def test_shot_noise_is_skewed_where_electrons_are_few() -> None:
    shot, x = 0.02, 0.1  # 5 electrons
    noise = noise_of(x, shot, 1e-8)
    skewness = (noise / noise.std()).pow(3).mean().item()
    assert skewness == pytest.approx(5**-0.5, rel=0.1)


def test_negatives_are_kept_and_white_clips() -> None:
    assert noise_of(0.0, 1e-3, 1e-4).min().item() < -0.03
    assert noise_of(0.98, 1e-2, 1e-3).max().item() == pytest.approx(0.02)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_values_lie_on_the_converters_steps(bits: int) -> None:
    config = NoiseConfig(bits=(bits, bits), unquantised_share=0)
    clean = torch.rand((4, 1, 64, 64), generator=generator())
    noisy = add_noise(clean, torch.tensor([[1e-3, 1e-5]] * 4), generator(), config).double()
    steps = 2**bits - 1 - 2 ** (bits - 4)  # white less a black of a sixteenth
    numbers = noisy * steps
    assert (numbers - numbers.round()).abs().max() < 2e-7 * steps
    assert noisy.unique().numel() > 100
    assert noisy.min() < 0


def test_the_share_of_unquantised_samples() -> None:
    clean = torch.full((1000, 1, 8, 8), 0.5)
    config = NoiseConfig(bits=(10, 10), hot_share=0)
    noisy = add_noise(clean, torch.tensor([[1e-2, 1e-4]] * 1000), generator(), config)
    numbers = noisy * (1023 - 64)
    fractional = ((numbers - numbers.round()).abs() > 1e-3).flatten(1).any(1)
    assert fractional.float().mean().item() == pytest.approx(0.2, abs=0.04)


def test_hot_pixels_come_at_the_stated_rate() -> None:
    config = NoiseConfig(unquantised_share=1, row_share=0, hot_share=0.5, hot_rate=5e-4)
    clean = torch.zeros((64, 1, 128, 128))
    noisy = add_noise(clean, torch.tensor([[1e-6, 1e-8]] * 64), generator(), config)
    hot = noisy[:, 0] > 0.01
    assert hot.float().mean().item() == pytest.approx(2.5e-4, rel=0.25)
    afflicted = hot.flatten(1).any(1).float().mean().item()
    assert 0.25 < afflicted < 0.75
    assert noisy[hot[:, None]].min() >= 0.05 - 1e-3


def test_row_noise_shifts_rows_as_a_whole() -> None:
    rows = NoiseConfig(unquantised_share=1, row_share=1, row_to_read=1, hot_share=0)
    read = 1e-4
    clean = torch.zeros((32, 1, 64, 512))
    noisy = add_noise(clean, torch.tensor([[1e-6, read]] * 32), generator(), rows)
    of_rows = noisy.mean(3).var().item() - read / 512
    assert of_rows == pytest.approx(read / 3, rel=0.3)  # E[u²] of a uniform share
    assert noisy.mean(2).var().item() < 2 * read / 64  # columns do not move


def test_levels_span_the_ranges_and_the_draws_repeat() -> None:
    config = NoiseConfig()
    levels = sample_noise_levels(20_000, generator(), config)
    shot, read = levels.unbind(1)
    assert config.shot[0] * 0.999 < shot.min() < 1.1 * config.shot[0]
    assert config.shot[1] * 0.9 < shot.max() < config.shot[1] * 1.001
    low, high = shot[shot < config.high_shot[0]], shot[shot >= config.high_shot[0]]
    share = config.high_share + (1 - config.high_share) / 2  # the rest covers both halves of the range alike
    assert len(high) / len(shot) == pytest.approx(share, abs=0.01)
    for part in (low, high):
        decades = torch.histc(part.log10(), 4)
        assert decades.min() > 0.9 * len(part) / 4  # log-uniform
    assert read.min() >= config.read_converter[0] ** 2
    assert read.max() == pytest.approx(config.max_read)
    clean = torch.rand((2, 1, 32, 32), generator=generator())
    once, again, other = (add_noise(clean, levels[:2], generator(seed), config) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_measured_cameras_lie_inside_the_ranges() -> None:
    path = SHARED / "data" / "noise" / "noise_models.json"
    if not path.is_file():
        pytest.skip("the measured calibrations are not beside the repository")
    config = NoiseConfig()
    outside = []
    for model in json.loads(path.read_text())["models"]:
        planes = torch.tensor([model["shot"], model["read"]]).view(2, -1).mean(1).tolist()
        shot, read = planes
        low, high = ((config.read_electrons[i] * shot) ** 2 + config.read_converter[i] ** 2 for i in (0, 1))
        if not (config.shot[0] <= shot <= config.shot[1] and low <= read <= min(high, config.max_read)):
            outside.append((model["camera"], model["iso"]))
    assert not outside


@pytest.mark.parametrize(
    "setting",
    [
        {"shot": (1e-2, 1e-3)},
        {"high_shot": (1e-2, 1e-3)},
        {"high_share": 1.1},
        {"bits": (14, 10)},
        {"hot_rate": 2.0},
        {"read_electrons": (0.0, 1.0)},
    ],
)
def test_impossible_ranges_are_refused(setting: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        NoiseConfig(**setting)
