"""A `.dtmodel` gives darktable, at every site of a mosaic, what the model gives on the same tile."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnx_models as models
import pytest
from command_line import invoke
from darktable_reads import OVERLAP, open_package, restore
from test_imports import loaded_by, refuse_search

from sk_deploy import Denoiser, ModelError, NoiseProfile
from sk_deploy.bayer import PHASES, unpack
from sk_deploy.convert import convert
from sk_deploy.darktable import OVERLAP_PACKED, TILE_PACKED, check_tiles
from sk_deploy.errors import ConfigError, SkdnError

pytestmark = pytest.mark.usefixtures("network_alone")
"""All that darktable runs."""
NOISE = NoiseProfile(2e-3, 3e-5)
QUARTER_STEP = 0.25 / (2**14 - 1)


def noisy_mosaic(height: int, width: int) -> np.ndarray:
    """Slopes and squares with noise; some of it is negative, and some beyond white."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    clean = 0.5 + 0.5 * np.sin(x / 37) * np.cos(y / 23) + 0.2 * ((x // 19 + y // 31) % 2)
    return (clean + rng.normal(size=clean.shape) * np.sqrt(NOISE.shot * clean + NOISE.read)).astype(
        np.float32
    )


def tile_alone(model: str | Path, planes: np.ndarray, noise: NoiseProfile | None) -> np.ndarray:
    """What the network makes of planes [4,h,w] with nothing around them: a mosaic [2h,2w]."""
    level = None if noise is None else np.array([[noise.shot, noise.read]], np.float32)
    return unpack(Denoiser.from_file(model, "cpu").session.run(planes[None], level)[0])


def blind_unet(folder: Path) -> tuple[str | Path, NoiseProfile | None]:
    return models.unet(folder / "unet.onnx"), None


def level_shower(folder: Path) -> tuple[str | Path, NoiseProfile | None]:
    return models.noise_adder(folder / "adder.onnx"), NOISE


def shipped(folder: Path) -> tuple[str | Path, NoiseProfile | None]:
    return "small", NOISE


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("make", [blind_unet, level_shower, shipped])
def test_every_site_of_a_tile_is_exact(tmp_path, make, phase):
    model, noise = make(tmp_path)
    convert(model, tmp_path / "package.dtmodel", noise=noise)
    _, network = open_package((tmp_path / "package.dtmodel").read_bytes(), tile=128)
    mosaic = noisy_mosaic(171, 150)
    restored = restore(network, mosaic, phase, tile=128)
    assert len(restored.tiles) == 4
    for planes, read in restored.tiles:
        np.testing.assert_array_equal(read, tile_alone(model, planes, noise))
    assert np.abs(restored.mosaic - mosaic).max() > 1e-3


def test_darktables_own_tile_is_exact(tmp_path):
    convert("small", tmp_path / "small.dtmodel", noise=NOISE)
    _, network = open_package((tmp_path / "small.dtmodel").read_bytes(), TILE_PACKED)
    ((planes, read),) = restore(network, noisy_mosaic(300, 400), "GBRG", TILE_PACKED).tiles
    np.testing.assert_array_equal(read, tile_alone("small", planes, NOISE))


@pytest.mark.parametrize("phase", PHASES)
def test_a_whole_mosaic_of_any_phase(tmp_path, phase):
    """Each plane times its own gain: every site shows which plane it was taken for."""
    path = models.plane_gains(tmp_path / "gains.onnx", (2, 3, 5, 7))
    convert(path, tmp_path / "gains.dtmodel")
    _, network = open_package((tmp_path / "gains.dtmodel").read_bytes(), tile=128)
    mosaic = noisy_mosaic(232, 302)
    top, left = PHASES[phase]
    height, width = ((size - cut) // 2 * 2 for size, cut in zip(mosaic.shape, (top, left), strict=True))
    crop = np.s_[top : top + height, left : left + width]
    expected = mosaic.copy()
    expected[crop] = Denoiser.from_file(path, "cpu")(mosaic, phase=phase)[crop]
    np.testing.assert_allclose(restore(network, mosaic, phase, tile=128).mosaic, expected, rtol=1e-6)


def test_tiles_of_the_shipped_model_do_not_show(tmp_path):
    """darktable fades over the whole overlap, so a tile's edge, a border to the network, counts a little:
    with a halo as long as the overlap of 32 by a tenth of the noise. Elsewhere there is no difference."""
    convert("small", tmp_path / "small.dtmodel", noise=NOISE)
    _, network = open_package((tmp_path / "small.dtmodel").read_bytes(), tile=256)
    mosaic = noisy_mosaic(620, 440)
    beyond = 2 * OVERLAP
    whole = Denoiser.from_file("small", "cpu", tile=2048)(np.pad(mosaic, beyond, "reflect"), NOISE)
    whole = whole[beyond:-beyond, beyond:-beyond]
    difference = np.abs(restore(network, mosaic, "RGGB", tile=256).mosaic - whole)
    seam = 2 * (256 - 2 * OVERLAP)
    away = [np.r_[: seam - beyond, seam + beyond : size] for size in mosaic.shape]
    assert difference[np.ix_(*away)].max() <= QUARTER_STEP
    assert QUARTER_STEP < difference.max() < 0.1 * np.sqrt(NOISE.shot * 0.5 + NOISE.read)


def test_what_the_package_says(tmp_path):
    """The fields of darktable's own raw model and those that its validator requires."""
    path = models.convolutions(tmp_path / "m.onnx", licence="CC0-1.0", training_data="dead-leaves")
    convert(path, tmp_path / "Nacht ISO 3200.dtmodel")
    config, _ = open_package((tmp_path / "Nacht ISO 3200.dtmodel").read_bytes(), TILE_PACKED)
    assert config["id"] == "rawdenoise-skdn-nacht-iso-3200"
    assert (config["task"], config["backend"], config["tiling"]) == ("rawdenoise", "onnx", True)
    assert all(config[field] for field in ("name", "description", "version", "arch"))
    assert config["attributes"] == {
        "input_sizes": [512],
        "model_bayer": {
            "input_kind": "bayer_v1",
            "bayer_orientation": "force_rggb",
            "edge_pad": "mirror_cropped",
            "wb_norm": "none",
            "output_scale": "absolute",
        },
    }
    card = config["model_card"]
    assert (card["license"], card["training_data"]) == ("CC0-1.0", "dead-leaves")
    assert card["training_data_license"] == "unstated"


def test_the_level_is_named_and_part_of_the_graph(tmp_path):
    path = models.noise_adder(tmp_path / "m.onnx")
    packages = []
    for level in (NOISE, NoiseProfile(0.25, 0.5), NOISE):
        convert(path, tmp_path / "m.dtmodel", noise=level, force=True)
        packages.append((tmp_path / "m.dtmodel").read_bytes())
    assert packages[0] == packages[2] != packages[1]
    config, network = open_package(packages[1], tile=128)
    assert "shot 0.25, read 0.5" in config["description"]
    assert (network(np.zeros((1, 4, 128, 128), np.float32)) == 0.75).all()


def test_any_view_of_the_picture_is_a_picture(tmp_path):
    """What darktable never reads is still that colour: the mean of a cell's greens, its red, its blue."""
    convert(models.identity(tmp_path / "m.onnx"), tmp_path / "m.dtmodel")
    _, network = open_package((tmp_path / "m.dtmodel").read_bytes(), tile=128)
    planes = np.random.default_rng(0).random((1, 4, 128, 128), np.float32)
    r, g1, g2, b = planes[0]
    rgb = network(planes)[0]
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        site = rgb[:, y::2, x::2]
        green = [(g1 + g2) / 2, g1, g2, (g1 + g2) / 2][2 * y + x]
        np.testing.assert_array_equal(site, [r, green, b])


def test_what_darktable_cannot_run_is_refused(tmp_path):
    for facts, reason in (
        ({"halo": OVERLAP_PACKED + 8}, "sees 40 packed pixels far, darktable's tiles overlap by 32"),
        ({"multiple": 64}, "grid of 64 packed pixels"),
    ):
        path = models.identity(tmp_path / "m.onnx", **facts)
        with pytest.raises(ModelError, match=reason):
            convert(path, tmp_path / "m.dtmodel")
    check_tiles("m", multiple=32, halo=OVERLAP_PACKED)
    blind, conditioned = models.identity(tmp_path / "b.onnx"), models.noise_adder(tmp_path / "c.onnx")
    with pytest.raises(ConfigError, match=r"wants a noise level .* --noise SHOT,READ"):
        convert(conditioned, tmp_path / "c.dtmodel")
    with pytest.raises(ConfigError, match="is blind: leave out --noise"):
        convert(blind, tmp_path / "b.dtmodel", noise=NOISE)
    with pytest.raises(ConfigError, match="gives no folder name"):
        convert(blind, tmp_path / "夜.dtmodel")
    assert not list(tmp_path.glob("*.dtmodel"))
    assert not list(tmp_path.glob(".skdn-*"))


@pytest.mark.parametrize(
    ("target", "options", "reason"),
    [
        ("old.dtmodel", {}, "old.dtmodel exists: --force overwrites it"),
        ("old.onnx", {"fp16": True, "darktable": True}, "old.dtmodel exists: --force overwrites it"),
        ("absent/m.dtmodel", {}, "absent is not a folder"),
        ("m.pt", {}, "does not end in .onnx, as a model does, or .dtmodel"),
        ("m.onnx", {"darktable": True}, "is a model file already: expected --fp16, or a target that ends"),
        ("m.onnx", {"fp16": True, "noise": NOISE}, "--noise is for --darktable"),
    ],
)
def test_refusals_write_nothing(tmp_path, target, options, reason):
    source = models.convolutions(tmp_path / "source.onnx")
    (tmp_path / "old.dtmodel").write_bytes(b"old")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SkdnError, match=reason):
        convert(source, tmp_path / target, **options)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_by_the_command_without_torch(tmp_path):
    """A shipped model in both forms at once, half precision inside the package too."""
    target = tmp_path / "night.onnx"
    arguments = ["export", "small", str(target), "--fp16", "--darktable", "--noise", "2e-3,3e-5"]
    code = f"import sys; sys.argv = ['skdn', *{arguments!r}]\nfrom skdn_cli.main import skdn\n"
    refuse_search(loaded_by(code + "skdn(standalone_mode=False)"))
    package = target.with_suffix(".dtmodel").read_bytes()
    config, network = open_package(package, tile=128)
    assert config["id"] == "rawdenoise-skdn-night"
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        graph = onnx.load_model_from_string(archive.read("rawdenoise-skdn-night/model_bayer.onnx")).graph
    assert any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer)
    ((planes, read),) = restore(network, noisy_mosaic(120, 100), "BGGR", tile=128).tiles
    # With a level that is a constant the front end rounds otherwise in its last bit, and half precision of a
    # residual of a few times the noise (0.04) then takes the neighbouring number.
    np.testing.assert_allclose(read, tile_alone(target, planes, NOISE), atol=3e-4)


def test_usage(tmp_path):
    for options, reason in (
        (["--noise", "auto"], "'auto' needs a picture"),
        (["--noise", "2"], "neither auto nor SHOT,READ"),
        (["--licence", "MIT"], "small states its licence itself"),
    ):
        result = invoke("export", "small", tmp_path / "m.dtmodel", *options)
        assert result.exit_code == 2
        assert reason in result.output
