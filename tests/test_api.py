"""`sk_deploy` as a library: the names it promises, its examples, and what it says to a wrong call."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx_models as models
import pytest

import sk_deploy
from sk_deploy import ConfigError, Denoiser, NoiseProfile, RawError, denoiser, read_raw, write_dng
from sk_deploy.models import DEFAULT_MODEL, shipped_models

PUBLIC = {
    "ConfigError",
    "Defects",
    "Denoiser",
    "Levels",
    "ModelError",
    "ModelSpec",
    "NoiseProfile",
    "ProviderError",
    "RawError",
    "RawImage",
    "SkdnError",
    "estimate_noise",
    "find_defects",
    "read_raw",
    "write_dng",
}

SHIPS = pytest.mark.skipif(DEFAULT_MODEL not in shipped_models(), reason="no default model ships yet")


def test_the_public_names() -> None:
    """A name that is added or taken away is a decision: it is made here too."""
    assert set(sk_deploy.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_documented(name: str) -> None:
    thing = getattr(sk_deploy, name)
    assert len(inspect.getdoc(thing) or "") > 30
    methods = [member for key, member in inspect.getmembers(thing, inspect.isfunction) if key[0] != "_"]
    assert all(inspect.getdoc(method) for method in methods)


@SHIPS
def test_the_example_for_mosaics_in_memory() -> None:
    results = doctest.testmod(denoiser)
    assert results.attempted >= 6
    assert results.failed == 0


@SHIPS
def test_the_example_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = np.random.default_rng(0).normal(0.2, 0.01, (64, 96))
    np.save(tmp_path / "shot.npy", np.rint(noisy * 65535).astype(np.uint16))
    raw = read_raw(tmp_path / "shot.npy", "GBRG")
    write_dng(raw, raw.mosaic, tmp_path / "shot.dng", noise=None, software="test")
    lines = (sk_deploy.__doc__ or "").splitlines()
    example = textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line))
    monkeypatch.chdir(tmp_path)
    exec(compile(example.replace('("small")', '("small", "cpu")'), "example", "exec"), {})
    assert read_raw(tmp_path / "shot_denoised.dng").mosaic.std() < raw.mosaic.std() / 4


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Denoiser:
    return Denoiser.from_file(models.identity(tmp_path_factory.mktemp("model") / "m.onnx"), "cpu")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_any_floats_are_taken_and_none_is_changed(identity: Denoiser, kind: type) -> None:
    mosaic = np.linspace(-0.1, 1.2, 12 * 14).reshape(12, 14).astype(kind)
    before = mosaic.copy()
    denoised = identity(mosaic, NoiseProfile(1e-3, 1e-6), "BGGR")
    assert denoised.dtype == np.float32
    np.testing.assert_array_equal(denoised, before.astype(np.float32))
    np.testing.assert_array_equal(mosaic, before)
    assert not np.shares_memory(denoised, mosaic)


@pytest.mark.parametrize(
    ("mosaic", "options", "error", "message"),
    [
        (np.zeros((8, 8), np.uint16), {}, RawError, "a mosaic of uint16: expected floats"),
        (np.zeros((8, 8, 3), np.float32), {}, RawError, r"shape \(8, 8, 3\) is no mosaic"),
        (np.zeros((1, 8), np.float32), {}, RawError, "at least 2×2 pixels"),
        (np.zeros((8, 8), np.float32), {"phase": "RGBG"}, ConfigError, "expected one of RGGB, GRBG"),
        (np.zeros((8, 8), np.float32), {"strength": 1.5}, ConfigError, "strength 1.5"),
    ],
)
def test_a_wrong_call_is_told_what_is_right(
    identity: Denoiser, mosaic: np.ndarray, options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        identity(mosaic, NoiseProfile(1e-3, 1e-6), **options)


@pytest.mark.slow
def test_a_typed_program_sees_the_types(tmp_path: Path) -> None:
    """py.typed: mypy reads the annotations of an installed sk_deploy."""
    (tmp_path / "program.py").write_text(
        "import numpy as np\n"
        "from sk_deploy import Denoiser, NoiseProfile\n"
        'denoise = Denoiser.from_file("small")\n'
        "reveal_type(denoise(np.zeros((4, 4), np.float32), NoiseProfile(1e-3, 1e-6)))\n"
        'denoise("shot.dng")\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "program.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert 'Revealed type is "numpy.ndarray' in done.stdout
    assert 'Argument 1 to "__call__" of "Denoiser" has incompatible type "str"' in done.stdout
