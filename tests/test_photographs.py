"""Photographs become linear crops that cover them; what cannot be read is skipped and said."""

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sk_deploy.errors import ConfigError
from sk_search.photographs import Scenes, linear_table, photographs


def write(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A busy picture; returns its RGB values."""
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return rgb


def develop(linear: np.ndarray, strength: float) -> np.ndarray:
    """The forward direction, from its definition: the sRGB curve, then nothing or the smoothstep."""
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return srgb if strength == 0 else srgb * srgb * (3 - 2 * srgb)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_the_tone_and_srgb_curves_are_inverted(strength: float) -> None:
    table = linear_table(strength)
    np.testing.assert_allclose(develop(table.astype(float), strength), np.arange(256) / 255, atol=2e-5)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_linear_light_keeps_black_and_white_and_order(strength: float) -> None:
    table = linear_table(strength)
    assert table[0] == pytest.approx(0, abs=1e-7)
    assert table[255] == pytest.approx(1, abs=1e-6)
    assert (np.diff(table) > 0).all()


def test_crops_cover_the_picture_in_linear_light(tmp_path: Path) -> None:
    rgb = write(tmp_path / "a.png", 50, 70)
    scenes = photographs(tmp_path, 32, downsample=1, seed=3)
    assert scenes.pixels.shape == (2 * 3, 3, 32, 32)
    assert scenes.pixels.dtype == torch.float16
    linear = linear_table(np.random.default_rng([3, 0]).random())[rgb].transpose(2, 0, 1)
    corners = [(top, left) for top in (0, 18) for left in (0, 32, 38)]
    for crop, (top, left) in zip(scenes.pixels, corners, strict=True):
        expected = linear[:, top : top + 32, left : left + 32]
        np.testing.assert_allclose(crop.numpy(), expected, rtol=1e-3, atol=1e-6)


def test_downsampling_averages_linear_light(tmp_path: Path) -> None:
    checks = np.indices((65, 64)).sum(0) % 2 * 255
    cv2.imwrite(str(tmp_path / "a.png"), np.repeat(checks[..., None], 3, 2).astype(np.uint8))
    scenes = photographs(tmp_path, 32, flat_share=1, seed=0)
    np.testing.assert_allclose(scenes.pixels.numpy(), 0.5, atol=1e-3)


def test_the_manifest_sets_each_files_factor(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / name, 96, 96)
    manifest = [
        {"file": "a.png", "recommended_downsample": 1},
        {"file": "b.png", "recommended_downsample": 3},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert photographs(tmp_path, 32).photo.tolist() == [0] * 9 + [1] + [2] * 4
    assert photographs(tmp_path, 32, downsample=3).photo.tolist() == [0, 1, 2]
    (tmp_path / "manifest.json").write_text("[{}]")
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        photographs(tmp_path, 32)


def test_most_flat_crops_are_left_out(tmp_path: Path) -> None:
    busy = np.random.default_rng(0).integers(0, 256, (64, 6400, 3), np.uint8)
    sky = np.broadcast_to(np.linspace(120, 140, 6400)[None, :, None], (64, 6400, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), np.vstack((busy, sky)))
    kept = photographs(tmp_path, 64, downsample=1).pixels
    assert 100 + 10 < len(kept) < 100 + 40  # all busy ones and a quarter of the sky
    assert len(photographs(tmp_path, 64, downsample=1, flat_share=0).pixels) == 100


def test_the_seed_decides_the_tone_and_nothing_else_does(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", 80, 80)
    once, again, other = (photographs(tmp_path, 32, seed=seed).pixels for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_broken_and_small_files_are_skipped_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.jpg", 200, 200)
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.txt").write_text("no picture")
    write(tmp_path / "small.png", 40, 400)
    with caplog.at_level(logging.WARNING):
        scenes = photographs(tmp_path, 64)
    assert set(scenes.photo.tolist()) == {0}
    said = " ".join(caplog.messages)
    assert all(name in said for name in ("half.jpg", "empty.png", "small.png"))
    assert "a.jpg" not in said
    assert "notes" not in said


def test_a_folder_without_a_readable_photograph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="readable"):
        photographs(tmp_path)


def test_selecting_photographs_takes_all_their_scenes() -> None:
    photo = torch.tensor([1, 4, 6, 9]).repeat_interleave(torch.arange(1, 5))  # 0, 2, ... could not be read
    scenes = Scenes(photo.view(-1, 1, 1, 1).expand(-1, 3, 2, 2).half(), photo)
    assert scenes.select([1, 3])[:, 0, 0, 0].tolist() == [4, 4, 9, 9, 9, 9]
