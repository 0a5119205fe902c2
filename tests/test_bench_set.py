"""The quality benchmark's pictures: the noise that they say, the same each time, the protocol's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sk_deploy.errors import ConfigError
from sk_search.bench_set import EXAMPLES, LEVELS, SIDE_PX, photograph_bench, photograph_examples, with_noise

PROTOCOL = Path(__file__).parents[1].parent / "shared" / "bench" / "raw_bench.py"


def photograph(seed: int, height: int = 96, width: int = 120, kind: type = np.uint8) -> NDArray:
    """Soft coloured blobs, BGR."""
    small = np.random.default_rng(seed).random((8, 9, 3))
    picture = np.clip(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    return np.rint(picture * np.iinfo(kind).max).astype(kind)


def write(folder: Path, count: int = 2) -> Path:
    for i in range(count):
        cv2.imwrite(str(folder / f"{i}.png"), photograph(i))
    return folder


@pytest.mark.parametrize("noise", LEVELS.values(), ids=LEVELS)
def test_the_noise_is_what_it_says(noise: object) -> None:
    for value in (0.0, 0.05, 0.3):
        clean = np.full((1000, 1000), value, np.float32)
        error = with_noise(clean, noise, np.random.default_rng(0)).astype(np.float64) - value
        assert error.var() == pytest.approx(noise.shot * value + noise.read, rel=0.02)
        assert abs(error.mean()) < 5e-3 * (noise.shot * value + noise.read) ** 0.5


def test_groups_are_each_content_at_each_level(tmp_path: Path) -> None:
    bench = photograph_bench(write(tmp_path))
    pictures = list(bench.pictures)
    assert len(pictures) == bench.count == 16
    assert [p.group for p in pictures[:8]] == [f"sharp-{level}" for level in LEVELS] * 2
    assert {p.group for p in pictures[8:]} == {f"soft-{level}" for level in LEVELS}
    assert all(p.noise == LEVELS[p.group.split("-", 1)[1]] for p in pictures)
    again = list(photograph_bench(tmp_path).pictures)
    for a, b in zip(pictures, again, strict=True):
        np.testing.assert_array_equal(a.noisy, b.noisy)
    assert not np.array_equal(pictures[0].noisy - pictures[0].clean, pictures[4].noisy - pictures[4].clean)


def test_sixteen_bits_are_eight_bits_and_more(tmp_path: Path) -> None:
    for name, picture in (("eight", photograph(0)), ("sixteen", photograph(0).astype(np.uint16) * 257)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.tif"), picture)
    eight, sixteen = (next(iter(photograph_bench(tmp_path / n).pictures)) for n in ("eight", "sixteen"))
    np.testing.assert_allclose(eight.clean, sixteen.clean, atol=1e-7)
    np.testing.assert_array_equal(eight.noisy, sixteen.noisy)


def test_of_a_large_photograph_the_middle_is_used(tmp_path: Path) -> None:
    large = photograph(0, 2200, 2400, np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), large)
    picture = next(iter(photograph_bench(tmp_path).pictures))
    assert picture.noisy.shape == (SIDE_PX, SIDE_PX)
    (tmp_path / "b").mkdir()
    half = cv2.resize(large, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "b" / "a.png"), half[294:806, 344:856])
    small = next(iter(photograph_bench(tmp_path / "b").pictures))
    np.testing.assert_allclose(picture.clean, small.clean, atol=5e-3)  # 16 bits, steep near white


def test_examples_are_of_the_benchmark(tmp_path: Path) -> None:
    examples = photograph_examples(write(tmp_path, 3))
    assert [p.group for p in examples] == ["-".join(example) for example in EXAMPLES]
    assert [p.name for p in examples] == ["0.png", "1.png", "2.png"]
    in_set = {(p.group, p.name): p for p in photograph_bench(tmp_path).pictures}
    for example in examples:
        np.testing.assert_array_equal(example.noisy, in_set[example.group, example.name].noisy)


@pytest.mark.skipif(not PROTOCOL.is_file(), reason="shared/ is not beside the project")
def test_the_pictures_are_the_protocols(tmp_path: Path) -> None:
    """Bit for bit what its DNGs hold."""
    import rawpy

    images, dngs = write(tmp_path, 2), tmp_path / "set"
    command = [sys.executable, PROTOCOL, "build", "--images", images, "--out", dngs]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    for picture in photograph_bench(images).pictures:
        stem = Path(picture.name).stem
        with rawpy.imread(str(dngs / f"{picture.group}__{stem}.dng")) as raw:
            stored = (raw.raw_image_visible.astype(np.float64) - 512) / (16383 - 512)
        np.testing.assert_allclose(picture.noisy, stored, atol=1e-7)
        clean = np.load(dngs / "ref" / f"{picture.group.split('-')[0]}__{stem}.npy")
        np.testing.assert_allclose(picture.clean, clean, atol=1e-7)


def test_what_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere holds no photographs"):
        photograph_bench(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="holds no photographs: expected a folder of TIFF, PNG or JPEG"):
        photograph_bench(tmp_path)
    for content, says in ((b"", "no photograph of 8 or 16 bits"), (b"no PNG", "mend or remove it")):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(ConfigError, match=says):
            next(iter(photograph_bench(tmp_path).pictures))
    cv2.imwrite(str(tmp_path / "a.png"), photograph(0, 40, 200))
    with pytest.raises(ConfigError, match="200x40 pixels: expected at least 64x64"):
        next(iter(photograph_bench(tmp_path).pictures))
