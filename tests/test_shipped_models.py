"""The models that ship keep their limits, say what they are, and do some good at every noise level."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sk_deploy import Denoiser, NoiseProfile
from sk_deploy.errors import ModelError
from sk_deploy.model_file import read_model
from sk_deploy.models import find_model, shipped_models
from sk_search.adopt import adopt
from sk_search.charts import chart_set
from sk_search.config import MosaicConfig, NoiseConfig
from sk_search.dead_leaves import dead_leaves
from sk_search.mosaics import sample_mosaics
from sk_search.noise_synthesis import add_noise
from sk_search.quality import psnr_db

LIMITS_MB = {"nano": 0.5, "small": 4.0, "base": 16.0}
LEVELS = [(1e-5, 1e-7), (1e-4, 1e-6), (1e-3, 1e-5), (7e-3, 1.8e-4), (2e-2, 1.2e-4)]
MODELS = sorted(shipped_models())


@pytest.mark.parametrize("model", MODELS)
def test_size_card_and_genotype(model: str) -> None:
    file = find_model(model)
    spec = read_model(file)[1]
    assert file.stat().st_size <= LIMITS_MB[model] * 1e6
    assert spec.licence == "Apache-2.0"
    genotype = json.loads(file.with_name(f"{model}.genotype.json").read_text(encoding="utf-8"))
    assert genotype == spec.genotype
    card = file.with_suffix(".md").read_text(encoding="utf-8")
    for fact in (
        f"{spec.macs_per_mp / 1e9:.2f} GMAC",
        f"{spec.parameters:,} parameters",
        f"halo {spec.halo}",
    ):
        assert fact in card


@pytest.mark.parametrize("model", MODELS)
def test_a_shipped_model_can_be_trained_on(model: str, tmp_path: Path) -> None:
    adopt(model, tmp_path / "run")
    with pytest.raises(ModelError, match="no such file"):
        adopt(f"{model}-not", tmp_path / "other")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("shot", "read"), LEVELS)
def test_better_than_the_noisy_picture_at_every_level(model: str, shot: float, read: float) -> None:
    """Of rendered scenes that no training saw. Means stay."""
    generator = torch.Generator().manual_seed(1)
    camera = MosaicConfig(patch_px=384, unscaled_share=1.0, blur_fraction=1.0)
    scenes = dead_leaves(3, 400, seed=99)
    clean = sample_mosaics(scenes, 3, generator, camera)
    noise = NoiseConfig(row_share=0.0, hot_share=0.0, unquantised_share=1.0)
    noisy = add_noise(clean, torch.tensor([[shot, read]]).expand(3, 2), generator, noise)
    denoise = Denoiser.from_file(model, "cpu")
    for y, x in zip(clean[:, 0].numpy(), noisy[:, 0].numpy(), strict=True):
        result = denoise(x, NoiseProfile(shot, read))
        assert psnr_db(result, y) > psnr_db(x, y)
        for i, j in np.ndindex(2, 2):
            true = y[i::2, j::2].mean()
            assert abs(result[i::2, j::2].mean() / true - 1) < (0.03 if shot > 1e-2 else 0.01)


@pytest.mark.parametrize("model", MODELS)
def test_the_finest_patterns_survive_at_next_to_no_noise(model: str) -> None:
    """What no photograph shows, and a network takes for noise."""
    finest = [picture for picture in chart_set().pictures if picture.group in ("zone plate", "bars", "text")]
    denoise = Denoiser.from_file(model, "cpu")
    for picture in finest:
        if picture.noise.shot < 1e-3:
            result = denoise(picture.noisy, picture.noise)
            assert psnr_db(result, picture.clean) > psnr_db(picture.noisy, picture.clean) - 0.1
